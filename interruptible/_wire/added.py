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

from interruptible._wire.text import sayable
from interruptible._wire.types import Malformed, brief, parse

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
        with sayable():
            return await method(ctx, *body)

    try:
        signature = inspect.signature(method, eval_str=True)
        taken = [schema(x.annotation) for x in signature.parameters.values()][1:]
        given = schema(signature.return_annotation)
    except NameError as error:
        raise TypeError(
            f"The annotations of {method.__qualname__} cannot be read: {error}. Import what they "
            "name also when the program runs, not for type checkers alone."
        ) from error
    function = to.handler(name=name, **options)(handle)
    added = to.handlers[name]
    setattr(function, _ADDED, added)
    io = added.handler_io
    if taken and "input_serde" not in options:
        annotation = [*signature.parameters.values()][-1].annotation
        io.input_serde = _Checked(io.input_serde, annotation)
        describe(io.input_type, taken[0], instead=False)
    elif not taken:
        describe(io.input_type, None)
    if "output_serde" not in options and signature.return_annotation is not signature.empty:
        describe(io.output_type, given, instead=False)
    return function


def describe(hint: Any, wanted: Any, *, instead: bool = True) -> None:
    """Make Restate show a JSON schema, or none, of what a handler takes or gives.

    Args:
        hint: What the SDK knows of it.
        wanted: The schema. Where there is one, Restate refuses an empty body that is said to be
            JSON; where there is none, it takes that, too.
        instead: Also if the SDK has one, of a library for models.
    """
    if hint is None or (hint.is_void and wanted):
        return
    hint.is_void = False
    if instead or hint.generate_json_schema is None:
        hint.annotation = dict if wanted else None
        hint.generate_json_schema = lambda: wanted


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


_KINDS: Final[Mapping[Any, tuple[str, Any, str]]] = {
    None: ("null", type(None), "null"),
    type(None): ("null", type(None), "null"),
    str: ("text", str, "string"),
    int: ("a whole number", int, "integer"),
    float: ("a number", (int, float), "number"),
    bool: ("true or false", bool, "boolean"),
    list: ("a list", list, "array"),
    tuple: ("a list", list, "array"),
    Sequence: ("a list", list, "array"),
}
"""What is a type of JSON: how callers call it, what Python reads it as, how schemas call it."""


def schema(wanted: Any, within: tuple[Any, ...] = ()) -> dict[str, Any]:
    """The JSON schema of what is of a type.

    It says what is checked. Of what is no type of JSON it says nothing.

    Args:
        wanted: The type.
        within: The types that it is part of; for one that has itself as a part.
    """
    kind: Any = get_origin(wanted) or wanted
    args = get_args(wanted)
    if kind in (Annotated, NotRequired, Required):
        return schema(args[0], within)
    if kind in (Union, UnionType):
        return _any_of([schema(each, within) for each in args])
    if kind is Literal:
        return {"enum": list(args)}
    if is_typeddict(kind):
        return _typed(kind, within)
    made: dict[str, Any] = {"type": _KINDS[kind][2]} if kind in _KINDS else {}
    if _is_object(kind):
        values = schema(args[1], within) if len(args) == 2 else {}  # noqa: PLR2004
        made = {"type": "object", "additionalProperties": values or True}
    elif kind in (list, Sequence) and args:
        made["items"] = schema(args[0], within)
    return made


def _any_of(each: list[dict[str, Any]]) -> dict[str, Any]:
    if {} in each:
        return {}
    if all(x.keys() == {"type"} for x in each):
        return {"type": [x["type"] for x in each]}
    return {"anyOf": each}


def _typed(kind: Any, within: tuple[Any, ...]) -> dict[str, Any]:
    if kind in within:
        return {"type": "object"}
    hints = _hints(kind)
    return {
        "title": kind.__name__,
        "type": "object",
        "properties": {key: schema(hint, (*within, kind)) for key, hint in hints.items()},
        "required": [key for key, hint in hints.items() if _is_required(kind, key, hint)],
    }


@functools.cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _is_required(kind: Any, key: str, hint: Any) -> bool:
    origin: Any = get_origin(hint)
    return origin is Required or (key in kind.__required_keys__ and origin is not NotRequired)


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
    elif _is_object(kind) and len(args) == 2 and args[1] is not Any:  # noqa: PLR2004
        for key, item in value.items():
            yield from _misfits(f"{name}[{brief(key)}]", item, args[1])
    elif kind in (list, Sequence) and args:
        for index, item in enumerate(value):
            yield from _misfits(f"{name}[{index}]", item, args[0])


def _fields(name: str, value: Mapping[str, Any], wanted: Any) -> Iterator[str]:
    prefix = "" if name == "body" else f"{name}."
    for key, hint in _hints(wanted).items():
        if key in value:
            yield from _misfits(f"{prefix}{key}", value[key], hint)
        elif _is_required(wanted, key, hint):
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
