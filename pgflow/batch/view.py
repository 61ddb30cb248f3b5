"""A snapshot as a terminal of any width shows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pgflow.batch.eta import Eta
from pgflow.batch.shown import first_line, shown
from pgflow.batch.snapshot import Failure, Running, Snapshot
from pgflow.quantity import format_clock, format_duration, format_rate, format_size

MAX_ROWS = 5
SLOW_SECONDS = 1.0
"""Items that have run for less are not worth a line: they are gone when it is read."""

_SIDE_BY_SIDE_COLUMNS = 110
_LEAST_BAR_COLUMNS = 10
_GAP = "   "
_MAX_TEXT = 400


def counts(snapshot: Snapshot) -> str:
    """``1,234/9,999`` items, and how many percent that is, or of the input that is still read."""
    if snapshot.total is not None:
        share = snapshot.finished / snapshot.total if snapshot.total else 1.0
        return f"{snapshot.finished:,}/{snapshot.total:,}{_GAP}{_percent(share)}"
    reading = "reading items" if snapshot.read is None else f"{_percent(snapshot.read)} of the input read"
    return f"{snapshot.finished:,}{_GAP}{reading}"


def _percent(share: float) -> str:
    return f"{int(100 * share)} %"  # 100 % is what is complete, not what nearly is


def states(snapshot: Snapshot) -> list[Text]:
    """How many items are in which state; those that never are, are left out."""
    found = [Text(f"{snapshot.done:,} done", style="green")]
    for number, word, style in (
        (snapshot.failed, "failed", "bold red"),
        (snapshot.running_count, "running", "cyan"),
        (snapshot.queued, "queued", "dim"),
        (snapshot.retried, "retried", "yellow"),
    ):
        if number:
            found.append(Text(f"{number:,} {word}", style=style))
    return found


def speed(snapshot: Snapshot, rate: float, eta: Eta | None) -> list[Text]:
    """How fast it goes, and for how long."""
    found = [Text(format_rate(rate))] if rate else []
    if eta is not None:
        found.append(Text(str(eta), style="bold"))
    return [*found, Text(f"{format_clock(snapshot.elapsed)} so far", style="dim")]


def means(snapshot: Snapshot) -> list[Text]:
    """What items take, and what the machine gives."""
    found = []
    if (durations := snapshot.durations) is not None:
        found.append(Text(f"median {format_duration(durations.median)}"))
        found.append(Text(f"p90 {format_duration(durations.p90)}"))
        found.append(Text(f"longest {format_duration(durations.longest)}"))
    if snapshot.cores is not None:
        found.append(Text(f"{snapshot.cores:.1f} cores busy"))
    if snapshot.memory is not None:
        found.append(Text(f"{format_size(snapshot.memory)} in use"))
    return found


def failure_line(failure: Failure) -> str:
    """A failure in one line: item, cause, time."""
    cause = first_line(failure.cause, _MAX_TEXT)
    return f"#{failure.index} {cause} ({shown(failure.text, 100)}, after {format_duration(failure.seconds)})"


def draw_head(snapshot: Snapshot, rate: float, eta: Eta | None, columns: int) -> list[Text]:
    """Bar, counts, times and means: all there is to say when nothing runs any more."""
    return [
        _bar_line(snapshot, columns),
        *_wrapped([*states(snapshot), *speed(snapshot, rate, eta)], columns),
        *_wrapped(means(snapshot), columns),
    ]


class View:
    """Draws one snapshot after the other, so that nothing jumps: rows that were there stay."""

    def __init__(self) -> None:
        self._rows = {"running": 0, "failures": 0}

    def draw(self, snapshot: Snapshot, rate: float, eta: Eta | None, *, columns: int, lines: int) -> RenderableType:
        """The snapshot for so many columns, and as many lines where they suffice for the head."""
        head = draw_head(snapshot, rate, eta, columns)
        is_wide = columns >= _SIDE_BY_SIDE_COLUMNS
        room = max((lines - len(head) - 1 if is_wide else (lines - len(head)) // 2 - 1), 0)
        slow = sorted(snapshot.running, key=lambda item: -item.seconds)
        running = self._section("running", [_running_row(item) for item in slow if item.seconds >= SLOW_SECONDS], room)
        failures = self._section("failures", [_failure_row(item) for item in reversed(snapshot.failures)], room)
        return Group(*head, *_sections(running, failures, is_wide))

    def _section(self, name: str, rows: Sequence[tuple[Text, Text]], room: int) -> RenderableType | None:
        most = min(MAX_ROWS, room)
        rows = rows[:most]
        self._rows[name] = min(max(self._rows[name], len(rows)), most)
        if not self._rows[name]:
            return None
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(justify="right", no_wrap=True, min_width=6)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for row in [*rows, *[(Text(""), Text(""))] * (self._rows[name] - len(rows))]:
            table.add_row(*row)
        return Group(Text(_TITLES[name], style="dim"), table)


_TITLES = {"running": "slowest running", "failures": "last failures"}


def _sections(running: RenderableType | None, failures: RenderableType | None, is_wide: bool) -> list[RenderableType]:
    present = [section for section in (running, failures) if section is not None]
    if not is_wide or len(present) < 2:
        return present
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(ratio=1)
    table.add_column(ratio=1)
    table.add_row(*present)
    return [table]


def _running_row(item: Running) -> tuple[Text, Text]:
    attempt = f"attempt {item.attempt}  " if item.attempt > 1 else ""
    time = Text(format_duration(item.seconds), style="cyan")
    return time, Text.assemble((attempt, "yellow"), shown(item.text, _MAX_TEXT))


def _failure_row(item: Failure) -> tuple[Text, Text]:
    cause, text = first_line(item.cause, _MAX_TEXT), shown(item.text, _MAX_TEXT)
    return Text(f"#{item.index}", style="dim"), Text.assemble((cause, "red"), "  ", (text, "dim"))


def _bar_line(snapshot: Snapshot, columns: int) -> Text:
    text = counts(snapshot)
    return Text.assemble(_bar(snapshot, max(columns - len(text) - 2, _LEAST_BAR_COLUMNS)), "  ", (text, "bold"))


def _bar(snapshot: Snapshot, columns: int) -> Text:
    """A line for what is done, one for what failed, a faint one for the rest; failures are seen however few."""
    total = snapshot.total or max(snapshot.finished, 1)
    finished = min(columns * snapshot.finished // total, columns)
    failed = min(-(-columns * snapshot.failed // total), finished) if snapshot.failed else 0
    is_open = snapshot.total is None
    return Text.assemble(
        ("━" * (0 if is_open else finished - failed), "green"),
        ("━" * (0 if is_open else failed), "red"),
        ("━" * (columns if is_open else columns - finished), "bright_black"),
    )


def _wrapped(parts: Iterable[Text], columns: int) -> list[Text]:
    """The parts beside each other, in as many lines as they need; none is broken."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + len(_GAP) + part.cell_len <= columns:
            lines[-1] = Text.assemble(lines[-1], _GAP, part)
        else:
            lines.append(part)
    for line in lines:
        line.truncate(columns, overflow="ellipsis")
    return lines
