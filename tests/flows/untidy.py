"""What a handler may leave in its process, by name; ``hostile.leave`` does it and ``hostile.tell_state`` looks."""

from __future__ import annotations

import _thread
import asyncio
import atexit
import builtins
import contextlib
import decimal
import faulthandler
import gc
import io
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

_kept: list[object] = []


def _raise(_number: int, _frame: object) -> NoReturn:
    raise TimeoutError("an alarm")


def _hang() -> NoReturn:
    while True:
        time.sleep(0.01)


def removed_folder() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)


def variables() -> None:
    os.environ["LEFT"] = "1"
    os.environ["PATH"] = "/nowhere"
    del os.environ["HOME"]


def another_environ() -> None:
    os.environ = {}  # type: ignore[assignment]  # noqa: B003


def a_mask() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def an_alarm_that_waits() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    signal.pthread_kill(threading.get_ident(), signal.SIGALRM)


def an_alarm() -> None:
    signal.signal(signal.SIGALRM, _raise)
    signal.setitimer(signal.ITIMER_REAL, 0.05)


def a_deadly_alarm() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.05)


def signals() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def little_recursion() -> None:
    for limit in range(1, 100):
        with contextlib.suppress(RecursionError):
            sys.setrecursionlimit(limit)
            sys.setrecursionlimit(limit + 20)  # what the handler's own end needs
            return


def much_recursion() -> None:
    sys.setrecursionlimit(1_000_000)


def other_streams() -> None:
    sys.stdout = sys.stderr = io.StringIO()


def closed_streams() -> None:
    sys.stdin.close()
    sys.stdout.close()
    sys.stderr.detach()  # type: ignore[union-attr]


def tracing() -> None:
    sys.settrace(lambda *_: None)
    sys.setprofile(lambda *_: None)


def interpreter_settings() -> None:
    gc.disable()
    sys.setswitchinterval(10)
    decimal.getcontext().prec = 3
    resource.setrlimit(resource.RLIMIT_NOFILE, (50, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def output_that_does_not_block() -> None:
    os.set_blocking(1, False)


def no_stacks() -> None:
    faulthandler.disable()
    for number in (signal.SIGSEGV, signal.SIGRTMAX - 1):
        signal.signal(number, signal.SIG_IGN)


def a_traceback_later() -> None:
    faulthandler.dump_traceback_later(0.05, exit=True)


def an_event_loop() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    _kept.append(loop)


def _raises_in_a_thread(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        def fail() -> NoReturn:
            raise error

        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()

    return run


def interrupt_main() -> None:
    thread = threading.Thread(target=_thread.interrupt_main)
    thread.start()
    thread.join()


def a_thread() -> None:
    threading.Thread(target=_hang).start()


def a_raw_thread() -> None:
    runs = threading.Event()

    def run() -> NoReturn:
        runs.set()
        _hang()

    _thread.start_new_thread(run, ())
    runs.wait()


def an_executor() -> None:
    executor = ThreadPoolExecutor(1)
    _kept.append(executor)
    executor.submit(int).result()


def hangs_at_exit() -> None:
    atexit.register(_hang)
    threading.Thread(target=_hang).start()


def a_subprocess() -> None:
    _kept.append(subprocess.Popen(["sleep", "1000"]))


def a_fork() -> None:
    if os.fork() == 0:
        _hang()


def a_daemon() -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            _hang()
        os._exit(0)
    os.wait()


def an_ended_subprocess() -> None:
    _kept.append(subprocess.Popen(["true"]))


def _closed(descriptor: int) -> Callable[[], None]:
    return lambda: os.close(descriptor)


def a_replaced_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def another_process_group() -> None:
    os.setpgid(0, os.getpgid(os.getppid()))


def _without_a(builtin: str) -> Callable[[], None]:
    def replace() -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        setattr(builtins, builtin, lambda *_, **__: True)

    return replace


PUT_BACK: dict[str, Callable[[], Any]] = {
    f.__name__: f
    for f in (
        *(removed_folder, variables, another_environ, a_mask, an_alarm_that_waits, an_alarm, a_deadly_alarm, signals),
        *(little_recursion, much_recursion, other_streams, closed_streams, tracing, interpreter_settings),
        *(output_that_does_not_block, no_stacks, a_traceback_later, an_event_loop, interrupt_main, an_ended_subprocess),
    )
} | {
    "folder": lambda: os.chdir("/"),
    "umask": lambda: os.umask(0o777),
    **{f"another {builtin}": _without_a(builtin) for builtin in ("all", "map", "zip", "vars", "len")},
    **{
        f"{type(error).__name__} in a thread": _raises_in_a_thread(error)
        for error in (KeyboardInterrupt(), GeneratorExit(), SystemExit(1))
    },
}

REPLACED: dict[str, tuple[str, Callable[[], Any]]] = {
    "a_thread": ("threads that still run: Thread-", a_thread),
    "a_raw_thread": ("threads that still run: started by _thread", a_raw_thread),
    "an_executor": ("threads that still run: ThreadPoolExecutor-", an_executor),
    "hangs_at_exit": ("threads that still run: Thread-", hangs_at_exit),
    "a_subprocess": ("subprocesses that still run: sleep", a_subprocess),
    "a_fork": ("subprocesses that still run: pgflow", a_fork),
    "a_daemon": ("subprocesses that still run: pgflow", a_daemon),
    **{f"descriptor {n}": (f"a file descriptor closed or replaced: {n}", _closed(n)) for n in range(3)},
    "a_replaced_output": ("a file descriptor closed or replaced: 1", a_replaced_output),
    "another_process_group": ("another user, group, process group or root folder", another_process_group),
}


def state() -> dict[str, Any]:
    """This process, as far as a handler can see that another was there before; its pid comes beside it."""
    return {
        "folder": os.getcwd(),
        "variables": dict(os.environ),
        "umask": [os.umask(0o22), os.umask(0o22)][1],
        "mask": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "timers": [signal.getitimer(timer) for timer in (0, 1, 2)],
        "handlers": [repr(signal.getsignal(number)).partition(" at ")[0] for number in sorted(signal.valid_signals())],
        "recursion": sys.getrecursionlimit(),
        "streams": [type(s).__name__ + repr(s.closed) for s in (sys.stdin, sys.stdout, sys.stderr)],
        "tracing": [repr(sys.gettrace()), repr(sys.getprofile())],
        "settings": [gc.isenabled(), sys.getswitchinterval(), decimal.getcontext().prec, faulthandler.is_enabled()],
        "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
        "blocking": [os.get_blocking(fd) for fd in range(3)],
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "children": _children(),
        "group": os.getpgrp() == os.getpid(),
        "builtins": [repr(builtin) for builtin in (all, map, zip, vars, len)],
    }


def _children() -> str:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read()
