"""Fixtures of tests with workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pgflow import Worker
from pgflow.database import Database
from tests.support.seed import Seed, seed
from tests.support.sql import Core
from tests.support.worker import Runs, runs_in


@pytest.fixture
def runs(database_url: str) -> Iterator[Runs]:
    with runs_in(database_url) as opened:
        yield opened


@pytest.fixture
def start_worker(database_url: str) -> Iterator[Callable[..., Worker]]:
    """Starts a worker of one slot that the test ends its own way; whatever is left is ended here."""
    started: list[Worker] = []

    def start(flow: str) -> Worker:
        started.append(Worker(database_url, [flow], slots=1).start())
        return started[-1]

    yield start
    for worker in started:
        worker.stop(timeout=0)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database(database_url) as opened:
        yield opened


@pytest.fixture
def core(database_url: str) -> Iterator[Core]:
    """The SQL core of the test's database."""
    core = Core(database_url)
    with core.connection:
        yield core


@pytest.fixture
def seeded(core: Core) -> Seed:
    """Runs in all states."""
    return seed(core)
