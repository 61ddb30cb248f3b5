"""Procrastinate: a worker process for each slot, ten jobs at a time, of those that burn CPU one, woken by
notifications; jobs are kept when they have succeeded. Deferred in batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import procrastinate
import psycopg

from benchmarks.peers.driver import Workers, batches, job
from benchmarks.peers.process import Settings

MODULE = __name__
AT_A_TIME = 10
"""Of jobs that do not burn CPU: while one is reported another is fetched."""


def _app(url: str) -> tuple[procrastinate.App, Any]:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
    return app, app.task(name="work")(_work)


async def _work(order: dict[str, Any]) -> None:
    job(order)


def worker(url: str, at_a_time: str) -> None:
    """One worker process. The job runs in the event loop: it has the process to itself, and no thread is started."""
    app, _ = _app(url)
    app.run_worker(concurrency=int(at_a_time), install_signal_handlers=True)


class ProcrastinateDriver:
    """Defers, and counts what is left."""

    def __init__(self, settings: Settings) -> None:
        self._app, self._task = _app(settings.url)
        self._connection = psycopg.connect(settings.url, autocommit=True)
        self._app.open()
        self._app.schema_manager.apply_schema()
        self._workers = Workers(MODULE, settings)

    def prepare(self, order: dict[str, Any]) -> None:
        """Start workers that do another number of jobs at a time where the jobs need it."""
        self._workers.serve(1 if order.get("cpu") else AT_A_TIME)

    def run(self, orders: Sequence[dict[str, Any]], _steps: int, look: float) -> None:
        """DAGs are independent jobs here."""
        for batch in batches(orders):
            self._task.batch_defer(*({"order": order} for order in batch))
        query = "SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))"
        while self._connection.execute(query).fetchone() != (False,):
            self._workers.require_alive()
            time.sleep(look)
        query = "SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'"
        if (row := self._connection.execute(query).fetchone()) != (0,):
            raise RuntimeError(f"{row} jobs did not succeed")

    def close(self) -> None:
        self._workers.close()
        self._app.close()


driver = ProcrastinateDriver
