"""JSON that people wrote, read by the letter.

ujson takes ``01`` for 1 and ``-`` for 0, which would make numbers of somebody's words; the standard library does not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON (write null)")


# What raw_decode calls, which costs as much again for a small value.
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(parse_constant=_refuse_constant).scan_once  # type: ignore[attr-defined]


def decode_at(text: str, index: int) -> tuple[Any, int]:
    """The value that begins at that index, and the index after it. Raises ValueError, or RecursionError where it is
    nested too deep."""
    try:
        return _scan(text, index)
    except StopIteration as error:
        raise json.JSONDecodeError("Expecting value", text, error.value) from None


def decode(text: str) -> Any:
    """The value of a text without white space around it. Raises as ``decode_at`` does."""
    value, end = decode_at(text, 0)
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def in_words(error: ValueError | RecursionError) -> str:
    """Why a text is no JSON, for people."""
    if isinstance(error, RecursionError):
        return "it is nested too deep (make it flatter)"
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON: {error.msg} at column {error.colno}"
    return f"it cannot be read: {error}"
