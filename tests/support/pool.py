"""A pool whose tasks' ends are checked and queued, and every process that it or its handlers started."""

from __future__ import annotations

import itertools
import json
import os
import queue
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

import psutil

from pgflow.database.tasks import ClaimedTask
from pgflow.outcome import Completed, Outcome
from pgflow.worker.pool import Pool
from tests.support.waiting import wait_until

WAIT_SECONDS = 20
_MARK = "PGFLOW_TEST_POOL"


@dataclass(frozen=True, slots=True)
class End:
    """The end of a task, and the ``time.monotonic()`` at which it came."""

    task: ClaimedTask
    outcome: Outcome
    at: float


class WatchedPool:
    """A pool of one flow, without a database."""

    def __init__(self, reference: str, flow_slug: str, slots: int) -> None:
        self.slots = slots
        self.pool = Pool([reference], "", slots, preload=True)
        self._flow_slug = flow_slug
        self._numbers = itertools.count(1)
        self._given: dict[int, float] = {}
        self._ended: set[int] = set()
        self._ends: queue.SimpleQueue[End] = queue.SimpleQueue()
        self.pool.report_to(lambda task, outcome: self._ends.put(End(task, outcome, time.monotonic())))

    def start(self, step_slug: str, input: object = None, timeout: int = 1) -> ClaimedTask:
        """Start a task as soon as a slot is idle."""
        for _ in range(100):
            wait_for_idle(self.pool)
            if task := self.try_to_start(step_slug, input, timeout):
                return task
        raise AssertionError("slots are idle, but take no task")

    def try_to_start(self, step_slug: str, input: object = None, timeout: int = 1) -> ClaimedTask | None:
        """Start a task if a slot is idle."""
        number = next(self._numbers)
        task = ClaimedTask(
            flow_slug=self._flow_slug,
            run_id=str(uuid.UUID(int=number)),
            step_slug=step_slug,
            task_index=0,
            attempt=1,
            msg_id=number,
            kind="root",
            input=json.dumps(input),
            timeout=timeout,
            worker_id=str(uuid.UUID(int=0)),
            max_attempts=1,
        )
        given = time.monotonic()
        if not self.pool.idle:
            return None
        self.pool.take([task])
        self._given[number] = given
        return task

    def next_end(self, timeout: float = WAIT_SECONDS) -> End | None:
        """The next task's end, its only one; None if there is none within ``timeout`` seconds."""
        with suppress(queue.Empty):
            end = self._ends.get(timeout=timeout)
            assert end.task.msg_id in self._given, f"{end} was not given to the pool"
            assert end.task.msg_id not in self._ended, f"{end} is a second verdict"
            self._ended.add(end.task.msg_id)
            return end
        return None

    def end(self) -> End:
        """The next task's end."""
        end = self.next_end()
        assert end is not None, "no task ended"
        return end

    def given(self, task: ClaimedTask) -> float:
        """The ``time.monotonic()`` at which the task was given to the pool."""
        return self._given[task.msg_id]

    def seconds(self, end: End) -> float:
        """How long the task took, from its start until its verdict."""
        return end.at - self.given(end.task)

    def running(self) -> bool:
        """Whether there is a task whose end has not been taken."""
        return len(self._given) > len(self._ended)

    def wait_until_idle(self) -> None:
        """Until every slot is idle; then all verdicts have been given and taken."""
        wait_until(self._is_idle, "all slots are idle")
        assert self.next_end(0) is None
        assert set(self._given) == self._ended

    def processes(self) -> set[int]:
        """The pids of the slots' processes."""
        return {slot._process.pid for slot in self.pool._slots if slot._process is not None}

    def replace_processes(self) -> None:
        """End all the slots' processes, so that the next test has fresh ones."""
        old = self.processes()
        for pid in old:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: len(new := self.processes()) == self.slots and not new & old and self._is_idle(),
            "all slots have other processes",
        )
        while self.running():
            self.end()

    def _is_idle(self) -> bool:
        return self.pool.idle == self.slots

    def strays(self) -> list[psutil.Process]:
        """The processes of the pool's handlers, found by their environment wherever they went. Not the pool's own."""
        server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
        own = [os.getpid(), server]
        return [process for process, parent in _marked() if process.pid not in own and parent not in own]


def wait_for_idle(pool: Pool) -> None:
    """Until a slot is idle."""
    wait_until(lambda: pool.idle, "a slot is idle", WAIT_SECONDS)


@contextmanager
def watched_pool(reference: str, flow_slug: str, slots: int) -> Iterator[WatchedPool]:
    """A running pool, with a forkserver of its own, that leaves no process behind."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    os.environ[_MARK] = str(uuid.uuid4())
    watched = WatchedPool(reference, flow_slug, slots)
    watched.pool.start()
    try:
        yield watched
        watched.wait_until_idle()
        watched.pool.stop("the test is over")
        assert watched.pool.wait_until_ended(WAIT_SECONDS)
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        wait_until(lambda: not _not_ours(), "no process is left", 5)
    finally:
        watched.pool.abandon()
        kill(_not_ours())
        del os.environ[_MARK]


def meet(pool: WatchedPool, folder: Path) -> None:
    """Every slot runs an innocent task of the catalogue, all at once."""
    folder.mkdir()
    numbers = range(pool.slots)
    for number in numbers:
        pool.start("meet", {"folder": str(folder), "count": pool.slots, "number": number}, 60)
    assert {pool.end().outcome for _ in numbers} == {Completed(str(number)) for number in numbers}


def kill(processes: list[psutil.Process]) -> None:
    """End what a test must not leave behind."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _not_ours() -> list[psutil.Process]:
    return [process for process, parent in _marked() if parent != os.getpid()]


def _marked() -> list[tuple[psutil.Process, int]]:
    """The living processes that have the pool's mark, and the pids of their parents."""
    mark = os.environ[_MARK]
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(_MARK) == mark:
                found.append((process, process.ppid()))
    return found
