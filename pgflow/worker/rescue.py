"""Rescue: tasks of workers that died go back to their queues."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from datetime import datetime

from pgflow.database import Database, workers
from pgflow.database.failures import FAILURES, in_short
from pgflow.database.tasks import Tasks
from pgflow.database.workers import Suspect
from pgflow.process import identity
from pgflow.worker.pulse import Pulse

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
WATCH_SECONDS = 4.0
"""How often is looked for suspects; and while there are some, or nothing could be seen."""
SILENCE_SECONDS = 11.5
"""A worker is dead when its heartbeat has not changed for this long under our eyes. Heartbeats come every 5 s, and it
is watched from 6 s without one; so its tasks are back within 6 + 10 + 12 seconds."""
STALLED_LOOKS = 6
"""At each so many looks tasks are counted that ``requeue_stalled_tasks``, which others call, left alone for good."""
BATCH_TASKS = 500


class Rescue:
    """Hands back what dead workers hold, without an attempt spent; who has lost a task so three times fails it.

    Dead is who is silent while we watch, never who was silent while the database was away: then all heartbeats are
    old. So a look that fails forgets what was seen. On this host we know better: a worker whose process is gone is dead
    at once, be it our own predecessor.

    Thread: ``pgflow-rescue`` runs ``_loop``; the first look is at once. One worker at a time hands back.
    """

    def __init__(self, database: Database, tasks: Tasks, worker_ids: Sequence[str]) -> None:
        self._database = database
        self._tasks = tasks
        self._worker_ids = list(worker_ids)
        self._looks = 0
        self._stalled = 0
        self._seen: dict[str, tuple[datetime | None, float]] = {}
        self.pulse = Pulse("rescue")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pgflow-rescue", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def wait_until_stopped(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the thread's end; whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        with self.pulse.life():
            while True:
                was_able = self._try_to_look()
                if self._stopping.wait(LOOK_SECONDS if was_able and not self._seen else WATCH_SECONDS):
                    return

    def _try_to_look(self) -> bool:
        self.pulse.beat()
        try:
            self._look()
            return True
        except FAILURES as error:
            self._seen.clear()
            if not self._stopping.is_set():
                logger.warning("looking for dead workers failed: %s", in_short(error))
            return False

    def _look(self) -> None:
        # The first time those are looked at as well that showed a moment ago that they live: our predecessor on this
        # host may have been killed just now.
        suspects = workers.suspects(self._database, self._worker_ids, workers.SILENT_SECONDS if self._looks else 0.0)
        if self._looks % STALLED_LOOKS == 0:
            self._tell_of_stalled_tasks()
        self._looks += 1
        now = time.monotonic()
        self._seen = {suspect.worker_id: self._first_seen(suspect, now) for suspect in suspects}
        dead = {
            suspect: reason
            for suspect in suspects
            if (reason := _cause_of_death(suspect, now - self._seen[suspect.worker_id][1]))
        }
        if not dead:
            return
        with workers.rescuing(self._database) as is_ours:
            if is_ours:
                for suspect, reason in dead.items():
                    self._rescue(suspect, reason)
                workers.mark_dead(self._database, list(dead))

    def _tell_of_stalled_tasks(self) -> None:
        stalled = workers.count_stalled_tasks(self._database)
        if stalled > self._stalled:
            logger.warning("%d tasks have stalled for good, and their runs with them; see `pgflow doctor`", stalled)
        self._stalled = stalled

    def _first_seen(self, suspect: Suspect, now: float) -> tuple[datetime | None, float]:
        seen = self._seen.get(suspect.worker_id)
        return seen if seen is not None and seen[0] == suspect.heartbeat else (suspect.heartbeat, now)

    def _rescue(self, suspect: Suspect, reason: str) -> None:
        held = self._tasks.held_by([suspect.worker_id])
        for start in range(0, len(held), BATCH_TASKS):
            batch = held[start : start + BATCH_TASKS]
            verdicts = self._tasks.requeue(batch, [reason] * len(batch))
            for task, verdict in zip(batch, verdicts, strict=True):
                if verdict == "requeued":
                    logger.warning("%s went back to its queue: %s", task, reason)
                elif verdict in ("failed", "recorded"):
                    logger.error("%s was given up: %s, for the fourth time", task, reason)


def _cause_of_death(suspect: Suspect, silent: float) -> str | None:
    who = f"worker {suspect.name or suspect.worker_id}"
    if suspect.process is not None and identity.is_gone(suspect.process):
        return f"the process of {who} is gone"
    if silent < SILENCE_SECONDS:
        return None
    if suspect.is_stopped:
        return f"{who} has stopped"
    return f"{who} gives no sign of life since {suspect.heartbeat:%Y-%m-%d %H:%M:%S%z}" if suspect.heartbeat else who
