"""How a database does: what it has, what waits in it, and what needs somebody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import psycopg

from pgflow.database import Database, capabilities, flows, schema
from pgflow.database.capabilities import Capabilities
from pgflow.database.failures import in_short


@dataclass(frozen=True, slots=True)
class QueueState:
    """A flow's queue: messages, and the seconds since the oldest that is visible became so; None if there is none."""

    flow_slug: str
    visible: int
    invisible: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class StalledTask:
    """A task that was handed back so often that it is left alone."""

    flow_slug: str
    run_id: str
    step_slug: str
    task_index: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Health:
    """A database as it is.

    ``schema_problems`` says what of the schema is missing or differs from what this code installs; ``queues`` are those
    that the role may read, and ``unreadable_queues`` says by flow why the others could not be; ``differences`` are
    those of the flows that were asked for, by slug.
    """

    target: str
    server_version: str
    capabilities: Capabilities
    schema_problems: tuple[str, ...]
    workers_alive: int
    workers_silent: int
    queues: tuple[QueueState, ...]
    unreadable_queues: Mapping[str, str]
    stalled_tasks: tuple[StalledTask, ...]
    differences: Mapping[str, tuple[str, ...]]

    @property
    def needs_somebody(self) -> bool:
        """Whether something is wrong that does not mend itself."""
        return bool(self.schema_problems or self.stalled_tasks or any(self.differences.values()))


def examine(database: Database, shapes: Mapping[str, str]) -> Health:
    """Look at the database, and compare the flows in ``shapes`` (slug -> shape JSON) with it.

    Raises SchemaMissingError, SchemaTooNewError, UnknownContractError and DatabaseUnreachableError.
    """
    with database.connection() as connection:
        capable = capabilities.look(connection)
        problems = schema.verify(connection).problems
        server_version = connection.execute("SHOW server_version").fetchone()
    assert server_version is not None
    workers = database.fetch_all("worker_counts")[0]
    queues, unreadable = _look_at_queues(database)
    return Health(
        target=database.target,
        server_version=server_version[0],
        capabilities=capable,
        schema_problems=problems,
        workers_alive=workers["alive"],
        workers_silent=workers["silent"],
        queues=tuple(queues),
        unreadable_queues=unreadable,
        stalled_tasks=tuple(StalledTask(**row) for row in database.fetch_all("stalled_tasks")),
        differences={slug: _differences(database, slug, shape) for slug, shape in shapes.items()},
    )


def _look_at_queues(database: Database) -> tuple[list[QueueState], dict[str, str]]:
    """The queues of all flows, and why those could not be read that could not."""
    states: list[QueueState] = []
    unreadable: dict[str, str] = {}
    for row in database.fetch_all("flow_slugs"):
        slug = row["flow_slug"]
        try:
            states.append(_queue(database, slug))
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable) as error:
            unreadable[slug] = in_short(error)
    return states, unreadable


def _queue(database: Database, slug: str) -> QueueState:
    with database.transaction() as transaction:
        (state,) = transaction.fetch_all_of_queue("queue_state", slug)
    if not state["visible"]:
        state["oldest"] = None
    return QueueState(slug, **state)


def _differences(database: Database, slug: str, shape: str) -> tuple[str, ...]:
    (compared,) = database.fetch_all("flow_differences", {"flow_slug": slug, "shape": shape})
    return (*compared["differences"], *_option_differences(database, slug, shape))


def _option_differences(database: Database, slug: str, shape: str) -> Iterator[str]:
    (role,) = database.fetch_all("may_update_options")
    remedy = (
        "with the next start of a worker"
        if role["may"]
        else "which this role may not change: let the owner of the schema run `pgflow compile`"
    )
    for difference in flows.option_differences(database, slug, shape):
        yield f"{difference} ({remedy})"
