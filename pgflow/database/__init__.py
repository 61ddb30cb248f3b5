"""The database as the rest of pgflow sees it: connections from a pool, and named queries."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from types import TracebackType
from typing import Any, LiteralString, Self

import psycopg
from psycopg.rows import TupleRow, dict_row
from psycopg.sql import SQL, Composed, Identifier, Literal
from psycopg_pool import ConnectionPool, PoolTimeout

from pgflow.database import address
from pgflow.errors import DatabaseBusyError, DatabaseUnreachableError

BUSY_TIMEOUT_SECONDS = 30.0
# The pool retries by itself and reports to nobody, so after this long without a connection we ask why.
_PATIENCE_SECONDS = 0.25

# What the pool and the driver warn of reaches the caller as an error; unconfigured, logging would print it.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

Parameters = Mapping[str, Any]


class Transaction:
    """Named queries on one connection."""

    def __init__(self, connection: psycopg.Connection[TupleRow]) -> None:
        self._connection = connection

    def fetch_all(self, query: str, parameters: Parameters | None = None) -> list[dict[str, Any]]:
        """The rows of ``queries/<query>.sql``, if it has any."""
        return self._rows(named_query(query).encode(), parameters)

    def fetch_all_of_queue(
        self, query: str, flow_slug: str, parameters: Parameters | None = None
    ) -> list[dict[str, Any]]:
        """The rows of ``queries/<query>.sql``, in which ``{queue}`` stands for the table of the flow's queue, and
        ``{archive}`` for that of its archive."""
        return self._rows(_of_queue(query, flow_slug), parameters)

    def fetch_all_of_queues(
        self, query: str, flow_slugs: Sequence[str], parameters: Parameters | None = None
    ) -> list[dict[str, Any]]:
        """As ``fetch_all_of_queue`` for several flows, one at least, in one statement; ``{flow}`` is the slug."""
        return self._rows(SQL(" UNION ALL ").join(_of_queue(query, slug) for slug in flow_slugs), parameters)

    def _rows(self, statement: bytes | Composed, parameters: Parameters | None) -> list[dict[str, Any]]:
        with self._connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []


class Database:
    """A PostgreSQL database, given as a URL or libpq connection string; connected to on first use.

    Any thread may use it. A forked child that uses it gets connections of its own. At most
    ``max_connections`` are open at a time in one process. Whatever goes wrong with the connection itself
    is a DatabaseUnreachableError; errors of a statement are psycopg's.

    Statements are not prepared: a pooler in transaction mode runs a prepared statement in another session
    than the one that knows it. Preparing would save 60 of the 150 us of a call like ``claim_tasks``.
    """

    def __init__(self, conninfo: str, *, max_connections: int = 4, application_name: str = "pgflow") -> None:
        self.conninfo = conninfo
        self._complete_conninfo = address.complete(conninfo, application_name)
        self.max_connections = max_connections
        # By pid, because a child inherits this object. The parent's pool stays referenced: its finalizer
        # would wait for locks that the parent's threads held when the child was forked.
        self._in_use: set[psycopg.Connection[TupleRow]] = set()
        self._pools: dict[int, ConnectionPool[psycopg.Connection[TupleRow]]] = {}

    @staticmethod
    def from_order(order: Mapping[str, Any]) -> Database:
        """The Database that another process described with ``order``."""
        if order["conninfo"] is None:
            from pgflow.database.embedded import EmbeddedDatabase  # of no use to who names a database

            return EmbeddedDatabase(max_connections=order["max_connections"])
        return Database(order["conninfo"], max_connections=order["max_connections"])

    def order(self) -> dict[str, Any]:
        """What another process needs to use the same database, as JSON values; secrets included."""
        return {"conninfo": self.conninfo, "max_connections": self.max_connections}

    def reserved(self) -> Database:
        """The same database with a connection of its own, for who must not wait for others."""
        return Database.from_order(self.order() | {"max_connections": 1})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.target}>"

    @property
    def target(self) -> str:
        """Which database this is, in words, without its password."""
        return address.describe(self.conninfo)

    @contextlib.contextmanager
    def connection(self) -> Iterator[psycopg.Connection[TupleRow]]:
        """A connection in one transaction, committed at the end of the block, rolled back by an exception.

        Raises DatabaseUnreachableError when there is no connection to be had or it is lost inside the
        block, and DatabaseBusyError when all were in use for 30 seconds.
        """
        with self._pooled() as connection, connection.transaction():
            yield connection

    def fetch_all(self, query: str, parameters: Parameters | None = None) -> list[dict[str, Any]]:
        """The rows of ``queries/<query>.sql``, run as a transaction of its own in one round trip."""
        with self._pooled() as connection:
            return Transaction(connection).fetch_all(query, parameters)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Named queries in one transaction. Raises as ``connection`` does."""
        with self.connection() as connection:
            yield Transaction(connection)

    @contextlib.contextmanager
    def own_connection(self) -> Iterator[psycopg.Connection[TupleRow]]:
        """A connection that is not the pool's, in autocommit, closed at the end of the block; for who holds one long.

        Raises DatabaseUnreachableError when there is none to be had or it is lost inside the block.
        """
        self._wake_server()
        try:
            with psycopg.connect(self._complete_conninfo, autocommit=True, prepare_threshold=None) as connection:
                yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise self._unreachable(error) from error

    def fetch_one(self, query: str, parameters: Parameters | None = None) -> dict[str, Any] | None:
        """The first row of ``queries/<query>.sql``, if there is one."""
        return next(iter(self.fetch_all(query, parameters)), None)

    def execute(self, query: str, parameters: Parameters | None = None) -> None:
        """Run ``queries/<query>.sql`` for its effect."""
        with self._pooled() as connection:
            connection.execute(named_query(query).encode(), parameters)

    def flow_input(self, run_id: str) -> str | None:
        """The JSON text of the run's input; None if there is no such run."""
        row = self.fetch_one("flow_input", {"run_id": run_id})
        return None if row is None else row["input"]

    def sever(self) -> None:
        """Cut the connections that are in use, so that whoever waits for an answer on one sees it as lost. Any thread
        may call this."""
        for connection in tuple(self._in_use):
            with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this process's connections. The object cannot be used afterwards."""
        pool = self._pools.get(os.getpid())
        if pool is not None:
            pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _wake_server(self) -> None:
        """Called before connecting, at first use in a process and after a failure."""

    @contextlib.contextmanager
    def _pooled(self) -> Iterator[psycopg.Connection[TupleRow]]:
        pool = self._pool()
        connection = self._take(pool)
        try:
            self._in_use.add(connection)
            yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if connection.closed:
                raise self._unreachable(error) from error
            raise
        finally:
            self._in_use.discard(connection)
            pool.putconn(connection)

    def _pool(self) -> ConnectionPool[psycopg.Connection[TupleRow]]:
        pid = os.getpid()
        pool = self._pools.get(pid)
        if pool is None:
            self._wake_server()
            pool = self._pools.setdefault(pid, self._new_pool())
        pool.open()
        return pool

    def _new_pool(self) -> ConnectionPool[psycopg.Connection[TupleRow]]:
        return ConnectionPool(
            self._complete_conninfo,
            kwargs={"autocommit": True, "prepare_threshold": None},
            min_size=0,
            max_size=self.max_connections,
            check=_check,
            # The pool's own retries back off up to minutes; ours come with the next use.
            reconnect_timeout=0,
            num_workers=1,
            open=False,
            name="pgflow-connections",  # its threads' names begin so
        )

    def _take(self, pool: ConnectionPool[psycopg.Connection[TupleRow]]) -> psycopg.Connection[TupleRow]:
        deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
        while True:
            try:
                return pool.getconn(timeout=_PATIENCE_SECONDS)
            except PoolTimeout:
                if pool.pop_stats().get("connections_errors"):
                    self._require_reachable()
                if time.monotonic() > deadline:
                    raise DatabaseBusyError(
                        connections=self.max_connections, target=self.target, seconds=BUSY_TIMEOUT_SECONDS
                    ) from None

    def _require_reachable(self) -> None:
        self._wake_server()
        try:
            psycopg.connect(self._complete_conninfo).close()
        except psycopg.Error as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: psycopg.Error) -> DatabaseUnreachableError:
        return DatabaseUnreachableError(target=self.target, reason=address.reason(error))


def _check(connection: psycopg.Connection[TupleRow]) -> None:
    """Refuse a connection that the server has closed. An idle connection is sent nothing but its end,
    so as long as nothing is to be read no round trip is needed."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        ConnectionPool.check_connection(connection)


def _of_queue(query: str, flow_slug: str) -> Composed:
    table = flow_slug.lower()  # as pgmq names its tables
    queue, archive = Identifier("pgmq", f"q_{table}"), Identifier("pgmq", f"a_{table}")
    return SQL(named_query(query)).format(queue=queue, archive=archive, flow=Literal(flow_slug))


@cache
def named_query(query: str) -> LiteralString:
    """The text of ``queries/<query>.sql``."""
    return resources.files(__name__).joinpath("queries", f"{query}.sql").read_text(encoding="utf-8")
