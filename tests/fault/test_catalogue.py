"""The catalogue of hostile handlers: each among innocent neighbours on the other slots of one pool.

To add one: a handler in ``tests/flows/catalogue/`` and a line in ``CASES``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

from pgflow.database.tasks import ClaimedTask
from pgflow.outcome import Completed, Crashed, Failed, Outcome, Released, TimedOut
from tests.flows.catalogue.crash import framed
from tests.support.pool import WAIT_SECONDS, End, WatchedPool, kill, meet, watched_pool
from tests.support.waiting import wait_until

SLOTS = 4
NEIGHBOURS = 20
GRACE_SECONDS = 1.0
PROMPT_SECONDS = 5.0
PROMPT_TIMEOUT = 10
_FACTS = re.compile(
    r"ran \d+\.\d\d s(, used \d+\.\d\d s CPU, peak RSS \d+ [KMG]iB)?(, was stopped by a signal)?, attempt 1 of 1, the last"
)


@dataclass(frozen=True, slots=True)
class Case:
    """A hostile handler and the verdict that it is to get.

    ``spoils``: what it does to its process outlives its task, so the next test gets other processes. ``leaves``:
    what it started may go on as long as its process.
    """

    step: str
    input: object
    timeout: int
    verdict: type[Outcome]
    first_line: str
    exit_code: int | None = None
    stack: str = ""
    spoils: bool = False
    leaves: bool = False


def _case(
    step: str, verdict: type[Outcome], first_line: str, input: object = None, timeout: int = PROMPT_TIMEOUT, *,
    exit_code: int | None = None, stack: str = "", spoils: bool = False, leaves: bool = False,
    threads_die: bool = False,
) -> Any:  # fmt: skip
    marks: list[pytest.MarkDecorator] = []
    if threads_die:
        marks.append(pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"))
    name = "" if input is None else "-" + re.sub(r"[^\w ]", "", str(input))[:20]
    case = Case(step, input, timeout, verdict, first_line, exit_code, stack, spoils, leaves)
    return pytest.param(case, id=step + name, marks=marks)


def hangs(step: str, where: str = "", input: object = None, *, inside: str | None = None, **more: Any) -> Any:
    """Killed at its deadline; ``where`` is the place in the first line unless that is the handler, and ``inside`` the
    function that is on the stack if not the handler."""
    place = where or rf"{step} \(\w+\.py:\d+\)"
    sentence = f"Task timed out after 1000ms; it was in {place}"
    return _case(step, TimedOut, sentence, input, 1, stack=f", in {inside or step}\n", **more)


def hangs_somewhere(step: str, input: object = None, **more: Any) -> Any:
    """Killed at its deadline, and it cannot be told where it was."""
    return _case(step, TimedOut, "Task timed out after 1000ms", input, 1, **more)


def loses_its_result(step: str, input: object = None, **more: Any) -> Any:
    """Ends, and what it did to its process's channel keeps its result from coming out; killed at its deadline."""
    sentence = "Task crashed: its handler ended, but the result did not come out of its process.*"
    return _case(step, Crashed, sentence, input, 1, **more)


def crashes(step: str, death: str, exit_code: int, input: object = None, **more: Any) -> Any:
    """Ended by itself; ``death`` is what the first line says of it."""
    return _case(step, Crashed, f"Task crashed: the process {death}", input, exit_code=exit_code, **more)


def fails(step: str, first_line: str, input: object = None, **more: Any) -> Any:
    """Raised; the traceback starts at the handler."""
    return _case(step, Failed, first_line, input, stack=f", in {step}\n", **more)


def refused(output: str, reason: str, **more: Any) -> Any:
    """Returned what is no output."""
    return _case("return_output", Failed, f"Output is not JSON-serializable: {reason}", output, **more)


def completes(step: str, output: object, input: object = None, **more: Any) -> Any:
    """Nothing happened."""
    return _case(step, Completed, re.escape(json.dumps(output, separators=(",", ":"))), input, **more)


LIBRARY = r"\w+ \([\w.]+/\w+\.py:\d+\)"
IN_LIBRARY = LIBRARY + r", called from \w+\.py:\d+"
IN_STRING_AT = r"string_at \(ctypes/__init__\.py:\d+\), called from \w+\.py:\d+"

CASES = [
    # Hang.
    hangs("hang_with_the_gil"),
    hangs("hang_in_a_foreign_function"),
    hangs("hang_in_a_regex", r"match \(re/__init__\.py:\d+\), called from \w+\.py:\d+"),
    hangs("hang_in_sqlite"),
    hangs("hang_ignoring_sigterm"),
    hangs("hang_blocking_all_signals"),
    hangs_somewhere("hang_without_the_dump_signal"),
    hangs("spin"),
    hangs("swallow_everything"),
    hangs("oversleep"),
    hangs("deadlock"),
    hangs("read_what_nobody_writes"),
    hangs("hang_with_a_subprocess", IN_LIBRARY),
    hangs("hang_with_a_subprocess_in_a_session", IN_LIBRARY),
    hangs("hang_with_a_daemon"),
    hangs("hang_in_children"),
    hangs("hang_in_a_thread", IN_LIBRARY),
    hangs("hang_in_another_group", IN_LIBRARY),
    hangs("hang_under_another_name"),
    hangs("hang_undumpable", IN_LIBRARY),
    hangs_somewhere("hang_with_every_descriptor_closed"),
    hangs("hang_in_a_profiler", r"<lambda> \(\w+\.py:\d+\)"),
    hangs("hang_out_of_memory"),
    hangs("hang_in_del", r"__del__ \(\w+\.py:\d+\)"),
    hangs(
        "hang_in_del_of_the_input", r"__del__ \(\w+\.py:\d+\)", {}, inside="__del__",
    ),
    hangs("hang_in_repr_of_error", r"__repr__ \(\w+\.py:\d+\)", inside="__repr__"),
    hangs("stop_itself"),
    hangs_somewhere("become_another_program", ["sleep", "1000"]),
    hangs("never_await"),
    # The coroutine that waits is on nobody's stack.
    hangs("await_for_ever", LIBRARY, inside="run"),
    hangs("leave_a_task_that_refuses", LIBRARY, inside="run"),
    hangs("leave_a_thread_to_the_loop", LIBRARY, inside="run"),
    # Crash.
    crashes("segfault", f"was killed by SIGSEGV; it was in {IN_STRING_AT}", -11, stack=", in segfault\n"),
    crashes("segfault_unnoticed", "was killed by SIGSEGV", -11),
    crashes(
        "segfault_in_a_thread", f"was killed by SIGSEGV; it was in {IN_STRING_AT}", -11, stack=", in _read_address_0\n",
    ),
    crashes("overflow_the_stack", r"was killed by SIGSEGV; it was in .*", -11, stack=", in descend\n"),
    crashes("abort", r"was killed by SIGABRT; it was in abort \(\w+\.py:\d+\)", -6),
    crashes("exit_at_once", "ended with exit code 0", 0, 0),
    crashes("exit_at_once", "ended with exit code 3", 3, 3),
    crashes("exit_in_a_thread", "ended with exit code 4", 4),
    crashes("exit_by_watchdog", "ended with exit code 1", 1),
    crashes(
        "exit_in_del_of_the_input", "ended with exit code 0", 0, {}, timeout=2,
    ),
    crashes("signal_itself", "was killed by SIGKILL", -9, signal.SIGKILL),
    crashes("signal_itself", "was killed by SIGUSR1", -10, signal.SIGUSR1),
    crashes("signal_itself", "was killed by signal 40", -40, 40),
    crashes("signal_its_group", "was killed by SIGKILL", -9, signal.SIGKILL),
    crashes("sleep_until_the_alarm", "was killed by SIGALRM", -14),
    crashes("use_up_its_cpu", "was killed by SIGXCPU", -24, timeout=8),
    crashes("become_another_program", "ended with exit code 0", 0, ["true"]),
    crashes("become_another_program", "ended with exit code 1", 1, ["false"]),
    crashes("exit_and_leave_a_subprocess", "ended with exit code 3", 3),
    crashes("exit_and_leave_a_fork", "ended with exit code 3", 3),
    crashes("exit_0_and_leave_a_fork", "ended with exit code 0", 0),
    crashes("close_every_descriptor", "ended with exit code 9", 9),
    crashes("forget_all_modules", "ended with exit code 1", 1),
    crashes("break_len", "ended with exit code 1", 1),
    crashes("redirect_every_descriptor", "ended with exit code 0", 0),
    hangs_somewhere("write_to_every_descriptor", "garbage\n" * 9),
    hangs_somewhere("write_to_every_descriptor", framed(b"rubbish"), threads_die=True),
    hangs_somewhere("write_to_every_descriptor", "\xff" * 64, threads_die=True),
    completes("write_to_every_descriptor", "done", framed(pickle.dumps("rubbish"))),
    loses_its_result("write_to_every_pipe", "garbage\n" * 9),
    hangs_somewhere("hang_after_garbage", "garbage\n" * 9),
    # Raise.
    fails("exit_politely", "SystemExit: no more"),
    fails("recurse", "RecursionError: maximum recursion depth exceeded.*"),
    _case("recurse_in_c", Failed, "RecursionError: maximum recursion depth exceeded.*", stack=", in __eq__\n"),
    fails("ask_for_too_much_memory", "MemoryError"),
    fails("allocate_up_to_a_limit", "MemoryError"),
    fails("start_a_session", r"PermissionError: \[Errno 1\] Operation not permitted"),
    fails("read_standard_input", "EOFError: EOF when reading a line"),
    fails("raise_in_the_main_thread", "RootError"),
    fails("become_another_program", r"FileNotFoundError: \[Errno 2\] .*", ["no-such-program"]),
    fails("raise_error", "SystemExit: 5", "system_exit"),
    fails("raise_error", "KeyboardInterrupt", "keyboard_interrupt"),
    fails("raise_error", "GeneratorExit", "generator_exit"),
    fails("raise_error", "StopIteration: 1", "stop_iteration"),
    fails("raise_error", "CancelledError", "cancelled"),
    fails("raise_error", "RootError: not an Exception", "base"),
    fails("raise_error", "UnpicklableError: locked", "unpicklable"),
    fails("raise_error", "TextlessError: <its text raised RuntimeError>", "textless"),
    fails("raise_error", "LyingError: <its text raised TypeError>", "lying"),
    fails("raise_error", "ExitsInTextError: <its text raised SystemExit>", "exits_in_text"),
    fails("raise_error", r"ValueError: NUL \\0 and surrogate \\ud800", "not_storable"),
    fails("raise_error", "ValueError: x{1987}…", "long"),
    fails("raise_error", "ValueError: what happened", "blank_first_line"),
    fails(
        "raise_error", r"ExceptionGroup: g \(1 sub-exception\)", "nested",
    ),
    _case("raise_error", Failed, "ValueError: first", "many_lines", stack="\n" * 1000),
    fails("raise_error", "ValueError: noted", "odd_notes"),
    fails("raise_error", "ValueError: first", "in_a_circle"),
    fails("raise_in_a_coroutine", "RuntimeError: coroutine raised StopIteration", "stop_iteration"),
    fails("raise_in_a_coroutine", "CancelledError", "cancelled"),
    fails("raise_in_a_coroutine", "KeyboardInterrupt", "keyboard_interrupt"),
    # Return.
    refused("too_large", r"its text is larger than 67,108,864 bytes \(.*\) at \$"),
    refused("unpicklable", r"_thread\.lock is not a JSON type \(.*\) at \$"),
    refused("function", r"function is not a JSON type \(.*\) at \$"),
    refused("explosive", r"tests\.flows\.catalogue\.outputs\.Explosive is not a JSON type \(.*\) at \$"),
    refused("generator", r"generator is not a JSON type \(return list\(value\)\) at \$"),
    refused("async_generator", r"async_generator is not a JSON type \(.*\) at \$"),
    refused("coroutine_in_list", r"coroutine is not a JSON type \(await it\) at \$\[0\]"),
    _case("return_output", Failed, "RuntimeError: Task got bad yield: 42", "odd_awaitable"),
    _case("return_output", Failed, "RootError: .*", "odd_class"),
    _case("return_output", Completed, re.escape('{"a":1}'), "odd_dict"),
    refused("huge_int", r"an int has more than 4,300 digits \(.*\) at \$"),
    _case("return_unlimited_int", Failed, r".*: an int has more than 4,300 digits \(.*\) at \$", spoils=True),
    refused("int_key", r"the key 1 is not a string \(.*\) at \$"),
    refused("tuple_key", r"a key of type tuple is not a string \(.*\) at \$"),
    refused("none_key", r"the key None is not a string \(.*\) at \$"),
    refused("bytes", r"bytes is not a JSON type \(.*\) at \$"),
    refused("set", r"set is not a JSON type \(.*\) at \$"),
    refused("nan", r"NaN is not a JSON number \(.*\) at \$\[1\]\.x"),
    refused("infinity", r"Infinity is not a JSON number \(.*\) at \$"),
    refused("nul", r"a string contains NUL .* at \$\.a"),
    refused("nul_key", r'the key "\\u0000" contains NUL .* at \$'),
    refused("surrogate", r"a string contains the lone surrogate U\+DC80, .* at \$"),
    refused("deep", r"nested deeper than 1,000 levels.* at \$\[0\].*"),
    refused("circle", r"nested deeper than 1,000 levels.* at \$\[0\].*"),
    refused(
        "repeated", r"its text is larger than 67,108,864 bytes \(.*\) at \$", timeout=60,
    ),
    _case("return_output", Completed, '"x{60000000}"', "large", timeout=9),
    _case("return_out_of_memory", Failed, r"(Output is not JSON-serializable: .*|MemoryError)", spoils=True),
    _case("break_ujson", Failed, "KeyError: 'mock'", stack=", in <lambda>\n", spoils=True),
    # Go on as if nothing had happened.
    completes("signal_itself", "survived", signal.SIGTERM),
    completes("signal_itself", "survived", signal.SIGINT),
    completes("signal_itself", "survived", signal.SIGHUP),
    completes("signal_its_group", "survived", signal.SIGTERM),
    completes("print_a_lot", "printed"),
    completes("print_without_output", "printed", spoils=True),
    completes("close_its_streams", "closed", spoils=True),
    completes("fork_and_exit", "parent"),
    completes("fork_and_return", "parent"),
    completes("fork_and_raise", "parent"),
    completes("leave_a_subprocess", "left", leaves=True),
    completes("leave_a_thread", "left"),
    completes("hang_at_exit", "left"),
    completes("exit_in_a_thread_politely", "done"),
    completes("raise_in_a_thread", "done"),
    completes("raise_in_del", "done"),
    completes("litter", "done", spoils=True),
    completes("use_a_process_pool", [1, 2]),
    completes(
        "terminate_a_child", -signal.SIGTERM, timeout=1,
    ),
    completes("use_a_forkserver", [1, 2], leaves=True),
    completes("lose_its_folder", "lost", spoils=True),
    completes("take_a_name_that_is_cut", "named", spoils=True),
    completes(
        "lower_the_recursion_limit", "low", spoils=True,
    ),
    completes("patch_getpid", "patched", spoils=True),
    _case(
        "break_isinstance", Failed, "ValueError.*", spoils=True,
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def shared_pool() -> Iterator[WatchedPool]:
    with watched_pool("tests.flows.catalogue:flow", "catalogue", SLOTS) as running:
        yield running


@pytest.fixture
def pool(shared_pool: WatchedPool) -> Iterator[WatchedPool]:
    """The pool, idle; a test that fails takes its tasks and strays with it."""
    shared_pool.wait_until_idle()
    yield shared_pool
    if shared_pool.running():
        shared_pool.replace_processes()
    kill(shared_pool.strays())


def run_among_neighbours(pool: WatchedPool, case: Case) -> tuple[End, list[End]]:
    """The end of the hostile handler, and of those that ran on the other slots before, with and after it."""
    ends: list[End] = []
    started = SLOTS - 1
    for number in range(started):
        pool.start("add_one", number, WAIT_SECONDS)
    hostile = pool.start(case.step, case.input, case.timeout)
    verdict: End | None = None
    patience = time.monotonic() + case.timeout + WAIT_SECONDS
    while verdict is None or len(ends) < started:
        assert time.monotonic() < patience, f"{SLOTS} slots, {started} neighbours, {len(ends)} ended, {verdict}"
        if (verdict is None or started < NEIGHBOURS) and pool.try_to_start("add_one", started, WAIT_SECONDS):
            started += 1
        elif end := pool.next_end(0.05):
            if end.task is hostile:
                verdict = end
            else:
                ends.append(end)
    return verdict, ends


def outcomes(ends: Sequence[End]) -> set[Outcome]:
    return {end.outcome for end in ends}


def check_card(outcome: Outcome, case: Case) -> None:
    """The text says what happened, in a first line that stands on its own, and where."""
    text = outcome.output if isinstance(outcome, Completed) else getattr(outcome, "error", "")
    first_line, _, rest = text.partition("\n")
    assert re.fullmatch(case.first_line, first_line), text[:2000]
    assert case.stack in rest, text[:2000]
    if isinstance(outcome, TimedOut | Crashed):
        assert _FACTS.fullmatch(text.splitlines()[-1]), text
        assert ("it was in" in first_line) == (rest.startswith("Stack (most recent call last):\n  File ")), text
    if isinstance(outcome, Crashed):
        assert outcome.exit_code == case.exit_code
    assert "executor.py" not in text
    assert "\0" not in text.encode().decode()


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_handler_harms_nobody_but_itself(pool: WatchedPool, case: Case, tmp_path: Path) -> None:
    try:
        for _ in range(3):  # on a loaded machine a stack may take longer than DUMP_TIMEOUT_SECONDS
            end, neighbours = run_among_neighbours(pool, case)
            if not (case.verdict is TimedOut and case.stack and "it was in" not in str(end.outcome)):
                break
        assert type(end.outcome) is case.verdict, end.outcome
        check_card(end.outcome, case)
        if case.verdict is TimedOut:
            assert 1.0 <= pool.seconds(end) <= case.timeout + GRACE_SECONDS
        else:
            assert pool.seconds(end) <= (
                PROMPT_SECONDS if case.timeout == PROMPT_TIMEOUT else case.timeout + GRACE_SECONDS
            )
        harmed = [n for n in neighbours if n.outcome != Completed(str(int(n.task.input) + 1))]
        assert not harmed, "\n".join(f"{n.task}: {n.outcome}" for n in harmed)
        meet(pool, tmp_path / "meeting")
        if not case.leaves:
            wait_until(lambda: not pool.strays(), "nothing that the handler started is left", 1)
    finally:
        if case.spoils:
            pool.replace_processes()


def hold(pool: WatchedPool, count: int) -> list[ClaimedTask]:
    """Innocent tasks that run until their processes are killed."""
    return [pool.start("oversleep", None, 100) for _ in range(count)]


def test_those_whose_processes_another_kills_have_crashed_and_their_slots_come_back(
    pool: WatchedPool, tmp_path: Path
) -> None:
    others = hold(pool, SLOTS - 1)
    wait_until(lambda: all(began(pool, task) for task in others), "the neighbours run")
    killer = pool.start("kill_the_others", None, PROMPT_TIMEOUT)
    ends = {end.task.msg_id: end for end in (pool.end() for _ in range(SLOTS))}
    assert ends[killer.msg_id].outcome == Completed('"alone"')
    for task in others:
        outcome = ends[task.msg_id].outcome
        assert isinstance(outcome, Crashed)
        # 255: see test_whoever_looks_at_a_dead_process_too_does_not_cost_its_exit_code.
        assert outcome.exit_code in (-signal.SIGKILL, 255)
    meet(pool, tmp_path / "meeting")


def test_whoever_looks_at_a_dead_process_too_does_not_cost_its_exit_code(
    pool: WatchedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``Process.start`` in any slot's thread looks at the processes of all slots, as ``active_children`` does."""
    read_signed: Callable[[int], int] = forkserver.read_signed
    managers = [slot._process.pool._pool_manager.worker_manager for slot in pool.pool._slots if slot._process]
    sentinels = {child.sentinel for manager in managers for child in manager.workers.values()}
    is_looking, other_has_looked = threading.Event(), threading.Event()

    def read_after_the_other(fd: int) -> int:
        if fd in sentinels and threading.current_thread() is not threading.main_thread():
            is_looking.set()
            other_has_looked.wait(1)
        return read_signed(fd)

    monkeypatch.setattr(forkserver, "read_signed", read_after_the_other)
    task = pool.start("signal_itself", signal.SIGKILL, PROMPT_TIMEOUT)
    assert is_looking.wait(WAIT_SECONDS)
    multiprocessing.active_children()
    other_has_looked.set()
    end = pool.end()
    assert end.task is task
    assert isinstance(end.outcome, Crashed)
    assert end.outcome.exit_code == -signal.SIGKILL


def began(pool: WatchedPool, task: ClaimedTask) -> bool:
    """Whether the task's handler is being executed."""
    running = [(slot, slot._running) for slot in pool.pool._slots]
    return any(
        run is not None and run.task is task and slot._logbook.begun().number == run.number for slot, run in running
    )


def test_idle_slots_whose_processes_another_kills_come_back(pool: WatchedPool, tmp_path: Path) -> None:
    before = pool.processes()
    pool.start("kill_the_others", None, PROMPT_TIMEOUT)
    assert pool.end().outcome == Completed('"alone"')
    wait_until(lambda: len(new := pool.processes()) == SLOTS and len(new & before) == 1, "the others are replaced")
    meet(pool, tmp_path / "meeting")


# The forkserver's end of the status pipe closes before its pidfd tells of its death: Crashed with exit code 255.
@pytest.mark.parametrize("step", ["kill_the_forkserver", "outlive_the_forkserver"])
def test_whoever_loses_the_forkserver_is_handed_back(pool: WatchedPool, step: str, tmp_path: Path) -> None:
    others = hold(pool, SLOTS - 1)
    wait_until(lambda: all(began(pool, task) for task in others), "the neighbours run")
    killer = pool.start(step, None, PROMPT_TIMEOUT)
    ends = [pool.end() for _ in range(SLOTS)]
    assert {end.task.msg_id for end in ends} == {task.msg_id for task in (killer, *others)}
    assert outcomes(ends) == {Released("the forkserver died", counts=True)}
    assert all(pool.seconds(end) <= PROMPT_SECONDS for end in ends if end.task is killer)
    meet(pool, tmp_path / "meeting")
    wait_until(lambda: not pool.strays(), "nobody outlives the forkserver", 1)


def test_a_task_whose_process_dies_before_it_begins_is_handed_back(pool: WatchedPool) -> None:
    processes = pool.processes()
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    pool.start("add_one", 1, PROMPT_TIMEOUT)
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    end = pool.end()
    wait_until(lambda: len(new := pool.processes()) == SLOTS and not new & processes, "the processes are replaced")
    assert isinstance(end.outcome, Released)


@pytest.mark.parametrize(
    ("step", "input"),
    [
        ("set_an_alarm", 0.4),
        ("patch_the_clocks", None),
        ("leave_a_thread", None),
        ("raise_in_a_thread", None),
    ],
)  # fmt: skip
def test_what_a_task_leaves_behind_does_not_hit_the_next_one(pool: WatchedPool, step: str, input: object) -> None:
    pool.replace_processes()
    try:
        pool.start(step, input, PROMPT_TIMEOUT)
        assert isinstance(pool.end().outcome, Completed)
        for _ in range(SLOTS):
            pool.start("take_a_while", 0.8, PROMPT_TIMEOUT)
        assert outcomes([pool.end() for _ in range(SLOTS)]) == {Completed('"done"')}
    finally:
        pool.replace_processes()


def test_nobody_uses_less_than_no_cpu(pool: WatchedPool) -> None:
    for _ in range(SLOTS):
        pool.start("oversleep")
    cards = [str(pool.end().outcome) for _ in range(SLOTS)]
    assert [card for card in cards if "used -" in card] == []


def test_a_daemon_ends_with_the_process_of_its_handler(pool: WatchedPool) -> None:
    pool.start("leave_a_daemon", None, PROMPT_TIMEOUT)
    assert pool.end().outcome == Completed('"left"')
    for _ in range(SLOTS):
        pool.start("oversleep")
    assert all(isinstance(pool.end().outcome, TimedOut) for _ in range(SLOTS))
    wait_until(lambda: not pool.strays(), "the daemon ends", 1)
