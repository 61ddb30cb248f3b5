"""The workers' rows: who registers, who is silent, who is marked dead and lives all the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from pgflow.database import Database, named_query, schema, workers
from pgflow.database.contract_tasks import ContractTasks
from pgflow.database.tasks import BatchTasks, FailedAttempt, Holding, Tasks
from pgflow.outcome import NO_RETRY
from pgflow.process.identity import ProcessIdentity, of_this_process
from tests.support import contract_core
from tests.support.sql import Core, while_waiting_for

FIRST = "00000000-0000-4000-8000-000000000001"
SECOND = "00000000-0000-4000-8000-000000000002"
OWN = "00000000-0000-4000-8000-000000000003"


@pytest.fixture(params=["ours", "contract"])
def is_ours(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "ours")


@pytest.fixture
def database(empty_database_url: str, is_ours: bool) -> Iterator[Database]:
    with Database(empty_database_url) as opened:
        if is_ours:
            with opened.connection() as connection:
                schema.install(connection)
        else:
            contract_core.install(empty_database_url)
        yield opened


@pytest.fixture
def core(database: Database) -> Iterator[Core]:
    core = Core(database.conninfo)
    with core.connection:
        core.flow("f", "m*", max_attempts=5)
        yield core


@pytest.fixture
def tasks(database: Database, is_ours: bool) -> Tasks:
    return BatchTasks(database) if is_ours else ContractTasks(database)


def register(database: Database, *worker_ids: str, process: ProcessIdentity | None = None) -> None:
    for worker_id in worker_ids:
        workers.register(database, {"f": worker_id}, f"name of {worker_id[-1]}", process)


def silence(core: Core, worker_id: str) -> None:
    core.rows(
        "UPDATE pgflow.workers SET last_heartbeat_at = now() - interval '7 s' WHERE worker_id = %s", UUID(worker_id)
    )


def claim(tasks: Tasks, worker_id: str, quantity: int = 100) -> list[Holding]:
    return [*tasks.claim({"f": worker_id}, quantity)]


def suspected(database: Database) -> list[str]:
    return [suspect.worker_id for suspect in workers.suspects(database, [OWN])]


def test_a_worker_that_is_silent_is_a_suspect(database: Database, core: Core, is_ours: bool) -> None:
    process = of_this_process()
    register(database, SECOND, FIRST, OWN, process=process)
    assert suspected(database) == []
    for worker_id in (FIRST, SECOND, OWN):
        silence(core, worker_id)
    first, second = workers.suspects(database, [OWN])
    assert (first.worker_id, second.worker_id) == (FIRST, SECOND)
    assert (first.is_stopped, first.name, first.holds) == (False, "name of 1", 0)
    assert first.process == (process if is_ours else None)
    assert first.heartbeat is not None


def test_a_worker_that_has_stopped_is_one_only_while_it_holds_something(
    database: Database, core: Core, tasks: Tasks
) -> None:
    register(database, FIRST, SECOND)
    core.start("f", [1, 2, 3])
    claim(tasks, FIRST, 2)
    claim(tasks, SECOND)
    workers.mark_stopped(database, [FIRST])
    (suspect,) = workers.suspects(database, [OWN])
    assert (suspect.worker_id, suspect.is_stopped, suspect.holds, suspect.process) == (FIRST, True, 2, None)
    held = tasks.held_by([FIRST])
    assert tasks.requeue(held, ["it stopped"] * 2) == ["requeued"] * 2
    assert suspected(database) == []


def test_tasks_of_failed_runs_do_not_make_a_suspect_for_ever(database: Database, core: Core, tasks: Tasks) -> None:
    register(database, FIRST)
    core.start("f", [1, 2])
    first, second = claim(tasks, FIRST)
    tasks.fail([first], [FailedAttempt("no", retry_delay=NO_RETRY)])
    assert core.value("SELECT status FROM pgflow.runs") == "failed"
    workers.mark_stopped(database, [FIRST])
    assert suspected(database) == [FIRST]
    assert tasks.held_by([FIRST]) == [Holding(**{f: getattr(second, f) for f in Holding.__dataclass_fields__})]
    assert tasks.requeue(tasks.held_by([FIRST]), ["it stopped"]) == ["over"]
    assert suspected(database) == []


def test_tasks_that_have_stalled_for_good_are_nobodys(database: Database, core: Core, tasks: Tasks) -> None:
    register(database, FIRST)
    core.start("f", [1])
    claim(tasks, FIRST)
    core.rows("UPDATE pgflow.step_tasks SET permanently_stalled_at = now()")
    workers.mark_stopped(database, [FIRST])
    assert (suspected(database), tasks.held_by([FIRST])) == ([], [])


def test_a_worker_whose_row_is_gone_is_one_while_it_holds_something(
    database: Database, core: Core, tasks: Tasks
) -> None:
    register(database, FIRST)
    core.start("f", [1])
    claim(tasks, FIRST)
    core.rows("ALTER TABLE pgflow.step_tasks DROP CONSTRAINT step_tasks_last_worker_id_fkey")
    core.rows("DELETE FROM pgflow.workers")
    assert workers.suspects(database, [OWN]) == [workers.Suspect(FIRST, None, True, "", None, 1)]
    assert workers.mark_dead(database, workers.suspects(database, [OWN])) == []


def test_what_workers_hold(database: Database, core: Core, tasks: Tasks) -> None:
    register(database, FIRST, SECOND, OWN)
    core.start("f", [1, 2, 3])
    first, second = claim(tasks, FIRST, 2)
    (third,) = claim(tasks, SECOND)
    held = tasks.held_by([FIRST, OWN])
    assert sorted(map(str, held)) == sorted([str(first), str(second)])
    assert [type(holding) for holding in held] == [Holding, Holding]
    assert tasks.complete(held, ["1", "2"]) == ["completed", "completed"]
    assert [str(holding) for holding in tasks.held_by([FIRST, SECOND])] == [str(third)]
    assert tasks.held_by([]) == []


def test_who_is_marked_dead_is_a_suspect_no_more_until_it_shows_that_it_lives(database: Database, core: Core) -> None:
    register(database, FIRST, SECOND)
    silence(core, FIRST)
    suspects = workers.suspects(database, [OWN])
    assert workers.mark_dead(database, suspects) == [FIRST]
    assert workers.mark_dead(database, suspects) == []
    assert suspected(database) == []
    assert workers.heartbeat(database, [FIRST]) == workers.Heartbeat(False, frozenset())
    assert core.value("SELECT count(*) FROM pgflow.workers WHERE stopped_at IS NULL") == 2
    workers.mark_stopped(database, [FIRST])
    assert core.value("SELECT count(*) FROM pgflow.workers WHERE stopped_at IS NULL") == 1


def test_who_has_shown_since_that_it_lives_is_not_marked_dead(database: Database, core: Core) -> None:
    register(database, FIRST)
    silence(core, FIRST)
    suspects = workers.suspects(database, [OWN])
    workers.heartbeat(database, [FIRST])
    assert workers.mark_dead(database, suspects) == []
    assert core.value("SELECT stopped_at FROM pgflow.workers") is None


def heartbeat(core: Core, *worker_ids: str) -> list[Any]:
    """The heartbeat on the test's own connection."""
    return core.connection.execute(named_query("heartbeat").encode(), {"worker_ids": list(worker_ids)}).fetchall()


def test_a_heartbeat_under_way_is_not_waited_for(database: Database, core: Core) -> None:
    register(database, FIRST, SECOND)
    silence(core, FIRST)
    silence(core, SECOND)
    suspects = workers.suspects(database, [OWN])
    with core.connection.transaction():
        heartbeat(core, FIRST)
        assert workers.mark_dead(database, suspects) == [SECOND]
    assert suspected(database) == []


def test_a_heartbeat_that_waits_for_the_mark_takes_it_away(database: Database, core: Core) -> None:
    register(database, FIRST, SECOND)
    silence(core, SECOND)
    (suspect,) = workers.suspects(database, [OWN])

    def mark_dead() -> list[Any]:
        parameters = {"worker_ids": [suspect.worker_id], "heartbeats": [suspect.heartbeat]}
        return core.connection.execute(named_query("mark_workers_dead").encode(), parameters).fetchall()

    marked, _ = while_waiting_for(core, mark_dead, lambda: workers.heartbeat(database, [SECOND, FIRST]))
    assert len(marked) == 1
    assert core.value("SELECT count(*) FROM pgflow.workers WHERE stopped_at IS NULL") == 2
    assert suspected(database) == []


def test_a_rescue_of_a_worker_that_lives_after_all_changes_nothing_for_what_it_claims_next(
    database: Database, core: Core, tasks: Tasks
) -> None:
    register(database, FIRST)
    core.start("f", [1])
    (old,) = claim(tasks, FIRST)
    silence(core, FIRST)
    (suspect,) = workers.suspects(database, [OWN])
    held = tasks.held_by([suspect.worker_id])
    assert tasks.release([old]) == ["released"]
    assert tasks.requeue(held, ["it was silent"]) == ["stale"]


@pytest.mark.parametrize("change", [{"attempt": 2}, {"worker_id": OWN}, {"msg_id": 99}])
def test_only_what_is_held_so_is_requeued(
    database: Database, core: Core, tasks: Tasks, change: dict[str, object]
) -> None:
    register(database, FIRST)
    core.start("f", [1])
    (task,) = claim(tasks, FIRST)
    other = replace(task, **change)  # type: ignore[arg-type]
    assert tasks.requeue([other], ["x"]) == ["stale"]
    assert tasks.renew([task, other], [None, 100]) == ["held", "lost"]


def test_one_worker_rescues_at_a_time(database: Database) -> None:
    with workers.rescuing(database) as first, workers.rescuing(database) as second:
        assert (first, second) == (True, False)
    with workers.rescuing(database) as third:
        assert third is True


def test_processes_go_with_their_workers(database: Database, core: Core, is_ours: bool) -> None:
    register(database, FIRST, process=of_this_process())
    if is_ours:
        assert core.value("SELECT pid FROM pgflow.worker_processes") == of_this_process().pid
        core.rows("DELETE FROM pgflow.workers")
        assert core.value("SELECT count(*) FROM pgflow.worker_processes") == 0
    else:
        assert core.value("SELECT to_regclass('pgflow.worker_processes')") is None
