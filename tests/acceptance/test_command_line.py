"""The command line as people use it: real processes, their output and exit codes."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pgflow.database import schema
from tests.support.cli import TIMEOUT_SECONDS, Result, begun, call, environment, hear
from tests.support.worker import ARITHMETIC, FALSY, runs_in

Pgflow = Callable[..., Result]


@pytest.fixture
def pgflow(database_url: str) -> Pgflow:
    """Runs ``pgflow`` with the test's database in the environment."""
    return lambda *arguments, **options: call(*arguments, url=database_url, **options)


def test_run_prints_the_output_as_one_line_of_json(pgflow: Pgflow) -> None:
    result = pgflow("run", ARITHMETIC, "--input", '{"count": 30}', "--slots", "2")
    assert (result.returncode, result.stdout) == (0, '{"total":{"of":30,"total":8555}}\n')
    assert "square: 30/30" in result.stderr
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("value", [0, False, "", None, [1], {}])
def test_run_takes_its_input_from_the_argument_a_file_or_standard_input(
    pgflow: Pgflow, tmp_path: Path, value: object
) -> None:
    text = json.dumps([value])
    file = tmp_path / "input.json"
    file.write_text(text)
    sources: list[tuple[str, str | None]] = [(text, None), (f"@{file}", None), ("-", text)]
    source, stdin = sources[len(text) % 3]
    result = pgflow("run", FALSY, "--input", source, "--slots", "1", input=stdin)
    assert json.loads(result.stdout) == {"same": [value]}


def test_a_failed_run_says_which_task_why_and_where(database_url: str, tmp_path: Path) -> None:
    module = tmp_path / "failing.py"
    module.write_text(
        "from pgflow import Flow\nflow = Flow('failing', max_attempts=1)\n"
        "@flow.map\ndef work(item):\n    print('noise')\n    return 1 / item\n"
    )
    result = call("run", f"{module}:flow", "--input", "[1, 0]", "--slots", "1", url=database_url)
    assert (result.returncode, result.stdout) == (1, "")
    assert "failed: work[1], attempt 1:\nZeroDivisionError: division by zero\n" in result.stderr
    assert f'File "{module}", line 6, in work' in result.stderr
    assert "noise" in result.stderr
    assert "pgflow/executor.py" not in result.stderr


def test_worker_serves_until_it_is_told_to_stop_and_ends_with_0(database_url: str) -> None:
    with begun("worker", ARITHMETIC, FALSY, "--slots", "1", url=database_url) as process:
        hear(process, "ready: arithmetic, falsy on 1 slots")
        run_id = call("start", FALSY, "--input", "[1]", url=database_url).stdout.strip()
        with runs_in(database_url) as runs:
            assert runs.finish(run_id)["output"] == {"same": [1]}
        process.terminate()
        process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0


def test_start_compiles_a_flow_that_is_missing(pgflow: Pgflow, database_url: str) -> None:
    result = pgflow("start", ARITHMETIC, "--input", '{"count": 1}')
    assert result.returncode == 0
    with runs_in(database_url) as runs:
        assert runs.status(result.stdout.strip()) == "started"


def test_compile_says_what_it_did_or_prints_the_sql(pgflow: Pgflow, database_url: str) -> None:
    assert pgflow("compile", ARITHMETIC).stdout == "arithmetic: compiled\n"
    assert pgflow("compile", ARITHMETIC).stdout == "arithmetic: verified\n"
    sql = call("compile", FALSY, "--sql").stdout
    with psycopg.connect(database_url) as connection:
        connection.execute(sql.encode())
        connection.commit()
    assert pgflow("compile", FALSY).stdout == "falsy: verified\n"


def test_an_edited_flow_is_refused_with_the_differences_and_both_remedies(pgflow: Pgflow, tmp_path: Path) -> None:
    module = tmp_path / "edited.py"
    text = "from pgflow import Flow\nflow = Flow('edited')\n@flow.step\ndef {}(input): return 1\n"
    module.write_text(text.format("first"))
    assert pgflow("run", f"{module}:flow").returncode == 0
    module.write_text(text.format("second"))
    for verb in ("run", "worker", "start", "compile"):
        result = pgflow(verb, f"{module}:flow")
        assert result.returncode == 2
        assert "Step at index 0: slug differs 'second' vs 'first'" in result.stderr
        assert "new slug" in result.stderr
        assert "--allow-data-loss" in result.stderr
        assert "Traceback" not in result.stderr
    assert pgflow("run", f"{module}:flow", "--allow-data-loss").stdout == '{"second":1}\n'


def test_schema_installs_verifies_and_prints(empty_database_url: str) -> None:
    missing = call("schema", "verify", url=empty_database_url)
    assert (missing.returncode, missing.stderr) == (
        3,
        "Error: The database has no pgflow schema: install it with `pgflow schema install`\n",
    )
    assert call("schema", "install", url=empty_database_url).stdout.startswith(
        f"installed version {schema.VERSION}; pgmq: "
    )
    assert "already" in call("schema", "install", url=empty_database_url).stdout
    verified = call("schema", "verify", url=empty_database_url)
    assert (verified.returncode, verified.stdout) == (0, f"version {schema.VERSION}: everything is as it should be\n")
    assert "CREATE FUNCTION pgflow.complete_tasks(" in call("schema", "sql").stdout


def one_line_error(result: Result) -> str:
    """The one line of standard error that an error is; nothing else may be there."""
    (line,) = [line for line in result.stderr.splitlines() if line]
    assert result.stdout == ""
    assert line.startswith("Error: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", FALSY, "--input", "{nonsense"], 2, "--input: '{nonsense' is not JSON"),
        (["run", FALSY, "--input", "@/no/such/file"], 2, "cannot read /no/such/file: No such file or directory"),
        (["start", FALSY, "--input", "["], 2, "is not JSON"),
        (["run", FALSY, "--input", "{}"], 2, "root map steps but input is not an array (got object)"),
        (["start", FALSY, "--input", "null"], 2, "root map steps but input is not an array (got null)"),
        (["start", FALSY, "--input", "[]", "--key", "k" * 20_000], 2, "has 20,000 bytes, and at most 2,000 are allowed"),
        (["run", "tests.flows.nowhere:flow"], 2, "tests.flows.nowhere"),
        (["worker", "/no/such/file.py:flow"], 2, "/no/such/file.py"),
        (["compile", "tests.flows.arithmetic:missing"], 2, "tests.flows.arithmetic:falsy"),
        (["start", "{tmp}/broken.py:flow"], 2, "ZeroDivisionError: division by zero ({tmp}/broken.py:1)"),
        (["run", "{tmp}/broken.py:flow"], 2, "ZeroDivisionError: division by zero ({tmp}/broken.py:1)"),
        (["run", FALSY, "--input", "[]", "--continue", "nonsense"], 2, "There is no run nonsense"),
        (["worker", FALSY, "--slots", "1000000"], 2, "slots must be at most 10,000, got 1,000,000"),
        (["schema", "verify", "--database", "postgresql://nobody@127.0.0.1:1/x"], 3, "Cannot connect"),
        (["run", FALSY, "--database", "postgresql://nobody@127.0.0.1:1/x"], 3, "Cannot connect"),
        (["worker", FALSY, "--database", "nonsense"], 3, "Not a database address"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_that_names_the_thing(
    pgflow: Pgflow, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    result = pgflow(*(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert words.replace("{tmp}", str(tmp_path)) in one_line_error(result)
    assert result.returncode == code


def with_files(limit: str) -> list[str]:
    """What starts a command with that limit of open files, an option of ``ulimit``."""
    return ["sh", "-c", f'ulimit {limit} && exec "$@"', "sh"]


def test_a_worker_may_open_the_files_that_its_slots_need(database_url: str) -> None:
    with begun("worker", ARITHMETIC, "--slots", "4", url=database_url, before=with_files("-Sn 100")) as process:
        hear(process, "ready: arithmetic on 4 slots")
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        assert (soft, hard) == (116, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def test_slots_that_need_more_files_than_there_may_be_are_refused(database_url: str) -> None:
    with begun("worker", ARITHMETIC, "--slots", "12", url=database_url, before=with_files("-n 200")) as process:
        _, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, stderr) == (
        2,
        "Error: slots (12) need 220 open files, 13 each and 64 for the rest, and this process may have 200: take fewer "
        "slots, or raise the hard limit (ulimit -Hn)\n",
    )


@pytest.mark.parametrize("arguments", [["run"], ["worker"], ["nonsense"], ["run", FALSY, "--slots", "0"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert call(*arguments).returncode == 2


def test_a_schema_newer_than_the_code_is_refused(pgflow: Pgflow, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE pgflow.schema_versions SET version = 99")
    for arguments in (["run", FALSY, "--input", "[]"], ["schema", "verify"], ["worker", FALSY]):
        result = pgflow(*arguments)
        assert f"version 99, this pgflow knows up to {schema.VERSION}: upgrade pgflow-py" in one_line_error(result)
        assert result.returncode == 3


@pytest.mark.parametrize("preload", [[], ["--no-preload"]])
def test_an_import_that_ends_its_process_is_named(pgflow: Pgflow, tmp_path: Path, preload: list[str]) -> None:
    module = tmp_path / "deadly.py"
    module.write_text("import os\nos._exit(0)\n")
    for verb in ("run", "worker"):
        result = pgflow(verb, f"{module}:flow", *preload)
        assert (result.returncode, result.stdout) == (2, "")
        line = result.stderr.splitlines()[-1]
        assert line.startswith(f"Error: Cannot import {module}:flow: it ended the process that imported it")


def test_a_full_disk_is_one_line(database_url: str) -> None:
    command = f"{sys.executable} -m pgflow run {FALSY} --input '[1]' > /dev/full"
    result = subprocess.run(
        command, shell=True, stderr=subprocess.PIPE, text=True, env=environment(database_url), timeout=TIMEOUT_SECONDS
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "Error: No space left on device"


def test_an_output_beyond_what_one_task_may_return_is_printed(pgflow: Pgflow, tmp_path: Path) -> None:
    module = tmp_path / "large.py"
    module.write_text(
        "from pgflow import Flow\nflow = Flow('large')\n@flow.map\ndef part(n): return 'x' * (40 << 20)\n"
    )
    result = pgflow("run", f"{module}:flow", "--input", "[1, 2]")
    assert (result.returncode, len(result.stdout)) == (0, (80 << 20) + len('{"part":["",""]}\n'))


def test_a_closed_pipe_is_quiet(database_url: str) -> None:
    command = f"{sys.executable} -m pgflow schema sql | head -1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment(None), check=False)
    assert (result.stdout, result.stderr) == ("BEGIN;\n", "")


def test_help_and_version_need_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['pgflow', '--help']; from pgflow.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('psycopg', 'rich', 'pebble', 'multiprocessing') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert call("--version").stdout.startswith("pgflow, version ")
