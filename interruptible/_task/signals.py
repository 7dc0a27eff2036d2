"""What the agent's object tells a task while it waits or works: the names of Restate's signals."""

from typing import Final

STOP: Final = "stop after this step"
"""That it is to end once what is in flight has."""

BEGIN: Final = "begin"
"""What a turn that was queued begins with, as the last turn before it was settled."""


def cancelled_signal(turn: int) -> str:
    """The signal that tells the tasks behind a turn that it was cancelled."""
    return f"turn {turn} is cancelled"


def given_up_signal(turn: int) -> str:
    """The signal that tells the tasks behind a turn that another has waited it out."""
    return f"turn {turn} is given up"


def now_signal(number: int) -> str:
    """The signal of a turn's first, second, … message that it is to read at once."""
    return f"steered now {number}"


def approval_signal(number: int) -> str:
    """The signal that brings a turn the answer to its first, second, … approval."""
    return f"approval {number}"
