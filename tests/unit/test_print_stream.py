"""Which task a printed line belongs to, whatever it is cut into."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow.worker import print_stream
from pgflow.worker.print_stream import PrintStream, mark

SECRET = b"\0" + b"5ec" * 5
Lines = list[tuple[str, str]]


def heard(*pieces: bytes) -> Lines:
    """What is logged when the pieces are read."""
    lines: Lines = []
    stream = PrintStream(SECRET, "slot-1", lambda label, text: lines.append((label, text)))
    for piece in pieces:
        stream.feed(piece)
    stream.finish()
    return lines


def test_marks_say_whose_a_line_is_and_end_an_unfinished_one() -> None:
    data = b"import\n" + mark(SECRET, "a") + b"1\n2" + mark(SECRET, "") + b"between" + mark(SECRET, "b") + b"3\n"
    assert heard(data) == [("slot-1", "import"), ("a", "1"), ("a", "2"), ("slot-1", "between"), ("b", "3")]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.binary(max_size=30).filter(lambda b: SECRET not in b)), max_size=6),
    st.lists(st.integers(1, 20), min_size=1),
)
def test_it_does_not_matter_how_it_is_cut(tasks: list[tuple[str, bytes]], sizes: list[int]) -> None:
    data = b"".join(mark(SECRET, label) + text for label, text in tasks)
    pieces: list[bytes] = []
    position = 0
    while position < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[position : position + size])
        position += size
    assert heard(*pieces) == heard(data)


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        (b"\x1b[31mred\x1b[0m\ttab", "\\x1b[31mred\\x1b[0m\ttab"),
        (b"caf\xc3\xa9 \xff", "café \ufffd"),
        ("left\u202eright\u2028line".encode(), "left\\u202eright\\u2028line"),
        (b"nul\0 back\x08", "nul\\x00 back\\x08"),
    ],
)
def test_what_would_disturb_a_terminal_is_escaped(printed: bytes, text: str) -> None:
    assert heard(printed + b"\n") == [("slot-1", text)]


def test_progress_bars_and_empty_lines() -> None:
    assert heard(b"\n\r10%\r20%\r\n\nend\n") == [("slot-1", text) for text in ("10%", "20%", "end")]


def test_a_long_line_comes_in_pieces() -> None:
    size = print_stream.MAX_LINE_BYTES
    texts = [text for _, text in heard(b"x" * (2 * size + 10), b"y\n")]
    assert "".join(texts) == "x" * (2 * size + 10) + "y"
    assert max(map(len, texts)) == size


@pytest.mark.parametrize("line", [b"x\n", b"x" * 100_000])
def test_what_is_too_much_is_counted_and_the_next_task_is_heard(line: bytes) -> None:
    count = 3 * print_stream.MAX_TASK_BYTES // len(line)
    lines = heard(mark(SECRET, "a"), *[line * (count // 10)] * 10, mark(SECRET, "b") + b"next\n")
    logged = sum(len(text) for label, text in lines if label == "a" and text[0] == "x")
    assert lines[-2] == ("a", lines[-2][1])
    assert lines[-2][1].endswith("more bytes were printed, too many to be logged)")
    assert lines[-1] == ("b", "next")
    assert logged <= print_stream.MAX_TASK_BYTES + print_stream.MAX_LINE_BYTES
    assert len(lines) <= print_stream.MAX_TASK_LINES + 2
