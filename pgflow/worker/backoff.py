"""Backoff: pauses between tries to reach the database."""

from __future__ import annotations

import random

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 5.0


class Backoff:
    """Pauses that double up to a bound, each shortened at random so that workers do not come back in step."""

    def __init__(self) -> None:
        self._next = FIRST_SECONDS

    def reset(self) -> None:
        """The database answered."""
        self._next = FIRST_SECONDS

    def pause(self) -> float:
        """Seconds to wait before the next try."""
        pause = self._next * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        self._next = min(self._next * 2, LONGEST_SECONDS)
        return pause
