"""The two ways to tell a database of a flow, its shape and its SQL, say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from pgflow import Flow, codec
from pgflow.errors import FlowDefinitionError

ODD_TEXTS = ["it's", "\\", "\\'; --", "$$", "é\U0001f600", 'a"b', "{}", "E'\\n'", "%s :name", "\n\t\x01"]


def full_flow() -> Flow:
    flow = Flow("Orders_1", timeout=30, max_attempts=0)
    flow.step(slug="first")(lambda input: None)
    flow.map(slug="each", over="first", start_delay=2, timeout=9, base_delay=0, max_attempts=1)(lambda x: None)
    flow.step(
        slug="last",
        depends_on=["each", "first"],
        when_exhausted="skip-cascade",
        when_unmet="fail",
        if_not={},
        if_={text: [text, 1.5, None] for text in ODD_TEXTS},
    )(lambda deps: None)
    return flow


def test_a_shape_has_the_contracts_keys() -> None:
    first, each, last = full_flow().shape()["steps"]
    assert first == {
        "slug": "first",
        "stepType": "single",
        "dependencies": [],
        "whenUnmet": "skip",
        "whenExhausted": "fail",
        "requiredInputPattern": {"defined": False},
        "forbiddenInputPattern": {"defined": False},
        "options": {},
    }
    assert each["stepType"] == "map"
    assert each["dependencies"] == ["first"]
    assert each["options"] == {"maxAttempts": 1, "baseDelay": 0, "timeout": 9, "startDelay": 2}
    assert last["dependencies"] == ["each", "first"]
    assert (last["whenUnmet"], last["whenExhausted"]) == ("fail", "skip-cascade")
    assert last["requiredInputPattern"]["value"]["it's"] == ["it's", 1.5, None]
    assert last["forbiddenInputPattern"] == {"defined": True, "value": {}}
    assert full_flow().shape()["options"] == {"maxAttempts": 0, "timeout": 30}
    assert Flow("empty").shape() == {"steps": [], "options": {}}


def test_a_shape_is_json() -> None:
    shape = full_flow().shape()
    assert json.loads(codec.encode(shape)) == json.loads(json.dumps(shape)) == shape


def test_the_sql_is_one_call_a_line_with_the_options_that_were_given() -> None:
    flow = Flow("orders", timeout=30)
    flow.step(slug="a")(lambda input: None)
    flow.map(slug="b", over="a", max_attempts=2, if_={"it's": 1})(lambda input: None)
    flow.step(slug="c", depends_on=["b", "a"], when_unmet="fail")(lambda input: None)
    assert flow.sql() == (
        "SELECT pgflow.create_flow('orders', timeout => 30);\n"
        "SELECT pgflow.add_step('orders', 'a');\n"
        "SELECT pgflow.add_step('orders', 'b', ARRAY['a'], max_attempts => 2,"
        " required_input_pattern => '{\"it''s\":1}', step_type => 'map');\n"
        "SELECT pgflow.add_step('orders', 'c', ARRAY['b', 'a'], when_unmet => 'fail');\n"
    )


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with psycopg.connect(database_url, row_factory=dict_row, autocommit=True) as opened:
        yield opened


DEFINITION = """
SELECT
  to_jsonb(f) - 'created_at' AS flow,
  (SELECT jsonb_agg(to_jsonb(s) - 'created_at' ORDER BY s.step_index) FROM pgflow.steps AS s) AS steps,
  (
    SELECT jsonb_agg(to_jsonb(d) - 'created_at' ORDER BY d.step_slug, d.dep_slug)
    FROM pgflow.deps AS d
  ) AS deps
FROM pgflow.flows AS f
"""


def test_the_sql_defines_what_the_shape_defines(connection: psycopg.Connection[dict[str, Any]]) -> None:
    flow = full_flow()
    connection.execute(flow.sql().encode())
    by_sql = connection.execute(DEFINITION).fetchall()
    connection.execute("SELECT pgflow.delete_flow_and_data(%s)", [flow.slug])

    connection.execute("SELECT pgflow._create_flow_from_shape(%s, %s::jsonb)", [flow.slug, codec.encode(flow.shape())])
    assert connection.execute(DEFINITION).fetchall() == by_sql
    assert by_sql[0]["steps"][2]["required_input_pattern"] == {text: [text, 1.5, None] for text in ODD_TEXTS}


@pytest.mark.parametrize("conforming", ["on", "off"])
def test_a_pattern_in_the_sql_does_not_depend_on_the_sessions_settings(
    connection: psycopg.Connection[dict[str, Any]], conforming: str
) -> None:
    connection.execute(f"SET standard_conforming_strings = {conforming}".encode())
    found = re.search("required_input_pattern => (E'.*?'), forbidden", full_flow().sql())
    assert found is not None
    row = connection.execute(f"SELECT {found[1]}::jsonb AS pattern".encode()).fetchone()
    assert row == {"pattern": {text: [text, 1.5, None] for text in ODD_TEXTS}}


SLUGS = [
    "a",
    "_",
    "A1",
    "run",
    "Run",
    "1a",
    "",
    "a-b",
    "a b",
    "a\n",
    "é",
    "a\u0663",
    "a" * 47,
    "a" * 128,
    "a" * 129,
]


def test_a_step_slug_is_valid_where_the_database_says_so(
    connection: psycopg.Connection[dict[str, Any]],
) -> None:
    for slug in SLUGS:
        row = connection.execute("SELECT pgflow.is_valid_slug(%s) AS valid", [slug]).fetchone()
        assert row == {"valid": is_declared(slug)}, repr(slug)


def is_declared(slug: str) -> bool:
    try:
        Flow("flow").step(slug=slug)(lambda input: None)
    except FlowDefinitionError:
        return False
    return True


@pytest.mark.parametrize("slug", ["a" * 47, "_", "CamelCase"])
def test_every_flow_slug_that_passes_can_be_created(connection: psycopg.Connection[dict[str, Any]], slug: str) -> None:
    connection.execute(Flow(slug).sql().encode())
    assert connection.execute("SELECT flow_slug FROM pgflow.flows").fetchall() == [{"flow_slug": slug}]
