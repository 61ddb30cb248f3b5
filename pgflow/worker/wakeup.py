"""Wakeup: how long the dispatcher waits before it asks the database for tasks again."""

from __future__ import annotations

import threading
import time
from typing import Protocol

SHORTEST_SECONDS = 0.01
ARMING_SECONDS = 0.04
"""A poll interval from which on the bell is armed: sooner, and a busy worker arms and disarms all the time; later, and
tasks queued shortly before are found late (p99 of the start 116 ms with 0.25)."""
LONGEST_SECONDS = 0.25
IDLE_SECONDS = 10.0
"""Who is notified of new tasks still looks this often: a notification may be lost. With as many looks for dead workers,
an idle worker sends one statement in 5 s beside its heartbeats."""
ARMED_SECONDS = 60.0
"""After this long the bell is armed anew: somebody may have disarmed it behind our back."""


class Bell(Protocol):
    """What rings when tasks are queued."""

    @property
    def is_hearing(self) -> bool:
        """Whether it would be heard."""

    def arm(self) -> float | None:
        """From now on it rings. Returns in how many seconds a look is due at the latest; None if it could not be
        armed."""

    def disarm(self) -> None:
        """It need not ring any more."""


class Wakeup:
    """A poll interval that doubles while the queues are empty and starts anew when something happens. After a few
    fruitless looks the bell is armed, and the dispatcher waits for that instead.

    ``notify`` may be called from any thread: by the collector after a flush, because a completed task may have started
    its dependents, and by the listener. The rest is for the dispatcher's thread.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._interval = SHORTEST_SECONDS
        self._bell: Bell | None = None
        self._next_look: float | None = None  # monotonic; not None while the bell is armed and nothing has rung since
        self._is_armed = False

    def use(self, bell: Bell) -> None:
        """Wait for this bell; without one there is polling."""
        self._bell = bell

    def notify(self) -> None:
        """Something may be there to claim: end the wait."""
        self._event.set()

    def found(self) -> None:
        """Tasks were there: ask again soon."""
        self._interval = SHORTEST_SECONDS
        self._next_look = None
        if self._is_armed and self._bell is not None:
            self._is_armed = False
            self._bell.disarm()

    def wait(self) -> None:
        """Wait for ``notify``, at most until the next look is due."""
        if self._bell is not None and not self._bell.is_hearing:
            self._next_look = None
        if self._next_look is None and self._interval >= ARMING_SECONDS and self._arm():
            return  # tasks queued before it was armed have not rung: one look more
        now = time.monotonic()
        timeout = self._interval if self._next_look is None else min(max(self._next_look - now, 0), IDLE_SECONDS)
        has_rung = self._event.wait(timeout)
        self._event.clear()
        if has_rung or (self._next_look is not None and time.monotonic() >= self._next_look):
            self._interval = SHORTEST_SECONDS
            self._next_look = None
        elif self._next_look is None:
            self._interval = min(self._interval * 2, LONGEST_SECONDS)

    def _arm(self) -> bool:
        if self._bell is None or not self._bell.is_hearing:
            return False
        self._is_armed = True  # or half armed, if it says that it could not be
        due_in = self._bell.arm()
        if due_in is None:
            return False
        self._next_look = time.monotonic() + min(due_in, ARMED_SECONDS)
        return True
