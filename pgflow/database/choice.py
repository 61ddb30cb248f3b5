"""Which database to use when several could be meant."""

from __future__ import annotations

import os

from pgflow.database import Database

# The variables by which libpq is told where a database is; PGPASSWORD, PGOPTIONS... alone do not name one.
_LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE", "PGSERVICEFILE")


def open_database(url: str | None = None, *, max_connections: int = 4) -> Database:
    """The database named by ``url``, else by the environment, else the embedded server's.

    The order: ``url`` (a URL or a libpq connection string), PGFLOW_DATABASE_URL, DATABASE_URL, libpq's own
    variables (PGHOST, PGSERVICE, ...). An empty value counts as none. Nothing is connected to yet, but the
    embedded server is started and runs until ``close`` or the end of this process.

    Raises DatabaseUrlError for a string that is no address, DatabaseNotConfiguredError when no database is
    named and the embedded server is not installed, EmbeddedServerError when it does not start.
    """
    named = url or os.environ.get("PGFLOW_DATABASE_URL") or os.environ.get("DATABASE_URL")
    if named:
        return Database(named, max_connections=max_connections)
    if any(os.environ.get(variable) for variable in _LIBPQ_VARIABLES):
        return Database("", max_connections=max_connections)
    # Imported here, because nobody who names a database needs it.
    from pgflow.database.embedded import EmbeddedDatabase

    return EmbeddedDatabase(max_connections=max_connections)
