"""What handlers print is logged with the task that printed it, and disturbs nobody."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgflow.outcome import Completed, Crashed, TimedOut
from pgflow.worker.pool import Pool
from pgflow.worker.print_stream import MAX_TASK_LINES
from tests.fault.test_pool import WAIT_SECONDS, RunningPool
from tests.support.pool import wait_for_idle
from tests.support.waiting import wait_until

RUN = "run 00000000-0000-0000-0000-000000000000"
SPOKEN = ("print", "stderr", "write", "puts", "subprocess", "its stderr", "printf")


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What the dispatcher has logged of handlers so far."""
    heard: list[str] = []
    logger, handler = logging.getLogger("pgflow.handler"), logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield heard
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def start() -> Iterator[Callable[[int], RunningPool]]:
    """Starts a pool of so many slots."""
    started: list[RunningPool] = []

    def begin(slots: int) -> RunningPool:
        started.append(RunningPool(slots))
        return started[-1]

    yield begin
    for running in started:
        end(running)


def end(running: RunningPool) -> None:
    running.pool.stop("the test is over")
    assert running.pool.wait_until_ended(WAIT_SECONDS)


def said(step: str, words: str) -> str:
    return f"hostile/{step}[0] of {RUN}: {words}"


def test_every_way_out_is_logged_in_order_with_its_task(start: Callable[[int], RunningPool], lines: list[str]) -> None:
    running = start(1)
    for words in ("one", "two"):
        assert running.outcome("speak", words, 10) == Completed("null")
    end(running)
    assert lines == [said("speak", f"{way} {words}") for words in ("one", "two") for way in SPOKEN]


def test_lines_belong_to_the_task_that_printed_them_however_fast_tasks_follow(
    start: Callable[[int], RunningPool], lines: list[str]
) -> None:
    running = start(1)
    steps = ["print_bytes", "add_one", "print_bytes"] * 100
    for number, step in enumerate(steps):
        running.run(step, {"value": 1} if step == "add_one" else str(number), 10)
    for _ in steps:
        running.end()
    end(running)
    assert lines == [said("print_bytes", str(n)) for n, step in enumerate(steps) if step != "add_one"]


@pytest.mark.parametrize(("step", "kind"), [("speak_and_hang", TimedOut), ("speak_and_die", Crashed)])
def test_what_was_printed_before_a_death_is_logged_and_what_comes_after_is_the_next_tasks(
    start: Callable[[int], RunningPool], lines: list[str], step: str, kind: type
) -> None:
    running = start(1)
    assert isinstance(running.outcome(step, "last words"), kind)
    assert running.outcome("print_bytes", "first words", 10) == Completed("null")
    wait_until(lambda: lines[-1:] == [said("print_bytes", "first words")], "all is logged")
    assert lines[0] == said(step, "last words")
    assert len(lines) == 2


def test_an_unfinished_line_is_logged_without_another_task(
    start: Callable[[int], RunningPool], lines: list[str]
) -> None:
    running = start(1)
    running.outcome("print_bytes", "no end", 10)
    wait_until(lambda: lines == [said("print_bytes", "no end")], "it is logged")


@pytest.mark.quiet
def test_one_who_prints_for_ever_delays_nobody_and_is_logged_in_part(
    start: Callable[[int], RunningPool], lines: list[str]
) -> None:
    running = start(2)
    wait_for_idle(running.pool)
    running.run("print_for_ever", timeout=4)
    started = time.monotonic()
    running.run("hang_with_the_gil", timeout=1)
    assert isinstance(running.end()[1], TimedOut)
    assert time.monotonic() - started < 2
    assert running.outcome("add_one", {"value": 1}) == Completed("2")
    step, outcome, ended = running.end()
    assert (step, type(outcome)) == ("print_for_ever", TimedOut)
    assert ended - started < 5
    wait_until(lambda: "more bytes were printed" in lines[-1], "what was not logged is told")
    assert len(lines) == MAX_TASK_LINES + 1
    running.outcome("print_bytes", "calm", 10)
    wait_until(lambda: lines[-1] == said("print_bytes", "calm"), "the next task is logged")


def test_closed_descriptors_and_streams_break_neither_the_task_nor_the_slot(
    start: Callable[[int], RunningPool], lines: list[str]
) -> None:
    running = start(1)
    assert running.outcome("speak_without_descriptors", None, 10) == Completed('"went on"')
    assert running.outcome("print_bytes", "next", 10) == Completed("null")
    end(running)
    assert lines == [said("print_bytes", "next")]


def test_output_outside_any_task_is_the_slots(tmp_path: Path, lines: list[str]) -> None:
    module = tmp_path / "chatty.py"
    module.write_text("from pgflow import Flow\nprint('imported')\nflow = Flow('chatty')\n")
    pool = Pool([f"{module}:flow"], "", 1, preload=False)
    pool.report_to(lambda task, outcome: None)
    pool.start()
    assert pool.describe_flows(WAIT_SECONDS) is not None
    pool.stop("over")
    assert pool.wait_until_ended(WAIT_SECONDS)
    assert lines == ["slot-1: imported"]
