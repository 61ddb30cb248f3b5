"""Tasks as operators see them: lists, and everything about one of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import psycopg

from pgflow.database import Database
from pgflow.database.failures import in_short
from pgflow.database.inspection import OwnTables
from pgflow.database.inspection.flows import StepDefinition, flow_steps
from pgflow.database.inspection.payload import ALL, CHARACTERS, JsonText, Payload, payload
from pgflow.database.inspection.runs import RunSummary, run_summary
from pgflow.database.inspection.workers import WorkerState, workers_by_id

ATTEMPTS = 50
"""How many attempts of a task are read, the last ones."""
LINE_CHARACTERS = 300
"""How much of an error is read for a list."""


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task.

    ``attempts`` counts those that have begun, ``requeued`` how often it was handed back for its worker's death;
    ``stalled_at`` is set once it is left alone for that. ``seconds`` is since its attempt started, to its end or now.
    ``error_message`` is the last attempt's, cut where it is longer than asked for; it has ``error_characters`` in all.
    """

    step_slug: str
    kind: Literal["single", "map"]
    task_index: int
    status: Literal["queued", "started", "completed", "failed", "skipped"]
    attempts: int
    max_attempts: int
    requeued: int
    queued_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    stalled_at: datetime | None
    seconds: float | None
    message_id: int | None
    worker_id: str | None
    error_characters: int | None
    error_message: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt ended, as ``task_attempts`` has it; ``evidence`` is what its worker saw of it."""

    attempt: int
    outcome: str
    worker_id: str | None
    started_at: datetime | None
    ended_at: datetime
    seconds: float | None
    error_characters: int | None
    error_message: str | None
    evidence: JsonText | None


@dataclass(frozen=True, slots=True)
class Message:
    """A task's message; ``visible_in`` is in seconds, negative for one that is visible."""

    place: Literal["queue", "archive"]
    msg_id: int
    read_ct: int
    enqueued_at: datetime
    last_read_at: datetime | None
    vt: datetime
    archived_at: datetime | None
    visible_in: float


@dataclass(frozen=True, slots=True)
class TaskDump:
    """Everything about one task.

    ``attempts`` are the last of ``attempts_in_all``; None where the core keeps no history. ``message`` is None where
    there is none, and ``message_problem`` says why it could not be looked for. ``worker`` has the task or had it last.
    """

    task: TaskState
    run: RunSummary
    step: StepDefinition
    input: Payload | None
    output: Payload | None
    attempts: tuple[Attempt, ...] | None
    attempts_in_all: int
    message: Message | None
    message_problem: str | None
    worker: WorkerState | None


def list_tasks(
    database: Database, run_id: str, *, step_slug: str | None = None, status: str | None = None, limit: int
) -> tuple[list[TaskState], bool]:
    """At most ``limit`` tasks of a run, in the order of their steps and elements, and whether there are more."""
    tasks = _tasks(database, run_id, step_slug=step_slug, status=status, limit=limit + 1)
    return tasks[:limit], len(tasks) > limit


def dump_task(
    database: Database, own: OwnTables, run_id: str, step_slug: str, task_index: int, *, characters: int = CHARACTERS
) -> TaskDump | None:
    """Everything about a task, if there is such a one; texts up to so many characters. Raises RunNotFoundError."""
    run = run_summary(database, run_id)
    key = {"run_id": run_id, "step_slug": step_slug, "task_index": task_index}
    found = _tasks(database, run_id, step_slug=step_slug, task_index=task_index, limit=1, characters=characters)
    if not found:
        return None
    (task,) = found
    values = {
        row["name"]: payload(row, characters)
        for row in database.fetch_all("inspection/task_values", key | {"characters": characters})
    }
    attempts, attempts_in_all = _attempts(database, key, characters) if own.task_attempts else (None, task.attempts)
    message, problem = _message(database, run.flow_slug, task.message_id)
    workers = workers_by_id(database, own, [task.worker_id]) if task.worker_id else []
    (step,) = (step for step in flow_steps(database, own, run.flow_slug) if step.step_slug == step_slug)
    return TaskDump(
        task=task,
        run=run,
        step=step,
        input=values.get("input"),
        output=values.get("output"),
        attempts=attempts,
        attempts_in_all=attempts_in_all,
        message=message,
        message_problem=problem,
        worker=next(iter(workers), None),
    )


def _tasks(
    database: Database,
    run_id: str,
    *,
    step_slug: str | None = None,
    task_index: int | None = None,
    status: str | None = None,
    limit: int,
    characters: int = LINE_CHARACTERS,
) -> list[TaskState]:
    wanted = {
        "run_id": run_id,
        "step_slug": step_slug,
        "task_index": task_index,
        "status": status,
        "limit": limit,
        "characters": characters,
    }
    return [TaskState(**row) for row in database.fetch_all("inspection/tasks", wanted)]


def _attempts(database: Database, key: dict[str, Any], characters: int) -> tuple[tuple[Attempt, ...], int]:
    limit = ALL if characters == ALL else ATTEMPTS
    rows = database.fetch_all("inspection/task_attempts", key | {"characters": characters, "limit": limit})
    in_all = [row.pop("attempts_in_all") for row in rows]
    for row in rows:
        row["evidence"] = None if row["evidence"] is None else JsonText(row["evidence"])
    return tuple(Attempt(**row) for row in rows), in_all[0] if in_all else 0


def _message(database: Database, flow_slug: str, message_id: int | None) -> tuple[Message | None, str | None]:
    if message_id is None:
        return None, None
    try:
        with database.transaction() as transaction:
            rows = transaction.fetch_all_of_queue("inspection/task_message", flow_slug, {"message_id": message_id})
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable) as error:
        return None, in_short(error)
    return (Message(**rows[0]) if rows else None), None
