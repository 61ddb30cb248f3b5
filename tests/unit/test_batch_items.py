"""Reading the items of a batch, from every format, and what is said of input that is not fit for it."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import sys
import threading
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow import codec
from pgflow.batch.items import Item, ItemFormat, ItemReader, format_of
from pgflow.batch.reading import array
from pgflow.batch.reading.lines import bounded_lines
from pgflow.errors import ItemsUnreadableError, UsageError

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\0")), inner)
    ),
    max_leaves=8,
)


def values(path: Path | str, **options: Any) -> list[Any]:
    """What the items are, decoded."""
    return [json.loads(item.json) for item in ItemReader(str(path), **options)]


def written(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path | str, **options: Any) -> str:
    """What is said of an input that ends in an error."""
    with pytest.raises(UsageError) as caught:
        list(ItemReader(str(path), **options))
    return str(caught.value)


def give_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))


# --- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("items.jsonl", ItemFormat.JSONL),
        ("items.NDJSON.gz", ItemFormat.JSONL),
        ("a.b/items.json", ItemFormat.JSON),
        ("items.csv.gz", ItemFormat.CSV),
        ("items.tsv", ItemFormat.TSV),
        ("files.txt", ItemFormat.LINES),
        ("json", ItemFormat.LINES),
        ("-", ItemFormat.LINES),
    ],
)
def test_the_name_tells_the_format(name: str, format: ItemFormat) -> None:
    assert format_of(name) is format


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("i.jsonl", '{"b": 1, "a": [1.5]}\n\n  \n"é"\nnull', [{"a": [1.5], "b": 1}, "é", None]),
        ("i.jsonl", "1\r\n2\r\n", [1, 2]),
        ("i.json", ' [1, {"a": "]"}, [2, []] ,"x"]\n', [1, {"a": "]"}, [2, []], "x"]),
        ("i.csv", 'id,text\n1,"a, ""b""\nc"\n\n2,\n', [{"id": "1", "text": 'a, "b"\nc'}, {"id": "2", "text": ""}]),
        ("i.csv", "id\r\n1\r\n2", [{"id": "1"}, {"id": "2"}]),
        ("i.tsv", "a\tb\n1,5\t2\n", [{"a": "1,5", "b": "2"}]),
        ("i.txt", "one\n two \n\nthree\r\nfour", ["one", " two ", "", "three", "four"]),
    ],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("zipped", [False, True])
def test_items_of_every_format(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    content: str,
    expected: list[Any],
    mark: bytes,
    zipped: bool,
) -> None:
    data = mark + content.encode()
    data = gzip.compress(data[:7]) + gzip.compress(data[7:]) if zipped else data
    assert values(written(tmp_path, name, data)) == expected
    give_stdin(monkeypatch, data)
    assert values("-", format=format_of(name)) == expected


def test_items_are_numbered_and_limited(tmp_path: Path) -> None:
    path = written(tmp_path, "i.jsonl", "1\n\n2\n3\n")
    assert [(item.index, item.json) for item in ItemReader(str(path), limit=2)] == [(0, "1"), (1, "2")]


def test_a_pipe_gives_its_items_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with open(reading) as stdin, open(writing, "wb", buffering=0) as pipe:
        monkeypatch.setattr(sys, "stdin", stdin)
        reader = ItemReader("-")
        items = iter(reader)
        threading.Timer(0.1, pipe.write, [b"x"]).start()  # the head of the file comes a byte at a time
        pipe.write(b"a")
        threading.Timer(0.2, pipe.write, [b"y\nrest"]).start()
        assert next(items).json == '"axy"'
        assert reader.total_bytes is None
        reader.close()


def test_the_progress_of_reading_is_that_of_the_file(tmp_path: Path) -> None:
    data = gzip.compress(os.urandom(500_000).hex().encode() + b"\nlast\n")
    reader = ItemReader(str(written(tmp_path, "i.txt", data)))
    assert (reader.bytes_read, reader.total_bytes) == (0, len(data))
    next(iter(reader))
    assert 0 < reader.bytes_read <= len(data)
    assert len(list(reader)) == 1
    assert reader.bytes_read == len(data)


def test_reading_takes_no_memory_for_the_items(tmp_path: Path) -> None:
    path = written(tmp_path, "i.json", "[" + ",".join(f'{{"id": {number}}}' for number in range(100_000)) + "]")
    tracemalloc.start()
    try:
        assert sum(1 for _ in ItemReader(str(path))) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


@given(st.lists(JSON_VALUES, min_size=1), st.integers(1, 40), st.sampled_from([None, 1]))
def test_an_array_is_the_same_however_its_blocks_are_cut(items: list[Any], size: int, indent: int | None) -> None:
    data = json.dumps(items, indent=indent, ensure_ascii=False).encode()
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    assert [value for _, _, value in array.records(blocks)] == items


@given(st.lists(st.binary()), st.integers(1, 40))
def test_lines_are_the_same_however_their_blocks_are_cut(lines: list[bytes], size: int) -> None:
    data = b"\n".join(lines)
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    expected = data.split(b"\n")
    assert list(bounded_lines(blocks)) == (expected[:-1] if not expected[-1] else expected)


def test_a_line_that_is_too_long_is_not_held() -> None:
    def blocks() -> Iterable[bytes]:
        yield b"first\n"
        for _ in range(100):
            yield b"x" * 1_000
        yield b"x\nlast"

    first, long, last = bounded_lines(blocks(), max_bytes=5_000)
    assert (first, last) == (b"first", b"last")
    assert 5_000 < len(long) <= 6_000


# --- keys ------------------------------------------------------------------------------------------------------------


def keys(tmp_path: Path, *lines: str) -> list[bytes]:
    return [item.key for item in ItemReader(str(written(tmp_path, "keys.jsonl", "\n".join(lines))))]


def test_the_key_is_that_of_the_content_and_not_of_its_spelling(tmp_path: Path) -> None:
    for same in [
        ('{"a":1,"b":[2]}', '{ "b": [2.0], "a": 1e0 }'),
        ('"é/"', '"\\u00e9\\/"'),
        ("1e23", "100000000000000000000000", "1.0e+23"),
        ("0", "-0.0", "-0"),
        ("0.1", "1e-1", "0.10"),
        ('{"a": 1, "a": 2}', '{"a": 2}'),
    ]:
        assert len(set(keys(tmp_path, *same))) == 1


def test_other_content_has_another_key(tmp_path: Path) -> None:
    other = [
        "1",
        '"1"',
        '"1.0"',
        "true",
        "null",
        "[]",
        "{}",
        '""',
        "[1]",
        "1.5",
        "-1",
        '{"a":1}',
        '{"b":1}',
        '["1.0",1]',
    ]
    assert len(set(keys(tmp_path, *other))) == len(other)


def test_keys_never_change(tmp_path: Path) -> None:
    """They are kept in databases, for batches that are resumed by another version."""
    lines = ['{"word": "häuser", "id": 7, "of": [1.0, 2.5, 1e22, null]}', '"docs/a.md"', "1e-7"]
    assert [key.hex() for key in keys(tmp_path, *lines)] == PINNED


PINNED = ["5a9cc2fecb8654d2728b18b220047ed5", "e71cb096a1087787f3656f404ba25b63", "37522ab55770cbf869c312e48fd0dfee"]


@given(st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\0")), JSON_VALUES, min_size=1))
def test_the_key_and_text_survive_what_jsonb_does(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (item,) = ItemReader(str(written(folder, "survive.jsonl", json.dumps(value))))
    assert codec.decode(item.json) == value
    turned = json.dumps(dict(reversed(value.items())), ensure_ascii=False)
    (other,) = ItemReader(str(written(folder, "survive.jsonl", turned)))
    assert other.key == item.key


# --- bad lines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("i.jsonl", b"{'a': 1}", "it is not JSON: Expecting property name enclosed in double quotes at column 2"),
        ("i.jsonl", b"1 2", "it is not JSON: Extra data at column 2"),
        ("i.jsonl", b"01", "it is not JSON: Extra data at column 2"),
        ("i.jsonl", b"-", "it is not JSON: Expecting value at column 1"),
        ("i.jsonl", b"NaN", "it cannot be read: NaN is not JSON (write null)"),
        ("i.jsonl", b"1e999", "it cannot be stored: Infinity is not a JSON number"),
        ("i.jsonl", b"9" * 5000, "it cannot be read: Exceeds the limit (4300 digits)"),
        ("i.jsonl", b"[" * 100_000, "it is nested too deep (make it flatter)"),
        (
            "i.jsonl",
            b'["\\u0000"]',
            "it cannot be stored: a string contains NUL (U+0000), which PostgreSQL cannot store",
        ),
        ("i.jsonl", b'"\\ud800"', "it cannot be stored: a string contains the lone surrogate U+D800"),
        ("i.jsonl", b'"\xff"', "it is not UTF-8 text (convert it with iconv)"),
        ("i.txt", b"caf\xe9", "it is not UTF-8 text (convert it with iconv)"),
        ("i.txt", b"a\0b", "it cannot be stored: a string contains NUL"),
        ("i.csv", b"1,2", "it has 2 fields, the header 1 column"),
        ("i.csv", b'"a"b', "it is not CSV: ',' expected after '\"'"),
        ("i.csv", b"\xff", "it is not UTF-8 text"),
    ],
)
def test_a_bad_line_is_an_error_or_skipped(tmp_path: Path, name: str, line: bytes, reason: str) -> None:
    path = written(tmp_path, name, b'"good"\n' + line + b'\n"too"\n')
    said = refusal(path)
    assert said.startswith(f"{path}, line 2: {reason}")
    assert said.endswith("Correct it, or pass over such lines with --on-bad-line skip")
    reader = ItemReader(str(path), on_bad_line="skip")
    assert len(list(reader)) == (1 if name == "i.csv" else 2)
    assert reader.skipped == 1
    (bad,) = reader.bad_lines
    assert bad.number == 2
    assert bad.reason.startswith(reason)
    assert len(bad.text) <= 80


def test_the_text_of_a_bad_line_is_shown_short_and_without_what_moves_a_terminal(tmp_path: Path) -> None:
    path = written(tmp_path, "i.jsonl", b"\x1b[2J" + b"x" * 1_000)
    assert refusal(path).splitlines()[1] == "  \N{REPLACEMENT CHARACTER}[2J" + "x" * 73 + "..."


def test_only_some_of_many_bad_lines_are_kept(tmp_path: Path) -> None:
    reader = ItemReader(str(written(tmp_path, "i.jsonl", "no\n" * 1_000 + "1")), on_bad_line="skip")
    assert [item.json for item in reader] == ["1"]
    assert (reader.skipped, len(reader.bad_lines)) == (1_000, 10)


def test_lines_too_long_are_bad_lines(tmp_path: Path) -> None:
    data = gzip.compress(b'"good"\n"' + b"x" * (codec.MAX_BYTES + 1_000_000) + b'"\n"too"', compresslevel=1)
    for name in ("i.jsonl", "i.txt", "i.csv"):
        reader = ItemReader(str(written(tmp_path, name, data)), on_bad_line="skip")
        assert len(list(reader)) == (1 if name == "i.csv" else 2)
        assert [bad.number for bad in reader.bad_lines] == [2]
        assert reader.bad_lines[0].reason.startswith("it is longer than")


# --- broken input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["i.jsonl", "i.json", "i.csv", "i.txt"])
def test_an_empty_input_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, "")
    assert refusal(path) == f"Cannot read items from {path}: it is empty"
    give_stdin(monkeypatch, b"")
    assert refusal("-", format=format_of(name)) == "Cannot read items from standard input: it is empty"


@pytest.mark.parametrize(
    ("name", "content"), [("i.jsonl", "\n \n"), ("i.json", " [ ] "), ("i.csv", "a,b\n"), ("i.json", "\n")]
)
def test_an_input_without_items_is_refused(tmp_path: Path, name: str, content: str) -> None:
    path = written(tmp_path, name, content)
    assert refusal(path) == f"Cannot read items from {path}: it holds no items"


def test_an_input_of_bad_lines_alone_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "i.jsonl", "one\ntwo\n")
    assert refusal(path, on_bad_line="skip") == (
        f"Cannot read items from {path}: none of its lines is an item; line 1: it is not JSON: Expecting value at column 1"
    )


def test_what_cannot_be_opened_is_refused_at_once(tmp_path: Path) -> None:
    for path, reason in [
        (tmp_path / "none", "No such file or directory"),
        (tmp_path, f"it is a folder (to have an item per file: find {tmp_path} -type f > files.txt)"),
    ]:
        with pytest.raises(ItemsUnreadableError, match=re.escape(f"Cannot read items from {path}: {reason}")):
            ItemReader(str(path))


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ('{"items": []}', 1, "its top level is an object, where an array of items is expected"),
        ("nothing", 1, "its top level is no array"),
        ("[1,\n{]", 2, "it is not JSON: Expecting property name enclosed in double quotes"),
        ("[1,\n\n2 3]", 3, "a comma or ] is expected after the element"),
        ("[1,]", 1, "it is not JSON: Expecting value"),
        ("[1, 2", 1, "the array is not closed: the file is cut off"),
        ("[1,\n", 2, "the array is not closed: the file is cut off"),
        ('[1, {"a": [', 1, "the array is not closed: the file is cut off"),
        ('[1, "abc', 1, "it is not JSON: Unterminated string starting at"),
        ("[1] [2]", 1, "something follows the end of the array (remove it)"),
        ("[NaN]", 1, "it cannot be read: NaN is not JSON (write null)"),
    ],
)
def test_a_broken_array_is_an_error_whatever_bad_lines_do(tmp_path: Path, content: str, line: int, reason: str) -> None:
    path = written(tmp_path, "i.json", content)
    said = refusal(path, on_bad_line="skip")
    assert said.startswith(f"{path}, line {line}: {reason}")
    assert said.endswith("Correct it: what comes after cannot be read")


def test_an_element_that_cannot_be_stored_is_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, "i.json", b'[1,\n"\\u0000",\n"\xff", 2]')
    reader = ItemReader(str(path), on_bad_line="skip")
    assert [item.json for item in reader] == ["1", "2"]
    assert [bad.number for bad in reader.bad_lines] == [2, 3]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("a,b,a", "the column 'a' occurs twice in the header (rename one)"),
        ("a,,b", "column 2 of the header has no name (the first line must name the columns)"),
        ("a,b", "there is no column 'c' (the header has: a, b)"),
        ('"a', "it is not CSV: unexpected end of data"),
    ],
)
def test_a_header_that_names_no_columns_is_refused(tmp_path: Path, header: str, reason: str) -> None:
    path = written(tmp_path, "i.csv", f"{header}\n1,2,3\n")
    assert refusal(path, columns=["a", "c"], on_bad_line="skip").startswith(f"{path}, line 1: {reason}")


def test_columns_are_for_csv(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is read as jsonl"):
        ItemReader(str(written(tmp_path, "i.jsonl", "1")), columns=["a"])


def test_large_fields_are_read(tmp_path: Path) -> None:
    assert values(written(tmp_path, "i.csv", "a\n" + "x" * 300_000)) == [{"a": "x" * 300_000}]


@pytest.mark.parametrize(
    ("cut", "reason"), [(slice(0, -20), "ends in the middle"), (slice(0, 3), "ends in the middle")]
)
def test_a_gzip_file_that_is_cut_off_is_refused_after_what_is_whole(tmp_path: Path, cut: slice, reason: str) -> None:
    data = gzip.compress("".join(f"{number}\n" for number in range(100_000)).encode())
    path = written(tmp_path, "i.jsonl.gz", data[cut])
    reader = ItemReader(str(path))
    items: list[Item] = []
    with pytest.raises(ItemsUnreadableError, match=reason):
        items.extend(reader)
    assert refusal(path).startswith(f"Cannot read items from {path}: its gzip data")


def test_damaged_gzip_and_utf16_are_named(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(os.urandom(1_000).hex().encode()))
    data[-8] ^= 1
    assert "its gzip data is damaged: CRC check failed" in refusal(written(tmp_path, "i.txt", bytes(data)))
    assert "it is UTF-16 text" in refusal(written(tmp_path, "i.txt", "item".encode("utf-16")))
