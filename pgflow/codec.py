"""JSON text that PostgreSQL's jsonb is sure to accept, and back: ujson, with its leniences refused.

A value may be None, bool, int, float, str, and lists, tuples and dicts of them; subclasses (np.float64,
IntEnum, StrEnum, namedtuple, OrderedDict) count as their base. Nothing else is converted behind the
author's back: ujson would make a Decimal a float and the key 1 a "1", and paste whatever ``__json__`` returns.

What comes back is not always what went in, for JSON has one kind of array, and jsonb stores numbers as
decimals and objects without order:

* a tuple comes back as a list;
* ``-0.0`` comes back as ``0.0``, and ``1e22`` as the int ``10000000000000000000000``;
* a number with a fraction comes back as a double, so digits beyond 17 are lost; ints keep all of theirs;
* the keys of an object come back shortest first.

Encoding takes a quick look at the value, which runs no code of the value's own and decides whether ujson may
have it. Only when something is suspicious does a careful look find out what, and where.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import marshal
import math
import os
import re
import sys
import uuid
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any

import ujson

from pgflow.errors import InputNotDecodableError, OutputNotSerializableError

MAX_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 1_000  # ujson manages 1,024 levels, and an output ends up two deeper in the input of another step
MAX_INT_DIGITS = 4_300  # what Python converts unless told otherwise
MAX_PATH_CHARACTERS = 200
MAX_KEY_CHARACTERS = 60

_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE = re.compile("[\ud800-\udfff]")
# inf, -inf, nan and -nan as marshal writes them; six zero bytes before F0 7F and so on are no part of UTF-8.
_NOT_FINITE = tuple(bytes(6) + end for end in (b"\xf0\x7f", b"\xf0\xff", b"\xf8\x7f", b"\xf8\xff"))

# The base of a subclass, and how to copy an instance into it without running the subclass's code.
_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (dict, lambda item: dict(dict.items(item))),
    (list, list.copy),
    (tuple, lambda item: tuple.__getitem__(item, slice(None))),
)


def encode(value: Any, *, max_bytes: int = MAX_BYTES) -> str:
    """The JSON text of ``value``: no spaces, characters beyond ASCII as they are, ``/`` not escaped.

    ``max_bytes`` is the most the text may take in UTF-8. Raises OutputNotSerializableError, naming the place
    (``$.items[3].name``) and the remedy, for what JSON cannot say or jsonb refuses: NaN and infinities, NUL
    and lone surrogates, keys that are not str, types other than the module's, ints of more than 4,300
    digits, nesting deeper than 1,000 (where a circular reference ends too).
    """
    if not _is_plain(value, max_bytes):
        _refuse_fault(value, max_bytes)
    try:
        text: str = ujson.dumps(value, ensure_ascii=False, escape_forward_slashes=False, allow_nan=False)
        size = len(text) if text.isascii() else len(text.encode())
    except (OverflowError, TypeError, ValueError) as error:  # NaN, or an int or str beyond the limits
        _refuse_fault(value, max_bytes)
        raise OutputNotSerializableError(reason=str(error), path="$") from None
    if "\\u0000" in text and _ESCAPED_NUL.search(text):
        _refuse_fault(value, max_bytes)
    if size > max_bytes:
        raise _too_large(max_bytes)
    return text


def decode(text: str) -> Any:
    """The value of JSON text as jsonb prints it: dict, list, str, int, float, bool or None.

    Raises InputNotDecodableError for text that is not JSON, is nested deeper than ujson's 1,024 levels, or
    holds a number beyond Python's int (4,300 digits) or float (1.8e308).
    """
    try:
        value = ujson.loads(text)
    except ValueError as error:
        raise InputNotDecodableError(reason=str(error)) from None
    if not _is_finite(value):
        raise InputNotDecodableError(
            reason="it holds NaN, Infinity or a number beyond a float's 1.8e308 (send it as a string)"
        )
    return value


def _is_finite(value: Any) -> bool:
    """Whether decoded ``value`` has no infinite or NaN float, which is what ujson makes of 1e5000 and NaN.

    Searching marshal's image costs half of what ujson.loads does, a regular expression over the text five
    times as much as ujson.loads. An int's digits may look like infinity, so a find is looked at closely.
    """
    image = marshal.dumps(value, 2)
    if not any(pattern in image for pattern in _NOT_FINITE):
        return True
    return all(math.isfinite(item) for item, _ in _places(value) if type(item) is float)


# --- the quick look ------------------------------------------------------------------------------


class _SuspiciousError(Exception):
    """The quick look cannot vouch for the value."""


def _is_plain(value: Any, max_bytes: int) -> bool:
    """Whether every type, every key, the depth and roughly the size are fine; a no may be mistaken."""
    if sys.get_int_max_str_digits() not in range(1, MAX_INT_DIGITS + 1):
        return False  # the handler lifted the limit that makes ujson refuse long ints
    try:
        _vouch((value,), max_bytes, 0)
    except (_SuspiciousError, RecursionError):
        return False
    return True


def _vouch(items: Iterable[Any], budget: int, depth: int) -> int:
    """What remains of ``budget``, in bytes, after the least that ``items`` take as text.

    The budget stops a small value that repeats a part before it becomes gigabytes inside ujson. Types are
    compared by identity, since looking them up in a set would run the code of a metaclass.
    """
    if budget < 0 or depth > MAX_DEPTH:
        raise _SuspiciousError
    for item in items:
        kind = type(item)
        if kind is str:
            budget -= len(item)
        elif kind is float or kind is int or item is None or kind is bool:
            continue
        elif kind is dict:
            for key in item:
                if type(key) is not str:
                    raise _SuspiciousError
                budget -= len(key)
            budget = _vouch(item.values(), budget - 5 * len(item), depth + 1)
        elif kind is list or kind is tuple:
            budget = _vouch(item, budget - 2 * len(item), depth + 1)
        else:
            budget = _vouch((_as_base(item),), budget, depth)
    return budget


def _as_base(item: Any) -> Any:
    """An instance of a subclass as its base class has it. Raises _SuspiciousError when it has no such base."""
    kind = type(item)
    for base, copy in _BASES:
        if issubclass(kind, base):
            return copy(item)
    raise _SuspiciousError


# --- the careful look ----------------------------------------------------------------------------

type Place = list[str | int]


def _refuse_fault(value: Any, max_bytes: int) -> None:
    """Raise OutputNotSerializableError for the first fault of ``value``, depth first; return if it has none."""
    budget = max_bytes
    for item, steps in _places(value):
        if len(steps) >= MAX_DEPTH and type(item) in _ENTRIES:
            reason = f"nested deeper than {MAX_DEPTH:,} levels, or in a circle (return a flatter value)"
            raise OutputNotSerializableError(reason=reason, path=_path(steps))
        if reason := _fault(item):
            raise OutputNotSerializableError(reason=reason, path=_path(steps))
        budget -= 2 + (len(item) if type(item) is str else 0)
        if budget < -1:
            raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> OutputNotSerializableError:
    reason = f"its text is larger than {max_bytes:,} bytes (store it elsewhere and return a reference to it)"
    return OutputNotSerializableError(reason=reason, path="$")


def _places(value: Any) -> Iterator[tuple[Any, Steps]]:
    """Every part of ``value`` as its base class has it, depth first, with the steps that lead to it.

    The list of steps is one and the same throughout. The parts of a container are fetched only when the
    caller asks for more, so one that stops at a depth comes to the end of a circular reference.
    """
    steps: list[str | int] = []
    yield _as_base_or_itself(value), steps
