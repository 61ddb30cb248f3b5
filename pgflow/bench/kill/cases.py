"""What hangs and what dies, how many at once, and beside what."""

from __future__ import annotations

from dataclasses import dataclass, replace

STREAM_SLOTS = 2


@dataclass(frozen=True, slots=True)
class Case:
    """``count`` tasks of a handler at once, ``repeat`` times in a round; beside them ``stream_bytes`` is the size of
    the outputs of a stream of tasks in ``STREAM_SLOTS`` more slots (None: no stream)."""

    name: str
    handler: str
    count: int = 1
    stream_bytes: int | None = None
    exit_code: int | None = None
    repeat: int = 1

    @property
    def is_hang(self) -> bool:
        """Whether a deadline ends it."""
        return self.handler.startswith("hang")

    @property
    def title(self) -> str:
        """The line of a table."""
        return f"{self.name}, after the {'deadline' if self.is_hang else 'death'}"

    @property
    def slots(self) -> int:
        """How many slots the contender has."""
        return self.count + (0 if self.stream_bytes is None else STREAM_SLOTS)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured; after ``limit`` seconds without it something is late for ever."""

    cases: tuple[Case, ...]
    rounds: int
    limit: float


STREAMS = {"small tasks": 10, "100 KB outputs": 100_000, "10 MB outputs": 10_000_000}
OTHER_HANGS = {
    "in a regex": "hang_in_regex",
    "ignoring SIGTERM": "hang_ignoring_sigterm",
    "blocking all signals": "hang_blocking_all_signals",
}
DEATHS = {"SIGKILL": None, "os._exit(0)": 0, "os._exit(3)": 3}


def _hang(count: int, stream: str = "", handler: str = "hang_with_the_gil", what: str = "holding the GIL") -> Case:
    name = f"{count} {what}" + (f", stream of {stream}" if stream else "")
    return Case(name, handler, count, STREAMS[stream] if stream else None, repeat=max(1, 4 // count))


def _death(state: str, how: str, repeat: int) -> Case:
    return Case(f"{how}, {state}", f"die_{state}", exit_code=DEATHS[how], repeat=repeat)


FULL = Extent(
    cases=(
        *(_hang(count) for count in (1, 4, 16, 32, 64)),
        *(_hang(1, handler=handler, what=what) for what, handler in OTHER_HANGS.items()),
        *(_hang(count, stream) for stream in STREAMS for count in (1, 4, 16, 32, 64)),
        *(_death(state, how, 8) for state in ("busy", "idle") for how in DEATHS),
    ),
    rounds=3,
    limit=15.0,
)
QUICK = Extent(
    cases=(
        replace(_hang(1), repeat=1),
        *(_death(state, "SIGKILL", 1) for state in ("busy", "idle")),
        _hang(4, "10 MB outputs"),
    ),
    rounds=1,
    limit=3.5,
)


def chosen(*, quick: bool, only: str, rounds: int | None) -> Extent:
    """A few of the cases or all; those in whose name ``only`` occurs, in so many rounds instead of the usual number."""
    extent = QUICK if quick else FULL
    return Extent(tuple(case for case in extent.cases if only in case.name), rounds or extent.rounds, extent.limit)
