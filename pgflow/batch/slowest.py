"""The items that took longest."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

MOST = 5


@dataclass(frozen=True, slots=True, order=True)
class SlowItem:
    """An item, its index among the input's, and how many seconds it took."""

    seconds: float
    index: int
    text: str


class Slowest:
    """Keeps the five slowest of any number of items. Not for several threads at a time."""

    def __init__(self) -> None:
        self._items: list[SlowItem] = []

    def is_among(self, seconds: float) -> bool:
        """Whether an item that took so long would be kept, so that its text need not be made otherwise."""
        return len(self._items) < MOST or seconds > self._items[0].seconds

    def add(self, item: SlowItem) -> None:
        """Keep it, if it is among them."""
        if len(self._items) < MOST:
            heapq.heappush(self._items, item)
        else:
            heapq.heappushpop(self._items, item)

    def items(self) -> list[SlowItem]:
        """The slowest, first the very slowest."""
        return sorted(self._items, reverse=True)
