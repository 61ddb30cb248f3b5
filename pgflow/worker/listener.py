"""Listener: hears that tasks were queued."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Collection
from typing import Any

import psycopg

from pgflow.database import Database
from pgflow.database.failures import FAILURES

logger = logging.getLogger(__name__)

CHANNEL = "pgflow_tasks"
PROOF_SECONDS = 2.0
LOOK_SECONDS = 0.5
RETRY_SECONDS = 15.0


class Listener:
    """LISTENs on a connection of its own and calls ``on_tasks`` when tasks of its flows were queued.

    A pooler in transaction mode accepts LISTEN and delivers nothing, so a notification to itself has to arrive before
    ``is_hearing``; until then, and while the connection is lost, the worker polls.

    Thread: ``pgflow-listener`` runs ``_loop`` and calls ``on_tasks``.
    """

    def __init__(self, database: Database, flow_slugs: Collection[str], on_tasks: Callable[[], None]) -> None:
        self._database = database
        self._flow_slugs = frozenset(flow_slugs)
        self._on_tasks = on_tasks
        self._hearing = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pgflow-listener", daemon=True)

    def start(self) -> None:
        """Start listening."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; the thread ends within ``LOOK_SECONDS``."""
        self._stopping.set()

    @property
    def is_hearing(self) -> bool:
        """Whether notifications arrive."""
        return self._hearing.is_set()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._database.own_connection() as connection:
                    self._listen(connection)
            except FAILURES as error:
                logger.debug("listening failed, next try in %.0f s: %s", RETRY_SECONDS, error)
            was_hearing = self.is_hearing
            self._hearing.clear()
            if was_hearing:
                self._on_tasks()  # who waits for notifications shall look, and poll from now on
            self._stopping.wait(RETRY_SECONDS)

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(f"LISTEN {CHANNEL}")
        proof = str(uuid.uuid4())
        connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, proof))
        if all(notification.payload != proof for notification in connection.notifies(timeout=PROOF_SECONDS)):
            logger.info("notifications do not arrive, as behind a pooler in transaction mode: polling")
            return
        self._hearing.set()
        while not self._stopping.is_set():
            for notification in connection.notifies(timeout=LOOK_SECONDS):
                if notification.payload in self._flow_slugs:
                    self._on_tasks()
