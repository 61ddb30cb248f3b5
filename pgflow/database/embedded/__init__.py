"""The embedded server: PostgreSQL from a wheel, shared by all processes of an OS user, for people
who have named no database.

Only the wheel's binaries are used. Its own API, seen in 0.6.0, as root opens every parent folder of the
data to all users, never stops the server once a user of it was killed, and gives up on long recoveries.

Everything lies in one folder per OS user below ``PGFLOW_HOME``; nothing above it is changed. A *keeper*
process (see ``keeper``) runs the server as long as it has users.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Any

from pgflow.database import Database
from pgflow.database.embedded import home, installation, keeper, launch
from pgflow.errors import EmbeddedServerError

_lifelines: set[socket.socket] = set()


class EmbeddedDatabase(Database):
    """The database of the embedded server, which is started if it does not run yet.

    The server runs at least until this process ends or calls ``close``. If it was killed, it is there
    again at the next use. Raises EmbeddedServerError, or DatabaseNotConfiguredError when the wheel is
    not installed.
    """

    def __init__(self, *, max_connections: int = 4) -> None:
        lifeline, conninfo = _hold()
        self._held = [lifeline]
        super().__init__(conninfo, max_connections=max_connections)

    def order(self) -> dict[str, Any]:
        # Without the connection string, so that the other process holds the server too.
        return super().order() | {"conninfo": None}

    def close(self) -> None:
        super().close()
        _release(self._held)

    def _wake_server(self) -> None:
        # A fresh lifeline even if there is one: the keeper answers it when the server is ready, so one
        # that is just being started again is waited for.
        stale = list(self._held)
        self._held.append(_hold()[0])
        _release(stale)


def _hold() -> tuple[socket.socket, str]:
    """A lifeline, which keeps the server running while it is open, and the server's connection string."""
    wheel = installation.find()
    try:
        layout = home.prepare()
        lifeline = launch.join_or_start(layout, wheel)
    except OSError as error:
        raise EmbeddedServerError(
            message=f"The embedded PostgreSQL cannot use {error.filename}: {error.strerror or error}; set "
            "PGFLOW_HOME to a folder you can write to, or name a database with --database URL"
        ) from error
    _lifelines.add(lifeline)
    answer, _, details = launch.await_answer(lifeline).partition(" ")
    if answer == keeper.READY:
        return lifeline, details
    _release([lifeline])
    reason = details or "its keeper ended"
    raise EmbeddedServerError(message=f"The embedded PostgreSQL did not start: {reason} (log: {layout.log})")


def _release(lifelines: Iterable[socket.socket]) -> None:
    for lifeline in lifelines:
        _lifelines.discard(lifeline)
        lifeline.close()


def _let_go_after_fork() -> None:
    """A child that kept its copies would keep the server running after its parent's end."""
    _release(list(_lifelines))


os.register_at_fork(after_in_child=_let_go_after_fork)
