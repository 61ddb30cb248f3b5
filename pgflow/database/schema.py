"""The SQL core in a database: installing it, verifying it, printing it.

The core is the files of ``schema/``, one function or group of tables a file. Its version is recorded in
``pgflow.schema_versions``, a table of ours; a ``pgflow`` schema without it is another implementation's. A fresh install
is version 1's tables, all migrations, and the functions; so the tables are the same as after an upgrade.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import psycopg
from psycopg.rows import scalar_row
from psycopg.sql import SQL

from pgflow._version import VERSION as PGFLOW_VERSION
from pgflow.errors import SchemaError, SchemaMissingError, SchemaTooNewError

VERSION = 5
"""The version of the schema that this code installs and knows. A release that changes any of the SQL has a new one;
what its tables need is in ``schema/migrations/<version>.sql``."""

_LOCK_KEY = 0x7067666C  # "pgfl": one install at a time in a database

BASE_FILES = ("is_valid_slug", "tables", "own_tables", "types")
"""The files of ``schema/`` that made version 1's tables and types; everything later is a migration."""
FUNCTION_FILES = (
    "_definitions",
    "_check_lengths",
    # Definition
    "create_flow",
    "add_step",
    "_delete_batches",
    "_delete_flow_runs",
    "delete_flow_and_data",
    "is_local",
    "_pattern_shape",
    "_pattern_of_shape",
    "_get_flow_shape",
    "record_failures",
    "_record_failures_of_shape",
    "_create_flow_from_shape",
    "_compare_flow_shapes",
    "ensure_flow_compiled",
    "_option_differences",
    "update_flow_options",
    # Messages
    "_wake_workers",
    "set_vt_batch",
    "calculate_retry_delay",
    "_archive_messages",
    "_delay_messages",
    "_archive_task_message",
    "_record_cancelled_attempts",
    "_archive_open_messages",
    "_lock_messages",
    "_keep_messages_invisible",
    "_lock_visible_messages",
    "_hide_messages",
    "_set_aside_messages",
    # Events
    "_has_realtime",
    "_emits_events",
    "_send_events",
    "_emit_run_events",
    "_emit_step_events",
    # How steps end
    "_lock_steps",
    "_count_ended_steps",
    "_release_dependents",
    "_fail_steps",
    "_skip_steps",
    "_skip_steps_and_dependents",
    "_cascade_force_skip_steps",
    # How a run advances
    "_dependency_outputs",
    "_resolve_conditions",
    "cascade_resolve_conditions",
    "_complete_taskless_steps",
    "cascade_complete_taskless_steps",
    "_start_ready_steps",
    "start_ready_steps",
    "_complete_runs",
    "maybe_complete_run",
    "_advance_runs",
    "_start_runs",
    "_new_run_id",
    "start_flow",
    "start_flows",
    "get_run_with_states",
    "start_flow_with_states",
    # Claiming
    "_map_elements",
    "_start_tasks",
    "start_tasks",
    "claim_tasks",
    "poll_for_tasks",
    "await_tasks",
    "stop_awaiting_tasks",
    # Verdicts
    "_look_at_tasks",
    "_judge_tasks",
    "_judge_outputs",
    "_fail_type_violations",
    "_complete_steps",
    "_complete_ready_tasks",
    "_complete_tasks",
    "complete_tasks",
    "complete_task",
    "_retry_tasks",
    "_exhaust_steps",
    "_record_failed_tasks",
    "_fail_exhausted_tasks",
    "_fail_late_tasks",
    "_give_up_tasks",
    "_tell_cancelled_attempts",
    "_fail_tasks",
    "fail_tasks",
    "fail_task",
    "_hand_back_tasks",
    "release_tasks",
    "_tell_hand_backs",
    "requeue_tasks",
    "renew_tasks",
    # Interventions
    "_lock_run",
    "_requeue_open_tasks",
    "cancel_run",
    "retry_run",
    # Batches
    "create_batch",
    "delete_batch",
    "begin_batch_pass",
    "touch_batch",
    "_begin_chunk",
    "_count_batch_items",
    "_start_batch_run",
    "add_batch_items",
    "retry_batch_failures",
    "mark_batch_written",
    # Maintenance
    "requeue_stalled_tasks",
    "setup_requeue_stalled_tasks_cron",
    "_delete_runs",
    "prune_batches",
    "prune_data_older_than",
    "prune_runs",
    "prune_archives",
    "prune_workers",
    # Workers
    "track_worker_function",
    "mark_worker_stopped",
)
"""The files of ``schema/`` that make its functions, each named like its own, in the order in which they can be run."""
RIGHTS_FILE = "privileges"
"""The last file: who may use what the others made."""
_REPLACED_FILES = ("is_valid_slug", *FUNCTION_FILES)
"""What an upgrade replaces: all functions."""

Outcome = Literal["installed", "upgraded", "present", "foreign"]


@dataclass(frozen=True, slots=True)
class InstallReport:
    """What ``install`` found or did.

    ``outcome``: ``installed`` now, ``upgraded`` now, ``present`` already, or ``foreign``: another
    implementation's schema was found and nothing was changed. ``version`` is ours (None where it is foreign);
    ``pgmq`` is how pgmq came to be there: ``extension``, ``sql`` (installed now from the pgmq package) or
    ``present``.
    """

    outcome: Outcome
    version: int | None
    pgmq: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The schema as it is.

    ``version`` is ours (None: foreign). ``problems`` says in words which functions are missing or differ from
    this code's, and which columns, constraints and indexes are missing or differ from what was installed.
    ``pgmq`` is the version of its extension, ``sql`` where it was installed without one, None where it is
    missing.
    """

    version: int | None
    problems: tuple[str, ...]
    pgmq: str | None


def install(connection: psycopg.Connection[Any]) -> InstallReport:
    """Install the SQL core and pgmq where they are missing, or upgrade the core; in one transaction, one caller at
    a time. Workers of the version before may go on while it is upgraded.

    Raises SchemaTooNewError when the database has a newer version than this code knows, and SchemaError when
    the role may not create what is missing.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_KEY,))
        if _is_vacant(connection):
            pgmq = _how_pgmq_comes(connection)
            _run(connection, _script())
            return InstallReport("installed", VERSION, pgmq)
        version = installed_version(connection)
        if version is None or _is_current(connection, version):
            return InstallReport("present" if version else "foreign", version, "present")
        _run(connection, _upgrade_script(version))
        return InstallReport("upgraded", VERSION, "present")


def _run(connection: psycopg.Connection[Any], script: str) -> None:
    try:
        connection.execute(script.encode())
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaError(
            message=f"The database's role may not install pgflow ({error.diag.message_primary}): "
            "let the owner of the schema, or for a first time one that may create schemas and extensions, run "
            "`pgflow schema install`, or the output of `pgflow schema sql`"
        ) from error
    except psycopg.errors.DependentObjectsStillExist as error:
        raise SchemaError(
            message=f"pgflow's schema cannot be upgraded: {error.diag.message_primary} ({error.diag.message_detail}). "
            "Drop what depends on it, run `pgflow schema install`, and make it again where it is of use still"
        ) from error


def ensure(connection: psycopg.Connection[Any]) -> None:
    """Install or upgrade what is missing; one cheap look where everything is there.

    Raises as ``install`` does.
    """
    try:
        version = installed_version(connection)
        if version is None or _is_current(connection, version):
            return
    except SchemaMissingError:
        pass
    install(connection)


def _is_current(connection: psycopg.Connection[Any], version: int) -> bool:
    # Another build of the same version may have other functions: in development, or where it was mended by hand.
    digest = "SELECT digest FROM pgflow.schema_versions ORDER BY version DESC LIMIT 1"
    return version == VERSION and _value(connection, digest) == _digest()


def installed_version(connection: psycopg.Connection[Any]) -> int | None:
    """The version of our schema in the database; None if the ``pgflow`` schema is another implementation's.

    Raises SchemaMissingError where there is none and SchemaTooNewError for one this code does not know.
    """
    if _is_vacant(connection):
        raise SchemaMissingError
    if _value(connection, "SELECT to_regclass('pgflow.schema_versions') IS NULL"):
        return None
    version = int(_value(connection, "SELECT max(version) FROM pgflow.schema_versions"))
    if version > VERSION:
        raise SchemaTooNewError(found=version, known=VERSION)
    return version


def verify(connection: psycopg.Connection[Any]) -> Verification:
    """Compare the functions in the database with this code's, and the rest of it with what was installed.

    Raises as ``installed_version`` does.
    """
    version = installed_version(connection)
    pgmq = pgmq_version(connection)
    if version is None:
        return Verification(None, (), pgmq)
    if version < VERSION:
        problems = [f"the schema has version {version}, this pgflow has {VERSION}: `pgflow schema install` upgrades it"]
    else:
        problems = list(_function_problems(connection))
        if not any(problem.startswith("function pgflow._definitions ") for problem in problems):
            problems += _definition_problems(connection)
    if pgmq is None:
        problems.append("pgmq is missing")
    return Verification(version, tuple(problems), pgmq)


def sql() -> str:
    """Everything that ``install`` runs where there is no ``pgflow`` schema, as one script for psql."""
    return f"BEGIN;\n{_script()}\nCOMMIT;\n"


def _script() -> str:
    return "\n".join(
        [
            _pgmq_script(),
            "CREATE SCHEMA IF NOT EXISTS pgflow;",
            *(_text(name) for name in BASE_FILES),
            *_migrations(after=1),
            *(_text(name) for name in FUNCTION_FILES),
            _text(RIGHTS_FILE),
            _record(),
        ]
    )


def _upgrade_script(version: int) -> str:
    """From ``version`` to this one: its tables migrated, our functions replaced, with the rights that were granted."""
    return "\n".join(
        [
            *_migrations(after=version),
            _new_functions(),
            _text("upgrades/note_functions"),
            _text("upgrades/replace_functions"),
            _record(),
        ]
    )


def _new_functions() -> str:
    """A table of the functions and what makes or replaces them, in the order in which that can be run."""
    rows = SQL(", ").join(
        SQL("({}, {}, {})").format(
            place, name, _text(name).replace("CREATE FUNCTION pgflow.", "CREATE OR REPLACE FUNCTION pgflow.", 1)
        )
        for place, name in enumerate(_REPLACED_FILES)
    )
    table = "CREATE TEMPORARY TABLE pgflow_new_functions (place int, name name, definition text) ON COMMIT DROP;\n"
    return table + SQL("INSERT INTO pgflow_new_functions VALUES {};").format(rows).as_string(None)


def _migrations(*, after: int) -> Iterator[str]:
    return (_text(f"migrations/{version}") for version in range(after + 1, VERSION + 1))


def _record() -> str:
    # Functions that somebody else has put into the schema are left out: the next upgrade would take them for ours.
    statement = SQL(
        "INSERT INTO pgflow.schema_versions (version, installed_by, definitions, digest) "
        "VALUES ({}, {}, pgflow._definitions() - ARRAY("
        "SELECT 'declaration of function pgflow.' || p.proname FROM pg_catalog.pg_proc AS p "
        "WHERE p.pronamespace = 'pgflow'::regnamespace AND p.proname <> ALL ({})), {}) "
        "ON CONFLICT (version) DO UPDATE SET installed_at = now(), installed_by = excluded.installed_by, "
        "definitions = excluded.definitions, digest = excluded.digest;"
    )
    installed_by = f"pgflow-py {PGFLOW_VERSION}"
    return statement.format(VERSION, installed_by, list(_REPLACED_FILES), _digest()).as_string(None)


@cache
def _digest() -> str:
    texts = "".join(map(_text, _REPLACED_FILES))
    return hashlib.sha256(texts.encode()).hexdigest()


def _pgmq_script() -> str:
    """pgmq's extension where the server has it, else its SQL, which cannot be run a second time."""
    # Imported here: it costs more than all of pgflow, and is needed once in the life of a database.
    from pgmq.install import get_embedded_install_sql

    return f"""DO $choice$
BEGIN
  IF to_regnamespace('pgmq') IS NOT NULL THEN
    RETURN;
  ELSIF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pgmq') THEN
    CREATE EXTENSION pgmq;
  ELSE
    EXECUTE $pgmq_sql$
{get_embedded_install_sql()}
    $pgmq_sql$;
  END IF;
END
$choice$;
"""


def _how_pgmq_comes(connection: psycopg.Connection[Any]) -> str:
    if _schema_exists(connection, "pgmq"):
        return "present"
    available = _value(connection, "SELECT count(*) FROM pg_available_extensions WHERE name = 'pgmq'")
    return "extension" if available else "sql"


def pgmq_version(connection: psycopg.Connection[Any]) -> str | None:
    """The version of pgmq's extension, ``sql`` where it was installed without one, None where it is missing."""
    is_there = (
        "SELECT count(*) FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace "
        "WHERE n.nspname = 'pgmq' AND p.proname = 'archive'"
    )
    if not _value(connection, is_there):
        return None
    version = _value(connection, "SELECT max(extversion) FROM pg_extension WHERE extname = 'pgmq'")
    return str(version) if version else "sql"


def _function_problems(connection: psycopg.Connection[Any]) -> Iterator[str]:
    bodies = dict(
        connection.execute(
            # Of several with one name the oldest is ours, as in pgflow._definitions().
            "SELECT DISTINCT ON (proname) proname, prosrc FROM pg_catalog.pg_proc "
            "WHERE pronamespace = 'pgflow'::regnamespace ORDER BY proname, oid"
        ).fetchall()
    )
    for name in _REPLACED_FILES:
        if name not in bodies:
            yield f"function pgflow.{name} is missing"
        elif bodies[name] != _text(name).split("$$")[1]:
            yield f"function pgflow.{name} differs from version {VERSION}"


def _definition_problems(connection: psycopg.Connection[Any]) -> Iterator[str]:
    installed = _value(connection, "SELECT definitions FROM pgflow.schema_versions ORDER BY version DESC LIMIT 1")
    present = _value(connection, "SELECT pgflow._definitions()")
    for name, definition in sorted(installed.items()):
        if name not in present:
            if not name.startswith("declaration of function "):  # told with its body
                yield f"{name} is missing"
        elif present[name] != definition:
            yield f"{name} differs: {present[name]} instead of {definition}"


@cache
def _text(name: str) -> str:
    return resources.files(__package__).joinpath("schema", f"{name}.sql").read_text(encoding="utf-8")


def _is_vacant(connection: psycopg.Connection[Any]) -> bool:
    """Whether there is no schema ``pgflow``, or an empty one, made for us by somebody who may."""
    return not _value(
        connection,
        "SELECT count(*) FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'pgflow' AND ("
        "EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.relnamespace = n.oid) "
        "OR EXISTS (SELECT FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = n.oid))",
    )


def _schema_exists(connection: psycopg.Connection[Any], name: str) -> bool:
    return bool(_value(connection, "SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = %s", name))


def _value(connection: psycopg.Connection[Any], query: str, *parameters: object) -> Any:
    with connection.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(query.encode(), parameters or None).fetchone()
