"""Printed: what handlers print, read from their pipes and logged with the task that printed it."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import select
import threading
from pathlib import Path

from pgflow.worker.outlet import Address
from pgflow.worker.print_stream import PrintStream, mark
from pgflow.worker.pulse import Pulse

logger = logging.getLogger("pgflow.handler")

_CHUNK = 1 << 16
_PIPE_BYTES = 1 << 18
_REST_SECONDS = 0.05
"""After a look that found little. Without it the marks of each task would wake the thread: 25 us more of the
dispatcher a task, measured; with 0.01 it took 1.2 % of a core while tasks of 10 ms ran, a third of that with this."""
_LITTLE = _CHUNK // 4
STUCK_SECONDS = 60.0
"""Handlers that print wait for a reader that hangs."""
_LAST_LOOK_BYTES = 1 << 24
"""Read of one slot at the end: more than fits into its pipe, and an end where something prints for ever."""


class Printed:
    """The pipes of all slots. A handler that prints faster than they are read waits for its pipe.

    Thread: ``pgflow-printed`` runs ``_loop``, reading the pipes in turn, a chunk at a time. The descriptors belong to
    whoever calls ``start`` and ``stop``.
    """

    def __init__(self) -> None:
        self._pipes: list[_Pipe] = []
        self.pulse = Pulse("reader of what handlers print", stuck_after=STUCK_SECONDS)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pgflow-printed", daemon=True)

    def add(self, path: Path, slot: str) -> Address:
        """Make a slot's pipe; what its processes must know of it. To be called before ``start``."""
        pipe = _Pipe(path, slot)
        self._pipes.append(pipe)
        return pipe.address

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Log what is in the pipes still, wait up to ``timeout`` seconds for that; whether it is done."""
        self._stopping.set()
        for pipe in self._pipes:
            pipe.wake()
        self._thread.join(max(timeout, 0))
        if self._thread.is_alive():
            return False
        for pipe in self._pipes:
            pipe.close()
        self._pipes.clear()
        return True

    def _loop(self) -> None:
        with self.pulse.life():
            self._read()

    def _read(self) -> None:
        poller = select.poll()
        pipes = {pipe.reader: pipe for pipe in self._pipes}
        for descriptor in pipes:
            poller.register(descriptor, select.POLLIN)
        while not self._stopping.is_set():
            with self.pulse.resting():
                readable = poller.poll()
            most = max(pipes[descriptor].read() for descriptor, _ in readable)
            if most < _LITTLE:
                self._stopping.wait(_REST_SECONDS)
        for pipe in self._pipes:
            pipe.read_the_rest()


class _Pipe:
    """One slot's FIFO. The dispatcher holds both ends: opening never waits, and it never ends."""

    def __init__(self, path: Path, slot: str) -> None:
        os.mkfifo(path, 0o600)
        self.address = Address(path, b"\0" + secrets.token_hex(8).encode())
        self.reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(AttributeError, OSError):  # it is larger where that can be had
            fcntl.fcntl(self.reader, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._stream = PrintStream(self.address.secret, slot, _log)

    def read(self) -> int:
        """Read one chunk; how many bytes it had."""
        try:
            data = os.read(self.reader, _CHUNK)
        except BlockingIOError:
            return 0
        self._stream.feed(data)
        return len(data)

    def read_the_rest(self) -> None:
        """Read until there is nothing more."""
        left = _LAST_LOOK_BYTES
        while left > 0 and (count := self.read()):
            left -= count
        self._stream.finish()

    def wake(self) -> None:
        """Make the pipe readable."""
        with contextlib.suppress(BlockingIOError):  # it is full, so it is readable
            os.write(self._writer, mark(self.address.secret, ""))

    def close(self) -> None:
        """Let go of both ends."""
        os.close(self.reader)
        os.close(self._writer)


def _log(label: str, text: str) -> None:
    logger.info("%s: %s", label, text)
