"""The codec: jsonb accepts whatever it lets pass, and whatever it refuses is named with its place."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import math
import pathlib
import subprocess
import sys
import types
import uuid
from array import array
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pgflow import codec
from pgflow.errors import InputNotDecodableError, OutputNotSerializableError
from tests.support import servers


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Mood(enum.StrEnum):
    GOOD = "good"


class Weight(float, enum.Enum):
    HEAVY = 1.5


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Record:
    name: str


class PastesJson:
    def __json__(self) -> str:
        return '{"raw": NaN}'


class OffersDict:
    def toDict(self) -> dict[str, object]:
        return {"a": float("nan")}


class PretendsToBeDict:
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return dict


class LyingText(str):
    def __str__(self) -> str:
        return "\0"

    def __len__(self) -> int:
        return 0


class LyingInt(int):
    def __str__(self) -> str:
        return "NaN"

    __repr__ = __str__

    def __int__(self) -> int:
        return 0


class LyingList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(())


class LyingDict(dict[str, Any]):
    def __iter__(self) -> Iterator[str]:
        return iter(())

    def items(self) -> Any:
        return ()


class AloneKey(str):
    """Unlike any other key, even one with the same text."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class BadMeta(type):
    def __hash__(cls) -> int:
        raise RuntimeError("no hash")

    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError("no attributes")


class BadClass(metaclass=BadMeta):
    pass


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def circular_list() -> list[Any]:
    value: list[Any] = []
    value += [value, value]
    return value


def circular_dict() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = (1, value)
    return value


REFUSED_PARTS = {
    "nan": (math.nan, "NaN is not a JSON number"),
    "infinity": (math.inf, "Infinity is not a JSON number"),
    "minus infinity": (-math.inf, "-Infinity is not a JSON number"),
    "nan of a subclass": (type("np_float", (float,), {})("nan"), "NaN is not a JSON number"),
    "nul": ("a\0b", r"a string contains NUL \(U\+0000\), which PostgreSQL cannot store"),
    "nul after a backslash": ("\\\0", "NUL"),
    "high surrogate": ("a\ud800", r"a string contains the lone surrogate U\+D800"),
    "low surrogate": ("\udfff", r"the lone surrogate U\+DFFF"),
    "surrogate pair of two strings": ("\ude00\ud83d", r"the lone surrogate U\+DE00"),
    "nul key": ({"a\0": 1}, r'the key "a\\u0000" contains NUL'),
    "surrogate key": ({"\ud800": 1}, r'the key "\\ud800" contains the lone surrogate U\+D800'),
    "int key": ({1: "a"}, r"the key 1 is not a string \(return str\(key\) as the key\)"),
    "none key": ({None: "a"}, "the key None is not a string"),
    "bool key": ({True: "a"}, "the key True is not a string"),
    "float key": ({1.5: "a"}, "the key 1.5 is not a string"),
    "tuple key": ({(1, 2): "a"}, "a key of type tuple is not a string"),
    "bytes key": ({b"k": "a"}, "a key of type bytes is not a string"),
    "long int key": ({10**5000: "a"}, "a key of type int is not a string"),
    "keys of one text": ({AloneKey("a"): 1, "a": 2}, 'the key "a" occurs twice'),
    "decimal": (decimal.Decimal("1.10"), r"decimal.Decimal is not a JSON type \(return str\(value\)"),
    "long int": (10**4300, r"an int has more than 4,300 digits \(return it as a string"),
    "long negative int": (-(10**4300), "an int has more than 4,300 digits"),
    "__json__": (PastesJson(), r"PastesJson is not a JSON type .* __json__ and toDict are not called"),
    "toDict": (OffersDict(), r"OffersDict is not a JSON type .* __json__ and toDict are not called"),
    "datetime": (datetime.datetime(2026, 1, 2), r"datetime.datetime .*return value.isoformat\(\)"),
    "date": (datetime.date(2026, 1, 2), r"datetime.date .*return value.isoformat\(\)"),
    "time": (datetime.time(1), r"datetime.time .*return value.isoformat\(\)"),
    "timedelta": (datetime.timedelta(1), r"return value.total_seconds\(\)"),
    "uuid": (uuid.UUID(int=1), r"uuid.UUID is not a JSON type \(return str\(value\)\)"),
    "path": (pathlib.PurePosixPath("/a"), r"return str\(value\)"),
    "bytes": (b"a", r"bytes is not a JSON type .*base64.b64encode\(value\)"),
    "bytearray": (bytearray(b"a"), "bytearray is not a JSON type .*base64"),
    "set": ({1}, r"set is not a JSON type \(return list\(value\)\)"),
    "frozenset": (frozenset([1]), r"return list\(value\)"),
    "range": (range(3), r"return list\(value\)"),
    "deque": (collections.deque(), r"return list\(value\)"),
    "dict values": ({}.values(), r"return list\(value\)"),
    "generator": ((i for i in [1]), r"generator is not a JSON type \(return list\(value\)\)"),
    "mapping": (types.MappingProxyType({}), r"return dict\(value\)"),
    "complex": (1j, "complex is not a JSON type"),
    "array": (array("i", [1]), r"return value.tolist\(\)"),
    "dataclass": (Record("a"), r"Record is not a JSON type \(return dataclasses.asdict\(value\)\)"),
    "enum": (Colour.RED, r"Colour is not a JSON type \(return value.value\)"),
    "class": (dict, "type is not a JSON type"),
    "function": (nested, "function is not a JSON type"),
    "ellipsis": (..., "ellipsis is not a JSON type"),
    "object": (object(), r"object is not a JSON type \(return dicts, lists, strings"),
    "lying class": (PretendsToBeDict(), "PretendsToBeDict is not a JSON type"),
    "bad metaclass": (BadClass(), r"BadClass is not a JSON type \(return dicts, lists, strings"),
    "key hidden by a subclass": (LyingDict({1: 1}), "the key 1 is not a string"),  # type: ignore[dict-item]
}

PLACES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "root": (lambda part: part, "$"),
    "item of an object in a list": (
        lambda part: {"items": [0, "a", None, {"name": part}]},
        "$.items[3].name",
    ),
    "odd keys": (lambda part: {"a b": {"": {'q"é\n': (part,)}}}, r'$["a b"][""]["q\"\u00e9\n"][0]'),
    "after deep and wide parts": (lambda part: [[[{"x": [1]}], {}], (), part], "$[2]"),
    "in subclasses": (lambda part: collections.OrderedDict(p=Point(1, part)), "$.p[1]"),
    "in a list that hides it": (lambda part: {"é": LyingList([1, part])}, "$.é[1]"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", REFUSED_PARTS)
def test_what_json_or_jsonb_cannot_hold_is_refused_with_its_place(name: str, place: str) -> None:
    part, reason = REFUSED_PARTS[name]
    put, path = PLACES[place]
    with pytest.raises(OutputNotSerializableError, match=f"^Output is not JSON-serializable: .*{reason}") as raised:
        codec.encode(put(part))
    assert raised.value.values["path"] == path
    assert str(raised.value).endswith(f" at {path}")
    str(raised.value).encode()


def test_the_first_fault_in_reading_order_is_named() -> None:
    with pytest.raises(OutputNotSerializableError, match=r"at \$\.a\[1\]$"):
        codec.encode({"a": [1, {2}], "b": math.nan})


@pytest.mark.parametrize("value", [circular_list(), circular_dict(), nested(1001), nested(100_000)])
def test_nesting_beyond_a_thousand_levels_is_refused(value: Any) -> None:
    with pytest.raises(OutputNotSerializableError, match=r"nested deeper than 1,000 levels, or in a circle") as raised:
        codec.encode(value)
    assert len(str(raised.value)) < 400


def test_a_thousand_levels_of_arrays_or_objects_pass() -> None:
    value: Any = "bottom"
    for _ in range(500):
        value = {"a": [value]}
    assert codec.encode(value) == '{"a":[' * 500 + '"bottom"' + "]}" * 500
    assert codec.encode(nested(1000)) == "[" * 1000 + "]" * 1000


def test_more_values_than_jsonb_may_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_VALUES", 100)
    codec.encode([0] * 99)
    codec.encode([","] * 99)
    codec.encode(["," * 200])
    for value in ([0] * 100, [[0] * 49] * 2 + [0], {str(number): 0 for number in range(101)}):
        with pytest.raises(OutputNotSerializableError, match=r"more than 8,388,608 values .* at \$$"):
            codec.encode(value)


@pytest.mark.parametrize("value", ["a" * 8, "é" * 4, [10, 200, 3], {"abc": 12}])
def test_the_text_may_have_exactly_the_bytes_of_the_limit(value: Any) -> None:
    size = len(codec.encode(value).encode())
    assert size == 10
    codec.encode(value, max_bytes=size)
    with pytest.raises(OutputNotSerializableError, match=r"larger than 9 bytes \(store it elsewhere.* at \$$"):
        codec.encode(value, max_bytes=size - 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (0, "0"),
        (False, "false"),
        ("", '""'),
        ([], "[]"),
        ({}, "{}"),
        ({"a": [1, 2.5, True], "b": {}}, '{"a":[1,2.5,true],"b":{}}'),
        ("</a> é \U0001f600 \u2028 \x7f", '"</a> é \U0001f600 \u2028 \x7f"'),
        ('"\\\n\x01', '"\\"\\\\\\n\\u0001"'),
        (r"\u0000 and \\u0000", r'"\\u0000 and \\\\u0000"'),
        ((1, (2,)), "[1,[2]]"),
        (Point(1, 2), "[1,2]"),
        (Level.HIGH, "3"),
        (Mood.GOOD, '"good"'),
        ({Mood.GOOD: Mood.GOOD}, '{"good":"good"}'),
        (Weight.HEAVY, "1.5"),
        (collections.Counter("aab"), '{"a":2,"b":1}'),
        (LyingText("abc"), '"abc"'),
        (LyingInt(5), "5"),
        (LyingInt(2**70), "1180591620717411303424"),
        (LyingList([1]), "[1]"),
        (LyingDict(a=1), '{"a":1}'),
        (2**64, "18446744073709551616"),
        (10**4300 - 1, "9" * 4300),
    ],
)
def test_a_value_has_this_text(value: Any, text: str) -> None:
    assert codec.encode(value) == text


def test_long_ints_are_refused_where_the_handler_lifted_pythons_limit() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        with pytest.raises(OutputNotSerializableError, match=r"more than 4,300 digits .* at \$\[0\]$"):
            codec.encode([10**4300])
        assert codec.encode({"a": [1, "b", 2.5]}) == '{"a":[1,"b",2.5]}'
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expected object or value"),
        ("{", ".+"),
        ('{"a":1}x', "Trailing data"),
        ('"open', "Unmatched"),
        ("[" * 1025 + "]" * 1025, "depth limit"),
        ("1" * 4301, r"4300 digits"),
        ("1e5000", "beyond a float's 1.8e308"),
        ("-1e5000", "beyond a float's 1.8e308"),
        ("1" + "0" * 400 + ".5", "beyond a float's 1.8e308"),
        ('{"a":[1,{"b":-1e400}]}', "beyond a float's 1.8e308"),
        ("[NaN]", "NaN"),
        ("[-Infinity]", "Infinity"),
    ],
)
def test_text_that_python_cannot_hold_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InputNotDecodableError, match=f"^Input is not decodable JSON: .*{reason}"):
        codec.decode(text)


@pytest.mark.parametrize("value", [0x7FF0 << 90, [2.0**1023, -2.0, 5e-324], ["\x00" * 9, "\u7ff0ð\x7f"]])
def test_numbers_and_text_that_resemble_infinity_in_memory_decode(value: Any) -> None:
    assert codec.decode(json.dumps(value)) == value


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NUMBERS = st.integers() | st.integers(-(10**60), 10**60) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=25,
)


@given(VALUES)
@settings(max_examples=300, deadline=None)
def test_the_text_says_what_json_reads_in_it(value: Any) -> None:
    text = codec.encode(value)
    assert json.loads(text) == value
    assert repr(codec.decode(text)) == repr(value)


Jsonb = Callable[[str], str]


@pytest.fixture(scope="module")
def jsonb(server: servers.Server) -> Iterator[Jsonb]:
    """What PostgreSQL prints for the text of a jsonb."""
    with psycopg.connect(server.url(), autocommit=True) as connection:

        def through(text: str) -> str:
            row = connection.execute("SELECT %s::jsonb::text", [text]).fetchone()
            assert row is not None
            return str(row[0])

        yield through


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.decimals(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.none(), inner)
    ),
    max_leaves=8,
)
HARD_TEXTS = ["\\u0000", "\\\\u0000", "\\ud800", "\x01\x7f\x80\ufffe\uffff", "\U0010ffff"]


@example(HARD_TEXTS)
@example(dict.fromkeys(HARD_TEXTS, 1))
@example([-0.0, 1e22, 5e-324, sys.float_info.max, 10**4300 - 1, 0.1])
@given(VALUES | ANYTHING)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_jsonb_keeps_every_text_that_is_not_refused(jsonb: Jsonb, value: Any) -> None:
    try:
        text = codec.encode(value)
    except OutputNotSerializableError:
        return
    printed = jsonb(text)
    assert exact(printed) == exact(text)
    assert codec.decode(printed) == json.loads(printed)


def exact(text: str) -> Any:
    """The value of JSON text with every number to its last digit."""
    return json.loads(text, parse_int=decimal.Decimal, parse_float=decimal.Decimal)


@pytest.mark.parametrize(
    ("value", "comes_back"),
    [
        (-0.0, 0.0),
        (100.0, 100.0),
        (1e15, 1e15),
        (1e16, 10**16),
        (1e22, 10**22),
        ((1,), [1]),
        ({"bb": 1, "a": 2}, {"a": 2, "bb": 1}),
        (2**70, 2**70),
    ],
)
def test_what_jsonb_changes_is_what_the_documentation_says(jsonb: Jsonb, value: Any, comes_back: Any) -> None:
    assert repr(codec.decode(jsonb(codec.encode(value)))) == repr(comes_back)


def test_a_deep_value_passes_jsonb(jsonb: Jsonb) -> None:
    text = codec.encode(nested(1000))
    assert codec.encode(codec.decode(jsonb(text))) == text


@pytest.mark.parametrize("text", ["1e5000", '{"a":[1e4300]}', "1" + "0" * 400 + ".5"])
def test_a_number_that_only_jsonb_holds_is_refused(jsonb: Jsonb, text: str) -> None:
    with pytest.raises(InputNotDecodableError):
        codec.decode(jsonb(text))


def test_a_number_that_jsonb_prints_as_an_int_is_exact(jsonb: Jsonb) -> None:
    assert codec.decode(jsonb("[1e400, 12.5e400, 1e22]")) == [10**400, 125 * 10**399, 10**22]


HOSTILE_VALUES = r"""
import resource, sys
from pgflow import codec
from pgflow.errors import OutputNotSerializableError

class Everything:
    def __getattr__(self, name):
        raise SystemExit(name)

class LyingText(str):
    def __len__(self):
        return 0

deep, too_deep, too_deep_objects, doubled, circle = [], [], {}, [], [1]
for _ in range(100_000):
    deep = {"a": (deep,)}
for _ in range(1_000):
    too_deep, too_deep_objects = [too_deep], {"a": too_deep_objects}
for _ in range(60):
    doubled = [doubled, {"w": doubled}]
circle += [circle, {"c": circle}]
million = "a" * 1_000_000
values = {
    "deep": deep, "1,001 arrays": too_deep, "1,001 objects": too_deep_objects, "circle": circle,
    "2 ** 60 lists": doubled, "10 GB of strings": [million] * 10_000,
    "10 GB of keys": [{million: 1}] * 10_000,
    "10 GB of strings that lie": (LyingText(million),) * 10_000, "surrogates": "\ud800" * 1_000_000,
    "object": Everything(), "objects": [Everything()] * 3, "object as a key": {Everything(): 1},
}
sys.setrecursionlimit(10**6)
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
for name, value in values.items():
    try:
        codec.encode(value, max_bytes=2_000_000)
    except OutputNotSerializableError as error:
        str(error).encode()
    else:
        sys.exit(f"not refused: {name}")
"""

HOSTILE_TEXTS = r"""
import sys
from pgflow import codec
from pgflow.errors import InputNotDecodableError

starts = {"[": "", '{"a":': "", "-": "", r'"\u': "", "9": "", "99": "1e", "0": "0."}
for repeated, start in starts.items():
    try:
        value = codec.decode(start + repeated * 1_000_000)
    except InputNotDecodableError as error:
        str(error).encode()
    else:
        assert value == 0.0, repeated
"""


@pytest.mark.parametrize("script", [HOSTILE_VALUES, HOSTILE_TEXTS], ids=["values", "texts"])
def test_hostile_values_and_texts_do_not_crash_the_process(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
