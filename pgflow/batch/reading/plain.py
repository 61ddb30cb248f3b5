"""Plain lines: each is an item, a string; an empty one too, as for GNU parallel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pgflow.batch.reading.lines import TOO_LONG, bounded_lines
from pgflow.batch.reading.record import Fault, Record
from pgflow.codec import MAX_BYTES

NOT_UTF8 = Fault("it is not UTF-8 text (convert it with iconv)")


def records(blocks: Iterable[bytes]) -> Iterator[Record]:
    """A record a line."""
    for number, line in enumerate(bounded_lines(blocks), 1):
        yield number, line, _value(line)


def _value(line: bytes) -> str | Fault:
    if len(line) > MAX_BYTES:
        return TOO_LONG
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        return NOT_UTF8
