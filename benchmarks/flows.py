"""The flows that are measured."""

from __future__ import annotations

import itertools

from pgflow import Flow

noop_map = Flow("bench_noop_map", max_attempts=1, timeout=60)
noop_single = Flow("bench_noop_single", max_attempts=1, timeout=60)
busy = Flow("bench_busy", max_attempts=1, timeout=120)
hung = Flow("bench_hung", max_attempts=1, timeout=1)
SPIN_STEPS = 300_000_000


@noop_map.map
def element(_item: object) -> None:
    """Nothing at all."""


@noop_single.step
def only(_input: object) -> None:
    """Nothing at all."""


@busy.step
def spin(_input: object) -> None:
    """Some seconds of C code that holds the GIL."""
    any(itertools.repeat(False, SPIN_STEPS))


@hung.step
def hang(_input: object) -> None:
    """C code that holds the GIL, until it is killed."""
    any(itertools.repeat(False))
