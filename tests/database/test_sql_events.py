"""Events: what is told, to whom, in which order, with which keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.support.sql import Core

REALTIME = """
CREATE SCHEMA realtime;
CREATE TABLE realtime.messages (
  id bigint GENERATED ALWAYS AS IDENTITY, payload jsonb, event text, topic text, private boolean
);
CREATE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean) RETURNS void LANGUAGE sql
AS 'INSERT INTO realtime.messages (payload, event, topic, private) VALUES ($1, $2, $3, $4)';
"""


@pytest.fixture
def told(core: Core) -> Iterator[Core]:
    """A core whose events go into a table, as in Supabase; installed after pgflow."""
    core.connection.execute(REALTIME)
    yield core
    core.rows("DROP SCHEMA realtime CASCADE")


def events(core: Core, run_id: object = None) -> list[str]:
    """The names of a run's events, or of all, in the order in which they were sent."""
    rows = core.rows(
        "SELECT event FROM realtime.messages WHERE topic = coalesce(%s, topic) ORDER BY id",
        f"pgflow:run:{run_id}" if run_id else None,
    )
    return [row["event"] for row in rows]


def payload(core: Core, event: str) -> dict[str, Any]:
    """The payload of the one event of that name; private is false and the topic the run's."""
    row = core.row("SELECT payload, topic, private FROM realtime.messages WHERE event = %s", event)
    assert (row["topic"], row["private"]) == (f"pgflow:run:{row['payload']['run_id']}", False)
    return dict(row["payload"])


def as_json(core: Core, table: str, *columns: str) -> dict[str, Any]:
    """The columns of the table's one row with a status, as an event carries them."""
    text = core.value(f"SELECT to_jsonb(t) FROM {table} AS t")
    return {column: text[column] for column in columns}


def test_a_run_tells_of_its_life_in_order(told: Core) -> None:
    told.flow("f", "a", "none* <- a", "b <- a", "last <- b none")
    run_id = told.start("f", {"x": 1})
    told.complete(told.claim("f"), [[]])
    told.complete(told.claim("f"), [2])
    told.complete(told.claim("f"), [3])
    assert events(told, run_id) == [
        "run:started",
        "step:a:started",
        "step:a:completed",
        "step:none:completed",
        "step:b:started",
        "step:b:completed",
        "step:last:started",
        "step:last:completed",
        "run:completed",
    ]


def test_payloads_have_exactly_the_contracts_keys(told: Core) -> None:
    told.flow("f", "a", "none* <- a")
    run_id = str(told.start("f", {"x": 1}))
    assert payload(told, "run:started") == {
        "event_type": "run:started",
        "flow_slug": "f",
        "status": "started",
        "remaining_steps": 2,
        **as_json(told, "pgflow.runs", "run_id", "input", "started_at"),
    }
    started = payload(told, "step:a:started")
    assert started.pop("started_at") is not None
    assert started == {
        "event_type": "step:started",
        "run_id": run_id,
        "step_slug": "a",
        "status": "started",
        "remaining_tasks": 1,
        "remaining_deps": 0,
    }
    told.complete(told.claim("f"), [[]])
    completed = payload(told, "step:a:completed")
    assert completed.pop("completed_at") is not None
    assert completed == {
        "event_type": "step:completed",
        "run_id": run_id,
        "step_slug": "a",
        "status": "completed",
        "output": [],
    }
    taskless = payload(told, "step:none:completed")
    assert taskless.pop("completed_at") == taskless.pop("started_at") is not None
    assert taskless == {
        "event_type": "step:completed",
        "run_id": run_id,
        "step_slug": "none",
        "status": "completed",
        "output": [],
        "remaining_tasks": 0,
        "remaining_deps": 0,
    }
    assert payload(told, "run:completed") == {
        "event_type": "run:completed",
        "flow_slug": "f",
        "status": "completed",
        **as_json(told, "pgflow.runs", "run_id", "output", "completed_at"),
    }


def test_a_failed_task_tells_of_its_step_and_then_of_the_run(told: Core) -> None:
    told.flow("f", "a", max_attempts=2)
    run_id = str(told.start("f", 1))
    told.fail(told.claim("f"), ["once"])
    assert events(told) == ["run:started", "step:a:started"]
    told.fail(told.claim("f"), ["twice"])
    assert events(told)[2:] == ["step:a:failed", "run:failed"]
    step, run = payload(told, "step:a:failed"), payload(told, "run:failed")
    assert step.pop("failed_at") == run.pop("failed_at") is not None
    usual = {"run_id": run_id, "status": "failed", "error_message": "twice"}
    assert step == {"event_type": "step:failed", "step_slug": "a", **usual}
    assert run == {"event_type": "run:failed", "flow_slug": "f", **usual}


def test_of_a_type_violation_the_run_tells_first_and_without_the_error(told: Core) -> None:
    told.flow("f", "a", "m* <- a")
    told.start("f", 1)
    told.complete(told.claim("f"), ["no array"])
    assert events(told)[2:] == ["run:failed", "step:a:failed"]
    assert payload(told, "run:failed").keys() == {"event_type", "run_id", "flow_slug", "status", "failed_at"}
    assert payload(told, "step:a:failed")["error_message"].startswith("[TYPE_VIOLATION] Map step m expects")


def test_skips_tell_of_parents_before_their_dependents(told: Core) -> None:
    told.flow("f", "zz")
    told.step("f", "z <- zz", when_exhausted="skip-cascade")
    told.step("f", "y <- z")
    told.step("f", "a <- y")
    told.start("f", 1)
    told.complete(told.claim("f"), [1])
    told.fail(told.claim("f"), ["no"])
    assert events(told)[4:] == ["step:z:skipped", "step:y:skipped", "step:a:skipped", "run:completed"]
    first, second = payload(told, "step:z:skipped"), payload(told, "step:y:skipped")
    common = {"event_type", "run_id", "step_slug", "status", "skip_reason", "skipped_at"}
    assert first.keys() == common | {"error_message"}
    assert (first["skip_reason"], first["error_message"]) == ("handler_failed", "no")
    assert second.keys() == common | {"flow_slug"}
    assert second["skip_reason"] == "dependency_skipped"


def test_conditions_tell_before_what_follows_from_them(told: Core) -> None:
    told.flow("f")
    told.step("f", "a", required_input_pattern={"go": True}, when_unmet="skip")
    told.step("f", "m* <- a")
    told.step("f", "b <- a")
    told.start("f", {})
    assert events(told) == ["run:started", "step:a:skipped", "step:m:completed", "step:b:started"]
    assert payload(told, "step:a:skipped")["skip_reason"] == "condition_unmet"


def test_an_unmet_condition_that_fails_tells_why(told: Core) -> None:
    told.flow("f")
    told.step("f", "a", required_input_pattern={"go": True}, when_unmet="fail")
    told.start("f", {})
    assert events(told) == ["run:started", "step:a:failed", "run:failed"]
    assert payload(told, "run:failed")["error_message"] == "Condition not met"


def test_what_comes_too_late_tells_nothing(told: Core) -> None:
    told.flow("f", "a", "b")
    told.start("f", 1)
    a, b = told.claim("f")
    told.fail([a], ["no"])
    before = events(told)
    told.fail([a], ["no"])
    told.complete([b, a], [1, 1])
    assert events(told) == before


def test_a_batch_tells_each_run_its_own(told: Core) -> None:
    told.flow("f", "a", "b <- a")
    runs = [told.start("f", number) for number in range(3)]
    told.complete(told.claim("f"), [1, 2, 3])
    for run_id in runs:
        assert events(told, run_id) == ["run:started", "step:a:started", "step:a:completed", "step:b:started"]


@pytest.fixture
def notifying(core: Core) -> Iterator[Core]:
    """A session of a database that notifies, without realtime."""
    name = core.connection.info.dbname
    core.rows(f"ALTER DATABASE {name} SET pgflow.events = 'notify'")
    fresh = Core(core.url)
    with fresh.connection:
        yield fresh
    core.rows(f"ALTER DATABASE {name} RESET pgflow.events")


@pytest.fixture
def listener(core: Core) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(core.url, autocommit=True) as connection:
        connection.execute("LISTEN pgflow_events")
        yield connection


def heard(listener: psycopg.Connection[Any], count: int) -> list[dict[str, Any]]:
    """The next notifications."""
    return [json.loads(n.payload) for n in listener.notifies(timeout=20, stop_after=count)]


def test_without_realtime_listeners_hear_where_the_database_says_so(
    core: Core, notifying: Core, listener: psycopg.Connection[Any]
) -> None:
    core.flow("f", "a")
    core.start("f", "from a session that began before")
    run_id = notifying.start("f", {"x": 1})
    first, second = heard(listener, 2)
    assert (first["event"], first["topic"]) == ("run:started", f"pgflow:run:{run_id}")
    assert first["payload"]["input"] == {"x": 1}
    assert second["event"] == "step:a:started"


def test_a_notification_that_is_too_long_goes_without_its_data(
    notifying: Core, listener: psycopg.Connection[Any]
) -> None:
    notifying.flow("f", "a")
    notifying.start("f", ["ä" * 5000])
    first, _ = heard(listener, 2)
    assert (first["event"], first["truncated"]) == ("run:started", True)
    assert first["payload"].keys() == {
        *("event_type", "run_id", "flow_slug", "status", "remaining_steps", "started_at")
    }


def test_a_skip_reason_may_be_of_any_length(notifying: Core, listener: psycopg.Connection[Any]) -> None:
    notifying.flow("f", "a")
    run_id = notifying.start("f", 1)
    assert notifying.value("SELECT pgflow._cascade_force_skip_steps(%s, 'a', %s)", run_id, "r" * 9000) == 1
    *_, skipped = heard(listener, 3)
    assert (skipped["event"], skipped["truncated"]) == ("step:a:skipped", True)
    assert skipped["payload"].keys() == {*("event_type", "run_id", "flow_slug", "step_slug", "status", "skipped_at")}


def test_a_realtime_that_the_owner_may_not_use_is_none(told: Core) -> None:
    """A Supabase database whose pgflow belongs to an ordinary role: nothing is told, and nothing fails."""
    told.rows("DROP ROLE IF EXISTS some_owner")
    told.rows("CREATE ROLE some_owner")
    told.rows("GRANT USAGE ON SCHEMA pgflow TO some_owner")
    told.rows("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pgflow TO some_owner")
    try:
        with told.connection.transaction():
            told.rows("SET LOCAL ROLE some_owner")
            assert told.value("SELECT pgflow._has_realtime()") is False
        assert told.value("SELECT pgflow._has_realtime()") is True
    finally:
        told.rows("DROP OWNED BY some_owner")
        told.rows("DROP ROLE some_owner")
