"""PgQueuer with asyncpg: a worker process for each slot, batches of 100, all tables logged (its default). For jobs that
burn CPU a worker holds two at a time, else one worker would take all and the others none."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import psycopg
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries

from benchmarks.peers.driver import Workers, batches, job
from benchmarks.peers.process import Settings

MODULE = __name__
BATCH = 100
"""Of jobs that do not burn CPU."""
POLL_SECONDS = 1


def worker(url: str, batch: str) -> None:
    """One worker process."""
    asyncio.run(_serve(url, int(batch)))


async def _serve(url: str, batch: int) -> None:
    pgq = PgQueuer(AsyncpgDriver(await asyncpg.connect(url)))
    pgq.entrypoint("work")(_work)
    at_a_time = None if batch > 1 else 2
    await pgq.run(batch_size=batch, dequeue_timeout=timedelta(seconds=POLL_SECONDS), max_concurrent_tasks=at_a_time)


async def _work(order: Job) -> None:
    job(json.loads(order.payload or b"{}"))


class PgqueuerDriver:
    """Enqueues, and waits until the queue is empty."""

    def __init__(self, settings: Settings) -> None:
        self._connection = psycopg.connect(settings.url, autocommit=True)
        self._loop = asyncio.new_event_loop()
        self._queries = Queries(AsyncpgDriver(self._loop.run_until_complete(asyncpg.connect(settings.url))))
        self._loop.run_until_complete(self._queries.install())
        self._workers = Workers(MODULE, settings)

    def prepare(self, order: dict[str, Any]) -> None:
        """Start workers with another batch size where the jobs need it."""
        self._workers.serve(1 if order.get("cpu") else BATCH)

    def run(self, orders: Sequence[dict[str, Any]], _steps: int, look: float) -> None:
        """DAGs are independent jobs here."""
        for batch in batches(orders):
            payloads = [json.dumps(order).encode() for order in batch]
            names, priorities = ["work"] * len(batch), [0] * len(batch)
            self._loop.run_until_complete(self._queries.enqueue(names, payloads, priorities))
        while self._connection.execute("SELECT EXISTS (SELECT FROM pgqueuer)").fetchone() != (False,):
            self._workers.require_alive()
            time.sleep(look)
        query = "SELECT count(*) FROM pgqueuer_log WHERE status::text IN ('exception', 'failed')"
        if (row := self._connection.execute(query).fetchone()) != (0,):
            raise RuntimeError(f"{row} jobs failed")

    def close(self) -> None:
        self._workers.close()


driver = PgqueuerDriver
