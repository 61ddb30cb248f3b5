"""Workers that wait for tasks are notified, and nobody else."""

from __future__ import annotations

from uuid import UUID

import psycopg
import pytest

from tests.support.sql import Core, Row


@pytest.fixture
def worker(core: Core, other: Core) -> Core:
    """A worker's connection, which listens."""
    other.rows("LISTEN pgflow_tasks")
    return other


def wait_for_tasks(worker: Core, *flow_slugs: str) -> Row:
    """What await_tasks says to a worker of these flows."""
    worker.rows("DELETE FROM pgflow.workers WHERE queue_name = ANY(%s)", list(flow_slugs))
    rows = worker.rows(
        "INSERT INTO pgflow.workers (worker_id, queue_name, function_name) "
        "SELECT gen_random_uuid(), f, 'test' FROM unnest(%s::text[]) AS f RETURNING worker_id",
        list(flow_slugs),
    )
    ids: list[UUID] = [row["worker_id"] for row in rows]
    return worker.row("SELECT * FROM pgflow.await_tasks(%s, %s::uuid[])", list(flow_slugs), ids)


def heard(worker: Core) -> list[str]:
    """The notifications that have come since the last time."""
    worker.rows("SELECT 1")  # the server sends what there is with its answer
    return [notification.payload for notification in worker.connection.notifies(timeout=0.05)]


def test_nothing_is_sent_while_nobody_waits(core: Core, worker: Core) -> None:
    core.flow("f", "a")
    core.start("f", 1)
    assert heard(worker) == []


def test_who_waits_hears_of_tasks_of_its_flows(core: Core, worker: Core) -> None:
    for slug in ("f", "g", "h"):
        core.flow(slug, "a")
    assert wait_for_tasks(worker, "f", "g") == {"is_waiting": True, "next_visible_in": None}
    core.start("h", 1)
    core.start("g", 1)
    core.start("f", 1)
    assert heard(worker) == ["g", "f"]


def test_a_burst_is_one_notification(core: Core, worker: Core) -> None:
    core.flow("f", "m*")
    wait_for_tasks(worker, "f")
    core.rows("SELECT pgflow.start_flow('f', '[1, 2, 3]') FROM generate_series(1, 500)")
    core.rows("SELECT pgflow.start_flows('f', array_fill('[1]'::jsonb, ARRAY[500]))")
    for number in range(50):
        core.start("f", [number])
    assert heard(worker) == ["f"]


def test_who_commits_before_another_that_told_first_tells_too(core: Core, other: Core, worker: Core) -> None:
    core.flow("f", "a")
    wait_for_tasks(worker, "f")
    third = Core(core.url)
    with third.connection, third.connection.transaction():
        third.start("f", 1)
        core.start("f", 2)
        assert heard(worker) == ["f"]
    assert heard(worker) == ["f"]


def test_a_worker_does_not_wait_for_who_has_told_it(core: Core, worker: Core) -> None:
    core.flow("f", "a")
    wait_for_tasks(worker, "f")
    with core.connection.transaction():
        core.start("f", 1)
        row = worker.row("SELECT worker_id FROM pgflow.waiting_workers")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            worker.rows("SELECT * FROM pgflow.await_tasks(ARRAY['f'], ARRAY[%s]::uuid[])", row["worker_id"])


def test_a_transaction_that_does_not_see_who_waits_tells_in_any_case(core: Core, worker: Core) -> None:
    core.flow("f", "a")
    core.rows("BEGIN ISOLATION LEVEL REPEATABLE READ")
    core.rows("SELECT FROM pgflow.flows")
    wait_for_tasks(worker, "f")
    core.start("f", 1)
    core.rows("COMMIT")
    assert heard(worker) == ["f"]


def test_only_queues_of_flows_are_looked_at(core: Core, worker: Core) -> None:
    core.rows("SELECT pgmq.create('somebody_elses')")
    core.rows("SELECT pgmq.send('somebody_elses', '{}')")
    assert wait_for_tasks(worker, "somebody_elses")["next_visible_in"] is None
    assert core.claim("somebody_elses") == []
    assert core.value("SELECT read_ct FROM pgmq.q_somebody_elses") == 0
    core.rows("SELECT pgmq.drop_queue('somebody_elses')")


def test_who_does_not_wait_any_more_is_left_alone(core: Core, worker: Core) -> None:
    core.flow("f", "a")
    wait_for_tasks(worker, "f")
    worker.rows("SELECT pgflow.stop_awaiting_tasks(ARRAY(SELECT worker_id FROM pgflow.waiting_workers))")
    core.start("f", 1)
    assert heard(worker) == []


def test_dependents_retries_releases_and_requeues_are_heard_too(core: Core, worker: Core) -> None:
    core.flow("f", "a", "b <- a", max_attempts=9)
    run_id = core.start("f", 1)
    wait_for_tasks(worker, "f")
    core.fail(core.claim("f"), ["no"])
    assert heard(worker) == ["f"]
    wait_for_tasks(worker, "f")
    core.release(core.claim("f"))
    assert heard(worker) == ["f"]
    wait_for_tasks(worker, "f")
    core.claim("f")
    core.rows(
        "UPDATE pgflow.step_tasks SET queued_at = now() - interval '1 day', started_at = now() - interval '1 day'"
    )
    core.rows("SELECT pgflow.requeue_stalled_tasks()")
    assert heard(worker) == ["f"]
    wait_for_tasks(worker, "f")
    core.complete(core.claim("f"), [1])
    assert heard(worker) == ["f"]
    wait_for_tasks(worker, "f")
    core.rows("SELECT pgflow.cancel_run(%s)", run_id)
    core.rows("SELECT pgflow.retry_run(%s)", run_id)
    assert heard(worker) == ["f"]


def test_it_knows_when_the_next_delayed_task_is_due(core: Core, worker: Core) -> None:
    core.flow("f", "m*", max_attempts=3)
    core.start("f", [1, 2, 3])
    running, slow, quick = core.claim("f")
    core.fail([slow, quick], ["no", "no"], [60, 20])
    assert 18 < wait_for_tasks(worker, "f")["next_visible_in"] <= 20
    core.complete([running], [1])


def test_messages_of_tasks_that_run_are_not_waited_for(core: Core, worker: Core) -> None:
    core.flow("f", "m*")
    core.start("f", list(range(150)))
    core.claim("f", 99)
    core.rows("UPDATE pgmq.q_f SET vt = clock_timestamp() + interval '1 day' WHERE read_ct = 0")
    # 99 run for a minute, 51 are delayed for longer: of the first hundred one is delayed.
    assert wait_for_tasks(worker, "f")["next_visible_in"] > 3600
    core.rows("UPDATE pgmq.q_f SET vt = clock_timestamp() WHERE read_ct = 0")
    core.claim("f", 10)
    # Now a hundred run before the first that is delayed: it looks again when they are over.
    core.rows("UPDATE pgmq.q_f SET vt = clock_timestamp() + interval '1 day' WHERE read_ct = 0")
    assert 0 < wait_for_tasks(worker, "f")["next_visible_in"] < 3600


def test_nobody_begins_to_wait_while_tasks_are_being_queued(core: Core, worker: Core) -> None:
    """Whoever queues them has seen nobody waiting, and the worker would not see the tasks: nobody would wake it."""
    core.flow("f", "a")
    core.flow("g", "a")
    with core.connection.transaction():
        core.start("f", 1)
        assert wait_for_tasks(worker, "f")["is_waiting"] is False
        assert wait_for_tasks(worker, "g")["is_waiting"] is True
    assert wait_for_tasks(worker, "f")["is_waiting"] is True
    assert len(worker.claim("f")) == 1
