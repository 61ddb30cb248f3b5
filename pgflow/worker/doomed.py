"""Doomed: a task that was taken from its process, before the process is killed."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from pgflow.process import stack
from pgflow.worker import child
from pgflow.worker.poolprocess import PoolProcess
from pgflow.worker.running import Running, Verdict


@dataclass(slots=True, eq=False)
class Doomed:
    """A task that was taken from its process, which has been asked for its stacks until ``dump_until``, a
    ``time.monotonic()``; and what becomes of it. ``dumped`` is how many bytes have been looked at."""

    running: Running
    process: PoolProcess
    verdict: Verdict
    dump_until: float
    dumped: int = 0
    is_frozen: bool = False

    def freeze(self, dump_fd: int) -> bool:
        """Whether its stacks have been written, or had their time; then its process is stopped: many that hang at once
        would keep each other, and the watch, from the processor."""
        if self.is_frozen:
            return True
        if self.running.death_seen is None and time.monotonic() < self.dump_until:
            size = os.fstat(dump_fd).st_size
            if size == self.dumped:
                return False
            self.dumped = size
            if not stack.is_written(stack.read(dump_fd), self.process.main_thread, child.__file__):
                return False
        self.process.freeze()
        self.is_frozen = True
        return True
