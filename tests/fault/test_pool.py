"""The pool under hostile handlers, without a database: right verdict, right card, slot back."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgflow.database.tasks import ClaimedTask
from pgflow.errors import FlowImportError
from pgflow.outcome import Cancelled, Completed, Crashed, Failed, Outcome, Released, TimedOut
from pgflow.worker import pool as pool_module
from pgflow.worker import slot as slot_module
from pgflow.worker.autopsy import Autopsy
from pgflow.worker.pool import Pool
from tests.support.pool import wait_for_idle
from tests.support.waiting import process_exists, wait_until

FLOW = "tests.flows.hostile:flow"
WAIT_SECONDS = 20
Ends = queue.SimpleQueue[tuple[str, Outcome, float]]


class RunningPool:
    """A pool whose tasks' ends are queued with the time at which they came."""

    def __init__(self, slots: int, reference: str = FLOW, **options: Any) -> None:
        self.ends: Ends = queue.SimpleQueue()
        self.pool = Pool([reference], "", slots, preload=True, **options)
        self.pool.report_to(lambda task, outcome: self.ends.put((task.step_slug, outcome, time.monotonic())))
        self.pool.start()

    def run(self, step_slug: str, input: object = None, timeout: int = 1) -> ClaimedTask:
        """Start a task as soon as a slot is idle."""
        self.wait_for_a_slot()
        task = self.task(step_slug, input, timeout)
        self.pool.take([task])
        return task

    def task(self, step_slug: str, input: object = None, timeout: int = 1) -> ClaimedTask:
        """A task of the flow."""
        return ClaimedTask(
            flow_slug="hostile",
            run_id="00000000-0000-0000-0000-000000000000",
            step_slug=step_slug,
            task_index=0,
            attempt=1,
            msg_id=1,
            kind="root",
            input=json.dumps(input),
            timeout=timeout,
            worker_id="00000000-0000-0000-0000-000000000000",
            max_attempts=1,
        )

    def wait_for_a_slot(self) -> None:
        """Until one is idle: a process may just be starting."""
        wait_for_idle(self.pool)

    def end(self) -> tuple[str, Outcome, float]:
        """The next task's end."""
        return self.ends.get(timeout=WAIT_SECONDS)

    def outcome(self, step_slug: str, input: object = None, timeout: int = 1) -> Outcome:
        """Run a task to its end."""
        self.run(step_slug, input, timeout)
        return self.end()[1]


@pytest.fixture(scope="module")
def running() -> Iterator[RunningPool]:
    pool = RunningPool(slots=2)
    yield pool
    pool.pool.stop("the test is over")
    assert pool.pool.wait_until_ended(WAIT_SECONDS)


def test_a_task_completes(running: RunningPool) -> None:
    assert running.outcome("add_one", {"value": 41}) == Completed("42")


HANGS = ["hang_in_regex", "hang_with_the_gil", "hang_ignoring_sigterm", "hang_blocking_all_signals"]


@pytest.mark.quiet
@pytest.mark.parametrize("hang", HANGS)
def test_a_hang_is_killed_at_its_deadline_with_its_stack(running: RunningPool, hang: str) -> None:
    running.wait_for_a_slot()
    started = time.monotonic()
    running.run(hang)
    _, outcome, ended = running.end()
    assert isinstance(outcome, TimedOut)
    assert outcome.error.startswith("Task timed out after 1000ms; it was in ")
    assert f"in {hang}" in outcome.error
    assert "attempt 1 of 1" in outcome.error
    assert 1.0 <= ended - started < 1.3
    assert running.outcome("add_one", {"value": 1}) == Completed("2")


def test_other_slots_go_on_while_one_hangs(running: RunningPool) -> None:
    running.run("hang_with_the_gil")
    for value in range(50):
        running.run("add_one", {"value": value})
        assert running.end()[:2] == ("add_one", Completed(str(value + 1)))
    assert isinstance(running.end()[1], TimedOut)


def test_a_kill_takes_what_the_handler_started(running: RunningPool, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    outcome = running.outcome("hang_with_a_subprocess", {"file": str(pid_file)})
    assert isinstance(outcome, TimedOut)
    pid = int(pid_file.read_text())
    wait_until(lambda: not process_exists(pid), "the subprocess dies")


@pytest.mark.quiet
@pytest.mark.parametrize(
    ("step", "input", "words"),
    [
        ("segfault", None, "Task crashed: the process was killed by SIGSEGV; it was in string_at"),
        ("abort", None, "Task crashed: the process was killed by SIGABRT; it was in abort"),
        ("exit_at_once", {"code": 3}, "Task crashed: the process ended with exit code 3"),
        ("exit_at_once", {"code": 0}, "Task crashed: the process ended with exit code 0"),
    ],
)
def test_a_crash_is_seen_at_once(running: RunningPool, step: str, input: Any, words: str) -> None:
    running.wait_for_a_slot()
    started = time.monotonic()
    running.run(step, input, timeout=30)
    _, outcome, ended = running.end()
    assert isinstance(outcome, Crashed)
    assert outcome.error.startswith(words)
    assert ended - started < 1
    assert running.outcome("add_one", {"value": 1}) == Completed("2")


@pytest.mark.parametrize(
    ("step", "first_line"),
    [
        ("exit_politely", "SystemExit: 5"),
        ("interrupt", "KeyboardInterrupt"),
        ("recurse", "RecursionError: maximum recursion depth exceeded"),
        ("raise_hostile_error", "HostileError: <its text raised RuntimeError>"),
        ("return_explosive", "Output is not JSON-serializable: tests.flows.hostile.Explosive"),
        ("return_nan", "Output is not JSON-serializable: nan"),
        ("no_such_step", "No handler defined for step: no_such_step"),
    ],
)
def test_what_a_handler_raises_or_returns_fails_its_task_alone(
    running: RunningPool, step: str, first_line: str
) -> None:
    outcome = running.outcome(step)
    assert isinstance(outcome, Failed)
    assert outcome.error.splitlines()[0].lower().startswith(first_line.lower())
    assert running.outcome("add_one", {"value": 1}) == Completed("2")


def test_printing_does_not_disturb_the_answer(running: RunningPool) -> None:
    assert running.outcome("print_a_lot") == Completed('"printed"')


def test_input_that_cannot_be_decoded_fails_its_own_task(running: RunningPool) -> None:
    wait_for_idle(running.pool)
    task = ClaimedTask("hostile", "r", "add_one", 0, 1, 1, "w", "root", "1e5000", 1, 1)
    running.pool.take([task])
    outcome = running.end()[1]
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith("Input is not decodable JSON")


def test_a_child_that_a_handler_forked_gives_no_verdict_and_ends(running: RunningPool, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    assert running.outcome("fork_and_return", {"file": str(file)}) == Completed('"parent"')
    wait_until(lambda: not process_exists(int(file.read_text())), "the forked child ends")
    assert running.outcome("add_one", {"value": 1}) == Completed("2")
    assert running.ends.empty()


def test_tasks_that_lose_the_forkserver_are_released_and_the_pool_works_again(tmp_path: Path) -> None:
    running = RunningPool(slots=2)
    began = tmp_path / "began"
    running.run("note_and_wait", {"began": str(began), "go": str(tmp_path / "never")}, timeout=100)
    wait_until(began.exists, "the handler runs")
    running.run("kill_the_forkserver", timeout=100)
    assert {running.end()[:2] for _ in range(2)} == {
        ("note_and_wait", Released("the forkserver died", counts=True)),
        ("kill_the_forkserver", Released("the forkserver died", counts=True)),
    }
    for value in range(4):
        assert running.outcome("add_one", {"value": value}) == Completed(str(value + 1))
    running.pool.stop("the test is over")
    assert running.pool.wait_until_ended(WAIT_SECONDS)


def test_what_a_handler_left_behind_ends_with_the_pool(tmp_path: Path) -> None:
    running = RunningPool(slots=1)
    file = tmp_path / "pid"
    assert running.outcome("leave_a_subprocess", {"file": str(file)}) == Completed("null")
    running.pool.stop("the test is over")
    assert running.pool.wait_until_ended(WAIT_SECONDS)
    wait_until(lambda: not process_exists(int(file.read_text())), "the subprocess ends")


def test_stopping_kills_and_releases_what_runs(tmp_path: Path) -> None:
    running = RunningPool(slots=1)
    began = tmp_path / "began"
    running.run("note_and_wait", {"began": str(began), "go": str(tmp_path / "never")}, timeout=100)
    wait_until(began.exists, "the handler runs")
    running.pool.stop("the worker was ended")
    assert running.end()[:2] == ("note_and_wait", Released("the worker was ended"))
    assert running.pool.wait_until_ended(WAIT_SECONDS)


def test_a_slot_whose_process_was_replaced_while_its_verdict_was_told_takes_one_task() -> None:
    """Whoever tells of a verdict may be kept from going on, and the process may die meanwhile."""
    running = RunningPool(slots=1)
    told, go_on = threading.Event(), threading.Event()

    def tell(task: ClaimedTask, outcome: Outcome) -> None:
        if task.step_slug == "pid":
            told.set()
            go_on.wait(WAIT_SECONDS)
        running.ends.put((task.step_slug, outcome, time.monotonic()))

    running.pool.report_to(tell)
    running.run("pid")
    assert told.wait(WAIT_SECONDS)
    (slot,) = running.pool._slots
    assert slot._process is not None
    os.kill(slot._process.pid, signal.SIGKILL)
    running.run("hang_with_the_gil", timeout=2)  # in the next process
    go_on.set()
    assert running.end()[0] == "pid"
    assert running.pool.idle == 0
    assert isinstance(running.end()[1], TimedOut)
    assert running.outcome("add_one", {"value": 1}) == Completed("2")
    running.pool.stop("the test is over")
    assert running.pool.wait_until_ended(WAIT_SECONDS)


@pytest.mark.parametrize(
    ("step", "verdict"), [("hang_with_the_gil", "timed_out"), ("segfault", "ended")], ids=["killed", "crashed"]
)
def test_an_error_in_the_making_of_a_card_does_not_cost_the_verdict(
    running: RunningPool, monkeypatch: pytest.MonkeyPatch, step: str, verdict: str
) -> None:
    def fail(_autopsy: Autopsy, *_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError("no card")

    with monkeypatch.context() as patched:
        patched.setattr(Autopsy, verdict, fail)
        outcome = running.outcome(step, timeout=1 if verdict == "timed_out" else 20)
    assert isinstance(outcome, Crashed)
    assert "cannot be told: ZeroDivisionError('no card')" in outcome.error
    assert running.outcome("add_one", {"value": 1}) == Completed("2")


def test_a_slot_that_is_neither_idle_nor_at_work_comes_back(
    running: RunningPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no known way there."""
    monkeypatch.setattr(pool_module, "LOST_SECONDS", 0.3)
    running.wait_for_a_slot()
    wait_until(lambda: running.pool.idle == 2, "both are idle")
    running.pool._idle.popitem()
    wait_until(lambda: running.pool.idle == 2, "the lost one is idle")


def test_many_that_exit_with_code_0_at_once_have_crashed(tmp_path: Path) -> None:
    """Who waits for the others' kills is not taken for idle meanwhile."""
    running = RunningPool(12)
    wait_until(lambda: running.pool.idle == 12, "all are idle")
    began = [tmp_path / str(number) for number in range(12)]
    running.pool.take(
        [running.task("wait_and_exit", {"began": str(note), "go": str(tmp_path / "go")}, 20) for note in began]
    )
    wait_until(lambda: all(note.exists() for note in began), "all wait")
    (tmp_path / "go").touch()
    ends = [running.end()[1] for _ in began]
    assert [end.exit_code if isinstance(end, Crashed) else end for end in ends] == [0] * 12
    wait_until(lambda: running.pool.idle == 12, "all are idle again")
    running.pool.stop("the test is over")
    assert running.pool.wait_until_ended(WAIT_SECONDS)


def test_a_task_that_waits_is_not_started_when_nobody_waits_for_it(tmp_path: Path) -> None:
    running = RunningPool(1)
    began, go = tmp_path / "began", tmp_path / "go"
    running.run("note_and_wait", {"began": str(began), "go": str(go)}, timeout=20)
    waiting = running.task("add_one", {"value": 1})
    running.pool.take([waiting])
    running.pool.condemn([(waiting, "its run has ended")])
    outcome = running.end()[1]
    assert isinstance(outcome, Cancelled)
    assert outcome.error == "Task was not started: its run has ended"
    go.touch()
    assert running.end()[1] == Completed('"went"')
    running.pool.stop("the test is over")
    assert running.pool.wait_until_ended(WAIT_SECONDS)


def test_tasks_wait_for_slots_and_each_ends_once(running: RunningPool) -> None:
    running.wait_for_a_slot()
    tasks = [running.task("add_one", {"value": value}, timeout=20) for value in range(200)]
    running.pool.take(tasks)
    ends = [running.end()[1] for _ in tasks]
    assert sorted(int(end.output) for end in ends if isinstance(end, Completed)) == list(range(1, 201))
    assert running.pool.wait_until_empty(0)


def test_a_task_for_which_no_slot_becomes_free_goes_back_soon(tmp_path: Path) -> None:
    running = RunningPool(1)
    began, go = tmp_path / "began", tmp_path / "go"
    running.run("note_and_wait", {"began": str(began), "go": str(go)}, timeout=20)
    running.pool.take([running.task("add_one", {"value": value}) for value in range(2)])
    ends = [running.end()[:2] for _ in range(2)]
    assert ends == [("add_one", Released("no slot became free for it"))] * 2
    go.touch()
    assert running.end()[1] == Completed('"went"')
    # At its end, what waits is handed back, and what comes later as well.
    running.run("note_and_wait", {"began": str(tmp_path / "again"), "go": str(tmp_path / "never")}, timeout=20)
    wait_until((tmp_path / "again").exists, "the task runs")
    running.pool.take([running.task("add_one", {"value": 1})])
    running.pool.stop("the test is over")
    running.pool.take([running.task("add_one", {"value": 2})])
    assert [running.end()[1] for _ in range(3)] == [Released("the test is over")] * 3
    assert running.pool.wait_until_empty(0)
    assert running.pool.wait_until_ended(WAIT_SECONDS)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_slot_whose_idle_process_is_replaced_while_it_is_given_a_task_has_one_task(
    tmp_path: Path, is_first: bool
) -> None:
    """The dispatcher's thread is kept waiting between the choice of the slot and the start of the task, or somebody else
    comes first."""
    running = RunningPool(1)
    running.wait_for_a_slot()
    slot = running.pool._idle.popitem()[0]
    assert slot._process is not None
    os.kill(slot._process.pid, signal.SIGKILL)
    running.wait_for_a_slot()  # its successor was offered
    began, go = tmp_path / "began", tmp_path / "go"
    task = running.task("note_and_wait", {"began": str(began), "go": str(go)}, timeout=20)
    if is_first:
        running.pool._held += 1
        assert slot.run([task], time.monotonic())
    else:
        running.pool.take([task])
    wait_until(began.exists, "the task runs")
    assert running.pool.idle == 0
    assert not slot.run([task], time.monotonic())
    go.touch()
    assert running.end()[1] == Completed('"went"')
    running.wait_for_a_slot()
    assert running.pool.wait_until_empty(0)
    running.pool.stop("the test is over")
    assert running.pool.wait_until_ended(WAIT_SECONDS)


def test_a_clock_that_is_put_forward_costs_no_attempt(
    running: RunningPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """pebble goes by the wall clock, which here goes an hour for each second, from before pebble has learnt of the begin."""
    running.run("note_and_wait", {"began": str(tmp_path / "began"), "go": str(tmp_path / "never")}, timeout=100)
    wait_until((tmp_path / "began").exists, "the handler runs")
    began = time.monotonic()
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: 3600 * (time.monotonic() - began) + 2e9)
        outcome = running.end()[1]
    assert outcome == Released("its process was killed before its deadline: the clock was put forward")
    assert running.outcome("add_one", {"value": 1}) == Completed("2")


def test_a_pool_whose_processes_do_not_start_any_more_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody cleaned /tmp, or nothing can be forked."""
    monkeypatch.setattr(slot_module, "_BACKOFF_SECONDS", (0.0,))
    running = RunningPool(2)
    wait_until(lambda: running.pool.idle == 2, "both are idle")
    shutil.rmtree(running.pool._folder)
    for slot in running.pool._slots:
        assert slot._process is not None
        os.kill(slot._process.pid, signal.SIGKILL)
    (watch, *_) = running.pool.pulses
    reason = wait_until(lambda: watch.given_up, "it gives up")
    assert "no pool process starts any more, the last failure was " in (reason or "")
    running.pool.stop("the test is over")
    assert running.pool.wait_until_ended(WAIT_SECONDS)


def test_a_flow_that_cannot_be_imported_is_reported_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    pool = Pool([f"{tmp_path}/broken.py:flow"], "", 1, preload=True)
    pool.start()
    with pytest.raises(FlowImportError, match="ZeroDivisionError"):
        pool.describe_flows(WAIT_SECONDS)
    pool.stop("over")
    assert pool.wait_until_ended(WAIT_SECONDS)
