"""The plans of the hot statements at 100,000 rows: all go through an index.

auto_explain shows the plans of the statements inside the functions, as they were really run. The embedded wheel does
not have it, so this runs on the system's PostgreSQL only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest

from tests.support.sql import Core

BIG_MAP = 100_000
SMALL_RUNS = 3_000
SCAN = re.compile(r"Seq Scan on (?P<table>step_tasks|step_states|runs|q_big|q_small)\b")


class Plans:
    """Collects the plans of everything a connection runs."""

    def __init__(self, core: Core) -> None:
        self.texts: list[str] = []
        core.connection.add_notice_handler(self._keep)
        core.rows("LOAD 'auto_explain'")
        for name, value in (
            ("auto_explain.log_min_duration", "0"),
            ("auto_explain.log_nested_statements", "on"),
            ("auto_explain.log_level", "notice"),
            ("client_min_messages", "notice"),
        ):
            core.rows("SELECT set_config(%s, %s, false)", name, value)

    def _keep(self, notice: psycopg.errors.Diagnostic) -> None:
        self.texts.append(notice.message_primary or "")

    def scans(self) -> list[str]:
        """The plans that read a whole big table."""
        return [text for text in self.texts if SCAN.search(text)]


@pytest.fixture(scope="module")
def big_url(server: object, template: str) -> Iterator[str]:
    """A database with a map of 100,000 tasks and 3,000 small runs."""
    from tests.support.servers import Server

    assert isinstance(server, Server)
    with server.admin() as admin:
        admin.execute(f"CREATE DATABASE plans TEMPLATE {template}")
    core = Core(server.url("plans"))
    with core.connection:
        core.flow("big", "m*", max_attempts=3)
        core.start("big", [0] * BIG_MAP)
        core.flow("small", "a", "b <- a", max_attempts=3)
        core.rows("SELECT pgflow.start_flow('small', to_jsonb(n)) FROM generate_series(1, %s) AS n", SMALL_RUNS)
        core.rows("ANALYZE")
    yield server.url("plans")
    with server.admin() as admin:
        admin.execute("DROP DATABASE plans WITH (FORCE)")


@pytest.mark.parametrize("server", ["system"], indirect=True)
@pytest.mark.parametrize("flow", ["big", "small"])
def test_hot_statements_use_their_indexes(big_url: str, flow: str) -> None:
    core = Core(big_url)
    with core.connection:
        core.register_worker()
        plans = Plans(core)
        # More often than plpgsql's five custom plans, so that generic plans are seen too.
        for _ in range(7):
            tasks = core.claim(flow, 12)
            assert len(tasks) == 12
            core.complete(tasks[:4], [1] * 4)
            core.fail(tasks[4:8], ["again"] * 4)
            core.release(tasks[8:])
        assert len(plans.texts) > 100
        assert plans.scans() == []
