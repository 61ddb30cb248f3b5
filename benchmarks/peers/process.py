"""A peer seen from the process that measures: a process of its own (``driver``), told what to do in lines of JSON."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg.sql import SQL, Identifier

from pgflow.bench.contender import BEGIN, COMPLETED, ContenderError
from pgflow.bench.loads import DAG_STEPS, Load
from pgflow.process import tree

START_SECONDS, LOAD_SECONDS = 60.0, 600.0
END_SECONDS = 10.0
LAST_WORDS = 600
_BOOT = "from benchmarks.peers.driver import main; main()"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a peer's processes are told: the URL of its database, and the number of its worker processes."""

    url: str
    slots: int


@contextmanager
def own_database(connection: psycopg.Connection[Any], name: str) -> Iterator[str]:
    """The URL of a database for the peer, on the same server; dropped at the end, and before, if somebody was
    killed."""
    database = f"pgflow_bench_{name}"
    drop = SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(database))
    connection.execute(drop)
    connection.execute(SQL("CREATE DATABASE {}").format(Identifier(database)))
    try:
        yield _url(connection.info, database)
    finally:
        connection.execute(drop)


def _url(info: psycopg.ConnectionInfo, database: str) -> str:
    user = quote(info.user, safe="") + (f":{quote(info.password, safe='')}" if info.password else "")
    if info.host.startswith("/"):
        return f"postgresql://{user}@/{database}?{urlencode({'host': info.host, 'port': info.port})}"
    return f"postgresql://{user}@{info.host}:{info.port}/{database}"


class PeerContender:
    """A peer, as one who is measured; with ``connection`` it gets a database of its own on that server."""

    def __init__(self, title: str, module: str, slots: int, connection: psycopg.Connection[Any] | None = None) -> None:
        self.name = title
        self._module = module
        self._slots = slots
        self._connection = connection

    @contextmanager
    def running(self) -> Iterator[RunningPeer]:
        """Its processes, which have done some jobs in an empty database; all is gone afterwards."""
        if self._connection is None:
            with self._process(Settings(url="", slots=self._slots)) as running:
                yield running
        else:
            with (
                own_database(self._connection, self._module.removesuffix("_peer")) as url,
                self._process(Settings(url=url, slots=self._slots)) as running,
            ):
                yield running

    @contextmanager
    def _process(self, settings: Settings) -> Iterator[RunningPeer]:
        folder = Path(tempfile.mkdtemp(prefix="pgflow-bench-"))
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, self._module, json.dumps(asdict(settings))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "TMPDIR": str(folder)},
                start_new_session=True,
            )
        try:
            running = RunningPeer(process, folder / "log")
            running.ask("start", {}, START_SECONDS)
            yield running
            running.close()
        finally:
            tree.kill(process.pid)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):
                    pipe.close()
            shutil.rmtree(folder, ignore_errors=True)


class RunningPeer:
    """Its process: an order is a line, and so is the answer."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def run(self, load: Load, count: int) -> float:
        """Do so many jobs; of DAGs, the nearest that the peer has."""
        steps = DAG_STEPS if load.shape == "dags" else 1
        return float(self.ask("run", {"order": load.order, "count": count, "steps": steps})["seconds"])

    def latencies(self, count: int) -> dict[str, list[float]]:
        """Start jobs one after the other."""
        answer = self.ask("latencies", {"count": count})
        return {BEGIN: answer["begin"], COMPLETED: answer["completed"]}

    def ask(self, what: str, values: dict[str, Any], seconds: float = LOAD_SECONDS) -> dict[str, Any]:
        """Give the order and wait for the answer. Raises ContenderError when there is none in time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"what": what, **values}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise ContenderError(self._last_words("it has ended")) from None
        deadline = time.monotonic() + seconds
        if not select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise ContenderError(self._last_words(f"{what}: no answer within {seconds:.0f} s"))
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "it has ended"}
        if "error" in answer:
            raise ContenderError(self._last_words(answer["error"]))
        return dict(answer)

    def close(self) -> None:
        """Let it end by itself, so that its connections and sockets are closed in order."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)

    def _last_words(self, reason: str) -> str:
        words = self._log.read_text(errors="replace").strip()[-LAST_WORDS:]
        return " ".join(f"{reason}; {words}".split()) if words else reason
