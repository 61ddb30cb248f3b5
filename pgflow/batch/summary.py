"""What is said of a batch at its end: as text for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pgflow import codec
from pgflow.batch.causes import Cause
from pgflow.batch.durations import Spread
from pgflow.batch.items import BadLine
from pgflow.batch.shown import shown
from pgflow.batch.slowest import SlowItem
from pgflow.quantity import format_duration
from pgflow.terminal import shortened

MAX_TEXT_CHARACTERS = 100
MAX_CAUSES_SHOWN = 10
_INDENT = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A batch's end.

    ``items`` is how many there are, None when the input was not read to its end; ``done`` and ``failed`` have finished,
    ``earlier`` of them in sessions before this one, ``retried`` took more than one attempt. ``skipped`` lines were no
    items, some of them are ``bad_lines``. ``wall_seconds`` is how long this session took, ``cpu_seconds`` what its
    items used of CPUs, as far as it is known; ``durations``, ``slowest`` and ``causes`` are those of its items,
    ``other_causes`` failures beyond those causes. ``next_command`` goes on: it retries what failed, or resumes what was
    interrupted.
    """

    name: str
    items: int | None
    done: int
    failed: int
    wall_seconds: float
    cpu_seconds: float | None = None
    earlier: int = 0
    retried: int = 0
    skipped: int = 0
    bad_lines: Sequence[BadLine] = ()
    durations: Spread | None = None
    slowest: Sequence[SlowItem] = ()
    causes: Sequence[Cause] = ()
    other_causes: int = 0
    next_command: str | None = None

    @property
    def left(self) -> int | None:
        """Items that have not finished; None when it is not known how many there are."""
        return None if self.items is None else self.items - self.done - self.failed

    @property
    def speed_up(self) -> float | None:
        """How many times as long the items would have taken one after another; None when none has finished."""
        if self.durations is None or self.wall_seconds <= 0:
            return None
        return self.durations.total / self.wall_seconds

    def lines(self, columns: int | None = None) -> Iterator[str]:
        """The summary as text, the most important first; items take one line of so many ``columns`` each."""
        yield f"{self.name}: {', '.join(self._counts())}"
        yield ", ".join(self._times())
        if (spread := self.durations) is not None:
            marks = (("median", spread.median), ("p90", spread.p90), ("p99", spread.p99), ("longest", spread.longest))
            yield f"items took: {', '.join(f'{name} {format_duration(seconds)}' for name, seconds in marks)}"
        yield from self._slowest_lines(columns)
        yield from self._bad_line_lines()
        yield from self._cause_lines(columns)
        if self.next_command is not None:
            yield "to retry those that failed:" if not self.left and self.items is not None else "to go on:"
            yield f"{_INDENT}{self.next_command}"

    def to_json(self) -> str:
        """The summary as JSON text: numbers in seconds, what is not known is null."""
        spread = self.durations
        return codec.encode(
            {
                "name": self.name,
                "items": self.items,
                "done": self.done,
                "failed": self.failed,
                "left": self.left,
                "earlier": self.earlier,
                "retried": self.retried,
                "skipped": self.skipped,
                "bad_lines": [
                    {"line": line.number, "text": line.text, "reason": line.reason} for line in self.bad_lines
                ],
                "wall_seconds": round(self.wall_seconds, 6),
                "cpu_seconds": _rounded(self.cpu_seconds),
                "speed_up": _rounded(self.speed_up),
                "durations": None if spread is None else _spread_values(spread),
                "slowest": [
                    {"index": item.index, "item": item.text, "seconds": round(item.seconds, 6)} for item in self.slowest
                ],
                "causes": [
                    {
                        "cause": cause.example.cause,
                        "count": cause.count,
                        "example": {
                            "index": cause.example.index,
                            "item": cause.example.text,
                            "seconds": round(cause.example.seconds, 6),
                        },
                    }
                    for cause in self.causes
                ],
                "other_causes": self.other_causes,
                "next_command": self.next_command,
            }
        )

    def _counts(self) -> Iterator[str]:
        yield f"{self.done:,} done" if self.items is None else f"{self.done:,} of {self.items:,} done"
        for number, words in (
            (self.failed, "failed"),
            (self.left or 0, "left"),
            (self.retried, "retried"),
            (self.earlier, "in earlier sessions"),
            (self.skipped, "bad lines skipped"),
        ):
            if number:
                yield f"{number:,} {words}"

    def _times(self) -> Iterator[str]:
        yield f"took {format_duration(self.wall_seconds)}"
        if self.cpu_seconds is not None:
            yield f"{format_duration(self.cpu_seconds)} of CPU time"
        if self.speed_up is not None:
            yield f"{self.speed_up:.1f} times as fast as one item after another"

    def _slowest_lines(self, columns: int | None) -> Iterator[str]:
        if self.slowest:
            yield "slowest:"
        for item in self.slowest:
            yield _item_line(f"{_INDENT}{format_duration(item.seconds):>7}  #{item.index}", item.text, columns)

    def _bad_line_lines(self) -> Iterator[str]:
        if self.bad_lines:
            yield "skipped:"
        for line in self.bad_lines:
            yield f"{_INDENT}line {line.number:,}: {line.reason}: {line.text}"
        if self.skipped > len(self.bad_lines) > 0:
            yield f"{_INDENT}and {self.skipped - len(self.bad_lines):,} more"

    def _cause_lines(self, columns: int | None) -> Iterator[str]:
        if self.causes:
            yield "failed:"
        for cause in self.causes[:MAX_CAUSES_SHOWN]:
            example = cause.example
            yield f"{_INDENT}{cause.count:,} x {example.cause}"
            yield _item_line(f"{_INDENT * 2}as #{example.index}", example.text, columns)
        rest = self.other_causes + sum(cause.count for cause in self.causes[MAX_CAUSES_SHOWN:])
        if rest:
            yield f"{_INDENT}{rest:,} x other causes"


def _item_line(start: str, item: str, columns: int | None) -> str:
    line = f"{start} {shown(item, MAX_TEXT_CHARACTERS)}"
    return line if columns is None else shortened(line, columns)


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 6)


def _spread_values(spread: Spread) -> dict[str, float]:
    numbers = {"total": spread.total, "mean": spread.mean, "p10": spread.p10, "median": spread.median}
    numbers |= {"p90": spread.p90, "p99": spread.p99, "longest": spread.longest}
    return {"count": spread.count} | {name: round(number, 6) for name, number in numbers.items()}
