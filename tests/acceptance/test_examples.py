"""The examples, run as the README says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.census import expected_totals
from tests.support.cli import environment

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_example(name: str, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pgflow", "run", f"{EXAMPLES / name}:flow", *arguments],
        capture_output=True,
        text=True,
        env=environment(url),
        timeout=110,
        check=False,
    )


@pytest.mark.quiet
@pytest.mark.parametrize("server", ["embedded"], indirect=True)
def test_the_census_of_the_standard_library_is_right(database_url: str) -> None:
    result = run_example("source_census.py", database_url)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)["report"]
    expected = expected_totals()
    assert report["files"] > 500
    assert {name: report[name] for name in ("files", "parsed", "lines", "functions")} == {
        name: expected[name] for name in ("files", "parsed", "lines", "functions")
    }
    assert len(report["unparsable"]) == expected["unparsable"]
    complexities = [function["complexity"] for function in report["most_complex"]]
    assert (len(complexities), complexities) == (10, sorted(complexities, reverse=True))


@pytest.mark.parametrize("server", ["embedded"], indirect=True)
def test_the_hang_is_killed_and_said_where_it_was(database_url: str) -> None:
    result = run_example("hang.py", database_url, "--slots", "2")
    assert result.returncode == 1
    assert "failed: stuck, attempt 1:\nTask timed out after 2000ms; it was in stuck (hang.py:" in result.stderr
    assert "busy: done" in result.stderr
