"""Wakeup: how long the dispatcher waits before it asks the database for tasks again."""

from __future__ import annotations

import threading

SHORTEST_SECONDS = 0.01
LONGEST_SECONDS = 0.25


class Wakeup:
    """A poll interval that doubles while the queues are empty and starts anew when something happens.

    ``notify`` may be called from any thread: the collector does after a flush, because a completed task may
    have started its dependents.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._interval = SHORTEST_SECONDS

    def notify(self) -> None:
        """Something may be there to claim: end the wait."""
        self._event.set()

    def found(self) -> None:
        """Tasks were there: ask again soon."""
        self._interval = SHORTEST_SECONDS

    def wait(self) -> None:
        """Wait for ``notify``, at most for the current interval."""
        if self._event.wait(self._interval):
            self._interval = SHORTEST_SECONDS
        else:
            self._interval = min(self._interval * 2, LONGEST_SECONDS)
        self._event.clear()
