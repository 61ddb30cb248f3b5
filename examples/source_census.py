"""A census of Python source: every file of a folder, parsed and measured, one task a file.

    pgflow run examples/source_census.py:flow
    pgflow run examples/source_census.py:flow --input '{"root": "/path/to/a/project"}'

Without a root it takes the standard library of the running interpreter. Three steps:

* ``list_files`` finds the files;
* ``measure``, a map step, parses each with ``ast``, on all cores, and counts lines, functions, nesting and complexity;
* ``report`` adds it all up and names the ten most complex functions.

Files that do not parse are part of real input (the standard library ships some on purpose): they are reported and do
not sink the run.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pgflow import Context, Flow

MOST_COMPLEX = 10

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
NESTING = (
    *(ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match),
    *(ast.ClassDef, *FUNCTIONS),
)
BRANCHES = (
    *(ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert),
    *(ast.comprehension, ast.match_case),
)

flow = Flow("source_census", max_attempts=2, base_delay=1, timeout=30)


@flow.step
def list_files(input: dict[str, str] | None, ctx: Context) -> list[str]:
    """The Python files below ``input["root"]``, or of the standard library, sorted."""
    root = Path((input or {}).get("root") or sysconfig.get_paths()["stdlib"])
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is no folder: give one as root")
    return sorted(str(path) for path in python_files(root.resolve()))


@flow.map(over=list_files)
def measure(path: str, ctx: Context) -> dict[str, Any]:
    """What there is to say about one file, or why it does not parse."""
    try:
        with tokenize.open(path) as file:  # honours the file's own encoding
            source = file.read()
        tree = ast.parse(source, path)
    except (SyntaxError, ValueError, RecursionError) as error:
        return {"path": path, "error": f"{type(error).__name__}: {error}"}
    functions = [measure_function(node) for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]
    return {
        "path": path,
        "lines": len(source.splitlines()),
        "functions": len(functions),
        "deepest_nesting": nesting(tree),
        "longest_function": max(functions, key=lambda function: function["lines"], default=None),
        "most_complex": by_complexity(functions),
    }


@flow.step(depends_on=[measure])
def report(deps: dict[str, list[dict[str, Any]]], ctx: Context) -> dict[str, Any]:
    """Totals, records, and the most complex functions of all."""
    measured = [file for file in deps["measure"] if "error" not in file]
    unparsable = [file for file in deps["measure"] if "error" in file]
    root = os.path.commonpath([file["path"] for file in deps["measure"]]) if deps["measure"] else ""
    functions = [{**f, "path": file["path"]} for file in measured for f in file["most_complex"]]
    longest = [{**file["longest_function"], "path": file["path"]} for file in measured if file["functions"]]
    return {
        "root": root,
        "files": len(deps["measure"]),
        "parsed": len(measured),
        "lines": sum(file["lines"] for file in measured),
        "functions": sum(file["functions"] for file in measured),
        "deepest_nesting": max((file["deepest_nesting"] for file in measured), default=0),
        "longest_function": max(relative(longest, root), key=lambda function: function["lines"], default=None),
        "most_complex": relative(by_complexity(functions), root),
        "unparsable": relative(unparsable, root),
    }


def python_files(root: Path) -> Iterator[Path]:
    """Python files below ``root``; links to folders are not followed, installed packages are left out."""
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name != "site-packages"]
        yield from (Path(folder, name) for name in names if name.endswith(".py"))


def measure_function(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, Any]:
    """Name, first line, length in lines and complexity of a function."""
    last = function.end_lineno or function.lineno
    return {
        "name": function.name,
        "line": function.lineno,
        "lines": last - function.lineno + 1,
        "complexity": complexity(function),
    }


def complexity(function: ast.AST) -> int:
    """McCabe's cyclomatic complexity: one, and one more for each branch; functions within count for themselves."""
    total = 1
    pending = list(ast.iter_child_nodes(function))
    while pending:
        node = pending.pop()
        if isinstance(node, FUNCTIONS):
            continue
        total += isinstance(node, BRANCHES)
        total += len(node.values) - 1 if isinstance(node, ast.BoolOp) else 0
        total += len(node.ifs) if isinstance(node, ast.comprehension) else 0
        pending.extend(ast.iter_child_nodes(node))
    return total


def nesting(tree: ast.AST) -> int:
    """How deep the deepest statement is nested in blocks."""
    deepest = 0
    pending = [(tree, 0)]
    while pending:
        node, depth = pending.pop()
        deepest = max(deepest, depth)
        pending += [(child, depth + isinstance(child, NESTING)) for child in ast.iter_child_nodes(node)]
    return deepest


def by_complexity(functions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The most complex functions, the most complex first."""
    return sorted(functions, key=lambda function: -function["complexity"])[:MOST_COMPLEX]


def relative(items: list[dict[str, Any]], root: str) -> list[dict[str, Any]]:
    """The same with paths relative to ``root``."""
    return [{**item, "path": os.path.relpath(item["path"], root)} for item in items]
