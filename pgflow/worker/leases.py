"""Leases: the worker's sign of life, and the operator's wish that it end."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Sequence

from pgflow.database import Database, workers
from pgflow.database.failures import FAILURES

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
REQUEUE_HEARTBEATS = 3
"""With every so many heartbeats a worker looks for tasks whose worker has died."""


class Leases:
    """Renews the heartbeats of all the worker's rows in one statement.

    Thread: ``pgflow-leases`` runs ``_loop``, and calls ``on_deprecated`` once if an operator deprecates the worker.
    A heartbeat that fails is logged; the next one is on time. Tasks of workers that died are handed back on the way,
    and those that have stalled for good are told of.
    At its end it marks the rows stopped.
    """

    def __init__(self, database: Database, worker_ids: Sequence[str], on_deprecated: Callable[[], None]) -> None:
        self._database = database
        self._worker_ids = list(worker_ids)
        self._on_deprecated = on_deprecated
        self._stalled = 0
        self._stopping = threading.Event()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pgflow-leases", daemon=True)

    def start(self) -> None:
        """Start the heartbeats; the first was the row's insertion."""
        self._thread.start()

    def stop(self) -> None:
        """End the heartbeats, and say so in the rows."""
        self._stopping.set()

    def wait_until_stopped(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the thread's end; whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Nobody waits for it any more: what its thread still meets is not told, not after the worker's last word."""
        self._abandoned.set()

    def _warn(self, message: str, error: Exception) -> None:
        if not self._abandoned.is_set():
            logger.warning(message, error)

    def _look_for_stalled_tasks(self) -> None:
        if requeued := workers.requeue_stalled_tasks(self._database):
            logger.warning("%d tasks whose workers are silent went back to their queues", requeued)
        stalled = workers.count_stalled_tasks(self._database)
        if stalled > self._stalled:
            logger.warning("%d tasks have stalled for good, and their runs with them; see `pgflow doctor`", stalled)
        self._stalled = stalled

    def _loop(self) -> None:
        deprecated = False
        for beat in itertools.count():
            if self._stopping.wait(HEARTBEAT_SECONDS):
                break
            try:
                now_deprecated = workers.heartbeat(self._database, self._worker_ids)
                if beat % REQUEUE_HEARTBEATS == 0:
                    self._look_for_stalled_tasks()
            except FAILURES as error:
                self._warn("heartbeat failed: %s", error)
                continue
            if now_deprecated and not deprecated:
                deprecated = True
                logger.info("an operator deprecated this worker")
                self._on_deprecated()
        try:
            workers.mark_stopped(self._database, self._worker_ids)
        except FAILURES as error:
            self._warn("the worker's rows could not be marked stopped: %s", error)
