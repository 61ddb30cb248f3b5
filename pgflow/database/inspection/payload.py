"""Values of users, which may be long: how long they are, and as much of them as was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CHARACTERS = 4_000
"""How much of a value, or of an error, is read unless all of it is wanted."""
ALL = 2**31 - 1
"""More characters than PostgreSQL's texts have."""


class JsonText(str):
    """JSON as PostgreSQL wrote it, which shall stay as it is: a float would lose digits."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Payload:
    """A JSON value: its size as text, in UTF-8, and the value; where it is longer than wanted its beginning."""

    bytes: int
    truncated: bool
    value: JsonText | None
    beginning: str | None


def payload(row: dict[str, Any], limit: int) -> Payload | None:
    """What a query with the columns ``bytes``, ``characters`` and ``text`` returned; ``text`` is at most ``limit``
    characters long. None for SQL's NULL."""
    if row["text"] is None:
        return None
    if row["characters"] > limit:
        return Payload(row["bytes"], True, None, row["text"])
    return Payload(row["bytes"], False, JsonText(row["text"]), None)
