"""What is shown of a batch while it runs, drawn into a string; and the estimates in it."""

from __future__ import annotations

import io
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pgflow.batch.durations import Durations, Spread
from pgflow.batch.eta import Eta, Pace, estimate
from pgflow.batch.progress import Display, Lines, Panel, Silence, display_on
from pgflow.batch.snapshot import Failure, Running, Snapshot
from pgflow.batch.view import View

EVEN = Spread(count=1_000, total=1_000.0, p10=1.0, median=1.0, p90=1.0, p99=1.0, longest=1.0)
SLOW = [Running(f'"docs/number-{number}.md"', 60.0 - number, 1 + number) for number in range(3)]
FAILURES = [Failure(number, f'"item {number}"', f"ValueError: no {number}\nmore", 0.5) for number in range(3)]


def snapshot(**values: Any) -> Snapshot:
    """A batch in its middle."""
    usual: dict[str, Any] = {
        "total": 20_000,
        "done": 9_990,
        "failed": 10,
        "elapsed": 100.0,
        "retried": 7,
        "running_count": 3,
        "running": SLOW,
        "failures": FAILURES,
        "durations": EVEN,
        "cores": 1.93,
        "memory": 512 << 20,
    }
    return Snapshot(**usual | values)


def drawn(shown: Snapshot, *, columns: int, lines: int = 40) -> list[str]:
    """The lines of the display on a terminal of that size."""
    paper = Console(file=io.StringIO(), width=columns)
    paper.print(View().draw(shown, 100.0, Eta(100.0, 90.0, 130.0), columns=columns, lines=lines))
    return written(paper)


def written(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


# --- the display -----------------------------------------------------------------------------------------------------


def test_a_wide_display_tells_all_of_it() -> None:
    bar, states, means, titles, *rows = drawn(snapshot(queued=1_200), columns=160)
    assert bar.endswith("━  10,000/20,000   50 %")
    assert states == (
        "9,990 done   10 failed   3 running   1,200 queued   7 retried   100/s   1:40 left (1:30-2:10)   1:40 so far"
    )
    assert means == "median 1.00 s   p90 1.00 s   longest 1.00 s   1.9 cores busy   512 MiB in use"
    assert titles.split("  ")[0] == "slowest running"
    assert "last failures" in titles
    first, second, third = (" ".join(row.split()) for row in rows)
    assert first == '1:00 "docs/number-0.md" #2 ValueError: no 2 "item 2"'
    assert second == '59.0 s attempt 2 "docs/number-1.md" #1 ValueError: no 1 "item 1"'
    assert "#0 ValueError: no 0" in third


@pytest.mark.parametrize("columns", [20, 60, 80, 160, 300])
def test_no_line_is_longer_than_the_terminal_is_wide(columns: int) -> None:
    long = [Running("x" * 500, 9.0, 1), Running("", 8.0, 2), Running("\x1b[2J漢字" * 50, 7.0, 1)]
    for line in drawn(snapshot(running=long, failures=[Failure(1, "y" * 500, "z" * 500, 1.0)]), columns=columns):
        assert Console().measure(line.rstrip()).maximum <= columns
        assert "\x1b" not in line


def test_a_narrow_display_has_its_sections_below_each_other() -> None:
    lines = [line.strip() for line in drawn(snapshot(), columns=60)]
    assert lines.index("slowest running") < lines.index("last failures")
    assert "1:40 left (1:30-2:10)   1:40 so far" in " | ".join(lines)


@pytest.mark.parametrize(("columns", "lines"), [(60, 8), (60, 12), (160, 6), (160, 8)])
def test_a_low_terminal_has_fewer_rows(columns: int, lines: int) -> None:
    assert len(drawn(snapshot(), columns=columns, lines=lines)) <= lines


def test_rows_stay_where_they_were() -> None:
    view = View()
    sizes = []
    for running in (SLOW, SLOW[:1], []):
        paper = Console(file=io.StringIO(), width=60)
        paper.print(view.draw(snapshot(running=running), 0.0, None, columns=60, lines=40))
        sizes.append(len(written(paper)))
    assert len(set(sizes)) == 1


def test_items_that_are_soon_done_are_not_listed() -> None:
    assert "slowest" not in "".join(drawn(snapshot(running=[Running("x", 0.5, 1)], failures=()), columns=60))


def test_an_input_that_is_still_read_has_no_percentage_of_items() -> None:
    assert drawn(snapshot(total=None, read=0.493), columns=60)[0].endswith("  10,000   49 % of the input read")
    assert drawn(snapshot(total=None), columns=60)[0].endswith("  10,000   reading items")


def test_what_is_nearly_complete_is_not_called_so() -> None:
    assert drawn(snapshot(total=10_001, failed=10), columns=60)[0].endswith("10,000/10,001   99 %")
    assert drawn(snapshot(total=10_000), columns=60)[0].endswith("10,000/10,000   100 %")


def test_a_single_failure_is_seen_in_the_bar() -> None:
    paper = Console(file=io.StringIO(), width=60, force_terminal=True, color_system="standard")
    paper.print(View().draw(snapshot(done=9_999, failed=1), 0.0, None, columns=60, lines=20))
    assert "\x1b[31m━\x1b[0m" in written(paper)[0]


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), width=60, height=40, force_terminal=True, color_system="standard")
    panel = Panel(console)
    with panel:
        panel.show(snapshot())
    assert "9,990 done" in "".join(written(console))
    assert "\x1b[3" not in "".join(written(console)).replace("\x1b[3A", "")


def test_the_display_ends_with_the_counts_of_the_last_snapshot() -> None:
    console = Console(file=io.StringIO(), width=80, height=40, force_terminal=True, color_system=None)
    panel = Panel(console)
    with panel:
        for done in range(5):
            panel.show(snapshot(done=done, running=(), failures=()))
        panel.print("[red]a line of a handler's[/red]")
    assert "[red]a line of a handler's[/red]" in "".join(written(console))
    assert written(console)[-3].endswith("4 done   10 failed   3 running   7 retried   1:40 so far")


def test_where_nobody_looks_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000.0]
    monkeypatch.setattr("pgflow.batch.progress.time.monotonic", lambda: clock[0])
    console = Console(file=io.StringIO(), width=20)
    lines = Lines(console)
    with lines:
        for _ in range(4):
            clock[0] += 5
            lines.show(snapshot(done=int(clock[0]), elapsed=clock[0], durations=None))
        lines.print("[b]from a handler[/b]")
        lines.show(snapshot(total=1_030, done=1_020, failed=10, elapsed=1_050.0, durations=None))
    first, *more = written(console)
    assert first == (
        "1,020/20,000 5 %: 1,010 done, 10 failed, 3 running, 7 retried, 16:50 so far, 1.9 cores busy, 512 MiB in use"
    )
    assert more[:3] == [f'  failed: #{n} ValueError: no {n} ("item {n}", after 0.50 s)' for n in range(3)]
    assert more[3].startswith("1,030/20,000 5 %: 1,020 done, 10 failed, 3 running, 7 retried, 1.0/s, 17:00 so far")
    assert more[4] == "[b]from a handler[/b]"
    assert more[5].startswith("1,030/1,030 100 %: 1,020 done, 10 failed")
    assert len(more) == 6


def test_quiet_passes_on_what_others_say() -> None:
    console = Console(file=io.StringIO())
    display: Display = display_on(console, quiet=True)
    with display:
        display.show(snapshot())
        display.print("a handler's line")
    assert isinstance(display, Silence)
    assert written(console) == ["a handler's line"]
    assert isinstance(display_on(console), Lines)


# --- the estimates ---------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(1e-6, 1e6), min_size=1))
def test_quantiles_are_near_those_of_the_items(seconds: list[float]) -> None:
    durations = Durations()
    for each in seconds:
        durations.add(each)
    spread = durations.spread()
    assert spread is not None
    ordered = sorted(seconds)
    for share, found in ((0.1, spread.p10), (0.5, spread.median), (0.9, spread.p90), (0.99, spread.p99)):
        assert found == pytest.approx(ordered[math.ceil(share * len(ordered)) - 1], rel=0.011)
    assert spread.longest == ordered[-1]
    assert spread.total == pytest.approx(sum(seconds))
    assert durations.median() == spread.median


def test_durations_of_many_items_take_little_memory() -> None:
    durations = Durations()
    assert durations.spread() is None
    assert durations.median() is None
    for seconds in (0.0, 1e-9, 1e9, *(random.lognormvariate(0, 3) for _ in range(20_000))):
        durations.add(seconds)
    assert len(durations._buckets) < 2_500


def test_the_estimate_of_even_items_is_their_work_over_what_runs_at_once() -> None:
    eta = estimate(1_000, [], EVEN, elapsed=500.0)
    assert eta is not None
    assert str(eta) == "8:20 left"


def test_what_has_run_of_an_item_is_not_waited_for_again() -> None:
    eta = estimate(2, [0.75, 5.0], EVEN, elapsed=1_000.0)
    assert eta is not None
    assert eta.seconds == pytest.approx(0.25, rel=0.01)


def test_the_range_holds_what_really_comes() -> None:
    """Of many batches with a few long items, the true end lies in the range mostly, after a tenth of each."""
    generator = random.Random(7)
    held = 0
    for _ in range(50):
        items = [generator.lognormvariate(0, 1) for _ in range(2_000)]
        durations = Durations()
        for seconds in items[:200]:
            durations.add(seconds)
        spread = durations.spread()
        assert spread is not None
        eta = estimate(1_800, [], spread, elapsed=sum(items[:200]) / 4)
        assert eta is not None
        assert eta.least <= eta.seconds <= eta.most
        held += eta.least <= sum(items[200:]) / 4 <= eta.most
    assert held >= 40


def test_nothing_is_estimated_from_nothing() -> None:
    assert estimate(5, [], EVEN, elapsed=0.0) is None


def test_the_pace_is_that_of_late() -> None:
    pace = Pace()
    assert pace.note(0.0, 0) == 0
    assert pace.note(1.0, 10) == 10
    for second in range(2, 40):
        rate = pace.note(float(second), 10 + 100 * (second - 1))
    assert rate == pytest.approx(100)
