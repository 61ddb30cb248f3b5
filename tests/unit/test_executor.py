"""The executor's functions, each on its own, with real processes and without a database."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pgflow import Context, Fail, Flow, Retry
from pgflow.errors import (
    FlowInputUnavailableError,
    HandlerFailedError,
    HandlerNotFoundError,
    OutputNotSerializableError,
    TaskCrashedError,
    TaskTimedOutError,
    UsageError,
)
from pgflow.executor import (
    MAX_ERROR_CHARACTERS,
    Task,
    build_context,
    execute,
    execute_with_timeout,
    get_handler,
    prepare_input,
    serialize_error,
    serialize_output,
)
from pgflow.outcome import NO_RETRY, Completed, Crashed, Failed, TimedOut
from tests.support.waiting import process_exists, wait_until

RUN_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
flow = Flow("executor_test", timeout=5)


@flow.step
def double(number: int) -> int:
    """Plain, without a context."""
    return number * 2


@flow.step
async def double_later(number: int, ctx: Context) -> list[object]:
    """Asynchronous, with a context."""
    await asyncio.sleep(0)
    return [number * 2, ctx.step_slug, ctx.attempt]


@flow.step(depends_on=[double])
def add_flow_input(deps: dict[str, int], ctx: Context) -> int:
    """Reads the lazy flow input."""
    return int(deps["double"] + ctx.flow_input["offset"])


@flow.map(over=double)
def element(item: Any) -> Any:
    """Gives its element back."""
    return item


def hang(_input: object) -> bool:
    """Holds the GIL in C for ever."""
    return any(itertools.repeat(False))


@flow.step(timeout=1)
def hang_for_a_second(_input: object) -> bool:
    """Hangs; its own timeout is shorter than the flow's."""
    return hang(_input)


@flow.step
def fail(_input: object) -> NoReturn:
    """Raises, with a cause."""
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise RuntimeError("Something broke") from error


class Recorder:
    """A database stub that counts what is asked of it."""

    def __init__(self, text: str | None) -> None:
        self.text = text
        self.asked: list[str] = []

    def flow_input(self, run_id: str) -> str | None:
        self.asked.append(run_id)
        return self.text


def task(step_slug: str, **values: Any) -> Task:
    return Task(run_id=RUN_ID, step_slug=step_slug, **values)


CTX = build_context(task("double", input=1), None)


def test_a_context_tells_which_task_it_is_for() -> None:
    ctx = build_context(task("element", task_index=3, attempt=2, kind="map"), None)
    assert (ctx.run_id, ctx.step_slug, ctx.task_index, ctx.attempt, ctx.database) == (
        RUN_ID,
        "element",
        3,
        2,
        None,
    )


def test_the_flow_input_is_read_once_and_only_when_it_is_used() -> None:
    database = Recorder('{"offset": 10}')
    ctx = build_context(task("add_flow_input", deps={"double": 1}), database)
    assert database.asked == []
    assert ctx.flow_input == {"offset": 10}
    assert ctx.flow_input == {"offset": 10}
    assert database.asked == [RUN_ID]


def test_a_root_single_step_has_its_flow_input_without_a_query() -> None:
    assert build_context(task("double", input=None, kind="root"), None).flow_input is None


@pytest.mark.parametrize("database", [None, Recorder(None)])
def test_a_flow_input_that_cannot_be_had_is_an_error(database: Recorder | None) -> None:
    ctx = build_context(task("element", kind="map", input=1), database)
    with pytest.raises(FlowInputUnavailableError, match=RUN_ID):
        _ = ctx.flow_input


def test_an_unknown_step_has_no_handler() -> None:
    assert get_handler(flow, "double") is double
    with pytest.raises(HandlerNotFoundError) as error:
        get_handler(flow, "missing")
    assert str(error.value) == "No handler defined for step: missing"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"input": {"a": 1}}, {"a": 1}),
        ({"input": 0, "kind": "root"}, 0),
        ({"deps": {"double": 4}}, {"double": 4}),
        ({"deps": {}, "kind": "dependent"}, {}),
        ({"kind": "dependent"}, {}),
        ({"input": False, "kind": "map"}, False),
        ({"input": None, "kind": "map"}, None),
    ],
)
def test_the_input_is_what_the_kind_of_step_gets(values: dict[str, Any], expected: object) -> None:
    given = task("any", **values)
    assert prepare_input(given, build_context(given, None)) == expected


@pytest.mark.parametrize("output", [0, False, "", None, [], {}, 1.5, "ü/\N{SNOWMAN}", [1, {"a": None}]])
def test_outputs_come_back_as_json_gives_them(output: object) -> None:
    assert execute_with_timeout(lambda _: output, None, CTX, 5) == output


def test_a_tuple_comes_back_as_a_list() -> None:
    assert execute_with_timeout(lambda _: (1, 2), None, CTX, 5) == [1, 2]


def test_a_handler_runs_in_a_process_of_its_own() -> None:
    assert execute_with_timeout(lambda _: os.getpid(), None, CTX, 5) != os.getpid()


@pytest.mark.quiet
@pytest.mark.parametrize(
    "handler",
    [
        hang,
        lambda _: time.sleep(60),
        lambda _: (signal.signal(signal.SIGTERM, signal.SIG_IGN), hang(_)),
        lambda _: (signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()), hang(_)),
    ],
    ids=["gil", "sleep", "ignores SIGTERM", "blocks every signal"],
)
def test_a_handler_is_killed_at_its_deadline(handler: Any) -> None:
    started = time.monotonic()
    with pytest.raises(TaskTimedOutError) as error:
        execute_with_timeout(handler, None, CTX, 0.1)
    assert str(error.value) == "Task timed out after 100ms"
    assert 0.1 <= time.monotonic() - started < 0.5


def test_what_a_handler_started_dies_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    def spawn(_input: object) -> None:
        sleeper = subprocess.Popen(["sleep", "1000"])
        pid_file.write_text(str(sleeper.pid))
        sleeper.wait()

    with pytest.raises(TaskTimedOutError):
        execute_with_timeout(spawn, None, CTX, 0.5)
    pid = int(pid_file.read_text())
    wait_until(lambda: not process_exists(pid), "the subprocess dies")


def test_a_daemon_that_holds_the_pipe_does_not_delay_the_verdict() -> None:
    def leave_a_child(_input: object) -> None:
        if os.fork() == 0:
            time.sleep(60)
        os._exit(3)

    started = time.monotonic()
    with pytest.raises(TaskCrashedError, match="ended with exit code 3"):
        execute_with_timeout(leave_a_child, None, CTX, 30)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (lambda _: ctypes.string_at(0), "killed by SIGSEGV; it was in string_at"),
        (lambda _: os._exit(0), "ended with exit code 0"),
        (lambda _: os._exit(9), "ended with exit code 9"),
        (lambda _: os.kill(os.getpid(), signal.SIGKILL), "killed by SIGKILL"),
        (lambda _: os.closerange(3, 256), "ended with exit code 1"),
    ],
)
def test_a_crash_is_an_error_that_names_the_death(handler: Any, words: str) -> None:
    with pytest.raises(TaskCrashedError, match=words):
        execute_with_timeout(handler, None, CTX, 30)


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (fail, "RuntimeError: Something broke"),
        (lambda _: (_ for _ in ()).throw(SystemExit(5)), "SystemExit: 5"),
        (lambda _: float("nan"), "Output is not JSON-serializable: "),
    ],
)
def test_what_the_handler_raised_becomes_an_error(handler: Any, text: str) -> None:
    with pytest.raises(HandlerFailedError) as error:
        execute_with_timeout(handler, None, CTX, 5)
    assert str(error.value).startswith(text)


def test_serialize_output_names_the_bad_value_and_its_path() -> None:
    assert serialize_output({"a": [1, None, "/"]}) == '{"a":[1,null,"/"]}'
    with pytest.raises(OutputNotSerializableError, match=r"^Output is not JSON-serializable: .* at \$\.a\[1\]$"):
        serialize_output({"a": [1, float("inf")]})


class NoTextError(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise SystemExit(1)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("as it is", "as it is"),
        (RuntimeError("Something broke"), "RuntimeError: Something broke"),
        (RuntimeError(), "RuntimeError"),
        (NoTextError(), "NoTextError: <its text raised SystemExit>"),
        (42, "42"),
        ({"a": 1}, "{'a': 1}"),
        ("nul \0 and surrogate \ud800", "nul \\0 and surrogate \\ud800"),
    ],
)
def test_serialize_error_makes_a_text_of_anything(error: object, text: str) -> None:
    assert serialize_error(error) == text


def test_serialize_error_is_bounded() -> None:
    assert len(serialize_error(ValueError("x" * 1_000_000))) == MAX_ERROR_CHARACTERS


def test_execute_completes_a_task_of_each_kind() -> None:
    database = Recorder('{"offset": 10}')
    assert execute(flow, task("double", input=4), None) == Completed("8")
    assert execute(flow, task("double_later", input=4, attempt=2), None) == Completed('[8,"double_later",2]')
    assert execute(flow, task("add_flow_input", deps={"double": 8}), database) == Completed("18")
    assert execute(flow, task("element", input="x", kind="map"), None) == Completed('"x"')


def test_execute_never_raises_for_what_the_handler_did() -> None:
    outcome = execute(flow, task("fail", input=None), None)
    assert isinstance(outcome, Failed)
    first, *rest = outcome.error.splitlines()
    assert first == "RuntimeError: Something broke"
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[1].startswith(f'  File "{__file__}"')
    assert "KeyError: 'inner'" in rest
    assert "pgflow/executor.py" not in outcome.error
    assert execute(flow, task("missing"), None) == Failed("No handler defined for step: missing")
    assert isinstance(execute(flow, task("double", input=1), None, timeout=0.000001), TimedOut | Completed)


@pytest.mark.parametrize(
    ("error", "delay", "text"),
    [
        (Retry("rate limited", after=30), 30, "Retry: rate limited"),
        (Retry(after=0), 0, "Retry"),
        (Fail("not a picture"), NO_RETRY, "Fail: not a picture"),
        (ValueError("no"), None, "ValueError: no"),
    ],
)
def test_a_handler_may_say_whether_and_when_it_is_tried_again(error: Exception, delay: int | None, text: str) -> None:
    own = Flow("own")

    @own.step
    def wishes(_input: Any) -> None:
        raise error

    outcome = execute(own, task("wishes"), None)
    assert isinstance(outcome, Failed)
    assert (outcome.retry_delay, outcome.error.splitlines()[0]) == (delay, text)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_more_than_nothing(timeout: float) -> None:
    with pytest.raises(UsageError, match="timeout must be more than 0 seconds, got"):
        execute(flow, task("double", input=1), None, timeout=timeout)


class HostileText(str):
    def replace(self, *_: Any) -> str:
        raise ValueError("no")


class HostileMeta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise ValueError("no")


class NamelessError(Exception, metaclass=HostileMeta):
    pass


@pytest.mark.parametrize(
    ("error", "text"),
    [(HostileText("plain"), "plain"), (NamelessError("why"), "NamelessError: why"), (NamelessError(), "NamelessError")],
)
def test_serialize_error_asks_no_class_for_its_opinion(error: object, text: str) -> None:
    assert serialize_error(error) == text


@pytest.mark.parametrize("after", [-1, 0.5, True, 1 << 31, "5"])
def test_a_retry_is_after_whole_seconds(after: Any) -> None:
    with pytest.raises(ValueError, match="whole seconds from 0 to 2147483647, got"):
        Retry(after=after)


def test_a_tasks_timeout_is_the_given_one_else_the_steps() -> None:
    given = execute(flow, task("hang_for_a_second", input=None), None, timeout=0.2)
    declared = execute(flow, task("hang_for_a_second", input=None), None)
    assert isinstance(given, TimedOut)
    assert isinstance(declared, TimedOut)
    assert (given.timeout, declared.timeout) == (0.2, 1)
    assert given.error.startswith("Task timed out after 200ms; it was in hang (test_executor.py:")
    assert "in hang_for_a_second" in given.error


def test_an_unloaded_flow_input_without_a_database_fails_the_task() -> None:
    outcome = execute(flow, task("add_flow_input", deps={"double": 1}), None)
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith("FlowInputUnavailableError: The flow input of run")


def test_a_crash_is_an_outcome_with_its_exit_code() -> None:
    @flow.step
    def crash(_input: object) -> NoReturn:
        os._exit(4)

    outcome = execute(flow, task("crash", input=None), None)
    assert isinstance(outcome, Crashed)
    assert outcome.exit_code == 4
