"""docs/cli.md names the keys of the JSON that the verbs print, and the verbs there are."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import click
import pytest

from pgflow.cli import main
from pgflow.database.inspection import activity, flows, runs, tasks, timeline, workers
from pgflow.database.runs import Failure

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
SHAPES = {
    "Run": runs.RunSummary,
    "Step": runs.StepState,
    "Failure": Failure,
    "Task": tasks.TaskState,
    "Worker": workers.WorkerState,
    "Flow": flows.FlowSummary,
    "Definition": flows.StepDefinition,
}


def fields(shape: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(shape)]


def documented(name: str) -> list[str]:
    """The keys that the docs name after ``* Name:``."""
    (text,) = re.findall(rf"^\* {name}: (.*?)(?=^\* |\Z)", DOCS, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`(\w+)`", text)


@pytest.mark.parametrize("name", SHAPES)
def test_the_keys_of_a_shape_are_documented(name: str) -> None:
    assert sorted(documented(name)) == sorted(fields(SHAPES[name]))


def test_the_keys_of_composed_shapes_are_documented() -> None:
    assert {*fields(tasks.TaskDump), *fields(tasks.Attempt), *fields(tasks.Message)} <= set(documented("Dump"))
    assert {*fields(timeline.Block), *fields(activity.EndedAttempt)} == set(documented("Block"))
    for shape in (runs.RunDetail, activity.FlowActivity, activity.ActiveWorker, timeline.WorkerTimeline):
        assert all(f'"{key}"' in DOCS for key in fields(shape)), shape


@pytest.mark.parametrize("group", ["runs", "tasks", "workers", "flows", "top", "prune"])
def test_every_verb_and_option_is_documented(group: str) -> None:
    command = main.get_command(click.Context(main), group)
    assert command is not None
    verbs = command.commands if isinstance(command, click.Group) else {"": command}
    for name, verb in verbs.items():
        (row,) = re.findall(rf"^\| `{f'{group} {name}'.strip()}\b.*$", DOCS.split("## top")[0], flags=re.MULTILINE)
        for parameter in verb.params:
            for option in parameter.opts:
                if option.startswith("--"):
                    assert option in row or option in ("--json", "--database"), (name, option)
        assert "--json" in {option for parameter in verb.params for option in parameter.opts}
