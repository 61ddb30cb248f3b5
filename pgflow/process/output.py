"""Standard output and error that may vanish: a terminal that closes, a reader that dies."""

from __future__ import annotations

import io
import os
import sys


def survive_loss() -> None:
    """Let this process go on when nobody is left to read what it prints: from then on it prints to nowhere.

    Without it a handler that prints fails with EIO or EPIPE while its worker drains.
    """
    sys.stdout = _text(1)
    sys.stderr = _text(2)


def _text(descriptor: int) -> io.TextIOWrapper:
    # By lines, so that those of several processes do not mix.
    return io.TextIOWrapper(_Lossy(descriptor), encoding="utf-8", errors="backslashreplace", line_buffering=True)


class _Lossy(io.BufferedIOBase):
    """Writes through to a descriptor while it can be written."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.name = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        view = memoryview(data).cast("B")
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._descriptor)
            os.close(nowhere)
        return len(data)
