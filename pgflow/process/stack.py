"""Where a process hangs or crashed: its Python stack, written by the process itself, read from outside.

Tried and works while the handler ignores, replaces or blocks SIGTERM, hangs in C, or holds the GIL, in
1-3 ms and at no cost per task: an idle thread is started before the handler runs and faulthandler is
registered for a real-time signal that nobody uses. When the main thread blocks every signal the kernel
delivers it to the idle thread, and faulthandler's handler needs no GIL.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pgflow.process import proc

DUMP_SIGNAL = int(signal.SIGRTMAX) - 1 if hasattr(signal, "SIGRTMAX") else int(signal.SIGUSR2)
DUMP_TIMEOUT_SECONDS = 0.2
THREAD = "pgflow-stack-dump"
"""The name of the idle thread."""
_LIBC = ctypes.CDLL(None)
_POLL_SECONDS = 0.001
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.*)$')
_CURRENT = re.compile(r"^Current thread 0x(?P<ident>[0-9a-f]+)")
_CUT = "\n  ...\n"
"""What faulthandler writes instead of the frames beyond the innermost 100."""
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x(?P<ident>[0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of a Python stack."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f'  File "{self.file}", line {self.line}, in {self.function}'


def install(dump_fd: int) -> None:
    """Make this process write its stacks to ``dump_fd`` on ``DUMP_SIGNAL`` and on a fatal signal.

    Call it in the main thread, once a process, before user code runs.
    """
    write_to(dump_fd)
    threading.Thread(target=threading.Event().wait, name=THREAD, daemon=True).start()


def write_to(dump_fd: int) -> None:
    """Let the stacks go to ``dump_fd``, whoever has redirected them."""
    faulthandler.enable(dump_fd, all_threads=True)
    faulthandler.register(DUMP_SIGNAL, dump_fd, all_threads=True, chain=False)


def uninstall() -> None:
    """Write no more stacks. Needed before ``write_to`` if the signals' handlers were changed, which faulthandler does
    not notice."""
    faulthandler.disable()
    faulthandler.unregister(DUMP_SIGNAL)


def request(pid: int) -> bool:
    """Ask a process that called ``install`` for its stacks; it may have ended meanwhile, or become somebody else's
    (sudo). Whether a signal had stopped it; then it goes on now."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if _request_of_stopped(pid):
            return True
        os.kill(pid, DUMP_SIGNAL)
    return False


def _request_of_stopped(pid: int) -> bool:
    """A process that was stopped writes when it is continued. Then its main thread must take the signal, before it does
    anything else; otherwise that is left to the kernel, as the main thread may block it."""
    status = proc.status(pid)
    if status is None or not status.is_stopped or not hasattr(_LIBC, "tgkill"):
        return False
    _LIBC.tgkill(pid, pid, DUMP_SIGNAL)
    os.kill(pid, signal.SIGCONT)
    return True


def await_dump(dump_fd: int, thread_ident: int, caller_file: str, until: float) -> tuple[Frame, ...]:
    """The stack of one thread, innermost frame first, as soon as it is written; what there is at ``until``, a
    ``time.monotonic()`` instant."""
    while not is_written(text := read(dump_fd), thread_ident, caller_file) and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    return frames_of_thread(text, thread_ident)


def is_written(text: str, thread_ident: int, caller_file: str) -> bool:
    """Whether a thread's stack is complete in faulthandler's text: down to ``caller_file``, which called the handler.
    That the file no longer grows says nothing: on a busy machine a process is kept from writing."""
    frames = frames_of_thread(text, thread_ident)
    return _position(frames, caller_file) is not None or (bool(frames) and text.endswith(_CUT))


def read(dump_fd: int) -> str:
    """Everything dumped so far."""
    return os.pread(dump_fd, 1 << 20, 0).decode(errors="replace")


def frames_of_thread(text: str, thread_ident: int) -> tuple[Frame, ...]:
    """The frames of one thread in faulthandler's text, innermost first; empty if it is not there."""
    frames: list[Frame] = []
    wanted = False
    for line in text.splitlines():
        if thread := _THREAD.match(line):
            wanted = int(thread["ident"], 16) == thread_ident
            frames = [] if wanted else frames
        elif wanted and (frame := _FRAME.match(line)):
            number = int(frame["line"]) if frame["line"].isdigit() else 0
            frames.append(Frame(frame["file"], number, frame["function"]))
    return tuple(frames)


def frames_of_crash(text: str, main_thread: int) -> tuple[Frame, ...]:
    """The frames of the thread that a fatal signal met, else of the main thread, innermost first."""
    met = next((match for line in text.splitlines() if (match := _CURRENT.match(line))), None)
    return frames_of_thread(text, int(met["ident"], 16) if met else main_thread)


def handler_frames(frames: Sequence[Frame], caller_file: str) -> tuple[Frame, ...]:
    """The part of a stack that is the handler's: what lies inside the innermost frame of ``caller_file``."""
    return tuple(frames[: _position(frames, caller_file)])


def _position(frames: Sequence[Frame], file: str) -> int | None:
    """Where the innermost frame of a file is; faulthandler writes names in ASCII."""
    written = file.encode("ascii", "backslashreplace").decode()
    return next((position for position, frame in enumerate(frames) if frame.file == written), None)


def describe(frames: Sequence[Frame]) -> str:
    """Where the innermost frame is, in words: ``match (re/__init__.py:166), called from clean.py:41``."""
    innermost = frames[0]
    words = f"{innermost.function} ({_short(innermost.file)}:{innermost.line})"
    user_frame = next((frame for frame in frames if not _is_library(frame.file)), None)
    if user_frame is not None and user_frame is not innermost:
        words += f", called from {_short(user_frame.file)}:{user_frame.line}"
    return words


def _is_library(file: str) -> bool:
    return file.startswith((sys.prefix, sys.base_prefix, "<"))


def _short(file: str) -> str:
    """The file's name, with its folder for a library's file, whose bare name says little."""
    parts = file.rsplit("/", 2)
    return "/".join(parts[-2:]) if _is_library(file) else parts[-1]
