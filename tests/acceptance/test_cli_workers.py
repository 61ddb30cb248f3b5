"""``pgflow workers`` and ``pgflow flows``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from pgflow import Worker
from tests.support.cli import begun, call, hear, patient_flow
from tests.support.seed import Seed
from tests.support.sql import Core
from tests.support.terminal import on_a_terminal
from tests.support.waiting import wait_until
from tests.support.worker import ARITHMETIC, FALSY, runs_in


def test_a_worker_is_listed_with_its_process_its_flows_and_what_it_holds(database_url: str, tmp_path: Path) -> None:
    reference = patient_flow(tmp_path)
    with begun("worker", reference, FALSY, "--slots", "1", url=database_url) as process, runs_in(database_url) as runs:
        hear(process, "ready: ")
        runs.start("patient", None)
        wait_until((tmp_path / "began").exists, "the task began")
        listed = json.loads(call("workers", "list", "--json", url=database_url).stdout)
        (worker,) = listed["workers"]
        assert (worker["status"], worker["flow_slugs"], worker["holds"]) == ("alive", ["falsy", "patient"], 1)
        assert (worker["host"], worker["pid"]) == (os.uname().nodename, process.pid)
        text = call("workers", "list", "--flow", "patient", url=database_url).stdout
        assert f"{os.uname().nodename}:{process.pid}  falsy, patient" in text
        assert call("workers", "list", "--status", "stopped", url=database_url).stderr == "no workers\n"
        # Deprecated, it finishes what it runs and ends.
        result = call("workers", "deprecate", worker["worker_ids"][0][:13], url=database_url)
        assert result.stdout == f"deprecated {worker['worker_ids'][0]}\n"
        assert result.stderr == (
            f"deprecate {worker['worker_ids'][0]} ({worker['host']}:{process.pid}, alive) of falsy, patient: "
            "holds 1 task\n"
        )
        hear(process, "an operator deprecated this worker")
        (tmp_path / "go").touch()
        process.communicate(timeout=30)
        assert process.returncode == 0
        assert [task["status"] for task in runs.query("SELECT status FROM pgflow.step_tasks")] == ["completed"]
    refused = call("workers", "deprecate", worker["worker_ids"][0], url=database_url)
    assert (refused.returncode, "has stopped already" in refused.stderr) == (2, True)


def test_all_workers_of_a_flow_are_deprecated(database_url: str, start_worker: Callable[..., Worker]) -> None:
    start_worker(ARITHMETIC)
    start_worker(FALSY)
    result = call("workers", "deprecate", "--flow", "arithmetic", "--json", url=database_url)
    assert [worker["flow_slugs"] for worker in json.loads(result.stdout)["workers"]] == [["arithmetic"]]
    with runs_in(database_url) as runs:

        def stopped() -> list[str]:
            return [row["queue_name"] for row in runs.workers() if row["stopped_at"] is not None]

        wait_until(lambda: stopped() == ["arithmetic"], "the worker ends")


def test_which_workers_is_to_be_said(database_url: str, seeded: Seed) -> None:
    for arguments in ((), ("abc", "--flow", "mail")):
        result = call("workers", "deprecate", *arguments, url=database_url)
        assert (result.returncode, "Name workers, or with --flow the flow" in result.stderr) == (2, True)
    none = call("workers", "deprecate", "--flow", "thumbs", url=database_url)
    assert (none.returncode, "No worker serves thumbs" in none.stderr) == (2, True)
    unknown = call("workers", "deprecate", "00000000", url=database_url)
    assert (unknown.returncode, "There is no worker 00000000" in unknown.stderr) == (2, True)


def test_a_terminal_is_asked_before_a_worker_is_deprecated(database_url: str, seeded: Seed) -> None:
    with on_a_terminal("workers", "deprecate", "--flow", "orders", url=database_url) as terminal:
        terminal.see("holds 1 task")
        terminal.see("Have 1 worker end? [y/N]")
        terminal.type("n\n")
        assert terminal.end() == 1
    core = Core(database_url)
    with core.connection:
        assert core.value("SELECT count(*) FROM pgflow.workers WHERE deprecated_at IS NOT NULL") == 0


def test_flows_are_listed_and_shown(database_url: str, seeded: Seed) -> None:
    result = call("flows", "list", url=database_url)
    heading, *lines = result.stdout.splitlines()
    assert heading.split() == ["FLOW", "STEPS", "UNFINISHED", "24H", "RUNS", "DONE", "FAILED", "LAST", "RUN"]
    assert [line.split()[:6] for line in lines] == [
        ["thumbs", "1", "0", "1", "1", "0"],
        ["mail", "1", "1", "1", "0", "0"],
        ["orders", "4", "1", "4", "1", "2"],
    ]
    shown = call("flows", "show", "ord", url=database_url).stdout
    head, steps = shown.split("\n\n")
    assert "options   timeout 60 s, max_attempts 2, base_delay 0 s" in head
    assert "last 24 h 4 runs started, 1 completed, 2 failed" in head
    assert steps.splitlines() == [
        "list        single; timeout 60 s; max_attempts 2; base_delay 0 s",
        "├ measure   map over list; timeout 1 s; max_attempts 2; base_delay 0 s",
        "└ extra     single after list; timeout 60 s; max_attempts 2; base_delay 0 s; "
        'if {"list": "never"}; when_unmet skip',
        "  └ report  single after measure, extra; timeout 60 s; max_attempts 5; base_delay 0 s",
    ]
    detail = json.loads(call("flows", "show", "thumbs", "--json", url=database_url).stdout)
    assert (detail["flow"]["day_completed"], detail["steps"][0]["when_exhausted"]) == (1, "record")
    assert json.loads(call("flows", "list", "--limit", "1", "--json", url=database_url).stdout)["more"] is True
    unknown = call("flows", "show", "nothing", url=database_url)
    assert (unknown.returncode, "`pgflow flows list` shows which there are" in unknown.stderr) == (2, True)
