"""Functions that tests run over items."""

from __future__ import annotations

import os
import pathlib
import time
from typing import Any


def double(item: Any) -> Any:
    return item * 2


def same(item: Any) -> Any:
    return item


def odd_fails(item: int) -> int:
    if item % 2:
        raise ValueError(f"{item} is odd")
    return item


def looks_failed(item: Any) -> Any:
    return {"$error": {"message": "it is what it gives", "kind": "failed", "attempts": 1}}


def obey(item: dict[str, Any]) -> Any:
    """Do what the item says: ``hold`` so many bytes, ``sleep`` so long, ``exit``, ``raise`` until a file is there,
    ``note`` that it ran."""
    held = b"x" * item.get("hold", 0)
    if "note" in item:
        with open(item["note"], "a") as notes:
            notes.write(f"{item.get('name')}\n")
    if "wait" in item:
        while not pathlib.Path(item["wait"]).exists():
            time.sleep(0.01)
    time.sleep(item.get("sleep", 0))
    if "unless" in item and not pathlib.Path(item["unless"]).exists():
        raise RuntimeError(f"there is no {item['unless']}")
    if "exit" in item:
        os._exit(item["exit"])
    del held
    return item.get("name")


def nothing() -> int:
    return 1
