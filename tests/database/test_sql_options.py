"""Options of a flow that were edited in the code come to the database."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from pgflow import Flow
from pgflow.database import Database
from pgflow.database.flows import compile_flow
from tests.support.sql import Core


def flow(options: dict[str, Any], step: dict[str, Any]) -> str:
    declared = Flow("f", **options)
    declared.map(slug="m", **step)(len)
    return json.dumps(declared.shape())


def options_of(core: Core) -> tuple[Any, ...]:
    return tuple(
        core.row(
            "SELECT f.opt_max_attempts, f.opt_base_delay, f.opt_timeout, s.opt_max_attempts AS a, s.opt_base_delay AS b, "
            "s.opt_timeout AS c, s.opt_start_delay AS d, EXISTS (SELECT FROM pgflow.recording_steps) AS e "
            "FROM pgflow.flows AS f JOIN pgflow.steps AS s USING (flow_slug)"
        ).values()
    )


def test_edited_options_are_brought_up_to_the_code_and_told(core: Core) -> None:
    with Database(core.url) as database:
        compile_flow(database, "f", flow({"timeout": 30}, {}))
        assert options_of(core) == (3, 5, 30, None, None, None, None, False)
        edited = flow({"timeout": 300, "max_attempts": 1}, {"timeout": 7, "start_delay": 2, "when_exhausted": "record"})
        compilation = compile_flow(database, "f", edited)
        assert compilation.status == "verified"
        assert compilation.changes == (
            "max_attempts: 3 -> 1",
            "timeout: 30 -> 300",
            "step m: timeout: the flow's -> 7",
            "step m: start_delay: none -> 2",
            "step m: when_exhausted: fail -> record",
        )
        assert options_of(core) == (1, 5, 300, None, None, 7, 2, True)
        assert compile_flow(database, "f", edited).changes == ()
        assert compile_flow(database, "f", flow({}, {})).changes == (
            "max_attempts: 1 -> 3",
            "timeout: 300 -> 60",
            "step m: timeout: 7 -> the flow's",
            "step m: start_delay: 2 -> none",
            "step m: when_exhausted: record -> fail",
        )
        assert options_of(core) == (3, 5, 60, None, None, None, None, False)


def test_a_flow_is_compiled_with_the_steps_that_record_failures(core: Core) -> None:
    with Database(core.url) as database:
        compile_flow(database, "f", flow({}, {"when_exhausted": "record"}))
    assert options_of(core)[-1] is True
    assert core.value("SELECT when_exhausted FROM pgflow.steps") == "fail"  # an allowed value of the contract's


def test_the_printed_sql_records_failures_too(core: Core) -> None:
    declared = Flow("f")
    declared.map(slug="m", when_exhausted="record")(len)
    core.rows(declared.sql())
    assert options_of(core)[-1] is True


def test_the_contracts_compilation_leaves_options_alone(core: Core) -> None:
    for options in ({"timeout": 30}, {"timeout": 300}):
        core.rows("SELECT pgflow.ensure_flow_compiled('f', %s::jsonb)", flow(options, {}))
    assert options_of(core)[2] == 30


@pytest.mark.parametrize("shape", ["null", "{}", "[]", '{"steps": null}'])
def test_a_shape_without_steps_is_refused(core: Core, shape: str) -> None:
    core.rows("SELECT pgflow.ensure_flow_compiled('f', %s::jsonb)", flow({"timeout": 30}, {}))
    with pytest.raises(psycopg.errors.RaiseException, match="the shape of flow f has no array of steps"):
        core.rows("SELECT pgflow.update_flow_options('f', %s::jsonb)", shape)
    with pytest.raises(psycopg.errors.RaiseException, match="there is no flow g"):
        core.rows("SELECT pgflow.update_flow_options('g', %s::jsonb)", flow({}, {}))
    assert options_of(core)[2] == 30


def test_bad_options_are_refused_with_the_constraints_name(core: Core) -> None:
    shape = json.loads(flow({}, {}))
    core.rows("SELECT pgflow.ensure_flow_compiled('f', %s::jsonb)", json.dumps(shape))
    shape["options"] = {"timeout": 0}
    with pytest.raises(psycopg.errors.CheckViolation, match="opt_timeout_is_positive"):
        core.rows("SELECT pgflow.update_flow_options('f', %s::jsonb)", json.dumps(shape))
