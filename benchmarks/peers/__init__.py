"""Peers: others who do the same work beside pgflow, each in processes and a database of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psycopg

from benchmarks.peers import process
from pgflow.bench.contender import Contender
from pgflow.bench.kill.contenders import Candidate


@dataclass(frozen=True, slots=True)
class Peer:
    """How a peer is called in tables, its driver's module and the packages it stands on."""

    title: str
    module: str
    packages: tuple[str, ...] = ()
    needs_database: bool = True
    needs_redis: bool = False


PEERS = {
    "procrastinate": Peer("Procrastinate", "procrastinate_peer", ("procrastinate",)),
    "pgqueuer": Peer("PgQueuer", "pgqueuer_peer", ("pgqueuer", "asyncpg")),
    "dbos": Peer("DBOS", "dbos_peer", ("dbos",)),
    "absurd": Peer("Absurd", "absurd_peer", ("absurd-sdk", "absurdctl")),
    "celery": Peer("Celery", "celery_peer", ("celery", "redis"), needs_database=False, needs_redis=True),
    "executor": Peer("ProcessPoolExecutor", "executor_peer", needs_database=False),
}
NAMES = tuple(PEERS)
CELERY_KILL = Candidate(PEERS["celery"].title, "benchmarks.celery_kill:CeleryContender")


def missing_packages(packages: Sequence[str]) -> str:
    """Which of the packages is not installed, in words; empty if all are."""
    for package in packages:
        try:
            version(package)
        except PackageNotFoundError:
            return f"the package {package} is not installed"
    return ""


def missing(name: str) -> str:
    """Why a peer cannot be measured here; empty if it can."""
    peer = PEERS[name]
    if why := missing_packages(peer.packages):
        return f"{why} (pip install -e '.[bench-peers]')"
    if peer.needs_redis and shutil.which("redis-server") is None:
        return "there is no redis-server (apt-get install redis-server)"
    return ""


def versions(name: str) -> dict[str, str]:
    """The versions of what the peer stands on."""
    found = {package: version(package) for package in PEERS[name].packages}
    if PEERS[name].needs_redis:
        output = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
        found["redis-server"] = output.partition("v=")[2].partition(" ")[0]
    return found


def contender(name: str, connection: psycopg.Connection[Any], slots: int) -> Contender:
    """The peer, as one who is measured, on the server of the connection if it needs one."""
    peer = PEERS[name]
    return process.PeerContender(peer.title, peer.module, slots, connection if peer.needs_database else None)
