"""Tasks in the database: claimed, completed, failed and handed back in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pgflow.database import Database

Kind = Literal["root", "dependent", "map"]


@dataclass(frozen=True, slots=True)
class ClaimedTask:
    """A task that this worker holds.

    ``input`` is JSON text as PostgreSQL gave it; ``timeout`` is in seconds; ``attempt`` is 1 for the first;
    ``max_attempts`` and ``timeout`` are the effective ones, the step's or else the flow's.
    """

    flow_slug: str
    run_id: str
    step_slug: str
    task_index: int
    attempt: int
    msg_id: int
    kind: Kind
    input: str
    timeout: int
    max_attempts: int

    def __str__(self) -> str:
        return f"{self.flow_slug}/{self.step_slug}[{self.task_index}] of run {self.run_id}, attempt {self.attempt}"


def claim(database: Database, worker_ids: dict[str, str], quantity: int) -> list[ClaimedTask]:
    """Claim at most ``quantity`` tasks of the flows in ``worker_ids`` (flow slug -> worker id), in one
    round trip. Their messages stay invisible for the task's timeout and 2 seconds."""
    rows = database.fetch_all(
        "claim_tasks",
        {
            "flow_slugs": list(worker_ids),
            "worker_ids": list(worker_ids.values()),
            "quantity": quantity,
        },
    )
    return [ClaimedTask(**row) for row in rows]


def complete(database: Database, tasks: Sequence[ClaimedTask], outputs: Sequence[str]) -> list[str]:
    """Complete a batch; each task's verdict: completed, failed, stale, over or unknown."""
    return _settle(database, "complete_tasks", tasks, outputs=list(outputs))


def fail(
    database: Database, tasks: Sequence[ClaimedTask], errors: Sequence[str], retry_delays: Sequence[int | None]
) -> list[str]:
    """Fail the attempts of a batch; each task's verdict: retried, failed, stale, over or unknown.

    ``retry_delays`` are in seconds; None for the step's delay, ``outcome.NO_RETRY`` for no further attempt.
    """
    return _settle(database, "fail_tasks", tasks, error_messages=list(errors), retry_delays=list(retry_delays))


def release(database: Database, tasks: Sequence[ClaimedTask]) -> list[str]:
    """Hand a batch back without spending an attempt; each task's verdict: released, stale, over or unknown."""
    return _settle(database, "release_tasks", tasks)


def _settle(database: Database, query: str, tasks: Sequence[ClaimedTask], **values: list[Any]) -> list[str]:
    rows = database.fetch_all(
        query,
        {
            "run_ids": [task.run_id for task in tasks],
            "step_slugs": [task.step_slug for task in tasks],
            "task_indexes": [task.task_index for task in tasks],
            "attempts": [task.attempt for task in tasks],
            **values,
        },
    )
    return [row["verdict"] for row in rows]
