"""Slot: one pebble pool of one process, with its own deadline, death watch and renewal.

One pool per slot, so that a death, a wedge or a kill concerns one slot: kills wait for nobody's lock, and
the dispatcher always knows which task a process holds (the measurements are in docs/pool.md).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkServerContext
from typing import Any, Protocol

from pebble import ProcessExpired, ProcessFuture

from pgflow import executor
from pgflow.database.tasks import ClaimedTask
from pgflow.errors import WorkerStartError
from pgflow.outcome import Completed, Crashed, Failed, Outcome, Released, TimedOut
from pgflow.process import card, stack
from pgflow.process.usage import Usage
from pgflow.worker import child
from pgflow.worker.logbook import Logbook
from pgflow.worker.poolprocess import PoolProcess

logger = logging.getLogger(__name__)

PEBBLE_MARGIN_SECONDS = 0.2
"""pebble's own timeout comes this much later: the stack is read first, and pebble kills where we did not."""
EXIT_CODE_SECONDS = 0.1
"""How long pebble may take to report an exit code; it reports every one but 0."""
LOST_SECONDS = 5.0
"""A result is awaited this long after its process died, and a beginning after the whole timeout has passed."""
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


@dataclass(slots=True, eq=False)
class _Running:
    number: int
    task: ClaimedTask
    submitted: float
    death_seen: float | None = None


class Slot:
    """Runs one task at a time in a process that is killed at the task's deadline.

    Threads: ``run`` is called by the dispatcher's thread, ``doom_if_due`` and ``execute_doom`` by the pool's
    watch thread, ``_on_result`` by pebble's; processes are started and discarded by the slot's own thread,
    which lives as long as the slot. Whoever takes ``_running`` under ``_lock`` gives the task its verdict;
    everybody else is late.
    """

    def __init__(self, settings: child.Settings, context: ForkServerContext, listener: SlotListener) -> None:
        self._settings = settings
        self._context = context
        self._listener = listener
        self._logbook = Logbook(settings.logbook)
        self._dump_fd = os.open(settings.stack_dump, os.O_RDWR | os.O_CREAT, 0o600)
        self._lock = threading.Lock()
        self._process: PoolProcess | None = None
        self._retired: list[PoolProcess] = []
        self._running: _Running | None = None
        self._doomed: _Running | None = None
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
                self._logbook.end()
                process = PoolProcess.start(self._settings, self._context)
            except Exception as error:  # noqa: BLE001 - whatever it is, the slot goes on trying
                if self._stopping.is_set():
                    return
                failures += 1
                self._listener.slot_failed(self, failures, error)
                continue
            with self._lock:
                self._process = process
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
            running = self._running = _Running(self._number, task, time.monotonic())
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
            self._settle(running, self._timed_out(running, ()))
        except ProcessExpired as death:
            self._settle(running, self._died(running, death.exitcode))
        except BaseException as error:  # noqa: BLE001 - a broken pool or channel must not cost the verdict
            if self._running is running:
                logger.warning("%s: %s ended with %r", self, running.task, error)
            self._settle(running, self._died(running, None))
        else:
            self._settle(running, Completed(text) if kind == child.COMPLETED else Failed(text, retry_delay), left)

    def _take(self, running: _Running) -> bool:
        with self._lock:
            if self._running is not running:
                return False
            self._running = None
            return True

    def _settle(self, running: _Running, outcome: Outcome, left: str | None = None) -> None:
        if self._take(running):
            self._announce(running, outcome, left)

    def _announce(self, running: _Running, outcome: Outcome, left: str | None = None) -> None:
        """Tell of the verdict. After anything but a handler's own answer the process is not used again: killed
        while it wrote to the pool's channel, it may have left a lock behind. Nor if the handler ``left`` something in
        it that would meet the next task."""
        process = self._process
        is_sound = isinstance(outcome, Completed | Failed)
        if process is not None and not is_sound:
            self._retire(process)
        self._listener.task_ended(running.task, outcome)
        if is_sound and left is None:
            self._listener.slot_idle(self)
        elif left is not None and process is not None and self._retire(process, kill=True):
            self._listener.left_untidy(running.task, left)

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
        return self._due(running) if running is not None else float("inf")

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
        if running is None or time.monotonic() < self._due(running) or not self._take(running):
            return False
        self._doomed = running
        process.request_stack()
        return True

    def execute_doom(self, dump_until: float) -> None:
        """Kill the process of the doomed task, with everything it started, and give the verdict."""
        process, running = self._process, self._doomed
        if process is None or running is None:
            return
        self._doomed = None
        outcome: Outcome
        if running.death_seen is not None:
            outcome = self._died(running, 0)
        else:
            frames = stack.await_dump(self._dump_fd, process.main_thread, dump_until)
            outcome = self._timed_out(running, frames)
        process.kill()
        self._announce(running, outcome)

    def _due(self, running: _Running) -> float:
        began = self._began(running)
        if running.death_seen is not None:
            return running.death_seen + (EXIT_CODE_SECONDS if began is not None else LOST_SECONDS)
        if began is not None:
            return began + running.task.timeout
        # It has not begun, or it has ended and its result is on the way: the last note does not say which.
        return running.submitted + running.task.timeout + LOST_SECONDS

    def _began(self, running: _Running) -> float | None:
        entry = self._logbook.read()
        return entry.began if entry.number == running.number else None

    def _replace_idle(self, process: PoolProcess) -> None:
        if self._retire(process):
            logger.warning("%s: the idle pool process %d died and is replaced", self, process.pid)
            self._listener.slot_lost(self)

    # Outcomes.

    def _timed_out(self, running: _Running, frames: tuple[stack.Frame, ...]) -> TimedOut:
        timeout = float(running.task.timeout)
        return TimedOut(card.timed_out(timeout, self._evidence(running, frames)), timeout)

    def _died(self, running: _Running, exit_code: int | None) -> Crashed | Released:
        """A process that dies with the forkserver, which is everybody's parent, is not to blame."""
        process = self._process
        if process is None or not process.has_lost_its_forkserver():
            return self._crashed(running, exit_code)
        logger.error("%s: the forkserver died; %s is handed back", self, running.task)
        process.kill()  # it may go on for a moment, and nobody else shall do its task meanwhile
        return Released("the forkserver died")

    def _crashed(self, running: _Running, exit_code: int | None) -> Crashed:
        process = self._process
        main_thread = process.main_thread if process is not None else 0
        frames = stack.frames_of_thread(stack.read(self._dump_fd), main_thread)
        return Crashed(card.crashed(exit_code, self._evidence(running, frames)), exit_code)

    def _evidence(self, running: _Running, frames: tuple[stack.Frame, ...]) -> card.Evidence:
        entry, process = self._logbook.read(), self._process
        used = process.usage() if process is not None else None
        return card.Evidence(
            frames=stack.handler_frames(frames, executor.__file__),
            usage=Usage(used.cpu - entry.cpu, used.peak_rss) if used is not None else None,
            elapsed=time.monotonic() - (entry.began if entry.number == running.number else running.submitted),
            attempt=f"attempt {running.task.attempt} of {max(1, running.task.max_attempts)}",
        )

    # The end.

    def stop(self, reason: str) -> None:
        """End the process; a task that still runs is killed and ends as Released(``reason``)."""
        with self._lock:
            self._stopping.set()
            process, running = self._process, self._running
        if running is not None and self._take(running):
            if process is not None:
                process.kill()
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
