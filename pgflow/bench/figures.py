"""Figures: what was measured, as samples, and as text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

PGFLOW = "pgflow"
LATE = "late"


@dataclass(frozen=True, slots=True)
class Figure:
    """A quantity of a load, in ``unit``, with a sample of each measurement; infinite for what did not come in time.

    ``by`` is who did the load. ``at`` is the load's place on a scale (slots, rows), where it is on one. A figure with a
    ``tail`` has a sample for each single event, and its 99th percentile counts.
    """

    load: str
    quantity: str
    unit: str
    by: str = PGFLOW
    at: float | None = None
    tail: bool = False
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median of the samples, in ``unit``."""
        return quantile(self.samples, 0.5) if self.tail else statistics.median(self.samples)

    @property
    def name(self) -> str:
        """Quantity and unit."""
        return f"{self.quantity}, {self.unit}" if self.unit else self.quantity

    def __str__(self) -> str:
        if not self.samples:
            return "-"
        if self.tail:
            return " / ".join(rounded(quantile(self.samples, share)) for share in (0.5, 0.99, 1.0))
        if len(self.samples) == 1:
            return rounded(self.median)
        return f"{rounded(self.median)} ({rounded(min(self.samples))}-{rounded(max(self.samples))})"

    def as_data(self) -> dict[str, Any]:
        """The figure as JSON values, with null for what did not come in time."""
        return asdict(self) | {"samples": [None if math.isinf(sample) else sample for sample in self.samples]}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Figure:
        """The figure that ``as_data`` gave."""
        return cls(**data | {"samples": [math.inf if sample is None else sample for sample in data["samples"]]})


class Figures:
    """The figures of a suite, in the order in which they were first measured."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[str, str, str], Figure] = {}

    def add(
        self,
        load: str,
        quantity: str,
        unit: str,
        *values: float,
        by: str = PGFLOW,
        at: float | None = None,
        tail: bool = False,
    ) -> None:
        """Add samples to the figure."""
        figure = self._by_key.setdefault(
            (load, quantity, by), Figure(load=load, quantity=quantity, unit=unit, by=by, at=at, tail=tail)
        )
        figure.samples.extend(values)

    def all(self) -> list[Figure]:
        """Every figure."""
        return list(self._by_key.values())

    def get(self, load: str, quantity: str, by: str = PGFLOW) -> Figure | None:
        """A figure, if it was measured."""
        return self._by_key.get((load, quantity, by))


def table(figures: Sequence[Figure]) -> list[list[str]]:
    """The cells of a table, the header first: a line for each load and quantity, a column for each that was
    measured."""
    contenders = list(dict.fromkeys(figure.by for figure in figures))
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for load in dict.fromkeys(figure.load for figure in figures):
        for figure in figures:
            if figure.load == load:
                lines.setdefault((load, figure.name), {})[figure.by] = str(figure)
    return [
        ["load", "figure", *contenders],
        *([load, name, *(cells.get(by, "-") for by in contenders)] for (load, name), cells in lines.items()),
    ]


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first line is its header."""
    header, *lines = cells
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *lines))


def rounded(value: float) -> str:
    """Three significant digits, or all before the point."""
    size = abs(value)
    if math.isinf(size):
        return LATE
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{decimals}f}"


def quantile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that so large a share of them does not exceed."""
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]
