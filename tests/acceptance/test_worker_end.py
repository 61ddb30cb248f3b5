"""How a worker ends: asked once, asked twice, killed; with its database there or gone."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from pgflow import Worker
from pgflow.database import Database
from pgflow.errors import UsageError
from pgflow.worker.options import Options
from pgflow.worker.worker import order
from tests.support import family, servers
from tests.support.cli import begun, hear, patient_flow, slow_import
from tests.support.waiting import process_exists, wait_until
from tests.support.worker import (
    ARITHMETIC,
    FALSY,
    HOSTILE,
    Runs,
    compile_by_reference,
    dispatcher_of,
    run_hostile,
    runs_in,
)


@contextmanager
def serving(reference: str, url: str, before: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """``pgflow worker`` that is ready."""
    with begun("worker", reference, "--slots", "1", url=url, before=before) as process:
        hear(process, "ready: ")
        yield process


def begin(runs: Runs, folder: Path) -> str:
    """A run whose handler has begun, and ends when there is a file ``go``."""
    runs.query("UPDATE pgflow.flows SET opt_timeout = 60")
    run_id = run_hostile(runs, "note_and_wait", {"began": str(folder / "began"), "go": str(folder / "go")})
    wait_until((folder / "began").exists, "the handler runs")
    return run_id


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_drains_running_work_finishes_and_the_exit_code_is_0(
    database_url: str, runs: Runs, tmp_path: Path, number: signal.Signals
) -> None:
    with serving(HOSTILE, database_url) as process:
        running = begin(runs, tmp_path)
        waiting = run_hostile(runs, "add_one", {"value": 1})
        process.send_signal(number)
        hear(process, "draining")
        (tmp_path / "go").touch()
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert runs.finish(running)["output"] == {"note_and_wait": "went"}
    assert [task["status"] for task in runs.tasks(waiting)] == ["queued"]


def test_what_was_claimed_ahead_goes_back_without_an_attempt(database_url: str, runs: Runs) -> None:
    with serving(FALSY, database_url) as process:
        run_id = runs.start("falsy", [0] * 3000)
        wait_until(lambda: "completed" in states(runs, run_id), "it is under way")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert states(runs, run_id) == {"completed": 1, "queued": 0}


def states(runs: Runs, run_id: str) -> dict[str, int]:
    """The statuses of a run's tasks, each with the most attempts."""
    rows = runs.query(
        "SELECT status, max(attempts_count) AS most FROM pgflow.step_tasks WHERE run_id = %s GROUP BY status", run_id
    )
    return {row["status"]: row["most"] for row in rows}


def test_a_second_signal_ends_at_once_and_hands_the_task_back(
    start_worker: Callable[..., Worker], database_url: str, runs: Runs, tmp_path: Path
) -> None:
    worker = start_worker(HOSTILE)
    run_id = begin(runs, tmp_path)
    dispatcher = dispatcher_of(worker)
    children = dispatcher.children(recursive=True)
    # Two kinds, because two of one kind in quick succession may arrive as one.
    dispatcher.send_signal(signal.SIGTERM)
    dispatcher.send_signal(signal.SIGINT)
    assert worker.stop() == 0
    (task,) = runs.tasks(run_id)
    assert (task["status"], task["attempts_count"]) == ("queued", 0)
    wait_until(lambda: not [c for c in children if process_exists(c.pid)], "all children end", timeout=5)
    # The next worker does it.
    (tmp_path / "go").touch()
    with Worker(database_url, [HOSTILE], slots=1):
        assert runs.finish(run_id)["output"] == {"note_and_wait": "went"}


@pytest.mark.parametrize("before_deadline", [0.02, 0.0, -0.02])
def test_tasks_at_their_deadlines_when_the_worker_is_ended_have_their_verdicts(
    database_url: str, runs: Runs, before_deadline: float
) -> None:
    """The watch has taken them and waits for their stacks."""
    with begun("worker", HOSTILE, "--slots", "4", url=database_url) as process:
        hear(process, "ready: ")
        hung = [run_hostile(runs, "hang_blocking_all_signals") for _ in range(4)]
        (first,) = wait_until(
            lambda: runs.query(
                "SELECT extract(epoch FROM clock_timestamp() - max(started_at))::float AS ago "
                "FROM pgflow.step_tasks WHERE status = 'started' HAVING count(*) = 4"
            ),
            "all hang",
        )
        time.sleep(max(0.0, 1 - first["ago"] - before_deadline))  # the subject
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert "started" not in {runs.tasks(run_id)[0]["status"] for run_id in hung}


def test_what_still_runs_when_the_grace_ends_is_killed_and_handed_back(
    database_url: str, runs: Runs, tmp_path: Path
) -> None:
    with begun("worker", HOSTILE, "--slots", "1", "--grace", "500ms", url=database_url) as process:
        hear(process, "the grace of 0.5 s is under the timeout of hostile.add_one, 1 s")
        hear(process, "ready: ")
        run_id = begin(runs, tmp_path)
        process.send_signal(signal.SIGTERM)
        hear(process, "running tasks are killed and handed back")
        process.communicate(timeout=20)
    assert process.returncode == 0
    (task,) = runs.tasks(run_id)
    assert (task["status"], task["attempts_count"]) == ("queued", 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--memory", "12 parsecs"], "must be a size such as 512MiB, 2G or a number of bytes, got '12 parsecs'"),
        (["--grace", "soon"], "must be a duration such as 30s, 5m or a number of seconds, got 'soon'"),
        (["--memory", "1MiB"], "memory (1 MiB) must be more than what a pool process has resident"),
        (["--memory", "2G", "--max-address-space", "1G"], "max_address_space (1 GiB) must not be less than memory"),
    ],
)
def test_options_that_will_not_do_are_refused_at_start(database_url: str, options: list[str], words: str) -> None:
    with begun("worker", HOSTILE, "--slots", "1", *options, url=database_url) as process:
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 2
    assert words in stderr


def test_a_database_with_too_few_connections_is_refused(database_url: str) -> None:
    worker = Worker(Database(database_url, max_connections=2), [HOSTILE], slots=1)
    with pytest.raises(UsageError, match="max_connections of at least 4, one for each of its threads, got 2"):
        worker.start()


def test_stop_kills_and_hands_back_after_its_timeout(
    start_worker: Callable[..., Worker], runs: Runs, tmp_path: Path
) -> None:
    worker = start_worker(HOSTILE)
    run_id = begin(runs, tmp_path)
    assert worker.stop(timeout=0.2) == 0
    (task,) = runs.tasks(run_id)
    assert (task["status"], task["attempts_count"]) == ("queued", 0)


def test_a_signal_that_another_thread_got_is_heeded_while_stop_waits(
    start_worker: Callable[..., Worker], runs: Runs, tmp_path: Path
) -> None:
    worker = start_worker(HOSTILE)
    begin(runs, tmp_path)

    def signal_own_thread() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, lambda *_: worker.end_at_once())
    timers = [threading.Timer(1.0, signal_own_thread), threading.Timer(30.0, (tmp_path / "go").touch)]
    try:
        for timer in timers:
            timer.start()
        assert worker.stop() == 0
        assert not (tmp_path / "go").exists()
    finally:
        for timer in timers:
            timer.cancel()
        signal.signal(signal.SIGUSR1, previous)


def test_kill_9_of_the_dispatcher_ends_all_that_it_and_its_handlers_started(
    start_worker: Callable[..., Worker], runs: Runs, tmp_path: Path
) -> None:
    worker = start_worker(HOSTILE)
    runs.query("UPDATE pgflow.flows SET opt_timeout = 60")
    run_hostile(runs, "start_a_family", {"folder": str(tmp_path), "then": "hang_blocking_all_signals"})
    members = family.read(tmp_path)
    dispatcher = dispatcher_of(worker)
    below = {f"{child.name()} {child.pid}": child.pid for child in dispatcher.children(recursive=True)}
    assert set(members.values()) <= set(below.values())  # where nothing is lost sight of
    dispatcher.kill()
    family.wait_until_gone(members)
    family.wait_until_gone(below, 5)
    assert worker.stop() == -signal.SIGKILL


def test_a_worker_drains_when_the_process_that_started_it_is_killed(database_url: str, runs: Runs) -> None:
    script = (
        "import sys, time; from pgflow import Worker\n"
        f"worker = Worker({database_url!r}, [{FALSY!r}], slots=1).start()\n"
        "print(worker._process.pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    dispatcher = int(parent.stdout.readline())
    assert process_exists(dispatcher)
    parent.kill()
    parent.communicate()
    wait_until(lambda: not process_exists(dispatcher), "the dispatcher ends")
    assert [row["stopped_at"] is not None for row in runs.workers()] == [True]


def test_a_deprecated_worker_drains(start_worker: Callable[..., Worker], runs: Runs) -> None:
    worker = start_worker(FALSY)
    runs.query("UPDATE pgflow.workers SET deprecated_at = now()")
    assert worker._process is not None
    assert worker._process.wait(20) == 0
    assert worker.stop() == 0


def test_outcomes_that_a_lost_database_cannot_take_are_named_at_a_second_signal(
    own_server: servers.Server, tmp_path: Path
) -> None:
    with serving(HOSTILE, own_server.url()) as process:
        children = psutil.Process(process.pid).children(recursive=True)
        with runs_in(own_server.url()) as runs:
            run_id = begin(runs, tmp_path)
        own_server.stop("immediate")
        process.send_signal(signal.SIGTERM)
        (tmp_path / "go").touch()
        hear(process, "delivering 1 outcomes failed")
        hear(process, "next try")  # once is not the end
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=15)
    assert process.returncode == 3
    assert f"undelivered: hostile/note_and_wait[0] of run {run_id}" in stderr
    assert stderr.splitlines()[-1].startswith("Error: 1 outcomes could not be delivered to the database")
    wait_until(lambda: not any(process_exists(child.pid) for child in children), "all children end", timeout=5)


def test_a_dispatcher_with_a_lost_database_ends_when_its_parent_gives_up(
    own_server: servers.Server, tmp_path: Path
) -> None:
    worker = Worker(own_server.url(), [HOSTILE], slots=1).start()
    with runs_in(own_server.url()) as runs:
        begin(runs, tmp_path)
    own_server.stop("immediate")
    assert worker.stop(timeout=0) == 1


def test_a_statement_that_hangs_does_not_outlive_a_second_signal(
    start_worker: Callable[..., Worker], runs: Runs
) -> None:
    worker = start_worker(FALSY)
    with runs.connection.transaction():
        runs.query("LOCK TABLE pgmq.q_falsy, pgflow.workers IN ACCESS EXCLUSIVE MODE")
        wait_until(lambda: runs.query("SELECT pid FROM pg_locks WHERE NOT granted"), "the claim waits for the lock")
        assert worker.stop(timeout=0) == 0


@pytest.mark.parametrize("preload", [[], ["--no-preload"]])
def test_a_worker_that_is_stopped_while_it_imports_ends_at_once(
    database_url: str, tmp_path: Path, preload: list[str]
) -> None:
    with begun("worker", slow_import(tmp_path), "--slots", "1", *preload, url=database_url) as process:
        wait_until((tmp_path / "began").exists, "the import runs")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=10)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    wait_until(lambda: not any(process_exists(child.pid) for child in children), "all children end", timeout=5)


def test_a_hangup_that_nohup_ignores_does_not_end_a_worker(database_url: str, tmp_path: Path) -> None:
    with serving(HOSTILE, database_url, before=["nohup"]) as process, runs_in(database_url) as runs:
        run_id = begin(runs, tmp_path)
        process.send_signal(signal.SIGHUP)
        after = run_hostile(runs, "add_one", {"value": 1})
        (tmp_path / "go").touch()
        assert runs.finish(run_id)["status"] == "completed"
        assert runs.finish(after)["output"] == {"add_one": 2}


def test_handlers_that_print_finish_although_nobody_reads_any_more(
    database_url: str, runs: Runs, tmp_path: Path
) -> None:
    with begun("run", patient_flow(tmp_path), "--slots", "1", url=database_url) as process:
        wait_until((tmp_path / "began").exists, "the handler runs")
        (dispatcher,) = psutil.Process(process.pid).children()
        process.kill()
    (run,) = runs.query("SELECT run_id::text FROM pgflow.runs")
    (tmp_path / "go").touch()
    wait_until(lambda: not process_exists(dispatcher.pid), "the dispatcher drains")
    assert [task["status"] for task in runs.tasks(run["run_id"])] == ["completed"]


def test_a_worker_whose_log_nobody_reads_any_more_goes_on(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    with begun("worker", patient_flow(tmp_path), "--slots", "1", url=database_url) as process:
        hear(process, "ready: ")
        assert process.stderr is not None
        process.stderr.close()
        with runs_in(database_url) as runs:
            for _ in range(3):
                assert runs.finish(runs.start("patient", None))["status"] == "completed"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_worker_whose_log_is_not_read_for_a_while_goes_on(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    with begun("worker", patient_flow(tmp_path), "--slots", "1", url=database_url) as process:
        hear(process, "ready: ")
        with runs_in(database_url) as runs:
            for _ in range(10):  # 600 KB into a pipe of 64
                assert runs.finish(runs.start("patient", None))["status"] == "completed"
        assert process.stderr is not None
        assert process.stderr.readline()  # from now on there is room for what the worker has to say
        process.send_signal(signal.SIGTERM)
        hear(process, "lines were left out: nobody read them")
        assert process.wait(20) == 0


def test_a_dispatcher_whose_parent_dies_while_it_starts_loses_nothing(database_url: str, runs: Runs) -> None:
    compile_by_reference(Database(database_url), ARITHMETIC)
    for _ in range(20):
        runs.start("arithmetic", {"count": 3})
    line = order(Database(database_url), Options(flows=(ARITHMETIC,), slots=2))
    for delay in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5):
        dispatcher = subprocess.Popen(
            [sys.executable, "-m", "pgflow.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert dispatcher.stdin is not None
        assert dispatcher.stdout is not None
        dispatcher.stdin.write(f"{line}\n")
        dispatcher.stdin.flush()
        dispatcher.stdout.close()
        time.sleep(delay)  # no event to wait for: every moment of the start is meant
        dispatcher.stdin.close()
        assert dispatcher.wait(20) == 0
        assert runs.query("SELECT task_index FROM pgflow.step_tasks WHERE status = 'started'") == []


def test_a_dispatcher_that_nobody_gives_an_order_ends_without_a_word() -> None:
    command = [sys.executable, "-m", "pgflow.worker"]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
