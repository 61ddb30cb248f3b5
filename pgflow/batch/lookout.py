"""Lookout: how far a batch is, for whoever watches it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pgflow.batch.load import Load
from pgflow.batch.opening import Earlier
from pgflow.batch.snapshot import Running, Snapshot
from pgflow.batch.tally import TEXT_CHARACTERS, Account
from pgflow.database.batches import BatchPass
from pgflow.database.failures import FAILURES

LOOK_SECONDS = 0.5
MOST_RUNNING = 5
"""So many are shown, those that have run for longest."""


class Lookout:
    """Looks at what runs, now and then, and puts it together with what was counted. For one thread.

    ``slots`` is how many items this machine works on at a time, and others that help, as far as is known here.
    ``share_read`` says which share of the input has been read, None where that cannot be known.
    """

    def __init__(self, batch: BatchPass, earlier: Earlier, slots: int, share_read: Callable[[], float | None]) -> None:
        self._batch = batch
        self._earlier = earlier
        self._slots = slots
        self._share_read = share_read
        self._began = time.monotonic()
        self._load = Load()
        self._looked = 0.0
        self._running: Sequence[Running] = ()
        self._count = 0

    @property
    def elapsed(self) -> float:
        """The seconds since it began."""
        return time.monotonic() - self._began

    def snapshot(self, account: Account, items: int | None, waiting: int) -> Snapshot:
        """The batch at this moment. ``items`` is how many there are, None while that is not known, ``waiting`` how many
        are in the database and not written."""
        self._look()
        earlier = self._earlier
        return Snapshot(
            total=items,
            done=earlier.done + account.finished - account.failed,
            failed=earlier.failed + account.failed,
            elapsed=self.elapsed,
            read=self._share_read() if items is None else None,
            earlier=earlier.done + earlier.failed,
            retried=account.retried,
            running_count=self._count,
            queued=max(waiting - self._count, 0),
            running=self._running,
            failures=account.failures,
            durations=account.durations,
            cores=self._load.cores,
            memory=self._load.memory,
        )

    def _look(self) -> None:
        self._load.look()
        now = time.monotonic()
        if now < self._looked + LOOK_SECONDS:
            return
        self._looked = now
        try:
            self._count, running = self._batch.running(MOST_RUNNING, self._slots)
        except FAILURES:  # what was seen last, then
            return
        self._running = [Running(item.item[:TEXT_CHARACTERS], item.seconds, item.attempt) for item in running]
