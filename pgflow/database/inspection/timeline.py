"""The last minute of each worker as lanes, one for each task that it ran at a time.

The database does not know slots. It knows when a task was claimed, when its end was told, and mostly how long its
handler ran; short tasks are claimed ahead and told of in batches. So a task is put onto a lane on which it can have run
between its claim and its end, and onto a new one if there is none: interval scheduling with as few lanes as will do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from pgflow.database.inspection.activity import WINDOW, ActiveWorker, EndedAttempt, Look, RunningTask

FAILURES = 100
"""How many failures are kept, the last."""
_NO_FAILURES = frozenset({"completed", "released"})
_TOLD_LATE = timedelta(milliseconds=20)
"""By how much times of different tasks may contradict each other."""
_MAY_WAIT = timedelta(seconds=1.5)
"""A task that was claimed so long ago has a slot: its worker hands back what has waited for a second."""
_NOT_BEGUN = "released"

_EVER = datetime.min.replace(tzinfo=UTC)

_Attempt = tuple[str, str, int, int]


@dataclass(frozen=True, slots=True)
class Block:
    """A time in which a lane ran a task; ``ended_at`` and ``outcome`` are None while it does, ``outcome`` too where it
    is not known what the task came to."""

    flow_slug: str
    run_id: str
    step_slug: str
    task_index: int
    attempt: int
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None


@dataclass(frozen=True, slots=True)
class WorkerTimeline:
    """A worker's lanes, each with its blocks in the order of time; ``claimed_ahead`` tasks have no lane yet."""

    worker: ActiveWorker
    lanes: tuple[tuple[Block, ...], ...]
    claimed_ahead: int


class Timeline:
    """What several looks have shown."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, datetime], _Lanes] = {}
        self._workers: tuple[ActiveWorker, ...] = ()
        self._seen: dict[tuple[_Attempt, datetime], datetime] = {}
        self._failures: deque[EndedAttempt] = deque(maxlen=FAILURES)

    @property
    def failures(self) -> Iterator[EndedAttempt]:
        """Attempts that did not do what they were for, the newest first."""
        return reversed(self._failures)

    @property
    def workers(self) -> Iterator[WorkerTimeline]:
        """The workers, but those that have stopped and have done nothing within the last minute."""
        for worker in self._workers:
            lanes = self._lanes[worker.name, worker.started_at]
            if worker.status != "stopped" or any(lane.blocks for lane in lanes.lanes):
                blocks = tuple(tuple(lane.blocks) for lane in lanes.lanes)
                yield WorkerTimeline(worker, blocks, lanes.claimed_ahead)

    def note(self, look: Look) -> None:
        """Take in what was seen."""
        new = [attempt for attempt in look.attempts if self._is_new(attempt)]
        self._failures.extend(attempt for attempt in new if attempt.outcome not in _NO_FAILURES)
        self._workers = look.workers
        for worker in look.workers:
            lanes = self._lanes.setdefault((worker.name, worker.started_at), _Lanes())
            lanes.note(
                (attempt for attempt in new if attempt.worker_id in worker.worker_ids),
                (task for task in look.running if task.worker_id in worker.worker_ids),
                look.at,
            )
            lanes.forget(look.at - WINDOW)
        self._seen = {key: ended for key, ended in self._seen.items() if ended > look.at - 2 * WINDOW}
        known = {(worker.name, worker.started_at) for worker in look.workers}
        self._lanes = {key: lanes for key, lanes in self._lanes.items() if key in known}

    def _is_new(self, attempt: EndedAttempt) -> bool:
        key = (_attempt(attempt), attempt.ended_at)
        is_new = key not in self._seen
        self._seen[key] = attempt.ended_at
        return is_new


class _Lane:
    """One lane; ``free_at`` is when its last task ended, None while it runs."""

    def __init__(self) -> None:
        self.blocks: deque[Block] = deque()

    @property
    def free_at(self) -> datetime | None:
        return self.blocks[-1].ended_at if self.blocks else _EVER


class _Lanes:
    """The lanes of one worker.

    A task that was claimed a moment ago may still wait for its slot, while others run there that end before it. So it
    keeps its lane from look to look only once it must have begun.
    """

    def __init__(self) -> None:
        self.lanes: list[_Lane] = []
        self.claimed_ahead = 0
        self._running: dict[_Attempt, _Lane] = {}
        self._may_wait: list[_Lane] = []

    def note(self, ended: Iterable[EndedAttempt], running: Iterable[RunningTask], now: datetime) -> None:
        """These attempts have ended since, by the time of that, and these tasks run, and no others."""
        for lane in self._may_wait:
            lane.blocks.pop()
        self._may_wait = []
        for attempt in ended:
            self._end(attempt)
        by_attempt = {_attempt(task): task for task in running}
        for key in self._running.keys() - by_attempt.keys():  # nothing is known of its end
            lane = self._running.pop(key)
            lane.blocks[-1] = replace(lane.blocks[-1], ended_at=max(now, lane.blocks[-1].started_at))
        self.claimed_ahead = 0
        new = [task for key, task in by_attempt.items() if key not in self._running]
        for task in sorted(new, key=lambda task: task.started_at):
            self._begin(task, now)

    def _end(self, attempt: EndedAttempt) -> None:
        lane = self._running.pop(_attempt(attempt), None)
        if lane is not None:
            block = lane.blocks[-1]
            ended_at = max(attempt.ended_at, block.started_at)
            lane.blocks[-1] = replace(block, ended_at=ended_at, outcome=attempt.outcome)
        elif attempt.started_at is not None and attempt.outcome != _NOT_BEGUN:
            self._place(attempt, attempt.started_at)

    def _place(self, attempt: EndedAttempt, claimed_at: datetime) -> None:
        known = attempt.elapsed is not None
        took = timedelta(seconds=attempt.elapsed or 0) if known else attempt.ended_at - claimed_at
        lane, free_at = self._free_lane(attempt.ended_at - took + _TOLD_LATE)
        started_at = max(free_at, claimed_at)
        lane.blocks.append(_block(attempt, started_at, started_at + took, attempt.outcome))

    def _begin(self, task: RunningTask, now: datetime) -> None:
        may_wait = now - task.started_at < _MAY_WAIT
        if may_wait and self.lanes and all(lane.free_at is None for lane in self.lanes):
            self.claimed_ahead += 1
            return
        lane, started_at = self._idle_lane(task.started_at)
        lane.blocks.append(_block(task, started_at, None, None))
        if may_wait:
            self._may_wait.append(lane)
        else:
            self._running[_attempt(task)] = lane

    def _free_lane(self, latest: datetime) -> tuple[_Lane, datetime]:
        """The lane that became free last of those that were by then, or else a new one; and since when it is free."""
        free = [(lane.free_at, -number) for number, lane in enumerate(self.lanes)]
        before = [(since, number) for since, number in free if since is not None and since <= latest]
        if not before:
            return self._new_lane(), _EVER
        since, number = max(before)
        return self.lanes[-number], since

    def _idle_lane(self, claimed_at: datetime) -> tuple[_Lane, datetime]:
        """The first lane on which a task that was claimed then could begin soonest, and when; a new one if all run."""
        idle = [(max(lane.free_at, claimed_at), lane) for lane in self.lanes if lane.free_at is not None]
        soonest = min(idle, key=lambda one: one[0], default=None)
        return (self._new_lane(), claimed_at) if soonest is None else (soonest[1], soonest[0])

    def _new_lane(self) -> _Lane:
        self.lanes.append(_Lane())
        return self.lanes[-1]

    def forget(self, before: datetime) -> None:
        """Drop what ended before, and the lanes on which nothing is left."""
        for lane in self.lanes:
            while lane.blocks and (ended := lane.blocks[0].ended_at) is not None and ended < before:
                lane.blocks.popleft()
        self.lanes = [lane for lane in self.lanes if lane.blocks]


def _attempt(task: EndedAttempt | RunningTask) -> _Attempt:
    return task.run_id, task.step_slug, task.task_index, task.attempt


def _block(
    task: EndedAttempt | RunningTask, started_at: datetime, ended_at: datetime | None, outcome: str | None
) -> Block:
    return Block(
        flow_slug=task.flow_slug,
        run_id=task.run_id,
        step_slug=task.step_slug,
        task_index=task.task_index,
        attempt=task.attempt,
        started_at=started_at,
        ended_at=ended_at,
        outcome=outcome,
    )
