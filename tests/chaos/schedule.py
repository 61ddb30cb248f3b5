"""What is done to whom and when: made from a seed, before anything runs."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from tests.chaos.expectation import FLOWS

PLACES = 3
"""How many workers there are; one that ended is followed by another in its place."""
LARGEST_SIZE = 12
LONG_SECONDS = 90.0
"""Schedules of this length and more pause some workers so long that they are taken for dead."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something to be done ``at`` so many seconds. ``pick``, from 0 to 1, says which one where there are several;
    ``pause`` how many seconds it takes until it is undone; the rest is for those kinds that need it."""

    at: float
    kind: str
    place: int = 0
    pick: float = 0.0
    pause: float = 0.0
    number: int = 0
    flow: str = ""
    sizes: tuple[int, ...] = ()

    def __str__(self) -> str:
        more = (f"number={self.number}" if self.number else "", f"{self.flow} {self.sizes}" if self.flow else "")
        return (
            f"{self.at:7.2f} {self.kind:10} place={self.place} pick={self.pick:.3f} pause={self.pause:.2f} "
            + " ".join(more)
        )


class Schedule:
    """Events under construction; each method of ``KINDS`` adds one of its kind, and what undoes it."""

    def __init__(self, seed: int, seconds: float) -> None:
        self._chance = random.Random(seed)
        self._is_long = seconds >= LONG_SECONDS
        self._server_is_up_at = 0.0
        self._paused_until = [0.0] * PLACES
        self.events: list[Event] = []

    def add(self, at: float) -> None:
        """One event of any kind."""
        (add,) = self._chance.choices(list(KINDS), weights=list(KINDS.values()))
        add(self, at)

    def start_runs(self, at: float) -> None:
        """Some runs of one flow."""
        sizes = tuple(self._chance.randint(0, LARGEST_SIZE) for _ in range(self._chance.randint(3, 7)))
        self.events.append(Event(at, "start", flow=self._chance.choice(sorted(FLOWS)), sizes=sizes))

    def pool_process(self, at: float) -> None:
        """A pool process dies, busy or idle."""
        number = self._chance.choice([signal.SIGKILL, signal.SIGSEGV])
        kind = "busy" if self._chance.random() < 0.7 else "idle"
        self.events.append(Event(at, kind, pick=self._chance.random(), number=number))

    def forkserver(self, at: float) -> None:
        """A forkserver dies, and with it its pool processes."""
        self.events.append(Event(at, "forkserver", self._place(), number=signal.SIGKILL))

    def dispatcher(self, at: float) -> None:
        """A dispatcher dies, and another is started."""
        self.events.append(
            Event(at, "dispatcher", self._place(), pause=self._chance.uniform(0.0, 3.0), number=signal.SIGKILL)
        )

    def drain(self, at: float) -> None:
        """A dispatcher is asked to end, and another is started."""
        pause = self._chance.uniform(0.0, 3.0)
        self.events.append(Event(at, "drain", self._place(), pause=pause, number=signal.SIGTERM))

    def freeze(self, at: float) -> None:
        """A dispatcher stands still for a while."""
        self._pause_place(at, "freeze", "thaw", signal.SIGSTOP, signal.SIGCONT)

    def standstill(self, at: float) -> None:
        """Nothing comes through between a worker and the server for a while, and nobody is told."""
        self._pause_place(at, "standstill", "flow")

    def _pause_place(self, at: float, kind: str, undoing: str, number: int = 0, undoing_number: int = 0) -> None:
        place = self._place()
        is_very_long = self._is_long and self._chance.random() < 0.2
        pause = self._chance.uniform(25.0, 40.0) if is_very_long else self._chance.uniform(0.5, 6.0)
        if at < self._paused_until[place]:
            return
        self._paused_until[place] = at + pause
        self.events.append(Event(at, kind, place, pause=pause, number=number))
        self.events.append(Event(at + pause, undoing, place, number=undoing_number))

    def lose_answers(self, at: float) -> None:
        """A worker does not hear what the server answers, and its connections break."""
        self.events.append(Event(at, "lose", self._place(), number=self._chance.choice([1, 1, 2, 4])))

    def server(self, at: float) -> None:
        """The server is stopped at once, and started again."""
        pause = self._chance.uniform(0.2, 3.0)
        if at < self._server_is_up_at:
            return
        self._server_is_up_at = at + pause
        self.events.append(Event(at, "server", pause=pause))
        self.events.append(Event(at + pause, "server up"))

    def backend(self, at: float) -> None:
        """A process of the server dies, which ends all the others and lets it recover."""
        self.events.append(Event(at, "backend", pick=self._chance.random(), number=signal.SIGKILL))

    def connections(self, at: float) -> None:
        """One connection is cut, or all of them."""
        kind = "cut all" if self._chance.random() < 0.2 else "cut"
        self.events.append(Event(at, kind, pick=self._chance.random()))

    def _place(self) -> int:
        return self._chance.randrange(PLACES)


KINDS: dict[Callable[[Schedule, float], None], int] = {
    Schedule.pool_process: 8,
    Schedule.connections: 5,
    Schedule.lose_answers: 6,
    Schedule.dispatcher: 3,
    Schedule.forkserver: 2,
    Schedule.freeze: 2,
    Schedule.standstill: 1,
    Schedule.server: 2,
    Schedule.drain: 1,
    Schedule.backend: 1,
}
UNDOING = {"thaw": "freeze", "flow": "standstill", "server up": "server"}


def make(seed: int, seconds: float, without: Collection[str] = ()) -> Sequence[Event]:
    """The events in their order. Leaving kinds out does not change the others."""
    chance = random.Random(f"{seed} when")
    schedule = Schedule(seed, seconds)
    at = 0.0
    while at < seconds:
        schedule.start_runs(at)
        for _ in range(2):
            at += chance.uniform(0.05, 0.9)
            schedule.add(at)
    kept = [event for event in schedule.events if UNDOING.get(event.kind, event.kind) not in without]
    return sorted(kept, key=lambda event: event.at)
