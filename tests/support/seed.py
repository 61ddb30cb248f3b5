"""A database with something of everything that operators look at."""

from __future__ import annotations

import json
from dataclasses import dataclass
from uuid import UUID

from tests.support.sql import Claimed, Core

KILLED = "Task timed out after 1000ms; it was in spin called from work.py:7\nStack (most recent call last):\n  work.py:7 in spin"
EVIDENCE = {"elapsed_seconds": 1.01, "cpu_seconds": 0.99, "peak_rss": 12345678, "stack": ["work.py:7 in spin"]}


@dataclass(frozen=True)
class Seed:
    """The runs, by what became of them.

    ``failed`` is of the flow ``orders``: its map of four elements has two that completed, one that was tried again, and
    the third killed twice. ``skipped`` has a skipped step. ``started`` runs a task, one waits, one is delayed after a
    failure. ``recorded`` has a map with an element that failed and was recorded.
    """

    completed: UUID
    failed: UUID
    cancelled: UUID
    skipped: UUID
    started: UUID
    recorded: UUID


def seed(core: Core) -> Seed:
    """Make them, with a worker that is called as ours are."""
    core.rows(
        "INSERT INTO pgflow.workers (worker_id, queue_name, function_name) VALUES (%s, 'orders', 'pgflow-py@web-1:4242')",
        core.worker_id,
    )
    core.rows("INSERT INTO pgflow.worker_processes VALUES (%s, 'web-1', 'boot/1', 4242, 99)", core.worker_id)
    core.flow("orders", "list", max_attempts=2, base_delay=0)
    core.step("orders", "measure* <- list", timeout=1)
    core.step("orders", "extra <- list", required_input_pattern={"list": "never"})
    core.step("orders", "report <- measure extra", max_attempts=5, start_delay=0)
    core.flow("mail", "send*", max_attempts=2, base_delay=3600)
    core.flow("thumbs", "shrink*", max_attempts=1)
    core.rows("SELECT pgflow.record_failures('thumbs', 'shrink', true)")
    return Seed(
        completed=_orders(core, {"day": 1}, upto="report"),
        failed=_failed(core),
        cancelled=_cancelled(core),
        skipped=_orders(core, {"day": 4}, upto="measure"),
        started=_started(core),
        recorded=_recorded(core),
    )


def _orders(core: Core, input: object, *, upto: str) -> UUID:
    """A run of ``orders`` up to one of its steps, ``extra`` being skipped."""
    run_id = core.start("orders", input)
    core.complete(core.claim("orders"), [[1, 2, 3, 4]])
    core.complete(core.claim("orders"), [10, 20, 30, 40])
    if upto == "report":
        core.complete(core.claim("orders"), [{"sum": 100}])
    return run_id


def _failed(core: Core) -> UUID:
    run_id = core.start("orders", {"day": 2})
    core.complete(core.claim("orders"), [[1, 2, "x" * 5000, 4]])
    tasks = core.claim("orders")
    core.complete(tasks[:2], [10, 20])
    kill(core, tasks[2:3])
    core.fail(tasks[3:], ["ConnectionError: try again"])
    again = core.claim("orders")
    core.complete(again[1:], [40])
    kill(core, again[:1])
    return run_id


def kill(core: Core, tasks: list[Claimed]) -> None:
    """Have tasks killed at their deadline, as a worker reports it."""
    core.rows(
        "SELECT pgflow.fail_tasks(%s::uuid[], %s::text[], %s::int[], %s::text[], %s::int[], "
        "outcomes => %s::text[], evidence => %s::jsonb[])",
        [task.run_id for task in tasks],
        [task.step_slug for task in tasks],
        [task.task_index for task in tasks],
        [KILLED] * len(tasks),
        [task.attempt for task in tasks],
        ["timed_out"] * len(tasks),
        [json.dumps(EVIDENCE)] * len(tasks),
    )


def _cancelled(core: Core) -> UUID:
    run_id = core.start("orders", {"day": 3})
    core.rows("SELECT pgflow.cancel_run(%s, 'wrong day', 'anna')", run_id)
    return run_id


def _started(core: Core) -> UUID:
    run_id = core.start("mail", ["a", "b", "c"])
    core.fail(core.claim("mail", 1), ["SMTPError: mailbox \x1b[31mfull\x1b[0m\nsecond line"])
    core.claim("mail", 1)
    return run_id


def _recorded(core: Core) -> UUID:
    run_id = core.start("thumbs", ["a.png", "b.png"])
    tasks = core.claim("thumbs")
    core.complete(tasks[:1], ["ok"])
    kill(core, tasks[1:])
    return run_id
