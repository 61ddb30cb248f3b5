"""Handlers that return what cannot be stored, or hardly."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from tests.flows.catalogue.common import RootError, circle, flow


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


_OUTPUTS: dict[str, Callable[[], object]] = {
    "too_large": lambda: "x" * 100_000_000,
    "large": lambda: "x" * 60_000_000,
    "unpicklable": lambda: threading.Lock(),
    "function": lambda: circle,
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
    "circle": circle,
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
