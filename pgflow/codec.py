"""JSON text that PostgreSQL's jsonb is sure to accept, and back: ujson, with its leniences refused.

A value may be None, bool, int, float, str, and lists, tuples and dicts of them; subclasses (np.float64,
IntEnum, StrEnum, namedtuple, OrderedDict) count as their base. Nothing else is converted behind the
author's back: ujson would make a Decimal a float and the key 1 a "1", and paste in what ``__json__`` says.

What comes back is not always what went in, for JSON has one kind of array, and jsonb stores numbers as
decimals and objects without order:

* a tuple comes back as a list;
* ``-0.0`` comes back as ``0.0``, and a float from 1e16 on as an int: ``1e22`` as ``10000000000000000000000``;
* a number with a fraction comes back as a double, so digits beyond 17 are lost; ints keep all of theirs;
* the keys of an object come back shortest first.

Encoding takes a quick look at the value, which runs no code of the value's own and decides whether ujson may
have it. Only when something is suspicious does a careful look find out what, and where.
"""

from __future__ import annotations

import json
import marshal
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ujson

from pgflow.errors import InputNotDecodableError, OutputNotSerializableError

MAX_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 1_000  # ujson manages 1,024 levels, and an output ends up two deeper in the input of another step
MAX_VALUES = 8_388_608  # jsonb may take 16 bytes for a value of 2; its arrays hold 256 MiB and 16,777,216 elements
MAX_INT_DIGITS = 4_300  # what Python converts unless told otherwise
MAX_PATH_CHARACTERS = 200
MAX_KEY_CHARACTERS = 60

_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE = re.compile("[\ud800-\udfff]")
# inf, -inf, nan and -nan as marshal writes them; six zero bytes before F0 7F and so on are no part of UTF-8.
_NOT_FINITE = {last: (bytes(6) + b"\xf0" + last, bytes(6) + b"\xf8" + last) for last in (b"\x7f", b"\xff")}

_CONTAINERS = (dict, list, tuple)
# The base of a subclass, and how to copy an instance into it without running the subclass's code.
_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (dict, lambda item: dict(dict.items(item))),
    (list, list.copy),
    (tuple, lambda item: tuple.__getitem__(item, slice(None))),
)


def encode(value: Any, *, max_bytes: int = MAX_BYTES, max_values: int | None = None) -> str:
    """The JSON text of ``value``: no spaces, characters beyond ASCII as they are, ``/`` not escaped.

    ``max_bytes`` is the most the text may take in UTF-8, ``max_values`` how many values it may have (8,388,608).
    Raises OutputNotSerializableError, naming the place (``$.items[3].name``) and the remedy, for what JSON
    cannot say or jsonb refuses: NaN and infinities, NUL and lone surrogates, keys that are not str, types other
    than the module's, ints of more than 4,300 digits, nesting deeper than 1,000 (where a circular reference
    ends too), and sizes beyond those limits.
    """
    if not _is_plain(value, max_bytes):
        _refuse_fault(value, max_bytes)
    return _text(value, max_bytes, max_values if max_values is not None else MAX_VALUES)


def encode_parsed(value: Any) -> str:
    """The same, its keys sorted, of a value that came out of JSON text: its types and keys need no look, which halves
    the time."""
    text = _text(value, MAX_BYTES, MAX_VALUES, sort_keys=True)
    if len(text) > MAX_DEPTH and text.count("[") + text.count("{") > MAX_DEPTH and not _is_plain(value, MAX_BYTES):
        _refuse_fault(value, MAX_BYTES)
    return text


def _text(value: Any, max_bytes: int, max_values: int, *, sort_keys: bool = False) -> str:
    """The text of a value whose types and keys are known to be fine."""
    try:
        text: str = ujson.dumps(
            value, ensure_ascii=False, escape_forward_slashes=False, allow_nan=False, sort_keys=sort_keys
        )
        size = len(text) if text.isascii() else len(text.encode())
    except (OverflowError, TypeError, ValueError) as error:  # NaN, or an int or str beyond the limits
        _refuse_fault(value, max_bytes)
        raise OutputNotSerializableError(reason=str(error), path="$") from None
    if "\\u0000" in text and _ESCAPED_NUL.search(text):
        _refuse_fault(value, max_bytes)
    if size > max_bytes:
        raise _too_large(max_bytes)
    if _may_have_more(text, max_values) and sum(1 for _ in _places(value)) > max_values:
        raise OutputNotSerializableError(reason=_TOO_MANY, path="$")
    return text


def _may_have_more(text: str, most: int) -> bool:
    """Whether a text has that many values, or as many commas and brackets in its strings."""
    return len(text) > most and sum(map(text.count, ",[{")) >= most


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

    Searching marshal's image costs a third (floats) to once (nested dicts) of what ujson.loads does, a
    regular expression over the text six times as much. An int's digits may resemble infinity, so a find is
    looked at closely.
    """
    image = marshal.dumps(value, 2)
    # UTF-8 never has the byte FF, and text hardly 7F: looking for them first takes 1.5 us in 100 KB, a pattern 40-300.
    if not any(last in image and _has_any(image, patterns) for last, patterns in _NOT_FINITE.items()):
        return True
    return all(math.isfinite(item) for item, _ in _places(value) if type(item) is float)


def _has_any(image: bytes, patterns: Iterable[bytes]) -> bool:
    return any(pattern in image for pattern in patterns)


# --- the quick look ------------------------------------------------------------------------------


class _SuspiciousError(Exception):
    """The quick look cannot vouch for the value."""


class _TooLargeError(Exception):
    """The quick look has found nothing wrong, but more than there may be."""


def _is_plain(value: Any, max_bytes: int) -> bool:
    """Whether every type, every key and the depth are fine; a no may be mistaken. Raises OutputNotSerializableError if
    the text would certainly be too large."""
    if not 0 < sys.get_int_max_str_digits() <= MAX_INT_DIGITS:
        return False  # the handler lifted the limit that makes ujson refuse long ints
    try:
        _vouch((value,), max_bytes, 0)
    except _TooLargeError:  # the careful look would take ten times as long to say the same
        raise _too_large(max_bytes) from None
    except (_SuspiciousError, RuntimeError):  # too deep for Python, or a dict that another thread changes
        return False
    return True


def _vouch(items: Iterable[Any], budget: int, depth: int) -> int:
    """What remains of ``budget``, in bytes, after the least that ``items`` take as text.

    The budget stops a small value that repeats a part before it becomes gigabytes inside ujson. Types are
    compared by identity, since looking them up in a set would run the code of a metaclass.
    """
    if budget < 0 or depth > MAX_DEPTH:
        raise _SuspiciousError if depth > MAX_DEPTH else _TooLargeError
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
            base = _as_base(item)
            if base is item:
                raise _SuspiciousError
            budget = _vouch((base,), budget, depth)
    return budget


def _as_base(item: Any) -> Any:
    """An instance of a subclass as its base class has it; ``item`` itself when it has no such base."""
    kind = type(item)
    for base, copy in _BASES:
        if issubclass(kind, base):
            return copy(item)
    return item


# --- the careful look ----------------------------------------------------------------------------


def _refuse_fault(value: Any, max_bytes: int) -> None:
    """Raise OutputNotSerializableError for the first fault of ``value``, depth first, if there is one."""
    budget = max_bytes
    for item, steps in _places(value):
        reason = _fault(item)
        if len(steps) > MAX_DEPTH and issubclass(type(item), _CONTAINERS):
            reason = f"nested deeper than {MAX_DEPTH:,} levels, or in a circle (return a flatter value)"
        if reason:
            raise OutputNotSerializableError(reason=reason, path=_path(steps))
        budget -= _least_size(item)
        if budget < 0:
            raise _too_large(max_bytes)


_TOO_MANY = f"it has more than {MAX_VALUES:,} values (store it elsewhere and return a reference to it)"


def _too_large(max_bytes: int) -> OutputNotSerializableError:
    reason = f"its text is larger than {max_bytes:,} bytes (store it elsewhere and return a reference to it)"
    return OutputNotSerializableError(reason=reason, path="$")


def _least_size(item: Any) -> int:
    """The least bytes ``item`` takes in the text beside its parts, counted as the quick look does."""
    kind = type(item)
    if kind is str:
        return len(item)
    if kind is dict:
        return 5 * len(item) + sum(map(str.__len__, item))
    if kind is list or kind is tuple:
        return 2 * len(item)
    return 0


def _places(value: Any) -> Iterator[tuple[Any, list[str | int]]]:
    """Every part of ``value`` as its base class has it, depth first, and the steps to it: "$", keys, indexes.

    The list of steps is the same object throughout. A container is entered when the caller asks for more,
    so the caller's limit ends a circular reference.
    """
    steps: list[str | int] = []
    entered: list[Iterator[tuple[str | int, Any]]] = [iter([("$", value)])]
    while entered:
        for step, part in entered[-1]:
            steps[len(entered) - 1 :] = [step]
            item = _as_base(part)
            yield item, steps
            if issubclass(type(item), _CONTAINERS):
                entered.append(iter(item.items()) if type(item) is dict else enumerate(item))
                break
        else:
            entered.pop()


def _path(steps: list[str | int]) -> str:
    """``$.items[3]["odd name"]``; a long one without its middle, since it is the end of an error's text."""
    path = str(steps[0]) + "".join(map(_step_text, steps[1:]))
    if len(path) <= MAX_PATH_CHARACTERS:
        return path
    half = MAX_PATH_CHARACTERS // 2
    return f"{path[:half]}...{path[-half:]}"


def _step_text(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    name = str.__str__(step)
    return f".{name}" if name.isidentifier() else f"[{json.dumps(name)}]"


# --- what is wrong, and what to do ---------------------------------------------------------------


def _fault(item: Any) -> str | None:
    kind = type(item)
    if kind is str:
        return _text_fault(item, "a string")
    if kind is float:
        return _float_fault(item)
    if kind is int:
        return _int_fault(item)
    if kind is dict:
        return _key_fault(item)
    if item is None or issubclass(kind, _CONTAINERS):
        return None
    return f"{_name(kind)} is not a JSON type ({_remedy(kind)})"


def _text_fault(text: str, what: str) -> str | None:
    if "\0" in text:
        return f"{what} contains NUL (U+0000), which PostgreSQL cannot store (remove it)"
    if text.isascii() or not (surrogate := _SURROGATE.search(text)):
        return None
    return (
        f"{what} contains the lone surrogate U+{ord(surrogate[0]):04X}, which is not a character "
        "(clean it with value.encode(errors='replace').decode())"
    )


def _float_fault(number: float) -> str | None:
    if math.isfinite(number):
        return None
    name = "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    return f"{name} is not a JSON number (return None instead)"


def _int_fault(number: int) -> str | None:
    limit = min(sys.get_int_max_str_digits() or MAX_INT_DIGITS, MAX_INT_DIGITS)
    if number.bit_length() <= 3 * limit or abs(number) < 10**limit:
        return None
    return f"an int has more than {limit:,} digits (return it as a string, for example hex(value))"


def _key_fault(item: dict[Any, Any]) -> str | None:
    texts: set[str] = set()
    for key in item:
        if not issubclass(type(key), str):
            return f"{_key_name(key)} is not a string (return str(key) as the key)"
        text = str.__str__(key)
        what = f"the key {json.dumps(text[:MAX_KEY_CHARACTERS])}"
        if fault := _text_fault(text, what):
            return fault
        if text in texts:
            return f"{what} occurs twice, as keys that differ only to Python (rename one)"
        texts.add(text)
    return None


def _key_name(key: Any) -> str:
    kind = type(key)
    plain = key is None or kind is bool or kind is float or (kind is int and key.bit_length() <= 64)
    return f"the key {key!r}" if plain else f"a key of type {_name(kind)}"


def _name(kind: type) -> str:
    """``decimal.Decimal``: the class's name, whatever its metaclass says."""
    return type.__repr__(kind).removeprefix("<class '").removesuffix("'>")


def _remedy(kind: type) -> str:
    from pgflow.remedies import remedy  # only here: it imports what an output's class may come from

    return remedy(kind)
