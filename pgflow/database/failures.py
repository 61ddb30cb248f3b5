"""What a failed call to the database means: come back later, or the data itself was refused."""

from __future__ import annotations

import psycopg

from pgflow.errors import DatabaseError, DatabaseRefusedError

FAILURES = (DatabaseError, psycopg.Error)
"""Everything that a call to ``Database`` raises when the database does not do its part."""

_TRANSIENT_CLASSES = {
    "08",  # connection exception
    "25",  # invalid transaction state: read-only after a failover
    "40",  # transaction rollback: serialization failure, deadlock
    "53",  # insufficient resources
    "55",  # object not in prerequisite state: lock not available
    "57",  # operator intervention: shutdown, statement timeout
    "58",  # system error
}


def is_data_error(error: Exception) -> bool:
    """Whether the same statement with the same data would fail again, judged by SQLSTATE.

    A lost connection has no SQLSTATE and is not the data's fault.
    """
    if not isinstance(error, psycopg.Error) or error.sqlstate is None:
        return False
    return error.sqlstate[:2] not in _TRANSIENT_CLASSES


def in_short(error: Exception) -> str:
    """What PostgreSQL says, and its detail, without where in our SQL that was."""
    if not isinstance(error, psycopg.Error) or not error.diag.message_primary:
        return str(error).strip().partition("\n")[0] or type(error).__name__
    detail = error.diag.message_detail
    return f"{error.diag.message_primary}: {detail}" if detail else error.diag.message_primary


def in_words(error: psycopg.Error) -> DatabaseRefusedError:
    """A statement's error as one of ours: in one line, with the remedy where there is one."""
    reason = in_short(error)
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        reason += "; connect as the owner of the schemas pgflow and pgmq, or let the owner grant them to this role"
    if isinstance(error, psycopg.errors.UndefinedObject) and reason.startswith("role "):
        reason += "; create it with CREATE ROLE"
    return DatabaseRefusedError(reason=reason)
