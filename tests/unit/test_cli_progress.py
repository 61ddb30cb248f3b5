"""What the progress display says, drawn into a string."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from pgflow.cli.progress import Bars, Lines
from pgflow.client import StepProgress

FIRST = {"step_slug": "first", "kind": "single", "status": "completed", "tasks": 1, "completed": 1}
MAP = {"step_slug": "items", "kind": "map", "status": "started", "tasks": 2000}
LAST = {"step_slug": "last", "tasks": 1}


def step(**values: Any) -> StepProgress:
    """A step's progress; a waiting single step unless said otherwise."""
    nothing = dict.fromkeys(("queued", "started", "completed", "failed", "retries"), 0)
    usual = {"kind": "single", "status": "created", "tasks": None, "error_message": None}
    return StepProgress(**{**usual, **nothing, **values})


def drawn(*steps: StepProgress, width: int = 80, height: int = 24) -> list[str]:
    """The rows of the bars on a terminal of that size."""
    bars = Bars(Console(file=io.StringIO()))
    bars.show(steps)
    paper = Console(file=io.StringIO(), width=width, height=height)
    paper.print(*bars._progress.get_renderables())
    assert isinstance(paper.file, io.StringIO)
    return paper.file.getvalue().splitlines()


def said(*moments: list[StepProgress]) -> list[str]:
    """The lines for a run seen at these moments."""
    console = Console(file=io.StringIO(), width=20)
    lines = Lines(console)
    for moment in moments:
        lines.show(moment)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_every_step_has_a_row_and_only_maps_have_a_bar() -> None:
    first, items, last = drawn(step(**FIRST), step(**MAP, started=2, queued=998, completed=1000), step(**LAST))
    assert first.split() == ["✓", "first", "done", "0:00:00"]
    assert "━" in items
    assert "1,000/2,000" in items
    assert last.split() == ["·", "last", "waiting", "-:--:--"]


def test_failures_and_retries_are_counted() -> None:
    (row,) = drawn(step(**MAP | {"status": "failed"}, completed=7, failed=1, retries=3))
    assert row.startswith("✗ items")
    assert "7/2,000 (1 failed, 3 retried)" in row


def test_a_step_behind_other_work_is_queued_and_not_running() -> None:
    (row,) = drawn(step(step_slug="first", status="started", tasks=1, queued=1))
    assert "queued" in row
    (row,) = drawn(step(step_slug="first", status="started", tasks=1, started=1))
    assert "running" in row


@pytest.mark.parametrize("width", [30, 40, 80, 200])
def test_rows_leave_room_for_the_echo_of_an_interrupt(width: int) -> None:
    rows = drawn(step(**FIRST), step(**MAP, completed=1000), step(**LAST), width=width)
    assert len(rows) == 3
    assert all(len(row.rstrip()) <= width - 2 for row in rows)


def test_finished_rows_give_way_where_there_are_too_many() -> None:
    finished = [step(**FIRST | {"step_slug": f"s{number}"}) for number in range(40)]
    rows = drawn(*finished, step(**MAP, completed=1), step(**LAST), height=12)
    assert len(rows) == 10
    assert "s39" in rows[-3]
    assert "items" in rows[-2]
    assert "last" in rows[-1]


def test_lines_tell_each_change_once() -> None:
    waiting = [
        step(**FIRST | {"status": "started", "completed": 0}, started=1),
        step(**MAP | {"status": "created"}),
    ]
    going = [step(**FIRST), step(**MAP, queued=1998, started=2)]
    done = [step(**FIRST), step(**MAP | {"status": "completed"}, completed=2000)]
    assert said(waiting, waiting, going, going, done) == [
        "first: running",
        "first: done",
        "items: 0/2,000",
        "items: 2,000/2,000",
    ]


def test_lines_tell_when_a_queued_step_begins() -> None:
    queued = [step(**FIRST | {"status": "started", "completed": 0}, queued=1)]
    running = [step(**FIRST | {"status": "started", "completed": 0}, started=1)]
    assert said(queued, queued, running, running) == ["first: queued", "first: running"]


def test_lines_are_not_wrapped_or_marked_up() -> None:
    long = "a_step_with_a_name_that_is_longer_than_the_console"
    assert said([step(**FIRST | {"step_slug": long})]) == [f"{long}: done"]
    console = Console(file=io.StringIO(), width=20)
    Lines(console).print("[red]what a handler printed[/red]")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "[red]what a handler printed[/red]\n"
