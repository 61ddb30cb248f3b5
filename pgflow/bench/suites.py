"""The suites: each opens the database, measures, cleans up, and gives its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import click
import psycopg

from pgflow.bench import heartbeats, latency, overhead, scaling, sqlcore, throughput
from pgflow.bench.contender import Contender, Pgflow
from pgflow.bench.facts import circumstances, server_settings
from pgflow.bench.figures import Figures
from pgflow.bench.flows import pair
from pgflow.bench.loads import BRIEF
from pgflow.bench.options import Options
from pgflow.bench.report import Report
from pgflow.bench.site import housekeeping, opened_database
from pgflow.worker.lifecycle import CONNECTIONS

Peers = Callable[[psycopg.Connection[Any]], Sequence[Contender]]
"""Gives whoever is measured beside pgflow, on the server of the connection."""


def no_peers(_connection: psycopg.Connection[Any]) -> Sequence[Contender]:
    """Nobody."""
    return ()


class Suite:
    """One measurement in a database: ``with Suite(...) as suite`` there is the database, and our flows are not."""

    def __init__(
        self, name: str, url: str | None, slugs: Sequence[str], options: dict[str, Any], *, connections: int = 4
    ) -> None:
        self._name = name
        self._url = url
        self._slugs = slugs
        self._connections = connections
        self._stack = ExitStack()
        self.figures = Figures()
        self.facts = circumstances(options)

    def __enter__(self) -> Suite:
        with ExitStack() as stack:
            self.database = stack.enter_context(opened_database(self._url, max_connections=self._connections))
            self.connection = stack.enter_context(housekeeping(self.database, self._slugs))
            self.facts["postgresql"] = server_settings(self.connection)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def report(self, missing: dict[str, str] | None = None, remarks: Sequence[str] = ()) -> Report:
        """What has been measured."""
        return Report(self._name, self.facts, self.figures.all(), missing or {}, remarks)


def measure_throughput(url: str | None, options: Options, peers: Peers = no_peers) -> Report:
    """Tasks per second."""
    with Suite("throughput", url, throughput.SLUGS, options.as_data()) as suite:
        contenders = [Pgflow(suite.database, suite.connection, options.slots), *peers(suite.connection)]
        failed = throughput.measure(contenders, options, suite.figures)
        return suite.report(failed)


def measure_latency(url: str | None, options: Options, peers: Peers = no_peers) -> Report:
    """From start to handler start, from a handler's end to the dependent's start, from start to completion."""
    with Suite("latency", url, latency.SLUGS, options.as_data()) as suite:
        contenders = [Pgflow(suite.database, suite.connection, options.slots), *peers(suite.connection)]
        failed = latency.measure(contenders, options, suite.figures)
        return suite.report(failed)


QUICK_LATENCIES = 30
QUICK_SLUGS = [*throughput.SLUGS, pair.slug]


def measure_quickly(url: str | None, options: Options) -> Report:
    """A little of the throughput and of the latency, in about a minute."""
    count = max(1, round(QUICK_LATENCIES * options.size))
    with Suite("quick", url, QUICK_SLUGS, options.as_data()) as suite:
        pgflow = Pgflow(suite.database, suite.connection, options.slots)
        failed = throughput.measure([pgflow], options, suite.figures, BRIEF)
        for number in range(1, options.repeat + 1):
            click.echo(f"measurement {number} of {options.repeat}, latency", err=True)
            latency.add(suite.figures, latency.IDLE, pgflow.name, pgflow.latencies(count))
        return suite.report(failed)


def measure_overhead(url: str | None, options: Options) -> Report:
    """What a task costs beside its handler."""
    with Suite("overhead", url, throughput.SLUGS, options.as_data()) as suite:
        pgflow = Pgflow(suite.database, suite.connection, options.slots)
        remarks = overhead.measure(pgflow, suite.connection, options, suite.figures)
        return suite.report(remarks=remarks)


def measure_scaling(url: str | None, options: Options, *, max_rows: int, max_map: int) -> Report:
    """Slots, maps, rows, dependents."""
    told = options.as_data() | {"max_rows": max_rows, "max_map": max_map}
    with Suite("scaling", url, scaling.ALL_SLUGS, told) as suite:
        pgflow = Pgflow(suite.database, suite.connection, options.slots)
        scaling.Scaling(pgflow, suite.connection, options, suite.figures).measure(max_rows, max_map)
        return suite.report()


def measure_sql(url: str | None, options: Options, *, rows: int, batch: int, element_bytes: int) -> Report:
    """The SQL core alone."""
    told = {"rows": rows, "batch": batch, "element_bytes": element_bytes}
    given = {"repeat": options.repeat, "quick": options.quick} | told
    with Suite("sql", url, sqlcore.SLUGS, given, connections=1) as suite:
        remarks = sqlcore.measure(suite.database, suite.connection, options, suite.figures, **told)
        return suite.report(remarks=remarks)


def measure_heartbeats(url: str | None, seconds: int, *, quick: bool) -> Report:
    """How regular heartbeats are."""
    options = {"seconds": seconds, "quick": quick}
    with Suite("heartbeats", url, heartbeats.SLUGS, options, connections=CONNECTIONS) as suite:
        remarks = heartbeats.measure(suite.database, suite.connection, seconds, suite.figures, quick=quick)
        return suite.report(remarks=remarks)
