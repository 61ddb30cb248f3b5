"""Wrong declarations fail where they are written, with the reason and the remedy."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from pgflow import Flow
from pgflow.errors import FlowDefinitionError, UsageError


def first(input: Any) -> Any: ...


def second(input: Any) -> Any: ...


def elsewhere(input: Any) -> Any: ...


def any_input(input: Any) -> Any: ...


def run(input: Any) -> Any: ...


def refusal(declare: Callable[[Any], object]) -> str:
    """The message that declaring something in a flow with the steps first and second is refused with."""
    flow = Flow("orders")
    flow.step(first)
    flow.step(second)
    before = flow.steps
    with pytest.raises(FlowDefinitionError) as raised:
        declare(flow)
    assert flow.steps == before
    assert isinstance(raised.value, UsageError)
    return str(raised.value)


UNKNOWN_DEPENDENCY = "declare it before 'any_input' (there are no cycles)"

DEPENDENCIES: dict[str, tuple[Callable[[Any], object], str]] = {
    "unknown slug": (
        lambda flow: flow.step(depends_on=["nowhere"])(any_input),
        f"Step orders.any_input depends on 'nowhere', which is no step yet: {UNKNOWN_DEPENDENCY}",
    ),
    "slip": (
        lambda flow: flow.step(depends_on=["frist"])(any_input),
        f"Step orders.any_input depends on 'frist', which is no step yet: {UNKNOWN_DEPENDENCY}, "
        "or did you mean 'first'?",
    ),
    "unknown slug of a map": (
        lambda flow: flow.map(over="nowhere")(any_input),
        f"Step orders.any_input depends on 'nowhere', which is no step yet: {UNKNOWN_DEPENDENCY}",
    ),
    "itself as a function": (
        lambda flow: flow.step(depends_on=[any_input])(any_input),
        "Step orders.any_input depends on itself, which is a cycle: name a step declared before it",
    ),
    "unknown function": (
        lambda flow: flow.step(depends_on=[first, elsewhere])(any_input),
        "Step orders.any_input depends on elsewhere, which is no step of flow 'orders': "
        "declare it with @flow.step or @flow.map before 'any_input'",
    ),
    "itself": (
        lambda flow: flow.step(depends_on=["any_input"])(any_input),
        "Step orders.any_input depends on itself, which is a cycle: name a step declared before it",
    ),
    "itself mapped": (
        lambda flow: flow.map(over="any_input")(any_input),
        "Step orders.any_input depends on itself, which is a cycle: name a step declared before it",
    ),
    "listed twice": (
        lambda flow: flow.step(depends_on=[first, second, "first"])(any_input),
        "Step orders.any_input depends on 'first' twice: name it once",
    ),
    "ambiguous function": (
        lambda flow: Flow.step(handled_twice(flow), slug="c", depends_on=[elsewhere])(any_input),
        "Step orders.c depends on elsewhere, which is the handler of several steps: name one, 'x' or 'y'",
    ),
    "number": (
        lambda flow: flow.step(depends_on=3)(any_input),
        "depends_on= takes a list of steps of flow 'orders', functions or slugs, got 3",
    ),
    "none": (
        lambda flow: flow.step(depends_on=[None])(any_input),
        "Step orders.any_input depends on None, which is no step of flow 'orders': "
        "declare it with @flow.step or @flow.map before 'any_input'",
    ),
    "set": (
        lambda flow: flow.step(depends_on={"first"})(any_input),
        "depends_on= takes a list of steps of flow 'orders', functions or slugs, got {'first'}",
    ),
    "two of a map": (
        lambda flow: flow.map(over=["first", "second"])(any_input),
        "over= takes one step of flow 'orders', a function or a slug, got ['first', 'second']: "
        "to map several, let a step join their outputs first",
    ),
    "depends_on of a map": (
        lambda flow: flow.map(depends_on=[first])(any_input),
        "A map step of flow 'orders' takes over= instead of depends_on=, and one step",
    ),
    "over of a step": (
        lambda flow: flow.step(over=first)(any_input),
        "Step orders.any_input has no option 'over': it takes slug, depends_on, max_attempts, base_delay, "
        "timeout, start_delay, if_, if_not, when_unmet, when_exhausted, memory_limit",
    ),
}


def handled_twice(flow: Flow) -> Flow:
    copy = Flow(flow.slug)
    copy.step(slug="x")(elsewhere)
    copy.step(slug="y")(elsewhere)
    return copy


@pytest.mark.parametrize("name", DEPENDENCIES)
def test_a_wrong_dependency_is_refused(name: str) -> None:
    declare, message = DEPENDENCIES[name]
    assert refusal(declare) == message


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (
            lambda flow: flow.step(first),
            "Step orders.first is declared twice: give one of the two another slug=",
        ),
        (
            lambda flow: flow.map(slug="first")(any_input),
            "Step orders.first is declared twice: give one of the two another slug=",
        ),
        (
            lambda flow: flow.step(slug="a-b")(any_input),
            "Step slug 'a-b' of flow 'orders' is not valid: "
            "use the letters a-z and A-Z, digits and _, and no digit first",
        ),
        (
            lambda flow: flow.step(slug=3)(any_input),
            "Step slug 3 of flow 'orders' is not a str: write it in quotes",
        ),
        (
            lambda flow: flow.step(slug="a" * 129)(any_input),
            f"Step slug '{'a' * 129}' of flow 'orders' has 129 characters: shorten it to at most 128",
        ),
        (
            lambda flow: flow.step(slug="run")(any_input),
            "Step slug 'run' of flow 'orders' is reserved: choose another one",
        ),
        (
            lambda flow: flow.step(run),
            "A step of flow 'orders' has the handler run, whose name is reserved: choose another one: "
            "name the step with slug=",
        ),
        (
            lambda flow: flow.step(lambda input: None),
            "A step of flow 'orders' has the handler <lambda>, whose name is not valid: "
            "use the letters a-z and A-Z, digits and _, and no digit first: name the step with slug=",
        ),
    ],
)
def test_a_wrong_step_slug_is_refused(declare: Callable[[Any], object], message: str) -> None:
    assert refusal(declare) == message


def test_a_handler_without_a_name_needs_a_slug() -> None:
    message = refusal(lambda flow: flow.step(functools.partial(any_input)))
    assert message.startswith("A step of flow 'orders' has the handler functools.partial(<function any_input")
    assert message.endswith("which has no name: name the step with slug=")


@pytest.mark.parametrize(
    ("slug", "fault"),
    [
        ("a" * 48, "has 48 characters: shorten it to at most 47"),
        ("", "is not valid: use the letters a-z and A-Z, digits and _, and no digit first"),
        ("1a", "is not valid"),
        ("my flow", "is not valid"),
        ("flow\n", "is not valid"),
        ("flöw", "is not valid"),
        ("run", "is reserved: choose another one"),
        (None, "is not a str: write it in quotes"),
    ],
)
def test_a_wrong_flow_slug_is_refused(slug: Any, fault: str) -> None:
    with pytest.raises(FlowDefinitionError, match="^" + re.escape(f"Flow slug {slug!r} {fault}")):
        Flow(slug)


@pytest.mark.parametrize("slug", ["a" * 47, "_", "Run", "RUN", "A1_b"])
def test_the_longest_and_the_oddest_flow_slugs_pass(slug: str) -> None:
    assert Flow(slug).slug == slug


WHOLE = "must be a whole number of"
OPTIONS: list[tuple[str, Any, str]] = [
    ("timeout", 1.5, f"{WHOLE} seconds, got 1.5"),
    ("timeout", 30.0, f"{WHOLE} seconds, got 30.0"),
    ("timeout", "30", f"{WHOLE} seconds, got '30'"),
    ("timeout", True, f"{WHOLE} seconds, got True"),
    ("timeout", float("inf"), f"{WHOLE} seconds, got inf"),
    ("timeout", 0, "must be from 1 to 2,147,483,647 seconds, got 0"),
    ("timeout", -1, "must be from 1 to 2,147,483,647 seconds, got -1"),
    ("timeout", 2**31, "must be from 1 to 2,147,483,647 seconds, got 2147483648"),
    ("max_attempts", -1, "must be from 0 to 2,147,483,647 attempts, got -1"),
    ("max_attempts", False, f"{WHOLE} attempts, got False"),
    ("base_delay", 0.5, f"{WHOLE} seconds, got 0.5"),
    ("base_delay", -5, "must be from 0 to 2,147,483,647 seconds, got -5"),
]
STEP_OPTIONS: list[tuple[str, Any, str]] = [
    ("start_delay", 0.1, f"{WHOLE} seconds, got 0.1"),
    ("start_delay", -1, "must be from 0 to 2,147,483,647 seconds, got -1"),
    ("when_unmet", "ignore", "must be one of 'fail', 'skip', 'skip-cascade', got 'ignore'"),
    ("when_exhausted", "skip_cascade", "must be one of 'fail', 'skip', 'skip-cascade', 'record', got 'skip_cascade'"),
    ("when_exhausted", [], "must be one of 'fail', 'skip', 'skip-cascade', 'record', got []"),
    ("if_", [1], "must be a dict, which is matched with the input, got [1]"),
    ("if_not", '{"a": 1}', "must be a dict, which is matched with the input, got '{\"a\": 1}'"),
    (
        "if_",
        {"a": [{1: 2}]},
        "is not JSON: the key 1 is not a string (return str(key) as the key) at $.a[0]",
    ),
]


@pytest.mark.parametrize(("option", "value", "fault"), OPTIONS)
def test_a_wrong_option_of_a_flow_is_refused(option: str, value: Any, fault: str) -> None:
    with pytest.raises(FlowDefinitionError) as raised:
        Flow("orders", **{option: value})
    assert str(raised.value) == f"Flow 'orders': {option} {fault}"


@pytest.mark.parametrize(("option", "value", "fault"), OPTIONS + STEP_OPTIONS)
@pytest.mark.parametrize("decorator", ["step", "map"])
def test_a_wrong_option_of_a_step_is_refused(decorator: str, option: str, value: Any, fault: str) -> None:
    message = refusal(lambda flow: getattr(flow, decorator)(**{option: value})(any_input))
    assert message == f"Step orders.any_input: {option} {fault}"


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (
            lambda flow: flow.step(max_atempts=1)(any_input),
            "Step orders.any_input has no option 'max_atempts': did you mean max_attempts?",
        ),
        (
            lambda flow: flow.step(depend_on=[first])(any_input),
            "Step orders.any_input has no option 'depend_on': did you mean depends_on?",
        ),
        (
            lambda flow: flow.map(ower=first)(any_input),
            "Step orders.any_input has no option 'ower': did you mean over?",
        ),
        (
            lambda _flow: Flow("orders", timeouts=1),  # type: ignore[call-arg]
            "Flow 'orders' has no option 'timeouts': did you mean timeout?",
        ),
        (
            lambda _flow: Flow("orders", start_delay=1),  # type: ignore[call-arg]
            "Flow 'orders' has no option 'start_delay': give it to a step",
        ),
        (
            lambda _flow: Flow("orders", retries=1),  # type: ignore[call-arg]
            "Flow 'orders' has no option 'retries': it takes max_attempts, base_delay, timeout",
        ),
    ],
)
def test_an_unknown_option_is_refused(declare: Callable[[Any], object], message: str) -> None:
    assert refusal(declare) == message


def generator(input: Any) -> Iterator[Any]:
    yield input


async def async_generator(input: Any) -> AsyncIterator[Any]:
    yield input


class YieldingCallback:
    def __call__(self, input: Any) -> Iterator[Any]:
        yield input


@pytest.mark.parametrize("handler", [generator, async_generator, functools.partial(generator), YieldingCallback()])
def test_a_generator_is_refused_as_a_handler(handler: Any) -> None:
    message = refusal(lambda flow: flow.step(slug="a")(handler))
    assert re.fullmatch(r"Handler .+ of flow 'orders' is a generator: return a list instead of yielding", message)


@pytest.mark.parametrize(
    "handler",
    [
        lambda: None,
        lambda input, ctx, more: None,
        lambda input, *, ctx: None,
        lambda *, input: None,
        lambda input, more, *, ctx: None,
        functools.partial(lambda input: None, 1),
    ],
)
def test_a_handler_that_cannot_be_called_is_refused(handler: Any) -> None:
    message = refusal(lambda flow: flow.step(slug="a")(handler))
    assert re.fullmatch(
        r"Handler .+ of flow 'orders' cannot be called, .+: "
        r"let it take \(input\) or \(input, ctx\), not \(.*\)",
        message,
    )


@pytest.mark.parametrize("handler", ["first", 3, [first]])
def test_what_is_no_function_is_refused(handler: Any) -> None:
    assert refusal(lambda flow: flow.step(handler)) == (
        f"A step of flow 'orders' must be a function, got {handler!r}: "
        "give options by keyword, as in @flow.step(slug=...)"
    )


def test_flows_whose_slugs_differ_in_case_would_share_a_queue() -> None:
    orders = Flow("Orders_of_today")
    assert Flow("Orders_of_today").slug == orders.slug  # a module that is imported twice
    with pytest.raises(FlowDefinitionError, match=r"would share its queue with flow 'Orders_of_today'.*another slug"):
        Flow("orders_of_TODAY")
    del orders
    assert Flow("orders_of_TODAY").slug == "orders_of_TODAY"
