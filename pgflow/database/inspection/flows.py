"""Flows as operators see them: how they are defined, and what their runs came to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pgflow.database import Database
from pgflow.database.inspection import OwnTables
from pgflow.database.inspection.payload import JsonText


@dataclass(frozen=True, slots=True)
class FlowSummary:
    """A flow in short: its options (seconds), how many runs have not ended, and by ``day_...`` how many were started,
    completed and failed in the last 24 hours."""

    flow_slug: str
    max_attempts: int
    base_delay: int
    timeout: int
    created_at: datetime
    steps: int
    unfinished_runs: int
    day_started: int
    day_completed: int
    day_failed: int
    last_started_at: datetime | None


@dataclass(frozen=True, slots=True)
class StepDefinition:
    """A step with its options, the flow's where it has none of its own; delays and timeout in seconds."""

    step_slug: str
    kind: Literal["single", "map"]
    depends_on: tuple[str, ...]
    timeout: int
    max_attempts: int
    base_delay: int
    start_delay: int
    required_input_pattern: JsonText | None
    forbidden_input_pattern: JsonText | None
    when_unmet: str
    when_exhausted: str


@dataclass(frozen=True, slots=True)
class FlowDetail:
    """A flow with its steps in the order of their definition."""

    flow: FlowSummary
    steps: tuple[StepDefinition, ...]


def list_flows(database: Database, *, limit: int) -> tuple[list[FlowSummary], bool]:
    """At most ``limit`` flows, those with the newest run first, and whether there are more. Reads all runs."""
    flows = _flows(database, None, limit + 1)
    return flows[:limit], len(flows) > limit


def flow_detail(database: Database, own: OwnTables, flow_slug: str) -> FlowDetail:
    """A flow that there is, with its steps."""
    (flow,) = _flows(database, flow_slug, 1)
    return FlowDetail(flow, flow_steps(database, own, flow_slug))


def flow_steps(database: Database, own: OwnTables, flow_slug: str) -> tuple[StepDefinition, ...]:
    """The steps of a flow in the order of their definition."""
    wanted = {"flow_slug": flow_slug}
    recording = (
        {row["step_slug"] for row in database.fetch_all("inspection/recording_steps", wanted)}
        if own.recording_steps
        else frozenset[str]()
    )
    return tuple(_step(row, recording) for row in database.fetch_all("inspection/flow_steps", wanted))


def _flows(database: Database, flow_slug: str | None, limit: int) -> list[FlowSummary]:
    rows = database.fetch_all("inspection/flows", {"flow_slug": flow_slug, "limit": limit})
    return [FlowSummary(**row) for row in rows]


def _step(row: dict[str, Any], recording: set[str] | frozenset[str]) -> StepDefinition:
    for pattern in ("required_input_pattern", "forbidden_input_pattern"):
        row[pattern] = None if row[pattern] is None else JsonText(row[pattern])
    if row["step_slug"] in recording:  # the contract's word for such a step is "fail"
        row["when_exhausted"] = "record"
    return StepDefinition(depends_on=tuple(row.pop("depends_on")), **row)
