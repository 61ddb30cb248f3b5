"""Which process one is, and whether another one has certainly ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pgflow.process import identity
from pgflow.process.identity import ProcessIdentity, is_gone, of_this_process

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")

TELL = (
    "from pgflow.process.identity import *; import dataclasses, json, sys; "
    "print(json.dumps(dataclasses.asdict(of_this_process())), flush=True); sys.stdin.read()"
)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", TELL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def identity_of(child: subprocess.Popen[str]) -> ProcessIdentity:
    import json

    assert child.stdout is not None
    return ProcessIdentity(**json.loads(child.stdout.readline()))


def test_a_process_that_lives_is_not_gone(child: subprocess.Popen[str]) -> None:
    own, other = of_this_process(), identity_of(child)
    assert (own.pid, other.pid) == (os.getpid(), child.pid)
    assert own.scope == other.scope != ""
    assert own.started <= other.started
    assert (is_gone(own), is_gone(other)) == (False, False)


def test_a_process_that_has_ended_is_gone_also_as_a_zombie(child: subprocess.Popen[str]) -> None:
    other = identity_of(child)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is still there
    assert Path(f"/proc/{child.pid}/stat").exists()
    assert is_gone(other)
    child.wait()
    assert is_gone(other)


def test_another_process_with_the_same_number_is_not_taken_for_it(child: subprocess.Popen[str]) -> None:
    other = identity_of(child)
    assert is_gone(replace(other, started=other.started - 1))


@pytest.mark.parametrize("scope", ["", "another-boot/4026531836"])
def test_of_a_process_that_cannot_be_seen_from_here_nothing_is_certain(
    child: subprocess.Popen[str], scope: str
) -> None:
    other = replace(identity_of(child), scope=scope)
    child.kill()
    child.wait()
    assert not is_gone(other)


def test_without_proc_nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = of_this_process()
    monkeypatch.setattr(identity, "_BOOT_ID", tmp_path / "nothing")
    assert of_this_process() == ProcessIdentity(own.host, "", own.pid, 0)
    assert not is_gone(replace(own, pid=own.pid + 1))
    assert not is_gone(replace(of_this_process(), started=1))


def test_a_process_that_proc_hides_is_not_gone(monkeypatch: pytest.MonkeyPatch, child: subprocess.Popen[str]) -> None:
    other, show = identity_of(child), identity._stat
    monkeypatch.setattr(identity, "_stat", lambda process: show(process) if process == "self" else None)
    assert not is_gone(other)
    child.kill()
    child.wait()
    assert is_gone(other)


def test_a_proc_of_another_namespace_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    assert of_this_process().scope == ""
