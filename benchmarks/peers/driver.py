"""A peer's own process: orders on standard input, answers on standard output; it enqueues, its workers do the jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TextIO

from benchmarks.peers.process import Settings
from pgflow.bench.work import work

LOOK_SECONDS, SHORT_LOOK_SECONDS = 0.02, 0.001
END_SECONDS = 5.0
WARM_UP_JOBS = 10
AT_ONCE = 500
BYTES_AT_ONCE = 8_000_000


class Driver(Protocol):
    """One peer."""

    def prepare(self, order: dict[str, Any]) -> None:
        """Make ready for jobs of this kind, or for those that ``note`` when they begin; not measured."""

    def run(self, orders: Sequence[dict[str, Any]], steps: int, look: float) -> None:
        """Do the jobs, each of ``steps`` steps where the peer knows such, and return when all have completed, which is
        looked for every ``look`` seconds. Raises RuntimeError if one fails."""

    def close(self) -> None:
        """End all processes."""


def job(order: dict[str, Any]) -> Any:
    """What a worker does: note when it begins, if it is asked to, and do the work."""
    if path := order.get("note"):
        Path(path).write_text(str(time.monotonic()))
    return work(order)


def batches(orders: Sequence[dict[str, Any]]) -> list[Sequence[dict[str, Any]]]:
    """The orders in batches as large as pgflow's client starts them."""
    size = len(orders[0].get("text", "")) if orders else 0
    at_once = max(1, min(AT_ONCE, BYTES_AT_ONCE // max(1, size)))
    return [orders[first : first + at_once] for first in range(0, len(orders), at_once)]


class Workers:
    """``slots`` processes that run ``module.worker(url, argument)``, once they are asked to ``serve``."""

    def __init__(self, module: str, settings: Settings) -> None:
        self._boot = f"import sys; from {module} import worker; worker(*sys.argv[1:])"
        self._settings = settings
        self._argument: float | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    def serve(self, argument: float) -> None:
        """Serve so; those that serve otherwise are ended."""
        if argument == self._argument:
            return
        self.close()
        self._argument = argument
        command = [sys.executable, "-c", self._boot, self._settings.url, str(argument)]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr) for _ in range(self._settings.slots)
        ]

    def require_alive(self) -> None:
        """Raise RuntimeError if one has ended."""
        if any(process.poll() is not None for process in self._processes):
            raise RuntimeError("a worker process has ended")

    def close(self) -> None:
        """End them."""
        end(self._processes)


def end(processes: Sequence[subprocess.Popen[Any]]) -> None:
    """SIGTERM, and SIGKILL for those that do not heed it."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def steps_in_all(count: int, steps: int) -> int:
    """How many jobs of ``steps`` steps have ``count`` steps in all."""
    return max(1, count // steps)


def latencies(driver: Driver, count: int) -> dict[str, list[float]]:
    """Seconds from a start to its job's begin, and to its completion, one job after the other."""
    found: dict[str, list[float]] = {"begin": [], "completed": []}
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "note"
        for _ in range(count):
            started = time.monotonic()
            driver.run([{"note": str(note)}], 1, SHORT_LOOK_SECONDS)
            found["completed"].append(time.monotonic() - started)
            found["begin"].append(float(note.read_text()) - started)
    return found


def answer(driver: Driver, order: dict[str, Any]) -> dict[str, Any]:
    """Do what one line says."""
    match order["what"]:
        case "start":
            driver.prepare({})
            driver.run([{}] * WARM_UP_JOBS, 1, LOOK_SECONDS)
            return {}
        case "latencies":
            driver.prepare({"note": ""})
            latencies(driver, WARM_UP_JOBS)
            return latencies(driver, order["count"])
        case _:
            orders, steps = [order["order"]] * order["count"], order["steps"]
            driver.prepare(order["order"])
            driver.run([{}] * WARM_UP_JOBS, steps, LOOK_SECONDS)
            started = time.perf_counter()
            driver.run(orders, steps, LOOK_SECONDS)
            return {"seconds": time.perf_counter() - started}


def serve(driver: Driver, answers: TextIO) -> None:
    """Until standard input ends."""
    for line in sys.stdin:
        try:
            found = answer(driver, json.loads(line))
        except Exception as error:  # noqa: BLE001  # whatever a peer raises is its answer
            found = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(found) + "\n")
        answers.flush()


def main() -> None:
    """Drive the peer whose module is named by the first argument. What anybody prints goes to standard error."""
    module, settings = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    driver: Driver = import_module(f"benchmarks.peers.{module}").driver(Settings(**json.loads(settings)))
    try:
        serve(driver, answers)
    finally:
        driver.close()
