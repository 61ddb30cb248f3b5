"""Where items are read from: a file or standard input, gzip or not, as blocks of UTF-8 bytes."""

from __future__ import annotations

import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from itertools import chain
from typing import IO

from pgflow.errors import ItemsUnreadableError

BLOCK_BYTES = 256 * 1024
STANDARD_INPUT = "-"

_GZIP = b"\x1f\x8b"
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Source:
    """An open input. ``bytes_read`` is what has been read of the file, ``total_bytes`` its size, None for a pipe.

    Raises ItemsUnreadableError naming what cannot be opened.
    """

    def __init__(self, source: str) -> None:
        self.name = "standard input" if source == STANDARD_INPUT else source
        self._file = _opened(source, self.name)
        self.bytes_read = 0
        self.total_bytes = _size(self._file)

    def blocks(self) -> Iterator[bytes]:
        """The text, without a byte order mark, in blocks that are never empty.

        Raises ItemsUnreadableError for a file that cannot be read, is cut off in the middle, or is UTF-16.
        """
        head, blocks = _with_head(self._raw_blocks(), len(_GZIP))
        if head.startswith(_GZIP):
            blocks = self._unzipped(blocks)
        head, blocks = _with_head(blocks, len(_UTF8_MARK))
        if head.startswith(_UTF16_MARKS):
            raise self._unreadable("it is UTF-16 text (convert it: iconv -f UTF-16 -t UTF-8)")
        if head.startswith(_UTF8_MARK):
            next(blocks)
            blocks = chain([head[len(_UTF8_MARK) :]], blocks)
        yield from filter(None, blocks)

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if self._file is not sys.stdin.buffer:
            self._file.close()

    def _raw_blocks(self) -> Iterator[bytes]:
        try:
            while block := self._file.read1(BLOCK_BYTES):
                self.bytes_read += len(block)
                yield block
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from None

    def _unzipped(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        file = gzip.GzipFile(fileobj=io.BufferedReader(_Stream(blocks)))
        try:
            while block := file.read1(BLOCK_BYTES):
                yield block
        except EOFError:
            raise self._unreadable("its gzip data ends in the middle (copy it again, or wait for its end)") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise self._unreadable(f"its gzip data is damaged: {error} (copy the file again)") from None

    def _unreadable(self, reason: str) -> ItemsUnreadableError:
        return ItemsUnreadableError(source=self.name, reason=reason)


def _opened(source: str, name: str) -> io.BufferedReader:
    if source == STANDARD_INPUT:
        if sys.stdin is None:
            raise ItemsUnreadableError(source=name, reason="it is closed (name a file)")
        return sys.stdin.buffer  # type: ignore[return-value]
    try:
        return open(source, "rb")
    except IsADirectoryError:
        reason = f"it is a folder (to have an item per file: find {source} -type f > files.txt)"
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:  # a NUL in the name
        reason = str(error)
    raise ItemsUnreadableError(source=name, reason=reason)


def _size(file: IO[bytes]) -> int | None:
    try:
        status = os.fstat(file.fileno())
    except OSError:  # standard input that is no file of the system's
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _with_head(blocks: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """The first block, and all of them with it: enough are made one to have ``size`` bytes, a pipe may give one at a
    time."""
    head = b""
    for block in blocks:
        head += block
        if len(head) >= size:
            break
    return head, chain([head], blocks)


class _Stream(io.RawIOBase):
    """Blocks as a file, for gzip."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
