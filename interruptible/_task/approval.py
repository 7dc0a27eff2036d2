"""A turn waits until somebody has said yes or no.

The task tells the agent's object, which lists it and takes the answer, and hears of that by a
signal. When its time is over it asks the object: who answered before that was in time.
"""

import json
from datetime import timedelta
from typing import Any, Final, NamedTuple

import restate
from restate import RestateDurableFuture

from interruptible._cancel.steered import Steered
from interruptible._session.storage import JSON
from interruptible._task.attempt import Attempt
from interruptible._task.signals import approval_signal
from interruptible._wire.output import WrongOutput, stored
from interruptible._wire.types import MAX_ASKED

LONGEST_APPROVAL: Final = timedelta(days=365 * 100)
"""What a longer timeout comes to."""


class Approval(NamedTuple):
    """What was answered; it is true if that was yes.

    `reason` and `value`, which is JSON, are what else was said, if anything. If it has `timed_out`,
    nobody has answered in time.
    """

    approved: bool
    reason: str | None = None
    value: Any = None
    timed_out: bool = False

    def __bool__(self) -> bool:
        return self.approved


async def ask(attempt: Attempt, title: str, value: Any, timeout: timedelta | None) -> Approval:
    """Ask for an approval, and wait for it; see `Task.approval`."""
    ctx = attempt.ctx
    attempt.approvals += 1
    mine = {"turn": attempt.turn, "number": attempt.approvals}
    asked = _checked(title, value) | mine
    if timeout is not None and not isinstance(timeout, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise WrongOutput(f"`task.approval` takes a `timedelta`, not {type(timeout).__name__}.")
    if timeout is not None:
        timeout = min(max(timeout, timedelta(0)), LONGEST_APPROVAL)
    answer: RestateDurableFuture[Any] = ctx.signal(approval_signal(mine["number"]), serde=JSON)
    if timeout is not None:
        asked["within"] = int(timeout.total_seconds() * 1000)
    attempt.call_session(ctx.generic_send, "ask_approval", asked)
    try:
        if timeout is not None:
            done, _ = await restate.wait_completed(answer, ctx.sleep(timeout))
            if answer not in done and not await attempt.ask_session("close_approval", mine):
                return Approval(approved=False, timed_out=True)
        return Approval(**await answer)
    except Steered:  # whoever awaits it again asks for another one
        attempt.call_session(ctx.generic_send, "close_approval", mine)
        raise


def _checked(title: Any, value: Any) -> dict[str, Any]:
    if not isinstance(title, str) or not title.strip():
        given = "blank text" if isinstance(title, str) else type(title).__name__
        raise WrongOutput(f"`task.approval` takes what is asked as text, not {given}.")
    asked: dict[str, Any] = stored(
        {"title": title} if value is None else {"title": title, "value": value}
    )
    if (size := len(json.dumps(asked).encode())) > MAX_ASKED:
        raise WrongOutput(
            f"`task.approval` asks for {size} bytes; at most {MAX_ASKED} are kept. Say where the "
            "rest is."
        )
    return asked
