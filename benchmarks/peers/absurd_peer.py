"""Absurd: a worker process for each slot that claims 50 tasks at once, or one of those that burn CPU, and looks every
10 ms. Spawned in batches of one transaction. A DAG is one task of as many steps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from absurd_sdk import Absurd, TaskContext

from benchmarks.peers.driver import Workers, batches, job, steps_in_all
from benchmarks.peers.process import Settings

MODULE = __name__
QUEUE = "bench"
BATCH = 50
POLL_SECONDS = 0.01
CTL = shutil.which("absurdctl") or str(Path(sys.executable).parent / "absurdctl")


def _app(connection: psycopg.Connection[Any]) -> Absurd:
    app = Absurd(connection, queue_name=QUEUE)
    app.register_task(name="work")(_work)
    return app


def _work(params: Any, context: TaskContext) -> Any:
    order, steps = params["order"], params["steps"]
    if steps == 1:
        return job(order)
    for number in range(steps - 1):
        context.step(f"step {number}", lambda: job(order))
    return context.step("last", lambda: job(order))


def worker(url: str, batch: str) -> None:
    """One worker process."""
    _app(psycopg.connect(url, autocommit=True)).start_worker(batch_size=int(batch), poll_interval=POLL_SECONDS)


class AbsurdDriver:
    """Spawns, and counts what is left."""

    def __init__(self, settings: Settings) -> None:
        self._connection = psycopg.connect(settings.url, autocommit=True)
        environment = {**os.environ, "ABSURD_DATABASE_URL": settings.url, "PGDATABASE": settings.url}
        for arguments in (("init",), ("create-queue", QUEUE)):
            subprocess.run([CTL, *arguments], env=environment, check=True, stdout=sys.stderr)
        self._app = _app(self._connection)
        self._workers = Workers(MODULE, settings)

    def prepare(self, order: dict[str, Any]) -> None:
        """Start workers with another batch size where the tasks need it."""
        self._workers.serve(1 if order.get("cpu") else BATCH)

    def run(self, orders: Sequence[dict[str, Any]], steps: int, look: float) -> None:
        for batch in batches(orders[: steps_in_all(len(orders), steps)]):
            with self._connection.transaction():
                for order in batch:
                    self._app.spawn("work", {"order": order, "steps": steps})
        query = (
            f"SELECT EXISTS (SELECT FROM absurd.t_{QUEUE} WHERE state NOT IN ('completed', 'failed', 'cancelled'))"
        ).encode()
        while self._connection.execute(query).fetchone() != (False,):
            self._workers.require_alive()
            time.sleep(look)
        query = f"SELECT count(*) FROM absurd.t_{QUEUE} WHERE state <> 'completed'".encode()
        if (row := self._connection.execute(query).fetchone()) != (0,):
            raise RuntimeError(f"{row} tasks did not complete")

    def close(self) -> None:
        self._workers.close()


driver = AbsurdDriver
