"""``pgflow tasks``."""

from __future__ import annotations

import json

import pytest

from pgflow.database import schema
from tests.support.cli import call
from tests.support.seed import Seed


def test_a_run_or_step_lists_its_tasks(database_url: str, seeded: Seed) -> None:
    result = call("tasks", "show", str(seeded.failed), url=database_url)
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["TASK", "STATUS"],
        ["list[0]", "completed"],
        ["measure[0]", "completed"],
        ["measure[1]", "completed"],
        ["measure[2]", "failed"],
        ["measure[3]", "completed"],
    ]
    arguments = ("tasks", "show", f"{seeded.failed}:measure", "--status", "completed", "--limit", "2")
    limited = call(*arguments, url=database_url)
    assert limited.stderr == "these are 2 tasks, and there are more: see --limit\n"
    listed = json.loads(call(*arguments, "--json", url=database_url).stdout)
    assert [task["task_index"] for task in listed["tasks"]] == [0, 1]
    assert (listed["run_id"], listed["more"]) == (str(seeded.failed), True)


@pytest.mark.parametrize("address", ["{}:measure:2", "{}:measure[2]"])
def test_one_task_is_shown_in_short(database_url: str, seeded: Seed, address: str) -> None:
    arguments = ("tasks", "show", address.format(str(seeded.failed)[:13]))
    lines = call(*arguments, url=database_url).stdout.splitlines()
    assert lines[0] == f"task      orders/measure[2] of run {seeded.failed}"
    assert lines[1] == "status    failed, attempt 2 of 2"
    assert [line for line in lines if line.startswith("attempt 1 timed_out after")]
    assert lines[-2].startswith('input     (5,002 bytes) "xxx')
    shown = json.loads(call(*arguments, "--json", url=database_url).stdout)
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["timed_out", "timed_out"]


@pytest.mark.parametrize("address", ["{}", "{}:measure", "{}:measure:2"])
def test_a_dump_has_everything_about_the_task_that_failed(database_url: str, seeded: Seed, address: str) -> None:
    text = call("tasks", "dump", address.format(seeded.failed), url=database_url).stdout
    for part in (
        f"task      orders/measure[2] of run {seeded.failed}",
        "step      map over list; timeout 1 s; max_attempts 2; base_delay 0 s",
        "(pgflow-py@web-1:4242), alive, last heard of ",
        ", archived ",
        "read_ct 2",
        "attempt 1: timed_out after ",
        '"peak_rss": 12345678',
        "  error (116 characters)\n    Task timed out after 1000ms; it was in spin called from work.py:7\n",
        "attempt 2: timed_out after ",
        "input (5,002 bytes)\n",
        "  ... cut after 4,000 characters; --full has all\n",
        "output: none\n",
        f"schema {schema.VERSION}, pgflow ",
    ):
        assert part in text, part


def test_a_full_dump_shortens_nothing(database_url: str, seeded: Seed) -> None:
    text = call("tasks", "dump", str(seeded.failed), "--full", url=database_url).stdout
    assert f'"{"x" * 5000}"\n' in text
    assert "cut after" not in text
    report = json.loads(call("tasks", "dump", str(seeded.failed), "--full", "--json", url=database_url).stdout)
    assert list(report) == ["at", "pgflow", "database", "server_version", "schema_version", "dump"]
    assert report["dump"]["input"] == {"bytes": 5002, "truncated": False, "value": "x" * 5000, "beginning": None}
    assert report["dump"]["attempts"][0]["evidence"]["cpu_seconds"] == 0.99


def test_the_databases_password_is_not_in_a_dump(database_url: str, seeded: Seed) -> None:
    url = database_url.replace("postgres@", "postgres:s3cr3t-word@")
    for more in ((), ("--json",)):
        result = call("tasks", "dump", str(seeded.failed), *more, "--database", url)
        assert result.returncode == 0
        assert "s3cr3t" not in result.stdout + result.stderr
        assert " as postgres" in result.stdout


def test_what_handlers_wrote_does_not_steer_a_terminal(database_url: str, seeded: Seed) -> None:
    for verb in (("tasks", "dump"), ("tasks", "show")):
        result = call(*verb, f"{seeded.started}:send:0", url=database_url)
        assert "SMTPError: mailbox �[31mfull" in result.stdout
        assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("{started}", "is several tasks, and none of them failed: name one as RUN:STEP:INDEX"),
        ("{failed}:nothing", "has no step nothing; it has list, measure, extra, report"),
        ("{failed}:measure:9", "Step measure of run {failed} has no task 9"),
        ("{failed}:report", "{failed}:report has no tasks yet"),
        ("{failed}:report:0", "Step report of run {failed} has no tasks (yet)"),
        ("{failed}:measure:x", "names no task: write RUN, RUN:STEP or RUN:STEP:INDEX"),
        ("00000000:a", "There is no run 00000000"),
    ],
)
def test_what_names_no_task_is_refused_with_the_remedy(
    database_url: str, seeded: Seed, address: str, words: str
) -> None:
    runs = {"started": seeded.started, "failed": seeded.failed}
    result = call("tasks", "dump", address.format(**runs), url=database_url)
    assert (result.returncode, result.stdout) == (2, "")
    assert words.format(**runs) in result.stderr
