"""Handlers that raise."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from tests.flows.catalogue.common import MEBIBYTE, RootError, eat_memory, flow, limit_memory


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
    limit_memory(64 * MEBIBYTE)
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
    limit_memory(32 * MEBIBYTE)
    eat_memory()
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
