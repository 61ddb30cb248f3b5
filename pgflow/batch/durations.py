"""How long items took: any number of them in a few kilobytes.

A histogram whose buckets grow by 2 %, so that a quantile is within 1 % of an item's duration, from a microsecond to
years. (A sketch known as DDSketch; the library of that name is not kept any more.)
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

_GROWTH = 1.02
_SCALE = 1 / math.log(_GROWTH)
_LEAST_SECONDS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What durations are like: their number and sum, quantiles and the longest, in seconds."""

    count: int
    total: float
    p10: float
    median: float
    p90: float
    p99: float
    longest: float

    @property
    def mean(self) -> float:
        """The average."""
        return self.total / self.count


class Durations:
    """Collects durations. Not for several threads at a time."""

    def __init__(self) -> None:
        self.count = 0
        self._total = 0.0
        self._longest = 0.0
        self._shortest = math.inf
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """One more."""
        self.count += 1
        self._total += seconds
        self._longest = max(self._longest, seconds)
        self._shortest = min(self._shortest, seconds)
        self._buckets[math.floor(math.log(max(seconds, _LEAST_SECONDS)) * _SCALE)] += 1

    def median(self) -> float | None:
        """What half of them do not exceed; None when there is none."""
        return self._quantiles(0.5)[0] if self.count else None

    def spread(self) -> Spread | None:
        """What they are like; None when there is none."""
        if not self.count:
            return None
        p10, median, p90, p99 = self._quantiles(0.1, 0.5, 0.9, 0.99)
        return Spread(
            count=self.count, total=self._total, p10=p10, median=median, p90=p90, p99=p99, longest=self._longest
        )

    def _quantiles(self, *shares: float) -> list[float]:
        """For each of the shares, which ascend, the smallest duration that so many do not exceed."""
        found: list[float] = []
        below = 0
        for bucket in sorted(self._buckets):
            below += self._buckets[bucket]
            while len(found) < len(shares) and below >= math.ceil(shares[len(found)] * self.count):
                middle = math.exp((bucket + 0.5) / _SCALE)
                found.append(min(max(middle, self._shortest), self._longest))
        return found
