"""What the verbs of operators print: tables, trees, ids, durations and times. Data, and so standard output's.

On a terminal lines are cut to its width and coloured, and times are local; elsewhere everything is there, without
colours, and times are UTC.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import click

from pgflow.quantity import format_duration
from pgflow.terminal import cell_count, shortened

SHORT_ID = 8
"""How much of an id a terminal is shown where it is narrow; the verbs take it back while it is unique."""
_WIDE = 120
_GAP = 2
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_STYLES = {
    "completed": "green",
    "alive": "green",
    "started": "cyan",
    "failed": "red",
    "timed_out": "red",
    "crashed": "red",
    "out_of_memory": "red",
    "stalled": "red",
    "silent": "red",
    "deprecated": "yellow",
    "cancelled": "yellow",
    "requeued": "yellow",
    "released": "yellow",
    "created": "bright_black",
    "skipped": "bright_black",
    "stopped": "bright_black",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of a line, and the colour it has on a terminal."""

    text: str
    colour: str | None = None


def status_cell(status: str) -> Cell:
    """A status in its colour."""
    return Cell(status, _STYLES.get(status))


class Sheet:
    """Standard output as it is: a terminal, with its width and maybe colours, or anything else."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty()
        self.width = shutil.get_terminal_size().columns if self.is_terminal else None
        self._has_colours = self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        if hasattr(sys.stdout, "reconfigure"):  # a locale without our signs gets question marks
            sys.stdout.reconfigure(errors="replace")

    def line(self, *cells: Cell | str, cut: bool = True) -> None:
        """Print pieces one after the other; ``cut`` to the terminal's width."""
        room = self.width if cut else None
        parts = []
        for cell in cells:
            text, colour = (cell.text, cell.colour) if isinstance(cell, Cell) else (cell, None)
            if room is not None:
                text = shortened(text, room)
                room -= cell_count(text)
            parts.append(click.style(text, fg=colour) if colour and self._has_colours else text)
        click.echo("".join(parts).rstrip() if not self._has_colours else "".join(parts))

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[Cell | str]], *, right: Iterable[str] = ()) -> None:
        """Print rows below headers; the columns named in ``right`` are aligned there. The last column takes what is
        left of a terminal's width."""
        cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
        widths = [
            max(cell_count(header), *(cell_count(row[column].text) for row in cells)) if cells else cell_count(header)
            for column, header in enumerate(headers)
        ]
        to_the_right = [header in set(right) for header in headers]
        heading = [Cell(header, "bright_black") for header in headers]
        for row in [heading, *cells]:
            last = len(row) - 1
            padded = [
                Cell(_padded(cell.text, 0 if column == last and not is_right else width, is_right), cell.colour)
                for column, (cell, width, is_right) in enumerate(zip(row, widths, to_the_right, strict=True))
            ]
            self.line(*(piece for cell in padded for piece in (cell, " " * _GAP)))

    def note_more(self, shown: int, more: bool, thing: str) -> None:
        """Say on standard error that nothing was found, or that there is more than was shown."""
        if more:
            click.echo(f"these are {counted(shown, thing)}, and there are more: see --limit", err=True)
        elif not shown:
            click.echo(f"no {thing}s", err=True)

    def id(self, identifier: str) -> str:
        """An id, or on a narrow terminal as much of it as will do."""
        return identifier if self.width is None or self.width >= _WIDE else identifier[:SHORT_ID]

    def time(self, moment: datetime | None) -> str:
        """When something happened, to the second; a terminal is told the time, or the day if it was another one. ``-``
        for None."""
        if moment is None:
            return "-"
        if not self.is_terminal:
            return f"{moment.astimezone(UTC):%FT%TZ}"
        local, today = moment.astimezone(), datetime.now().astimezone().date()
        return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%F %H:%M}"


def duration(seconds: float | None) -> str:
    """As in ``quantity.format_duration``; ``-`` for None."""
    return "-" if seconds is None else format_duration(seconds)


def ago(seconds: float) -> str:
    """``5 s``, ``3 min``, ``4 h`` or ``2 d``, in whole units of which there are two at least."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def counted(number: int, thing: str) -> str:
    """``1 task``, ``2,000 tasks``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """The text without what could steer a terminal."""
    return _CONTROL.sub("�", text.replace("\r\n", "\n").replace("\t", "    "))


def first_line(text: str | None) -> str:
    """The first line of an error, printable."""
    return printable((text or "").strip().partition("\n")[0])


NodeT = TypeVar("NodeT")


def tree(
    nodes: Sequence[NodeT], name: Callable[[NodeT], Hashable], parents: Callable[[NodeT], Sequence[Hashable]]
) -> list[tuple[str, NodeT, list[Hashable]]]:
    """A DAG, given in an order in which parents come first, as a tree: for each node, in the tree's order, the branches
    before it, the node, and its other parents.

    A node hangs below that of its parents which lies deepest, the last of them where several do.
    """
    depths: dict[Hashable, int] = {}
    children: dict[Hashable | None, list[tuple[NodeT, list[Hashable]]]] = {}
    for node in nodes:
        above = [parent for parent in parents(node) if parent in depths]
        parent = max(reversed(above), key=lambda one: depths[one]) if above else None
        depths[name(node)] = 0 if parent is None else depths[parent] + 1
        children.setdefault(parent, []).append((node, [other for other in above if other != parent]))
    return _branches(children, name, None, "")


def _branches(
    children: Mapping[Hashable | None, Sequence[tuple[NodeT, list[Hashable]]]],
    name: Callable[[NodeT], Hashable],
    parent: Hashable | None,
    before: str,
) -> list[tuple[str, NodeT, list[Hashable]]]:
    lines: list[tuple[str, NodeT, list[Hashable]]] = []
    below = children.get(parent, ())
    for number, (node, others) in enumerate(below):
        is_last = number == len(below) - 1
        branch, further = ("", "") if parent is None else ("└ ", "  ") if is_last else ("├ ", "│ ")
        lines.append((before + branch, node, others))
        lines += _branches(children, name, name(node), before + further)
    return lines


def _padded(text: str, width: int, to_the_right: bool) -> str:
    room = " " * max(width - cell_count(text), 0)
    return room + text if to_the_right else text + room
