"""Interrupts are noted, not raised, until there are too many."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from pgflow.cli.interrupts import Interrupts
from pgflow.process.signals import SIGNALS


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    """The handlers a Python program starts with, whatever started the tests."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupt_is_noted_and_ends_every_wait_at_once(number: int) -> None:
    with Interrupts(again=pytest.fail) as interrupts:
        assert not interrupts.wait(0)
        signal.raise_signal(number)
        assert interrupts.came
        assert interrupts.wait(60)
        assert interrupts.wait(60)


def test_an_interrupt_during_the_wait_ends_it() -> None:
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    began = time.monotonic()
    with Interrupts(again=pytest.fail) as interrupts:
        assert interrupts.wait(60)
    assert time.monotonic() - began < 30


def test_every_further_interrupt_calls_again_and_the_third_is_raised_too() -> None:
    calls: list[str] = []
    with Interrupts(again=lambda: calls.append("again")):
        signal.raise_signal(signal.SIGINT)
        assert calls == []
        signal.raise_signal(signal.SIGTERM)
        assert calls == ["again"]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert calls == ["again", "again"]


def test_afterwards_the_handlers_are_what_they_were() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupts(again=pytest.fail):
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interrupts(again=pytest.fail) as interrupts:
        signal.raise_signal(signal.SIGHUP)
        assert not interrupts.came
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
