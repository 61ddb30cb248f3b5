"""What a batch is called, how long its items may take, and when it halts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgflow.batch.halting import Halt, parse_halt
from pgflow.batch.naming import default_name, flow_slug
from pgflow.batch.timeouts import BOUND_SECONDS, Timeout, parse_timeout
from pgflow.errors import BatchNameError
from pgflow.slug import MAX_FLOW_CHARACTERS, slug_fault


def test_a_name_is_the_same_from_every_folder_and_another_for_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = default_name("f.py:count", "in.jsonl", "out.jsonl")
    assert name.startswith("count_in_")
    monkeypatch.chdir("/")
    assert default_name(f"{tmp_path}/f.py:count", f"{tmp_path}/in.jsonl", f"{tmp_path}/out.jsonl") == name
    assert default_name(f"{tmp_path}/f.py:count", f"{tmp_path}/in.jsonl", f"{tmp_path}/other.jsonl") != name


def test_what_is_printed_has_another_name_each_time() -> None:
    assert default_name("m:f", "-", "-") != default_name("m:f", "-", "-")


@pytest.mark.parametrize("target", ["a.b:f", "x" * 200 + ":" + "Y" * 200, "/tmp/ä ö.py:ß", "m:___"])
def test_default_names_make_valid_flows(target: str) -> None:
    slug = flow_slug(default_name(target, "/some/Input File (1).csv.gz", "out"))
    assert slug_fault(slug, limit=MAX_FLOW_CHARACTERS) is None


@pytest.mark.parametrize(
    ("name", "words"), [("My Batch", "as in my_batch"), ("x" * 42, "at most 41"), ("", "is not valid"), ("a-b", "a_b")]
)
def test_names_that_no_queue_can_have_are_refused(name: str, words: str) -> None:
    with pytest.raises(BatchNameError, match=words):
        flow_slug(name)


def test_a_halt_by_number_and_one_by_percentage() -> None:
    assert parse_halt("soon,fail=3") == Halt("soon", failures=3)
    assert not parse_halt("now,fail=3").is_due(2, 1000)
    assert parse_halt("now,fail=3").is_due(3, 3)
    percent = parse_halt("soon,fail=10%")
    assert percent == Halt("soon", percent=10)
    assert not percent.is_due(5, 5)  # too few to say
    assert percent.is_due(2, 20)
    assert not percent.is_due(9, 100)
    assert [str(halt) for halt in (percent, parse_halt("now,fail=3"))] == ["soon,fail=10%", "now,fail=3"]


@pytest.mark.parametrize("text", ["", "now", "fail=3", "later,fail=3", "now,fail=0", "now,fail=101%", "soon,fail=1.5"])
def test_a_halt_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="now,fail=N or soon,fail=N"):
        parse_halt(text)


def test_a_timeout_in_seconds_stays_and_one_in_percent_follows_the_median() -> None:
    assert parse_timeout("5m") == Timeout(300)
    assert parse_timeout("30s").following(0.1, 1000) == 30
    percent = parse_timeout("300%")
    assert percent.seconds == BOUND_SECONDS
    assert percent.following(None, 0) == BOUND_SECONDS
    assert percent.following(2.0, 9) == BOUND_SECONDS
    assert percent.following(2.1, 10) == 7
    assert percent.following(0.01, 10) == 1
    assert percent.following(10_000, 10) == BOUND_SECONDS


@pytest.mark.parametrize("text", ["", "0s", "0.5s", "fast", "100%", "-3s"])
def test_a_timeout_that_cannot_be_kept_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_timeout(text)
