"""``pgflow doctor``: what the database has, and what needs somebody."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from pgflow.cli.failures import RUN_FAILED
from pgflow.cli.options import database_option, json_option, load_quietly

if TYPE_CHECKING:
    from pgflow.database.health import Health, QueueState


@click.command()
@click.argument("flows", metavar="[FLOW...]", nargs=-1)
@database_option
@json_option
def doctor(flows: tuple[str, ...], database: str | None, as_json: bool) -> None:
    """Say what the database has and how it does: versions, capabilities, queues, stalled tasks, and where the FLOWs
    differ from their code. Exit code 1 if something needs somebody."""
    from pgflow import codec
    from pgflow.database.choice import open_database
    from pgflow.database.health import examine

    loaded = [load_quietly(flow) for flow in flows]
    with open_database(database) as opened:
        health = examine(opened, {flow.slug: codec.encode(flow.shape()) for flow in loaded})
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(health), default=str, indent=2))
    else:
        for line in _lines(health):
            click.echo(line)
    if health.needs_somebody:
        sys.exit(RUN_FAILED)


def _lines(health: Health) -> Iterator[str]:
    from pgflow.database import schema

    capable = health.capabilities
    yield f"database      {health.target}"
    yield f"PostgreSQL    {health.server_version}"
    yield f"pgmq          {'installed as SQL' if capable.pgmq_version == 'sql' else capable.pgmq_version}"
    version = f"version {capable.schema_version}" if capable.is_ours else "another implementation's"
    behind = capable.schema_version is not None and capable.schema_version < schema.VERSION
    yield f"schema        {version}{', to be upgraded' if behind else ''}"
    yield from (f"              problem: {problem}" for problem in health.schema_problems)
    yield f"events        {capable.events or 'off'}"
    if capable.events_remark:
        yield f"              {capable.events_remark}"
    yield from _listed("capabilities", capable.in_words())
    yield f"workers       {health.workers_alive} alive, {health.workers_silent} silent"
    yield from _listed("queues", list(_queues(health)) or ["none"])
    yield from _listed("flows", list(_flows(health)))
    yield from _listed("stalled", list(_stalled(health)) or ["none"])


def _listed(title: str, lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"{'' if number else title:<14}{line}"


def _queues(health: Health) -> Iterator[str]:
    yield from map(_queue, health.queues)
    for slug, reason in health.unreadable_queues.items():
        yield f"{slug}: its queue cannot be read ({reason})"


def _queue(queue: QueueState) -> str:
    age = "" if queue.oldest is None else f", the oldest for {_age(queue.oldest)}"
    return f"{queue.flow_slug}: {queue.visible} waiting{age}, {queue.invisible} running or delayed"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _flows(health: Health) -> Iterator[str]:
    for slug, differences in health.differences.items():
        yield f"{slug}: {'differs from its code' if differences else 'as in the code'}"
        yield from (f"  {difference}" for difference in differences)


def _stalled(health: Health) -> Iterator[str]:
    for task in health.stalled_tasks:
        name = f"{task.flow_slug}/{task.step_slug}[{task.task_index}]"
        yield f"{name} of run {task.run_id}, since {task.since:%Y-%m-%d %H:%M}"
    if health.stalled_tasks and health.capabilities.is_ours:
        yield "these were handed back three times and are left alone; queue them again with"
        yield f"  pgflow runs retry {health.stalled_tasks[0].run_id}    or end the run with pgflow runs cancel"
