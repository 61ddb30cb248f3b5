"""A worker on a core that has the contract's functions alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgflow import Client, Worker
from pgflow.database import Database
from pgflow.errors import UnknownContractError
from tests.support import contract_core
from tests.support.cli import call
from tests.support.worker import ARITHMETIC, HOSTILE, Runs, run_hostile, runs_in


@pytest.fixture
def url(empty_database_url: str) -> str:
    contract_core.install(empty_database_url)
    return empty_database_url


@pytest.fixture
def runs(url: str) -> Iterator[Runs]:
    with runs_in(url) as opened:
        yield opened


def test_a_flow_runs_to_its_output_with_a_retry_on_the_way(url: str, runs: Runs) -> None:
    with Worker(url, [ARITHMETIC], slots=2), Database(url) as database:
        run_id = Client(database).start("arithmetic", {"count": 30, "fails_once": 7}, key="k")
        assert runs.finish(run_id)["output"] == {"total": {"total": 8555, "of": 30}}
    assert [task["attempts_count"] for task in runs.tasks(run_id) if task["task_index"] == 7] == [2]
    assert runs.query("SELECT count(*) AS n FROM pgmq.q_arithmetic") == [{"n": 0}]


def test_a_hang_a_crash_and_a_wish_end_as_everywhere(url: str, runs: Runs) -> None:
    with Worker(url, [HOSTILE], slots=2):
        hung = run_hostile(runs, "hang_blocking_all_signals")
        crashed = run_hostile(runs, "segfault")
        hopeless = run_hostile(runs, "wish", {"wish": "fail"})
        busy = run_hostile(runs, "wish", {"wish": "retry"})
        assert [runs.finish(run)["status"] for run in (hung, crashed, hopeless, busy)] == [
            *("failed", "failed", "failed", "completed"),
        ]
    assert runs.tasks(hung)[0]["error_message"].startswith("Task timed out after 1000ms; it was in")
    assert runs.tasks(crashed)[0]["error_message"].startswith("Task crashed: the process was killed by SIGSEGV")


def test_a_contract_that_we_do_not_know_is_refused_with_the_remedy(url: str, runs: Runs) -> None:
    runs.query(
        "CREATE FUNCTION pgflow.start_tasks(a text, b bigint[], c uuid, queue_name text) RETURNS int LANGUAGE sql "
        "AS 'SELECT 1'"
    )
    with pytest.raises(UnknownContractError, match="its start_tasks takes 4 arguments instead of 3"):
        Worker(url, [ARITHMETIC], slots=1).start()
    for command in ("worker", "compile", "start"):
        result = call(command, ARITHMETIC, url=url)
        assert (
            result.returncode,
            result.stderr.splitlines()[-1].startswith("Error: The database's pgflow schema"),
        ) == (*(3, True),)


def test_the_command_line_says_what_it_is(url: str) -> None:
    assert call("schema", "install", url=url).stdout == (
        "another implementation's pgflow schema is there; nothing was changed\n"
    )
    result = call("run", ARITHMETIC, "--input", '{"count": 3}', "--slots", "1", url=url)
    assert (result.returncode, result.stdout) == (0, '{"total":{"of":3,"total":5}}\n')
    assert "schema        another implementation's\n" in call("doctor", url=url).stdout
