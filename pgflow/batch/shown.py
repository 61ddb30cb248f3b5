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
