"""What ``--input`` means, and how loading a flow keeps standard output clean."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from pgflow.cli.options import load_quietly, read_input
from pgflow.errors import UsageError


def give_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("null", None), ('""', ""), (' {"a": [1.5]}\n', {"a": [1.5]}), ('"é"', "é"), ('"@x"', "@x")],
)
def test_input_is_json_from_the_argument_a_file_or_standard_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, value: Any
) -> None:
    file = tmp_path / "input.json"
    file.write_text(text, encoding="utf-8")
    give_stdin(monkeypatch, text.encode())
    assert read_input(text) == read_input(f"@{file}") == read_input("-") == value


@pytest.mark.parametrize("content", [b"", b"{", b"{} {}", b"nonsense", b"NaN", b"[1,]"])
def test_what_is_no_json_is_refused_with_its_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "input.json"
    file.write_bytes(content)
    give_stdin(monkeypatch, content)
    for source, name in [
        (content.decode(), repr(content.decode())),
        (f"@{file}", str(file)),
        ("-", "standard input"),
    ]:
        with pytest.raises(UsageError) as caught:
            read_input(source)
        assert str(caught.value).startswith(f"--input: {name} is not JSON: ")


def test_bytes_that_are_no_text_are_refused_with_their_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "input.json"
    file.write_bytes(b'"\xff"')
    give_stdin(monkeypatch, b'"\xff"')
    with pytest.raises(UsageError, match=f"--input: {file} is not UTF-8 text"):
        read_input(f"@{file}")
    with pytest.raises(UsageError, match="--input: standard input is not UTF-8 text"):
        read_input("-")


@pytest.mark.parametrize("text", ['["\\u0000"]', '["\udcff"]', '["\\ud800"]'])
def test_what_postgresql_cannot_hold_is_refused_with_its_path(text: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be stored: .* at \$\[0\]"):
        read_input(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"--input: cannot read {tmp_path}: Is a directory"):
        read_input(f"@{tmp_path}")
    with pytest.raises(UsageError, match="--input: cannot read : Is a directory"):
        read_input("@")


def test_a_long_argument_is_cut_in_the_message() -> None:
    with pytest.raises(UsageError) as caught:
        read_input("x" * 10_000)
    assert len(str(caught.value)) < 200


def test_what_an_import_prints_stays_out_of_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = tmp_path / "chatty.py"
    module.write_text("from pgflow import Flow\nprint('hello')\nflow = Flow('chatty')\n")
    assert load_quietly(f"{module}:flow").slug == "chatty"
    assert capsys.readouterr() == ("", "hello\n")
