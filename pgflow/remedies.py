"""Remedies: what the author of a handler can return instead of a value that JSON cannot say."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import os
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence, Set, ValuesView


def remedy(kind: type) -> str:
    """The remedy for values of this class."""
    try:
        return next((text for is_wanted, text in _REMEDIES if is_wanted(kind)), _GENERAL)
    except Exception:  # noqa: BLE001 - the questions reach a metaclass, which may raise anything
        return _GENERAL


def _is_a(*classes: type) -> Callable[[type], bool]:
    return lambda kind: issubclass(kind, classes)


def _has(attribute: str) -> Callable[[type], bool]:
    return lambda kind: hasattr(kind, attribute)


_GENERAL = "return dicts, lists, strings, numbers, booleans or None made of it; __json__ and toDict are not called"
_REMEDIES: tuple[tuple[Callable[[type], bool], str], ...] = (
    (_is_a(decimal.Decimal), "return str(value), which keeps every digit, or float(value)"),
    (_is_a(enum.Enum), "return value.value"),
    (_is_a(datetime.timedelta), "return value.total_seconds()"),
    (_is_a(datetime.date, datetime.time), "return value.isoformat()"),
    (_is_a(uuid.UUID, os.PathLike), "return str(value)"),
    (_is_a(bytes, bytearray), "return value.decode() if it is text, else base64.b64encode(value).decode()"),
    (_is_a(complex), "return [value.real, value.imag]"),
    (dataclasses.is_dataclass, "return dataclasses.asdict(value)"),
    (_has("model_dump"), "return value.model_dump(mode='json')"),
    (_has("tolist"), "return value.tolist()"),  # numpy's scalars and arrays, array, memoryview, pandas
    (_is_a(Mapping), "return dict(value)"),
    (_is_a(Coroutine), "await it"),
    (_is_a(Set, Sequence, Iterator, ValuesView), "return list(value)"),
)
