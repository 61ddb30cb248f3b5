from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow.quantity import format_clock, format_duration, format_rate, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (1, 1),
        ("17", 17),
        ("512MiB", 512 << 20),
        ("512m", 512 << 20),
        ("1.5G", 3 << 29),
        ("2Gi", 2 << 30),
        (" 2 TB ", 2 * 10**12),
        ("500kb", 500_000),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", 0, True, "1.5.2M", "12 parsecs", "M", "1MiBs", None, 1.5, "nan"])
def test_what_is_no_size_is_refused_with_what_it_takes(text: object) -> None:
    with pytest.raises(ValueError, match="must be a size such as 512MiB, 2G or a number of bytes, got"):
        parse_size(text)  # type: ignore[arg-type]


@given(st.integers(1, 1 << 50))
def test_a_formatted_size_is_near_the_size(size: int) -> None:
    text = format_size(size)
    assert parse_size(text.replace("bytes", "")) == pytest.approx(size, rel=0.5)


@pytest.mark.parametrize(
    ("text", "seconds"), [(0, 0), (1.5, 1.5), ("90", 90), ("30s", 30), ("500ms", 0.5), ("2h", 7200), ("1.5m", 90)]
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", -1, True, "1w", "s", float("inf"), float("nan"), None])
def test_what_is_no_duration_is_refused_with_what_it_takes(text: object) -> None:
    with pytest.raises(ValueError, match="must be a duration such as 30s, 5m or a number of seconds, got"):
        parse_duration(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 us"),
        (0.0003504, "350 us"),
        (0.00159, "1.6 ms"),
        (0.0995, "0.10 s"),
        (0.0449, "45 ms"),
        (9.99, "9.99 s"),
        (9.999, "10.0 s"),
        (59.96, "1:00"),
        (3723, "1:02:03"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599.7, "1:00:00"), (86400 * 2 + 3 * 3600 + 240, "2d 03:04")]
)
def test_clocks_for_people(seconds: float, text: str) -> None:
    assert format_clock(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(1203.4, "1,203/s"), (9.97, "10/s"), (2.52, "2.5/s"), (0.2, "12/min"), (0.001, "3.6/h")]
)
def test_rates_for_people(rate: float, text: str) -> None:
    assert format_rate(rate) == text
