"""An idle worker waits for notifications, and works without them too."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgflow import Worker
from pgflow.worker.wakeup import IDLE_SECONDS
from tests.support.waiting import wait_until
from tests.support.worker import FALSY, Runs

CUT_LISTENER = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND position('pg_notify' IN query) > 0 AND pid <> pg_backend_pid()"
)


def waiting(runs: Runs) -> int:
    return int(runs.query("SELECT count(*) AS n FROM pgflow.waiting_workers")[0]["n"])


def milliseconds_to_start(runs: Runs, run_id: str) -> float:
    (row,) = runs.query(
        "SELECT extract(epoch FROM started_at - queued_at)::float * 1000 AS ms FROM pgflow.step_tasks "
        "WHERE run_id = %s",
        run_id,
    )
    return float(row["ms"])


@pytest.mark.quiet
def test_an_idle_worker_waits_and_is_woken(runs: Runs, start_worker: Callable[..., Worker]) -> None:
    start_worker(FALSY)
    for number in range(3):
        wait_until(lambda: waiting(runs) == 1, "the worker waits")
        run_id = runs.start("falsy", [number])
        assert runs.finish(run_id)["output"] == {"same": [number]}
        assert milliseconds_to_start(runs, run_id) < IDLE_SECONDS * 1000 / 2


def test_an_idle_worker_asks_the_database_next_to_nothing(runs: Runs, start_worker: Callable[..., Worker]) -> None:
    start_worker(FALSY)
    wait_until(lambda: waiting(runs) == 1, "the worker waits")
    last_claim = (
        "SELECT max(query_start) AS at, pg_sleep(0.1) FROM pg_stat_activity "
        "WHERE datname = current_database() AND position('pgflow.claim_tasks' IN query) > 0 AND pid <> pg_backend_pid()"
    )
    claims = {runs.query(last_claim)[0]["at"] for _ in range(30)}
    # While it polled, there were four a second.
    assert len(claims) <= 3


@pytest.mark.quiet
def test_a_retry_is_done_when_its_delay_ends(runs: Runs, start_worker: Callable[..., Worker]) -> None:
    start_worker(FALSY)
    run_id = runs.start("falsy", [1])
    runs.finish(run_id)
    wait_until(lambda: waiting(runs) == 1, "the worker waits")
    runs.query("UPDATE pgflow.steps SET opt_start_delay = 2 WHERE flow_slug = 'falsy'")
    run_id = runs.start("falsy", [1])
    runs.finish(run_id)
    assert 2000 <= milliseconds_to_start(runs, run_id) < 2000 + IDLE_SECONDS * 1000 / 2


def test_a_worker_whose_connection_is_cut_polls_and_listens_again(
    runs: Runs, start_worker: Callable[..., Worker]
) -> None:
    start_worker(FALSY)
    wait_until(lambda: waiting(runs) == 1, "the worker waits")
    assert len(runs.query(CUT_LISTENER)) == 1
    run_id = runs.start("falsy", [1])
    assert runs.finish(run_id)["status"] == "completed"
    assert milliseconds_to_start(runs, run_id) < IDLE_SECONDS * 1000 / 2


def test_a_worker_that_has_ended_costs_one_notification_at_most(
    runs: Runs, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker(FALSY)
    wait_until(lambda: waiting(runs) == 1, "the worker waits")
    runs.query("LISTEN pgflow_tasks")
    worker.stop()
    for number in range(5):
        runs.start("falsy", [number])
    assert len(list(runs.connection.notifies(timeout=0.2))) <= 1
