"""Tally: what became of the items that were written in this session."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from pgflow.batch.causes import Cause, Causes
from pgflow.batch.durations import Durations, Spread
from pgflow.batch.slowest import Slowest, SlowItem
from pgflow.batch.snapshot import Failure
from pgflow.database.batches import FinishedItem

LAST_FAILURES = 5
TEXT_CHARACTERS = 1_000
"""Of an item that is shown to somebody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a tally has come to. ``finished`` counts those that ``failed``; ``failures`` are the last, oldest first."""

    finished: int
    failed: int
    retried: int
    cpu_seconds: float
    durations: Spread | None
    failures: Sequence[Failure]
    slowest: Sequence[SlowItem]
    causes: Sequence[Cause]
    other_causes: int


class Tally:
    """Counts. The collector's thread adds, any may look."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._finished = 0
        self._failed = 0
        self._retried = 0
        self._cpu_seconds = 0.0
        self._durations = Durations()
        self._failures: deque[Failure] = deque(maxlen=LAST_FAILURES)
        self._slowest = Slowest()
        self._causes = Causes()

    def add(self, items: Sequence[FinishedItem]) -> None:
        """These were written."""
        with self._lock:
            for item in items:
                self._add(item)
            self._finished += len(items)

    def _add(self, item: FinishedItem) -> None:
        seconds = item.elapsed_seconds
        self._durations.add(seconds)
        if self._slowest.is_among(seconds):
            self._slowest.add(SlowItem(seconds, item.item_index, item.item[:TEXT_CHARACTERS]))
        self._retried += item.attempts > 1
        self._cpu_seconds += item.cpu_seconds or 0.0
        if item.has_failed:
            self._failed += 1
            message = str(json.loads(item.output)["message"])
            failure = Failure(item.item_index, item.item[:TEXT_CHARACTERS], message, seconds)
            self._failures.append(failure)
            self._causes.add(failure)

    def account(self) -> Account:
        """What it has come to."""
        with self._lock:
            return Account(
                finished=self._finished,
                failed=self._failed,
                retried=self._retried,
                cpu_seconds=self._cpu_seconds,
                durations=self._durations.spread(),
                failures=tuple(self._failures),
                slowest=self._slowest.items(),
                causes=self._causes.most_common(),
                other_causes=self._causes.others,
            )
