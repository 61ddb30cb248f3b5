"""Tickets: who has the next task of a series, the pool process or the dispatcher; the kernel decides.

A series is some short tasks that a process does one after the other. The dispatcher issues a ticket for each task but
the first, the process takes one before it begins the next, and the dispatcher takes back what is left. They are bytes
in a pipe, as a byte is read once, whoever asks; notes in shared memory would leave a moment in which both believe to
have the task.
"""

from __future__ import annotations

import os
from pathlib import Path

_read = os.read  # not to be patched by a handler
_ALL = 1 << 12


class Tickets:
    """The dispatcher's end, which makes the pipe. Issued and taken back under the slot's lock."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path, 0o600)
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def issue(self, count: int) -> None:
        """Let the process go on by so many tasks."""
        if count:
            os.write(self._fd, bytes(count))

    def take_back(self) -> int:
        """How many tasks the process has not begun, and will not begin any more."""
        try:
            return len(_read(self._fd, _ALL))
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self._fd)


class Taker:
    """The pool process's end."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def take(self) -> bool:
        """Whether the next task is this process's."""
        try:
            return _read(self.fd, 1) != b""
        except OSError:  # there is none; or a handler closed the pipe, which hygiene.py has seen
            return False
