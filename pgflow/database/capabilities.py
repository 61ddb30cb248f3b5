"""What a database has of pgflow, and whether that is enough to work with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import psycopg

from pgflow.database import Transaction, schema
from pgflow.errors import UnknownContractError

_NEEDED_FUNCTIONS = ("start_flow", "start_tasks", "complete_task", "fail_task", "ensure_flow_compiled", "set_vt_batch")
_KNOWN_STATUSES = frozenset({"queued", "started", "completed", "failed", "skipped"})
_START_TASKS_ARGUMENTS = 3


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a database has.

    ``schema_version`` is that of our SQL core; None for another implementation's, with which everything goes through
    the contract's functions. ``events`` is where events go: ``realtime``, ``notify``, None, or ``unknown`` where this
    role is not told; ``events_remark`` says why not to a realtime that is there.
    """

    schema_version: int | None
    pgmq_version: str
    events: str | None
    events_remark: str | None = None

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
    events, remark = _events(Transaction(connection), is_ours=version is not None)
    return Capabilities(version, schema.pgmq_version(connection) or "missing", events, remark)


def _events(transaction: Transaction, *, is_ours: bool) -> tuple[str | None, str | None]:
    realtime = next(iter(transaction.fetch_all("realtime")), None)
    if not is_ours:
        return "realtime" if realtime else None, None
    if realtime and not realtime["may_ask"]:
        return (
            "unknown",
            f"realtime.send is there; whether it is used only {realtime['owner']}, pgflow's owner, is told",
        )
    if realtime and realtime["may_call"] and transaction.fetch_all("has_realtime")[0]["has_realtime"]:
        return "realtime", None
    (setting,) = transaction.fetch_all("notifies")
    return "notify" if setting["notifies"] else None, _why_unused(**realtime) if realtime else None


def _why_unused(sender: str, owner: str, *, may_call: bool, **_: object) -> str:
    reason = (
        f"it belongs to {sender}, who would get the rights of {owner}, pgflow's owner; let it belong to {owner}"
        if may_call
        else f"{owner}, pgflow's owner, may not call it; grant {owner} USAGE on the schema realtime and EXECUTE on it"
    )
    return f"realtime.send is there and not used: {reason}"


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
