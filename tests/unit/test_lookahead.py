"""How many tasks may be claimed before a slot is free for them."""

from __future__ import annotations

from pgflow.worker.lookahead import MOST_CHARACTERS, MOST_TASKS, MOST_TASKS_PER_SLOT, LookAhead
from tests.support.waiting import wait_until


def after(*seconds: float, slots: int = 16, characters: int = 10) -> int:
    """How many, when tasks that took so long have ended, all a moment ago."""
    look_ahead = LookAhead(slots)
    for kept in seconds:
        look_ahead.note(1, kept, characters)
    return look_ahead.tasks()


def test_nothing_is_claimed_ahead_before_a_task_has_ended() -> None:
    assert LookAhead(2).tasks() == 0


def test_what_the_slots_do_in_the_next_moment_is_claimed_ahead() -> None:
    assert after(*[0.0001] * 1000) == MOST_TASKS
    assert after(*[0.0001] * 1000, slots=2) == 2 * MOST_TASKS_PER_SLOT
    assert after(*[0.01] * 1000) == 240
    assert after(*[0.1] * 1000) in (23, 24)
    assert after(*[2.5] * 1000) == 0


def test_one_long_task_among_short_ones_makes_it_careful_at_once() -> None:
    assert after(*[0.01] * 1000, 100.0) == 0


def test_what_has_ended_lately_bounds_it_whatever_a_task_takes() -> None:
    """Of 64 slots 63 may be at work for a minute."""
    assert after(0.0001, slots=64) <= 8
    assert after(*[0.0001] * 10, slots=64) <= 75


def test_large_inputs_are_bounded_together() -> None:
    assert after(*[0.0001] * 1000, characters=MOST_CHARACTERS // 4) == 4
    assert after(*[0.0001] * 1000, characters=MOST_CHARACTERS * 2) == 0


def test_while_no_task_ends_nothing_is_claimed_ahead() -> None:
    look_ahead = LookAhead(2)
    for _ in range(100):
        look_ahead.note(1, 0.001, 10)
    assert look_ahead.tasks() > 0
    wait_until(lambda: look_ahead.tasks() == 0, "it stands still", 5)
