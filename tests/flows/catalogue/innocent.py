"""The innocent neighbours."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tests.flows.catalogue.common import flow


@flow.step
def add_one(number: Any) -> Any:
    """The neighbour, who takes 5 ms."""
    time.sleep(0.005)
    return number + 1


@flow.step
def take_a_while(seconds: Any) -> str:
    """A neighbour who takes longer."""
    time.sleep(seconds)
    return "done"


@flow.step
def meet(input: Any) -> Any:
    """Returns when ``count`` tasks are running at once."""
    (Path(input["folder"]) / str(input["number"])).touch()
    while len(os.listdir(input["folder"])) < input["count"]:
        time.sleep(0.002)
    return input["number"]
