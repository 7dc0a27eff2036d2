"""What a type asks of JSON: the one place where types become checks and schemas."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from typing_extensions import NotRequired, Required, get_type_hints, is_typeddict

from interruptible._wire.rule import Rule
from interruptible._wire.text import brief

NO_TEXT: Final = "has half a surrogate pair, which is no text."


class Shape:
    """What a type asks of JSON. It is made once of the type, and then asked about each value.

    Args:
        called: What a value must be, in words.
        schema: What its JSON schema says: what is checked, and nothing of what is no type of JSON.
        holds: Whether a value is of the kind at all.
        inside: What is wrong with one that is of the kind, if anything; each place in it has a
            name.
        remedy: What to do about one that is not.
    """

    def __init__(
        self,
        called: str,
        schema: dict[str, Any],
        holds: Callable[[Any], bool],
        inside: Callable[[str, Any], str | None] = lambda _, __: None,
        remedy: str = "",
    ) -> None:
        self.called = called
        self.schema = schema
        self.holds = holds
        self.inside = inside
        self.remedy = remedy

    def misfit(self, name: str, value: Any) -> str | None:
        """What is wrong with the value of this name, if anything."""
        if self.holds(value):
            return self.inside(name, value)
        return f"{name}: must be {self.called}, not {brief(value)}.{self.remedy}"

    def but(self, schema: dict[str, Any], inside: Callable[[str, Any], str | None]) -> "Shape":
        """The same kind, of which more is asked."""
        return Shape(self.called, schema, self.holds, inside, self.remedy)


def shape(wanted: Any, within: Sequence[Any] = ()) -> Shape:
    """What a type asks of JSON.

    Args:
        wanted: The type. What is no type of JSON, such as a dataclass, is for whoever makes it of
            the JSON to check: anything will do but null.
        within: The types that it is part of; for one that has itself as a part.
    """
    kind: Any = get_origin(wanted) or wanted
    args = get_args(wanted)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in _MADE_OF_OTHERS:
        return _MADE_OF_OTHERS[kind](args, within)
    if is_typeddict(kind):
        return _fields(kind, within)
    if not inspect.isclass(kind):
        return _ANYTHING
    if issubclass(kind, Mapping):
        return _values(args, within)
    return Shape(inspect.formatannotation(wanted), {}, lambda value: value is not None)


def _plain(called: str, name: str, *types: type[Any]) -> Shape:
    # A bool is an int in Python, but not in JSON.
    return Shape(called, {"type": name}, lambda value: type(value) in types)


_LIST: Final = _plain("a list", "array", list)
_OBJECT: Final = _plain("a JSON object", "object", dict)
_ANYTHING: Final = Shape("anything", {}, lambda _: True)
_PLAIN: Final[Mapping[Any, Shape]] = {
    Any: _ANYTHING,
    object: _ANYTHING,
    inspect.Parameter.empty: _ANYTHING,
    None: _plain("null", "null", type(None)),
    type(None): _plain("null", "null", type(None)),
    str: _plain("text", "string", str),
    int: _plain("a whole number", "integer", int),
    float: _plain("a number", "number", int, float),
    bool: _plain("true or false", "boolean", bool),
}


def _same(args: Sequence[Any], within: Sequence[Any]) -> Shape:
    return shape(args[0], within)


def _ruled(args: Sequence[Any], within: Sequence[Any]) -> Shape:
    rules = [x for x in args[1:] if isinstance(x, Rule)]
    return functools.reduce(_with_rule, rules, shape(args[0], within))


def _with_rule(base: Shape, rule: Rule) -> Shape:
    remedy = f" {rule.remedy}" if rule.remedy else base.remedy

    def inside(name: str, value: Any) -> str | None:
        found = base.inside(name, value)
        if found is not None or rule.wrong is None:
            return found
        try:
            wrong = rule.wrong(value)
        except UnicodeEncodeError:
            wrong = NO_TEXT
        return None if wrong is None else f"{name}: {wrong}{remedy}"

    schema = {**base.schema, **rule.schema}
    return Shape(rule.called or base.called, schema, base.holds, inside, remedy)


def _any_of(args: Sequence[Any], within: Sequence[Any]) -> Shape:
    each = [shape(x, within) for x in args]
    called = " or ".join(dict.fromkeys(x.called for x in each))

    def inside(name: str, value: Any) -> str | None:
        found = [x.inside(name, value) for x in each if x.holds(value)]
        if None in found:
            return None
        return found[0] if len(found) == 1 else f"{name}: must be {called}, not {brief(value)}."

    schema = _any_schema([x.schema for x in each])
    return Shape(called, schema, lambda value: any(x.holds(value) for x in each), inside)


def _any_schema(each: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if {} in each:
        return {}
    more = [x for x in each if x.keys() != {"type"}]
    if len(more) <= 1 and all("type" in x for x in each):  # what else it says is of that type alone
        return {**(more[0] if more else {}), "type": [x["type"] for x in each]}
    return {"anyOf": each}


def _one_of(values: Sequence[Any], _: Sequence[Any]) -> Shape:
    def holds(value: Any) -> bool:
        return any(type(x) is type(value) and x == value for x in values)

    return Shape(" or ".join(map(brief, values)), {"enum": list(values)}, holds)


def _fields(kind: Any, within: Sequence[Any]) -> Shape:
    if kind in within:
        return _OBJECT.but(_OBJECT.schema, _later(kind))
    hints: dict[str, Any] = get_type_hints(kind, include_extras=True)
    fields = {key: shape(hint, (*within, kind)) for key, hint in hints.items()}
    needed = [key for key, hint in hints.items() if _is_required(kind, key, hint)]

    def inside(name: str, value: Mapping[str, Any]) -> str | None:
        prefix = "" if name == "body" else f"{name}."
        for key, field in fields.items():
            found = None
            if key in value:
                found = field.misfit(prefix + key, value[key])
            elif key in needed:
                found = f"{prefix}{key}: is missing.{field.remedy}"
            if found is not None:
                return found
        return None

    schema = {
        "title": kind.__name__,
        **_OBJECT.schema,
        "properties": {key: field.schema for key, field in fields.items()},
        "required": needed,
    }
    return _OBJECT.but(schema, inside)


def _later(kind: Any) -> Callable[[str, Any], str | None]:
    return lambda name, value: _whole(kind).inside(name, value)


_whole = functools.cache(shape)


def _is_required(kind: Any, key: str, hint: Any) -> bool:
    # Of annotations that are text, `__required_keys__` knows nothing.
    origin: Any = get_origin(hint)
    return origin is Required or (key in kind.__required_keys__ and origin is not NotRequired)


def _values(args: Sequence[Any], within: Sequence[Any]) -> Shape:
    values = shape(args[1], within) if len(args) == 2 else _ANYTHING  # noqa: PLR2004

    def inside(name: str, value: Mapping[str, Any]) -> str | None:
        if values is _ANYTHING:
            return None
        return _first(values.misfit(f"{name}[{brief(key)}]", x) for key, x in value.items())

    schema = {**_OBJECT.schema, "additionalProperties": values.schema or True}
    return _OBJECT.but(schema, inside)


def _items(args: Sequence[Any], within: Sequence[Any]) -> Shape:
    if not args:
        return _LIST
    items = shape(args[0], within)

    def inside(name: str, value: Sequence[Any]) -> str | None:
        return _first(items.misfit(f"{name}[{at}]", x) for at, x in enumerate(value))

    return _LIST.but({**_LIST.schema, "items": items.schema}, inside)


def _places(args: Sequence[Any], within: Sequence[Any]) -> Shape:
    if not args or args[-1] is ...:
        return _items(args, within)
    places = [shape(x, within) for x in args]
    count = len(places)

    def holds(value: Any) -> bool:
        return _LIST.holds(value) and len(value) == count

    def inside(name: str, value: Sequence[Any]) -> str | None:
        return _first(x.misfit(f"{name}[{at}]", value[at]) for at, x in enumerate(places))

    bounds = {"minItems": count, "maxItems": count}
    schema = {**_LIST.schema, "prefixItems": [x.schema for x in places], **bounds}
    return Shape(f"a list of {count}", schema, holds, inside)


def _first(found: Iterable[str | None]) -> str | None:
    return next(filter(None, found), None)


_MADE_OF_OTHERS: Final[Mapping[Any, Callable[[Sequence[Any], Sequence[Any]], Shape]]] = {
    NotRequired: _same,
    Required: _same,
    Annotated: _ruled,
    Union: _any_of,
    UnionType: _any_of,
    Literal: _one_of,
    list: _items,
    Sequence: _items,
    tuple: _places,
}
