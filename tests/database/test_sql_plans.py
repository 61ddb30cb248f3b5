"""The hot statements read rows in proportion to their batch, whatever the tables hold and the statistics say.

No EXPLAIN of copied statements: PostgreSQL's own counters say what the functions really read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pgflow.database import named_query
from tests.support.servers import Server
from tests.support.sql import Core

BIG_MAP = 100_000
SMALL_RUNS = 3_000
BATCH = 12
ROWS_PER_TASK = 60
"""A claim and a verdict read about 25 to 45 rows a task, all tables together; one scan would be thousands."""


def rows_read(core: Core, action: Callable[[], object]) -> dict[str, int]:
    """How many rows of each table of ours an action reads."""
    with core.connection.transaction():
        before = _counters(core)
        action()
        after = _counters(core)
    read = {table: after[table] - before.get(table, 0) for table in after}
    return {table: rows for table, rows in read.items() if rows}


def plans(core: Core, action: Callable[[], object]) -> str:
    """The plans of every statement that an action runs, those inside functions included, with what they did."""
    texts: list[str] = []
    core.connection.add_notice_handler(lambda notice: texts.append(notice.message_primary or ""))
    core.rows("LOAD 'auto_explain'")
    for setting in ("log_min_duration = 0", "log_nested_statements = on", "log_analyze = on", "log_level = 'notice'"):
        core.rows(f"SET auto_explain.{setting}")
    action()
    return "\n\n".join(texts)


def _counters(core: Core) -> dict[str, int]:
    rows = core.rows(
        "SELECT relname, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS read "
        "FROM pg_stat_xact_user_tables WHERE schemaname IN ('pgflow', 'pgmq')"
    )
    return {row["relname"]: int(row["read"]) for row in rows}


def settle_a_batch(core: Core, flow: str) -> None:
    """Claim a batch and renew it; complete, fail, release and requeue a third or a sixth of it each."""
    tasks = core.claim(flow, BATCH)
    assert len(tasks) == BATCH
    assert core.renew(tasks, [100] * 6 + [None] * 6) == ["held"] * BATCH
    assert core.complete(tasks[:4], [1] * 4) == ["completed"] * 4
    assert core.fail(tasks[4:8], ["again"] * 4) == ["retried"] * 4
    assert core.release(tasks[8:10]) == ["released"] * 2
    assert core.requeue(tasks[10:]) == ["requeued"] * 2


@pytest.fixture(scope="module")
def big(server: Server, template: str) -> Iterator[Core]:
    """A map of 100,000 tasks and 3,000 small runs."""
    with server.admin() as admin:
        admin.execute(f"CREATE DATABASE plans TEMPLATE {template}")
    core = Core(server.url("plans"))
    with core.connection:
        core.flow("big", "m*", max_attempts=100)
        core.start("big", [0] * BIG_MAP)
        core.flow("small", "a", "b <- a", max_attempts=100)
        start_small_runs(core, SMALL_RUNS)
        core.rows("ANALYZE")
        yield core
    with server.admin() as admin:
        admin.execute("DROP DATABASE plans WITH (FORCE)")


def start_small_runs(core: Core, count: int) -> None:
    core.rows("SELECT pgflow.start_flow('small', to_jsonb(n)) FROM generate_series(1, %s) AS n", count)


@pytest.mark.parametrize("flow", ["big", "small"])
def test_a_batch_reads_its_own_rows_among_100_000(big: Core, flow: str) -> None:
    # More often than plpgsql's five custom plans, should there be any.
    for _ in range(7):
        big.rows("UPDATE pgflow.step_tasks SET requeued_count = 0 WHERE requeued_count > 0")
        read = rows_read(big, lambda: settle_a_batch(big, flow))
        assert sum(read.values()) < BATCH * ROWS_PER_TASK, read


@pytest.mark.parametrize("flow", ["big", "small"])
def test_renewing_a_batch_reads_its_own_rows(big: Core, flow: str) -> None:
    tasks = big.claim(flow, BATCH)
    read = rows_read(big, lambda: big.renew(tasks, [None] * BATCH))
    assert read == dict.fromkeys(("runs", "step_states", "step_tasks"), BATCH)
    read = rows_read(big, lambda: big.renew(tasks, [100] * BATCH))
    assert sum(read.values()) < BATCH * 10, read
    big.release(tasks)


@pytest.mark.parametrize("were_all_started", [False, True])
def test_what_workers_hold_is_found_among_many_tasks(database_url: str, were_all_started: bool) -> None:
    """Also with statistics from when a claim of everything was under way."""
    core = Core(database_url)
    with core.connection:
        core.flow("map", "m*")
        core.start("map", [0] * 20_000)
        if were_all_started:
            core.rows("UPDATE pgflow.step_tasks SET status = 'started', started_at = now(), last_worker_id = NULL")
            core.rows("ANALYZE")
            core.rows("UPDATE pgflow.step_tasks SET status = 'queued', started_at = NULL")
        core.claim("map", BATCH)
        core.rows("VACUUM pgflow.step_tasks")
        read = rows_read(core, lambda: look(core, "held_tasks", worker_ids=[str(core.worker_id)]))
        assert sum(read.values()) < 10 * BATCH, read
        read = rows_read(core, lambda: look(core, "suspects", own_worker_ids=[], silent_seconds=0))
        assert sum(read.values()) < 10 * BATCH, read


def look(core: Core, query: str, **parameters: object) -> None:
    """Run a query as database/workers.py and database/tasks.py do."""
    core.connection.execute(named_query("avoid_scans").encode())
    assert core.connection.execute(named_query(query).encode(), parameters).fetchall()


def test_starting_a_run_reads_its_own_rows(big: Core) -> None:
    read = rows_read(big, lambda: big.start("small", 1))
    assert sum(read.values()) < 2 * ROWS_PER_TASK, read


@pytest.mark.parametrize("is_analysed", [False, True])
@pytest.mark.parametrize("flow", ["map", "small"])
def test_plans_made_on_tiny_tables_stay_good(core: Core, flow: str, is_analysed: bool) -> None:
    """A worker's session plans once, on a fresh database, and autovacuum comes a minute after the burst at best."""
    core.flow("map", "m*", max_attempts=100)
    core.flow("small", "a", "b <- a", max_attempts=100)
    for _ in range(BATCH):
        core.start("map", [0])
    start_small_runs(core, BATCH)
    if is_analysed:
        core.rows("VACUUM ANALYZE")
    settle_a_batch(core, flow)
    core.start("map", [0] * 10_000)
    start_small_runs(core, 1000)
    read = rows_read(core, lambda: settle_a_batch(core, flow))
    if sum(read.values()) >= BATCH * ROWS_PER_TASK:  # seen once in 50 whole runs of the tests, never alone
        pytest.fail(f"{read}\n{plans(core, lambda: settle_a_batch(core, flow))}")


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("were_emptied", [False, True])
def test_plans_made_for_a_few_rows_stay_good(core: Core, were_emptied: bool, count: int) -> None:
    """One row costs the same through every index, and of pages that others left the key has more than they."""
    core.flow("map", "m*", max_attempts=100)
    if were_emptied:
        core.start("map", [0] * 3_000)
        for table in ("pgflow.step_tasks", "pgflow.step_states", "pgflow.runs", "pgmq.q_map"):
            core.rows(f"DELETE FROM {table}")
    for _ in range(count):
        core.start("map", [0])
    core.rows("VACUUM ANALYZE")
    core.complete(core.claim("map"), [1] * count)
    core.start("map", [0] * 5_000)
    read = rows_read(core, lambda: settle_a_batch(core, "map"))
    assert sum(rows for table, rows in read.items() if table != "q_map") < BATCH * ROWS_PER_TASK, read


def test_plans_made_while_there_is_one_run_stay_good(core: Core) -> None:
    """Its flow's index, read for its order, cost less than its key."""
    core.flow("small", "a", "b <- a", max_attempts=100)
    start_small_runs(core, 1)
    core.rows("VACUUM ANALYZE")
    fresh = Core(core.url)
    with fresh.connection:
        assert fresh.complete(fresh.claim("small"), [1]) == ["completed"]
        start_small_runs(core, 5_000)
        tasks = fresh.claim("small", BATCH)
        read = rows_read(fresh, lambda: fresh.complete(tasks, [1] * BATCH))
    assert sum(read.values()) < BATCH * ROWS_PER_TASK, read


@pytest.mark.parametrize("flow", ["map", "small"])
def test_tables_that_were_emptied_do_not_mislead(core: Core, flow: str) -> None:
    """Indexes keep the pages of what was deleted, so that others look cheaper, and joins of whole tables cheap."""
    core.flow("map", "m*", max_attempts=100)
    core.flow("small", "a", "b <- a", max_attempts=100)
    core.start("map", [0] * 20_000)
    core.rows("ANALYZE")
    for table in ("pgflow.step_tasks", "pgflow.step_states", "pgflow.runs", "pgmq.q_map"):
        core.rows(f"DELETE FROM {table}")
    start_small_runs(core, 100)
    core.rows("VACUUM ANALYZE")
    core.start("map", [0] * 10_000)
    start_small_runs(core, 1000)
    fresh = Core(core.url)
    with fresh.connection:
        read = rows_read(fresh, lambda: settle_a_batch(fresh, flow))
    assert sum(rows for table, rows in read.items() if table != "q_small") < BATCH * ROWS_PER_TASK, read


@pytest.mark.parametrize("flow", ["map", "small"])
def test_statistics_without_anything_queued_do_not_mislead(core: Core, flow: str) -> None:
    """After a quiet night the statistics say that nothing is queued or started; then thousands come."""
    core.flow("map", "m*", max_attempts=100)
    core.flow("small", "a", "b <- a", max_attempts=100)
    core.flow("yesterday", "m*")
    for _ in range(100):
        core.start("yesterday", [0])
    core.complete(core.claim("yesterday"), [1] * 100)
    core.rows("VACUUM ANALYZE")
    core.start("map", [0] * 10_000)
    start_small_runs(core, 1000)
    fresh = Core(core.url)
    with fresh.connection:
        read = rows_read(fresh, lambda: settle_a_batch(fresh, flow))
    # In a queue of a thousand messages, reading all of them costs what finding twelve does.
    assert sum(rows for table, rows in read.items() if table != "q_small") < BATCH * ROWS_PER_TASK, read


@pytest.mark.parametrize("is_analysed", [False, True])
def test_messages_that_are_not_visible_are_not_read(core: Core, is_analysed: bool) -> None:
    """Those of 20,000 tasks to come, which are older than the one that is due."""
    core.flow("later", "m*")
    core.rows("UPDATE pgflow.steps SET opt_start_delay = 3600")
    core.start("later", [0] * 20_000)
    core.rows("UPDATE pgflow.steps SET opt_start_delay = NULL")
    core.start("later", [0] * BATCH)
    if is_analysed:
        core.rows("VACUUM ANALYZE")
    fresh = Core(core.url)
    with fresh.connection:
        read = rows_read(fresh, lambda: core_claims(fresh, BATCH))
        assert sum(read.values()) < BATCH * 20, read
        read = rows_read(fresh, lambda: core_claims(fresh, 0))
        assert sum(read.values()) < BATCH, read


def core_claims(core: Core, expected: int) -> None:
    assert len(core.claim("later", BATCH)) == expected


def feed_batch(core: Core, chunks: int, size: int = 1000) -> None:
    """Add chunks of new items to a batch, of which the first are older."""
    core.rows(
        "SELECT pgflow.create_batch('b', 'batch_b', 'f', 'f', '{}', '{}') WHERE NOT EXISTS (SELECT FROM pgflow.batches)"
    )
    core.rows(
        """
        SELECT pgflow.add_batch_items(
          b.batch_id, 1, (b.chunks + n)::int,
          (SELECT string_agg(decode(md5((b.chunks + n) || ' ' || i), 'hex'), '') FROM generate_series(1, %s) AS i),
          (SELECT jsonb_agg(i) FROM generate_series(1, %s) AS i),
          (SELECT array_agg(i) FROM generate_series(1, %s) AS i)
        )
        FROM pgflow.batches AS b CROSS JOIN generate_series(1, %s) AS n
        """,
        *(size, size, size, chunks),
    )


@pytest.mark.parametrize("when_analysed", ["never", "tiny", "late"])
def test_a_batch_reads_its_chunk_and_its_page_alone(core: Core, when_analysed: str) -> None:
    core.flow("batch_b", "item*")
    feed_batch(core, 1, size=1)
    if when_analysed == "tiny":
        core.rows("VACUUM ANALYZE")
    feed_batch(core, 20)
    if when_analysed == "late":
        core.rows("VACUUM ANALYZE")
    batch_id = core.value("SELECT batch_id FROM pgflow.batches")
    core.complete(core.claim("batch_b", BATCH), [1] * BATCH)
    read = rows_read(core, lambda: feed_batch(core, 1, size=100))
    assert sum(read.values()) < 100 * ROWS_PER_TASK, read
    page = {"batch_id": batch_id, "limit": 2000, "bytes": 1 << 20, "in_order": False}
    read = rows_read(core, lambda: look(core, "finished_batch_items", **page))
    # Two runs have something new, one of a single item and one of a thousand: no item of the others is looked at.
    assert sum(read.values()) < 2 * 1000 + 100 * BATCH, read
    core.claim("batch_b", BATCH)
    read = rows_read(core, lambda: look(core, "running_batch_items", flow_slug="batch_b", limit=5, slots=2))
    assert sum(read.values()) < 20 * BATCH, read


def test_hot_functions_plan_alike_and_do_not_compile(core: Core) -> None:
    """Their costs are counted in rows, which made PostgreSQL compile every statement: 472 us a completion instead of 110."""
    settings = {
        row["proname"]: {setting for setting in row["proconfig"] if setting != "enable_bitmapscan=off"}
        for row in core.rows(
            "SELECT proname, proconfig FROM pg_proc WHERE pronamespace = 'pgflow'::regnamespace "
            "AND 'plan_cache_mode=force_generic_plan' = ANY(proconfig)"
        )
    }
    assert settings.keys() >= {
        "claim_tasks",
        "start_tasks",
        "_complete_tasks",
        "_fail_tasks",
        "start_flow",
        "start_flows",
    }
    assert all(own == settings["claim_tasks"] for own in settings.values()), settings
    assert "jit=off" in settings["claim_tasks"]
