"""``python -m benchmarks``: options that cannot be, peers that are not there."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from benchmarks import batch_peers, commands, peers
from benchmarks.beside import Beside
from benchmarks.peers.process import PeerContender
from pgflow.bench import throughput
from pgflow.bench.contender import ContenderError
from pgflow.bench.figures import Figures
from pgflow.bench.loads import Load
from pgflow.bench.options import Options
from pgflow.bench.report import Report
from tests.unit.test_bench_figures import FACTS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("throughput --against nobody", "'nobody' is none of procrastinate, pgqueuer"),
        ("kill --against dbos", "'dbos' is none of pebble, celery, all"),
        ("batch --against celery", "'celery' is none of joblib, parallel, all"),
        ("sql --against celery", "this suite measures pgflow alone"),
        ("throughput --plot plot.gif", "plot.gif must end with one of .svg, .png, .pdf"),
        ("throughput --json /no/such/folder/figures.json", "there is no folder /no/such/folder"),
        ("throughput --repeat 0", "0 is not in the range"),
        ("kill --only moonshine", "'moonshine' is in the name of no case"),
        ("show /dev/null", "JSON_FILE"),
        ("moonshine", "No such command 'moonshine'"),
    ],
)
def test_an_option_that_cannot_be_is_refused_in_words(arguments: str, words: str) -> None:
    result = CliRunner().invoke(commands.main, arguments.split())
    assert result.exit_code == 2, result.output
    assert words in result.output


def test_a_plot_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "missing_packages", lambda names: f"the package {names[0]} is not installed")
    result = CliRunner().invoke(commands.main, ["overhead", "--plot", "plot.svg"])
    assert result.exit_code == 2
    assert "the package matplotlib is not installed: pip install -e '.[bench]'" in result.output


def test_a_peer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = dataclasses.replace(peers.PEERS["dbos"], packages=("no-such-package",))
    monkeypatch.setitem(peers.PEERS, "dbos", absent)
    beside = Beside(["dbos", "executor"], slots=1)
    present = beside(Mock())
    assert [contender.name for contender in present] == ["ProcessPoolExecutor"]
    figures = Figures()
    figures.add("a", "tasks/s", "", 1)
    report = beside.completed(Report("throughput", {**FACTS, "versions": {}}, figures.all()))
    assert "missing: dbos: the package no-such-package is not installed (pip install" in report.markdown()


def test_celery_without_a_redis_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers.PEERS, "celery", dataclasses.replace(peers.PEERS["celery"], packages=()))
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert "there is no redis-server" in peers.missing("celery")


def test_a_peer_of_batches_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(batch_peers, "missing_packages", lambda names: f"the package {names[0]} is not installed")
    assert batch_peers.missing("parallel") == "there is no GNU parallel (apt-get install parallel)"
    assert batch_peers.missing("joblib").startswith("the package joblib is not installed (pip install")


@pytest.mark.parametrize("peer", [batch_peers.EXECUTOR, *batch_peers.PEERS.values()], ids=lambda peer: peer.name)
def test_who_does_a_batch_says_when_each_item_began_and_ended(peer: batch_peers.Peer, tmp_path: Path) -> None:
    for name, known in batch_peers.PEERS.items():
        if known is peer and (why := batch_peers.missing(name)):
            pytest.skip(why)
    work = batch_peers.Work(tmp_path / "items.jsonl", tmp_path / "results.jsonl", slots=2)
    work.items.write_text('{"number": 0, "cpu": 0.01}\n{"number": 1, "cpu": 0}\n')
    done = subprocess.run(peer.command(work), cwd=batch_peers.ROOT, check=True, capture_output=True, text=True)
    lines = done.stdout if peer.prints_results else work.results.read_text()
    spans = [json.loads(line) for line in lines.splitlines()]
    assert len(spans) == 2
    assert max(ended - began for began, ended in spans) >= 0.01


def test_a_peer_does_its_jobs_in_processes_of_its_own() -> None:
    contender = PeerContender("Executor", "executor_peer", slots=1)
    with contender.running() as running:
        assert running.run(Load("map", 1, text_bytes=100), 20) > 0
        found = running.latencies(2)
    assert {name: len(samples) for name, samples in found.items()} == {
        "start to handler start": 2,
        "start to completed, one step": 2,
    }


def test_a_peer_that_fails_says_why() -> None:
    contender = PeerContender("Nobody", "no_such_peer", slots=1)
    with pytest.raises(ContenderError, match=r"No module named 'benchmarks\.peers\.no_such_peer'"), contender.running():
        pass


class _Failing:
    """Fails at the second load."""

    name = "Failing"

    def __init__(self) -> None:
        self.started = 0

    @contextmanager
    def running(self) -> Iterator[_Failing]:
        self.started += 1
        yield self

    def run(self, load: Load, count: int) -> float:
        if load.cpu:
            raise ContenderError("no")
        return 1.0

    def latencies(self, count: int) -> dict[str, list[float]]:
        raise NotImplementedError


def test_who_fails_is_named_and_not_measured_again() -> None:
    failing, figures = _Failing(), Figures()
    failed = throughput.measure([failing], Options(slots=2, repeat=3, quick=True), figures)
    assert failed == {"Failing": "failed: no"}
    assert failing.started == 1
    assert [str(figure) for figure in figures.all()] == ["500"]


def test_a_report_is_shown_and_drawn_again(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figures = Figures()
    figures.add("2 slots, one map, no-op", "tasks/s", "", 1, 2, at=2)
    Report("scaling", FACTS, figures.all()).write(tmp_path / "lines.json")
    figures = Figures()
    for by in ("pgflow", "Peer"):
        figures.add("one map, no-op", "tasks/s", "", 1, 2, by=by)
    Report("throughput", FACTS, figures.all()).write(tmp_path / "bars.json")
    for name, words in (("lines", "| 2 slots, one map, no-op | tasks/s |"), ("bars", "| pgflow | Peer |")):
        plot = tmp_path / f"{name}.svg"
        result = CliRunner().invoke(commands.main, ["show", str(tmp_path / f"{name}.json"), "--plot", str(plot)])
        assert result.exit_code == 0, result.output
        assert words in result.output
        assert plot.read_text().startswith("<?xml")
