"""The SQL core alone: what claiming, completing and starting cost in the database, without pool processes.

The functions that a worker and a client call are called through psycopg, one at a time, and timed from sending the
statement to having its rows.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

import click
import psycopg

from pgflow import codec
from pgflow.bench.figures import Figures
from pgflow.bench.options import Options
from pgflow.bench.rows import OTHERS, make_other_rows, never_called
from pgflow.bench.site import delete_flows, vacuum
from pgflow.database import Database, flows, runs, workers
from pgflow.database.tasks import BatchTasks, ClaimedTask
from pgflow.flow import Flow

Result = TypeVar("Result")

MAP, SINGLE, CHAIN = "bench_core_map", "bench_core_single", "bench_core_chain"
SLUGS = [MAP, SINGLE, CHAIN, *OTHERS]

STARTED_AT_ONCE = 1_000
CHAIN_MAPS = 49
MEASURED_BATCHES = 1_000
SKIPPED_AT_ONCE = 1_000
REFERENCE_ELEMENTS = 1_000
GOAL = 1.3
"""What a task of the biggest map may cost, in those of a map of ``REFERENCE_ELEMENTS``."""

SINGLE_RUNS = "single-step runs"
LAST_COMPLETE, RATIO = "last batch's complete", f"claim + complete, to that of {REFERENCE_ELEMENTS:,}"
PER_TASK = "us per task"


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured; a small map is measured in so many runs that they have ``sample_tasks`` tasks."""

    maps: tuple[int, ...]
    runs: int
    runs_one_by_one: int
    sample_tasks: int


FULL = Extent(maps=(100, 1_000, 10_000, 100_000), runs=10_000, runs_one_by_one=1_000, sample_tasks=10_000)
QUICK = Extent(maps=(100, 1_000, 10_000), runs=1_000, runs_one_by_one=100, sample_tasks=1_000)


@dataclass(frozen=True, slots=True)
class Batch:
    """One claim and the completion of what it gave."""

    tasks: int
    claim_seconds: float
    complete_seconds: float


class Site:
    """Where and how is measured. ``database`` has one connection, with a worker's and a client's statements; ``aside``
    is for start_flow, which they do not call, and for all that is not timed. ``batch`` is in tasks;
    ``element_bytes`` are those of text in an element, 0 for elements that are numbers."""

    def __init__(
        self,
        database: Database,
        aside: psycopg.Connection[Any],
        figures: Figures,
        *,
        batch: int,
        element_bytes: int,
        extent: Extent,
    ) -> None:
        self.database = database
        self.tasks = BatchTasks(database)
        self.aside = aside
        self.batch = batch
        self.element_bytes = element_bytes
        self.extent = extent
        self.figures = figures

    def renew(self, flow: Flow) -> dict[str, str]:
        """Define the flow anew, in tables without dead rows; the worker ids for a claim."""
        delete_flows(self.aside, [flow.slug])
        vacuum(self.aside)
        self._compile(flow)
        worker_ids = {flow.slug: str(uuid4())}
        workers.register(self.database, worker_ids, "pgflow.bench")
        return worker_ids

    def start_flow(self, slug: str, input_json: str) -> str:
        """Start one run, with the contract's function; its id."""
        (run_id,) = self.aside.execute(
            "SELECT run_id::text FROM pgflow.start_flow(%s, %s::jsonb)", [slug, input_json]
        ).fetchone() or ("",)
        return run_id

    def require_completed(self, run_id: str) -> None:
        """Raise click.ClickException for a run that has not completed: what was measured means nothing then."""
        if (status := runs.run_status(self.database, run_id)) != "completed":
            raise click.ClickException(f"run {run_id} should have completed, but is {status}")

    def _compile(self, flow: Flow) -> None:
        flows.require_compiled(self.database, flow.slug, codec.encode(flow.shape()))


def map_flow(slug: str) -> Flow:
    """A flow of one map step over the run's input."""
    flow = Flow(slug, max_attempts=1, timeout=600)
    flow.map(slug="element")(never_called)
    return flow


def single_flow() -> Flow:
    """A flow of one step with one task."""
    flow = Flow(SINGLE, max_attempts=1, timeout=600)
    flow.step(slug="only")(never_called)
    return flow


def chain_flow() -> Flow:
    """A flow of maps, each over the one before: none of them has tasks when the run's input is empty."""
    flow = Flow(CHAIN, max_attempts=1, timeout=600)
    flow.map(slug="map_0")(never_called)
    for number in range(1, CHAIN_MAPS):
        flow.map(over=f"map_{number - 1}", slug=f"map_{number}")(never_called)
    return flow


def measure(
    database: Database,
    aside: psycopg.Connection[Any],
    options: Options,
    figures: Figures,
    *,
    rows: int,
    batch: int,
    element_bytes: int,
) -> list[str]:
    """Every load ``options.repeat`` times; how near the goal the biggest map is. ``rows`` completed tasks of other runs
    are in the tables, ``batch`` tasks are claimed and completed at a time."""
    extent = QUICK if options.quick else FULL
    site = Site(database, aside, figures, batch=batch, element_bytes=element_bytes, extent=extent)
    if rows:
        make_other_rows(database, aside, rows)
    for number in range(1, options.repeat + 1):
        click.echo(f"measurement {number} of {options.repeat}", err=True)
        measure_once(site)
    biggest = _map_name(extent.maps[-1])
    ratio = figures.get(biggest, RATIO)
    assert ratio is not None
    return [f"{biggest} to {_map_name(REFERENCE_ELEMENTS)}: {ratio.median:.2f} (goal: at most {GOAL})"]


def measure_once(site: Site) -> None:
    """Every load once."""
    measure_runs(site)
    measure_starts_one_by_one(site)
    costs = {elements: measure_map(site, elements) for elements in site.extent.maps}
    for elements, cost in costs.items():
        site.figures.add(_map_name(elements), RATIO, "times", cost / costs[REFERENCE_ELEMENTS])
    measure_chain(site)


def measure_runs(site: Site) -> None:
    """Start runs of one task in batches, then claim and complete all of them."""
    worker_ids = site.renew(single_flow())
    inputs = ["{}"] * STARTED_AT_ONCE
    batches = range(0, site.extent.runs, STARTED_AT_ONCE)
    seconds = sum(timed(lambda: runs.start_flows(site.database, SINGLE, inputs, None))[0] for _ in batches)
    site.figures.add(f"start_flows of {STARTED_AT_ONCE:,}", "start", "us per run", seconds / site.extent.runs * 1e6)
    add_batches(site.figures, SINGLE_RUNS, [drain(site, worker_ids, site.extent.runs)])


def measure_starts_one_by_one(site: Site) -> None:
    """Start runs of one task, each in a call of its own."""
    site.renew(single_flow())
    count = site.extent.runs_one_by_one
    seconds = sum(timed(lambda: site.start_flow(SINGLE, "{}"))[0] for _ in range(count))
    site.figures.add("start_flow, one by one", "start", "us per run", seconds / count * 1e6)


def measure_map(site: Site, elements: int) -> float:
    """Start a map and work it off, a small one several times; microseconds per task for claim and complete."""
    worker_ids = site.renew(map_flow(MAP))
    load = _map_name(elements)
    input_json = codec.encode([element(number, site.element_bytes) for number in range(elements)])
    start_seconds = 0.0
    lives: list[list[Batch]] = []
    for _ in range(max(1, site.extent.sample_tasks // elements)):
        seconds, run_id = timed(lambda: site.start_flow(MAP, input_json))
        start_seconds += seconds
        lives.append(drain(site, worker_ids, elements))
        site.require_completed(run_id)
    site.figures.add(load, "start", PER_TASK, start_seconds / len(lives) / elements * 1e6)
    last_seconds = statistics.median(life[-1].complete_seconds for life in lives)
    site.figures.add(load, LAST_COMPLETE, "ms", last_seconds * 1e3)
    return add_batches(site.figures, load, lives)


def element(number: int, text_bytes: int) -> Any:
    """A map's element: a number, or an object with so much text in it, which does not compress."""
    if not text_bytes:
        return number
    letters = random.Random(number).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=text_bytes)
    return {"id": number, "text": "".join(letters)}


def measure_chain(site: Site) -> None:
    """Start a run whose steps complete one after the other without a task."""
    site.renew(chain_flow())
    seconds, run_id = timed(lambda: site.start_flow(CHAIN, "[]"))
    site.require_completed(run_id)
    site.figures.add(f"chain of {CHAIN_MAPS} maps without tasks", "start", "s", seconds)


def drain(site: Site, worker_ids: dict[str, str], expected: int) -> list[Batch]:
    """Claim and complete, a batch at a time, until all of ``expected`` tasks are completed. Of a life of more than
    ``MEASURED_BATCHES`` that many are measured, at its start, in its middle and at its end."""
    skipped = max(0, math.ceil(expected / site.batch) - MEASURED_BATCHES) // 2 * site.batch
    third = MEASURED_BATCHES // 3
    batches: list[Batch] = []
    left = expected
    while left > 0:
        if skipped and len(batches) in (third, 2 * third):
            left -= skip(site, worker_ids, skipped)
        claim_seconds, claimed = timed(lambda: site.tasks.claim(worker_ids, site.batch))
        batch = _completed(site, claim_seconds, claimed)
        batches.append(batch)
        left -= batch.tasks
    return batches


def skip(site: Site, worker_ids: dict[str, str], count: int) -> int:
    """Complete ``count`` tasks without measuring it."""
    for done in range(0, count, SKIPPED_AT_ONCE):
        claimed = site.tasks.claim(worker_ids, min(SKIPPED_AT_ONCE, count - done))
        _completed(site, 0.0, claimed)
    return count


def _completed(site: Site, claim_seconds: float, claimed: Sequence[ClaimedTask]) -> Batch:
    outputs = [str(task.task_index) for task in claimed]
    complete_seconds, verdicts = timed(lambda: site.tasks.complete(claimed, outputs))
    if set(verdicts) != {"completed"}:
        raise click.ClickException(f"claimed {len(claimed)} tasks, and completing them gave {sorted(set(verdicts))}")
    return Batch(len(claimed), claim_seconds, complete_seconds)


def add_batches(figures: Figures, load: str, lives: list[list[Batch]]) -> float:
    """Add a sample of what claiming and completing cost per task, in all and in parts of a life, which is all batches
    of a run, or of the runs that were started together, in their order. The first of them comes back."""
    every = [batch for life in lives for batch in life]
    count = sum(batch.tasks for batch in every)
    claim = sum(batch.claim_seconds for batch in every) / count * 1e6
    complete = sum(batch.complete_seconds for batch in every) / count * 1e6
    values = {"claim + complete": claim + complete, "claim": claim, "complete": complete}
    # Without the last batch, in which a map's step completes: that is a figure of its own.
    settled = [life[:-1] for life in lives if len(life) > 3]
    for quantity, position in (("first tenth", 0.0), ("middle tenth", 0.5), ("last tenth", 1.0)):
        if part := [batch for life in settled for batch in _tenth(life, position)]:
            seconds = sum(batch.claim_seconds + batch.complete_seconds for batch in part)
            values[quantity] = seconds / sum(batch.tasks for batch in part) * 1e6
    for quantity, value in values.items():
        figures.add(load, quantity, PER_TASK, value)
    return claim + complete


def _tenth(life: list[Batch], position: float) -> list[Batch]:
    size = max(1, len(life) // 10)
    first = round(position * (len(life) - size))
    return life[first : first + size]


def timed(call: Callable[[], Result]) -> tuple[float, Result]:
    """The seconds that a call took, and its result."""
    before = time.perf_counter()
    result = call()
    return time.perf_counter() - before, result


def _map_name(elements: int) -> str:
    return f"map of {elements:,}"
