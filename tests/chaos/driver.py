"""The driver: does what the schedule says, to a fleet and its server, and remembers what it did."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import psutil
import psycopg

from pgflow import Client
from pgflow.database import Database
from pgflow.database.failures import FAILURES
from tests.chaos import notes
from tests.chaos.expectation import FLOWS
from tests.chaos.fleet import Fleet
from tests.chaos.schedule import Event
from tests.support.servers import Server
from tests.support.waiting import wait_until

T = TypeVar("T")
TEND_SECONDS = 0.02
PAY_SECONDS = 30.0
BUSY_SECONDS = 0.3
"""How long a busy process is waited for."""
_BACKENDS = """
    SELECT pid FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name <> 'chaos'
    ORDER BY pid
"""


@dataclass(frozen=True, slots=True)
class Started:
    """A run that was to be started."""

    flow_slug: str
    key: str
    size: int


@dataclass
class Driver:
    """Everything it did is in ``done``, in words; ``killed`` are the pool processes that it killed itself."""

    server: Server
    fleet: Fleet
    started: list[Started] = field(default_factory=list)
    killed: set[int] = field(default_factory=set)
    done: list[str] = field(default_factory=list)
    _owed: list[tuple[str, list[Started]]] = field(default_factory=list)
    _is_up: bool = True

    def drive(self, schedule: Sequence[Event]) -> None:
        """Do it all; then the server runs, nobody stands still, and all runs are started."""
        actions: dict[str, Callable[[Event], str]] = {
            "start": self._start,
            "busy": self._kill_pool_process,
            "idle": self._kill_pool_process,
            "forkserver": self._kill_forkserver,
            "dispatcher": lambda event: self.fleet.kill(event.place, event.pause),
            "drain": lambda event: self.fleet.drain(event.place),
            "freeze": lambda event: self.fleet.signal(event.place, event.number),
            "thaw": lambda event: self.fleet.signal(event.place, event.number),
            "server": self._stop_server,
            "server up": self._start_server,
            "backend": self._kill_backend,
            "lose": self._lose,
            "standstill": self._stand_still,
            "flow": self._let_flow,
            "cut": self._cut,
            "cut all": self._cut,
        }
        begin = time.monotonic()
        for event in schedule:
            self._tend_until(begin + event.at)
            at = time.monotonic() - begin
            self.done.append(f"{event} | done at {at:.2f}: {actions[event.kind](event)}")
        wait_until(lambda: not self._pay(), "the last runs are started", PAY_SECONDS)

    def tend(self) -> None:
        """Keep the fleet at work."""
        self.fleet.tend()
        time.sleep(TEND_SECONDS)

    def _tend_until(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            self.tend()

    # Runs.

    def _start(self, event: Event) -> str:
        runs = [Started(event.flow, f"{len(self.started) + number}", size) for number, size in enumerate(event.sizes)]
        self.started += runs
        self._owed.append((event.flow, runs))
        return f"{self._pay()} batches are owed"

    def _pay(self) -> int:
        """Start what is to be started, if the server is there; how many batches are left. Keys make that safe to try
        again."""
        with contextlib.suppress(*FAILURES):
            while self._owed and self._is_up:
                slug, runs = self._owed[0]
                with Database(self.server.url(), application_name="chaos") as database:
                    inputs = [FLOWS[slug].input(run.size) for run in runs]
                    Client(database).start_many(slug, inputs, keys=[run.key for run in runs])
                del self._owed[0]
        return len(self._owed)

    # Processes.

    def _kill_pool_process(self, event: Event) -> str:
        deadline = time.monotonic() + BUSY_SECONDS
        while not (candidates := self._pool_processes(is_busy=event.kind == "busy")):
            if time.monotonic() > deadline:
                return "there is none"
            self.tend()
        victim = _picked(candidates, event.pick)
        self.killed.add(victim.pid)
        return _send(victim, event.number)

    def _pool_processes(self, *, is_busy: bool) -> list[psutil.Process]:
        found = self.fleet.pool_processes()
        return [process for process in found if notes.is_busy(self.fleet.notes, process.pid) == is_busy]

    def _kill_forkserver(self, event: Event) -> str:
        forkserver = self.fleet.forkserver(event.place)
        return "there is none" if forkserver is None else _send(forkserver, event.number)

    # The links.

    def _lose(self, event: Event) -> str:
        self.fleet.links[event.place].lose(event.number)
        return "armed"

    def _stand_still(self, event: Event) -> str:
        self.fleet.links[event.place].stand_still()
        return "stands still"

    def _let_flow(self, event: Event) -> str:
        self.fleet.links[event.place].flow()
        return "flows"

    # The server.

    def _stop_server(self, _event: Event) -> str:
        self._is_up = False
        self.server.stop("immediate")
        return "stopped"

    def _start_server(self, _event: Event) -> str:
        self.server.start()
        self._is_up = True
        return "started"

    def _kill_backend(self, event: Event) -> str:
        if backends := self._backends():
            with contextlib.suppress(ProcessLookupError):
                os.kill(_picked(backends, event.pick), event.number)
        return f"one of {len(backends)}"

    def _cut(self, event: Event) -> str:
        backends = self._backends()
        for pid in backends if event.kind == "cut all" else backends[:1] and [_picked(backends, event.pick)]:
            self._ask("SELECT pid FROM pg_terminate_backend(%s) AS pid", pid)
        return f"of {len(backends)}"

    def _backends(self) -> list[int]:
        return self._ask(_BACKENDS)

    def _ask(self, statement: str, *parameters: object) -> list[int]:
        if not self._is_up:
            return []
        with (
            contextlib.suppress(psycopg.Error),
            psycopg.connect(self.server.url(), application_name="chaos", autocommit=True) as connection,
        ):
            return [row[0] for row in connection.execute(statement.encode(), parameters)]
        return []


def _picked(candidates: Sequence[T], pick: float) -> T:
    return candidates[int(pick * len(candidates))]


def _send(process: psutil.Process, number: int) -> str:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return f"{process.pid} was gone"
    return f"{process.pid}"
