"""``pgflow worker``: this process is the dispatcher."""

from __future__ import annotations

import click

from pgflow.cli.options import (
    Duration,
    allow_data_loss_option,
    database_option,
    limit_options,
    no_preload_option,
    slots_option,
)


@click.command()
@click.argument("flows", metavar="[FLOW...]", nargs=-1)
@click.option(
    "--batch",
    "batches",
    metavar="NAME",
    multiple=True,
    help="Work on the items of a batch that `pgflow batch` feeds elsewhere; repeatable. Its target is loaded here: a "
    "file must have the same absolute path.",
)
@database_option
@slots_option
@limit_options
@click.option(
    "--grace",
    type=Duration(),
    metavar="DURATION",
    help="How long running tasks may go on once asked to stop, then they are killed and handed back: 25s, 5m [default: "
    "until their deadlines].",
)
@allow_data_loss_option
@no_preload_option
def worker(
    flows: tuple[str, ...],
    batches: tuple[str, ...],
    database: str | None,
    slots: int | None,
    grace: float | None,
    allow_data_loss: bool,
    no_preload: bool,
    memory: int | None,
    max_address_space: int | None,
    max_tasks_per_process: int | None,
    max_memory_per_process: int | None,
    min_free_memory: int | None,
) -> None:
    """Serve FLOWs and batches until SIGTERM, SIGHUP or Ctrl-C, then finish what runs and end with 0.

    A second signal ends at once: what still runs is killed and handed back to the queue.
    """
    import logging

    from pgflow.database.batches import references
    from pgflow.database.choice import open_database
    from pgflow.process import descriptors
    from pgflow.worker import available_cores
    from pgflow.worker.lifecycle import CONNECTIONS, serve
    from pgflow.worker.logs import log_to_stderr
    from pgflow.worker.options import Options
    from pgflow.worker.stopping import StopRequest, stop_on_signals

    if not (flows or batches):
        raise click.UsageError("Name a FLOW, or a batch with --batch NAME.")
    log_to_stderr(logging.INFO)
    request = StopRequest()
    with stop_on_signals(request), open_database(database, max_connections=CONNECTIONS) as opened:
        options = Options(
            flows=(*flows, *references(opened, batches)),
            slots=slots or available_cores(),
            preload=not no_preload,
            allow_data_loss=allow_data_loss,
            memory=memory,
            address_space=max_address_space,
            tasks_per_process=max_tasks_per_process,
            memory_per_process=max_memory_per_process,
            min_free_memory=min_free_memory,
            grace=grace,
        )
        descriptors.allow(options.files)

        def on_ready(flow_slugs: list[str]) -> None:
            click.echo(f"ready: {', '.join(flow_slugs)} on {options.slots} slots", err=True)

        serve(opened, options, on_ready, request)
