"""TaskBell: rings when tasks are queued for a worker that has said that it waits."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pgflow.database import Database, workers
from pgflow.database.failures import FAILURES
from pgflow.worker.listener import Listener

logger = logging.getLogger(__name__)


class TaskBell:
    """A Bell of a listener's notifications. Nothing is sent to a worker that does not wait: only who waits is in the
    table ``waiting_workers``, so that queueing tasks costs a busy system no notifications.
    """

    def __init__(self, database: Database, worker_ids: Mapping[str, str], listener: Listener) -> None:
        self._database = database
        self._worker_ids = dict(worker_ids)
        self._listener = listener

    @property
    def is_hearing(self) -> bool:
        """As in Bell."""
        return self._listener.is_hearing

    def arm(self) -> float | None:
        """As in Bell."""
        try:
            return workers.await_tasks(self._database, self._worker_ids)
        except FAILURES as error:
            logger.debug("could not wait for tasks: %s", error)  # the next claim meets the same, and says so
            return None

    def disarm(self) -> None:
        """As in Bell. If it fails, one notification too many is sent."""
        try:
            workers.stop_awaiting_tasks(self._database, self._worker_ids.values())
        except FAILURES as error:
            logger.debug("could not stop waiting for tasks: %s", error)
