"""What ``pgflow top`` shows: queues as bars, workers' last minute as lanes, failures, each a line of text."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from rich.text import Text

from pgflow.cli.text import counted, first_line, printable
from pgflow.database.inspection.activity import COUNTED, WINDOW, FlowActivity, Look
from pgflow.terminal import shortened

if TYPE_CHECKING:
    from pgflow.database.inspection.activity import EndedAttempt
    from pgflow.database.inspection.timeline import Block, Timeline, WorkerTimeline

SIGNS = {
    "timed_out": ("K", "bold white on red", "timed out"),
    "crashed": ("C", "bold white on red", "crashed"),
    "out_of_memory": ("M", "bold white on red", "memory"),
    "failed": ("x", "bold red", "failed"),
    "cancelled": ("c", "bold yellow", "cancelled"),
    "requeued": ("r", "bold yellow", "worker lost"),
    "stalled": ("S", "bold red", "stalled"),
}
_LEVELS = "▁▂▃▄▅▆▇█"
_STEP_COLOURS = ("green", "cyan", "blue", "magenta", "bright_green", "bright_cyan", "bright_blue", "bright_magenta")
_QUEUE_PARTS = (("█", "green"), ("▒", "cyan"), ("░", "yellow"))
_STATUS_STYLES = {"alive": "green", "silent": "bold red", "deprecated": "yellow", "stopped": "dim"}
_NUMBERS = ("RUNNING", "QUEUED", "DELAYED", "ENDED/S")
_NUMBER_WIDTH = 8
_SHORTEST_BAR = 8
_WIDE = 100


@dataclass(frozen=True, slots=True)
class Room:
    """How many cells and lines there are; ``height`` is None for as many as it takes."""

    width: int
    height: int | None


def screen(look: Look, timeline: Timeline, target: str, room: Room) -> list[Text]:
    """Everything that is to be seen, in as many lines as there are."""
    flows = list(_flow_lines(look, room.width))
    workers = list(timeline.workers)
    failures = [_failure_line(attempt) for attempt in timeline.failures]
    flows_at_most, lanes_at_most, failures_at_most = _shares(room.height, len(flows), len(failures))
    legend = "  ".join(f"{sign} {words}" for sign, _, words in SIGNS.values())
    lines = [
        _header(look, target, room.width),
        *_cut(flows, flows_at_most, "flows"),
        Text(""),
        *_cut(_worker_lines(workers, look.at, room.width), lanes_at_most, "lines"),
        Text(""),
        Text("FAILURES" if failures else "no failures in the last minute", style="dim"),
        *failures[:failures_at_most],
    ]
    if room.height is None:
        return lines
    filling = [Text("")] * (room.height - 1 - len(lines))
    return [*lines[: room.height - 1], *filling, Text(f"q ends   {legend}", style="dim")]


def _shares(height: int | None, flows: int, failures: int) -> tuple[int, int, int]:
    """The lines for flows, workers and failures: what the first and the last need, a quarter each at most, and the
    rest."""
    if height is None:
        return flows, 2**31, 20
    rest = max(height - 5, 6)
    some = max(rest // 4, 2)
    for_flows, for_failures = min(flows, some + 1), min(failures, some)
    return for_flows, rest - for_flows - for_failures, for_failures


def _cut(lines: Iterable[Text], at_most: int, things: str) -> list[Text]:
    every = list(lines)
    if len(every) <= at_most:
        return every
    return [*every[: at_most - 1], Text(f"... {len(every) - at_most + 1} more {things}", style="dim")]


def _header(look: Look, target: str, width: int) -> Text:
    alive = sum(worker.status == "alive" for worker in look.workers)
    words = f"{counted(alive, 'worker')} alive, {counted(len(look.running), 'task')} claimed"
    clock = f"{look.at.astimezone():%H:%M:%S}"
    left = Text.assemble(("pgflow top ", "bold"), f"{target}  ", (words, "dim"))
    left.truncate(max(width - len(clock) - 1, 0), overflow="ellipsis", pad=True)
    return left.append(f" {clock}", style="bold")


def _flow_lines(look: Look, width: int) -> Iterator[Text]:
    busy = [flow for flow in look.flows if _total(flow) or flow.ended_per_second or flow.queued is None]
    idle = [flow.flow_slug for flow in look.flows if flow not in busy]
    if busy:
        numbers = (_NUMBER_WIDTH + 1) * len(_NUMBERS)
        name = min(max(len(flow.flow_slug) for flow in busy), max(width - numbers - _SHORTEST_BAR - 2, _SHORTEST_BAR))
        bar = max(width - name - numbers - 2, _SHORTEST_BAR)
        heading = f"{'FLOW':<{name}}  {'':<{bar}}" + "".join(f" {number:>{_NUMBER_WIDTH}}" for number in _NUMBERS)
        yield Text(heading, style="dim")
        most = max(map(_total, busy))
        for flow in sorted(busy, key=lambda flow: flow.flow_slug):
            yield _flow_line(flow, name, bar, most)
    words = f"idle: {', '.join(idle)}" if idle else ""
    if look.more_flows:
        words += f"{'; ' if words else ''}there are more flows: name some with --flow"
    if words or not busy:
        yield Text(shortened(words or "no flows", width), style="dim")


def _total(flow: FlowActivity) -> int:
    return flow.running + (flow.queued or 0) + (flow.delayed or 0)


def _flow_line(flow: FlowActivity, name: int, width: int, most: int) -> Text:
    line = Text(f"{shortened(flow.flow_slug, name):<{name}}  ")
    if flow.queued is None:
        line.append(shortened("its queue cannot be read", width).ljust(width), style="dim")
    else:
        line.append_text(_bar((flow.running, flow.queued, flow.delayed or 0), width, most))
    styles = ("green", "cyan", "yellow")
    for count, style in zip((flow.running, flow.queued, flow.delayed), styles, strict=True):
        line.append(f" {_count(count):>{_NUMBER_WIDTH}}", style=style if count else "dim")
    rate = flow.ended_per_second
    line.append(f" {f'{rate:,.0f}' if rate >= 10 else f'{rate:.1f}':>{_NUMBER_WIDTH}}")
    return line


def _count(count: int | None) -> str:
    if count is None:
        return "?"
    return f"{COUNTED:,}+" if count >= COUNTED else f"{count:,}"


def _bar(parts: Sequence[int], width: int, most: int) -> Text:
    """Parts of a whole, a cell at least for each that is not nothing."""
    cells = [max(round(part * width / max(most, 1)), 1) if part else 0 for part in parts]
    while sum(cells) > width:
        cells[cells.index(max(cells))] -= 1
    bar = Text()
    for count, (sign, style) in zip(cells, _QUEUE_PARTS, strict=True):
        bar.append(sign * count, style=style)
    return bar.append(" " * (width - sum(cells)))


def _worker_lines(workers: Sequence[WorkerTimeline], now: datetime, width: int) -> Iterator[Text]:
    if not workers:
        yield Text("no workers: start one with `pgflow worker`", style="dim")
        return
    label = 34 if width >= _WIDE else 22
    cells = max(width - label - 2, 1)
    for one in workers:
        worker = one.worker
        line = Text.assemble(
            (f"{printable(worker.name)} ", "bold"),
            (worker.status, _STATUS_STYLES[worker.status]),
            (f"  {', '.join(worker.flow_slugs)}", "dim"),
        )
        if one.claimed_ahead:
            line.append(f"  {one.claimed_ahead} claimed ahead", style="dim")
        elif not one.lanes:
            line.append("  idle for a minute", style="dim")
        line.truncate(width, overflow="ellipsis")
        yield line
        for lane in one.lanes:
            yield _lane(lane, now, cells).append("  ").append_text(_doing(lane, now, label))


def _lane(blocks: Sequence[Block], now: datetime, cells: int) -> Text:
    """The last minute of a lane, the moment at the right: how busy each cell's time was, and what went wrong in it."""
    begin, step = now - WINDOW, WINDOW / cells
    busy = [0.0] * cells
    longest: list[tuple[float, str]] = [(0.0, "")] * cells
    signs: dict[int, str] = {}
    for block in blocks:
        start, end = (block.started_at - begin) / step, ((block.ended_at or now) - begin) / step
        for cell in range(max(int(start), 0), min(int(end) + 1, cells)):
            share = min(end, cell + 1) - max(start, cell)
            busy[cell] += share
            longest[cell] = max(longest[cell], (share, _colour(block)))
        if block.outcome in SIGNS and end >= 0:
            signs[min(int(end), cells - 1)] = block.outcome
    drawn = [_cell(busy[cell], longest[cell][1], signs.get(cell)) for cell in range(cells)]
    lane = Text()
    for style, alike in groupby(drawn, key=itemgetter(1)):
        lane.append("".join(sign for sign, _ in alike), style=style)
    return lane


def _cell(busy: float, colour: str, outcome: str | None) -> tuple[str, str]:
    if outcome is not None:
        sign, style, _ = SIGNS[outcome]
        return sign, style
    if busy > 0:
        return _LEVELS[min(int(busy * len(_LEVELS)), len(_LEVELS) - 1)], colour
    return "·", "dim"


def _colour(block: Block) -> str:
    """Each step has its own."""
    return _STEP_COLOURS[zlib.crc32(f"{block.flow_slug}/{block.step_slug}".encode()) % len(_STEP_COLOURS)]


def _doing(blocks: Sequence[Block], now: datetime, width: int) -> Text:
    last = blocks[-1] if blocks else None
    if last is None or last.ended_at is not None:
        return Text("idle", style="dim")
    seconds = f" {_seconds(now - last.started_at)}"
    return Text(shortened(f"{last.step_slug}[{last.task_index}]", width - len(seconds)) + seconds, style=_colour(last))


def _seconds(time: timedelta) -> str:
    seconds = max(time.total_seconds(), 0)
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _failure_line(attempt: EndedAttempt) -> Text:
    sign, style, words = SIGNS.get(attempt.outcome, ("?", "red", attempt.outcome))
    name = f"{attempt.flow_slug}/{attempt.step_slug}[{attempt.task_index}]"
    why = first_line(attempt.error_message) or words
    return Text.assemble(
        f"{attempt.ended_at.astimezone():%H:%M:%S} ",
        (sign, style),
        f" {name} ",
        (f"of {attempt.run_id[:8]}, attempt {attempt.attempt}: ", "dim"),
        why,
    )
