"""Processes that use the embedded server, and what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pgflow.database.embedded.keeper import Layout
from tests.support.waiting import process_exists, wait_until

DEADLINE_SECONDS = 30
AS_ROOT = os.geteuid() == 0
# Answers each line of its input with the postmaster's pid, so that a test knows which server it uses.
USER_PROGRAM = """
import sys
from pgflow.database.choice import open_database
from pgflow.errors import PgflowError
try:
    database = open_database()
    print("open", flush=True)
    for line in iter(sys.stdin.readline, ""):
        with database.connection() as connection:
            pid = "SELECT split_part(pg_read_file('postmaster.pid'), chr(10), 1)"
            print(*connection.execute(pid).fetchone(), flush=True)
except PgflowError as error:
    print(type(error).__name__, error, flush=True)
"""


class User:
    """A process that uses the embedded server until told otherwise."""

    def __init__(
        self,
        program: str = USER_PROGRAM,
        python: str = sys.executable,
        arguments: Sequence[str] = (),
        **options: Any,
    ) -> None:
        environment = {name: value for name, value in os.environ.items() if not is_choice(name)}
        self.process: subprocess.Popen[str] = subprocess.Popen(
            [python, "-c", program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment | {"PGFLOW_HOME": os.environ["PGFLOW_HOME"]},
            start_new_session=True,
            **options,
        )

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def opened(self) -> User:
        assert self.read() == "open"
        return self

    def postmaster(self) -> int:
        """The pid of the postmaster it is connected to."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.read())

    def end(self) -> None:
        _, errors = self.process.communicate(timeout=DEADLINE_SECONDS)
        assert errors == ""
        assert self.process.returncode == 0

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.killpg(self.process.pid, number)
        self.process.communicate(timeout=DEADLINE_SECONDS)


def is_choice(variable: str) -> bool:
    return variable.startswith("PG") or variable == "DATABASE_URL"


def layout(home: Path) -> Layout:
    return Layout(home / str(os.geteuid()))


def processes_of(home: Path) -> list[psutil.Process]:
    """The keeper and the postmaster: the living processes that have a path of ours on their command line."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and any(f"{home}/" in argument for argument in process.info["cmdline"] or ())
    ]


def keeper_of(home: Path) -> psutil.Process:
    [keeper] = [process for process in processes_of(home) if "keeper.py" in " ".join(process.info["cmdline"])]
    return keeper


def wait_until_unused(home: Path) -> None:
    wait_until(lambda: not processes_of(home), "the keeper and the server have ended")


def family(pid: int) -> list[int]:
    """A process and its children: a postmaster's backends notice its death a moment later, and until then a user's
    connection looks sound."""
    return [pid, *(child.pid for child in psutil.Process(pid).children())]


def wait_until_ended(*pids: int) -> None:
    wait_until(lambda: not any(map(process_exists, pids)), f"processes {pids} have ended")


@dataclass(frozen=True)
class Nobody:
    """The OS user ``nobody`` with a Python that it can reach, or the test is skipped."""

    python: str
    identity: dict[str, Any]

    @property
    def options(self) -> dict[str, Any]:
        return {"python": self.python, "cwd": "/", **self.identity}
