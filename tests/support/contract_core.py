"""A core that has the contract's functions alone, as another implementation's: ours, with what is ours out of sight."""

from __future__ import annotations

import re

import psycopg

from pgflow.database import schema

_OURS = (
    "claim_tasks", "complete_tasks", "fail_tasks", "release_tasks", "start_flows", "cancel_run", "retry_run",
    "await_tasks", "stop_awaiting_tasks", "record_failures", "update_flow_options", "requeue_tasks", "renew_tasks",
)  # fmt: skip
_VISIBILITY = re.compile(r"  SELECT count\(\*\) INTO visible.*?  END IF;\n", re.DOTALL)


def install(url: str, *, sets_visibility: bool = True) -> None:
    """Install it in an empty database; without ``sets_visibility`` with the defect D1 of the contract."""
    script = schema.sql()
    for name in _OURS:
        script = re.sub(rf"\bpgflow\.{name}\b", f"pgflow.hidden_{name}", script)
        script = re.sub(rf"(?<![.\w]){name}\.", f"hidden_{name}.", script)  # a function's name qualifies its arguments
    if not sets_visibility:
        script, count = _VISIBILITY.subn("", script)
        assert count == 1
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(script.encode())
        connection.execute("DROP TABLE pgflow.schema_versions, pgflow.worker_processes")
