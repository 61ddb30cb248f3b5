"""Pulse and watchdog: who does not get on is told of, mended or ended; whole processes, because the end is os._exit."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from pgflow.worker.pulse import Pulse
from pgflow.worker.watchdog import EXIT_STUCK

WAIT_SECONDS = 30


def start(pulse: Pulse, body: str, release: threading.Event) -> threading.Thread:
    def live() -> None:
        with pulse.life():
            if body == "rest":
                with pulse.resting():
                    release.wait(WAIT_SECONDS)
            elif body == "hang":
                release.wait(WAIT_SECONDS)

    thread = threading.Thread(target=live)
    thread.start()
    return thread


def test_a_pulse_is_still_while_its_thread_hangs_not_while_it_rests_or_after_its_end() -> None:
    for body, is_still in (("hang", True), ("rest", False)):
        pulse, release = Pulse("part", stuck_after=20), threading.Event()
        thread = start(pulse, body, release)
        while is_still and pulse.still_for() < 0.01:
            pass
        assert (pulse.still_for() > 0) == is_still
        release.set()
        thread.join(WAIT_SECONDS)
        assert pulse.still_for() == 0
        assert not pulse.has_died


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_by_an_exception_has_died() -> None:
    pulse = Pulse("part")

    def die() -> None:
        with pulse.life():
            raise ZeroDivisionError

    thread = threading.Thread(target=die)
    thread.start()
    thread.join(WAIT_SECONDS)
    assert pulse.has_died


PROGRAM = """
import logging, threading, sys
from pgflow.worker import watchdog
from pgflow.worker.pulse import Pulse
logging.basicConfig(format="%(levelname)s %(message)s")
watchdog.LOOK_SECONDS = 0.05
watchdog.TELL_SECONDS, watchdog.SEVER_SECONDS, watchdog.GIVE_UP_SECONDS = 0.2, 0.4, 0.8
part = Pulse("part", stuck_after=None if sys.argv[1] == "patient" else 0.3)
severed = threading.Event()
def hang():
    with part.life():
        if sys.argv[2] == "gives up":
            part.given_up = "it cannot go on"
        severed.wait()
        if sys.argv[2] == "mends":
            with part.resting():
                print("mended", flush=True)
                threading.Event().wait()
        else:
            threading.Event().wait()
dog = watchdog.Watchdog([part], severed.set if sys.argv[2] == "mends" else lambda: None)
dog.start()
threading.Thread(target=hang, daemon=True).start()
threading.Event().wait(1.5)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
    )


def test_a_part_that_hangs_ends_the_process_with_all_stacks() -> None:
    ended = run("impatient", "never")
    assert ended.returncode == EXIT_STUCK
    assert "CRITICAL the part has not got on for" in ended.stderr
    assert "in hang" in ended.stderr


def test_a_part_that_gives_up_ends_the_process() -> None:
    ended = run("patient", "gives up")
    assert ended.returncode == EXIT_STUCK
    assert "CRITICAL the part has given up: it cannot go on" in ended.stderr


def test_a_statement_that_hangs_is_told_of_then_its_connection_is_cut() -> None:
    ended = run("patient", "mends")
    assert ended.returncode == 0
    assert ended.stdout == "mended\n"
    assert ended.stderr.count("WARNING the part has waited for one statement") == 1
    assert ended.stderr.count("connections are cut") == 1


def test_a_part_that_new_connections_do_not_help_ends_the_process() -> None:
    ended = run("patient", "never")
    assert ended.returncode == EXIT_STUCK
    assert "new connections did not help" in ended.stderr
