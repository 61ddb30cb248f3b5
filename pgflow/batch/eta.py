"""How long the rest will take, and how fast it goes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from pgflow.batch.durations import Spread
from pgflow.quantity import format_clock

WINDOW_SECONDS = 10.0

_DEVIATIONS = 2.56  # how many standard deviations lie between a normal distribution's p10 and p90


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds until everything is done, and a range for it."""

    seconds: float
    least: float
    most: float

    def __str__(self) -> str:
        middle, least, most = map(format_clock, (self.seconds, self.least, self.most))
        return f"{middle} left" if least == most else f"{middle} left ({least}-{most})"


def estimate(remaining: int, running: Sequence[float], durations: Spread, elapsed: float) -> Eta | None:
    """The estimate for ``remaining`` items, of which those ``running`` have run so many seconds; ``durations`` are of
    what has finished in ``elapsed`` seconds. None while too little is known.

    The median of what has finished alone would be short where a few items are long, the mean alone jumps with each of
    them: the estimate lies between what both make of the rest. The range spans both, and twice the standard error on
    either side, which counts the few that are known and the few that are left.
    """
    busy = durations.total + sum(running)
    if elapsed <= 0 or busy <= 0:
        return None
    concurrency = busy / elapsed  # of slots and machines, less what is lost between items
    error = (durations.p90 - durations.p10) / _DEVIATIONS * math.sqrt(remaining + remaining**2 / durations.count)
    by_median, by_mean = (_work(remaining, running, each) for each in (durations.median, durations.mean))
    least = max(min(by_median, by_mean) - 2 * error, 0.0)
    most = max(by_median, by_mean) + 2 * error
    return Eta((by_median + by_mean) / 2 / concurrency, least / concurrency, most / concurrency)


def _work(remaining: int, running: Sequence[float], each: float) -> float:
    """The seconds of work left when an item takes ``each``."""
    return max(remaining * each - sum(min(seconds, each) for seconds in running), 0.0)


class Pace:
    """How many items finish a second, over the last 10 seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, seconds: float, finished: int) -> float:
        """The rate, when so many have finished after so many seconds."""
        self._seen.append((seconds, finished))
        while len(self._seen) > 2 and self._seen[1][0] <= seconds - WINDOW_SECONDS:
            self._seen.popleft()
        since, before = self._seen[0]
        return (finished - before) / (seconds - since) if seconds > since else 0.0
