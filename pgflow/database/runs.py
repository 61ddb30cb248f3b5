"""Runs in the database: starting and reading them. Inputs and outputs are JSON text here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID, uuid4, uuid5

import psycopg

from pgflow.database import Database, capabilities
from pgflow.errors import (
    NotInContractError,
    RunNotChangedError,
    RunNotFoundError,
    RunNotStartedError,
    SchemaMissingError,
)

_KEYS = UUID("f39c6dd3-0a8d-4b6f-9d0b-0d2a4b0a7c11")
"""The namespace of run ids that are made from keys."""
MAX_KEY_BYTES = 2_000
"""What a key may have in UTF-8; an index of PostgreSQL's takes 2,704 bytes, of which the flow's slug has some."""
_NO_SCHEMA = (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedTable)


@dataclass(frozen=True, slots=True)
class StepProgress:
    """How far a step of a run is.

    ``tasks`` is None until it is known how many there are. ``retries`` counts the attempts after each task's
    first; it and the counts by status cover the tasks of steps that have not completed.
    """

    step_slug: str
    kind: Literal["single", "map"]
    status: Literal["created", "started", "completed", "failed", "skipped"]
    tasks: int | None
    queued: int
    started: int
    completed: int
    failed: int
    retries: int
    error_message: str | None


@dataclass(frozen=True, slots=True)
class Failure:
    """What failed a run: which task, after how many attempts, and why.

    ``task_index`` is None where the step failed before it had tasks.
    """

    step_slug: str
    kind: Literal["single", "map"]
    task_index: int | None
    attempts: int
    error_message: str


def start_flows(
    database: Database, flow_slug: str, inputs_json: Sequence[str], keys: Sequence[str | None] | None = None
) -> list[str]:
    """Start a run for each input, all or none; their ids. A key that was there before, or twice in the batch, gives the
    run that is there.

    One statement on our SQL core. On one that has the contract's functions alone, a key is a run's id made from it.

    Raises RunNotStartedError for a key that PostgreSQL could not hold, and with its reason when the flow is unknown or
    does not take such an input; SchemaMissingError; and UnknownContractError for another implementation's core that we
    would not understand.
    """
    for key in filter(None, keys or ()):
        _require_fitting(key)
    values = {"flow_slug": flow_slug, "inputs": list(inputs_json), "keys": list(keys) if keys is not None else None}
    with _start_errors(flow_slug):
        try:
            rows = database.fetch_all("start_flows", values)
        except psycopg.errors.UndefinedFunction:
            return _start_by_contract(database, flow_slug, inputs_json, keys or [None] * len(inputs_json))
    return [row["run_id"] for row in rows]


def _require_fitting(key: str) -> None:
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise RunNotStartedError(reason=f"its key {key!r:.60} is no text that PostgreSQL can hold") from None
    if length > MAX_KEY_BYTES:
        raise RunNotStartedError(
            reason=f"its key {key!r:.60}... has {length:,} bytes, and at most {MAX_KEY_BYTES:,} are allowed: "
            "take a hash of it"
        )


def _start_by_contract(
    database: Database, flow_slug: str, inputs_json: Sequence[str], keys: Sequence[str | None]
) -> list[str]:
    with database.connection() as connection:
        capabilities.require_known(connection)
    run_ids = [str(uuid4() if key is None else uuid5(_KEYS, f"{flow_slug}:{key}")) for key in keys]
    inputs = dict(zip(reversed(run_ids), reversed(inputs_json), strict=True))  # a key's first input counts
    values = {"flow_slug": flow_slug, "run_ids": list(inputs), "inputs": list(inputs.values())}
    while True:
        try:
            database.fetch_all("contract/start_flows", values)
            return run_ids
        except psycopg.errors.UniqueViolation:  # somebody else has just started one of them: now it is there
            continue


@contextmanager
def _start_errors(flow_slug: str) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.ForeignKeyViolation:
        raise RunNotStartedError(reason=f"there is no flow {flow_slug}; define it with `pgflow compile`") from None
    except _NO_SCHEMA:
        raise SchemaMissingError from None
    except (psycopg.errors.RaiseException, psycopg.DataError) as error:
        raise RunNotStartedError(reason=error.diag.message_primary or str(error)) from None


def get_run(database: Database, run_id: str) -> dict[str, Any]:
    """A run's columns. Raises RunNotFoundError."""
    return _found(database, "get_run", run_id)


def run_status(database: Database, run_id: str) -> str:
    """A run's status: started, completed or failed. Raises RunNotFoundError."""
    return str(_found(database, "run_status", run_id)["status"])


def run_progress(database: Database, run_id: str) -> list[StepProgress]:
    """How far each step of the run is, in the order of their definition; one statement."""
    return [
        StepProgress(tasks=row.pop("initial_tasks"), **row)
        for row in database.fetch_all("run_progress", {"run_id": run_id})
    ]


def unfinished_runs(database: Database, flow_slug: str) -> int:
    """How many runs of the flow have not ended."""
    row = database.fetch_one("unfinished_runs", {"flow_slug": flow_slug})
    assert row is not None
    return int(row["runs"])


def cancel_run(database: Database, run_id: str, reason: str | None, requested_by: str | None) -> None:
    """End a run that goes on.

    Raises RunNotFoundError, RunNotChangedError, and NotInContractError on a core that has the contract's functions
    alone.
    """
    _intervene(database, "cancel_run", run_id, reason, requested_by)


def retry_run(database: Database, run_id: str, reason: str | None, requested_by: str | None) -> None:
    """Let a failed run, or tasks of it that have stalled for good, go on. Raises as ``cancel_run``."""
    _intervene(database, "retry_run", run_id, reason, requested_by)


def _intervene(database: Database, query: str, run_id: str, reason: str | None, requested_by: str | None) -> None:
    more = {"reason": reason, "requested_by": requested_by}
    try:
        verdict = _found(database, query, run_id, more)["verdict"]
    except psycopg.errors.UndefinedFunction:
        raise NotInContractError(what="cancelling and retrying runs") from None
    if verdict == "failed":
        raise RunNotChangedError(run_id=run_id, reason="it was retried, and a condition failed it again at once")
    if verdict == "unknown":
        raise RunNotFoundError(run_id=run_id, target=database.target)
    if verdict == "over":
        raise RunNotChangedError(run_id=run_id, reason="it has ended")
    if verdict == "started":
        raise RunNotChangedError(run_id=run_id, reason="it goes on, and none of its tasks has stalled for good")


def first_failure(database: Database, run_id: str) -> Failure | None:
    """What failed the run, if it failed."""
    row = database.fetch_one("first_failure", {"run_id": run_id})
    return Failure(**row) if row is not None else None


def _found(database: Database, query: str, run_id: str, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    try:
        row = database.fetch_one(query, {"run_id": run_id, **(more or {})})
    except psycopg.errors.InvalidTextRepresentation:  # no uuid
        row = None
    except _NO_SCHEMA:
        raise SchemaMissingError from None
    if row is None:
        raise RunNotFoundError(run_id=run_id, target=database.target)
    return row
