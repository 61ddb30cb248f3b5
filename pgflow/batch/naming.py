"""What a batch is called."""

from __future__ import annotations

import hashlib
import os
import re
import secrets

from pgflow.errors import BatchNameError
from pgflow.reference import absolute
from pgflow.slug import MAX_FLOW_CHARACTERS

FLOW_PREFIX = "batch_"
MAX_CHARACTERS = MAX_FLOW_CHARACTERS - len(FLOW_PREFIX)
_DIGITS = 8
_VALID = re.compile(r"[a-z0-9_]+")
STANDARD = "-"
"""Standard input or output, as people write it."""


def flow_slug(name: str) -> str:
    """The slug of the batch's flow. Raises BatchNameError."""
    if len(name) > MAX_CHARACTERS:
        raise BatchNameError(name=name, fault=f"has {len(name)} characters: shorten it to at most {MAX_CHARACTERS}")
    if not _VALID.fullmatch(name):
        readable = _readable(name)
        hint = f", as in {readable}" if readable else ""
        raise BatchNameError(name=name, fault=f"is not valid: use the letters a-z, digits and _{hint}")
    return f"{FLOW_PREFIX}{name}"


def default_name(target: str, source: str, output: str) -> str:
    """A name that is the same whenever the same target, input and output file are given, from whatever folder:
    readable, with a hash. What is written to standard output has another name each time, as nobody can go on with it
    but by that."""
    places = (
        absolute(target),
        *(place if place == STANDARD else os.path.realpath(place) for place in (source, output)),
    )
    hashed = hashlib.sha256("\0".join(places).encode(errors="surrogateescape")).hexdigest()
    digits = secrets.token_hex(_DIGITS) if output == STANDARD else hashed
    parts = [_readable(target.rpartition(":")[2] or target), _readable(_stem(source))]
    readable = "_".join(part for part in parts if part)[: MAX_CHARACTERS - _DIGITS - 1].strip("_")
    return f"{readable}_{digits[:_DIGITS]}".lstrip("_")


def _stem(source: str) -> str:
    return "" if source == STANDARD else os.path.basename(source).partition(".")[0]


def _readable(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
