"""The catalogue of what handlers must not do, one handler for each; and their innocent neighbours."""

from __future__ import annotations

import asyncio
import atexit
import builtins
import contextlib
import ctypes
import faulthandler
import gc
import itertools
import multiprocessing
import os
import re
import resource
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import ujson

from pgflow import Flow
from pgflow.process.stack import DUMP_SIGNAL

flow = Flow("catalogue", max_attempts=1, timeout=1)

MEBIBYTE = 1 << 20
_kept: list[object] = []
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME = 1, 4, 15


def _hang() -> NoReturn:
    """As C code does it that holds the GIL and never looks for signals."""
    any(itertools.repeat(False))
    raise AssertionError("unreachable")


def _limit_memory(more: int) -> None:
    """Let this process take ``more`` bytes of address space and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, resource.RLIM_INFINITY))


def _eat_memory() -> None:
    """Take all memory there is, in pieces that get smaller, and keep it."""
    size = 16 * MEBIBYTE
    while size > 64:
        try:
            _kept.append(bytearray(size))
        except MemoryError:
            size //= 2


def _prctl(option: int, argument: object) -> None:
    ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)


def _daemonize() -> None:
    """A grandchild in a session of its own, whose parent has ended."""
    if pid := os.fork():
        os.waitpid(pid, 0)
        return
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)


# --- the innocent --------------------------------------------------------------------------------


@flow.step
def add_one(number: Any) -> Any:
    """The neighbour, who takes 5 ms."""
    time.sleep(0.005)
    return number + 1


@flow.step
def take_a_while(seconds: Any) -> str:
    """A neighbour who takes longer."""
    time.sleep(seconds)
    return "done"


@flow.step
def meet(input: Any) -> Any:
    """Returns when ``count`` tasks are running at once."""
    (Path(input["folder"]) / str(input["number"])).touch()
    while len(os.listdir(input["folder"])) < input["count"]:
        time.sleep(0.002)
    return input["number"]


# --- hang ----------------------------------------------------------------------------------------


@flow.step
def hang_with_the_gil(_input: Any) -> bool:
    """C code that holds the GIL and never looks for signals."""
    return any(itertools.repeat(False))


@flow.step
def note_and_hang_with_the_gil(file: Any) -> bool:
    """As above; its pid and when it began go into the given file."""
    Path(file).write_text(f"{os.getpid()} {time.monotonic()}")
    return any(itertools.repeat(False))


@flow.step
def hang_in_a_foreign_function(_input: Any) -> object:
    """A call of libc that never returns, with the GIL held and no CPU used."""
    return ctypes.PyDLL(None).pause()


@flow.step
def hang_in_a_regex(_input: Any) -> object:
    """A catastrophic regular expression."""
    return re.match(r"(a+)+$", "a" * 50 + "b")


@flow.step
def hang_in_sqlite(_input: Any) -> object:
    """A query without an end, with the GIL released."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    return sqlite3.connect(":memory:").execute(endless).fetchall()


@flow.step
def hang_ignoring_sigterm(_input: Any) -> None:
    """SIGTERM means nothing."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    any(itertools.repeat(False))


@flow.step
def hang_blocking_all_signals(_input: Any) -> None:
    """No signal reaches the main thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    any(itertools.repeat(False))


@flow.step
def hang_without_the_dump_signal(_input: Any) -> None:
    """The signal that asks for the stack ends the process instead."""
    faulthandler.unregister(DUMP_SIGNAL)
    signal.signal(DUMP_SIGNAL, signal.SIG_DFL)
    any(itertools.repeat(False))


@flow.step
def spin(_input: Any) -> None:
    """An endless loop in Python."""
    while True:
        pass


@flow.step
def swallow_everything(_input: Any) -> None:
    """No exception ends it."""
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(1000)


@flow.step
def oversleep(_input: Any) -> None:
    """Sleeps past the deadline."""
    time.sleep(1000)


@flow.step
def deadlock(_input: Any) -> None:
    """Waits for itself."""
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


@flow.step
def read_what_nobody_writes(_input: Any) -> bytes:
    """Waits for a pipe."""
    return os.read(os.pipe()[0], 1)


@flow.step
def hang_with_a_subprocess(_input: Any) -> int:
    """Waits for a program that does not end."""
    return subprocess.Popen(["sleep", "1000"]).wait()


@flow.step
def hang_with_a_subprocess_in_a_session(_input: Any) -> int:
    """As above, and the program has left the process group."""
    return subprocess.Popen(["sleep", "1000"], start_new_session=True).wait()


@flow.step
def hang_with_a_daemon(_input: Any) -> None:
    """Hangs after it has started a daemon."""
    _daemonize()
    time.sleep(1000)


@flow.step
def hang_in_children(_input: Any) -> None:
    """Thirty forked children hang, every second one in a session of its own, and the parent waits for one."""
    for number in range(30):
        if (pid := os.fork()) == 0:
            if number % 2:
                os.setsid()
            time.sleep(1000)
            os._exit(0)
    os.waitpid(pid, 0)


@flow.step
def hang_in_a_thread(_input: Any) -> None:
    """A thread never gives the GIL back, and the handler waits for it."""
    thread = threading.Thread(target=_hang)
    thread.start()
    thread.join()


@flow.step
def hang_in_another_group(_input: Any) -> None:
    """Hides in its parent's process group."""
    os.setpgid(0, os.getpgid(os.getppid()))
    hang_with_a_subprocess(None)


@flow.step
def hang_under_another_name(_input: Any) -> None:
    """Its name reads like other fields of /proc/<pid>/stat."""
    _prctl(_PR_SET_NAME, b"a) Z 1 (b c")
    time.sleep(1000)


@flow.step
def hang_undumpable(_input: Any) -> None:
    """Its /proc belongs to root."""
    _prctl(_PR_SET_DUMPABLE, 0)
    hang_with_a_subprocess(None)


@flow.step
def hang_with_every_descriptor_closed(_input: Any) -> None:
    """Nothing can be written any more, not even a stack."""
    os.closerange(0, 1024)
    time.sleep(1000)


@flow.step
def hang_in_a_profiler(_input: Any) -> None:
    """Whatever is called or returns, hangs."""
    sys.setprofile(lambda *_: time.sleep(1000))


@flow.step
def hang_out_of_memory(_input: Any) -> None:
    """There is no memory left, and it goes on trying."""
    _limit_memory(64 * MEBIBYTE)
    _eat_memory()
    while True:
        try:
            bytearray(16 * MEBIBYTE)
        except MemoryError:
            continue


class HangsInDel:
    """Cannot be got rid of."""

    def __del__(self) -> None:
        time.sleep(1000)


@flow.step
def hang_in_del(_input: Any) -> None:
    """A local variable hangs when it is dropped."""
    HangsInDel()


@flow.step
def hang_in_del_of_the_input(input: Any) -> str:
    """Something in the input hangs when pgflow drops it, with the answer ready."""
    input["hangs"] = HangsInDel()
    return "done"


class ExitsInDel:
    """Takes the process along."""

    def __del__(self) -> None:
        os._exit(0)


@flow.step
def exit_in_del_of_the_input(input: Any) -> str:
    """Something in the input ends the process when pgflow drops it, with the answer ready."""
    input["exits"] = ExitsInDel()
    return "done"


class HangsInText:
    """Has no text, and does not say so."""

    def __repr__(self) -> str:
        time.sleep(1000)
        return ""


@flow.step
def hang_in_repr_of_error(_input: Any) -> NoReturn:
    """The text of its error never comes."""
    raise ValueError(1, HangsInText())


@flow.step
def stop_itself(_input: Any) -> None:
    """SIGSTOP."""
    os.kill(os.getpid(), signal.SIGSTOP)


@flow.step
def become_another_program(program: Any) -> NoReturn:
    """``exec``."""
    os.execvp(program[0], program)


@flow.step
async def never_await(_input: Any) -> None:
    """Blocks the event loop."""
    while True:
        pass


@flow.step
async def await_for_ever(_input: Any) -> None:
    """Waits in the event loop."""
    await asyncio.sleep(1000)


async def _refuse() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)


@flow.step
async def leave_a_task_that_refuses(_input: Any) -> str:
    """Returns, and leaves a task that cannot be cancelled to the event loop."""
    _kept.append(asyncio.ensure_future(_refuse()))
    await asyncio.sleep(0)
    return "done"


@flow.step
async def leave_a_thread_to_the_loop(_input: Any) -> str:
    """Returns, and the event loop waits for the thread that it was given."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.to_thread(time.sleep, 1000), 0.01)
    return "done"


# --- crash ---------------------------------------------------------------------------------------


@flow.step
def segfault(_input: Any) -> object:
    """Reads address 0."""
    return ctypes.string_at(0)


@flow.step
def segfault_unnoticed(_input: Any) -> object:
    """As above, and nobody writes the stack."""
    faulthandler.disable()
    return ctypes.string_at(0)


@flow.step
def segfault_in_a_thread(_input: Any) -> None:
    """Another thread reads address 0."""
    thread = threading.Thread(target=_read_address_0)
    thread.start()
    thread.join()


def _read_address_0() -> None:
    ctypes.string_at(0)


@flow.step
def overflow_the_stack(_input: Any) -> object:
    """Infinite recursion in C, in which nobody counts."""
    sys.setrecursionlimit(10**9)

    def descend(_a: object, _b: object) -> int:
        ctypes.CDLL(None).qsort((ctypes.c_int * 2)(), 2, 4, compare)
        return 0

    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(descend)
    return compare(None, None)


@flow.step
def abort(_input: Any) -> NoReturn:
    """SIGABRT."""
    os.abort()


@flow.step
def exit_at_once(code: Any) -> NoReturn:
    """``os._exit`` with the given code."""
    os._exit(code)


@flow.step
def exit_in_a_thread(_input: Any) -> None:
    """``os._exit`` from another thread."""
    threading.Thread(target=os._exit, args=(4,)).start()
    time.sleep(1000)


@flow.step
def signal_itself(number: Any) -> str:
    """Sends itself a signal; returns if it survives."""
    os.kill(os.getpid(), number)
    time.sleep(0.05)
    return "survived"


@flow.step
def signal_its_group(number: Any) -> str:
    """As above, with everything it started."""
    subprocess.Popen(["sleep", "1000"])
    os.killpg(0, number)
    time.sleep(0.05)
    return "survived"


@flow.step
def set_an_alarm(seconds: Any) -> str:
    """Sets an alarm and returns before it rings."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    return "set"


@flow.step
def sleep_until_the_alarm(_input: Any) -> None:
    """Is killed by its own alarm."""
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    time.sleep(1000)


@flow.step
def use_up_its_cpu(_input: Any) -> None:
    """Runs into a limit of CPU time."""
    used = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used + 1, used + 10))
    any(itertools.repeat(False))


@flow.step
def exit_by_watchdog(_input: Any) -> None:
    """Python's own watchdog ends the process."""
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(0.1, exit=True, file=nowhere)
        time.sleep(1000)


@flow.step
def exit_and_leave_a_subprocess(_input: Any) -> NoReturn:
    """Ends while a program that it started goes on."""
    subprocess.Popen(["sleep", "1000"])
    os._exit(3)


@flow.step
def exit_and_leave_a_fork(_input: Any) -> NoReturn:
    """Ends while a forked child goes on, which holds everything that its parent had open."""
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(3)


@flow.step
def exit_0_and_leave_a_fork(_input: Any) -> NoReturn:
    """As above, with code 0."""
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)


@flow.step
def close_every_descriptor(_input: Any) -> str:
    """Returns when nothing can be sent any more."""
    os.closerange(0, 1024)
    return "done"


@flow.step
def redirect_every_descriptor(_input: Any) -> str:
    """Returns when all that is sent goes nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3, 64):
        if descriptor != nowhere:
            os.dup2(nowhere, descriptor)
    return "done"


@flow.step
def write_to_every_descriptor(garbage: Any) -> str:
    """Writes into everything that is open, pebble's pipe included, and returns."""
    data = garbage.encode("latin-1")
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):
                os.set_blocking(int(name), False)
                with contextlib.suppress(OSError):
                    os.lseek(int(name), 0, os.SEEK_SET)
                os.write(int(name), data)
    return "done"


@flow.step
def hang_after_garbage(garbage: Any) -> None:
    """As above, and hangs."""
    write_to_every_descriptor(garbage)
    time.sleep(1000)


def framed(data: bytes) -> str:
    """``data`` as a message in multiprocessing's pipe, as text."""
    return (struct.pack("!i", len(data)) + data).decode("latin-1")


# --- raise ---------------------------------------------------------------------------------------


class RootError(BaseException):
    """Not an Exception."""


class UnpicklableError(Exception):
    """Cannot be pickled or unpickled."""

    def __init__(self, why: str, _needed: object) -> None:
        super().__init__(why)
        self.lock = threading.Lock()


class TextlessError(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class LyingError(Exception):
    """Its text is no text."""

    def __str__(self) -> Any:
        return 1


class ExitsInTextError(Exception):
    """Whoever reads its text ends."""

    def __str__(self) -> str:
        sys.exit(3)


_ERRORS: dict[str, Callable[[], BaseException]] = {
    "system_exit": lambda: SystemExit(5),
    "keyboard_interrupt": KeyboardInterrupt,
    "generator_exit": GeneratorExit,
    "stop_iteration": lambda: StopIteration(1),
    "cancelled": asyncio.CancelledError,
    "base": lambda: RootError("not an Exception"),
    "unpicklable": lambda: UnpicklableError("locked", 1),
    "textless": TextlessError,
    "lying": LyingError,
    "exits_in_text": ExitsInTextError,
    "not_storable": lambda: ValueError("NUL \0 and surrogate \ud800"),
    "long": lambda: ValueError("x" * 10_000_000),
    "blank_first_line": lambda: ValueError("\n    what happened\n    and why\n"),
    "many_lines": lambda: ValueError("first" + "\n" * 10_000 + "last"),
    "nested": lambda: _nested_error(3000),
    "odd_notes": lambda: _with_odd_notes(ValueError("noted")),
    "in_a_circle": lambda: _in_a_circle(ValueError("first"), ValueError("second")),
}


def _nested_error(depth: int) -> Exception:
    error: Exception = ValueError("innermost")
    for _ in range(depth):
        error = ExceptionGroup("g", [error])
    return error


def _with_odd_notes(error: ValueError) -> ValueError:
    error.__notes__ = [TextlessError(), 1, "\ud800"]  # type: ignore[list-item]
    return error


def _in_a_circle(first: ValueError, second: ValueError) -> ValueError:
    first.__cause__, second.__cause__ = second, first
    return first


@flow.step
def raise_error(name: Any) -> NoReturn:
    """Raises one of ``_ERRORS``."""
    raise _ERRORS[name]()


@flow.step
async def raise_in_a_coroutine(name: Any) -> NoReturn:
    """Raises one of ``_ERRORS`` while the event loop runs."""
    await asyncio.sleep(0)
    raise _ERRORS[name]()


@flow.step
def exit_politely(_input: Any) -> NoReturn:
    """``sys.exit``."""
    sys.exit("no more")


@flow.step
def recurse(input: Any) -> Any:
    """Infinite recursion in Python."""
    return recurse(input)


class RecursesInC:
    """Infinite recursion through C code."""

    def __eq__(self, other: object) -> bool:
        return [self] == [other]

    __hash__ = None  # type: ignore[assignment]


@flow.step
def recurse_in_c(_input: Any) -> bool:
    """Infinite recursion through C code."""
    return [RecursesInC()] == [RecursesInC()]


@flow.step
def ask_for_too_much_memory(_input: Any) -> object:
    """A MemoryError, at once."""
    return bytearray(1 << 60)


@flow.step
def allocate_up_to_a_limit(_input: Any) -> None:
    """A MemoryError, after all memory was taken."""
    _limit_memory(64 * MEBIBYTE)
    taken = []
    try:
        while True:
            taken.append(bytearray(MEBIBYTE))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)


@flow.step
def return_out_of_memory(_input: Any) -> str:
    """Returns when pgflow has no memory left to say so."""
    output = "x" * MEBIBYTE
    _limit_memory(32 * MEBIBYTE)
    _eat_memory()
    return output


@flow.step
def start_a_session(_input: Any) -> None:
    """Its process leads a group, so it may not."""
    os.setsid()


@flow.step
def read_standard_input(_input: Any) -> str:
    """There is none."""
    return input()


@flow.step
def raise_in_the_main_thread(_input: Any) -> None:
    """Another thread raises an error in this one."""
    main = ctypes.c_ulong(threading.main_thread().ident or 0)
    error = ctypes.py_object(RootError)
    threading.Thread(target=lambda: ctypes.pythonapi.PyThreadState_SetAsyncExc(main, error)).start()
    while True:
        time.sleep(0.01)


# --- return --------------------------------------------------------------------------------------


class Explosive:
    """Its pickling and unpickling end the process that does it."""

    def __reduce__(self) -> Any:
        os._exit(76)


class OddDict(dict[str, int]):
    """Answers no question truthfully."""

    def __iter__(self) -> Iterator[str]:
        raise RootError("no keys")

    def __len__(self) -> int:
        return -1

    def items(self) -> Any:
        return 1


class OddAwaitable:
    """Not what asyncio understands."""

    def __await__(self) -> Any:
        yield 42


def _odd_class() -> object:
    """An object about whose class nothing can be asked."""

    class OddMeta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise RootError(name)

        def __hash__(cls) -> int:
            raise RootError("no hash")

        def __eq__(cls, _other: object) -> bool:
            raise RootError("not equal")

    class OddClass(metaclass=OddMeta):
        pass

    return type.__call__(OddClass)


async def _nothing() -> None:
    pass


async def _async_nothing() -> AsyncIterator[int]:
    yield 1


def _nested(depth: int, times: int) -> object:
    value: object = None
    for _ in range(depth):
        value = [value] * times
    return value


def _circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


_OUTPUTS: dict[str, Callable[[], object]] = {
    "too_large": lambda: "x" * 100_000_000,
    "large": lambda: "x" * 60_000_000,
    "unpicklable": lambda: threading.Lock(),
    "function": lambda: _circle,
    "explosive": Explosive,
    "generator": lambda: (i for i in range(3)),
    "async_generator": _async_nothing,
    "coroutine_in_list": lambda: [_nothing()],
    "odd_awaitable": OddAwaitable,
    "odd_class": _odd_class,
    "odd_dict": lambda: OddDict(a=1),
    "huge_int": lambda: 10**5000,
    "int_key": lambda: {1: 2},
    "tuple_key": lambda: {(1, 2): 3},
    "none_key": lambda: {None: 1},
    "bytes": lambda: b"bytes",
    "set": lambda: {1},
    "nan": lambda: [1.0, {"x": float("nan")}],
    "infinity": lambda: float("inf"),
    "nul": lambda: {"a": "nul \0"},
    "nul_key": lambda: {"\0": 1},
    "surrogate": lambda: "\udc80",
    "deep": lambda: _nested(100_000, 1),
    "circle": _circle,
    "repeated": lambda: _nested(100, 10),
}


@flow.step
def return_output(name: Any) -> object:
    """Returns one of ``_OUTPUTS``."""
    return _OUTPUTS[name]()


@flow.step
def return_unlimited_int(_input: Any) -> int:
    """Lifts Python's own limit before it returns a long int, and lets the next one find it so."""
    sys.set_int_max_str_digits(0)
    return 1 << 20_000


# --- go on as if nothing had happened ------------------------------------------------------------


@flow.step
def print_a_lot(_input: Any) -> str:
    """Fills standard output and error."""
    print("noise " * 1_000_000)
    print("noise " * 1_000_000, file=sys.stderr)
    return "printed"


@flow.step
def print_without_output(_input: Any) -> str:
    """Closes standard output and error, and prints."""
    os.close(1)
    os.close(2)
    print("nobody", flush=True)
    print("reads this", file=sys.stderr, flush=True)
    return "printed"


@flow.step
def close_its_streams(_input: Any) -> str:
    """Leaves no ``sys.stdout``."""
    sys.stdout.close()
    sys.stderr = None
    return "closed"


@flow.step
def fork_and_exit(_input: Any) -> str:
    """A child ends, and nobody waits for it."""
    if os.fork() == 0:
        os._exit(5)
    return "parent"


@flow.step
def fork_and_return(_input: Any) -> str:
    """Returns twice."""
    return "parent" if os.fork() else "child"


@flow.step
def fork_and_raise(_input: Any) -> str:
    """Returns, and raises in the child."""
    if os.fork() == 0:
        raise SystemExit
    return "parent"


@flow.step
def leave_a_subprocess(_input: Any) -> str:
    """A program that it started goes on."""
    subprocess.Popen(["sleep", "1000"])
    return "left"


@flow.step
def leave_a_daemon(_input: Any) -> str:
    """A daemon goes on."""
    _daemonize()
    return "left"


@flow.step
def leave_a_thread(_input: Any) -> str:
    """A thread that no exit would wait for in vain."""
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return "left"


@flow.step
def hang_at_exit(_input: Any) -> str:
    """Whoever ends the process politely waits for ever."""
    atexit.register(time.sleep, 1000)
    return "left"


@flow.step
def exit_in_a_thread_politely(_input: Any) -> str:
    """SystemExit in a thread is nobody's business."""
    thread = threading.Thread(target=sys.exit)
    thread.start()
    thread.join()
    return "done"


@flow.step
def raise_in_a_thread(_input: Any) -> str:
    """An exception in a thread is printed."""
    thread = threading.Thread(target=divmod, args=(1, 0))
    thread.start()
    thread.join()
    return "done"


@flow.step
def raise_in_del(_input: Any) -> str:
    """An exception in ``__del__`` is printed."""
    type("Raises", (), {"__del__": lambda _self: sys.exit(1)})()
    return "done"


@flow.step
def litter(_input: Any) -> str:
    """Cycles that nobody collects."""
    gc.disable()
    for _ in range(1000):
        _circle().append(bytes(1000))
    return "done"


@flow.step
def use_a_process_pool(_input: Any) -> Any:
    """Processes of its own, forked."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(abs, [-1, -2])


@flow.step
def use_a_forkserver(_input: Any) -> Any:
    """Processes of its own, from a forkserver of its own."""
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        return pool.map(abs, [-1, -2])


@flow.step
def lose_its_folder(folder: Any) -> str:
    """Its working directory is gone."""
    Path(folder).mkdir()
    os.chdir(folder)
    os.rmdir(folder)
    os.environ.clear()
    return "lost"


@flow.step
def lower_the_recursion_limit(_input: Any) -> str:
    """Little is left for pgflow."""
    limit = 5
    while True:
        try:
            sys.setrecursionlimit(limit)
        except RecursionError:
            limit += 1
        else:
            return "low"


@flow.step
def patch_the_clocks(_input: Any) -> str:
    """It is always midnight."""
    time.time = time.monotonic = time.process_time = lambda: 0.0
    return "midnight"


@flow.step
def patch_getpid(_input: Any) -> str:
    """What a mock leaves behind."""
    os.getpid = lambda: 1
    return "patched"


@flow.step
def break_ujson(_input: Any) -> str:
    """What another mock leaves behind: pgflow's own code raises what it does not expect."""
    ujson.dumps = lambda *_, **__: dict[str, str]()["mock"]
    return "broken"


@flow.step
def break_len(_input: Any) -> str:
    """Nobody can count any more."""
    builtins.len = lambda _: 1 // 0
    return "broken"


@flow.step
def break_isinstance(_input: Any) -> NoReturn:
    """Nobody can tell any more what was raised."""
    builtins.isinstance = lambda *_: 1 // 0 > 0
    raise ValueError("broken")


@flow.step
def forget_all_modules(_input: Any) -> str:
    """``sys.modules`` is empty."""
    sys.modules.clear()
    return "forgotten"


# --- and take others along -----------------------------------------------------------------------


def _pool_processes() -> list[int]:
    parent = os.getppid()
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@flow.step
def kill_the_others(_input: Any) -> str:
    """SIGKILL to the parent's other children."""
    for pid in _pool_processes():
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return "alone"


@flow.step
def kill_the_forkserver(_input: Any) -> None:
    """Takes everybody's parent away."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1000)


@flow.step
def outlive_the_forkserver(_input: Any) -> None:
    """As above, and does not die with it."""
    _prctl(_PR_SET_PDEATHSIG, 0)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1000)


@flow.step
def return_ten_megabytes(_input: Any) -> str:
    """A large output."""
    return "x" * 10_000_000
