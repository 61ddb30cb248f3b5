"""What operators are told of runs, tasks, workers, flows and what goes on now."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from pgflow import Database
from pgflow.database import Transaction
from pgflow.database.inspection import OwnTables, own_tables
from pgflow.database.inspection.activity import COUNTED, Observer
from pgflow.database.inspection.flows import flow_detail, list_flows
from pgflow.database.inspection.identifiers import find_flow, find_run
from pgflow.database.inspection.interventions import touched_by
from pgflow.database.inspection.payload import ALL
from pgflow.database.inspection.runs import list_runs, run_detail
from pgflow.database.inspection.tasks import TaskDump, dump_task, list_tasks
from pgflow.database.inspection.timeline import Timeline
from pgflow.database.inspection.workers import deprecate, find_worker, list_workers
from pgflow.errors import (
    AmbiguousIdError,
    IdNotFoundError,
    NotInContractError,
    RunNotChangedError,
    RunNotFoundError,
    SchemaMissingError,
)
from tests.database.test_sql_plans import rows_read
from tests.support import contract_core
from tests.support.seed import KILLED, Seed, seed
from tests.support.sql import Core
from tests.support.waiting import wait_until


@pytest.fixture
def seeded(core: Core) -> Seed:
    return seed(core)


@pytest.fixture
def database(core: Core) -> Iterator[Database]:
    with Database(core.url) as opened:
        yield opened


@pytest.fixture
def own(database: Database) -> OwnTables:
    return own_tables(database)


def dumped(database: Database, own: OwnTables, run_id: UUID, step: str, index: int = 0) -> TaskDump:
    dump = dump_task(database, own, str(run_id), step, index)
    assert dump is not None
    return dump


# --- ids ---------------------------------------------------------------------------------------------------------


def test_an_id_may_be_shortened_while_it_is_unique(core: Core, database: Database, seeded: Seed) -> None:
    run_id = str(seeded.failed)
    core.rows("UPDATE pgflow.flows SET created_at = now()")
    for given in (run_id, run_id.upper(), run_id.replace("-", ""), run_id[:14], run_id[:13]):
        assert find_run(database, given) == run_id


def test_an_ambiguous_id_names_the_candidates(core: Core, database: Database) -> None:
    core.flow("f", "a")
    ids = [f"abcd{number:04d}-0000-4000-8000-000000000000" for number in range(7)]
    for run_id in ids:
        core.rows("INSERT INTO pgflow.runs (run_id, flow_slug, input) VALUES (%s, 'f', '1')", run_id)
    with pytest.raises(AmbiguousIdError) as caught:
        find_run(database, "ABCD-0")
    assert str(caught.value) == (
        "ABCD-0 may be more than one run; give more of its id:\n"
        + "\n".join(f"  {run_id} (f, started)" for run_id in ids[:5])
        + "\n  ..."
    )
    assert find_run(database, "abcd0006") == ids[6]


@pytest.mark.parametrize("given", ["0" * 8, "no-id", "", "-", "f" * 40, "%", "12345678-9"])
def test_an_unknown_id_says_where_to_look(database: Database, given: str) -> None:
    with pytest.raises(IdNotFoundError, match=r"There is no run .* in the database .*: `pgflow runs list` shows"):
        find_run(database, given)


def test_a_flow_is_named_by_its_beginning_but_a_whole_name_comes_first(core: Core, database: Database) -> None:
    for slug in ("mail", "mail_daily", "thumbs"):
        core.flow(slug, "a")
    assert [find_flow(database, given) for given in ("mail", "mail_", "t")] == ["mail", "mail_daily", "thumbs"]
    with pytest.raises(AmbiguousIdError):
        find_flow(database, "mai")
    with pytest.raises(IdNotFoundError):
        find_flow(database, "")


# --- runs --------------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_and_it_is_told_that_there_are_more(
    core: Core, database: Database, seeded: Seed
) -> None:
    newest_first = [row["run_id"] for row in core.rows("SELECT run_id::text FROM pgflow.runs ORDER BY started_at DESC")]
    found, more = list_runs(database, limit=4)
    assert ([run.run_id for run in found], more) == (newest_first[:4], True)
    found, more = list_runs(database, limit=6)
    assert ([run.run_id for run in found], more) == (newest_first, False)


def test_runs_are_filtered(database: Database, seeded: Seed) -> None:
    def ids(**wanted: str) -> set[str]:
        return {run.run_id for run in list_runs(database, limit=10, **wanted)[0]}

    assert ids(status="failed") == {str(seeded.failed), str(seeded.cancelled)}
    assert ids(flow_slug="mail") == {str(seeded.started)}
    assert ids(flow_slug="orders", status="completed") == {str(seeded.completed)}


def test_a_failed_run_is_listed_with_its_reason(database: Database, seeded: Seed) -> None:
    runs = {run.run_id: run for run in list_runs(database, limit=10)[0]}
    failed = runs[str(seeded.failed)]
    assert (failed.failed_step, failed.error_message) == ("measure", KILLED)
    assert (failed.ended_steps, failed.steps) == (2, 4)
    assert runs[str(seeded.cancelled)].error_message == "Cancelled: wrong day"


def test_a_run_is_shown_with_its_steps(database: Database, own: OwnTables, seeded: Seed) -> None:
    detail = run_detail(database, own, str(seeded.failed))
    steps = {step.step_slug: step for step in detail.steps}
    assert list(steps) == ["list", "measure", "extra", "report"]
    assert steps["report"].depends_on == ("measure", "extra")
    measure = steps["measure"]
    assert (measure.tasks, measure.completed, measure.failed, measure.retries) == (4, 3, 1, 2)
    assert (steps["extra"].status, steps["extra"].skip_reason) == ("skipped", "condition_unmet")
    assert detail.first_failure is not None
    assert (detail.first_failure.step_slug, detail.first_failure.task_index) == ("measure", 2)
    with pytest.raises(RunNotFoundError):
        run_detail(database, own, str(uuid4()))


def test_recorded_failures_and_interventions_are_shown(database: Database, own: OwnTables, seeded: Seed) -> None:
    (shrink,) = run_detail(database, own, str(seeded.recorded)).steps
    assert (shrink.status, shrink.completed, shrink.recorded) == ("completed", 2, 1)
    (intervention,) = run_detail(database, own, str(seeded.cancelled)).interventions
    assert (intervention.action, intervention.requested_by, intervention.reason) == ("cancelled", "anna", "wrong day")


def test_what_cancelling_and_retrying_would_touch(database: Database, own: OwnTables, seeded: Seed) -> None:
    cancel = touched_by(database, own, "cancel", str(seeded.started))
    assert (cancel.steps, cancel.started, cancel.queued) == (("send",), 1, 2)
    retry = touched_by(database, own, "retry", str(seeded.failed))
    assert (retry.steps, retry.failed, retry.completed) == (("measure",), 1, 3)
    for verb, run_id in (("cancel", seeded.failed), ("cancel", seeded.completed), ("retry", seeded.completed)):
        with pytest.raises(RunNotChangedError):
            touched_by(database, own, verb, str(run_id))  # type: ignore[arg-type]


# --- tasks -------------------------------------------------------------------------------------------------------


def test_tasks_are_listed_by_step_and_element(database: Database, own: OwnTables, seeded: Seed) -> None:
    found, more = list_tasks(database, str(seeded.failed), limit=10)
    assert [(task.step_slug, task.task_index) for task in found] == [("list", 0), *(("measure", n) for n in range(4))]
    assert not more
    found, more = list_tasks(database, str(seeded.failed), step_slug="measure", status="completed", limit=2)
    assert ([task.task_index for task in found], more) == ([0, 1], True)
    assert dump_task(database, own, str(seeded.failed), "measure", 4) is None


def test_everything_about_a_killed_task(core: Core, database: Database, own: OwnTables, seeded: Seed) -> None:
    dump = dumped(database, own, seeded.failed, "measure", 2)
    assert (dump.task.status, dump.task.attempts, dump.task.max_attempts) == ("failed", 2, 2)
    assert dump.attempts is not None
    assert [(one.attempt, one.outcome, one.error_message) for one in dump.attempts] == [
        (1, "timed_out", KILLED),
        (2, "timed_out", KILLED),
    ]
    assert '"peak_rss": 12345678' in str(dump.attempts[0].evidence)
    assert dump.message is not None
    assert (dump.message.place, dump.message.read_ct) == ("archive", 2)
    assert dump.worker is not None
    assert (dump.worker.host, dump.worker.pid, dump.worker.worker_ids) == ("web-1", 4242, (str(core.worker_id),))
    assert (dump.step.timeout, dump.step.max_attempts) == (1, 2)
    assert dump.input is not None
    assert (dump.input.bytes, dump.input.truncated, dump.input.value) == (5002, True, None)
    whole = dump_task(database, own, str(seeded.failed), "measure", 2, characters=ALL)
    assert whole is not None
    assert whole.input is not None
    assert whole.input.value == '"' + "x" * 5000 + '"'
    assert dump_task(database, own, str(seeded.failed), "measure", 4) is None


def test_the_message_of_a_delayed_task_is_in_the_queue(database: Database, own: OwnTables, seeded: Seed) -> None:
    message = dumped(database, own, seeded.started, "send", 0).message
    assert message is not None
    assert (message.place, message.read_ct) == ("queue", 1)
    assert message.visible_in > 3600


def test_a_task_has_the_input_that_its_handler_gets(core: Core, database: Database, own: OwnTables) -> None:
    core.flow("f", "root", "items* <- root", "both <- root items", "none* <- root")
    core.flow("g", "elements*")
    run_id = core.start("f", {"n": 1})
    core.complete(core.claim("f"), [[7, None]])
    core.complete(core.claim("f"), [1, 2, 3, 4])
    inputs = {
        (task.step_slug, task.task_index): dumped(database, own, run_id, task.step_slug, task.task_index).input
        for task in list_tasks(database, str(run_id), limit=10)[0]
    }
    assert {key: value and value.value for key, value in inputs.items()} == {
        ("root", 0): '{"n": 1}',
        ("items", 0): "7",
        ("items", 1): "null",
        ("both", 0): '{"root": [7, null], "items": [1, 2]}',
        ("none", 0): "7",
        ("none", 1): "null",
    }
    element = dumped(database, own, core.start("g", ["a", {"b": 1}]), "elements", 1)
    assert element.input is not None
    assert element.input.value == '{"b": 1}'


# --- workers and flows -------------------------------------------------------------------------------------------


def register(core: Core, name: str, *flows: str, heard: str = "0 s", more: str = "") -> list[str]:
    rows = core.rows(
        "INSERT INTO pgflow.workers (worker_id, queue_name, function_name, last_heartbeat_at) "
        "SELECT gen_random_uuid(), f, %s, now() - %s::interval FROM unnest(%s::text[]) AS f RETURNING worker_id::text",
        *(name, heard, list(flows)),
    )
    ids = [row["worker_id"] for row in rows]
    if more:
        core.rows(f"UPDATE pgflow.workers SET {more} = now() WHERE worker_id = ANY(%s::uuid[])", ids)
    return ids


def test_a_worker_of_several_flows_is_one(core: Core, database: Database, own: OwnTables) -> None:
    core.flow("a", "s")
    ids = register(core, "pgflow-py@h:1", "b", "a")
    core.worker_id = UUID(ids[1])
    core.start("a", 1)
    core.claim("a")
    failed = core.start("a", 2)
    core.claim("a")
    core.rows("UPDATE pgflow.runs SET status = 'failed', failed_at = now() WHERE run_id = %s", failed)
    (worker,), _ = list_workers(database, own, limit=5)
    assert (worker.flow_slugs, worker.worker_ids) == (("a", "b"), (ids[1], ids[0]))
    assert worker.holds == 1  # a task whose run has failed keeps its status and is nobody's
    for given in ids:
        assert find_worker(database, own, given[:12]).worker_ids == worker.worker_ids


def test_workers_are_listed_with_their_status(core: Core, database: Database, own: OwnTables) -> None:
    register(core, "stopped", "f", more="stopped_at")
    register(core, "silent", "f", heard="1 minute")
    register(core, "deprecated", "f", more="deprecated_at")
    register(core, "alive", "g")
    found, more = list_workers(database, own, limit=3)
    assert ({worker.name for worker in found}, more) == ({"silent", "deprecated", "alive"}, True)
    assert all(worker.status == worker.name for worker in list_workers(database, own, limit=4)[0])
    assert [worker.name for worker in list_workers(database, own, status="stopped", limit=4)[0]] == ["stopped"]
    assert [worker.name for worker in list_workers(database, own, flow_slug="g", limit=4)[0]] == ["alive"]


def test_deprecating_concerns_all_flows_of_a_worker(core: Core, database: Database, own: OwnTables) -> None:
    ids = register(core, "one", "a", "b")
    register(core, "other", "a")
    assert deprecate(database, find_worker(database, own, ids[0]))
    assert not deprecate(database, find_worker(database, own, ids[0]))
    rows = core.rows("SELECT function_name FROM pgflow.workers WHERE deprecated_at IS NOT NULL")
    assert [row["function_name"] for row in rows] == ["one", "one"]


def test_flows_are_listed_with_the_runs_of_the_last_day(
    core: Core, database: Database, own: OwnTables, seeded: Seed
) -> None:
    core.rows("UPDATE pgflow.runs SET started_at = now() - interval '2 days' WHERE run_id = %s", seeded.completed)
    flows = {flow.flow_slug: flow for flow in list_flows(database, limit=5)[0]}
    orders = flows["orders"]
    assert (orders.steps, orders.unfinished_runs) == (4, 1)
    assert (orders.day_started, orders.day_completed, orders.day_failed) == (3, 1, 2)
    assert list_flows(database, limit=2)[1] is True
    detail = flow_detail(database, own, "orders")
    assert detail.flow == orders
    steps = {step.step_slug: step for step in detail.steps}
    assert (steps["report"].max_attempts, steps["measure"].timeout) == (5, 1)
    assert steps["extra"].required_input_pattern == '{"list": "never"}'
    assert flow_detail(database, own, "thumbs").steps[0].when_exhausted == "record"


# --- what goes on ------------------------------------------------------------------------------------------------


def test_a_look_sees_queues_tasks_and_what_has_ended(
    core: Core, database: Database, own: OwnTables, seeded: Seed
) -> None:
    look = Observer(database, own).look()
    flows = {flow.flow_slug: flow for flow in look.flows}
    assert (flows["mail"].queued, flows["mail"].running, flows["mail"].delayed) == (1, 1, 1)
    assert flows["orders"].ended_per_second > 0
    assert [(task.flow_slug, task.attempt) for task in look.running] == [("mail", 1)]
    outcomes = sorted(f"{one.step_slug}[{one.task_index}] {one.attempt} {one.outcome}" for one in look.attempts)
    assert "measure[2] 1 timed_out" in outcomes
    assert "measure[2] 2 timed_out" in outcomes
    assert "measure[3] 1 failed" in outcomes
    assert "send[0] 1 failed" in outcomes  # its message is delayed, not archived
    assert "shrink[1] 1 timed_out" in outcomes  # recorded as an output, and a failure all the same
    assert [worker.name for worker in look.workers] == ["pgflow-py@web-1:4242"]


def test_the_next_look_sees_what_has_ended_since(core: Core, database: Database, own: OwnTables) -> None:
    """Also of a task whose message is neither archived nor near its end of delay: it was seen running."""
    core.flow("f", "m*", max_attempts=3)
    core.rows("ALTER DATABASE sql_core SET pgflow.finished_messages = 'delete'")
    core.connection.execute("SET pgflow.finished_messages = 'delete'")
    core.start("f", [1, 2])
    tasks = core.claim("f")
    observer, timeline = Observer(database, own), Timeline()
    timeline.note(observer.look())
    core.complete(tasks[:1], [1])
    core.fail(tasks[1:], ["no"])
    core.rows("UPDATE pgmq.q_f SET vt = now() - interval '1 hour'")
    look = observer.look()
    core.rows("ALTER DATABASE sql_core RESET pgflow.finished_messages")
    assert [(one.task_index, one.outcome) for one in look.attempts] == [(0, "completed"), (1, "failed")]
    timeline.note(look)
    timeline.note(observer.look())
    (worker,) = timeline.workers
    blocks = sorted((block.task_index, block.outcome) for lane in worker.lanes for block in lane)
    assert blocks == [(0, "completed"), (1, "failed")]
    assert [attempt.task_index for attempt in timeline.failures] == [1]


def test_throughput_is_taken_from_the_queues_counters(core: Core, database: Database, own: OwnTables) -> None:
    core.flow("f", "m*")
    core.start("f", [0] * 90)
    observer = Observer(database, own)
    observer.look()

    def rate_after_more() -> bool:
        for task in core.claim("f", 1):
            core.complete([task], [1])
        core.rows("SELECT pg_stat_force_next_flush()")
        (flow,) = observer.look().flows
        return flow.ended_per_second > 0

    wait_until(rate_after_more, "messages are counted that left the queue", 30)


class OnOneConnection(Database):
    """Works in the transaction that a test has open."""

    def __init__(self, core: Core) -> None:
        super().__init__(core.url)
        self._core = core

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        yield Transaction(self._core.connection)  # type: ignore[arg-type]


def test_a_look_reads_little_of_large_tables(core: Core, own: OwnTables) -> None:
    core.flow("big", "m*")
    run_id = core.start("big", [0] * 30_000)
    core.claim("big", 20)
    core.rows(
        "INSERT INTO pgmq.a_big (msg_id, vt, archived_at, message) SELECT -n, now(), now() - interval '1 day', "
        "jsonb_build_object('run_id', %s::uuid, 'step_slug', 'm', 'task_index', n) FROM generate_series(1, 30000) AS n",
        run_id,
    )
    core.rows(
        "INSERT INTO pgflow.task_attempts (run_id, step_slug, task_index, attempt, outcome, ended_at) "
        "SELECT %s, 'm', n, 1, 'failed', now() - interval '1 day' FROM generate_series(1, 30000) AS n",
        run_id,
    )
    core.rows(
        "INSERT INTO pgflow.workers (worker_id, queue_name, function_name, last_heartbeat_at) "
        "SELECT gen_random_uuid(), 'big', 'old', now() - interval '1 day' FROM generate_series(1, 3000)"
    )
    observer = Observer(OnOneConnection(core), own)
    for _ in range(2):
        read = rows_read(core, observer.look)
        assert read.pop("q_big") <= COUNTED + 500
        assert sum(read.values()) < 500, read


# --- other cores and roles ---------------------------------------------------------------------------------------


def test_a_core_with_the_contracts_functions_alone(empty_database_url: str) -> None:
    contract_core.install(empty_database_url)
    core = Core(empty_database_url)
    with core.connection, Database(empty_database_url) as database:
        own = own_tables(database)
        assert (own.schema_version, own.task_attempts) == (None, False)
        core.flow("f", "m*")
        run_id = core.start("f", [1, 2, 3])
        core.register_worker()
        core.rows(
            "SELECT pgflow.start_tasks('f', (SELECT array_agg(msg_id) FROM pgmq.read('f', 60, 2)), %s)", core.worker_id
        )
        core.rows("SELECT pgflow.complete_task(%s, 'm', 0, '10')", run_id)
        core.rows("SELECT pgflow.fail_task(%s, 'm', 1, 'no')", run_id)
        detail = run_detail(database, own, str(run_id))
        assert (detail.run.status, detail.steps[0].completed, detail.interventions) == ("failed", 1, ())
        dump = dumped(database, own, run_id, "m", 1)
        assert (dump.attempts, dump.task.error_message) == (None, "no")
        assert dump.worker is not None
        assert (dump.worker.name, dump.worker.host) == ("test", None)
        look = Observer(database, own).look()
        assert [(one.task_index, one.outcome) for one in look.attempts] == [(0, "completed"), (1, "failed")]
        assert flow_detail(database, own, "f").steps[0].when_exhausted == "fail"
        with pytest.raises(NotInContractError):
            touched_by(database, own, "retry", str(run_id))


def test_a_role_that_may_not_read_the_queues_sees_the_rest(core: Core, seeded: Seed) -> None:
    from pgflow.database import grants

    core.rows("DROP ROLE IF EXISTS looker")
    core.rows("CREATE ROLE looker LOGIN")
    try:
        grants.grant(core.connection, clients=["looker"])
        with Database(core.url.replace("postgres@", "looker@")) as database:
            own = own_tables(database)
            dump = dumped(database, own, seeded.failed, "measure", 2)
            assert (dump.message, dump.message_problem) == (None, "permission denied for schema pgmq")
            look = Observer(database, own).look()
            assert {flow.queued for flow in look.flows} == {None}
            assert [task.flow_slug for task in look.running] == ["mail"]
    finally:
        core.rows("DROP OWNED BY looker")
        core.rows("DROP ROLE looker")


def test_a_database_without_the_schema_is_told_so(empty_database_url: str) -> None:
    with Database(empty_database_url) as database, pytest.raises(SchemaMissingError):
        own_tables(database)
