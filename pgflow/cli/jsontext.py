"""JSON for programs: stable keys, integers as integers, times in ISO 8601 and UTC, and values of users as they are in
the database, to the last digit."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from pgflow.database.inspection.payload import JsonText


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    click.echo(to_json(value).encode())  # JSON is UTF-8, whatever the locale


def to_json(value: Any) -> str:
    """The JSON text of dataclasses, mappings, sequences, times and plain values; ``JsonText`` goes in as it is."""
    match value:
        case JsonText():
            return str(value)
        case datetime():
            return json.dumps(value.astimezone(UTC).isoformat())
        case Mapping():
            return "{" + ", ".join(f"{json.dumps(str(key))}: {to_json(one)}" for key, one in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(to_json, value)) + "]"
    if dataclasses.is_dataclass(value):
        return to_json({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
