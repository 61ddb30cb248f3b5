"""What the runs of each flow of ``tests.flows.chaos`` come to, if nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Expected:
    """All by the run's size: its input, its output, how many tasks each step has."""

    reference: str
    input: Callable[[int], Any]
    output: Callable[[int], Any]
    tasks: Callable[[int], dict[str, int]]


def _squares(size: int) -> int:
    return sum(number * number for number in range(size))


def _single(name: str) -> Expected:
    return Expected(f"tests.flows.chaos:{name}", int, lambda n: {"square": n * n}, lambda n: {"square": 1})


def _map(name: str) -> Expected:
    return Expected(
        f"tests.flows.chaos:{name}",
        int,
        lambda n: {"total": {"total": _squares(n), "of": n}},
        lambda n: {"numbers": 1, "square": n, "total": 1},
    )


FLOWS = {
    "chaos_single_once": _single("single_once"),
    "chaos_single": _single("single"),
    "chaos_map_once": _map("map_once"),
    "chaos_map": _map("map_thrice"),
    "chaos_diamond": Expected(
        "tests.flows.chaos:diamond",
        int,
        lambda n: {"bottom": n},
        lambda n: {"top": 1, "left": n, "right": 1, "bottom": 1},
    ),
    "chaos_recording": Expected(
        "tests.flows.chaos:recording",
        lambda n: list(range(n)),
        lambda n: {"tally": {"total": _squares(n), "missing": 0}},
        lambda n: {"square": n, "tally": 1},
    ),
    "chaos_hanging": Expected("tests.flows.chaos:hanging", int, lambda n: {"hang": n}, lambda n: {"hang": 1}),
}


def output(flow_slug: str, size: int, squares: list[Any] | None) -> Any:
    """The run's output. Of the flow that records failures, ``squares`` says which elements failed."""
    right = FLOWS[flow_slug].output(size)
    if flow_slug == "chaos_recording" and squares is not None:
        missing = [number for number, value in enumerate(squares) if isinstance(value, dict) and "$error" in value]
        right["tally"]["missing"] = len(missing)
        right["tally"]["total"] -= sum(number * number for number in missing)
    return right
