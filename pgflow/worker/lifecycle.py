"""The life of a dispatcher process: start, serve, drain, end. The one place that wires a worker's parts."""

from __future__ import annotations

import logging
import os
import socket
import sys
import types
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pgflow.database import Database, capabilities, schema, workers
from pgflow.database.capabilities import Capabilities
from pgflow.database.contract_tasks import ContractTasks
from pgflow.database.flows import require_compiled
from pgflow.database.tasks import BatchTasks, Tasks
from pgflow.errors import UndeliveredError
from pgflow.process import output
from pgflow.worker import printed
from pgflow.worker.bell import TaskBell
from pgflow.worker.collector import Collector
from pgflow.worker.dispatcher import Dispatcher
from pgflow.worker.leases import Leases
from pgflow.worker.listener import Listener
from pgflow.worker.pool import FlowDescription, Pool
from pgflow.worker.stopping import PATIENCE_SECONDS, StopRequest, StopRequested
from pgflow.worker.wakeup import Wakeup

logger = logging.getLogger(__name__)

CONNECTIONS = 4
"""One each for the dispatcher, the collector and the leases, and one to start with. The listener has its own beside
them."""
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Options:
    """What a worker is started with; ``flows`` are references, ``slots`` is the number of pool processes.
    Without ``preload`` each pool process imports the flows itself."""

    flows: tuple[str, ...]
    slots: int
    preload: bool = True
    allow_data_loss: bool = False


def serve(
    database: Database,
    options: Options,
    on_ready: Callable[[list[str]], None],
    request: StopRequest,
) -> None:
    """Run a worker in this process until ``request`` asks it to stop; everything it claimed has then been
    delivered or handed back.

    Installs the schema where there is none, and compiles the flows. Before ``on_ready`` is called with the flows'
    slugs it raises WorkerStartError, the errors of the flows' import, FlowShapeMismatchError, DatabaseError or
    psycopg.Error; afterwards only UndeliveredError. Returns without ``on_ready`` when asked to stop before that.
    """
    _hide_main()
    with database.connection() as connection:
        schema.ensure(connection)
        capable = capabilities.look(connection)
    pool = Pool(options.flows, database.conninfo, options.slots, preload=options.preload)
    pool.start()
    try:
        flows = _learn_flows(pool, request)
        _compile(database, flows, allow_data_loss=options.allow_data_loss)
        worker_ids = {flow.slug: str(uuid.uuid4()) for flow in flows}
        workers.register(database, worker_ids, name=f"pgflow-py@{socket.gethostname()}:{os.getpid()}")
    except StopRequested:
        logger.info("stopped before it had started")
        pool.abandon()
        return
    except BaseException:
        pool.stop("the worker did not start")
        _end(pool)
        raise
    parts = _Parts.wired(database, _tasks(database, capable, flows), pool, worker_ids, request)
    if capable.is_ours:
        parts.wakeup.use(TaskBell(database, worker_ids, parts.listener))
        parts.listener.start()
    for part in (parts.collector, parts.leases, parts.dispatcher):
        part.start()
    try:
        on_ready(list(worker_ids))
        request.wait()
    finally:
        _drain(database, parts, request)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts of a worker that have threads of their own."""

    pool: Pool
    wakeup: Wakeup
    collector: Collector
    dispatcher: Dispatcher
    leases: Leases
    listener: Listener

    @staticmethod
    def wired(
        database: Database, tasks: Tasks, pool: Pool, worker_ids: Mapping[str, str], request: StopRequest
    ) -> _Parts:
        wakeup = Wakeup()
        collector = Collector(tasks, wakeup)
        pool.report_to(collector.put)
        return _Parts(
            pool,
            wakeup,
            collector,
            Dispatcher(tasks, worker_ids, pool, collector, wakeup),
            Leases(database, list(worker_ids.values()), on_deprecated=request.drain),
            Listener(database, worker_ids, on_tasks=wakeup.notify),
        )


def _tasks(database: Database, capable: Capabilities, flows: Sequence[FlowDescription]) -> Tasks:
    if capable.is_ours:
        return BatchTasks(database)
    logger.warning("another implementation's pgflow schema is there: working with the contract's functions alone")
    return ContractTasks(database, [(flow.slug, step_slug) for flow in flows for step_slug in flow.recording_steps])


def _learn_flows(pool: Pool, request: StopRequest) -> list[FlowDescription]:
    while (described := pool.describe_flows(_LOOK_SECONDS)) is None:
        if request.came:
            raise StopRequested
    if described.threads:
        logger.warning(
            "importing the flows started threads (%s), which pool processes do not inherit; start them in the "
            "handler, or use --no-preload",
            ", ".join(described.threads),
        )
    return described.flows


def _compile(database: Database, flows: Sequence[FlowDescription], *, allow_data_loss: bool) -> None:
    for flow in flows:
        compilation = require_compiled(database, flow.slug, flow.shape_json, allow_data_loss=allow_data_loss)
        for change in compilation.changes:
            logger.warning("%s: changed in the database, as the code has it: %s", flow.slug, change)


def _drain(database: Database, parts: _Parts, request: StopRequest) -> None:
    """Stop claiming, let what runs finish or meet its deadline, deliver. A second request kills what runs and
    leaves the database a few seconds; threads that still wait for it then end with the process."""
    logger.info("draining: no new tasks, waiting for those that run")
    pool, collector = parts.pool, parts.collector
    parts.listener.stop()
    parts.dispatcher.stop()
    has_stopped = request.wait_unless_urgent(parts.dispatcher.wait_until_stopped)
    if not has_stopped or not request.wait_unless_urgent(pool.wait_until_empty):
        logger.info("ending at once: running tasks are killed and handed back")
    pool.stop("the worker was ended")
    request.only_delivery_is_left()
    request.wait_patiently(parts.dispatcher.wait_until_stopped)
    collector.stop()
    undelivered = 0 if request.wait_patiently(collector.wait_until_stopped) else collector.abandon()
    if collector.late:
        logger.warning("%d results came too late and were dropped", collector.late)
    parts.leases.stop()
    if not request.wait_patiently(parts.leases.wait_until_stopped):
        parts.leases.abandon()
    _end(pool)
    if undelivered:
        raise UndeliveredError(count=undelivered, target=database.target)


def _end(pool: Pool) -> None:
    if not pool.wait_until_ended(PATIENCE_SECONDS):
        pool.abandon()


def _hide_main() -> None:
    """Keep pool processes from importing this process's main module again (the command line, the user's
    script): measured, 53-64 ms a start with it and 30-36 without."""
    sys.modules["__pgflow_main__"] = sys.modules["__main__"]  # a module without references is emptied
    sys.modules["__main__"] = types.ModuleType("__main__")


def log_to_stderr(level: int) -> None:
    """Log this process's events on standard error, and what handlers print whatever the level. The pool's own
    complaints about a database that is away stay out: the parts that need it say what they do about it."""
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=level, stream=output.unhindered(2)
    )
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    printed.logger.setLevel(logging.INFO)
