from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pgflow.database.embedded import installation
from tests.support.embedded import (
    AS_ROOT,
    User,
    family,
    keeper_of,
    layout,
    wait_until_ended,
)


def test_a_killed_keeper_takes_the_server_down_and_is_replaced(home: Path, start: Callable[..., User]) -> None:
    user = start().opened()
    postmaster = user.postmaster()

    server = family(postmaster)
    keeper_of(home).kill()

    if sys.platform == "linux":
        wait_until_ended(*server)
    replacement = start().opened().postmaster()
    assert replacement != postmaster
    assert user.postmaster() == replacement


def test_a_killed_keeper_is_replaced_by_its_old_users_next_use(home: Path, start: Callable[..., User]) -> None:
    user = start().opened()
    postmaster = user.postmaster()

    server = family(postmaster)
    keeper_of(home).kill()
    wait_until_ended(*server)

    assert user.postmaster() != postmaster


def test_a_killed_server_is_started_again_under_its_users(home: Path, start: Callable[..., User]) -> None:
    user = start().opened()
    postmaster = user.postmaster()
    keeper = keeper_of(home)

    server = family(postmaster)
    os.kill(postmaster, signal.SIGKILL)
    wait_until_ended(*server)

    replacement = user.postmaster()
    assert replacement != postmaster
    assert start().opened().postmaster() == replacement
    assert keeper.is_running()


ORPHANING_PROGRAM = """
import os, sys, time
from pathlib import Path
from pgflow.database.embedded.keeper import Layout, Server
folder, binaries, uid, gid = sys.argv[1:]
identity = {"user": int(uid), "group": int(gid), "extra_groups": []} if os.geteuid() == 0 else {}
server = Server(Layout(Path(folder)), Path(binaries), identity)
server.start()
while not server.is_ready():
    time.sleep(0.01)
print(server._process.pid, flush=True)
sys.stdin.read()
"""


def test_a_server_that_outlived_its_keeper_is_stopped_by_the_next(used_home: Path, start: Callable[..., User]) -> None:
    """As where the kernel does not signal a child whose parent was killed."""
    owner = layout(used_home).data.stat()
    binaries = (
        installation.find().copied_below(layout(used_home).version) if AS_ROOT else installation.find()
    ).binaries
    orphan = start(
        ORPHANING_PROGRAM,
        arguments=[str(layout(used_home).folder), str(binaries), str(owner.st_uid), str(owner.st_gid)],
    )
    postmaster = int(orphan.read())

    assert start().opened().postmaster() != postmaster
    wait_until_ended(postmaster)


def test_after_everything_was_killed_the_next_start_works(home: Path, start: Callable[..., User]) -> None:
    user = start().opened()
    postmaster = user.postmaster()

    for pid in (keeper_of(home).pid, postmaster, user.process.pid):
        os.kill(pid, signal.SIGKILL)

    assert start().opened().postmaster() != postmaster


def test_a_pid_file_whose_pid_is_another_process_by_now_is_no_obstacle(
    used_home: Path, start: Callable[..., User]
) -> None:
    owner = layout(used_home).data.stat()
    identity: dict[str, Any] = {"user": owner.st_uid, "group": owner.st_gid} if AS_ROOT else {}
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, **identity) as stranger:
        for path in (layout(used_home).postmaster_pid, Path(f"{layout(used_home).server_socket}.lock")):
            path.write_text(f"{stranger.pid}\n{layout(used_home).data}\n")
            os.chown(path, owner.st_uid, owner.st_gid)

        assert start().opened().postmaster() != stranger.pid


def test_an_initdb_that_was_cut_off_is_done_again(used_home: Path, start: Callable[..., User]) -> None:
    layout(used_home).data.rename(layout(used_home).data.with_name("data.new"))

    assert start().opened().postmaster() > 0


KILLED_WORKER_PROGRAM = """
import os, sys
from pgflow.database.choice import open_database
from pgflow.process import lifeline, marker, subreaper, tree
marker.put()
subreaper.become()
database = open_database()
print("open", flush=True)
sys.stdin.readline()
tree.strike(lambda: tree.descendants(os.getpid()))
lifeline.sweep(marker.identity)
print("swept", flush=True)
sys.stdin.readline()
"""


def test_a_server_that_a_handler_started_outlives_all_kills_of_its_worker(
    home: Path, start: Callable[..., User]
) -> None:
    first = start(KILLED_WORKER_PROGRAM).opened()
    user = start().opened()
    keeper, postmaster = keeper_of(home), user.postmaster()

    assert first.process.stdin is not None
    first.process.stdin.write("\n")
    first.process.stdin.flush()
    assert first.read() == "swept"

    assert keeper.is_running()
    assert user.postmaster() == postmaster
