"""References to flows, ``package.module:flow`` or ``path/file.py:flow``: loading by one, and making one. The same for
functions."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from pgflow.errors import FlowDefinitionError, FlowImportError, FlowNotFoundError
from pgflow.flow import Flow

_FILE_MODULE_PREFIX = "pgflow_file_"
_MAIN_MODULES = ("__main__", "__mp_main__")
_MAX_TEXT_CHARACTERS = 500
_MISSING = object()


def load_flow(reference: str) -> Flow:
    """Import the module or file and return the flow in it.

    The flow's name may be left out where there is only one. A file's folder becomes ``sys.path[0]``, as
    under ``python file.py``, and the same file is imported once; for a module the current folder is on
    ``sys.path``.

    Raises FlowNotFoundError when there is no such file, module or flow, and FlowImportError, with the error's
    text and its place in the user's code, for whatever the import raised but a KeyboardInterrupt.
    """
    where, name = _split(reference)
    return _flow_in(_import(where, reference), name, where, reference)


def load_object(reference: str) -> object:
    """Import the module or file and return what has the name in it, or, without a name, the only flow.

    Raises as ``load_flow`` does.
    """
    where, name = _split(reference)
    module = _import(where, reference)
    if not name:
        return _only_flow(module, where, reference)
    found = _attribute(module, name, reference)
    if found is _MISSING:
        close = difflib.get_close_matches(name, vars(module), n=1)
        hint = f"did you mean {where}:{close[0]}?" if close else "define it there, or give another name"
        raise FlowNotFoundError(message=f"There is no {name!r} in {where}: {hint}")
    return found


def _only_flow(module: ModuleType, where: str, reference: str) -> Flow:
    try:
        return _flow_in(module, "", where, reference)
    except FlowNotFoundError as error:
        raise FlowNotFoundError(message=f"{error}; a function is named as in {where}:function") from None


def absolute(reference: str) -> str:
    """The same reference, with the whole path of a file, as it is from any folder."""
    where, colon, name = reference.rpartition(":")
    if reference.endswith(".py"):
        where, colon, name = reference, "", ""
    if not where.endswith(".py"):
        return reference
    return f"{os.path.realpath(os.path.expanduser(where))}{colon}{name}"


def reference_of(flow: Flow) -> str:
    """A reference by which another process can load the flow.

    Raises FlowDefinitionError when the flow is not a variable of an importable module or of a file.
    """
    homes = {getattr(step.handler, "__module__", None) for step in flow.steps}
    # The script that runs comes last: loading it again runs it again, so a module that it imported is better.
    modules = sorted(sys.modules.items(), key=lambda item: (item[0] in _MAIN_MODULES, item[0] not in homes))
    for key, module in modules:
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is flow and (where := _importable_as(key, module)):
                return f"{where}:{name}"
    raise FlowDefinitionError(
        message=f"Flow {flow.slug!r} cannot be found again by another process: assign it to a variable of a "
        'module and pass its reference, "package.module:flow" or "path/file.py:flow"'
    )


def _importable_as(key: str, module: ModuleType) -> str | None:
    spec = getattr(module, "__spec__", None)
    file = getattr(module, "__file__", None)
    if key not in _MAIN_MODULES and not key.startswith(_FILE_MODULE_PREFIX):
        # The prompt keeps its last value in builtins._, which no other process has.
        return key if spec is not None and key not in sys.builtin_module_names else None
    if key in _MAIN_MODULES and spec is not None and spec.name != "__main__":  # as under python folder/
        return str(spec.name)  # python -m package.module
    return os.path.abspath(file) if file is not None and file.endswith(".py") and os.path.isfile(file) else None


# --- importing -----------------------------------------------------------------------------------


def _split(reference: str) -> tuple[str, str]:
    if reference.endswith(".py") or ":" not in reference:
        where, name = reference, ""
    else:
        where, _, name = reference.rpartition(":")
    if where.endswith(".py") or (not {os.sep, ":"} & {*where} and all(where.split("."))):
        return where, name
    hint = f"did you mean {where}.py?" if os.path.isfile(f"{where}.py") else "package.module:flow or path/file.py:flow"
    raise FlowNotFoundError(message=f"{reference!r} is no reference to a flow: {hint}")


def _import(where: str, reference: str) -> ModuleType:
    return _import_file(where, reference) if where.endswith(".py") else _import_module(where, reference)


def _attribute(module: ModuleType, name: str, reference: str) -> object:
    with _import_errors(reference):  # the module's own __getattr__ may import, and raise anything
        return getattr(module, name, _MISSING)


def _import_file(where: str, reference: str) -> ModuleType:
    path = os.path.expanduser(where)
    if not os.path.isfile(path):
        raise FlowNotFoundError(
            message=f"There is no file {where} (this is {os.getcwd()}): give the path of the flow's file"
        )
    path = os.path.realpath(path)
    # Also when the module is there: a forked process may have it and another sys.path.
    _put_first_on_path(os.path.dirname(path))
    name = _file_module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        with _import_errors(reference):
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _file_module_name(path: str) -> str:
    """The same in every process, so that objects of the file's classes can be pickled between them."""
    stem = re.sub(r"\W", "_", Path(path).stem)
    return f"{_FILE_MODULE_PREFIX}{stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"


def _put_first_on_path(folder: str) -> None:
    if sys.path[:1] != [folder]:
        sys.path[:] = [folder, *(other for other in sys.path if other != folder)]


def _import_module(where: str, reference: str) -> ModuleType:
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    try:
        with _import_errors(reference):
            return importlib.import_module(where)
    except FlowImportError as error:
        if _is_missing(where, error.__cause__):
            raise FlowNotFoundError(message=f"There is no module {where!r}: {_remedy(where)}") from None
        raise


def _is_missing(where: str, error: BaseException | None) -> bool:
    """Whether the module itself or a package around it is missing, not something that it imports."""
    return isinstance(error, ModuleNotFoundError) and f"{where}.".startswith(f"{error.name}.")


def _remedy(where: str) -> str:
    parent, _, name = where.rpartition(".")
    if isinstance(getattr(sys.modules.get(parent), name, None), Flow):
        return f"did you mean {parent}:{name}?"
    return f"install it, give the path of its file, or run from the folder that has it (this is {os.getcwd()})"


# --- what went wrong -----------------------------------------------------------------------------


@contextmanager
def _import_errors(reference: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a script without a main guard
        raise FlowImportError(reference=reference, reason=_reason(error)) from error


def _reason(error: BaseException) -> str:
    lines = _text(error).strip().splitlines()
    text = f"{type(error).__name__}: {_shortened(lines[0])}" if lines else type(error).__name__
    place = _place(error)
    return text + (f" ({place})" if place else "") + _hint(error, text)


def _hint(error: BaseException, text: str) -> str:
    if "no known parent package" in text:
        return "; refer to a package's file as package.module:flow"
    return f"; install it for {sys.executable}" if isinstance(error, ModuleNotFoundError) else ""


def _text(error: BaseException) -> str:
    try:
        return str(error.msg) if isinstance(error, SyntaxError) else str(error)
    except Exception:  # noqa: BLE001 - the error's own __str__ may raise anything
        return ""


def _shortened(line: str) -> str:
    return line if len(line) <= _MAX_TEXT_CHARACTERS else f"{line[:_MAX_TEXT_CHARACTERS]}..."


def _place(error: BaseException) -> str | None:
    """``file:line`` of what does not parse, or of the last line of the user's own code that ran."""
    if isinstance(error, SyntaxError) and error.lineno and os.path.isfile(error.filename or ""):
        return f"{error.filename}:{error.lineno}"
    files = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    files = [(file, line) for file, line in files if file != __file__ and os.path.isfile(file)]
    own = [(file, line) for file, line in files if not _is_library(file)] or files
    return "{}:{}".format(*own[-1]) if own else None


def _is_library(file: str) -> bool:
    path = Path(file)
    folders = (sysconfig.get_path("stdlib"), Path(__file__).parent)
    installed = "site-packages" in path.parts or "dist-packages" in path.parts
    return installed or any(path.is_relative_to(folder) for folder in folders)


def _flow_in(module: ModuleType, name: str, where: str, reference: str) -> Flow:
    flows = {key: value for key, value in vars(module).items() if isinstance(value, Flow)}
    listed = " or ".join(f"{where}:{key}" for key in flows)
    remedy = f"did you mean {listed}?" if flows else 'it has no flow, as in flow = Flow("slug")'
    if name:
        found = _attribute(module, name, reference)
        if isinstance(found, Flow):
            return found
        fault = "is not there" if found is _MISSING else f"is of type {type(found).__name__}, not a Flow"
        raise FlowNotFoundError(message=f"{where}:{name} {fault}: {remedy}")
    if not flows:
        raise FlowNotFoundError(message=f'There is no flow in {where}: assign one to a variable, flow = Flow("slug")')
    if len({id(flow) for flow in flows.values()}) > 1:
        raise FlowNotFoundError(message=f"There are several flows in {where}: name one, {listed}")
    return next(iter(flows.values()))
