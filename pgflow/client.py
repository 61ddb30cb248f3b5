"""Client: starting runs and seeing what becomes of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pgflow import codec
from pgflow.database import Database, runs
from pgflow.database.runs import Failure, StepProgress
from pgflow.errors import RunTimedOutError

__all__ = ["Client", "Failure", "Run", "StepProgress"]

SHORTEST_POLL_SECONDS = 0.02
LONGEST_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a flow, its input and output decoded; ``output`` is None until it completes."""

    run_id: str
    flow_slug: str
    status: Literal["started", "completed", "failed"]
    input: Any
    output: Any
    remaining_steps: int
    started_at: datetime
    completed_at: datetime | None
    failed_at: datetime | None


class Client:
    """Starts runs in a database and reads them; workers, here or elsewhere, do the work."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, flow_slug: str, input: Any = None, *, key: str | None = None) -> str:
        """Start a run of a compiled flow with an input that is JSON; returns its id.

        Starting again with the same ``key`` starts nothing and returns the id of the flow's run with that key,
        whatever its input was.

        Raises OutputNotSerializableError for an input that is not, and RunNotStartedError for an unknown flow, an input
        that the flow does not take, or a key of more than 2,000 bytes.
        """
        (run_id,) = self.start_many(flow_slug, [input], keys=[key])
        return run_id

    def start_many(
        self, flow_slug: str, inputs: Sequence[Any], *, keys: Sequence[str | None] | None = None
    ) -> list[str]:
        """Start a run for each input, all or none, in one statement; returns their ids in the inputs' order.

        ``keys``, one for each input, are as in ``start``; None is no key. Raises as ``start`` does.
        """
        return runs.start_flows(self._database, flow_slug, [codec.encode(value) for value in inputs], keys)

    def get(self, run_id: str) -> Run:
        """The run as it is now. Raises RunNotFoundError."""
        row = runs.get_run(self._database, run_id)
        output = row.pop("output")
        return Run(
            input=codec.decode(row.pop("input")),
            output=None if output is None else codec.decode(output),
            **row,
        )

    def status(self, run_id: str) -> str:
        """The run's status alone: started, completed or failed. Raises RunNotFoundError."""
        return runs.run_status(self._database, run_id)

    def wait(self, run_id: str, timeout: float | None = None) -> Run:
        """The run once it has completed or failed; ``timeout`` in seconds.

        Raises RunTimedOutError when it has not ended by then, and RunNotFoundError.
        """
        deadline = time.monotonic() + timeout if timeout is not None else float("inf")
        interval = SHORTEST_POLL_SECONDS
        while self.status(run_id) == "started":
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise RunTimedOutError(run_id=run_id, seconds=timeout)
            time.sleep(min(interval, remaining))
            interval = min(interval * 1.5, LONGEST_POLL_SECONDS)
        return self.get(run_id)

    def cancel(self, run_id: str, reason: str | None = None, *, requested_by: str | None = None) -> None:
        """End a run that goes on: it fails, nothing more of it is started, and results still to come are dropped.

        Reason and name (the database's role unless given) are kept in the table ``run_interventions``.

        Raises RunNotFoundError, RunNotChangedError for a run that has ended, and NotInContractError on another
        implementation's core.
        """
        runs.cancel_run(self._database, run_id, reason, requested_by)

    def retry(self, run_id: str, reason: str | None = None, *, requested_by: str | None = None) -> None:
        """Let a failed run go on: its failed steps, and every task that the failure left undone, with attempts from
        zero; what has completed is kept. Of a run that goes on, queue the tasks again that have stalled for good.

        Raises RunNotFoundError, RunNotChangedError where there is nothing to be retried or a condition fails the run
        again at once, and NotInContractError on another implementation's core.
        """
        runs.retry_run(self._database, run_id, reason, requested_by)

    def progress(self, run_id: str) -> list[StepProgress]:
        """How far each step of the run is, in the order of their definition."""
        return runs.run_progress(self._database, run_id)

    def unfinished_runs(self, flow_slug: str) -> int:
        """How many runs of the flow have not ended; they share its queue."""
        return runs.unfinished_runs(self._database, flow_slug)

    def first_failure(self, run_id: str) -> Failure | None:
        """What failed the run, if it failed."""
        return runs.first_failure(self._database, run_id)
