"""What tasks, and handlers of the object, tell the object; checked as what callers send is.

Another service may call these handlers too, and a task may be of another version. A body that the
handler could not work on would fail it again and again, while it holds the session's lock: so it is
refused. What is not known here passes, as a newer version may have added it.
"""

from typing import Final

from typing_extensions import TypedDict

from interruptible._wire.checks import Body
from interruptible._wire.types import Count, Settlement, TaskOutcome, Turn, TurnNumber


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


Copy = TypedDict("Copy", {"next": TurnNumber, "turns": list[Turn], "from": tuple[str, Count]})
"""What `adopt` is told: what a new session begins with, and the last turn it is copied from."""

ONE_TURN: Final = Body(OneTurn)
SOME_TURNS: Final = Body(SomeTurns)
TAKING: Final = Body(Taking)
OUTCOME_IN: Final = Body(TaskOutcome)
"""What a task ends with, as `settle` would take it."""
SETTLEMENT: Final = Body(Settlement)
COPY: Final = Body(Copy)
