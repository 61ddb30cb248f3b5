"""Skipped steps: tasks without attempts left, and _cascade_force_skip_steps."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.sql import Core


def statuses_of_tasks(core: Core, run_id: object) -> list[str]:
    rows = core.rows("SELECT status FROM pgflow.step_tasks WHERE run_id = %s ORDER BY step_slug, task_index", run_id)
    return [row["status"] for row in rows]


def test_an_exhausted_task_may_skip_its_step(core: Core) -> None:
    core.flow("f", "list")
    core.step("f", "m* <- list", when_exhausted="skip")
    core.step("f", "after <- m")
    core.step("f", "n* <- m")
    run_id = core.start("f", 1)
    core.complete(core.claim("f"), [[1, 2, 3]])
    (first,) = core.claim("f", 1)
    assert core.fail([first], ["bad element"]) == ["failed"]
    state = core.state(run_id, "m")
    assert (state["status"], state["skip_reason"], state["error_message"]) == (
        "skipped",
        "handler_failed",
        "bad element",
    )
    assert (state["remaining_tasks"], state["failed_at"], state["skipped_at"] is not None) == (
        None,
        None,
        True,
    )
    assert core.state(run_id, "n")["output"] == []
    # D6: the siblings end with the step. Their messages are archived.
    assert statuses_of_tasks(core, run_id) == ["queued", "completed", "failed", "skipped", "skipped"]
    (after,) = core.claim("f")
    assert (after.step_slug, after.input) == ("after", {})
    core.complete([after], ["end"])
    run = core.run(run_id)
    assert (run["status"], run["output"]) == ("completed", {"after": "end", "n": []})
    assert (core.queue("f"), core.archived("f")) == ([], 5)


def test_an_exhausted_task_may_skip_everything_behind_its_step(core: Core) -> None:
    core.flow("f", "aside")
    core.step("f", "a", when_exhausted="skip-cascade")
    core.step("f", "b <- a")
    core.step("f", "c <- b")
    run_id = core.start("f", 1)
    a, aside = core.claim("f")
    core.fail([a], ["no"])
    assert {slug: core.state(run_id, slug)["skip_reason"] for slug in "abc"} == {
        "a": "handler_failed",
        "b": "dependency_skipped",
        "c": "dependency_skipped",
    }
    core.complete([aside], [1])
    assert (core.run(run_id)["status"], core.run(run_id)["output"]) == ("completed", {"aside": 1})


@pytest.mark.parametrize("mode", ["skip", "skip-cascade"])
def test_a_run_whose_last_step_is_skipped_completes(core: Core, mode: str) -> None:
    core.flow("f")
    core.step("f", "a", when_exhausted=mode)
    run_id = core.start("f", 1)
    core.fail(core.claim("f"), ["no"])
    run = core.run(run_id)
    assert (run["status"], run["output"], run["remaining_steps"]) == ("completed", None, 0)


def test_a_skipped_step_is_counted_once_however_many_of_its_tasks_fail(core: Core) -> None:
    core.flow("f", "b")
    core.step("f", "m*", when_exhausted="skip")
    run_id = core.start("f", [1, 2, 3])
    tasks = core.claim("f")
    assert core.fail([t for t in tasks if t.step_slug == "m" and t.task_index < 2], ["x", "y"]) == ["failed"] * 2
    assert (core.run(run_id)["remaining_steps"], core.state(run_id, "m")["error_message"]) == (1, "x")
    assert core.fail([t for t in tasks if t.step_slug == "m" and t.task_index == 2], ["z"]) == ["over"]
    assert core.complete([t for t in tasks if t.step_slug == "m" and t.task_index == 2], [1]) == ["over"]
    assert core.run(run_id)["remaining_steps"] == 1


def test_a_condition_behind_a_skipped_step_may_fail_the_run(core: Core) -> None:
    core.flow("f")
    core.step("f", "a", when_exhausted="skip")
    core.step("f", "b <- a", required_input_pattern={"a": {}}, when_unmet="fail")
    run_id = core.start("f", 1)
    core.claim("f")
    task = core.row("SELECT * FROM pgflow.fail_task(%s, 'a', 0, 'no')", run_id)
    assert (task["status"], task["error_message"]) == ("failed", "no")
    assert core.statuses(run_id) == {"a": "skipped", "b": "failed"}
    assert (core.run(run_id)["status"], core.queue("f")) == ("failed", [])


def test_one_batch_may_fail_some_runs_and_skip_steps_of_others(core: Core) -> None:
    core.flow("fails", "a")
    core.flow("skips")
    core.step("skips", "a", when_exhausted="skip")
    core.step("skips", "b <- a")
    failing, skipping = core.start("fails", 1), core.start("skips", 1)
    tasks = core.claim("fails") + core.claim("skips")
    assert core.fail(tasks, ["x", "y"]) == ["failed", "failed"]
    assert (core.run(failing)["status"], core.run(skipping)["status"]) == ("failed", "started")
    assert core.statuses(skipping) == {"a": "skipped", "b": "started"}


def test_the_first_failure_of_a_batch_decides_why_the_run_failed(core: Core) -> None:
    core.flow("f", "a", "b")
    core.step("f", "c", when_exhausted="skip")
    run_id = core.start("f", 1)
    a, b, c = core.claim("f")
    assert core.fail([c, b, a], ["C", "B", "A"]) == ["failed"] * 3
    assert core.statuses(run_id) == {"a": "started", "b": "failed", "c": "started"}
    assert core.state(run_id, "b")["error_message"] == "B"
    assert statuses_of_tasks(core, run_id) == ["failed"] * 3


def test_a_map_after_a_skipped_step_has_no_tasks_whatever_was_said_before(core: Core) -> None:
    core.flow("f")
    core.step("f", "a", when_exhausted="skip")
    core.step("f", "m* <- a")
    run_id = core.start("f", 1)
    core.rows("UPDATE pgflow.step_states SET initial_tasks = 2 WHERE step_slug = 'm'")
    core.fail(core.claim("f"), ["no"])
    assert (core.statuses(run_id)["m"], core.run(run_id)["status"]) == ("completed", "completed")


FORCE = "SELECT pgflow._cascade_force_skip_steps(%s, %s, %s)"


def test_a_late_result_moves_nothing(core: Core) -> None:
    core.flow("f", "a", "b <- a")
    run_id = core.start("f", 1)
    tasks = core.claim("f")
    assert core.value(FORCE, run_id, "a", "by hand") == 2
    assert core.complete(tasks, [1]) == ["over"]
    core.rows("SELECT * FROM pgflow.complete_task(%s, 'a', 0, '1')", run_id)
    assert (core.run(run_id)["status"], core.run(run_id)["remaining_steps"], core.queue("f")) == ("started", 0, [])


def test_forced_skips_concern_what_has_not_ended(core: Core) -> None:
    core.flow("f", "a", "m* <- a", "b <- m", "done <- a", "c <- b done")
    run_id = core.start("f", 1)
    core.complete(core.claim("f"), [[1, 2]])
    core.complete([task for task in core.claim("f") if task.step_slug == "done"], [1])
    assert core.value(FORCE, run_id, "m", "by hand") == 3
    assert core.statuses(run_id) == {
        "a": "completed", "m": "skipped", "b": "skipped", "done": "completed", "c": "skipped",
    }  # fmt: skip
    assert (core.state(run_id, "m")["skip_reason"], core.state(run_id, "c")["skip_reason"]) == (
        "by hand",
        "dependency_skipped",
    )
    # It neither completes the run nor touches its dependents' counters; again, it does nothing.
    run = core.run(run_id)
    assert (run["status"], run["remaining_steps"], core.state(run_id, "c")["remaining_deps"]) == (
        "started",
        0,
        1,
    )
    assert (core.queue("f"), core.value(FORCE, run_id, "m", "by hand")) == ([], 0)


def test_a_forced_skip_of_a_step_that_has_ended_skips_its_dependents_only(core: Core) -> None:
    core.flow("f", "a", "b <- a")
    run_id = core.start("f", 1)
    core.complete(core.claim("f"), [1])
    assert core.value(FORCE, run_id, "a", "why") == 1
    assert core.statuses(run_id) == {"a": "completed", "b": "skipped"}


def test_a_forced_skip_of_an_unknown_run_is_refused(core: Core) -> None:
    nobody = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(psycopg.errors.RaiseException, match=f"Run not found: {nobody}"):
        core.rows(FORCE, nobody, "a", "why")
