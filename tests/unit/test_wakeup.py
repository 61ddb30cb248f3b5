"""How long the dispatcher waits between two looks."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from pgflow.worker.wakeup import IDLE_SECONDS, LONGEST_SECONDS, Wakeup


@dataclass
class Bell:
    """A bell that notes what is done with it."""

    due_in: float | None = float("inf")
    is_hearing: bool = True
    calls: list[str] = field(default_factory=list)

    def arm(self) -> float | None:
        self.calls.append("arm")
        return self.due_in

    def disarm(self) -> None:
        self.calls.append("disarm")


def waits(wakeup: Wakeup, count: int) -> float:
    """The seconds that so many waits took."""
    began = time.monotonic()
    for _ in range(count):
        wakeup.wait()
    return time.monotonic() - began


def armed(due_in: float | None = float("inf")) -> tuple[Wakeup, Bell]:
    wakeup, bell = Wakeup(), Bell(due_in)
    wakeup.use(bell)
    waits(wakeup, 3)
    return wakeup, bell


def test_without_a_bell_it_polls_less_and_less_often() -> None:
    wakeup = Wakeup()
    assert waits(wakeup, 5) >= 0.3
    assert waits(wakeup, 1) >= LONGEST_SECONDS


def test_the_bell_is_armed_after_fruitless_looks_and_one_look_follows_at_once() -> None:
    wakeup, bell = armed()
    assert bell.calls == ["arm"]
    threading.Timer(0.1, wakeup.notify).start()
    assert waits(wakeup, 1) < IDLE_SECONDS
    assert bell.calls == ["arm"]


def test_it_is_disarmed_when_tasks_are_found_and_armed_again_later() -> None:
    wakeup, bell = armed()
    wakeup.found()
    wakeup.found()
    assert bell.calls == ["arm", "disarm"]
    waits(wakeup, 3)
    assert bell.calls == ["arm", "disarm", "arm"]


def test_a_delayed_task_is_looked_for_when_it_is_due() -> None:
    wakeup, bell = armed(due_in=0.1)
    assert waits(wakeup, 1) < 1
    assert waits(wakeup, 3) < 1  # in vain: it looks more often, and asks again when the next is due
    assert bell.calls == ["arm", "arm"]


def test_it_polls_while_the_bell_cannot_be_armed_or_heard() -> None:
    wakeup, bell = armed(due_in=None)
    assert waits(wakeup, 2) < 2
    assert set(bell.calls) == {"arm"}
    wakeup, bell = armed()
    bell.is_hearing = False
    assert waits(wakeup, 2) < 2
    assert bell.calls == ["arm"]
