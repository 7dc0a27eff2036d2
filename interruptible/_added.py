"""Handlers that a user adds to an agent: what comes in is checked, and none locks it for ever."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from restate import InvocationRetryPolicy, TerminalError, VirtualObject
from restate.handler import Handler
from restate.serde import DefaultSerde, Serde
from typing_extensions import NotRequired, Required, get_type_hints, is_typeddict

from interruptible._types import Malformed, brief, parse

Method = Callable[..., Awaitable[Any]]

RETRY_POLICY: Final = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=100),
    exponentiation_factor=2.0,
    max_interval=timedelta(seconds=1.5),
    max_attempts=10,
    on_max_attempts="kill",
)
"""An exclusive handler that fails otherwise than with a `TerminalError` holds the session's lock
while it is tried again: for about ten seconds. Then it is killed, and the session goes on."""


_ADDED: Final = "_interruptible_added"


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
        options.setdefault("invocation_retry_policy", RETRY_POLICY)

    @functools.wraps(method)
    async def handle(ctx: Any, *body: Any) -> Any:
        for x in body:
            if isinstance(x, Malformed):
                raise TerminalError(x.reason, 400)
        return await method(ctx, *body)

    function = to.handler(name=name, **options)(handle)
    added = to.handlers[name]
    setattr(function, _ADDED, added)
    if "input_serde" not in options:
        annotation = [*inspect.signature(method, eval_str=True).parameters.values()][-1].annotation
        added.handler_io.input_serde = _Checked(added.handler_io.input_serde, annotation)
    return function


def check(body: Any, wanted: Any) -> None:
    """Refuse a body that is no JSON, or of another type."""
    reason = (
        body.reason if isinstance(body, Malformed) else next(_misfits("body", body, wanted), None)
    )
    if reason is not None:
        raise TerminalError(reason, 400)


class _Checked(Serde[Any]):
    # An error raised while the SDK reads the input would become a 500: the handler raises it.
    def __init__(self, serde: Serde[Any], annotation: Any) -> None:
        self._serde, self._annotation = serde, annotation

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
        wrong = next(_misfits("body", value, self._annotation), None)
        return value if wrong is None else Malformed(wrong)

    def serialize(self, obj: Any) -> bytes:
        return self._serde.serialize(obj)


_KINDS: Final[Mapping[Any, tuple[str, Any]]] = {
    None: ("null", type(None)),
    type(None): ("null", type(None)),
    str: ("text", str),
    int: ("a whole number", int),
    float: ("a number", (int, float)),
    bool: ("true or false", bool),
    list: ("a list", list),
    tuple: ("a list", list),
    Sequence: ("a list", list),
}
"""What is a type of JSON: how callers call it, and what Python reads it as."""


def _misfits(name: str, value: Any, wanted: Any) -> Iterator[str]:
    """Why JSON is not of a type, for each place at which it is not.

    What is no type of JSON, such as a dataclass, is for whoever makes it of the JSON to check.
    """
    kind: Any = get_origin(wanted) or wanted
    args = get_args(wanted)
    if kind in (Annotated, NotRequired, Required):
        yield from _misfits(name, value, args[0])
    elif kind in (Union, UnionType):
        found = [next(_misfits(name, value, each), None) for each in args]
        if None not in found:
            yield _must_be(name, value, wanted)
    elif not _is(value, kind, args):
        yield _must_be(name, value, wanted)
    elif is_typeddict(kind):
        yield from _fields(name, value, kind)
    elif _is_object(kind) and len(args) == 2:  # noqa: PLR2004
        for key, item in value.items():
            yield from _misfits(f"{name}[{brief(key)}]", item, args[1])
    elif kind in (list, Sequence) and args:
        for index, item in enumerate(value):
            yield from _misfits(f"{name}[{index}]", item, args[0])


def _fields(name: str, value: Mapping[str, Any], wanted: Any) -> Iterator[str]:
    prefix = "" if name == "body" else f"{name}."
    for key, hint in get_type_hints(wanted, include_extras=True).items():
        origin: Any = get_origin(hint)
        if key in value:
            yield from _misfits(f"{prefix}{key}", value[key], hint)
        elif origin is Required or (key in wanted.__required_keys__ and origin is not NotRequired):
            yield f"{prefix}{key}: is missing."


def _is(value: Any, kind: Any, args: tuple[Any, ...]) -> bool:
    if kind is Literal:
        return any(type(x) is type(value) and x == value for x in args)
    if _is_object(kind):
        return isinstance(value, dict)
    if kind in _KINDS:
        return isinstance(value, _KINDS[kind][1]) and (kind is bool or not isinstance(value, bool))
    anything = not inspect.isclass(kind) or kind in (Any, object, inspect.Parameter.empty)
    return anything or value is not None


def _must_be(name: str, value: Any, wanted: Any) -> str:
    return f"{name}: must be {_called(wanted)}, not {brief(value)}."


def _called(wanted: Any) -> str:
    kind, args = get_origin(wanted) or wanted, get_args(wanted)
    if kind in (Union, UnionType):
        return " or ".join(_called(each) for each in args)
    if kind is Literal:
        return " or ".join(brief(each) for each in args)
    if _is_object(kind):
        return "a JSON object"
    return _KINDS[kind][0] if kind in _KINDS else inspect.formatannotation(wanted)


def _is_object(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, Mapping)
