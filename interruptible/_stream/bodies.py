"""What goes to the handlers of a stream, and what they answer."""

from typing import Annotated, Any, Final

from typing_extensions import NotRequired, Required, TypedDict

from interruptible._wire.checks import Body
from interruptible._wire.types import Count, Rule, TurnNumber, within

WAIT: Final = 30.0
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
            {"description": "Seconds to wait for something new.", "minimum": 0, "maximum": WAIT},
            lambda x: None if 0 <= x <= WAIT else f"must be 0 to {WAIT:g}.",
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


PULL_IN: Final = Body(PullIn, 'an offset: {"offset": 0}')
PUBLISH_IN: Final = Body(PublishIn)
SUBSCRIBE_IN: Final = Body(SubscribeIn)
BEGIN_IN: Final = Body(BeginIn)
TELL_IN: Final = Body(TellIn)
END_IN: Final = Body(EndIn)
WORDS_IN: Final = Body(WordsIn)
