"""A bare ``ProcessPoolExecutor``: no database, nothing is kept; the ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks.peers.driver import job
from benchmarks.peers.process import Settings


class ExecutorDriver:
    """One job a call, as each may be another; no chunks."""

    def __init__(self, settings: Settings) -> None:
        self._pool = ProcessPoolExecutor(settings.slots)

    def prepare(self, _order: dict[str, Any]) -> None:
        """Nothing."""

    def run(self, orders: Sequence[dict[str, Any]], _steps: int, _look: float) -> None:
        """DAGs are independent jobs here."""
        for _ in self._pool.map(job, orders):
            pass

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


driver = ExecutorDriver
