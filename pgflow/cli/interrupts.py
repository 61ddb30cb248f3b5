"""Ctrl-C, SIGTERM and SIGHUP as facts to look at instead of an exception, which may come at any line."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 2


class Interrupts:
    """While entered, the first interrupt is only noted, and every further one calls ``again``.

    The third raises KeyboardInterrupt too, so that a statement that the database never answers can be left;
    the first does while ``raise_at_once`` says so.
    Signals that were ignored before stay ignored, as ``nohup`` wants. For the main thread.
    """

    def __init__(self, again: Callable[[], None]) -> None:
        self._again = again
        self.raise_at_once = False
        # And a list: `+= 1` may be interrupted by another handler that does the same.
        self._came: list[int] = []
        # A pipe that ends the wait. The kernel may give a signal to any thread; then nothing else wakes the main
        # one, in which handlers run.
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._previous = {n: signal.getsignal(n) for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN}

    def __enter__(self) -> Interrupts:
        for number in self._previous:
            signal.signal(number, self._note)
        self._previous_fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        return self

    @property
    def came(self) -> bool:
        """Whether there was one."""
        return bool(self._came)

    def wait(self, seconds: float) -> bool:
        """Wait for the first interrupt, at most so long; whether there was one."""
        if not self.came and select.select([self._reader], [], [], seconds)[0]:
            os.read(self._reader, 4096)
        return self.came

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._came.append(number)
        if len(self._came) > 1:
            self._again()
        if self.raise_at_once or len(self._came) > PATIENCE:
            raise KeyboardInterrupt

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(self._previous_fd)
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        os.close(self._reader)
        os.close(self._writer)
