"""What a database has of pgflow, and whether that is enough to work with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from pgflow.database import schema
from pgflow.errors import UnknownContractError

_NEEDED_FUNCTIONS = ("start_flow", "start_tasks", "complete_task", "fail_task", "ensure_flow_compiled", "set_vt_batch")
_KNOWN_STATUSES = frozenset({"queued", "started", "completed", "failed", "skipped"})
_START_TASKS_ARGUMENTS = 3


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a database has.

    ``schema_version`` is that of our SQL core; None for another implementation's, with which everything goes through
    the contract's functions. ``events`` is where events go: ``realtime``, ``notify`` or None.
    """

    schema_version: int | None
    pgmq_version: str
    events: str | None

    @property
    def is_ours(self) -> bool:
        """Whether our own functions are there, beside the contract's."""
        return self.schema_version is not None

    def in_words(self) -> list[str]:
        """What follows from that, a line each."""
        if not self.is_ours:
            return [
                "another implementation's schema: tasks go through the contract's functions, one call each",
                "workers poll (no notifications)",
                "no history of attempts, no cancel and retry of runs",
            ]
        if self.schema_version != schema.VERSION:
            return ["those of an older version: `pgflow schema install` upgrades it"]
        return [
            "tasks are claimed and settled in batches",
            "workers wait for notifications",
            "history of attempts, cancel and retry of runs",
        ]


def look(connection: psycopg.Connection[Any]) -> Capabilities:
    """What the database has.

    Raises SchemaMissingError, SchemaTooNewError, and UnknownContractError for another implementation's schema that we
    would not understand.
    """
    version = require_known(connection)
    with connection.cursor(row_factory=dict_row) as cursor:
        events = cursor.execute(
            "SELECT CASE WHEN to_regprocedure('realtime.send(jsonb,text,text,boolean)') IS NOT NULL THEN 'realtime' "
            "WHEN current_setting('pgflow.events', true) = 'notify' THEN 'notify' END AS events"
        ).fetchone()
    assert events is not None
    return Capabilities(version, schema.pgmq_version(connection) or "missing", events["events"])


def require_known(connection: psycopg.Connection[Any]) -> int | None:
    """The version of our SQL core; None for another implementation's whose contract we know. Raises as ``look``."""
    version = schema.installed_version(connection)
    if version is None:
        _require_known_contract(connection)
    return version


def _require_known_contract(connection: psycopg.Connection[Any]) -> None:
    arguments = dict(
        connection.execute(
            "SELECT proname, max(pronargs) FROM pg_catalog.pg_proc WHERE pronamespace = 'pgflow'::regnamespace "
            "GROUP BY proname"
        ).fetchall()
    )
    if missing := [name for name in _NEEDED_FUNCTIONS if name not in arguments]:
        raise UnknownContractError(reason=f"it has no function {missing[0]}")
    if arguments["start_tasks"] != _START_TASKS_ARGUMENTS:
        raise UnknownContractError(
            reason=f"its start_tasks takes {arguments['start_tasks']} arguments instead of {_START_TASKS_ARGUMENTS}"
        )
    statuses = connection.execute(
        "SELECT pg_catalog.pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint AS k "
        "JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid AND c.relname = 'step_tasks' "
        "WHERE k.connamespace = 'pgflow'::regnamespace AND k.conname = 'valid_status'"
    ).fetchone()
    if statuses is not None and (unknown := set(re.findall(r"'(\w+)'", statuses[0])) - _KNOWN_STATUSES):
        raise UnknownContractError(reason=f"its tasks may be {', '.join(sorted(unknown))}")
    if schema.pgmq_version(connection) is None:
        raise UnknownContractError(reason="it has no pgmq")
