"""Tally: what became of the items that were written."""

from __future__ import annotations

from collections.abc import Sequence

from pgflow.database.batches import FinishedItem


class Tally:
    """Counts. One thread adds, any may look."""

    def __init__(self) -> None:
        self.finished = 0
        self.failed = 0
        self.retried = 0
        self._d: list[float] = []

    def add(self, items: Sequence[FinishedItem]) -> None:
        """These were written."""
        for item in items:
            self.failed += item.has_failed
            self.retried += item.attempts > 1
            self._d.append(item.elapsed_seconds)
        self.finished += len(items)

    def median(self) -> float | None:
        return sorted(self._d)[len(self._d) // 2] if self._d else None
