"""Stalled tasks, workers, and what clients read."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from pgflow.database import Database, retention, schema
from pgflow.errors import NotInContractError
from tests.conftest import skip_or_fail
from tests.support import contract_core, servers
from tests.support.sql import Core

Prune = Callable[[Core, float], object]
REQUEUE = "SELECT pgflow.requeue_stalled_tasks()"


def age(core: Core, seconds: int) -> None:
    """Make the started tasks that much older."""
    core.rows(
        "UPDATE pgflow.step_tasks SET started_at = started_at - make_interval(secs => %s), "
        "queued_at = queued_at - make_interval(secs => %s) WHERE status = 'started'",
        *(seconds, seconds),
    )


@pytest.mark.parametrize(
    ("step_timeout", "age_seconds", "requeued"),
    [(None, 85, 0), (None, 95, 1), (5, 30, 0), (5, 40, 1), (600, 100, 0), (600, 640, 1)],
)
def test_tasks_stall_30_seconds_after_their_timeout(
    core: Core, step_timeout: int | None, age_seconds: int, requeued: int
) -> None:
    """D5: the step's timeout counts before the flow's, which is 60 here."""
    core.flow("f")
    core.step("f", "a", timeout=step_timeout)
    core.start("f", 1)
    core.claim("f")
    age(core, age_seconds)
    assert core.value(REQUEUE) == requeued


def test_a_stalled_task_goes_back_to_its_queue_three_times(core: Core) -> None:
    core.flow("f", "a", max_attempts=10)
    run_id = core.start("f", 1)
    for count in (1, 2, 3):
        (task,) = core.claim("f")
        assert task.attempt == count
        age(core, 100)
        assert core.value(REQUEUE) == 1
        (row,) = core.tasks(run_id)
        assert (row["status"], row["requeued_count"], row["attempts_count"]) == ("queued", count, count)
        assert (row["started_at"], row["last_worker_id"], row["last_requeued_at"] is not None) == (
            None,
            None,
            True,
        )
        assert core.complete([task], ["too late"]) == ["stale"]
    core.claim("f")
    age(core, 100)
    assert core.value(REQUEUE) == 0
    (row,) = core.tasks(run_id)
    assert (row["status"], row["requeued_count"]) == ("started", 3)
    assert row["permanently_stalled_at"] is not None
    assert (core.queue("f"), core.archived("f"), core.run(run_id)["status"]) == ([], 1, "started")
    assert core.value(REQUEUE) == 0


@pytest.mark.parametrize("table", ["runs", "step_states"])
def test_tasks_of_what_has_ended_are_not_requeued(core: Core, table: str) -> None:
    core.flow("f", "a")
    core.start("f", 1)
    core.claim("f")
    age(core, 1000)
    core.rows(f"UPDATE pgflow.{table} SET status = 'failed', failed_at = now()")
    assert core.value(REQUEUE) == 0


def test_requeueing_passes_over_tasks_that_somebody_works_on(core: Core, other: Core) -> None:
    core.flow("f", "m*", max_attempts=5)
    core.start("f", [1, 2])
    first, _ = core.claim("f")
    age(core, 100)
    with core.connection.transaction():
        core.rows("SELECT FROM pgflow.step_tasks WHERE task_index = 0 FOR UPDATE")
        assert other.value(REQUEUE) == 1
    assert core.complete([first], ["just in time"]) == ["completed"]


def test_deleting_a_flow_takes_its_queue_and_runs_and_nothing_else(core: Core) -> None:
    core.flow("f", "a", "m* <- a")
    core.flow("g", "a")
    core.start("f", 1)
    kept = core.start("g", 1)
    core.complete(core.claim("f"), [[1, 2]])
    core.rows("SELECT pgflow.delete_flow_and_data('f'), pgflow.delete_flow_and_data('nobody')")
    for table in ("flows", "steps", "deps", "runs", "step_states", "step_tasks"):
        assert core.rows(f"SELECT FROM pgflow.{table} WHERE flow_slug = 'f'") == []
    assert core.value("SELECT to_regclass('pgmq.q_f')") is None
    assert core.run(kept)["status"] == "started"


def _at_once(core: Core, seconds: float) -> None:
    core.rows("SELECT pgflow.prune_data_older_than(make_interval(secs => %s))", seconds)


def _in_steps(core: Core, seconds: float) -> None:
    with Database(core.url) as database:
        retention.prune(database, seconds)


@pytest.fixture(params=[_at_once, _in_steps])
def prune(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Prune:
    """The contract's function, and ours that do the same in steps, here of one run or message."""
    monkeypatch.setattr(retention, "RUNS_AT_ONCE", 1)
    monkeypatch.setattr(retention, "MESSAGES_AT_ONCE", 1)
    chosen: Prune = request.param
    return chosen


def test_pruning_deletes_what_ended_long_ago_and_nothing_else(core: Core, prune: Prune) -> None:
    core.flow("f", "a", "b")
    core.flow("g", "a")
    core.rows("SELECT pgmq.drop_queue('g')")  # as tools may
    completed, failed, fresh, going = (core.start("f", number) for number in range(4))
    for task in core.claim("f"):
        if task.run_id == failed and task.step_slug == "a":
            core.fail([task], ["no"])
        elif task.run_id != going:
            core.complete([task], [1])
        else:
            core.release([task])
    core.rows(
        "UPDATE pgflow.runs SET started_at = started_at - interval '9 days', "
        "completed_at = completed_at - interval '9 days', failed_at = failed_at - interval '9 days' WHERE run_id <> %s",
        fresh,
    )
    core.rows("UPDATE pgmq.a_f SET archived_at = now() - interval '9 days' WHERE msg_id < 3")
    archived = core.archived("f")
    core.rows("UPDATE pgflow.workers SET last_heartbeat_at = now() - interval '9 days'")
    other_worker = core.value(
        "INSERT INTO pgflow.workers (worker_id, queue_name, function_name) "
        "VALUES (gen_random_uuid(), 'f', 'f') RETURNING worker_id"
    )
    prune(core, 7 * 86400)
    kept = {fresh, going}
    for table in ("runs", "step_states", "step_tasks"):
        assert {row["run_id"] for row in core.rows(f"SELECT run_id FROM pgflow.{table}")} == kept
    assert {row["message"]["run_id"] for row in core.queue("f")} == {str(going)}
    assert core.archived("f") == archived - 2
    assert [row["worker_id"] for row in core.rows("SELECT worker_id FROM pgflow.workers")] == [other_worker]
    assert completed not in kept


def test_pruning_deletes_the_messages_that_a_failed_run_left(core: Core, prune: Prune) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    core.rows("UPDATE pgflow.runs SET status = 'failed', failed_at = now()")  # by hand: the message stays
    prune(core, -1)
    assert (core.queue("f"), core.archived("f")) == ([], 0)
    assert core.rows("SELECT run_id FROM pgflow.runs WHERE run_id = %s", run_id) == []


def test_pruning_deletes_runs_whose_queue_is_lost(core: Core, prune: Prune) -> None:
    core.flow("f", "a")
    core.flow("g", "a")
    core.start("f", 1)
    core.start("g", 1)
    core.complete([*core.claim("f"), *core.claim("g")], [1, 1])
    core.rows("SELECT pgmq.drop_queue('f')")
    prune(core, -1)
    assert core.rows("SELECT FROM pgflow.runs") == []
    assert core.archived("g") == 0


def test_pruning_passes_over_runs_that_somebody_works_on(core: Core, other: Core, prune: Prune) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    core.complete(core.claim("f"), [1])
    with core.connection.transaction():
        core.rows("SELECT FROM pgflow.runs FOR UPDATE")
        prune(other, -1)
    assert core.run(run_id)["status"] == "completed"


def test_pruning_in_steps_goes_through_the_table_once_while_runs_come_and_go(core: Core) -> None:
    """Each step is a transaction of so many runs; what it counts is what is gone."""
    core.flow("f", "a")
    core.rows("SELECT pgflow.start_flows('f', array_fill('1'::jsonb, ARRAY[1200]))")
    core.complete(core.claim("f", 1100), [1] * 1100)
    core.rows("UPDATE pgflow.workers SET last_heartbeat_at = now() - interval '2 minutes'")
    counts: list[int] = []
    with Database(core.url) as database:
        pruned = retention.prune(database, 0, lambda so_far: counts.append(so_far.runs))
    assert counts[:3] == [500, 1000, 1100]
    assert (pruned.runs, pruned.messages, pruned.workers) == (1100, 1100, 1)
    for table in ("runs", "step_states", "step_tasks", "task_attempts"):
        assert core.value(f"SELECT count(*) FROM pgflow.{table}") == (0 if table == "task_attempts" else 100)
    assert len(core.complete(core.claim("f", 1000), [1] * 100)) == 100


def test_pruning_keeps_workers_that_hold_tasks_until_these_are_rescued(core: Core, prune: Prune) -> None:
    """Without its row nobody would find a worker with what it holds, and the run would never end."""
    core.flow("f", "a")
    core.start("f", 1)
    held = core.claim("f")
    core.rows("UPDATE pgflow.workers SET last_heartbeat_at = now() - interval '9 days'")
    prune(core, 86400)
    assert core.requeue(held) == ["requeued"]
    prune(core, 86400)
    assert core.rows("SELECT FROM pgflow.workers") == []


def test_pruning_in_steps_keeps_workers_that_live(core: Core) -> None:
    core.flow("f", "a")
    core.register_worker()
    _in_steps(core, 0)
    assert core.value("SELECT count(*) FROM pgflow.workers") == 1
    core.rows("UPDATE pgflow.workers SET stopped_at = now()")
    _in_steps(core, 0)
    assert core.value("SELECT count(*) FROM pgflow.workers") == 0


def test_another_implementations_core_is_not_pruned_in_steps(empty_database_url: str) -> None:
    contract_core.install(empty_database_url)
    with (
        Database(empty_database_url) as database,
        pytest.raises(NotInContractError, match="pruning in short transactions"),
    ):
        retention.prune(database, 0)


def test_without_pg_cron_its_setup_says_so(core: Core) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match="pg_cron is not installed in this database"):
        core.rows("SELECT pgflow.setup_requeue_stalled_tasks_cron()")


def test_pg_cron_requeues_stalled_tasks_in_one_job() -> None:
    binaries = servers.system_binaries()
    if binaries is None or not servers.has_library(binaries, "pg_cron"):
        skip_or_fail("pg_cron is not installed for the system's PostgreSQL")
    assert binaries is not None
    settings = {"shared_preload_libraries": "pg_cron", "cron.database_name": "postgres"}
    for server in servers.running(binaries, **settings):
        with psycopg.connect(server.url()) as connection:
            schema.install(connection)
        core = Core(server.url())
        with core.connection:
            core.rows("CREATE EXTENSION pg_cron")
            setup = "SELECT pgflow.setup_requeue_stalled_tasks_cron('* * * * *')"
            first, second = core.value(setup), core.value(setup)
            (job,) = core.rows("SELECT jobid, schedule, command FROM cron.job")
        assert first.startswith("Scheduled pgflow_requeue_stalled_tasks (every * * * * *, job_id=")
        assert second == f"Scheduled pgflow_requeue_stalled_tasks (every * * * * *, job_id={job['jobid']})"
        assert job["command"] == "select pgflow.requeue_stalled_tasks()"


def test_a_worker_function_is_tracked(core: Core) -> None:
    track = "SELECT pgflow.track_worker_function('w')"
    core.rows(track)
    core.rows("UPDATE pgflow.worker_functions SET enabled = false")
    (before,) = core.rows("SELECT * FROM pgflow.worker_functions")
    core.rows(track)
    (after,) = core.rows("SELECT * FROM pgflow.worker_functions")
    assert after["updated_at"] > before["updated_at"]
    assert after | {"updated_at": None} == before | {"updated_at": None}
    assert (after["enabled"], after["last_invoked_at"]) == (False, None)


def test_a_worker_is_marked_as_stopped(core: Core, other: Core) -> None:
    core.register_worker()
    other.register_worker()
    core.rows("SELECT pgflow.mark_worker_stopped(%s)", core.worker_id)
    assert core.rows("SELECT worker_id FROM pgflow.workers WHERE stopped_at IS NOT NULL") == [
        {"worker_id": core.worker_id}
    ]


def test_poll_for_tasks_only_says_that_it_is_of_no_use(core: Core) -> None:
    notices = []
    core.connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    core.flow("f", "a")
    core.start("f", 1)
    assert core.rows("SELECT * FROM pgflow.poll_for_tasks('f', 1, 1)") == []
    assert len(notices) == 1
    assert len(core.claim("f")) == 1


def test_a_run_is_read_with_its_states(core: Core) -> None:
    core.flow("f", "z", "a <- z")
    both = core.value("SELECT pgflow.start_flow_with_states('f', '{\"n\": 1}')")
    assert (both["run"]["status"], both["run"]["input"]) == ("started", {"n": 1})
    assert [(s["step_slug"], s["status"]) for s in both["steps"]] == [("z", "started"), ("a", "created")]
    assert core.value("SELECT pgflow.get_run_with_states(%s)", both["run"]["run_id"]) == both
    assert core.value("SELECT pgflow.get_run_with_states(gen_random_uuid())") is None


def test_a_client_may_be_granted_to_start_and_look_without_the_tables(core: Core) -> None:
    core.flow("f", "a")
    core.rows("DROP ROLE IF EXISTS looker")
    core.rows("CREATE ROLE looker")
    core.rows("GRANT USAGE ON SCHEMA pgflow TO looker")
    core.rows("GRANT EXECUTE ON FUNCTION pgflow.start_flow_with_states TO looker")
    try:
        core.rows("SET ROLE looker")
        assert core.value("SELECT pgflow.start_flow_with_states('f', '1')")["run"]["status"] == "started"
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            core.rows("SELECT * FROM pgflow.runs")
    finally:
        core.rows("RESET ROLE")
        core.rows("DROP OWNED BY looker")
        core.rows("DROP ROLE looker")
