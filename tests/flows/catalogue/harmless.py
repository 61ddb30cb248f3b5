"""Handlers whose tasks complete as if nothing had happened."""

from __future__ import annotations

import atexit
import builtins
import ctypes
import gc
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, NoReturn

import ujson

from tests.flows.catalogue.common import PR_SET_NAME, circle, daemonize, flow


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
    daemonize()
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
        circle().append(bytes(1000))
    return "done"


@flow.step
def use_a_process_pool(_input: Any) -> Any:
    """Processes of its own, forked."""
    pool = multiprocessing.get_context("fork").Pool(2)
    result = pool.map(abs, [-1, -2])
    pool.close()
    pool.join()
    return result


@flow.step
def terminate_a_child(_input: Any) -> Any:
    """Ends a child process as multiprocessing does it, also at the end of ``with Pool()``: by SIGTERM."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    child.start()
    time.sleep(0.1)
    child.terminate()
    child.join()
    return child.exitcode


@flow.step
def use_a_forkserver(_input: Any) -> Any:
    """Processes of its own, from a forkserver of its own."""
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        return pool.map(abs, [-1, -2])


@flow.step
def take_a_name_that_is_cut(_input: Any) -> str:
    """As setproctitle does; the kernel keeps 15 bytes, and with them half a character."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, "обработка заказа".encode(), 0, 0, 0)
    time.sleep(0.5)
    return "named"


@flow.step
def lose_its_folder(_input: Any) -> str:
    """Its working directory is gone."""
    folder = tempfile.mkdtemp()
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
