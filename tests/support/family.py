"""What a handler may start, in all the ways in which processes leave their parents."""

from __future__ import annotations

import json
import os
import subprocess
import time
import warnings
from pathlib import Path

from tests.support.waiting import process_exists, wait_until

_SLEEP = ["sleep", "1000"]
_ORPHAN = "setsid sleep 1000 > /dev/null & echo $!"


def start(folder: Path) -> None:
    """Start one of each kind, and note their pids in ``folder``."""
    family = {
        "subprocess": subprocess.Popen(_SLEEP).pid,
        "session": subprocess.Popen(_SLEEP, start_new_session=True).pid,
        "group": subprocess.Popen(_SLEEP, process_group=0).pid,
        "cleared": subprocess.Popen(_SLEEP, env={}, start_new_session=True).pid,
        "orphan": int(subprocess.check_output(["sh", "-c", _ORPHAN])),
        "cleared orphan": int(subprocess.check_output(["sh", "-c", _ORPHAN], env={"PATH": os.environ["PATH"]})),
        "daemon": _daemon(),
    }
    unfinished = folder / "family.new"
    unfinished.write_text(json.dumps(family))
    unfinished.rename(folder / "family")


def read(folder: Path) -> dict[str, int]:
    """The pids, once they are noted; all live."""
    wait_until((folder / "family").exists, "the family is there")
    family = noted(folder)
    assert alive(family) == set(family)
    return family


def noted(folder: Path) -> dict[str, int]:
    """The pids."""
    family: dict[str, int] = json.loads((folder / "family").read_text())
    return family


def alive(family: dict[str, int]) -> set[str]:
    """Which of them live."""
    return {kind for kind, pid in family.items() if process_exists(pid)}


def wait_until_gone(family: dict[str, int], timeout: float = 1.0) -> None:
    """They end within ``timeout`` seconds."""
    try:
        wait_until(lambda: not alive(family), "the family ends", timeout)
    except AssertionError:
        raise AssertionError(f"still there after {timeout} s: {alive(family)}") from None


def _daemon() -> int:
    """The double fork, without exec."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12+: fork beside threads
        first = os.fork()
    if first == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writer, f"{os.getpid()}\n".encode())
            os.close(writer)
            while True:
                time.sleep(1000)
        os._exit(0)
    os.waitpid(first, 0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        return int(pipe.readline())
