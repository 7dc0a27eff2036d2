"""Handlers that a user adds to an agent: what comes in is checked, and none locks it for ever."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final, Literal, TypeVar

from restate import InvocationRetryPolicy, VirtualObject
from restate.handler import Handler
from restate.serde import DefaultSerde, Serde

from interruptible._wire.checks import Malformed, Refusal, parse
from interruptible._wire.shapes import Shape, shape
from interruptible._wire.text import sayable

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
Method = Callable[..., Awaitable[Any]]
MakeSchema = Callable[[], Any]

_MARK: Final = "_interruptible_handler"
_ADDED: Final = "_interruptible_added"

LOCK_RETRY_POLICY: Final = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=100),
    exponentiation_factor=2.0,
    max_interval=timedelta(seconds=1.5),
    max_attempts=10,
    on_max_attempts="kill",
)
"""An exclusive handler that fails otherwise than with a `TerminalError` holds the session's lock
while it is tried again: for about ten seconds. Then it is killed, and the session goes on."""


def handler(
    name: str | None = None,
    *,
    kind: Literal["exclusive", "shared"] = "exclusive",
    **options: Any,
) -> Callable[[F], F]:
    """Add a method of an `Agent` to its object as one more Restate handler.

    A body that is no JSON, or not of the type that the method says it takes, is refused with a 400,
    unless there is an `input_serde`. An exclusive handler that keeps failing is killed after about
    ten seconds, so that it does not hold the session's lock for ever; `invocation_retry_policy`
    sets it otherwise.

    Args:
        name: The handler's name; by default the method's.
        kind: Exclusive handlers of a session run one at a time, shared ones side by side.
        options: Those of `restate.VirtualObject.handler`.

    Raises:
        TypeError: It was written without brackets.
        ValueError: There is no such kind.
    """
    if callable(name):
        msg = "`@handler` was written without brackets. Write `@handler()`."
        raise TypeError(msg)
    if kind not in ("exclusive", "shared"):
        msg = f'There is no kind {kind!r} of handler. Choose "exclusive" or "shared".'
        raise ValueError(msg)

    def decorate(method: F) -> F:
        setattr(method, _MARK, (name, {"kind": kind, **options}))
        return method

    return decorate


def marked(cls: type[Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """The methods of a class that are handlers: the name that Restate knows, and the options."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for parent in reversed(cls.__mro__):
        for method, x in vars(parent).items():
            if hasattr(x, _MARK):
                name, options = getattr(x, _MARK)
                found[method] = (name or method, options)
    return found


def added_to(agent: str, function: Any) -> Handler[Any, Any] | None:
    """The handler that a function is of the agent of this name, if it is one."""
    found: Handler[Any, Any] | None = getattr(function, _ADDED, None)
    return found if found is not None and found.service_tag.name == agent else None


def add(to: VirtualObject, name: str, method: Method, options: Mapping[str, Any]) -> Method:
    """Add a handler to an object.

    Args:
        to: The object.
        name: The handler's name.
        method: The method of the agent, bound.
        options: Those of `VirtualObject.handler`. Without an `input_serde` the body is checked
            against the annotation; without an `invocation_retry_policy`, an exclusive one has ours.
    """
    options = dict(options)
    if options["kind"] == "exclusive":
        options.setdefault("invocation_retry_policy", LOCK_RETRY_POLICY)

    @functools.wraps(method)
    async def handle(ctx: Any, *body: Any) -> Any:
        for x in body:
            if isinstance(x, Malformed):
                raise Refusal(x.reason)
        with sayable():
            return await method(ctx, *body)

    try:
        signature = inspect.signature(method, eval_str=True)
        taken = [shape(x.annotation) for x in signature.parameters.values()][1:]
        given = shape(signature.return_annotation)
    except NameError as error:
        raise TypeError(
            f"The annotations of {method.__qualname__} cannot be read: {error}. Import what they "
            "name also when the program runs, not for type checkers alone."
        ) from error
    function = to.handler(name=name, **options)(handle)
    added = to.handlers[name]
    setattr(function, _ADDED, added)
    io = added.handler_io
    if not taken:
        describe(io.input_type, None)
    elif "input_serde" not in options:
        io.input_serde = _Checked(io.input_serde, taken[0])
        describe(io.input_type, _schema_of(taken[0]), instead=False)
    if "output_serde" not in options and signature.return_annotation is not signature.empty:
        describe(io.output_type, _schema_of(given), instead=False)
    return function


def describe(hint: Any, schema: MakeSchema | None, *, instead: bool = True) -> None:
    """Make Restate show a JSON schema, or none, of what a handler takes or gives.

    Args:
        hint: What the SDK knows of it.
        schema: Makes the schema. Where there is one, Restate refuses an empty body that is said to
            be JSON; where there is none, it takes that, too.
        instead: Also if the SDK has one, of a library for models.
    """
    if hint is None or (hint.is_void and schema):
        return
    hint.is_void = False
    if instead or hint.generate_json_schema is None:
        hint.annotation = dict if schema else None
        hint.generate_json_schema = schema


def _schema_of(shape: Shape) -> MakeSchema | None:
    return (lambda: shape.schema) if shape.schema else None


class _Checked(Serde[Any]):
    # An error raised while the SDK reads the input would become a 500: the handler raises it.
    def __init__(self, serde: Serde[Any], shape: Shape) -> None:
        self._serde, self._shape = serde, shape

    def deserialize(self, buf: bytes) -> Any:
        if isinstance(self._serde, DefaultSerde):
            value = parse(buf)
            if isinstance(value, Malformed):
                return Malformed(f"body: is not JSON ({value.reason}).")
        else:
            try:
                value = self._serde.deserialize(buf)
            except Exception as error:  # noqa: BLE001 - whatever a library for models raises
                return Malformed(f"body: {error}")
        wrong = self._shape.misfit("body", value)
        return value if wrong is None else Malformed(wrong)

    def serialize(self, obj: Any) -> bytes:
        return self._serde.serialize(obj)
