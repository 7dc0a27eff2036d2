"""What tasks, and handlers of the object, tell the object; checked as what callers send is.

Another service may call these handlers too, and a task may be of another version. A body that the
handler could not work on would fail it again and again, while it holds the session's lock: so it is
refused. What is not known here passes, as a newer version may have added it.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Any, Final, NamedTuple, cast, get_args

from interruptible._wire.types import (
    MAX_NUMBER,
    Malformed,
    Origin,
    Refusal,
    Settlement,
    TaskOutcome,
    Turn,
    TurnStatus,
    brief,
)

MAX_LEVELS: Final = 256
"""How deep what a turn puts out may be nested: what Python's JSON reads, it cannot always write."""
ENDS: Final = tuple(x for x in get_args(TurnStatus) if x != "running")


class Taking(NamedTuple):
    """What a task asks for that takes steered messages."""

    turn: int
    waited: bool
    begins: bool


class Copy(NamedTuple):
    """What a new session begins with."""

    next: int
    turns: list[Turn]
    origin: Origin


def turn(body: Any) -> int:
    """The body of `recover` and `get_cause`: `{"turn": n}`.

    Raises:
        Refusal: 400 says what is wrong; so do the others here.
    """
    return _number("turn", _fields(body).get("turn"))


def turns(body: Any) -> list[int]:
    """The body of `give_up`: `{"turns": [n, …]}`."""
    return _numbers("turns", _fields(body).get("turns"))


def taking(body: Any) -> Taking:
    """The body of `take`: `{"turn": n, "waited": …, "begins": …}`."""
    fields = _fields(body)
    waited, begins = fields.get("waited"), fields.get("begins")
    if not isinstance(waited, bool) or not isinstance(begins, bool):
        raise Refusal("waited, begins: must be true or false.")
    return Taking(turn(body), waited, begins)


def settlement(body: Any) -> Settlement:
    """The body of `settle`: a turn's outcome, and perhaps the turns that were seen to end."""
    fields = _fields(body)
    ended = _numbers("ended", fields.get("ended", []))
    return {"outcome": _outcome(fields.get("outcome")), "ended": ended}


def outcome(value: Any) -> TaskOutcome:
    """The outcome that a task ends with, as `settle` would take it."""
    _check_values(value)
    return _outcome(value)


def copy(body: Any) -> Copy:
    """The body of `adopt`: the turns of another session, in order, and where they come from."""
    fields = _fields(body)
    copied = [_turn("turns", x, ("input", "messages")) for x in _list("turns", fields.get("turns"))]
    numbers = [0, *(x["turn"] for x in copied), _number("next", fields.get("next"))]
    if any(x >= y for x, y in pairwise(numbers)):
        raise Refusal("turns, next: must be numbers that go up, from 1 on.")
    origin = _list("from", fields.get("from"))
    if len(origin) != 2 or not isinstance(origin[0], str):  # noqa: PLR2004
        raise Refusal("from: must be a session and the last of its turns.")
    session, last = origin[0], _number("from", origin[1])
    return Copy(numbers[-1], cast("list[Turn]", copied), Origin(session, last))


def _outcome(value: Any) -> TaskOutcome:
    told = cast("TaskOutcome", _turn("outcome", value, ("messages",)))
    if not isinstance(told.get("error", ""), str):
        raise Refusal(f"outcome.error: must be text, not {brief(told.get('error'))}.")
    _number("outcome.partial", told.get("partial", 0))
    for pair in _list("outcome.taken", told.get("taken", [])):
        if len(_numbers("outcome.taken", pair)) != 2:  # noqa: PLR2004
            raise Refusal("outcome.taken: must be pairs of a number and a place.")
    return told


def _turn(name: str, value: Any, lists: Sequence[str]) -> dict[str, Any]:
    """What an outcome and the record of a turn have in common."""
    if not isinstance(value, dict):
        raise Refusal(f"{name}: must be an object, not {brief(value)}.")
    fields = cast("dict[str, Any]", value)
    _number(f"{name}.turn", fields.get("turn"))
    if fields.get("status") not in ENDS:
        raise Refusal(f"{name}.status: must be how a turn ends, not {brief(fields.get('status'))}.")
    for messages in lists:
        if not all(isinstance(x, dict) for x in _list(f"{name}.{messages}", fields.get(messages))):
            raise Refusal(f"{name}.{messages}: must be a list of messages.")
    return fields


def _fields(body: Any) -> Mapping[str, Any]:
    if isinstance(body, Malformed):
        raise Refusal(f"body: is not JSON ({body.reason}).")
    if not isinstance(body, dict):
        raise Refusal(f"body: must be a JSON object, not {brief(body)}.")
    _check_values(body)
    return cast("Mapping[str, Any]", body)


def _check_values(value: Any) -> None:
    """Refuse what could not be written again, or not be read; without going as deep as it is."""
    row = [value]
    for _ in range(MAX_LEVELS + 1):
        if any(isinstance(x, float) and not isfinite(x) for x in row):
            raise Refusal("body: has a number that is not finite, which is no JSON.")
        row = [item for x in row for item in _items(x)]
    if row:
        raise Refusal(f"body: is nested more than {MAX_LEVELS} levels deep.")


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(cast("dict[str, Any]", value).values())
    return cast("list[Any]", value) if _is_list(value) else []


def _list(name: str, value: Any) -> list[Any]:
    if not _is_list(value):
        raise Refusal(f"{name}: must be a list, not {brief(value)}.")
    return cast("list[Any]", value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _numbers(name: str, value: Any) -> list[int]:
    return [_number(name, x) for x in _list(name, value)]


def _number(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_NUMBER:
        raise Refusal(f"{name}: must be a whole number, not {brief(value)}.")
    return value
