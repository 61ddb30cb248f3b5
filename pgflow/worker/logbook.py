"""The logbook of a slot: a page of shared memory in which its pool process notes what it is doing.

The dispatcher reads it without a lock and without the process's help, also while the handler hangs with
the GIL held, and after the process has died. So the number of a task is written last: a process may be kept from the
processor in the middle of a note, and who finds the number there finds the rest of the note, too.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from time import monotonic  # not to be patched by a handler

from pgflow.process import usage

_NUMBER = struct.Struct("=q")
_BEGUN_REST = struct.Struct("=dd")
_BEGUN = struct.Struct("=qdd")
_ENDED_REST = struct.Struct("=dddq")
_ENDED = struct.Struct("=qdddq")
_ENDED_OFFSET = _BEGUN.size
NO_TASK = 0


@dataclass(frozen=True, slots=True)
class Begun:
    """``number`` of the task that began last (``NO_TASK``: none), the ``time.monotonic()`` of that moment, and the
    CPU seconds of the process and its children until then."""

    number: int
    at: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Ended:
    """``number`` of the task whose handler ended last, the ``time.monotonic()`` of that moment, what it took in seconds
    and in CPU seconds, children that it waited for included, and the bytes that its process had resident at the most
    meanwhile."""

    number: int
    at: float
    elapsed: float
    cpu: float
    peak_rss: int


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
        usage.forget_peak()
        _BEGUN_REST.pack_into(self._page, _NUMBER.size, monotonic(), usage.of_this_process().cpu)
        _NUMBER.pack_into(self._page, 0, number)

    def end(self) -> None:
        """Called in the pool process when the task's outcome is about to be sent."""
        begun, now, used = self.begun(), monotonic(), usage.of_this_process()
        rest = now, now - begun.at, used.cpu - begun.cpu, used.peak_rss
        _ENDED_REST.pack_into(self._page, _ENDED_OFFSET + _NUMBER.size, *rest)
        _NUMBER.pack_into(self._page, _ENDED_OFFSET, begun.number)

    def clear(self) -> None:
        """Called in the dispatcher before a process is started."""
        _BEGUN.pack_into(self._page, 0, NO_TASK, 0.0, 0.0)
        _ENDED.pack_into(self._page, _ENDED_OFFSET, NO_TASK, 0.0, 0.0, 0.0, 0)

    def begun(self) -> Begun:
        """Which task began last."""
        return Begun(*_BEGUN.unpack_from(self._page, 0))

    def ended(self) -> Ended:
        """Which task's handler ended last."""
        return Ended(*_ENDED.unpack_from(self._page, _ENDED_OFFSET))

    def close(self) -> None:
        """Let go of the page."""
        self._page.close()
