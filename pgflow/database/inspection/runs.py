"""Runs as operators see them: lists, and one with its steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pgflow.database import Database
from pgflow.database.inspection import OwnTables
from pgflow.database.inspection.payload import CHARACTERS, Payload, payload
from pgflow.database.runs import Failure, first_failure
from pgflow.errors import RunNotFoundError


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in short.

    ``seconds`` is how long it took, or has taken so far; ``ended_steps`` counts those that completed or were skipped.
    ``failed_step`` and ``error_message``, which is cut, are of the first step that failed; None where none did.
    """

    run_id: str
    flow_slug: str
    status: Literal["started", "completed", "failed"]
    started_at: datetime
    ended_at: datetime | None
    seconds: float
    steps: int
    ended_steps: int
    failed_step: str | None
    error_message: str | None


@dataclass(frozen=True, slots=True)
class StepState:
    """A step of a run.

    ``tasks`` is None until it is known how many there are; the counts by status are of those that exist. ``retries``
    counts the attempts after each task's first, ``recorded`` the completed tasks whose output is their error.
    ``seconds`` is since it started, to its end or to now; None if it has not started.
    """

    step_slug: str
    kind: Literal["single", "map"]
    depends_on: tuple[str, ...]
    status: Literal["created", "started", "completed", "failed", "skipped"]
    tasks: int | None
    queued: int
    started: int
    completed: int
    failed: int
    recorded: int
    retries: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    seconds: float | None
    skip_reason: str | None
    error_message: str | None


@dataclass(frozen=True, slots=True)
class Intervention:
    """Who cancelled or retried a run, when and why."""

    action: Literal["cancelled", "retried"]
    happened_at: datetime
    requested_by: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class RunDetail:
    """A run with its steps in the order of their definition. ``first_failure`` is what failed it."""

    run: RunSummary
    input: Payload | None
    output: Payload | None
    steps: tuple[StepState, ...]
    first_failure: Failure | None
    interventions: tuple[Intervention, ...] = field(default=())


def list_runs(
    database: Database, *, flow_slug: str | None = None, status: str | None = None, limit: int
) -> tuple[list[RunSummary], bool]:
    """At most ``limit`` runs, newest first, and whether there are more. Reads all runs of the flow, or of all."""
    wanted = {"flow_slug": flow_slug, "status": status, "run_id": None, "limit": limit + 1}
    rows = [RunSummary(**row) for row in database.fetch_all("inspection/runs", wanted)]
    return rows[:limit], len(rows) > limit


def run_summary(database: Database, run_id: str) -> RunSummary:
    """One run in short. Raises RunNotFoundError."""
    wanted = {"flow_slug": None, "status": None, "run_id": run_id, "limit": 1}
    row = database.fetch_one("inspection/runs", wanted)
    if row is None:
        raise RunNotFoundError(run_id=run_id, target=database.target)
    return RunSummary(**row)


def run_steps(database: Database, own: OwnTables, run_id: str) -> tuple[StepState, ...]:
    """The run's steps in the order of their definition."""
    wanted = {"run_id": run_id}
    recorded = {
        row["step_slug"]: row["recorded"]
        for row in (database.fetch_all("inspection/recorded_failures", wanted) if own.recording_steps else ())
    }
    return tuple(
        StepState(
            depends_on=tuple(row.pop("depends_on")),
            recorded=recorded.get(row["step_slug"], 0),
            **row,
        )
        for row in database.fetch_all("inspection/run_steps", wanted)
    )


def run_detail(database: Database, own: OwnTables, run_id: str, *, characters: int = CHARACTERS) -> RunDetail:
    """Everything of a run but its tasks; its input and output up to so many characters. Raises RunNotFoundError."""
    values = {
        row["name"]: payload(row, characters)
        for row in database.fetch_all("inspection/run_values", {"run_id": run_id, "characters": characters})
    }
    rows = database.fetch_all("inspection/run_interventions", {"run_id": run_id}) if own.run_interventions else []
    return RunDetail(
        run=run_summary(database, run_id),
        input=values.get("input"),
        output=values.get("output"),
        steps=run_steps(database, own, run_id),
        first_failure=first_failure(database, run_id),
        interventions=tuple(Intervention(**row) for row in rows),
    )
