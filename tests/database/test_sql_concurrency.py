"""The SQL core under concurrent connections, with real locks."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.sql import Core
from tests.support.waiting import wait_until

HAMMER_TASKS = 400
HAMMER_CONNECTIONS = 8


def while_waiting_for(core: Core, first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    """Run ``first`` in an open transaction of ``core``, start ``second``, which must wait for its locks, then commit;
    the results of both."""
    with ThreadPoolExecutor(1) as thread:
        with core.connection.transaction():
            result = first()
            waiting: Future[Any] = thread.submit(second)
            wait_until(
                lambda: core.value("SELECT count(*) FROM pg_locks WHERE NOT granted"), "the other waits for a lock"
            )
        return result, waiting.result(20)


def test_the_last_two_tasks_of_a_map_at_once_complete_it_once(core: Core, other: Core) -> None:
    core.flow("f", "m*")
    run_id = core.start("f", [1, 2])
    a, b = core.claim("f")
    verdicts = while_waiting_for(core, lambda: core.complete([a], ["a"]), lambda: other.complete([b], ["b"]))
    assert verdicts == (["completed"], ["completed"])
    assert core.run(run_id)["output"] == {"m": ["a", "b"]}


def test_the_last_two_parents_of_a_step_at_once_start_it_once(core: Core, other: Core) -> None:
    core.flow("f", "a", "b", "c <- a b")
    core.start("f", 1)
    a, b = core.claim("f")
    while_waiting_for(core, lambda: core.complete([a], [1]), lambda: other.complete([b], [2]))
    assert [t.input for t in core.claim("f")] == [{"a": 1, "b": 2}]


@pytest.mark.parametrize("fails_first", [True, False])
def test_of_complete_and_fail_at_once_the_first_counts(core: Core, other: Core, fails_first: bool) -> None:
    core.flow("f", "a")
    run_id = core.start("f", 1)
    (task,) = core.claim("f")
    if fails_first:
        verdicts = while_waiting_for(core, lambda: core.fail([task], ["x"]), lambda: other.complete([task], [1]))
        assert verdicts == (["failed"], ["over"])
    else:
        verdicts = while_waiting_for(core, lambda: core.complete([task], [1]), lambda: other.fail([task], ["x"]))
        assert verdicts == (["completed"], ["over"])
    assert core.run(run_id)["status"] == ("failed" if fails_first else "completed")


def test_a_run_that_fails_while_a_completion_waits_stays_as_it_failed(core: Core, other: Core) -> None:
    core.flow("f", "a", "b")
    run_id = core.start("f", 1)
    a, b = core.claim("f")
    verdicts = while_waiting_for(core, lambda: core.fail([a], ["x"]), lambda: other.complete([b], [1]))
    assert verdicts == (["failed"], ["over"])
    assert core.state(run_id, "b")["status"] == "started"


def test_a_claim_does_not_wait_for_a_locked_task(core: Core, other: Core) -> None:
    core.flow("f", "m*")
    core.start("f", [1, 2])
    with core.connection.transaction():
        core.rows("SELECT FROM pgflow.step_tasks WHERE task_index = 0 FOR UPDATE")
        assert [t.task_index for t in other.claim("f")] == [1]


def test_a_claim_takes_tasks_that_were_queued_after_its_transaction_began(core: Core, other: Core) -> None:
    core.flow("f", "a")
    with core.connection.transaction():
        core.rows("SELECT now()")
        other.start("f", 1)
        assert len(core.claim("f")) == 1


def test_overlapping_batches_from_many_connections_neither_deadlock_nor_miscount(core: Core, database_url: str) -> None:
    core.flow("f", "m*", "n* <- m", "o <- m n", max_attempts=50)
    runs = [core.start("f", list(range(HAMMER_TASKS // 20))) for _ in range(10)]
    stop = threading.Event()
    verdicts: Counter[str] = Counter()

    def hammer(seed: int) -> None:
        chance = random.Random(seed)
        hammering = Core(database_url)
        with hammering.connection:
            while not stop.is_set():
                tasks = hammering.claim("f", 17)
                chance.shuffle(tasks)
                for position in range(0, len(tasks), 5):
                    batch = tasks[position : position + 5]
                    kind = chance.random()
                    if kind < 0.7:
                        verdicts.update(hammering.complete(batch, [t.task_index for t in batch]))
                    elif kind < 0.9:
                        verdicts.update(hammering.fail(batch, ["once more"] * len(batch)))
                    else:
                        verdicts.update(hammering.release(batch))

    with ThreadPoolExecutor(HAMMER_CONNECTIONS) as threads:
        hammers = [threads.submit(hammer, seed) for seed in range(HAMMER_CONNECTIONS)]
        try:
            wait_until(
                lambda: (
                    any(h.done() for h in hammers)
                    or core.value("SELECT bool_and(status <> 'started') FROM pgflow.runs")
                ),
                "all runs end",
                timeout=60,
            )
        finally:
            stop.set()
        for hammered in hammers:
            hammered.result()
    for run_id in runs:
        elements = HAMMER_TASKS // 20
        assert core.run(run_id)["output"] == {"o": 0}
        assert core.state(run_id, "n")["output"] == list(range(elements))
    tasks = core.value("SELECT count(*) FROM pgflow.step_tasks")
    assert verdicts["completed"] == tasks == 10 * (2 * (HAMMER_TASKS // 20) + 1)
    assert set(verdicts) <= {"completed", "retried", "released"}
    assert core.queue("f") == []
