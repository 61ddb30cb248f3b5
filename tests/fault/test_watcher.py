"""The watcher: nothing outlives a dispatcher, however it ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.support import family
from tests.support.dispatcher import dispatching
from tests.support.waiting import process_exists, wait_until


def hanging_family(folder: Path) -> tuple[str, dict[str, object]]:
    """The task of a dispatcher whose handler has started a family, and hangs with all signals blocked."""
    folder.mkdir(exist_ok=True)
    return "start_a_family", {"folder": str(folder), "then": "hang_blocking_all_signals"}


def wait_until_all_gone(everything: dict[str, int]) -> None:
    """They end within a second; the watcher, which has to look once more when they have, a little later."""
    watcher = everything["watcher"]
    family.wait_until_gone({name: pid for name, pid in everything.items() if pid != watcher})
    wait_until(lambda: not process_exists(watcher), "the watcher ends", 5)


def test_kill_9_of_the_dispatcher_takes_everything_within_a_second(tmp_path: Path) -> None:
    with dispatching(*hanging_family(tmp_path)) as dispatcher:
        everything = family.read(tmp_path) | dispatcher.all_pids()
        folder = folder_of(dispatcher.process.pid)
        dispatcher.kill()
        wait_until_all_gone(everything)
        assert not folder.exists()


def folder_of(pid: int) -> Path:
    """A dispatcher's temporary folder, in which it has opened files."""
    opened = [Path(os.readlink(link)) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return next(file.parent for file in opened if file.parent.name.startswith("pgflow-worker-"))


def test_kill_9_of_the_dispatchers_group_takes_everything_within_a_second(tmp_path: Path) -> None:
    with dispatching(*hanging_family(tmp_path)) as dispatcher:
        everything = family.read(tmp_path) | dispatcher.all_pids()
        os.killpg(dispatcher.process.pid, signal.SIGKILL)
        wait_until_all_gone(everything)


def test_without_the_watcher_the_forkserver_takes_everything(tmp_path: Path) -> None:
    with dispatching(*hanging_family(tmp_path)) as dispatcher:
        everything = family.read(tmp_path) | dispatcher.all_pids()
        os.kill(everything["watcher"], signal.SIGKILL)
        dispatcher.kill()
        wait_until_all_gone(everything)


def test_without_the_forkserver_the_watcher_takes_what_carries_the_mark(tmp_path: Path) -> None:
    with dispatching(*hanging_family(tmp_path)) as dispatcher:
        everything = family.read(tmp_path) | dispatcher.all_pids()
        dispatcher.process.send_signal(signal.SIGSTOP)  # so that it does not see the death
        os.kill(everything["forkserver"], signal.SIGKILL)
        dispatcher.kill()
        lost = {everything[kind] for kind in ("cleared", "cleared orphan")}
        wait_until_all_gone({name: pid for name, pid in everything.items() if pid not in lost})
        for pid in lost:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_watcher_ignores_what_ends_others(tmp_path: Path, number: signal.Signals) -> None:
    with dispatching(*hanging_family(tmp_path)) as dispatcher:
        everything = family.read(tmp_path) | dispatcher.all_pids()
        os.kill(everything["watcher"], number)
        dispatcher.kill()
        wait_until_all_gone(everything)


def test_a_watcher_that_is_killed_is_replaced(tmp_path: Path) -> None:
    with dispatching(*hanging_family(tmp_path)) as dispatcher:
        members = family.read(tmp_path)
        first = dispatcher.pids()["watcher"]
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: dispatcher.pids()["watcher"] not in (0, first), "another watcher is there")
        everything = members | dispatcher.all_pids()
        assert family.alive(members) == set(members)
        dispatcher.kill()
        wait_until_all_gone(everything)


def test_an_end_in_order_takes_everything_and_leaves_no_watcher(tmp_path: Path) -> None:
    with dispatching(*hanging_family(tmp_path)) as dispatcher:
        everything = family.read(tmp_path) | dispatcher.all_pids()
        assert dispatcher.end() == 0
        wait_until_all_gone(everything)  # multiprocessing's resource tracker ends by itself, 20 ms later


def test_another_dispatcher_is_not_harmed(tmp_path: Path) -> None:
    with (
        dispatching(*hanging_family(tmp_path / "one")) as one,
        dispatching(*hanging_family(tmp_path / "other")) as other,
    ):
        ending = family.read(tmp_path / "one") | one.all_pids()
        staying = family.read(tmp_path / "other") | other.all_pids()
        one.kill()
        wait_until_all_gone(ending)
        assert family.alive(staying) == set(staying)


NESTED = """
import time
from tests.support.dispatcher import Dispatcher
inner = Dispatcher("start_a_family", {{"folder": {folder!r}, "then": "hang_blocking_all_signals"}})
open({file!r}, "w").write(str(inner.process.pid))
time.sleep(1000)
"""


def test_a_worker_that_a_handler_started_dies_with_the_outer_one(tmp_path: Path) -> None:
    file = tmp_path / "inner"
    source = NESTED.format(folder=str(tmp_path), file=str(file))
    with dispatching("run_a_program", {"source": source}) as outer:
        members = family.read(tmp_path)
        everything = members | outer.all_pids() | {"inner": int(file.read_text())}
        assert len(everything) >= len(members) + 8
        outer.kill()
        wait_until_all_gone(everything)


def test_a_worker_that_a_handler_started_may_end_without_the_outer_one(tmp_path: Path) -> None:
    file = tmp_path / "inner"
    source = NESTED.format(folder=str(tmp_path), file=str(file))
    with dispatching("run_a_program", {"source": source}) as outer:
        members, staying = family.read(tmp_path), outer.pids()
        os.kill(int(file.read_text()), signal.SIGKILL)
        family.wait_until_gone(members)
        assert family.alive(staying) == set(staying)


def test_nobody_else_holds_the_lifeline(tmp_path: Path) -> None:
    with dispatching(*hanging_family(tmp_path)) as dispatcher:
        members, pids = family.read(tmp_path), dispatcher.pids()
        lifeline = os.readlink(f"/proc/{pids['watcher']}/fd/0")
        assert holders_of(lifeline) == {dispatcher.process.pid, pids["watcher"]}
        assert family.alive(members) == set(members)


def holders_of(pipe: str) -> set[int]:
    """The processes that have an end of the pipe."""
    holders = set()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(descriptor) == pipe:
                holders.add(int(descriptor.parts[2]))
        except OSError:  # it has been closed, or its process has ended
            pass
    return holders


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_a_dispatcher_that_is_killed_while_it_starts_leaves_nothing(tmp_path: Path, processes: int) -> None:
    """When it has started so many: the watcher, multiprocessing's resource tracker, the forkserver, a pool process."""
    with dispatching("add_one", {"value": 1}) as dispatcher:
        started = psutil.Process(dispatcher.process.pid)
        wait_until(lambda: len(started.children(recursive=True)) >= processes, "they are there")
        below = {f"{child.name()} {child.pid}": child.pid for child in started.children(recursive=True)}
        dispatcher.kill()
        family.wait_until_gone(below)
