"""Connecting to the keeper, and starting one where there is none."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pgflow.database.embedded import keeper, system_user
from pgflow.database.embedded.installation import Installation
from pgflow.database.embedded.keeper import Layout
from pgflow.process import marker

MAX_LOG_BYTES = 10 * 1024 * 1024


def join_or_start(layout: Layout, wheel: Installation) -> socket.socket:
    """A connection that the keeper has taken up; one that ends at once if a new keeper did not start."""
    with keeper.locked(layout.users_lock) as lock:
        try:
            return _join(layout) or _start(layout, wheel)
        finally:
            # Closing would not do if another thread has forked a child meanwhile: it has a copy.
            fcntl.flock(lock, fcntl.LOCK_UN)


def await_answer(connection: socket.socket) -> str:
    """The keeper's ``ready CONNINFO`` or ``failed REASON``, however long a recovery takes; empty if it
    ended without one."""
    while (line := _read_line(connection)) == keeper.STARTING:
        pass
    return line


def _join(layout: Layout) -> socket.socket | None:
    """None if no keeper runs, or it is just ending."""
    connection = socket.socket(socket.AF_UNIX)
    with contextlib.suppress(FileNotFoundError, ConnectionError):
        connection.connect(str(layout.keeper_socket))
        if _is_taken_up(connection):
            return connection
    connection.close()
    return None


def _start(layout: Layout, wheel: Installation) -> socket.socket:
    binaries, identity = _choose_identity(layout, wheel)
    connection, keepers_end = socket.socketpair()
    program = [sys.executable, "-I", "-S", keeper.__file__, str(layout.folder), str(binaries)]
    with keepers_end, _log(layout) as log:
        subprocess.run(
            [*program, str(keepers_end.fileno()), *identity],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=marker.outliving(),
            pass_fds=[keepers_end.fileno()],
            start_new_session=True,
            check=False,
        )
    _is_taken_up(connection)
    return connection


def _choose_identity(layout: Layout, wheel: Installation) -> tuple[Path, list[str]]:
    """The folder of PostgreSQL's programs, and the uid and gid they run under if not ours."""
    if os.geteuid() != 0:
        return wheel.binaries, []
    user = system_user.find_or_create()
    user.require_access(layout.version)
    os.chown(layout.socket_folder, user.uid, user.gid)
    return wheel.copied_below(layout.version).binaries, [str(user.uid), str(user.gid)]


@contextlib.contextmanager
def _log(layout: Layout) -> Iterator[int]:
    if layout.log.exists() and layout.log.stat().st_size > MAX_LOG_BYTES:
        layout.log.rename(layout.log.with_name("log.old"))
    descriptor = os.open(layout.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_taken_up(connection: socket.socket) -> bool:
    """Wait for the keeper's first word, without taking it; False if there is none to come."""
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except ConnectionError:
        return False


def _read_line(connection: socket.socket) -> str:
    """The next line without its end; empty at the end of the connection."""
    line = b""
    with contextlib.suppress(ConnectionError):
        while (character := connection.recv(1)) not in (b"\n", b""):
            line += character
    return line.decode(errors="replace")
