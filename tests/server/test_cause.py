"""A task learns why it was cancelled, on a real server."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from restate import Context, RunOptions

from interruptible import Interrupted, Session, Task, cleanup
from interruptible.testing import Restate

from .conftest import Deploy, Log, eventually, is_idle
from .gated import Gated, history, open_session

pytestmark = pytest.mark.anyio


class Curious(Gated):
    """Asks why it was cancelled: where it hears of it, and twice in `on_interrupted`."""

    async def run(self, ctx: Context, task: Task) -> str:
        await ctx.run_typed("begin", self.log.add, RunOptions(), "begin", task.turn)
        if task.turn > 1:
            return "done"
        async with cleanup(ctx):
            try:
                await self.log.add("waiting", task.turn)  # the step before has ended, too
                await ctx.signal("never")
            except Interrupted:
                cause = await task.cause()
                task.append(f"caught: {tuple(cause)}")
                raise
        return "never"

    async def on_interrupted(self, ctx: Context, task: Task) -> None:
        for time in ("first", "second"):
            await super().on_interrupted(ctx, task)
            cause = await task.cause()
            await ctx.run_typed("asked", self.log.add, RunOptions(), "asked", time, tuple(cause))


How = Callable[[Session, Restate, str], Awaitable[Any]]
HOW: dict[str, tuple[How, tuple[Any, ...]]] = {
    "Interrupt": (lambda s, env, task: s.send("second"), ("interrupted", 2, None)),
    "Cancel": (lambda s, env, task: s.cancel(), ("cancelled", None, None)),
    "Reason": (
        lambda s, env, task: s.cancel(1, reason="no: rolled back\nby turn 3"),
        ("cancelled", None, "no: rolled back\nby turn 3"),
    ),
    "Rollback": (lambda s, env, task: s.send("b", policy="rollback"), ("rolled back", 2, None)),
    "Regenerate": (lambda s, env, task: s.regenerate(), ("rolled back", 2, None)),
    "Rewind": (lambda s, env, task: s.rewind(1, reason="typo"), ("rolled back", None, "typo")),
    "Reset": (lambda s, env, task: s.reset(), ("rolled back", None, None)),
    "Operator": (lambda s, env, task: env.cancel(task), ("cancelled", None, None)),
}


@pytest.mark.parametrize("how", HOW)
async def test_a_task_learns_why_it_was_cancelled_also_while_it_is_cancelled_again(
    restate_env: Restate, deploy: Deploy, log: Log, how: str
) -> None:
    worker = Curious(log, f"{how}CauseAgent")
    session = await open_session(restate_env, deploy, worker)
    worker.hold(1)
    task_id = (await session.send("first"))["task_id"]
    await log.until("waiting", 1)
    act, expected = HOW[how]
    await act(session, restate_env, task_id)
    await log.until("cleaning", 1)
    for _ in range(3):
        await restate_env.cancel(task_id)
    worker.free(1)
    outcome = await session.attach(1)
    assert outcome["status"] == "interrupted"
    assert [m["content"] for m in outcome["messages"]] == [f"caught: {expected}"]
    asked = [("asked", time, expected) for time in ("first", "second")]
    assert log.of("asked") == asked
    await eventually(lambda: is_idle(session))


async def test_a_turn_that_is_taken_back_while_it_is_cleaned_up_learns_of_it_when_it_asks(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class CauseAskingAgent(Gated):
        async def on_interrupted(self, ctx: Context, task: Task) -> None:
            await super().on_interrupted(ctx, task)
            cause = tuple(await task.cause())
            await ctx.run_typed("asked", self.log.add, RunOptions(), "asked", cause)

    worker = CauseAskingAgent(log, "AskingWhyAgent")
    session = await open_session(restate_env, deploy, worker)
    worker.hold(1)
    await session.send("first")
    await log.until("begin", 1)
    await session.cancel(reason="too slow")
    worker.stop(1)
    await log.until("cleaning", 1)
    await session.rewind(1, reason="typo")
    await session.cancel(1, reason="too late to be why")
    worker.free(1)
    assert (await session.attach(1))["status"] == "interrupted"
    assert log.of("asked") == [("asked", ("rolled back", None, "typo"))]
    assert await history(session) == []
