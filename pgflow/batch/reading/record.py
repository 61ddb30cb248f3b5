"""What a format finds in its input: values, and places where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Record = tuple[int, bytes | str, Any]
"""Where something begins, the number of its line, counted from 1, and its text; and its value, or a Fault."""


@dataclass(frozen=True, slots=True)
class Fault:
    """In place of a value: why there is none, in words that follow the number of the line."""

    reason: str


class BrokenInputError(Exception):
    """The input is broken so that nothing can be read beyond this place."""

    def __init__(self, number: int, text: bytes | str, reason: str) -> None:
        super().__init__(reason)
        self.number = number
        self.text = text
        self.reason = reason
