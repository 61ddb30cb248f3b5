"""What an item is: its JSON text, and the key by which a resumed batch knows it again.

The key is BLAKE2b, 16 bytes, over the item's canonical JSON text: UTF-8, no spaces, the keys of objects sorted by their
characters, characters as they are where JSON need not escape them, numbers as PostgreSQL's jsonb compares them: whole
ones without fraction or exponent (``1.0`` and ``1e0`` are ``1``), others as the shortest text of the nearest double.
Keys are kept in databases, so this must never change.
"""

from __future__ import annotations

import re
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from pgflow import codec

KEY_BYTES = 16

# A string, which is passed over, or a number with a fraction or an exponent.
_FLOAT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?')


def content(value: Any) -> tuple[str, bytes]:
    """The JSON text, which jsonb accepts, and the key of a value that came out of JSON text.

    Raises OutputNotSerializableError for what jsonb refuses.
    """
    text = codec.encode_parsed(value)
    # ujson writes whole floats as 1.0 or 1e+22; strings may look so too.
    canonical = _FLOAT.sub(_as_jsonb, text) if ".0" in text or "e+" in text else text
    return text, blake2b(canonical.encode(), digest_size=KEY_BYTES).digest()


def _as_jsonb(match: re.Match[str]) -> str:
    text = match[0]
    if text.startswith('"') or not ("." in text or "e" in text):
        return text
    number = Decimal(text)
    return str(int(number)) if number == number.to_integral_value() else text
