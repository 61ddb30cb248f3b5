"""The logbook of a slot: a page of shared memory in which its pool process notes what it is doing.

The dispatcher reads it without a lock and without the process's help, also while the handler hangs with
the GIL held, and after the process has died. So the number of a task is written last: a process may be kept from the
processor in the middle of a note, and who finds the number there finds the rest of the note, too.

Behind the notes are the answers of a series, of all its tasks but the last: what has been done is known whatever
becomes of the process.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from time import monotonic  # not to be patched by a handler
from typing import NamedTuple

from pgflow.process import usage
from pgflow.process.usage import Usage

_NUMBER = struct.Struct("=q")
_BEGUN_REST = struct.Struct("=dd")
_BEGUN = struct.Struct("=qdd")
_ENDED_REST = struct.Struct("=dddq")
_ENDED = struct.Struct("=qdddq")
_ENDED_OFFSET = _BEGUN.size
_RECORDED_OFFSET = _ENDED_OFFSET + _ENDED.size
_RECORDS_OFFSET = _RECORDED_OFFSET + _NUMBER.size
_RECORD = struct.Struct("=qqqqddq")
_NONE = -(1 << 62)
SIZE_BYTES = 1 << 16
NO_TASK = 0
FORGET_SECONDS = 0.05
"""What a task gave back that one before it had taken, counts for those of the next so many seconds."""


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


class Record(NamedTuple):
    """The answer of a task and what it took, as in ``child.Answer`` and ``Ended``."""

    kind: int
    text: str
    retry_delay: int | None
    elapsed: float
    cpu: float
    peak_rss: int


class Logbook:
    """One slot's page, opened by the dispatcher and by each of the slot's pool processes in turn."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # What is not there yet when a page is touched is a SIGBUS, if the file system has filled up meanwhile.
            (getattr(os, "posix_fallocate", None) or _extend)(descriptor, 0, SIZE_BYTES)
            self._page = mmap.mmap(descriptor, SIZE_BYTES)
        finally:
            os.close(descriptor)
        self._position = _RECORDS_OFFSET
        self._used: Usage | None = None
        self._forgotten = -math.inf, 0

    def begin_series(self) -> None:
        """Called in the pool process before the first task of each series; the one before has been read."""
        self._position = _RECORDS_OFFSET
        self._used = None

    def begin(self, number: int) -> None:
        """Called in the pool process as a task begins. CLOCK_MONOTONIC is the same in every process."""
        used = self._forget_peak(self._used or usage.of_this_process())
        _BEGUN_REST.pack_into(self._page, _NUMBER.size, monotonic(), used.cpu)
        _NUMBER.pack_into(self._page, 0, number)

    def _forget_peak(self, used: Usage) -> Usage:
        """Let the peak be what is resident now. It is already, if it was so a moment ago and has not risen since: that
        saves a fifth of what a task that does nothing costs."""
        (at, peak), now = self._forgotten, monotonic()
        if used.peak_rss == peak and now < at + FORGET_SECONDS:
            return used
        usage.forget_peak()
        used = usage.of_this_process()
        self._forgotten = now, used.peak_rss
        return used

    def end(self) -> None:
        """Called in the pool process when the task's outcome is about to be sent."""
        begun, now, used = self.begun(), monotonic(), usage.of_this_process()
        rest = now, now - begun.at, used.cpu - begun.cpu, used.peak_rss
        _ENDED_REST.pack_into(self._page, _ENDED_OFFSET + _NUMBER.size, *rest)
        _NUMBER.pack_into(self._page, _ENDED_OFFSET, begun.number)
        self._used = used

    def record(self, kind: int, text: str, retry_delay: int | None) -> bool:
        """Called in the pool process after ``end``, if another task of the series follows; False if the answer does
        not fit."""
        start = self._position + _RECORD.size
        if start + len(text) > SIZE_BYTES:
            return False
        ended, data = self.ended(), text.encode()
        if start + len(data) > SIZE_BYTES:
            return False
        delay = _NONE if retry_delay is None else retry_delay
        values = ended.number, len(data), kind, delay, ended.elapsed, ended.cpu, ended.peak_rss
        try:
            _RECORD.pack_into(self._page, self._position, *values)
        except struct.error:  # a delay beyond all measure
            return False
        self._page[start : start + len(data)] = data
        self._position = start + len(data)
        _NUMBER.pack_into(self._page, _RECORDED_OFFSET, ended.number)
        return True

    def clear(self) -> None:
        """Called in the dispatcher before a process is started."""
        _BEGUN.pack_into(self._page, 0, NO_TASK, 0.0, 0.0)
        _ENDED.pack_into(self._page, _ENDED_OFFSET, NO_TASK, 0.0, 0.0, 0.0, 0)
        _NUMBER.pack_into(self._page, _RECORDED_OFFSET, NO_TASK)

    def begun(self) -> Begun:
        """Which task began last."""
        return Begun(*_BEGUN.unpack_from(self._page, 0))

    def ended(self) -> Ended:
        """Which task's handler ended last."""
        return Ended(*_ENDED.unpack_from(self._page, _ENDED_OFFSET))

    def recorded(self, first: int, most: int) -> int:
        """How many tasks of the series that began with number ``first`` have left their answers here; 0 if it cannot be
        that many."""
        number: int = _NUMBER.unpack_from(self._page, _RECORDED_OFFSET)[0]
        count = number - first + 1
        return count if 0 < count <= most else 0

    def records(self, first: int, count: int) -> list[Record | None]:
        """The first so many of them; None from the first on that is not as it was written. Handlers have written into
        every descriptor they found."""
        records: list[Record | None] = []
        position = _RECORDS_OFFSET
        for number in range(first, first + count):
            found, position = self._record(number, position)
            if found is None:
                break
            records.append(found)
        return records + [None] * (count - len(records))

    def _record(self, number: int, position: int) -> tuple[Record | None, int]:
        """A record, and where the next one is."""
        start = position + _RECORD.size
        if start > SIZE_BYTES:
            return None, position
        written, length, kind, delay, elapsed, cpu, peak_rss = _RECORD.unpack_from(self._page, position)
        if written != number or not 0 <= length <= SIZE_BYTES - start:
            return None, position
        try:
            text = self._page[start : start + length].decode()
        except UnicodeDecodeError:
            return None, position
        return Record(kind, text, None if delay == _NONE else delay, elapsed, cpu, peak_rss), start + length

    def close(self) -> None:
        """Let go of the page."""
        self._page.close()


def _extend(descriptor: int, _offset: int, length: int) -> None:
    os.ftruncate(descriptor, length)
