"""The items of a batch, one after another: never the whole input in memory."""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import PurePath
from types import TracebackType
from typing import Literal, NamedTuple

from pgflow.batch.content import content
from pgflow.batch.reading import array, csv_rows, jsonl, plain
from pgflow.batch.reading.record import BrokenInputError, Fault, Record
from pgflow.batch.reading.source import Source
from pgflow.batch.shown import shown
from pgflow.errors import BadLineError, ItemsUnreadableError, OutputNotSerializableError, UsageError

MAX_BAD_LINES = 10
MAX_TEXT_CHARACTERS = 80


class Item(NamedTuple):
    """An item: its position among the input's items, from 0, its JSON text, which jsonb accepts, and the key of its
    content, 16 bytes (``pgflow.batch.content``). A tuple, as a frozen dataclass takes twice as long to make."""

    index: int  # type: ignore[assignment]  # not tuple's method of that name
    json: str
    key: bytes


class ItemFormat(enum.Enum):
    """How items are written down."""

    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    TSV = "tsv"
    LINES = "lines"


class BadLine(NamedTuple):
    """A line that was skipped: its number, its text, shortened, and why."""

    number: int
    text: str
    reason: str


_SUFFIXES = {
    ".jsonl": ItemFormat.JSONL,
    ".ndjson": ItemFormat.JSONL,
    ".json": ItemFormat.JSON,
    ".csv": ItemFormat.CSV,
    ".tsv": ItemFormat.TSV,
}
_FORMATS: dict[ItemFormat, Callable[..., Iterator[Record]]] = {
    ItemFormat.JSONL: jsonl.records,
    ItemFormat.JSON: array.records,
    ItemFormat.CSV: partial(csv_rows.records, delimiter=","),
    ItemFormat.TSV: partial(csv_rows.records, delimiter="\t"),
    ItemFormat.LINES: plain.records,
}
_SKIPPABLE = "Correct it, or pass over such lines with --on-bad-line skip"
_NOT_SKIPPABLE = "Correct it: what comes after cannot be read"


def format_of(source: str) -> ItemFormat:
    """The format that the name of a file tells: ``items.csv``, ``items.jsonl.gz``; plain lines for any other, and for
    standard input."""
    path = PurePath(source.lower())
    return _SUFFIXES.get(PurePath(path.stem if path.suffix == ".gz" else path).suffix, ItemFormat.LINES)


class ItemReader:
    """Reads the items of a file, or of standard input for ``-``. To be iterated over once; what is read is unzipped.

    ``format`` None is what the name tells. ``on_bad_line`` is what a line that is no item does: raise BadLineError, or
    be counted in ``skipped`` and kept in ``bad_lines``, the first 10 of them. ``columns`` must be in the header of a
    CSV file. ``limit`` is the most items to read.

    Raises ItemsUnreadableError at once for what cannot be opened; while items are read, for what cannot be read on and
    for an input without an item, and BadLineError, naming line and remedy.
    """

    def __init__(
        self,
        source: str,
        *,
        format: ItemFormat | None = None,
        on_bad_line: Literal["fail", "skip"] = "fail",
        columns: Sequence[str] = (),
        limit: int | None = None,
    ) -> None:
        self.format = format or format_of(source)
        self.skipped = 0
        self.bad_lines: list[BadLine] = []
        self._parse = _FORMATS[self.format]
        if columns:
            if self.format not in (ItemFormat.CSV, ItemFormat.TSV):
                raise UsageError(message=f"Columns are of CSV: {source} is read as {self.format.value}")
            self._parse = partial(self._parse, columns=columns)
        self._skips = on_bad_line == "skip"
        self._limit = limit
        self._source = Source(source)
        self._items = self._read()

    @property
    def bytes_read(self) -> int:
        """How much of the file has been read."""
        return self._source.bytes_read

    @property
    def total_bytes(self) -> int | None:
        """The size of the file; None for a pipe."""
        return self._source.total_bytes

    def __iter__(self) -> Iterator[Item]:
        return self._items

    def __enter__(self) -> ItemReader:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Read no further."""
        self._items.close()
        self._source.close()

    def _read(self) -> Generator[Item]:
        index = 0
        try:
            for number, line, value in self._parse(self._source.blocks()):
                if isinstance(value, Fault):
                    self._pass_over(number, line, value.reason)
                    continue
                try:
                    text, key = content(value)
                except OutputNotSerializableError as error:
                    self._pass_over(number, line, _why_not_stored(error))
                    continue
                yield Item(index, text, key)
                index += 1
                if index == self._limit:
                    return
        except BrokenInputError as error:
            raise self._error(error.number, error.text, error.reason, _NOT_SKIPPABLE) from None
        finally:
            self._source.close()
        if not index:
            raise ItemsUnreadableError(source=self._source.name, reason=self._why_nothing())

    def _pass_over(self, number: int, text: bytes | str, reason: str) -> None:
        if not self._skips:
            raise self._error(number, text, reason, _SKIPPABLE)
        self.skipped += 1
        if len(self.bad_lines) < MAX_BAD_LINES:
            self.bad_lines.append(BadLine(number, _shortened(text), reason))

    def _error(self, number: int, text: bytes | str, reason: str, remedy: str) -> BadLineError:
        return BadLineError(
            source=self._source.name, number=f"{number:,}", text=_shortened(text), reason=reason, remedy=remedy
        )

    def _why_nothing(self) -> str:
        if self.bad_lines:
            first = self.bad_lines[0]
            return f"none of its lines is an item; line {first.number:,}: {first.reason}"
        return "it is empty" if not self._source.bytes_read else "it holds no items"


def _why_not_stored(error: OutputNotSerializableError) -> str:
    return f"it cannot be stored: {error.values['reason']} at {error.values['path']}"


def _shortened(text: bytes | str) -> str:
    start = text[: 4 * MAX_TEXT_CHARACTERS]
    return shown(start.decode(errors="replace") if isinstance(start, bytes) else start, MAX_TEXT_CHARACTERS)
