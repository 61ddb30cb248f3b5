"""Flow: what a user declares, checked at import, and the shape in which the database knows it."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, TypeVar, overload

from pgflow import codec
from pgflow.errors import FlowDefinitionError, HandlerNotFoundError
from pgflow.options import FLOW_OPTIONS, STEP_OPTIONS, checked
from pgflow.slug import MAX_FLOW_CHARACTERS, require_valid

Handler = Callable[..., Any]
Dependency = str | Handler
HandlerT = TypeVar("HandlerT", bound=Handler)

_SHAPE_OPTIONS = {
    "max_attempts": "maxAttempts",
    "base_delay": "baseDelay",
    "timeout": "timeout",
    "start_delay": "startDelay",
}


@dataclass(frozen=True, slots=True)
class Step:
    """A step with one task; ``options`` holds those that were given."""

    slug: str
    handler: Handler
    depends_on: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    kind: ClassVar[str] = "single"


@dataclass(frozen=True, slots=True)
class MapStep(Step):
    """A step with one task for each element of its dependency's output, or of the run's input."""

    kind: ClassVar[str] = "map"


class Flow:
    """A DAG of steps.

    ``slug`` names the flow and its queue: at most 47 letters, digits and ``_``. ``max_attempts`` is the total number
    of attempts of a task (0 and 1 both mean no retry; the database's default is 3), ``base_delay`` the seconds
    that are doubled with each attempt (5), ``timeout`` the whole seconds a task may run (60).

    Raises FlowDefinitionError, here and in the decorators, for whatever is declared wrong.
    """

    def __init__(self, slug: str, **options: int | None) -> None:
        self.slug = require_valid(slug, "Flow", limit=MAX_FLOW_CHARACTERS)
        self.options = checked(f"Flow {slug!r}", options, FLOW_OPTIONS)
        self._steps: dict[str, Step] = {}

    def __repr__(self) -> str:
        return f"<Flow {self.slug}: {', '.join(self._steps) or 'no steps'}>"

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps in the order of their definition; dependencies come before their dependents."""
        return tuple(self._steps.values())

    @overload
    def step(self, handler: HandlerT, /) -> HandlerT: ...

    @overload
    def step(
        self,
        handler: None = None,
        /,
        *,
        slug: str | None = None,
        depends_on: Dependency | Sequence[Dependency] = (),
        **options: Any,
    ) -> Callable[[HandlerT], HandlerT]: ...

    def step(
        self,
        handler: HandlerT | None = None,
        /,
        *,
        slug: str | None = None,
        depends_on: Dependency | Sequence[Dependency] = (),
        **options: Any,
    ) -> HandlerT | Callable[[HandlerT], HandlerT]:
        """Declare a step; the function comes back unchanged.

        Without dependencies its input is the run's, else their outputs by step slug. ``depends_on`` takes functions
        or slugs. Options: max_attempts, base_delay, timeout, start_delay (whole numbers, seconds), if_, if_not
        (patterns), when_unmet, when_exhausted ("fail", "skip", "skip-cascade").
        """
        dependencies = [depends_on] if isinstance(depends_on, str) or callable(depends_on) else list(depends_on)

        def declare(function: HandlerT) -> HandlerT:
            self._add(Step, function, slug, dependencies, options)
            return function

        return declare if handler is None else declare(handler)

    @overload
    def map(self, handler: HandlerT, /) -> HandlerT: ...

    @overload
    def map(
        self,
        handler: None = None,
        /,
        *,
        over: Dependency | None = None,
        slug: str | None = None,
        **options: Any,
    ) -> Callable[[HandlerT], HandlerT]: ...

    def map(
        self,
        handler: HandlerT | None = None,
        /,
        *,
        over: Dependency | None = None,
        slug: str | None = None,
        **options: Any,
    ) -> HandlerT | Callable[[HandlerT], HandlerT]:
        """Declare a map step: one task for each element of ``over``'s output, or of the run's input, which must
        then be an array. Options as for ``step``."""

        def declare(function: HandlerT) -> HandlerT:
            self._add(MapStep, function, slug, self._mapped(over, options), options)
            return function

        return declare if handler is None else declare(handler)

    def handler(self, step_slug: str) -> Handler:
        """The step's handler. Raises HandlerNotFoundError."""
        try:
            return self._steps[step_slug].handler
        except KeyError:
            raise HandlerNotFoundError(step_slug=step_slug) from None

    def timeout_of(self, step_slug: str) -> int | None:
        """The seconds that a step's task may run: the step's own, else the flow's, else None."""
        step = self._steps.get(step_slug)
        own: int | None = step.options.get("timeout") if step is not None else None
        return own or self.options.get("timeout")

    def shape(self) -> dict[str, Any]:
        """The contract's shape JSON, by which the database compiles the flow and compares it."""
        return {
            "steps": [_step_shape(step) for step in self.steps],
            "options": _shape_options(self.options),
        }

    def sql(self) -> str:
        """The statements that define the flow in a database."""
        statements = [_call("create_flow", [_text(self.slug)], self.options)]
        for step in self.steps:
            positional = [_text(self.slug), _text(step.slug)]
            if step.depends_on:
                positional.append(f"ARRAY[{', '.join(_text(slug) for slug in step.depends_on)}]")
            kind = {"step_type": "map"} if step.kind == "map" else {}
            statements.append(_call("add_step", positional, {**step.options, **kind}))
        return "\n".join(statements) + "\n"

    def _add(
        self,
        kind: type[Step],
        handler: Handler,
        slug: str | None,
        dependencies: Sequence[Dependency],
        options: Mapping[str, Any],
    ) -> None:
        _require_handler(handler, self.slug)
        name = require_valid(slug if slug is not None else getattr(handler, "__name__", None), "Step")
        owner = f"Step {self.slug}.{name}"
        if name in self._steps:
            raise FlowDefinitionError(message=f"{owner} is defined twice: give one of them another slug=")
        extra = ("slug", "over") if kind is MapStep else ("slug", "depends_on")
        given = checked(owner, options, STEP_OPTIONS, also=extra)
        slugs = [self._slug_of(dependency, owner, name) for dependency in dependencies]
        if repeated := sorted({slug for slug in slugs if slugs.count(slug) > 1}):
            raise FlowDefinitionError(message=f"{owner} depends on {repeated[0]!r} twice: name it once")
        self._steps[name] = kind(name, handler, tuple(slugs), given)

    def _mapped(self, over: Dependency | None, options: Mapping[str, Any]) -> list[Dependency]:
        if "depends_on" in options:
            raise FlowDefinitionError(
                message=f"A map step of flow {self.slug!r} takes over= instead of depends_on=: one dependency"
            )
        if over is None:
            return []
        if not isinstance(over, str) and not callable(over):
            raise FlowDefinitionError(
                message=f"over= takes one step of flow {self.slug!r}, a function or a slug, got {over!r}: "
                "to map several, let a step join them first"
            )
        return [over]

    def _slug_of(self, dependency: object, owner: str, own_slug: str) -> str:
        if isinstance(dependency, str):
            slug = dependency
            if slug == own_slug:
                raise FlowDefinitionError(message=f"{owner} depends on itself: a flow has no cycles")
            if slug not in self._steps:
                close = difflib.get_close_matches(slug, self._steps, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"define it before {own_slug!r}"
                raise FlowDefinitionError(message=f"{owner} depends on the unknown step {slug!r}: {hint}")
            return slug
        slugs = [step.slug for step in self.steps if step.handler is dependency]
        if not slugs:
            name = getattr(dependency, "__name__", repr(dependency))
            raise FlowDefinitionError(
                message=f"{owner} depends on {name}, which is no step of flow {self.slug!r}: "
                f"declare it with @flow.step or @flow.map before {own_slug!r}"
            )
        if len(slugs) > 1:
            raise FlowDefinitionError(
                message=f"{owner} depends on a function that is {' and '.join(map(repr, slugs))}: name the slug"
            )
        return slugs[0]


@lru_cache(maxsize=1024)
def takes_context(handler: Handler) -> bool:
    """Whether a handler is called with the context too: it has a second positional parameter without default."""
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):  # some builtins have none
        return False
    return len([p for p in parameters if p.kind in _POSITIONAL and p.default is p.empty]) > 1


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _require_handler(handler: object, flow_slug: str) -> None:
    if not callable(handler):
        raise FlowDefinitionError(
            message=f"A step of flow {flow_slug!r} must be a function, got {handler!r}: options are given by keyword"
        )
    name = getattr(handler, "__name__", repr(handler))
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise FlowDefinitionError(message=f"Handler {name} is a generator: return a list instead of yielding")
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return
    for arguments in (("input",), ("input", "ctx")):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return
    raise FlowDefinitionError(message=f"Handler {name}{signature} cannot be called: it must take (input) or (input, ctx)")


def _step_shape(step: Step) -> dict[str, Any]:
    return {
        "slug": step.slug,
        "stepType": step.kind,
        "dependencies": list(step.depends_on),
        "whenUnmet": step.options.get("when_unmet", "skip"),
        "whenExhausted": step.options.get("when_exhausted", "fail"),
        "requiredInputPattern": _wrapped(step.options.get("if_")),
        "forbiddenInputPattern": _wrapped(step.options.get("if_not")),
        "options": _shape_options(step.options),
    }


def _wrapped(pattern: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"defined": False} if pattern is None else {"defined": True, "value": pattern}


def _shape_options(options: Mapping[str, Any]) -> dict[str, int]:
    return {_SHAPE_OPTIONS[name]: value for name, value in options.items() if name in _SHAPE_OPTIONS}


_SQL_OPTIONS = {"if_": "required_input_pattern", "if_not": "forbidden_input_pattern"}


def _call(function: str, positional: Sequence[str], options: Mapping[str, Any]) -> str:
    named = [f"{_SQL_OPTIONS.get(name, name)} => {_literal(value)}" for name, value in options.items()]
    return f"SELECT pgflow.{function}({', '.join([*positional, *named])});"


def _literal(value: Any) -> str:
    return str(value) if isinstance(value, int) else _text(value if isinstance(value, str) else codec.encode(value))


def _text(value: str) -> str:
    quoted = "'" + value.replace("'", "''") + "'"
    # With a backslash, only the E form means the same whatever standard_conforming_strings says.
    return "E" + quoted.replace("\\", "\\\\") if "\\" in value else quoted
