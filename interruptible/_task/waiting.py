"""How a task waits until it may begin: for quiet, for the end of the turns before it, for the word.

A turn before is at work, or it is cancelled. What happens to it is an event:

| event       | what it is                                     | what the task does              |
| ----------- | ---------------------------------------------- | ------------------------------- |
| `ended`     | its task is over                               | it learns the outcome           |
| `unknown`   | Restate did not know the task, a while ago     | it asks for it again            |
| `given up`  | a signal: another task has waited it out       | it waits for it no longer       |
| `cancelled` | a signal: it was cancelled after this was sent | it gives it `cleanup_timeout`   |
| `overdue`   | that time is over                              | it gives it up, and says so     |

Of one that is not cancelled nobody can know how long its work takes: that wait has no bound.

A turn that was queued is told by the session what it begins with; until then that can change. The
session says so by itself as it settles the last turn before, unless something was steered at that
which is this one's now; and it says so to who asks.

| the turns before            | what the task does                                          |
| --------------------------- | ----------------------------------------------------------- |
| have all told the session   | it waits to be told, perhaps to ask; after `TOLD_WITHIN` it |
|                             | asks                                                        |
| were killed, or given up    | it asks at once, as perhaps nobody settles them before that |
"""

from datetime import timedelta
from typing import Any, Final

import restate
from restate import RestateDurableFuture

from interruptible._session.storage import JSON
from interruptible._task.attempt import Attempt, Begun, begun_of
from interruptible._task.outcome import UNKNOWN, ending, outcome_of
from interruptible._task.signals import BEGIN, cancelled_signal, given_up_signal

TOLD_WITHIN: Final = timedelta(seconds=1)
"""How long a task waits for what is on its way, before it asks. A version that does not tell has
perhaps settled the turn before; and what is asked in vain costs little."""


async def wait_for_quiet(attempt: Attempt) -> Begun | None:
    """Wait until no message has come for a while; those that did belong to this turn.

    Returns:
        What the turn begins with, if it was only this that it waited for.
    """
    body, seen = attempt.body, 0
    while body.debounce is not None:
        await attempt.ctx.sleep(body.debounce, name="debounce")
        if not body.merges:
            return None
        answer = await attempt.ask_session("quiet", {"turn": attempt.turn, "seen": seen})
        if answer.get("quiet"):
            return None
        if answer.get("seen", 0) <= seen:
            return begun_of(answer)
        seen = answer["seen"]
    return None


async def wait_for_ends(attempt: Attempt, tasks: dict[int, RestateDurableFuture[Any]]) -> bool:
    """Wait until all turns before have ended, and note how; or give them up.

    Returns:
        Whether there are some, and each has told the session itself that it has ended.
    """
    ctx, body, after = attempt.ctx, attempt.body, attempt.job["after"]
    goes_on = [x["turn"] for x in after if not x["cancelled"]]
    events = {task: ("ended", [turn]) for turn, task in tasks.items()}
    events |= {ctx.signal(given_up_signal(x), serde=JSON): ("given up", [x]) for x in tasks}
    events |= {ctx.signal(cancelled_signal(x), serde=JSON): ("cancelled", [x]) for x in goes_on}
    cancelled: list[int] = [x["turn"] for x in after if x["cancelled"]]
    ids = {x["turn"]: x["task_id"] for x in after}
    pauses = {turn: iter(UNKNOWN) for turn in tasks}
    left, have_told = set(tasks), bool(tasks)
    while left:
        if cancelled:
            timer: RestateDurableFuture[Any] = ctx.sleep(body.cleanup_timeout, "cleanup_timeout")
            events[timer] = ("overdue", cancelled)
        done, _ = await restate.wait_completed(*events)
        cancelled = []
        for event, turns in [events.pop(x) for x in done]:
            mine = sorted(left.intersection(turns))
            if event == "cancelled":
                cancelled += mine
            elif event == "unknown":
                tasks |= {x: ctx.attach_invocation(ids[x], serde=JSON) for x in mine}
                events |= {tasks[x]: ("ended", [x]) for x in mine}
            elif event == "ended":
                for turn in mine:
                    end = await ending(ctx, turn, tasks[turn])
                    pause = next(pauses[turn], None) if end.unknown else None
                    if pause is None:
                        left.discard(turn)
                        have_told = have_told and end.reported
                        attempt.ends[turn] = outcome_of(ctx, body.name, attempt.session, end)
                    else:
                        events[ctx.sleep(pause, "unknown")] = ("unknown", [turn])
            else:
                left.difference_update(mine)
                have_told = have_told and not mine
                if event == "overdue" and mine:
                    _give_up(attempt, mine)
    return have_told


async def wait_to_begin(attempt: Attempt, *, is_told: bool) -> Any:
    """Wait for the word of the session.

    Args:
        attempt: At the turn.
        is_told: Whether it comes by itself.

    Returns:
        What the turn begins with, as `begin` answers it.
    """
    ctx, turn = attempt.ctx, attempt.turn
    if is_told and attempt.body.debounce is None:
        told: RestateDurableFuture[Any] = ctx.signal(BEGIN, serde=JSON)
        late: RestateDurableFuture[Any] = ctx.sleep(TOLD_WITHIN, "begin")
        done, _ = await restate.wait_completed(told, late)
        if told in done and "asks" not in (answer := await told):
            return answer
    return await attempt.ask_session("begin", {"turn": turn})


def _give_up(attempt: Attempt, turns: list[int]) -> None:
    """Cancel these once more, and let nobody else wait for them: the object notes it."""
    ids = {before["turn"]: before["task_id"] for before in attempt.job["after"]}
    for turn in turns:
        attempt.ctx.cancel_invocation(ids[turn])
    attempt.call_session(attempt.ctx.generic_send, "give_up", {"turns": turns})
