from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pgflow.database.embedded import EmbeddedDatabase
from tests.support.embedded import (
    Nobody,
    User,
)


def test_another_os_user_has_a_server_of_its_own(home: Path, start: Callable[..., User], nobody: Nobody) -> None:
    home.chmod(0o1777)
    mine = start().opened()

    theirs = start(**nobody.options).opened()

    assert theirs.postmaster() != mine.postmaster()
    theirs.end()


def test_an_os_user_who_may_not_write_there_is_told_so(home: Path, start: Callable[..., User], nobody: Nobody) -> None:
    answer = start(**nobody.options).read()

    folder = home / str(nobody.identity["user"])
    assert answer.startswith(f"EmbeddedServerError The embedded PostgreSQL cannot use {folder}: Permission denied")
    assert "set PGFLOW_HOME to a folder you can write to" in answer


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has a folder of its own for such data")
@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"HOME": "{home}"}, ".local/share/pgflow"),
        ({"HOME": "/nonexistent", "XDG_DATA_HOME": "{home}/xdg"}, "xdg/pgflow"),
        ({"HOME": "{home}", "XDG_DATA_HOME": "not/absolute"}, ".local/share/pgflow"),
    ],
)
def test_without_pgflow_home_the_data_is_in_the_users_own(
    home: Path, nobody: Nobody, environment: dict[str, str], folder: str
) -> None:
    home.chmod(0o1777)
    (home / "xdg").mkdir()
    (home / "xdg").chmod(0o1777)
    program = "from pgflow.database.embedded import home; print(home.prepare().folder)"
    result = subprocess.run(
        [nobody.python, "-c", program],
        env={"PYTHONPATH": os.environ["PYTHONPATH"]}
        | {name: value.format(home=home) for name, value in environment.items()},
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        **nobody.identity,
    )

    made = home / folder / str(nobody.identity["user"])
    assert result.stdout.strip() == str(made)
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_another_os_user_cannot_enter_the_servers_socket_folder(home: Path, nobody: Nobody) -> None:
    with EmbeddedDatabase() as database:
        program = f"import psycopg; psycopg.connect({database.conninfo!r})"
        with pytest.raises(subprocess.CalledProcessError) as caught:
            subprocess.run([nobody.python, "-c", program], capture_output=True, check=True, cwd="/", **nobody.identity)
        with psycopg.connect(database.conninfo):
            pass
    assert b"Permission denied" in caught.value.stderr
