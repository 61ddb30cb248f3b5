"""The collector against a real database: batches, bad items, a database that comes and goes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
import psycopg.conninfo
import pytest

from pgflow.database import Database, workers
from pgflow.database.tasks import BatchTasks, ClaimedTask, Holding
from pgflow.errors import DatabaseUnreachableError
from pgflow.outcome import Completed, Crashed, Evidence, Failed, Outcome, Released, TimedOut
from pgflow.worker import collector as collector_module
from pgflow.worker.collector import Collector
from pgflow.worker.holdings import Holdings
from pgflow.worker.wakeup import Wakeup
from tests.support import servers
from tests.support.sql import Core
from tests.support.waiting import wait_until

WAIT_SECONDS = 30
WORKER_ID = "00000000-0000-4000-8000-000000000001"


@contextmanager
def collecting(database: Database) -> Iterator[Collector]:
    """A running collector; on leaving, everything has been delivered."""
    collector = Collector(BatchTasks(database), Wakeup(), Holdings(), lambda: False)
    collector.start()
    yield collector
    deliver_all(collector)


class Counting(BatchTasks):
    """Notes how many tasks are completed at once."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.sizes: list[int] = []

    def complete(
        self, tasks: Sequence[Holding], outputs: Sequence[str], evidence: Sequence[Evidence] | None = None
    ) -> list[str]:
        self.sizes.append(len(tasks))
        return super().complete(tasks, outputs, evidence)


def deliver_all(collector: Collector) -> None:
    collector.stop()
    assert collector.wait_until_stopped(WAIT_SECONDS)


def claim_map(core: Core, database: Database, elements: int, max_attempts: int = 1) -> list[ClaimedTask]:
    """The claimed tasks of a map."""
    core.flow("f", "m*", max_attempts=max_attempts)
    core.start("f", list(range(elements)))
    workers.register(database, {"f": WORKER_ID}, name="test")
    claimed = BatchTasks(database).claim({"f": WORKER_ID}, elements)
    return sorted(claimed, key=lambda task: task.task_index)


def test_each_kind_of_outcome_becomes_its_verdict(core: Core, database: Database) -> None:
    claimed = claim_map(core, database, 5, max_attempts=2)
    outcomes: list[Outcome] = [
        Completed("{}"),
        Failed("raised"),
        TimedOut("late", 1.0),
        Crashed("died", -9),
        Released("drained"),
    ]
    with collecting(database) as collector:
        for task, outcome in zip(claimed, outcomes, strict=True):
            collector.put(task, outcome)
    rows = core.rows("SELECT status, attempts_count, error_message FROM pgflow.step_tasks ORDER BY task_index")
    assert [tuple(row.values()) for row in rows] == [
        ("completed", 1, None),
        ("queued", 1, "raised"),
        ("queued", 1, "late"),
        ("queued", 1, "died"),
        ("queued", 0, None),
    ]


def test_one_refused_output_fails_alone_with_postgresqls_message(core: Core, database: Database) -> None:
    claimed = claim_map(core, database, 100)
    core.rows("ALTER TABLE pgflow.step_tasks ADD CONSTRAINT no_poison CHECK (output IS DISTINCT FROM '\"poison\"')")
    core.rows("UPDATE pgflow.flows SET opt_max_attempts = 3")
    with collecting(database) as collector:
        for task in claimed:
            collector.put(task, Completed('"poison"' if task.task_index in (13, 77) else task.input))
    rows = core.rows("SELECT task_index, status, error_message FROM pgflow.step_tasks ORDER BY task_index")
    refused = [row for row in rows if row["status"] != "completed"]
    assert [(row["task_index"], row["status"]) for row in refused] == [(13, "queued"), (77, "queued")]
    assert all(
        row["error_message"].startswith("PostgreSQL refused the output: new row for relation") for row in refused
    )


def test_a_refused_error_text_is_replaced_and_the_task_still_fails(core: Core, database: Database) -> None:
    claimed = claim_map(core, database, 3, max_attempts=2)
    core.rows(
        "ALTER TABLE pgflow.step_tasks ADD CONSTRAINT short CHECK (error_message NOT LIKE '%poison%')".replace(
            "%", "%%"
        )
    )
    with collecting(database) as collector:
        for task in claimed:
            collector.put(task, Failed("poison" if task.task_index == 1 else "fine"))
    rows = core.rows("SELECT error_message FROM pgflow.step_tasks ORDER BY task_index")
    assert [row["error_message"] for row in rows] == ["fine", collector_module.LAST_RESORT_ERROR, "fine"]


def test_a_late_outcome_is_dropped(core: Core, database: Database) -> None:
    (task,) = claim_map(core, database, 1, max_attempts=2)
    with collecting(database) as collector:
        collector.put(task, Failed("first"))
    with collecting(database) as collector:
        collector.put(task, Completed("1"))
    assert core.rows("SELECT status, error_message FROM pgflow.step_tasks") == [
        {"status": "queued", "error_message": "first"}
    ]


def test_batches_grow_while_a_flush_is_under_way_and_stay_within_their_bounds(
    core: Core, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = claim_map(core, database, 60)
    counting = Counting(database)
    monkeypatch.setattr(collector_module, "MAX_BATCH_CHARACTERS", 1000)
    with core.connection.transaction():  # holds the first flush until everything else waits
        core.rows("SELECT FROM pgflow.runs FOR UPDATE")
        collector = Collector(counting, Wakeup(), Holdings(), lambda: False)
        collector.start()
        for task in claimed:
            collector.put(task, Completed(json.dumps("x" * 98)))
    deliver_all(collector)
    assert sum(counting.sizes) == 60
    assert max(counting.sizes) == 10
    assert core.value("SELECT status FROM pgflow.runs") == "completed"


def test_verdicts_are_gathered_while_every_slot_has_work_waiting(
    core: Core, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector_module, "LINGER_SECONDS", WAIT_SECONDS)
    claimed = claim_map(core, database, 112)
    counting, is_sated = Counting(database), True
    collector = Collector(counting, Wakeup(), Holdings(), lambda: is_sated)
    collector.start()
    for task in claimed[:100]:
        collector.put(task, Completed("1"))
    wait_until(lambda: counting.sizes == [100], "a hundred are enough")
    for task in claimed[100:110]:
        collector.put(task, Completed("1"))
    is_sated = False
    collector.put(claimed[110], Completed("1"))
    wait_until(lambda: counting.sizes == [100, 11], "the first idle slot ends it")
    is_sated = True
    collector.put(claimed[111], Completed("1"))
    deliver_all(collector)  # nor does the worker's end wait for it
    assert core.value("SELECT status FROM pgflow.runs") == "completed"


def test_a_maps_elements_are_gathered_longer_until_another_task_ends(
    core: Core, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector_module, "LINGER_SECONDS", 0.0)
    monkeypatch.setattr(collector_module, "ELEMENTS_LINGER_SECONDS", WAIT_SECONDS)
    core.flow("f", "m*", "s")
    core.start("f", [1, 2, 3])
    workers.register(database, {"f": WORKER_ID}, name="test")
    claimed = sorted(BatchTasks(database).claim({"f": WORKER_ID}, 4), key=lambda task: task.step_slug)
    assert [task.kind for task in claimed] == ["map", "map", "map", "root"]
    counting = Counting(database)
    collector = Collector(counting, Wakeup(), Holdings(), lambda: True)
    collector.start()
    for task in claimed:
        collector.put(task, Completed("1"))
    wait_until(lambda: core.value("SELECT status FROM pgflow.runs") == "completed", "the single step's end is told")
    assert sum(counting.sizes) == 4
    deliver_all(collector)


def test_outcomes_are_kept_and_nothing_is_claimed_while_the_database_is_away(
    server: servers.Server, database: Database, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector_module, "MAX_UNDELIVERED_TASKS", 10)
    claimed = claim_map(core, database, 40)
    name = core.connection.info.dbname
    with collecting(database) as collector, server.admin() as admin:
        admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false".encode())
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> %s",
            (name, core.connection.info.backend_pid),
        )
        for task in claimed:
            collector.put(task, Completed("1"))
        assert not collector.wait_for_room(0.5)
        admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true".encode())
        assert collector.wait_for_room(20)
    assert core.value("SELECT status FROM pgflow.runs") == "completed"


def test_a_collector_that_is_abandoned_ends_although_the_database_does_not_answer(tmp_path: object) -> None:
    with Database(f"postgresql://postgres@/nothing?host={tmp_path}") as nowhere:
        collector = Collector(BatchTasks(nowhere), Wakeup(), Holdings(), lambda: False)
        collector.start()
        collector.put(
            ClaimedTask("f", "00000000-0000-4000-8000-000000000001", "m", 0, 1, 1, WORKER_ID, "map", "1", 1, 1),
            Completed("1"),
        )
        collector.stop()
        assert not collector.wait_until_stopped(0.1)
        assert collector.abandon() == 1
        assert collector.wait_until_stopped(WAIT_SECONDS)


COUNTING_TRIGGER = """
CREATE SEQUENCE public.tries;
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF nextval('public.tries') <= {times} THEN
    RAISE 'cache lookup failed for function 16857' USING ERRCODE = 'internal_error';
  END IF;
  RETURN new;
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON pgflow.step_tasks FOR EACH ROW
  WHEN (new.output = '"refused"') EXECUTE FUNCTION public.refuse();
"""

SLOW_TRIGGER = """
CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  PERFORM pg_sleep(10);
  RETURN new;
END $$;
CREATE TRIGGER dawdle BEFORE UPDATE ON pgflow.step_tasks FOR EACH ROW
  WHEN (length(new.output::text) > 1000) EXECUTE FUNCTION public.dawdle();
"""


def test_an_internal_error_that_passes_is_nobodys_fault(core: Core, database: Database) -> None:
    claimed = claim_map(core, database, 3)
    core.connection.execute(COUNTING_TRIGGER.format(times=collector_module.DOUBTFUL_TRIES - 1).encode())
    with collecting(database) as collector:
        for task in claimed:
            collector.put(task, Completed('"refused"'))
    assert core.value("SELECT status FROM pgflow.runs") == "completed"


def test_an_internal_error_that_stays_is_its_items_fault(core: Core, database: Database) -> None:
    claimed = claim_map(core, database, 3, max_attempts=2)
    core.connection.execute(COUNTING_TRIGGER.format(times=1000).encode())
    with collecting(database) as collector:
        for task in claimed:
            collector.put(task, Completed('"refused"' if task.task_index == 1 else "1"))
    rows = core.rows("SELECT status, error_message FROM pgflow.step_tasks ORDER BY task_index")
    assert [row["status"] for row in rows] == ["completed", "queued", "completed"]
    assert rows[1]["error_message"] == "PostgreSQL refused the output: cache lookup failed for function 16857"


def test_a_statement_timeout_costs_the_large_output_and_no_other(core: Core, database: Database) -> None:
    """Of a batch that takes too long each half is delivered for itself; what is large and alone is refused."""
    claimed = claim_map(core, database, 4)
    core.connection.execute(SLOW_TRIGGER.encode())
    large = '"' + "x" * collector_module.LARGE_CHARACTERS + '"'
    with (
        Database(psycopg.conninfo.make_conninfo(core.url, options="-c statement_timeout=300")) as hurried,
        collecting(hurried) as collector,
    ):
        for task in claimed:
            collector.put(task, Completed(large if task.task_index == 1 else "1"))
    rows = core.rows("SELECT status, error_message FROM pgflow.step_tasks ORDER BY task_index")
    assert [row["status"] for row in rows] == ["completed", "failed", "completed", "completed"]
    assert rows[1]["error_message"] == ("PostgreSQL refused the output: canceling statement due to statement timeout")


def test_a_small_outcome_that_takes_too_long_lets_others_pass_and_is_kept(core: Core, database: Database) -> None:
    """It waits for a lock, say: the database's fault, which may pass."""
    claimed = claim_map(core, database, 3)
    with (
        Database(psycopg.conninfo.make_conninfo(core.url, options="-c statement_timeout=100")) as hurried,
        psycopg.connect(core.url) as other,
        collecting(hurried) as collector,
    ):
        other.execute("SELECT 1 FROM pgflow.step_tasks WHERE task_index = 0 FOR UPDATE")
        for task in claimed:
            collector.put(task, Completed("1"))
        wait_until(lambda: statuses(core) == ["started", "completed", "completed"], "the others pass", WAIT_SECONDS)
        other.rollback()
    assert statuses(core) == ["completed"] * 3


def statuses(core: Core) -> list[str]:
    return [row["status"] for row in core.rows("SELECT status FROM pgflow.step_tasks ORDER BY task_index")]


def test_an_outcome_that_comes_after_the_last_delivery_is_told(
    core: Core, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    (task,) = claim_map(core, database, 1)
    collector = Collector(BatchTasks(database), Wakeup(), Holdings(), lambda: False)
    collector.start()
    deliver_all(collector)
    collector.put(task, Completed("1"))
    assert f"undelivered, as it came after the last delivery: {task}: Completed" in caplog.text


def test_outcomes_are_kept_while_the_schema_is_not_as_it_should_be(core: Core, database: Database) -> None:
    (task,) = claim_map(core, database, 1)
    core.rows("ALTER FUNCTION pgflow.complete_tasks RENAME TO complete_tasks_away")
    collector = Collector(BatchTasks(database), Wakeup(), Holdings(), lambda: False)
    collector.start()
    collector.put(task, Completed("1"))
    collector.stop()
    assert not collector.wait_until_stopped(0.5)
    core.rows("ALTER FUNCTION pgflow.complete_tasks_away RENAME TO complete_tasks")
    assert collector.wait_until_stopped(WAIT_SECONDS)
    assert core.value("SELECT status FROM pgflow.runs") == "completed"


class LosingAnswers(BatchTasks):
    """Its releases are committed, and the answers to the first of them lost."""

    releases = 0

    def release(self, tasks: Sequence[Holding]) -> list[str]:
        verdicts = super().release(tasks)
        self.releases += 1
        if self.releases == 1:
            raise DatabaseUnreachableError(target="the test", reason="the answer was lost")
        return verdicts


def test_a_release_whose_answer_was_lost_does_not_take_the_task_from_who_claimed_it_again(
    core: Core, database: Database
) -> None:
    """The same worker may be the one, for the same attempt: the database could not tell the second release."""
    (task,) = claim_map(core, database, 1)
    tasks, holdings = LosingAnswers(database), Holdings()
    collector = Collector(tasks, Wakeup(), holdings, lambda: False)
    collector.start()
    collector.put(task, Released("its slot lost its process"))
    wait_until(lambda: holdings.doubted > 0, "the answer is missed")
    (again,) = tasks.claim({"f": WORKER_ID}, 1)
    assert again.key == task.key
    collector.stop()
    assert collector.wait_until_stopped(WAIT_SECONDS)
    assert tasks.releases == 1
    assert core.value("SELECT status FROM pgflow.step_tasks") == "started"
