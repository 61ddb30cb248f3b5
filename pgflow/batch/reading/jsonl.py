"""JSON Lines: a JSON value a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pgflow.batch.reading import jsontext
from pgflow.batch.reading.lines import TOO_LONG, bounded_lines
from pgflow.batch.reading.plain import NOT_UTF8
from pgflow.batch.reading.record import Fault, Record
from pgflow.codec import MAX_BYTES


def records(blocks: Iterable[bytes]) -> Iterator[Record]:
    """A record a line that is not blank."""
    for number, line in enumerate(bounded_lines(blocks), 1):
        if text := line.strip(b" \t\r"):
            yield number, line, _value(text)


def _value(text: bytes) -> Any:
    if len(text) > MAX_BYTES:
        return TOO_LONG
    try:
        return jsontext.decode(text.decode())
    except UnicodeDecodeError:
        return NOT_UTF8
    except (ValueError, RecursionError) as error:
        return Fault(jsontext.in_words(error))
