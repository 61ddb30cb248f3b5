"""How a command ends when something goes wrong: a sentence and an exit code, never a traceback."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeGuard

import click

from pgflow.errors import DatabaseError, PgflowError, UsageError

if TYPE_CHECKING:
    import psycopg

RUN_FAILED = 1
USAGE = 2
DATABASE = 3
INTERRUPTED = 130


@contextlib.contextmanager
def ending_in_words() -> Iterator[None]:
    """Turn the errors of pgflow, PostgreSQL and a closed pipe into their exit codes."""
    try:
        yield
    except PgflowError as error:
        _end(str(error), _exit_code(error))
    except BrokenPipeError:
        # Whoever read our output has gone; at exit Python would complain about the same again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(RUN_FAILED)
    except KeyboardInterrupt:
        _end("Interrupted", INTERRUPTED)
    except OSError as error:  # a full disk behind standard output; at exit Python would complain again
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        _end(f"{error.strerror or error}", RUN_FAILED)
    except Exception as error:
        if not _is_of_psycopg(error):
            raise
        from pgflow.database.failures import in_words

        _end(str(in_words(error)), DATABASE)


def _exit_code(error: PgflowError) -> int:
    if isinstance(error, UsageError):
        return USAGE
    return DATABASE if isinstance(error, DatabaseError) else RUN_FAILED


def _is_of_psycopg(error: Exception) -> TypeGuard[psycopg.Error]:
    # Without importing psycopg for it: an error of psycopg's can only come from where it is imported.
    return any(base.__module__.startswith("psycopg") for base in type(error).__mro__)


def _end(message: str, code: int) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)
