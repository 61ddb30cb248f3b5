"""A dispatcher without a database: ``python -m tests.support.dispatcher STEP INPUT`` runs one task under a watcher.

It answers each line on its standard input with the watcher's pid and the forkserver's, and ends in order at its end.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver

import psutil

from pgflow.worker import launch


class Dispatcher:
    """Such a process, seen from a test."""

    def __init__(self, step_slug: str, input: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, step_slug, json.dumps(input)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def pids(self) -> dict[str, int]:
        """The watcher's and the forkserver's pid."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer: dict[str, int] = json.loads(self.process.stdout.readline())
        return answer

    def all_pids(self) -> dict[str, int]:
        """Those, and its other descendants."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        return {f"{process.name()} {process.pid}": process.pid for process in below} | self.pids()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """A signal, from which it dies."""
        self.process.send_signal(number)
        self.process.wait(10)

    def end(self) -> int:
        """Let it end in order; its exit code."""
        self.process.communicate(timeout=20)
        return self.process.returncode


@contextmanager
def dispatching(step_slug: str, input: object) -> Iterator[Dispatcher]:
    """A dispatcher, which is killed in the end if need be."""
    dispatcher = Dispatcher(step_slug, input)
    with dispatcher.process:
        try:
            yield dispatcher
        finally:
            dispatcher.process.kill()


def main() -> None:
    from tests.fault.test_pool import WAIT_SECONDS, RunningPool

    step_slug, input = sys.argv[1:]
    with launch.watched() as watcher:
        running = RunningPool(1, on_look=watcher.keep)
        running.run(step_slug, json.loads(input), timeout=1000)
        for _ in sys.stdin:
            pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
            print(json.dumps({"watcher": watcher.pid or 0, "forkserver": pid}), flush=True)
        running.pool.stop("the test is over")
        assert running.pool.wait_until_ended(WAIT_SECONDS)


if __name__ == "__main__":
    main()
