"""Ctrl-C, SIGTERM and SIGHUP as facts to look at instead of an exception, which may come at any line."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from types import TracebackType

from pgflow.process import signals

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
        # A pipe that ends the wait.
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._noting = signals.noted(self._note, self._writer)

    def __enter__(self) -> Interrupts:
        self._noting.__enter__()
        return self

    @property
    def came(self) -> bool:
        """Whether there was one."""
        return bool(self._came)

    def wait(self, seconds: float, keys: int | None = None) -> bool:
        """Wait for the first interrupt, at most so long, and only until the descriptor ``keys`` can be read; whether
        there was one."""
        others = [] if keys is None else [keys]
        if not self.came and self._reader in select.select([self._reader, *others], [], [], seconds)[0]:
            os.read(self._reader, 4096)
        return self.came

    def _note(self, number: int) -> None:
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
        self._noting.__exit__(error_type, error, traceback)
        os.close(self._reader)
        os.close(self._writer)
