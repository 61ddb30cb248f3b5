"""Celery's prefork pool, as one whose kills are measured."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pgflow.bench.kill.contenders import END_SECONDS, Order


class CeleryContender:
    """Celery's prefork pool, with broker and results in a Redis on a unix socket."""

    def __init__(self, slots: int) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pgflow-bench-celery-"))
        os.environ["BENCH_REDIS"] = str(self._folder / "redis.sock")
        self._redis = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", os.environ["BENCH_REDIS"], "--save", ""],
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
        )
        self._worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "benchmarks.celery_kill_app", "worker"),
                *("--pool", "prefork", "--concurrency", str(slots), "--loglevel", "ERROR"),
            ],
            stdin=subprocess.DEVNULL,
        )
        from benchmarks import celery_kill_app

        self._tasks = celery_kill_app.TASKS

    def run(self, order: Order) -> None:
        self._tasks[order.handler].apply_async([order.input], time_limit=order.timeout)

    def close(self) -> None:
        for process in (self._worker, self._redis):
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
