"""What a worker holds, where a task that was handed back and claimed again is equal to what it was."""

from __future__ import annotations

from dataclasses import replace

from pgflow.database.tasks import ClaimedTask
from pgflow.worker.holdings import Holdings

TASK = ClaimedTask("f", "r", "s", 0, 1, 1, "w", "map", "1", 60, 3)


def test_a_task_is_held_until_its_verdict_is_delivered() -> None:
    holdings = Holdings()
    holdings.add([TASK])
    assert [held.task for held in holdings.all()] == [TASK]
    holdings.remove([TASK])
    assert holdings.keys() == set()


def test_the_end_of_an_earlier_claim_is_not_the_end_of_a_later_one() -> None:
    holdings, again = Holdings(), replace(TASK)
    holdings.add([TASK])
    holdings.add([again])
    holdings.remove([TASK])
    assert [held.task for held in holdings.all()] == [again]
    assert holdings.all()[0].task is again


def test_who_has_just_been_claimed_can_be_left_out() -> None:
    holdings = Holdings()
    holdings.add([TASK])
    assert holdings.all(longer_than=60) == []
