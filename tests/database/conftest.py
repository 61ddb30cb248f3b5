"""Fixtures for the SQL core: one database for all its tests, emptied after each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.servers import Server
from tests.support.sql import Core

DATABASE = "sql_core"


@pytest.fixture(scope="session")
def core_url(server: Server, template: str) -> Iterator[str]:
    """A database with the schema, shared."""
    with server.admin() as admin:
        admin.execute(f"CREATE DATABASE {DATABASE} TEMPLATE {template}")
    yield server.url(DATABASE)
    with server.admin() as admin:
        admin.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


@pytest.fixture
def core(core_url: str) -> Iterator[Core]:
    """The SQL core in a database without flows."""
    core = Core(core_url)
    with core.connection:
        yield core
    cleaning = Core(core_url)
    with cleaning.connection:
        cleaning.delete_everything()


@pytest.fixture
def other(core: Core) -> Iterator[Core]:
    """A second connection to the same database."""
    other = Core(core.url)
    with other.connection:
        yield other
