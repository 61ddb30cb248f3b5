"""LookAhead: how many tasks may be claimed beyond those that can start at once."""

from __future__ import annotations

import threading
import time

HORIZON_SECONDS = 0.15
"""What is claimed ahead is what the slots do in this time: some round trips to the database."""
MOST_TASKS = 500
MOST_TASKS_PER_SLOT = 128
MOST_CHARACTERS = 16 << 20
"""Of inputs, by the average so far: they are held in the dispatcher."""
WINDOW_SECONDS = 0.25
"""Over which it is counted how many tasks end; without any nothing is claimed ahead."""
_LEAST_SECONDS = 0.02
_WEIGHT = 0.2
"""Of the last task in the averages."""


class LookAhead:
    """Learns from every task that ends how soon the slots will be free again.

    Short tasks are claimed ahead, as a round trip to the database takes as long as many of them; long ones are not, so
    that no lease is spent waiting and other workers find them. Two things have to allow it: how long the tasks keep
    their slots, and how many have ended lately, as some slots may be at work for long, or replace their processes.
    ``note`` may be called from any thread.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._lock = threading.Lock()
        self._seconds = 0.0
        self._characters = 0.0
        self._has_noted = False
        self._window = time.monotonic()
        self._ends = 0
        self._ends_before = 0

    def note(self, tasks: int, seconds: float, characters: int) -> None:
        """So many tasks, one after the other, kept their slot for so long; their inputs had so many characters."""
        with self._lock:
            weight = 1 - (1 - _WEIGHT) ** tasks if self._has_noted else 1.0
            self._has_noted = True
            self._seconds += weight * (seconds / tasks - self._seconds)
            self._characters += weight * (characters / tasks - self._characters)
            self._turn(time.monotonic())
            self._ends += tasks

    def tasks(self) -> int:
        """How many tasks may wait for a slot."""
        with self._lock:
            if not self._has_noted:
                return 0
            by_duration = self._slots * HORIZON_SECONDS / max(self._seconds, 1e-6)
            by_rate = self._rate() * HORIZON_SECONDS
            in_memory = MOST_CHARACTERS / max(self._characters, 1.0)
            return int(min(by_duration, by_rate, in_memory, MOST_TASKS, self._slots * MOST_TASKS_PER_SLOT))

    def _rate(self) -> float:
        """Ends per second: in this window so far, or in the one before."""
        now = time.monotonic()
        self._turn(now)
        return max(self._ends / max(now - self._window, _LEAST_SECONDS), self._ends_before / WINDOW_SECONDS)

    def _turn(self, now: float) -> None:
        passed = now - self._window
        if passed >= WINDOW_SECONDS:
            self._ends_before = self._ends if passed < 2 * WINDOW_SECONDS else 0
            self._window, self._ends = now, 0
