"""A role that may only work, and one that may only start and look."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from pgflow import Flow
from pgflow.client import Client
from pgflow.database import Database, grants, runs, schema, workers
from pgflow.database.failures import in_words
from pgflow.database.flows import compile_flow
from pgflow.database.health import examine
from pgflow.database.tasks import BatchTasks, FailedAttempt
from pgflow.errors import FlowNotDefinedError
from pgflow.process.identity import of_this_process
from tests.support.sql import Core

WORKER_ID = str(uuid4())


@pytest.fixture
def roles(core: Core) -> Iterator[Callable[[str], Database]]:
    """Databases as the roles some_worker and some_client see them."""
    for role in ("some_worker", "some_client"):
        core.rows(f"DROP ROLE IF EXISTS {role}")
        core.rows(f"CREATE ROLE {role} LOGIN")
    grants.grant(core.connection, workers=["some_worker"], clients=["some_client"])
    opened: list[Database] = []

    def as_role(role: str) -> Database:
        opened.append(Database(core.url.replace("postgres@", f"{role}@")))
        return opened[-1]

    yield as_role
    for database in opened:
        database.close()
    for role in ("some_worker", "some_client"):
        core.rows(f"DROP OWNED BY {role}")
        core.rows(f"DROP ROLE {role}")


def declare(core: Core) -> str:
    """A compiled flow of one map with two attempts; its shape."""
    flow = Flow("f", max_attempts=2)
    flow.map(slug="m")(len)
    shape = json.dumps(flow.shape())
    core.rows("SELECT pgflow.ensure_flow_compiled('f', %s::jsonb)", shape)
    return shape


def test_a_worker_does_everything_that_a_worker_does(core: Core, roles: Callable[[str], Database]) -> None:
    shape = declare(core)
    database = roles("some_worker")
    run_id = core.start("f", [1, 2, 3])
    with database.connection() as connection:
        schema.ensure(connection)
    assert compile_flow(database, "f", shape).status == "verified"
    workers.register(database, {"f": WORKER_ID}, "test", of_this_process())
    tasks = BatchTasks(database)
    first, second, third = sorted(tasks.claim({"f": WORKER_ID}, 9), key=lambda task: task.task_index)
    assert tasks.renew([first, second, third], [100, None, 100]) == ["held"] * 3
    assert tasks.requeue(tasks.held_by([WORKER_ID])[2:], ["gone"]) == ["requeued"]
    (third,) = tasks.claim({"f": WORKER_ID}, 9)
    assert tasks.complete([first], ["1"]) == ["completed"]
    assert tasks.fail([second], [FailedAttempt("no")]) == ["retried"]
    assert tasks.release([third]) == ["released"]
    assert database.flow_input(str(run_id)) == "[1, 2, 3]"
    assert workers.await_tasks(database, {"f": WORKER_ID}) is not None
    workers.stop_awaiting_tasks(database, [WORKER_ID])
    assert workers.heartbeat(database, [WORKER_ID]) == workers.Heartbeat(False, frozenset())
    core.rows("UPDATE pgflow.workers SET last_heartbeat_at = now() - interval '1 minute'")
    with workers.rescuing(database) as is_rescuer:
        (suspect,) = workers.suspects(database, [])
        assert (is_rescuer, suspect.process) == (True, of_this_process())
        assert workers.mark_dead(database, [suspect]) == [WORKER_ID]
    workers.mark_stopped(database, [WORKER_ID])
    assert runs.run_progress(database, str(run_id))[0].completed == 1


def test_a_client_starts_and_looks(core: Core, roles: Callable[[str], Database]) -> None:
    shape = declare(core)
    database = roles("some_client")
    client = Client(database)
    assert compile_flow(database, "f", shape).status == "verified"
    run_id = client.start("f", [1], key="k")
    assert client.start("f", [1], key="k") == run_id
    assert client.get(run_id).status == "started"
    assert client.progress(run_id)[0].queued == 1


FORBIDDEN_TO_BOTH = (
    "SELECT pgflow.create_flow('g')",
    "SELECT pgflow.ensure_flow_compiled('g', '{\"steps\": []}')",
    "SELECT pgflow.delete_flow_and_data('f')",
    "SELECT pgflow.prune_data_older_than('1 second')",
    "SELECT pgflow.cancel_run(gen_random_uuid())",
    "SELECT pgflow.complete_task(gen_random_uuid(), 'm', 0, '1')",
    "UPDATE pgflow.runs SET status = 'completed'",
    "DELETE FROM pgflow.step_tasks",
    "INSERT INTO pgflow.task_attempts (run_id) VALUES (gen_random_uuid())",
    "SELECT * FROM pgmq.q_f",
    "SELECT pgmq.send('f', '{}')",
)
FORBIDDEN = {
    "some_worker": (*FORBIDDEN_TO_BOTH, "SELECT pgflow.start_flows('f', ARRAY['1'::jsonb])"),
    "some_client": (
        *FORBIDDEN_TO_BOTH,
        "SELECT pgflow.claim_tasks(ARRAY['f'], ARRAY[NULL]::uuid[], 1)",
        "SELECT pgflow.requeue_stalled_tasks()",
        "UPDATE pgflow.workers SET stopped_at = now()",
        "SELECT pgflow.requeue_tasks(NULL, NULL, NULL, NULL, NULL)",
        "INSERT INTO pgflow.worker_processes VALUES (gen_random_uuid(), 'h', 's', 1, 1)",
    ),
}


@pytest.mark.parametrize("role", FORBIDDEN)
def test_neither_may_do_more(core: Core, roles: Callable[[str], Database], role: str) -> None:
    declare(core)
    for statement in FORBIDDEN[role]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege), roles(role).connection() as connection:
            connection.execute(statement.encode())


def test_options_that_a_role_may_not_change_stay_and_are_told(
    core: Core, roles: Callable[[str], Database], caplog: pytest.LogCaptureFixture
) -> None:
    shape = json.loads(declare(core))
    shape["options"]["timeout"] = 300
    edited = json.dumps(shape)
    compilation = compile_flow(roles("some_worker"), "f", edited)
    assert (compilation.status, compilation.changes) == ("verified", ())
    assert caplog.messages == [
        "f: the options in the database differ from the code's and stay, for want of rights (timeout: 60 -> 300): let the "
        "owner of the schema run `pgflow compile`"
    ]
    assert examine(roles("some_worker"), {"f": edited}).differences["f"] == (
        "timeout: 60 -> 300 (which this role may not change: let the owner of the schema run `pgflow compile`)",
    )


@pytest.mark.parametrize("role", ["some_worker", "some_client"])
def test_a_flow_that_a_role_may_not_define_is_the_owners_to_compile(
    core: Core, roles: Callable[[str], Database], role: str
) -> None:
    shape = declare(core)
    with pytest.raises(FlowNotDefinedError) as missing:
        compile_flow(roles(role), "g", shape)
    assert str(missing.value) == (
        "Flow g is not in the database, and this role may not define it (permission denied for function "
        "_create_flow_from_shape): let the owner of the schema run `pgflow compile FLOW`"
    )
    with pytest.raises(FlowNotDefinedError) as different:
        compile_flow(roles(role), "f", shape.replace('"map"', '"single"'), allow_data_loss=True)
    assert str(different.value) == (
        "Flow f in the database differs from the code, and this role may not define it (permission denied for function "
        "delete_flow_and_data): let the owner of the schema run `pgflow compile FLOW --allow-data-loss`"
    )


def test_a_right_that_is_missing_since_an_upgrade_is_named_with_the_remedy(
    core: Core, roles: Callable[[str], Database]
) -> None:
    core.rows("REVOKE INSERT ON pgflow.worker_processes FROM some_worker")
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
        workers.register(roles("some_worker"), {"f": WORKER_ID}, "test", of_this_process())
    assert str(in_words(refused.value)) == (
        "PostgreSQL refused: permission denied for table worker_processes; connect as the owner of the schemas pgflow and "
        "pgmq, or let the owner run `pgflow schema grants --worker ROLE` (or --client ROLE), again after each upgrade"
    )
    core.rows("REVOKE EXECUTE ON FUNCTION pgflow.ensure_flow_compiled FROM some_worker")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        compile_flow(roles("some_worker"), "f", declare(core))


@pytest.mark.parametrize("function", ["_option_differences", "update_flow_options"])
def test_a_right_that_is_missing_since_an_upgrade_is_not_taken_for_a_difference(
    core: Core, roles: Callable[[str], Database], caplog: pytest.LogCaptureFixture, function: str
) -> None:
    shape = declare(core)
    core.rows(f"REVOKE EXECUTE ON FUNCTION pgflow.{function} FROM some_client")
    assert compile_flow(roles("some_client"), "f", shape).status == "verified"
    assert caplog.messages == []
    compile_flow(roles("some_client"), "f", shape.replace('"maxAttempts": 2', '"maxAttempts": 5'))
    assert ["max_attempts: 2 -> 5" in message for message in caplog.messages] == [True]


def test_a_role_with_a_name_that_needs_quotes(core: Core) -> None:
    (*_, statement) = grants.statements(clients=['the "client"'])
    assert statement.as_string(core.connection).rstrip().endswith('TO "the ""client""";')


def test_a_role_that_does_not_exist_is_refused(core: Core) -> None:
    with pytest.raises(psycopg.errors.UndefinedObject, match='role "nobody_there" does not exist'):
        grants.grant(core.connection, workers=["nobody_there"])


def test_functions_that_run_with_the_owners_rights_are_few(core: Core) -> None:
    rows: list[dict[str, Any]] = core.rows(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'pgflow'::regnamespace AND prosecdef ORDER BY proname"
    )
    assert [row["proname"] for row in rows] == [
        *("await_tasks", "cancel_run", "claim_tasks", "complete_tasks", "fail_tasks", "get_run_with_states"),
        *("release_tasks", "renew_tasks", "requeue_stalled_tasks", "requeue_tasks", "retry_run"),
        "setup_requeue_stalled_tasks_cron",
        *("start_flow_with_states", "start_flows", "stop_awaiting_tasks"),
    ]


ATTACK = """
CREATE FUNCTION pg_temp.evil(pg_catalog.{type}) RETURNS pg_catalog.bool LANGUAGE plpgsql AS
  $$BEGIN IF current_user <> session_user THEN RAISE EXCEPTION 'run as %', current_user; END IF; RETURN true; END$$;
CREATE DOMAIN pg_temp.{type} AS pg_catalog.{type} CHECK (pg_temp.evil(VALUE));
"""


@pytest.mark.parametrize("type", ["text", "uuid", "jsonb", "int4", "record"])
@pytest.mark.parametrize("role", FORBIDDEN)
def test_types_of_the_callers_are_not_taken_for_postgresqls(
    core: Core, roles: Callable[[str], Database], role: str, type: str
) -> None:
    """With an empty search_path the caller's temporary schema comes first for types: its checks ran as the owner."""
    declare(core)
    core.register_worker()
    run_id = core.start("f", [1, 2, 3])
    database = roles(role)
    statements = {
        "some_client": [
            "SELECT pgflow.start_flows('f', ARRAY['[1]'::jsonb])",
            "SELECT pgflow.start_flow_with_states('f', '[1]')",
        ],
        "some_worker": [f"SELECT pgflow.claim_tasks(ARRAY['f'], ARRAY['{core.worker_id}']::pg_catalog.uuid[], 1)"]
        + [
            f"SELECT pgflow.{function}(ARRAY['{run_id}']::pg_catalog.uuid[], ARRAY['m'], ARRAY[0], {value}ARRAY[1])"
            for function, value in (
                *(("complete_tasks", "ARRAY['1'::pg_catalog.jsonb], "), ("fail_tasks", "ARRAY['no'], ")),
                *(("release_tasks", ""), ("requeue_tasks", "ARRAY['died'], ")),
            )
        ],
    }[role]
    with database.own_connection() as connection:
        if type != "record":
            connection.execute(ATTACK.format(type=type).encode())
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture
def realtime(core: Core) -> Iterator[None]:
    """A realtime.send that says as whom it is called."""
    core.rows("CREATE SCHEMA realtime")
    core.rows(
        "CREATE FUNCTION realtime.send(jsonb, text, text, boolean) RETURNS void LANGUAGE plpgsql "
        "AS 'BEGIN RAISE EXCEPTION ''sent as %'', current_user; END'".replace("%", "%%")
    )
    yield
    core.rows("DROP SCHEMA realtime CASCADE")


@pytest.mark.usefixtures("realtime")
def test_events_go_through_realtime_only_where_its_owner_may_act_for_ours(
    core: Core, roles: Callable[[str], Database]
) -> None:
    declare(core)
    with pytest.raises(psycopg.errors.RaiseException, match="sent as postgres"):
        core.start("f", [1])
    core.rows("ALTER FUNCTION realtime.send OWNER TO some_client")
    Client(roles("some_client")).start("f", [1])
    core.rows("ALTER FUNCTION realtime.send OWNER TO postgres")


def test_the_contracts_functions_work_with_the_rights_of_who_calls(core: Core) -> None:
    """A queue that a superuser made for an owner who is none belongs to the superuser."""
    core.rows("DROP ROLE IF EXISTS some_owner")
    core.rows("CREATE ROLE some_owner")
    functions = ("_complete_tasks", "complete_tasks", "_fail_tasks", "fail_tasks")
    try:
        with core.connection.transaction(force_rollback=True):
            for name in functions:
                core.rows(f"ALTER FUNCTION pgflow.{name} OWNER TO some_owner")
            core.flow("f", "a", "b")
            run_id = core.start("f", 1)
            core.claim("f")
            core.rows("SELECT * FROM pgflow.complete_task(%s, 'a', 0, '1')", run_id)
            core.rows("SELECT * FROM pgflow.fail_task(%s, 'b', 0, 'no')", run_id)
            assert core.statuses(run_id) == {"a": "completed", "b": "failed"}
    finally:
        core.rows("DROP ROLE some_owner")
