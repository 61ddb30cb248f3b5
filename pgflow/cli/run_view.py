"""A run as text: what it is, its steps as a tree, why it failed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pgflow.cli.text import Cell, Sheet, counted, duration, first_line, printable, status_cell, tree

if TYPE_CHECKING:
    from pgflow.database.inspection.payload import Payload
    from pgflow.database.inspection.runs import RunDetail, StepState

_MARKS = {
    "created": Cell("·", "bright_black"),
    "started": Cell("▸", "cyan"),
    "completed": Cell("✓", "green"),
    "failed": Cell("✗", "red"),
    "skipped": Cell("-", "bright_black"),
}
_WORDS = {"created": "waiting", "started": "running", "completed": "done"}
_ERROR_LINES = 30
_TITLE = 10


def show_run(sheet: Sheet, detail: RunDetail) -> None:
    """Print it."""
    run = detail.run
    sheet.line(_title("run"), run.run_id)
    sheet.line(_title("flow"), run.flow_slug)
    started = sheet.time(run.started_at)
    times = f"{started} to {sheet.time(run.ended_at)}" if run.ended_at else f"since {started}"
    sheet.line(_title("status"), status_cell(run.status), f", {duration(run.seconds)} ({times})")
    sheet.line(_title("input"), payload_in_short(detail.input))
    if detail.output is not None:
        sheet.line(_title("output"), payload_in_short(detail.output))
    for one in detail.interventions:
        why = f": {first_line(one.reason)}" if one.reason else ""
        sheet.line(_title(one.action), f"{sheet.time(one.happened_at)} by {one.requested_by}{why}")
    sheet.line()
    _show_steps(sheet, detail)
    if detail.first_failure is not None:
        sheet.line()
        _show_failure(sheet, detail)


def payload_in_short(payload: Payload | None) -> str:
    """A value in a line, with its size where it is not whole."""
    if payload is None:
        return "none"
    if payload.truncated:
        return f"({payload.bytes:,} bytes) {printable(payload.beginning or '')}"
    return printable(payload.value or "")


def _title(title: str) -> Cell:
    return Cell(f"{title:<{_TITLE}}", "bright_black")


def _show_steps(sheet: Sheet, detail: RunDetail) -> None:
    placed = tree(detail.steps, lambda step: step.step_slug, lambda step: step.depends_on)
    names = [f"{branches}{_MARKS[step.status].text} {step.step_slug}" for branches, step, _ in placed]
    name_width = max(map(len, names), default=0)
    counts = [_counts(step) for _, step, _ in placed]
    counts_width = max(map(len, counts), default=0)
    for (branches, step, others), name, count in zip(placed, names, counts, strict=True):
        mark = _MARKS[step.status]
        sheet.line(
            branches,
            mark,
            f" {step.step_slug}{' ' * (name_width - len(name))}  ",
            Cell(f"{count:<{counts_width}}", mark.colour),
            f"  {duration(step.seconds) if step.started_at else '':>9}  ",
            "  ".join(_notes(step, [str(other) for other in others])),
        )


def _counts(step: StepState) -> str:
    words = _WORDS.get(step.status, step.status)
    if step.status == "started" and step.queued == step.tasks:
        words = "queued"
    if step.kind == "single" or step.status in ("created", "skipped"):
        return words
    return f"{words} {step.completed:,}/{'?' if step.tasks is None else f'{step.tasks:,}'}"


def _notes(step: StepState, others: list[str]) -> Iterator[str]:
    if step.kind == "map":
        parts = [
            f"{number:,} {word}"
            for number, word in (
                (step.started if step.status == "started" else 0, "running"),
                (step.queued if step.status == "started" else 0, "queued"),
                (step.started + step.queued if step.status == "failed" else 0, "left undone"),
                (step.failed, "failed"),
                (step.recorded, "failed, recorded"),
            )
            if number
        ]
        if parts:
            yield ", ".join(parts)
    if step.retries:
        yield counted(step.retries, "retry").replace("retrys", "retries")
    if step.skip_reason:
        yield step.skip_reason.replace("_", " ")
    if others:
        yield f"(also after {', '.join(others)})"
    if step.error_message:
        yield first_line(step.error_message)


def _show_failure(sheet: Sheet, detail: RunDetail) -> None:
    failure = detail.first_failure
    assert failure is not None
    address = f"{failure.step_slug}[{failure.task_index}]" if failure.task_index is not None else failure.step_slug
    attempts = f", {counted(failure.attempts, 'attempt')}" if failure.attempts else ""
    sheet.line(Cell(f"failed at {address}{attempts}:", "red"))
    lines = printable(failure.error_message).splitlines()
    for line in lines[:_ERROR_LINES]:
        sheet.line(f"  {line}")
    if len(lines) > _ERROR_LINES:
        sheet.line(f"  ... {counted(len(lines) - _ERROR_LINES, 'line')} more")
    if failure.task_index is not None:
        address = f"{sheet.id(detail.run.run_id)}:{failure.step_slug}:{failure.task_index}"
        sheet.line(f"everything about it: pgflow tasks dump {address}", cut=False)
