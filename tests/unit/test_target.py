"""Batches' flows are made around functions and flows, and found again by their references."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgflow.errors import BatchTargetError, FlowImportError, FlowNotFoundError
from pgflow.flow import Flow
from pgflow.reference import absolute
from pgflow.target import BatchTarget, load

MODULE = """
from pgflow import Flow

number = 3

def double(item): return 2 * item
def with_context(item, ctx): return [item, ctx.task_index]
def nothing(): return 1
def generate(item): yield item

one = Flow("one", timeout=7)
@one.map(max_attempts=4, memory_limit="1GiB")
def each(item): return item

two = Flow("two")
@two.map
def first(item): return item
@two.step(depends_on=[first])
def last(deps): return deps

single = Flow("single")
@single.step
def alone(item): return item

conditional = Flow("conditional")
@conditional.map(if_={"a": 1})
def maybe(item): return item
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "targets.py"
    path.write_text(MODULE)
    return str(path)


def made(target: str, **options: int) -> Flow:
    return load(BatchTarget(flow_slug="batch_b", target=target, **options).reference())


def item_options(flow: Flow) -> dict[str, object]:
    (step,) = flow.steps
    return dict(step.options)


def test_a_function_becomes_a_map_that_records_failures(file: str) -> None:
    flow = made(f"{file}:double")
    assert (flow.slug, [(step.slug, step.kind) for step in flow.steps]) == ("batch_b", [("item", "map")])
    assert flow.handler("item")(21) == 42
    assert item_options(flow) == {"max_attempts": 1, "base_delay": 1, "timeout": 60, "when_exhausted": "record"}
    assert made(f"{file}:with_context").steps[0].takes_context


def test_a_flows_map_brings_its_options_and_those_that_are_given_count(file: str) -> None:
    own = {"max_attempts": 4, "base_delay": 1, "timeout": 7, "when_exhausted": "record", "memory_limit": 1 << 30}
    assert item_options(made(f"{file}:one")) == own
    given = {"max_attempts": 1, "timeout": 2, "memory_limit": 5}
    assert item_options(made(f"{file}:one", **given)) == {**own, **given}


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("nothing", BatchTargetError, r"targets.py:nothing cannot be the target of a batch: .*let it take \(input\)"),
        ("generate", BatchTargetError, "is a generator"),
        ("number", BatchTargetError, "it is of type int; name a function"),
        ("two", BatchTargetError, r"others depend on it \(last\); start it with `pgflow run .*targets.py:two"),
        ("single", BatchTargetError, "whose one root step is a map over the items; start it with `pgflow run"),
        ("conditional", BatchTargetError, "conditions"),
        ("doubel", FlowNotFoundError, "There is no 'doubel' in .*: did you mean .*targets.py:double"),
        ("zzz", FlowNotFoundError, "There is no 'zzz' in .*: define it there"),
    ],
)
def test_what_cannot_be_a_target_is_told_with_the_remedy(
    file: str, name: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        made(f"{file}:{name}")


def test_a_file_that_is_missing_or_cannot_be_imported_is_told(tmp_path: Path) -> None:
    with pytest.raises(FlowNotFoundError, match="There is no file"):
        made(f"{tmp_path}/nowhere.py:f")
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(FlowImportError, match=r"Cannot import .*broken.py:f: ZeroDivisionError.*broken.py:1"):
        made(f"{tmp_path}/broken.py:f")


def test_absolute_references_are_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("f.py:g") == f"{tmp_path.resolve()}/f.py:g"
    assert absolute("./f.py") == f"{tmp_path.resolve()}/f.py"
    assert absolute("package.module:g") == "package.module:g"
