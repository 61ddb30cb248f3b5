"""What tasks and processes may take: limits on memory, recycling, and tasks that nobody waits for any more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pgflow.outcome import Cancelled, Completed, Crashed, Failed, OutOfMemory
from pgflow.worker.limits import Limits
from tests.fault.test_pool import WAIT_SECONDS, RunningPool

MIB = 1 << 20


@contextmanager
def limited(limits: Limits, slots: int = 2) -> Iterator[RunningPool]:
    running = RunningPool(slots, limits=limits)
    yield running
    running.pool.stop("the test is over")
    assert running.pool.wait_until_ended(WAIT_SECONDS)


@pytest.mark.parametrize("hoarder", ["hoard", "hoard_in_a_subprocess"])
def test_a_task_that_takes_too_much_is_killed_with_what_it_started_and_others_go_on(hoarder: str) -> None:
    with limited(Limits(memory=256 * MIB)) as running:
        running.run(hoarder, timeout=100)
        for value in range(20):
            running.run("add_one", {"value": value})
        ends = [running.end()[:2] for _ in range(21)]
        ((_, outcome),) = [end for end in ends if end[0] == hoarder]
        assert len([end for end in ends if isinstance(end[1], Completed)]) == 20
        assert isinstance(outcome, OutOfMemory)
        assert outcome.limit == 256 * MIB
        assert outcome.peak is not None
        assert outcome.peak > 256 * MIB
        first_line, *_, facts = outcome.error.splitlines()
        assert first_line.startswith("Task ran out of memory: it took ")
        assert ", its limit is 256 MiB; it was in " in first_line
        assert f"in {hoarder}" in outcome.error
        assert " of 256 MiB, attempt 1 of 1, the last" in facts
        assert running.outcome("add_one", {"value": 1}) == Completed("2")


def test_a_steps_own_limit_counts_instead_of_the_workers() -> None:
    limits = Limits(memory=100 * MIB, step_memory={("hostile", "take"): 1024 * MIB})
    with limited(limits, slots=1) as running:
        assert running.outcome("take", {"mib": 300}, timeout=20) == Completed("300")


def test_past_the_address_space_the_handler_sees_memory_error() -> None:
    with limited(Limits(address_space=1024 * MIB), slots=1) as running:
        outcome = running.outcome("take", {"mib": 2000}, timeout=20)
        assert isinstance(outcome, Failed)
        assert outcome.error.startswith("MemoryError")
        assert running.outcome("add_one", {"value": 1}) == Completed("2")


def test_the_memory_of_a_task_is_not_its_predecessors() -> None:
    with limited(Limits(), slots=1) as running:
        large, small = running.outcome("take", {"mib": 300}, timeout=20), running.outcome("add_one", {"value": 1})
        peaks = [end.evidence["peak_rss"] for end in (large, small) if isinstance(end, Completed) and end.evidence]
        assert peaks[0] > 300 * MIB > 2 * peaks[1]


def test_a_process_is_replaced_after_so_many_tasks() -> None:
    with limited(Limits(tasks_per_process=3), slots=1) as running:
        pids = [running.outcome("pid") for _ in range(7)]
        assert [len(set(pids[:3])), len(set(pids[3:6])), len(set(pids))] == [1, 1, 3]


def test_a_process_is_replaced_when_a_task_leaves_it_too_large() -> None:
    with limited(Limits(memory_per_process=300 * MIB), slots=1) as running:
        pids = [running.outcome("keep", {"mib": mib}, timeout=20) for mib in (1, 400, 1)]
        assert pids[0] == pids[1] != pids[2]


@pytest.mark.quiet
def test_a_condemned_task_is_killed_and_others_go_on() -> None:
    with limited(Limits()) as running:
        hung = running.run("hang_blocking_all_signals", timeout=100)
        running.run("add_one", {"value": 1}, timeout=100)
        assert running.end()[:2] == ("add_one", Completed("2"))
        began = time.monotonic()
        running.pool.condemn([(hung, "its run has ended")])
        step_slug, outcome, at = running.end()
        assert step_slug == "hang_blocking_all_signals"
        assert isinstance(outcome, Cancelled)
        assert outcome.error.startswith("Task was killed: its run has ended; it was in ")
        assert at - began < 1
        assert running.outcome("add_one", {"value": 1}) == Completed("2")


def test_a_death_by_sigkill_is_laid_at_the_oom_killers_door_only_if_it_has_struck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with limited(Limits(), slots=1) as running:
        for has_struck, expected in ((False, Crashed), (True, OutOfMemory)):
            # The kernel's counter cannot be raised without starving the machine.
            monkeypatch.setattr(running.pool._oom, "has_struck", lambda has_struck=has_struck: has_struck)
            outcome = running.outcome("kill_itself")
            assert isinstance(outcome, expected)


def test_what_a_task_took_comes_with_its_outcome() -> None:
    with limited(Limits(), slots=1) as running:
        outcome = running.outcome("take", {"mib": 200}, timeout=20)
        assert isinstance(outcome, Completed)
        assert outcome.evidence is not None
        assert outcome.evidence["peak_rss"] > 200 * MIB
        assert 0 < outcome.evidence["cpu_seconds"] <= outcome.evidence["elapsed_seconds"] + 0.1


def test_pool_processes_are_the_oom_killers_first_choice() -> None:
    with limited(Limits(), slots=1) as running:
        outcome = running.outcome("pid")
        assert isinstance(outcome, Completed)
        own, its = (int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in ("self", outcome.output))
        assert its > own
