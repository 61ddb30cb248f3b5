"""What the chaos is made from, and a server that survives it. The options are in tests/conftest.py."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.conftest import skip_or_fail
from tests.support import servers

SETTLE_SECONDS = 120.0
"""Within this everything has ended after the last event: a task whose worker died goes back within 30 s, and may be
taken by one that dies next."""
OTHER_SECONDS = 200.0
"""For starting and ending what takes part."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A longer schedule may take longer."""
    seconds = float(config.getoption("chaos_seconds"))
    for item in items:
        if "seconds" in getattr(item, "fixturenames", ()) and item.path.parent.name == "chaos":
            item.add_marker(pytest.mark.timeout(2 * seconds + SETTLE_SECONDS + OTHER_SECONDS))


@pytest.fixture
def durable_server() -> Iterator[servers.Server]:
    """A server that forgets nothing it has committed, though it is stopped at once."""
    binaries = servers.wheel_binaries() or servers.system_binaries()
    if binaries is None:
        skip_or_fail("no PostgreSQL was found")
    assert binaries is not None
    yield from servers.running(binaries, synchronous_commit="on")


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    given = int(pytestconfig.getoption("chaos_seed"))
    return random.randrange(1_000_000) if given < 0 else given


@pytest.fixture
def seconds(pytestconfig: pytest.Config) -> float:
    return float(pytestconfig.getoption("chaos_seconds"))


@pytest.fixture
def without(pytestconfig: pytest.Config) -> frozenset[str]:
    return frozenset(str(pytestconfig.getoption("chaos_without")).split(","))
