"""The keeper: the process that is the embedded PostgreSQL's parent and outlives no user of it.

Every process that uses the embedded server keeps a connection to the keeper's socket open. However such a
process ends, kill -9 included, the kernel closes it; a second after the last one has gone the keeper
stops the server and ends. A server that dies under living users is started again.

Locks, all of them ``flock`` in the OS user's folder, so none outlives its holders:

* ``users.lock``: held by a user while it connects to the keeper, or starts one and sees it listening.
* ``keeper.lock``: held by the keeper for its life; a new one waits here for the old one's shutdown.
* ``server.lock``: held by PostgreSQL's processes alone, which inherit it. Whoever has it knows that no
  postmaster and no backend is left, so the files a killed one leaves behind are safely removed.

``embedded`` runs this file by path: with ``-m``, the imports of pgflow's packages would cost each start
0.2 s (0.03 s without). It must import nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

LINGER_SECONDS = 1.0
READY_POLL_SECONDS = 0.01
READY = "ready"
FAILED = "failed"
STARTING = "starting"

_PR_SET_PDEATHSIG = 1
_STATUS_LINE = 7  # of postmaster.pid; the first line is the pid


class Layout:
    """Where everything of one OS user's embedded server lies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.users_lock = folder / "users.lock"
        self.keeper_lock = folder / "keeper.lock"
        self.server_lock = folder / "server.lock"
        self.keeper_socket = folder / "keeper.sock"
        self.socket_folder = folder / "run"
        self.server_socket = self.socket_folder / ".s.PGSQL.5432"
        self.version = folder / "postgres-18"
        self.data = self.version / "data"
        self.postmaster_pid = self.data / "postmaster.pid"

    @property
    def conninfo(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self.socket_folder))}"


@contextlib.contextmanager
def locked(path: Path, before_waiting: Callable[[], None] = lambda: None) -> Iterator[int]:
    """Hold the file lock exclusively; yields its descriptor. If it is taken, ``before_waiting`` is called."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            before_waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


class ServerFailedError(Exception):
    """PostgreSQL did not start; the text says why in one line."""


class Server:
    """PostgreSQL as a child of this process, in the data folder of ``layout``.

    ``identity`` is what ``subprocess`` needs to run it as another OS user.
    """

    def __init__(self, layout: Layout, binaries: Path, identity: dict[str, Any]) -> None:
        self._layout = layout
        self._binaries = binaries
        self._identity = identity
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self.was_ready = False

    def start(self) -> None:
        """Start it, after initdb if need be; returns before it accepts connections."""
        self.was_ready = False
        with locked(self._layout.server_lock, before_waiting=self._stop_orphan) as lock:
            if not self._layout.data.exists():
                self._initialise(lock)
            self._remove_leftovers()
            self._process = self._spawn("postgres", *self._settings(), lock=lock)
        # Closing our descriptor does not unlock: the server's processes have it too.

    def is_ready(self) -> bool:
        """Whether it accepts connections. Raises ServerFailedError if it has ended."""
        if self.has_ended():
            raise ServerFailedError(self._last_words("postgres"))
        assert self._process is not None
        try:
            lines = self._layout.postmaster_pid.read_text().splitlines()
        except FileNotFoundError:
            return False
        self.was_ready = (
            len(lines) > _STATUS_LINE and lines[0] == str(self._process.pid) and lines[_STATUS_LINE].startswith("ready")
        )
        return self.was_ready

    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def stop(self) -> None:
        """Fast shutdown: running statements are cut off, everything committed is on disk."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()

    def _stop_orphan(self) -> None:
        """Where the kernel cannot tie a child to its parent, a killed keeper's server goes on running."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(self._layout.postmaster_pid.read_text().partition("\n")[0])
            os.kill(pid, signal.SIGINT)

    def _initialise(self, lock: int) -> None:
        import shutil  # costs 4 ms, needed once in the life of a data folder

        unfinished = self._layout.data.with_name("data.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if self._identity:
            os.chown(unfinished, self._identity["user"], self._identity["group"])
        initdb = self._spawn(
            *("initdb", "-D", str(unfinished), "-U", "postgres", "--auth=trust"),
            *("--encoding=UTF8", "--no-locale", "--no-instructions"),
            lock=lock,
        )
        if initdb.wait() != 0:
            raise ServerFailedError(self._last_words("initdb"))
        unfinished.rename(self._layout.data)

    def _remove_leftovers(self) -> None:
        """A killed server's lock files stop the next one if their pid belongs to another process by now."""
        socket_path = self._layout.server_socket
        for path in (self._layout.postmaster_pid, socket_path, Path(f"{socket_path}.lock")):
            path.unlink(missing_ok=True)

    def _settings(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{self._layout.socket_folder}"',
            "unix_socket_permissions": "0700",
            "max_connections": "100",
            "log_checkpoints": "off",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return ["-D", str(self._layout.data), *options]

    def _spawn(self, program: str, *arguments: str, lock: int) -> subprocess.Popen[bytes]:
        self._log_start = os.fstat(sys.stderr.fileno()).st_size
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
        try:
            return subprocess.Popen(
                [str(self._binaries / program), *arguments],
                stdin=subprocess.DEVNULL,
                env=environment | {"LC_ALL": "C"},
                pass_fds=[lock],
                # This process has one thread, the one whose end the kernel would signal.
                preexec_fn=_tie_to_parent(os.getpid()),
                **self._identity,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ServerFailedError(f"cannot run {self._binaries / program}: {error}") from error

    def _last_words(self, program: str) -> str:
        with self._layout.log.open(errors="replace") as log:
            log.seek(self._log_start)
            lines = [line.strip() for line in log if line.strip()]
        for marker in ("FATAL:", "PANIC:", "error:"):
            for line in lines:
                if marker in line:
                    return line.partition(marker)[2].strip()
        return (lines or [f"{program} ended without a word"])[-1]


def _tie_to_parent(parent: int) -> Callable[[], None] | None:
    """What a child runs before exec, so that it shuts down fast when its parent is killed (Linux)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def tie() -> None:
        # After subprocess has changed the user, which would clear it.
        prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:
            os._exit(1)

    return tie


class Keeper:
    """Serves the users' connections. One thread; ``run`` returns when the last user has gone."""

    def __init__(self, layout: Layout, server: Server, first_user: socket.socket) -> None:
        self._layout = layout
        self._server = server
        self._first_user = first_user
        self._users: set[socket.socket] = set()
        self._waiting: set[socket.socket] = set()
        self._selector = selectors.DefaultSelector()
        self._wake_up, self._signalled = socket.socketpair()
        self._stopping = False

    def run(self) -> None:
        listener = self._listen()
        try:
            self._welcome(self._first_user)
            self._server.start()
            self._serve()
        except ServerFailedError as error:
            print(f"keeper: {error}", file=sys.stderr)
            self._tell(self._users, f"{FAILED} {error}")
        finally:
            # In this order: who comes now finds nobody, and starts a keeper that waits for our lock.
            listener.close()
            self._layout.keeper_socket.unlink(missing_ok=True)
            self._server.stop()

    def _listen(self) -> socket.socket:
        self._layout.keeper_socket.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self._layout.keeper_socket))
        listener.listen(128)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._hear_signals()
        return listener

    def _hear_signals(self) -> None:
        self._wake_up.setblocking(False)
        signal.set_wakeup_fd(self._wake_up.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._signalled, selectors.EVENT_READ, lambda pipe: pipe.recv(4096))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _ask_to_stop(self, *_: object) -> None:
        self._stopping = True

    def _serve(self) -> None:
        last_used = time.monotonic()
        while not self._stopping:
            self._attend_to_server()
            for key, _ in self._selector.select(self._patience(last_used)):
                key.data(key.fileobj)
            if self._users:
                last_used = time.monotonic()
            elif time.monotonic() - last_used > LINGER_SECONDS:
                return

    def _patience(self, last_used: float) -> float | None:
        if not self._server.was_ready:
            return READY_POLL_SECONDS
        if self._users:
            return None
        return max(0.0, last_used + LINGER_SECONDS - time.monotonic()) + READY_POLL_SECONDS

    def _attend_to_server(self) -> None:
        if self._server.was_ready and self._server.has_ended():
            print("keeper: the server has died, starting it again", file=sys.stderr)
            self._server.start()
        if self._server.was_ready or self._server.is_ready():
            self._tell(self._waiting, f"{READY} {self._layout.conninfo}")
            self._waiting.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            self._welcome(listener.accept()[0])

    def _welcome(self, user: socket.socket) -> None:
        self._users.add(user)
        self._waiting.add(user)
        self._selector.register(user, selectors.EVENT_READ, self._hear)
        self._tell({user}, STARTING)

    def _hear(self, user: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):
            if user.recv(4096):
                return
        self._selector.unregister(user)
        self._users.discard(user)
        self._waiting.discard(user)
        user.close()

    def _tell(self, users: set[socket.socket], line: str) -> None:
        for user in users:
            with contextlib.suppress(OSError):  # gone; its end is heard in its turn
                user.sendall(f"{line}\n".encode())


def main(folder: str, binaries: str, descriptor: str, *identity: str) -> NoReturn:
    """``descriptor`` is the first user's connection; ``identity`` is a uid and a gid, or nothing."""
    if os.fork():  # whoever started us waits for this process, and has no child of ours to reap
        os._exit(0)
    os.umask(0o077)
    layout = Layout(Path(folder))
    user: dict[str, Any] = {}
    if identity:
        user = {"user": int(identity[0]), "group": int(identity[1]), "extra_groups": []}
    with locked(layout.keeper_lock):
        Keeper(layout, Server(layout, Path(binaries), user), socket.socket(fileno=int(descriptor))).run()
    sys.exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
