"""Handlers that do what handlers must not: hang, die, refuse to die."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from pgflow import Context, Fail, Flow, Retry
from pgflow.process import proc
from tests.flows import untidy
from tests.support import family
from tests.support.waiting import is_zombie

flow = Flow("hostile", max_attempts=1, timeout=1)


@flow.step
def add_one(number: Any) -> Any:
    """The innocent neighbour."""
    return number["value"] + 1


@flow.step
def echo(text: Any) -> Any:
    return text


@flow.step
def overwrite_the_logbook(_input: Any) -> str:
    """All of it but the notes of what began and ended."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}").endswith(".logbook"):
                os.pwrite(fd, b"\xff" * 4096, 72)
    return "done"


@flow.step
def hang_in_regex(_input: Any) -> object:
    """A catastrophic regular expression; CPython's re looks for signals while it backtracks."""
    return re.match(r"(a+)+$", "a" * 50 + "b")


@flow.step
def hang_with_the_gil(_input: Any) -> bool:
    """C code that holds the GIL and never looks for signals."""
    return any(itertools.repeat(False))


@flow.step
def hang_ignoring_sigterm(_input: Any) -> bool:
    """As above, with SIGTERM ignored."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return any(itertools.repeat(False))


@flow.step
def hang_blocking_all_signals(_input: Any) -> bool:
    """As above, with every signal blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return any(itertools.repeat(False))


@flow.step
def hang_with_a_subprocess(input: Any) -> object:
    """Starts a subprocess, notes its pid in the given file, and waits for it for ever."""
    sleeper = subprocess.Popen(["sleep", "1000"])
    Path(input["file"]).write_text(str(sleeper.pid))
    return sleeper.wait()


@flow.step
def segfault(_input: Any) -> object:
    """Reads address 0."""
    return ctypes.string_at(0)


@flow.step
def abort(_input: Any) -> NoReturn:
    """SIGABRT."""
    os.abort()


@flow.step
def exit_at_once(input: Any) -> NoReturn:
    """``os._exit`` with the given code."""
    os._exit(input["code"])


@flow.step
def wait_and_exit(input: Any) -> NoReturn:
    """Ends its process with exit code 0 when there is a file ``go``."""
    Path(input["began"]).touch()
    while not Path(input["go"]).exists():
        time.sleep(0.001)
    os._exit(0)


@flow.step
def exit_politely(_input: Any) -> NoReturn:
    """``sys.exit``."""
    sys.exit(5)


@flow.step
def interrupt(_input: Any) -> NoReturn:
    """KeyboardInterrupt out of the handler."""
    raise KeyboardInterrupt


@flow.step
def recurse(_input: Any) -> Any:
    """Infinite recursion."""
    return recurse(_input)


class HostileError(Exception):
    """Cannot be unpickled, and has no text."""

    def __init__(self, _required: object) -> None:
        super().__init__()

    def __str__(self) -> str:
        raise RuntimeError("no text")


@flow.step
def raise_hostile_error(_input: Any) -> NoReturn:
    """An exception whose text cannot be had and whose unpickling fails."""
    raise HostileError(1)


class Explosive:
    """Its unpickling ends the process that does it."""

    def __reduce__(self) -> Any:
        return os._exit, (77,)


@flow.step
def return_explosive(_input: Any) -> object:
    """An output whose ``__reduce__`` runs code."""
    return Explosive()


@flow.step
def return_nan(_input: Any) -> float:
    """Not JSON."""
    return float("nan")


@flow.step
def print_a_lot(_input: Any) -> str:
    """Fills standard output."""
    print("noise " * 100_000)
    return "printed"


@flow.step
def note_and_wait(input: Any) -> str:
    """Tells that it runs by creating a file, and returns when a second file appears."""
    Path(input["began"]).touch()
    while not Path(input["go"]).exists():
        time.sleep(0.01)
    return "went"


@flow.step(max_attempts=3, base_delay=1000)
def wish(input: Any, ctx: Context) -> str:
    """Fails as ``input`` says: for good, or once, to be tried again at once."""
    if input["wish"] == "fail":
        raise Fail("hopeless")
    if ctx.attempt == 1:
        raise Retry("busy", after=0)
    return "done"


@flow.step
def kill_the_forkserver(_input: Any) -> None:
    """Takes everybody's parent away."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1000)


@flow.step
def fork_and_return(input: Any) -> str:
    """Returns twice; the child's pid goes into the given file."""
    if pid := os.fork():
        Path(input["file"]).write_text(str(pid))
        return "parent"
    return "child"


@flow.step
def leave_a_subprocess(input: Any) -> None:
    """Starts a subprocess, notes its pid in the given file, and returns."""
    Path(input["file"]).write_text(str(subprocess.Popen(["sleep", "1000"]).pid))


@flow.step
def start_a_family(input: Any) -> object:
    """Starts one process of each kind, notes them in the given folder, and ends as another step does: ``then``."""
    family.start(Path(input["folder"]))
    return flow.handler(input["then"])(input)


@flow.step
def start_without_end(input: Any) -> object:
    """Hangs, while a process of its own session starts one orphan after another and notes their pids in a file."""
    line = f"while :; do sleep 1000 & echo $! >> {input['file']}; sleep 0.001; done"
    subprocess.Popen(["sh", "-c", line], start_new_session=True)
    return any(itertools.repeat(False))


@flow.step
def leave_zombies(input: Any) -> int:
    """Leaves orphans that end at once; how many zombies there are."""
    for _ in range(input["count"]):
        subprocess.check_call(["sh", "-c", "(exit 0) & exec 2>&-; exit 0"])
    return sum(is_zombie(pid) for pid in proc.children(os.getpid()))


@flow.step
def run_a_program(input: Any) -> object:
    """Runs Python on the given source, in a session of its own."""
    return subprocess.check_call([sys.executable, "-c", input["source"]], start_new_session=True)


@flow.step
def rename_and_wait(input: Any) -> str:
    """Gives this process another name, as setproctitle does, and waits as ``note_and_wait``."""
    Path("/proc/self/comm").write_text("renamed")
    return str(flow.handler("note_and_wait")(input))


@flow.step
def kill_itself(_input: Any) -> None:
    """Dies as the OOM killer's victim does."""
    os.kill(os.getpid(), signal.SIGKILL)


@flow.step
def leave(what: Any) -> int:
    """Leaves in its process what is named; the process's pid."""
    (untidy.PUT_BACK.get(what) or untidy.REPLACED[what][1])()
    return os.getpid()


@flow.step
def tell_state(_input: Any) -> list[Any]:
    """The process's pid and what can be seen of other handlers."""
    return [os.getpid(), untidy.state()]


@flow.step
def speak(words: Any) -> None:
    """Says it on every way out, lines and unfinished lines."""
    print(f"print {words}")
    print(f"stderr {words}", file=sys.stderr)
    os.write(1, f"write {words}\n".encode())
    libc = ctypes.CDLL(None)
    libc.puts(f"puts {words}".encode())
    subprocess.run(["sh", "-c", f"echo subprocess {words}; echo its stderr {words} >&2"], check=True)
    libc.printf(f"printf {words}".encode())


@flow.step
def print_bytes(text: Any) -> None:
    """Writes the text's characters as bytes to standard output, without more."""
    data = text.encode("latin-1")
    while data:
        data = data[os.write(1, data) :]


@flow.step
def speak_and_hang(words: Any) -> None:
    """Says it, and hangs."""
    print(words)
    time.sleep(1000)


@flow.step
def speak_and_die(words: Any) -> None:
    """Says it, and dies."""
    print(words)
    os.kill(os.getpid(), signal.SIGKILL)


@flow.step
def hoard(_input: Any) -> None:
    """Takes ever more memory, 16 MiB at a time, and uses it."""
    hoarded = []
    while True:
        hoarded.append(bytearray(os.urandom(1 << 20) * 16))
        time.sleep(0.02)


@flow.step
def hoard_in_a_subprocess(_input: Any) -> None:
    """Lets a subprocess take the memory."""
    subprocess.run([sys.executable, "-c", "x = bytearray(400 << 20); import time; time.sleep(1000)"], check=True)


@flow.step(memory_limit="1GiB")
def take(input: Any) -> int:
    """Takes as many MiB as ``input`` says, and gives them back."""
    return len(bytearray(input["mib"] << 20)) >> 20


@flow.step
def pid(_input: Any) -> int:
    """The process's own."""
    return os.getpid()


@flow.step
def keep(input: Any) -> int:
    """Keeps as many MiB as ``input`` says in the process; its pid."""
    _kept.append(bytearray(os.urandom(1 << 20) * input["mib"]))
    return os.getpid()


_kept: list[bytearray] = []


@flow.step
def print_for_ever(_input: Any) -> None:
    """As fast as it goes."""
    noise = b"noise\n" * 10_000
    while True:
        os.write(1, noise)


@flow.step
def speak_without_descriptors(_input: Any) -> str:
    """Prints although it has closed all it could."""
    for descriptor in range(3):
        os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        print("to nowhere", file=stream)
    sys.stdout.close()
    with contextlib.suppress(ValueError):
        print("to nothing")
    return "went on"
