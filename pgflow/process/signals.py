"""Ctrl-C, SIGTERM and SIGHUP, noted by whoever wants to end in order."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def noted(note: Callable[[int], None], wakeup_fd: int) -> Iterator[None]:
    """Call ``note`` with each signal's number, in the main thread, which must be the caller. Signals that were ignored
    before stay ignored, as ``nohup`` wants.

    Each signal also writes a byte to ``wakeup_fd``, which must not block. The kernel may give a signal to any
    thread; then nothing else wakes the main one, in which handlers run (seen: 1 of 60 pairs of signals was heeded
    no sooner than the next one).
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        note(number)

    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in heeded}
    previous_fd = signal.set_wakeup_fd(wakeup_fd, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous_fd)
        for number, handler in previous.items():
            signal.signal(number, handler)
