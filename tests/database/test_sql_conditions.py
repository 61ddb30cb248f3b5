"""Conditions on a step's input, in all modes of when_unmet."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.support.sql import Core


def finish(core: Core, flow_slug: str, output: object = None) -> list[str]:
    """Complete whatever can be claimed, until nothing can; the steps in that order."""
    done = []
    while tasks := core.claim(flow_slug):
        core.complete(tasks, [output] * len(tasks))
        done += [task.step_slug for task in tasks]
    return done


@pytest.mark.parametrize(
    ("patterns", "input", "met"),
    [
        ({"required_input_pattern": {"kind": "a"}}, {"kind": "a", "more": 1}, True),
        ({"required_input_pattern": {"kind": "a"}}, {"kind": "b"}, False),
        ({"required_input_pattern": {}}, {}, True),
        ({"required_input_pattern": {}}, [1], False),
        ({"forbidden_input_pattern": {"kind": "a"}}, {"kind": "a"}, False),
        ({"forbidden_input_pattern": {"kind": "a"}}, {"kind": "b"}, True),
        (
            {"required_input_pattern": {"a": {"b": 1}}, "forbidden_input_pattern": {"c": 1}},
            {"a": {"b": 1}},
            True,
        ),
        ({"required_input_pattern": {"a": 1}, "forbidden_input_pattern": {"c": 1}}, {"a": 1, "c": 1}, False),
    ],
)
def test_a_root_steps_condition_is_about_the_runs_input(
    core: Core, patterns: dict[str, Any], input: object, met: bool
) -> None:
    core.flow("f")
    core.step("f", "a", **patterns)
    run_id = core.start("f", input)
    assert core.state(run_id, "a")["status"] == ("started" if met else "skipped")


def test_a_dependent_steps_condition_is_about_its_completed_dependencies(core: Core) -> None:
    core.flow("f", "a")
    core.step("f", "absent", forbidden_input_pattern={})
    core.step("f", "b <- a absent", required_input_pattern={"a": {"ok": True}})
    core.step("f", "c <- a absent", required_input_pattern={"absent": {}})
    run_id = core.start("f", {})
    assert finish(core, "f", {"ok": True}) == ["a", "b"]
    assert core.statuses(run_id) == {"a": "completed", "absent": "skipped", "b": "completed", "c": "skipped"}


def test_a_map_is_judged_by_the_whole_input(core: Core) -> None:
    core.flow("f", "list")
    core.step("f", "m* <- list", required_input_pattern={"list": [7]})
    met, unmet = core.start("f", 1), core.start("f", 2)
    tasks = core.claim("f")
    core.complete(tasks, [[7, 8] if task.run_id == met else [8] for task in tasks])
    assert (core.state(met, "m")["status"], core.state(unmet, "m")["status"]) == ("started", "skipped")


def test_an_unmet_condition_that_skips_lets_dependents_go_on_without_the_step(core: Core) -> None:
    core.flow("f", "a")
    core.step("f", "b", required_input_pattern={"never": 1})
    core.step("f", "c <- a b")
    core.step("f", "m* <- b")
    run_id = core.start("f", {})
    state = core.state(run_id, "b")
    assert (state["status"], state["skip_reason"], state["remaining_tasks"]) == (
        "skipped",
        "condition_unmet",
        None,
    )
    assert (state["skipped_at"], state["started_at"]) == (core.run(run_id)["started_at"], None)
    # A map over a skipped step has no elements.
    assert (core.state(run_id, "m")["status"], core.state(run_id, "m")["output"]) == ("completed", [])
    core.complete(core.claim("f"), ["A"])
    (c,) = core.claim("f")
    assert (c.kind, c.input) == ("dependent", {"a": "A"})
    core.complete([c], ["C"])
    assert core.run(run_id)["output"] == {"c": "C", "m": []}


def test_a_dependent_whose_parents_were_all_skipped_gets_an_empty_object(core: Core) -> None:
    core.flow("f")
    core.step("f", "a", forbidden_input_pattern={})
    core.step("f", "b <- a")
    core.start("f", {})
    (b,) = core.claim("f")
    assert (b.kind, b.input) == ("dependent", {})


def test_an_unmet_condition_that_cascades_skips_everything_behind_it(core: Core) -> None:
    core.flow("f", "aside")
    core.step("f", "a", forbidden_input_pattern={}, when_unmet="skip-cascade")
    core.step("f", "b <- a aside")
    core.step("f", "c <- b")
    run_id = core.start("f", {})
    assert {slug: core.state(run_id, slug)["skip_reason"] for slug in "abc"} == {
        "a": "condition_unmet",
        "b": "dependency_skipped",
        "c": "dependency_skipped",
    }
    assert core.run(run_id)["remaining_steps"] == 1
    assert finish(core, "f") == ["aside"]
    # Nothing that completed is a leaf: b depends on it.
    assert (core.run(run_id)["status"], core.run(run_id)["output"]) == ("completed", None)


def test_an_unmet_condition_that_fails_fails_the_run_with_its_first_such_step(core: Core) -> None:
    core.flow("f", "a")
    core.step("f", "skipped <- a", required_input_pattern={"never": 1})
    core.step("f", "second <- a", required_input_pattern={"never": 1}, when_unmet="fail")
    core.step("f", "third <- a", required_input_pattern={"never": 1}, when_unmet="fail")
    core.step("f", "busy")
    run_id = core.start("f", {})
    tasks = core.claim("f")
    assert core.complete([task for task in tasks if task.step_slug == "a"], [1]) == ["completed"]
    assert core.statuses(run_id) == {
        "a": "completed", "skipped": "created", "second": "failed", "third": "created", "busy": "started",
    }  # fmt: skip
    assert core.state(run_id, "second")["error_message"] == "Condition not met"
    assert (core.run(run_id)["status"], core.queue("f")) == ("failed", [])


def test_a_run_may_fail_before_anything_starts(core: Core) -> None:
    core.flow("f", "a")
    core.step("f", "b", forbidden_input_pattern={}, when_unmet="fail")
    run = core.row("SELECT * FROM pgflow.start_flow('f', '{}')")
    assert (run["status"], run["failed_at"] is not None, core.queue("f")) == ("failed", True, [])
    assert core.statuses(run["run_id"]) == {"a": "created", "b": "failed"}


def test_a_run_whose_steps_are_all_skipped_completes_without_an_output(core: Core) -> None:
    core.flow("f")
    core.step("f", "a", forbidden_input_pattern={})
    run = core.row("SELECT * FROM pgflow.start_flow('f', '{}')")
    assert (run["status"], run["output"], run["remaining_steps"]) == ("completed", None, 0)


@pytest.mark.parametrize("when_unmet", ["skip", "skip-cascade", "fail"])
def test_a_condition_behind_an_empty_map_is_not_passed_over(core: Core, when_unmet: str) -> None:
    """D3: neither for a step with tasks nor for a map that would complete in the same wave."""
    core.flow("f", "m*")
    core.step("f", "n* <- m", required_input_pattern={"m": [1]}, when_unmet=when_unmet)
    core.step("f", "o <- m", required_input_pattern={"m": [1]})
    run_id = core.start("f", [])
    statuses = {"n": "failed" if when_unmet == "fail" else "skipped", "o": "skipped"}
    if when_unmet == "fail":
        statuses["o"] = "created"
    assert core.statuses(run_id) == {"m": "completed"} | statuses
    assert core.queue("f") == []


def test_empty_maps_and_skips_alternate(core: Core) -> None:
    core.flow("f", "m0*")
    for i in range(1, 20):
        core.step("f", f"m{i}* <- m{i - 1}", forbidden_input_pattern={} if i % 2 else None)
    run_id = core.start("f", [])
    assert core.statuses(run_id) == {f"m{i}": "skipped" if i % 2 else "completed" for i in range(20)}
    assert core.run(run_id)["status"] == "completed"


def test_one_batch_decides_the_conditions_of_many_runs(core: Core) -> None:
    core.flow("f", "a")
    core.step("f", "b <- a", required_input_pattern={"a": 0}, when_unmet="fail")
    core.step("f", "c <- a", required_input_pattern={"a": 1})
    runs = [core.start("f", n) for n in range(6)]
    tasks = core.claim("f")
    core.complete(tasks, [task.input % 3 for task in tasks])
    by_remainder = [{core.run(run_id)["status"] for run_id in runs[n::3]} for n in range(3)]
    assert by_remainder == [{"started"}, {"failed"}, {"failed"}]
    assert {core.state(run_id, "c")["status"] for run_id in runs[0::3]} == {"skipped"}


def test_cascade_resolve_conditions_says_whether_the_run_goes_on(core: Core) -> None:
    core.flow("f", "a")
    run_id = core.start("f", {})
    resolve = "SELECT pgflow.cascade_resolve_conditions(%s)"
    assert core.value(resolve, run_id) is True
    assert core.value(resolve, "00000000-0000-0000-0000-000000000000") is True
    core.rows("UPDATE pgflow.runs SET status = 'failed', failed_at = now()")
    assert core.value(resolve, run_id) is False
    core.rows("UPDATE pgflow.runs SET status = 'completed', failed_at = NULL, completed_at = now()")
    assert core.value(resolve, run_id) is True


def test_cascade_resolve_conditions_has_a_limit(core: Core) -> None:
    core.flow("f", "s0")
    for i in range(1, 53):
        core.step("f", f"s{i} <- s{i - 1}", forbidden_input_pattern={})
    core.start("f", {})
    tasks = core.claim("f")
    with pytest.raises(
        psycopg.errors.RaiseException,
        match="cascade_resolve_conditions exceeded safety limit of 50 iterations",
    ):
        core.complete(tasks, [1])
