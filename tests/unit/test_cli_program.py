"""The command that continues a run starts the program as the user did."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from pgflow.cli.program import program


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``pgflow`` in a folder with a blank in its name, which is the PATH."""
    script = tmp_path / "my bin" / "pgflow"
    script.parent.mkdir()
    script.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(script.parent))
    return script


def test_a_program_on_the_path_is_named_without_it(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert program() == "pgflow"


@pytest.mark.parametrize("typed", [".venv/bin/pgflow", "/opt/my venv/bin/pgflow"])
def test_a_program_elsewhere_is_named_as_it_was_typed(
    script: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    monkeypatch.setattr(sys, "argv", [typed])
    assert shlex.split(program()) == [typed]


def test_a_module_is_named_with_its_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/pgflow/__main__.py"])
    assert shlex.split(program()) == [sys.executable, "-m", "pgflow"]
