"""LookAhead: how many tasks may be claimed beyond those that can start at once."""

from __future__ import annotations

import threading
import time

HORIZON_SECONDS = 0.1
"""What is claimed ahead is what the slots do in this time: some round trips to the database."""
MOST_TASKS = 500
MOST_CHARACTERS = 16 << 20
"""Of inputs, held in the dispatcher."""
STANDSTILL_SECONDS = 0.25
"""Without a task's end for this long, nothing is claimed ahead."""
_WEIGHT = 0.2
"""Of the last task in the average."""


class LookAhead:
    """Learns from every task that ends how soon the slots will be free again.

    Tasks of a tenth of a second or less are claimed ahead, as a round trip to the database costs what they do; longer
    ones are not, so that no lease is spent waiting and other workers find them. ``note`` may be called from any thread.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._lock = threading.Lock()
        self._seconds = 0.0
        self._characters = 0.0
        self._noted = float("-inf")

    def note(self, seconds: float, characters: int) -> None:
        """A task kept its slot for so long; its input had so many characters."""
        with self._lock:
            is_first = self._noted == float("-inf")
            weight = 1.0 if is_first else _WEIGHT
            self._seconds += weight * (seconds - self._seconds)
            self._characters += weight * (characters - self._characters)
            self._noted = time.monotonic()

    def tasks(self) -> int:
        """How many tasks may wait for a slot."""
        with self._lock:
            if time.monotonic() - self._noted > STANDSTILL_SECONDS:
                return 0
            in_time = self._slots * HORIZON_SECONDS / max(self._seconds, 1e-6)
            in_memory = MOST_CHARACTERS / max(self._characters, 1.0)
            return int(min(in_time, in_memory, MOST_TASKS))
