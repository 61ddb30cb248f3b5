"""The example of a batch: its functions, and the picture of the display."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

import benchmarks.screenshot
import pgflow.batch.progress
from pgflow.batch.snapshot import Snapshot

EXAMPLE = Path(__file__).parents[2] / "examples" / "batch_words.py"


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("batch_words", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_words_are_counted_and_bytes_packed(tmp_path: Path, example: Any) -> None:
    path = tmp_path / "a file"
    path.write_bytes(b"The house, the h\xc3\xa4user \xff: the 12 x_y")
    words = {"path": str(path), "words": 5, "different": 3, "most_common": {"the": 3, "house": 1, "häuser": 1}}
    assert example.words(str(path)) == words
    packed = example.packed(str(path))
    assert packed["bytes"] == path.stat().st_size
    assert len(packed["sha256"]) == 64
    with pytest.raises(FileNotFoundError):
        example.words(str(tmp_path / "none"))


def test_the_picture_is_that_of_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    @click.argument("target")
    def batch(target: str) -> None:
        with pgflow.batch.progress.display_on(None) as display:  # type: ignore[arg-type]
            assert display is not None
            for done in (0, 50, 99):
                display.show(Snapshot(total=100, done=done, failed=0, elapsed=1.0))  # type: ignore[attr-defined]
        raise SystemExit(1)

    monkeypatch.setattr(pgflow.batch.progress, "display_on", pgflow.batch.progress.display_on)  # put back at the end
    monkeypatch.setattr(benchmarks.screenshot, "pgflow_main", batch)
    assert benchmarks.screenshot.main(tmp_path / "p.svg", ["words.py:count"]) == 1
    svg = (tmp_path / "p.svg").read_text()
    assert "50&#160;done" in svg
    assert "words.py:count" in svg
