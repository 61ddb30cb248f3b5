"""Installing, verifying and printing the schema, and what the catalogue then says."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgflow.database import schema
from pgflow.errors import SchemaError, SchemaMissingError, SchemaTooNewError
from tests.support.sql import Core

HERE = Path(__file__).parent

LEFT_OUT = {"cleanup_ensure_workers_logs", "ensure_workers", "setup_ensure_workers_cron"}
"""The contract's functions that are left out: they ping serverless functions."""
OURS = {
    "_advance_runs", "_archive_messages", "_complete_runs", "_complete_steps", "_complete_taskless_steps",
    "_count_ended_steps", "_definitions", "_delay_messages", "_dependency_outputs", "_emit_run_events", "_emit_step_events",
    "_emits_events", "_exhaust_steps", "_fail_steps", "_send_events",
    "_fail_type_violations", "_judge_tasks", "_lock_steps", "_map_elements", "_pattern_of_shape", "_pattern_shape",
    "_release_dependents", "_resolve_conditions", "_retry_tasks", "_skip_steps", "_skip_steps_and_dependents",
    "_start_ready_steps", "_start_runs", "_start_tasks", "_complete_tasks", "_fail_tasks", "claim_tasks", "complete_tasks",
    "fail_tasks", "prune_data_older_than", "release_tasks", "start_flows",
    "_archive_open_messages", "_complete_ready_tasks", "_fail_exhausted_tasks", "_judge_outputs", "_lock_run",
    "_record_failed_tasks", "_record_failures_of_shape", "_requeue_open_tasks", "_wake_workers", "await_tasks", "cancel_run",
    "record_failures", "retry_run", "stop_awaiting_tasks", "update_flow_options",
    "_has_realtime", "_option_differences", "_record_cancelled_attempts",
    "_hand_back_tasks", "_keep_messages_invisible", "_lock_messages", "_look_at_tasks", "_tell_hand_backs", "renew_tasks",
    "requeue_tasks", "_tell_cancelled_attempts", "_fail_late_tasks", "_give_up_tasks", "_check_lengths",
    "_lock_visible_messages", "_hide_messages", "_set_aside_messages", "_delete_runs", "_new_run_id", "prune_runs", "prune_archives", "prune_workers",
    "create_batch", "begin_batch_pass", "touch_batch", "_begin_chunk", "_count_batch_items", "_start_batch_run", "add_batch_items",
    "retry_batch_failures", "mark_batch_written", "_delete_batches", "_delete_flow_runs", "delete_batch", "prune_batches",
}  # fmt: skip
"""The functions that the contract does not know, or not as part of the core."""
OUR_RELATIONS = {
    "schema_versions", "run_keys", "task_attempts", "recording_steps", "run_interventions", "waiting_workers",
    "worker_processes", "batches", "batch_files", "batch_keys", "batch_runs", "idx_runs_started_at",
}  # fmt: skip
"""Tables, and indexes of the contract's."""


def connect(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(url, autocommit=True)


def test_install_reports_what_it_did_and_is_repeatable(empty_database_url: str) -> None:
    with connect(empty_database_url) as connection:
        with pytest.raises(SchemaMissingError, match="pgflow schema install"):
            schema.verify(connection)
        first, second = schema.install(connection), schema.install(connection)
        assert (first.outcome, first.version, second.outcome) == ("installed", schema.VERSION, "present")
        assert schema.verify(connection) == schema.Verification(schema.VERSION, (), "sql")
        row = connection.execute("SELECT version, installed_by FROM pgflow.schema_versions").fetchone()
        assert row is not None
        assert (row[0], row[1].startswith("pgflow-py ")) == (schema.VERSION, True)


def test_workers_that_start_at_once_install_once(empty_database_url: str) -> None:
    def install(_number: int) -> str:
        with connect(empty_database_url) as connection:
            return schema.install(connection).outcome

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(install, range(8)))
    assert sorted(outcomes) == ["installed"] + ["present"] * 7


def test_an_install_that_fails_leaves_nothing(empty_database_url: str) -> None:
    with connect(empty_database_url) as connection:
        connection.execute("CREATE SCHEMA pgmq")  # not the real one: our SQL does not find its functions
        with pytest.raises(psycopg.Error), connection.transaction():
            schema.install(connection)
            connection.execute("SELECT pgflow.create_flow('f')")
        with pytest.raises(SchemaMissingError):
            schema.installed_version(connection)


def test_a_newer_schema_is_refused(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("INSERT INTO pgflow.schema_versions VALUES (99, now(), 'the future', '{}', '')")
        for function in (schema.install, schema.ensure, schema.verify):
            with pytest.raises(
                SchemaTooNewError, match=rf"version 99, this pgflow knows up to {schema.VERSION}: upgrade"
            ):
                function(connection)


def test_another_implementations_schema_is_left_alone(empty_database_url: str) -> None:
    with connect(empty_database_url) as connection:
        connection.execute("CREATE SCHEMA pgflow")
        connection.execute("CREATE TABLE pgflow.something ()")
        assert schema.install(connection).outcome == "foreign"
        assert schema.verify(connection).version is None
        row = connection.execute("SELECT to_regclass('pgflow.flows'), to_regnamespace('pgmq')").fetchone()
        assert row == (None, None)


def test_a_schema_that_somebody_made_for_us_is_used(empty_database_url: str) -> None:
    with connect(empty_database_url) as connection:
        connection.execute("CREATE SCHEMA pgflow")
        with pytest.raises(SchemaMissingError):
            schema.verify(connection)
        assert schema.install(connection).outcome == "installed"


def test_verify_names_what_is_missing_or_changed(database_url: str) -> None:
    with connect(database_url) as connection:
        for statement in (
            "DROP FUNCTION pgflow.release_tasks",
            "CREATE OR REPLACE FUNCTION pgflow.is_local() RETURNS boolean LANGUAGE sql AS 'SELECT true'",
            "ALTER TABLE pgflow.runs ALTER COLUMN remaining_steps SET DEFAULT 1",
            "ALTER TABLE pgflow.runs DROP CONSTRAINT completed_at_or_failed_at",
            "DROP INDEX pgflow.idx_runs_status",
            "ALTER FUNCTION pgflow.requeue_stalled_tasks SECURITY INVOKER",
            "DROP SCHEMA pgmq CASCADE",
            # Names are printed in full whatever the session's search path is.
            "SET search_path TO pgflow",
        ):
            connection.execute(statement.encode())
        assert schema.verify(connection) == schema.Verification(
            schema.VERSION,
            (
                f"function pgflow.is_local differs from version {schema.VERSION}",
                "function pgflow.release_tasks is missing",
                "column pgflow.runs.remaining_steps differs: integer NOT NULL 1 instead of integer NOT NULL 0",
                "constraint pgflow.runs.completed_at_or_failed_at is missing",
                "declaration of function pgflow.is_local differs: () RETURNS boolean, volatility v, security invoker "
                "instead of () RETURNS boolean, volatility s, security invoker; search_path=pg_catalog, pg_temp",
                "declaration of function pgflow.requeue_stalled_tasks differs: () RETURNS integer, volatility v, "
                "security invoker; search_path=pg_catalog, pg_temp instead of () RETURNS integer, volatility v, "
                "security definer; search_path=pg_catalog, pg_temp",
                "index pgflow.idx_runs_status is missing",
                "pgmq is missing",
            ),
            None,
        )


def test_a_role_that_may_not_install_is_told_who_may(empty_database_url: str) -> None:
    with connect(empty_database_url) as connection:
        connection.execute("DROP ROLE IF EXISTS nobody_much")
        connection.execute("CREATE ROLE nobody_much")
        connection.execute("SET ROLE nobody_much")
        with pytest.raises(SchemaError, match=r"may not install pgflow .*or the output of `pgflow schema sql`"):
            schema.install(connection)
        connection.execute("RESET ROLE")
        connection.execute("DROP ROLE nobody_much")


@pytest.fixture(params=[path.stem for path in sorted((HERE / "versions").glob("*.sql"))])
def older(empty_database_url: str, request: pytest.FixtureRequest) -> Iterator[Core]:
    """A database with the schema of a version before, and a run."""
    with connect(empty_database_url) as connection:
        schema.install(connection)  # for pgmq
        connection.execute("DROP SCHEMA pgflow CASCADE")
        connection.execute((HERE / "versions" / f"{request.param}.sql").read_bytes())
    core = Core(empty_database_url)
    with core.connection:
        core.flow("f", "a", "b <- a")
        core.start("f", 1)
        core.rows("DROP ROLE IF EXISTS some_worker")
        core.rows("CREATE ROLE some_worker")
        core.rows("GRANT EXECUTE ON FUNCTION pgflow.claim_tasks TO some_worker")
        yield core
        core.rows("DROP OWNED BY some_worker")
        core.rows("DROP ROLE some_worker")


def test_an_upgrade_comes_to_the_same_schema_as_an_install(older: Core, core: Core) -> None:
    (task,) = older.claim("f")
    number = older.value("SELECT max(version) FROM pgflow.schema_versions")
    with connect(older.url) as connection:
        assert schema.verify(connection).problems == (
            f"the schema has version {number}, this pgflow has {schema.VERSION}: `pgflow schema install` upgrades it",
        )
        report, again = schema.install(connection), schema.install(connection)
        assert (report.outcome, report.version, again.outcome) == ("upgraded", schema.VERSION, "present")
        assert schema.verify(connection) == schema.Verification(schema.VERSION, (), "sql")
    definitions = "SELECT pgflow._definitions()"
    assert older.value(definitions) == core.value(definitions)
    # The session that worked with the old version goes on, with what it had claimed.
    assert older.complete([task], [1]) == ["completed"]
    assert older.complete(older.claim("f"), [2]) == ["completed"]
    assert older.value("SELECT output FROM pgflow.runs") == {"b": 2}


def test_an_upgrade_keeps_the_rights_that_were_granted_and_gives_no_others(older: Core) -> None:
    with connect(older.url) as connection:
        schema.ensure(connection)
    granted = older.rows(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'pgflow'::regnamespace "
        "AND has_function_privilege('some_worker', oid, 'EXECUTE')"
    )
    assert [row["proname"] for row in granted] == ["claim_tasks"]


def test_an_upgrade_that_fails_leaves_everything_as_it_was(older: Core) -> None:
    older.rows("CREATE TABLE pgflow.batches ()")  # in a migration's way
    number = older.value("SELECT max(version) FROM pgflow.schema_versions")
    with connect(older.url) as connection:
        with pytest.raises(psycopg.errors.DuplicateTable):
            schema.install(connection)
        assert schema.installed_version(connection) == number
    assert len(older.claim("f")) == 1


def test_a_role_that_may_not_upgrade_is_told_who_may(older: Core) -> None:
    with connect(older.url) as connection:
        connection.execute("GRANT USAGE ON SCHEMA pgflow TO some_worker")
        connection.execute("GRANT SELECT ON pgflow.schema_versions TO some_worker")
        connection.execute("SET ROLE some_worker")
        with pytest.raises(SchemaError, match=r"may not install pgflow .*let the owner of the schema"):
            schema.ensure(connection)


def test_another_builds_functions_are_replaced(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("CREATE OR REPLACE FUNCTION pgflow.is_local() RETURNS boolean LANGUAGE sql AS 'SELECT true'")
        assert schema.install(connection).outcome == "present"  # by hand, on purpose: verify tells
        connection.execute("UPDATE pgflow.schema_versions SET digest = 'another'")
        schema.ensure(connection)
        assert schema.verify(connection).problems == ()


def upgrade(url: str) -> str:
    """Install over what another build of this version has installed."""
    with connect(url) as connection:
        connection.execute("UPDATE pgflow.schema_versions SET digest = 'another'")
        return schema.install(connection).outcome


def functions(core: Core) -> set[str]:
    """The functions and procedures in the schema."""
    rows = core.rows("SELECT oid::regprocedure::text AS name FROM pg_proc WHERE pronamespace = 'pgflow'::regnamespace")
    return {row["name"] for row in rows}


def test_an_upgrade_of_any_version_drops_our_functions_alone(older: Core, core: Core) -> None:
    older.rows("CREATE FUNCTION pgflow.ensure_workers() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    with connect(older.url) as connection:
        schema.ensure(connection)
    assert functions(older) == functions(core) | {"pgflow.ensure_workers()"}


def test_an_upgrade_leaves_alone_what_is_not_ours(database_url: str) -> None:
    core = Core(database_url)
    with core.connection:
        core.flow("f", "a")
        run_id = core.start("f", 1)
        for statement in (
            "CREATE FUNCTION pgflow.ensure_workers() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE FUNCTION pgflow.cancel_run(number int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE PROCEDURE pgflow.nightly() LANGUAGE sql AS 'SELECT 1'",
            "CREATE VIEW states AS SELECT run_id, pgflow.get_run_with_states(run_id) AS states FROM pgflow.runs",
            "CREATE FUNCTION pgflow.helper() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT pgflow.ensure_workers(); END",
            "GRANT EXECUTE ON FUNCTION pgflow.helper() TO PUBLIC",
        ):
            core.rows(statement)
        before = functions(core)
        for _ in range(2):  # what the first one records is what the second one takes for ours
            assert upgrade(database_url) == "upgraded"
            assert functions(core) == before
        assert core.value("SELECT has_function_privilege('public', 'pgflow.helper()', 'EXECUTE')") is True
        assert core.value("SELECT states -> 'run' ->> 'run_id' FROM states") == str(run_id)
        with connect(database_url) as connection:
            assert schema.verify(connection).problems == ()
            connection.execute("DROP FUNCTION pgflow.helper(), pgflow.ensure_workers()")
            assert schema.verify(connection).problems == ()


@pytest.mark.parametrize(
    "declaration",
    [
        "is_local(OUT other boolean)",
        "is_local() RETURNS text",
        "start_flow(flow text, input jsonb, run_id uuid DEFAULT NULL) RETURNS SETOF pgflow.runs",
        "start_flow(flow_slug text, input jsonb) RETURNS SETOF pgflow.runs",
        "start_flow(flow_slug text, input json, run_id text) RETURNS text",
        "was_once(flow_slug text) RETURNS text",
    ],
)
def test_an_upgrade_drops_what_another_build_declared_otherwise(
    database_url: str, core: Core, declaration: str
) -> None:
    name = declaration.partition("(")[0]
    older = Core(database_url)
    with older.connection:
        older.rows("DROP ROLE IF EXISTS some_client")
        older.rows("CREATE ROLE some_client")
        older.rows(f"DROP FUNCTION IF EXISTS pgflow.{name}")
        older.rows(f"CREATE FUNCTION pgflow.{declaration} LANGUAGE plpgsql AS 'BEGIN END'")
        older.rows(f"GRANT EXECUTE ON FUNCTION pgflow.{name} TO some_client")
        older.rows("UPDATE pgflow.schema_versions SET definitions = pgflow._definitions()")
        assert upgrade(database_url) == "upgraded"
        assert functions(older) == functions(core)
        rows = older.rows(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'pgflow'::regnamespace "
            "AND has_function_privilege('some_client', oid, 'EXECUTE')"
        )
        assert [row["proname"] for row in rows] == [name] * (name != "was_once")
        older.rows("DROP OWNED BY some_client")
        older.rows("DROP ROLE some_client")


def test_an_upgrade_that_would_break_somebodys_view_says_what_to_do(database_url: str) -> None:
    with connect(database_url) as connection:
        for statement in (
            "CREATE FUNCTION pgflow.was_once() RETURNS text LANGUAGE sql AS 'SELECT 1::text'",
            "UPDATE pgflow.schema_versions SET definitions = pgflow._definitions()",
            "CREATE VIEW somebodys AS SELECT pgflow.was_once()",
        ):
            connection.execute(statement.encode())
        words = r"pgflow\.was_once\(\) .*view somebodys depends .*Drop what depends on it, run `pgflow schema install`"
        with pytest.raises(SchemaError, match=words):
            upgrade(database_url)
        connection.execute("DROP VIEW somebodys")
        assert upgrade(database_url) == "upgraded"


def test_whoever_upgrades_owns_all_functions(database_url: str) -> None:
    core = Core(database_url)
    with core.connection:
        core.rows("DROP ROLE IF EXISTS former_owner")
        core.rows("CREATE ROLE former_owner")
        core.rows("ALTER FUNCTION pgflow.claim_tasks OWNER TO former_owner")
        assert upgrade(database_url) == "upgraded"
        owners = "SELECT DISTINCT proowner::regrole::text FROM pg_proc WHERE pronamespace = 'pgflow'::regnamespace"
        assert core.value(owners) == core.value("SELECT current_user::text")
        core.rows("DROP ROLE former_owner")


def test_every_file_is_installed() -> None:
    folder = Path(schema.__file__).parent / "schema"
    assert {path.stem for path in folder.glob("*.sql")} == {
        *schema.BASE_FILES,
        *schema.FUNCTION_FILES,
        schema.RIGHTS_FILE,
    }
    assert {path.stem for path in (folder / "migrations").glob("*.sql")} == {
        str(version) for version in range(2, schema.VERSION + 1)
    }


@pytest.mark.parametrize("has_pgmq", [False, True])
def test_the_printed_sql_installs_the_same(empty_database_url: str, has_pgmq: bool) -> None:
    with connect(empty_database_url) as connection:
        if has_pgmq:
            schema.install(connection)
            connection.execute("DROP SCHEMA pgflow CASCADE")
        connection.execute(schema.sql().encode())
        assert schema.verify(connection) == schema.Verification(schema.VERSION, (), "sql")


def test_the_catalogue_is_the_contracts(core: Core) -> None:
    statement = (HERE / "catalog.sql").read_text().replace("%", "%%")
    ours = {next(iter(row.values())) for row in core.rows(statement)}
    contract = set((HERE / "contract_catalog.txt").read_text().splitlines())

    def function(line: str) -> str:
        return line.split("|")[1].partition("(")[0] if line.startswith("function|") else ""

    missing = {line for line in contract - ours if function(line) not in LEFT_OUT}
    additional = {
        line for line in ours - contract if function(line) not in OURS and not OUR_RELATIONS & set(line.split("|"))
    }
    assert {line.partition("|CHECK")[0] for line in missing | additional} == {"constraint|step_tasks|valid_status"}
    assert {function(line) for line in ours} >= OURS
    assert not {function(line) for line in ours} & LEFT_OUT


def test_every_function_pins_its_search_path(core: Core) -> None:
    loose = core.rows(
        """
        SELECT p.proname FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname = 'pgflow' AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)
        """
    )
    assert [row["proname"] for row in loose] == ["set_vt_batch"]  # the contract's exception


def test_public_has_nothing(core: Core) -> None:
    assert core.value("SELECT has_schema_privilege('public', 'pgflow', 'USAGE')") is False
    assert (
        core.rows(
            """
        SELECT p.proname FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname = 'pgflow' AND has_function_privilege('public', p.oid, 'EXECUTE')
        """
        )
        == []
    )
