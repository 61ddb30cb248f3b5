"""Short tasks that are given to a slot in one go: each has its own verdict, deadline and card, whatever becomes of the
others."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pgflow.database.tasks import ClaimedTask
from pgflow.outcome import Cancelled, Completed, Crashed, Failed, Outcome, Released, TimedOut
from pgflow.worker import child
from pgflow.worker.limits import Limits
from pgflow.worker.logbook import SIZE_BYTES
from pgflow.worker.poolprocess import PoolProcess
from pgflow.worker.running import OVERWRITTEN
from tests.fault.test_pool import WAIT_SECONDS, RunningPool
from tests.support.waiting import wait_until

TIMEOUT = 20
SHORT = 0.0001


class SeriesPool(RunningPool):
    """A pool that takes all its steps for short ones, and notes how many tasks its processes are given at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, slots: int = 1, **options: Any) -> None:
        self.given: list[int] = []
        schedule = PoolProcess.schedule

        def noting(process: PoolProcess, function: object, *arguments: object, timeout: float | None = None) -> object:
            if function is child.run_tasks:
                self.given.append(len(arguments[1]))  # type: ignore[arg-type]
            return schedule(process, function, *arguments, timeout=timeout)  # type: ignore[arg-type]

        monkeypatch.setattr(PoolProcess, "schedule", noting)
        super().__init__(slots, **options)
        steps = ("add_one", "hang_with_the_gil", "exit_at_once", "note_and_wait", "leave", "return_nan")
        for step in steps:
            self.is_short(step)
        wait_until(lambda: self.pool.idle == slots, "all slots are idle")

    def is_short(self, step_slug: str) -> None:
        """Take a step for a short one."""
        self.pool._paces.note(self.task(step_slug), Completed("0", {"elapsed_seconds": SHORT}))

    def numbers(self, *values: int) -> list[ClaimedTask]:
        """Tasks that add one to a number."""
        return [self.task("add_one", {"value": value}, TIMEOUT) for value in values]

    def outcomes(self, tasks: Sequence[ClaimedTask]) -> list[Outcome]:
        """What becomes of these, in the order in which they are told of."""
        self.pool.take(tasks)
        return [self.end()[1] for _ in tasks]


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[SeriesPool]:
    pool = SeriesPool(monkeypatch)
    yield pool
    assert pool.pool.wait_until_empty(WAIT_SECONDS)
    assert pool.ends.empty(), "a task had two verdicts"
    pool.pool.stop("the test is over")
    assert pool.pool.wait_until_ended(WAIT_SECONDS)


def completed(*numbers: int) -> list[Outcome]:
    return [Completed(str(number)) for number in numbers]


def test_a_process_is_given_several_short_tasks_and_does_them_in_order(running: SeriesPool) -> None:
    assert running.outcomes(running.numbers(*range(40))) == completed(*range(1, 41))
    assert running.given[0] == 40


def test_each_has_what_was_seen_of_it(running: SeriesPool) -> None:
    for outcome in running.outcomes(running.numbers(1, 2, 3)):
        assert isinstance(outcome, Completed)
        assert outcome.evidence is not None
        assert 0 <= outcome.evidence["elapsed_seconds"] < 1
        assert outcome.evidence["cpu_seconds"] < 1
        assert outcome.evidence["peak_rss"] > 1 << 20


def test_who_fails_fails_alone(running: SeriesPool) -> None:
    tasks = [*running.numbers(1), running.task("return_nan"), *running.numbers(2)]
    before, failed, after = running.outcomes(tasks)
    assert [before, after] == completed(2, 3)
    assert isinstance(failed, Failed)
    assert failed.error.startswith("Output is not JSON-serializable: NaN")


@pytest.mark.parametrize("code", [0, 3])
def test_who_ends_the_process_costs_the_others_nothing(running: SeriesPool, code: int) -> None:
    tasks = [*running.numbers(1, 2), running.task("exit_at_once", {"code": code}, TIMEOUT), *running.numbers(3, 4)]
    outcomes = running.outcomes(tasks)
    assert [one for one in outcomes if isinstance(one, Completed)] == completed(2, 3, 4, 5)
    (crashed,) = (one for one in outcomes if isinstance(one, Crashed))
    assert crashed.error.startswith(f"Task crashed: the process ended with exit code {code}")
    assert crashed.exit_code == code


@pytest.mark.quiet
def test_who_hangs_is_killed_at_its_own_deadline_and_the_others_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """With another slot those behind it are done long before its deadline; those before it are told of."""
    running = SeriesPool(monkeypatch, slots=2)
    started = time.monotonic()
    running.pool.take([*running.numbers(1, 2), running.task("hang_with_the_gil"), *running.numbers(3, 4, 5)])
    ends = [running.end() for _ in range(6)]
    assert sorted(str(end[1].output) for end in ends[:5] if isinstance(end[1], Completed)) == list("23456")
    assert ends[4][2] - started < 0.8
    hung = ends[5][1]
    assert isinstance(hung, TimedOut)
    assert hung.error.startswith("Task timed out after 1000ms; it was in hang_with_the_gil")
    assert 1.0 <= ends[5][2] - started < 1.3
    end(running)


def test_who_hangs_on_the_only_slot_lets_the_others_go_back_in_time(running: SeriesPool) -> None:
    tasks = [running.task("hang_with_the_gil", timeout=2), *running.numbers(1)]
    first, last = running.outcomes(tasks)
    assert first == Released("no slot became free for it")
    assert isinstance(last, TimedOut)


def test_who_is_condemned_is_killed_and_the_others_are_not(running: SeriesPool, tmp_path: Path) -> None:
    began = tmp_path / "began"
    waits = running.task("note_and_wait", {"began": str(began), "go": str(tmp_path / "never")}, TIMEOUT)
    before, behind, other = running.numbers(1, 2, 3)
    running.pool.take([before, waits, behind, other])
    wait_until(began.exists, "it runs")
    running.pool.condemn([(before, "late"), (behind, "over"), (waits, "over")])
    outcomes = [running.end()[1] for _ in range(4)]
    assert [one for one in outcomes if isinstance(one, Completed)] == completed(2, 4)
    errors = [one.error.splitlines()[0] for one in outcomes if isinstance(one, Cancelled)]
    assert sorted(error.partition(";")[0] for error in errors) == [
        "Task was killed: over",
        "Task was not started: over",
    ]


def test_the_watch_does_not_come_again_once_what_waits_behind_a_long_task_is_taken_back(
    running: SeriesPool, tmp_path: Path
) -> None:
    began, go = tmp_path / "began", tmp_path / "go"
    waits = running.task("note_and_wait", {"began": str(began), "go": str(go)}, TIMEOUT)
    running.pool.take([*running.numbers(1), waits])
    wait_until(began.exists, "it runs")
    assert running.end()[1] == Completed("2")  # told of when the rest was taken back
    slot = running.pool._slots[0]
    assert slot.next_look(0.0) > time.monotonic()
    go.touch()
    assert isinstance(running.end()[1], Completed)


def test_outputs_that_the_logbook_cannot_hold_come_all_the_same(running: SeriesPool) -> None:
    text = "x" * (SIZE_BYTES // 2)
    tasks = [running.task("echo", text, TIMEOUT) for _ in range(5)]
    running.is_short("echo")
    outcomes = running.outcomes(tasks)
    assert outcomes == [Completed(f'"{text}"')] * 5


def test_a_handler_that_writes_into_the_logbook_costs_nobody_the_verdict(running: SeriesPool) -> None:
    """Those whose answers it overwrote are done again."""
    running.is_short("overwrite_the_logbook")
    tasks = [*running.numbers(1, 2), running.task("overwrite_the_logbook"), *running.numbers(3)]
    outcomes = running.outcomes(tasks)
    assert running.given[0] == 4
    assert outcomes[-1] == Completed("4")
    assert all(isinstance(one, Completed) or one == Released(OVERWRITTEN, counts=True) for one in outcomes)


def test_what_one_left_in_the_process_does_not_meet_the_next(running: SeriesPool) -> None:
    running.is_short("pid")
    tasks = [running.task("pid"), running.task("leave", "a_thread", TIMEOUT), running.task("pid")]
    first, left, after = running.outcomes(tasks)
    assert first == left != after


def test_a_process_is_replaced_after_as_many_tasks_as_it_may_run(monkeypatch: pytest.MonkeyPatch) -> None:
    running = SeriesPool(monkeypatch, limits=Limits(tasks_per_process=3))
    running.is_short("pid")
    pids = running.outcomes([running.task("pid") for _ in range(7)])
    assert pids[:3] == [pids[0]] * 3
    assert pids[3:6] == [pids[3]] * 3
    assert len({one.output for one in pids if isinstance(one, Completed)}) == 3
    end(running)


def test_the_end_of_the_pool_is_the_end_of_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    running = SeriesPool(monkeypatch)
    began = tmp_path / "began"
    waits = running.task("note_and_wait", {"began": str(began), "go": str(tmp_path / "never")}, TIMEOUT)
    running.pool.take([*running.numbers(1), waits, *running.numbers(2)])
    wait_until(began.exists, "it runs")
    running.pool.stop("the test is over")
    outcomes = [running.end()[1] for _ in range(3)]
    assert [one for one in outcomes if isinstance(one, Completed)] == completed(2)
    assert [one for one in outcomes if isinstance(one, Released)] == [Released("the test is over")] * 2
    assert running.pool.wait_until_ended(WAIT_SECONDS)


def test_processes_that_are_killed_at_any_moment_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each task has one verdict; one a kill is lost at the most, and it is said how it was."""
    running = SeriesPool(monkeypatch, slots=2)
    randomly, done = random.Random(7), threading.Event()
    kills = [0]

    def kill() -> None:
        while not done.wait(randomly.uniform(0.0, 0.15)):
            process = randomly.choice(running.pool._slots)._process
            if process is not None:
                kills[0] += 1
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    ended: dict[int, Outcome] = {}
    running.pool.report_to(lambda task, outcome: running.ends.put((task.input, outcome, 0.0)))
    for start in range(0, 3_000, 100):
        values = set(range(start, start + 100))
        running.pool.take(running.numbers(*values))
        for _ in values:
            input, outcome, _ = running.end()
            value = int(input.partition(":")[2].rstrip("}"))
            assert value in values
            assert value not in ended, "two verdicts"
            ended[value] = outcome
    done.set()
    killer.join()
    bad = {value: one for value, one in ended.items() if one != Completed(str(value + 1))}
    for one in bad.values():
        assert isinstance(one, Crashed | Released), one
    assert len([one for one in bad.values() if isinstance(one, Crashed)]) <= kills[0]
    assert len(ended) == 3_000
    end(running)


def end(running: SeriesPool) -> None:
    """End the pool in order."""
    assert running.pool.wait_until_empty(WAIT_SECONDS)
    assert running.ends.empty(), "a task had two verdicts"
    running.pool.stop("the test is over")
    assert running.pool.wait_until_ended(WAIT_SECONDS)
