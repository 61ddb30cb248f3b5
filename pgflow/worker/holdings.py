"""Holdings: the tasks that this worker has claimed and whose verdicts the database does not have yet."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from pgflow.database.tasks import ClaimedTask, Holding

CLAIM_MARGIN_SECONDS = 2
"""A claim makes a message invisible for the task's timeout and this."""


@dataclass(slots=True)
class Held:
    """A task, and the ``time.monotonic()`` since when it is held, and until which its message is invisible."""

    task: ClaimedTask
    since: float
    covered_until: float


class Holdings:
    """Filled by the dispatcher, emptied by the collector, looked at by the leases; any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[object, Held] = {}
        self.doubted = -math.inf
        """The ``time.monotonic()`` at which it was last unknown what the database has."""

    def add(self, tasks: Iterable[ClaimedTask]) -> None:
        """Tasks that have just been claimed."""
        now = time.monotonic()
        with self._lock:
            for task in tasks:
                self._held[task.key] = Held(task, now, now + task.timeout + CLAIM_MARGIN_SECONDS)

    def remove(self, tasks: Iterable[Holding]) -> None:
        """Tasks whose verdicts have been delivered, or will never be; these very objects, since one that was handed
        back and claimed again has the same key."""
        with self._lock:
            for task in tasks:
                held = self._held.get(task.key)
                if held is not None and held.task is task:
                    del self._held[task.key]

    def doubt(self) -> None:
        """A claim or a release may have been committed or not: its answer is lost. What the database has of this worker
        is to be compared with what is held here."""
        self.doubted = time.monotonic()

    def all(self, longer_than: float = 0.0) -> list[Held]:
        """Every task that is held at this moment, and has been for so many seconds."""
        until = time.monotonic() - longer_than
        with self._lock:
            return [held for held in self._held.values() if held.since <= until]

    def keys(self) -> set[object]:
        """What is held at this moment, by ``Holding.key``."""
        with self._lock:
            return set(self._held)
