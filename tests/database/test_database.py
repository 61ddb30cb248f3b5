from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from pgflow import database as database_module
from pgflow.database import Database
from pgflow.errors import DatabaseBusyError, DatabaseUnreachableError, DatabaseUrlError
from tests.support.servers import Server

RUN_ID = "00000000-0000-0000-0000-000000000001"
CLOSED_PORT = "postgresql://anna:secret@127.0.0.1:1/shop"
DEADLINE_SECONDS = 20


@pytest.fixture
def database(empty_database_url: str) -> Iterator[Database]:
    with Database(empty_database_url, max_connections=2) as database:
        yield database


def backend_pid(database: Database) -> int:
    with database.connection() as connection:
        return connection.info.backend_pid


def terminate(url: str, pid: int) -> None:
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def test_a_block_is_one_transaction(database: Database) -> None:
    with database.connection() as connection:
        connection.execute("CREATE TABLE kept (id int)")
    with pytest.raises(ZeroDivisionError), database.connection() as connection:
        connection.execute("CREATE TABLE dropped (id int)")
        _ = 1 / 0

    with database.connection() as connection:
        tables = connection.execute("SELECT to_regclass('kept'), to_regclass('dropped')").fetchone()
    assert tables == ("kept", None)


def test_an_error_of_a_statement_is_psycopgs(database: Database) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero), database.connection() as connection:
        connection.execute("SELECT 1 / 0")


def test_a_named_query_gives_dictionaries(database: Database) -> None:
    with database.connection() as connection:
        connection.execute("CREATE SCHEMA pgflow")
        connection.execute("CREATE TABLE pgflow.runs (run_id uuid, input jsonb)")
        connection.execute("INSERT INTO pgflow.runs VALUES (%s, '{\"n\": 1}')", [RUN_ID])

    assert database.fetch_all("flow_input", {"run_id": RUN_ID}) == [{"input": '{"n": 1}'}]
    assert database.flow_input(RUN_ID) == '{"n": 1}'
    assert database.flow_input(RUN_ID.replace("1", "2")) is None


def test_nothing_is_prepared_that_a_pooler_would_lose(database: Database) -> None:
    with database.connection() as connection:
        for _ in range(10):
            connection.execute("SELECT %s::int", [1])
        prepared = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert prepared == (0,)


@pytest.mark.parametrize(
    ("suffix", "name"), [("", "pgflow"), ("&application_name=shop", "shop")], ids=["default", "given"]
)
def test_the_server_sees_an_application_name(empty_database_url: str, suffix: str, name: str) -> None:
    with Database(empty_database_url + suffix) as database, database.connection() as connection:
        assert connection.execute("SHOW application_name").fetchone() == (name,)


def test_close_ends_the_connections(empty_database_url: str) -> None:
    with Database(empty_database_url) as database:
        pid = backend_pid(database)

    with psycopg.connect(empty_database_url, autocommit=True) as other:
        wait_until_gone(other, pid)


def wait_until_gone(connection: psycopg.Connection[tuple[object, ...]], pid: int) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while connection.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone():
        assert time.monotonic() < deadline, f"backend {pid} is still there"


# --- no connection -------------------------------------------------------------------------------


def test_a_closed_port_is_reported_fast_in_one_line_without_the_password(
    capfd: pytest.CaptureFixture[str],
) -> None:
    begun = time.monotonic()
    with Database(CLOSED_PORT) as database, pytest.raises(DatabaseUnreachableError) as caught:
        database.fetch_all("flow_input", {"run_id": RUN_ID})

    assert str(caught.value) == (
        "Cannot connect to the database shop at 127.0.0.1:1 as anna: Connection refused "
        "(is the server running, and is this its address?)"
    )
    assert time.monotonic() - begun < 3
    assert capfd.readouterr() == ("", "")
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_an_unknown_database_is_named(server: Server) -> None:
    with Database(server.url("nosuch")) as database:
        reason = r'nosuch at .* as postgres: database "nosuch" does not exist \(create it, or name another\)$'
        with pytest.raises(DatabaseUnreachableError, match=reason), database.connection():
            pass


def test_an_unknown_host_is_named() -> None:
    with Database("postgresql://nosuch.invalid/shop") as database:
        reason = "failed to resolve host 'nosuch.invalid'"
        with pytest.raises(DatabaseUnreachableError, match=reason), database.connection():
            pass


def test_a_wrong_password_is_reported_without_it(server: Server) -> None:
    with role_with_password(server) as role:
        url = server.url().replace("postgres@", f"{role}:wrong@")
        with Database(url) as database:
            reason = f'password authentication failed for user "{role}" \\(check the user and the password\\)$'
            with pytest.raises(DatabaseUnreachableError, match=reason) as caught, database.connection():
                pass
    assert "wrong" not in str(caught.value)


@contextmanager
def role_with_password(server: Server) -> Iterator[str]:
    rules = server.data / "pg_hba.conf"
    original = rules.read_text()
    with server.admin() as admin:
        admin.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        try:
            reload_rules(admin, rules, f"local all guarded scram-sha-256\n{original}")
            yield "guarded"
        finally:
            reload_rules(admin, rules, original)
            admin.execute("DROP ROLE guarded")


def reload_rules(admin: psycopg.Connection[tuple[object, ...]], rules: Path, text: str) -> None:
    rules.write_text(text)
    before = admin.execute("SELECT pg_conf_load_time()").fetchone()
    admin.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while admin.execute("SELECT pg_conf_load_time()").fetchone() == before:
        assert time.monotonic() < deadline, "the server did not reload its rules"


@pytest.mark.parametrize(
    "conninfo",
    [
        "postgresql//anna:secret@db.example/shop",
        "anna:secret@db.example",
        "postgresql://anna:secret@db.example/shop?nosuch=1",
        "host=db.example password",
    ],
)
def test_what_is_no_address_is_refused_without_its_password(conninfo: str) -> None:
    with pytest.raises(DatabaseUrlError) as caught:
        Database(conninfo)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "conninfo",
    [
        CLOSED_PORT,
        "host=127.0.0.1 port=1 user=anna password=secret",
        "postgresql://anna:top@secret@127.0.0.1:1/shop",
    ],
)
def test_a_database_is_shown_without_its_password(conninfo: str) -> None:
    database = Database(conninfo)
    assert "127.0.0.1:1 as anna" in repr(database) or "***@127.0.0.1:1 as anna" in repr(database)
    assert "secret" not in repr(database)


# --- connections that break ----------------------------------------------------------------------


def test_a_connection_lost_in_a_block_is_reported_and_replaced(
    database: Database, empty_database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DatabaseUnreachableError), database.connection() as connection:
        terminate(empty_database_url, connection.info.backend_pid)
        connection.execute("SELECT 1")

    assert backend_pid(database) > 0
    assert capfd.readouterr() == ("", "")


def test_a_connection_lost_while_idle_is_replaced_unnoticed(database: Database, empty_database_url: str) -> None:
    lost = backend_pid(database)
    terminate(empty_database_url, lost)

    assert backend_pid(database) != lost


def test_a_database_that_was_away_is_found_again(server: Server) -> None:
    with Database(server.url()) as database:
        backend_pid(database)
        server.stop("fast")
        try:
            with pytest.raises(DatabaseUnreachableError):
                backend_pid(database)
        finally:
            server.start()
        assert backend_pid(database) > 0


# --- sharing -------------------------------------------------------------------------------------


def test_a_thread_waits_for_a_connection_in_use(empty_database_url: str) -> None:
    with Database(empty_database_url, max_connections=1) as database:
        waiter = threading.Thread(target=backend_pid, args=[database])
        with database.connection():
            waiter.start()
            waiter.join(timeout=3 * database_module._PATIENCE_SECONDS)
            assert waiter.is_alive()
        waiter.join(DEADLINE_SECONDS)
        assert not waiter.is_alive()


def test_waiting_for_a_connection_in_use_has_an_end(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_SECONDS", 0.3)
    with (
        Database(empty_database_url, max_connections=1) as database,
        database.connection(),
        pytest.raises(DatabaseBusyError, match=r"All 1 connections .* were in use for 0\.3 s"),
    ):
        backend_pid(database)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(database: Database) -> None:
    parents = backend_pid(database)
    reader, writer = os.pipe()

    child = os.fork()
    if child == 0:
        os.write(writer, str(backend_pid(database)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        childs = int(answer.read())
    os.waitpid(child, 0)

    assert childs != parents
    assert backend_pid(database) == parents


def test_another_process_can_be_told_which_database(database: Database) -> None:
    with Database.from_order(database.order()) as same:
        assert same.target == database.target
        assert backend_pid(same) != backend_pid(database)
