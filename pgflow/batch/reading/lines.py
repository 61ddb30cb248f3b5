"""Blocks cut into lines, none of them longer than memory should hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pgflow.batch.reading.record import Fault
from pgflow.codec import MAX_BYTES

TOO_LONG = Fault(f"it is longer than {MAX_BYTES:,} bytes (store it elsewhere and give a reference to it)")


def bounded_lines(blocks: Iterable[bytes], max_bytes: int = MAX_BYTES) -> Iterator[bytes]:
    """The lines, without their ends; of one that is longer than ``max_bytes``, somewhat more than that and no more.

    Splitting blocks is half as quick again as reading line by line, which has no bound either.
    """
    parts: list[bytes] = []
    size = 0
    for block in blocks:
        *lines, rest = block.split(b"\n")
        if lines:
            lines[0] = b"".join([*parts, lines[0] if size <= max_bytes else b""])
            yield from lines
            parts, size = [], 0
        if size <= max_bytes:
            parts.append(rest)
            size += len(rest)
    if last := b"".join(parts):
        yield last
