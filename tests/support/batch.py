"""``pgflow batch`` in tests: its items, and what it has written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.cli import Result, call

TARGETS = "tests.flows.items"


@dataclass(frozen=True)
class Job:
    """A batch in a folder of its own."""

    folder: Path
    url: str
    function: str = "double"

    @property
    def input(self) -> Path:
        """The items."""
        return self.folder / "items.jsonl"

    @property
    def output(self) -> Path:
        """The results."""
        return self.folder / "out.jsonl"

    @property
    def errors(self) -> Path:
        """The failures."""
        return self.folder / "out.jsonl.errors.jsonl"

    def write(self, items: Iterable[object]) -> None:
        """The input."""
        self.input.write_text("".join(f"{json.dumps(item)}\n" for item in items))

    def arguments(self, *options: str, slots: int = 2) -> list[str]:
        """The command's arguments."""
        files = ["--input", str(self.input), "--output", str(self.output)]
        return ["batch", f"{TARGETS}:{self.function}", *files, "--slots", str(slots), *options]

    def run(self, *options: str, slots: int = 2) -> Result:
        """Run the command to its end."""
        return call(*self.arguments(*options, slots=slots), url=self.url)

    def results(self) -> list[dict[str, Any]]:
        """The lines of the output."""
        return read(self.output)

    def outputs(self) -> list[Any]:
        """The outputs, by the places of their items."""
        return [line["output"] for line in sorted(self.results(), key=lambda line: int(line["index"]))]


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, which are whole."""
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def ok(result: Result, expected: int = 0) -> Result:
    """The result, if its exit code is as expected."""
    assert result.returncode == expected, result.stderr
    return result


def indexes(lines: Sequence[dict[str, Any]]) -> list[int]:
    """The places of the items of these lines."""
    return [int(line["index"]) for line in lines]
