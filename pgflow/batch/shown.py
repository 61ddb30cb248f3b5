"""Text from outside, an item or an error, as part of one line of a terminal."""

from __future__ import annotations


def shown(text: str, most: int) -> str:
    """The beginning of a text, at most so many characters, without what could steer a terminal."""
    start = " ".join(text[: 4 * most].split())
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in start)
    return clean if len(clean) <= most else clean[: most - 3] + "..."


def first_line(text: str, most: int) -> str:
    """The first line of a text that is not blank."""
    return shown(text.lstrip().partition("\n")[0], most)


def fitted(line: str, columns: int) -> str:
    """The beginning of a line, as much of it as so many columns of a terminal hold."""
    from rich.cells import cell_len, set_cell_size  # not before items run

    return line if cell_len(line) <= columns else set_cell_size(line, columns - 1).rstrip() + "\N{HORIZONTAL ELLIPSIS}"
