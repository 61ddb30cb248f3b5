"""The lines of the output: JSON texts put together, not decoded."""

from __future__ import annotations


def output_line(index: int, item: str, output: str) -> bytes:
    """``{"index":0,"item":...,"output":...}`` of an item that was done; ``item`` and ``output`` are JSON text."""
    return f'{{"index":{index},"item":{item},"output":{output}}}'.encode()


def error_line(index: int, item: str, error: str) -> bytes:
    """``{"index":0,"item":...,"error":...}`` of an item that failed; ``item`` and ``error`` are JSON text."""
    return f'{{"index":{index},"item":{item},"error":{error}}}'.encode()
