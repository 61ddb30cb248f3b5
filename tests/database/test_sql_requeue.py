"""Tasks of workers that are gone go back to their queues, but not for ever."""

from __future__ import annotations

import re
from uuid import UUID

import pytest

from tests.support.sql import Core, Row, while_waiting_for

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"


def died(core: Core, times: int, flow: str = "f") -> list[str]:
    """Claim and requeue a task so often; the verdicts."""
    return [core.requeue(core.claim(flow, 1), f"death {number}")[0] for number in range(1, times + 1)]


def history(core: Core) -> list[Row]:
    return core.rows("SELECT * FROM pgflow.task_attempts ORDER BY attempt_id")


def test_a_task_goes_back_as_if_it_had_not_been_claimed(core: Core) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    assert died(core, 1) == ["requeued"]
    (row,) = core.tasks(run_id)
    assert (row["status"], row["attempts_count"], row["requeued_count"]) == ("queued", 0, 1)
    assert (row["started_at"], row["last_worker_id"], row["error_message"]) == (None, None, None)
    assert row["last_requeued_at"] is not None
    (message,) = core.queue("f")
    assert message["visible_in"] <= 0
    (attempt,) = history(core)
    assert (attempt["outcome"], attempt["attempt"], attempt["worker_id"]) == ("requeued", 1, core.worker_id)
    assert attempt["error_message"] == "death 1"
    (again,) = core.claim("f")
    assert (again.attempt, core.complete([again], [1])) == (1, ["completed"])
    assert core.run(run_id)["status"] == "completed"


def test_a_batch_has_a_verdict_each(core: Core) -> None:
    core.flow("f", "m*")
    core.start("f", [1, 2, 3])
    first, second, third = core.claim("f")
    core.release([second])
    assert core.requeue([third, second, first, first]) == ["requeued", "stale", "requeued", "stale"]


def test_attempts_that_were_spent_before_stay_so(core: Core) -> None:
    core.flow("f", "a", max_attempts=2)
    run_id = core.start("f", 1)
    core.fail(core.claim("f"), ["no"])
    died(core, 1)
    (row,) = core.tasks(run_id)
    assert (row["attempts_count"], row["error_message"]) == (1, "no")
    core.claim("f")
    core.rows("UPDATE pgflow.step_tasks SET attempts_count = 0")  # by hand
    core.rows("SELECT pgflow.requeue_tasks(ARRAY[%s]::uuid[], ARRAY['a'], ARRAY[0], ARRAY['x'], ARRAY[0])", run_id)
    assert core.tasks(run_id)[0]["attempts_count"] == 0


def test_waiting_workers_are_woken(core: Core) -> None:
    core.flow("f", "a")
    core.start("f", 1)
    tasks = core.claim("f")
    core.rows("LISTEN pgflow_tasks")
    core.value("SELECT is_waiting FROM pgflow.await_tasks(ARRAY['f'], ARRAY[%s]::uuid[])", core.worker_id)
    core.requeue(tasks)
    (told,) = core.connection.notifies(timeout=5, stop_after=1)
    assert told.payload == "f"
    core.rows("UNLISTEN *")


def test_the_fourth_time_the_task_fails_and_tells_its_story(core: Core) -> None:
    core.flow("f", "a", max_attempts=9)
    run_id = core.start("f", 1)
    assert died(core, 4) == ["requeued", "requeued", "requeued", "failed"]
    (row,) = core.tasks(run_id)
    first, *lines = row["error_message"].splitlines()
    assert first == "Task was given up: it was handed back 3 times and its worker died again"
    for number, line in enumerate(lines, 1):
        assert re.fullmatch(rf"{TIME}, worker test \({core.worker_id}\): death {number}", line)
    assert len(lines) == 4
    assert (row["status"], row["requeued_count"], row["attempts_count"]) == ("failed", 3, 1)
    assert core.run(run_id)["status"] == "failed"
    assert core.state(run_id, "a")["error_message"] == row["error_message"]
    assert [attempt["outcome"] for attempt in history(core)] == ["requeued"] * 3 + ["crashed"]
    assert history(core)[-1]["error_message"] == row["error_message"]
    assert core.queue("f") == []


def test_the_story_is_bounded_and_knows_what_is_left(core: Core) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    for _ in range(3):
        core.requeue(core.claim("f"), "x" * 10_000 + "\nmore")
    core.rows("UPDATE pgflow.task_attempts SET worker_id = gen_random_uuid()")
    core.rows(
        "UPDATE pgflow.task_attempts SET error_message = NULL, worker_id = NULL "
        "WHERE attempt_id = (SELECT min(attempt_id) FROM pgflow.task_attempts)"
    )
    tasks = core.claim("f")
    core.rows("UPDATE pgflow.workers SET function_name = repeat('n', 10000)")
    assert core.requeue(tasks, "y" * 10_000) == ["failed"]
    (row,) = core.tasks(run_id)
    assert len(row["error_message"]) < 2_500
    assert "a worker of which nothing is known: it was silent for longer than the task may take" in row["error_message"]
    assert re.search(rf"{TIME}, worker [0-9a-f-]{{36}}: x{{300}}\n", row["error_message"])
    assert "more" not in row["error_message"]


def test_times_before_the_run_was_retried_do_not_count(core: Core) -> None:
    core.flow("f", "a", "b")
    core.start("f", 1)
    a, b = core.claim("f")
    core.requeue([a], "old 1")
    core.requeue(core.claim("f"), "old 2")
    core.fail([b], ["no"])
    assert core.value("SELECT pgflow.retry_run(run_id) FROM pgflow.runs") == "retried"
    a, _b = core.claim("f")
    assert core.requeue([a], "new 1") == ["requeued"]
    assert [core.requeue(core.claim("f"), f"new {number}") for number in (2, 3, 4)] == [
        *(["requeued"], ["requeued"], ["failed"])
    ]
    story = core.value("SELECT error_message FROM pgflow.step_tasks WHERE step_slug = 'a'")
    assert (story.count("new"), story.count("old")) == (4, 0)


def test_it_counts_together_with_those_that_were_requeued_for_their_silence(core: Core) -> None:
    core.flow("f", "a", max_attempts=9)
    run_id = core.start("f", 1)
    died(core, 2)
    core.claim("f")
    core.rows("UPDATE pgflow.step_tasks SET queued_at = now() - interval '1 d', started_at = now() - interval '1 d'")
    assert core.value("SELECT pgflow.requeue_stalled_tasks()") == 1
    assert died(core, 1) == ["failed"]
    assert "it was silent for longer than the task may take" in core.tasks(run_id)[0]["error_message"]


def test_where_the_step_records_failures_the_fourth_time_is_recorded(core: Core) -> None:
    core.flow("f", "m*", "end <- m")
    core.rows("SELECT pgflow.record_failures('f', 'm')")
    run_id = core.start("f", [1, 2])
    good, _bad = core.claim("f")
    core.complete([good], ["good"])
    core.requeue([_bad])
    assert died(core, 3) == ["requeued", "requeued", "recorded"]
    (end,) = core.claim("f")
    envelope = end.input["m"][1]["$error"]
    assert envelope.pop("message").startswith("Task was given up: it was handed back 3 times")
    assert (end.input["m"][0], envelope) == ("good", {"kind": "crashed", "attempts": 1})
    assert [row["outcome"] for row in history(core)][-1] == "crashed"
    assert core.run(run_id)["status"] == "started"


@pytest.mark.parametrize("mode", ["skip", "skip-cascade"])
def test_the_step_ends_as_its_when_exhausted_says(core: Core, mode: str) -> None:
    core.flow("f")
    core.step("f", "a", when_exhausted=mode)
    core.step("f", "b <- a")
    run_id = core.start("f", 1)
    assert died(core, 4)[-1] == "failed"
    assert core.statuses(run_id) == {"a": "skipped", "b": "started" if mode == "skip" else "skipped"}


def test_a_task_that_has_stalled_for_good_is_left(core: Core) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    tasks = core.claim("f")
    core.rows("UPDATE pgflow.step_tasks SET permanently_stalled_at = now()")
    assert core.requeue(tasks) == ["stale"]
    assert core.tasks(run_id)[0]["status"] == "started"


def test_a_task_of_a_run_that_has_failed_ends_with_it(core: Core) -> None:
    core.flow("f", "m*")
    run_id = core.start("f", [1, 2])
    first, second = core.claim("f")
    core.fail([first], ["no"])
    assert core.requeue([second], "its worker died") == ["over"]
    row = core.tasks(run_id)[1]
    assert (row["status"], row["error_message"], row["requeued_count"]) == ("failed", "its worker died", 0)
    assert [(attempt["task_index"], attempt["outcome"]) for attempt in history(core)] == [
        (0, "failed"),
        (1, "cancelled"),
    ]


@pytest.mark.parametrize("requeue_is_first", [True, False])
def test_of_a_requeue_and_a_result_at_once_the_first_counts(core: Core, other: Core, requeue_is_first: bool) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    tasks = core.claim("f")
    if requeue_is_first:
        verdicts = while_waiting_for(core, lambda: core.requeue(tasks), lambda: other.complete(tasks, [1]))
        assert verdicts == (["requeued"], ["stale"])
        assert core.complete(core.claim("f"), [2]) == ["completed"]
        assert core.run(run_id)["output"] == {"a": 2}
    else:
        verdicts = while_waiting_for(core, lambda: core.complete(tasks, [1]), lambda: other.requeue(tasks))
        assert verdicts == (["completed"], ["over"])
        assert core.run(run_id)["output"] == {"a": 1}
        assert core.queue("f") == []


def test_two_requeues_at_once_hand_back_once(core: Core, other: Core) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    tasks = core.claim("f")
    verdicts = while_waiting_for(core, lambda: core.requeue(tasks), lambda: other.requeue(tasks))
    assert verdicts == (["requeued"], ["stale"])
    assert core.tasks(run_id)[0]["requeued_count"] == 1


def held(core: Core, run_id: UUID, index: int) -> tuple[object, ...]:
    row = core.tasks(run_id)[index]
    return ([run_id], ["m"], [index], ["it died"], [row["attempts_count"]], [core.worker_id], [row["message_id"]])


REQUEUE = "SELECT verdict FROM pgflow.requeue_tasks(%s::uuid[], %s, %s, %s, %s, %s::uuid[], %s)"


def test_a_requeue_that_waits_for_retry_run_does_not_take_the_new_attempt_for_the_old(core: Core, other: Core) -> None:
    """Attempt and worker are the same again; the message is not."""
    core.flow("f", "m*")
    run_id = core.start("f", [1, 2])
    first, _second = core.claim("f")
    core.fail([first], ["no"])
    old = held(core, run_id, 1)

    def retry_and_claim() -> int:
        core.rows("SELECT pgflow.retry_run(%s)", run_id)
        return len(core.claim("f"))

    claimed, verdict = while_waiting_for(core, retry_and_claim, lambda: other.value(REQUEUE, *old))
    assert (claimed, verdict) == (2, "stale")
    assert [row["status"] for row in core.tasks(run_id)] == ["started", "started"]


def test_retry_run_that_waits_for_a_requeue_queues_the_task_anew(core: Core, other: Core) -> None:
    core.flow("f", "m*")
    run_id = core.start("f", [1, 2])
    first, second = core.claim("f")
    core.fail([first], ["no"])
    verdicts = while_waiting_for(
        core, lambda: core.requeue([second]), lambda: other.value("SELECT pgflow.retry_run(%s)", run_id)
    )
    assert verdicts == (["over"], "retried")
    assert [(row["status"], row["attempts_count"]) for row in core.tasks(run_id)] == [("queued", 0)] * 2
    assert len(core.queue("f")) == 2
