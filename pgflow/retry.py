"""What a handler may raise to say whether, and when, its task is tried again."""

from __future__ import annotations

LONGEST_SECONDS = 2_147_483_647
"""An int of PostgreSQL's."""


class Retry(Exception):  # noqa: N818 - said to the worker
    """Try again in ``after`` whole seconds instead of after the step's delay, if attempts are left.

    Raises ValueError for a negative or fractional ``after``.
    """

    def __init__(self, message: str = "", *, after: int) -> None:
        if not isinstance(after, int) or isinstance(after, bool) or not 0 <= after <= LONGEST_SECONDS:
            raise ValueError(f"after must be whole seconds from 0 to {LONGEST_SECONDS}, got {after!r}")
        super().__init__(message)
        self.after = after


class Fail(Exception):  # noqa: N818 - said to the worker
    """Do not try again, whatever attempts are left: another attempt would fail as well."""
