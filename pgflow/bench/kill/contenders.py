"""Whose kills are measured: pgflow's pool, one shared pebble pool, and others given by reference; each in a process of
its own.

It reads orders from standard input, a line of JSON each, runs their handlers (``hangs.HANDLERS``), and notes the
verdicts in the pipe of events. When standard input ends, it ends.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from pebble import ProcessFuture, ProcessPool

from pgflow.bench.figures import PGFLOW
from pgflow.bench.kill import hangs
from pgflow.database.tasks import ClaimedTask
from pgflow.outcome import Outcome, Released
from pgflow.process import tree
from pgflow.worker.pool import Pool

END_SECONDS = 5.0
_BOOT = f"from {__name__} import main; main()"
"""Not ``-m``, as with a worker's dispatcher: its module would be imported by each pool process anew."""
NO_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody to be measured; ``reference`` is ``module:class`` of a Contender, which takes the number of slots."""

    name: str
    reference: str


@dataclass(frozen=True, slots=True)
class Order:
    """A task: one of ``hangs.HANDLERS``, its input, its timeout in seconds."""

    handler: str
    input: dict[str, Any]
    timeout: int


class Contender(Protocol):
    """Runs orders, and notes how they ended."""

    def run(self, order: Order) -> None:
        """Start a task, or queue it until there is a process for it."""

    def close(self) -> None:
        """End all processes."""


def note_end(order_input: dict[str, Any]) -> None:
    """Note a task's verdict."""
    hangs.note(order_input["events"], "ended", order_input["label"])


class PgflowContender:
    """pgflow's pool, without a database. As a worker's dispatcher does, one thread hands tasks to idle slots; what is
    handed back is run again."""

    def __init__(self, slots: int) -> None:
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._by_number: dict[int, Order] = {}
        self._pool = Pool([f"{hangs.__name__}:flow"], "", slots, preload=True)
        self._pool.report_to(self._ended)
        self._pool.start()
        threading.Thread(target=self._dispatch, daemon=True).start()

    def run(self, order: Order) -> None:
        self._orders.put(order)

    def close(self) -> None:
        self._pool.stop("the measurement is over")
        self._pool.wait_until_ended(END_SECONDS)

    def _dispatch(self) -> None:
        number = 0
        while True:
            order = self._orders.get()
            number += 1
            self._by_number[number] = order
            task = ClaimedTask(
                flow_slug=hangs.flow.slug,
                run_id=NO_ID,
                step_slug=order.handler,
                task_index=0,
                attempt=1,
                msg_id=number,
                kind="root",
                input=json.dumps(order.input),
                timeout=order.timeout,
                worker_id=NO_ID,
                max_attempts=1,
            )
            while not self._pool.wait_for_demand(END_SECONDS):
                pass
            self._pool.take([task])

    def _ended(self, task: ClaimedTask, outcome: Outcome) -> None:
        order = self._by_number.pop(task.msg_id)
        if isinstance(outcome, Released):
            self._orders.put(order)
        else:
            note_end(order.input)


class PebbleContender:
    """One pebble pool for all tasks, with pebble's defaults."""

    def __init__(self, slots: int) -> None:
        self._pool = ProcessPool(max_workers=slots)

    def run(self, order: Order) -> None:
        try:
            future = self._pool.schedule(hangs.HANDLERS[order.handler], args=[order.input], timeout=order.timeout)
        except RuntimeError:  # the pool is broken
            note_end(order.input)
        else:
            future.add_done_callback(partial(self._ended, order.input))

    def close(self) -> None:
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join(END_SECONDS)

    @staticmethod
    def _ended(order_input: dict[str, Any], _future: ProcessFuture[Any]) -> None:
        note_end(order_input)


PGFLOW_POOL = Candidate(PGFLOW, f"{__name__}:PgflowContender")
PEBBLE = Candidate("pebble", f"{__name__}:PebbleContender")


@contextmanager
def running(candidate: Candidate, slots: int, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A contender's process. Its temporary files and what it logs are in ``folder``; all it started is killed in the
    end."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, candidate.reference, str(slots)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            text=True,
            env={**os.environ, "TMPDIR": str(folder)},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        tree.kill(process.pid)
        process.communicate()


def orders() -> Iterator[bytes]:
    """The lines of standard input. Not from ``sys.stdin``, which a forked process closes: it would wait for ever for
    the lock of a thread that reads."""
    unread = b""
    while chunk := os.read(0, 65536):
        *lines, unread = (unread + chunk).split(b"\n")
        yield from lines


def main() -> None:
    """Run a contender, referred to with its number of slots by the arguments, until standard input ends."""
    reference, slots = sys.argv[1:]
    module, _, name = reference.partition(":")
    contender: Contender = getattr(import_module(module), name)(int(slots))
    try:
        for line in orders():
            contender.run(Order(**json.loads(line)))
    finally:
        contender.close()
