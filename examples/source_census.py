"""A census of Python source: every file of a folder, parsed and measured, one task a file.

    pgflow run examples/source_census.py:flow
    pgflow run examples/source_census.py:flow --input '{"root": "/path/to/a/project"}'

Without a root it takes the standard library of the running interpreter. Three steps:

* ``list_files`` finds the files, without those of installed packages (``site-packages``);
* ``measure``, a map step, parses each with ``ast`` and measures lines, functions, nesting and complexity, on all cores;
* ``report`` adds it all up, and names the longest function, the deepest nesting and the ten most complex functions.

Files that cannot be read as Python are part of real input (the standard library ships some on purpose): they are
reported with the reason, and do not sink the run.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn

from pgflow import Context, Flow

MOST_COMPLEX = 10

# MemoryError is how the parser's stack overflows; LookupError is a codec that is none for text, as in "coding: rot13".
UNPARSABLE = (SyntaxError, ValueError, LookupError, RecursionError, MemoryError, OSError)

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BLOCKS = (
    *(ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match),
    *(ast.ClassDef, *FUNCTIONS),
)
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert)

flow = Flow("source_census", max_attempts=2, base_delay=1, timeout=30)


@flow.step
def list_files(input: Any, ctx: Context) -> list[str]:
    """The absolute paths of the Python files below the root, sorted."""
    return sorted(python_files(root_of(input)))


@flow.map(over=list_files)
def measure(path: str, ctx: Context) -> dict[str, Any]:
    """The measures of one file, or why it does not parse."""
    try:
        source, tree = parse(path)
    except UNPARSABLE as error:
        return {"path": path, "error": ": ".join(filter(None, (type(error).__name__, str(error))))}
    nested = sorted(blocks(tree), key=lambda block: block[0].lineno)
    functions = [measure_function(node) for node, _ in nested if isinstance(node, FUNCTIONS)]
    nestings = [{"depth": depth, "line": node.lineno} for node, depth in nested]
    return {
        "path": path,
        "lines": count_lines(source),
        "functions": len(functions),
        "longest_function": longest(functions),
        "deepest_nesting": deepest(nestings),
        "most_complex": most_complex(functions),
    }


@flow.step(depends_on=[measure])
def report(deps: dict[str, list[dict[str, Any]]], ctx: Context) -> dict[str, Any]:
    """Totals and records; the files in it are relative to the root."""
    root = root_of(ctx.flow_input)
    files = [{**file, "path": os.path.relpath(file["path"], root)} for file in deps["measure"]]
    parsed = [file for file in files if "error" not in file]
    candidates = [{"path": file["path"], **function} for file in parsed for function in file["most_complex"]]
    return {
        "root": root,
        "files": len(files),
        "parsed": len(parsed),
        "lines": sum(file["lines"] for file in parsed),
        "functions": sum(file["functions"] for file in parsed),
        "longest_function": longest(located(parsed, "longest_function")),
        "deepest_nesting": deepest(located(parsed, "deepest_nesting")),
        "most_complex": most_complex(candidates),
        "unparsable": [file for file in files if "error" in file],
    }


def root_of(input: Any) -> str:
    """The folder that the run's input asks for, absolute; the standard library unless it names one."""
    if input is not None and not (isinstance(input, dict) and input.keys() <= {"root"}):
        raise ValueError(f'The input must be {{"root": "/a/folder"}} or nothing, got {input!r}')
    root = (input or {}).get("root")
    if root is None:
        root = sysconfig.get_paths()["stdlib"]
    if not isinstance(root, str) or not os.path.isdir(root):
        raise NotADirectoryError(f"The root {root!r} is not a folder: name one that exists on the worker's machine")
    return os.path.realpath(root)


def python_files(root: str) -> Iterator[str]:
    """The Python files below ``root``. Links to folders are not followed: they may lead back."""
    for folder, subfolders, names in os.walk(root, onerror=refuse):
        subfolders[:] = [name for name in subfolders if name != "site-packages"]
        paths = (Path(folder, name) for name in names if name.endswith(".py"))
        yield from (str(path) for path in paths if path.is_file())


def refuse(error: OSError) -> NoReturn:
    """A folder that cannot be read would silently be missing from the totals."""
    raise error


def parse(path: str) -> tuple[str, ast.Module]:
    """The file's text, decoded as it declares itself, and its syntax tree."""
    with tokenize.open(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes and the like, which are for its authors
        source = file.read()
        return source, ast.parse(source, path)


def count_lines(source: str) -> int:
    """Lines as the parser counts them: ``str.splitlines`` would also split at form feeds, which some files have."""
    return source.count("\n") + (source != "" and not source.endswith("\n"))


def measure_function(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, Any]:
    """Name, the line of its ``def``, lines from there to its end, complexity."""
    last_line = function.end_lineno or function.lineno
    return {
        "name": function.name,
        "line": function.lineno,
        "lines": last_line - function.lineno + 1,
        "complexity": complexity(function),
    }


def complexity(function: ast.AST) -> int:
    """Cyclomatic complexity after McCabe: one, and one more for each decision.

    Functions defined within count for themselves; lambdas, comprehensions and class bodies count here.
    """
    total = 1
    pending = list(ast.iter_child_nodes(function))
    while pending:
        node = pending.pop()
        if not isinstance(node, FUNCTIONS):
            total += decisions(node)
            pending.extend(ast.iter_child_nodes(node))
    return total


def decisions(node: ast.AST) -> int:
    """How many ways out a node adds, by itself."""
    match node:
        case ast.BoolOp():
            return len(node.values) - 1
        case ast.comprehension():
            return 1 + len(node.ifs)
        case ast.match_case():
            always_matches = isinstance(node.pattern, ast.MatchAs) and node.pattern.pattern is None
            return (not always_matches) + (node.guard is not None)
        case _:
            return int(isinstance(node, BRANCHES))


def blocks(tree: ast.Module) -> Iterator[tuple[ast.stmt, int]]:
    """Every block, functions among them, and how many blocks there are around and including it."""
    pending: list[tuple[ast.AST, int]] = [(tree, 0)]
    while pending:
        parent, around = pending.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.expr):
                continue  # most nodes are expressions, and none contains a statement
            depth = around
            if isinstance(node, BLOCKS) and not is_elif(node, parent):
                depth += 1
                yield node, depth
            pending.append((node, depth))


def is_elif(node: ast.AST, parent: ast.AST) -> bool:
    """Whether a node is its parent's ``elif``, which the tree nests and the source does not."""
    if not (isinstance(node, ast.If) and isinstance(parent, ast.If)):
        return False
    return node in parent.orelse and node.col_offset == parent.col_offset


def located(files: list[dict[str, Any]], record: str) -> list[dict[str, Any]]:
    """That record of each file that has one, with the file's path."""
    return [{"path": file["path"], **file[record]} for file in files if file[record] is not None]


def longest(functions: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The function with the most lines, the first of several."""
    return max(functions, key=itemgetter("lines"), default=None)


def deepest(nestings: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The nesting with the greatest depth, the first of several."""
    return max(nestings, key=itemgetter("depth"), default=None)


def most_complex(functions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The most complex functions, the most complex first."""
    return sorted(functions, key=itemgetter("complexity"), reverse=True)[:MOST_COMPLEX]
