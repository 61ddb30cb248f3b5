from __future__ import annotations

import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pgflow.database.embedded import EmbeddedDatabase
from tests.support.embedded import (
    User,
    keeper_of,
    layout,
    wait_until_ended,
    wait_until_unused,
)
from tests.support.waiting import process_exists


def test_processes_that_start_at_once_share_one_server(start: Callable[..., User]) -> None:
    users = [start() for _ in range(4)]

    assert len({user.opened().postmaster() for user in users}) == 1


@pytest.mark.parametrize("ending", ["exit", "SIGINT", "SIGKILL"])
def test_the_server_ends_with_its_last_user(home: Path, start: Callable[..., User], ending: str) -> None:
    users = [start().opened(), start().opened()]
    postmaster = users[0].postmaster()

    for user in users:
        if ending == "exit":
            user.end()
        else:
            user.kill(signal.Signals[ending])

    wait_until_ended(postmaster)
    assert "database system is shut down" in layout(home).log.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_server_stays_for_those_who_use_it(start: Callable[..., User], number: int) -> None:
    """Also when the one who started it is killed, or its terminal sends Ctrl-C to all it started."""
    first = start().opened()
    second = start().opened()
    postmaster = first.postmaster()

    first.kill(number)

    assert start().opened().postmaster() == postmaster
    assert second.postmaster() == postmaster


def test_the_data_survives_between_uses(home: Path) -> None:
    with EmbeddedDatabase() as database, database.connection() as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    wait_until_unused(home)

    with EmbeddedDatabase() as database, database.connection() as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


def test_the_server_has_no_tcp_port(home: Path) -> None:
    with EmbeddedDatabase() as database, database.connection() as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        assert stat.S_IMODE(layout(home).socket_folder.stat().st_mode) == 0o700


def test_another_process_can_be_told_to_hold_the_same_server(home: Path) -> None:
    with EmbeddedDatabase() as database:
        same = EmbeddedDatabase.from_order(database.order())
        keeper = keeper_of(home)
    with same, same.connection() as connection:
        connection.execute("SELECT 1")
        assert keeper.is_running()


FORKING_PROGRAM = """
import os, sys
from pgflow.database.choice import open_database
database = open_database()
with database.connection() as connection:
    connection.execute("SELECT 1")
if os.fork():
    os._exit(0)
os.setsid()
{in_child}
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def test_a_forked_child_does_not_keep_the_server_running(home: Path, start: Callable[..., User]) -> None:
    user = start(FORKING_PROGRAM.format(in_child=""))
    child = int(user.read())

    wait_until_unused(home)
    assert process_exists(child)


def test_a_forked_child_that_uses_the_database_holds_the_server(start: Callable[..., User]) -> None:
    query = "with database.connection() as connection: connection.execute('SELECT 1')"
    user = start(FORKING_PROGRAM.format(in_child=query))
    child = int(user.read())
    wait_until_ended(user.process.pid)
    other = start().opened()
    postmaster = other.postmaster()

    other.end()

    assert start().opened().postmaster() == postmaster
    assert process_exists(child)
