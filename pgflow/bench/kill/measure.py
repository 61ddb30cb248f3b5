"""How late after its deadline a hung task is dead, has its verdict, and another task runs in its place; and how soon
the death of a process is noticed. Each contender is a process of its own (``contenders``), and this one watches."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from pgflow.bench.figures import PGFLOW, Figures, rounded
from pgflow.bench.kill import contenders
from pgflow.bench.kill.cases import Case, Extent
from pgflow.bench.kill.contenders import Candidate
from pgflow.bench.kill.watch import LONG_SECONDS, START_SECONDS, LateError, Watch

TIMEOUT_SECONDS = 1
STREAM_SECONDS = 0.5
"""A stream has flowed for so long before tasks begin to hang."""
GOAL_SECONDS = 0.5

GONE, VERDICT, NEXT, STREAM = "process gone", "verdict", "next task begins", "stream"


@contextmanager
def watched(contender: Candidate, slots: int, stream_bytes: int | None) -> Iterator[Watch]:
    """A contender all of whose processes have done a task, and whose stream, if any, flows."""
    folder = Path(tempfile.mkdtemp(prefix="pgflow-bench-"))
    os.mkfifo(folder / "events")
    try:
        with contenders.running(contender, slots, folder) as process:
            watch = Watch(process, folder)
            try:
                warm_up(watch, slots, contender)
                if stream_bytes is not None:
                    watch.start_stream(stream_bytes)
                    watch.see(lambda: False, time.monotonic() + STREAM_SECONDS)
                yield watch
            finally:
                watch.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def warm_up(watch: Watch, slots: int, contender: Candidate) -> None:
    """Let each slot do a task."""
    watch.close_gate()
    labels = watch.labels("warm", slots)
    for label in labels:
        watch.submit(label, "wait_at_gate")
    if not watch.see(lambda: watch.began.keys() >= set(labels), time.monotonic() + START_SECONDS):
        raise click.ClickException(f"{contender.name} does not start: {watch.last_words()}")
    finish(watch, labels)


def finish(watch: Watch, labels: Sequence[str]) -> None:
    """Open the gate and wait until the tasks have ended."""
    watch.open_gate()
    watch.require(lambda: watch.ended.keys() >= set(labels), "the tasks at the gate end")


def measure_once(watch: Watch, case: Case, by: str, figures: Figures, limit: float) -> None:
    """One sample for each task of the case. Raises LateError where no other sample can follow."""
    watch.close_gate()
    labels = watch.labels("hang" if case.is_hang else "die", case.count)
    successors = [watch.succeed(label, "gone" if case.handler == "die_idle" else "ended") for label in labels]
    watch.fresh.clear()
    watch.lost, watch.streamed, started = 0, 0, time.monotonic()
    for label in labels:
        timeout = TIMEOUT_SECONDS if case.is_hang else LONG_SECONDS
        watch.submit(label, case.handler, timeout, exit_code=case.exit_code)
    watch.require(lambda: watch.began.keys() >= set(labels), f"{case.name}: all begin")
    came = watch.see(
        lambda: (
            all(label in watch.gone and label in watch.ended for label in labels)
            and len(watch.fresh) + watch.lost >= case.count
        ),
        max(watch.began[label] for label in labels) + TIMEOUT_SECONDS + limit,
    )
    if case.stream_bytes is not None:
        figures.add(case.title, STREAM, "tasks/s", watch.streamed / (time.monotonic() - started), by=by)
    add_samples(watch, case, by, figures, labels)
    if not came or watch.lost:
        raise LateError(case.name)
    finish(watch, successors)


def add_samples(watch: Watch, case: Case, by: str, figures: Figures, labels: Sequence[str]) -> None:
    """What was seen of the tasks, after their deadlines or after the deaths of their processes."""

    def add(quantity: str, seconds: Iterable[float]) -> None:
        figures.add(case.title, quantity, "ms", *(value * 1e3 for value in seconds), by=by, tail=True)

    if case.is_hang:
        due = {label: watch.began[label] + TIMEOUT_SECONDS for label in labels}
        add(GONE, [watch.gone.get(label, math.inf) - due[label] for label in labels])
    else:
        due = {label: watch.gone.get(label, math.nan) for label in labels}
    if case.handler != "die_idle":
        add(VERDICT, [watch.ended.get(label, math.inf) - due[label] for label in labels])
    begins = [*sorted(watch.fresh)[: case.count], *([math.inf] * case.count)]
    add(NEXT, [begin - when for begin, when in zip(begins, sorted(due.values()), strict=False)])


def measure_together(contender: Candidate, cases: Sequence[Case], figures: Figures, limit: float) -> None:
    """Cases with as many slots and the same stream, in one process of the contender. Where it is late, the case's
    other repetitions are left out, and those that follow have another process."""
    left = [case for case in cases for _ in range(case.repeat)]
    while left:
        with watched(contender, cases[0].slots, cases[0].stream_bytes) as watch:
            try:
                while left:
                    case = left.pop(0)
                    measure_once(watch, case, contender.name, figures, limit)
            except LateError as late:
                click.echo(f"{contender.name}: late, {late}", err=True)
                left = [other for other in left if other != case]


def measure(extent: Extent, present: Sequence[Candidate], figures: Figures) -> list[str]:
    """All cases with all contenders, in turn, so that a slow minute hits all of them; pgflow's latest kill, in
    words."""
    groups = {(case.slots, case.stream_bytes): None for case in extent.cases}
    for number in range(extent.rounds):
        for group in groups:
            cases = [case for case in extent.cases if (case.slots, case.stream_bytes) == group]
            for turn in range(len(present)):
                contender = present[(turn + number) % len(present)]
                click.echo(f"round {number + 1} of {extent.rounds}, {group[0]} slots, {contender.name}", err=True)
                measure_together(contender, cases, figures, extent.limit)
    remarks = [f"Timeouts of {TIMEOUT_SECONDS} s; late: not within {extent.limit:g} s."]
    found = [figure for figure in figures.all() if figure.by == PGFLOW and figure.quantity == GONE]
    if latest := max((max(figure.samples) for figure in found), default=0.0):
        goal = rounded(GOAL_SECONDS * 1e3)
        remarks.append(f"pgflow's latest kill: {rounded(latest)} ms after the deadline (goal: {goal})")
    return remarks
