"""The flows that are measured."""

from __future__ import annotations

from pgflow import Flow

noop_map = Flow("bench_noop_map", max_attempts=1, timeout=60)
noop_single = Flow("bench_noop_single", max_attempts=1, timeout=60)


@noop_map.map
def element(_item: object) -> None:
    """Nothing at all."""


@noop_single.step
def only(_input: object) -> None:
    """Nothing at all."""
