"""``pgflow doctor`` and ``pgflow schema grants``."""

from __future__ import annotations

import json

from pgflow.database import schema
from tests.support.cli import call
from tests.support.sql import Core
from tests.support.worker import ARITHMETIC


def test_a_database_that_does_well(database_url: str) -> None:
    call("compile", ARITHMETIC, url=database_url)
    result = call("doctor", ARITHMETIC, url=database_url)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("database      test_")
    assert lines[1].startswith("PostgreSQL    1")
    assert lines[2:] == [
        "pgmq          installed as SQL",
        f"schema        version {schema.VERSION}",
        "events        off",
        "capabilities  tasks are claimed and settled in batches",
        "              workers wait for notifications",
        "              history of attempts, cancel and retry of runs",
        "workers       0 alive, 0 silent",
        "queues        arithmetic: 0 waiting, 0 running or delayed",
        "flows         arithmetic: as in the code",
        "stalled       none",
    ]


def test_what_needs_somebody_is_named_with_the_remedy(database_url: str) -> None:
    call("compile", ARITHMETIC, url=database_url)
    core = Core(database_url)
    with core.connection:
        core.flow("F", "a", max_attempts=9)
        run_id = core.start("F", 1)
        core.claim("F")
        core.rows(
            "UPDATE pgflow.step_tasks SET requeued_count = 3, started_at = now() - interval '1 day', "
            "queued_at = now() - interval '1 day'"
        )
        core.rows("SELECT pgflow.requeue_stalled_tasks()")
        core.start("F", 2)
        core.rows("UPDATE pgmq.q_f SET vt = now() - interval '3 hours'")
        core.rows("UPDATE pgflow.workers SET last_heartbeat_at = now() - interval '1 hour'")
        core.rows("SELECT pgflow.add_step('arithmetic', 'more')")
        core.rows("UPDATE pgflow.flows SET opt_timeout = 999 WHERE flow_slug = 'arithmetic'")
        core.rows("DROP FUNCTION pgflow.is_local")
    result = call("doctor", ARITHMETIC, url=database_url)
    assert result.returncode == 1
    for line in (
        "              problem: function pgflow.is_local is missing",
        "workers       0 alive, 1 silent",
        "queues        F: 1 waiting, the oldest for 3 h, 0 running or delayed",
        "flows         arithmetic: differs from its code",
        "                Step count differs: 3 vs 4",
        "                timeout: 999 -> 10 (with the next start of a worker)",
        f"                pgflow runs retry {run_id}    or end the run with pgflow runs cancel",
    ):
        assert line in result.stdout.splitlines()
    found = json.loads(call("doctor", ARITHMETIC, "--json", url=database_url).stdout)
    assert [task["run_id"] for task in found["stalled_tasks"]] == [str(run_id)]
    assert found["capabilities"]["schema_version"] == schema.VERSION


def test_a_database_without_the_schema_says_how_to_get_it(empty_database_url: str) -> None:
    result = call("doctor", url=empty_database_url)
    assert result.returncode == 3
    assert "install it with `pgflow schema install`" in result.stderr


def test_roles_get_their_rights(database_url: str) -> None:
    core = Core(database_url)
    with core.connection:
        for role in ("cli_worker", "cli_client"):
            core.rows(f"DROP ROLE IF EXISTS {role}")
            core.rows(f"CREATE ROLE {role} LOGIN")
        arguments = ("schema", "grants", "--worker", "cli_worker", "--client", "cli_client")
        result = call(*arguments, url=database_url)
        assert result.stdout == "cli_worker may serve flows\ncli_client may start runs\n"
        call("compile", ARITHMETIC, url=database_url)
        as_client = call("start", ARITHMETIC, url=database_url.replace("postgres@", "cli_client@"))
        assert (as_client.returncode, as_client.stderr) == (0, "")
        seen_by_worker = call("doctor", ARITHMETIC, url=database_url.replace("postgres@", "cli_worker@"))
        assert seen_by_worker.returncode == 0
        assert "queues        arithmetic: its queue cannot be read (permission denied for schema pgmq)\n" in (
            seen_by_worker.stdout
        )
        as_worker = call("start", ARITHMETIC, url=database_url.replace("postgres@", "cli_worker@"))
        assert (as_worker.returncode, "permission denied for function start_flows" in as_worker.stderr) == (3, True)
        for role in ("cli_worker", "cli_client"):
            core.rows(f"DROP OWNED BY {role}")
        # The printed statements grant the same.
        core.rows(call(*arguments, "--sql").stdout)
        assert call("start", ARITHMETIC, url=database_url.replace("postgres@", "cli_client@")).returncode == 0
        for role in ("cli_worker", "cli_client"):
            core.rows(f"DROP OWNED BY {role}")
            core.rows(f"DROP ROLE {role}")
    stranger = call("schema", "grants", "--worker", "nobody_there", url=database_url)
    assert (stranger.returncode, "create it with CREATE ROLE" in stranger.stderr) == (3, True)
    assert call("schema", "grants").returncode == call("schema", "grants", "--worker", "").returncode == 2


def test_prune_deletes_what_has_ended(database_url: str) -> None:
    call("compile", ARITHMETIC, url=database_url)
    core = Core(database_url)
    with core.connection:
        core.flow("f", "a")
        core.start("f", 1)
        core.complete(core.claim("f"), [1])
        core.rows("UPDATE pgflow.workers SET last_heartbeat_at = now() - interval '2 minutes'")
        going = core.start("f", 2)
        result = call("prune", "--older-than", "1h", url=database_url)
        assert (result.returncode, result.stdout) == (0, "deleted: 0 runs, 0 archived messages, 0 workers, 0 batches\n")
        result = call("prune", "--older-than", "0", "--json", url=database_url)
        deleted = {"runs": 1, "messages": 1, "workers": 1, "batches": 0}
        assert (result.returncode, json.loads(result.stdout)) == (0, deleted)
        assert core.run(going)["status"] == "started"
    result = call("prune", "--older-than", "soon", url=database_url)
    assert (result.returncode, "must be a duration such as 30s, 5m" in result.stderr) == (2, True)
