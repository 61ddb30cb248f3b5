"""PoolProcess: one warmed-up process with the pebble pool that started it."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing.process
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from typing import Any

import pebble
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from pgflow.process import proc, stack, tree, usage
from pgflow.worker import child, leftovers

START_TIMEOUT_SECONDS = 60.0
_LOOK_SECONDS = 0.2
PEBBLE_SLEEP_SECONDS = 0.05
"""How long a process's death waits for pebble's word of its exit code. With 0.02 two slots cost 1.2 % of a core more
while they work."""
PEBBLE_IDLE_SECONDS = 0.2
"""While there is no task; the watch sees idle processes die. On a slow machine 64 slots cost 34 % of a core with 0.02,
11 % with 0.1, 5.2 % with this; two cost 3.3, 0.9 and 0.5 %."""


class EndedByImportError(Exception):
    """Importing the flows ended the process."""


@dataclass(frozen=True, slots=True)
class _Watched:
    """A process that is known by its pid until it ends; ``pidfd`` is -1 where the platform has none. ``start`` is
    ``proc.start``."""

    pid: int
    pidfd: int
    start: int | None

    @classmethod
    def of(cls, pid: int) -> _Watched:
        return cls(pid, _pidfd(pid), proc.start(pid))

    def has_died(self, within: float = 0.0) -> bool:
        if self.pidfd < 0:
            return not exists(self.pid)
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(within * 1000))

    def close(self) -> None:
        if self.pidfd >= 0:
            with contextlib.suppress(OSError):
                os.close(self.pidfd)


@dataclass(frozen=True, slots=True, eq=False)
class PoolProcess:
    """A process that takes one task at a time."""

    pool: ProcessPool
    main_thread: int
    _process: _Watched
    _forkserver: _Watched
    _workers: Sequence[Any]
    """multiprocessing's own handle of the process."""

    @classmethod
    def start(cls, settings: child.Settings, context: ForkServerContext) -> PoolProcess:
        """Start a process and wait until it answers. Raises whatever kept it from answering."""
        pool = ProcessPool(max_workers=1, initializer=child.initialize, initargs=(settings,), context=context)
        with contextlib.ExitStack() as undo:
            undo.callback(_end, pool)
            pid, main_thread, forkserver_pid = _first_answer(pool)
            process = _Watched.of(pid)
            undo.callback(process.close)
            workers: list[Any] = list(pool._pool_manager.worker_manager.workers.values())  # no public way to them
            started = cls(
                pool, main_thread, process, _Watched.of(forkserver_pid), [worker._popen for worker in workers]
            )
            leftovers.pool_processes.add(pid)
            _keep_from_cleanup(workers)
            undo.pop_all()
        return started

    def import_flows(self) -> None:
        """Wait until the process has the flows. Raises EndedByImportError if their import ended it."""
        imported = self.schedule(child.import_flows)
        until = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            try:
                imported.result(_LOOK_SECONDS)
            except FutureTimeoutError:
                # pebble tells of every exit code but 0.
                if self.has_died():
                    raise EndedByImportError from None
                if time.monotonic() >= until:
                    raise
            except (ProcessExpired, BrokenProcessPool):
                raise EndedByImportError from None
            else:
                return

    @property
    def pid(self) -> int:
        """The process's pid."""
        return self._process.pid

    @property
    def pidfd(self) -> int:
        """A descriptor that becomes readable when the process dies; -1 where the platform has none."""
        return self._process.pidfd

    def schedule(
        self, function: Callable[..., Any], *arguments: Any, timeout: float | None = None
    ) -> ProcessFuture[Any]:
        """Give the process something to do; ``timeout`` in seconds. Raises RuntimeError if it cannot."""
        if self.has_died():
            raise RuntimeError(f"pool process {self.pid} died while it was idle")
        return self.pool.schedule(function, args=arguments, timeout=timeout)

    def has_died(self) -> bool:
        """Whether the process has ended, whatever its exit code."""
        return self._process.has_died()

    @property
    def exit_code(self) -> int | None:
        """What pebble has learnt of the process's end; None as long as it has not. It does not tell of 0."""
        return next((popen.returncode for popen in self._workers), None)

    def has_lost_its_forkserver(self, within: float = 0.0) -> bool:
        """Whether the forkserver that started it has ended, or ends within so many seconds; the process ends with it,
        and is not to blame."""
        return self._forkserver.has_died(within)

    def usage(self) -> usage.Usage | None:
        """CPU and memory since the process started; None once it has ended."""
        return usage.of_process(self.pid)

    def request_stack(self) -> bool:
        """Ask the process for its stacks; whether a signal had stopped it."""
        return not self.has_died() and stack.request(self.pid)

    def freeze(self) -> None:
        """Stop the process, until it is killed."""
        if not self.has_died():  # else its pid may be another's
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGSTOP)

    def kill(self) -> None:
        """Kill the process and everything it started, also if it has died already. The pool is of no use
        afterwards."""
        # Stopped before the kill, so that pebble starts no process in its place.
        self.pool.stop()  # type: ignore[no-untyped-call]
        if not self.has_died():  # else its pid may be another's
            tree.kill(self.pid)
        elif self.has_lost_its_forkserver():
            leftovers.kill_strays()
        else:
            leftovers.kill(self._forkserver.pid, self._process.start)

    def discard(self) -> None:
        """End the process, with everything that its handlers started and left, and wait for the pool's threads."""
        self.kill()
        _end(self.pool)
        self.kill()  # what was started in the moment of the first
        leftovers.pool_processes.discard(self.pid)
        self._process.close()
        self._forkserver.close()


def _first_answer(pool: ProcessPool) -> tuple[int, int, int]:
    """What ``child.warm_up`` tells. A pool whose process ended at once may break before it has noted the call, and then
    says nothing of it for ever."""
    answer = pool.schedule(child.warm_up)
    until = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        is_active = pool.active  # asked before: an answer that comes meanwhile counts
        try:
            return answer.result(_LOOK_SECONDS)
        except FutureTimeoutError:
            if not is_active:
                raise BrokenProcessPool("its first process ended at once") from None
            if time.monotonic() >= until:
                raise


def let_pebble_look(*, often: bool) -> None:
    """How often pebble looks after deaths and deadlines, from its next look on."""
    pebble.CONSTS.sleep_unit = PEBBLE_SLEEP_SECONDS if often else PEBBLE_IDLE_SECONDS


def _end(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()


def exists(pid: int) -> bool:
    """Whether there is a process of that pid."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:  # the forkserver reaps its children at once, so there are no zombies
        return False
    return True


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):  # an old kernel, or a container that forbids it
            raise
        return -1


def _keep_from_cleanup(workers: Iterable[Any]) -> None:
    """``Process.start``, in any slot's thread, asks all known processes for their exit codes; but only who asks first
    is told, everybody else gets 255."""
    for worker in workers:
        multiprocessing.process._children.discard(worker)  # type: ignore[attr-defined]
