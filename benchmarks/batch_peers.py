"""The suite ``batch``: who does the items of a file, each as a command that writes a line for each item.

``python -m benchmarks.batch_peers executor|joblib INPUT OUTPUT SLOTS`` is two of them.
"""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks import batch_items
from benchmarks.batch_items import Order, burn
from benchmarks.peers import missing_packages

ROOT = Path(__file__).parent.parent
"""Where the commands run: ``benchmarks`` is imported from there."""
TARGET = f"{batch_items.__file__}:burn"
_JOB = "import json, sys; from benchmarks.batch_items import burn; print(json.dumps(burn(json.loads(sys.argv[1]))))"


@dataclass(frozen=True, slots=True)
class Work:
    """A file of items, the file for the results, and how many are done at a time."""

    items: Path
    results: Path
    slots: int


@dataclass(frozen=True, slots=True)
class Peer:
    """Who does them: the command, and what it prints on standard output is part of the results where
    ``prints_results``. ``share`` is how many of the items it gets: one that starts a process each needs fewer."""

    name: str
    command: Callable[[Work], list[str]]
    prints_results: bool = False
    share: float = 1.0


def pgflow(name: str, database: str | None) -> Peer:
    """``pgflow batch``, as a batch of that name."""
    where = [] if database is None else ["--database", database]

    def command(work: Work) -> list[str]:
        return [
            *(sys.executable, "-m", "pgflow", "batch", TARGET, "--input", str(work.items)),
            *("--output", str(work.results), "--slots", str(work.slots), "--name", name, "--quiet"),
            *where,
        ]

    return Peer("pgflow", command)


def _in_python(name: str) -> Callable[[Work], list[str]]:
    return lambda work: [
        *(sys.executable, "-m", "benchmarks.batch_peers"),
        *(name, str(work.items), str(work.results), str(work.slots)),
    ]


def _parallel(work: Work) -> list[str]:
    job = shlex.join([sys.executable, "-c", _JOB])
    return ["parallel", "--will-cite", "--jobs", str(work.slots), "--arg-file", str(work.items), f"{job} {{}}"]


EXECUTOR = Peer("ProcessPoolExecutor", _in_python("executor"))
JOBLIB = Peer("joblib", _in_python("joblib"))
PARALLEL = Peer("GNU parallel", _parallel, prints_results=True, share=0.1)
PEERS = {"joblib": JOBLIB, "parallel": PARALLEL}


def missing(name: str) -> str:
    """Why a peer cannot be measured here; empty if it can."""
    if name == "parallel":
        return "" if shutil.which("parallel") else "there is no GNU parallel (apt-get install parallel)"
    why = missing_packages(("joblib",))
    return f"{why} (pip install -e '.[bench-peers]')" if why else ""


def version(name: str) -> dict[str, str]:
    """The version of a peer that is there."""
    if name == "joblib":
        return {"joblib": importlib.metadata.version("joblib")}
    output = subprocess.run(["parallel", "--version"], capture_output=True, text=True, check=True).stdout
    return {"GNU parallel": output.partition("\n")[0].split()[-1]}


def _by_executor(items: Iterable[Order], slots: int) -> Iterator[object]:
    with ProcessPoolExecutor(slots) as pool:
        yield from pool.map(burn, items)


def _by_joblib(items: Iterable[Order], slots: int) -> Iterator[object]:
    from joblib import Parallel, delayed

    yield from Parallel(n_jobs=slots, return_as="generator")(delayed(burn)(item) for item in items)


def main(name: str, items: str, results: str, slots: str) -> None:
    """Do the items of one file, write the other."""
    do = {"executor": _by_executor, "joblib": _by_joblib}[name]
    with open(items) as source, open(results, "w") as target:
        for result in do(map(json.loads, source), int(slots)):
            target.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
