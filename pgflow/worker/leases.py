"""Leases: the worker's sign of life, its hold on what it runs, and the operator's wishes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from pgflow.database import Database, workers
from pgflow.database.failures import FAILURES, in_short
from pgflow.database.tasks import ClaimedTask, Tasks
from pgflow.worker.holdings import Held, Holdings
from pgflow.worker.pulse import Pulse

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
LOOK_SECONDS = 1.0
"""How often the tasks held are looked at: what nobody waits for any more is killed within two seconds."""
YOUNG_SECONDS = 0.5
"""Who was claimed since then is left to the next look: short tasks are over by then. Measured with tasks that do
nothing, 1,000 of which are held: 1 % of a core."""
COVER_SECONDS = 30
"""A message that would become visible while its task is held is kept invisible for this long again."""
MARGIN_SECONDS = 10.0
"""It is renewed when it is covered for less than this."""
OVER = "its run or step has ended"
LOST = "its lease was lost, another worker may have it"


class Leases:
    """Renews the heartbeats of all the worker's rows, and its hold on the tasks it runs, in one statement each.

    ``worker_ids`` has the worker's rows by flow slug. ``register`` inserts rows anew that somebody has deleted: after a
    long silence a prune takes a worker for dead, and without its row it could claim nothing any more.

    Thread: ``pgflow-leases`` runs ``_loop``, with a database connection that no other part uses. It calls
    ``on_deprecated`` once if an operator deprecates the worker, and ``on_lost`` with the tasks that nobody waits for
    any more and the reasons. A statement that fails is logged; the next one is on time. At its end it marks the rows
    stopped.
    """

    def __init__(
        self,
        database: Database,
        tasks: Tasks,
        worker_ids: Mapping[str, str],
        holdings: Holdings,
        *,
        register: Callable[[Database, Mapping[str, str]], None],
        on_deprecated: Callable[[], None],
        on_lost: Callable[[Sequence[tuple[ClaimedTask, str]]], None],
    ) -> None:
        self._database = database
        self._tasks = tasks
        self._worker_ids = dict(worker_ids)
        self._register = register
        self._holdings = holdings
        self._on_deprecated = on_deprecated
        self._on_lost = on_lost
        self.pulse = Pulse("leases")
        self._is_deprecated = False
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

    def _loop(self) -> None:
        with self.pulse.life():
            self._keep()
            self._try(
                "the worker's rows could not be marked stopped",
                lambda: workers.mark_stopped(self._database, self._worker_ids.values()),
            )

    def _keep(self) -> None:
        next_beat = next_look = time.monotonic()
        while not self._stopping.wait(max(0.0, min(next_beat, next_look) - time.monotonic())):
            self.pulse.beat()
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + HEARTBEAT_SECONDS
                self._try("heartbeat failed", self._beat)
            if now >= next_look:
                next_look = now + LOOK_SECONDS
                self._try("the tasks that run could not be looked at", self._renew)

    def _try(self, failure: str, action: Callable[[], None]) -> None:
        try:
            action()
        except FAILURES as error:
            if not self._abandoned.is_set():
                logger.warning("%s: %s", failure, in_short(error))

    def _beat(self) -> None:
        beat = workers.heartbeat(self._database, self._worker_ids.values())
        if beat.missing:
            logger.warning("this worker's row was deleted: it registers again")
            self._register(self._database, {slug: id for slug, id in self._worker_ids.items() if id in beat.missing})
        if beat.is_deprecated and not self._is_deprecated:
            self._is_deprecated = True
            logger.info("an operator deprecated this worker")
            self._on_deprecated()

    def _renew(self) -> None:
        held = self._holdings.all(longer_than=YOUNG_SECONDS)
        if not held:
            return
        now = time.monotonic()
        waning = [one.covered_until < now + MARGIN_SECONDS for one in held]
        states = self._tasks.renew(
            [one.task for one in held], [COVER_SECONDS if is_waning else None for is_waning in waning]
        )
        lost: list[tuple[ClaimedTask, str]] = []
        for one, is_waning, state in zip(held, waning, states, strict=True):
            if state == "held":
                _cover(one, now, is_waning)
            else:
                lost.append((one.task, OVER if state == "over" else LOST))
        if lost:
            self._on_lost(lost)


def _cover(one: Held, now: float, is_waning: bool) -> None:
    if is_waning:
        one.covered_until = now + COVER_SECONDS
