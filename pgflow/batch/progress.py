"""The progress of a batch, on standard error: a display on a terminal, a line every 10 seconds elsewhere."""

from __future__ import annotations

import time
from typing import Protocol

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live

from pgflow.batch.eta import Eta, Pace, estimate
from pgflow.batch.snapshot import Snapshot
from pgflow.batch.view import View, counts, draw_head, failure_line, means, speed, states
from pgflow.terminal import ECHO_COLUMNS, LINE_SECONDS, OTHER_LINES, is_watched

FRAME_SECONDS = 0.5
"""A frame takes 4 ms of the core that it shares with the items."""
MAX_FAILURES_A_LINE = 3


class Display(Protocol):
    """Where a batch's progress is shown while entered. Not for several threads, but ``print``."""

    def __enter__(self) -> object: ...
    def __exit__(self, *_: object) -> None: ...
    def print(self, line: str) -> None:
        """Show a line of somebody else's: a worker's log, what a function prints."""

    def show(self, snapshot: Snapshot) -> None:
        """Show how far the batch is, if it is time to; call it as often as there is something new."""


def display_on(console: Console, *, quiet: bool = False, plain: bool = False) -> Display:
    """A display where somebody looks at it, else lines; nothing but the lines of others when ``quiet``.

    ``plain`` is for lines on a terminal too, where the output goes to the same one.
    """
    if quiet:
        return Silence(console)
    return Panel(console) if is_watched(console) and not plain else Lines(console)


class Silence:
    """No progress, only what others have to say."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> object:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, snapshot: Snapshot) -> None:
        pass


class Panel:
    """Bar, counts, rates and the remarkable items, drawn over each other twice a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._frame = _Frame()
        # Standard output is for data, which is none of the display's business.
        self._live = Live(self._frame, console=console, auto_refresh=False, redirect_stdout=False)
        self._drawn = -FRAME_SECONDS

    def __enter__(self) -> object:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._frame.is_over = True
        self._live.refresh()
        self._live.stop()

    def print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, snapshot: Snapshot) -> None:
        self._frame.take(snapshot)
        now = time.monotonic()
        if now - self._drawn >= FRAME_SECONDS:
            self._drawn = now
            self._live.refresh()


class _Frame:
    """The last snapshot at the size the terminal has now."""

    def __init__(self) -> None:
        self._view = View()
        self._gauge = Gauge()
        self._snapshot: Snapshot | None = None
        self._speed: tuple[float, Eta | None] = (0.0, None)
        self.is_over = False
        """Whether the items that run and those that failed are nobody's concern here any more."""

    def take(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._speed = self._gauge.read(snapshot)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._snapshot is not None:
            columns, lines = max(options.max_width - ECHO_COLUMNS, 1), console.height - OTHER_LINES
            drawn = (
                Group(*draw_head(self._snapshot, self._speed[0], None, columns))
                if self.is_over
                else self._view.draw(self._snapshot, *self._speed, columns=columns, lines=lines)
            )
            yield from console.render(drawn, options.update(width=columns))


class Lines:
    """A line every 10 seconds, with the failures since the last one, and one at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._gauge = Gauge()
        self._last = time.monotonic()
        self._failed = 0
        self._pending: Snapshot | None = None

    def __enter__(self) -> object:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pending is not None:
            self._tell(self._pending)

    def print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, snapshot: Snapshot) -> None:
        self._pending = snapshot
        now = time.monotonic()
        if now - self._last >= LINE_SECONDS:
            self._last = now
            self._tell(snapshot)

    def _tell(self, snapshot: Snapshot) -> None:
        self._pending = None
        parts = [*states(snapshot), *speed(snapshot, *self._gauge.read(snapshot)), *means(snapshot)]
        self.print(f"{' '.join(counts(snapshot).split())}: {', '.join(part.plain for part in parts)}")
        new = max(min(snapshot.failed - self._failed, MAX_FAILURES_A_LINE), 0)
        self._failed = snapshot.failed
        for failure in snapshot.failures[-new:] if new else ():
            self.print(f"  failed: {failure_line(failure)}")


class Gauge:
    """Reads rate and remaining time off a batch's snapshots, one after the other."""

    def __init__(self) -> None:
        self._pace = Pace()

    def read(self, snapshot: Snapshot) -> tuple[float, Eta | None]:
        """Items a second, lately, and when all will be done; None while that is not known."""
        return self._pace.note(snapshot.elapsed, snapshot.finished - snapshot.earlier), _eta(snapshot)


def _eta(snapshot: Snapshot) -> Eta | None:
    remaining = (snapshot.total or 0) - snapshot.finished
    if snapshot.durations is None or remaining <= 0:
        return None
    running = [item.seconds for item in snapshot.running]
    return estimate(remaining, running, snapshot.durations, snapshot.elapsed)
