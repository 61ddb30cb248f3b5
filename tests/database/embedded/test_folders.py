from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pgflow.database.embedded import EmbeddedDatabase
from pgflow.errors import EmbeddedServerError
from tests.support.embedded import (
    AS_ROOT,
    User,
    layout,
)


def modes(folder: Path) -> list[int]:
    return [stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.parents)]


@pytest.mark.parametrize("mode", [0o711, 0o755])
def test_no_folder_above_ours_changes_its_mode(home: Path, start: Callable[..., User], mode: int) -> None:
    home.chmod(mode)
    home.parent.chmod(mode)
    before = modes(home)

    start().opened().end()

    assert modes(home) == before


@pytest.mark.skipif(not AS_ROOT, reason="only root's server runs as another user")
def test_as_root_a_folder_that_the_server_cannot_enter_is_named(home: Path) -> None:
    home.parent.chmod(0o700)

    with pytest.raises(EmbeddedServerError, match=f"cannot enter {home.parent}: set PGFLOW_HOME"):
        EmbeddedDatabase()

    assert modes(home)[:2] == [0o755, 0o700]


def test_an_over_long_path_is_refused_before_anything_is_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGFLOW_HOME", str(home / ("x" * 100)))

    with pytest.raises(EmbeddedServerError, match="too long for a socket path: set PGFLOW_HOME to one of at most"):
        EmbeddedDatabase()

    assert list(home.iterdir()) == []


@pytest.mark.parametrize("name", ["a,b", 'a"b', "a$b", "a`b"])
def test_a_path_that_postgresql_cannot_take_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("PGFLOW_HOME", str(home / name))

    with pytest.raises(EmbeddedServerError, match="characters that PostgreSQL cannot take in a path"):
        EmbeddedDatabase()


def test_a_path_with_other_special_characters_works(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGFLOW_HOME", str(home / "it's 100% é" / "(mine)"))

    with EmbeddedDatabase() as database, database.connection() as connection:
        connection.execute("SELECT 1")


def test_the_longest_path_allowed_works(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGFLOW_HOME", str(home / ("x" * 100)))
    with pytest.raises(EmbeddedServerError) as caught:
        EmbeddedDatabase()
    allowed = int(str(caught.value).split()[-2])
    monkeypatch.setenv("PGFLOW_HOME", str(home / ("x" * (allowed - len(str(home)) - 1))))

    with EmbeddedDatabase() as database, database.connection() as connection:
        connection.execute("SELECT 1")


def test_a_folder_that_cannot_be_made_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").touch()
    monkeypatch.setenv("PGFLOW_HOME", str(home / "file"))

    with pytest.raises(EmbeddedServerError, match=f"cannot use {home}/file/.*set PGFLOW_HOME"):
        EmbeddedDatabase()


def test_why_the_server_did_not_start_is_said_in_one_line(used_home: Path) -> None:
    (layout(used_home).data / "PG_VERSION").write_text("15\n")

    with pytest.raises(EmbeddedServerError) as caught:
        EmbeddedDatabase()

    reason, _, log = str(caught.value).partition(" (log: ")
    assert reason == "The embedded PostgreSQL did not start: database files are incompatible with server"
    assert log == f"{layout(used_home).log})"
