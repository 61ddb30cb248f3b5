"""Tasks in the database: claimed, completed, failed and handed back in batches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pgflow.database import Database
from pgflow.outcome import Evidence

Kind = Literal["root", "dependent", "map"]


@dataclass(frozen=True, slots=True)
class Holding:
    """A task as a worker holds it.

    ``attempt`` is 1 for the first. Together with ``worker_id`` and ``msg_id`` it says how the task is held: a verdict
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
    """A task that this worker has claimed.

    ``input`` is JSON text as PostgreSQL gave it; ``timeout`` is in seconds; ``max_attempts`` and ``timeout`` are the
    effective ones, the step's or else the flow's. ``retry_delay`` is in how many seconds it is tried again if this
    attempt fails, None if it is the last.
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
    step's delay, ``outcome.NO_RETRY`` for no further attempt.
    """

    error: str
    kind: str = "failed"
    retry_delay: int | None = None
    evidence: Evidence = None


class Tasks(Protocol):
    """What a worker does with tasks, on our SQL core or on one that has the contract's functions alone."""

    def claim(self, worker_ids: Mapping[str, str], quantity: int) -> list[ClaimedTask]:
        """Claim at most ``quantity`` tasks of the flows in ``worker_ids`` (flow slug -> worker id). Their messages
        stay invisible for the task's timeout and 2 seconds."""

    def complete(
        self, tasks: Sequence[Holding], outputs: Sequence[str], evidence: Sequence[Evidence] | None = None
    ) -> list[str]:
        """Complete a batch; each task's verdict: completed, failed, stale, over or unknown. ``evidence`` is kept where
        there is a history."""

    def fail(self, tasks: Sequence[Holding], attempts: Sequence[FailedAttempt]) -> list[str]:
        """Fail the attempts of a batch; each task's verdict: retried, recorded, failed, stale, over or unknown."""

    def release(self, tasks: Sequence[Holding]) -> list[str]:
        """Hand a batch back without spending an attempt; each task's verdict: released, stale, over or unknown."""

    def requeue(self, tasks: Sequence[Holding], reasons: Sequence[str]) -> list[str]:
        """Hand back what is held by workers that are gone, without spending an attempt; but who has been handed back
        three times fails. Each task's verdict: requeued, recorded, failed, stale, over or unknown."""

    def renew(self, tasks: Sequence[Holding], visible_seconds: Sequence[int | None]) -> list[str]:
        """Whether the tasks are still held: held, over (the run or step has ended) or lost. Messages of those that are
        stay invisible for at least so many seconds from now, where that is not None."""

    def held_by(self, worker_ids: Sequence[str]) -> list[Holding]:
        """What these workers hold, by key; but for tasks that have stalled for good."""


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

    def complete(
        self, tasks: Sequence[Holding], outputs: Sequence[str], evidence: Sequence[Evidence] | None = None
    ) -> list[str]:
        """As in Tasks."""
        return self._settle(
            "complete_tasks",
            tasks,
            outputs=list(outputs),
            evidence=[None] * len(tasks) if evidence is None else list(map(_json, evidence)),
        )

    def fail(self, tasks: Sequence[Holding], attempts: Sequence[FailedAttempt]) -> list[str]:
        """As in Tasks."""
        return self._settle(
            "fail_tasks",
            tasks,
            error_messages=[attempt.error for attempt in attempts],
            outcomes=[attempt.kind for attempt in attempts],
            retry_delays=[attempt.retry_delay for attempt in attempts],
            evidence=[_json(attempt.evidence) for attempt in attempts],
        )

    def release(self, tasks: Sequence[Holding]) -> list[str]:
        """As in Tasks."""
        return self._settle("release_tasks", tasks)

    def requeue(self, tasks: Sequence[Holding], reasons: Sequence[str]) -> list[str]:
        """As in Tasks."""
        return self._settle("requeue_tasks", tasks, reasons=list(reasons))

    def renew(self, tasks: Sequence[Holding], visible_seconds: Sequence[int | None]) -> list[str]:
        """As in Tasks."""
        rows = self._database.fetch_all("renew_tasks", holdings(tasks) | {"visible_seconds": list(visible_seconds)})
        return [row["state"] for row in rows]

    def held_by(self, worker_ids: Sequence[str]) -> list[Holding]:
        """As in Tasks."""
        return held_by(self._database, worker_ids)

    def _settle(self, query: str, tasks: Sequence[Holding], **values: list[Any]) -> list[str]:
        return [row["verdict"] for row in self._database.fetch_all(query, holdings(tasks) | values)]


def _json(evidence: Evidence) -> str | None:
    return None if evidence is None else json.dumps(evidence)


def held_by(database: Database, worker_ids: Sequence[str]) -> list[Holding]:
    """``Tasks.held_by``, which goes by the contract's tables."""
    with database.transaction() as transaction:
        transaction.fetch_all("avoid_scans")
        return [Holding(**row) for row in transaction.fetch_all("held_tasks", {"worker_ids": list(worker_ids)})]


def holdings(tasks: Sequence[Holding]) -> dict[str, list[Any]]:
    """The keys of a batch and how its tasks are held, as arrays."""
    return {
        "run_ids": [task.run_id for task in tasks],
        "step_slugs": [task.step_slug for task in tasks],
        "task_indexes": [task.task_index for task in tasks],
        "attempts": [task.attempt for task in tasks],
        "worker_ids": [task.worker_id for task in tasks],
        "message_ids": [task.msg_id for task in tasks],
    }
