"""Handlers that do not end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import itertools
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from pgflow.process.stack import DUMP_SIGNAL
from tests.flows.catalogue.common import (
    MEBIBYTE,
    PR_SET_DUMPABLE,
    PR_SET_NAME,
    daemonize,
    eat_memory,
    flow,
    kept,
    limit_memory,
    prctl,
)


@flow.step
def hang_with_the_gil(_input: Any) -> bool:
    """C code that holds the GIL and never looks for signals."""
    return any(itertools.repeat(False))


@flow.step
def note_and_hang_with_the_gil(file: Any) -> bool:
    """As above; when it began goes into the given file."""
    unfinished = Path(f"{file}.unfinished")
    unfinished.write_text(f"{time.monotonic()}")
    unfinished.rename(file)
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
    daemonize()
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


def _hang() -> NoReturn:
    """As C code does it that holds the GIL and never looks for signals."""
    any(itertools.repeat(False))
    raise AssertionError("unreachable")


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
    prctl(PR_SET_NAME, b"a) Z 1 (b c")
    time.sleep(1000)


@flow.step
def hang_undumpable(_input: Any) -> None:
    """Its /proc belongs to root."""
    prctl(PR_SET_DUMPABLE, 0)
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
    limit_memory(64 * MEBIBYTE)
    eat_memory()
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
    kept.append(asyncio.ensure_future(_refuse()))
    await asyncio.sleep(0)
    return "done"


@flow.step
async def leave_a_thread_to_the_loop(_input: Any) -> str:
    """Returns, and the event loop waits for the thread that it was given."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.to_thread(time.sleep, 1000), 0.01)
    return "done"
