"""Handlers that end their process, or cut it off."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import itertools
import os
import resource
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from tests.flows.catalogue.common import flow


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
    _write(garbage, lambda _: True)
    return "done"


@flow.step
def write_to_every_pipe(garbage: Any) -> str:
    """Writes into pebble's pipe, but not into the slot's logbook."""
    _write(garbage, lambda fd: stat.S_ISFIFO(os.fstat(fd).st_mode))
    return "done"


def _write(garbage: str, is_meant: Callable[[int], bool]) -> None:
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if fd > 2 and is_meant(fd):
                os.set_blocking(fd, False)
                with contextlib.suppress(OSError):
                    os.lseek(fd, 0, os.SEEK_SET)
                os.write(fd, garbage.encode("latin-1"))


@flow.step
def hang_after_garbage(garbage: Any) -> None:
    """As above, and hangs."""
    write_to_every_descriptor(garbage)
    time.sleep(1000)


def framed(data: bytes) -> str:
    """``data`` as a message in multiprocessing's pipe, as text."""
    return (struct.pack("!i", len(data)) + data).decode("latin-1")
