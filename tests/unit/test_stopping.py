"""Requests to stop, counted whenever they come."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pgflow.process.signals import SIGNALS
from pgflow.worker import stopping
from pgflow.worker.stopping import StopRequest, stop_on_signals


@contextmanager
def signalled() -> Iterator[StopRequest]:
    """A request that signals make; its pipe, which lives as long as a worker, is closed for the tests after this."""
    request = StopRequest()
    with stop_on_signals(request):
        yield request
    for descriptor in (request.wakeup_fd, request._reader):
        os.close(descriptor)


@pytest.fixture
def request_() -> Iterator[StopRequest]:
    with signalled() as request:
        yield request


def never(seconds: float) -> bool:
    """Something that does not end."""
    time.sleep(min(seconds, 0.01))
    return False


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(stopping, "UNATTENDED_SECONDS", 0.2)


def test_signals_that_arrive_together_count_each() -> None:
    for _ in range(200):
        with signalled() as request:
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            assert not request.wait_unless_urgent(never)


def test_one_signal_is_a_request_that_waits(request_: StopRequest) -> None:
    assert not request_.came
    os.kill(os.getpid(), signal.SIGHUP)
    request_.wait()
    looks = iter([False, False, True])
    assert request_.wait_unless_urgent(lambda _: next(looks))


@pytest.mark.usefixtures("impatience")
def test_two_signals_leave_some_time(request_: StopRequest) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    began = time.monotonic()
    assert not request_.wait_patiently(never)
    assert time.monotonic() - began > 0.1


def test_a_signal_after_the_operators_wish_is_the_first(request_: StopRequest) -> None:
    request_.drain()
    os.kill(os.getpid(), signal.SIGTERM)
    looks = iter([False, True])
    assert request_.wait_unless_urgent(lambda _: next(looks))


@pytest.mark.usefixtures("impatience")
def test_without_a_parent_delivery_ends_by_itself() -> None:
    request = StopRequest()
    request.drain_unattended()
    request.only_delivery_is_left()
    assert not request.wait_patiently(never)


def test_another_thread_can_wake_the_one_that_waits() -> None:
    request = StopRequest()
    waiting = threading.Thread(target=request.wait)
    waiting.start()
    request.drain()
    waiting.join(10)
    assert not waiting.is_alive()


def test_an_ignored_signal_stays_ignored() -> None:
    script = (
        "import os, signal; from pgflow.worker.stopping import *\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "request = StopRequest()\n"
        "with stop_on_signals(request): os.kill(os.getpid(), signal.SIGHUP); print(request.came)"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "False\n"
