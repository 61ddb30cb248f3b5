"""The SQL core alone: what claiming, completing and starting cost in the database, without pool processes.

The functions that a worker and a client call are called through psycopg, one at a time, and timed from sending the
statement to having its rows. ``--rows`` puts completed tasks of other runs into the tables first. All flows are
called ``bench_core_...`` and are deleted at the end. What the figures mean is in README.md beside this file.
"""

from __future__ import annotations

import json
import math
import platform
import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import click
import psycopg

from benchmarks.database import delete_flows, opened_database
from benchmarks.report import json_option, machine, print_table, rounded
from pgflow import Database, Flow, codec
from pgflow.cli.failures import ending_in_words
from pgflow.database import address, flows, runs, workers
from pgflow.database.tasks import BatchTasks, ClaimedTask

Result = TypeVar("Result")

MAP, SINGLE, CHAIN = "bench_core_map", "bench_core_single", "bench_core_chain"
OTHERS = tuple(f"bench_core_other_{number}" for number in range(10))
"""The flows of ``--rows``. Each numbers its messages from 1, as every queue does."""
ALL_FLOWS = [MAP, SINGLE, CHAIN, *OTHERS]
OTHER_RUN_TASKS = 10

STARTED_AT_ONCE = 1_000
CHAIN_MAPS = 49
MEASURED_BATCHES = 1_000
SKIPPED_AT_ONCE = 1_000
REFERENCE_ELEMENTS = 1_000
GOAL = 1.3
"""What a task of the biggest map may cost, in those of a map of ``REFERENCE_ELEMENTS``."""

SINGLE_RUNS = "single-step runs"
BATCH_QUANTITIES = ("claim + complete", "claim", "complete", "first tenth", "middle tenth", "last tenth")
LAST_COMPLETE, RATIO = "last batch's complete", f"to that of {REFERENCE_ELEMENTS:,}"

LOCK_KEY = 0x7067626E  # "pgbn": one benchmark at a time in a database
SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "autovacuum", "jit")


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
class Figure:
    """A quantity of a load, with a sample of each repetition; ``unit`` is us/task, us/run, ms, s or times."""

    load: str
    quantity: str
    unit: str
    samples: list[float]

    @property
    def median(self) -> float:
        """The median of the samples, in ``unit``."""
        return statistics.median(self.samples)

    def __str__(self) -> str:
        return f"{rounded(self.median)} ({rounded(min(self.samples))}-{rounded(max(self.samples))})"

    def as_data(self) -> dict[str, Any]:
        """The figure as JSON values."""
        return asdict(self) | {"median": self.median, "lowest": min(self.samples), "highest": max(self.samples)}


class Figures:
    """What was measured, by load and quantity."""

    def __init__(self) -> None:
        self.by_name: dict[tuple[str, str], Figure] = {}

    def add(self, load: str, quantity: str, unit: str, value: float) -> None:
        """Add a sample."""
        figure = self.by_name.setdefault((load, quantity), Figure(load, quantity, unit, []))
        figure.samples.append(value)

    def cells(self, load: str, *quantities: str) -> list[str]:
        """A load's line of a table; a dash for what was not measured."""
        return [load, *(str(self.by_name.get((load, quantity), "-")) for quantity in quantities)]


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
        self, database: Database, aside: psycopg.Connection[Any], *, batch: int, element_bytes: int, extent: Extent
    ) -> None:
        self.database = database
        self.tasks = BatchTasks(database)
        self.aside = aside
        self.batch = batch
        self.element_bytes = element_bytes
        self.extent = extent
        self.figures = Figures()

    def make_other_rows(self, count: int) -> None:
        """Put ``count`` completed tasks of other runs into the tables, and bring the statistics up to date."""
        for number, slug in enumerate(OTHERS[:count]):
            self._compile(map_flow(slug))
            share = count // len(OTHERS) + (number < count % len(OTHERS))
            with self.aside.transaction():
                for statement in OTHER_ROWS:
                    self.aside.execute(statement, {"flow": slug, "tasks": share, "run_tasks": OTHER_RUN_TASKS})
        vacuum(self.aside, analyze=True)

    def renew(self, flow: Flow) -> dict[str, str]:
        """Define the flow anew, in tables without dead rows; the worker ids for a claim."""
        delete_flows(self.aside, [flow.slug])
        vacuum(self.aside)
        self._compile(flow)
        worker_ids = {flow.slug: str(uuid4())}
        workers.register(self.database, worker_ids, "benchmarks.sql_core")
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


OTHER_ROWS = (
    """
    INSERT INTO pgflow.runs (run_id, flow_slug, status, input, output, remaining_steps, completed_at)
    SELECT
      md5(%(flow)s::text || n)::uuid, %(flow)s, 'completed', i.input, jsonb_build_object('element', i.input), 0, now()
    FROM generate_series(0, (%(tasks)s::int - 1) / %(run_tasks)s) AS n
    CROSS JOIN LATERAL (
      SELECT jsonb_agg(e) AS input FROM generate_series(1, least(%(run_tasks)s, %(tasks)s - n * %(run_tasks)s)) AS e
    ) AS i
    """,
    """
    INSERT INTO pgflow.step_states (
      flow_slug, run_id, step_slug, status, remaining_tasks, initial_tasks, started_at, completed_at, output
    )
    SELECT r.flow_slug, r.run_id, 'element', 'completed', 0, jsonb_array_length(r.input), now(), now(), r.input
    FROM pgflow.runs AS r
    WHERE r.flow_slug = %(flow)s
    """,
    """
    INSERT INTO pgflow.step_tasks (
      flow_slug, run_id, step_slug, message_id, task_index, status, attempts_count, output, started_at, completed_at
    )
    SELECT
      %(flow)s, md5(%(flow)s::text || n / %(run_tasks)s)::uuid, 'element', n + 1, n %% %(run_tasks)s,
      'completed', 1, to_jsonb(n %% %(run_tasks)s + 1), now(), now()
    FROM generate_series(0, %(tasks)s::int - 1) AS n
    """,
    """
    INSERT INTO pgflow.task_attempts (run_id, step_slug, task_index, attempt, outcome, started_at, ended_at)
    SELECT t.run_id, t.step_slug, t.task_index, t.attempts_count, 'completed', t.started_at, t.completed_at
    FROM pgflow.step_tasks AS t
    WHERE t.flow_slug = %(flow)s
    """,
)


def map_flow(slug: str) -> Flow:
    """A flow of one map step over the run's input."""
    flow = Flow(slug, max_attempts=1, timeout=600)
    flow.map(slug="element")(_never_called)
    return flow


def single_flow() -> Flow:
    """A flow of one step with one task."""
    flow = Flow(SINGLE, max_attempts=1, timeout=600)
    flow.step(slug="only")(_never_called)
    return flow


def chain_flow() -> Flow:
    """A flow of maps, each over the one before: none of them has tasks when the run's input is empty."""
    flow = Flow(CHAIN, max_attempts=1, timeout=600)
    flow.map(slug="map_0")(_never_called)
    for number in range(1, CHAIN_MAPS):
        flow.map(over=f"map_{number - 1}", slug=f"map_{number}")(_never_called)
    return flow


def _never_called(_input: object) -> None:
    raise NotImplementedError


@click.command()
@click.option("--database", metavar="URL", help="Without it the usual order of choice, else the embedded server.")
@click.option(
    "--rows",
    type=click.IntRange(0, 100_000_000),
    default=0,
    show_default=True,
    metavar="N",
    help="Completed tasks of other runs that are in the tables beforehand.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    metavar="N",
    help="Tasks that are claimed and completed at a time.",
)
@click.option(
    "--element-bytes",
    type=click.IntRange(0, 10_000),
    default=0,
    show_default=True,
    metavar="N",
    help="Text in each element of a map; with 0 the elements are numbers.",
)
@click.option(
    "--repeat",
    type=click.IntRange(1, 1_000),
    default=5,
    show_default=True,
    metavar="N",
    help="Measurements of each load; the median counts.",
)
@click.option("--quick", is_flag=True, help="Maps of at most 10,000 elements and 1,000 runs.")
@json_option
def main(
    database: str | None, rows: int, batch: int, element_bytes: int, repeat: int, quick: bool, json_path: Path | None
) -> None:
    """Measure the SQL core and print Markdown tables."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ending_in_words(), opened_database(database) as opened, housekeeping(opened) as aside:
        site = Site(opened, aside, batch=batch, element_bytes=element_bytes, extent=QUICK if quick else FULL)
        options = {"rows": rows, "batch": batch, "element_bytes": element_bytes, "repeat": repeat, "quick": quick}
        facts = known_facts(aside, options)
        site.make_other_rows(rows)
        for number in range(1, repeat + 1):
            click.echo(f"measurement {number} of {repeat}", err=True)
            measure(site)
        report(site, facts)
        if json_path is not None:
            data = {**facts, "figures": [figure.as_data() for figure in site.figures.by_name.values()]}
            json_path.write_text(json.dumps(data, indent=2) + "\n")


@contextmanager
def housekeeping(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A connection of our own. Our flows are deleted at the end; and before, if somebody was killed."""
    conninfo = address.complete(database.conninfo, "pgflow benchmark")
    # Nothing is prepared, as on the connections of workers.
    with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as connection:
        if connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_KEY]).fetchone() != (True,):
            raise click.ClickException(f"another benchmark runs in the database {database.target}")
        delete_flows(connection, ALL_FLOWS)
        try:
            yield connection
        finally:
            click.echo("deleting what was made for measuring", err=True)
            delete_flows(connection, ALL_FLOWS)
            vacuum(connection, analyze=True)


def vacuum(connection: psycopg.Connection[Any], *, analyze: bool = False) -> None:
    """Remove dead rows from the tables of runs."""
    options = b"(ANALYZE)" if analyze else b""
    connection.execute(
        b"VACUUM " + options + b" pgflow.runs, pgflow.step_states, pgflow.step_tasks, pgflow.task_attempts"
    )


def known_facts(connection: psycopg.Connection[Any], options: dict[str, Any]) -> dict[str, Any]:
    """Under which circumstances is measured, as JSON values."""
    names = ["server_version", *SETTINGS]
    settings = connection.execute("SELECT n, current_setting(n) FROM unnest(%s::text[]) AS n", [names]).fetchall()
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "python": platform.python_version(),
        "postgresql": dict(settings),
        "options": options,
    }


def measure(site: Site) -> None:
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
    site.figures.add("start_flows", "start", "us/run", seconds / site.extent.runs * 1e6)
    add_batches(site.figures, SINGLE_RUNS, [drain(site, worker_ids, site.extent.runs)])


def measure_starts_one_by_one(site: Site) -> None:
    """Start runs of one task, each in a call of its own."""
    site.renew(single_flow())
    count = site.extent.runs_one_by_one
    seconds = sum(timed(lambda: site.start_flow(SINGLE, "{}"))[0] for _ in range(count))
    site.figures.add("start_flow", "start", "us/run", seconds / count * 1e6)


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
    site.figures.add(load, "start", "us/task", start_seconds / len(lives) / elements * 1e6)
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
    site.figures.add("chain", "start", "s", seconds)


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
    """Add a sample of each of ``BATCH_QUANTITIES``, in microseconds per task; a life is all batches of a run, or of the
    runs that were started together, in their order. The first of the quantities comes back."""
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
        figures.add(load, quantity, "us/task", value)
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


def report(site: Site, facts: dict[str, Any]) -> None:
    """Print the figures as Markdown."""
    settings, options, figures = facts["postgresql"], facts["options"], site.figures
    maps = [_map_name(elements) for elements in site.extent.maps]
    click.echo(
        f"{facts['machine']}; Python {facts['python']}, PostgreSQL {settings['server_version']} "
        f"({', '.join(f'{name} {settings[name]}' for name in SETTINGS)}); {options['rows']:,} tasks of other runs, "
        f"batches of {options['batch']:,}, elements of {options['element_bytes']:,} bytes of text; "
        f"median (lowest-highest) of {options['repeat']}\n"
    )
    print_table(
        ["microseconds per task", *BATCH_QUANTITIES],
        [figures.cells(load, *BATCH_QUANTITIES) for load in (SINGLE_RUNS, *maps)],
    )
    print_table(
        ["map", "claim + complete, times that of 1,000", "last batch's complete, ms", "start, us per task"],
        [figures.cells(load, RATIO, LAST_COMPLETE, "start") for load in maps],
    )
    starts = {
        "start_flows": f"{site.extent.runs:,} runs with start_flows of {STARTED_AT_ONCE:,}, us per run",
        "start_flow": f"{site.extent.runs_one_by_one:,} runs with start_flow, us per run",
        "chain": f"a chain of {CHAIN_MAPS} maps without tasks, s",
    }
    print_table(["start", "median"], [[name, figures.cells(load, "start")[1]] for load, name in starts.items()])
    ratio = figures.by_name[maps[-1], RATIO].median
    click.echo(f"{maps[-1]} to {_map_name(REFERENCE_ELEMENTS)}: {ratio:.2f} (goal: at most {GOAL})")


def _map_name(elements: int) -> str:
    return f"map of {elements:,}"


if __name__ == "__main__":
    main()
