"""Defining flows on a core that has the contract's functions alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pgflow import Flow
from pgflow.database import Database
from pgflow.database.flows import compile_flow
from pgflow.database.health import examine
from tests.support import contract_core
from tests.support.sql import Core


@pytest.fixture
def core(empty_database_url: str) -> Iterator[Core]:
    contract_core.install(empty_database_url)
    core = Core(empty_database_url)
    with core.connection:
        yield core


@pytest.fixture
def reader(core: Core) -> Iterator[Database]:
    """The database as a role sees it that may read, and call functions."""
    core.rows("DROP ROLE IF EXISTS some_reader")
    core.rows("CREATE ROLE some_reader LOGIN")
    core.rows("GRANT USAGE ON SCHEMA pgflow, hidden TO some_reader")
    core.rows("GRANT SELECT ON ALL TABLES IN SCHEMA pgflow TO some_reader")
    core.rows("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pgflow, hidden TO some_reader")
    with Database(core.url.replace("postgres@", "some_reader@")) as database:
        yield database
    core.rows("DROP OWNED BY some_reader")
    core.rows("DROP ROLE some_reader")


def shape(options: dict[str, Any] | None = None, step: dict[str, Any] | None = None) -> str:
    flow = Flow("f", **(options or {}))
    flow.map(slug="m", **(step or {}))(len)
    return json.dumps(flow.shape())


def options_of(core: Core) -> tuple[Any, ...]:
    return tuple(
        core.row(
            "SELECT f.opt_max_attempts, f.opt_base_delay, f.opt_timeout, s.opt_max_attempts AS a, s.opt_base_delay AS b, "
            "s.opt_timeout AS c, s.opt_start_delay AS d FROM pgflow.flows AS f JOIN pgflow.steps AS s USING (flow_slug)"
        ).values()
    )


def test_the_core_of_these_tests_has_what_the_contract_names_and_no_more(core: Core) -> None:
    names = {
        row["name"]
        for row in core.rows(
            "SELECT proname AS name FROM pg_proc WHERE pronamespace = 'pgflow'::regnamespace UNION ALL "
            "SELECT relname FROM pg_class WHERE relnamespace = 'pgflow'::regnamespace AND relkind = 'r'"
        )
    }
    assert names <= contract_core.contract_names()
    assert {"flows", "ensure_flow_compiled", "start_tasks", "fail_task"} <= names


def test_edited_options_are_brought_up_to_the_code_and_told(core: Core) -> None:
    edited = shape({"timeout": 300, "max_attempts": 1}, {"timeout": 7, "start_delay": 2})
    with Database(core.url) as database:
        compile_flow(database, "f", shape({"timeout": 30}))
        assert options_of(core) == (3, 5, 30, None, None, None, None)
        told = (
            "max_attempts: 3 -> 1",
            "timeout: 30 -> 300",
            "step m: timeout: the flow's -> 7",
            "step m: start_delay: none -> 2",
        )
        assert examine(database, {"f": edited}).differences["f"] == tuple(
            f"{difference} (with the next start of a worker)" for difference in told
        )
        assert compile_flow(database, "f", edited).changes == told
        assert options_of(core) == (1, 5, 300, None, None, 7, 2)
        assert compile_flow(database, "f", edited).changes == ()
        assert examine(database, {"f": edited}).differences["f"] == ()
        assert compile_flow(database, "f", shape()).changes == (
            *("max_attempts: 1 -> 3", "timeout: 300 -> 60", "step m: timeout: 7 -> the flow's"),
            "step m: start_delay: 2 -> none",
        )
        assert options_of(core) == (3, 5, 60, None, None, None, None)


def test_steps_that_record_failures_are_no_difference_as_nothing_of_them_is_kept(core: Core) -> None:
    with Database(core.url) as database:
        compile_flow(database, "f", shape())
        assert compile_flow(database, "f", shape(step={"when_exhausted": "record"})).changes == ()


def test_options_that_a_role_may_not_change_stay_and_are_told(
    core: Core, reader: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with Database(core.url) as database:
        compile_flow(database, "f", shape())
    assert compile_flow(reader, "f", shape()).changes == ()
    assert caplog.messages == []
    edited = shape({"timeout": 300})
    compilation = compile_flow(reader, "f", edited)
    assert (compilation.status, compilation.changes) == ("verified", ())
    assert caplog.messages == [
        "f: the options in the database differ from the code's and stay, for want of rights (timeout: 60 -> 300): let the "
        "owner of the schema run `pgflow compile`"
    ]
    assert options_of(core)[2] == 60
    assert examine(reader, {"f": edited}).differences["f"] == (
        "timeout: 60 -> 300 (which this role may not change: let the owner of the schema run `pgflow compile`)",
    )
