"""Slot: one pebble pool of one process, with its own deadline, death watch and renewal.

One pool per slot, so that a death, a wedge or a kill concerns one slot: kills wait for nobody's lock, and
the dispatcher always knows which task a process holds (the measurements are in docs/pool.md).
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkServerContext
from typing import Any, Protocol

from pebble import ProcessExpired, ProcessFuture

from pgflow import executor
from pgflow.database.tasks import ClaimedTask
from pgflow.errors import WorkerStartError
from pgflow.outcome import Completed, Failed, Outcome, Released
from pgflow.process import memory, stack, usage
from pgflow.process.usage import Usage
from pgflow.worker import child
from pgflow.worker.autopsy import Autopsy
from pgflow.worker.limits import Limits
from pgflow.worker.logbook import Logbook
from pgflow.worker.poolprocess import PoolProcess

logger = logging.getLogger(__name__)

PEBBLE_MARGIN_SECONDS = 0.7
"""pebble's own timeout comes this much later: the stack is read first, and pebble kills where we did not."""
EXIT_CODE_SECONDS = 0.1
"""How long pebble may take to report an exit code; it reports every one but 0."""
LOST_SECONDS = 5.0
"""A result is awaited this long after its handler's end, or its process's."""
RESULT_SECONDS = 0.5
"""But not longer than this past the deadline."""
FORKSERVER_SECONDS = 0.1
"""How long the forkserver may take to follow a process that died as if with it."""
BEGIN_SECONDS = 20.0
"""A process that is alive and has not begun its task after this long never will: something has stopped it."""
MEMORY_SECONDS = 0.1
"""How often the memory of a task with a limit is looked at; of one without, at each look of the watch."""
_BACKOFF_SECONDS = (0.0, 0.1, 0.5, 1.0, 5.0)


class SlotListener(Protocol):
    """Who is told what becomes of a slot, from the slot's, pebble's or the watch thread."""

    def task_ended(self, task: ClaimedTask, outcome: Outcome) -> None:
        """Exactly once for every task given to ``Slot.run``."""

    def slot_idle(self, slot: Slot) -> None:
        """The slot can take a task."""

    def slot_lost(self, slot: Slot) -> None:
        """The slot cannot take a task until it is idle again."""

    def left_untidy(self, task: ClaimedTask, left: str) -> None:
        """The task's process is replaced, because of what its handler left in it."""

    def slot_failed(self, slot: Slot, failures: int, error: Exception) -> None:
        """The slot's process did not start, ``failures`` times in a row; the slot goes on trying."""

    def oom_killer_struck(self) -> bool:
        """Whether the kernel's OOM killer has killed somebody a moment ago."""


@dataclass(slots=True, eq=False)
class _Running:
    number: int
    task: ClaimedTask
    submitted: float
    memory_limit: int | None
    death_seen: float | None = None
    exit_code_is_known: bool = False
    """Then whoever knows it gives the verdict, which may take a moment; without it the code is taken for 0."""
    condemned: str | None = None
    """Why nobody waits for it any more."""
    looked: float = 0.0
    cpu: float = 0.0
    peak_rss: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Doomed:
    """A task that was taken from its process, which has been asked for its stacks, and what becomes of it."""

    running: _Running
    verdict: Callable[[Autopsy], Outcome]


class Slot:
    """Runs one task at a time in a process that is killed at the task's deadline.

    Threads: ``run`` is called by the dispatcher's thread, ``doom_if_due`` and ``execute_doom`` by the pool's
    watch thread, ``_on_result`` by pebble's; processes are started and discarded by the slot's own thread,
    which lives as long as the slot. Whoever takes ``_running`` under ``_lock`` gives the task its verdict;
    everybody else is late.
    """

    def __init__(
        self, settings: child.Settings, limits: Limits, context: ForkServerContext, listener: SlotListener
    ) -> None:
        self._settings = settings
        self.limits = limits
        self._context = context
        self._listener = listener
        self._logbook = Logbook(settings.logbook)
        self._dump_fd = os.open(settings.stack_dump, os.O_RDWR | os.O_CREAT, 0o600)
        self._lock = threading.Lock()
        self._process: PoolProcess | None = None
        self._retired: list[PoolProcess] = []
        self._running: _Running | None = None
        self._doomed: _Doomed | None = None
        self._tasks_of_process = 0
        self._number = 0
        self._stopping = threading.Event()
        self._has_ended = False
        self._renewal = threading.Event()
        self._renewal.set()
        self._thread = threading.Thread(target=self._loop, name=settings.logbook.stem, daemon=True)

    def __str__(self) -> str:
        return self._thread.name

    # The slot's own thread.

    def start(self) -> None:
        """Start the slot's thread, which starts the first process."""
        self._thread.start()

    def _loop(self) -> None:
        while True:
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
            time.sleep(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])
            try:
                self._logbook.clear()
                process = PoolProcess.start(self._settings, self._context)
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
            return

    def _retire(self, process: PoolProcess, *, kill: bool = False) -> bool:
        """Part with a process, once; the slot's thread then starts another and discards this one. With ``kill`` it has
        ended before its successor starts."""
        with self._lock:
            if self._process is not process:
                return False
            self._process = None
            self._retired.append(process)
        if kill:
            process.kill()
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

    def run(self, task: ClaimedTask) -> None:
        """Start a task in the idle process. If it has died meanwhile, or the slot was stopped, the task ends as
        Released."""
        with self._lock:
            process = self._process if not self._stopping.is_set() else None
            self._number += 1
            self._tasks_of_process += 1
            limit = self.limits.of_task(task.flow_slug, task.step_slug)
            running = self._running = _Running(self._number, task, time.monotonic(), limit)
        try:
            if process is None:
                raise RuntimeError(f"{self} has no process")
            future = process.schedule(
                child.run_task,
                *(running.number, task.flow_slug, task.run_id, task.step_slug, task.task_index),
                *(task.attempt, task.kind, task.input),
                timeout=task.timeout + PEBBLE_MARGIN_SECONDS,
            )
        except RuntimeError as error:
            self._settle(running, Released(str(error)))
        else:
            future.add_done_callback(partial(self._on_result, running))

    def _on_result(self, running: _Running, future: ProcessFuture[child.Answer]) -> None:
        try:
            kind, text, retry_delay, left = future.result()
        except FutureTimeoutError:
            self._settle(running, self._autopsy(running, ()).timed_out())
        except ProcessExpired as death:
            self._settle_death(running, death.exitcode)
        except BaseException as error:  # noqa: BLE001 - a broken pool or channel must not cost the verdict
            if self._running is running:
                logger.warning("%s: %s ended with %r", self, running.task, error)
            self._settle_death(running, None)
        else:
            seen = self._seen(running)
            completed, failed = Completed(text, seen), Failed(text, retry_delay, seen)
            self._settle(running, completed if kind == child.COMPLETED else failed, left)

    def _take(self, running: _Running) -> bool:
        with self._lock:
            if self._running is not running:
                return False
            self._running = None
            return True

    def _settle(self, running: _Running, outcome: Outcome, left: str | None = None) -> None:
        if self._take(running):
            self._announce(running, outcome, left)

    def _settle_death(self, running: _Running, exit_code: int | None) -> None:
        running.exit_code_is_known = True
        autopsy = self._autopsy(running, self._last_frames())
        self._settle(running, self._died(running, autopsy, exit_code=exit_code))

    def _announce(self, running: _Running, outcome: Outcome, left: str | None = None) -> None:
        """Tell of the verdict. After anything but a handler's own answer the process is not used again: killed
        while it wrote to the pool's channel, it may have left a lock behind. Nor if the handler ``left`` something in
        it that would meet the next task."""
        process = self._process
        is_sound = isinstance(outcome, Completed | Failed)
        if process is not None and not is_sound:
            process.kill()  # before the verdict: nobody else shall do the task while something of this one goes on
            self._retire(process)
        self._listener.task_ended(running.task, outcome)
        if left is not None:
            self._listener.left_untidy(running.task, left)
        if process is not None and is_sound and (left is not None or self._is_worn(process)):
            self._retire(process, kill=left is not None)
        elif is_sound:
            self._listener.slot_idle(self)

    def _is_worn(self, process: PoolProcess) -> bool:
        limits = self.limits
        if limits.tasks_per_process is not None and self._tasks_of_process >= limits.tasks_per_process:
            return True
        return limits.memory_per_process is not None and memory.resident(process.pid) > limits.memory_per_process

    # The watch.

    def watched_fd(self) -> int:
        """A descriptor that becomes readable when the process dies; -1 if there is none or that was seen."""
        process, running = self._process, self._running
        if process is None or (running is not None and running.death_seen is not None):
            return -1
        return process.pidfd

    def next_deadline(self) -> float:
        """The ``time.monotonic()`` at which ``doom_if_due`` has to be called again at the latest."""
        running = self._running
        if running is None:
            return float("inf")
        if running.exit_code_is_known:
            return float("inf")
        due = self._due(running)
        looks_at_memory = running.memory_limit is not None and running.death_seen is None
        return min(due, running.looked + MEMORY_SECONDS) if looks_at_memory else due

    def condemn(self, condemned: Iterable[tuple[ClaimedTask, str]]) -> None:
        """Kill the task that runs, if it is one of these very objects, as soon as the watch looks; for the reason
        given. A task that was handed back and claimed again is equal to what it was."""
        running = self._running
        for task, reason in condemned:
            if running is not None and running.task is task:
                running.condemned = reason

    def resident(self) -> int:
        """Bytes that the process has resident; 0 if there is none."""
        process = self._process
        return memory.resident(process.pid) if process is not None else 0

    def doom_if_due(self) -> bool:
        """Whether the running task is to end now by force; then its process has been asked for its stacks.

        An idle process that died is replaced. One that died in a task gets ``EXIT_CODE_SECONDS`` for pebble to
        report its exit code; if pebble is silent the code was 0.
        """
        process, running = self._process, self._running
        if process is None or self._stopping.is_set():
            return False
        if process.has_died():
            if running is None:
                self._replace_idle(process)
            elif running.death_seen is None:
                running.death_seen = time.monotonic()
        if running is None:
            return False
        verdict = self._why_now(running, process)
        if verdict is None or not self._take(running):
            return False
        self._doomed = _Doomed(running, verdict)
        process.request_stack()
        return True

    def _why_now(self, running: _Running, process: PoolProcess) -> Callable[[Autopsy], Outcome] | None:
        """What becomes of the running task if it is to end by force now."""
        if running.death_seen is None:
            if (reason := running.condemned) is not None:
                return lambda autopsy: autopsy.cancelled(reason)
            if self._takes_too_much(running, process):
                return Autopsy.out_of_memory
        if time.monotonic() < self._due(running):
            return None
        if running.death_seen is not None:
            if running.exit_code_is_known:
                return None
            return partial(self._died, running, exit_code=0)
        if self._logbook.begun().number != running.number:
            return lambda _: Released("its process did not begin it", counts=True)
        return Autopsy.timed_out

    def _takes_too_much(self, running: _Running, process: PoolProcess) -> bool:
        now = time.monotonic()
        if now < running.looked + MEMORY_SECONDS:
            return False
        running.looked = now
        seen = usage.sample(process.pid)
        if seen is None:
            return False
        taken = memory.of_tree(process.pid) if running.memory_limit is not None else seen.peak_rss
        running.cpu, running.peak_rss = seen.cpu, max(running.peak_rss, taken)
        return running.memory_limit is not None and taken > running.memory_limit

    def execute_doom(self, dump_until: float) -> None:
        """Kill the process of the doomed task, with everything it started, and give the verdict."""
        process, doomed = self._process, self._doomed
        if process is None or doomed is None:
            return
        self._doomed = None
        running = doomed.running
        if running.death_seen is None:
            frames = stack.await_dump(self._dump_fd, process.main_thread, dump_until)
        else:
            frames = self._last_frames()
        outcome = doomed.verdict(self._autopsy(running, frames))
        self._announce(running, outcome)

    def _due(self, running: _Running) -> float:
        begun, ended = self._logbook.begun(), self._logbook.ended()
        has_begun = begun.number == running.number
        if running.death_seen is not None:
            return running.death_seen + (EXIT_CODE_SECONDS if has_begun else LOST_SECONDS)
        if not has_begun:
            return running.submitted + BEGIN_SECONDS
        deadline = begun.at + running.task.timeout
        if ended.number != running.number:
            return deadline
        return min(ended.at + LOST_SECONDS, deadline + RESULT_SECONDS)  # its result is on the way

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

    # Outcomes.

    def _died(self, running: _Running, autopsy: Autopsy, *, exit_code: int | None) -> Outcome:
        """A process that dies with the forkserver, which is everybody's parent, is not to blame."""
        process = self._process
        # The end of the forkserver is told by a pipe (255) and by its children's deaths, and only then by its pidfd.
        within = FORKSERVER_SECONDS if exit_code in (None, 255, -signal.SIGKILL) else 0.0
        if process is None or not process.has_lost_its_forkserver(within):
            if self._logbook.begun().number != running.number:
                return Released("its process died before it began it", counts=True)
            return autopsy.ended(exit_code, oom_killer_struck=self._listener.oom_killer_struck())
        logger.error("%s: the forkserver died; %s is handed back", self, running.task)
        return Released("the forkserver died", counts=True)

    def _last_frames(self) -> tuple[stack.Frame, ...]:
        main_thread = self._process.main_thread if self._process is not None else 0
        return stack.frames_of_crash(stack.read(self._dump_fd), main_thread)

    def _autopsy(self, running: _Running, frames: tuple[stack.Frame, ...]) -> Autopsy:
        begun = self._logbook.begun()
        return Autopsy(
            task=running.task,
            elapsed=time.monotonic() - (begun.at if begun.number == running.number else running.submitted),
            usage=self._usage(running, begun.cpu),
            frames=stack.handler_frames(frames, executor.__file__),
            memory_limit=running.memory_limit,
        )

    def _usage(self, running: _Running, cpu_before: float) -> Usage | None:
        """What the task took; of a process that has died, what the watch has seen last."""
        used = self._process.usage() if self._process is not None else None
        if used is not None:
            # /proc counts in ticks of 10 ms, the logbook exactly.
            return Usage(max(0.0, used.cpu - cpu_before), max(used.peak_rss, running.peak_rss))
        return Usage(max(0.0, running.cpu - cpu_before), running.peak_rss) if running.peak_rss else None

    def _seen(self, running: _Running) -> dict[str, float] | None:
        """What was seen of a task whose handler came to its end, for the history."""
        ended = self._logbook.ended()
        if ended.number != running.number:
            return None
        return {
            "elapsed_seconds": round(ended.elapsed, 6),
            "cpu_seconds": round(ended.cpu, 6),
            "peak_rss": ended.peak_rss,
        }

    # The end.

    def stop(self, reason: str) -> None:
        """End the process; a task that still runs is killed and ends as Released(``reason``)."""
        with self._lock:
            self._stopping.set()
            process, running = self._process, self._running
        has_taken = running is not None and self._take(running)
        if process is not None:
            process.kill()
        if running is not None and has_taken:
            self._listener.task_ended(running.task, Released(reason))
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
            os.close(self._dump_fd)
        return True
