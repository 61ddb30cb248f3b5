"""The command line and a database that goes away and comes back, or refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import servers
from tests.support.cli import TIMEOUT_SECONDS, begun, call, hear, patient_flow
from tests.support.waiting import wait_until
from tests.support.worker import ARITHMETIC


def test_a_run_outlives_a_restart_of_the_database(own_server: servers.Server, tmp_path: Path) -> None:
    with begun("run", patient_flow(tmp_path), "--slots", "1", url=own_server.url()) as process:
        wait_until((tmp_path / "began").exists, "the handler runs")
        own_server.stop("fast")
        hear(process, "trying until it is back")
        (tmp_path / "go").touch()
        own_server.start()
        stdout, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        assert (process.returncode, stdout) == (0, '{"wait":"went"}\n')


@pytest.mark.parametrize(
    "arguments",
    [["run", ARITHMETIC], ["worker", ARITHMETIC], ["start", ARITHMETIC], ["compile", ARITHMETIC]],
    ids=lambda a: a[0],
)
def test_a_role_without_rights_is_told_so_in_one_line(
    server: servers.Server, database_url: str, arguments: list[str]
) -> None:
    with server.admin() as admin:
        admin.execute("DROP ROLE IF EXISTS stranger")
        admin.execute("CREATE ROLE stranger LOGIN")
    result = call(*arguments, url=database_url.replace("postgres@", "stranger@"))
    assert (result.returncode, result.stdout) == (3, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: PostgreSQL refused: permission denied for schema pgflow; connect as the owner")
