"""``pgflow batch`` beside a bare ``ProcessPoolExecutor.map`` and others: whole commands over the same file of items.
How soon the first item begins. Memory while many small items go through."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks import batch_peers
from benchmarks.batch_peers import EXECUTOR, PEERS, ROOT, Peer, Work
from pgflow.batch.naming import flow_slug
from pgflow.bench.options import Options
from pgflow.bench.report import Report
from pgflow.bench.site import delete_flows, vacuum
from pgflow.bench.suites import Suite
from pgflow.process import proc, usage

NAME = "bench"
SLUGS = [flow_slug(NAME)]
LOOK_SECONDS = 0.25
MIB = 2**20
FIRST_ITEMS = 20
"""Of the batches that are started to see how soon."""
STARTS = 3
"""So many of them in each measurement."""


QUICK_ITEMS, ITEMS = 20_000, 200_000
"""Small ones, for memory."""


@dataclass(frozen=True, slots=True)
class Load:
    """So many items a slot, each of ``cpu`` seconds."""

    cpu: float
    items: int

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"items of {self.cpu * 1e3:g} ms"


LOADS = (Load(0.01, 2_000), Load(0.001, 10_000))
QUICK = (Load(0.01, 400), Load(0.001, 3_000))


@dataclass(frozen=True, slots=True)
class Run:
    """What a command took: in seconds the ``whole`` of it, its start up to the ``first`` item's begin, and from there
    to the last item's end. ``peaks`` are what its process and its dispatcher had resident at most, in bytes, at each
    look."""

    whole: float
    first: float
    between: float
    peaks: Sequence[tuple[int, int]]


def measure(url: str | None, options: Options, names: Sequence[str], memory_items: int) -> Report:
    """All loads by everybody in turn, then the starts, then memory."""
    missing = {name: why for name in names if (why := batch_peers.missing(name))}
    for name, why in missing.items():
        click.echo(f"missing: {name}: {why}", err=True)
    present = [name for name in names if name not in missing]
    peers = [batch_peers.pgflow(NAME, url), EXECUTOR, *(PEERS[name] for name in present)]
    told = options.as_data() | {"items": memory_items}
    with Suite("batch", url, SLUGS, told) as suite:
        for name in present:
            suite.facts["versions"] |= batch_peers.version(name)
        measuring = _Measuring(suite, options)
        measuring.all_loads(peers)
        measuring.first_items(peers[0])
        if memory_items:
            measuring.memory(peers[0], memory_items)
        return suite.report(missing)


class _Measuring:
    def __init__(self, suite: Suite, options: Options) -> None:
        self._suite = suite
        self._options = options
        self._figures = suite.figures

    def all_loads(self, peers: Sequence[Peer]) -> None:
        """Each load by everybody, ``repeat`` times, each time another one first; the executor of the same time counts
        for the overhead."""
        for number in range(self._options.repeat):
            for load in QUICK if self._options.quick else LOADS:
                turn = number % len(peers)
                runs = {
                    peer: self._run(peer, load.cpu, max(1, round(self._count(load) * peer.share)))
                    for peer in (*peers[turn:], *peers[:turn])
                }
                for peer in peers:
                    self._add(load, peer, runs[peer], runs[EXECUTOR])

    def _count(self, load: Load) -> int:
        return max(1, round(load.items * self._options.slots * self._options.size))

    def _add(self, load: Load, peer: Peer, run: Run, bare: Run) -> None:
        count = self._count(load)
        own = max(1, round(count * peer.share))
        for what, seconds, of_bare in (
            ("whole command", run.whole, bare.whole),
            ("first item to last", run.between, bare.between),
        ):
            self._figures.add(load.name, what, "ms per item", seconds / own * 1e3, by=peer.name)
            if peer is not EXECUTOR:
                over = (seconds / own) / (of_bare / count) - 1
                self._figures.add(load.name, f"{what}, over the executor", "%", over * 100, by=peer.name)

    def first_items(self, peer: Peer) -> None:
        """How soon the first item begins."""
        for _ in range(self._options.repeat * STARTS):
            run = self._run(peer, 0.0, FIRST_ITEMS)
            self._figures.add(f"{FIRST_ITEMS} no-op items", "command to first item", "s", run.first)
            self._figures.add(f"{FIRST_ITEMS} no-op items", "whole command", "s", run.whole)

    def memory(self, peer: Peer, count: int) -> None:
        """What is resident while so many items go through; what the peak grows by after a fifth of the time tells
        whether it is flat."""
        load = f"{count:,} no-op items"
        run = self._run(peer, 0.0, count)
        self._figures.add(load, "items/s", "", count / run.whole)
        if not run.peaks:  # no /proc
            return
        for which, name in enumerate(("batch process", "dispatcher")):
            peaks = [peak[which] for peak in run.peaks]
            early, whole = peaks[len(peaks) // 5], max(peaks)  # that of a zombie is 0
            self._figures.add(load, f"peak memory of the {name}", "MiB", whole / MIB)
            self._figures.add(load, f"growth of that of the {name}", "MiB", (whole - early) / MIB)

    def _run(self, peer: Peer, cpu: float, count: int) -> Run:
        click.echo(f"{peer.name}: {count:,} items of {cpu * 1e3:g} ms", err=True)
        delete_flows(self._suite.connection, SLUGS)
        vacuum(self._suite.connection)
        with tempfile.TemporaryDirectory(prefix="pgflow-bench-") as folder:
            items, results = Path(folder, "items.jsonl"), Path(folder, "results.jsonl")
            with items.open("w") as file:
                file.writelines(json.dumps({"number": number, "cpu": cpu}) + "\n" for number in range(count))
            return _timed(peer, Work(items, results, self._options.slots), count)


def _timed(peer: Peer, work: Work, count: int) -> Run:
    with work.results.open("w") if peer.prints_results else contextlib.nullcontext(None) as printed:
        began = time.monotonic()
        process = subprocess.Popen(peer.command(work), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=printed or 2)
        watch = _Watch(process.pid)
        try:
            process.wait()
            ended = time.monotonic()
        finally:
            watch.stop()
            process.terminate()
            process.wait()
    if process.returncode:
        raise click.ClickException(f"{peer.name} ended with exit code {process.returncode}")
    first, last, found = math.inf, 0.0, 0
    for begin, end in _spans(work.results):
        first, last, found = min(first, begin), max(last, end), found + 1
    if found != count:
        raise click.ClickException(f"{peer.name} has done {found:,} of {count:,} items")
    return Run(ended - began, first - began, last - first, watch.peaks)


class _Watch:
    """Looks at a batch's process and at its dispatcher, which is its child. Thread: ``watch`` runs ``_loop``."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ending = threading.Event()
        self.peaks: list[tuple[int, int]] = []
        self._thread = threading.Thread(target=self._loop, name="watch")
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ending.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._ending.wait(LOOK_SECONDS):
            own = usage.of_process(self._pid)
            children = [seen.peak_rss for pid in proc.children(self._pid) if (seen := usage.of_process(pid))]
            if own is not None and children:
                self.peaks.append((own.peak_rss, max(children)))


def _spans(results: Path) -> Iterator[tuple[float, float]]:
    with results.open() as file:
        for line in file:
            value = json.loads(line)
            began, ended = value["output"] if isinstance(value, dict) else value
            yield began, ended
