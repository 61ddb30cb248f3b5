"""Worker: a dispatcher process that runs flows' tasks in a pool of processes."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO, Any, NoReturn

from pgflow import errors
from pgflow.database import Database
from pgflow.database.choice import open_database
from pgflow.errors import UsageError, WorkerStartError
from pgflow.flow import Flow
from pgflow.quantity import parse_size
from pgflow.reference import reference_of
from pgflow.worker import available_cores
from pgflow.worker.options import Options
from pgflow.worker.standby import END_AT_ONCE, GO, Standby

STOP_TIMEOUT_SECONDS = 10.0


class Worker:
    """Serves flows: ``start`` runs a dispatcher in a process of its own, ``stop`` drains and ends it.

    ``database`` is a Database, a URL, or None for the usual order of choice. ``flows`` are references
    (``package.module:flow`` or ``path/file.py:flow``); a Flow object is taken where it can be turned into one.
    ``slots`` is the number of tasks that run at a time, one pool process each; the default is the number of cores.
    ``preload=False`` keeps the forkserver from importing the flows, where an import must happen in each process.
    ``allow_data_loss`` recompiles flows whose steps have changed, deleting their runs. ``stderr`` is where the
    dispatcher logs and handlers print (as for subprocess.Popen; None: this process's).

    Memory is in bytes or text such as "512MiB". ``memory`` is what a task may have resident with everything it starts,
    where its step has no ``memory_limit``; past it the task is killed and fails as out of memory.
    ``max_address_space`` is RLIMIT_AS of each pool process: past it the handler sees MemoryError. A process is replaced
    after ``max_tasks_per_process`` tasks, and after one that left it with more than ``max_memory_per_process``.
    Nothing is claimed while the machine has less than ``min_free_memory`` to give. Raises UsageError for values out of
    range or in contradiction.

    When this process ends without ``stop``, however it ends, the dispatcher drains and ends too.
    """

    def __init__(
        self,
        database: Database | str | None = None,
        flows: Sequence[str | Flow] = (),
        *,
        slots: int | None = None,
        preload: bool = True,
        allow_data_loss: bool = False,
        memory: str | int | None = None,
        max_address_space: str | int | None = None,
        max_tasks_per_process: int | None = None,
        max_memory_per_process: str | int | None = None,
        min_free_memory: str | int | None = None,
        stderr: int | IO[Any] | None = None,
    ) -> None:
        if isinstance(flows, str) or not flows:
            raise UsageError(message=f"flows must be a list of at least one flow, got {flows!r}")
        self._owns_database = not isinstance(database, Database)
        self._database = database if isinstance(database, Database) else open_database(database)
        self._options = Options(
            flows=tuple(flow if isinstance(flow, str) else reference_of(flow) for flow in flows),
            slots=slots if slots is not None else available_cores(),
            preload=preload,
            allow_data_loss=allow_data_loss,
            memory=_size("memory", memory),
            address_space=_size("max_address_space", max_address_space),
            tasks_per_process=max_tasks_per_process,
            memory_per_process=_size("max_memory_per_process", max_memory_per_process),
            min_free_memory=_size("min_free_memory", min_free_memory),
        )
        self._stderr = stderr
        self._process: subprocess.Popen[str] | None = None
        self._standby: Standby | None = None
        self.flow_slugs: list[str] = []
        """The slugs of the flows served, once started."""

    def start(self, before_serving: Callable[[], None] | None = None) -> Worker:
        """Start the dispatcher and wait until it serves. ``before_serving`` is called when it has loaded and compiled
        the flows and claims nothing yet; what that raises ends the start.

        Raises what keeps it from serving: FlowNotFoundError, FlowImportError, FlowDefinitionError,
        FlowShapeMismatchError, DatabaseError or WorkerStartError.
        """
        if self._standby is None:
            self.launch()
        assert self._standby is not None
        line = order(self._database, self._options, waits=before_serving is not None)
        self._process, self._standby = self._standby.give(line), None
        try:
            if before_serving is not None:
                self._await_answer()
                before_serving()
                self._tell(GO)
            self.flow_slugs = self._await_answer()["ready"]
        except BaseException:  # Ctrl-C while the flows are imported
            self.stop(timeout=0)
            raise
        return self

    def _await_answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] | None = json.loads(line) if line else None
        if answer is None or "error" in answer:
            self._abandon_start(answer)
        return answer

    def _tell(self, byte: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):  # it has ended meanwhile
                os.write(self._process.stdin.fileno(), byte)

    def launch(self, standby: Standby | None = None) -> None:
        """Begin to start the dispatcher, for who has something else to do meanwhile. It loads what it consists of, and
        touches neither flow nor database before ``start``, which need not follow. ``standby`` is one that was begun
        before; where it logs is settled."""
        if self._process is not None or self._standby is not None:
            raise WorkerStartError(message="This worker has been started already")
        self._standby = standby or Standby(self._stderr)

    def _abandon_start(self, failure: dict[str, Any] | None) -> NoReturn:
        process, self._process = self._process, None
        assert process is not None
        process.communicate()
        self._close_database()
        if failure is None:
            raise WorkerStartError(message=f"The dispatcher ended while starting, exit code {process.returncode}")
        raise getattr(errors, failure["error"])(**failure["values"])

    @property
    def is_running(self) -> bool:
        """Whether the dispatcher process lives."""
        return self._process is not None and self._process.poll() is None

    def end_at_once(self) -> None:
        """Let a ``stop`` that waits in another place return soon: what still runs is killed and handed back. For
        signal handlers."""
        self._tell(END_AT_ONCE)

    def stop(self, timeout: float | None = None) -> int:
        """Stop claiming, let what runs finish (each task has its deadline), deliver, end.

        After ``timeout`` seconds what still runs is killed and handed back. Returns the dispatcher's exit
        code, 0 after a clean end; stopping a worker that does not run returns 0.
        """
        standby, self._standby = self._standby, None
        if standby is not None:
            standby.discard()  # it has nothing to hand back
            self._close_database()
        process = self._process
        if process is None:
            return 0
        process.terminate()
        try:
            # A wait with a timeout looks every 50 ms. The kernel may give a signal to another thread; its handler runs
            # once this one runs Python again, which in a waitpid without end it never did (seen once in CI).
            process.wait(math.inf if timeout is None else timeout)
        except subprocess.TimeoutExpired:
            self.end_at_once()
            try:
                process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        process.communicate()
        self._process = None
        self._close_database()
        return process.returncode

    def _close_database(self) -> None:
        if self._owns_database:
            self._database.close()

    def __enter__(self) -> Worker:
        return self.start() if self._process is None else self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _size(name: str, value: str | int | None) -> int | None:
    try:
        return None if value is None else parse_size(value)
    except ValueError as error:
        raise UsageError(message=f"{name} {error}") from None


def order(database: Database, options: Options, *, waits: bool = False) -> str:
    """What a dispatcher is told to do, one line of JSON; the passwords of the database included. ``waits``: it answers
    when it has loaded the flows, too, and serves them when it is told GO."""
    return json.dumps(
        {
            "database": database.order(),
            "conninfo": database.conninfo,
            "options": options.to_order(),
            "waits": waits,
        }
    )
