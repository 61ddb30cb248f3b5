"""How many tasks may be claimed before a slot is free for them."""

from __future__ import annotations

from pgflow.worker.lookahead import MOST_CHARACTERS, MOST_TASKS, LookAhead
from tests.support.waiting import wait_until


def after(*seconds: float, slots: int = 2, characters: int = 10) -> int:
    look_ahead = LookAhead(slots)
    for kept in seconds:
        look_ahead.note(kept, characters)
    return look_ahead.tasks()


def test_nothing_is_claimed_ahead_before_a_task_has_ended() -> None:
    assert LookAhead(2).tasks() == 0


def test_what_the_slots_do_in_a_tenth_of_a_second_is_claimed_ahead() -> None:
    assert after(0.0001) == MOST_TASKS
    assert after(0.001) == 200
    assert after(0.01) == 20
    assert after(0.1) == 2
    assert after(0.1, slots=64) == 64
    assert after(0.3) == 0


def test_one_long_task_among_short_ones_makes_it_careful_at_once() -> None:
    assert after(*[0.001] * 50) == 200
    assert after(*[0.001] * 50, 10.0) == 0


def test_large_inputs_are_bounded_together() -> None:
    assert after(0.0001, characters=MOST_CHARACTERS // 4) == 4
    assert after(0.0001, characters=MOST_CHARACTERS * 2) == 0


def test_while_no_task_ends_nothing_is_claimed_ahead() -> None:
    look_ahead = LookAhead(2)
    look_ahead.note(0.001, 10)
    assert look_ahead.tasks() == 200
    wait_until(lambda: look_ahead.tasks() == 0, "it stands still", 5)
