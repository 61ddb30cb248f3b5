"""How late after its deadline a hung task is dead, has its verdict, and another task runs in its place; and how soon
the death of a process is noticed. pgflow's pool, and what else there is: one pebble pool, Celery's prefork.

Each contender is a process of its own (``contenders``), and this one watches: handlers note their begin and contenders
their verdicts in a pipe, with ``time.monotonic()``, which is the same in every process; a process's death is when its
pidfd becomes readable. What the figures mean is in README.md beside this file.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import math
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from benchmarks import contenders
from benchmarks.contenders import Order
from benchmarks.report import circumstances, json_option, print_table, quantile, rounded
from pgflow.cli.failures import ending_in_words

TIMEOUT_SECONDS = 1
LONG_SECONDS = 600
START_SECONDS = 60.0
STREAM_SLOTS = 2
STREAM_SECONDS = 0.5
"""A stream has flowed for so long before tasks begin to hang."""
GOAL_SECONDS = 0.5

GONE, VERDICT, NEXT = "process gone", "verdict", "next task begins"
QUANTITIES = (GONE, VERDICT, NEXT)


@dataclass(frozen=True, slots=True)
class Case:
    """``count`` tasks of a handler at once, ``repeat`` times in a round; beside them ``stream_bytes`` is the size of
    the outputs of a stream of tasks in ``STREAM_SLOTS`` more slots (None: no stream)."""

    name: str
    handler: str
    count: int = 1
    stream_bytes: int | None = None
    exit_code: int | None = None
    repeat: int = 1

    @property
    def is_hang(self) -> bool:
        """Whether a deadline ends it."""
        return self.handler.startswith("hang")

    @property
    def slots(self) -> int:
        """How many slots the contender has."""
        return self.count + (0 if self.stream_bytes is None else STREAM_SLOTS)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured; after ``limit`` seconds without it something is late for ever."""

    cases: tuple[Case, ...]
    rounds: int
    limit: float


STREAMS = {"small tasks": 10, "100 KB outputs": 100_000, "10 MB outputs": 10_000_000}
OTHER_HANGS = {
    "in a regex": "hang_in_regex",
    "ignoring SIGTERM": "hang_ignoring_sigterm",
    "blocking all signals": "hang_blocking_all_signals",
}
DEATHS = {"SIGKILL": None, "os._exit(0)": 0, "os._exit(3)": 3}


def _hang(count: int, stream: str = "", handler: str = "hang_with_the_gil", what: str = "holding the GIL") -> Case:
    name = f"{count} {what}" + (f", stream of {stream}" if stream else "")
    return Case(name, handler, count, STREAMS[stream] if stream else None, repeat=max(1, 4 // count))


def _death(state: str, how: str, repeat: int) -> Case:
    return Case(f"{how}, {state}", f"die_{state}", exit_code=DEATHS[how], repeat=repeat)


FULL = Extent(
    cases=(
        *(_hang(count) for count in (1, 4, 16, 32, 64)),
        *(_hang(1, handler=handler, what=what) for what, handler in OTHER_HANGS.items()),
        *(_hang(count, stream) for stream in STREAMS for count in (1, 4, 16, 32, 64)),
        *(_death(state, how, 8) for state in ("busy", "idle") for how in DEATHS),
    ),
    rounds=3,
    limit=15.0,
)
QUICK = Extent(
    cases=(
        replace(_hang(1), repeat=1),
        *(_death(state, "SIGKILL", 1) for state in ("busy", "idle")),
        _hang(4, "10 MB outputs"),
    ),
    rounds=1,
    limit=3.5,
)


@dataclass(slots=True)
class Figure:
    """Seconds after the deadline or the death; infinite for what did not come in time."""

    case: Case
    contender: str
    samples: dict[str, list[float]] = field(default_factory=lambda: {quantity: [] for quantity in QUANTITIES})
    stream_rates: list[float] = field(default_factory=list)

    def cells(self, limit: float) -> list[str]:
        """The line of a table: milliseconds."""
        rate = f"{rounded(quantile(self.stream_rates, 0.5))}" if self.stream_rates else "-"
        return [self.case.name, self.contender, *(_words(self.samples[name], limit) for name in QUANTITIES), rate]

    def as_data(self) -> dict[str, Any]:
        """The figure as JSON values, with null for what did not come in time."""
        samples = {
            quantity: [None if math.isinf(sample) else sample for sample in samples]
            for quantity, samples in self.samples.items()
        }
        return {
            "case": asdict(self.case),
            "contender": self.contender,
            "seconds": samples,
            "stream_rates": self.stream_rates,
        }


def _words(samples: Sequence[float], limit: float) -> str:
    if not samples:
        return "-"
    parts = [quantile(samples, share) for share in (0.5, 0.99, 1.0)]
    return " / ".join(f"> {rounded(limit * 1e3)}" if math.isinf(part) else rounded(part * 1e3) for part in parts)


class LateError(Exception):
    """A contender did not come to what must be before the next measurement; it needs another process."""


class Watch:
    """One contender, and what is seen of it."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        assert process.stdin is not None
        self._orders = process.stdin
        self._process = process
        self._log = folder / "log"
        self._pipe = str(folder / "events")
        self._events = os.open(self._pipe, os.O_RDWR | os.O_NONBLOCK)  # for writing too, so that it never ends
        self._gate_file = str(folder / "gate")
        self._gate = os.open(self._gate_file, os.O_RDWR | os.O_CREAT)
        self._poller = select.poll()
        self._poller.register(self._events, select.POLLIN)
        self._unread = b""
        self._labels: dict[int, str] = {}
        self._known_pids: set[int] = set()
        self._stream: dict[str, int] = {}
        self._successors: dict[tuple[str, str], str] = {}
        self._numbers = itertools.count(1)
        self.streamed = 0
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.gone: dict[str, float] = {}
        self.fresh: list[float] = []
        """When the first task of each process began that was not known before."""
        self.lost = 0
        """Tasks that were to take the place of another, and ended without having begun."""

    def close(self) -> None:
        """Forget the contender."""
        for descriptor in (self._events, self._gate, *self._labels):
            os.close(descriptor)

    def last_words(self) -> str:
        """The end of what the contender has logged."""
        return self._log.read_text(errors="replace")[-2000:]

    # Orders.

    def labels(self, what: str, count: int) -> list[str]:
        """New names for tasks."""
        return [f"{what}-{next(self._numbers)}" for _ in range(count)]

    def submit(self, label: str, handler: str, timeout: int = LONG_SECONDS, **input: Any) -> None:
        """Order a task."""
        values = {"label": label, "events": self._pipe, "gate": self._gate_file, **input}
        self._orders.write(json.dumps(asdict(Order(handler, values, timeout))) + "\n")
        self._orders.flush()

    def succeed(self, label: str, event: str) -> str:
        """Order a task that waits at the gate as soon as the event (``ended`` or ``gone``) of the other is seen; its
        label."""
        (successor,) = self.labels("next", 1)
        self._successors[event, label] = successor
        return successor

    def start_stream(self, output_bytes: int) -> None:
        """Let ``STREAM_SLOTS`` tasks at a time end with such an output, until the end."""
        for label in self.labels("stream", STREAM_SLOTS):
            self._stream[label] = output_bytes
            self.submit(label, "give_output", bytes=output_bytes)

    def stop_stream(self) -> None:
        """Order no more."""
        self._stream.clear()

    # The gate.

    def close_gate(self) -> None:
        """Tasks that come to the gate wait."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)

    def open_gate(self) -> None:
        """Tasks at the gate go on."""
        fcntl.flock(self._gate, fcntl.LOCK_UN)

    # Events.

    def require(self, condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
        """Raise LateError if the condition does not come true in time."""
        if not self.see(condition, time.monotonic() + seconds):
            raise LateError(f"not within {seconds} s: {what}")

    def see(self, condition: Callable[[], bool], until: float) -> bool:
        """Take in events until the condition is true; False if it is not by the given ``time.monotonic()``."""
        while not condition():
            left = until - time.monotonic()
            if left <= 0 or self._process.poll() is not None:
                return False
            for descriptor, _ in self._poller.poll(min(left, 1.0) * 1000):
                if descriptor == self._events:
                    self._read_events()
                else:
                    self._see_death(descriptor)
        return True

    def _see_death(self, descriptor: int) -> None:
        now = time.monotonic()
        self._poller.unregister(descriptor)
        label = self._labels.pop(descriptor)
        os.close(descriptor)
        self.gone[label] = now
        self._follow("gone", label)

    def _read_events(self) -> None:
        *lines, self._unread = (self._unread + os.read(self._events, 65536)).split(b"\n")
        for line in lines:
            kind, label, pid, when = line.decode().split()
            if kind == "began":
                self._see_begin(label, int(pid), float(when))
            else:
                self._see_end(label, float(when))

    def _see_begin(self, label: str, pid: int, when: float) -> None:
        self.began[label] = when
        if pid not in self._known_pids:
            self._known_pids.add(pid)
            self.fresh.append(when)
        if label.startswith(("hang", "die")):
            self._await_death(label, pid)

    def _await_death(self, label: str, pid: int) -> None:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:  # it has died before its begin was read
            self.gone[label] = time.monotonic()
            self._follow("gone", label)
        else:
            self._labels[descriptor] = label
            self._poller.register(descriptor, select.POLLIN)

    def _see_end(self, label: str, when: float) -> None:
        if label in self._stream:
            self.streamed += 1
            self.submit(label, "give_output", bytes=self._stream[label])
        elif label not in self.ended:  # Celery tells of some ends twice
            self.ended[label] = when
            self.lost += label.startswith("next") and label not in self.began
            self._follow("ended", label)

    def _follow(self, event: str, label: str) -> None:
        if successor := self._successors.pop((event, label), ""):
            self.submit(successor, "wait_at_gate")


@contextmanager
def watched(contender: str, slots: int, stream_bytes: int | None) -> Iterator[Watch]:
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


def warm_up(watch: Watch, slots: int, contender: str) -> None:
    """Let each slot do a task."""
    watch.close_gate()
    labels = watch.labels("warm", slots)
    for label in labels:
        watch.submit(label, "wait_at_gate")
    if not watch.see(lambda: watch.began.keys() >= set(labels), time.monotonic() + START_SECONDS):
        raise click.ClickException(f"{contender} does not start: {watch.last_words()}")
    finish(watch, labels)


def finish(watch: Watch, labels: Sequence[str]) -> None:
    """Open the gate and wait until the tasks have ended."""
    watch.open_gate()
    watch.require(lambda: watch.ended.keys() >= set(labels), "the tasks at the gate end")


def measure_once(watch: Watch, case: Case, figure: Figure, limit: float) -> None:
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
        figure.stream_rates.append(watch.streamed / (time.monotonic() - started))
    add_samples(watch, case, figure, labels)
    if not came or watch.lost:
        raise LateError(case.name)
    finish(watch, successors)


def add_samples(watch: Watch, case: Case, figure: Figure, labels: Sequence[str]) -> None:
    """What was seen of the tasks, after their deadlines or after the deaths of their processes."""
    if case.is_hang:
        due = {label: watch.began[label] + TIMEOUT_SECONDS for label in labels}
        figure.samples[GONE] += [watch.gone.get(label, math.inf) - due[label] for label in labels]
    else:
        due = {label: watch.gone.get(label, math.nan) for label in labels}
    if case.handler != "die_idle":
        figure.samples[VERDICT] += [watch.ended.get(label, math.inf) - due[label] for label in labels]
    begins = [*sorted(watch.fresh)[: case.count], *([math.inf] * case.count)]
    figure.samples[NEXT] += [begin - when for begin, when in zip(begins, sorted(due.values()), strict=False)]


def measure_together(contender: str, cases: Sequence[Case], figures: Sequence[Figure], limit: float) -> None:
    """Cases with as many slots and the same stream, in one process of the contender. Where it is late, the case's
    other repetitions are left out, and those that follow have another process."""
    left = [(case, figure) for case, figure in zip(cases, figures, strict=True) for _ in range(case.repeat)]
    while left:
        with watched(contender, cases[0].slots, cases[0].stream_bytes) as watch:
            try:
                while left:
                    case, figure = left.pop(0)
                    measure_once(watch, case, figure, limit)
            except LateError as late:
                click.echo(f"{contender}: late, {late}", err=True)
                left = [(other, its_figure) for other, its_figure in left if other != case]


def measure(extent: Extent, present: Sequence[str]) -> list[Figure]:
    """All cases with all contenders, in turn, so that a slow minute hits all of them."""
    figures = {(case, name): Figure(case, name) for case in extent.cases for name in present}
    groups = {(case.slots, case.stream_bytes): None for case in extent.cases}
    for round_number in range(extent.rounds):
        for group in groups:
            cases = [case for case in extent.cases if (case.slots, case.stream_bytes) == group]
            for turn in range(len(present)):
                name = present[(turn + round_number) % len(present)]
                click.echo(f"round {round_number + 1} of {extent.rounds}, {group[0]} slots, {name}", err=True)
                measure_together(name, cases, [figures[case, name] for case in cases], extent.limit)
    return list(figures.values())


def report(extent: Extent, facts: dict[str, Any], figures: Sequence[Figure]) -> None:
    """Print the figures as Markdown."""
    who = "; ".join(f"{name}: {words}" for name, words in facts["contenders"].items())
    click.echo(
        f"{facts['machine']}, load average {facts['load_average']} at the start; Python {facts['python']}; {who}; "
        f"timeout {TIMEOUT_SECONDS} s; {extent.rounds} rounds; median / p99 / max, in milliseconds\n"
    )
    for title, is_hang in (("hung tasks, after the deadline", True), ("deaths, after the death", False)):
        lines = [figure.cells(extent.limit) for figure in figures if figure.case.is_hang is is_hang]
        print_table([title, "by", *QUANTITIES, "stream, tasks/s"], lines)
    kills = [sample for figure in figures if figure.contender == contenders.PGFLOW for sample in figure.samples[GONE]]
    if kills:
        latest, goal = rounded(max(kills) * 1e3), rounded(GOAL_SECONDS * 1e3)
        click.echo(f"pgflow's latest kill: {latest} ms after the deadline (goal: {goal})")


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100), metavar="N", help="Instead of 3; with --quick, of 1.")
@click.option("--only", metavar="WORDS", default="", help="Only the cases in whose name this occurs.")
@click.option("--peers/--no-peers", default=True, help="With or without the others beside pgflow.")
@click.option("--quick", is_flag=True, help="A few of the cases, once; less than a minute.")
@json_option
def main(rounds: int | None, only: str, peers: bool, quick: bool, json_path: Path | None) -> None:
    """Measure how late kills are, and how soon deaths are noticed, and print Markdown tables."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    chosen = QUICK if quick else FULL
    extent = Extent(tuple(case for case in chosen.cases if only in case.name), rounds or chosen.rounds, chosen.limit)
    names = contenders.NAMES if peers else (contenders.PGFLOW,)
    lacking = {name: why for name in names if (why := contenders.missing(name))}
    present = [name for name in names if name not in lacking]
    facts = circumstances({"rounds": extent.rounds, "only": only, "quick": quick})
    facts["contenders"] = {name: contenders.versions(name) for name in present}
    facts["contenders"] |= {name: f"not measured, {why}" for name, why in lacking.items()}
    with ending_in_words():
        figures = measure(extent, present)
        report(extent, facts, figures)
        if json_path is not None:
            data = {**facts, "figures": [figure.as_data() for figure in figures]}
            json_path.write_text(json.dumps(data, indent=2) + "\n")


if __name__ == "__main__":
    main()
