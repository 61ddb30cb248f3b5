"""The progress of a run: bars on a terminal, sober lines elsewhere; all on standard error."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from pgflow.client import StepProgress
from pgflow.quantity import format_clock, format_rate
from pgflow.terminal import ECHO_COLUMNS, LINE_SECONDS, OTHER_LINES, is_watched

_MARKS = {
    "created": Text("·", style="dim"),
    "completed": Text("✓", style="green"),
    "failed": Text("✗", style="red"),
    "skipped": Text("-", style="dim"),
}
_STATES = {"created": "waiting", "started": "running", "completed": "done"}
_STOPPED = Text("-", style="dim")
_NAME_COLUMNS = 8


class Display(Protocol):
    """Where a run's progress is shown while entered."""

    def __enter__(self) -> object: ...
    def __exit__(self, *_: object) -> None: ...
    def print(self, line: str) -> None:
        """Show a line of somebody else's."""

    def show(self, steps: Sequence[StepProgress]) -> None:
        """Show how far the steps are."""


def display_on(console: Console) -> Display:
    """Bars where somebody looks at them, else lines."""
    return Bars(console) if is_watched(console) else Lines(console)


class Bars:
    """A line per step: a bar with rate and remaining time for a map, a state for a single step."""

    def __init__(self, console: Console) -> None:
        self._progress = _Rows(
            _Mark(table_column=Column(min_width=1)),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=_NAME_COLUMNS)),
            _Bar(bar_width=None, table_column=Column(ratio=1)),
            _Count(Column(no_wrap=True)),
            _Rate(Column(no_wrap=True)),
            TimeElapsedColumn(),
            console=console,
            expand=True,
        )
        self._rows: dict[str, TaskID] = {}

    def __enter__(self) -> object:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.is_over = True
        for row in self._progress.tasks:
            if row.started:
                self._progress.stop_task(row.id)
        self._progress.stop()

    def print(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False)

    def show(self, steps: Sequence[StepProgress]) -> None:
        for step in steps:
            if step.step_slug not in self._rows:
                self._rows[step.step_slug] = self._progress.add_task(step.step_slug, start=False, total=None)
            row = self._rows[step.step_slug]
            if step.status != "created" and not self._progress.tasks[row].started:
                self._progress.start_task(row)
            self._progress.update(
                row,
                total=step.tasks,
                completed=step.completed,
                step=step,
                description=f"[red]{step.step_slug}" if step.failed else step.step_slug,
            )
            if step.status in ("completed", "failed", "skipped"):
                self._progress.stop_task(row)


class _Rows(Progress):
    """Rows that fit the terminal, however small it is."""

    is_over = False

    def get_renderables(self) -> Iterable[RenderableType]:
        yield _Fitted(self)


class _Fitted:
    """The rows at the size the terminal has now."""

    def __init__(self, rows: _Rows) -> None:
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self._rows.make_tasks_table(self._with_room(console.height - OTHER_LINES))
        yield Constrain(table, options.max_width - ECHO_COLUMNS)

    def _with_room(self, lines: int) -> list[Task]:
        """All rows, but while there are too many for the lines, as few of the finished ones as need be."""
        excess = 0 if self._rows.is_over else max(len(self._rows.tasks) - lines, 0)
        hidden = [row.id for row in self._rows.tasks if row.stop_time is not None][:excess]
        return [row for row in self._rows.tasks if row.id not in hidden]


class _Mark(SpinnerColumn):
    """A spinner while the step runs, else a mark for its state."""

    def render(self, task: Task) -> RenderableType:
        step: StepProgress | None = task.fields.get("step")
        mark = _MARKS.get(step.status) if step is not None else None
        if mark is None and task.stop_time is not None:
            return _STOPPED
        return mark if mark is not None else super().render(task)


class _Bar(BarColumn):
    """A bar for a map; a single step has but one task."""

    def render(self, task: Task) -> RenderableType:  # type: ignore[override]
        step: StepProgress | None = task.fields.get("step")
        return super().render(task) if step is not None and step.kind == "map" else Text("")


class _Count(ProgressColumn):
    """``1,234/9,999`` of a map, else the state; with failures and retries."""

    def render(self, task: Task) -> Text:
        step: StepProgress | None = task.fields.get("step")
        return Text(_summary(step)) if step is not None else Text("")


class _Rate(ProgressColumn):
    """Tasks per second and the remaining time of a running map."""

    def render(self, task: Task) -> Text:
        step: StepProgress | None = task.fields.get("step")
        if step is None or step.kind == "single" or task.stop_time is not None or not task.speed:
            return Text("")
        return Text(f"{format_rate(task.speed)}, {format_clock(task.time_remaining or 0)} left", style="cyan")


class Lines:
    """A line when a step changes its state, and every 10 seconds for what runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: dict[str, str] = {}
        self._last = time.monotonic()

    def __enter__(self) -> object:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, steps: Sequence[StepProgress]) -> None:
        due = time.monotonic() - self._last >= LINE_SECONDS
        for step in steps:
            state = _state(step)
            changed = state != self._shown.get(step.step_slug, "created")
            if changed or (due and step.status == "started"):
                self._shown[step.step_slug] = state
                self.print(f"{step.step_slug}: {_summary(step)}")
        if due:
            self._last = time.monotonic()


def _state(step: StepProgress) -> str:
    """The step's status; ``queued`` when it has started and none of its tasks has."""
    return "queued" if step.status == "started" and step.queued == step.tasks else step.status


def _summary(step: StepProgress) -> str:
    state = _state(step)
    words = _STATES.get(state, state)
    if state != "queued" and step.kind == "map" and step.tasks is not None:
        words = f"{step.completed:,}/{step.tasks:,}"
        words += " failed" if step.status == "failed" and not step.failed else ""
    notes = [f"{step.failed:,} failed"] if step.failed and step.kind == "map" else []
    notes += [f"{step.retries:,} retried"] if step.retries else []
    return f"{words} ({', '.join(notes)})" if notes else words
