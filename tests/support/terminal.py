"""``pgflow`` with a terminal for its input and output."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.cli import PGFLOW, TIMEOUT_SECONDS, environment


class Terminal:
    """What a process shows on a terminal, and what is typed there."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int, other_end: int) -> None:
        self.process = process
        self.shown = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")  # a read may end within a character
        self._position = 0
        self._descriptor = descriptor
        self._other_end = other_end

    def see(self, words: str) -> str:
        """Everything shown so far, once these words have been, after those of the last call."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while (position := self.shown.find(words, self._position)) < 0:
            assert time.monotonic() < deadline, f"not seen: {words!r}\n{self.shown}"
            if not self._read(0.1):
                assert self.process.poll() is None, f"it ended without {words!r}\n{self.shown}"
        self._position = position + len(words)
        return self.shown

    def type(self, keys: str) -> None:
        """Type."""
        os.write(self._descriptor, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Make it as large as that."""
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def is_canonical(self) -> bool:
        """Whether input comes by the line and is echoed, as a shell leaves it."""
        flags = termios.tcgetattr(self._other_end)[3]
        return bool(flags & termios.ICANON and flags & termios.ECHO)

    def end(self) -> int:
        """The exit code, once the process has ended by itself."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown
            self._read(0.05)
        while self._read(0.0):
            pass
        return self.process.returncode

    def _read(self, seconds: float) -> bool:
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return False
        self.shown += self._decoder.decode(os.read(self._descriptor, 65536))
        return True


@contextmanager
def on_a_terminal(*arguments: str, url: str, columns: int = 100, lines: int = 30, **more: str) -> Iterator[Terminal]:
    """``pgflow`` on a terminal of that size, killed at the end of the block."""
    descriptor, other_end = pty.openpty()
    env = environment(url, {"TERM": "xterm-256color"} | more)
    for name in ("COLUMNS", "LINES"):
        env.pop(name, None)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        [*PGFLOW, *arguments],
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
        env=env,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(other_end, termios.TIOCSCTTY, 0),
    )
    try:
        yield Terminal(process, descriptor, other_end)
    finally:
        process.kill()
        process.wait()
        os.close(descriptor)
        os.close(other_end)
