"""The work of a task, the same for pgflow and for every peer."""

from __future__ import annotations

import base64
import random
import time
from typing import Any


def order(cpu: float, text_bytes: int) -> dict[str, Any]:
    """A task's input: ``cpu`` seconds to burn, and a text, which does not compress, to be given back. Empty for a task
    that does nothing."""
    text = base64.b64encode(random.Random(0).randbytes(text_bytes)).decode()[:text_bytes]
    return ({"cpu": cpu} if cpu else {}) | ({"text": text} if text else {})


def work(order: dict[str, Any]) -> Any:
    """Do it: burn the CPU time, give the text back."""
    if cpu := order.get("cpu"):
        burn(cpu)
    return order.get("text")


def burn(seconds: float) -> None:
    """Use so much of this thread's CPU time, however long that takes."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
