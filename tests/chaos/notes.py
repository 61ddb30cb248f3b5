"""What the handlers noted: which task ran where, from when to when."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

Task = tuple[str, str, int]
"""Run, step and index."""


@dataclass(slots=True)
class Execution:
    """One call of a handler; without an end it did not come to one."""

    task: Task
    attempt: int
    pid: int
    begin: float
    end: float | None = None


def read(folder: Path) -> dict[Task, list[Execution]]:
    """The executions of each task, in the order of their begin."""
    by_task: dict[Task, list[Execution]] = defaultdict(list)
    for file in folder.glob("*.notes"):
        for execution in _executions(file.read_text()):
            by_task[execution.task].append(execution)
    for executions in by_task.values():
        executions.sort(key=lambda execution: execution.begin)
    return by_task


def _executions(text: str) -> list[Execution]:
    executions: list[Execution] = []
    for line in text.splitlines():
        what, run_id, step_slug, index, attempt, pid, time = line.split()
        if what == "begin":
            executions.append(Execution((run_id, step_slug, int(index)), int(attempt), int(pid), float(time)))
        else:
            executions[-1].end = float(time)
    return executions


def is_busy(folder: Path, pid: int) -> bool:
    """Whether a process is in a handler."""
    try:
        last = (folder / f"{pid}.notes").read_text().splitlines()[-1:]
    except FileNotFoundError:
        return False
    return bool(last) and last[0].startswith("begin")
