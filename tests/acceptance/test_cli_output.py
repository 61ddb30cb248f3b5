"""What goes where: data on standard output, the rest on standard error, colours on terminals only."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from pathlib import Path

import psycopg
import pytest

from pgflow import Worker
from tests.support.cli import PGFLOW, TIMEOUT_SECONDS, begun, call, environment, hear, patient_flow
from tests.support.worker import ARITHMETIC, FALSY, runs_in


def on_a_terminal(*arguments: str, url: str, **more: str) -> tuple[bytes, bytes]:
    """Run ``pgflow`` with a terminal as its standard error; its standard output and what the terminal got."""
    terminal, end = pty.openpty()
    usual = {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "24"}
    with subprocess.Popen(
        [*PGFLOW, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=end,
        env=environment(url, usual | more),
    ) as process:
        os.close(end)
        shown = b""
        try:
            while chunk := os.read(terminal, 4096):
                shown += chunk
        except OSError:  # EIO: the last holder of the other end has gone
            pass
        os.close(terminal)
        stdout, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0, shown
    return stdout, shown


def test_a_terminal_gets_bars_and_colours_and_standard_output_only_the_data(database_url: str) -> None:
    stdout, shown = on_a_terminal("run", ARITHMETIC, "--input", '{"count": 30}', url=database_url)
    assert stdout == b'{"total":{"of":30,"total":8555}}\n'
    for part in ("━", "30/30", "✓", "\x1b[32m"):
        assert part.encode() in shown


def test_no_color_is_respected(database_url: str) -> None:
    _, shown = on_a_terminal("run", ARITHMETIC, "--input", '{"count": 3}', url=database_url, NO_COLOR="1")
    assert "━".encode() in shown
    assert b"\x1b[32m" not in shown


def test_a_dumb_terminal_gets_lines(database_url: str) -> None:
    _, shown = on_a_terminal("run", ARITHMETIC, "--input", '{"count": 3}', url=database_url, TERM="dumb")
    assert b"square: 3/3" in shown
    assert b"\x1b" not in shown


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_a_pipe_gets_lines_whatever_the_environment_claims(database_url: str, variable: str) -> None:
    result = call("run", ARITHMETIC, "--input", '{"count": 3}', url=database_url, more={variable: "1"})
    assert "square: 3/3" in result.stderr.splitlines()
    assert "\x1b" not in result.stderr


def test_what_handlers_and_imports_print_goes_to_standard_error(database_url: str, tmp_path: Path) -> None:
    module = tmp_path / "chatty.py"
    module.write_text(
        "from pgflow import Flow\nprint('imported')\nflow = Flow('chatty', timeout=10)\n"
        "@flow.step\ndef talk(input):\n    print('[red]handled[/red]')\n    return 'done'\n"
    )
    for verb, expected in [("run", '{"talk":"done"}'), ("compile", "chatty: verified")]:
        result = call(verb, f"{module}:flow", url=database_url)
        assert result.stdout == f"{expected}\n"
        assert "imported" in result.stderr
    started = call("start", f"{module}:flow", url=database_url)
    with runs_in(database_url) as runs:
        assert runs.status(started.stdout.strip()) == "started"
    for options in ([], ["--no-preload"]):
        shown = call("run", f"{module}:flow", *options, url=database_url).stderr
        assert re.search(r"INFO pgflow.handler: chatty/talk\[0\] of run [0-9a-f-]{36}: \[red\]handled\[/red\]\n", shown)
    assert "INFO pgflow.handler: slot-1: imported\n" in shown


def test_a_worker_in_python_and_one_on_the_command_line_show_what_handlers_print(
    database_url: str, tmp_path: Path
) -> None:
    reference, (log, words) = patient_flow(tmp_path), (tmp_path / "log", "patient/wait[0] of run")
    (tmp_path / "go").touch()
    with (
        log.open("w") as stderr,
        Worker(database_url, [reference], slots=1, stderr=stderr),
        runs_in(database_url) as runs,
    ):
        runs.finish(runs.start("patient", None))
    assert words in log.read_text()
    with begun("worker", reference, "--slots", "1", url=database_url) as process, runs_in(database_url) as runs:
        hear(process, "ready: ")
        runs.start("patient", None)
        hear(process, words)


def test_an_output_is_one_line_whatever_is_in_it(database_url: str) -> None:
    value = ["two\nlines", "é", "\x1b[31m", 1.5, None, {"a": []}]
    result = call("run", FALSY, "--input", json.dumps(value), url=database_url)
    assert result.stdout.count("\n") == 1
    assert "\x1b" not in result.stdout
    assert json.loads(result.stdout) == {"same": value}


def test_a_run_of_another_flow_is_not_continued(database_url: str) -> None:
    run_id = call("start", FALSY, "--input", "[1]", url=database_url).stdout.strip()
    result = call("run", ARITHMETIC, "--continue", run_id, url=database_url)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        f"Error: Run {run_id} is of flow falsy, not of arithmetic: give the reference of its flow\n"
    )


def test_a_run_that_has_ended_is_reported_when_continued(database_url: str) -> None:
    assert call("run", FALSY, "--input", "[7]", url=database_url).returncode == 0
    with runs_in(database_url) as runs:
        (run,) = runs.query("SELECT run_id::text FROM pgflow.runs")
    result = call("run", FALSY, "--continue", run["run_id"], url=database_url)
    assert (result.returncode, result.stdout) == (0, '{"same":[7]}\n')


def test_continuing_on_a_database_without_the_schema_names_the_remedy(empty_database_url: str) -> None:
    result = call("run", FALSY, "--continue", "00000000-0000-4000-8000-000000000000", url=empty_database_url)
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith("Error: The database has no pgflow schema: ")


def test_a_user_that_the_database_refuses_ends_with_3(database_url: str) -> None:
    result = call("run", FALSY, "--database", database_url.replace("postgres@", "nobody_known:secret@"))
    assert (result.returncode, result.stdout) == (3, "")
    assert 'role "nobody_known" does not exist' in result.stderr
    assert "secret" not in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_statement_that_postgresql_refuses_ends_with_3(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN")
        try:
            result = call("start", FALSY, "--database", database_url.replace("postgres@", "reader@"))
        finally:
            connection.execute("DROP ROLE reader")
    assert (result.returncode, result.stdout) == (3, "")
    assert "permission denied" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_run_whose_worker_dies_is_not_waited_for(database_url: str, tmp_path: Path) -> None:
    module = tmp_path / "murderous.py"
    module.write_text(
        "import os, psutil, time\nfrom pgflow import Flow\nflow = Flow('murderous', timeout=30)\n"
        "@flow.step\ndef kill(input):\n"
        "    own = psutil.Process()\n"
        "    for parent in own.parents():\n"
        "        if 'pgflow.worker.__main__' in ' '.join(parent.cmdline()): parent.kill()\n"
        "    time.sleep(30)\n"
    )
    result = call("run", f"{module}:flow", "--slots", "1", url=database_url)
    assert (result.returncode, result.stdout) == (1, "")
    assert "The worker ended before run" in result.stderr
    assert "Traceback" not in result.stderr


def test_other_unfinished_runs_are_mentioned(database_url: str) -> None:
    arguments = (FALSY, "--input", "[0]")
    assert call("start", *arguments, url=database_url).returncode == 0
    with runs_in(database_url) as runs:
        runs.query("UPDATE pgmq.q_falsy SET vt = now() + interval '1 hour'")  # so that it is not done at once
        first = call("run", *arguments, url=database_url)
        runs.query("SELECT pgflow.cancel_run(run_id) FROM pgflow.runs WHERE status = 'started'")
    second = call("run", *arguments, url=database_url)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "other unfinished runs of falsy, whose tasks share its queue: 1" in first.stderr
    assert "other unfinished" not in second.stderr
