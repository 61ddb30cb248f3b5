"""Every claimed task gets exactly one verdict, whoever dies.

Workers do the runs of many flows, while a driver kills at random: pool processes, forkservers, dispatchers, the server,
its connections and its answers, or lets a dispatcher stand still. What it does is made from a seed beforehand:

    pytest tests/chaos --chaos-seed 7 --chaos-seconds 300
"""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

import psycopg

from pgflow.database import schema
from tests.chaos import invariants, notes
from tests.chaos.conftest import SETTLE_SECONDS
from tests.chaos.driver import Driver
from tests.chaos.expectation import FLOWS
from tests.chaos.fleet import Fleet
from tests.chaos.link import Link
from tests.chaos.schedule import PLACES, make
from tests.chaos.verdict import Verdict
from tests.support import servers
from tests.support.waiting import wait_until

GONE_SECONDS = 10.0


def test_a_seed_gives_the_same_schedule_each_time() -> None:
    assert make(7, 60) == make(7, 60)
    assert make(7, 60) != make(8, 60)
    assert [e for e in make(7, 60) if e.kind not in ("dispatcher", "freeze", "thaw")] == list(
        make(7, 60, ["dispatcher", "freeze"])
    )


def test_every_claimed_task_gets_one_verdict_whoever_dies(
    durable_server: servers.Server,
    tmp_path: Path,
    seed: int,
    seconds: float,
    without: frozenset[str],
) -> None:
    schedule = make(seed, seconds, without)
    print(f"--chaos-seed {seed} --chaos-seconds {seconds}", *schedule, sep="\n")
    with psycopg.connect(durable_server.url()) as connection:
        schema.install(connection)
    links = [Link(durable_server.folder) for _ in range(PLACES)]
    fleet = Fleet(links, [flow.reference for flow in FLOWS.values()], tmp_path)
    driver = Driver(durable_server, fleet)
    try:
        fleet.start()
        driver.drive(schedule)
        for link in links:
            link.lose(0)
        begin = time.monotonic()
        violations = settle(driver)
        print(f"settled after {time.monotonic() - begin:.1f} s; {sum(link.lost for link in links)} answers lost")
        violations += judge(driver)
    finally:
        fleet.abandon()
        for link in links:
            link.close()
        shutil.copy(durable_server.folder / "log", tmp_path / "postgres.log")
    print("What was done:", *driver.done, sep="\n")
    assert not violations, "\n\n".join([f"seed {seed}, {seconds} s, logs in {tmp_path}", *violations])


def settle(driver: Driver) -> list[str]:
    """Wait until every run has ended, then end the workers; nothing of them is left."""
    violations = []

    def all_have_ended() -> bool:
        driver.tend()
        # The schedule's last event may have been the kill of a backend, after which the server starts again.
        with contextlib.suppress(psycopg.OperationalError), Verdict.connect(driver.server.url()) as connection:
            return not connection.execute(invariants.ENDED.encode()).fetchall()
        return False

    try:
        wait_until(all_have_ended, "every run has ended", SETTLE_SECONDS)
    except AssertionError as error:
        violations.append(str(error))
    driver.fleet.end()
    try:
        wait_until(lambda: not driver.fleet.processes(), "nothing is left of the workers", GONE_SECONDS)
    except AssertionError as error:
        violations.append(f"{error}: {driver.fleet.processes()}")
    return violations + driver.fleet.faults + complaints(driver.fleet)


def complaints(fleet: Fleet) -> list[str]:
    """What no worker should ever say."""
    return [
        f"{name}: {words} in:\n{text[-3000:]}"
        for name, text in fleet.logs().items()
        for words in ("Exception in thread", "Exception ignored", " CRITICAL ", "AssertionError")
        if words in text
    ]


def judge(driver: Driver) -> list[str]:
    """Everything that is wrong in the database."""
    with Verdict.connect(driver.server.url()) as connection:
        verdict = Verdict(connection, driver.started, notes.read(driver.fleet.notes), frozenset(driver.killed))
        print(verdict.summary())
        never_ended = verdict.rows(invariants.ENDED)
        shown = [verdict.shown("every run has ended", never_ended)] if never_ended else []
        return shown + verdict.violations()
