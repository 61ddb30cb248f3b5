"""What flows and steps may be called."""

from __future__ import annotations

import re

MAX_CHARACTERS = 128
MAX_FLOW_CHARACTERS = 47
"""A flow's queue has its name, and pgmq allows 47 characters."""

_VALID = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def slug_fault(slug: object, *, limit: int = MAX_CHARACTERS) -> str | None:
    """Why ``slug`` will not do and what will, as the end of a sentence; None for a good one.

    The rules are those of the contract's ``is_valid_slug``.
    """
    if not isinstance(slug, str):
        return "is not a str: write it in quotes"
    if len(slug) > limit:
        return f"has {len(slug)} characters: shorten it to at most {limit}"
    if not _VALID.fullmatch(slug):
        return "is not valid: use the letters a-z and A-Z, digits and _, and no digit first"
    if slug == "run":
        return "is reserved: choose another one"
    return None
