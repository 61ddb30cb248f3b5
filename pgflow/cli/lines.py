"""What the dispatcher logs and handlers print, passed on without disturbing the progress display."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class RelayedLines:
    """A pipe for another process's standard error. Thread: ``pgflow-lines`` reads it and calls ``show``."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        self._writer_is_open = True
        self.show: Callable[[str], None] = _to_stderr
        self._thread = threading.Thread(target=self._loop, name="pgflow-lines", daemon=True)

    def __enter__(self) -> RelayedLines:
        self._thread.start()
        return self

    def close_writer(self) -> None:
        """Called once the other process has it: the pipe then ends when the process does."""
        if self._writer_is_open:
            self._writer_is_open = False
            os.close(self.writer)

    def _loop(self) -> None:
        with open(self._reader, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                self.show(line.rstrip("\n"))

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close_writer()
        self._thread.join(timeout=1)
