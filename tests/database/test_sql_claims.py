"""Claiming: which messages are read, which tasks start, and what a claim says of them."""

from __future__ import annotations

from uuid import UUID, uuid4

import psycopg
import pytest

from tests.support.sql import Core


def test_a_claim_extends_the_messages_visibility_to_the_timeout_and_2_seconds(core: Core) -> None:
    core.flow("f", "a")
    core.rows("SELECT pgflow.add_step('f', 'b', timeout => 100)")
    core.start("f", 1)
    assert [(t.step_slug, t.timeout) for t in core.claim("f")] == [("a", 60), ("b", 100)]
    assert [round(m["visible_in"]) for m in core.queue("f")] == [62, 102]


def test_start_tasks_returns_the_contracts_record(core: Core) -> None:
    core.flow("f", "list", "square* <- list")
    core.start("f", {"n": 3})
    core.register_worker()
    start = (
        "SELECT * FROM pgflow.start_tasks("
        "flow_slug => 'f', msg_ids => (SELECT array_agg(msg_id) FROM pgmq.read('f', 1, 10)), worker_id => %s)"
    )
    (root,) = core.rows(start, core.worker_id)
    assert (root["input"], root["flow_input"], root["task_index"]) == ({}, {"n": 3}, 0)
    core.rows("SELECT pgflow.complete_task(%s, 'list', 0, '[7]')", root["run_id"])
    (element,) = core.rows(start, core.worker_id)
    assert (element["input"], element["flow_input"]) == (7, None)
    assert core.rows("SELECT * FROM pgflow.start_tasks('f', NULL, %s)", core.worker_id) == []


def test_a_claim_takes_no_more_than_asked_over_several_flows(core: Core) -> None:
    core.flow("f", "m*")
    core.flow("g", "m*")
    core.start("f", [1] * 5)
    core.start("g", [1] * 5)
    core.register_worker()
    claim = "SELECT flow_slug FROM pgflow.claim_tasks('{f,g}', ARRAY[%s, %s]::uuid[], %s)"
    assert len(core.rows(claim, core.worker_id, core.worker_id, 7)) == 7
    assert len(core.rows(claim, core.worker_id, core.worker_id, 7)) == 3
    assert core.rows(claim, core.worker_id, core.worker_id, 7) == []


def test_messages_that_no_task_belongs_to_are_archived(core: Core) -> None:
    core.flow("f", "a")
    core.rows("""SELECT pgmq.send('f', '{"stray": true}')""")
    assert core.claim("f") == []
    assert (core.queue("f"), core.archived("f")) == ([], 1)


def test_a_message_whose_task_somebody_has_locked_is_not_read_again_for_five_seconds(core: Core, other: Core) -> None:
    core.flow("f", "m*")
    core.start("f", [1, 2])
    with other.connection.transaction():
        other.rows("SELECT FROM pgflow.step_tasks WHERE task_index = 0 FOR UPDATE")
        assert [task.task_index for task in core.claim("f")] == [1]
        assert core.claim("f") == []
    assert [round(message["visible_in"]) for message in core.queue("f")] == [5, 62]
    assert [row["read_ct"] for row in core.rows("SELECT read_ct FROM pgmq.q_f ORDER BY msg_id")] == [1, 1]


def test_what_has_been_visible_for_longest_is_claimed_first(core: Core) -> None:
    core.flow("f", "m*")
    core.start("f", [1, 2, 3])
    core.rows("UPDATE pgmq.q_f SET vt = vt - make_interval(mins => msg_id::int)")
    assert [core.claim("f", 1)[0].task_index for _ in range(3)] == [2, 1, 0]


def test_two_claims_at_once_never_share_a_task(core: Core, other: Core) -> None:
    core.flow("f", "m*")
    core.start("f", [1] * 4)
    other.register_worker()
    messages = [m["msg_id"] for m in core.queue("f")]
    core.register_worker()
    start = "SELECT task_index FROM pgflow.start_tasks('f', %s, %s)"
    with core.connection.transaction():
        assert len(core.rows(start, messages[:3], core.worker_id)) == 3
        assert len(other.rows(start, messages, other.worker_id)) == 1
    assert other.rows(start, messages, other.worker_id) == []


def test_released_tasks_are_claimable_at_once_without_an_attempt_spent(core: Core) -> None:
    core.flow("f", "m*")
    core.start("f", [1, 2])
    claimed = core.claim("f")
    assert core.release(claimed) == ["released", "released"]
    assert core.release(claimed) == ["stale", "stale"]
    assert [t.attempt for t in core.claim("f")] == [1, 1]


@pytest.mark.parametrize(
    ("worker_ids", "quantity", "words"),
    [
        ([], 1, "1 p_flow_slugs, but 0 p_worker_ids"),
        (None, 1, "1 p_flow_slugs, but no p_worker_ids"),
        ([None], 1, "p_worker_ids holds NULL"),
        ([uuid4()], -1, "p_quantity is -1"),
        ([uuid4()], None, "p_quantity is NULL"),
    ],
)
def test_a_claim_says_how_many_and_for_whom(
    core: Core, worker_ids: list[UUID | None] | None, quantity: int | None, words: str
) -> None:
    core.flow("f", "a")
    core.start("f", 1)
    with pytest.raises(psycopg.errors.RaiseException, match=rf"claim_tasks\(\): {words}"):
        core.rows("SELECT pgflow.claim_tasks(ARRAY['f'], %s::uuid[], %s::int)", worker_ids, quantity)
    assert core.claim("f", 0) == []


def test_the_longest_timeout_can_be_claimed(core: Core) -> None:
    core.flow("f")
    core.step("f", "a", timeout=2147483647)
    core.start("f", 1)
    (task,) = core.claim("f")
    assert task.timeout == 2147483647
    assert core.value("SELECT pgflow.requeue_stalled_tasks()") == 0


def test_start_tasks_starts_a_task_whose_message_is_gone(core: Core) -> None:
    core.flow("f", "m*")
    core.start("f", [1, 2])
    core.register_worker()
    core.rows("SELECT pgmq.archive('f', 2)")
    started = core.rows("SELECT * FROM pgflow.start_tasks('f', '{1,2}', %s)", core.worker_id)
    assert sorted(row["input"] for row in started) == [1, 2]


def test_an_unknown_worker_cannot_claim(core: Core) -> None:
    core.flow("f", "a")
    core.start("f", 1)
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="step_tasks_last_worker_id_fkey"):
        core.rows("SELECT * FROM pgflow.start_tasks('f', '{1}', gen_random_uuid())")
    assert len(core.rows("SELECT * FROM pgflow.start_tasks('f', '{1}', NULL)")) == 1
