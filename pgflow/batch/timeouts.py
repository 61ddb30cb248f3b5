"""How long an item may run: so many seconds, or so many percent of what the others took."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pgflow.quantity import parse_duration

LEAST_FINISHED = 10
"""A percentage counts from so many finished items on."""
BOUND_SECONDS = 3600
"""Until then, and at most, an item may run so long."""
_PERCENT = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*%\s*")


@dataclass(frozen=True, slots=True)
class Timeout:
    """``seconds`` when a batch begins, whole ones; with ``percent``, of the median so far, they follow it."""

    seconds: int
    percent: float | None = None

    def following(self, median: float | None, finished: int) -> int:
        """The seconds that an item may run, rounded up, when so many have ``finished``, the median in ``median``
        seconds."""
        if self.percent is None or median is None or finished < LEAST_FINISHED:
            return self.seconds
        return min(max(1, math.ceil(median * self.percent / 100)), BOUND_SECONDS)


def parse_timeout(text: str) -> Timeout:
    """What ``30s``, ``5m`` or ``300%`` says. Raises ValueError, saying what it takes, for anything else."""
    percent = _PERCENT.fullmatch(text)
    if percent is not None:
        if float(percent["number"]) <= 100:
            raise ValueError(f"must be more than 100% of the median, which half of the items take, got {text!r}")
        return Timeout(BOUND_SECONDS, float(percent["number"]))
    try:
        seconds = parse_duration(text)
    except ValueError:
        raise ValueError(f"must be a duration such as 30s or 5m, or a percentage such as 300%, got {text!r}") from None
    if seconds <= 0 or not seconds.is_integer() or seconds >= 2**31:
        raise ValueError(f"must be a number of whole seconds, at least 1, got {text!r}")
    return Timeout(int(seconds))
