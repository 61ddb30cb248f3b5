"""Handlers that hang and die on order, and their flow. Every contender runs these same functions.

Their input names a ``label`` and the pipe ``events``, into which they note when they begin.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from pgflow.flow import Flow

SECONDS_TO_BE_SEEN = 0.2
"""A process that dies by itself gives whoever watches it so much time to learn of it."""

_noted = False


def note(events: str, kind: str, label: str, pid: int = 0, when: float | None = None) -> None:
    """Write an event into the pipe; one write of a short line is atomic."""
    line = f"{kind} {label} {pid} {time.monotonic() if when is None else when}\n"
    with open(events, "ab", buffering=0) as pipe:
        pipe.write(line.encode())


def begin(input: Any) -> None:
    """Note that a task begins in this process."""
    global _noted
    when = time.monotonic()
    _noted = True
    note(input["events"], "began", input["label"], os.getpid(), when)


def give_output(input: Any) -> str:
    """So many ``bytes`` of output. Its begin is noted if it is the first task of this process."""
    if not _noted:
        begin(input)
    return "x" * int(input["bytes"])


def wait_at_gate(input: Any) -> None:
    """Until the ``gate`` opens: whoever measures holds a lock on that file."""
    begin(input)
    descriptor = os.open(input["gate"], os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def hang_with_the_gil(input: Any) -> bool:
    """C code that holds the GIL and never looks for signals."""
    begin(input)
    return any(itertools.repeat(False))


def hang_in_regex(input: Any) -> bool:
    """A catastrophic regular expression; CPython's re looks for signals while it backtracks."""
    begin(input)
    return re.match(r"(a+)+$", "a" * 64 + "!") is not None


def hang_ignoring_sigterm(input: Any) -> bool:
    """With the GIL held, and SIGTERM ignored."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return hang_with_the_gil(input)


def hang_blocking_all_signals(input: Any) -> bool:
    """With the GIL held, and every signal blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return hang_with_the_gil(input)


def die_busy(input: Any) -> None:
    """End this process in the middle of a task."""
    begin(input)
    time.sleep(SECONDS_TO_BE_SEEN)
    _die(input["exit_code"])


def die_idle(input: Any) -> None:
    """End this process a moment after the task's end."""
    begin(input)
    timer = threading.Timer(2 * SECONDS_TO_BE_SEEN, _die, [input["exit_code"]])
    timer.daemon = True
    timer.start()


def _die(exit_code: int | None) -> None:
    """With an exit code, or by SIGKILL."""
    if exit_code is not None:
        os._exit(exit_code)
    os.kill(os.getpid(), signal.SIGKILL)


HANDLERS: dict[str, Callable[[Any], Any]] = {
    handler.__name__: handler
    for handler in (
        *(give_output, wait_at_gate, die_busy, die_idle),
        *(hang_with_the_gil, hang_in_regex, hang_ignoring_sigterm, hang_blocking_all_signals),
    )
}

flow = Flow("bench_hangs", max_attempts=1, timeout=600)
for _handler in HANDLERS.values():
    flow.step(_handler)
