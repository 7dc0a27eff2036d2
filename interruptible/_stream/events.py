"""The events of a session's stream, as whoever follows it gets them."""

from typing import Literal, TypeAlias

from typing_extensions import NotRequired, TypedDict

from interruptible._wire.types import Message, TurnStatus

ToolState: TypeAlias = Literal["begins", "ends", "cut off", "waits"]


class TurnBeginsEvent(TypedDict):
    """A turn is at work."""

    id: int
    turn: int
    type: Literal["turn"]
    state: Literal["begins"]


class TurnEndsEvent(TypedDict):
    """A turn has ended with this status, and all that is live of it is over."""

    id: int
    turn: int
    type: Literal["turn"]
    state: Literal["ends"]
    status: TurnStatus


class TextEvent(TypedDict):
    """The model says this; it goes on where the text before ended."""

    id: int
    turn: int
    type: Literal["text"]
    text: str


class ReasoningEvent(TypedDict):
    """The model thinks this; it goes on where the reasoning before ended."""

    id: int
    turn: int
    type: Literal["reasoning"]
    text: str


class MessageEvent(TypedDict):
    """A message, whole, as the turn has put it out.

    One of the assistant replaces the text and the reasoning before it, a tool's result the output
    of its call.
    """

    id: int
    turn: int
    type: Literal["message"]
    message: Message


class ToolEvent(TypedDict):
    """What becomes of a tool's call: it waits for somebody's yes, begins, ends, or is cut off."""

    id: int
    turn: int
    type: Literal["tool"]
    call: str
    name: str
    state: ToolState


class OutputEvent(TypedDict):
    """This came of a tool's call; it goes on where the output of the call before ended."""

    id: int
    turn: int
    type: Literal["output"]
    call: str
    text: str


class SteeredEvent(TypedDict):
    """The turn has taken a message that a user steered at it: here it stands among its messages."""

    id: int
    turn: int
    type: Literal["steered"]
    message: Message


class ApprovalEvent(TypedDict):
    """A turn waits for an approval, or does not any more: `get_status` has all that wait."""

    id: int
    turn: int
    type: Literal["approval"]
    approval: int
    state: Literal["waits", "over"]
    title: NotRequired[str]


class PendingEvent(TypedDict):
    """What is pending has changed: look at the status."""

    id: int
    turn: int
    type: Literal["pending"]


class DiscardedEvent(TypedDict):
    """These turns are no part of the conversation any more."""

    id: int
    turn: int
    type: Literal["discarded"]
    turns: list[int]


class GapEvent(TypedDict):
    """Something is missing: forget what is live, and read the record.

    What follows is all that there is of the turns that are not on record yet.
    """

    id: int
    turn: int
    type: Literal["gap"]


Event: TypeAlias = (
    TurnBeginsEvent
    | TurnEndsEvent
    | TextEvent
    | ReasoningEvent
    | MessageEvent
    | ToolEvent
    | OutputEvent
    | SteeredEvent
    | ApprovalEvent
    | PendingEvent
    | DiscardedEvent
    | GapEvent
)
"""One entry of a session's stream: `id` grows, and `turn` is whose it is.

What an agent publishes itself, with `task.publish`, comes among these, with a `type` of its own.
"""
