"""What goes to the handlers of a stream, and what they answer."""

from collections.abc import Container
from typing import Annotated, Any, Final, get_args

from typing_extensions import NotRequired, Required, TypedDict, get_type_hints

from interruptible._stream.deltas import Told
from interruptible._stream.events import Event
from interruptible._wire.checks import Refusal
from interruptible._wire.rule import Rule, within
from interruptible._wire.shapes import shape
from interruptible._wire.text import brief
from interruptible._wire.types import Count, TurnNumber

MOST_WAIT: Final = 30.0
"""Seconds that `pull` waits for something new, unless it is asked for less."""


class PullIn(TypedDict, total=False):
    """What `pull` takes."""

    offset: Annotated[
        int,
        within(0),
        Rule({"description": "The id of the last event that is known; by default the newest's."}),
    ]
    wait: Annotated[
        float,
        Rule(
            {
                "description": "Seconds to wait for something new.",
                "minimum": 0,
                "maximum": MOST_WAIT,
            },
            lambda x: None if 0 <= x <= MOST_WAIT else f"must be 0 to {MOST_WAIT:g}.",
        ),
    ]


class Pulled(TypedDict):
    """The answer to `pull`: events, and the offset to go on from; none if nothing new came."""

    messages: list[dict[str, Any]]
    nextOffset: Count


class SaidIn(TypedDict):
    """One event of what is published."""

    event: dict[str, Any]
    after: Count
    step: NotRequired[int | None]


class PublishIn(TypedDict, total=False):
    """What `publish` takes: what one attempt at a turn says."""

    key: Required[str]
    voice: Required[str]
    seq: Required[TurnNumber]
    events: Required[list[SaidIn]]
    gap: bool


class Published(TypedDict):
    """The answer to `publish`: how many of the events were taken; the rest is to come again."""

    taken: Count


class SubscribeIn(TypedDict):
    """What `subscribe` takes: an awakeable, and what it waits to be more than; `None`: no more."""

    id: str
    offset: NotRequired[Count | None]


class BeginIn(TypedDict):
    """What a task tells as its turn begins: the key that publishes for it."""

    turn: TurnNumber
    key: str


class TellIn(TypedDict):
    """What a task tells of its turn; `anew`, if these are all its events."""

    turn: TurnNumber
    events: list[dict[str, Any]]
    anew: NotRequired[bool]


class EndIn(TypedDict):
    """What the agent's object tells when a turn is on record."""

    turn: TurnNumber
    status: str
    messages: Count


class WordsIn(TypedDict):
    """What a task asks of its turn, and the steps whose words do not count: they have ended."""

    turn: TurnNumber
    ended: NotRequired[list[Count]]


# -- Events. ---------------------------------------------------------------------------------------

_SHAPES: Final = {
    kind: shape(x) for x in get_args(Event) for kind in get_args(get_type_hints(x)["type"])
}
"""What the library's own events have to be, by their types; one of a turn is told as it ends."""
_SAID: Final = ("text", "reasoning", "output", "tool")
"""Those of them that are published from outside."""


def told_in(given: dict[str, Any]) -> Told:
    """An event that is told, if the rules can work on it.

    Raises:
        Refusal: 400; it is none.
    """
    return _event(given, _SHAPES)


def said_in(given: dict[str, Any]) -> Told:
    """The same of an event that is published from outside.

    Raises:
        Refusal: 400; it is none, or is one that only tasks tell.
    """
    return _event(given, _SAID)


def _event(given: dict[str, Any], allowed: Container[str]) -> Told:
    kind: Any = given.get("type")
    fits = isinstance(kind, str) and not {"id", "turn"} & given.keys()
    if fits and kind in _SHAPES:
        whole = {**given, "id": 0, "turn": 0}
        fits = kind in allowed and _SHAPES[kind].misfit("event", whole) is None
    if not fits:
        raise Refusal(f"events: {brief(given)} is no event that can be told here.")
    return given
