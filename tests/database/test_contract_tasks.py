"""Working on a core that has the contract's functions alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest

from pgflow.client import Client
from pgflow.database import Database, capabilities, schema, workers
from pgflow.database.contract_tasks import ContractTasks
from pgflow.database.flows import compile_flow
from pgflow.database.tasks import BatchTasks, ClaimedTask, FailedAttempt, Tasks
from pgflow.errors import NotInContractError, UnknownContractError
from pgflow.outcome import NO_RETRY
from tests.support import contract_core
from tests.support.sql import Core, while_waiting_for

WORKER = str(uuid4())


@pytest.fixture(params=["visibility set", "defect D1"])
def database(empty_database_url: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    contract_core.install(empty_database_url, sets_visibility=request.param == "visibility set")
    with Database(empty_database_url) as opened:
        yield opened


@pytest.fixture
def core(database: Database) -> Iterator[Core]:
    core = Core(database.conninfo)
    with core.connection:
        yield core


@pytest.fixture
def tasks(database: Database, core: Core) -> Tasks:
    core.rows("INSERT INTO pgflow.workers (worker_id, queue_name, function_name) VALUES (%s, 'f', 'test')", WORKER)
    return ContractTasks(database, [("f", "recorded")])


def claim(tasks: Tasks, quantity: int = 100, flow_slug: str = "f") -> list[ClaimedTask]:
    return sorted(tasks.claim({flow_slug: WORKER}, quantity), key=lambda task: (task.step_slug, task.task_index))


def test_a_run_goes_from_start_to_its_output(core: Core, tasks: Tasks) -> None:
    core.flow("f", "a", "m* <- a", "end <- m")
    run_id = core.start("f", {"n": 3})
    (root,) = claim(tasks)
    assert (root.kind, json.loads(root.input), root.attempt, root.timeout, root.max_attempts) == (
        *("root", {"n": 3}, 1),
        *(60, 1),
    )
    assert tasks.complete([root], ["[1,2,3]"]) == ["completed"]
    elements = claim(tasks)
    assert [(task.kind, task.input) for task in elements] == [("map", "1"), ("map", "2"), ("map", "3")]
    assert tasks.complete(elements, ["10", "20", "30"]) == ["completed"] * 3
    (end,) = claim(tasks)
    assert (end.kind, json.loads(end.input)) == ("dependent", {"m": [10, 20, 30]})
    assert tasks.complete([end], ['"done"']) == ["completed"]
    assert core.run(run_id)["output"] == {"end": "done"}
    assert core.queue("f") == []


def test_a_claimed_message_stays_invisible_for_the_tasks_timeout(core: Core, tasks: Tasks) -> None:
    core.flow("f", "a")
    core.start("f", 1)
    assert len(claim(tasks)) == 1
    (message,) = core.queue("f")
    assert 58 < message["visible_in"] <= 62
    assert claim(tasks) == []


def test_no_more_is_claimed_than_asked_for_and_every_flow_is_served(core: Core, tasks: Tasks) -> None:
    other = str(uuid4())
    core.rows("INSERT INTO pgflow.workers (worker_id, queue_name, function_name) VALUES (%s, 'g', 'test')", other)
    for slug in ("f", "g"):
        core.flow(slug, "m*")
        core.start(slug, [1, 2, 3])
    claimed = tasks.claim({"f": WORKER, "g": other}, 4)
    assert len(claimed) == 4
    claimed += tasks.claim({"f": WORKER, "g": other}, 4)
    assert (
        sorted((task.flow_slug, task.worker_id == other) for task in claimed) == [("f", False)] * 3 + [("g", True)] * 3
    )


def test_messages_without_a_task_are_archived(core: Core, tasks: Tasks) -> None:
    core.flow("f", "a")
    core.rows("SELECT pgmq.send('f', '{}')")
    assert claim(tasks) == []
    assert (core.queue("f"), core.archived("f")) == ([], 1)


def test_failures_are_retried_delayed_or_final(core: Core, tasks: Tasks) -> None:
    core.flow("f", "m*", max_attempts=3, base_delay=5)
    core.step("f", "other", when_exhausted="skip")
    core.start("f", [1, 2, 3])
    first, second, third, other = claim(tasks)
    verdicts = tasks.fail(
        [first, second, other],
        [FailedAttempt("no"), FailedAttempt("busy", retry_delay=40), FailedAttempt("hopeless", retry_delay=NO_RETRY)],
    )
    assert verdicts == ["retried", "retried", "failed"]
    delays = {message["message"]["task_index"]: message["visible_in"] for message in core.queue("f")}
    assert (9 < delays[0] <= 10, 39 < delays[1] <= 40) == (True, True)
    assert core.statuses(first.run_id)["other"] == "skipped"  # type: ignore[arg-type]
    assert tasks.fail([third], [FailedAttempt("hopeless", retry_delay=NO_RETRY)]) == ["failed"]
    assert core.value("SELECT status FROM pgflow.runs") == "failed"


def test_a_step_that_records_failures_completes_after_the_last_attempt(core: Core, tasks: Tasks) -> None:
    core.flow("f", "recorded*", max_attempts=2)
    run_id = core.start("f", [1, 2])
    first, second = claim(tasks)
    assert tasks.fail([first], [FailedAttempt("no")]) == ["retried"]
    (again,) = claim(tasks)
    assert tasks.fail([again], [FailedAttempt("late", "timed_out")]) == ["recorded"]
    assert tasks.complete([second], ["2"]) == ["completed"]
    envelope = {"$error": {"message": "late", "kind": "timed_out", "attempts": 2}}
    assert core.run(run_id)["output"] == {"recorded": [envelope, 2]}


def test_released_tasks_are_claimed_again_in_the_same_attempt(core: Core, tasks: Tasks) -> None:
    core.flow("f", "a")
    core.start("f", 1)
    (task,) = claim(tasks)
    assert tasks.release([task]) == ["released"]
    assert claim(tasks) == [task]


def test_requeued_tasks_are_claimed_again_in_the_same_attempt_until_the_fourth_time(core: Core, tasks: Tasks) -> None:
    core.flow("f", "a", max_attempts=9)
    run_id = core.start("f", 1)
    for _ in range(3):
        (task,) = claim(tasks)
        assert task.attempt == 1
        assert tasks.requeue([task], ["it died"]) == ["requeued"]
        assert core.queue("f")[0]["visible_in"] <= 0
    (row,) = core.tasks(run_id)
    assert (row["requeued_count"], row["attempts_count"], row["last_requeued_at"] is None) == (3, 0, False)
    assert tasks.requeue(claim(tasks), ["it died\nagain"]) == ["failed"]
    first, second = core.tasks(run_id)[0]["error_message"].splitlines()
    assert first == "Task was given up: it was handed back 3 times and its worker died again"
    assert second.endswith(f" UTC, worker {WORKER}: it died")
    assert core.run(run_id)["status"] == "failed"
    assert core.queue("f") == []


def test_a_batch_of_requeues_has_a_verdict_each(core: Core, tasks: Tasks) -> None:
    core.flow("f", "recorded*", max_attempts=9)
    run_id = core.start("f", [1, 2, 3])
    again, stalled, last = claim(tasks)
    core.rows("UPDATE pgflow.step_tasks SET requeued_count = 3 WHERE task_index = 2")
    core.rows("UPDATE pgflow.step_tasks SET permanently_stalled_at = now() WHERE task_index = 1")
    assert tasks.release([stalled]) == ["stale"]
    assert tasks.requeue([stalled, last, again], ["it died"] * 3) == ["stale", "recorded", "requeued"]
    error = core.tasks(run_id)[2]["output"]["$error"]
    assert (error["kind"], error["attempts"], error["message"][:18]) == ("crashed", 1, "Task was given up:")


def test_messages_of_held_tasks_stay_invisible(core: Core, tasks: Tasks) -> None:
    core.flow("f", "m*")
    core.start("f", [1, 2, 3, 4])
    longer, never_less, released, locked = claim(tasks)
    tasks.release([released])
    with core.connection.transaction():
        core.rows("SELECT FROM pgmq.q_f WHERE msg_id = %s FOR UPDATE", locked.msg_id)
        states = tasks.renew([longer, never_less, released, locked], [100, 10, 100, 100])
    assert states == ["held", "held", "lost", "held"]
    seconds = {message["msg_id"]: message["visible_in"] for message in core.queue("f")}
    assert 99 < seconds[longer.msg_id] <= 100
    assert all(55 < seconds[task.msg_id] <= 62 for task in (never_less, locked))
    assert seconds[released.msg_id] <= 0


def test_the_delay_of_the_next_attempt_is_known(core: Core, tasks: Tasks) -> None:
    core.flow("f", "a", max_attempts=3, base_delay=5)
    core.start("f", 1)
    delays = []
    for _ in range(3):
        (task,) = claim(tasks)
        delays.append(task.retry_delay)
        tasks.fail([task], [FailedAttempt("no", retry_delay=0)])
    assert delays == [10, 20, None]


@pytest.mark.parametrize("change", [{"attempt": 2}, {"worker_id": str(uuid4())}, {"msg_id": 99}])
def test_who_holds_the_task_otherwise_changes_nothing(core: Core, tasks: Tasks, change: dict[str, object]) -> None:
    core.flow("f", "a", max_attempts=3)
    run_id = core.start("f", 1)
    (task,) = claim(tasks)
    before = core.tasks(run_id)
    late = replace(task, **change)  # type: ignore[arg-type]
    assert tasks.complete([late], ["1"]) == ["stale"]
    assert tasks.fail([late], [FailedAttempt("no")]) == ["stale"]
    assert tasks.release([late]) == ["stale"]
    assert core.tasks(run_id) == before


def test_a_second_verdict_in_one_batch_is_stale(core: Core, tasks: Tasks) -> None:
    core.flow("f", "m*", max_attempts=2)
    core.start("f", [1, 2])
    first, second = claim(tasks)
    assert tasks.complete([first, first], ["1", "1"]) == ["completed", "stale"]
    assert tasks.fail([second, second], [FailedAttempt("no")] * 2) == ["retried", "stale"]


def test_a_final_failure_is_final_although_more_attempts_were_given_meanwhile(core: Core, tasks: Tasks) -> None:
    core.flow("f", "a", max_attempts=3)
    core.start("f", 1)
    (task,) = claim(tasks)
    core.rows("UPDATE pgflow.flows SET opt_max_attempts = 10")
    assert tasks.fail([task], [FailedAttempt("hopeless", retry_delay=NO_RETRY)]) == ["failed"]


@pytest.mark.parametrize("settle", ["complete", "release"])
def test_a_verdict_that_waits_for_a_requeue_is_stale(core: Core, tasks: Tasks, settle: str) -> None:
    core.flow("f", "a", max_attempts=3)
    core.start("f", 1)
    (task,) = claim(tasks)
    core.rows(
        "UPDATE pgflow.step_tasks SET queued_at = now() - interval '1 day', started_at = now() - interval '1 day'"
    )
    verdict = while_waiting_for(
        core,
        lambda: core.rows("SELECT pgflow.requeue_stalled_tasks()"),
        lambda: tasks.complete([task], ["1"]) if settle == "complete" else tasks.release([task]),
    )[1]
    assert verdict == ["stale"]


def test_keys_that_are_raced_for_start_one_run_each(core: Core, database: Database) -> None:
    core.flow("f", "a")
    client = Client(database)
    keys = [str(number) for number in range(20)]
    with ThreadPoolExecutor(4) as threads:
        batches = [threads.submit(client.start_many, "f", keys, keys=keys) for _ in range(2)]
        singles = [threads.submit(client.start, "f", key, key=key) for key in reversed(keys)]
        run_ids = [batch.result(30) for batch in batches]
        assert run_ids[0] == run_ids[1] == [single.result(30) for single in reversed(singles)]
    assert core.value("SELECT count(*) FROM pgflow.runs") == 20


def test_runs_are_not_cancelled_or_retried(core: Core, database: Database) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    for change in (Client(database).cancel, Client(database).retry):
        with pytest.raises(NotInContractError, match="another implementation's, which has nothing for cancelling"):
            change(str(run_id))


def test_verdicts_on_what_has_ended_or_never_was(core: Core, tasks: Tasks) -> None:
    core.flow("f", "m*")
    core.start("f", [1, 2])
    first, second = claim(tasks)
    assert tasks.fail([first], [FailedAttempt("no")]) == ["failed"]
    assert tasks.complete([second, replace(second, run_id=str(uuid4()))], ["1", "1"]) == ["over", "unknown"]


def test_a_bad_output_leaves_the_batch_as_it_was(core: Core, tasks: Tasks) -> None:
    core.flow("f", "m*")
    run_id = core.start("f", [1, 2])
    core.rows("ALTER TABLE pgflow.step_tasks ADD CONSTRAINT no_poison CHECK (output IS DISTINCT FROM '\"poison\"')")
    first, second = claim(tasks)
    with pytest.raises(psycopg.errors.CheckViolation):
        tasks.complete([first, second], ["1", '"poison"'])
    assert [row["status"] for row in core.tasks(run_id)] == ["started", "started"]


def test_runs_are_started_and_keys_start_one(core: Core, database: Database) -> None:
    core.flow("f", "a")
    client = Client(database)
    run_ids = client.start_many("f", [1, 2, 3, 4], keys=["x", "y", "x", None])
    assert len(set(run_ids)) == 3
    assert run_ids[0] == run_ids[2] == client.start("f", 9, key="x")
    assert client.start("f", 5) not in run_ids
    assert [client.get(run_id).input for run_id in run_ids] == [1, 2, 1, 4]


def test_it_is_recognised_and_left_alone(database: Database, core: Core) -> None:
    before = core.rows("SELECT oid, proname FROM pg_proc WHERE pronamespace = 'pgflow'::regnamespace ORDER BY oid")
    with database.connection() as connection:
        schema.ensure(connection)
        assert capabilities.look(connection).is_ours is False
    after = core.rows("SELECT oid, proname FROM pg_proc WHERE pronamespace = 'pgflow'::regnamespace ORDER BY oid")
    assert after == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            "CREATE FUNCTION pgflow.start_tasks(a text, b bigint[], c uuid, d text) RETURNS int LANGUAGE sql "
            "AS 'SELECT 1'",
            r"its start_tasks takes 4 arguments instead of 3\. Upgrade pgflow-py, or use another database",
        ),
        (
            "ALTER TABLE pgflow.step_tasks DROP CONSTRAINT valid_status; ALTER TABLE pgflow.step_tasks "
            "ADD CONSTRAINT valid_status CHECK (status IN ('queued', 'started', 'completed', 'failed', 'cancelled'))",
            "its tasks may be cancelled",
        ),
        ("DROP FUNCTION pgflow.complete_task", "it has no function complete_task"),
        ("DROP SCHEMA pgmq CASCADE", "it has no pgmq"),
    ],
)
def test_a_contract_that_we_do_not_know_is_refused(database: Database, core: Core, change: str, reason: str) -> None:
    core.flow("f", "a")
    core.rows(change)
    with database.connection() as connection, pytest.raises(UnknownContractError, match=reason):
        capabilities.look(connection)
    with pytest.raises(UnknownContractError, match=reason):
        compile_flow(database, "g", '{"steps": []}')
    with pytest.raises(UnknownContractError, match=reason):
        Client(database).start("f", 1)
    assert core.value("SELECT count(*) FROM pgflow.flows") == 1
    assert core.value("SELECT count(*) FROM pgflow.runs") == 0


def test_our_own_core_is_recognised(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        assert capabilities.look(connection) == capabilities.Capabilities(schema.VERSION, "sql", None)


def test_batches_and_contract_calls_share_runs(database_url: str) -> None:
    """The same database, served by both."""
    core = Core(database_url)
    with core.connection, Database(database_url) as database:
        core.flow("f", "m*")
        run_id = core.start("f", list(range(6)))
        workers.register(database, {"f": WORKER}, "test")
        ours, theirs = BatchTasks(database), ContractTasks(database)
        claimed = [*ours.claim({"f": WORKER}, 3), *theirs.claim({"f": WORKER}, 3)]
        by_index = sorted(claimed, key=lambda task: task.task_index)
        assert ours.complete(by_index[::2], ["0", "2", "4"]) == ["completed"] * 3
        assert theirs.complete(by_index[1::2], ["1", "3", "5"]) == ["completed"] * 3
        assert core.run(run_id)["output"] == {"m": list(range(6))}
