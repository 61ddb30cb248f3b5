"""Ctrl-C as a fact to look at instead of an exception, which may come at any line."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType


class Interrupts:
    """While entered, the first SIGINT is only noted, and every further one calls ``again``."""

    def __init__(self, again: Callable[[], None]) -> None:
        self._again = again
        self.came = False
        """Whether there was one."""

    def __enter__(self) -> Interrupts:
        self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self.came:
            self._again()
        self.came = True

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGINT, self._previous)
