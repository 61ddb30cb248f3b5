"""Paces: how many tasks a slot is given in one go."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgflow.outcome import Completed, Outcome, Released
from pgflow.worker.limits import Limits

if TYPE_CHECKING:
    from pgflow.database.tasks import ClaimedTask

SERIES_SECONDS = 0.1
"""What a series is expected to take. Each one costs pebble's way there and back: 1.6 ms until the next task begins, and
0.2 ms within a series. Tasks of 10 ms of CPU came to 61 % of the ideal one by one, to 80 % in fives, to 86 %
in tens."""
MOST_TASKS = 64
MOST_CHARACTERS = 1 << 16
"""Of inputs: more does not fit into a pipe, and the cost of a message is no longer what counts. Half of it of outputs,
by the average so far."""
_WEIGHT = 0.2
"""Of the last task in the average: after one of a second the next ten go alone."""


@dataclass(slots=True)
class _Pace:
    """Averages of a step's tasks."""

    seconds: float
    characters: float
    """Of the output."""


class Paces:
    """Learns how long the handlers of each step take. Any thread may call.

    Only steps that are known to be short make a series: whatever is behind a long task has to wait until the watch
    takes it back. And only as many as their answers fit into the logbook: there the series ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paces: dict[tuple[str, str], _Pace] = {}

    def note(self, task: ClaimedTask, outcome: Outcome) -> None:
        """How the task ended."""
        evidence = None if isinstance(outcome, Released) else outcome.evidence
        if evidence is None or not math.isfinite(evidence["elapsed_seconds"]):
            return
        seconds = evidence["elapsed_seconds"]
        characters = len(outcome.output) if isinstance(outcome, Completed) else 0
        with self._lock:
            pace = self._paces.setdefault((task.flow_slug, task.step_slug), _Pace(seconds, characters))
            pace.seconds += _WEIGHT * (seconds - pace.seconds)
            pace.characters += _WEIGHT * (characters - pace.characters)

    def series(self, tasks: Sequence[ClaimedTask], limits: Limits) -> int:
        """How many of these, the first of which may begin now, make a series."""
        if len(tasks) == 1:
            return 1
        seconds, inputs, outputs = 0.0, 0, 0.0
        memory = limits.of_task(tasks[0].flow_slug, tasks[0].step_slug)
        with self._lock:
            for count, task in enumerate(tasks):
                pace = self._paces.get((task.flow_slug, task.step_slug))
                if pace is None or limits.of_task(task.flow_slug, task.step_slug) != memory:
                    return max(count, 1)
                seconds += pace.seconds
                inputs += len(task.input)
                outputs += pace.characters
                if seconds > SERIES_SECONDS or inputs > MOST_CHARACTERS or outputs > MOST_CHARACTERS / 2:
                    return max(count, 1)
        return len(tasks)
