"""Ids as people type them: the beginning is enough while it is unique."""

from __future__ import annotations

from dataclasses import dataclass

from pgflow.database import Database
from pgflow.errors import AmbiguousIdError, IdNotFoundError

CANDIDATES = 5
"""How many of those that an ambiguous id may mean are named."""
_DIGITS = 32


@dataclass(frozen=True, slots=True)
class IdRange:
    """The UUIDs that begin alike."""

    first: str
    last: str


def id_range(given: str) -> IdRange | None:
    """The UUIDs that begin as ``given``, with or without dashes; None if there can be none."""
    digits = given.replace("-", "").lower()
    if not 0 < len(digits) <= _DIGITS or not all(digit in "0123456789abcdef" for digit in digits):
        return None
    return IdRange(digits.ljust(_DIGITS, "0"), digits.ljust(_DIGITS, "f"))


def find_run(database: Database, given: str) -> str:
    """The id of the one run whose id begins so. Raises IdNotFoundError and AmbiguousIdError."""
    ids = id_range(given)
    rows = [] if ids is None else database.fetch_all("inspection/runs_by_id", _bounds(ids))
    described = {row["run_id"]: f"{row['run_id']} ({row['flow_slug']}, {row['status']})" for row in rows}
    return the_one(described, "run", given, "pgflow runs list", database)


def find_flow(database: Database, given: str) -> str:
    """The slug of the flow of that name, or else of the one whose slug begins so. Raises as ``find_run``."""
    slugs = [row["flow_slug"] for row in database.fetch_all("flow_slugs")]
    found = [given] if given in slugs else [slug for slug in slugs if given and slug.startswith(given)]
    return the_one({slug: slug for slug in found}, "flow", given, "pgflow flows list", database)


def the_one(described: dict[str, str], thing: str, given: str, remedy: str, database: Database) -> str:
    """The only key of ``described``, which says in words what each is. Raises IdNotFoundError and AmbiguousIdError."""
    if not described:
        raise IdNotFoundError(thing=thing, given=given, target=database.target, remedy=remedy)
    if len(described) > 1:
        named = list(described.values())[:CANDIDATES]
        named += ["..."] if len(described) > CANDIDATES else []
        raise AmbiguousIdError(thing=thing, given=given, candidates="\n".join(f"  {name}" for name in named))
    return next(iter(described))


def _bounds(ids: IdRange) -> dict[str, str | int]:
    return {"first": ids.first, "last": ids.last, "limit": CANDIDATES + 1}
