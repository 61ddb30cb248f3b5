"""Workers, each in its place: whoever ends is followed by another, as service managers have it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.chaos.link import Link
from tests.flows.chaos import NOTES_VARIABLE
from tests.support.cli import PGFLOW, environment
from tests.support.waiting import wait_until

SLOTS = 2
REPOSITORY = Path(__file__).parents[2]
RESTART_SECONDS = 0.3
READY_SECONDS = 60.0
END_SECONDS = 60.0


@dataclass(slots=True)
class Place:
    """Where one worker after another serves."""

    number: int
    process: subprocess.Popen[bytes]
    log: Path
    asked_to_end: bool = False
    start_at: float = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether the worker has said that it serves."""
        return "ready: " in self.log.read_text(errors="replace")

    @property
    def has_ended(self) -> bool:
        """Whether the worker has ended."""
        return self.process.poll() is not None


@dataclass
class Fleet:
    """Workers for all the given flows, one for each link. ``faults`` is who ended without anybody's doing."""

    links: Sequence[Link]
    references: Sequence[str]
    folder: Path
    places: list[Place] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _generation: int = 0

    @property
    def notes(self) -> Path:
        """Where handlers note what they do."""
        return self.folder / "notes"

    def start(self) -> None:
        """Start a worker in each place, and wait until they serve."""
        self.notes.mkdir()
        self.places = [Place(number, *self._spawn(number)) for number in range(len(self.links))]
        for place in self.places:
            wait_until(lambda: place.is_ready, f"worker {place.number} serves", READY_SECONDS)  # noqa: B023

    def _spawn(self, number: int) -> tuple[subprocess.Popen[bytes], Path]:
        self._generation += 1
        log = self.folder / f"worker-{number}-{self._generation}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*PGFLOW, "worker", *self.references, "--slots", str(SLOTS)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=REPOSITORY,
                env=environment(self.links[number].url(), {NOTES_VARIABLE: str(self.notes)}),
                start_new_session=True,
            )
        return process, log

    def tend(self) -> None:
        """Start workers where one has ended and its pause is over."""
        for place in self.places:
            if not place.has_ended:
                continue
            if place.start_at == 0.0:
                self._judge_end(place)
                place.start_at = time.monotonic() + RESTART_SECONDS
            if time.monotonic() >= place.start_at:
                place.process, place.log = self._spawn(place.number)
                place.asked_to_end, place.start_at = False, 0.0

    def _judge_end(self, place: Place) -> None:
        code = place.process.returncode
        if place.is_ready and not (place.asked_to_end and code == 0):
            self.faults.append(f"{place.log.name} ended with {code}, asked to: {place.asked_to_end}")

    def kill(self, number: int, pause: float) -> str:
        """Kill a dispatcher; the next one comes after the pause."""
        place = self.places[number]
        if place.has_ended:
            return "there is none"
        place.process.kill()
        place.process.wait()
        place.start_at = time.monotonic() + pause
        return f"dispatcher {place.process.pid}"

    def drain(self, number: int) -> str:
        """Ask a dispatcher to end."""
        place = self.places[number]
        place.asked_to_end = True
        return self.signal(number, signal.SIGTERM)

    def signal(self, number: int, what: int) -> str:
        """Send a signal to a dispatcher."""
        process = self.places[number].process
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(what)
        return f"dispatcher {process.pid}"

    def forkserver(self, number: int) -> psutil.Process | None:
        """The forkserver of a dispatcher."""
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.places[number].process.pid).children():
                if any("multiprocessing.forkserver" in word for word in child.cmdline()):
                    return child
        return None

    def pool_processes(self) -> list[psutil.Process]:
        """The pool processes of all dispatchers."""
        found: list[psutil.Process] = []
        for place in self.places:
            if (forkserver := self.forkserver(place.number)) is not None:
                with contextlib.suppress(psutil.Error):
                    found += forkserver.children()
        return found

    def end(self) -> None:
        """Ask all workers to end, and wait for that."""
        for place in self.places:
            self.signal(place.number, signal.SIGCONT)
            self.drain(place.number)
        for place in self.places:
            try:
                place.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self.faults.append(f"{place.log.name} did not end within {END_SECONDS} s")
            if place.start_at == 0.0:
                self._judge_end(place)

    def abandon(self) -> None:
        """Kill whatever is left."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def processes(self) -> list[psutil.Process]:
        """The living processes of all workers there ever were: they have the folder of the notes in their environment."""
        found = []
        for process in psutil.process_iter(["status"]):
            with contextlib.suppress(psutil.Error):
                if process.info["status"] == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                    continue
                if process.environ().get(NOTES_VARIABLE) == str(self.notes):
                    found.append(process)
        return found

    def logs(self) -> dict[str, str]:
        """What the workers said."""
        return {log.name: log.read_text(errors="replace") for log in sorted(self.folder.glob("worker-*.log"))}
