"""What is seen of a contender: handlers note their begin and contenders their verdicts in a pipe, with
``time.monotonic()``, which is the same in every process; a process's death is when its pidfd becomes readable."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import select
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pgflow.bench.kill.cases import STREAM_SLOTS
from pgflow.bench.kill.contenders import Order

LONG_SECONDS = 600
START_SECONDS = 60.0


class LateError(Exception):
    """A contender did not come to what must be before the next measurement; it needs another process."""


class Watch:
    """One contender, and what is seen of it."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        assert process.stdin is not None
        self._orders = process.stdin
        self._process = process
        self._log = folder / "log"
        self._pipe = str(folder / "events")
        self._events = os.open(self._pipe, os.O_RDWR | os.O_NONBLOCK)  # for writing too, so that it never ends
        self._gate_file = str(folder / "gate")
        self._gate = os.open(self._gate_file, os.O_RDWR | os.O_CREAT)
        self._poller = select.poll()
        self._poller.register(self._events, select.POLLIN)
        self._unread = b""
        self._labels: dict[int, str] = {}
        self._known_pids: set[int] = set()
        self._stream: dict[str, int] = {}
        self._successors: dict[tuple[str, str], str] = {}
        self._numbers = itertools.count(1)
        self.streamed = 0
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.gone: dict[str, float] = {}
        self.fresh: list[float] = []
        """When the first task of each process began that was not known before."""
        self.lost = 0
        """Tasks that were to take the place of another, and ended without having begun."""

    def close(self) -> None:
        """Forget the contender."""
        for descriptor in (self._events, self._gate, *self._labels):
            os.close(descriptor)

    def last_words(self) -> str:
        """The end of what the contender has logged."""
        return self._log.read_text(errors="replace")[-2000:]

    # Orders.

    def labels(self, what: str, count: int) -> list[str]:
        """New names for tasks."""
        return [f"{what}-{next(self._numbers)}" for _ in range(count)]

    def submit(self, label: str, handler: str, timeout: int = LONG_SECONDS, **input: Any) -> None:
        """Order a task."""
        values = {"label": label, "events": self._pipe, "gate": self._gate_file, **input}
        self._orders.write(json.dumps(asdict(Order(handler, values, timeout))) + "\n")
        self._orders.flush()

    def succeed(self, label: str, event: str) -> str:
        """Order a task that waits at the gate as soon as the event (``ended`` or ``gone``) of the other is seen; its
        label."""
        (successor,) = self.labels("next", 1)
        self._successors[event, label] = successor
        return successor

    def start_stream(self, output_bytes: int) -> None:
        """Let ``STREAM_SLOTS`` tasks at a time end with such an output, until the end."""
        for label in self.labels("stream", STREAM_SLOTS):
            self._stream[label] = output_bytes
            self.submit(label, "give_output", bytes=output_bytes)

    def stop_stream(self) -> None:
        """Order no more."""
        self._stream.clear()

    # The gate.

    def close_gate(self) -> None:
        """Tasks that come to the gate wait."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)

    def open_gate(self) -> None:
        """Tasks at the gate go on."""
        fcntl.flock(self._gate, fcntl.LOCK_UN)

    # Events.

    def require(self, condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
        """Raise LateError if the condition does not come true in time."""
        if not self.see(condition, time.monotonic() + seconds):
            raise LateError(f"not within {seconds} s: {what}")

    def see(self, condition: Callable[[], bool], until: float) -> bool:
        """Take in events until the condition is true; False if it is not by the given ``time.monotonic()``."""
        while not condition():
            left = until - time.monotonic()
            if left <= 0 or self._process.poll() is not None:
                return False
            for descriptor, _ in self._poller.poll(min(left, 1.0) * 1000):
                if descriptor == self._events:
                    self._read_events()
                else:
                    self._see_death(descriptor)
        return True

    def _see_death(self, descriptor: int) -> None:
        now = time.monotonic()
        self._poller.unregister(descriptor)
        label = self._labels.pop(descriptor)
        os.close(descriptor)
        self.gone[label] = now
        self._follow("gone", label)

    def _read_events(self) -> None:
        *lines, self._unread = (self._unread + os.read(self._events, 65536)).split(b"\n")
        for line in lines:
            kind, label, pid, when = line.decode().split()
            if kind == "began":
                self._see_begin(label, int(pid), float(when))
            else:
                self._see_end(label, float(when))

    def _see_begin(self, label: str, pid: int, when: float) -> None:
        self.began[label] = when
        if pid not in self._known_pids:
            self._known_pids.add(pid)
            self.fresh.append(when)
        if label.startswith(("hang", "die")):
            self._await_death(label, pid)

    def _await_death(self, label: str, pid: int) -> None:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:  # it has died before its begin was read
            self.gone[label] = time.monotonic()
            self._follow("gone", label)
        else:
            self._labels[descriptor] = label
            self._poller.register(descriptor, select.POLLIN)

    def _see_end(self, label: str, when: float) -> None:
        if label in self._stream:
            self.streamed += 1
            self.submit(label, "give_output", bytes=self._stream[label])
        elif label not in self.ended:  # Celery tells of some ends twice
            self.ended[label] = when
            self.lost += label.startswith("next") and label not in self.began
            self._follow("ended", label)

    def _follow(self, event: str, label: str) -> None:
        if successor := self._successors.pop((event, label), ""):
            self.submit(successor, "wait_at_gate")
