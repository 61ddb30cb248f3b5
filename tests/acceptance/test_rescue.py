"""Whoever dies: what becomes of the tasks of workers that are killed, stopped or cut off, and of runs that end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pgflow import Worker
from pgflow.database import Database, workers
from pgflow.database.tasks import BatchTasks, ClaimedTask
from pgflow.process.identity import ProcessIdentity
from pgflow.worker import rescue as rescue_module
from pgflow.worker.rescue import Rescue
from tests.support.sql import Core
from tests.support.waiting import wait_until
from tests.support.worker import HOSTILE, Runs, dispatcher_of, run_hostile

DEAD = "00000000-0000-4000-8000-000000000001"
RESCUER = "00000000-0000-4000-8000-000000000002"


def hang(runs: Runs, timeout: int = 3600) -> str:
    """A run whose only task hangs, in a step that may take an hour."""
    runs.query("UPDATE pgflow.flows SET opt_timeout = %s", timeout)
    run_id = run_hostile(runs, "hang_blocking_all_signals")
    wait_until(lambda: runs.tasks(run_id)[0]["status"] == "started", "the handler hangs")
    return run_id


def history(runs: Runs, run_id: str) -> list[dict[str, Any]]:
    return runs.query(
        "SELECT outcome, attempt, error_message, evidence FROM pgflow.task_attempts WHERE run_id = %s ORDER BY attempt_id",
        run_id,
    )


def test_a_worker_started_on_the_same_host_returns_its_predecessors_tasks_at_once_and_without_an_attempt(
    start_worker: Callable[..., Worker], database_url: str, runs: Runs
) -> None:
    worker = start_worker(HOSTILE)
    run_id = hang(runs)
    pid = dispatcher_of(worker).pid
    dispatcher_of(worker).kill()
    began = time.monotonic()
    with Worker(database_url, [HOSTILE], slots=1) as successor:
        wait_until(lambda: history(runs, run_id) != [], "the task went back")
        assert time.monotonic() - began < 10  # the start of a worker included
        wait_until(lambda: runs.tasks(run_id)[0]["status"] == "started", "it is tried again")
        (task,) = runs.tasks(run_id)
        assert (task["attempts_count"], task["requeued_count"]) == (1, 1)
        ((attempt),) = history(runs, run_id)
        assert attempt["outcome"] == "requeued"
        assert f":{pid} is gone" in attempt["error_message"]
        successor.stop(timeout=0)


def test_the_fourth_worker_that_a_task_loses_is_the_last(
    start_worker: Callable[..., Worker], database_url: str, runs: Runs
) -> None:
    worker = start_worker(HOSTILE)
    run_id = hang(runs)
    runs.query("UPDATE pgflow.step_tasks SET requeued_count = 3")
    dispatcher_of(worker).kill()
    with Worker(database_url, [HOSTILE], slots=1):
        assert runs.finish(run_id)["status"] == "failed"
    (task,) = runs.tasks(run_id)
    assert task["status"] == "failed"
    assert "its worker died again" in task["error_message"].splitlines()[0]


@pytest.mark.quiet
def test_tasks_of_a_cancelled_run_are_killed_within_two_seconds_and_other_runs_go_on(
    database_url: str, runs: Runs, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("w") as stderr, Worker(database_url, [HOSTILE], slots=1, stderr=stderr) as worker:
        run_id = hang(runs)
        (process,) = [child for child in dispatcher_of(worker).children(recursive=True) if is_busy(child)]
        runs.query("SELECT pgflow.cancel_run(%s, 'wrong input')", run_id)
        began = time.monotonic()
        process.wait(10)
        assert time.monotonic() - began < 2.5
        assert runs.finish(run_hostile(runs, "add_one", {"value": 1}))["output"] == {"add_one": 2}
    (attempt,) = history(runs, run_id)
    assert attempt["outcome"] == "cancelled"
    assert attempt["error_message"].startswith(
        "Task was killed: its run or step has ended; it was in hang_blocking_all"
    )
    assert attempt["evidence"]["cpu_seconds"] > 0
    assert runs.tasks(run_id)[0]["error_message"] == attempt["error_message"]


def is_busy(process: Any) -> bool:
    return bool(process.name().startswith("pgflow ") and process.parent().name() != process.name())


def test_a_task_whose_lease_was_lost_is_killed_and_its_result_dropped(
    start_worker: Callable[..., Worker], database_url: str, runs: Runs
) -> None:
    worker = start_worker(HOSTILE)
    run_id = hang(runs)
    (process,) = [child for child in dispatcher_of(worker).children(recursive=True) if is_busy(child)]
    # As if another worker had taken it over.
    workers.register(Database(database_url), {"hostile": RESCUER}, name="another")
    runs.query("UPDATE pgflow.step_tasks SET last_worker_id = %s WHERE run_id = %s", RESCUER, run_id)
    process.wait(10)
    worker.stop(timeout=0)
    (task,) = runs.tasks(run_id)
    assert (task["status"], task["attempts_count"], task["error_message"]) == ("started", 1, None)


def test_a_message_stays_invisible_while_its_task_runs_however_late_it_began(
    start_worker: Callable[..., Worker], runs: Runs
) -> None:
    start_worker(HOSTILE)
    hang(runs, timeout=3)

    def is_covered() -> bool:
        (row,) = runs.query("SELECT vt > clock_timestamp() + interval '10 seconds' AS covered FROM pgmq.q_hostile")
        return bool(row["covered"])

    wait_until(is_covered, "the lease is extended")


def test_a_dispatcher_that_was_frozen_and_rescued_drops_what_it_holds(
    start_worker: Callable[..., Worker], database_url: str, runs: Runs
) -> None:
    """Its tasks are another's when it wakes: exactly one verdict."""
    worker = start_worker(HOSTILE)
    run_id = hang(runs)
    dispatcher_of(worker).send_signal(signal.SIGSTOP)
    runs.query("UPDATE pgflow.workers SET last_heartbeat_at = now() - interval '1 hour'")
    with Worker(database_url, [HOSTILE], slots=1) as other:
        wait_until(lambda: history(runs, run_id) != [], "the task went back", timeout=30)
        wait_until(lambda: runs.tasks(run_id)[0]["status"] == "started", "it is tried again")
        runs.query("UPDATE pgflow.flows SET opt_timeout = 60")
        dispatcher_of(worker).send_signal(signal.SIGCONT)
        wait_until(lambda: len([w for w in runs.workers() if w["stopped_at"] is None]) == 2, "it lives again")
        other.stop(timeout=0)
        worker.stop(timeout=0)
    outcomes = [attempt["outcome"] for attempt in history(runs, run_id)]
    assert outcomes[0] == "requeued"
    assert runs.tasks(run_id)[0]["status"] == "queued"


def test_a_result_that_came_while_the_dispatcher_stood_still_is_not_taken_for_a_timeout(
    start_worker: Callable[..., Worker], runs: Runs, tmp_path: Path
) -> None:
    worker = start_worker(HOSTILE)
    began, go = tmp_path / "began", tmp_path / "go"
    run_id = run_hostile(runs, "note_and_wait", {"began": str(began), "go": str(go)})
    wait_until(began.exists, "the handler runs")
    dispatcher_of(worker).send_signal(signal.SIGSTOP)
    go.touch()
    time.sleep(2.5)  # past its deadline of 1 s, and what is allowed after it
    dispatcher_of(worker).send_signal(signal.SIGCONT)
    assert runs.finish(run_id)["status"] == "completed"
    # It is tried again if pebble's own timeout came before pebble read the result.
    assert {attempt["outcome"] for attempt in history(runs, run_id)} <= {"completed", "requeued"}


# Who is taken for dead.


@pytest.fixture
def core(database_url: str) -> Iterator[Core]:
    core = Core(database_url)
    with core.connection:
        core.flow("f", "m*", max_attempts=3)
        yield core


def held_by(core: Core, database: Database, process: ProcessIdentity | None = None) -> list[ClaimedTask]:
    """Tasks held by a worker that nobody will hear of again."""
    core.start("f", [1, 2, 3])
    workers.register(database, {"f": DEAD}, name="dead@elsewhere:1", process=process)
    workers.register(database, {"f": RESCUER}, name="rescuer@here:1")
    return BatchTasks(database).claim({"f": DEAD}, 3)


def looking(database: Database) -> Rescue:
    return Rescue(database, BatchTasks(database), [RESCUER])


def statuses(core: Core) -> list[str]:
    return [row["status"] for row in core.rows("SELECT status FROM pgflow.step_tasks ORDER BY task_index")]


def test_who_is_silent_while_we_watch_is_dead(core: Core, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    held_by(core, database)
    rescue = looking(database)
    rescue._look()
    assert statuses(core) == ["started"] * 3
    monkeypatch.setattr(rescue_module, "SILENCE_SECONDS", 0.0)
    core.rows("UPDATE pgflow.workers SET last_heartbeat_at = now() - interval '7 seconds' WHERE worker_id = %s", DEAD)
    rescue._look()
    assert statuses(core) == ["queued"] * 3
    assert core.value("SELECT stopped_at IS NOT NULL FROM pgflow.workers WHERE worker_id = %s", DEAD)


def test_old_heartbeats_alone_kill_nobody(core: Core, database: Database) -> None:
    """After an outage of the database all heartbeats are old."""
    held_by(core, database)
    core.rows("UPDATE pgflow.workers SET last_heartbeat_at = now() - interval '1 hour'")
    rescue = looking(database)
    rescue._look()
    rescue._look()
    assert statuses(core) == ["started"] * 3


def test_a_look_that_fails_forgets_what_was_seen(
    core: Core, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_by(core, database)
    core.rows("UPDATE pgflow.workers SET last_heartbeat_at = now() - interval '1 hour'")
    rescue = looking(database)
    rescue._try_to_look()
    assert list(rescue._seen) == [DEAD]
    core.rows("ALTER TABLE pgflow.workers RENAME TO workers_away")
    rescue._try_to_look()
    core.rows("ALTER TABLE pgflow.workers_away RENAME TO workers")
    assert rescue._seen == {}


def test_who_shows_that_it_lives_is_watched_anew(
    core: Core, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_by(core, database)
    core.rows("UPDATE pgflow.workers SET last_heartbeat_at = now() - interval '7 seconds'")
    rescue = looking(database)
    rescue._look()
    first = rescue._seen[DEAD][1]
    core.rows("UPDATE pgflow.workers SET last_heartbeat_at = now() - interval '8 seconds'")
    rescue._look()
    assert rescue._seen[DEAD][1] > first
    workers.heartbeat(database, [DEAD])
    rescue._look()
    assert rescue._seen == {}


def test_one_worker_at_a_time_rescues(core: Core, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    held_by(core, database)
    monkeypatch.setattr(rescue_module, "SILENCE_SECONDS", 0.0)
    rescue = looking(database)
    with workers.rescuing(database) as is_ours:
        assert is_ours
        rescue._look()
        assert statuses(core) == ["started"] * 3
    rescue._look()
    assert statuses(core) == ["started"] * 3  # its heartbeat is young


def test_what_a_stopped_worker_left_is_handed_back(
    core: Core, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_by(core, database)
    workers.mark_stopped(database, [DEAD])
    monkeypatch.setattr(rescue_module, "SILENCE_SECONDS", 0.0)
    looking(database)._look()
    assert statuses(core) == ["queued"] * 3


def test_a_result_after_the_rescue_is_late(core: Core, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    held = held_by(core, database)
    workers.mark_stopped(database, [DEAD])
    monkeypatch.setattr(rescue_module, "SILENCE_SECONDS", 0.0)
    looking(database)._look()
    assert BatchTasks(database).complete(held, ["1", "2", "3"]) == ["stale"] * 3
    (again, *_) = BatchTasks(database).claim({"f": RESCUER}, 3)
    assert again.attempt == 1


def test_a_worker_whose_row_is_deleted_registers_again(start_worker: Callable[..., Worker], runs: Runs) -> None:
    """A prune takes who was silent for long for dead."""
    start_worker(HOSTILE)
    (before,) = runs.workers()
    runs.query("DELETE FROM pgflow.workers")
    assert runs.finish(run_hostile(runs, "add_one", {"value": 1}))["output"] == {"add_one": 2}
    (after,) = runs.workers()
    assert (after["worker_id"], after["function_name"]) == (before["worker_id"], before["function_name"])
    assert len(runs.query("SELECT pid FROM pgflow.worker_processes")) == 1
