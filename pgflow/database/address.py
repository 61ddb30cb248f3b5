"""Where a database is: connection strings, checked, completed, and shown without their password."""

from __future__ import annotations

import os
import re

import psycopg
from psycopg import conninfo as libpq
from psycopg import pq

from pgflow.errors import DatabaseUrlError

_DEFAULTS = {
    "connect_timeout": "10",
    # A peer that vanished without a word is noticed after a minute, not after the kernel's two hours.
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
# A password with an unescaped @ ends up in the host, and so in libpq's messages.
_CREDENTIALS = re.compile(r"[^\s'\"]*@")
_PREAMBLE = re.compile(r"^(connection (failed|is bad): )?(connection to server .*? failed: )?(FATAL: +)?")

_REMEDIES = (
    (("password", "authentication"), "check the user and the password"),
    (("does not exist",), "create it, or name another"),
    (
        ("refused", "No such file", "timeout", "could not translate", "No route"),
        "is the server running, and is this its address?",
    ),
)


def complete(conninfo: str, application_name: str) -> str:
    """The connection string with our defaults for what neither it nor libpq's environment says.

    Raises DatabaseUrlError for a string that libpq cannot read.
    """
    given = _parse(conninfo)
    defaults = {"fallback_application_name": application_name, **_DEFAULTS}
    if "PGCONNECT_TIMEOUT" in os.environ:
        del defaults["connect_timeout"]
    return libpq.make_conninfo("", **{**defaults, **given})


def describe(conninfo: str) -> str:
    """The database in words, ``shop at db.example:5432 as anna``; never its password."""
    known = _environment() | _parse(conninfo)
    user = known.get("user", "?")
    host = _mask(known.get("host") or known.get("hostaddr") or "the default socket")
    return f"{known.get('dbname', user)} at {host}:{known.get('port', '5432')} as {user}"


def reason(error: psycopg.Error) -> str:
    """Why connecting failed and what to do, in one line and without what ``describe`` says already."""
    first_line = str(error).strip().partition("\n")[0]
    text = _mask(_PREAMBLE.sub("", first_line)) or type(error).__name__
    remedies = (remedy for words, remedy in _REMEDIES if any(word in text for word in words))
    return " ".join([text, *(f"({remedy})" for remedy in remedies)])


def _mask(text: str) -> str:
    return _CREDENTIALS.sub("***@", text)


def _parse(conninfo: str) -> dict[str, str]:
    try:
        return {name: str(value) for name, value in libpq.conninfo_to_dict(conninfo).items()}
    except psycopg.Error as error:
        raise DatabaseUrlError(reason=reason(error)) from None


def _environment() -> dict[str, str]:
    return {
        option.keyword.decode(): option.val.decode() for option in pq.Conninfo.get_defaults() if option.val is not None
    }
