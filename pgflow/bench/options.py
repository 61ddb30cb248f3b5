"""What every suite is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

QUICK_REPEAT, REPEAT = 2, 5


@dataclass(frozen=True, slots=True)
class Options:
    """``slots`` pool processes; every measurement ``repeat`` times. ``size`` times as many tasks as usual, where a
    suite counts tasks; ``quick`` for a few loads."""

    slots: int
    repeat: int
    size: float = 1.0
    quick: bool = False

    def as_data(self) -> dict[str, Any]:
        """The options as JSON values."""
        return asdict(self)
