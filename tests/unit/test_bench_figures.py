"""The arithmetic of the benchmarks, and how their figures are printed, written and read."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pgflow.bench import throughput
from pgflow.bench.figures import Figure, Figures, markdown, quantile, rounded, table
from pgflow.bench.loads import BRIEF, FULL, QUICK, Load
from pgflow.bench.report import Report
from pgflow.bench.work import burn, order, work

FACTS = {"machine": "a machine", "load_average": 0.5, "versions": {"Python": "3.11"}, "options": {"repeat": 3}}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346"), (math.inf, "late")],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert rounded(value) == text


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_a_quantile_is_the_smallest_sample_that_a_share_does_not_exceed(share: float, value: int) -> None:
    assert quantile(list(range(100, 0, -1)), share) == value


def test_a_figure_is_its_median_and_what_lies_between_the_lowest_and_the_highest() -> None:
    assert str(Figure("load", "rate", "1/s", samples=[3.0, 1.0, 2.0])) == "2.00 (1.00-3.00)"
    assert str(Figure("load", "rate", "1/s", samples=[3.0])) == "3.00"


def test_a_figure_with_a_tail_is_median_p99_and_maximum() -> None:
    samples = [float(value) for value in range(1, 201)]
    assert str(Figure("load", "delay", "ms", tail=True, samples=samples)) == "100 / 198 / 200"
    assert str(Figure("load", "delay", "ms", tail=True, samples=[1.0, math.inf])) == "1.00 / late / late"


def test_a_table_has_a_column_for_everybody_and_a_dash_for_what_was_not_measured() -> None:
    figures = Figures()
    figures.add("a", "tasks/s", "", 1, 3)
    figures.add("a", "tasks/s", "", 2)
    figures.add("b", "delay", "ms", 5)
    figures.add("a", "tasks/s", "", 9, by="Peer")
    assert markdown(table(figures.all())).splitlines() == [
        "| load | figure | pgflow | Peer |",
        "| --- | --- | --- | --- |",
        "| a | tasks/s | 2.00 (1.00-3.00) | 9.00 |",
        "| b | delay, ms | 5.00 | - |",
    ]


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    figures = Figures()
    figures.add("a", "verdict", "ms", 1.0, math.inf, tail=True)
    figures.add("b", "rate", "", 1.0, at=4)
    report = Report("kill", FACTS, figures.all(), {"celery": "there is no redis-server"}, ["A remark."])
    report.write(tmp_path / "report.json")
    read = Report.read(tmp_path / "report.json")
    assert read.markdown() == report.markdown()
    assert "missing: celery: there is no redis-server" in read.markdown()
    assert read.figures == report.figures


def test_a_file_that_is_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"suite": "throughput"}')
    with pytest.raises(ValueError, match=r"other\.json is no report of a suite"):
        Report.read(tmp_path / "other.json")


def test_the_share_of_the_ideal_is_that_of_the_cores_or_the_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "available_cores", lambda: 2)
    assert throughput.share_of_ideal(count=200, cpu=0.01, slots=2, seconds=1.25) == pytest.approx(0.8)
    assert throughput.share_of_ideal(count=200, cpu=0.01, slots=8, seconds=1.25) == pytest.approx(0.8)
    assert throughput.share_of_ideal(count=100, cpu=0.01, slots=1, seconds=1.25) == pytest.approx(0.8)


def test_a_load_has_tasks_for_each_slot_and_whole_dags() -> None:
    assert Load("runs", 100).count(slots=4, size=0.5) == 200
    assert Load("runs", 100).count(slots=1, size=0.001) == 1
    assert Load("dags", 100).count(slots=1, size=0.33) == 30
    assert Load("dags", 100).count(slots=1, size=0.001) == 5


def test_loads_have_names_of_their_own() -> None:
    for loads in (FULL, QUICK, BRIEF):
        assert len({load.name for load in loads}) == len(loads)
    assert Load("map", 1, cpu=0.01).name == "one map, 10 ms of CPU"
    assert Load("runs", 1, text_bytes=10_000).name == "single-step runs, 10 KB"


def test_the_work_burns_cpu_and_gives_the_text_back() -> None:
    assert work(order(0, 0)) is None
    text = work(order(0, 1_000))
    assert len(text) == 1_000
    assert work(order(0, 1_000)) == text


def test_burning_takes_at_least_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 1.2, 1.4, 1.6])
    monkeypatch.setattr("pgflow.bench.work.time.thread_time", lambda: next(clock))
    burn(0.5)
    assert list(clock) == []
