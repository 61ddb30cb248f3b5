"""Under which circumstances is measured: the machine, the versions, the server's settings."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import psycopg

from pgflow._version import VERSION
from pgflow.worker import available_cores

SETTINGS = (
    *("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size"),
    *("autovacuum", "jit"),
)


def machine() -> str:
    """The machine in words."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        model = names[0] if names else model
    return f"{available_cores()} cores ({model}), {platform.system()} {platform.release()}"


def circumstances(options: dict[str, Any]) -> dict[str, Any]:
    """When, where and with what is measured, as JSON values; the load average is what else the machine does."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "load_average": round(os.getloadavg()[0], 1),
        "versions": {
            "Python": platform.python_version(),
            "pgflow": VERSION,
            **{package: version(package) for package in ("pebble", "psycopg", "ujson")},
        },
        "options": options,
    }


def server_settings(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """PostgreSQL's version and the settings that a figure depends on."""
    query = "SELECT n, current_setting(n) FROM unnest(%s::text[]) AS n"
    return dict(connection.execute(query, [list(SETTINGS)]).fetchall())


def in_words(facts: dict[str, Any]) -> str:
    """The circumstances as a sentence above a table."""
    parts = [
        facts["machine"],
        f"load average {facts['load_average']} at the start",
        ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
    ]
    if settings := facts.get("postgresql"):
        others = ", ".join(f"{name} {value}" for name, value in settings.items() if name != "server_version")
        parts.append(f"PostgreSQL {settings['server_version']} ({others})")
    parts.append(", ".join(f"{name} {value}" for name, value in facts["options"].items() if value != ""))
    return "; ".join(parts)
