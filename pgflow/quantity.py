"""Amounts as people write them: sizes in bytes, durations in seconds."""

from __future__ import annotations

import re

_SIZE = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-z]*)\s*", re.IGNORECASE)
_PREFIXES = "kmgt"
_DURATION = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h|d|)\s*")
_SECONDS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_size(text: str | int) -> int:
    """Bytes: a whole number as it is, or text such as ``512MiB``, ``2G`` (both powers of 1,024) or ``500MB`` (powers of
    1,000).

    Raises ValueError, saying what it takes, for anything else and for less than one byte.
    """
    size = text if isinstance(text, int) and not isinstance(text, bool) else _parsed(text)
    if size is None or size < 1:
        raise ValueError(f"must be a size such as 512MiB, 2G or a number of bytes, got {text!r}")
    return size


def _parsed(text: object) -> int | None:
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    factor = _factor(match["unit"].lower()) if match else None
    return int(float(match["number"]) * factor) if match and factor else None


def _factor(unit: str) -> int | None:
    if unit in ("", "b"):
        return 1
    if unit[0] not in _PREFIXES or unit[1:] not in ("", "b", "ib", "i"):
        return None
    base = 1000 if unit[1:] == "b" else 1024
    return int(base ** (_PREFIXES.index(unit[0]) + 1))


def format_size(size: int) -> str:
    """``812 MiB``, for people."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        whole, rest = divmod(size, 1024**power)
        if whole >= 10 or (whole and not rest):
            return f"{size / 1024**power:.0f} {unit}"
    return f"{size} bytes"


def parse_duration(text: str | float) -> float:
    """Seconds: a number as it is, or text such as ``1.5s``, ``500ms``, ``10m``, ``2h`` or ``1d``.

    Raises ValueError, saying what it takes, for anything else.
    """
    if isinstance(text, int | float) and not isinstance(text, bool) and 0 <= text < float("inf"):
        return float(text)
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"must be a duration such as 30s, 5m or a number of seconds, got {text!r}")
    return float(match["number"]) * _SECONDS[match["unit"]]


def format_duration(seconds: float) -> str:
    """``350 us``, ``1.6 ms``, ``0.53 s``, ``12.3 s``, then as a clock has it, for people."""
    if seconds < 0.0995:
        return (
            f"{seconds * 1e3:.{1 if seconds < 0.00995 else 0}f} ms"
            if seconds >= 0.0009995
            else f"{seconds * 1e6:.0f} us"
        )
    if seconds < 59.95:
        return f"{seconds:.{2 if seconds < 9.995 else 1}f} s"
    return format_clock(seconds)


def format_clock(seconds: float) -> str:
    """``0:35``, ``1:02:03`` or ``2d 03:04``, for people."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, day_hours = divmod(hours, 24)
    if days:
        return f"{days}d {day_hours:02d}:{minutes:02d}"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_rate(per_second: float) -> str:
    """``1,203/s``, ``2.5/s`` or, of what is slower, ``12/min`` or ``3.0/h``, for people."""
    rate, unit = per_second, "s"
    for slower, factor in (("min", 60), ("h", 60)):
        if rate < 1:
            rate, unit = rate * factor, slower
    return f"{rate:,.0f}/{unit}" if rate >= 9.95 else f"{rate:.1f}/{unit}"
