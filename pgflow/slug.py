"""What flows and steps may be called."""

from __future__ import annotations

import re

from pgflow.errors import FlowDefinitionError

MAX_CHARACTERS = 128
MAX_FLOW_CHARACTERS = 47
"""A flow's queue has its name, and pgmq allows 47 characters."""

_VALID = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def require_valid(slug: object, what: str, *, limit: int = MAX_CHARACTERS) -> str:
    """The slug, or FlowDefinitionError with the reason and the remedy; ``what`` is "Flow" or "Step"."""
    if not isinstance(slug, str):
        raise FlowDefinitionError(message=f"{what} slug must be a str, got {slug!r}")
    if len(slug) > limit:
        raise FlowDefinitionError(
            message=f"{what} slug {slug!r} has {len(slug)} characters: shorten it to at most {limit}"
        )
    if not _VALID.fullmatch(slug):
        raise FlowDefinitionError(
            message=f"{what} slug {slug!r} is not valid: use letters, digits and _, and no digit first"
        )
    if slug == "run":
        raise FlowDefinitionError(message=f"{what} slug 'run' is reserved: choose another one")
    return slug
