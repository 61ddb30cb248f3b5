"""One function in one forked process with a deadline: what ``execute_with_timeout`` stands on."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from pgflow.errors import PgflowError
from pgflow.process import stack, subreaper, tree, usage
from pgflow.process.stack import Frame
from pgflow.process.usage import Usage

_CHUNK = 1 << 20
_TICK_SECONDS = 0.02
_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class End:
    """How a forked process ended. ``answer`` is None unless it was delivered whole; ``exit_code`` is
    negative for a signal; ``frames`` are those of its main thread, innermost first; ``elapsed`` in
    seconds."""

    answer: bytes | None
    timed_out: bool
    exit_code: int | None
    frames: tuple[Frame, ...]
    usage: Usage
    elapsed: float


def run(work: Callable[[], bytes], timeout: float) -> End:
    """Run ``work`` in a forked process and return its bytes, or kill it after ``timeout`` seconds.

    The process leads a process group of its own, so that what it starts dies with it.
    """
    if not hasattr(os, "fork"):
        raise PgflowError(message="This platform cannot fork: run the task through a Worker")
    started = time.monotonic()
    with tempfile.TemporaryFile() as dump:
        reader, writer = os.pipe()
        pid = _fork()
        if pid == 0:
            os.close(reader)
            _child(work, writer, dump.fileno())
        os.close(writer)
        try:
            return _supervise(pid, reader, dump.fileno(), started, timeout)
        except BaseException:  # Ctrl-C
            tree.kill(pid)
            with contextlib.suppress(ChildProcessError):  # it has been waited for
                os.waitpid(pid, 0)
            raise
        finally:
            os.close(reader)


def _fork() -> int:
    with warnings.catch_warnings():
        # 3.12+ warns when other threads live. The child runs the handler and ends by os._exit; the worker,
        # which does have threads, never comes here.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _child(work: Callable[[], bytes], writer: int, dump_fd: int) -> NoReturn:
    status = 1
    try:
        os.setpgid(0, 0)
        subreaper.become()
        stack.install(dump_fd)
        answer = work()
        _write_all(writer, len(answer).to_bytes(_LENGTH_BYTES, "big") + answer)
        status = 0
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _supervise(pid: int, reader: int, dump_fd: int, started: float, timeout: float) -> End:
    answer, timed_out = _await_end(pid, reader, started + timeout)
    if timed_out:
        stack.request(pid)
    # The child's main thread is the thread that forked, under the same ident.
    until = time.monotonic() + (stack.DUMP_TIMEOUT_SECONDS if timed_out else 0)
    frames = stack.await_dump(dump_fd, threading.get_ident(), __file__, until)
    tree.kill(pid)
    _, status, rusage = os.wait4(pid, 0)
    return End(
        answer=answer,
        timed_out=timed_out,
        exit_code=os.waitstatus_to_exitcode(status),
        frames=frames,
        usage=usage.of_children(rusage),
        elapsed=time.monotonic() - started,
    )


def _await_end(pid: int, reader: int, deadline: float) -> tuple[bytes | None, bool]:
    """The whole answer or None, and whether the deadline came first.

    The end of the pipe says nothing: the handler may have closed it and go on, and a process that the
    handler forked may hold it open after the handler's own end. So the process itself is looked at.
    """
    received = bytearray()
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    while True:
        ended = _has_ended(pid)
        wait = 0.0 if ended else min(_TICK_SECONDS, max(0.0, deadline - time.monotonic()))
        if poller.poll(wait * 1000):
            chunk = os.read(reader, _CHUNK)
            received += chunk
            if _is_whole(received):
                return bytes(received[_LENGTH_BYTES:]), False
            if not chunk:
                poller = select.poll()  # nothing left to wait for but the process
        elif ended:
            return None, False
        elif time.monotonic() >= deadline:
            return None, True


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _is_whole(received: bytearray) -> bool:
    return len(received) >= _LENGTH_BYTES and len(received) == _LENGTH_BYTES + int.from_bytes(
        received[:_LENGTH_BYTES], "big"
    )
