"""Rights for roles that do not own the schema: PUBLIC has none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources
from typing import Any, LiteralString

import psycopg
from psycopg.sql import SQL, Composed, Identifier

from pgflow.database import schema
from pgflow.errors import SchemaError


def statements(*, workers: Iterable[str] = (), clients: Iterable[str] = ()) -> list[Composed]:
    """What grants the roles ``workers`` to serve flows and read, and the roles ``clients`` to start runs and read.

    Nothing on the tables is granted but reading, and to workers what they write in ``workers``, where they register and
    show that they live: everything else goes through functions that run with the owner's rights. Flows are compiled by
    the owner; others find them compiled.
    """
    return [*_granted(workers, "read", "worker"), *_granted(clients, "read", "client")]


def grant(connection: psycopg.Connection[Any], *, workers: Iterable[str] = (), clients: Iterable[str] = ()) -> None:
    """Grant that, in one transaction; repeatable, and to be repeated after an upgrade with new functions.

    Raises SchemaMissingError, SchemaTooNewError, SchemaError for a schema that is not this version's, and psycopg.Error
    for a role that does not exist or may not grant.
    """
    version = schema.installed_version(connection)
    if version is None:
        raise SchemaError(message="The pgflow schema is another implementation's: grant its use by its own means")
    if version < schema.VERSION:
        raise SchemaError(
            message=f"The schema has version {version}, this pgflow has {schema.VERSION}: "
            "upgrade it first with `pgflow schema install`"
        )
    with connection.transaction():
        for statement in statements(workers=workers, clients=clients):
            connection.execute(statement)


def _granted(roles: Iterable[str], *files: str) -> Iterator[Composed]:
    for role in roles:
        for file in files:
            yield SQL(_text(file)).format(role=Identifier(role))


@cache
def _text(file: str) -> LiteralString:
    return resources.files(__name__).joinpath(f"{file}.sql").read_text(encoding="utf-8")
