"""``pgflow batch``: a function over a file of items."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgflow.cli.failures import INTERRUPTED, RUN_FAILED, ending_in_words
from pgflow.cli.options import Size, database_option, no_preload_option, slots_option
from pgflow.cli.program import program
from pgflow.errors import BatchExistsError, UsageError

if TYPE_CHECKING:
    from pgflow.batch import Batch, BatchOptions
    from pgflow.batch.options import Mode
    from pgflow.batch.progress import Display
    from pgflow.cli.interrupts import Interrupts

ValueT = TypeVar("ValueT")
_MODE_FLAGS = ("--resume", "--retry-failed", "--overwrite")
LOOK_SECONDS = 0.1


def _parsed(parse: Callable[[str], ValueT]) -> Callable[[click.Context, click.Parameter, str | None], ValueT | None]:
    """A callback for an option whose text ``parse`` takes, or raises ValueError."""

    def callback(_context: click.Context, _parameter: click.Parameter, text: str | None) -> ValueT | None:
        try:
            return None if text is None else parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return callback


def _format(text: str) -> Any:
    from pgflow.batch.items import ItemFormat

    return ItemFormat(text)


def _timeout(text: str) -> Any:
    from pgflow.batch.timeouts import parse_timeout

    return parse_timeout(text)


def _halt(text: str) -> Any:
    from pgflow.batch.halting import parse_halt

    return parse_halt(text)


@click.command()
@click.argument("target")
@click.option("--input", "source", default="-", metavar="FILE", help="The items [default: -, standard input].")
@click.option(
    "--format",
    "format",
    type=click.Choice(["jsonl", "json", "csv", "tsv", "lines"]),
    callback=_parsed(_format),
    help="What the input is [default: by its name, else lines].",
)
@click.option(
    "--columns",
    metavar="NAME,...",
    default="",
    callback=lambda _context, _parameter, names: tuple(filter(None, names.split(","))),
    help="Columns that the header of a CSV must have.",
)
@click.option(
    "--output",
    metavar="FILE",
    callback=lambda _context, _parameter, name: None if name == "-" else name,
    help="Where the results go, a line of JSON each [default: -, standard output]. Failures go to FILE.errors.jsonl.",
)
@click.option("--errors-in-output", is_flag=True, help='Write failures into the output, as {"index", "item", "error"}.')
@click.option(
    "--joblog", metavar="FILE", help="A line for each item, as GNU parallel's, with attempts, memory and CPU."
)
@click.option("--keep-order", is_flag=True, help="Write results in the order of the input, not as items finish.")
@slots_option
@click.option(
    "--timeout",
    metavar="DURATION|N%",
    callback=_parsed(_timeout),
    help=(
        "What an item may take: 30s, 5m, or a percentage of the median so far, which counts from 10 finished"
        " items on; until then an hour [default: 60s]."
    ),
)
@click.option(
    "--memory",
    type=Size(),
    metavar="SIZE",
    help="What an item may have resident, with what it starts: 512MiB, 2G. Past it, it is killed.",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    metavar="N",
    help="How often an item that fails is tried again [default: 0].",
)
@click.option(
    "--halt",
    metavar="now|soon,fail=N|N%",
    callback=_parsed(_halt),
    help=(
        "Give up when so many items have failed: now kills what runs, soon lets it finish. A percentage "
        "counts from 20 finished items on."
    ),
)
@click.option(
    "--on-bad-line",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="What to do about a line that is no item.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Take the first N items alone.")
@click.option("--shuffle", is_flag=True, help="Take items in random order, within a window of 50,000.")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with a batch: what is done, by its content, is not done again. The input may have grown.",
)
@click.option("--retry-failed", is_flag=True, help="Run the failed items of a batch again; no input is read.")
@click.option("--overwrite", is_flag=True, help="Delete the batch of this name, and its files, first.")
@click.option("--name", metavar="NAME", help="What the batch is called [default: made from target, input and output].")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Read and check the input, load the target, say what would be done; no database is used.",
)
@click.option("--quiet", is_flag=True, help="No progress and no summary.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output.")
@database_option
@no_preload_option
def batch(
    target: str,
    database: str | None,
    no_preload: bool,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    resume: bool,
    retry_failed: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Run TARGET over the items of a file, on all cores, and write what it returns.

    TARGET is a function that takes one item, package.module:function or path/file.py:function, or a flow whose one step
    is a map. Items are lines of JSON, a JSON array, a CSV with a header, or plain lines, also gzipped. Everything that
    is done is kept in the database: interrupted or killed, the batch goes on with --resume. Other machines help with
    `pgflow worker --batch NAME --database URL`.

    Exit codes: 0 all items went well, 1 some failed, 2 usage, 3 database, 130 interrupted.
    """
    from pgflow.batch import BatchOptions

    mode = _mode(resume=resume, retry_failed=retry_failed, overwrite=overwrite)
    if as_json and options["output"] is None:
        raise click.UsageError("--json prints on standard output: name a file for the results with --output.")
    given = BatchOptions(target=target, mode=mode, preload=not no_preload, **options)
    if dry_run:
        from pgflow.batch.rehearsal import rehearse

        for line in rehearse(given):
            click.echo(line)
        return
    _run(given, database, is_quiet=quiet, as_json=as_json)


def _mode(*, resume: bool, retry_failed: bool, overwrite: bool) -> Mode:
    if resume + retry_failed + overwrite > 1:
        raise click.UsageError("--resume, --retry-failed and --overwrite exclude each other.")
    if resume:
        return "resume"
    if retry_failed:
        return "retry_failed"
    return "overwrite" if overwrite else "new"


def _run(options: BatchOptions, database: str | None, *, is_quiet: bool, as_json: bool) -> None:
    from pgflow.cli.lines import RelayedLines
    from pgflow.worker.standby import Standby

    with RelayedLines() as lines, Standby(lines.writer) as standby:
        from pgflow.batch import Batch  # while the dispatcher imports what it needs
        from pgflow.cli.interrupts import Interrupts

        batch = Batch(database, options, tell=lambda line: lines.show(line), stderr=lines.writer, standby=standby)
        with Interrupts(batch.end_at_once) as interrupts:
            _start(batch, options, interrupts)
            lines.close_writer()
            display = _display(is_quiet=is_quiet, prints_results=options.output is None)
            before, lines.show = lines.show, display.print
            with display:
                _watch(batch, display, interrupts)
            lines.show = before
            if interrupts.came:
                lines.show("Interrupted: finishing what runs. Ctrl-C again ends it at once.")
            try:
                with ending_in_words():
                    batch.stop()
            finally:
                if interrupts.came:
                    _begin_line()
                _tell(batch, options, is_quiet=is_quiet, as_json=as_json)
    if not batch.is_complete and interrupts.came:
        sys.exit(INTERRUPTED)
    if batch.summary().failed or not batch.is_complete:
        sys.exit(RUN_FAILED)


def _begin_line() -> None:
    """What the terminal has echoed of a Ctrl-C is written over."""
    if sys.stderr.isatty():
        click.echo("\r", err=True, nl=False)


def _start(batch: Batch, options: BatchOptions, interrupts: Interrupts) -> None:
    """An interrupt ends the start, in which nothing has begun yet."""
    interrupts.raise_at_once = True
    try:
        batch.start()
    except BatchExistsError as error:
        raise UsageError(message=f"{error}\n  {_command(batch, options, '--resume')}") from None
    interrupts.raise_at_once = False


def _display(*, is_quiet: bool, prints_results: bool) -> Display:
    """Made, and rich imported, once items run."""
    from rich.console import Console

    from pgflow.batch.progress import display_on

    return display_on(Console(stderr=True), quiet=is_quiet, plain=prints_results and sys.stdout.isatty())


def _watch(batch: Batch, display: Display, interrupts: Interrupts) -> None:
    """Show how far the batch is until it is over, or interrupted."""
    is_over = False
    while not is_over:
        is_over = batch.is_over
        display.show(batch.look())
        if not is_over and interrupts.wait(LOOK_SECONDS):
            return


def _tell(batch: Batch, options: BatchOptions, *, is_quiet: bool, as_json: bool) -> None:
    """What came of it, and the command that goes on; that also when quiet, if the batch is not finished."""
    going_on = "--retry-failed" if batch.is_complete else "--resume"
    has_more = not batch.is_complete or batch.summary().failed
    command = _command(batch, options, going_on) if has_more else None
    summary = batch.summary(command)
    if not is_quiet:
        for line in summary.lines(_columns()):
            click.echo(line, err=True)
    elif not batch.is_complete:
        click.echo(f"Batch {batch.name} is not finished. To go on with it:\n  {command}", err=True)
    if as_json:
        click.echo(summary.to_json())


def _columns() -> int | None:
    """How wide the terminal is that the summary goes to, if it is one."""
    return os.get_terminal_size(sys.stderr.fileno()).columns if sys.stderr.isatty() else None


def _command(batch: Batch, options: BatchOptions, going_on: str) -> str:
    """This command, going on."""
    arguments = [argument for argument in sys.argv[1:] if argument not in _MODE_FLAGS]
    named = [] if options.name or options.output else ["--name", batch.name]
    return f"{program()} {shlex.join([*arguments, *named, going_on])}"
