"""Slot: one pebble pool of one process, with its own deadline, death watch and renewal.

One pool per slot, so that a death, a wedge or a kill concerns one slot: kills wait for nobody's lock, and
the dispatcher always knows which task a process holds (the measurements are in docs/pool.md).
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from multiprocessing.context import ForkServerContext
from typing import TYPE_CHECKING, Any

from pebble import ProcessExpired, ProcessFuture

from pgflow.errors import WorkerStartError
from pgflow.outcome import Crashed, Outcome, Released
from pgflow.process import memory, stack
from pgflow.worker import child
from pgflow.worker.autopsy import Autopsy
from pgflow.worker.doomed import Doomed
from pgflow.worker.limits import Limits
from pgflow.worker.logbook import Logbook
from pgflow.worker.oomwatch import OomWatch
from pgflow.worker.paces import MOST_TASKS
from pgflow.worker.poolprocess import PoolProcess
from pgflow.worker.pulse import Pulse
from pgflow.worker.running import OVERWRITTEN, End, Running, Taken, Verdict
from pgflow.worker.slotlistener import SlotListener
from pgflow.worker.tickets import Tickets

if TYPE_CHECKING:
    from pgflow.database.tasks import ClaimedTask

logger = logging.getLogger(__name__)

PEBBLE_MARGIN_SECONDS = 0.7
"""pebble's own timeout comes this much later: the stack is read first, and pebble kills where we did not."""
STUCK_SECONDS = 300.0
"""A start takes 60 s at the most, and its end as long as the flows' import."""
START_DELAY_SECONDS = 1.0
"""So long at the most a start is put off while others are killed."""
_BACKOFF_SECONDS = (0.0, 0.1, 0.5, 1.0, 5.0)


class Slot:
    """Runs one task at a time in a process that is killed at the task's deadline. Short tasks are given to it as a
    series, which costs one message there and one back.

    Threads: ``run`` is called by the dispatcher's thread, ``doom_if_due`` and ``execute_doom`` by the pool's
    watch thread, ``_on_result`` by pebble's; processes are started and discarded by the slot's own thread,
    which lives as long as the slot. Whoever takes ``_running`` under ``_lock`` gives the task its verdict;
    everybody else is late.
    """

    def __init__(
        self,
        settings: child.Settings,
        limits: Limits,
        context: ForkServerContext,
        oom: OomWatch,
        may_start: threading.Event,
        listener: SlotListener,
    ) -> None:
        self._settings = settings
        self.limits = limits
        self._context = context
        self._oom = oom
        self._may_start = may_start
        self._listener = listener
        self._logbook = Logbook(settings.logbook)
        self._tickets = Tickets(settings.tickets)
        self._dump_fd = os.open(settings.stack_dump, os.O_RDWR | os.O_CREAT, 0o600)
        self._lock = threading.Lock()
        self._process: PoolProcess | None = None
        self._starting: PoolProcess | None = None
        self._retired: list[PoolProcess] = []
        self._running: Running | None = None
        self._doomed: Doomed | None = None
        self._tasks_of_process = 0
        self._number = 0
        self._stopping = threading.Event()
        self._has_ended = False
        self._renewal = threading.Event()
        self._renewal.set()
        self._thread = threading.Thread(target=self._loop, name=settings.logbook.stem, daemon=True)
        self.pulse = Pulse(str(self), stuck_after=STUCK_SECONDS)

    def __str__(self) -> str:
        return self._thread.name

    # The slot's own thread.

    def start(self) -> None:
        """Start the slot's thread, which starts the first process."""
        self._thread.start()

    def _loop(self) -> None:
        with self.pulse.life():
            while True:
                with self.pulse.resting():
                    self._renewal.wait()
                self._renewal.clear()
                if self._stopping.is_set():
                    return
                if self._process is None:
                    self._start_process()
                self._discard_retired()

    def _start_process(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self.pulse.beat()
            time.sleep(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])
            try:
                process = self._new_process()
            except Exception as error:  # noqa: BLE001 - whatever it is, the slot goes on trying
                if self._stopping.is_set():
                    return
                failures += 1
                self._listener.slot_failed(self, failures, error)
                continue
            with self._lock:
                self._process = process
                self._tasks_of_process = 0
                self._listener.slot_idle(self)
            self._listener.slot_offered()
            return

    def _new_process(self) -> PoolProcess:
        self._may_start.wait(START_DELAY_SECONDS)
        self._logbook.clear()
        process = PoolProcess.start(self._settings, self._context)
        with self._lock:
            self._starting = process  # from now on ``stop`` ends it
        try:
            if self._stopping.is_set():
                raise WorkerStartError(message=f"{self} was stopped")
            process.import_flows()
        except BaseException:
            process.discard()
            raise
        finally:
            with self._lock:
                self._starting = None
        return process

    def _retire(self, process: PoolProcess, *, kill: bool = False) -> bool:
        """Part with a process, once; the slot's thread then starts another and discards this one. With ``kill`` it has
        ended before its successor starts."""
        with self._lock:
            if self._process is not process:
                return False
            self._process = None
            self._retired.append(process)
        if kill:
            self._kill(process)
        self._renewal.set()
        return True

    def _discard_retired(self) -> None:
        with self._lock:
            retired, self._retired = self._retired, []
        for process in retired:
            process.discard()

    # A task.

    def call(self, function: Callable[[], Any]) -> tuple[ProcessFuture[Any], int]:
        """Run one of ``child``'s functions in the idle process; the result to come and the process's pid."""
        process = self._process
        if process is None:
            raise WorkerStartError(message=f"The process of {self} has died")
        return process.schedule(function), process.pid

    def most_tasks(self) -> int:
        """How many tasks it may be given at a time: its process is looked at after each if its memory is limited."""
        if self.limits.memory_per_process is not None:
            return 1
        most = self.limits.tasks_per_process
        return MOST_TASKS if most is None else max(1, most - self._tasks_of_process)

    def run(self, tasks: Sequence[ClaimedTask], since: float) -> bool:
        """Start a task, or a series of them that have the same limit, in the idle process; they have waited since
        ``since``. If it has died meanwhile, or the slot was stopped, the first ends as Released, and the others are
        returned. False if the slot has a task: it was given one, its process died before that could start, and its
        successor was offered."""
        with self._lock:
            if self._running is not None:
                return False
            self._listener.slot_lost(self)  # it may have been offered again since it was chosen
            process = self._process if not self._stopping.is_set() else None
            first = self._number + 1
            self._number += len(tasks)
            self._tasks_of_process += len(tasks)
            limit = self.limits.of_task(tasks[0].flow_slug, tasks[0].step_slug)
            running = self._running = Running(
                *(first, tasks, since, process, self._logbook, self._tickets, limit, self._oom)
            )
            self._tickets.issue(len(tasks) - 1)
        try:
            if process is None:
                raise RuntimeError(f"{self} has no process")
            future = process.schedule(
                child.run_tasks, first, list(map(_order, tasks)), timeout=_longest(tasks) + PEBBLE_MARGIN_SECONDS
            )
        except RuntimeError as error:
            self._settle(running, Released(str(error)))
        else:
            future.add_done_callback(partial(self._on_result, running))
        return True

    def _on_result(self, running: Running, future: ProcessFuture[child.Answer]) -> None:
        try:
            answer = future.result()
        except FutureTimeoutError:
            self._settle(running, self._why_pebble_killed(running))
        except ProcessExpired as death:
            self._settle_death(running, death.exitcode)
        except BaseException as error:  # noqa: BLE001 - a broken pool or channel must not cost the verdict
            if self._running is running:
                logger.warning("%s: %s ended with %r", self, running.task, error)
            self._settle_death(running, None)
        else:
            outcome = running.outcome(answer)
            if (taken := self._take(running)) is not None:
                is_sound = running.is_of_last(answer)
                outcome = outcome if is_sound else Released(OVERWRITTEN, counts=True)
                self._announce(running, taken, outcome, answer.left, is_sound=is_sound)

    def _why_pebble_killed(self, running: Running) -> Outcome:
        """pebble has killed the process, as the watch did not: then nobody looked, and a result was not read. Or the
        wall clock was put forward, by which pebble goes."""
        if running.has_ended_in_time():
            return Released("its result was not read before its deadline", counts=True)
        if running.clock_was_put_forward():
            return Released("its process was killed before its deadline: the clock was put forward")
        return _judged(running, Autopsy.timed_out, ())

    def _settle_death(self, running: Running, exit_code: int | None) -> None:
        verdict = partial(running.died, exit_code=exit_code)
        self._settle(running, _judged(running, verdict, self._last_frames(running)))

    def _take(self, running: Running) -> Taken | None:
        """What there is of it, if it is the caller's from now on."""
        with self._lock:
            if self._running is not running:
                return None
            taken = running.take()
            self._running = None
            self._tasks_of_process -= len(taken.rest)
            return taken

    def _settle(self, running: Running, outcome: Outcome) -> None:
        """Give the verdict on what its process has begun and not answered."""
        if (taken := self._take(running)) is not None:
            self._announce(running, taken, taken.outcome or outcome, is_sound=False)

    def _announce(
        self, running: Running, taken: Taken, outcome: Outcome, left: str | None = None, *, is_sound: bool
    ) -> None:
        """Tell of the verdict on the last task, and of the others. After anything but a handler's own answer the
        process is not used again: killed while it wrote to the pool's channel, it may have left a lock behind. Nor if
        the handler ``left`` something in it that would meet the next task."""
        process, task = running.process, taken.last
        if process is not None and not is_sound:
            self._kill(process)  # before the verdict: nobody else shall do the task while something of this one goes on
            self._retire(process)
        if isinstance(outcome, Released):
            logger.warning("%s: %s is handed back: %s", self, task, outcome.reason)
        self._tell([*taken.ends, (task, outcome)], running, taken.rest)
        if left is not None:
            self._listener.left_untidy(task, left)
        if process is not None and is_sound:
            if left is not None or self._is_worn(process):
                self._retire(process, kill=left is not None)
            else:
                self._offer(process)

    def _tell(self, ends: Sequence[End], running: Running, rest: Sequence[ClaimedTask]) -> None:
        if rest:
            self._listener.tasks_returned(rest, running.since, running.condemned)
        if ends:
            self._listener.tasks_ended(ends, running.kept_slot_for())

    def _offer(self, process: PoolProcess) -> None:
        """The slot is idle, unless the process died meanwhile and was replaced: its successor was offered then, and may
        have a task."""
        with self._lock:
            if self._process is not process:
                return
            self._listener.slot_idle(self)
        self._listener.slot_offered()

    def _kill(self, process: PoolProcess) -> None:
        try:
            process.kill()
        except Exception:
            # Its verdict must not be lost; what it started is killed with the forkserver's orphans, or at the end.
            logger.exception("%s: its process %d could not be killed in order", self, process.pid)

    def _is_worn(self, process: PoolProcess) -> bool:
        limits = self.limits
        if limits.tasks_per_process is not None and self._tasks_of_process >= limits.tasks_per_process:
            return True
        return limits.memory_per_process is not None and memory.resident(process.pid) > limits.memory_per_process

    # The watch.

    def watched_fd(self) -> int:
        """A descriptor that becomes readable when the process dies; -1 if there is none or that was seen."""
        running = self._running
        process = running.process if running is not None else self._process
        is_known = self._stopping.is_set() or (running is not None and running.death_seen is not None)
        if process is None or is_known:
            return -1
        return process.pidfd

    def next_look(self, awake_since: float) -> float:
        """The ``time.monotonic()`` at which ``doom_if_due`` has to be called again at the latest."""
        running = self._running
        return running.next_look(awake_since) if running is not None else math.inf

    def condemn(self, condemned: Sequence[tuple[ClaimedTask, str]]) -> None:
        """Kill the task that runs, if it is one of these very objects, as soon as the watch looks; for the reason
        given. A task that was handed back and claimed again is equal to what it was."""
        running = self._running
        if running is not None:
            running.condemn(condemned)

    def footprint(self) -> memory.Footprint:
        """What its process takes; nothing if there is none."""
        process = self._process
        return memory.footprint(process.pid) if process is not None else memory.Footprint(0, 0)

    def doom_if_due(self, awake_since: float) -> bool:
        """Whether the running task is to end now by force; then its process has been asked for its stacks.

        ``awake_since`` is the ``time.monotonic()`` since which the watch has looked in time. An idle process that died
        is replaced. One that died in a task gets some time for pebble to report its exit code; if pebble is silent the
        code was 0.
        """
        if self._doomed is not None:
            return False  # its verdict is under way, and its process not idle
        running = self._running
        # The task's own: the slot may have another by now.
        process = running.process if running is not None else self._process
        if process is None or self._stopping.is_set():
            return False
        if process.has_died():
            if running is None:
                self._replace_idle(process)
            elif running.death_seen is None:
                running.death_seen = time.monotonic()
        if running is None:
            return False
        verdict = self._take_if_due(running, awake_since)
        if verdict is None:
            return False
        running.was_stopped = process.request_stack()
        self._doomed = Doomed(running, process, verdict, time.monotonic() + stack.DUMP_TIMEOUT_SECONDS)
        return True

    def _take_if_due(self, running: Running, awake_since: float) -> Verdict | None:
        """Why the task is to end now; then it is the watch's. The rest of its series is taken back before it is asked
        for good: nothing else begins then, and who is killed is who was due."""
        if running.why_now(awake_since) is None and not running.is_lagging():
            return None
        with self._lock:
            if self._running is not running:
                return None
            rest = running.withdraw()
            self._tasks_of_process -= len(rest)
            verdict = running.why_now(awake_since)
            if verdict is not None:
                self._running = None
            ends = running.take_recorded()
        self._tell(ends, running, rest)
        return verdict

    def freeze_doomed(self) -> bool:
        """Whether there is a doomed task that can be killed now."""
        doomed = self._doomed
        return doomed is not None and doomed.freeze(self._dump_fd)

    def execute_doom(self) -> None:
        """Kill the process of the doomed task, with everything it started, and give the verdict."""
        doomed, self._doomed = self._doomed, None
        if doomed is None:
            return
        running = doomed.running
        if running.death_seen is None:
            frames = stack.frames_of_thread(stack.read(self._dump_fd), doomed.process.main_thread)
        else:
            frames = self._last_frames(running)
        taken = running.take()
        outcome = taken.outcome or _judged(running, doomed.verdict, frames)
        self._announce(running, taken, outcome, is_sound=False)

    def is_lost(self) -> bool:
        """Whether it has a process and no task; then it is to be idle, but for a moment."""
        return self._process is not None and self._running is None and self._doomed is None

    def renew(self) -> None:
        """Replace its process; what it runs gets no verdict."""
        process = self._process
        if process is not None:
            self._retire(process, kill=True)

    def _replace_idle(self, process: PoolProcess) -> None:
        with self._lock:
            # A task may have been given to it a moment ago, and its successor must not be taken for lost.
            if self._process is not process or self._running is not None:
                return
            self._process = None
            self._retired.append(process)
            self._listener.slot_lost(self)
        self._renewal.set()
        logger.warning("%s: the idle pool process %d died and is replaced", self, process.pid)

    def _last_frames(self, running: Running) -> tuple[stack.Frame, ...]:
        main_thread = running.process.main_thread if running.process is not None else 0
        return stack.frames_of_crash(stack.read(self._dump_fd), main_thread)

    # The end.

    def stop(self, reason: str) -> None:
        """End the process; a task that still runs is killed and ends as Released(``reason``)."""
        with self._lock:
            self._stopping.set()
            process, running = self._process or self._starting, self._running
        taken = self._take(running) if running is not None else None
        if process is not None:
            self._kill(process)
        if running is not None and taken is not None:
            self._tell([*taken.ends, (taken.last, taken.outcome or Released(reason))], running, taken.rest)
        self._renewal.set()

    def wait_until_ended(self, timeout: float) -> bool:
        """After ``stop``: wait up to ``timeout`` seconds for the slot's thread; then its process has ended."""
        self._thread.join(max(timeout, 0))
        if self._thread.is_alive():
            return False
        if not self._has_ended:
            self._has_ended = True
            if self._process is not None:
                self._retire(self._process)
            self._discard_retired()
            self._logbook.close()
            self._tickets.close()
            os.close(self._dump_fd)
        return True


def _order(task: ClaimedTask) -> child.Order:
    return (
        *(task.flow_slug, task.run_id, task.step_slug, task.task_index),
        *(task.attempt, task.kind, task.input),
    )


def _longest(tasks: Sequence[ClaimedTask]) -> float:
    """The seconds that these may take, as no other is begun after ``child.SERIES_SECONDS``."""
    longest = max(task.timeout for task in tasks)
    return longest if len(tasks) == 1 else longest + child.SERIES_SECONDS


def _judged(running: Running, verdict: Verdict, frames: tuple[stack.Frame, ...]) -> Outcome:
    """The outcome; an error in the making of its card does not cost the verdict."""
    try:
        return verdict(running.autopsy(frames))
    except Exception as error:
        logger.exception("%s: what happened to it cannot be told", running.task)
        return Crashed(f"Task crashed: what happened to its process cannot be told: {error!r}", None)
