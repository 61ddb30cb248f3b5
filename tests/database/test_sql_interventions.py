"""Cancelling and retrying runs."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from tests.support.sql import Core, while_waiting_for


def cancel(core: Core, run_id: UUID, reason: str | None = "enough") -> str:
    return str(core.value("SELECT pgflow.cancel_run(%s, %s, 'anna')", run_id, reason))


def retry(core: Core, run_id: UUID) -> str:
    return str(core.value("SELECT pgflow.retry_run(%s, 'mended', 'anna')", run_id))


def interventions(core: Core) -> list[tuple[str, str, str | None]]:
    rows = core.rows("SELECT action, requested_by, reason FROM pgflow.run_interventions ORDER BY intervention_id")
    return [(row["action"], row["requested_by"], row["reason"]) for row in rows]


def fail_all(core: Core, flow_slug: str) -> None:
    tasks = core.claim(flow_slug)
    core.fail(tasks, ["no"] * len(tasks))


def test_a_cancelled_run_fails_with_its_started_steps(core: Core) -> None:
    core.flow("f", "a", "b", "c <- a")
    run_id = core.start("f", 1)
    core.complete([task for task in core.claim("f") if task.step_slug == "a"], [1])
    assert cancel(core, run_id) == "cancelled"
    run = core.run(run_id)
    assert (run["status"], run["failed_at"] is not None) == ("failed", True)
    assert core.statuses(run_id) == {"a": "completed", "b": "failed", "c": "failed"}
    assert core.state(run_id, "b")["error_message"] == "Cancelled: enough"
    assert core.queue("f") == []
    assert interventions(core) == [("cancelled", "anna", "enough")]
    # Its tasks keep their status, as those of every failed run.
    assert [task["status"] for task in core.tasks(run_id)] == ["completed", "started", "queued"]


def test_a_run_whose_queue_is_lost_is_cancelled_all_the_same(core: Core) -> None:
    core.flow("f", "a", "b")
    run_id = core.start("f", 1)
    core.claim("f", 1)
    core.rows("SELECT pgmq.drop_queue('f')")
    assert cancel(core, run_id) == "cancelled"
    assert core.statuses(run_id) == {"a": "failed", "b": "failed"}


def test_what_is_reported_after_a_cancellation_changes_no_step(core: Core) -> None:
    core.flow("f", "m*", max_attempts=3)
    run_id = core.start("f", [1, 2])
    first, second = core.claim("f")
    cancel(core, run_id)
    assert core.complete([first], [1]) == ["over"]
    assert core.fail([second], ["no"]) == ["over"]
    assert core.statuses(run_id) == {"m": "failed"}
    assert [task["status"] for task in core.tasks(run_id)] == ["started", "failed"]


def test_a_run_that_has_ended_or_does_not_exist_is_not_cancelled(core: Core) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    core.complete(core.claim("f"), [1])
    assert cancel(core, run_id) == "over"
    assert cancel(core, uuid4()) == "unknown"
    assert interventions(core) == []


def test_without_reason_and_name_the_role_is_noted(core: Core) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    core.rows("SELECT pgflow.cancel_run(%s)", run_id)
    assert core.state(run_id, "a")["error_message"] == "Cancelled: no reason was given"
    assert interventions(core) == [("cancelled", "postgres", None)]


def test_a_retried_run_does_what_has_not_been_done(core: Core) -> None:
    core.flow("f", "m*", "n*", "end <- m n")
    run_id = core.start("f", [0, 1, 2])
    of_m = [task for task in core.claim("f") if task.step_slug == "m"]
    core.complete(of_m[:1], ["kept"])
    core.fail(of_m[1:2], ["no"])  # fails the run; m[2] was running and n had not begun to complete
    assert retry(core, run_id) == "retried"
    assert (core.run(run_id)["status"], core.run(run_id)["failed_at"]) == ("started", None)
    assert core.statuses(run_id) == {"m": "started", "n": "started", "end": "created"}
    assert (core.state(run_id, "m")["remaining_tasks"], core.state(run_id, "m")["error_message"]) == (2, None)
    again = core.claim("f")
    assert [(task.step_slug, task.task_index, task.attempt) for task in again] == [
        *(("m", 1, 1), ("m", 2, 1)),
        *(("n", 0, 1), ("n", 1, 1), ("n", 2, 1)),
    ]
    core.complete(again, ["again"] * 5)
    (end,) = core.claim("f")
    assert end.input["m"] == ["kept", "again", "again"]
    core.complete([end], ["done"])
    assert core.run(run_id)["output"] == {"end": "done"}
    assert core.queue("f") == []
    assert interventions(core) == [("retried", "anna", "mended")]
    # What failed before stays in the history.
    assert core.value("SELECT count(*) FROM pgflow.task_attempts WHERE outcome = 'failed'") == 1


def test_a_cancelled_run_can_be_retried_and_a_retried_one_fail_again(core: Core) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    cancel(core, run_id)
    assert retry(core, run_id) == "retried"
    fail_all(core, "f")
    assert core.run(run_id)["status"] == "failed"
    assert retry(core, run_id) == "retried"
    core.complete(core.claim("f"), [1])
    assert core.run(run_id)["output"] == {"a": 1}
    assert [action for action, *_ in interventions(core)] == ["cancelled", "retried", "retried"]


def test_a_type_violation_can_be_retried(core: Core) -> None:
    core.flow("f", "a", "m* <- a")
    run_id = core.start("f", 1)
    core.complete(core.claim("f"), ["no array"])
    assert core.run(run_id)["status"] == "failed"
    assert retry(core, run_id) == "retried"
    core.complete(core.claim("f"), [[1]])
    core.complete(core.claim("f"), [2])
    assert core.run(run_id)["output"] == {"m": [2]}


def test_a_condition_that_failed_the_run_is_looked_at_again(core: Core) -> None:
    core.flow("f", "a")
    core.step("f", "b <- a", required_input_pattern={"a": "yes"}, when_unmet="fail")
    run_id = core.start("f", 1)
    core.complete(core.claim("f"), ["no"])
    assert core.state(run_id, "b")["error_message"] == "Condition not met"
    assert retry(core, run_id) == "failed"  # nothing has changed
    assert core.run(run_id)["status"] == "failed"
    core.rows("""UPDATE pgflow.steps SET required_input_pattern = '{"a": "no"}' WHERE step_slug = 'b'""")
    assert retry(core, run_id) == "retried"
    core.complete(core.claim("f"), ["done"])
    assert core.run(run_id)["output"] == {"b": "done"}


def test_a_task_that_failed_after_its_run_is_done_again_too(core: Core) -> None:
    core.flow("f", "m*")
    run_id = core.start("f", [1, 2])
    first, second = core.claim("f")
    core.fail([first], ["no"])
    core.fail([second], ["late"])
    assert [task["status"] for task in core.tasks(run_id)] == ["failed", "failed"]
    retry(core, run_id)
    core.complete(core.claim("f"), [1, 2])
    assert core.run(run_id)["output"] == {"m": [1, 2]}


def test_a_run_that_goes_on_is_retried_only_where_tasks_have_stalled_for_good(core: Core) -> None:
    core.flow("f", "m*", max_attempts=2)
    run_id = core.start("f", [1, 2])
    assert retry(core, run_id) == "started"
    core.claim("f")
    core.rows(
        "UPDATE pgflow.step_tasks SET requeued_count = 3, started_at = now() - interval '1 day', "
        "queued_at = now() - interval '1 day' WHERE task_index = 1"
    )
    core.rows("SELECT pgflow.requeue_stalled_tasks()")
    assert core.claim("f") == []
    assert retry(core, run_id) == "retried"
    (again,) = core.claim("f")
    assert (again.task_index, again.attempt) == (1, 1)
    (row,) = [task for task in core.tasks(run_id) if task["task_index"] == 1]
    assert (row["requeued_count"], row["permanently_stalled_at"]) == (0, None)


@pytest.mark.parametrize("known", [True, False])
def test_a_run_that_has_completed_or_does_not_exist_is_not_retried(core: Core, known: bool) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    core.complete(core.claim("f"), [1])
    assert retry(core, run_id if known else uuid4()) == ("over" if known else "unknown")
    assert interventions(core) == []


def test_skipped_steps_of_a_retried_run_stay_skipped(core: Core) -> None:
    core.flow("f", "b")
    core.step("f", "a", when_exhausted="skip")
    run_id = core.start("f", 1)
    tasks = {task.step_slug: task for task in core.claim("f")}
    core.fail([tasks["a"]], ["no"])
    core.fail([tasks["b"]], ["no"])
    retry(core, run_id)
    assert core.statuses(run_id) == {"a": "skipped", "b": "started"}
    core.complete(core.claim("f"), [1])
    assert core.run(run_id)["output"] == {"b": 1}


def test_a_completion_that_waits_for_a_cancellation_is_over(core: Core, other: Core) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    tasks = core.claim("f")
    assert while_waiting_for(core, lambda: cancel(core, run_id), lambda: other.complete(tasks, [1])) == (
        *("cancelled", ["over"]),
    )
    assert core.statuses(run_id) == {"a": "failed"}


def test_a_cancellation_that_waits_for_the_last_completion_is_over(core: Core, other: Core) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    tasks = core.claim("f")
    assert while_waiting_for(core, lambda: core.complete(tasks, [1]), lambda: cancel(other, run_id)) == (
        *(["completed"], "over"),
    )
    assert core.run(run_id)["status"] == "completed"


def test_a_failure_that_waits_for_a_retry_is_late(core: Core, other: Core) -> None:
    core.flow("f", "m*")
    run_id = core.start("f", [1, 2])
    first, second = core.claim("f")
    core.fail([first], ["no"])
    assert while_waiting_for(core, lambda: retry(core, run_id), lambda: other.fail([second], ["late"])) == (
        *("retried", ["stale"]),
    )
    assert [task["status"] for task in core.tasks(run_id)] == ["queued", "queued"]


def test_of_two_retries_at_once_one_is_done(core: Core, other: Core) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    fail_all(core, "f")
    assert while_waiting_for(core, lambda: retry(core, run_id), lambda: retry(other, run_id)) == ("retried", "started")
    assert len(core.queue("f")) == 1


def test_a_claim_passes_over_a_run_that_is_being_cancelled(core: Core, other: Core) -> None:
    core.flow("f", "m*")
    run_id = core.start("f", [1, 2])
    with core.connection.transaction():
        cancel(core, run_id)
        assert other.claim("f") == []
    assert other.claim("f") == []
    assert core.queue("f") == []
