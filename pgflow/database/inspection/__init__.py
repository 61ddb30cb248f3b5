"""What operators look at: runs, tasks, workers, flows and what goes on now, from the tables alone.

Every core has the contract's tables; what of ours stands beside them is asked first, and left out where it is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

from pgflow.database import Database, capabilities


@dataclass(frozen=True, slots=True)
class OwnTables:
    """Which tables of ours stand beside the contract's, and the version of our SQL core; None is another's."""

    schema_version: int | None
    task_attempts: bool
    recording_steps: bool
    run_interventions: bool
    worker_processes: bool


def own_tables(database: Database) -> OwnTables:
    """What a database has.

    Raises SchemaMissingError, SchemaTooNewError, and UnknownContractError for a core that we would not understand.
    """
    with database.connection() as connection:
        version = capabilities.require_known(connection)
    (tables,) = database.fetch_all("inspection/own_tables")
    return OwnTables(version, **tables)
