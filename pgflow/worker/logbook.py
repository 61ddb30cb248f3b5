"""The logbook of a slot: a page of shared memory in which its pool process notes what it is doing.

The dispatcher reads it without a lock and without the process's help, also while the handler hangs with
the GIL held, and after the process has died.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

_PAGE = struct.Struct("=qdd")
IDLE = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """``number`` of the task being executed (``IDLE``: none), the ``time.monotonic()`` at which it began,
    and the process's CPU seconds at that moment."""

    number: int
    began: float
    cpu: float


class Logbook:
    """One slot's page, opened by the dispatcher and by each of the slot's pool processes in turn."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, mmap.PAGESIZE)
            self._page = mmap.mmap(descriptor, mmap.PAGESIZE)
        finally:
            os.close(descriptor)

    def begin(self, number: int) -> None:
        """Called in the pool process as a task begins. CLOCK_MONOTONIC is the same in every process."""
        _PAGE.pack_into(self._page, 0, number, time.monotonic(), time.process_time())

    def end(self) -> None:
        """Called in the pool process when the task's outcome is about to be sent."""
        _PAGE.pack_into(self._page, 0, IDLE, 0.0, 0.0)

    def read(self) -> Entry:
        """The latest entry."""
        return Entry(*_PAGE.unpack_from(self._page, 0))

    def close(self) -> None:
        """Let go of the page."""
        self._page.close()
