"""Halt: when a batch gives up because too many of its items fail."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

LEAST_FINISHED = 20
"""A percentage counts from so many finished items on."""
_HALT = re.compile(r"(?P<when>now|soon),fail=(?P<number>\d+(?:\.\d+)?)(?P<percent>%?)")


@dataclass(frozen=True, slots=True)
class Halt:
    """Stop at so many failed items, or at so many ``percent`` of the finished ones once there are ``LEAST_FINISHED``.

    ``now`` kills what runs and hands it back, ``soon`` lets it finish.
    """

    when: Literal["now", "soon"]
    failures: int | None = None
    percent: float | None = None

    def is_due(self, failed: int, finished: int) -> bool:
        """Whether to stop now."""
        if self.failures is not None:
            return failed >= self.failures
        assert self.percent is not None
        return failed > 0 and finished >= LEAST_FINISHED and 100 * failed >= self.percent * finished

    def __str__(self) -> str:
        limit = f"{self.percent:g}%" if self.failures is None else str(self.failures)
        return f"{self.when},fail={limit}"


def parse_halt(text: str) -> Halt:
    """What ``now|soon,fail=N|N%`` says. Raises ValueError, saying what it takes, for anything else."""
    match = _HALT.fullmatch(text.strip())
    if match is not None:
        when: Literal["now", "soon"] = "now" if match["when"] == "now" else "soon"
        number = float(match["number"])
        if match["percent"] and 0 < number <= 100:
            return Halt(when, percent=number)
        if not match["percent"] and number >= 1 and number.is_integer():
            return Halt(when, failures=int(number))
    raise ValueError(
        f"must be now,fail=N or soon,fail=N, with N a number of items from 1 on or a percentage, got {text!r}"
    )
