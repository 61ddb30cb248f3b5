"""``pgflow runs``."""

from __future__ import annotations

import json

import pytest

from tests.support import contract_core
from tests.support.cli import begun, call, hear
from tests.support.seed import Seed
from tests.support.sql import Core
from tests.support.terminal import on_a_terminal
from tests.support.worker import FALSY


def test_runs_are_listed_as_text_and_as_json(database_url: str, seeded: Seed) -> None:
    result = call("runs", "list", "--limit", "4", url=database_url)
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["RUN", "FLOW", "STATUS", "STARTED", "TOOK", "STEPS", "REASON"]
    assert [line.split()[0] for line in lines[1:]] == [
        str(run) for run in (seeded.recorded, seeded.started, seeded.skipped, seeded.cancelled)
    ]
    assert lines[4].endswith("0/4  list: Cancelled: wrong day")
    assert (result.returncode, result.stderr) == (0, "these are 4 runs, and there are more: see --limit\n")
    listed = json.loads(call("runs", "list", "--flow", "ord", "--status", "failed", "--json", url=database_url).stdout)
    assert [run["run_id"] for run in listed["runs"]] == [str(seeded.cancelled), str(seeded.failed)]
    assert listed["more"] is False
    assert call("runs", "list", "--flow", "thumbs", "--status", "failed", url=database_url).stderr == "no runs\n"


def test_a_terminal_gets_short_ids_and_colours_and_lines_that_fit(database_url: str, seeded: Seed) -> None:
    with on_a_terminal("runs", "list", url=database_url, columns=80) as terminal:
        assert terminal.end() == 0
    assert "\x1b[31mfailed" in terminal.shown
    assert str(seeded.failed) not in terminal.shown
    assert str(seeded.failed)[:8] in terminal.shown
    with on_a_terminal("runs", "list", url=database_url, columns=80, NO_COLOR="1") as terminal:
        assert terminal.end() == 0
    assert "\x1b" not in terminal.shown
    assert max(map(len, terminal.shown.splitlines())) <= 80
    with on_a_terminal("runs", "list", url=database_url, columns=160) as terminal:
        assert terminal.end() == 0
    assert str(seeded.failed) in terminal.shown


def test_a_run_is_a_tree_with_the_reason_of_its_first_failure(database_url: str, seeded: Seed) -> None:
    result = call("runs", "show", str(seeded.failed)[:13], url=database_url)
    assert (result.returncode, result.stderr) == (0, "")
    head, steps, failure = result.stdout.split("\n\n")
    assert head.splitlines()[:2] == [f"run       {seeded.failed}", "flow      orders"]
    assert [" ".join(line.split()) for line in steps.splitlines()] == [
        f"✓ list done {' '.join(steps.splitlines()[0].split()[-2:])}",
        "├ ✗ measure failed 3/4 "
        f"{' '.join(steps.splitlines()[1].split()[5:7])} 1 failed 2 retries "
        "Task timed out after 1000ms; it was in spin called from work.py:7",
        "└ - extra skipped condition unmet",
        "└ · report waiting (also after measure)",
    ]
    assert failure.splitlines() == [
        "failed at measure[2], 2 attempts:",
        "  Task timed out after 1000ms; it was in spin called from work.py:7",
        "  Stack (most recent call last):",
        "    work.py:7 in spin",
        f"everything about it: pgflow tasks dump {seeded.failed}:measure:2",
    ]
    detail = json.loads(call("runs", "show", str(seeded.failed), "--json", url=database_url).stdout)
    assert list(detail) == ["run", "input", "output", "steps", "first_failure", "interventions"]
    assert detail["input"]["value"] == {"day": 2}
    assert [step["depends_on"] for step in detail["steps"]] == [[], ["list"], ["list"], ["measure", "extra"]]


def test_numbers_that_no_float_holds_are_shown_as_they_are(core: Core) -> None:
    core.flow("f", "a")
    run_id = core.row("SELECT run_id FROM pgflow.start_flow('f', '[1.10, 12345678901234567890, 1e400]')")["run_id"]
    shown = call("runs", "show", str(run_id), "--json", url=core.url).stdout
    assert f'"value": [1.10, 12345678901234567890, 1{"0" * 400}]' in shown


@pytest.mark.parametrize("verb", [("show",), ("watch",), ("cancel", "--yes"), ("retry", "--yes")])
def test_an_id_that_names_no_run_or_several_is_refused(core: Core, verb: tuple[str, ...]) -> None:
    core.flow("f", "a")
    for digit in "12":
        core.rows("INSERT INTO pgflow.runs (run_id, flow_slug, input) VALUES (%s, 'f', '1')", f"aa{digit}" + "0" * 29)
    unknown = call("runs", verb[0], "bbbb", *verb[1:], url=core.url)
    assert unknown.returncode == 2
    assert "There is no run bbbb in the database" in unknown.stderr
    assert "`pgflow runs list` shows which there are" in unknown.stderr
    several = call("runs", verb[0], "aa", *verb[1:], url=core.url)
    assert several.returncode == 2
    assert "aa may be more than one run; give more of its id:\n  aa100000-" in several.stderr


def test_watching_follows_a_run_to_its_end(core: Core) -> None:
    core.flow("f", "a", "b <- a")
    run_id = core.start("f", 1)
    with begun("runs", "watch", str(run_id)[:8], url=core.url) as process:
        hear(process, "no worker serves f now: start one with `pgflow worker`")
        core.complete(core.claim("f"), [1])
        hear(process, "a: done")
        core.complete(core.claim("f"), [{"x": [0.5]}])
        stdout, _ = process.communicate(timeout=30)
        assert (process.returncode, stdout) == (0, '{"b":{"x":[0.5]}}\n')


def test_watching_a_failed_run_ends_as_run_does(database_url: str, seeded: Seed) -> None:
    result = call("runs", "watch", str(seeded.failed), url=database_url)
    assert (result.returncode, result.stdout) == (1, "")
    assert f"Run {seeded.failed} failed: measure[2], attempt 2:\nTask timed out" in result.stderr
    as_json = call("runs", "watch", str(seeded.failed), "--json", url=database_url)
    assert (as_json.returncode, json.loads(as_json.stdout)["run"]["status"]) == (1, "failed")


def test_watching_may_be_interrupted_and_the_run_goes_on(database_url: str, seeded: Seed) -> None:
    with begun("runs", "watch", str(seeded.started), url=database_url) as process:
        hear(process, "no worker serves mail")
        process.send_signal(2)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"Run {seeded.started} goes on\n" in stderr


def test_cancelling_names_what_it_touches(core: Core, seeded: Seed) -> None:
    result = call("runs", "cancel", str(seeded.started), "--reason", "no mail today", url=core.url)
    assert (result.returncode, result.stdout) == (0, f"cancelled {seeded.started}\n")
    assert result.stderr == (
        f"cancel {seeded.started} of mail: send; running tasks that are killed: 1, queued ones dropped: 2\n"
    )
    assert core.state(seeded.started, "send")["error_message"] == "Cancelled: no mail today"
    again = call("runs", "cancel", str(seeded.started), url=core.url)
    assert (again.returncode, again.stdout) == (2, "")
    assert "is left as it is: it has failed" in again.stderr


def test_a_terminal_is_asked_first(core: Core, seeded: Seed) -> None:
    with on_a_terminal("runs", "cancel", str(seeded.started), url=core.url) as terminal:
        terminal.see("Cancel 1 run? [y/N]")
        terminal.type("\n")
        assert terminal.end() == 1
    assert core.run(seeded.started)["status"] == "started"
    with on_a_terminal("runs", "cancel", str(seeded.started), url=core.url) as terminal:
        terminal.see("Cancel 1 run? [y/N]")
        terminal.type("y\n")
        assert terminal.end() == 0
    assert core.run(seeded.started)["status"] == "failed"
    with on_a_terminal("runs", "retry", "--yes", str(seeded.started), url=core.url) as terminal:
        assert terminal.end() == 0
    assert core.run(seeded.started)["status"] == "started"


def test_several_failed_runs_are_retried(core: Core, seeded: Seed) -> None:
    arguments = ("runs", "retry", str(seeded.failed), str(seeded.cancelled), str(seeded.failed), "--json")
    result = call(*arguments, "--reason", "mended", url=core.url)
    touched = json.loads(result.stdout)["runs"]
    assert [(one["run"]["run_id"], one["steps"], one["failed"], one["queued"]) for one in touched] == [
        (str(seeded.failed), ["measure"], 1, 0),
        (str(seeded.cancelled), ["list"], 0, 1),
    ]
    assert {core.run(run)["status"] for run in (seeded.failed, seeded.cancelled)} == {"started"}
    (last,) = core.rows("SELECT reason FROM pgflow.run_interventions WHERE run_id = %s", seeded.failed)
    assert last["reason"] == "mended"
    refused = call("runs", "retry", str(seeded.completed), url=core.url)
    assert (refused.returncode, "is left as it is: it has completed" in refused.stderr) == (2, True)


def test_a_core_of_others_shows_runs_and_says_what_it_lacks(empty_database_url: str) -> None:
    contract_core.install(empty_database_url)
    run_id = call("start", FALSY, "--input", "[1]", url=empty_database_url).stdout.strip()
    shown = call("runs", "show", run_id, url=empty_database_url)
    assert (shown.returncode, "▸ same" in shown.stdout) == (0, True)
    cancelled = call("runs", "cancel", run_id, url=empty_database_url)
    assert cancelled.returncode == 3
    assert "has nothing for cancelling and retrying runs" in cancelled.stderr


@pytest.mark.parametrize("verb", [("runs", "list"), ("flows", "list"), ("workers", "list"), ("top",)])
def test_a_database_without_the_schema_ends_with_3(empty_database_url: str, verb: tuple[str, ...]) -> None:
    result = call(*verb, url=empty_database_url)
    assert (result.returncode, result.stdout) == (3, "")
    assert "install it with `pgflow schema install`" in result.stderr
