"""Tasks in the database: claimed, completed, failed and handed back in batches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pgflow.database import Database

Kind = Literal["root", "dependent", "map"]


@dataclass(frozen=True, slots=True)
class Holding:
    """A started task as a worker holds it.

    ``attempt`` is 1 for the first. ``attempt``, ``worker_id`` and ``msg_id`` together say how it is held: a verdict
    that names others changes nothing.
    """

    flow_slug: str
    run_id: str
    step_slug: str
    task_index: int
    attempt: int
    msg_id: int
    worker_id: str

    def __str__(self) -> str:
        return f"{self.flow_slug}/{self.step_slug}[{self.task_index}] of run {self.run_id}, attempt {self.attempt}"

    @property
    def key(self) -> tuple[str, str, int, int, int]:
        """What no two holdings of a worker have in common."""
        return self.run_id, self.step_slug, self.task_index, self.attempt, self.msg_id


@dataclass(frozen=True, slots=True)
class ClaimedTask(Holding):
    """A task that this worker holds, with what it takes to run it.

    ``input`` is JSON text as PostgreSQL gave it; ``timeout`` is in seconds, ``max_attempts`` and ``timeout`` are the
    effective ones, the step's or else the flow's. ``retry_delay`` is how many seconds its next attempt waits if this
    one fails; None when this is the last.
    """

    kind: Kind
    input: str
    timeout: int
    max_attempts: int
    retry_delay: int | None = None


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """How an attempt failed.

    ``kind`` is the outcome in a word (``failed``, ``timed_out``, ...). ``retry_delay`` is in seconds; None for the
    step's delay, ``outcome.NO_RETRY`` for no further attempt. ``evidence`` is for the history: JSON values by name.
    """

    error: str
    kind: str = "failed"
    retry_delay: int | None = None
    evidence: Mapping[str, Any] | None = None


class Tasks(Protocol):
    """What a worker does with tasks, on our SQL core or on one that has the contract's functions alone."""

    def claim(self, worker_ids: Mapping[str, str], quantity: int) -> list[ClaimedTask]:
        """Claim at most ``quantity`` tasks of the flows in ``worker_ids`` (flow slug -> worker id). Their messages
        stay invisible for the task's timeout and 2 seconds."""

    def complete(self, tasks: Sequence[ClaimedTask], outputs: Sequence[str]) -> list[str]:
        """Complete a batch; each task's verdict: completed, failed, stale, over or unknown."""

    def fail(self, tasks: Sequence[ClaimedTask], attempts: Sequence[FailedAttempt]) -> list[str]:
        """Fail the attempts of a batch; each task's verdict: retried, recorded, failed, stale, over or unknown."""

    def release(self, tasks: Sequence[ClaimedTask]) -> list[str]:
        """Hand a batch back without spending an attempt; each task's verdict: released, stale, over or unknown."""


class BatchTasks:
    """Tasks on our SQL core: each call is one statement, whatever the batch holds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, worker_ids: Mapping[str, str], quantity: int) -> list[ClaimedTask]:
        """As in Tasks."""
        rows = self._database.fetch_all(
            "claim_tasks",
            {"flow_slugs": list(worker_ids), "worker_ids": list(worker_ids.values()), "quantity": quantity},
        )
        return [ClaimedTask(worker_id=worker_ids[row["flow_slug"]], **row) for row in rows]

    def complete(self, tasks: Sequence[ClaimedTask], outputs: Sequence[str]) -> list[str]:
        """As in Tasks."""
        return self._settle("complete_tasks", tasks, outputs=list(outputs))

    def fail(self, tasks: Sequence[ClaimedTask], attempts: Sequence[FailedAttempt]) -> list[str]:
        """As in Tasks."""
        return self._settle(
            "fail_tasks",
            tasks,
            error_messages=[attempt.error for attempt in attempts],
            outcomes=[attempt.kind for attempt in attempts],
            retry_delays=[attempt.retry_delay for attempt in attempts],
            evidence=[None if attempt.evidence is None else json.dumps(attempt.evidence) for attempt in attempts],
        )

    def release(self, tasks: Sequence[ClaimedTask]) -> list[str]:
        """As in Tasks."""
        return self._settle("release_tasks", tasks)

    def _settle(self, query: str, tasks: Sequence[ClaimedTask], **values: list[Any]) -> list[str]:
        return [row["verdict"] for row in self._database.fetch_all(query, holdings(tasks) | values)]


def holdings(tasks: Sequence[ClaimedTask]) -> dict[str, list[Any]]:
    """The keys of a batch and how its tasks are held, as arrays."""
    return {
        "run_ids": [task.run_id for task in tasks],
        "step_slugs": [task.step_slug for task in tasks],
        "task_indexes": [task.task_index for task in tasks],
        "attempts": [task.attempt for task in tasks],
        "worker_ids": [task.worker_id for task in tasks],
        "message_ids": [task.msg_id for task in tasks],
    }
