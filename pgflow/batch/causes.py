"""Failures by cause: errors that differ only in their numbers and quoted names have one."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from pgflow.batch.shown import first_line
from pgflow.batch.snapshot import Failure

MAX_CAUSES = 100
MAX_CAUSE_CHARACTERS = 200

_DETAIL = re.compile(r"'[^']*'|\"[^\"]*\"|0x[0-9a-fA-F]+|\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Cause:
    """How many items failed for one cause, and the first of them; its ``cause`` is one line."""

    count: int
    example: Failure


class Causes:
    """Counts failures. Beyond 100 causes, which nobody would read, others are counted together.

    Not for several threads at a time.
    """

    def __init__(self) -> None:
        self._causes: dict[str, Cause] = {}
        self.others = 0
        """Failures for other causes than the first 100."""

    def add(self, failure: Failure) -> None:
        """One more. What matters of its cause is the first line."""
        line = first_line(failure.cause, MAX_CAUSE_CHARACTERS)
        key = _DETAIL.sub("_", line)
        known = self._causes.get(key)
        if known is not None:
            self._causes[key] = Cause(known.count + 1, known.example)
        elif len(self._causes) < MAX_CAUSES:
            self._causes[key] = Cause(1, replace(failure, cause=line))
        else:
            self.others += 1

    def most_common(self) -> list[Cause]:
        """The causes, that of most failures first."""
        return sorted(self._causes.values(), key=lambda cause: (-cause.count, cause.example.index))
