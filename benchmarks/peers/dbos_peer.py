"""DBOS: a worker process for each slot, with the default pool of five connections. A process takes all the workflows
that it finds in the queue, of those that burn CPU twenty at a time; it looks every 100 ms, and every 10 ms where
latency is measured. Enqueued in batches of one transaction. A DAG is one workflow of as many steps."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import psycopg
import sqlalchemy
from dbos import DBOS, DBOSClient

from benchmarks.peers.driver import Workers, batches, job, steps_in_all
from benchmarks.peers.process import Settings

MODULE = __name__
NAME, VERSION, QUEUE, CPU_QUEUE = "bench", "1", "bench", "bench_cpu"
CPU_AT_A_TIME = 20
POLL_SECONDS, SHORT_POLL_SECONDS = 0.1, 0.01


def _url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def _step(order: dict[str, Any]) -> Any:
    """One step of a workflow."""
    return job(order)


step = DBOS.step()(_step)


def _work(order: dict[str, Any], steps: int) -> Any:
    """One workflow: the job, or so many steps that each do it."""
    if steps == 1:
        return job(order)
    for _ in range(steps - 1):
        step(order)
    return step(order)


work = DBOS.workflow()(_work)


def worker(url: str, poll_seconds: str) -> None:
    """One worker process."""
    config = {
        "name": NAME,
        "system_database_url": _url(url),
        "application_version": VERSION,
        "executor_id": str(os.getpid()),
        "log_level": "WARNING",
        "enable_otlp": False,
    }
    DBOS(config=config)
    DBOS.listen_queues([QUEUE, CPU_QUEUE])
    DBOS.launch()
    for queue, at_a_time in ((QUEUE, None), (CPU_QUEUE, CPU_AT_A_TIME)):
        DBOS.register_queue(queue, worker_concurrency=at_a_time, polling_interval_sec=float(poll_seconds))
    while True:
        time.sleep(60)


class DbosDriver:
    """Enqueues through a client, and counts what is left."""

    def __init__(self, settings: Settings) -> None:
        self._connection = psycopg.connect(settings.url, autocommit=True)
        self._workers = Workers(MODULE, settings)
        self._workers.serve(POLL_SECONDS)
        self._await_schema()
        self._engine = sqlalchemy.create_engine(_url(settings.url))
        self._client = DBOSClient(system_database_url=_url(settings.url), application_name=NAME)

    def _await_schema(self) -> None:
        query = "SELECT count(*) FROM dbos.queues WHERE name IN (%s, %s)"
        while True:
            self._workers.require_alive()
            try:
                if self._connection.execute(query, [QUEUE, CPU_QUEUE]).fetchone() == (2,):
                    return
            except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
                pass
            time.sleep(0.1)

    def prepare(self, order: dict[str, Any]) -> None:
        """Start workers that look more often where latency is measured."""
        self._workers.serve(SHORT_POLL_SECONDS if "note" in order else POLL_SECONDS)

    def run(self, orders: Sequence[dict[str, Any]], steps: int, look: float) -> None:
        queue = CPU_QUEUE if orders[0].get("cpu") else QUEUE
        options = {"workflow_name": work.__qualname__, "queue_name": queue, "app_version": VERSION}
        for batch in batches(orders[: steps_in_all(len(orders), steps)]):
            with self._engine.begin() as connection:
                for order in batch:
                    self._client.enqueue_in_transaction(connection, options, order, steps)
        query = "SELECT EXISTS (SELECT FROM dbos.workflow_status WHERE status IN ('ENQUEUED', 'PENDING', 'DELAYED'))"
        while self._connection.execute(query).fetchone() != (False,):
            self._workers.require_alive()
            time.sleep(look)
        query = "SELECT count(*) FROM dbos.workflow_status WHERE status <> 'SUCCESS'"
        if (row := self._connection.execute(query).fetchone()) != (0,):
            raise RuntimeError(f"{row} workflows did not succeed")

    def close(self) -> None:
        self._workers.close()


driver = DbosDriver
