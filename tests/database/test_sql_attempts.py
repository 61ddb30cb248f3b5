"""The history of attempts, and the fence that keeps an old attempt from deciding on a new one."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.support.sql import Claimed, Core


def history(core: Core) -> list[tuple[Any, ...]]:
    """Step, index, attempt and outcome of each attempt, in the order in which they ended."""
    rows = core.rows("SELECT * FROM pgflow.task_attempts ORDER BY attempt_id")
    return [(row["step_slug"], row["task_index"], row["attempt"], row["outcome"]) for row in rows]


def verdict(core: Core, function: str, task: Claimed, **fence: object) -> str:
    """The verdict of complete_tasks, fail_tasks, release_tasks or requeue_tasks on one task, held as ``fence`` says."""
    types = {"attempts": "int[]", "worker_ids": "uuid[]", "message_ids": "bigint[]"}
    value = {
        "complete_tasks": ", ARRAY['1'::jsonb]",
        "fail_tasks": ", ARRAY['late']",
        "release_tasks": "",
        "requeue_tasks": ", ARRAY['died']",
    }[function]
    held = {"attempts": task.attempt} | fence
    return str(
        core.value(
            f"SELECT verdict FROM pgflow.{function}(ARRAY[%s]::uuid[], ARRAY[%s], ARRAY[%s]{value}"
            + "".join(f", {name} => ARRAY[%s]::{types[name]}" for name in held)
            + ")",
            *(task.run_id, task.step_slug, task.task_index, *held.values()),
        )
    )


def test_every_attempt_leaves_a_row(core: Core) -> None:
    core.flow("f", "a", max_attempts=2)
    run_id = core.start("f", 1)
    core.release(core.claim("f"))
    core.fail(core.claim("f"), ["first"])
    core.complete(core.claim("f"), [1])
    assert history(core) == [("a", 0, 1, "released"), ("a", 0, 1, "failed"), ("a", 0, 2, "completed")]
    rows = core.rows("SELECT * FROM pgflow.task_attempts ORDER BY attempt_id")
    assert {row["run_id"] for row in rows} == {run_id}
    assert {row["worker_id"] for row in rows} == {core.worker_id}
    assert all(row["started_at"] <= row["ended_at"] for row in rows)
    assert [row["error_message"] for row in rows] == [None, "first", None]


def test_a_failure_is_kept_with_its_outcome_and_evidence(core: Core) -> None:
    core.flow("f", "m*")
    core.start("f", [1, 2])
    first, _second = core.claim("f")
    core.rows(
        "SELECT pgflow.fail_tasks(ARRAY[%s]::uuid[], ARRAY['m'], ARRAY[0], ARRAY['late'], "
        "outcomes => ARRAY['timed_out'], evidence => ARRAY['{\"cpu\": 1}'::jsonb])",
        first.run_id,
    )
    row = core.row("SELECT outcome, error_message, evidence FROM pgflow.task_attempts WHERE task_index = 0")
    assert row == {"outcome": "timed_out", "error_message": "late", "evidence": {"cpu": 1}}


def test_what_was_seen_of_a_completed_attempt_is_kept(core: Core) -> None:
    core.flow("f", "a", "m* <- a")
    run_id = core.start("f", 1)
    core.claim("f")
    complete = (
        "SELECT verdict FROM pgflow.complete_tasks(ARRAY[%s]::uuid[], ARRAY[%s], ARRAY[%s], ARRAY[%s::jsonb], "
        "evidence => ARRAY[%s::jsonb])"
    )
    assert core.value(complete, run_id, "a", 0, "[1, 2]", '{"cpu": 1}') == "completed"
    first, _second = core.claim("f")
    assert core.value(complete, run_id, "m", first.task_index, "1", None) == "completed"
    rows = core.rows("SELECT outcome, evidence FROM pgflow.task_attempts ORDER BY attempt_id")
    assert [tuple(row.values()) for row in rows] == [("completed", {"cpu": 1}), ("completed", None)]


def test_a_type_violation_keeps_its_evidence(core: Core) -> None:
    core.flow("f", "a", "m* <- a")
    run_id = core.start("f", 1)
    core.claim("f")
    core.rows(
        "SELECT pgflow.complete_tasks(ARRAY[%s]::uuid[], ARRAY['a'], ARRAY[0], ARRAY['1'::jsonb], ARRAY[1], "
        "evidence => ARRAY['{\"cpu\": 1}'::jsonb])",
        run_id,
    )
    assert core.row("SELECT outcome, evidence FROM pgflow.task_attempts") == {
        "outcome": "failed",
        "evidence": {"cpu": 1},
    }


def test_a_claim_says_when_the_next_attempt_is(core: Core) -> None:
    core.flow("f", max_attempts=3, base_delay=5)
    core.step("f", "a")
    core.step("f", "b", max_attempts=2, base_delay=7)
    core.start("f", 1)
    core.register_worker()
    delays = []
    for _ in range(3):
        rows = core.rows(
            "SELECT step_slug, retry_delay FROM pgflow.claim_tasks(ARRAY['f'], ARRAY[%s]::uuid[], 9) ORDER BY 1",
            core.worker_id,
        )
        delays.append([row["retry_delay"] for row in rows])
        core.rows("SELECT pgflow.fail_task(run_id, step_slug, 0, 'no') FROM pgflow.step_tasks WHERE step_slug = 'a'")
        if len(delays) == 1:
            core.rows(
                "SELECT pgflow.fail_task(run_id, step_slug, 0, 'no') FROM pgflow.step_tasks WHERE step_slug = 'b'"
            )
            assert sorted(round(message["visible_in"]) for message in core.queue("f")) == [10, 14]
        core.rows("UPDATE pgmq.q_f SET vt = now()")
    assert delays == [[10, 14], [20, None], [None]]


def test_contract_calls_leave_their_history_too(core: Core) -> None:
    core.flow("f", "a", max_attempts=2)
    run_id = core.start("f", 1)
    core.claim("f")
    core.rows("SELECT pgflow.fail_task(%s, 'a', 0, 'no')", run_id)
    core.claim("f")
    core.rows("SELECT pgflow.complete_task(%s, 'a', 0, '1')", run_id)
    assert history(core) == [("a", 0, 1, "failed"), ("a", 0, 2, "completed")]


def test_requeued_and_stalled_attempts_are_in_the_history(core: Core) -> None:
    core.flow("f", "a", max_attempts=9)
    core.start("f", 1)
    for _ in range(4):
        core.claim("f")
        core.rows(
            "UPDATE pgflow.step_tasks SET queued_at = now() - interval '1 day', started_at = now() - interval '1 day'"
        )
        core.rows("SELECT pgflow.requeue_stalled_tasks()")
    assert [outcome for *_, outcome in history(core)] == ["requeued", "requeued", "requeued", "stalled"]


def test_a_type_violation_is_a_failed_attempt(core: Core) -> None:
    core.flow("f", "a", "m* <- a")
    core.start("f", 1)
    core.complete(core.claim("f"), [{"no": "array"}])
    assert history(core) == [("a", 0, 1, "failed")]
    assert core.queue("f") == []


@pytest.mark.parametrize("end", ["cancel", "fail", "skip"])
def test_attempts_that_their_run_or_step_ended_are_cancelled_and_stay_so(core: Core, end: str) -> None:
    core.flow("f", "other")
    core.step("f", "m*", when_exhausted="skip" if end == "skip" else "fail")
    run_id = core.start("f", [1, 2, 3])
    first, second, _third, other = core.claim("f")
    if end == "cancel":
        core.rows("SELECT pgflow.cancel_run(%s)", run_id)
        core.fail([first], ["late"])
    else:
        core.fail([first], ["no"])
    core.complete([second], [1])
    core.complete([other], [1])
    outcomes = {task[:2]: task[3] for task in history(core)}
    assert len(outcomes) == len(history(core))
    assert outcomes == {
        ("m", 0): "cancelled" if end == "cancel" else "failed",
        ("m", 1): "cancelled",
        ("m", 2): "cancelled",
        ("other", 0): "completed" if end == "skip" else "cancelled",
    }


@pytest.mark.parametrize("function", ["fail_tasks", "requeue_tasks"])
@pytest.mark.parametrize("end", ["condition", "type violation"])
def test_an_attempt_that_fails_with_another_that_is_recorded_and_fails_the_run_is_told_once(
    core: Core, function: str, end: str
) -> None:
    core.flow("f", "a", "b", *(["m* <- a"] if end == "type violation" else []))
    if end == "condition":
        core.step("f", "c <- a", required_input_pattern={"a": 1}, when_unmet="fail")
    core.rows("SELECT pgflow.record_failures('f', 'a')")
    run_id = core.start("f", 1)
    tasks = core.claim("f")
    if function == "fail_tasks":
        core.fail(tasks, ["ea", "eb"])
        outcome = "failed"
    else:
        core.rows("UPDATE pgflow.step_tasks SET requeued_count = 3")
        core.requeue(tasks)
        outcome = "crashed"
    assert core.run(run_id)["status"] == "failed"
    assert sorted(history(core)) == [("a", 0, 1, outcome), ("b", 0, 1, outcome)]
    assert core.queue("f") == []


def test_a_task_that_has_stalled_for_good_is_neither_retried_nor_released(core: Core) -> None:
    """Its message is archived: it would wait for ever in no queue."""
    core.flow("f", "a", max_attempts=9)
    run_id = core.start("f", 1)
    (task,) = core.claim("f")
    core.rows(
        "UPDATE pgflow.step_tasks SET requeued_count = 3, queued_at = now() - interval '1 day', "
        "started_at = now() - interval '1 day'"
    )
    core.rows("SELECT pgflow.requeue_stalled_tasks()")
    assert (core.fail([task], ["late"]), core.release([task])) == (["stale"], ["stale"])
    assert core.tasks(run_id)[0]["status"] == "started"
    assert core.complete([task], [1]) == ["completed"]  # but its work counts
    assert core.run(run_id)["status"] == "completed"


def test_the_history_goes_with_its_run(core: Core) -> None:
    core.flow("f", "a")
    core.start("f", 1)
    core.complete(core.claim("f"), [1])
    core.rows("SELECT pgflow.prune_data_older_than('0 seconds')")
    assert history(core) == []


@pytest.mark.parametrize("function", ["complete_tasks", "fail_tasks", "release_tasks", "requeue_tasks"])
@pytest.mark.parametrize("fence", [{"attempts": 2}, {"worker_ids": uuid4()}, {"message_ids": 99}])
def test_who_holds_the_task_otherwise_changes_nothing(core: Core, function: str, fence: dict[str, object]) -> None:
    core.flow("f", "a", max_attempts=5)
    run_id = core.start("f", 1)
    (task,) = core.claim("f")
    before = core.tasks(run_id)
    assert verdict(core, function, task, **fence) == "stale"
    assert core.tasks(run_id) == before
    assert history(core) == []


@pytest.mark.parametrize("function", ["complete_tasks", "fail_tasks", "release_tasks", "requeue_tasks"])
def test_who_holds_the_task_is_heard(core: Core, function: str) -> None:
    core.flow("f", "a", max_attempts=5)
    run_id = core.start("f", 1)
    (task,) = core.claim("f")
    (row,) = core.tasks(run_id)
    given = verdict(core, function, task, worker_ids=core.worker_id, message_ids=row["message_id"])
    assert (
        given
        == {
            "complete_tasks": "completed",
            "fail_tasks": "retried",
            "release_tasks": "released",
            "requeue_tasks": "requeued",
        }[function]
    )


def test_a_worker_whose_row_was_deleted_is_still_heard(core: Core) -> None:
    core.flow("f", "a")
    core.start("f", 1)
    (task,) = core.claim("f")
    core.rows("DELETE FROM pgflow.workers")
    assert verdict(core, "complete_tasks", task, worker_ids=core.worker_id) == "completed"


def test_a_result_from_before_the_run_was_retried_is_late(core: Core) -> None:
    """Attempt and worker are the same again; the message is not."""
    core.flow("f", "m*")
    run_id = core.start("f", [1, 2])
    first, second = core.claim("f")
    old_message = core.tasks(run_id)[1]["message_id"]
    core.fail([first], ["no"])
    assert core.value("SELECT pgflow.retry_run(%s)", run_id) == "retried"
    (again,) = [task for task in core.claim("f") if task.task_index == 1]
    assert (again.attempt, again.run_id) == (second.attempt, UUID(str(run_id)))
    assert verdict(core, "complete_tasks", second, worker_ids=core.worker_id, message_ids=old_message) == "stale"
    assert verdict(core, "complete_tasks", again, worker_ids=core.worker_id) == "completed"


def test_what_a_cancelled_attempt_was_doing_is_added_once(core: Core) -> None:
    core.flow("f", "m*", max_attempts=2)
    run_id = core.start("f", [1, 2])
    first, second = core.claim("f")
    core.rows("SELECT pgflow.cancel_run(%s)", run_id)
    for error, outcome in (("not of interest", "failed"), ("it was killed", "cancelled"), ("again", "cancelled")):
        assert (
            core.value(
                "SELECT verdict FROM pgflow.fail_tasks(ARRAY[%s]::uuid[], ARRAY['m'], ARRAY[%s], ARRAY[%s], "
                "outcomes => ARRAY[%s], evidence => ARRAY['{\"cpu\": 1}'::jsonb])",
                run_id,
                first.task_index,
                error,
                outcome,
            )
            == "over"
        )
    rows = core.rows(
        "SELECT task_index, outcome, error_message, evidence FROM pgflow.task_attempts ORDER BY task_index"
    )
    assert [tuple(row.values()) for row in rows] == [
        (first.task_index, "cancelled", "it was killed", {"cpu": 1}),
        (second.task_index, "cancelled", None, None),
    ]
