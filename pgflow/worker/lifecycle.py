"""The life of a dispatcher process: start, serve, drain, end. The one place that wires a worker's parts."""

from __future__ import annotations

import logging
import os
import socket
import sys
import types
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pgflow.database import Database, schema, workers
from pgflow.database.flows import require_compiled
from pgflow.errors import UndeliveredError
from pgflow.worker.collector import Collector
from pgflow.worker.dispatcher import Dispatcher
from pgflow.worker.leases import Leases
from pgflow.worker.pool import FlowDescription, Pool
from pgflow.worker.stopping import PATIENCE_SECONDS, StopRequest, StopRequested
from pgflow.worker.wakeup import Wakeup

logger = logging.getLogger(__name__)

CONNECTIONS = 4
"""One each for the dispatcher, the collector and the leases, and one to start with."""
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
    wakeup = Wakeup()
    collector = Collector(database, wakeup)
    pool = Pool(options.flows, database.conninfo, options.slots, preload=options.preload, on_end=collector.put)
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
    leases = Leases(database, list(worker_ids.values()), on_deprecated=request.drain)
    dispatcher = Dispatcher(database, worker_ids, pool, collector, wakeup)
    for part in (collector, leases, dispatcher):
        part.start()
    try:
        on_ready(list(worker_ids))
        request.wait()
    finally:
        _drain(database, dispatcher, pool, collector, leases, request)


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
        require_compiled(database, flow.slug, flow.shape_json, allow_data_loss=allow_data_loss)


def _drain(
    database: Database,
    dispatcher: Dispatcher,
    pool: Pool,
    collector: Collector,
    leases: Leases,
    request: StopRequest,
) -> None:
    """Stop claiming, let what runs finish or meet its deadline, deliver. A second request kills what runs and
    leaves the database a few seconds; threads that still wait for it then end with the process."""
    logger.info("draining: no new tasks, waiting for those that run")
    dispatcher.stop()
    has_stopped = request.wait_unless_urgent(dispatcher.wait_until_stopped)
    if not has_stopped or not request.wait_unless_urgent(pool.wait_until_empty):
        logger.info("ending at once: running tasks are killed and handed back")
    pool.stop("the worker was ended")
    request.only_delivery_is_left()
    request.wait_patiently(dispatcher.wait_until_stopped)
    collector.stop()
    undelivered = 0 if request.wait_patiently(collector.wait_until_stopped) else collector.abandon()
    leases.stop()
    request.wait_patiently(leases.wait_until_stopped)
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
    """Log this process's events on standard error. The pool's own complaints about a database that is away
    stay out: the parts that need it say what they do about it."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=level)
    logging.getLogger("psycopg").setLevel(logging.ERROR)
