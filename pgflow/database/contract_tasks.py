"""Tasks on a core that has the contract's functions alone, such as a TypeScript installation's."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import compress
from typing import Any

from pgflow import codec
from pgflow.database import Database, Transaction
from pgflow.database.tasks import ClaimedTask, FailedAttempt, Holding, held_by, holdings
from pgflow.outcome import NO_RETRY, Evidence

_VERDICTS = {"completed": "completed", "failed": "failed", "queued": "retried", "started": "over", "skipped": "over"}
"""What a task's status after the contract's function says of our verdict."""
_STATES = {"ready": "held", "over": "over"}
"""What is judged of a task says whether it is still held; else it is lost."""
_HAND_BACKS = 3
"""How often a task is handed back whose worker died."""


class ContractTasks:
    """The same as BatchTasks in several statements of one transaction, which call the contract's functions once for
    each task: slower, and as correct. What the contract does not know is done on its tables: a verdict is judged by
    attempt, worker and message while the run is locked, tasks are released, and attempts that shall not be repeated are
    spent. Tasks of ``recording_steps`` (flow and step slugs) whose attempts are spent complete with their error.
    """

    def __init__(self, database: Database, recording_steps: Collection[tuple[str, str]] = ()) -> None:
        self._database = database
        self._recording_steps = frozenset(recording_steps)

    def claim(self, worker_ids: Mapping[str, str], quantity: int) -> list[ClaimedTask]:
        """As in Tasks."""
        claimed: list[ClaimedTask] = []
        # In random order, so that a flow with a long queue does not keep the others from being served.
        for flow_slug in random.sample(list(worker_ids), len(worker_ids)):
            if len(claimed) < quantity:
                claimed += self._claim_of(flow_slug, worker_ids[flow_slug], quantity - len(claimed))
        return claimed

    def _claim_of(self, flow_slug: str, worker_id: str, quantity: int) -> list[ClaimedTask]:
        queue: dict[str, Any] = {"flow_slug": flow_slug, "worker_id": worker_id}
        # A transaction of its own: with messages locked, starting tasks could wait for somebody who waits for those.
        messages = self._database.fetch_all("contract/read_messages", queue | {"quantity": quantity})
        if not messages:
            return []
        queue["message_ids"] = [row["msg_id"] for row in messages]
        with self._database.transaction() as transaction:
            started = {row["msg_id"]: row for row in transaction.fetch_all("contract/start_tasks", queue)}
            if len(started) < len(messages):
                transaction.fetch_all("contract/archive_unknown_messages", queue)
            held = transaction.fetch_all("contract/hold_tasks", queue | {"message_ids": list(started)})
        return [
            ClaimedTask(**row, worker_id=worker_id, input=_input(row["kind"], started[row["msg_id"]])) for row in held
        ]

    def complete(
        self, tasks: Sequence[Holding], outputs: Sequence[str], evidence: Sequence[Evidence] | None = None
    ) -> list[str]:
        """As in Tasks. There is no history that would keep the evidence."""
        with self._judged(tasks) as judged:
            return judged.settle("contract/complete_tasks", [True] * len(tasks), outputs=outputs)

    def fail(self, tasks: Sequence[Holding], attempts: Sequence[FailedAttempt]) -> list[str]:
        """As in Tasks."""
        with self._judged(tasks) as judged:
            return self._fail(judged, tasks, attempts)

    def _fail(self, judged: _JudgedBatch, tasks: Sequence[Holding], attempts: Sequence[FailedAttempt]) -> list[str]:
        envelopes = [error_envelope(task, attempt) for task, attempt in zip(tasks, attempts, strict=True)]
        is_last = judged.which_are_last([attempt.retry_delay == NO_RETRY for attempt in attempts])
        is_recorded = [
            last and (task.flow_slug, task.step_slug) in self._recording_steps
            for task, last in zip(tasks, is_last, strict=True)
        ]
        judged.spend_attempts(is_last)
        judged.settle("contract/complete_tasks", is_recorded, among=("ready",), outputs=envelopes)
        verdicts = judged.settle(
            "contract/fail_tasks",
            [True] * len(tasks),
            error_messages=[attempt.error for attempt in attempts],
            delays=[None if attempt.retry_delay == NO_RETRY else attempt.retry_delay for attempt in attempts],
        )
        return [
            "recorded" if recorded and verdict == "completed" else verdict
            for recorded, verdict in zip(is_recorded, verdicts, strict=True)
        ]

    def release(self, tasks: Sequence[Holding]) -> list[str]:
        """As in Tasks."""
        with self._judged(tasks) as judged:
            return judged.hand_back("contract/release_tasks", "released", [True] * len(tasks))

    def requeue(self, tasks: Sequence[Holding], reasons: Sequence[str]) -> list[str]:
        """As in Tasks. There is no history that would tell of the times before."""
        attempts = [
            FailedAttempt(_given_up(task, reason), "crashed", NO_RETRY)
            for task, reason in zip(tasks, reasons, strict=True)
        ]
        with self._judged(tasks) as judged:
            judged.hand_back("contract/requeue_tasks", "requeued", judged.which_may_be_requeued())
            return self._fail(judged, tasks, attempts)

    def renew(self, tasks: Sequence[Holding], visible_seconds: Sequence[int | None]) -> list[str]:
        """As in Tasks."""
        with self._database.transaction() as transaction:
            # Messages first, so that one whose task is handed back meanwhile becomes visible: see pgflow.renew_tasks.
            kept = _those_locked(
                transaction, {task: it for task, it in zip(tasks, visible_seconds, strict=True) if it is not None}
            )
            judged = transaction.fetch_all("contract/judge_tasks", holdings(tasks))
            states = [_STATES.get(row["judgement"], "lost") for row in judged]
            held = set(compress(tasks, (state == "held" for state in states)))
            _keep_messages_invisible(transaction, {task: seconds for task, seconds in kept.items() if task in held})
        return states

    def held_by(self, worker_ids: Sequence[str]) -> list[Holding]:
        """As in Tasks."""
        return held_by(self._database, worker_ids)

    @contextmanager
    def _judged(self, tasks: Sequence[Holding]) -> Iterator[_JudgedBatch]:
        with self._database.transaction() as transaction:
            yield _JudgedBatch(transaction, tasks)


class _JudgedBatch:
    """A batch whose runs and tasks are locked, so that what a verdict on each of them meets cannot change any more."""

    def __init__(self, transaction: Transaction, tasks: Sequence[Holding]) -> None:
        self._transaction = transaction
        self._holdings = holdings(tasks)
        transaction.fetch_all("contract/lock_runs", self._holdings)
        transaction.fetch_all("contract/lock_tasks", self._holdings)
        judged = transaction.fetch_all("contract/judge_tasks", self._holdings)
        self._verdicts = [row["judgement"] for row in judged]
        self._max_attempts = [row["max_attempts"] or 0 for row in judged]
        self._requeued_counts = [row["requeued_count"] or 0 for row in judged]
        self._has_stalled = [row["has_stalled"] for row in judged]

    def which_are_last(self, is_final: Sequence[bool]) -> list[bool]:
        """Which attempts no other shall follow: the final ones, and those that are the last the step has by now."""
        return [
            final or attempt >= max_attempts
            for final, attempt, max_attempts in zip(
                is_final, self._holdings["attempts"], self._max_attempts, strict=True
            )
        ]

    def spend_attempts(self, which: Sequence[bool]) -> None:
        """Leave those that are ready no further attempt."""
        ready = self._those(which, among=("ready",))
        self._transaction.fetch_all("contract/spend_attempts", self._chosen(ready, max_attempts=self._max_attempts))

    def settle(
        self, query: str, which: Sequence[bool], among: Collection[str] = ("ready", "over"), **values: Sequence[Any]
    ) -> list[str]:
        """Call the contract's function for those that are ready, or over, whose messages it archives; all verdicts."""
        settled = self._those(which, among)
        rows = self._transaction.fetch_all(query, self._chosen(settled, **values))
        for position, row in zip(compress(itertools.count(), settled), rows, strict=True):
            if self._verdicts[position] == "ready":
                self._verdicts[position] = _VERDICTS[row["status"]]
        return self._verdicts

    def which_may_be_requeued(self) -> list[bool]:
        """Which have not been requeued as often as may be."""
        return [count < _HAND_BACKS for count in self._requeued_counts]

    def hand_back(self, query: str, verdict: str, which: Sequence[bool]) -> list[str]:
        """Hand those back that are ready, but none that has stalled for good; all verdicts."""
        for position in compress(itertools.count(), self._those(self._has_stalled, among=("ready",))):
            self._verdicts[position] = "stale"
        ready = self._those(which, among=("ready",))
        self._transaction.fetch_all(query, self._chosen(ready))
        for position in compress(itertools.count(), ready):
            self._verdicts[position] = verdict
        return self._verdicts

    def _those(self, which: Sequence[bool], among: Collection[str]) -> list[bool]:
        return [chosen and verdict in among for chosen, verdict in zip(which, self._verdicts, strict=True)]

    def _chosen(self, which: Sequence[bool], **values: Sequence[Any]) -> dict[str, list[Any]]:
        return {name: list(compress(array, which)) for name, array in {**self._holdings, **values}.items()}


def _input(kind: str, started: Mapping[str, Any]) -> str:
    return str(started["flow_input"] if kind == "root" else started["input"])


def _those_locked(transaction: Transaction, tasks: Mapping[Holding, int]) -> dict[Holding, int]:
    """Lock the messages of tasks; those of which nobody else had."""
    locked: dict[Holding, int] = {}
    for flow_slug, of_flow in _by_flow(tasks).items():
        ids = {"message_ids": [task.msg_id for task in of_flow]}
        found = {row["msg_id"] for row in transaction.fetch_all_of_queue("contract/lock_messages", flow_slug, ids)}
        locked |= {task: tasks[task] for task in of_flow if task.msg_id in found}
    return locked


def _keep_messages_invisible(transaction: Transaction, tasks: Mapping[Holding, int]) -> None:
    for flow_slug, of_flow in _by_flow(tasks).items():
        transaction.fetch_all_of_queue(
            "contract/keep_messages_invisible",
            flow_slug,
            {"message_ids": [task.msg_id for task in of_flow], "seconds": [tasks[task] for task in of_flow]},
        )


def _by_flow(tasks: Iterable[Holding]) -> dict[str, list[Holding]]:
    flows: dict[str, list[Holding]] = {}
    for task in tasks:
        flows.setdefault(task.flow_slug, []).append(task)
    return flows


def _given_up(task: Holding, reason: str) -> str:
    """Why a task fails that would be handed back once more, as ``requeue_tasks`` tells it of the last time."""
    return (
        f"Task was given up: it was handed back {_HAND_BACKS} times and its worker died again\n"
        f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, worker {task.worker_id}: {reason.partition(chr(10))[0][:300]}"
    )


def error_envelope(task: Holding, attempt: FailedAttempt) -> str:
    """What a task completes with whose step records failures, as JSON text; ``fail_tasks`` makes the same."""
    error = {"message": attempt.error, "kind": attempt.kind, "attempts": task.attempt}
    return codec.encode({"$error": error})
