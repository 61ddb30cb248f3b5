"""The source census: its handlers on the real standard library, on small sources counted by hand, on bad input."""

from __future__ import annotations

import json
import os
import re
import sysconfig
import tokenize
from pathlib import Path
from typing import Any

import pytest

from pgflow import Context
from pgflow.reference import load_flow
from tests.support.census import expected_totals

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "source_census.py")
STDLIB = Path(sysconfig.get_path("stdlib")).resolve()
PART = STDLIB / "asyncio"


def call(step_slug: str, value: Any, run_input: Any = None) -> Any:
    """Call a step's handler as the executor would."""
    ctx = Context(run_id="-", step_slug=step_slug, task_index=0, attempt=1, database=None, flow_input=run_input)
    return load_flow(EXAMPLE).handler(step_slug)(value, ctx)


def measure(path: str) -> Any:
    return call("measure", path)


def census(root: Path) -> Any:
    """The report on a folder, its files measured one by one."""
    run_input = {"root": str(root)}
    files = [measure(path) for path in call("list_files", run_input)]
    return call("report", {"measure": files}, run_input)


def measured(folder: Path, source: str | bytes) -> Any:
    """The measures of a file with that source."""
    path = folder / "source.py"
    path.write_bytes(source.encode() if isinstance(source, str) else source)
    return measure(str(path))


# --- a part of the standard library; tests/acceptance/test_examples has the whole ------------------


@pytest.fixture(scope="module")
def report() -> Any:
    return json.loads(json.dumps(census(PART)))


def test_totals_match_an_independent_count(report: Any) -> None:
    counted = {**report, "unparsable": len(report["unparsable"])}
    expected = expected_totals(str(PART))
    assert {total: counted[total] for total in expected} == expected
    assert expected["files"] > 20


def test_every_function_of_the_report_is_where_it_says(report: Any) -> None:
    assert report["root"] == str(PART)
    for function in [*report["most_complex"], report["longest_function"]]:
        with tokenize.open(PART / function["path"]) as file:
            line = file.read().split("\n")[function["line"] - 1]
        assert re.search(rf"def {function['name']}\b", line)


def test_the_ten_most_complex_functions_are_sorted(report: Any) -> None:
    complexities = [function["complexity"] for function in report["most_complex"]]
    assert len(complexities) == 10
    assert complexities == sorted(complexities, reverse=True)


# --- measures, counted by hand -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("pass", 1),
        ("if a: pass", 2),
        ("if a: pass\n elif b: pass\n else: pass", 3),
        ("return a and b and c or d", 4),
        ("return a if b else c", 2),
        ("for a in b: pass\n else: pass", 2),
        ("while a: break", 2),
        ("assert a", 2),
        ("with a: pass", 1),
        ("try: pass\n except A: pass\n except B: pass\n else: pass\n finally: pass", 3),
        ("try: pass\n except* A: pass", 2),
        ("return [a for a in b if a if c]", 4),
        ("return {a: c for a in b for c in a}", 3),
        ("return lambda: a or b", 2),
        ("match a:\n  case 1: pass\n  case 2 | 3: pass\n  case _: pass", 3),
        ("match a:\n  case 1 as b: pass", 2),
        ("match a:\n  case [b]: pass\n  case b if b: pass", 3),
        ("class A:\n  if a: b = 1", 2),
    ],
)
@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_complexity_is_one_and_one_more_for_each_decision(
    tmp_path: Path, keyword: str, body: str, expected: int
) -> None:
    file = measured(tmp_path, f"{keyword} f():\n {body}\n")
    assert [function["complexity"] for function in file["most_complex"]] == [expected]


def test_functions_within_count_for_themselves(tmp_path: Path) -> None:
    file = measured(
        tmp_path,
        "def outer():\n if a: pass\n def inner():\n  if a or b: pass\n class C:\n  def method(self): assert a\n",
    )
    assert {function["name"]: function["complexity"] for function in file["most_complex"]} == {
        "outer": 2,
        "inner": 3,
        "method": 2,
    }
    assert file["functions"] == 3


def test_a_file_names_its_ten_most_complex_functions(tmp_path: Path) -> None:
    file = measured(tmp_path, "".join(f"def f{n}(): return 0{' or a' * n}\n" for n in range(12)))
    assert [function["name"] for function in file["most_complex"]] == [f"f{n}" for n in range(11, 1, -1)]


@pytest.mark.parametrize(
    ("source", "depth", "line"),
    [
        ("def f():\n return a\n", 1, 1),
        ("if a:\n pass\nfor a in b:\n while c:\n  pass\n", 2, 4),
        ("class A:\n async def f(self):\n  async with a:\n   async for b in c: pass\n", 4, 4),
        ("try:\n pass\nexcept A:\n if a: pass\nfinally:\n pass\n", 2, 4),
        ("if a: pass\nelif b: pass\nelif c:\n with d: pass\n", 2, 4),
        ("if a: pass\nelse:\n if b: pass\n", 2, 3),
        ("match a:\n case 1:\n  try: pass\n  except* A: pass\n", 2, 3),
        ("for a in b: pass\nfor a in b: pass\n", 1, 1),
        ("@decorated\n\ndef f(): pass\n", 1, 3),
    ],
)
def test_nesting_counts_the_blocks_around_each_other(tmp_path: Path, source: str, depth: int, line: int) -> None:
    assert measured(tmp_path, source)["deepest_nesting"] == {"depth": depth, "line": line}


@pytest.mark.parametrize(
    ("source", "name", "line", "lines"),
    [
        ("def a(): pass\ndef b():\n\n return (1,\n  2)\n# end\n", "b", 2, 4),
        ("def a():\n def b():\n  pass\n", "a", 1, 3),
        ("@decorated\n@again\ndef a():\n pass\n\n\n", "a", 3, 2),
        ("class C:\n async def a(self):\n  pass\n def b(self):\n  pass\n", "a", 2, 2),
    ],
)
def test_the_longest_function_runs_from_its_def_to_its_end(
    tmp_path: Path, source: str, name: str, line: int, lines: int
) -> None:
    found = measured(tmp_path, source)["longest_function"]
    assert (found["name"], found["line"], found["lines"]) == (name, line, lines)


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        (b"", 0),
        (b"\n", 1),
        (b"a = 1", 1),
        (b"a = 1\nb = 2\n", 2),
        (b"a = 1\r\nb = 2\r\n", 2),
        (b"a = 1\rb = 2", 2),
        (b"\x0ca = '\x1c\x0b'\n", 1),
        ("a = '\u2028\x85'\n".encode(), 1),
    ],
)
def test_lines_are_those_of_the_parser(tmp_path: Path, source: bytes, lines: int) -> None:
    assert measured(tmp_path, source)["lines"] == lines


def test_a_file_without_functions_or_blocks_has_neither_longest_nor_deepest(tmp_path: Path) -> None:
    file = measured(tmp_path, "a = 1\n")
    assert (file["functions"], file["longest_function"], file["deepest_nesting"]) == (0, None, None)
    report = census(tmp_path)
    assert (report["longest_function"], report["deepest_nesting"], report["most_complex"]) == (None, None, [])


@pytest.mark.parametrize(
    "source",
    [b"# coding: latin-1\na = '\xe9'\n", b"\xef\xbb\xbfa = 1\nb = 2\n", rb"# an invalid escape" b"\na = '\\d'\n"],
)
def test_encodings_and_warnings_are_the_files_own_affair(tmp_path: Path, source: bytes) -> None:
    assert measured(tmp_path, source)["lines"] == 2


# --- files that do not parse ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (b"print 'a'\n", "SyntaxError: Missing parentheses"),
        (b"a = '\xe9'\n", "(SyntaxError|UnicodeDecodeError): "),
        (b"# coding: ascii\na = '\xe9'\n", "UnicodeDecodeError: 'ascii' codec"),
        (b"# coding: none\n", "SyntaxError: unknown encoding"),
        (b"# coding: rot13\n", "LookupError: 'rot13' is not a text encoding"),
        (b"a = '\0'\n", "(SyntaxError|ValueError): source code .*null bytes"),
        (b"a = " + b"-" * 100_000 + b"1\n", "MemoryError|RecursionError"),
        (b"a = b" + b".c" * 100_000, "RecursionError|MemoryError"),
    ],
)
def test_a_file_that_does_not_parse_is_returned_with_the_reason(tmp_path: Path, source: bytes, error: str) -> None:
    file = measured(tmp_path, source)
    assert file.keys() == {"path", "error"}
    assert re.match(error, file["error"])


def test_a_file_that_is_gone_is_returned_with_the_reason(tmp_path: Path) -> None:
    path = str(tmp_path / "gone.py")
    assert measure(path)["error"].startswith("FileNotFoundError: ")


def test_files_that_do_not_parse_are_listed_beside_the_totals_of_the_rest(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.py").write_text("def f(:\n")
    (tmp_path / "good.py").write_text("def f():\n pass\n")
    report = census(tmp_path)
    assert (report["files"], report["parsed"], report["lines"], report["functions"]) == (2, 1, 2, 1)
    assert [file["path"] for file in report["unparsable"]] == ["bad/a.py"]
    assert report["longest_function"]["path"] == report["most_complex"][0]["path"] == "good.py"
    assert report["deepest_nesting"] == {"path": "good.py", "depth": 1, "line": 1}


# --- the root ------------------------------------------------------------------------------------


def test_the_files_are_the_python_files_of_the_root_sorted(tmp_path: Path) -> None:
    for name in ["b.py", "a/z.py", "a/site-packages/installed.py", "folder.py/c.py", "text.txt", "B.py"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "self.py").symlink_to("self.py")
    (tmp_path / "dangling.py").symlink_to("nowhere")
    (tmp_path / "link.py").symlink_to("b.py")
    names = ["B.py", "a/z.py", "b.py", "folder.py/c.py", "link.py"]
    assert call("list_files", {"root": str(tmp_path)}) == [str(tmp_path.resolve() / name) for name in names]


def test_a_root_may_be_a_link_and_a_folder_of_installed_packages(tmp_path: Path) -> None:
    packages = tmp_path / "site-packages"
    packages.mkdir()
    (packages / "only.py").write_text("def f(): pass\n")
    (tmp_path / "link").symlink_to(packages)
    assert census(tmp_path / "link")["longest_function"]["path"] == "only.py"


def test_a_relative_root_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").touch()
    monkeypatch.chdir(tmp_path)
    assert call("list_files", {"root": "."}) == [str(tmp_path.resolve() / "a.py")]


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(17):  # deeper than a path may be long; permissions would not stop root
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    with pytest.raises(OSError, match="File name too long"):
        call("list_files", {"root": str(tmp_path)})


def test_a_root_without_python_files_has_empty_totals(tmp_path: Path) -> None:
    report = census(tmp_path)
    assert (report["files"], report["lines"], report["unparsable"]) == (0, 0, [])


@pytest.mark.parametrize("run_input", [None, {}, {"root": None}])
def test_without_a_root_it_is_the_standard_library_without_installed_packages(run_input: Any) -> None:
    files = call("list_files", run_input)
    assert str(STDLIB / "json" / "__init__.py") in files
    assert not any("site-packages" in path for path in files)


@pytest.mark.parametrize("root", ["/no/such/folder", __file__, "", 5, ["a"]])
def test_a_root_that_is_no_folder_is_named_in_the_error(root: Any) -> None:
    with pytest.raises(NotADirectoryError, match=f"The root {re.escape(repr(root))} is not a folder: name one"):
        call("list_files", {"root": root})


@pytest.mark.parametrize("run_input", [[], "/usr", {"rot": "/usr"}, 0])
def test_an_input_that_is_no_root_is_refused(run_input: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"or nothing, got {run_input!r}")):
        call("list_files", run_input)
