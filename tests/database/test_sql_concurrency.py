"""The SQL core under concurrent connections, with real locks."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.support.sql import Core, while_waiting_for
from tests.support.waiting import wait_until


def test_a_verdict_that_waited_is_not_earlier_than_what_it_judges(core: Core, other: Core) -> None:
    """A verdict without an attempt may meet one that began after its own transaction did."""
    core.flow("f", "a", max_attempts=5)
    run_id = core.start("f", 1)
    (task,) = core.claim("f")

    def retry_and_claim() -> None:
        core.fail([task], ["again"])
        core.rows("UPDATE pgflow.step_tasks SET queued_at = now() + interval '1 second'")  # as a clock set back
        core.claim("f")

    while_waiting_for(
        core, retry_and_claim, lambda: other.rows("SELECT FROM pgflow.complete_task(%s, 'a', 0, '1')", run_id)
    )
    assert core.run(run_id)["status"] == "completed"


TOUCH = "UPDATE pgflow.step_states SET error_message = 'an operator was here' WHERE step_slug = 'b'"


def test_a_dependent_that_somebody_changes_meanwhile_is_released_all_the_same(core: Core, other: Core) -> None:
    core.flow("f", "a", "b <- a")
    run_id = core.start("f", 1)
    tasks = core.claim("f")
    while_waiting_for(core, lambda: core.rows(TOUCH), lambda: other.complete(tasks, [1]))
    assert core.statuses(run_id) == {"a": "completed", "b": "started"}


def test_a_ready_step_that_somebody_changes_meanwhile_is_started_all_the_same(core: Core, other: Core) -> None:
    core.flow("f", "a", "b <- a")
    run_id = core.start("f", 1)
    core.rows("UPDATE pgflow.step_states SET remaining_deps = 0 WHERE step_slug = 'b'")
    while_waiting_for(core, lambda: core.rows(TOUCH), lambda: other.rows("SELECT pgflow.start_ready_steps(%s)", run_id))
    assert core.statuses(run_id) == {"a": "started", "b": "started"}


@pytest.mark.parametrize("mode", ["fail", "skip", "skip-cascade"])
def test_a_step_that_somebody_changes_meanwhile_ends_all_the_same(core: Core, other: Core, mode: str) -> None:
    core.flow("f", "a")
    core.step("f", "b <- a", required_input_pattern={"a": 2}, when_unmet=mode)
    run_id = core.start("f", 1)
    tasks = core.claim("f")
    while_waiting_for(core, lambda: core.rows(TOUCH), lambda: other.complete(tasks, [1]))
    assert core.statuses(run_id)["b"] == ("failed" if mode == "fail" else "skipped")
    assert core.run(run_id)["status"] == ("failed" if mode == "fail" else "completed")


def test_a_task_that_somebody_changes_meanwhile_is_claimed_all_the_same(core: Core, other: Core) -> None:
    core.flow("f", "a")
    core.start("f", 1)
    (message,) = core.queue("f")
    start = "SELECT step_slug FROM pgflow.start_tasks('f', %s, NULL)"
    with core.connection.transaction():
        core.rows("UPDATE pgflow.step_tasks SET error_message = 'an operator was here'")
        assert other.rows(start, [message["msg_id"]]) == []  # not waited for
    assert len(other.rows(start, [message["msg_id"]])) == 1


def test_two_starts_with_one_key_at_once_give_one_run(core: Core, other: Core) -> None:
    core.flow("f", "a")
    start = "SELECT run_id, is_new FROM pgflow.start_flows('f', ARRAY['1', '2']::jsonb[], %s) ORDER BY ordinal"
    first, second = while_waiting_for(core, lambda: core.rows(start, ["x", "y"]), lambda: other.rows(start, ["y", "x"]))
    assert [row["run_id"] for row in first] == [row["run_id"] for row in reversed(second)]
    assert [row["is_new"] for row in first + second] == [True, True, False, False]
    assert core.value("SELECT count(*) FROM pgflow.runs") == 2


STARTS = {
    "start_flow": "SELECT run_id FROM pgflow.start_flow('f', '1')",
    "start_flows": "SELECT run_id FROM pgflow.start_flows('f', ARRAY['1'::jsonb], ARRAY['key'])",
}
EDITED = {"steps": [{"slug": "a", "stepType": "single", "dependencies": []}], "options": {}}
DELETIONS = {
    "delete": "SELECT pgflow.delete_flow_and_data('f')",
    "recompile": f"SELECT pgflow.ensure_flow_compiled('f', '{json.dumps(EDITED)}', true)",
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("deletion", DELETIONS)
def test_a_run_that_is_started_while_its_flow_is_deleted_is_deleted_too(
    core: Core, other: Core, start: str, deletion: str
) -> None:
    core.flow("f", "a", "b <- a")
    core.start("f", 1)
    while_waiting_for(core, lambda: core.rows(STARTS[start]), lambda: other.rows(DELETIONS[deletion]))
    for table in ("runs", "step_states", "step_tasks", "run_keys"):
        assert core.rows(f"SELECT FROM pgflow.{table}") == []


@pytest.mark.parametrize("start", STARTS)
def test_a_start_that_waits_for_its_flow_to_be_deleted_finds_none(core: Core, other: Core, start: str) -> None:
    core.flow("f", "a", "b <- a")
    core.start("f", 1)
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="runs_flow_slug_fkey"):
        while_waiting_for(core, lambda: core.rows(DELETIONS["delete"]), lambda: other.rows(STARTS[start]))
    assert core.rows("SELECT FROM pgflow.run_keys") == []


@pytest.mark.parametrize("start", STARTS)
def test_a_start_that_waits_for_its_flow_to_be_recompiled_starts_the_new_one(
    core: Core, other: Core, start: str
) -> None:
    core.flow("f", "a", "b <- a")
    _, (row,) = while_waiting_for(core, lambda: core.rows(DELETIONS["recompile"]), lambda: other.rows(STARTS[start]))
    assert core.statuses(row["run_id"]) == {"a": "started"}


def test_a_deletion_waits_for_whoever_works_on_the_flow(core: Core, other: Core) -> None:
    """The completion adds tasks, which refer to the flow, after the deletion has begun."""
    core.flow("f", "a", "b <- a")
    core.start("f", 1)
    tasks = core.claim("f")
    with ThreadPoolExecutor(1) as thread:
        with core.connection.transaction():
            core.rows("SELECT FROM pgflow.runs FOR UPDATE")
            deletion = thread.submit(other.rows, DELETIONS["delete"])
            wait_until(lambda: core.value("SELECT count(*) FROM pg_locks WHERE NOT granted"), "the deletion waits")
            assert core.complete(tasks, [1]) == ["completed"]
            assert len(core.claim("f")) == 1
        deletion.result(20)
    assert core.rows("SELECT FROM pgflow.flows") == []
    assert core.value("SELECT to_regclass('pgmq.q_f')") is None


def test_the_last_two_tasks_of_a_map_at_once_complete_it_once(core: Core, other: Core) -> None:
    core.flow("f", "m*")
    run_id = core.start("f", [1, 2])
    a, b = core.claim("f")
    verdicts = while_waiting_for(core, lambda: core.complete([a], ["a"]), lambda: other.complete([b], ["b"]))
    assert verdicts == (["completed"], ["completed"])
    assert core.run(run_id)["output"] == {"m": ["a", "b"]}


def test_the_last_two_parents_of_a_step_at_once_start_it_once(core: Core, other: Core) -> None:
    core.flow("f", "a", "b", "c <- a b")
    core.start("f", 1)
    a, b = core.claim("f")
    while_waiting_for(core, lambda: core.complete([a], [1]), lambda: other.complete([b], [2]))
    assert [t.input for t in core.claim("f")] == [{"a": 1, "b": 2}]


@pytest.mark.parametrize("fails_first", [True, False])
def test_of_complete_and_fail_at_once_the_first_counts(core: Core, other: Core, fails_first: bool) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    (task,) = core.claim("f")
    if fails_first:
        verdicts = while_waiting_for(core, lambda: core.fail([task], ["x"]), lambda: other.complete([task], [1]))
        assert verdicts == (["failed"], ["over"])
    else:
        verdicts = while_waiting_for(core, lambda: core.complete([task], [1]), lambda: other.fail([task], ["x"]))
        assert verdicts == (["completed"], ["over"])
    assert core.run(run_id)["status"] == ("failed" if fails_first else "completed")


def test_a_run_that_fails_while_a_completion_waits_stays_as_it_failed(core: Core, other: Core) -> None:
    core.flow("f", "a", "b")
    run_id = core.start("f", 1)
    a, b = core.claim("f")
    verdicts = while_waiting_for(core, lambda: core.fail([a], ["x"]), lambda: other.complete([b], [1]))
    assert verdicts == (["failed"], ["over"])
    assert core.state(run_id, "b")["status"] == "started"


def test_a_claim_does_not_wait_for_a_locked_task(core: Core, other: Core) -> None:
    core.flow("f", "m*")
    core.start("f", [1, 2])
    with core.connection.transaction():
        core.rows("SELECT FROM pgflow.step_tasks WHERE task_index = 0 FOR UPDATE")
        assert [t.task_index for t in other.claim("f")] == [1]


def test_a_claim_takes_tasks_that_were_queued_after_its_transaction_began(core: Core, other: Core) -> None:
    core.flow("f", "a")
    with core.connection.transaction():
        core.rows("SELECT now()")
        other.start("f", 1)
        assert len(core.claim("f")) == 1


def test_a_requeue_while_a_completion_waits_makes_it_stale(core: Core, other: Core) -> None:
    core.flow("f", "a", max_attempts=3)
    run_id = core.start("f", 1)
    (task,) = core.claim("f")
    core.rows("UPDATE pgflow.step_tasks SET started_at = now() - interval '2 h', queued_at = now() - interval '2 h'")
    verdicts = while_waiting_for(
        core,
        lambda: core.value("SELECT pgflow.requeue_stalled_tasks()"),
        lambda: other.complete([task], ["late"]),
    )
    assert verdicts == (1, ["stale"])
    (again,) = core.claim("f")
    assert (again.attempt, core.complete([again], ["good"])) == (2, ["completed"])
    assert core.run(run_id)["output"] == {"a": "good"}


def test_a_skip_while_a_sibling_completes_counts_the_step_once(core: Core, other: Core) -> None:
    core.flow("f")
    core.step("f", "m*", when_exhausted="skip")
    core.step("f", "n <- m")
    run_id = core.start("f", [1, 2])
    a, b = core.claim("f")
    verdicts = while_waiting_for(core, lambda: core.fail([a], ["x"]), lambda: other.complete([b], [1]))
    assert verdicts == (["failed"], ["over"])
    assert (core.statuses(run_id), core.run(run_id)["remaining_steps"]) == (
        {"m": "skipped", "n": "started"},
        1,
    )


def test_steps_added_at_once_get_an_index_each(core: Core, other: Core) -> None:
    core.flow("f")
    while_waiting_for(core, lambda: core.step("f", "a"), lambda: other.step("f", "b"))
    rows = core.rows("SELECT step_slug, step_index FROM pgflow.steps ORDER BY step_index")
    assert [tuple(row.values()) for row in rows] == [("a", 0), ("b", 1)]


def test_flows_that_differ_in_case_cannot_be_created_at_once(core: Core, other: Core) -> None:
    create = "SELECT pgflow.create_flow(%s)"
    with pytest.raises(psycopg.errors.RaiseException, match="differs only in case"):
        while_waiting_for(core, lambda: core.rows(create, "Same"), lambda: other.rows(create, "same"))
