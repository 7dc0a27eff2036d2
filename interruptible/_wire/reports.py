"""What tasks, and handlers of the object, tell the object; checked as what callers send is.

Another service may call these handlers too, and a task may be of another version. A body that the
handler could not work on would fail it again and again, while it holds the session's lock: so it is
refused. What is not known here passes, as a newer version may have added it.
"""

from typing import Any, Final

from typing_extensions import NotRequired, TypedDict

from interruptible._wire.checks import Body
from interruptible._wire.types import Count, TaskOutcome, Turn, TurnNumber


class OneTurn(TypedDict):
    """What `recover` and `get_cause` are told."""

    turn: TurnNumber


class SomeTurns(TypedDict):
    """What `give_up` is told."""

    turns: list[TurnNumber]


class Taking(TypedDict):
    """What a task tells `take`, which asks for steered messages."""

    turn: TurnNumber
    waited: bool
    begins: bool


class Loading(TypedDict):
    """What a task may tell `load`, which gives it the turns before its own."""

    before: NotRequired[TurnNumber]
    """It has this one, and all after it."""
    after: NotRequired[TurnNumber]
    """It has all before this one."""
    most: NotRequired[Count]
    """How many bytes of them it wants, if not all."""
    room: NotRequired[Count]
    """How many it can have at most."""


class Quiet(TypedDict):
    """What a task tells `quiet`, which says whether something came in its quiet window."""

    turn: TurnNumber
    seen: Count
    """The newest message that it knew of when that began."""


class Asking(TypedDict):
    """What a task tells `ask_approval`."""

    turn: TurnNumber
    number: Count
    """Its number among the approvals of its turn, from 1 on."""
    title: str
    value: NotRequired[Any]
    within: NotRequired[Count]
    """How long it waits, in milliseconds."""


class Closing(TypedDict):
    """What a task tells `close_approval`, which says whether that was answered."""

    turn: TurnNumber
    number: Count


Copy = TypedDict(
    "Copy",
    {
        "next": TurnNumber,
        "turns": list[Turn],
        "from": tuple[str, Count],
        "messages": NotRequired[Count],
    },
)
"""What `adopt` is told: what a new session begins with, and the last turn it is copied from."""

OUTCOME_IN: Final = Body(TaskOutcome)
"""What a task ends with, as `settle` would take it."""
