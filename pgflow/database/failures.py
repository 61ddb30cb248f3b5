"""What a failed call to the database means: come back later, or the data itself was refused."""

from __future__ import annotations

import psycopg

from pgflow.errors import DatabaseError, DatabaseRefusedError

FAILURES = (DatabaseError, psycopg.Error)
"""Everything that a call to ``Database`` raises when the database does not do its part."""

_DATA_CLASSES = {
    "21",  # cardinality violation
    "22",  # data exception
    "23",  # integrity constraint violation
    "54",  # program limit exceeded
    "P0",  # raised by a function
}
_VALUE_CLASSES = {"22", "54"}
_INTERNAL_CLASS = "XX"
_TOO_MUCH = {"53200", "57014"}
"""Out of memory; canceled, as by a statement timeout."""


def is_data_error(error: Exception) -> bool:
    """Whether the same statement with the same data would fail again, judged by SQLSTATE.

    Everything else is the database's state, which may change: it is away or read-only after a failover, a right was
    revoked, a function is being replaced. A lost connection has no SQLSTATE.
    """
    return _sqlstate_class(error) in _DATA_CLASSES


def is_bad_value(error: Exception) -> bool:
    """Whether PostgreSQL cannot hold a value that the statement brought."""
    return _sqlstate_class(error) in _VALUE_CLASSES


def is_forbidden(error: Exception) -> bool:
    """Whether the role may not do it, or what it calls is not there: somebody has to change something."""
    return _sqlstate_class(error) == "42"


def is_internal_error(error: Exception) -> bool:
    """Whether PostgreSQL does not say whose fault it was.

    Seen: ``cache lookup failed for function``, once, in a statement under which the schema was upgraded; and ``invalid
    memory alloc request size``, each time, for a value that is too large.
    """
    return _sqlstate_class(error) == _INTERNAL_CLASS


def is_too_much(error: Exception) -> bool:
    """Whether the statement took more time or memory than it may: the data's fault if it is large, else the database's,
    which is slow, or waits for a lock."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _TOO_MUCH


def _sqlstate_class(error: Exception) -> str:
    return (error.sqlstate or "")[:2] if isinstance(error, psycopg.Error) else ""


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
        reason += (
            "; connect as the owner of the schemas pgflow and pgmq, or let the owner run "
            "`pgflow schema grants --worker ROLE` (or --client ROLE), again after each upgrade"
        )
    if isinstance(error, psycopg.errors.UndefinedObject) and reason.startswith("role "):
        reason += "; create it with CREATE ROLE"
    return DatabaseRefusedError(reason=reason)
