"""Who is measured: pgflow, and whoever else can do the same work."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg

from pgflow.bench import flows
from pgflow.bench.figures import PGFLOW
from pgflow.bench.loads import DAG_STEPS, Load
from pgflow.bench.site import LOOK_SECONDS, delete_flows, serving, wait_until_done
from pgflow.client import Client
from pgflow.database import Database
from pgflow.flow import Flow
from pgflow.worker import Worker

FLOWS = {"runs": flows.single, "map": flows.elements, "dags": flows.dag}
STARTED_AT_ONCE = 500
BYTES_AT_ONCE = 8_000_000
COMPLETED_LOOK_SECONDS = 0.001
REST_SECONDS = 0.2
"""Before a run whose handlers note when they begin, and between looks at it. A worker that has just had something to do
polls, every 10 to 40 ms, before it waits for a notification; and a look takes a millisecond of both processors, which
made handlers begin 4 ms later."""

BEGIN, COMPLETED = "start to handler start", "start to completed, one step"
BEGIN_AFTER_COMMIT = "start's commit to handler start"
NEXT, BOTH_COMPLETED = "handler end to dependent's start", "start to completed, two steps"


class ContenderError(Exception):
    """Somebody who is measured failed to do a load."""


class Running(Protocol):
    """A contender whose processes run. Either may raise ContenderError."""

    def run(self, load: Load, count: int) -> float:
        """Do so many tasks of a load; the seconds from the first start to the last completion."""

    def latencies(self, count: int) -> dict[str, list[float]]:
        """Start one after the other, each when the one before has completed; seconds of each by what they are."""


class Contender(Protocol):
    """Who is measured. ``running`` starts it anew; it may raise ContenderError."""

    name: str

    def running(self) -> AbstractContextManager[Running]: ...


@dataclass(frozen=True, slots=True)
class _Run:
    """When it was begun to start it, when that was committed as far as is known here, and when it had completed."""

    run_id: str
    started: float
    committed: float
    completed: float


class Pgflow:
    """A client in this process, and a worker, which serves one flow and has done some tasks before it is measured."""

    name = PGFLOW

    def __init__(self, database: Database, aside: psycopg.Connection[Any], slots: int) -> None:
        self.database = database
        self.client = Client(database)
        self._aside = aside
        self._slots = slots
        self._kept = ExitStack()
        self._worker: tuple[Flow, Worker] | None = None

    @contextmanager
    def running(self) -> Iterator[Pgflow]:
        """There is no worker yet; the one that ``run`` starts is kept for loads of the same flow."""
        with self._kept:
            yield self
        self._worker = None

    @contextmanager
    def serving(self, *served: Flow) -> Iterator[Worker]:
        """A worker for flows without runs."""
        delete_flows(self._aside, [flow.slug for flow in served])
        with serving(self.database, served, self._slots) as worker:
            yield worker

    def run(self, load: Load, count: int) -> float:
        """Do the tasks as runs, or as elements of one map."""
        worker = self._worker_of(FLOWS[load.shape])
        self.do(worker, Load(load.shape, 1), self._slots * DAG_STEPS)
        return self.do(worker, load, count)

    def _worker_of(self, flow: Flow) -> Worker:
        if self._worker is None or self._worker[0] is not flow:
            self._kept.close()
            self._worker = None
            self._worker = flow, self._kept.enter_context(self.serving(flow))
        return self._worker[1]

    def do(self, worker: Worker, load: Load, count: int, look: float = LOOK_SECONDS) -> float:
        """The same with a worker that is there."""
        flow = FLOWS[load.shape]
        started = time.perf_counter()
        if load.shape == "map":
            last_run_id = self.client.start(flow.slug, [load.order] * count)
        else:
            last_run_id = self._start_runs(flow, load, count // DAG_STEPS if load.shape == "dags" else count)
        self.wait(worker, flow, last_run_id, look)
        return time.perf_counter() - started

    def _start_runs(self, flow: Flow, load: Load, runs: int) -> str:
        last_run_id = ""
        at_once = max(1, min(STARTED_AT_ONCE, BYTES_AT_ONCE // max(1, load.text_bytes)))
        for done in range(0, runs, at_once):
            *_, last_run_id = self.client.start_many(flow.slug, [load.order] * min(at_once, runs - done))
        return last_run_id

    def wait(self, worker: Worker, flow: Flow, last_run_id: str, look: float = LOOK_SECONDS) -> None:
        """Until all runs of the flow have completed."""
        wait_until_done(self.client, worker, flow, last_run_id, look)
        query = "SELECT count(*) FROM pgflow.runs WHERE flow_slug = %s AND status <> 'completed'"
        if (row := self._aside.execute(query, [flow.slug]).fetchone()) != (0,):
            raise ContenderError(f"{row} runs of {flow.slug} did not complete")

    def latencies(self, count: int) -> dict[str, list[float]]:
        """Of a worker that has nothing else to do."""
        with self.serving(flows.single, flows.pair):
            self.latencies_beside(1)
            return self.latencies_beside(count)

    def latencies_beside(self, count: int) -> dict[str, list[float]]:
        """The same with a worker that is there, and whatever it does."""
        measured = (BEGIN, BEGIN_AFTER_COMMIT, COMPLETED, NEXT, BOTH_COMPLETED)
        found: dict[str, list[float]] = {quantity: [] for quantity in measured}
        for _ in range(count):
            run = self._one_run(flows.single, COMPLETED_LOOK_SECONDS)
            found[COMPLETED].append(run.completed - run.started)
            run = self._one_run(flows.pair, COMPLETED_LOOK_SECONDS)
            found[BOTH_COMPLETED].append(run.completed - run.started)
            time.sleep(REST_SECONDS)
            run = self._one_run(flows.pair, REST_SECONDS)
            first_began, first_ended, second_began = self.client.get(run.run_id).output["second"]
            found[BEGIN].append(first_began - run.started)
            found[BEGIN_AFTER_COMMIT].append(first_began - run.committed)
            found[NEXT].append(second_began - first_ended)
        return found

    def _one_run(self, flow: Flow, look: float) -> _Run:
        started = time.monotonic()
        run_id = self.client.start(flow.slug, {})
        committed = time.monotonic()
        time.sleep(look)
        while self.client.status(run_id) == "started":
            time.sleep(look)
        return _Run(run_id, started, committed, time.monotonic())


def in_turn(contenders: Sequence[Contender], repeat: int) -> Iterator[tuple[int, Contender]]:
    """Everybody ``repeat`` times, in turn and each time another one first, so that a slow minute hits all of them."""
    for number in range(repeat):
        for turn in range(len(contenders)):
            yield number + 1, contenders[(turn + number) % len(contenders)]
