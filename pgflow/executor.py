"""The life of one task: context, handler, input, execution under a timeout, output, error text.

Each function stands on its own. A worker's pool process calls ``run``, whose deadline the slot
enforces from outside; ``execute`` does the same without a worker, in a process of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pgflow import codec
from pgflow.context import Context, FlowInputSource
from pgflow.errors import (
    HandlerFailedError,
    HandlerNotFoundError,
    PgflowError,
    TaskCrashedError,
    TaskTimedOutError,
    UsageError,
)
from pgflow.flow import Flow, takes_context
from pgflow.outcome import NO_RETRY, Completed, Crashed, Failed, Outcome, TimedOut
from pgflow.process import card, forked, stack
from pgflow.retry import Fail, Retry

Handler = Callable[..., Any]
Kind = Literal["root", "dependent", "map"]

DEFAULT_TIMEOUT_SECONDS = 30.0
MAX_ERROR_CHARACTERS = 2_000
MAX_TRACEBACK_CHARACTERS = 8_000
_BARS = re.compile(r"^ *\| ")
"""What stands before the frames of a group's exceptions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One claimed task with its input decoded.

    ``input`` is the run's input (``root``) or the element (``map``); ``deps`` the outputs by step slug
    (``dependent``). ``kind`` is derived when left out: dependent if there are deps, else root.
    """

    run_id: str
    step_slug: str
    task_index: int = 0
    attempt: int = 1
    input: Any = None
    deps: Mapping[str, Any] | None = None
    kind: Kind | None = None

    def effective_kind(self) -> Kind:
        """``kind``, or what it is derived to be."""
        return self.kind or ("dependent" if self.deps else "root")


def build_context(task: Task, database: FlowInputSource | None) -> Context:
    """The context of a task. A root single step has its flow input already; for the others it is not
    loaded until it is read."""
    loaded = {"flow_input": task.input} if task.effective_kind() == "root" else {}
    return Context(
        run_id=task.run_id,
        step_slug=task.step_slug,
        task_index=task.task_index,
        attempt=task.attempt,
        database=database,
        **loaded,
    )


def get_handler(flow: Flow, step_slug: str) -> Handler:
    """The step's handler. Raises HandlerNotFoundError ``No handler defined for step: <slug>``."""
    return flow.handler(step_slug)


def prepare_input(task: Task, ctx: Context) -> Any:
    """What the handler gets first: the run's input (root), the dependencies' outputs by step slug, ``{}``
    when all of them were skipped (dependent), or the element (map)."""
    match task.effective_kind():
        case "root":
            return ctx.flow_input
        case "dependent":
            return dict(task.deps or {})
        case "map":
            return task.input


def execute_with_timeout(handler: Handler, input: Any, ctx: Context, timeout: float) -> Any:
    """Run ``handler`` in a process of its own and hard-kill it, and what it started, at the deadline.

    ``timeout`` is in seconds. Takes any callable, lambdas and closures included. Returns the output as
    JSON gives it back. Raises UsageError for a timeout that is not positive, TaskTimedOutError,
    TaskCrashedError, or HandlerFailedError with ``serialize_error``'s text, or with ``serialize_output``'s for
    an output that is not JSON.
    """
    match _run_apart(lambda: _call_and_encode(handler, input, ctx), timeout):
        case Completed(output):
            return codec.decode(output)
        case TimedOut():
            raise TaskTimedOutError(milliseconds=card.milliseconds(timeout))
        case Crashed(error):
            raise TaskCrashedError(message=error)
        case Failed(error):
            raise HandlerFailedError(message=error.partition("\n")[0])
    raise AssertionError("unreachable: _run_apart has four outcomes")


def serialize_output(output: Any) -> str:
    """JSON text that jsonb is sure to accept.

    Raises OutputNotSerializableError ``Output is not JSON-serializable: <reason> at <path>``.
    """
    return codec.encode(output)


def serialize_error(error: object) -> str:
    """One text for whatever went wrong: a str as it is, an exception ``RuntimeError: Something broke``,
    anything else its repr. Never fails; at most ``MAX_ERROR_CHARACTERS`` long; storable in PostgreSQL."""
    try:
        text = _error_text(error)
    except BaseException as failure:  # noqa: BLE001 - a hostile __str__ may raise anything
        text = f"{_class_name(error)}: <its text raised {_class_name(failure)}>"
    return _storable(text, MAX_ERROR_CHARACTERS)


def execute(flow: Flow, task: Task, database: FlowInputSource | None, *, timeout: float | None = None) -> Outcome:
    """The whole life of a task, in a process of its own; never raises for what the handler did.

    ``timeout`` is in seconds; without one it is the step's, else the flow's, else 30. Raises UsageError for one that
    is not positive.
    """
    try:
        get_handler(flow, task.step_slug)
    except HandlerNotFoundError as error:
        return Failed(str(error))
    seconds = timeout if timeout is not None else flow.timeout_of(task.step_slug) or DEFAULT_TIMEOUT_SECONDS
    return _run_apart(lambda: run(flow, task, database), seconds)


def run(flow: Flow, task: Task, database: FlowInputSource | None) -> Completed | Failed:
    """The life of a task in this process, without a deadline; never raises for what the handler did."""
    try:
        handler = get_handler(flow, task.step_slug)
        ctx = build_context(task, database)
        prepared = prepare_input(task, ctx)
    except PgflowError as error:
        return Failed(serialize_error(str(error)))
    return _call_and_encode(handler, prepared, ctx)


def _call_and_encode(handler: Handler, prepared: Any, ctx: Context) -> Completed | Failed:
    try:
        output = _call(handler, prepared, ctx)
    except BaseException as error:  # noqa: BLE001 - sys.exit, KeyboardInterrupt: this task's failure, no more
        return Failed(failure_text(error), _retry_delay(error))
    try:
        return Completed(serialize_output(output))
    except PgflowError as error:
        return Failed(serialize_error(str(error)))


def _call(handler: Handler, prepared: Any, ctx: Context) -> Any:
    limit = sys.getrecursionlimit()
    try:
        result = handler(prepared, ctx) if takes_context(handler) else handler(prepared)
    finally:
        sys.setrecursionlimit(limit)  # what follows needs it
    if not inspect.isawaitable(result):
        return result
    try:
        return asyncio.run(_awaited(result))
    finally:
        sys.setrecursionlimit(limit)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def _error_text(error: object) -> str:
    if isinstance(error, str):
        return str.__str__(error)
    if isinstance(error, BaseException):
        message = str.__str__(str(error)).strip()  # the first line has to say something
        return f"{_class_name(error)}: {message}" if message else _class_name(error)
    return str.__str__(repr(error))


def _class_name(value: object) -> str:
    """The name of the value's class, whatever its metaclass says."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name


def _retry_delay(error: BaseException) -> int | None:
    match error:
        case Retry():
            return error.after
        case Fail():
            return NO_RETRY
    return None


def failure_text(error: BaseException) -> str:
    """The error in a line, then its traceback from the handler on, chained causes included."""
    try:
        lines = "".join(traceback.format_exception(error)).splitlines()
        history = "\n".join(_without_our_frames(lines))
    except BaseException:  # noqa: BLE001 - a hostile exception must not cost the verdict
        history = "<the traceback could not be formatted>"
    return f"{serialize_error(error)}\n{_storable(history, MAX_TRACEBACK_CHARACTERS)}"


def _without_our_frames(lines: list[str]) -> list[str]:
    kept: list[str] = []
    ours = False
    for raw_line in lines:
        line = _BARS.sub("", raw_line)
        if line.startswith('  File "'):
            ours = line.startswith((f'  File "{__file__}"', f'  File "{asyncio.runners.__file__}"'))
        elif not line.startswith("  "):
            ours = False
        if not ours:
            kept.append(raw_line)
    return kept


def _storable(text: str, limit: int) -> str:
    """Text that PostgreSQL can store: no NUL, no lone surrogates, at most ``limit`` characters."""
    clean = text.replace("\0", "\\0").encode(errors="backslashreplace").decode()
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def _run_apart(work: Callable[[], Completed | Failed], timeout: float) -> Completed | Failed | TimedOut | Crashed:
    """``work`` in a forked process; its verdict, or the card of its death."""
    if not timeout > 0:
        raise UsageError(message=f"timeout must be more than 0 seconds, got {timeout!r}")
    end = forked.run(lambda: _to_wire(work()), timeout)
    evidence = card.Evidence(
        frames=stack.handler_frames(end.frames, __file__),
        usage=end.usage,
        elapsed=end.elapsed,
        exit_code=None if end.timed_out else end.exit_code,
    )
    if end.timed_out:
        return TimedOut(card.timed_out(timeout, evidence), timeout, evidence.values())
    if end.answer is None:
        return Crashed(card.crashed(evidence), end.exit_code, evidence.values())
    return _from_wire(end.answer)


def _to_wire(outcome: Completed | Failed) -> bytes:
    match outcome:
        case Completed(output):
            return b"C" + output.encode()
        case Failed(error, delay):
            return b"F%s\n%s" % (b"" if delay is None else b"%d" % delay, error.encode())


def _from_wire(answer: bytes) -> Completed | Failed:
    kind, text = answer[:1], answer[1:].decode()
    if kind == b"C":
        return Completed(text)
    delay, _, error = text.partition("\n")
    return Failed(error, int(delay) if delay else None)
