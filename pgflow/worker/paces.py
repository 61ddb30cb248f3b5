"""Paces: how many tasks a slot is given in one go."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pgflow.database.tasks import ClaimedTask
from pgflow.outcome import Outcome, Released
from pgflow.worker.limits import Limits

SERIES_SECONDS = 0.01
"""What a series is expected to take. Each one costs pebble's way there and back, measured 120 us on a machine on which
a task that does nothing takes another 200."""
MOST_TASKS = 64
MOST_CHARACTERS = 1 << 16
"""Of inputs: more does not fit into a pipe, and the cost of a message is no longer what counts."""
_WEIGHT = 0.2
"""Of the last task in the average: after one of a second the next 24 go alone."""


class Paces:
    """Learns how long the handlers of each step take. Any thread may call.

    Only steps that are known to be short make a series: whatever is behind a long task has to wait until the watch
    takes it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[tuple[str, str], float] = {}

    def note(self, task: ClaimedTask, outcome: Outcome) -> None:
        """How the task ended."""
        evidence = None if isinstance(outcome, Released) else outcome.evidence
        if evidence is None:
            return
        step, seconds = (task.flow_slug, task.step_slug), evidence["elapsed_seconds"]
        with self._lock:
            average = self._seconds.get(step, seconds)
            self._seconds[step] = average + _WEIGHT * (seconds - average)

    def series(self, tasks: Sequence[ClaimedTask], limits: Limits) -> int:
        """How many of these, the first of which may begin now, make a series."""
        if len(tasks) == 1:
            return 1
        count, seconds, characters = 0, 0.0, 0
        memory = limits.of_task(tasks[0].flow_slug, tasks[0].step_slug)
        with self._lock:
            for task in tasks:
                expected = self._seconds.get((task.flow_slug, task.step_slug))
                if expected is None or limits.of_task(task.flow_slug, task.step_slug) != memory:
                    break
                seconds += expected
                characters += len(task.input)
                if seconds > SERIES_SECONDS or characters > MOST_CHARACTERS:
                    break
                count += 1
        return max(count, 1)
