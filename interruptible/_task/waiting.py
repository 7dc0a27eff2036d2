"""How a task waits until it may begin: for quiet, and for the end of the turns before it.

A turn before is at work, or it is cancelled. What happens to it is an event:

| event       | what it is                                     | what the task does              |
| ----------- | ---------------------------------------------- | ------------------------------- |
| `ended`     | its task is over                               | it learns the outcome           |
| `unknown`   | Restate did not know the task, a while ago     | it asks for it again            |
| `given up`  | a signal: another task has waited it out       | it waits for it no longer       |
| `cancelled` | a signal: it was cancelled after this was sent | it gives it `cleanup_timeout`   |
| `overdue`   | that time is over                              | it gives it up, and says so     |

Of one that is not cancelled nobody can know how long its work takes: that wait has no bound.
"""

from typing import Any

import restate
from restate import RestateDurableFuture

from interruptible._session.storage import JSON
from interruptible._task.attempt import Attempt, Begun, begun_of
from interruptible._task.outcome import UNKNOWN, ending, outcome_of
from interruptible._task.signals import cancelled_signal, given_up_signal


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


async def wait_for_ends(attempt: Attempt, tasks: dict[int, RestateDurableFuture[Any]]) -> None:
    """Wait until all turns before have ended, and note how; or give them up."""
    ctx, body, after = attempt.ctx, attempt.body, attempt.job["after"]
    goes_on = [x["turn"] for x in after if not x["cancelled"]]
    events = {task: ("ended", [turn]) for turn, task in tasks.items()}
    events |= {ctx.signal(given_up_signal(x), serde=JSON): ("given up", [x]) for x in tasks}
    events |= {ctx.signal(cancelled_signal(x), serde=JSON): ("cancelled", [x]) for x in goes_on}
    cancelled: list[int] = [x["turn"] for x in after if x["cancelled"]]
    ids = {x["turn"]: x["task_id"] for x in after}
    pauses = {turn: iter(UNKNOWN) for turn in tasks}
    left = set(tasks)
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
                        attempt.ends[turn] = outcome_of(ctx, body.name, attempt.session, end)
                    else:
                        events[ctx.sleep(pause, "unknown")] = ("unknown", [turn])
            else:
                left.difference_update(mine)
                if event == "overdue" and mine:
                    _give_up(attempt, mine)


def _give_up(attempt: Attempt, turns: list[int]) -> None:
    """Cancel these once more, and let nobody else wait for them: the object notes it."""
    ids = {before["turn"]: before["task_id"] for before in attempt.job["after"]}
    for turn in turns:
        attempt.ctx.cancel_invocation(ids[turn])
    attempt.call_session(attempt.ctx.generic_send, "give_up", {"turns": turns})
