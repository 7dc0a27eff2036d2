"""What comes over the wire, read and checked against its type; or refused, and why."""

import json
from collections.abc import Sequence
from functools import cached_property
from math import isfinite
from typing import Any, Final, Generic, TypeVar, cast

from restate import TerminalError

from interruptible._wire.shapes import Shape, shape
from interruptible._wire.text import brief
from interruptible._wire.types import MAX_DEPTH

R = TypeVar("R")

MAX_LEVELS: Final = 256
"""How deep what a turn puts out may be nested: what Python's JSON reads, it cannot always write."""


class Refusal(TerminalError):
    """A request that is refused: what is wrong with it, and the HTTP status that says so."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason, status)


class Malformed:
    """A request body that is not JSON."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def parse(body: bytes, *, lenient: bool = False) -> Any:
    """Parse a request body; nothing at all is `None`, and what is not JSON is `Malformed`.

    Args:
        body: The body.
        lenient: NaN and infinities are `None`.
    """
    constant = _no_constant if lenient else _refuse_constant
    try:
        return json.loads(body, parse_constant=constant) if body else None
    except (ValueError, RecursionError) as e:
        return Malformed(str(e))


class Body(Generic[R]):
    """What a handler takes. Called with a body, it gives it back, or raises a `Refusal`.

    What has no field that is needed may also be left out.

    Args:
        kind: The fields of the body.
        example: Where other fields than these are refused: what could be sent instead; "" where
            that is nothing.
    """

    def __init__(self, kind: type[R], example: str | None = None) -> None:
        fields: Any = kind
        self._kind = kind
        self._known = fields.__annotations__.keys()
        self._is_closed = example is not None
        self._may_be_left_out = not fields.__required_keys__
        instead = [x for x in (example, "no body" if self._may_be_left_out else None) if x]
        self._remedy = f" Send {', or '.join(instead)}." if instead else ""

    def __call__(self, body: Any) -> R:
        fields = self._opened(body)
        wrong = self._shape.misfit("body", fields)
        if wrong is not None:
            raise Refusal(wrong)
        return cast("R", fields)

    def _opened(self, body: Any) -> dict[str, Any]:
        """The fields of a body; what is in them is yet to be checked."""
        if body is None and self._may_be_left_out:
            return {}
        if isinstance(body, Malformed):
            raise Refusal(f"body: is not JSON ({body.reason}).{self._remedy}")
        levels = MAX_DEPTH if self._is_closed else MAX_LEVELS
        if not isinstance(body, dict):
            check_values("body", body, levels)
            raise Refusal(f"body: must be a JSON object, not {brief(body)}.{self._remedy}")
        fields = cast("dict[str, Any]", body)
        for name, value in fields.items():
            if self._is_closed and name not in self._known:
                known = ", ".join(sorted(self._known)) or "none"
                raise Refusal(f"{_quoted(name)}: is not a field. Known fields: {known}.")
            check_values(name, value, levels)
        return fields

    def schema(self) -> dict[str, Any] | None:
        """The JSON schema; none where it is nothing, or Restate would refuse an empty body."""
        if not self._known:
            return None
        title = self._kind.__name__.removesuffix("In")
        null = {"type": ["object", "null"]} if self._may_be_left_out else {}
        said = {"title": title, "additionalProperties": False}
        return {**self._shape.schema, **null, **said}

    @cached_property
    def _shape(self) -> Shape:
        return shape(self._kind)


def check_values(name: str, value: Any, levels: int) -> None:
    """Refuse what could not be written again, or not be read; without going as deep as it is."""
    row: Sequence[Any] = [value]
    for _ in range(levels + 1):
        row = [x for x in row if isinstance(x, (float, list, dict))]
        if not row:
            return
        if any(isinstance(x, float) and not isfinite(x) for x in row):
            raise Refusal(f"{_quoted(name)}: has a number that is not finite, which is no JSON.")
        row = [item for x in row for item in _parts(x)]
    raise Refusal(f"{_quoted(name)}: is nested more than {levels} levels deep. Flatten it.")


def _quoted(name: str) -> str:
    return name[:60].encode(errors="backslashreplace").decode()


def _parts(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(cast("dict[str, Any]", value).values())
    return list(cast("Sequence[Any]", value)) if isinstance(value, list) else ()


def _no_constant(_: str) -> None: ...


def _refuse_constant(name: str) -> None:
    msg = f"{name} is not a JSON value"
    raise ValueError(msg)
