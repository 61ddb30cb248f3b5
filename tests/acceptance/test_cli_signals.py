"""``pgflow run`` and its interrupts: what was begun ends in order, and the run can go on."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.support.cli import PGFLOW, TIMEOUT_SECONDS, begun, call, hear, patient_flow, slow_import
from tests.support.waiting import wait_until
from tests.support.worker import runs_in


@pytest.fixture
def patient(tmp_path: Path) -> str:
    """A flow whose one step notes that it began and waits for the word to go."""
    return patient_flow(tmp_path)


def interrupted(process: subprocess.Popen[str], folder: Path, number: signal.Signals) -> None:
    """Interrupt the process once the handler runs, and wait until it says so."""
    wait_until((folder / "began").exists, "the handler runs")
    process.send_signal(number)
    hear(process, "Interrupted: finishing what runs")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_goes_on_by_the_command_it_prints(
    database_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    pair = patient_flow(tmp_path, more="@flow.step(depends_on=[wait])\ndef after(deps): return deps\n")
    options = ["--slots", "1", "--no-preload", "--database", database_url]
    with begun("run", pair, *options, url="postgresql://nowhere/nothing") as process:
        interrupted(process, tmp_path, number)
        (tmp_path / "go").touch()
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
        assert (process.returncode, stdout) == (130, "")
        command = shlex.split(stderr.strip().splitlines()[-1])
        assert tuple(command[:3]) == PGFLOW
        assert command[3:6] == ["run", pair, "--continue"]
        assert command[7:] == options
        continued = call(*command[3:])
        assert (continued.returncode, json.loads(continued.stdout)) == (0, {"after": {"wait": "went"}})


def test_a_run_that_ends_while_it_drains_prints_its_output(database_url: str, patient: str, tmp_path: Path) -> None:
    with begun("run", patient, "--slots", "1", url=database_url) as process:
        interrupted(process, tmp_path, signal.SIGINT)
        (tmp_path / "go").touch()
        stdout, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        assert (process.returncode, stdout) == (0, '{"wait":"went"}\n')


def test_a_second_interrupt_hands_the_task_back_at_once(database_url: str, patient: str, tmp_path: Path) -> None:
    with begun("run", patient, "--slots", "1", url=database_url) as process:
        interrupted(process, tmp_path, signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "To go on with it:" in stderr
        with runs_in(database_url) as runs:
            (task,) = runs.query("SELECT status, attempts_count FROM pgflow.step_tasks")
        assert task == {"status": "queued", "attempts_count": 0}


def test_interrupts_in_quick_succession_end_it_too(database_url: str, patient: str, tmp_path: Path) -> None:
    with begun("run", patient, "--slots", "1", url=database_url) as process:
        wait_until((tmp_path / "began").exists, "the handler runs")
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_while_starting_leaves_nothing_behind(
    database_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    with begun("run", slow_import(tmp_path), "--slots", "1", url=database_url) as process:
        wait_until((tmp_path / "began").exists, "the import runs")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
        assert (process.returncode, stdout, stderr.split()) == (130, "", ["Error:", "Interrupted"])
        _, alive = psutil.wait_procs(children, timeout=TIMEOUT_SECONDS)
        assert alive == []


def test_a_hangup_that_nohup_ignores_does_not_end_it(database_url: str, patient: str, tmp_path: Path) -> None:
    with begun("run", patient, "--slots", "1", url=database_url, before=["nohup"]) as process:
        wait_until((tmp_path / "began").exists, "the handler runs")
        process.send_signal(signal.SIGHUP)
        (tmp_path / "go").touch()
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
        assert (process.returncode, stdout) == (0, '{"wait":"went"}\n')
        assert "Interrupted" not in stderr


@pytest.mark.parametrize("verb", ["start", "compile"])
def test_a_command_without_a_worker_is_interrupted_with_130(database_url: str, tmp_path: Path, verb: str) -> None:
    with runs_in(database_url) as runs, runs.connection.transaction():
        runs.query("LOCK TABLE pgflow.flows IN ACCESS EXCLUSIVE MODE")
        with begun(verb, "tests.flows.arithmetic:flow", url=database_url) as process:
            wait_until(lambda: runs.query("SELECT pid FROM pg_locks WHERE NOT granted"), "it waits for the lock")
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, stdout, stderr.split()) == (130, "", ["Error:", "Interrupted"])
