"""What goes on now: queues, running tasks and the attempts that ended within the last minute.

There is no index by the time at which an attempt ended. What has one is pgmq's archive, where the message of each task
goes that has ended; attempts that are to be repeated are found by their messages, and by tasks seen running that no
longer are. Each look reads a bounded number of rows, whatever the tables hold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pgflow.database import Database, Transaction
from pgflow.database.inspection import OwnTables
from pgflow.database.inspection.workers import WorkerStatus

WINDOW = timedelta(minutes=1)
"""How far back the first look goes."""
COUNTED = 10_000
"""Messages of a queue are counted up to this; a queue that has so many has that many or more."""
RUNNING = 1_000
"""How many running tasks are read, the newest."""
FLOWS = 50
"""How many flows are looked at."""
_WORKER_ROWS = 500
_FINISHED, _RETRIED = 2_000, 200
_OVERLAP = timedelta(seconds=3)
"""A row's time is that of its transaction's beginning, and it is seen once that has ended."""
_RATE_SECONDS = 10.0
_SHORTEST_RATE_SECONDS = 3.0

TaskKey = tuple[str, str, str, int]
"""Flow, run, step and index."""


@dataclass(frozen=True, slots=True)
class FlowActivity:
    """A flow's queue: tasks that wait, run, and are to become visible later, each at most ``COUNTED``; None where the
    role may not read it. ``ended_per_second`` is over the last seconds, whatever the tasks came to."""

    flow_slug: str
    queued: int | None
    running: int
    delayed: int | None
    ended_per_second: float


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task that a worker has claimed, since ``started_at``."""

    flow_slug: str
    run_id: str
    step_slug: str
    task_index: int
    attempt: int
    worker_id: str | None
    started_at: datetime


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """An attempt that has ended. ``started_at`` is when it was claimed, ``elapsed`` the seconds that its handler ran,
    where they are known; ``error_message`` is cut."""

    flow_slug: str
    run_id: str
    step_slug: str
    task_index: int
    attempt: int
    outcome: str
    worker_id: str | None
    started_at: datetime | None
    ended_at: datetime
    elapsed: float | None
    error_message: str | None


@dataclass(frozen=True, slots=True)
class ActiveWorker:
    """A worker process that has lately shown that it lives; an id for each of its flows."""

    name: str
    status: WorkerStatus
    started_at: datetime
    worker_ids: tuple[str, ...]
    flow_slugs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one moment of the database's clock. ``attempts`` are those that ended since the look before, and
    some of them again; ``more_flows`` says that there are others."""

    at: datetime
    flows: tuple[FlowActivity, ...]
    more_flows: bool
    workers: tuple[ActiveWorker, ...]
    running: tuple[RunningTask, ...]
    attempts: tuple[EndedAttempt, ...]


class Observer:
    """Looks at a database again and again. For one thread."""

    def __init__(self, database: Database, own: OwnTables, flow_slugs: Sequence[str] = ()) -> None:
        self._database = database
        self._attempts_query = "attempts" if own.task_attempts else "last_attempts"
        self._flow_slugs = list(flow_slugs) or None
        self._last: datetime | None = None
        self._ran: frozenset[TaskKey] = frozenset()
        self._rates: dict[str, _Rate] = {}

    def look(self) -> Look:
        """What goes on now. Raises DatabaseUnreachableError; the next look goes on from the one before."""
        with self._database.transaction() as transaction:
            transaction.fetch_all("avoid_scans")
            (clock,) = transaction.fetch_all("inspection/server")
            at: datetime = clock["at"]
            since = at - WINDOW if self._last is None else self._last - _OVERLAP
            flows = transaction.fetch_all(
                "inspection/activity/flows", {"flow_slugs": self._flow_slugs, "limit": FLOWS + 1}
            )
            more_flows, flows = len(flows) > FLOWS, flows[:FLOWS]
            running = self._running(transaction)
            counts, messages = self._queues(transaction, flows, since)
            attempts = self._attempts(transaction, self._candidates(running, messages), since)
            workers = transaction.fetch_all("inspection/activity/workers", {"limit": _WORKER_ROWS})
        self._note_rates(at, flows, messages)
        self._last, self._ran = at, frozenset(map(_key, running))
        return Look(
            at=at,
            flows=tuple(self._flow(flow["flow_slug"], counts, running) for flow in flows),
            more_flows=more_flows,
            workers=tuple(_by_process(workers)),
            running=tuple(running),
            attempts=tuple(attempts),
        )

    def _running(self, transaction: Transaction) -> list[RunningTask]:
        rows = [RunningTask(**row) for row in transaction.fetch_all("inspection/activity/running", {"limit": RUNNING})]
        wanted = self._flow_slugs
        return rows if wanted is None else [task for task in rows if task.flow_slug in wanted]

    def _queues(
        self, transaction: Transaction, flows: Iterable[Mapping[str, Any]], since: datetime
    ) -> tuple[dict[str, dict[str, int]], list[dict[str, Any]]]:
        """The messages of each queue that may be read, counted, and those whose tasks may have ended since."""
        readable = [flow["flow_slug"] for flow in flows if flow["is_readable"]]
        if not readable:
            return {}, []
        counts = transaction.fetch_all_of_queues("inspection/activity/queue", readable, {"limit": COUNTED})
        limits = {"since": since, "finished": _FINISHED, "retried": _RETRIED}
        messages = transaction.fetch_all_of_queues("inspection/activity/messages", readable, limits)
        return {row["flow_slug"]: row for row in counts}, messages

    def _candidates(self, running: Iterable[RunningTask], messages: Iterable[Mapping[str, Any]]) -> set[TaskKey]:
        """The tasks of which an attempt may have ended since the look before."""
        by_message = {
            (row["flow_slug"], row["run_id"], row["step_slug"], row["task_index"]) for row in messages if row["run_id"]
        }
        tried_again = {_key(task) for task in running if task.attempt > 1}
        return by_message | tried_again | (self._ran - {_key(task) for task in running})

    def _attempts(self, transaction: Transaction, tasks: set[TaskKey], since: datetime) -> list[EndedAttempt]:
        if not tasks:
            return []
        flow_slugs, run_ids, step_slugs, task_indexes = map(list, zip(*sorted(tasks), strict=True))
        rows = transaction.fetch_all(
            f"inspection/activity/{self._attempts_query}",
            {
                "flow_slugs": flow_slugs,
                "run_ids": run_ids,
                "step_slugs": step_slugs,
                "task_indexes": task_indexes,
                "since": since,
            },
        )
        return sorted((EndedAttempt(**row) for row in rows), key=lambda attempt: attempt.ended_at)

    def _flow(self, slug: str, counts: Mapping[str, Mapping[str, int]], running: Iterable[RunningTask]) -> FlowActivity:
        runs = sum(task.flow_slug == slug for task in running)
        count = counts.get(slug)
        return FlowActivity(
            flow_slug=slug,
            queued=None if count is None else count["visible"],
            running=runs,
            # What runs is invisible, too.
            delayed=None if count is None else max(count["invisible"] - runs, 0),
            ended_per_second=self._rates[slug].per_second,
        )

    def _note_rates(
        self, at: datetime, flows: Iterable[Mapping[str, Any]], messages: Iterable[Mapping[str, Any]]
    ) -> None:
        if self._last is None:
            archived: dict[str, list[datetime]] = {}
            for row in messages:
                if row["archived_at"] is not None:
                    archived.setdefault(row["flow_slug"], []).append(row["archived_at"])
            self._rates = {slug: _Rate(_first_rate(at, times)) for slug, times in archived.items()}
        for flow in flows:
            self._rates.setdefault(flow["flow_slug"], _Rate(0.0)).note(at, flow["removed"])


class _Rate:
    """How many messages leave a queue in a second, by PostgreSQL's counter, which sessions bring up to date once a
    second; until that has been seen for some seconds, by what was in the archive."""

    def __init__(self, first: float) -> None:
        self.per_second = first
        self._seen: deque[tuple[datetime, int]] = deque()

    def note(self, at: datetime, removed: int) -> None:
        if self._seen and removed < self._seen[-1][1]:  # the statistics were reset
            self._seen.clear()
        self._seen.append((at, removed))
        while (at - self._seen[0][0]).total_seconds() > _RATE_SECONDS and len(self._seen) > 2:
            self._seen.popleft()
        seconds = (at - self._seen[0][0]).total_seconds()
        if seconds >= _SHORTEST_RATE_SECONDS:
            self.per_second = (removed - self._seen[0][1]) / seconds


def _first_rate(at: datetime, archived: Sequence[datetime]) -> float:
    """Messages a second: over the window, or since the oldest of those that were read where there are more."""
    whole = len(archived) < _FINISHED
    seconds = WINDOW.total_seconds() if whole else (at - min(archived)).total_seconds()
    return len(archived) / max(seconds, 0.001)


def _key(task: RunningTask) -> TaskKey:
    return task.flow_slug, task.run_id, task.step_slug, task.task_index


def _by_process(rows: Iterable[Mapping[str, Any]]) -> list[ActiveWorker]:
    """A worker for each process: its rows were registered together, under its name. By name."""
    processes: dict[tuple[str, datetime], list[Mapping[str, Any]]] = {}
    for row in rows:
        processes.setdefault((row["name"], row["started_at"]), []).append(row)
    return [
        ActiveWorker(
            name=name,
            status=own[0]["status"],
            started_at=started_at,
            worker_ids=tuple(row["worker_id"] for row in own),
            flow_slugs=tuple(sorted(row["flow_slug"] for row in own)),
        )
        for (name, started_at), own in sorted(processes.items())
    ]
