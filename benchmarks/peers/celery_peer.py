"""Celery: one worker with a prefork pool of a process for each slot; broker and results in a Redis on a unix socket
that writes nothing to the disk, so its jobs are not durable. Its defaults else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from celery import Celery
from celery.result import AsyncResult

from benchmarks.peers.driver import end, job
from benchmarks.peers.process import Settings

SOCKET = "BENCH_REDIS"
START_SECONDS, RESULT_SECONDS = 30, 600


def _app(socket: str) -> tuple[Celery, Any]:
    url = f"redis+socket://{socket}"
    app = Celery("benchmarks", broker=url, backend=url)
    app.conf.update(broker_connection_retry_on_startup=True)
    return app, app.task(name="work")(job)


app, task = _app(os.environ.get(SOCKET, ""))


class CeleryDriver:
    """Sends, and waits for every result."""

    def __init__(self, settings: Settings) -> None:
        folder = Path(tempfile.mkdtemp(prefix="pgflow-bench-celery-"))
        socket = str(folder / "redis.sock")
        self._redis = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )
        self._worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", f"{__name__}:app", "worker", "--pool", "prefork"),
                *("--concurrency", str(settings.slots), "--loglevel", "ERROR"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            env={**os.environ, SOCKET: socket},
        )
        self._app, self._task = _app(socket)
        deadline = time.monotonic() + START_SECONDS
        while not os.path.exists(socket) and time.monotonic() < deadline:
            time.sleep(0.02)

    def prepare(self, _order: dict[str, Any]) -> None:
        """Nothing."""

    def run(self, orders: Sequence[dict[str, Any]], _steps: int, _look: float) -> None:
        """DAGs are independent jobs here. Results come by Redis' own notifications."""
        results: list[AsyncResult[Any]] = [self._task.delay(order) for order in orders]
        for result in results:
            result.get(timeout=RESULT_SECONDS)

    def close(self) -> None:
        end([self._worker, self._redis])


driver = CeleryDriver
