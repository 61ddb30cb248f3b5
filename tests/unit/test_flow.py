"""Declaring flows: what the decorators accept and keep."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from pgflow import Flow, MapStep, Step
from pgflow.errors import HandlerNotFoundError
from pgflow.flow import takes_context


def census() -> Flow:
    flow = Flow("source_census", max_attempts=2, base_delay=1, timeout=30)

    @flow.step
    def list_files(input: Any, ctx: Any) -> Any: ...

    @flow.map(over=list_files)
    def measure(path: Any, ctx: Any) -> Any: ...

    @flow.step(depends_on=[measure])
    def report(deps: Any, ctx: Any) -> Any: ...

    return flow


def test_the_steps_keep_the_order_of_their_definition() -> None:
    list_files, measure, report = census().steps
    assert [type(step) for step in census().steps] == [Step, MapStep, Step]
    assert [(step.slug, step.kind, step.depends_on) for step in (list_files, measure, report)] == [
        ("list_files", "single", ()),
        ("measure", "map", ("list_files",)),
        ("report", "single", ("measure",)),
    ]


def test_a_flow_says_what_it_is() -> None:
    assert repr(census()) == "<Flow source_census: list_files, measure, report>"
    assert repr(Flow("empty")) == "<Flow empty: no steps>"


@pytest.mark.parametrize(
    "declare",
    [
        lambda flow: flow.step,
        lambda flow: flow.step(),
        lambda flow: flow.map,
        lambda flow: flow.map(),
        lambda flow: flow.step(slug="other", timeout=3),
    ],
)
def test_a_decorator_returns_the_function_itself(declare: Callable[[Flow], Any]) -> None:
    flow = Flow("flow")

    def handler(input: Any) -> Any: ...

    assert declare(flow)(handler) is handler
    assert flow.steps[0].handler is handler


def test_the_type_of_a_handler_is_kept() -> None:
    flow = Flow("flow")

    @flow.step
    def spelled(number: int) -> str:
        return str(number)

    @flow.map(over=spelled, timeout=3)
    def measured(text: str) -> int:
        return len(text)

    text: str = spelled(12)
    length: int = measured(text)
    assert length == 2


def test_dependencies_are_functions_or_slugs_one_or_several() -> None:
    flow = Flow("flow")

    @flow.step
    def a(input: Any) -> Any: ...

    @flow.step(slug="second")
    def b(input: Any) -> Any: ...

    flow.step(slug="mixed", depends_on=["a", b])(lambda deps: None)
    flow.step(slug="tuple", depends_on=(b, a))(lambda deps: None)
    flow.step(slug="one_slug", depends_on="second")(lambda deps: None)
    flow.step(slug="one_function", depends_on=b)(lambda deps: None)
    flow.map(slug="map_slug", over="second")(lambda element: None)
    flow.map(slug="map_function", over=b)(lambda element: None)
    assert {step.slug: step.depends_on for step in flow.steps[2:]} == {
        "mixed": ("a", "second"),
        "tuple": ("second", "a"),
        "one_slug": ("second",),
        "one_function": ("second",),
        "map_slug": ("second",),
        "map_function": ("second",),
    }


def test_a_bound_method_may_be_a_dependency() -> None:
    flow = Flow("flow")
    callback = Callback()
    flow.step(callback.method)
    flow.step(slug="after", depends_on=callback.method)(lambda deps: None)
    assert flow.steps[1].depends_on == ("method",)


def test_one_function_may_handle_several_steps() -> None:
    flow = Flow("flow")

    def handler(input: Any) -> Any: ...

    flow.step(slug="first")(handler)
    flow.step(slug="second", depends_on="first")(handler)
    assert flow.handler("first") is flow.handler("second") is handler


def test_a_map_may_map_the_flows_input_or_a_map() -> None:
    flow = Flow("flow")

    @flow.map
    def outer(element: Any) -> Any: ...

    @flow.map(over=outer)
    def inner(element: Any) -> Any: ...

    assert [step.depends_on for step in flow.steps] == [(), ("outer",)]


def test_options_that_were_given_are_kept() -> None:
    flow = Flow("flow", timeout=None, base_delay=0)
    options: dict[str, Any] = {
        "max_attempts": 0,
        "base_delay": 0,
        "timeout": 1,
        "start_delay": 0,
        "if_": {},
        "if_not": {"a": [1, None]},
        "when_unmet": "skip-cascade",
        "when_exhausted": "skip",
    }
    step: Any = flow.step
    step(slug="all", **options)(lambda input: None)
    step(slug="none", **dict.fromkeys(options))(lambda input: None)
    assert flow.options == {"base_delay": 0}
    assert flow.steps[0].options == options
    assert flow.steps[1].options == {}


def test_a_pattern_is_a_copy_as_json_has_it() -> None:
    flow = Flow("flow")
    pattern: dict[str, Any] = {"roles": ("admin",)}
    flow.step(slug="a", if_=pattern)(lambda input: None)
    pattern["roles"] = None
    assert flow.steps[0].options == {"if_": {"roles": ["admin"]}}


def test_a_steps_timeout_is_its_own_then_the_flows() -> None:
    flow = Flow("flow", timeout=30)
    flow.step(slug="own", timeout=5)(lambda input: None)
    flow.step(slug="inherited")(lambda input: None)
    without = Flow("without")
    without.step(slug="a")(lambda input: None)
    assert (flow.timeout_of("own"), flow.timeout_of("inherited"), without.timeout_of("a")) == (5, 30, None)


def test_a_handler_is_found_by_slug() -> None:
    with pytest.raises(HandlerNotFoundError, match=r"^No handler defined for step: nowhere$"):
        census().handler("nowhere")


class Callback:
    """A callable object that cannot be hashed, as a dataclass with __eq__."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, input: Any, ctx: Any) -> Any: ...

    def method(self, input: Any) -> Any: ...


async def awaited(input: Any, ctx: Any) -> Any: ...


def plain(input: Any, ctx: Any) -> Any: ...


@functools.wraps(plain)
def wrapped(*args: Any) -> Any:
    return plain(*args)


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (lambda input: None, False),
        (lambda input, ctx: None, True),
        (lambda input, ctx, /: None, True),
        (lambda input, ctx, extra=1: None, True),
        (lambda input, ctx=None: None, False),
        (lambda input, *, option=1: None, False),
        (lambda *args: None, False),
        (lambda input, *args, **kwargs: None, False),
        (lambda anything="x": None, False),
        (awaited, True),
        (wrapped, True),
        (functools.partial(lambda a, input: None, 1), False),
        (functools.partial(lambda a, input, ctx: None, 1), True),
        (Callback(), True),
        (Callback().method, False),
        (len, False),
        (dict, False),
        (str, False),
    ],
)
def test_the_context_is_for_handlers_with_a_second_positional_parameter(handler: Any, expected: bool) -> None:
    flow = Flow("flow")
    flow.step(slug="a")(handler)
    assert flow.steps[0].takes_context is takes_context(handler) is expected
