"""Batches in the SQL core: which items become runs, what is told of them, and how they are pruned."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgflow.database import Database, batches, retention
from pgflow.database.batches import Added, BatchPass, Chunk, FileKind, FinishedItem, RunBits
from pgflow.errors import BatchTakenOverError
from tests.support.sql import Core

FLOW = "batch_b"


@pytest.fixture
def database(core: Core) -> Iterator[Database]:
    core.flow(FLOW, "item*")
    core.rows("SELECT pgflow.record_failures(%s, 'item')", FLOW)
    with Database(core.url) as opened:
        yield opened


@pytest.fixture
def batch(database: Database) -> BatchPass:
    return new_batch(database)


def new_batch(database: Database, name: str = "b") -> BatchPass:
    made = batches.create(database, name, FLOW, "f.py:f", "the reference", {"output": "/tmp/out", "joblog": "/tmp/log"})
    assert made is not None
    return made


def resumed(database: Database, name: str = "b", emptied: Sequence[FileKind] = ()) -> BatchPass:
    known = batches.find(database, name)
    assert known is not None
    return batches.begin_pass(database, known, "the reference", {}, emptied=emptied)


def key(item: object) -> bytes:
    return hashlib.blake2b(json.dumps(item).encode(), digest_size=16).digest()


def chunk(number: int, items: Sequence[object], first: int = 0) -> Chunk:
    return Chunk(number, range(first, first + len(items)), b"".join(map(key, items)), json.dumps(list(items)))


def feed(batch: BatchPass, items: Sequence[object], size: int = 3) -> None:
    for number, first in enumerate(range(0, len(items), size), 1):
        batch.add(chunk(number, items[first : first + size], first))


def elements(core: Core) -> list[Any]:
    """All items of all runs, in the order in which they were added."""
    rows = core.rows(
        "SELECT e.value FROM pgflow.batch_runs AS b JOIN pgflow.runs AS r ON r.run_id = b.run_id "
        "CROSS JOIN LATERAL jsonb_array_elements(r.input) WITH ORDINALITY AS e (value, place) "
        "ORDER BY b.position, e.place"
    )
    return [row["value"] for row in rows]


def page(
    batch: BatchPass, limit: int = 1000, max_bytes: int = 1 << 20, *, in_order: bool = False
) -> list[FinishedItem]:
    with batch.finished(limit, max_bytes, in_order=in_order) as items:
        return list(items)


def write(batch: BatchPass, items: Sequence[FinishedItem], size: int = 0) -> None:
    bits: dict[str, RunBits] = {}
    for item in items:
        bits.setdefault(item.run_id, RunBits(item.item_count)).add(item.task_index, has_failed=item.has_failed)
    batch.mark_written(bits, {"output": size})


def test_a_chunk_becomes_a_run_and_a_chunk_that_comes_again_changes_nothing(core: Core, batch: BatchPass) -> None:
    for added in (3, None):
        assert batch.add(chunk(1, ["a", {"b": None}, "a"])) == Added(added, 3, 3)
    assert elements(core) == ["a", {"b": None}, "a"]
    assert [task.input for task in core.claim(FLOW)] == ["a", {"b": None}, "a"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 5)),
        min_size=1,
        max_size=4,
    )
)
def test_each_item_runs_as_often_as_it_occurs_in_the_longest_input(
    core: Core, database: Database, passes: list[tuple[list[int], int]]
) -> None:
    core.rows("SELECT pgflow.delete_flow_and_data(%s)", FLOW)
    core.flow(FLOW, "item*")
    expected: Counter[int] = Counter()
    for number, (items, size) in enumerate(passes):
        batch = resumed(database) if number else new_batch(database)
        feed(batch, items, size)
        expected |= Counter(items)
        assert Counter(elements(core)) == expected
        known = batches.find(database, "b")
        assert known is not None
        assert (known.items, known.pass_number) == (expected.total(), number + 1)


def test_what_was_added_keeps_its_place_and_what_is_new_gets_its_own(core: Core, database: Database) -> None:
    feed(new_batch(database), ["a", "b"])
    feed(resumed(database), ["c", "b", "b", "a"])
    assert elements(core) == ["a", "b", "c", "b"]
    rows = core.rows("SELECT item_indexes FROM pgflow.batch_runs ORDER BY position")
    assert [row["item_indexes"] for row in rows] == [[0, 1], [0, 2]]


def test_whoever_worked_for_a_batch_can_do_nothing_more_once_it_is_resumed(
    core: Core, database: Database, batch: BatchPass
) -> None:
    batch.add(chunk(1, [1]))
    later = resumed(database)
    for call in (
        lambda: batch.add(chunk(2, [2])),
        lambda: batch.retry_failures(2, 10),
        lambda: batch.mark_written({}, {"output": 99}),
        batch.touch,
    ):
        with pytest.raises(BatchTakenOverError, match="Batch b was taken over"):
            call()
    later.touch()
    known = batches.find(database, "b")
    assert known is not None
    assert (known.items, known.files["output"].size) == (1, 0)


def test_a_batch_of_that_name_is_made_once(database: Database, batch: BatchPass) -> None:
    assert batches.create(database, "b", FLOW, "g.py:g", "another", {}) is None


def test_what_has_ended_is_told_with_its_item_and_history_until_it_is_written(core: Core, batch: BatchPass) -> None:
    batch.add(chunk(1, ["a", "b", "c"], first=5))
    a, b, c = core.claim(FLOW)
    assert page(batch) == []
    core.complete([c, a], [{"$error": {"message": "no error", "kind": "failed", "attempts": 1}}, 1])
    core.fail([b], ["too bad\nTraceback"])
    ended = page(batch)
    assert [(item.item_index, item.item, item.outcome, item.key) for item in ended] == [
        (5, '"a"', "completed", key("a")),
        (6, '"b"', "failed", key("b")),
        (7, '"c"', "completed", key("c")),
    ]
    assert json.loads(ended[1].output) == {"message": "too bad\nTraceback", "kind": "failed", "attempts": 1}
    assert "$error" in json.loads(ended[2].output)  # the handler's own: it has not failed
    write(batch, ended[:2], size=77)
    assert [item.item_index for item in page(batch)] == [7]
    write(batch, page(batch), size=99)
    write(batch, ended[2:], size=99)  # again, as after a lost answer
    assert page(batch) == []


def test_a_page_has_bounds(core: Core, batch: BatchPass) -> None:
    feed(batch, list(range(9)))
    tasks = core.claim(FLOW)
    core.complete(tasks, ["x" * 1000] * 9)
    assert len(page(batch, limit=4)) == 4
    assert [item.item_index for item in page(batch, max_bytes=1500)] == [0, 1]
    seen = []
    while items := page(batch, limit=2):
        seen += [item.item_index for item in items]
        write(batch, items)
    assert seen == list(range(9))


def test_in_order_only_what_has_all_before_it_is_told(core: Core, batch: BatchPass) -> None:
    feed(batch, list(range(7)))
    tasks = {task.input: task for task in core.claim(FLOW)}
    for ends, told in ((1, []), (3, []), (0, [0, 1]), (4, []), (5, []), (2, [2, 3, 4, 5]), (6, [6])):
        core.complete([tasks[ends]], [0])
        items = page(batch, in_order=True)
        assert [item.item_index for item in items] == told
        write(batch, items)


def test_items_of_a_cancelled_run_have_failed(core: Core, batch: BatchPass) -> None:
    batch.add(chunk(1, [1, 2]))
    first, _ = core.claim(FLOW)
    core.complete([first], [1])
    core.rows("SELECT pgflow.cancel_run(run_id, 'enough') FROM pgflow.runs")
    done, cancelled = page(batch)
    assert (done.outcome, cancelled.outcome) == ("completed", "cancelled")
    assert json.loads(cancelled.output)["message"] == "Cancelled: enough"


def test_what_failed_runs_again_as_a_run_of_its_own(core: Core, database: Database, batch: BatchPass) -> None:
    feed(batch, list("abcdefg"))
    tasks = core.claim(FLOW)
    core.fail([task for task in tasks if task.input in "bdg"], ["no"] * 3)
    core.complete([task for task in tasks if task.input not in "bdg"], [0] * 4)
    write(batch, page(batch))
    assert resumed(database).retry_failures(1, 10) == Added(0, 7, 0)  # nobody wants it
    later = resumed(database, emptied=["errors"])
    known = batches.find(database, "b")
    assert known is not None
    assert (known.items, known.unwritten, known.failures) == (7, 3, 0)
    assert later.unwritten() == 0  # nothing to wait for until they are added
    assert page(later) == page(later, in_order=True) == []
    assert later.retry_failures(1, 2) == Added(2, 7, 2)
    later = resumed(database)  # the retry was interrupted
    added = [later.retry_failures(number, 2) for number in (1, 1, 2)]
    assert added == [Added(1, 7, 3), Added(None, 7, 3), Added(0, 7, 3)]
    again = core.claim(FLOW)
    assert {task.input for task in again} == set("bdg")
    core.complete(again, [1] * 3)
    assert sorted((item.item_index, item.item, item.key) for item in page(later)) == [
        (1, '"b"', key("b")),
        (3, '"d"', key("d")),
        (6, '"g"', key("g")),
    ]
    write(later, page(later))
    known = batches.find(database, "b")
    assert known is not None
    assert (known.items, known.unwritten, known.failures) == (7, 0, 0)


def test_pruning_keeps_runs_until_they_are_written_and_the_memory_of_items_with_the_batch(
    core: Core, database: Database, batch: BatchPass
) -> None:
    feed(batch, [1, 2, 3, 4, 5, 6])
    core.complete(core.claim(FLOW), [0] * 6)
    write(batch, page(batch, limit=3))
    assert retention.prune(database, 0).runs == 1
    assert len(page(batch)) == 3
    write(batch, page(batch))
    assert retention.prune(database, 0).runs == 1
    feed(resumed(database), [6, 5, 4, 3, 2, 1, 7])
    assert elements(core) == [7]


@pytest.mark.parametrize("by", ["steps", "function"])
def test_pruning_keeps_what_failed_for_a_retry(core: Core, database: Database, batch: BatchPass, by: str) -> None:
    batch.add(chunk(1, ["a", "b"]))
    batch.add(chunk(2, ["c"]))
    first, *rest = core.claim(FLOW)
    core.fail([first], ["no"])
    core.complete(rest, [0] * 2)
    write(batch, page(batch))
    if by == "steps":
        assert retention.prune(database, 0).runs == 1
    else:
        core.rows("SELECT pgflow.prune_data_older_than('0')")
    known = batches.find(database, "b")
    assert known is not None
    assert (known.items, known.failures) == (3, 1)
    assert resumed(database, emptied=["errors"]).retry_failures(1, 10).items_added == 1
    assert [task.input for task in core.claim(FLOW)] == [first.input]


@pytest.mark.parametrize("by", ["steps", "function"])
def test_pruning_deletes_batches_for_which_nobody_has_worked(core: Core, database: Database, by: str) -> None:
    feed(new_batch(database), [1, 2, 3])
    core.complete(core.claim(FLOW), [0] * 3)

    def prune() -> None:
        if by == "steps":
            retention.prune(database, 0)
        else:
            core.rows("SELECT pgflow.prune_data_older_than('0')")

    prune()
    assert batches.find(database, "b") is not None  # somebody may be at work
    core.rows("UPDATE pgflow.batches SET touched_at = now() - interval '1 day'")
    prune()
    assert batches.find(database, "b") is None
    for table in ("batch_keys", "batch_runs", "batch_files", "runs", "flows"):
        assert core.value(f"SELECT count(*) FROM pgflow.{table}") == 0, table


def test_pruning_leaves_a_batch_alone_whose_items_still_wait(core: Core, database: Database, batch: BatchPass) -> None:
    feed(batch, [1, 2, 3])
    core.rows("UPDATE pgflow.batches SET touched_at = now() - interval '1 day'")
    retention.prune(database, 0)
    assert batches.find(database, "b") is not None


def test_a_deleted_batch_leaves_nothing(core: Core, database: Database, batch: BatchPass) -> None:
    feed(batch, [1, 2, 3])
    batches.delete(database, "b")
    assert batches.find(database, "b") is None
    for table in ("batches", "batch_keys", "batch_runs", "batch_files", "step_tasks"):
        assert core.value(f"SELECT count(*) FROM pgflow.{table}") == 0, table
    assert core.queue(FLOW) == []
    with pytest.raises(BatchTakenOverError):
        batch.add(chunk(9, [1]))
    feed(new_batch(database), [4])
    assert [task.input for task in core.claim(FLOW)] == [4]


def test_the_timeout_of_items_can_be_changed(core: Core, batch: BatchPass) -> None:
    batch.add(chunk(1, [1, 2]))
    batch.set_timeout(7)
    assert {task.timeout for task in core.claim(FLOW)} == {7}
    core.fail(core.claim(FLOW), [])
    assert core.value("SELECT count(*) FROM pgflow.recording_steps") == 1


def test_running_items_are_told_the_longest_first(core: Core, batch: BatchPass) -> None:
    batch.add(chunk(1, ["a", "b", "c"]))
    core.claim(FLOW, 1)
    core.claim(FLOW, 1)
    count, running = batch.running(1, slots=8)
    assert (count, [(item.item_index, item.item, item.attempt) for item in running]) == (2, [(0, '"a"', 1)])


def test_no_more_items_run_than_their_worker_has_slots(core: Core, batch: BatchPass) -> None:
    batch.add(chunk(1, ["a", "b", "c"]))
    assert batch.running(1, slots=2) == (0, [])
    core.claim(FLOW, 3)
    assert batch.running(1, slots=2)[0] == 2
