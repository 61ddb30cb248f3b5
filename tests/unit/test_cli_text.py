"""Tables, trees, times and JSON of the operators' verbs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow.cli.jsontext import to_json
from pgflow.cli.text import Cell, Sheet, ago, duration, first_line, printable, tree
from pgflow.database.inspection.payload import JsonText
from pgflow.terminal import shortened


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0016, "1.6 ms"),
        (9.994, "9.99 s"),
        (9.996, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1:00"),
        (3599.4, "59:59"),
        (3600, "1:00:00"),
        (90061, "1d 01:01"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (2e5, "2 d")]
)
def test_ages(seconds: float, text: str) -> None:
    assert ago(seconds) == text


def test_nothing_that_users_wrote_steers_the_terminal() -> None:
    assert printable("\x1b[31mred\x07\x9b1m\tx\r\ny") == "�[31mred��1m    x\ny"
    assert first_line("\n  first\x00\nsecond") == "first�"
    assert first_line(None) == ""


@given(st.text(max_size=30), st.integers(1, 20))
def test_shortened_text_fits(text: str, width: int) -> None:
    from rich.cells import cell_len

    assert cell_len(shortened(text, width)) <= width


def test_a_dag_as_a_tree() -> None:
    parents = {"a": [], "b": ["a"], "c": ["a"], "d": ["b"], "e": ["c", "d"], "f": []}
    lines = [f"{branches}{node} {others}" for branches, node, others in tree(list(parents), str, parents.__getitem__)]
    assert lines == ["a []", "├ b []", "│ └ d []", "│   └ e ['c']", "└ c []", "f []"]


@given(st.lists(st.sets(st.integers(0, 30), max_size=4), max_size=30))
def test_a_tree_has_every_step_once_and_all_its_parents(dependencies: list[set[int]]) -> None:
    nodes = list(range(len(dependencies)))
    parents = {node: sorted(one for one in dependencies[node] if one < node) for node in nodes}
    lines = tree(nodes, int, parents.__getitem__)
    assert sorted(node for _, node, _ in lines) == nodes
    path: list[int] = []
    for branches, node, others in lines:
        depth = len(branches) // 2
        path[depth:] = [node]
        above = [path[depth - 1]] if depth else []
        assert sorted([*above, *others]) == parents[node]  # type: ignore[type-var]


def test_a_table_that_is_piped_is_aligned_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    sheet = Sheet()
    sheet.table(["A", "N", "LAST"], [["x", "1", "y" * 300], [Cell("東京", "red"), "22", ""]], right=["N"])
    assert capsys.readouterr().out == f"A      N  LAST\nx      1  {'y' * 300}\n東京  22\n"


@dataclass(frozen=True)
class Thing:
    at: datetime
    number: int
    value: JsonText | None


def test_json_is_exact() -> None:
    moment = datetime(2026, 11, 28, 14, 0, 0, 1, tzinfo=timezone(timedelta(hours=2)))
    thing = Thing(moment, 2**63, JsonText("[1.10, 1e400, 12345678901234567890.123]"))
    text = to_json({"things": [thing, None], "text": 'é"\n'})
    assert text == (
        '{"things": [{"at": "2026-11-28T12:00:00.000001+00:00", "number": 9223372036854775808, '
        '"value": [1.10, 1e400, 12345678901234567890.123]}, null], "text": "é\\"\\n"}'
    )
    assert json.loads(text)["things"][0]["at"] == moment.astimezone(UTC).isoformat()
