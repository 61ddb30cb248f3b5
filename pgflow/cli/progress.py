"""The progress of a run: bars on a terminal, sober lines elsewhere; all on standard error."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from rich.console import Console, RenderableType
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
from rich.text import Text

from pgflow.cli.interrupts import Interrupts
from pgflow.cli.lines import RelayedLines
from pgflow.client import Client, Run, StepProgress
from pgflow.errors import WorkerStartError
from pgflow.worker import Worker

LINE_SECONDS = 10.0
SHORTEST_LOOK_SECONDS = 0.05
LONGEST_LOOK_SECONDS = 0.5
_MARKS = {
    "created": Text("·", style="dim"),
    "completed": Text("✓", style="green"),
    "failed": Text("✗", style="red"),
    "skipped": Text("-", style="dim"),
}
_STATES = {"created": "waiting", "started": "running", "completed": "done"}


def watch(client: Client, worker: Worker, run_id: str, lines: RelayedLines, interrupts: Interrupts) -> Run | None:
    """Show the run's progress until it has ended, and return it; None when the user interrupts.

    Raises WorkerStartError when the worker ends before the run does.
    """
    console = Console(stderr=True)
    display: _Display = _Bars(console) if console.is_terminal else _Lines(console)
    before = lines.show
    lines.show = display.print
    interval = SHORTEST_LOOK_SECONDS
    with display:
        try:
            while not interrupts.came:
                run = client.get(run_id) if _has_ended(client, run_id) else None
                display.show(client.progress(run_id))
                if run is not None:
                    return run
                if not worker.is_running:
                    raise WorkerStartError(message=f"The worker ended before run {run_id} did; its log says why")
                time.sleep(interval)
                interval = min(interval * 1.3, LONGEST_LOOK_SECONDS)
            return None
        finally:
            lines.show = before


def _has_ended(client: Client, run_id: str) -> bool:
    return client.status(run_id) != "started"


class _Display(Protocol):
    def __enter__(self) -> object: ...
    def __exit__(self, *_: object) -> None: ...
    def print(self, line: str) -> None:
        """Show a line of somebody else's."""

    def show(self, steps: Sequence[StepProgress]) -> None:
        """Show how far the steps are."""


class _Bars:
    """A line per step: a bar with rate and remaining time for a map, a state for a single step."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            _Mark(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            _Count(),
            _Rate(),
            TimeElapsedColumn(),
            console=console,
            expand=True,
        )
        self._rows: dict[str, TaskID] = {}

    def __enter__(self) -> object:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
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


class _Mark(SpinnerColumn):
    """A spinner while the step runs, else a mark for its state."""

    def render(self, task: Task) -> RenderableType:
        step: StepProgress | None = task.fields.get("step")
        mark = _MARKS.get(step.status) if step is not None else None
        return mark if mark is not None else super().render(task)


class _Count(ProgressColumn):
    """``1,234/9,999`` of a map, else the state; with failures and retries."""

    def render(self, task: Task) -> Text:
        step: StepProgress | None = task.fields.get("step")
        return Text(_summary(step)) if step is not None else Text("")


class _Rate(ProgressColumn):
    """Tasks per second and the remaining time of a running map."""

    def render(self, task: Task) -> Text:
        step: StepProgress | None = task.fields.get("step")
        if step is None or step.kind == "single" or step.status != "started" or not task.elapsed:
            return Text("")
        rate = step.completed / task.elapsed
        if not rate or step.tasks is None:
            return Text("")
        return Text(f"{rate:,.0f}/s, {_seconds((step.tasks - step.completed) / rate)} left", style="cyan")


class _Lines:
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
            changed = step.status != self._shown.get(step.step_slug, "created")
            if changed or (due and step.status == "started"):
                self._shown[step.step_slug] = step.status
                self.print(f"{step.step_slug}: {_summary(step)}")
        if due:
            self._last = time.monotonic()


def _summary(step: StepProgress) -> str:
    words = _STATES.get(step.status, step.status)
    if step.kind == "map" and step.tasks is not None:
        words = f"{step.completed:,}/{step.tasks:,}" + (" failed" if step.status == "failed" else "")
    notes = [f"{step.failed:,} failed"] if step.failed and step.kind == "map" else []
    notes += [f"{step.retries:,} retried"] if step.retries else []
    return f"{words} ({', '.join(notes)})" if notes else words


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
