"""Flow: what a user declares, checked at import."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Literal, TypeVar, Unpack, overload
from weakref import WeakValueDictionary

from pgflow.errors import FlowDefinitionError, HandlerNotFoundError
from pgflow.options import FLOW_OPTIONS, STEP_OPTIONS, FlowOptions, StepOptions, checked
from pgflow.shape import shape_of, statements_of
from pgflow.slug import MAX_FLOW_CHARACTERS, slug_fault

Handler = Callable[..., Any]
Dependency = str | Handler
HandlerT = TypeVar("HandlerT", bound=Handler)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A step with one task. ``depends_on`` holds slugs, ``options`` those that were given."""

    slug: str
    handler: Handler
    depends_on: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    kind: ClassVar[Literal["single", "map"]] = "single"

    @property
    def records_failures(self) -> bool:
        """Whether a task without attempts left completes with its error as the output."""
        return self.options.get("when_exhausted") == "record"

    @property
    def takes_context(self) -> bool:
        """Whether the handler is called as ``f(input, ctx)``, not ``f(input)``."""
        return takes_context(self.handler)


@dataclass(frozen=True, slots=True, eq=False)
class MapStep(Step):
    """A step with one task for each element of its dependency's output, or of the run's input."""

    kind: ClassVar[Literal["single", "map"]] = "map"


_FLOWS: WeakValueDictionary[str, Flow] = WeakValueDictionary()
"""The flows of this process by what pgmq makes of their slugs."""


class Flow:
    """A DAG of steps, each declared by decorating its handler, ``f(input)`` or ``f(input, ctx)``.

    ``slug`` names the flow and its queue: at most 47 letters, digits and ``_``. Options, which steps
    inherit, with the database's defaults: ``max_attempts``, the total number of attempts of a task (3; 0 and
    1 both mean no retry); ``base_delay``, the whole seconds that are doubled with each attempt (5);
    ``timeout``, the whole seconds a task may run (60).

    Raises FlowDefinitionError, here and in the decorators, for whatever is declared wrong.
    """

    def __init__(self, slug: str, **options: Unpack[FlowOptions]) -> None:
        if fault := slug_fault(slug, limit=MAX_FLOW_CHARACTERS):
            raise FlowDefinitionError(message=f"Flow slug {slug!r} {fault}")
        self.slug = slug
        other = _FLOWS.setdefault(slug.lower(), self)
        if other is not self and other.slug != slug:
            raise FlowDefinitionError(
                message=f"Flow {slug!r} would share its queue with flow {other.slug!r}, since pgmq ignores case: "
                "give one of them another slug"
            )
        self.options: Mapping[str, int] = checked(f"Flow {slug!r}", options, FLOW_OPTIONS)
        """The options that were given."""
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
        depends_on: Dependency | Sequence[Dependency] = (),
        slug: str | None = None,
        **options: Unpack[StepOptions],
    ) -> Callable[[HandlerT], HandlerT]: ...

    def step(
        self,
        handler: HandlerT | None = None,
        /,
        *,
        depends_on: Dependency | Sequence[Dependency] = (),
        slug: str | None = None,
        **options: Unpack[StepOptions],
    ) -> HandlerT | Callable[[HandlerT], HandlerT]:
        """Declare a step; the function comes back unchanged.

        Without dependencies its input is the run's, else their outputs by step slug. ``depends_on`` takes
        steps declared before, as functions or slugs, one or a list. ``slug`` is the function's name unless
        given. Options: the flow's, and ``start_delay`` (whole seconds), ``if_`` and ``if_not`` (JSON objects
        that the input must or must not contain), ``when_unmet`` ("fail", "skip" or "skip-cascade"), and
        ``when_exhausted``: the same, or "record", with which a task whose attempts are spent completes with
        ``{"$error": {"message", "kind", "attempts"}}`` as its output.
        """

        def declare(function: HandlerT) -> HandlerT:
            self._add(Step, function, slug, self._listed(depends_on), options)
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
        **options: Unpack[StepOptions],
    ) -> Callable[[HandlerT], HandlerT]: ...

    def map(
        self,
        handler: HandlerT | None = None,
        /,
        *,
        over: Dependency | None = None,
        slug: str | None = None,
        **options: Unpack[StepOptions],
    ) -> HandlerT | Callable[[HandlerT], HandlerT]:
        """Declare a map step: one task for each element of the output of ``over``, a step declared before, or
        of the run's input, which must then be an array. Slug and options are as for ``step``."""

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
        """The declared seconds that the step's tasks may run: its own, else the flow's, else None."""
        step = self._steps.get(step_slug)
        own: int | None = step.options.get("timeout") if step is not None else None
        return own or self.options.get("timeout")

    def shape(self) -> dict[str, Any]:
        """The contract's shape JSON, by which the database compiles the flow and compares it."""
        return shape_of(self)

    def sql(self) -> str:
        """The statements that define the flow in a database, one a line."""
        return "".join(f"{statement}\n" for statement in statements_of(self))

    def _add(
        self,
        kind: type[Step],
        handler: Handler,
        slug: str | None,
        dependencies: Sequence[Dependency],
        options: Mapping[str, Any],
    ) -> None:
        _require_handler(handler, self.slug)
        name = _step_slug(handler, slug, self.slug)
        owner = f"Step {self.slug}.{name}"
        if name in self._steps:
            raise FlowDefinitionError(message=f"{owner} is declared twice: give one of the two another slug=")
        given = checked(owner, options, STEP_OPTIONS, also=("slug", "over" if kind is MapStep else "depends_on"))
        if any(dependency == handler for dependency in dependencies):
            raise _depends_on_itself(owner)
        slugs = [self._slug_of(dependency, owner, name) for dependency in dependencies]
        if kind is MapStep:
            self._require_elements(slugs, owner)
        if repeated := sorted({slug for slug in slugs if slugs.count(slug) > 1}):
            raise FlowDefinitionError(message=f"{owner} depends on {repeated[0]!r} twice: name it once")
        self._steps[name] = kind(name, handler, tuple(slugs), given)

    def _require_elements(self, slugs: Sequence[str], owner: str) -> None:
        for slug in slugs:
            if self._steps[slug].kind == "single" and self._steps[slug].records_failures:
                raise FlowDefinitionError(
                    message=f"{owner} takes its elements from {slug!r}, whose output may be an error instead of a "
                    f'list: give {slug!r} another when_exhausted= than "record"'
                )

    def _listed(self, depends_on: object) -> list[Dependency]:
        if isinstance(depends_on, str) or callable(depends_on):
            return [depends_on]
        if not isinstance(depends_on, list | tuple):
            raise FlowDefinitionError(
                message=f"depends_on= takes a list of steps of flow {self.slug!r}, functions or slugs, "
                f"got {depends_on!r}"
            )
        return list(depends_on)

    def _mapped(self, over: object, options: Mapping[str, Any]) -> list[Dependency]:
        if "depends_on" in options:
            raise FlowDefinitionError(
                message=f"A map step of flow {self.slug!r} takes over= instead of depends_on=, and one step"
            )
        if over is None:
            return []
        if not isinstance(over, str) and not callable(over):
            raise FlowDefinitionError(
                message=f"over= takes one step of flow {self.slug!r}, a function or a slug, got {over!r}: "
                "to map several, let a step join their outputs first"
            )
        return [over]

    def _slug_of(self, dependency: object, owner: str, own_slug: str) -> str:
        if isinstance(dependency, str):
            return self._known_slug(dependency, owner, own_slug)
        # Not by identity: each access to a bound method makes another object.
        slugs = [step.slug for step in self.steps if step.handler == dependency]
        if not slugs:
            raise FlowDefinitionError(
                message=f"{owner} depends on {_name(dependency)}, which is no step of flow {self.slug!r}: "
                f"declare it with @flow.step or @flow.map before {own_slug!r}"
            )
        if len(slugs) > 1:
            raise FlowDefinitionError(
                message=f"{owner} depends on {_name(dependency)}, which is the handler of several steps: "
                f"name one, {' or '.join(map(repr, slugs))}"
            )
        return slugs[0]

    def _known_slug(self, slug: str, owner: str, own_slug: str) -> str:
        if slug == own_slug:
            raise _depends_on_itself(owner)
        if slug not in self._steps:
            close = difflib.get_close_matches(slug, self._steps, n=1)
            hint = f", or did you mean {close[0]!r}?" if close else ""
            raise FlowDefinitionError(
                message=f"{owner} depends on {slug!r}, which is no step yet: declare it before {own_slug!r} "
                f"(there are no cycles){hint}"
            )
        return slug


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def takes_context(handler: Handler) -> bool:
    """Whether a handler is called with the context: it has a second positional parameter without default."""
    try:
        return _takes_context(handler)
    except TypeError:  # a callable object that cannot be hashed
        return _takes_context.__wrapped__(handler)


@lru_cache(maxsize=1024)
def _takes_context(handler: Handler) -> bool:
    signature = _signature(handler)
    parameters = signature.parameters.values() if signature is not None else ()
    return len([p for p in parameters if p.kind in _POSITIONAL and p.default is p.empty]) > 1


def _signature(handler: Handler) -> inspect.Signature | None:
    try:
        return inspect.signature(handler)
    except (TypeError, ValueError):  # some builtins have none
        return None


def _require_handler(handler: object, flow_slug: str) -> None:
    if not callable(handler):
        raise FlowDefinitionError(
            message=f"A step of flow {flow_slug!r} must be a function, got {handler!r}: give options by "
            "keyword, as in @flow.step(slug=...)"
        )
    owner = f"Handler {_name(handler)} of flow {flow_slug!r}"
    if any(_is_generator(part) for part in (handler, getattr(handler, "__call__", None))):  # noqa: B004
        raise FlowDefinitionError(message=f"{owner} is a generator: return a list instead of yielding")
    signature = _signature(handler)
    arguments = ("input", "ctx") if takes_context(handler) else ("input",)
    try:
        if signature is not None:
            signature.bind(*arguments)
    except TypeError as error:
        raise FlowDefinitionError(
            message=f"{owner} cannot be called, {error}: let it take (input) or (input, ctx), not {signature}"
        ) from None


def _is_generator(handler: object) -> bool:
    return inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler)


def _step_slug(handler: Handler, slug: str | None, flow_slug: str) -> str:
    if slug is not None:
        if fault := slug_fault(slug):
            raise FlowDefinitionError(message=f"Step slug {slug!r} of flow {flow_slug!r} {fault}")
        return slug
    name = getattr(handler, "__name__", None)
    if fault := slug_fault(name):
        reason = f"whose name {fault}" if isinstance(name, str) else "which has no name"
        raise FlowDefinitionError(
            message=f"A step of flow {flow_slug!r} has the handler {_name(handler)}, {reason}: name the step with slug="
        )
    return str(name)


def _name(handler: object) -> str:
    return str(getattr(handler, "__name__", None) or repr(handler))


def _depends_on_itself(owner: str) -> FlowDefinitionError:
    return FlowDefinitionError(message=f"{owner} depends on itself, which is a cycle: name a step declared before it")
