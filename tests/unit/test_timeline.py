"""Tasks are put onto lanes so that no lane runs two at a time, and on as few as the times allow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pgflow.database.inspection.activity import ActiveWorker, EndedAttempt, Look, RunningTask
from pgflow.database.inspection.timeline import Block, Timeline

START = datetime(2026, 11, 28, 12, tzinfo=UTC)
WORKER = ActiveWorker("w", "alive", START, ("id",), ("f",))


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def running(index: int, since: float) -> RunningTask:
    return RunningTask("f", "run", "s", index, 1, "id", at(since))


def ended(
    index: int, claimed: float, told: float, elapsed: float | None = None, outcome: str = "completed"
) -> EndedAttempt:
    return EndedAttempt("f", "run", "s", index, 1, outcome, "id", at(claimed), at(told), elapsed, None)


def look(now: float, *tasks: RunningTask | EndedAttempt) -> Look:
    attempts = sorted((task for task in tasks if isinstance(task, EndedAttempt)), key=lambda task: task.ended_at)
    claimed = tuple(task for task in tasks if isinstance(task, RunningTask))
    return Look(at(now), (), False, (WORKER,), claimed, tuple(attempts))


def lanes_after(*looks: Look) -> list[list[int]]:
    """The indexes of the tasks on each lane."""
    timeline = Timeline()
    for one in looks:
        timeline.note(one)
    return [[block.task_index for block in lane] for lane in _blocks(timeline)]


def _blocks(timeline: Timeline) -> tuple[tuple[Block, ...], ...]:
    (worker,) = timeline.workers
    return worker.lanes


def test_tasks_one_after_the_other_share_a_lane_and_others_do_not() -> None:
    assert lanes_after(look(10, ended(1, 0, 2), ended(2, 2, 4), ended(3, 1, 5))) == [[1, 2], [3]]


def test_a_task_keeps_its_lane_while_it_runs_and_when_it_has_ended() -> None:
    long, short = running(1, 0), running(2, 0)
    assert lanes_after(
        look(2, long, short),
        look(3, long, ended(2, 0, 2.5), running(3, 2.5)),
        look(5, ended(1, 0, 4, outcome="timed_out"), running(3, 2.5)),
    ) == [[1], [2, 3]]


def test_short_tasks_that_were_claimed_ahead_and_told_of_at_once_are_one_lanes() -> None:
    tasks = [ended(index, 0, 0.1, elapsed=0.01) for index in range(10)]
    assert lanes_after(look(1, *tasks)) == [list(range(10))]
    assert len(lanes_after(look(1, *tasks, *(ended(index, 0, 0.1, elapsed=0.01) for index in range(10, 20))))) == 2


def test_what_waits_for_a_slot_opens_no_lane() -> None:
    timeline = Timeline()
    timeline.note(look(1, *(running(index, 0.9) for index in range(50))))
    (worker,) = timeline.workers
    assert (len(worker.lanes), worker.claimed_ahead) == (1, 49)


def test_what_was_handed_back_unbegun_leaves_no_trace() -> None:
    assert lanes_after(look(1, running(1, 0.9)), look(2, ended(1, 0.9, 1.9, outcome="released"))) == []


def test_a_task_that_is_gone_without_a_word_has_ended() -> None:
    timeline = Timeline()
    timeline.note(look(5, running(1, 0)))
    timeline.note(look(6))
    ((block,),) = _blocks(timeline)
    assert (block.ended_at, block.outcome) == (at(6), None)


def test_what_was_seen_before_counts_once_and_is_forgotten_after_a_minute() -> None:
    timeline = Timeline()
    failure = ended(1, 0, 1, outcome="crashed")
    timeline.note(look(1, failure))
    timeline.note(look(2, failure))
    assert [len(lane) for lane in _blocks(timeline)] == [1]
    assert list(timeline.failures) == [failure]
    timeline.note(look(62))
    assert _blocks(timeline) == ()


def test_a_worker_that_has_stopped_is_left_out_once_it_has_nothing_to_show() -> None:
    timeline = Timeline()
    stopped = ActiveWorker("w", "stopped", START, ("id",), ("f",))
    timeline.note(Look(at(1), (), False, (stopped,), (), (ended(1, 0, 1),)))
    assert len(list(timeline.workers)) == 1
    timeline.note(Look(at(100), (), False, (stopped,), (), ()))
    assert list(timeline.workers) == []


TASKS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 100), st.integers(0, 100)), max_size=40)


@given(TASKS)
def test_no_lane_runs_two_tasks_at_a_time(tasks: list[tuple[int, int, int]]) -> None:
    timeline = Timeline()
    attempts = [
        ended(index, claimed / 10, (claimed + waited + took) / 10, elapsed=took / 10)
        for index, (claimed, waited, took) in enumerate(tasks)
    ]
    timeline.note(look(60, *attempts))
    lanes = _blocks(timeline)
    assert sorted(block.task_index for lane in lanes for block in lane) == list(range(len(tasks)))
    for lane in lanes:
        for before, after in pairwise(lane):
            assert before.ended_at is not None
            assert before.ended_at <= after.started_at
        for block in lane:
            attempt = attempts[block.task_index]
            assert attempt.started_at is not None
            assert block.ended_at is not None
            assert attempt.started_at <= block.started_at
            assert block.ended_at <= attempt.ended_at + timedelta(seconds=0.03)
    assert len(lanes) <= max((_claimed_at_once(attempts)), default=0)


def _claimed_at_once(attempts: list[EndedAttempt]) -> list[int]:
    """At the end of each: how many had been claimed by then whose end had not been told before."""
    return [
        sum(
            other.started_at is not None and other.started_at <= one.ended_at and other.ended_at >= one.ended_at
            for other in attempts
        )
        + sum(other.ended_at < one.ended_at for other in attempts)
        for one in attempts
    ]
