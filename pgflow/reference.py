"""References to flows: ``package.module:flow`` or ``path/file.py:flow``, and finding the flow again by one."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from pgflow.errors import FlowDefinitionError, FlowImportError, FlowNotFoundError
from pgflow.flow import Flow

T = TypeVar("T")

_IMPORT_MACHINERY = ("<frozen ", importlib.__file__, __file__)


def load_flow(reference: str) -> Flow:
    """Import the module or file and return the flow in it.

    The name may be left out where there is exactly one flow. A file's folder comes first on ``sys.path`` and the
    current folder is on it, as under ``python file.py``; the same file is imported once.

    Raises FlowNotFoundError when there is no such file, module or flow, and FlowImportError, with the original
    error's text and place, for whatever the import raised.
    """
    where, _, name = reference.partition(":") if not _is_file(reference) else _split_file(reference)
    if not where:
        raise FlowNotFoundError(
            message=f"{reference!r} is no reference to a flow: write package.module:flow or path/file.py:flow"
        )
    module = _import_file(where, reference) if _is_file(where) else _import_module(where, reference)
    return _flow_in(module, name, where)


def reference_of(flow: Flow) -> str:
    """A reference by which another process can load the flow.

    Raises FlowDefinitionError when the flow is not a module's variable; pass a reference then.
    """
    for module_name, module in list(sys.modules.items()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is flow:
                file = getattr(module, "__file__", None)
                if module_name != "__main__" and not module_name.startswith(_FILE_MODULE_PREFIX):
                    return f"{module_name}:{name}"
                if file is not None:
                    return f"{os.path.abspath(file)}:{name}"
    raise FlowDefinitionError(
        message=f"Flow {flow.slug!r} cannot be found again by another process: define it as a variable of a module "
        'and pass its reference, "package.module:flow" or "path/file.py:flow"'
    )


_FILE_MODULE_PREFIX = "pgflow_file_"


def _is_file(where: str) -> bool:
    path, _, _ = where.rpartition(":")
    return where.endswith(".py") or path.endswith(".py")


def _split_file(reference: str) -> tuple[str, str, str]:
    return (reference, "", "") if reference.endswith(".py") else reference.rpartition(":")


def _import_file(where: str, reference: str) -> ModuleType:
    path = Path(where).expanduser().absolute()
    if not path.is_file():
        raise FlowNotFoundError(message=f"There is no file {where}: give the path of the file that defines the flow")
    name = f"{_FILE_MODULE_PREFIX}{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FlowNotFoundError(message=f"{where} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        _guarded(lambda: spec.loader.exec_module(module), reference)  # type: ignore[union-attr]
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(where: str, reference: str) -> ModuleType:
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()

    def missing(error: ModuleNotFoundError) -> bool:
        return error.name is not None and (where == error.name or where.startswith(f"{error.name}."))

    try:
        return _guarded(lambda: importlib.import_module(where), reference, passing=missing)
    except (ModuleNotFoundError, ValueError):
        raise FlowNotFoundError(
            message=f"There is no module {where!r}: run from the folder that contains it, install it, or give the path "
            "of its file"
        ) from None


def _guarded(
    load: Callable[[], T], reference: str, passing: Callable[[ModuleNotFoundError], bool] = lambda _error: False
) -> T:
    """Run user code; whatever it raises becomes a FlowImportError, but for what ``passing`` lets through."""
    try:
        return load()
    except ModuleNotFoundError as error:
        if passing(error):
            raise
        raise _import_error(reference, error) from error
    except BaseException as error:  # noqa: BLE001 - SystemExit of a script without a main guard, for one
        raise _import_error(reference, error) from error


def _import_error(reference: str, error: BaseException) -> FlowImportError:
    lines = str(error).strip().splitlines()
    text = type(error).__name__ + (f": {lines[0]}" if lines else "")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_IMPORT_MACHINERY)]
    own_package = str(Path(__file__).parent)
    user_frames = [f for f in frames if not f.filename.startswith(own_package)]
    if isinstance(error, SyntaxError) and error.filename:
        text += f" ({error.filename}:{error.lineno})" if f"{error.filename}" not in text else ""
    elif user_frames:
        text += f" ({user_frames[-1].filename}:{user_frames[-1].lineno})"
    return FlowImportError(reference=reference, reason=text)


def _flow_in(module: ModuleType, name: str, where: str) -> Flow:
    flows = {key: value for key, value in vars(module).items() if isinstance(value, Flow)}
    listed = f"it has {', '.join(f'{where}:{key}' for key in flows)}" if flows else "it defines no flow"
    if not name:
        if len({id(flow) for flow in flows.values()}) == 1:
            return next(iter(flows.values()))
        raise FlowNotFoundError(message=f"Which flow of {where}? {listed[0].upper()}{listed[1:]}")
    found = getattr(module, name, None)
    if isinstance(found, Flow):
        return found
    what = "is not there" if not hasattr(module, name) else f"is no Flow but a {type(found).__name__}"
    raise FlowNotFoundError(message=f"{where}:{name} {what}: {listed}")
