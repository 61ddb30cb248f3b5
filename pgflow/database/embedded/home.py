"""Where the embedded server lives: one folder per OS user below ``PGFLOW_HOME``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pgflow.database.embedded.keeper import Layout
from pgflow.errors import EmbeddedServerError

MAX_SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103
# initdb hands paths to a shell in double quotes; a comma separates hosts in a connection string.
_UNUSABLE = frozenset(',"$`\\\n')


def prepare() -> Layout:
    """The folders of this OS user, made where missing.

    Raises EmbeddedServerError, before anything is made, for a path that cannot serve, and OSError.
    """
    layout = Layout(_home() / str(os.geteuid()))
    _require_usable_paths(layout)
    # As root, the folders must let PostgreSQL's user through. Folders that exist keep their mode.
    shared = os.geteuid() == 0
    _make_with_parents(layout.folder.parent, 0o755 if shared else 0o777)
    for folder in (layout.folder, layout.version):
        _make(folder, 0o711 if shared else 0o700)
    _make(layout.socket_folder, 0o700)
    if layout.folder.stat().st_uid != os.geteuid():
        raise EmbeddedServerError(message=f"{layout.folder} belongs to another user; set PGFLOW_HOME to your own")
    return layout


def _home() -> Path:
    if chosen := os.environ.get("PGFLOW_HOME"):
        return Path(os.path.abspath(os.path.expanduser(chosen)))
    if os.geteuid() == 0:
        return Path("/var/lib/pgflow")
    if sys.platform == "darwin":
        return _user_home() / "Library/Application Support/pgflow"
    data_home = os.environ.get("XDG_DATA_HOME", "")
    base = Path(data_home) if os.path.isabs(data_home) else _user_home() / ".local/share"
    return base / "pgflow"


def _user_home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise EmbeddedServerError(
            message="This user has no home folder for the embedded PostgreSQL: set PGFLOW_HOME"
        ) from error


def _require_usable_paths(layout: Layout) -> None:
    home = layout.folder.parent
    longest = max(len(os.fsencode(path)) for path in (layout.server_socket, layout.keeper_socket))
    if longest > MAX_SOCKET_PATH_BYTES:
        allowed = MAX_SOCKET_PATH_BYTES - longest + len(os.fsencode(home))
        raise EmbeddedServerError(
            message=f"The folder {home} is too long for a socket path: set PGFLOW_HOME to one of at most "
            f"{allowed} bytes"
        )
    if unusable := sorted(_UNUSABLE.intersection(str(home))):
        raise EmbeddedServerError(
            message=f"The folder {home} has characters that PostgreSQL cannot take in a path "
            f"({' '.join(unusable)}): set PGFLOW_HOME to another"
        )


def _make_with_parents(folder: Path, mode: int) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        _make(path, mode)


def _make(folder: Path, mode: int) -> None:
    try:
        folder.mkdir(mode=mode)
    except FileExistsError:
        return
    if os.geteuid() == 0:
        folder.chmod(mode)  # whatever the umask
