"""Each test of the embedded server has a PGFLOW_HOME of its own, and real processes."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from pgflow.database.embedded import EmbeddedDatabase, installation
from tests.support.embedded import (
    AS_ROOT,
    Nobody,
    User,
    wait_until_unused,
)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A PGFLOW_HOME, whose keeper must have ended by itself at the end of the test."""
    parent = Path(tempfile.mkdtemp(prefix="pgfe-", dir="/tmp"))
    parent.chmod(0o755)
    home = parent / "home"
    home.mkdir(mode=0o755)
    monkeypatch.setenv("PGFLOW_HOME", str(home))
    yield home
    wait_until_unused(home)
    shutil.rmtree(parent)


@pytest.fixture
def used_home(home: Path) -> Path:
    """A PGFLOW_HOME that has data and no running server."""
    EmbeddedDatabase().close()
    wait_until_unused(home)
    return home


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., User]]:
    """Starts users; those that a test leaves behind are ended."""
    with ExitStack() as stack:

        def start(*arguments: Any, **options: Any) -> User:
            user = User(*arguments, **options)
            stack.callback(user.process.communicate)
            stack.callback(user.process.kill)
            return user

        yield start


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Nobody:
    if not AS_ROOT:
        pytest.skip("only root can start a process as another user")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    entry = pwd.getpwnam("nobody")
    identity: dict[str, Any] = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    reach = f"import pgflow.database; open({str(installation.find().binaries / 'postgres')!r}).close()"
    # A Python below /root is out of its reach; the system's may do, with this one's packages.
    for python in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
        with suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([python, "-c", reach], capture_output=True, check=True, cwd="/", **identity)
            return Nobody(python, identity)
    pytest.skip("nobody cannot reach this Python and its packages")
