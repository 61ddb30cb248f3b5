"""A kill, a crash and an end take everything that handlers started, however far it went from its parents."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path

import pytest

from pgflow.outcome import Completed, Crashed, Released, TimedOut
from pgflow.process import marker, proc, tree
from tests.fault.test_pool import WAIT_SECONDS, RunningPool
from tests.support import family
from tests.support.waiting import process_exists, wait_until


@contextmanager
def running_pool(slots: int) -> Iterator[RunningPool]:
    """A pool that is stopped in the end."""
    running = RunningPool(slots)
    try:
        yield running
    finally:
        running.pool.stop("the test is over")
        assert running.pool.wait_until_ended(WAIT_SECONDS)


@pytest.fixture
def running() -> Iterator[RunningPool]:
    """A pool of the test's own: two pools share a forkserver, and some tests end that."""
    with running_pool(2) as pool:
        yield pool


HANGS = ["hang_in_regex", "hang_blocking_all_signals"]


@pytest.mark.parametrize("hang", HANGS)
def test_a_kill_takes_the_family(running: RunningPool, tmp_path: Path, hang: str) -> None:
    running.run("start_a_family", {"folder": str(tmp_path), "then": hang})
    members = family.read(tmp_path)
    assert isinstance(running.end()[1], TimedOut)
    family.wait_until_gone(members, 0.5)


@pytest.mark.parametrize("crash", [{"then": "segfault"}, {"then": "exit_at_once", "code": 0}])
def test_a_crash_takes_the_family(running: RunningPool, tmp_path: Path, crash: dict[str, object]) -> None:
    outcome = running.outcome("start_a_family", {"folder": str(tmp_path), **crash}, timeout=30)
    assert isinstance(outcome, Crashed)
    family.wait_until_gone(family_noted_in(tmp_path), 0.5)


def family_noted_in(folder: Path) -> dict[str, int]:
    """The pids of a family that may be gone by now."""
    members: dict[str, int] = json.loads((folder / "family").read_text())
    return members


def test_a_kill_takes_a_process_that_starts_others_without_end(running: RunningPool, tmp_path: Path) -> None:
    file = tmp_path / "pids"
    assert isinstance(running.outcome("start_without_end", {"file": str(file)}), TimedOut)
    pids = [int(line) for line in file.read_text().split()]
    assert len(pids) > 10
    wait_until(lambda: not any(map(process_exists, pids)), "all end", 1)


def test_a_crash_and_a_kill_leave_the_other_slots_alone(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with running_pool(2) as running:
        input = {"folder": str(tmp_path), "then": "note_and_wait", "began": str(tmp_path / "began"), "go": str(go)}
        running.run("start_a_family", input, timeout=100)
        members = family.read(tmp_path)
        for _ in range(3):
            assert isinstance(running.outcome("segfault"), Crashed)
            assert isinstance(running.outcome("hang_with_the_gil"), TimedOut)
        assert family.alive(members) == set(members)
        go.touch()
        assert running.end()[1] == Completed('"went"')
    family.wait_until_gone(members)


def test_a_pool_process_that_renamed_itself_is_not_taken_for_an_orphan(tmp_path: Path) -> None:
    with running_pool(2) as running:
        input = {"began": str(tmp_path / "began"), "go": str(tmp_path / "go")}
        running.run("rename_and_wait", input, timeout=100)
        wait_until((tmp_path / "began").exists, "the handler runs")
        for _ in range(3):
            assert isinstance(running.outcome("segfault"), Crashed)
        (tmp_path / "go").touch()
        assert running.end()[1] == Completed('"went"')


def test_a_pool_process_that_is_starting_is_not_taken_for_an_orphan(caplog: pytest.LogCaptureFixture) -> None:
    with running_pool(4) as running:
        for number in range(80):
            running.run("exit_at_once", {"code": 3})
            if number >= 3:
                assert isinstance(running.end()[1], Crashed)
    assert "did not start" not in caplog.text
    assert "while it was idle" not in caplog.text


def test_what_a_handler_left_ends_with_its_process(tmp_path: Path) -> None:
    with running_pool(1) as running:
        input = {"folder": str(tmp_path), "then": "add_one", "value": 1}
        assert running.outcome("start_a_family", input, timeout=30) == Completed("2")
        family.wait_until_gone(family.noted(tmp_path), 0.5)


def test_a_dead_forkserver_takes_what_can_be_found(tmp_path: Path) -> None:
    with running_pool(2) as running:
        running.run("start_a_family", {"folder": str(tmp_path), "then": "hang_with_the_gil"}, timeout=100)
        members = family.read(tmp_path)
        pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
        os.kill(pid, signal.SIGKILL)
        assert running.end()[1] == Released("the forkserver died", counts=True)
        # Nothing tells any more whose these are: no mark, no group, no parent.
        lost = {kind: members.pop(kind) for kind in ("cleared", "cleared orphan")}
        family.wait_until_gone(members)
        for lost_pid in lost.values():
            os.kill(lost_pid, signal.SIGKILL)


FLOW_WITH_HELPER = """
import subprocess, warnings
from pgflow import Flow
from tests.flows.hostile import flow
warnings.simplefilter("error")
helper = subprocess.Popen(["sleep", "1000"], start_new_session=True)
open({file!r}, "w").write(str(helper.pid))
"""


def test_what_the_import_of_a_flow_started_lives_as_long_as_the_forkserver(tmp_path: Path) -> None:
    """And a module that makes warnings errors does not end the forkserver, which warns of each orphan that it reaps."""
    end_the_forkserver()
    file, source = tmp_path / "helper", tmp_path / "helped.py"
    source.write_text(FLOW_WITH_HELPER.format(file=str(file)))
    pool = RunningPool(1, reference=f"{source}:flow")
    helper = int(wait_until(lambda: file.exists() and file.read_text(), "the flow is imported"))
    first = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    (tmp_path / "one").mkdir()
    input = {"folder": str(tmp_path / "one"), "then": "segfault"}
    assert isinstance(pool.outcome("start_a_family", input, timeout=30), Crashed)
    family.wait_until_gone(family_noted_in(tmp_path / "one"), 0.5)
    assert isinstance(pool.outcome("hang_with_the_gil"), TimedOut)
    assert process_exists(helper)
    assert process_exists(first)
    pool.pool.stop("the test is over")
    assert pool.pool.wait_until_ended(WAIT_SECONDS)
    end_the_forkserver()
    wait_until(lambda: not process_exists(helper), "the helper ends")


def end_the_forkserver() -> None:
    """The next pool starts another."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


def test_zombies_do_not_become_ever_more() -> None:
    with running_pool(1) as running:
        for _ in range(5):
            outcome = running.outcome("leave_zombies", {"count": 20}, timeout=30)
            assert isinstance(outcome, Completed)
            assert int(outcome.output) <= 20


def test_what_outlives_everybody_is_left_alone_with_what_it_started() -> None:
    sh = ["sh", "-c", "sleep 1000 & echo $!; wait"]
    with subprocess.Popen(sh, stdout=subprocess.PIPE, env=marker.outliving()) as keeper:
        assert keeper.stdout is not None
        child = int(keeper.stdout.readline())
        below = tree.descendants(os.getpid())
        assert keeper.pid not in below
        assert child not in below
        os.kill(child, signal.SIGKILL)
        keeper.kill()


def test_a_signal_does_not_reach_a_later_process_of_the_same_pid() -> None:
    with subprocess.Popen(["sleep", "1000"]) as later:
        start = proc.start(later.pid)
        assert start is not None
        tree.send(later.pid, start - 1, signal.SIGKILL)
        assert process_exists(later.pid)
        tree.send(later.pid, start, signal.SIGKILL)
        assert later.wait() == -signal.SIGKILL


def test_a_kill_of_a_process_that_has_ended_is_no_error() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    tree.kill(ended.pid)
