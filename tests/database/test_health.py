"""What doctor is told of a database: nothing that is not so, whoever asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgflow.database import Database, capabilities, grants
from pgflow.database.capabilities import Capabilities
from pgflow.database.health import examine
from tests.support import contract_core
from tests.support.sql import Core

SEND = (
    "CREATE SCHEMA realtime; CREATE FUNCTION realtime.send(jsonb, text, text, boolean) RETURNS void LANGUAGE sql "
    "AS 'SELECT'; REVOKE EXECUTE ON FUNCTION realtime.send FROM PUBLIC"
)


@pytest.fixture
def core(database_url: str) -> Iterator[Core]:
    """The SQL core with a flow, in a database of which roles are made that go with it."""
    core = Core(database_url)
    with core.connection:
        for role in ("some_worker", "some_stranger"):
            core.rows(f"DROP ROLE IF EXISTS {role}")
            core.rows(f"CREATE ROLE {role} LOGIN")
        core.flow("f", "a")
        yield core
        for role in ("some_worker", "some_stranger"):
            core.rows(f"DROP OWNED BY {role} CASCADE")
            core.rows(f"DROP ROLE {role}")


def seen(core: Core, role: str = "postgres") -> Capabilities:
    with Database(core.url.replace("postgres@", f"{role}@")) as database, database.connection() as connection:
        return capabilities.look(connection)


def test_queues_that_a_role_may_not_read_are_not_left_out(core: Core) -> None:
    grants.grant(core.connection, workers=["some_worker"])
    with Database(core.url.replace("postgres@", "some_worker@")) as database:
        health = examine(database, {})
    assert (health.queues, health.unreadable_queues) == ((), {"f": "permission denied for schema pgmq"})
    assert health.needs_somebody is False


def test_a_queue_that_is_gone_is_told(core: Core) -> None:
    core.rows("SELECT pgmq.drop_queue('f')")
    with Database(core.url) as database:
        assert examine(database, {}).unreadable_queues == {"f": 'relation "pgmq.q_f" does not exist'}


def test_a_realtime_that_is_used_is_told(core: Core) -> None:
    core.rows(SEND)
    assert (seen(core).events, seen(core).events_remark) == ("realtime", None)


def test_a_realtime_that_is_not_used_is_told_with_the_reason(core: Core) -> None:
    core.rows(SEND)
    core.rows("ALTER SCHEMA realtime OWNER TO some_stranger")
    core.rows("ALTER FUNCTION realtime.send OWNER TO some_stranger")
    assert (seen(core).events, seen(core).events_remark) == (
        None,
        "realtime.send is there and not used: it belongs to some_stranger, who would get the rights of postgres, pgflow's "
        "owner; let it belong to postgres",
    )
    core.rows(f"ALTER DATABASE {core.connection.info.dbname} SET pgflow.events = 'notify'")
    assert (seen(core).events, seen(core).events_remark is None) == ("notify", False)


def test_a_realtime_that_the_owner_may_not_call_is_told_with_the_reason(core: Core) -> None:
    core.rows(SEND)
    core.rows("ALTER SCHEMA pgflow OWNER TO some_worker")
    assert (seen(core).events, seen(core).events_remark) == (
        None,
        "realtime.send is there and not used: some_worker, pgflow's owner, may not call it; grant some_worker USAGE on the "
        "schema realtime and EXECUTE on it",
    )
    core.rows("ALTER SCHEMA pgflow OWNER TO postgres")


def test_a_role_that_may_not_see_realtime_works_and_is_not_told_more_than_it_may_know(core: Core) -> None:
    core.rows(SEND)
    grants.grant(core.connection, workers=["some_worker"])
    assert (seen(core, "some_worker").events, seen(core, "some_worker").events_remark) == (
        "unknown",
        "realtime.send is there; whether it is used only postgres, pgflow's owner, is told",
    )


def test_another_implementations_core_uses_a_realtime_that_is_there(empty_database_url: str) -> None:
    contract_core.install(empty_database_url)
    core = Core(empty_database_url)
    with core.connection:
        assert seen(core).events is None
        core.rows(SEND)
        assert seen(core).events == "realtime"
