"""How a task ended: what it reports, and how others learn of it.

The outcome of the task's invocation is the outcome of the turn. Success has it as its value,
failure in the metadata of its error, and Restate hands both to whoever attaches.
"""

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

import restate
from restate import Context, RestateDurableFuture, TerminalError

from interruptible._cancel.watch import seal, unseal
from interruptible._wire import told as _told
from interruptible._wire.checks import Refusal
from interruptible._wire.native import neutral
from interruptible._wire.text import mend
from interruptible._wire.types import Outcome, Settlement, TaskOutcome, Turn

OUTCOME: Final = "outcome"
"""The key of the outcome in the metadata of the error that a task ends with."""


class Ending(NamedTuple):
    """How a task ended, as whoever attached to it learns it."""

    outcome: TaskOutcome
    reported: bool
    """Whether the task said so itself; then it has sent `settle`, too."""
    gone: bool = False
    """Whether Restate knows the invocation no more."""


async def ending(ctx: Context, turn: int, task: RestateDurableFuture[Any]) -> Ending:
    """Wait until an attached task has ended, and read its outcome from its result.

    Raises:
        TerminalError: The invocation that waits was cancelled.
    """
    await restate.wait_completed(task)
    try:
        return _reported(turn, await task)
    except TerminalError as error:
        sealed = (error.metadata or {}).get(OUTCOME)
        if sealed is not None:
            return _reported(turn, json.loads(await unseal(ctx, sealed)))
        gone = error.status_code == 404  # noqa: PLR2004
        if gone or (error.status_code, error.message) == (409, "killed"):
            outcome: TaskOutcome = {"turn": turn, "status": "killed", "messages": []}
        else:
            outcome = {"turn": turn, "status": "failed", "messages": [], "error": error.message}
        return Ending(outcome, reported=False, gone=gone)


def _reported(turn: int, told: Any) -> Ending:
    """What a task said itself; one that the object cannot take has failed by that."""
    try:
        return Ending(_told.outcome(told), reported=True)
    except Refusal as refusal:
        why = f"What the task reported cannot be kept: {refusal.reason}"
        outcome: TaskOutcome = {"turn": turn, "status": "failed", "messages": [], "error": why}
        return Ending(outcome, reported=False)


def attach_to(error: TerminalError, ctx: Context, outcome: TaskOutcome) -> None:
    """Make the error that a task ends with carry its outcome."""
    sealed = seal(ctx, json.dumps(outcome).encode())
    error.metadata = {**(error.metadata or {}), OUTCOME: sealed}


def not_ours(error: TerminalError) -> TerminalError:
    """The error that a task fails with, as Restate can take it.

    It is told apart from a cancellation of its own: Restate's tools show any invocation that ends
    with this status and text as cancelled.
    """
    mend(error)
    if error.status_code != 409 or error.message not in ("cancelled", "canceled", "killed"):  # noqa: PLR2004
        return error
    return TerminalError(f"What the task called was {error.message}.", 500, error.metadata)


def settle(
    ctx: Context, agent: str, session: str, outcome: TaskOutcome, ended: Sequence[int] = ()
) -> None:
    """Tell the object a turn's outcome, one-way; `ended` are turns that were seen to end."""
    settlement: Settlement = {"outcome": outcome, "ended": list(ended)}
    ctx.generic_send(agent, "settle", json.dumps(settlement).encode(), key=session)


def plain(outcome: TaskOutcome | Turn) -> Outcome:
    """The outcome without what only the object, its tasks or the record need to know."""
    names = Outcome.__annotations__
    known = {name: value for name, value in neutral(outcome).items() if name in names}
    return cast("Outcome", known)
