"""Defining flows: create_flow, add_step, shapes, compilation."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tests.support.sql import Core

NOT_DEFINED = {"defined": False}


@pytest.mark.parametrize(
    ("slug", "valid"),
    [
        ("a", True), ("_a1", True), ("A_b", True), ("x" * 128, True),
        (None, False), ("", False), ("x" * 129, False), ("1a", False), ("a-b", False), ("a\n", False),
        ("run", False), ("Run", True), ("ü", False),
    ],
)  # fmt: skip
def test_slugs(core: Core, slug: str | None, valid: bool) -> None:
    assert core.value("SELECT pgflow.is_valid_slug(%s)", slug) is valid


def test_create_flow_fills_in_its_defaults_and_makes_the_queue(core: Core) -> None:
    flow = core.row("SELECT * FROM pgflow.create_flow('f')")
    assert (flow["opt_max_attempts"], flow["opt_base_delay"], flow["opt_timeout"]) == (3, 5, 60)
    assert core.queue("f") == []


def test_create_flow_leaves_an_existing_flow_as_it_is(core: Core) -> None:
    core.rows("SELECT pgflow.create_flow('f', 7, 8, 9)")
    flow = core.row("SELECT * FROM pgflow.create_flow('f', 1, 1, 1)")
    assert (flow["opt_max_attempts"], flow["opt_base_delay"], flow["opt_timeout"]) == (7, 8, 9)


def test_create_flow_refuses_a_slug_that_would_share_a_queue(core: Core) -> None:
    core.rows("SELECT pgflow.create_flow('Same')")
    with pytest.raises(psycopg.errors.RaiseException, match="differs only in case"):
        core.rows("SELECT pgflow.create_flow('same')")


def test_create_flow_refuses_a_slug_too_long_for_a_queue(core: Core) -> None:
    core.rows("SELECT pgflow.create_flow(%s)", "x" * 47)
    with pytest.raises(psycopg.errors.RaiseException) as caught:
        core.rows("SELECT pgflow.create_flow(%s)", "x" * 48)
    assert caught.value.diag.message_primary == "queue name is too long, maximum length is 48 characters"
    assert caught.value.diag.message_hint == "Give the flow a slug of at most 47 characters."
    assert core.value("SELECT count(*) FROM pgflow.flows") == 1


def test_create_flow_restores_a_lost_queue(core: Core) -> None:
    core.rows("SELECT pgflow.create_flow('f'), pgmq.drop_queue('f'), pgflow.create_flow('f')")
    assert core.queue("f") == []


def test_create_flow_refuses_a_bad_slug(core: Core) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="slug_is_valid"):
        core.rows("SELECT pgflow.create_flow('1')")


def test_add_step_counts_distinct_dependencies(core: Core) -> None:
    core.flow("f", "a", "b", "c <- a a b")
    step = core.row("SELECT * FROM pgflow.steps WHERE step_slug = 'c'")
    assert (step["step_index"], step["deps_count"]) == (2, 2)
    assert core.value("SELECT count(*) FROM pgflow.deps") == 2


def test_add_step_leaves_an_existing_step_and_its_dependencies_as_they_are(core: Core) -> None:
    core.flow("f", "a", "b", "c <- a", "c <- a b")
    assert core.row("SELECT deps_count FROM pgflow.steps WHERE step_slug = 'c'") == {"deps_count": 1}
    assert core.rows("SELECT dep_slug FROM pgflow.deps") == [{"dep_slug": "a"}]


@pytest.mark.parametrize(
    ("step", "error", "words"),
    [
        ("m* <- a b", psycopg.errors.RaiseException,
         'Map step "m" can have at most one dependency, but 2 were provided: a, b'),
        ("c <- c", psycopg.errors.CheckViolation, "deps_check"),
        ("c <- nobody", psycopg.errors.ForeignKeyViolation, "deps_flow_slug_dep_slug_fkey"),
        ("run", psycopg.errors.CheckViolation, "steps_step_slug_check"),
    ],
)  # fmt: skip
def test_add_step_refuses(core: Core, step: str, error: type[Exception], words: str) -> None:
    core.flow("f", "a", "b")
    with pytest.raises(error, match=words):
        core.flow("f", step)
    assert core.value("SELECT count(*) FROM pgflow.steps") == 2


def shape(*steps: dict[str, Any], **options: int) -> dict[str, Any]:
    defaults = {
        "stepType": "single", "dependencies": [], "whenUnmet": "skip", "whenExhausted": "fail",
        "requiredInputPattern": NOT_DEFINED, "forbiddenInputPattern": NOT_DEFINED, "options": {},
    }  # fmt: skip
    return {"steps": [defaults | step for step in steps], "options": options}


def compile_shape(core: Core, wanted: dict[str, Any], allow_data_loss: bool | None = False) -> dict[str, Any]:
    result: dict[str, Any] = core.value(
        "SELECT pgflow.ensure_flow_compiled('f', %s::jsonb, %s)", json.dumps(wanted), allow_data_loss
    )
    return result


TWO_STEPS = shape(
    {"slug": "a", "options": {"timeout": 7, "startDelay": 2}},
    {"slug": "m", "stepType": "map", "dependencies": ["a"], "whenExhausted": "skip",
     "requiredInputPattern": {"defined": True, "value": {"x": 1}}},
    maxAttempts=4,
)  # fmt: skip


def test_a_flow_is_compiled_from_its_shape_and_verified_from_then_on(core: Core) -> None:
    assert compile_shape(core, TWO_STEPS) == {"status": "compiled", "differences": []}
    assert compile_shape(core, TWO_STEPS) == {"status": "verified", "differences": []}
    assert core.value("SELECT opt_max_attempts FROM pgflow.flows") == 4
    a, m = core.rows("SELECT * FROM pgflow.steps ORDER BY step_index")
    assert (a["opt_timeout"], a["opt_start_delay"], a["opt_max_attempts"]) == (7, 2, None)
    assert (m["step_type"], m["required_input_pattern"], m["when_exhausted"]) == ("map", {"x": 1}, "skip")


def test_an_edited_flow_is_a_mismatch_that_changes_nothing_unless_data_loss_is_allowed(core: Core) -> None:
    compile_shape(core, TWO_STEPS)
    core.start("f", {})
    edited = shape({"slug": "b"}, {"slug": "m", "dependencies": ["b"]}, {"slug": "c"})
    result = compile_shape(core, edited)
    assert result == {
        "status": "mismatch",
        "differences": [
            "Step count differs: 3 vs 2",
            "Step at index 0: slug differs 'b' vs 'a'",
            "Step at index 1: type differs 'single' vs 'map'",
            "Step at index 1: dependencies differ [b] vs [a]",
            "Step at index 1: whenExhausted differs 'fail' vs 'skip'",
            "Step at index 1: requiredInputPattern differs '{\"defined\": false}' vs "
            '\'{"value": {"x": 1}, "defined": true}\'',
            "Step at index 2: missing in second shape (first has 'c')",
        ],
    }
    assert core.value("SELECT count(*) FROM pgflow.runs") == 1
    assert compile_shape(core, edited, allow_data_loss=True)["status"] == "recompiled"
    assert core.value("SELECT count(*) FROM pgflow.runs") == 0
    assert compile_shape(core, edited)["status"] == "verified"


def test_data_loss_that_is_not_known_to_be_allowed_is_not(core: Core) -> None:
    compile_shape(core, TWO_STEPS)
    assert compile_shape(core, shape({"slug": "z"}), allow_data_loss=None)["status"] == "mismatch"
    assert core.value("SELECT count(*) FROM pgflow.steps") == 2


def test_options_are_no_difference(core: Core) -> None:
    compile_shape(core, TWO_STEPS)
    assert compile_shape(core, TWO_STEPS | {"options": {"timeout": 1}})["status"] == "verified"


def test_on_a_developers_supabase_an_edited_flow_is_recompiled(core: Core) -> None:
    compile_shape(core, TWO_STEPS)
    core.rows(
        "SELECT set_config('app.settings.jwt_secret', 'super-secret-jwt-token-with-at-least-32-characters-long', false)"
    )
    assert compile_shape(core, shape({"slug": "z"}))["status"] == "recompiled"


def test_the_shape_of_an_unknown_flow_is_empty(core: Core) -> None:
    assert core.value("SELECT pgflow._get_flow_shape('nobody')") == {"steps": []}


def test_deleting_a_flow_deletes_everything_of_it_and_nothing_else(core: Core) -> None:
    core.flow("f", "a")
    core.flow("g", "a")
    core.start("f", 1)
    kept = core.start("g", 1)
    core.rows("SELECT pgflow.delete_flow_and_data('f')")
    assert core.rows("SELECT flow_slug FROM pgflow.flows") == [{"flow_slug": "g"}]
    assert core.rows("SELECT run_id FROM pgflow.step_tasks") == [{"run_id": kept}]
    assert core.value("SELECT to_regclass('pgmq.q_f')") is None
