"""``pgflow top``: live on a terminal, one look elsewhere."""

from __future__ import annotations

import json
import re
import signal

import psutil
import psycopg
import pytest

from tests.support import contract_core
from tests.support.cli import call
from tests.support.seed import Seed
from tests.support.sql import Core
from tests.support.terminal import on_a_terminal
from tests.support.waiting import wait_until

ALTERNATE_SCREEN, USUAL_SCREEN = "\x1b[?1049h", "\x1b[?1049l"


def test_a_pipe_gets_one_look_as_plain_text(database_url: str, seeded: Seed) -> None:
    result = call("top", url=database_url, more={"FORCE_COLOR": "1"})
    assert (result.returncode, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    lines = result.stdout.splitlines()
    assert lines[1].split() == ["FLOW", "RUNNING", "QUEUED", "DELAYED", "ENDED/S"]
    (mail,) = (line for line in lines if line.startswith("mail"))
    bar, *numbers = mail.split()[1:]
    assert (numbers[:3], set(bar)) == (["1", "1", "1"], set("█▒░"))
    assert "pgflow-py@web-1:4242 alive  orders" in result.stdout
    (killed,) = (line for line in lines if "orders/measure[2]" in line and "attempt 2" in line)
    assert " K orders/measure[2] of " in killed
    assert killed.endswith("attempt 2: Task timed out after 1000ms; it was in spin called from work.py:7")


def test_a_look_as_json(database_url: str, seeded: Seed) -> None:
    look = json.loads(call("top", "--json", url=database_url).stdout)
    assert list(look) == ["at", "database", "flows", "more_flows", "workers", "failures"]
    assert {flow["flow_slug"] for flow in look["flows"]} == {"orders", "mail", "thumbs"}
    (worker,) = look["workers"]
    blocks = [block for lane in worker["lanes"] for block in lane]
    assert {block["outcome"] for block in blocks} == {"completed", "failed", "timed_out", None}
    assert "timed_out" in {failure["outcome"] for failure in look["failures"]}
    only = json.loads(call("top", "--flow", "mail", "--json", url=database_url).stdout)
    assert [flow["flow_slug"] for flow in only["flows"]] == ["mail"]


@pytest.mark.parametrize("keys", ["q", "\x03"])
def test_a_terminal_is_live_until_q_or_ctrl_c_and_is_left_as_it_was(core: Core, seeded: Seed, keys: str) -> None:
    with on_a_terminal("top", url=core.url) as terminal:
        assert terminal.is_canonical()
        terminal.see(ALTERNATE_SCREEN)
        terminal.see("\x1b[1;37;41mK\x1b[0m orders/measure[2]")
        terminal.see("q ends")
        core.fail(core.claim("orders", 1), ["BrandNewError: seen at the next look"])
        terminal.see("BrandNewError: seen at the next look")
        terminal.type(keys)
        assert terminal.end() == 0
        assert terminal.shown.rindex(USUAL_SCREEN) > terminal.shown.rindex(ALTERNATE_SCREEN)
        assert terminal.is_canonical()


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(database_url: str, seeded: Seed) -> None:
    with on_a_terminal("top", url=database_url) as terminal:
        terminal.see("q ends")
        terminal.type("\x1a")
        terminal.see(USUAL_SCREEN)
        process = psutil.Process(terminal.process.pid)
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, "it is stopped")
        assert terminal.is_canonical()
        terminal.process.send_signal(signal.SIGCONT)
        terminal.see(ALTERNATE_SCREEN)
        terminal.see("q ends")
        assert not terminal.is_canonical()
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.is_canonical()


def test_sigterm_leaves_the_terminal_as_it_was(database_url: str, seeded: Seed) -> None:
    with on_a_terminal("top", url=database_url) as terminal:
        terminal.see("q ends")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == 0
        assert USUAL_SCREEN in terminal.shown
        assert terminal.is_canonical()


@pytest.mark.parametrize(("columns", "lines"), [(160, 45), (80, 24), (40, 10), (20, 5)])
def test_it_fits_its_terminal(database_url: str, seeded: Seed, columns: int, lines: int) -> None:
    with on_a_terminal("top", url=database_url, columns=columns, lines=lines, NO_COLOR="1") as terminal:
        terminal.see("q ends")
        terminal.type("q")
        assert terminal.end() == 0
    screens = re.sub(r"\x1b\[[0-9;]*m", "", terminal.shown).split("\x1b[H")
    (first, *_) = (screen.partition("\x1b")[0] for screen in screens if "q ends" in screen)
    rows = first.split("\r\n")
    assert len(rows) == lines
    assert [row for row in rows if len(row) > columns] == []
    assert "mail" in first


def test_a_database_that_is_away_is_waited_for(core: Core, seeded: Seed) -> None:
    with on_a_terminal("top", url=core.url) as terminal:
        terminal.see("q ends")
        name = core.connection.info.dbname
        with psycopg.connect(core.url.replace(f"/{name}?", "/postgres?"), autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
            core.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgflow'")
            terminal.see("waiting for the database: Cannot connect")
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
            terminal.see("pgflow top")
        terminal.type("q")
        assert terminal.end() == 0


def test_a_core_with_the_contracts_functions_alone(empty_database_url: str) -> None:
    contract_core.install(empty_database_url)
    core = Core(empty_database_url)
    with core.connection:
        core.flow("f", "m*")
        run_id = core.start("f", [1, 2])
        core.register_worker()
        core.rows(
            "SELECT pgflow.start_tasks('f', (SELECT array_agg(msg_id) FROM pgmq.read('f', 60, 2)), %s)", core.worker_id
        )
        core.rows("SELECT pgflow.complete_task(%s, 'm', 0, '10')", run_id)
        core.rows("SELECT pgflow.fail_task(%s, 'm', 1, 'no such thing')", run_id)
    shown = call("top", url=empty_database_url).stdout
    assert "test alive  test" in shown
    assert "x f/m[1] of" in shown
    assert "no such thing" in shown
