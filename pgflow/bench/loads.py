"""The loads of the suite throughput: what one task does, and how tasks are related."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pgflow.bench.work import order

DAG_STEPS = 5
Shape = Literal["runs", "map", "dags"]
_SHAPES: dict[Shape, str] = {"runs": "single-step runs", "map": "one map", "dags": f"{DAG_STEPS}-step DAGs"}


@dataclass(frozen=True, slots=True)
class Load:
    """``tasks`` for each slot; ``cpu`` seconds and ``text_bytes`` of input, and as many of output, for each task."""

    shape: Shape
    tasks: int
    cpu: float = 0.0
    text_bytes: int = 0

    @property
    def name(self) -> str:
        """In words."""
        if self.cpu:
            what = f"{self.cpu * 1e3:g} ms of CPU"
        elif self.text_bytes:
            what = _size(self.text_bytes)
        else:
            what = "no-op"
        return f"{_SHAPES[self.shape]}, {what}"

    @property
    def order(self) -> dict[str, Any]:
        """What each task is given."""
        return order(self.cpu, self.text_bytes)

    def count(self, slots: int, size: float) -> int:
        """How many tasks it has on so many slots, ``size`` times its usual number; whole DAGs."""
        count = max(1, round(self.tasks * slots * size))
        return max(1, count // DAG_STEPS) * DAG_STEPS if self.shape == "dags" else count


def _size(text_bytes: int) -> str:
    for unit, length in (("MB", 1_000_000), ("KB", 1_000)):
        if text_bytes >= length:
            return f"{text_bytes / length:g} {unit}"
    return f"{text_bytes} B"


_CPU = {0.0: 1_000, 0.001: 1_000, 0.01: 200, 0.1: 25}
_TEXT: dict[Shape, dict[int, int]] = {
    "runs": {200: 1_000, 10_000: 500, 1_000_000: 15},
    "map": {200: 1_000, 10_000: 500, 1_000_000: 15},
    "dags": {},
}
# Loads of one shape are beside each other: one worker does them.
FULL = tuple(
    load
    for shape in _SHAPES
    for load in (
        *(Load(shape, tasks, cpu=cpu) for cpu, tasks in _CPU.items()),
        *(Load(shape, tasks, text_bytes=size) for size, tasks in _TEXT[shape].items()),
    )
)
QUICK = (
    Load("runs", 250),
    Load("runs", 40, cpu=0.01),
    Load("runs", 100, text_bytes=10_000),
    Load("map", 250),
    Load("map", 40, cpu=0.01),
    Load("dags", 250),
)
BRIEF = (Load("runs", 250), Load("map", 500), Load("map", 40, cpu=0.01), Load("dags", 250))
"""What ``pgflow bench`` does."""
