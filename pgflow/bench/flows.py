"""The flows that are measured."""

from __future__ import annotations

import itertools
import time
from typing import Any

from pgflow.bench.work import work
from pgflow.flow import Flow

MODULE = __name__
SPIN_STEPS = 300_000_000
TASK_TIMEOUT = 60
FANS = (1, 10, 100)
"""How many dependents a step has."""

single = Flow("bench_single", max_attempts=1, timeout=TASK_TIMEOUT)
elements = Flow("bench_map", max_attempts=1, timeout=TASK_TIMEOUT)
dag = Flow("bench_dag", max_attempts=1, timeout=TASK_TIMEOUT)
pair = Flow("bench_pair", max_attempts=1, timeout=TASK_TIMEOUT)
background = Flow("bench_background", max_attempts=1, timeout=TASK_TIMEOUT)
busy = Flow("bench_busy", max_attempts=1, timeout=120)
hung = Flow("bench_hung", max_attempts=1, timeout=1)


@single.step
def only(input: Any) -> Any:
    """One task."""
    return work(input)


@elements.map
def element(input: Any) -> Any:
    """One task of many."""
    return work(input)


@dag.step
def root(input: Any) -> Any:
    """The first of five; the order is handed on as the output."""
    work(input)
    return input


@dag.step(depends_on=["root"])
def left(deps: Any) -> Any:
    """Beside two others."""
    work(deps["root"])
    return deps["root"]


dag.step(slug="middle", depends_on=["root"])(left)
dag.step(slug="right", depends_on=["root"])(left)


@dag.step(depends_on=["left", "middle", "right"])
def last(deps: Any) -> Any:
    """The last of five."""
    work(deps["left"])


@pair.step
def first(_input: Any) -> list[float]:
    """When it began and ended, on the clock that all processes of a machine share."""
    return [time.monotonic(), time.monotonic()]


@pair.step(depends_on=["first"])
def second(deps: Any) -> list[float]:
    """The first one's times, and when this one began."""
    return [*deps["first"], time.monotonic()]


@background.map
def load(input: Any) -> Any:
    """What else the slots do."""
    return work(input)


@busy.step
def spin(_input: object) -> None:
    """Some seconds of C code that holds the GIL."""
    any(itertools.repeat(False, SPIN_STEPS))


@hung.step
def hang(_input: object) -> None:
    """C code that holds the GIL, until it is killed."""
    any(itertools.repeat(False))


def _fan(dependents: int) -> Flow:
    flow = Flow(f"bench_fan_{dependents}", max_attempts=1, timeout=TASK_TIMEOUT)
    flow.step(slug="root")(work)
    for number in range(dependents):
        flow.step(slug=f"leaf_{number}", depends_on=["root"])(_leaf)
    return flow


def _leaf(_deps: Any) -> None:
    """Nothing at all."""


fan_1, fan_10, fan_100 = (_fan(dependents) for dependents in FANS)


def reference(flow: Flow) -> str:
    """How a worker finds the flow."""
    name = next(name for name, value in globals().items() if value is flow)
    return f"{MODULE}:{name}"
