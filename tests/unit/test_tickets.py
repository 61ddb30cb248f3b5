"""Tickets: each task of a series is the process's or the dispatcher's, never both's and never nobody's."""

from __future__ import annotations

import os
from pathlib import Path

from pgflow.worker.tickets import Taker, Tickets

ROUNDS = 2_000
TASKS = 20


def test_they_are_taken_one_by_one_or_taken_back_together(tmp_path: Path) -> None:
    tickets = Tickets(tmp_path / "tickets")
    taker = Taker(tmp_path / "tickets")
    assert not taker.take()
    tickets.issue(0)
    assert tickets.take_back() == 0
    tickets.issue(3)
    assert taker.take()
    assert tickets.take_back() == 2
    assert not taker.take()
    os.close(taker.fd)
    assert not taker.take()
    tickets.close()


def test_what_a_process_takes_and_what_is_taken_back_are_all_of_them(tmp_path: Path) -> None:
    tickets = Tickets(tmp_path / "tickets")
    answers, answer = os.pipe()
    orders, order = os.pipe()
    if (pid := os.fork()) == 0:
        taker = Taker(tmp_path / "tickets")
        while os.read(orders, 1) == b"!":
            taken = 0
            while taker.take():
                taken += 1
            os.write(answer, bytes((taken,)))
        os._exit(0)
    for _ in range(ROUNDS):
        tickets.issue(TASKS)
        os.write(order, b"!")
        back = tickets.take_back()
        taken = os.read(answers, 1)[0] + tickets.take_back()
        assert back + taken == TASKS
    os.write(order, b"?")
    assert os.waitpid(pid, 0)[1] == 0
    for descriptor in (answers, answer, orders, order):
        os.close(descriptor)
    tickets.close()
