"""A core that has the contract's functions alone, as another implementation's: ours, with what is ours out of sight."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import psycopg

from pgflow.database import schema

CATALOGUE = Path(__file__).parents[1] / "database" / "contract_catalog.txt"
_NAMED = re.compile(r"\bpgflow\.(\w+)")
_VISIBILITY = re.compile(r"  PERFORM pgflow\._hide_messages\(p_flow_slug, claimed\.message_ids, .*?;\n")


def install(url: str, *, sets_visibility: bool = True) -> None:
    """Install it in an empty database; without ``sets_visibility`` with the defect D1 of the contract.

    What the contract's functions need of ours is in the schema ``hidden``.
    """
    script = schema.sql()
    if not sets_visibility:
        script, count = _VISIBILITY.subn("", script)
        assert count == 1
    script = _NAMED.sub(lambda name: f"{'pgflow' if name[1] in contract_names() else 'hidden'}.{name[1]}", script)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA hidden")
        connection.execute(script.encode())


@cache
def contract_names() -> frozenset[str]:
    """The names of the contract's tables, types and functions."""
    lines = (line.split("|") for line in CATALOGUE.read_text().splitlines())
    return frozenset(name.partition("(")[0] for kind, name, *_ in lines)
