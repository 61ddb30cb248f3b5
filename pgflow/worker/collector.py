"""Collector: outcomes of tasks become verdicts in the database, in batches."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pgflow.database.failures import FAILURES, in_short, is_data_error, is_internal_error, is_too_much
from pgflow.database.tasks import ClaimedTask, FailedAttempt, Holding, Tasks
from pgflow.errors import DatabaseUnreachableError
from pgflow.outcome import Cancelled, Completed, Failed, Outcome, Released
from pgflow.worker.backoff import Backoff
from pgflow.worker.holdings import Holdings
from pgflow.worker.pulse import Pulse
from pgflow.worker.wakeup import Wakeup

logger = logging.getLogger(__name__)

MAX_BATCH_TASKS = 500
MAX_BATCH_CHARACTERS = 8 << 20
MAX_UNDELIVERED_TASKS = 2_000
MAX_UNDELIVERED_CHARACTERS = 256 << 20
"""Outcomes are kept while the database is away; past these bounds nothing more is claimed."""
DOUBTFUL_TRIES = 4
"""An error that may be the data's fault or the database's, and comes this often in a row, about a second, is taken for
the data's."""
LINGER_SECONDS = 0.05
ENOUGH_TASKS = 100
"""While every slot has work and more waits, verdicts are gathered for so long, or until there are so many: a statement
costs as much as 25 tasks in it. With tasks of 10 ms on two cores there was one for every task and a half before, which
took a fifth of the machine."""
ELEMENTS_LINGER_SECONDS = 0.2
"""The same for a map's elements alone, few of which are what another step waits for: with tasks of 10 ms a third of the
statements."""
LARGE_CHARACTERS = 1 << 20
"""An outcome of this size may be why a statement takes too long."""
LAST_RESORT_ERROR = "The task's outcome could not be stored; see the worker's log"


class Item(NamedTuple):
    """One task that ended."""

    task: Holding
    outcome: Outcome

    @property
    def size(self) -> int:
        """Characters that the verdict's statement carries for it."""
        match self.outcome:
            case Completed(output):
                return len(output)
            case Released():
                return 0
            case ended:
                return len(ended.error)


Verdicts = Callable[[Tasks, Sequence[Item]], list[str]]


class Collector:
    """Delivers every outcome exactly once, and keeps it until the database has it.

    Thread: ``pgflow-collector`` runs ``_loop``. It flushes at once when it is idle; while a flush is under way the
    next batch grows, and a little longer while ``is_sated``: whatever a verdict starts could not begin yet. ``put`` may
    be called from any thread and never waits.
    """

    def __init__(self, tasks: Tasks, wakeup: Wakeup, holdings: Holdings, is_sated: Callable[[], bool]) -> None:
        self._tasks = tasks
        self._is_sated = is_sated
        self._wakeup = wakeup
        self._holdings = holdings
        self._backoff = Backoff()
        self._waiting: deque[Item] = deque()
        self._under_way: list[Item] = []
        self._kept: list[Item] = []
        """Of the batch under way, those for which the database takes too long: others first."""
        self._undelivered_tasks = 0
        self._undelivered_characters = 0
        self.late = 0
        """How many results were dropped, because their tasks were no longer held here or their runs had ended."""
        self.pulse = Pulse("collector")
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._abandoned = threading.Event()
        self._has_ended = False
        self._thread = threading.Thread(target=self._loop, name="pgflow-collector", daemon=True)

    def start(self) -> None:
        """Start delivering."""
        self._thread.start()

    def put(self, task: Holding, outcome: Outcome) -> None:
        """Take over the outcome of a task."""
        self.put_all([(task, outcome)])

    def put_all(self, ends: Sequence[tuple[Holding, Outcome]]) -> None:
        """Take over the outcomes of some tasks."""
        items = [Item(task, outcome) for task, outcome in ends]
        size = sum(item.size for item in items)
        with self._changed:
            self._waiting.extend(items)
            self._undelivered_tasks += len(items)
            self._undelivered_characters += size
            is_late = self._has_ended
            self._changed.notify_all()
        if is_late:
            for task, outcome in ends:
                logger.error("undelivered, as it came after the last delivery: %s: %s", task, type(outcome).__name__)

    def wait_for_room(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until more tasks may be claimed; whether that is so."""
        with self._changed:
            return self._changed.wait_for(self._has_room, timeout)

    def _has_room(self) -> bool:
        return (
            self._undelivered_tasks < MAX_UNDELIVERED_TASKS
            and self._undelivered_characters < MAX_UNDELIVERED_CHARACTERS
        )

    def stop(self) -> None:
        """Deliver everything that is there, however long the database is away, then end."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()

    def wait_until_stopped(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until everything is delivered; whether that is so."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def abandon(self) -> int:
        """Give up what is not delivered: it is logged. Returns how many outcomes that were."""
        self._abandoned.set()
        with self._changed:
            undelivered = [*self._under_way, *self._waiting]
        for item in undelivered:
            logger.error("undelivered: %s: %s", item.task, type(item.outcome).__name__)
        return len(undelivered)

    def _loop(self) -> None:
        with self.pulse.life():
            self._collect()

    def _collect(self) -> None:
        while batch := self._next_batch():
            self._flush(batch)
            if self._abandoned.is_set():
                return
            kept, self._kept = self._kept, []
            kept_tasks = {id(item.task) for item in kept}
            with self._changed:
                self._under_way = []
                self._waiting.extend(kept)
                self._undelivered_tasks -= len(batch) - len(kept)
                self._undelivered_characters -= sum(item.size for item in batch) - sum(item.size for item in kept)
                self._changed.notify_all()
            self._holdings.remove(item.task for item in batch if id(item.task) not in kept_tasks)
            self._wakeup.notify()

    def _next_batch(self) -> list[Item]:
        """The oldest outcomes, within the bounds of a batch; empty when stopped and everything is delivered."""
        batch: list[Item] = []
        characters = 0
        with self.pulse.resting(), self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping.is_set())
            if not self._changed.wait_for(self._is_due, LINGER_SECONDS):
                self._changed.wait_for(self._is_due_though_elements, ELEMENTS_LINGER_SECONDS - LINGER_SECONDS)
            while self._waiting and len(batch) < MAX_BATCH_TASKS:
                size = self._waiting[0].size
                if batch and characters + size > MAX_BATCH_CHARACTERS:
                    break
                batch.append(self._waiting.popleft())
                characters += size
            self._under_way = batch
            self._has_ended = not batch
        return batch

    def _is_due(self) -> bool:
        return len(self._waiting) >= ENOUGH_TASKS or self._stopping.is_set() or not self._is_sated()

    def _is_due_though_elements(self) -> bool:
        return self._is_due() or not all(_is_element(item.task) for item in self._waiting)

    def _flush(self, batch: Sequence[Item]) -> None:
        by_verdicts: dict[Verdicts, list[Item]] = {}
        for item in batch:
            by_verdicts.setdefault(_verdicts_of(item.outcome), []).append(item)
        for verdicts, items in by_verdicts.items():
            self._deliver(verdicts, items)

    def _deliver(self, verdicts: Verdicts, items: Sequence[Item]) -> None:
        """One statement for the items. If the database refuses their data, each half for itself, until the bad
        item is alone: it alone fails, with PostgreSQL's message."""
        for tries in itertools.count(1):
            self.pulse.beat()
            try:
                self._count_late(items, verdicts(self._tasks, items), is_first_try=tries == 1)
                self._backoff.reset()
                return
            except FAILURES as error:
                is_doubtful = is_internal_error(error) or is_too_much(error)
                if is_data_error(error) or (is_doubtful and tries >= DOUBTFUL_TRIES):
                    refusal = error
                    break
                if self._may_have_handed_back(verdicts, error):
                    logger.warning(
                        "handing %d tasks back failed, it will be looked what became of it: %s",
                        len(items),
                        in_short(error),
                    )
                    self._holdings.doubt()
                    return
                if not self._wait_for_database(error, items):
                    return
        if len(items) > 1:
            by_size = sorted(items, key=lambda item: item.size)  # the small ones need not wait for the large
            middle = len(items) // 2
            self._deliver(verdicts, by_size[:middle])
            self._deliver(verdicts, by_size[middle:])
        elif is_too_much(refusal) and items[0].size < LARGE_CHARACTERS:
            logger.warning("%s: its outcome is kept for later: %s", items[0].task, in_short(refusal))
            self._kept.append(items[0])
        else:
            self._fail_alone(items[0], in_short(refusal))

    def _may_have_handed_back(self, verdicts: Verdicts, error: Exception) -> bool:
        """Whether tasks may be in their queues by now. This worker may claim them again, for the same attempt, so
        handing them back is not repeated: it would take them away while they run. At the worker's end nothing is
        claimed any more. A connection that lives has told that the statement was rolled back."""
        is_lost = isinstance(error, DatabaseUnreachableError)
        return is_lost and verdicts in (_release, _requeue) and not self._stopping.is_set()

    def _count_late(self, items: Sequence[Item], verdicts: Sequence[str], *, is_first_try: bool) -> None:
        for item, verdict in zip(items, verdicts, strict=True):
            if isinstance(item.outcome, Cancelled):
                logger.info("%s was killed: %s", item.task, item.outcome.reason)
            elif verdict == "stale" and not is_first_try:
                logger.info("%s: its result was delivered again after its answer was lost", item.task)
            elif verdict in ("stale", "over", "unknown"):
                self.late += 1
                level = logging.INFO if verdict == "over" else logging.WARNING
                logger.log(level, "%s: its result came too late (%s) and was dropped", item.task, verdict)

    def _wait_for_database(self, error: Exception, items: Sequence[Item]) -> bool:
        """Pause before the next try; False when it was given up. Delivering twice is harmless: the attempt is
        part of every verdict, so one that was committed before the connection broke is recognised."""
        if self._abandoned.is_set():
            return False
        pause = self._backoff.pause()
        logger.warning("delivering %d outcomes failed, next try in %.1f s: %s", len(items), pause, in_short(error))
        self._abandoned.wait(pause)
        return True

    def _fail_alone(self, item: Item, refusal: str) -> None:
        """A verdict that the database takes: at worst none, and the task is tried again, a few times."""
        match item.outcome:
            case Completed():
                self._deliver(_fail, [Item(item.task, Failed(f"PostgreSQL refused the output: {refusal}"))])
            case Failed(error) if error == LAST_RESORT_ERROR:
                logger.critical("%s: even its last verdict was refused: %s", item.task, refusal)
                self._deliver(_requeue, [Item(item.task, Released("its verdict was refused", counts=True))])
            case Released():
                logger.critical("%s: it cannot be handed back: %s", item.task, refusal)
            case _:
                logger.error("%s: its verdict %r was refused: %s", item.task, item.outcome, refusal)
                self._deliver(_fail, [Item(item.task, Failed(LAST_RESORT_ERROR))])


def _is_element(task: Holding) -> bool:
    return isinstance(task, ClaimedTask) and task.kind == "map"


def _verdicts_of(outcome: Outcome) -> Verdicts:
    match outcome:
        case Completed():
            return _complete
        case Released(_, counts):
            return _requeue if counts else _release
        case _:
            return _fail


def _complete(tasks: Tasks, items: Sequence[Item]) -> list[str]:
    completed = [item.outcome for item in items if isinstance(item.outcome, Completed)]
    return tasks.complete(
        [item.task for item in items], [one.output for one in completed], [one.evidence for one in completed]
    )


def _fail(tasks: Tasks, items: Sequence[Item]) -> list[str]:
    return tasks.fail([item.task for item in items], list(map(_failed_attempt, items)))


def _failed_attempt(item: Item) -> FailedAttempt:
    match item.outcome:
        case Completed() | Released():
            raise AssertionError(item.outcome)
        case Failed(error, retry_delay, evidence):
            return FailedAttempt(error, retry_delay=retry_delay, evidence=evidence)
        case ended:
            return FailedAttempt(ended.error, ended.kind, evidence=ended.evidence)


def _requeue(tasks: Tasks, items: Sequence[Item]) -> list[str]:
    reasons = [item.outcome.reason for item in items if isinstance(item.outcome, Released)]
    return tasks.requeue([item.task for item in items], reasons)


def _release(tasks: Tasks, items: Sequence[Item]) -> list[str]:
    return tasks.release([item.task for item in items])
