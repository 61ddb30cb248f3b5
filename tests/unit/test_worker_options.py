"""Options of a worker: refused at start when out of range or in contradiction, with both values named."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pgflow import Worker
from pgflow.errors import UsageError
from pgflow.process import descriptors, memory
from pgflow.process.memory import Footprint
from pgflow.worker.flows import FlowDescription
from pgflow.worker.options import Options

MIB = 1 << 20


def options(**given: Any) -> Options:
    return Options(flows=("m:f",), slots=1, **given)


def flow(timeouts: dict[str, int], memory_limits: dict[str, int]) -> FlowDescription:
    return FlowDescription("orders", "{}", (), timeouts, memory_limits)


def test_options_survive_the_way_to_the_dispatcher() -> None:
    given = options(memory=MIB, grace=2.5)
    assert Options.from_order(given.to_order()) == given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"slots": 0}, "slots must be at least 1, got 0"),
        ({"slots": 1_000_000}, "slots must be at most 10,000, got 1,000,000: start more workers"),
        ({"slots": 2.5}, "slots must be a whole number of at least 1, got 2.5"),
        ({"slots": "4"}, "slots must be a whole number of at least 1, got '4'"),
        ({"slots": True}, "slots must be a whole number of at least 1, got True"),
        ({"max_tasks_per_process": 0}, "max_tasks_per_process must be at least 1, got 0"),
        ({"max_tasks_per_process": 1.5}, "max_tasks_per_process must be a whole number of at least 1, got 1.5"),
        ({"memory": "12 parsecs"}, "memory must be a size such as 512MiB, 2G or a number of bytes, got '12 parsecs'"),
        ({"min_free_memory": 0}, "min_free_memory must be a size such as 512MiB, 2G or a number of bytes, got 0"),
        (
            {"memory": "2G", "max_address_space": "512M"},
            "max_address_space (512 MiB) must not be less than memory (2 GiB): what is resident has an address",
        ),
    ],
)
def test_values_out_of_range_or_in_contradiction_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        Worker("postgresql://", ["m:f"], **given)
    assert str(refused.value) == message


@pytest.mark.parametrize("grace", [-1.0, math.nan, math.inf])
def test_a_grace_that_is_no_time_is_refused(grace: float) -> None:
    with pytest.raises(UsageError) as refused:
        options(grace=grace)
    assert str(refused.value) == f"grace must be at least 0 seconds, got {grace:g}"


def test_more_free_memory_than_there_is_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total", lambda: 1024 * MIB)
    with pytest.raises(UsageError) as refused:
        options(min_free_memory=1024 * MIB)
    assert str(refused.value) == (
        "min_free_memory (1 GiB) must be less than what this machine has (1 GiB): nothing would ever be claimed"
    )


@pytest.mark.parametrize(
    ("given", "declared", "refusal"),
    [
        ({"memory": 30 * MIB}, {}, "memory (30 MiB) # has resident # 50 MiB"),
        ({"memory_per_process": 50 * MIB}, {}, "max_memory_per_process (50 MiB) # has resident # 50 MiB"),
        ({"address_space": 60 * MIB}, {}, "max_address_space (60 MiB) # has addresses for # 200 MiB"),
        ({}, {"parse": 20 * MIB}, "memory_limit of orders.parse (20 MiB) # has resident # 50 MiB"),
    ],
)
def test_a_limit_under_an_idle_processs_own_memory_is_refused(
    given: dict[str, int], declared: dict[str, int], refusal: str
) -> None:
    with pytest.raises(UsageError) as refused:
        options(**given).require_room([flow({}, declared)], Footprint(50 * MIB, 200 * MIB))
    name, has, taken = refusal.split(" # ")
    assert str(refused.value) == (
        f"{name} must be more than what a pool process {has} after importing the flows ({taken})"
    )


def test_limits_that_the_platform_does_not_enforce_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "IS_KNOWN", False)
    limited = [flow({}, {"parse": 20 * MIB})]
    assert ["memory is neither watched nor limited" in warning for warning in options().warnings(limited)] == [True]
    assert options(tasks_per_process=1).warnings([flow({}, {})]) == []


def test_more_slots_than_files_may_be_open_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "allowable", lambda: 1_024)
    assert Options(flows=("m:f",), slots=73).files == 1_013
    with pytest.raises(UsageError) as refused:
        Worker("postgresql://", ["m:f"], slots=74)
    assert str(refused.value) == (
        "slots (74) need 1,026 open files, 13 each and 64 for the rest, and this process may have 1,024: take "
        "fewer slots, or raise the hard limit (ulimit -Hn)"
    )


def test_a_steps_limit_for_which_there_are_not_enough_addresses_is_refused() -> None:
    with pytest.raises(UsageError) as refused:
        options(address_space=512 * MIB).require_room([flow({}, {"parse": 2048 * MIB})], Footprint(MIB, MIB))
    assert str(refused.value) == (
        "max_address_space (512 MiB) must not be less than memory_limit of orders.parse (2 GiB): what is resident has an "
        "address"
    )


def test_limits_of_more_than_the_machine_has_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total", lambda: 1024 * MIB)
    described = [flow({"parse": 1, "sum": 1}, {"parse": 3072 * MIB, "sum": 1024 * MIB})]
    assert options(memory=2048 * MIB).warnings(described) == [
        "memory (2 GiB) is more than this machine has (1 GiB): it runs out of memory before a task is killed for it",
        "memory_limit of orders.parse (3 GiB) is more than this machine has (1 GiB): it runs out of memory before a task is "
        "killed for it",
    ]


@pytest.mark.parametrize(
    ("given", "declared", "limit"),
    [
        ({"memory": 200}, {}, "memory (200 MiB)"),
        ({"memory": 200}, {"parse": 100}, "memory (200 MiB)"),
        ({"memory": 100}, {"parse": 200}, "memory_limit of orders.parse (200 MiB)"),
        ({"memory": 900}, {"parse": 200, "sum": 100}, "memory_limit of orders.parse (200 MiB)"),
        ({}, {"parse": 200, "sum": 100}, "memory_limit of orders.parse (200 MiB)"),
        ({"memory": 201}, {}, None),
        ({"memory": 100}, {"parse": 201}, None),
        ({}, {"parse": 100}, None),
        ({}, {}, None),
    ],
)
def test_a_process_that_no_task_may_leave_so_large_is_warned_of(
    given: dict[str, int], declared: dict[str, int], limit: str | None
) -> None:
    sizes = {name: size * MIB for name, size in given.items()}
    described = [flow({"parse": 1, "sum": 1}, {step: size * MIB for step, size in declared.items()})]
    assert options(**sizes, memory_per_process=200 * MIB).warnings(described) == (
        [
            f"max_memory_per_process (200 MiB) is not below {limit}: a task is killed before it leaves a process with so "
            "much, so that none is replaced for it"
        ]
        if limit is not None
        else []
    )


def test_a_steps_own_limit_goes_before_the_workers() -> None:
    limits = options(memory=100 * MIB).limits([flow({}, {"parse": 200 * MIB})])
    assert (limits.of_task("orders", "parse"), limits.of_task("orders", "sum")) == (200 * MIB, 100 * MIB)


def test_a_grace_under_a_steps_timeout_is_warned_of() -> None:
    described = [flow({"parse": 60, "sum": 10}, {})]
    assert options(grace=25.0).warnings(described) == [
        "the grace of 25 s is under the timeout of orders.parse, 60 s: its tasks may be killed and handed back when "
        "the worker is asked to stop"
    ]
    assert options().warnings(described) == []
