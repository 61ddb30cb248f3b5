"""What runs in a pool process. Only bytes, text and numbers go back to the dispatcher.

``initialize`` never raises: an initializer that fails puts a pebble pool into ERROR.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from time import monotonic  # not to be patched by a handler
from typing import TYPE_CHECKING, NamedTuple

from pgflow import codec, executor
from pgflow.errors import PgflowError
from pgflow.executor import Kind, Task
from pgflow.flow import Flow
from pgflow.outcome import Completed, Failed
from pgflow.process import memory, stack, subreaper
from pgflow.target import load
from pgflow.worker import leftovers
from pgflow.worker.hygiene import Baseline
from pgflow.worker.logbook import Logbook
from pgflow.worker.outlet import Address, Outlet
from pgflow.worker.tickets import Taker

if TYPE_CHECKING:
    from pgflow.database import Database

_PR_SET_PDEATHSIG = 1
_getpid = os.getpid  # not to be patched by a handler
_OOM_SCORE = 300
NICENESS = 10
"""The dispatcher and the database come first: measured, of 64 handlers that hang in C on two cores the last was killed
0.35 s after its deadline, with 5 0.7 s."""
_QUIET = (signal.SIGTERM, signal.SIGHUP)
DATABASE_TIMEOUT_SECONDS = 60
"""What a flow's tasks have that declares no timeout: the default of the contract's column."""

SERIES_SECONDS = 0.15
"""After this long no other task of a series is begun: the outcomes of those before are wanted."""

Order = tuple[str, str, str, int, int, Kind, str]
"""A task's flow slug, run id, step slug, task index, attempt, kind and input, as JSON text."""
COMPLETED, FAILED = 0, 1


class Answer(NamedTuple):
    """Of the task with this ``number``: ``COMPLETED`` and the output as JSON text, or ``FAILED``, the error's text and
    its retry delay; and what the handler ``left`` in this process that must not meet another task, in words."""

    number: int
    kind: int
    text: str
    retry_delay: int | None
    left: str | None


@dataclass(frozen=True, slots=True)
class Settings:
    """What a pool process must know; pickled once per process."""

    references: tuple[str, ...]
    conninfo: str
    logbook: Path
    tickets: Path
    stack_dump: Path
    outlet: Address
    address_space: int | None = None
    """RLIMIT_AS, in bytes."""


class _Process:
    """The state of this pool process."""

    def __init__(self, settings: Settings, dump_fd: int, outlet: Outlet) -> None:
        self.settings = settings
        self.pid = os.getpid()
        self.outlet = outlet
        self._dump_fd = dump_fd
        self._baseline: Baseline | None = None
        self.logbook = Logbook(settings.logbook)
        self.tickets = Taker(settings.tickets)
        self.database: Database | None = None
        """Of the handlers' contexts; None where no handler of the flows takes one."""
        self._flows: dict[str, Flow] | None = None

    @property
    def flows(self) -> dict[str, Flow]:
        """The flows by slug; imported already where the forkserver preloaded them."""
        if self._flows is None:
            loaded = [load(reference) for reference in self.settings.references]
            self._flows = {flow.slug: flow for flow in loaded}
            if any(map(needs_database, loaded)):
                self.database = self._open_database()
        return self._flows

    def _open_database(self) -> Database:
        from pgflow.database import Database  # only here: its import takes longer than that of all else together

        return Database(self.settings.conninfo, max_connections=1, application_name="pgflow handler")

    def begin(self, flow_slug: str, step_slug: str, task_index: int, run_id: str) -> Flow:
        """The task's flow, imported if need be; what this process prints from now on is the task's."""
        flow = self.flows[flow_slug]
        if self._baseline is None:
            self._baseline = Baseline(self._dump_fd, self.tickets.fd, self.outlet)
        self.outlet.begin(f"{flow_slug}/{step_slug}[{task_index}] of run {run_id}")
        return flow

    def tidy(self) -> str | None:
        """Bring this process back to where the task found it; what cannot be, in words."""
        return self._baseline.restore() if self._baseline is not None else None


def needs_database(flow: Flow) -> bool:
    """Whether a handler of the flow takes a context, through which it reaches the database."""
    return any(step.takes_context for step in flow.steps)


_process: _Process
threads_lost: list[str] = []
"""Threads that the flows' modules started at import in the forkserver: pool processes do not have them."""


def initialize(settings: Settings) -> None:
    """Prepare this process: its own group, no outliving of the dispatcher, stack dumps, quiet signals."""
    global _process
    leftovers.name_pool_process()
    os.nice(NICENESS)
    os.setpgid(0, 0)
    subreaper.become()
    _die_with_the_forkserver()
    for number in _QUIET:
        signal.signal(number, keep_running)
    os.register_at_fork(after_in_child=_be_killable)
    outlet = Outlet(settings.outlet)
    _die_before_the_dispatcher()
    dump = os.open(settings.stack_dump, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    stack.install(dump)
    _process = _Process(settings, dump, outlet)
    if settings.address_space is not None:
        _limit_address_space(settings.address_space)


def warm_up() -> tuple[int, int, int]:
    """This process's pid, its main thread's ident and the forkserver's pid; proves that the process works."""
    return os.getpid(), threading.main_thread().ident or 0, os.getppid()


def import_flows() -> None:
    """Import the flows where the forkserver has not, so that no task's deadline counts it. What fails is told by
    ``describe_flows``, or to the task."""
    with contextlib.suppress(PgflowError):
        _process.flows  # noqa: B018 - imports them


def describe_flows() -> str:
    """JSON: the flows' shapes and what there is to warn about, or the error that their import gave."""
    try:
        flows = _process.flows.values()
    except PgflowError as error:
        return json.dumps({"error": type(error).__name__, "values": error.values}, default=str)
    return json.dumps(
        {
            "flows": [_description(flow) for flow in flows],
            "threads": threads_lost,
        }
    )


def _description(flow: Flow) -> dict[str, object]:
    return {
        "slug": flow.slug,
        "shape": flow.shape(),
        "timeouts": {step.slug: flow.timeout_of(step.slug) or DATABASE_TIMEOUT_SECONDS for step in flow.steps},
        "memory_limits": {
            step.slug: step.options["memory_limit"] for step in flow.steps if "memory_limit" in step.options
        },
    }


def run_tasks(first: int, orders: Sequence[Order]) -> Answer:
    """Execute a series of tasks, whose numbers begin with ``first``, one after the other, as far as there are tickets;
    the slot enforces their deadlines from outside. The answer is that of the last one executed; those before are in the
    logbook. One whose answer has no room there, or which left something, is the last."""
    logbook = _process.logbook
    logbook.begin_series()
    until, last = monotonic() + SERIES_SECONDS, first + len(orders) - 1
    for number, order in enumerate(orders, first):
        answer = _run_task(number, *order)
        if number == last or answer.left is not None or monotonic() > until:
            break
        if not logbook.record(answer.kind, answer.text, answer.retry_delay) or not _process.tickets.take():
            break
    _process.outlet.end()
    return answer


def _run_task(
    number: int,
    flow_slug: str,
    run_id: str,
    step_slug: str,
    task_index: int,
    attempt: int,
    kind: Kind,
    input_text: str,
) -> Answer:
    _process.logbook.begin(number)
    try:
        outcome = _execute(flow_slug, run_id, step_slug, task_index, attempt, kind, input_text)
        left = _process.tidy()
    except BaseException as error:  # noqa: BLE001 - raised by an alarm or another thread after the handler's end
        outcome = Failed(executor.failure_text(error))
        left = _process.tidy() or f"a pgflow that fails there: {executor.serialize_error(error)}"
    _process.logbook.end()
    match outcome:
        case Completed(output_text):
            return Answer(number, COMPLETED, output_text, None, left)
        case Failed(error_text, retry_delay):
            return Answer(number, FAILED, error_text, retry_delay, left)


def _execute(
    flow_slug: str, run_id: str, step_slug: str, task_index: int, attempt: int, kind: Kind, input_text: str
) -> Completed | Failed:
    try:
        flow = _process.begin(flow_slug, step_slug, task_index, run_id)
        task = _decode(run_id, step_slug, task_index, attempt, kind, input_text)
        # A context of its own, so that variables that it sets end with the task.
        return contextvars.copy_context().run(executor.run, flow, task, _process.database)
    except PgflowError as error:
        return Failed(executor.serialize_error(str(error)))
    finally:
        if _getpid() != _process.pid:
            os._exit(0)  # a child that the handler forked and let return: it has no verdict to give


def _be_killable() -> None:
    """What a handler forks ends by SIGTERM as any process does: ``multiprocessing.Pool`` ends its processes so."""
    for number in _QUIET:
        if signal.getsignal(number) is keep_running:
            signal.signal(number, signal.SIG_DFL)


def keep_running(_number: int, _frame: object) -> None:
    """A signal handler that does nothing: the dispatcher's word alone counts. Unlike SIG_IGN it is not
    inherited by the programs that a handler starts."""


def _decode(run_id: str, step_slug: str, task_index: int, attempt: int, kind: Kind, input_text: str) -> Task:
    value = codec.decode(input_text)
    return Task(
        run_id=run_id,
        step_slug=step_slug,
        task_index=task_index,
        attempt=attempt,
        kind=kind,
        input=None if kind == "dependent" else value,
        deps=value if kind == "dependent" else None,
    )


def _die_before_the_dispatcher() -> None:
    """Make this process, and what it starts, the OOM killer's choice before the dispatcher and others."""
    with contextlib.suppress(OSError):  # no /proc (macOS)
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(min(1000, int(score.read_text()) + _OOM_SCORE)))


def _limit_address_space(limit: int) -> None:
    """Past it allocations fail. One that has been passed already is left: the worker looks, and refuses it."""
    if limit > memory.footprint(os.getpid()).addressed:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _die_with_the_forkserver() -> None:
    """Let the kernel kill this process when the forkserver ends, which ends when the dispatcher does.

    The forkserver ends when the last write end of its alive pipe is closed, and each child was given one: with
    it open, neither ends after a SIGKILL of the dispatcher and PDEATHSIG never fires.
    """
    alive = forkserver._forkserver._forkserver_alive_fd  # type: ignore[attr-defined]
    if alive is not None:
        os.close(alive)
        forkserver._forkserver._forkserver_alive_fd = None  # type: ignore[attr-defined]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
