"""Pool: all slots of a worker, which of them are idle, and the watch over deadlines and deaths."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import multiprocessing
import os
import select
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pebble
from pebble import ProcessExpired, ProcessFuture

from pgflow.errors import FlowImportError, PgflowError, WorkerStartError
from pgflow.outcome import Outcome, Released
from pgflow.process import lifeline, marker, tree
from pgflow.process.memory import Footprint
from pgflow.worker import child, poolprocess
from pgflow.worker import preload as preload_module
from pgflow.worker.flows import FlowDescriptions, read_description
from pgflow.worker.limits import Limits
from pgflow.worker.lookahead import LookAhead
from pgflow.worker.oomwatch import OomWatch
from pgflow.worker.paces import Paces
from pgflow.worker.poolprocess import EndedByImportError, exists
from pgflow.worker.printed import Printed
from pgflow.worker.pulse import Pulse
from pgflow.worker.running import End, not_started
from pgflow.worker.slot import Slot
from pgflow.worker.untidy import Untidy
from pgflow.worker.watchdog import dump_stacks

if TYPE_CHECKING:
    from pgflow.database.tasks import ClaimedTask

logger = logging.getLogger(__name__)

_DEADLY = "it ended the process that imported it (os._exit, a signal, or a crash in C code)"
MAX_START_FAILURES = 3
"""A worker whose first process fails to start this often in a row does not start."""
MAX_RESTART_FAILURES = 10
"""A worker that has started ends when the processes of all its slots fail to start this often in a row, some 35 s: it
would claim nothing any more, and tell others that it lives."""
WATCH_SECONDS = 0.2
"""The watch looks at least this often. Declared timeouts are whole seconds, so a task that begins after a look
cannot be due before the next one, and starting a task need not wake the watch."""
_LAST_WORDS_SECONDS = 1.0
"""How long the end of a pool that is abandoned may wait for what was printed to be logged."""
LONGEST_WAIT_SECONDS = 1.0
"""So long may a task wait for a slot; then it goes back to its queue, for other workers."""
DUMP_POLL_SECONDS = 0.001
DOOM_SECONDS = 0.5
"""So long one round of kills takes in what becomes due meanwhile; the watch has other duties, too."""
KILLS_AT_ONCE = 4
"""Then it is looked what else has become due."""
LATE_SECONDS = 1.0
"""A look that comes so much later than it should: this process, or the machine, stood still."""
WATCH_STUCK_SECONDS = 20.0
LOST_SECONDS = 20.0
"""A slot whose process is neither idle nor at work for this long is lost to a fault of ours, and gets another."""


class _Waiting(NamedTuple):
    """A task for which no slot is idle yet, and the ``time.monotonic()`` since when."""

    task: ClaimedTask
    since: float


class Pool:
    """Slots that run tasks.

    Threads: ``pgflow-watch`` looks after deadlines and deaths; ``take_idle`` and ``run`` are for the
    dispatcher's thread; who is given to ``report_to`` is called, once for every task, from whichever thread learns of
    its end. ``on_look`` is called by the watch, at least every WATCH_SECONDS.
    """

    def __init__(
        self,
        references: Sequence[str],
        conninfo: str,
        slots: int,
        *,
        preload: bool,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=lifeline.folder_prefix(marker.identity)))
        self._importing = self._folder / "importing"
        self._printed = Printed()
        self._untidy = Untidy()
        self._on_ends: Callable[[Sequence[End]], None]
        self._references = tuple(references)
        self._preload = preload
        self._on_look = on_look
        self._changed = threading.Condition()
        self._idle: dict[Slot, None] = {}
        self._waiting: deque[_Waiting] = deque()
        self._limits = limits
        self._look_ahead = LookAhead(slots)
        self._paces = Paces()
        self._feeding = threading.local()
        self._stopped: str | None = None
        self._draining: str | None = None  # why nothing that waits is started any more
        self._held = 0
        self._has_ended = False
        self._start_failure: Exception | None = None
        self._failures: dict[Slot, int] = {}
        self._description: ProcessFuture[str] | None = None
        self._describer = 0
        self._is_described = False
        context = multiprocessing.get_context("forkserver")
        self._oom = OomWatch()
        self._may_start = threading.Event()
        """No process is started while there is somebody to kill: it takes 30 ms of the processor."""
        self._may_start.set()
        self._slots = [
            Slot(self._settings(number, conninfo, limits), limits, context, self._oom, self._may_start, listener=self)
            for number in range(1, slots + 1)
        ]
        self._look_reader, self._look_writer = os.pipe()
        os.set_blocking(self._look_writer, False)
        self._pulse = Pulse("watch over the pool", stuck_after=WATCH_STUCK_SECONDS)
        self._lost: dict[Slot, float] = {}
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._loop, name="pgflow-watch", daemon=True)

    def _settings(self, number: int, conninfo: str, limits: Limits) -> child.Settings:
        return child.Settings(
            references=self._references,
            conninfo=conninfo,
            logbook=self._folder / f"slot-{number}.logbook",
            tickets=self._folder / f"slot-{number}.tickets",
            stack_dump=self._folder / f"slot-{number}.stack",
            address_space=limits.address_space,
            outlet=self._printed.add(self._folder / f"slot-{number}.output", f"slot-{number}"),
        )

    def start(self) -> None:
        """Start the forkserver, which imports the flows, and a process for each slot."""
        poolprocess.let_pebble_look(often=True)
        pebble.CONSTS.term_timeout = 0  # its SIGTERM is ignored on purpose (child.keep_running): SIGKILL at once
        preload_module.announce(self._references if self._preload else (), self._importing)
        multiprocessing.set_forkserver_preload([preload_module.__name__])
        self._printed.start()
        for slot in self._slots:
            slot.start()
        self._watch.start()

    def describe_flows(self, timeout: float) -> FlowDescriptions | None:
        """The flows, learnt from the first process; None if they are not known after ``timeout`` seconds, as their
        import takes what it takes. Then ask again.

        Raises what the import raised, FlowNotFoundError, FlowImportError or FlowDefinitionError, FlowImportError
        also if the import ended its process, and WorkerStartError if no pool process starts.
        """
        if self._description is None:
            with self._changed:
                if not self._changed.wait_for(lambda: self._idle or self._start_failure, timeout):
                    return None
                if not self._idle:
                    raise self._why_none_starts()
                slot = next(iter(self._idle))
            self._description, self._describer = slot.call(child.describe_flows)
        try:
            described = read_description(self._description.result(timeout))
            self._is_described = True
        except FutureTimeoutError:
            if exists(self._describer):
                return None
        except (ProcessExpired, BrokenProcessPool):
            pass
        else:
            return described
        # pebble tells of every exit code but 0.
        raise self._deadly()

    def _deadly(self) -> FlowImportError:
        return FlowImportError(reference=" or ".join(self._references), reason=_DEADLY)

    def _why_none_starts(self) -> PgflowError:
        if isinstance(self._start_failure, EndedByImportError):
            return self._deadly()
        if culprit := self._deadly_import():
            return FlowImportError(reference=culprit, reason=_DEADLY)
        return WorkerStartError(message=f"Pool processes do not start: {self._start_failure!r}")

    def _deadly_import(self) -> str:
        """The reference whose import ended the forkserver, if one did."""
        return self._importing.read_text() if self._importing.exists() else ""

    # For the dispatcher.

    def report_to(self, on_end: Callable[[ClaimedTask, Outcome], None]) -> None:
        """Who is told of the end of each task; to be said before the first is run."""

        def on_ends(ends: Sequence[End]) -> None:
            for task, outcome in ends:
                on_end(task, outcome)

        self.report_all_to(on_ends)

    def report_all_to(self, on_ends: Callable[[Sequence[End]], None]) -> None:
        """The same, of some at a time."""
        self._on_ends = on_ends

    def wait_for_demand(self, timeout: float) -> int:
        """How many more tasks it can take, after waiting up to ``timeout`` seconds for there to be a demand: those that
        idle slots can start, and some for which slots will be free soon."""
        with self._changed:
            self._changed.wait_for(lambda: self._demand() or self._stopping.is_set(), timeout)
            return self._demand()

    @property
    def idle(self) -> int:
        """How many slots are idle at this moment."""
        return len(self._idle)

    @property
    def is_sated(self) -> bool:
        """Whether every slot has a task, and more wait for them."""
        return not self._idle and bool(self._waiting)

    def _demand(self) -> int:
        free = self.idle - len(self._waiting)
        ahead = self._look_ahead.tasks()
        demand = free + ahead
        # As long as a third of them wait, it is not worth a round trip.
        return demand if free > 0 or demand > ahead * 2 / 3 else 0

    def take(self, tasks: Sequence[ClaimedTask]) -> None:
        """Take over tasks: each is given to the next slot that is idle, and its end is reported. After ``stop`` they
        end as Released."""
        now = time.monotonic()
        poolprocess.let_pebble_look(often=True)
        with self._changed:
            self._held += len(tasks)
            self._waiting.extend(_Waiting(task, now) for task in tasks)
            stopped = self._stopped
        if stopped is not None:
            self.hand_back_waiting(stopped)
        self._feed()

    def hand_back_waiting(self, reason: str, longer_than: float = 0.0) -> None:
        """Tasks that have waited so many seconds for a slot end as Released(``reason``)."""
        since = time.monotonic() - longer_than
        returned: list[ClaimedTask] = []
        with self._changed:
            self._draining = self._draining if longer_than else reason
            while self._waiting and self._waiting[0].since <= since:
                returned.append(self._waiting.popleft().task)
        if returned:
            logger.info("%d tasks that were claimed ahead go back to their queues: %s", len(returned), reason)
        self._end([(task, Released(reason)) for task in returned])

    def _feed(self) -> None:
        """Give waiting tasks to idle slots. Called without a lock, whenever there are more of either.

        A task may end before its slot has been left, and its end comes here again; that is left to the caller below.
        """
        if getattr(self._feeding, "is_under_way", False):
            return
        self._feeding.is_under_way = True
        try:
            while (chosen := self._next_series()) is not None:
                slot, series = chosen
                if not slot.run([waiting.task for waiting in series], series[0].since):
                    with self._changed:
                        self._waiting.extendleft(reversed(series))
        finally:
            self._feeding.is_under_way = False

    def _next_series(self) -> tuple[Slot, list[_Waiting]] | None:
        """An idle slot, and what it is to be given."""
        with self._changed:
            if not self._idle or not self._waiting:
                return None
            if self._waiting[0].since < time.monotonic() - LONGEST_WAIT_SECONDS:
                return None  # the watch hands it back: this process, or the machine, stood still
            idle = self.idle
            slot, _ = self._idle.popitem()
            series = self._take_series(idle, slot.most_tasks())
            if self._demand():
                self._changed.notify_all()
            return slot, series

    def _take_series(self, idle: int, most: int) -> list[_Waiting]:
        """What one of so many idle slots is given: no more than its share, so that none stays idle while another has
        several."""
        share = itertools.islice(self._waiting, min(most, max(1, len(self._waiting) // idle)))
        return [self._waiting.popleft() for _ in range(self._paces.series([one.task for one in share], self._limits))]

    def condemn(self, condemned: Sequence[tuple[ClaimedTask, str]]) -> None:
        """Kill those of the tasks that still run, and do not start those that wait, for the reasons given: nobody waits
        for their results any more. They end as Cancelled."""
        self._end([not_started(task, reason) for task, reason in self._take_waiting(condemned)])
        for slot in self._slots:
            slot.condemn(condemned)
        with contextlib.suppress(BlockingIOError):  # full: the watch looks in any case
            os.write(self._look_writer, b"!")

    def _take_waiting(self, condemned: Sequence[tuple[ClaimedTask, str]]) -> list[tuple[ClaimedTask, str]]:
        """Those that wait, by identity: a task that was handed back and claimed again is equal to what it was."""
        with self._changed:
            wait = {id(waiting.task) for waiting in self._waiting}
            taken = [(task, reason) for task, reason in condemned if id(task) in wait]
            gone = {id(task) for task, _ in taken}
            if gone:
                self._waiting = deque(waiting for waiting in self._waiting if id(waiting.task) not in gone)
        return taken

    @property
    def pulses(self) -> list[Pulse]:
        """Those of its threads."""
        return [self._pulse, self._printed.pulse, *(slot.pulse for slot in self._slots)]

    def limit(self, limits: Limits) -> None:
        """The limits with what the flows declare; to be said before the first task is run."""
        self._limits = limits
        for slot in self._slots:
            slot.limits = limits

    def footprint(self) -> Footprint:
        """What the largest pool process takes; asked for before the first task, an idle one."""
        return max((slot.footprint() for slot in self._slots), key=lambda one: one.resident)

    def wait_until_empty(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until no task is held any more; whether that is so. Each task has a
        deadline, so it will be."""
        with self._changed:
            return self._changed.wait_for(lambda: self._held == 0, timeout)

    # SlotListener.

    def tasks_ended(self, ends: Sequence[End], seconds: float) -> None:
        self._look_ahead.note(len(ends), seconds, sum(len(task.input) for task, _ in ends))
        for task, outcome in ends:
            self._paces.note(task, outcome)
        self._end(ends)

    def tasks_returned(self, tasks: Sequence[ClaimedTask], since: float, condemned: Mapping[int, str]) -> None:
        condemned = dict(condemned)  # another thread may add to it between the two looks
        over = [not_started(task, condemned[id(task)]) for task in tasks if id(task) in condemned]
        with self._changed:
            draining = self._draining
            self._waiting.extendleft(_Waiting(task, since) for task in reversed(tasks) if id(task) not in condemned)
        self._end(over)
        if draining is not None:
            self.hand_back_waiting(draining)
        self._feed()

    def _end(self, ends: Sequence[End]) -> None:
        if not ends:
            return
        self._on_ends(ends)
        with self._changed:
            self._held -= len(ends)
            if self._held == 0:
                self._changed.notify_all()

    def slot_idle(self, slot: Slot) -> None:
        with self._changed:
            self._failures.pop(slot, None)
            self._idle[slot] = None
            if not self._waiting:
                self._changed.notify_all()

    def slot_offered(self) -> None:
        self._feed()

    def slot_lost(self, slot: Slot) -> None:
        with self._changed:
            self._idle.pop(slot, None)

    def left_untidy(self, task: ClaimedTask, left: str) -> None:
        self._untidy.report(task, left)

    def slot_failed(self, slot: Slot, failures: int, error: Exception) -> None:
        is_deadly = isinstance(error, EndedByImportError) or bool(self._deadly_import())
        if not is_deadly or self._is_described:  # else the start fails with it
            logger.error("%s: its process did not start, failure %d: %r", slot, failures, error)
        with self._changed:
            self._failures[slot] = failures
            if is_deadly or failures >= MAX_START_FAILURES:
                self._start_failure = error
                self._changed.notify_all()
            if len(self._failures) == len(self._slots) and min(self._failures.values()) >= MAX_RESTART_FAILURES:
                self._pulse.given_up = f"no pool process starts any more, the last failure was {error!r}"

    # The watch.

    def _loop(self) -> None:
        awake_since, looked = -math.inf, time.monotonic()
        with self._pulse.life():
            while not self._stopping.is_set():
                self._pulse.beat()
                self._sleep(awake_since)
                now = time.monotonic()
                if now - looked > WATCH_SECONDS + LATE_SECONDS:
                    awake_since = now
                looked = now
                self._oom.look()
                self._on_look()
                poolprocess.let_pebble_look(often=self._held > 0)
                self._execute_doomed(awake_since)
                self._replace_lost(now)
                self.hand_back_waiting("no slot became free for it", LONGEST_WAIT_SECONDS)

    def _execute_doomed(self, awake_since: float) -> None:
        """Kill what is due, and what becomes due meanwhile: first all are asked for their stacks, who has written them
        is stopped, and only then one after the other is killed."""
        asked: list[Slot] = []
        until = time.monotonic() + DOOM_SECONDS
        try:
            while True:
                self._pulse.beat()
                if time.monotonic() < until:
                    asked += [slot for slot in self._slots if slot.doom_if_due(awake_since)]
                if not asked:
                    return
                self._may_start.clear()
                frozen = [slot for slot in asked if slot.freeze_doomed()]
                for slot in frozen[:KILLS_AT_ONCE]:
                    slot.execute_doom()
                    asked.remove(slot)
                if not frozen:
                    time.sleep(DUMP_POLL_SECONDS)
        finally:
            self._may_start.set()

    def _replace_lost(self, now: float) -> None:
        with self._changed:
            lost = [slot for slot in self._slots if slot not in self._idle and slot.is_lost()]
        self._lost = {slot: self._lost.get(slot, now) for slot in lost}
        for slot, since in self._lost.items():
            if now - since > LOST_SECONDS:
                logger.error("%s is neither idle nor at work: its process is replaced", slot)
                dump_stacks()
                slot.renew()

    def _sleep(self, awake_since: float) -> None:
        """Until a process dies, a deadline comes, a task is condemned, or WATCH_SECONDS have passed."""
        poller = select.poll()
        poller.register(self._look_reader, select.POLLIN)
        for slot in self._slots:
            if (descriptor := slot.watched_fd()) >= 0:
                poller.register(descriptor, select.POLLIN)
        now = time.monotonic()
        next_look = min(now + WATCH_SECONDS, *(slot.next_look(awake_since) for slot in self._slots))
        ready = poller.poll(max(0.0, next_look - now) * 1000)
        if any(descriptor == self._look_reader for descriptor, _ in ready):
            os.read(self._look_reader, 4096)

    # The end.

    def stop(self, reason: str) -> None:
        """End all processes at once; tasks that still run end as Released(``reason``)."""
        with self._changed:
            self._stopped = reason
        self.hand_back_waiting(reason)
        for slot in self._slots:
            slot.stop(reason)

    def wait_until_ended(self, timeout: float) -> bool:
        """After ``stop``: wait up to ``timeout`` seconds for all processes and threads; whether they have ended."""
        self._stopping.set()
        deadline = time.monotonic() + timeout
        self._watch.join(timeout)
        ended = [slot.wait_until_ended(deadline - time.monotonic()) for slot in self._slots]
        if self._watch.is_alive() or not all(ended) or not self._printed.stop(deadline - time.monotonic()):
            return False
        if not self._has_ended:
            self._has_ended = True
            os.close(self._look_reader)
            os.close(self._look_writer)
        shutil.rmtree(self._folder, ignore_errors=True)
        return True

    def abandon(self) -> None:
        """End all processes without waiting for threads: one may be starting a process, and importing the flows."""
        self._stopping.set()
        self.stop("the worker was ended")
        # No public way to its pid; the processes that it started die with it (child.initialize).
        if pid := getattr(forkserver._forkserver, "_forkserver_pid", None):
            tree.kill(pid)
        self._printed.stop(_LAST_WORDS_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)
