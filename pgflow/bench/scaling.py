"""How throughput changes with the number of slots and of workers, the size of a map, the rows that are in the tables
already, and the dependents of a step."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import click
import psycopg

from pgflow.bench import flows
from pgflow.bench.contender import Pgflow
from pgflow.bench.figures import Figures
from pgflow.bench.loads import DAG_STEPS, Load
from pgflow.bench.options import Options
from pgflow.bench.rows import OTHERS, make_other_rows
from pgflow.bench.site import serving
from pgflow.bench.throughput import RATE, SHARE, share_of_ideal
from pgflow.bench.work import order

SLUGS = [flow.slug for flow in (flows.elements, flows.fan_1, flows.fan_10, flows.fan_100)]
ALL_SLUGS = [*SLUGS, *OTHERS]
SLOTS, QUICK_SLOTS = (1, 2, 4, 8), (1, 2)
WORKERS, QUICK_WORKERS = (1, 2, 4, 8), (1, 2)
MAPS, QUICK_MAPS = (1_000, 10_000, 100_000, 1_000_000), (1_000, 10_000)
ROWS, QUICK_ROWS = (0, 10_000, 100_000, 1_000_000, 10_000_000), (0, 10_000)
ROWS_TASKS = 5_000
SLOT_LOADS = (Load("map", 1_000), Load("map", 100, cpu=0.01))
WINDOW_SECONDS, QUICK_WINDOW_SECONDS = 30.0, 6.0
FAN_TASKS = 1_000
FANS = dict(zip(flows.FANS, (flows.fan_1, flows.fan_10, flows.fan_100), strict=True))


class Scaling:
    """The measurements of the suite; each adds one sample to its figures."""

    def __init__(self, pgflow: Pgflow, aside: psycopg.Connection[Any], options: Options, figures: Figures) -> None:
        self._pgflow = pgflow
        self._aside = aside
        self._options = options
        self._figures = figures

    def measure(self, max_rows: int, max_map: int) -> None:
        """Everything, the rows last: they stay."""
        quick = self._options.quick
        for number in range(1, self._options.repeat + 1):
            click.echo(f"measurement {number} of {self._options.repeat}: slots, workers, maps, dependents", err=True)
            for slots in QUICK_SLOTS if quick else SLOTS:
                self._slots(slots)
            for workers in QUICK_WORKERS if quick else WORKERS:
                self._workers(workers)
            for elements in QUICK_MAPS if quick else MAPS:
                if elements <= max_map:
                    self._map(elements)
            for dependents in FANS:
                self._dependents(dependents)
        for rows in QUICK_ROWS if quick else ROWS:
            if rows <= max_rows:
                click.echo(f"{rows:,} rows", err=True)
                make_other_rows(self._pgflow.database, self._aside, rows)
                for _ in range(self._options.repeat):
                    self._rows(rows)

    def _slots(self, slots: int) -> None:
        with Pgflow(self._pgflow.database, self._aside, slots).running() as pgflow:
            for load in SLOT_LOADS:
                count = load.count(slots, self._options.size)
                name = f"{slots} slots, {load.name}"
                seconds = pgflow.run(load, count)
                self._figures.add(name, RATE, "", count / seconds, at=slots)
                if load.cpu:
                    share = 100 * share_of_ideal(count, load.cpu, slots, seconds)
                    self._figures.add(name, SHARE, "%", share, at=slots)

    def _workers(self, workers: int) -> None:
        """So many workers of one slot each, as on so many machines, but that they share this one's cores."""
        load = SLOT_LOADS[0]
        with ExitStack() as stack:
            worker = stack.enter_context(Pgflow(self._pgflow.database, self._aside, 1).serving(flows.elements))
            for _ in range(workers - 1):
                stack.enter_context(serving(self._pgflow.database, [flows.elements], 1))
            self._pgflow.do(worker, load, workers * DAG_STEPS)
            count = load.count(workers, self._options.size)
            seconds = self._pgflow.do(worker, load, count)
        self._figures.add(f"{workers} workers of one slot, {load.name}", RATE, "", count / seconds, at=workers)

    def _map(self, elements: int) -> None:
        """Its start, and the tasks that complete in a window of some seconds after it."""
        window = (QUICK_WINDOW_SECONDS if self._options.quick else WINDOW_SECONDS) * self._options.size
        with self._pgflow.serving(flows.elements) as worker:
            before = time.perf_counter()
            run_id = self._pgflow.client.start(flows.elements.slug, [{}] * elements)
            started = time.perf_counter()
            while self._pgflow.client.status(run_id) == "started" and time.perf_counter() < started + window:
                time.sleep(0.02)
            (step,) = self._pgflow.client.progress(run_id)
            seconds = time.perf_counter() - started
            worker.stop(timeout=0)
        name = f"map of {elements:,}"
        self._figures.add(name, "start", "s", started - before, at=elements)
        self._figures.add(name, "tasks/s after it", "", step.completed / seconds, at=elements)

    def _dependents(self, dependents: int) -> None:
        flow = FANS[dependents]
        count = max(1, round(FAN_TASKS * self._options.size / (1 + dependents)))
        with self._pgflow.serving(flow) as worker:
            started = time.perf_counter()
            *_, last_run_id = self._pgflow.client.start_many(flow.slug, [order(0, 0)] * count)
            self._pgflow.wait(worker, flow, last_run_id)
            seconds = time.perf_counter() - started
        self._figures.add(
            f"{dependents} dependents of a step", RATE, "", count * (1 + dependents) / seconds, at=dependents
        )

    def _rows(self, rows: int) -> None:
        load = Load("map", ROWS_TASKS)
        count = load.count(self._options.slots, self._options.size)
        with self._pgflow.serving(flows.elements) as worker:
            self._pgflow.do(worker, load, DAG_STEPS)
            seconds = self._pgflow.do(worker, load, count)
        self._figures.add(f"{rows:,} tasks in the tables, one map", RATE, "", count / seconds, at=rows)
