"""Standard output and error that may vanish: a terminal that closes, a reader that dies or does not read."""

from __future__ import annotations

import io
import os
import select
import sys

_PIECE_BYTES = select.PIPE_BUF
_PATIENCE_SECONDS = 0.5


def survive_loss() -> None:
    """Give this process streams on its descriptors 0 to 2 with which it goes on when nobody is left to read what it
    prints: from then on it prints to nowhere.

    Without it a handler that prints fails with EIO or EPIPE while its worker drains.
    """
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = _text(_Lossy(1))  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text(_Lossy(2))  # type: ignore[misc]


def unhindered(descriptor: int) -> io.TextIOWrapper:
    """A stream for the log of a process that must not wait for its reader. A reader that is gone gets nothing more;
    one that does not read, a stopped terminal, is waited for once for half a second, then lines are left out until
    it reads again, and their number is told."""
    return _text(_Unhindered(descriptor))


def _text(raw: _Lossy) -> io.TextIOWrapper:
    # By lines, so that those of several processes do not mix.
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


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
        try:
            self._write_all(memoryview(data).cast("B"))
        except OSError:
            self._write_to_nowhere()
        return len(data)

    def _write_all(self, view: memoryview) -> None:
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:  # a library has made the descriptor non-blocking
                select.select([], [self._descriptor], [])

    def _write_to_nowhere(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != self._descriptor:  # it is, where a handler has closed it
            os.dup2(nowhere, self._descriptor)
            os.close(nowhere)


class _Unhindered(_Lossy):
    """Writes only what there is room for."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)
        self._lost = 0

    def _write_all(self, view: memoryview) -> None:
        patience = 0.0 if self._lost else _PATIENCE_SECONDS
        while view and self._room.poll(patience * 1000):
            if self._lost:
                lost, self._lost = self._lost, 0
                os.write(self._descriptor, b"(%d lines were left out: nobody read them)\n" % lost)
                continue
            # Room for a piece is what poll promises.
            view = view[os.write(self._descriptor, view[:_PIECE_BYTES]) :]
        self._lost += bool(view)
