"""What the suite ``batch`` does with an item. Imports nothing but the clock: each job of GNU parallel imports it."""

from __future__ import annotations

import time
from typing import TypedDict


class Order(TypedDict):
    """An item: which it is, and the CPU seconds that it takes."""

    number: int
    cpu: float


def burn(item: Order) -> tuple[float, float]:
    """Use the item's CPU time; when that began and ended, on the clock that all processes share."""
    began = time.monotonic()
    end = time.thread_time() + item["cpu"]
    while time.thread_time() < end:
        pass
    return began, time.monotonic()
