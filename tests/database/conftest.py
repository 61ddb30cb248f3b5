"""Fixtures for the SQL core."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.sql import Core


@pytest.fixture
def core(database_url: str) -> Iterator[Core]:
    """The SQL core in a fresh database."""
    core = Core(database_url)
    with core.connection:
        yield core


@pytest.fixture
def other(database_url: str) -> Iterator[Core]:
    """A second connection to the same database."""
    core = Core(database_url)
    with core.connection:
        yield core
