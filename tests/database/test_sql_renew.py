"""Whether tasks are still held, and messages that stay invisible as long as they are."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from tests.support.sql import Claimed, Core, while_waiting_for


def visible_in(core: Core) -> list[float]:
    return [message["visible_in"] for message in core.queue("f")]


def claimed_map(core: Core, size: int = 2) -> list[Claimed]:
    core.flow("f", "m*", max_attempts=9)
    core.start("f", list(range(size)))
    return core.claim("f")


def test_messages_of_held_tasks_stay_invisible_for_longer_but_never_for_less(core: Core) -> None:
    tasks = claimed_map(core, 3)
    assert core.renew(tasks, [100, 10, None]) == ["held"] * 3
    first, second, third = visible_in(core)
    assert (99 < first <= 100, 55 < second <= 62, 55 < third <= 62) == (True, True, True)
    assert core.renew(tasks, [None] * 3) == ["held"] * 3


def test_tasks_of_several_flows(core: Core) -> None:
    core.flow("g", "a")
    core.start("g", 1)
    tasks = [*claimed_map(core, 1), *core.claim("g")]
    assert core.renew(tasks, [100, 200]) == ["held", "held"]
    (message,) = core.queue("g")
    assert 199 < message["visible_in"] <= 200
    assert 99 < visible_in(core)[0] <= 100


def test_what_is_held_otherwise_is_lost(core: Core) -> None:
    task, released = claimed_map(core)
    core.release([released])
    late = replace(task, attempt=2)
    nobody_s = replace(task, run_id=uuid4())
    assert core.renew([task, late, nobody_s, released], [100] * 4) == ["held", "lost", "lost", "lost"]
    assert core.renew([task], [200], worker_id=uuid4()) == ["lost"]
    assert visible_in(core)[1] <= 0
    assert visible_in(core)[0] <= 100


@pytest.mark.parametrize("end", ["cancel", "fail", "skip", "complete"])
def test_a_task_whose_run_or_step_has_ended_is_over(core: Core, end: str) -> None:
    core.flow("f")
    core.step("f", "m*", when_exhausted="skip" if end == "skip" else "fail")
    core.start("f", [1, 2])
    first, second = core.claim("f")
    if end == "cancel":
        core.rows("SELECT pgflow.cancel_run(run_id) FROM pgflow.runs")
    elif end == "complete":
        core.complete([first, second], [1, 1])
    else:
        core.fail([first], ["no"])
    assert core.renew([second], [100]) == ["over"]


def test_after_retry_run_the_old_attempt_is_lost(core: Core) -> None:
    core.flow("f", "m*")
    run_id = core.start("f", [1, 2])
    first, second = core.claim("f")
    old = core.tasks(run_id)[1]["message_id"]
    core.fail([first], ["no"])
    core.rows("SELECT pgflow.retry_run(%s)", run_id)
    core.claim("f")
    states = core.rows(
        "SELECT state FROM pgflow.renew_tasks(ARRAY[%s]::uuid[], ARRAY['m'], ARRAY[1], ARRAY[%s], ARRAY[%s]::uuid[], "
        "ARRAY[%s]::bigint[], ARRAY[100])",
        *(run_id, second.attempt, core.worker_id, old),
    )
    assert states == [{"state": "lost"}]


def test_it_waits_for_nobody_who_has_locked_runs_steps_or_tasks(core: Core, other: Core) -> None:
    tasks = claimed_map(core)
    with core.connection.transaction():
        for table in ("runs", "step_states", "step_tasks"):
            core.rows(f"SELECT FROM pgflow.{table} FOR UPDATE")
        assert other.renew(tasks, [100, 100], worker_id=core.worker_id) == ["held", "held"]
    assert all(99 < seconds <= 100 for seconds in visible_in(core))


def test_a_message_that_somebody_changes_is_left_to_him(core: Core, other: Core) -> None:
    tasks = claimed_map(core)
    with core.connection.transaction():
        core.release(tasks[:1])
        assert other.renew(tasks, [100, 100], worker_id=core.worker_id) == ["held", "held"]
    first, second = visible_in(core)
    assert (first <= 0, 99 < second <= 100) == (True, True)


@pytest.mark.parametrize("back", ["release", "requeue"])
def test_a_task_that_is_handed_back_meanwhile_is_visible(core: Core, other: Core, back: str) -> None:
    tasks = claimed_map(core)
    while_waiting_for(core, lambda: core.renew(tasks, [100, 100]), lambda: getattr(other, back)(tasks))
    assert all(seconds <= 0 for seconds in visible_in(core))
