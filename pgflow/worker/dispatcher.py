"""Dispatcher: claims tasks for idle slots and hands them over."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from pgflow.database.failures import FAILURES, in_short
from pgflow.database.tasks import ClaimedTask, Tasks
from pgflow.outcome import NO_RETRY, Failed, Released
from pgflow.worker.admission import Admission
from pgflow.worker.backoff import Backoff
from pgflow.worker.collector import Collector
from pgflow.worker.holdings import Holdings
from pgflow.worker.pool import Pool
from pgflow.worker.pulse import Pulse
from pgflow.worker.wakeup import Wakeup

logger = logging.getLogger(__name__)

STOP_CHECK_SECONDS = 0.2
ADMISSION_SECONDS = 0.5
"""How often the machine's memory is looked at while there is too little."""
DOUBT_SECONDS = 60.0
INVENTORY_SECONDS = 5.0
"""Until so long after an answer was lost, and so often, the database is asked what this worker holds; and once more,
however long there was no occasion."""


class Dispatcher:
    """Claims only what can start now: never more tasks than slots are idle, so no lease is spent waiting.

    Thread: ``pgflow-dispatcher`` runs ``_loop``. While the collector is full, which it is when the database is
    away, nothing is claimed.
    """

    def __init__(
        self,
        tasks: Tasks,
        worker_ids: Mapping[str, str],
        pool: Pool,
        collector: Collector,
        wakeup: Wakeup,
        holdings: Holdings,
        admission: Admission,
    ) -> None:
        self._tasks = tasks
        self._worker_ids = dict(worker_ids)
        self._pool = pool
        self._collector = collector
        self._wakeup = wakeup
        self._holdings = holdings
        self._admission = admission
        self._next_inventory = 0.0
        self._asked = time.monotonic()
        self._handed_back: dict[object, float] = {}  # for which doubt
        self._backoff = Backoff()
        self.pulse = Pulse("dispatcher")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pgflow-dispatcher", daemon=True)

    def start(self) -> None:
        """Start claiming."""
        self._thread.start()

    def stop(self) -> None:
        """Claim nothing more."""
        self._stopping.set()
        self._wakeup.notify()

    def wait_until_stopped(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until what was claimed has been handed over; whether that is so."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        with self.pulse.life():
            while not self._stopping.is_set():
                self.pulse.beat()
                self._turn()

    def _turn(self) -> None:
        demand = self._pool.wait_for_demand(STOP_CHECK_SECONDS)
        if demand <= 0 or not self._collector.wait_for_room(STOP_CHECK_SECONDS):
            return
        if not self._admission.is_open():
            self._stopping.wait(ADMISSION_SECONDS)
            return
        found = self._dispatch(demand)
        if found:
            self._wakeup.found()
        if found < demand:
            self._wakeup.wait()

    def _dispatch(self, demand: int) -> int:
        """Claim up to ``demand`` tasks and hand them over; how many there were."""
        if self._stopping.is_set():
            return demand
        try:
            self._take_inventory()
            claimed = self._tasks.claim(self._worker_ids, demand)
        except FAILURES as error:
            self._holdings.doubt()
            if self._stopping.is_set():
                return demand
            pause = self._backoff.pause()
            logger.warning("claiming failed, next try in %.1f s: %s", pause, in_short(error))
            self._stopping.wait(pause)
            return demand
        self._backoff.reset()
        self._holdings.add(claimed)
        spent = [task for task in claimed if task.attempt > max(1, task.max_attempts)]
        for task in spent:
            self._collector.put(task, _spent(task))
        self._pool.take([task for task in claimed if task not in spent] if spent else claimed)
        return len(claimed)

    def _take_inventory(self) -> None:
        """After a call whose answer is lost: hand back what the database says we hold, and we do not know of.

        A claim may have been committed although its answer never arrived, and a release that is not repeated may not
        have been. This is the thread that claims, so no answer is on its way; but the server may still be at work on a
        claim, so it is asked again for a while. What is held both before and after the question counts: a task may be
        delivered in between.
        """
        now = time.monotonic()
        doubted = self._holdings.doubted
        if now < self._next_inventory or self._asked >= doubted + DOUBT_SECONDS:
            return
        known = self._holdings.keys() | {key for key, doubt in self._handed_back.items() if doubt == doubted}
        held = self._tasks.held_by(list(self._worker_ids.values()))
        self._next_inventory, self._asked = now + INVENTORY_SECONDS, now
        known |= self._holdings.keys()
        for lost in held:
            if lost.key not in known:
                self._handed_back[lost.key] = doubted
                logger.warning("%s is held by this worker, which does not know of it; it is handed back", lost)
                self._collector.put(lost, Released("the answer to its claim was lost"))


def _spent(task: ClaimedTask) -> Failed:
    """Of a task that was handed back with its last attempt spent, or whose max_attempts was lowered since."""
    return Failed(
        f"Task was not tried again: attempt {task.attempt - 1} was the last of {max(1, task.max_attempts)}", NO_RETRY
    )
