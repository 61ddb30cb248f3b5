"""OomWatch: whether the kernel's OOM killer has struck lately."""

from __future__ import annotations

import time

from pgflow.process import memory

LOOK_SECONDS = 1.0


class OomWatch:
    """Remembers how often the OOM killer had struck, so that a death by SIGKILL can be laid at its door.

    The count is the machine's: a kill in another container at the same moment counts as well.
    """

    def __init__(self) -> None:
        self._looked = time.monotonic()
        self._count = self._before = memory.oom_kills()

    def look(self) -> None:
        """To be called often; looks once a second (40 us)."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._before, self._count = self._count, memory.oom_kills()

    def has_struck(self) -> bool:
        """Whether it has struck in the last one to two seconds."""
        return memory.oom_kills() > self._before
