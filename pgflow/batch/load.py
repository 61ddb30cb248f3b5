"""What a batch's processes take of the machine."""

from __future__ import annotations

import os
import time

from pgflow.process import tree, usage

LOOK_SECONDS = 1.0
"""A look reads a few files of /proc for each process."""


class Load:
    """Looks at this process and all its descendants, where there is /proc; for one thread."""

    def __init__(self) -> None:
        self.cores: float | None = None
        """How many CPUs they kept busy between the last two looks."""
        self.memory: int | None = None
        """How many bytes they had resident at the last one."""
        self._looked = 0.0
        self._cpu = 0.0

    def look(self) -> None:
        """Look again, if it is time to."""
        now = time.monotonic()
        passed = now - self._looked
        if passed < LOOK_SECONDS:
            return
        pid = os.getpid()
        seen = [sample for each in (pid, *tree.descendants(pid)) if (sample := usage.sample(each)) is not None]
        if not seen:
            return
        # What a process that has ended used is its parent's, which waited for it.
        cpu = sum(sample.cpu for sample in seen)
        if self._looked:
            self.cores = max(cpu - self._cpu, 0.0) / passed
        self.memory = sum(sample.peak_rss for sample in seen)
        self._looked, self._cpu = now, cpu
