"""Ends a run that goes no further, and says what waits for what."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from .records import SAYS, History, Op
from .system import TASKS, System

T = TypeVar("T")

STILL: Final = 60.0
"""Seconds without progress that no fault explains."""
EXPLAIN: Final = frozenset({"kill worker", "freeze worker", "workers gone", "kill server"}) | {
    "freeze server",
    "cut off server",
    "disk full",
}
"""Faults in which nodes or workers are gone."""
READS: Final = frozenset({"get_status", "get_history", "get_turns"})
LOOK_EVERY: Final = 1.0

WAITING: Final = (
    "SELECT id, target, status, retry_count, last_failure, invoked_by_target "
    "FROM sys_invocation WHERE status <> 'completed' ORDER BY created_at"
)
ALL_TASKS: Final = f"SELECT id, status FROM sys_invocation WHERE {TASKS}"  # noqa: S608


class StandStill(AssertionError):
    """Raised when nothing goes on, and no fault explains it; says what waits for what."""


class Progress:
    """For how long nothing has gone on that clients asked for; readers are always answered."""

    def __init__(self, now: float) -> None:
        self._done = 0
        self._looked = now
        self._still = 0.0

    def has_ended(self, history: History, now: float) -> bool:
        """Whether it has stood still for too long; time that a fault explains does not count."""
        done = sum(op.ok and op.name not in READS for op in history.ops)
        explained = any(x.ended is None and x.kind in EXPLAIN for x in history.faults)
        if done > self._done:
            self._still = 0.0
        elif not explained:
            self._still += now - self._looked
        self._done, self._looked = done, now
        return self._still >= STILL


async def unless_still(playing: Coroutine[Any, Any, T], system: System, history: History) -> T:
    """Play, and give what came of it.

    Raises:
        StandStill: It goes no further.
    """
    task = asyncio.ensure_future(playing)
    progress = Progress(time.monotonic())
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=LOOK_EVERY)
            if not task.done() and progress.has_ended(history, time.monotonic()):
                raise StandStill(await what_waits(system, history))
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait({task})


async def what_waits(system: System, history: History) -> str:
    """Tell of the calls of clients, the invocations that are not over, and the servers."""
    now = time.time()
    told = [f"Nothing has gone on for {STILL:.0f} s, and no fault explains it."]
    told += [
        f"A client waits {now - op.asked:.0f} s for {op.agent}/{op.session}/{op.name} {op.body}."
        for op in history.ops
        if op.answered is None
    ]
    try:
        tasks = {row["id"]: row["status"] for row in await system.query(ALL_TASKS, tries=5)}
        rows = await system.query(WAITING, tries=5)
    except RuntimeError as error:
        told.append(f"No server tells what waits: {error}")
    else:
        turns = _turns(history.ops)
        told += [_invocation(row, turns, tasks) for row in rows]
    health = await asyncio.gather(*(system.health(node) for node in range(len(system.nodes))))
    told += [f"Server {node}: {each}" for node, each in enumerate(health)]
    told += [
        f"Server {node} logged last: {errors[-1]}"
        for node, each in enumerate(system.nodes)
        if (errors := [line for line in each.logs().splitlines() if " ERROR " in line])
    ]
    return "\n".join(told)


def _turns(ops: list[Op]) -> dict[str, tuple[str, int]]:
    """By the id of its task, each turn that a client knows: its session, and its number."""
    return {
        op.answer["task_id"]: (f"{op.agent}/{op.session}", op.answer["turn"])
        for op in ops
        if op.ok and op.name in (*SAYS, "regenerate", "resume")
    }


def _invocation(
    row: dict[str, Any], turns: dict[str, tuple[str, int]], tasks: dict[str, str]
) -> str:
    told = f"{row['target']} ({row['id']}) is {row['status']}"
    if caller := row.get("invoked_by_target"):
        told += f", for {caller}"
    if attempts := row.get("retry_count"):
        told += f", attempt {attempts}: {row.get('last_failure')}"
    if row["id"] not in turns:
        return f"{told}."
    session, turn = turns[row["id"]]
    before = {number: task for task, (other, number) in turns.items() if other == session}
    earlier = sorted(number for number in before if number < turn)[-3:]
    states = [f"turn {x} is {tasks.get(before[x], 'not there')}" for x in earlier]
    return f"{told}. It is turn {turn} of {session}; {', '.join(states) or 'the first'}."
