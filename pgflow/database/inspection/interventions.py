"""What cancelling or retrying a run would touch, for who is to be asked first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pgflow.database import Database
from pgflow.database.inspection import OwnTables
from pgflow.database.inspection.runs import RunSummary, run_steps, run_summary
from pgflow.errors import NotInContractError, RunNotChangedError

Verb = Literal["cancel", "retry"]


@dataclass(frozen=True, slots=True)
class Touched:
    """A run, the steps that are changed, and how many of their tasks run, wait, have failed and have completed."""

    verb: Verb
    run: RunSummary
    steps: tuple[str, ...]
    started: int
    queued: int
    failed: int
    completed: int


def touched_by(database: Database, own: OwnTables, verb: Verb, run_id: str) -> Touched:
    """What the verb would touch.

    Raises RunNotFoundError, RunNotChangedError for a run that it cannot change, and NotInContractError on a core that
    has the contract's functions alone.
    """
    if not own.run_interventions:
        raise NotInContractError(what="cancelling and retrying runs")
    run = run_summary(database, run_id)
    if run.status == "completed" or (verb == "cancel" and run.status == "failed"):
        raise RunNotChangedError(run_id=run_id, reason=f"it has {run.status}")
    steps = [
        step
        for step in run_steps(database, own, run_id)
        if step.status == "started" or (verb == "retry" and step.status == "failed")
    ]
    return Touched(
        verb=verb,
        run=run,
        steps=tuple(step.step_slug for step in steps),
        started=sum(step.started for step in steps),
        queued=sum(step.queued for step in steps),
        failed=sum(step.failed for step in steps),
        completed=sum(step.completed for step in steps),
    )
