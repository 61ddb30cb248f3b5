"""How many tasks a slot is given in one go."""

from __future__ import annotations

from pgflow.database.tasks import ClaimedTask
from pgflow.outcome import Completed, Released, TimedOut
from pgflow.worker.limits import Limits
from pgflow.worker.paces import MOST_CHARACTERS, Paces


def task(step_slug: str = "short", input: str = "0") -> ClaimedTask:
    return ClaimedTask(
        flow_slug="flow",
        run_id="00000000-0000-0000-0000-000000000000",
        step_slug=step_slug,
        task_index=0,
        attempt=1,
        msg_id=1,
        kind="map",
        input=input,
        timeout=60,
        worker_id="00000000-0000-0000-0000-000000000000",
        max_attempts=1,
    )


def paces(**seconds: float) -> Paces:
    """When a task of each of these steps has ended."""
    known = Paces()
    for step_slug, took in seconds.items():
        known.note(task(step_slug), Completed("0", {"elapsed_seconds": took}))
    return known


def test_a_step_of_which_nothing_is_known_goes_alone() -> None:
    assert Paces().series([task(), task()], Limits()) == 1
    assert paces(short=0.0001).series([task(), task(), task("other")], Limits()) == 2


def test_short_tasks_go_together_as_far_as_they_take_a_tenth_of_a_second() -> None:
    many = [task() for _ in range(100)]
    assert paces(short=0.00001).series(many, Limits()) == 100
    assert paces(short=0.0045).series(many, Limits()) == 22
    assert paces(short=0.06).series(many, Limits()) == 1
    assert paces(short=1.0).series(many, Limits()) == 1
    assert paces(short=0.0009, long=1.0).series([task(), task(), task("long"), task()], Limits()) == 2


def test_one_long_task_makes_it_careful_for_a_while() -> None:
    known = paces(short=0.0001)
    known.note(task(), TimedOut("", 1.0, {"elapsed_seconds": 1.0}))
    rounds = 0
    while known.series([task(), task()], Limits()) == 1:
        known.note(task(), Completed("0", {"elapsed_seconds": 0.0001}))
        rounds += 1
    assert 5 < rounds < 20


def test_what_was_not_seen_says_nothing() -> None:
    known = paces(short=0.0001)
    known.note(task(), Released("lost"))
    known.note(task(), Completed("0"))
    assert known.series([task(), task()], Limits()) == 2


def test_a_series_has_one_memory_limit() -> None:
    known = paces(short=0.0001, large=0.0001)
    limits = Limits(step_memory={("flow", "large"): 1 << 30})
    assert known.series([task(), task(), task("large")], limits) == 2
    assert known.series([task("large"), task("large"), task()], limits) == 2


def test_large_inputs_go_alone() -> None:
    known = paces(short=0.0001)
    assert known.series([task(input="x" * MOST_CHARACTERS)] * 3, Limits()) == 1
    assert known.series([task(input="x" * (MOST_CHARACTERS // 2))] * 3, Limits()) == 2


def test_large_outputs_do_not_go_together() -> None:
    known = Paces()
    known.note(task(), Completed("x" * MOST_CHARACTERS, {"elapsed_seconds": 0.0001}))
    assert known.series([task()] * 3, Limits()) == 1
