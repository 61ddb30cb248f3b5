"""What is said of a batch at its end."""

from __future__ import annotations

import json
from typing import Any

from pgflow.batch.causes import Causes
from pgflow.batch.durations import Spread
from pgflow.batch.items import BadLine
from pgflow.batch.slowest import Slowest, SlowItem
from pgflow.batch.snapshot import Failure
from pgflow.batch.summary import Summary

SPREAD = Spread(count=98, total=95.0, p10=0.5, median=0.9, p90=1.5, p99=2.0, longest=3.0)


def failure(index: int, cause: str) -> Failure:
    return Failure(index, f'"item {index}"', cause, 0.25)


def causes(*failures: Failure) -> Causes:
    found = Causes()
    for each in failures:
        found.add(each)
    return found


def summary(**values: Any) -> Summary:
    """The end of a batch of a hundred items."""
    usual: dict[str, Any] = {"name": "words", "items": 100, "done": 100, "failed": 0, "wall_seconds": 50.0}
    return Summary(**usual | values)


def test_all_that_is_known_is_told() -> None:
    failed = causes(
        failure(7, "ValueError: no 7\nTraceback"),
        failure(3, "Task timed out after 100ms"),
        failure(9, "ValueError: no 9"),
    )
    ended = summary(
        done=90,
        failed=3,
        earlier=10,
        retried=4,
        skipped=12,
        bad_lines=[BadLine(2, "{", "it is not JSON")],
        cpu_seconds=88.0,
        durations=SPREAD,
        slowest=[SlowItem(3.0, 5, '"big"')],
        causes=failed.most_common(),
        next_command="pgflow batch words.py:count --resume",
    )
    assert list(ended.lines()) == [
        "words: 90 of 100 done, 3 failed, 7 left, 4 retried, 10 in earlier sessions, 12 bad lines skipped",
        "took 50.0 s, 1:28 of CPU time, 1.9 times as fast as one item after another",
        "items took: median 0.90 s, p90 1.50 s, p99 2.00 s, longest 3.00 s",
        "slowest:",
        '   3.00 s  #5 "big"',
        "skipped:",
        "  line 2: it is not JSON: {",
        "  and 11 more",
        "failed:",
        "  2 x ValueError: no 7",
        '    as #7 "item 7"',
        "  1 x Task timed out after 100ms",
        '    as #3 "item 3"',
        "to go on:",
        "  pgflow batch words.py:count --resume",
    ]


def test_what_there_is_nothing_of_is_not_told() -> None:
    assert list(summary().lines()) == ["words: 100 of 100 done", "took 50.0 s"]
    assert next(summary(items=None, done=3).lines()) == "words: 3 done"


def test_the_command_retries_when_only_failures_are_left() -> None:
    lines = list(summary(done=99, failed=1, next_command="pgflow batch f --retry-failed").lines())
    assert lines[-2:] == ["to retry those that failed:", "  pgflow batch f --retry-failed"]


def test_items_take_one_line_of_a_terminal_each() -> None:
    slowest = [SlowItem(3.0, 5, "名前" * 60)]
    wide = summary(slowest=slowest, durations=SPREAD, causes=causes(failure(7, "x" * 90)).most_common(), failed=1)
    lines = list(wide.lines(40))
    assert "   3.00 s  #5 名前名前名前名前名前名前…" in lines
    assert "  1 x " + "x" * 90 in lines, "what people look for is told in full"


def test_json_holds_the_same() -> None:
    ended = summary(
        done=99,
        failed=1,
        durations=SPREAD,
        slowest=[SlowItem(3.0, 5, '"big"')],
        causes=causes(failure(7, "ValueError: no\nmore")).most_common(),
        bad_lines=[BadLine(2, "{", "it is not JSON")],
    )
    value = json.loads(ended.to_json())
    assert value["failed"] == 1
    assert value["left"] == 0
    assert value["speed_up"] == 1.9
    assert value["durations"]["median"] == 0.9
    assert value["slowest"] == [{"index": 5, "item": '"big"', "seconds": 3.0}]
    example = {"index": 7, "item": '"item 7"', "seconds": 0.25}
    assert value["causes"] == [{"cause": "ValueError: no", "count": 1, "example": example}]
    assert value["bad_lines"] == [{"line": 2, "text": "{", "reason": "it is not JSON"}]
    assert value["next_command"] is None
    assert json.loads(summary(items=None).to_json())["left"] is None


def test_errors_that_differ_in_details_have_one_cause() -> None:
    found = causes(
        failure(1, "KeyError: 'a'"),
        failure(2, "KeyError: 'b'"),
        failure(3, "Task crashed: the process was killed by SIGSEGV; it was in f (x.py:3)"),
        failure(4, "TypeError: <object at 0x7f1c> is no number"),
        failure(5, "TypeError: <object at 0x8a2b> is no number"),
        failure(6, "KeyError: 'c'"),
    ).most_common()
    assert [(cause.count, cause.example.index) for cause in found] == [(3, 1), (2, 4), (1, 3)]


def test_many_causes_are_bounded() -> None:
    found = causes(*(failure(number, "x" * number) for number in range(1, 151)))
    assert len(found.most_common()) == 100
    assert found.others == 50
    lines = list(summary(causes=found.most_common(), other_causes=found.others).lines())
    assert lines[-1] == "  140 x other causes"


def test_the_slowest_are_kept() -> None:
    slowest = Slowest()
    for index in range(100):
        seconds = float(index * 37 % 100)
        if slowest.is_among(seconds):
            slowest.add(SlowItem(seconds, index, str(index)))
    assert [item.seconds for item in slowest.items()] == [99, 98, 97, 96, 95]
