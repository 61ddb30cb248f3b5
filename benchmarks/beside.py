"""The peers of a suite: started where they can be, named where they cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import click
import psycopg

from benchmarks import peers
from pgflow.bench.contender import Contender
from pgflow.bench.report import Report


@dataclass
class Beside:
    """The peers of a suite: started where they can be, named where they cannot."""

    names: Sequence[str]
    slots: int
    missing: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def __call__(self, connection: psycopg.Connection[Any]) -> Sequence[Contender]:
        """The contenders, on the server of the connection if they need one."""
        present = []
        for name in self.names:
            if why := peers.missing(name):
                self.missing[name] = why
                click.echo(f"missing: {name}: {why}", err=True)
            else:
                present.append(peers.contender(name, connection, self.slots))
                self.versions |= peers.versions(name)
        return present

    def completed(self, report: Report) -> Report:
        """The report with what there is to say of them."""
        report.facts["versions"] |= self.versions
        report.missing.update(self.missing)
        return report
