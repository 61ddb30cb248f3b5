"""The life of a dispatcher process: start, serve, drain, end. The one place that wires a worker's parts."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pgflow.database import Database, capabilities, schema, workers
from pgflow.database.capabilities import Capabilities
from pgflow.database.contract_tasks import ContractTasks
from pgflow.database.flows import require_compiled
from pgflow.database.tasks import BatchTasks, Tasks
from pgflow.errors import UndeliveredError, UsageError
from pgflow.process import identity
from pgflow.target import is_batch
from pgflow.worker import launch
from pgflow.worker.admission import Admission
from pgflow.worker.bell import TaskBell
from pgflow.worker.collector import Collector
from pgflow.worker.dispatcher import Dispatcher
from pgflow.worker.flows import FlowDescription
from pgflow.worker.holdings import Holdings
from pgflow.worker.leases import Leases
from pgflow.worker.listener import Listener
from pgflow.worker.options import Options
from pgflow.worker.pool import Pool
from pgflow.worker.rescue import Rescue
from pgflow.worker.stopping import StopRequest, StopRequested
from pgflow.worker.wakeup import Wakeup
from pgflow.worker.watchdog import Watchdog

logger = logging.getLogger(__name__)

CONNECTIONS = 4
"""One each for the dispatcher and the collector, two for the rescue. The leases and the listener have their own beside
them."""
_LOOK_SECONDS = 0.2


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
    with launch.started_pool(options, database.conninfo) as pool:
        serve_with(pool, database, options, on_ready, request)


def serve_with(
    pool: Pool,
    database: Database,
    options: Options,
    on_ready: Callable[[list[str]], None],
    request: StopRequest,
    before_serving: Callable[[], None] = lambda: None,
) -> None:
    """``serve``, with a pool that was launched before. It has ended then, unless this raises. ``before_serving`` is
    called when the flows are compiled, before others know of this worker; it may raise StopRequested."""
    if database.max_connections < CONNECTIONS:
        raise UsageError(
            message=f"A worker needs a database with max_connections of at least {CONNECTIONS}, one for each of its "
            f"threads, got {database.max_connections}"
        )
    try:
        with database.connection() as connection:  # while the forkserver imports the flows
            schema.ensure(connection)
            capable = capabilities.look(connection)
        flows = _learn_flows(pool, request)
        _limit(pool, options, flows)
        _compile(database, flows, options)
        before_serving()
        worker_ids = {flow.slug: str(uuid.uuid4()) for flow in flows}
        process = identity.of_this_process()
        register = partial(workers.register, name=f"pgflow-py@{process.host}:{process.pid}", process=process)
        register(database, worker_ids)
    except StopRequested:
        logger.info("stopped before it had started")
        pool.abandon()
        return
    parts = _Parts.wired(database, _tasks_of(capable, flows), pool, worker_ids, register, options, request)
    if capable.is_ours:
        parts.wakeup.use(TaskBell(database, worker_ids, parts.listener))
        parts.listener.start()
    for part in (parts.collector, parts.leases, parts.rescue, parts.dispatcher, parts.watchdog):
        part.start()
    try:
        on_ready(list(worker_ids))
        request.wait()
    finally:
        _drain(database, parts, options.grace, request)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts of a worker that have threads of their own."""

    pool: Pool
    wakeup: Wakeup
    collector: Collector
    dispatcher: Dispatcher
    leases: Leases
    rescue: Rescue
    listener: Listener
    watchdog: Watchdog
    reserved: Database
    """The leases' own, whose connection nothing else uses."""

    @staticmethod
    def wired(
        database: Database,
        tasks_in: Callable[[Database], Tasks],
        pool: Pool,
        worker_ids: Mapping[str, str],
        register: Callable[[Database, Mapping[str, str]], None],
        options: Options,
        request: StopRequest,
    ) -> _Parts:
        wakeup, holdings, tasks, reserved = Wakeup(), Holdings(), tasks_in(database), database.reserved()
        ids = list(worker_ids.values())
        collector = Collector(tasks, wakeup, holdings, lambda: pool.is_sated)
        pool.report_all_to(collector.put_all)
        admission = Admission(options.min_free_memory)
        dispatcher = Dispatcher(tasks, worker_ids, pool, collector, wakeup, holdings, admission)
        leases = Leases(
            *(reserved, tasks_in(reserved), worker_ids, holdings),
            register=register,
            on_deprecated=request.drain,
            on_lost=pool.condemn,
        )
        rescue = Rescue(database, tasks, ids)

        def sever() -> None:
            database.sever()
            reserved.sever()

        return _Parts(
            pool,
            wakeup,
            collector,
            dispatcher,
            leases,
            rescue,
            Listener(database, worker_ids, on_tasks=wakeup.notify),
            Watchdog([*pool.pulses, *(part.pulse for part in (dispatcher, collector, leases, rescue))], sever),
            reserved,
        )


def _tasks_of(capable: Capabilities, flows: Sequence[FlowDescription]) -> Callable[[Database], Tasks]:
    if capable.is_ours:
        return BatchTasks
    logger.warning("another implementation's pgflow schema is there: working with the contract's functions alone")
    recording = [(flow.slug, step_slug) for flow in flows for step_slug in flow.recording_steps]
    return lambda database: ContractTasks(database, recording)


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


def _limit(pool: Pool, options: Options, flows: Sequence[FlowDescription]) -> None:
    options.require_room(flows, pool.footprint())
    pool.limit(options.limits(flows))
    for warning in options.warnings(flows):
        logger.warning("%s", warning)


def _compile(database: Database, flows: Sequence[FlowDescription], options: Options) -> None:
    # What changes of a batch are the options that somebody has just given.
    level = logging.INFO if all(map(is_batch, options.flows)) else logging.WARNING
    for flow in flows:
        compilation = require_compiled(database, flow.slug, flow.shape_json, allow_data_loss=options.allow_data_loss)
        for change in compilation.changes:
            logger.log(level, "%s: changed in the database, as the code has it: %s", flow.slug, change)


def _drain(database: Database, parts: _Parts, grace: float | None, request: StopRequest) -> None:
    """Stop claiming, let what runs finish or meet its deadline, deliver. After ``grace`` seconds, or at a second
    request, what runs is killed and handed back; after a second request the database has a few seconds, and threads
    that still wait for it then end with the process."""
    pool, collector = parts.pool, parts.collector
    until = math.inf if grace is None else time.monotonic() + grace
    parts.listener.stop()
    parts.rescue.stop()
    parts.dispatcher.stop()
    logger.info("draining: no new tasks, waiting for those that run")
    pool.hand_back_waiting("the worker is stopping")
    has_stopped = request.wait_unless_urgent(parts.dispatcher.wait_until_stopped, until)
    pool.hand_back_waiting("the worker is stopping")
    if not has_stopped or not request.wait_unless_urgent(pool.wait_until_empty, until):
        logger.info("ending at once: running tasks are killed and handed back")
    pool.stop("the worker was ended")
    request.only_delivery_is_left()
    request.wait_patiently(parts.dispatcher.wait_until_stopped)
    # The watch may have taken tasks at their deadlines, whose verdicts wait for their stacks.
    request.wait_patiently(pool.wait_until_empty)
    collector.stop()
    undelivered = 0 if request.wait_patiently(collector.wait_until_stopped) else collector.abandon()
    if collector.late:
        logger.warning("%d results came too late and were dropped", collector.late)
    parts.leases.stop()
    if not request.wait_patiently(parts.leases.wait_until_stopped):
        parts.leases.abandon()
    request.wait_patiently(parts.rescue.wait_until_stopped)
    parts.reserved.close()
    parts.watchdog.stop()
    launch.end(pool)
    if undelivered:
        raise UndeliveredError(count=undelivered, target=database.target)
