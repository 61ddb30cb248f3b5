"""Outlet: where a pool process prints to, a pipe that its dispatcher reads (printed.py)."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from pgflow.process import output
from pgflow.worker.print_stream import mark

_LINE_BUFFERED = 1  # _IOLBF
_LIBC = ctypes.CDLL(None)
_LIBC.fflush.argtypes = [ctypes.c_void_p]
_LIBC.setvbuf.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]


@dataclass(frozen=True, slots=True)
class Address:
    """What a pool process must know of its outlet: the FIFO, and what its marks begin with."""

    path: Path
    secret: bytes


def _opened(path: Path) -> int:
    """The FIFO. Where the dispatcher has been killed, and nobody reads any more, this process ends: it would wait for a
    reader for ever, with nobody left who knows of it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        os._exit(1)
    os.set_blocking(descriptor, True)
    return descriptor


class Outlet:
    """This process's standard output and standard error: one pipe, in which each task's output stands between
    marks. Standard input is empty: it was the dispatcher's, whose end means that the worker's parent is gone."""

    def __init__(self, address: Address) -> None:
        self._secret = address.secret
        self._end = mark(address.secret, "")
        self.fd = _opened(address.path)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        os.close(nowhere)
        self.end()  # of the process before this one
        for descriptor in (1, 2):
            os.dup2(self.fd, descriptor)
        output.survive_loss()
        self._c_stdout = _c_stdout()
        _LIBC.setvbuf(self._c_stdout, None, _LINE_BUFFERED, 0)  # C buffers whole pages in front of a pipe

    def begin(self, label: str) -> None:
        """What is printed from now on belongs to the task of this label."""
        self._write(mark(self._secret, label))

    def end(self) -> None:
        """It belongs to no task any more."""
        self._write(self._end)

    def flush(self) -> None:
        """Let go of what Python or C hold back of an unfinished line."""
        for stream in (sys.stdout, sys.stderr):
            try:  # noqa: SIM105 - suppress() takes 0.7 us, and this is done after each task
                stream.flush()
            except Exception:  # noqa: BLE001, S110 - it may be anything that a handler put there
                pass
        _LIBC.fflush(self._c_stdout)

    def _write(self, record: bytes) -> None:
        try:  # noqa: SIM105 - as above
            os.write(self.fd, record)
        except OSError:  # without a dispatcher, or closed by a handler: see hygiene.py
            pass


def _c_stdout() -> ctypes.c_void_p:
    """C's ``stdout``."""
    return ctypes.c_void_p.in_dll(_LIBC, "__stdoutp" if sys.platform == "darwin" else "stdout")
