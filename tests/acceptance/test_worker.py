"""A worker end to end: real PostgreSQL, a real dispatcher process, real signals."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pgflow import Worker
from pgflow.database import Database, schema
from pgflow.errors import (
    DatabaseUnreachableError,
    FlowImportError,
    FlowNotFoundError,
    FlowShapeMismatchError,
    UsageError,
)
from pgflow.worker import preload
from tests.support.waiting import wait_until
from tests.support.worker import ARITHMETIC, FALSY, HOSTILE, Runs, compile_by_reference, dispatcher_of, run_hostile


def test_a_flow_runs_to_its_output(database_url: str, runs: Runs) -> None:
    with Worker(database_url, [ARITHMETIC, FALSY], slots=2):
        run = runs.finish(runs.start("arithmetic", {"count": 40}))
        falsy_values = [0, False, "", None, [], {}]
        falsy = runs.finish(runs.start("falsy", falsy_values))
    assert (run["status"], run["output"]) == ("completed", {"total": {"total": 20540, "of": 40}})
    assert (falsy["status"], falsy["output"]) == ("completed", {"same": falsy_values})


def test_a_failed_attempt_is_tried_again(database_url: str, runs: Runs) -> None:
    with Worker(database_url, [ARITHMETIC], slots=2):
        run_id = runs.start("arithmetic", {"count": 3, "fails_once": 1})
        assert runs.finish(run_id)["output"] == {"total": {"total": 5, "of": 3}}
    retried = [task for task in runs.tasks(run_id) if task["attempts_count"] == 2]
    assert [(task["step_slug"], task["task_index"]) for task in retried] == [("square", 1)]
    assert retried[0]["error_message"].startswith("RuntimeError: not yet\nTraceback (most recent call last):")


def test_a_task_whose_attempts_are_spent_is_not_tried_again(database_url: str, runs: Runs, database: Database) -> None:
    """It was handed back with its last attempt spent, or max_attempts was lowered since."""
    compile_by_reference(database, HOSTILE)
    run_id = run_hostile(runs, "add_one", {"value": 1})
    runs.query("UPDATE pgflow.step_tasks SET attempts_count = 1")
    with Worker(database_url, [HOSTILE], slots=1):
        assert runs.finish(run_id)["status"] == "failed"
    (task,) = runs.tasks(run_id)
    assert task["error_message"] == "Task was not tried again: attempt 1 was the last of 1"


def test_who_takes_no_context_pays_for_no_database(database_url: str, runs: Runs, tmp_path: Path) -> None:
    """Its import is half of what a pool process costs."""
    module = tmp_path / "lean.py"
    module.write_text(
        "import sys\nfrom pgflow import Flow\nflow = Flow('lean')\n"
        "@flow.step\ndef has_psycopg(input): return 'psycopg' in sys.modules\n"
    )
    with Worker(database_url, [f"{module}:flow"], slots=1):
        assert runs.finish(runs.start("lean", None))["output"] == {"has_psycopg": False}


def test_a_dispatcher_starts_its_pool_before_it_knows_what_a_database_is() -> None:
    code = "import sys, pgflow.worker.__main__; print('pebble' in sys.modules, 'psycopg' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["True", "False"]


def test_an_import_is_not_counted_in_a_deadline(database_url: str, runs: Runs, tmp_path: Path) -> None:
    module = tmp_path / "slow.py"
    module.write_text(
        "import time\nfrom pgflow import Flow\ntime.sleep(1.5)\nflow = Flow('slow', max_attempts=1, timeout=1)\n"
        "flow.step(slug='a')(len)\n"
    )
    with Worker(database_url, [f"{module}:flow"], slots=2, preload=False):
        ended = [runs.finish(runs.start("slow", [1])) for _ in range(4)]
    assert [run["output"] for run in ended] == [{"a": 1}] * 4


@pytest.mark.quiet
def test_a_handler_hung_in_c_is_killed_and_harms_nobody(database_url: str, runs: Runs) -> None:
    with Worker(database_url, [HOSTILE], slots=2):
        hung = run_hostile(runs, "hang_blocking_all_signals")
        neighbours = [run_hostile(runs, "add_one", {"value": value}) for value in range(30)]
        assert [runs.finish(run_id)["output"]["add_one"] for run_id in neighbours] == list(range(1, 31))
        assert runs.status(hung) == "started"  # the other slot went on meanwhile
        assert runs.finish(hung)["status"] == "failed"
        # Both slots are needed for these two to run at the same time.
        (task,) = runs.tasks(hung)
        assert runs.finish(run_hostile(runs, "add_one", {"value": 1}))["output"] == {"add_one": 2}
    message = task["error_message"]
    assert message.startswith("Task timed out after 1000ms; it was in hang_blocking_all_signals (hostile.py:")
    assert "Stack (most recent call last):" in message
    elapsed = (task["failed_at"] - task["started_at"]).total_seconds()
    assert 1.0 <= elapsed < 2.0


@pytest.mark.parametrize(
    ("step_slug", "input", "first_words"),
    [
        ("segfault", None, "Task crashed: the process was killed by SIGSEGV"),
        ("exit_at_once", {"code": 0}, "Task crashed: the process ended with exit code 0"),
        ("exit_politely", None, "SystemExit: 5"),
    ],
)
def test_a_crash_is_that_tasks_failure_and_nobody_elses(
    database_url: str, runs: Runs, step_slug: str, input: Any, first_words: str
) -> None:
    with Worker(database_url, [HOSTILE], slots=1):
        crashed = run_hostile(runs, step_slug, input)
        neighbour = run_hostile(runs, "add_one", {"value": 1})
        assert runs.finish(crashed)["status"] == "failed"
        assert runs.finish(neighbour)["output"] == {"add_one": 2}
    assert runs.tasks(crashed)[0]["error_message"].startswith(first_words)


def test_a_handler_says_whether_it_is_tried_again(database_url: str, runs: Runs) -> None:
    with Worker(database_url, [HOSTILE], slots=1):
        hopeless = run_hostile(runs, "wish", {"wish": "fail"})
        busy = run_hostile(runs, "wish", {"wish": "retry"})
        assert runs.finish(hopeless)["status"] == "failed"
        assert runs.finish(busy)["output"] == {"wish": "done"}
    assert [runs.tasks(run)[0]["attempts_count"] for run in (hopeless, busy)] == [1, 2]


def test_a_handler_missing_for_a_claimed_step_fails_its_task(database_url: str, runs: Runs) -> None:
    with Worker(database_url, [FALSY], slots=1):
        runs.query("SELECT pgflow.add_step('falsy', 'forgotten')")
        run_id = runs.start("falsy", [])
        assert runs.finish(run_id)["status"] == "failed"
    (task,) = [task for task in runs.tasks(run_id) if task["step_slug"] == "forgotten"]
    assert task["error_message"] == "No handler defined for step: forgotten"


def test_a_worker_has_one_row_per_flow_and_marks_them_stopped(database_url: str, runs: Runs) -> None:
    with Worker(database_url, [ARITHMETIC, FALSY], slots=1) as worker:
        rows = runs.workers()
        assert sorted(row["queue_name"] for row in rows) == ["arithmetic", "falsy"]
        assert all(row["stopped_at"] is None for row in rows)
        assert all(str(dispatcher_of(worker).pid) in row["function_name"] for row in rows)
    assert all(row["stopped_at"] is not None for row in runs.workers())


def test_outcomes_are_delivered_although_connections_are_cut(database_url: str, runs: Runs) -> None:
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND (state = 'idle' OR query LIKE '%%complete_tasks%%')"
    )
    with Worker(database_url, [ARITHMETIC], slots=2):
        run_id = runs.start("arithmetic", {"count": 300})
        for _ in range(10):
            wait_until(lambda: runs.query(cut), "there are connections to cut")
        assert runs.finish(run_id)["output"] == {"total": {"total": 8955050, "of": 300}}
    assert {task["attempts_count"] for task in runs.tasks(run_id)} == {1}


def test_the_schema_is_upgraded_under_a_running_worker(database_url: str, runs: Runs) -> None:
    with Worker(database_url, [ARITHMETIC], slots=2):
        run_id = runs.start("arithmetic", {"count": 300})
        for count in (10, 100, 200):
            done = "SELECT count(*) AS n FROM pgflow.step_tasks WHERE status = 'completed'"
            wait_until(lambda: runs.query(done)[0]["n"] > count, f"{count} tasks are done")  # noqa: B023
            runs.query("UPDATE pgflow.schema_versions SET digest = 'another build''s'")
            assert schema.install(runs.connection).outcome == "upgraded"
        assert runs.finish(run_id)["output"] == {"total": {"total": 8955050, "of": 300}}
    assert runs.query("SELECT error_message FROM pgflow.task_attempts WHERE outcome <> 'completed'") == []
    assert {task["attempts_count"] for task in runs.tasks(run_id)} == {1}


def test_tasks_that_have_stalled_for_good_are_told(database_url: str, runs: Runs, tmp_path: Path) -> None:
    compile_by_reference(Database(database_url), HOSTILE)
    stalled = run_hostile(runs, "add_one", {"value": 1})
    runs.query(
        "UPDATE pgflow.step_tasks SET status = 'started', requeued_count = 3, started_at = now(), "
        "permanently_stalled_at = now() WHERE run_id = %s",
        stalled,
    )
    log = tmp_path / "log"
    with log.open("w") as stderr, Worker(database_url, [HOSTILE], slots=1, stderr=stderr):
        wait_until(lambda: "have stalled for good, and their runs with them" in log.read_text(), "it is told")
    assert runs.status(stalled) == "started"


def test_the_dispatcher_imports_no_flow(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = {"sys_path": sys.path, "references": [HOSTILE], "importing": str(tmp_path / "gone" / "importing")}
    monkeypatch.setenv(preload.VARIABLE, json.dumps(order))  # as in a process that has a pool itself
    with Worker(database_url, [HOSTILE], slots=1) as worker:
        maps = Path(f"/proc/{dispatcher_of(worker).pid}/maps").read_text()
    assert "_ctypes_test" not in maps  # a sanity check of the reading
    assert "hostile" not in maps


@pytest.mark.parametrize(
    ("flows", "error", "words"),
    [
        (["tests.flows.nowhere:flow"], FlowNotFoundError, "tests.flows.nowhere"),
        (["tests.flows.arithmetic:missing"], FlowNotFoundError, "missing"),
        (["{tmp}/broken.py:flow"], FlowImportError, "ZeroDivisionError"),
        ([], UsageError, "at least one flow"),
    ],
)
def test_a_flow_that_cannot_be_had_is_an_error_at_start(
    database_url: str, tmp_path: Path, flows: list[str], error: type[Exception], words: str
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(error, match=words):
        Worker(database_url, [flow.format(tmp=tmp_path) for flow in flows], slots=1).start()


def test_a_changed_flow_is_refused_with_the_differences(database_url: str, tmp_path: Path) -> None:
    module = tmp_path / "changing.py"
    text = "from pgflow import Flow\nflow = Flow('changing')\n@flow.step\ndef {name}(input): return 1\n"
    module.write_text(text.format(name="first"))
    Worker(database_url, [f"{module}:flow"], slots=1).start().stop()
    module.write_text(text.format(name="second"))
    with pytest.raises(FlowShapeMismatchError, match="slug differs 'second' vs 'first'"):
        Worker(database_url, [f"{module}:flow"], slots=1).start()
    Worker(database_url, [f"{module}:flow"], slots=1, allow_data_loss=True).start().stop()


def test_flows_that_differ_only_in_case_are_refused(database_url: str, tmp_path: Path) -> None:
    for slug in ("Same", "same"):
        (tmp_path / f"m_{slug}.py").write_text(
            f"from pgflow import Flow\nflow = Flow({slug!r})\n@flow.step\ndef s(input): return 1\n"
        )
    with pytest.raises(FlowImportError, match="would share its queue"):
        Worker(database_url, [f"{tmp_path}/m_Same.py:flow", f"{tmp_path}/m_same.py:flow"], slots=1).start()


def test_a_database_that_is_down_is_an_error_at_start(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnreachableError):
        Worker(f"postgresql://postgres@/nothing?host={tmp_path}", [FALSY], slots=1).start()


def test_the_number_of_slots_must_be_positive(database_url: str) -> None:
    with pytest.raises(UsageError, match="slots must be at least 1, got 0"):
        Worker(database_url, [FALSY], slots=0)


def test_a_dispatcher_may_open_the_files_that_its_slots_need(database_url: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        with Worker(database_url, [ARITHMETIC], slots=4) as worker:
            assert resource.prlimit(dispatcher_of(worker).pid, resource.RLIMIT_NOFILE) == (116, hard)
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (100, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_environment_is_left_alone(database_url: str, tmp_path: Path) -> None:
    before = dict(os.environ)
    with Worker(database_url, [FALSY], slots=1):
        pass
    assert dict(os.environ) == before
