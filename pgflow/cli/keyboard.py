"""The keyboard while a display has the whole terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@contextlib.contextmanager
def single_keys() -> Iterator[int | None]:
    """The descriptor on which each key arrives at once and unseen; None where standard input is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    tty.setcbreak(keys)
    try:
        yield keys
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


@contextlib.contextmanager
def suspending(console: Console, keys: int | None) -> Iterator[None]:
    """Ctrl-Z gives the terminal back to the shell as it was, and takes it again when the shell says so. For who shows
    something on the alternate screen, within ``single_keys``."""

    def suspend(_number: int, _frame: object) -> None:
        single = termios.tcgetattr(keys) if keys is not None else None
        _show_shell(console, keys)
        # Not SIGTSTP: in a process group whose shell is gone that stops nobody.
        os.kill(os.getpid(), signal.SIGSTOP)
        console.set_alt_screen(True)
        console.show_cursor(False)
        if keys is not None and single is not None:
            termios.tcsetattr(keys, termios.TCSADRAIN, single)

    before = signal.signal(signal.SIGTSTP, suspend)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)


def _show_shell(console: Console, keys: int | None) -> None:
    console.set_alt_screen(False)
    console.show_cursor(True)
    if keys is not None:
        usual = termios.tcgetattr(keys)
        usual[3] |= termios.ICANON | termios.ECHO
        termios.tcsetattr(keys, termios.TCSADRAIN, usual)
