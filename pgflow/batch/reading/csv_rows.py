"""CSV and TSV with a header: a dict of strings a row."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pgflow.batch.reading.lines import TOO_LONG, bounded_lines
from pgflow.batch.reading.plain import NOT_UTF8
from pgflow.batch.reading.record import BrokenInputError, Fault, Record
from pgflow.codec import MAX_BYTES


def records(blocks: Iterable[bytes], *, delimiter: str, columns: Sequence[str] = ()) -> Iterator[Record]:
    """A record a row that is not blank. Raises BrokenInputError for a header with columns that have no name, the same
    name, or without one of ``columns``."""
    # The module's own limit, 128 KiB a field, is for the whole process; ours, on lines and items, is another.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_BYTES))
    rows = _Rows(blocks, delimiter)
    header: list[str] | None = None
    for number, text, row in rows:
        if header is None:
            header = _checked(number, text, row, columns)
        else:
            yield number, text, _value(header, row)


def _value(header: list[str], row: list[str] | Fault) -> Any:
    if isinstance(row, Fault):
        return row
    if len(row) != len(header):
        fields, names = _counted(len(row), "field"), _counted(len(header), "column")
        return Fault(f"it has {fields}, the header {names} (put a field with a delimiter or a quote in it in quotes)")
    return dict(zip(header, row, strict=True))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _checked(number: int, text: bytes, row: list[str] | Fault, columns: Sequence[str]) -> list[str]:
    reason = row.reason if isinstance(row, Fault) else _header_fault(row, columns)
    if reason:
        raise BrokenInputError(number, text, reason)
    assert isinstance(row, list)
    return row


def _header_fault(header: list[str], columns: Sequence[str]) -> str | None:
    if "" in header:
        return f"column {header.index('') + 1} of the header has no name (the first line must name the columns)"
    if double := next((name for name, count in Counter(header).items() if count > 1), None):
        return f"the column {double!r} occurs twice in the header (rename one)"
    if missing := next((name for name in columns if name not in header), None):
        return f"there is no column {missing!r} (the header has: {', '.join(header)})"
    return None


class _Rows:
    """Rows as the csv module reads them, each with the number of its first line and that line."""

    def __init__(self, blocks: Iterable[bytes], delimiter: str) -> None:
        self._lines = bounded_lines(blocks)
        self._reader = csv.reader(self._texts(), delimiter=delimiter, strict=True)
        self._first: bytes | None = None
        self._fault: Fault | None = None

    def __iter__(self) -> Iterator[tuple[int, bytes, list[str] | Fault]]:
        while True:
            number = self._reader.line_num + 1
            self._first = self._fault = None
            try:
                row: list[str] | Fault = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                row = Fault(f"it is not CSV: {error} (is a quote not closed?)")
            if row or self._fault:
                yield number, self._first or b"", self._fault or row

    def _texts(self) -> Iterator[str]:
        for line in self._lines:
            if self._first is None:
                self._first = line
            yield self._decoded(line) + "\n"

    def _decoded(self, line: bytes) -> str:
        if len(line) > MAX_BYTES:
            self._fault = TOO_LONG
            return ""
        try:
            return line.decode()
        except UnicodeDecodeError:
            self._fault = NOT_UTF8
            return line.decode(errors="replace")
