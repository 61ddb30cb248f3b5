"""How long it takes until something happens: from a start to its handler, from a handler's end to the dependent's
start, from a start to its completion. Idle, and with a queue of other tasks in all slots."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from pgflow.bench import flows
from pgflow.bench.contender import Contender, ContenderError, Pgflow, in_turn
from pgflow.bench.figures import Figures, quantile
from pgflow.bench.options import Options
from pgflow.bench.work import order
from pgflow.worker import Worker

IDLE, LOADED = "idle", "loaded"
SLUGS = [flows.single.slug, flows.pair.slug, flows.background.slug]
RUNS, QUICK_RUNS = 200, 30
BACKGROUND_CPU = 0.01
BACKGROUND_SECONDS, QUICK_BACKGROUND_SECONDS = 240, 60
"""So much work waits beside the runs that are measured."""
QUANTILES = {"p50": 0.5, "p99": 0.99}


def measure(contenders: Sequence[Contender], options: Options, figures: Figures) -> dict[str, str]:
    """Everybody idle, pgflow loaded too; who failed, and why."""
    failed: dict[str, str] = {}
    count = max(1, round((QUICK_RUNS if options.quick else RUNS) * options.size))
    for number, contender in in_turn(contenders, options.repeat):
        if contender.name in failed:
            continue
        click.echo(f"measurement {number} of {options.repeat}, {contender.name}", err=True)
        try:
            with contender.running() as running:
                add(figures, IDLE, contender.name, running.latencies(count))
            if isinstance(contender, Pgflow):
                add(figures, LOADED, contender.name, loaded(contender, count, options))
        except ContenderError as error:
            failed[contender.name] = f"failed: {error}"
    return failed


def loaded(pgflow: Pgflow, count: int, options: Options) -> dict[str, list[float]]:
    """With tasks of another flow, each of 10 ms, in every slot and in the queue."""
    seconds = QUICK_BACKGROUND_SECONDS if options.quick else BACKGROUND_SECONDS
    with pgflow.serving(flows.single, flows.pair, flows.background) as worker:
        tasks = round(seconds * options.slots * options.size / BACKGROUND_CPU)
        run_id = pgflow.client.start(flows.background.slug, [order(BACKGROUND_CPU, 0)] * tasks)
        _wait_for_load(pgflow, worker)
        found = pgflow.latencies_beside(count)
        if pgflow.client.status(run_id) == "completed":
            click.echo("the load has ended before the measurement: the figures called loaded are partly idle", err=True)
        worker.stop(timeout=0)
    return found


def _wait_for_load(pgflow: Pgflow, worker: Worker) -> None:
    query = "SELECT EXISTS (SELECT FROM pgflow.step_tasks WHERE flow_slug = %s AND status = 'completed')"
    while worker.is_running:
        with pgflow.database.connection() as connection:
            if connection.execute(query, [flows.background.slug]).fetchone() == (True,):
                return
        time.sleep(0.05)
    raise ContenderError("the worker has ended")


def add(figures: Figures, state: str, by: str, found: dict[str, list[float]]) -> None:
    """Add a sample of each quantile of what was found, in milliseconds."""
    for quantity, seconds in found.items():
        for name, share in QUANTILES.items():
            figures.add(f"{state}, {quantity}", name, "ms", quantile(seconds, share) * 1e3, by=by)
