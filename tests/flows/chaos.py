"""Flows whose every execution is noted in a file, for tests that kill whatever they can while these run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pgflow import Context, Flow

NOTES_VARIABLE = "PGFLOW_CHAOS_NOTES"
"""The folder of the notes: a file for each process that runs handlers."""


@cache
def _file(pid: int) -> int:
    return os.open(Path(os.environ[NOTES_VARIABLE], f"{pid}.notes"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def note(ctx: Context, what: str) -> None:
    """One line, in one write: it is there, or it is not."""
    pid = os.getpid()
    line = f"{what} {ctx.run_id} {ctx.step_slug} {ctx.task_index} {ctx.attempt} {pid} {time.monotonic()}\n"
    os.write(_file(pid), line.encode())


@contextmanager
def noted(ctx: Context) -> Iterator[None]:
    """An execution: its begin, a little work of one kind and the other, its end."""
    note(ctx, "begin")
    sum(number * number for number in range(20_000))
    time.sleep((ctx.task_index * 7 % 10 + 2) * 0.02)
    yield
    note(ctx, "end")


single_once = Flow("chaos_single_once", max_attempts=1, base_delay=0, timeout=10)
single = Flow("chaos_single", max_attempts=3, base_delay=0, timeout=10)


def square(number: int, ctx: Context) -> int:
    """Squared."""
    with noted(ctx):
        return number * number


single_once.step(slug="square")(square)
single.step(slug="square")(square)

map_once = Flow("chaos_map_once", max_attempts=1, base_delay=0, timeout=10)
map_thrice = Flow("chaos_map", max_attempts=3, base_delay=0, timeout=10)


def numbers(size: int, ctx: Context) -> list[int]:
    """0 .. size-1."""
    with noted(ctx):
        return list(range(size))


def total(deps: dict[str, Any], ctx: Context) -> dict[str, int]:
    """The sum, and of how many."""
    with noted(ctx):
        return {"total": sum(deps["square"]), "of": len(deps["square"])}


for _flow in (map_once, map_thrice):
    _flow.step(slug="numbers")(numbers)
    _flow.map(slug="square", over="numbers")(square)
    _flow.step(slug="total", depends_on="square")(total)

diamond = Flow("chaos_diamond", max_attempts=3, base_delay=0, timeout=10)
diamond.step(slug="top")(numbers)


@diamond.map(over="top")
def left(number: int, ctx: Context) -> int:
    """One more."""
    with noted(ctx):
        return number + 1


@diamond.step(depends_on="top")
def right(deps: dict[str, Any], ctx: Context) -> int:
    """The sum."""
    with noted(ctx):
        return sum(deps["top"])


@diamond.step(depends_on=["left", "right"])
def bottom(deps: dict[str, Any], ctx: Context) -> int:
    """How many there were."""
    with noted(ctx):
        return int(sum(deps["left"]) - deps["right"])


recording = Flow("chaos_recording", max_attempts=1, base_delay=0, timeout=10)
recording.map(slug="square", when_exhausted="record")(square)


@recording.step(depends_on="square", max_attempts=3)
def tally(deps: dict[str, Any], ctx: Context) -> dict[str, int]:
    """The sum of what there is, and how much is missing."""
    with noted(ctx):
        there = [value for value in deps["square"] if isinstance(value, int)]
        return {"total": sum(there), "missing": len(deps["square"]) - len(there)}


hanging = Flow("chaos_hanging", max_attempts=2, base_delay=0, timeout=1)


@hanging.step
def hang(size: int, ctx: Context) -> int:
    """Hangs in its first attempt, and is killed at its deadline."""
    if ctx.attempt == 1:
        note(ctx, "begin")
        time.sleep(1000)
    with noted(ctx):
        return size
