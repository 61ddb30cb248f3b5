"""The unprivileged user that PostgreSQL, which refuses root, runs as when pgflow runs as root."""

from __future__ import annotations

import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pgflow.errors import EmbeddedServerError

NAME = "pgflow"
_ADMIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CREATE = (
    ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/false", NAME],
    ["adduser", "-S", "-D", "-H", "-s", "/bin/false", NAME],  # busybox
)
_WITHOUT_IT = "run pgflow as another user than root, or name a database with --database URL"


@dataclass(frozen=True, slots=True)
class SystemUser:
    """Ids of an OS user."""

    uid: int
    gid: int

    def require_access(self, folder: Path) -> None:
        """Raise EmbeddedServerError, naming the folder that is in the way, if the user cannot enter it."""
        if self._can_enter(folder):
            return
        for closed in [*reversed(folder.parents), folder]:
            if not self._can_enter(closed):
                raise EmbeddedServerError(
                    message=f"As root, PostgreSQL runs as the user {NAME}, who cannot enter {closed}: "
                    f"set PGFLOW_HOME to a folder whose parents all users can enter, or {_WITHOUT_IT}"
                )

    def _can_enter(self, folder: Path) -> bool:
        # Asked of the kernel, as that user: mode bits alone do not tell (ACLs, mounts, user namespaces).
        try:
            entered = subprocess.run(
                ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)],
                user=self.uid,
                group=self.gid,
                extra_groups=[],
                capture_output=True,
                check=False,
            )
        except OSError as error:
            raise EmbeddedServerError(
                message=f"Cannot run a program as the user {NAME} (uid {self.uid}): {error.strerror}; {_WITHOUT_IT}"
            ) from error
        return entered.returncode == 0


def find_or_create() -> SystemUser:
    """The user ``pgflow``, created when missing; EmbeddedServerError with the remedies if that fails."""
    try:
        return _find()
    except KeyError:
        pass
    reason = _create()
    try:
        return _find()
    except KeyError:
        raise EmbeddedServerError(
            message=f"As root, PostgreSQL needs the system user {NAME}, which could not be created "
            f"({reason}): create it with `useradd --system {NAME}`, or {_WITHOUT_IT}"
        ) from None


def _find() -> SystemUser:
    entry = pwd.getpwnam(NAME)
    return SystemUser(entry.pw_uid, entry.pw_gid)


def _create() -> str:
    for program, *arguments in _CREATE:
        if path := shutil.which(program, path=_ADMIN_PATH):
            result = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
            return result.stderr.strip().partition("\n")[0]
    return "there is no useradd"
