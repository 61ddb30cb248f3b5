"""The life of a dispatcher process: start, serve, drain, end. The one place that wires a worker's parts."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import sys
import types
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pgflow.database import Database, schema, workers
from pgflow.database.failures import FAILURES
from pgflow.database.flows import require_compiled
from pgflow.errors import WorkerStartError
from pgflow.worker.collector import Collector
from pgflow.worker.dispatcher import Dispatcher
from pgflow.worker.leases import Leases
from pgflow.worker.pool import FlowDescription, Pool
from pgflow.worker.wakeup import Wakeup

logger = logging.getLogger(__name__)

CONNECTIONS = 4
"""One each for the dispatcher, the collector and the leases, and one to start with."""
_WAIT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    """What a worker is started with; ``flows`` are references, ``slots`` is the number of pool processes.
    Without ``preload`` each pool process imports the flows itself."""

    flows: tuple[str, ...]
    slots: int
    preload: bool = True
    allow_data_loss: bool = False


class StopRequest:
    """How often this process was asked to stop: once, and it drains; twice, and it ends at once.

    A pipe and a number, because signal handlers ask: a lock may be held by the very code they interrupt.
    """

    def __init__(self) -> None:
        self._asked = 0
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    def ask(self) -> None:
        """One more request; for signal handlers."""
        self._asked += 1
        self._wake()

    def end_at_once(self) -> None:
        """Both requests in one; callable from any thread. Two signals in quick succession may arrive as one."""
        self._asked = max(self._asked, 2)
        self._wake()

    def drain(self) -> None:
        """A request that never counts as the second one; callable from any thread."""
        self._asked = max(self._asked, 1)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: there is enough to be read
            os.write(self._writer, b"!")

    def wait(self) -> None:
        """Wait for the first request."""
        while self._asked == 0:
            select.select([self._reader], [], [])

    @property
    def is_urgent(self) -> bool:
        """Whether there was a second request."""
        return self._asked > 1


def serve(
    database: Database,
    options: Options,
    on_ready: Callable[[list[str]], None],
    request: StopRequest,
) -> None:
    """Run a worker in this process until ``request`` asks it to stop; everything it claimed has then been
    delivered or handed back.

    Installs the schema where there is none, and compiles the flows. Raises WorkerStartError, the errors of the
    flows' import, FlowShapeMismatchError or DatabaseError before ``on_ready`` is called with the flows' slugs, none
    afterwards.
    """
    _hide_main()
    with database.connection() as connection:
        schema.ensure(connection)
    wakeup = Wakeup()
    collector = Collector(database, wakeup)
    pool = Pool(options.flows, database.conninfo, options.slots, preload=options.preload, on_end=collector.put)
    pool.start()
    try:
        flows = _learn_flows(pool)
        _compile(database, flows, allow_data_loss=options.allow_data_loss)
        worker_ids = {flow.slug: str(uuid.uuid4()) for flow in flows}
        workers.register(database, worker_ids, name=f"pgflow-py@{socket.gethostname()}:{os.getpid()}")
    except BaseException:
        pool.stop("the worker did not start")
        pool.join()
        raise
    leases = Leases(database, list(worker_ids.values()), on_deprecated=request.drain)
    dispatcher = Dispatcher(database, worker_ids, pool, collector, wakeup)
    for part in (collector, leases, dispatcher):
        part.start()
    on_ready(list(worker_ids))
    request.wait()
    _drain(dispatcher, pool, collector, leases, request)
    _mark_stopped(database, list(worker_ids.values()))


def _learn_flows(pool: Pool) -> list[FlowDescription]:
    flows, threads = pool.describe_flows()
    if threads:
        logger.warning(
            "importing the flows started threads (%s), which pool processes do not inherit; start them in the "
            "handler, or use --no-preload",
            ", ".join(threads),
        )
    seen: dict[str, str] = {}
    for flow in flows:
        # pgmq lower-cases its tables' names: such flows would take each other's messages.
        other = seen.setdefault(flow.slug.lower(), flow.slug)
        if other is not flow.slug:
            raise WorkerStartError(
                message=f"Flows {other} and {flow.slug} would share one queue: give one of them another slug"
            )
    return flows


def _compile(database: Database, flows: Sequence[FlowDescription], *, allow_data_loss: bool) -> None:
    for flow in flows:
        require_compiled(database, flow.slug, flow.shape_json, allow_data_loss=allow_data_loss)


def _drain(dispatcher: Dispatcher, pool: Pool, collector: Collector, leases: Leases, request: StopRequest) -> None:
    """Stop claiming, let what runs finish or meet its deadline, deliver; at once on a second request."""
    logger.info("draining: no new tasks, waiting for those that run")
    dispatcher.stop()
    while not pool.wait_until_empty(_WAIT_SECONDS):
        if request.is_urgent:
            logger.info("ending at once: running tasks are killed and handed back")
            break
    pool.stop("the worker was ended")
    if request.is_urgent:
        collector.abandon()
    collector.stop()
    leases.stop()
    pool.join()


def _mark_stopped(database: Database, worker_ids: Sequence[str]) -> None:
    try:
        workers.mark_stopped(database, worker_ids)
    except FAILURES as error:
        logger.warning("the worker's rows could not be marked stopped: %s", error)


def _hide_main() -> None:
    """Keep pool processes from importing this process's main module again (the command line, the user's
    script): measured, 53-64 ms a start with it and 30-36 without."""
    sys.modules["__pgflow_main__"] = sys.modules["__main__"]  # a module without references is emptied
    sys.modules["__main__"] = types.ModuleType("__main__")


@contextlib.contextmanager
def stop_on_signals(request: StopRequest) -> Iterator[None]:
    """SIGTERM, SIGHUP and SIGINT ask to stop. For the main thread."""

    def ask(number: int, _frame: object) -> None:
        request.ask()

    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    previous = [signal.signal(number, ask) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


def log_to_stderr(level: int) -> None:
    """Log this process's events on standard error. The pool's own complaints about a database that is away
    stay out: the parts that need it say what they do about it."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=level)
    logging.getLogger("psycopg").setLevel(logging.ERROR)
