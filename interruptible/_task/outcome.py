"""How a task ended: what it reports, and how others learn of it.

The outcome of the task's invocation is the outcome of the turn. Success has it as its value,
failure in the metadata of its error, and Restate hands both to whoever attaches.
"""

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final, NamedTuple, cast

import restate
from restate import Context, RestateDurableFuture, TerminalError

from interruptible._cancel.ending import terminal
from interruptible._cancel.sdk import asks_for_a_retry, is_stray, seal, terminal_cause, unseal
from interruptible._cancel.watch import Interrupted, Watch
from interruptible._session.storage import JSON, compact
from interruptible._wire import reports
from interruptible._wire.checks import Refusal
from interruptible._wire.native import neutral
from interruptible._wire.text import mend
from interruptible._wire.types import Outcome, Settlement, TaskOutcome, Turn

UNKNOWN: Final = tuple(timedelta(seconds=x) for x in (1, 2, 4, 8, 15))
"""How long to wait, each time, and ask again for a task that Restate does not know. What sends it
may be under way, and be overtaken by who attaches, while a node takes over from another. One that
has ended is known for five minutes; then its report has long arrived."""
OUTCOME: Final = "outcome"
"""The key of the outcome in the metadata of the error that a task ends with."""


class Ending(NamedTuple):
    """How a task ended, as whoever attached to it learns it."""

    outcome: TaskOutcome
    reported: bool
    """Whether the task said so itself; then it has told the object, too."""
    unknown: bool = False
    """Whether Restate does not know the invocation: not yet, or not any more."""


async def ending(ctx: Context, turn: int, task: RestateDurableFuture[Any]) -> Ending:
    """Wait until an attached task has ended, and read its outcome from its result.

    One that it reports and the object cannot take has failed by that.

    Raises:
        TerminalError: The invocation that waits was cancelled.
    """
    await restate.wait_completed(task)
    outcome: TaskOutcome = {"turn": turn, "status": "failed", "messages": []}
    try:
        told = await task
    except TerminalError as error:
        sealed = (error.metadata or {}).get(OUTCOME)
        if sealed is None:
            unknown = error.status_code == 404  # noqa: PLR2004
            if unknown or (error.status_code, error.message) == (409, "killed"):
                outcome["status"] = "killed"
            else:
                outcome["error"] = error.message
            return Ending(outcome, reported=False, unknown=unknown)
        told = json.loads(await unseal(ctx, sealed))
    try:
        return Ending(reports.OUTCOME_IN(told), reported=True)
    except Refusal as refusal:
        outcome["error"] = f"What the task reported cannot be kept: {refusal.message}"
        return Ending(outcome, reported=False)


def what_ends(error: BaseException, watch: Watch) -> TerminalError:
    """What ends a task when this came out of `run`, as Restate can take it.

    Raises:
        BaseException: Nothing does: it ends the attempt.
    """
    end = terminal(error, watch)
    if end is None and is_stray(error):
        raise RuntimeError(
            f"`run` raised {error!r}, which is no Exception. If it is a CancelledError, catch it "
            "where you await what you have cancelled."
        ) from error
    if end is None:
        raise error
    return end if isinstance(end, Interrupted) else _not_ours(end)


def failure_of(error: BaseException) -> str:
    """Why `on_interrupted` failed, where this came out of it.

    Raises:
        BaseException: It did not fail for good: it ends the attempt.
    """
    if asks_for_a_retry(error) or not (isinstance(error, Exception) or is_stray(error)):
        raise error
    cause = terminal_cause(error)
    return repr(error) if cause is None else cause.message


def _not_ours(error: TerminalError) -> TerminalError:
    """The error that a task fails with, as Restate can take it.

    It is told apart from a cancellation of its own: Restate's tools show any invocation that ends
    with this status and text as cancelled.
    """
    mend(error)
    if error.status_code != 409 or error.message not in ("cancelled", "canceled", "killed"):  # noqa: PLR2004
        return error
    return TerminalError(f"What the task called was {error.message}.", 500, error.metadata)


def with_outcome(error: TerminalError, ctx: Context, outcome: TaskOutcome) -> TerminalError:
    """The error that a task ends with, with its outcome."""
    sealed = seal(ctx, json.dumps(outcome).encode())
    error.metadata = {**(error.metadata or {}), OUTCOME: sealed}
    return error


async def known_ending(
    ctx: Context, turn: int, task_id: str, task: RestateDurableFuture[Any]
) -> Ending:
    """The same, of a task that may not be there yet."""
    end = await ending(ctx, turn, task)
    for pause in UNKNOWN:
        if not end.unknown:
            break
        await ctx.sleep(pause)
        end = await ending(ctx, turn, ctx.attach_invocation(task_id, serde=JSON))
    return end


def outcome_of(ctx: Context, agent: str, session: str, end: Ending) -> TaskOutcome:
    """The outcome of a task that has ended; for one that could not report, report it."""
    if not end.reported:
        report_outcome(ctx, agent, session, end.outcome)
    return end.outcome


def report_outcome(
    ctx: Context, agent: str, session: str, outcome: TaskOutcome, ended: Iterable[int] = ()
) -> None:
    """Tell the object a turn's outcome, one-way; `ended` are turns that were seen to end."""
    settlement: Settlement = {"outcome": outcome, "ended": list(ended)}
    ctx.generic_send(agent, "settle", compact(settlement), key=session)


def public_outcome(outcome: TaskOutcome | Turn) -> Outcome:
    """The outcome without what only the object, its tasks or the record need to know."""
    names = Outcome.__annotations__
    known = {name: value for name, value in neutral(outcome).items() if name in names}
    return cast("Outcome", known)
