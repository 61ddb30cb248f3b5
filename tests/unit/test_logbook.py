"""The logbook: whoever finds a task's number there finds the rest of its note."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pgflow.worker.logbook import SIZE_BYTES, Logbook

TASKS = 5_000


def test_a_note_is_not_read_in_part(tmp_path: Path) -> None:
    """A process notes one task after the other, each when it is told to, and is looked at all the time."""
    logbook = Logbook(tmp_path / "logbook")
    logbook.clear()
    orders, order = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(order)
        for number in range(1, TASKS + 1):
            os.read(orders, 1)
            logbook.begin(number)
            logbook.end()
        os._exit(0)
    torn = 0
    for number in range(1, TASKS + 1):
        given = time.monotonic()
        os.write(order, b"!")
        while True:
            begun, ended = logbook.begun(), logbook.ended()
            torn += begun.number == number and begun.at < given
            torn += ended.number == number and ended.at < given
            if ended.number == number:
                break
    assert torn == 0
    assert os.waitpid(pid, 0)[1] == 0
    os.close(orders)
    os.close(order)
    logbook.close()


def test_an_answer_that_cannot_be_written_down_goes_by_another_way(tmp_path: Path) -> None:
    logbook = Logbook(tmp_path / "logbook")
    logbook.clear()
    logbook.begin_series()
    logbook.begin(1)
    logbook.end()
    assert not logbook.record(1, "again", 10**30)
    assert not logbook.record(0, "x" * SIZE_BYTES, None)
    assert not logbook.record(0, "é" * (SIZE_BYTES // 2), None)
    assert logbook.recorded(1, 2) == 0
    assert logbook.record(0, "é", None)
    assert [record and record.text for record in logbook.records(1, 1)] == ["é"]
    logbook.close()


def test_the_page_is_there_before_it_is_written(tmp_path: Path) -> None:
    """A file system that fills up later costs no process its life."""
    Logbook(tmp_path / "logbook").close()
    assert (tmp_path / "logbook").stat().st_blocks * 512 >= SIZE_BYTES
