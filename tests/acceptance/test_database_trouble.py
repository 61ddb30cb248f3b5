"""A database that answers, but not as it should: what ended meanwhile is kept, and delivered once."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.support import servers
from tests.support.cli import begun, hear
from tests.support.waiting import wait_until
from tests.support.worker import HOSTILE, Runs, run_hostile

OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"


@pytest.mark.parametrize(
    ("trouble", "mended"),
    [
        ("SET default_transaction_read_only = on", "RESET default_transaction_read_only"),
        ("ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true"),
        ("SET statement_timeout = 1", "RESET statement_timeout"),
    ],
    ids=["read-only", "no connections", "statement timeout"],
)
def test_what_ends_while_the_database_is_in_trouble_is_delivered_once(
    server: servers.Server, database_url: str, runs: Runs, tmp_path: Path, trouble: str, mended: str
) -> None:
    (row,) = runs.query("SELECT current_database()")
    name = row["current_database"]

    def alter(what: str) -> None:
        with server.admin() as admin:
            admin.execute(sql.SQL("ALTER DATABASE {} " + what).format(sql.Identifier(name)))
            admin.execute(OTHERS, (name,))

    with begun("worker", HOSTILE, "--slots", "2", url=database_url) as process:
        hear(process, "ready: ")
        runs.query("UPDATE pgflow.flows SET opt_timeout = 60")
        run_id = run_hostile(runs, "note_and_wait", {"began": str(tmp_path / "began"), "go": str(tmp_path / "go")})
        wait_until((tmp_path / "began").exists, "the handler runs")
        alter(trouble)
        (tmp_path / "go").touch()
        hear(process, "delivering 1 outcomes failed")
        alter(mended)
        with psycopg.connect(database_url, autocommit=True) as connection:
            wait_until(
                lambda: (
                    connection.execute("SELECT status FROM pgflow.runs WHERE run_id = %s", [run_id]).fetchone()
                    == ("completed",)
                ),
                "the outcome is delivered",
            )
            attempts = connection.execute("SELECT outcome, attempt FROM pgflow.task_attempts").fetchall()
    assert attempts == [("completed", 1)]
