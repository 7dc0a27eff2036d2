"""A delegate beside something that fails."""

import asyncio

import pytest
from restate import Context, TerminalError

from interruptible import Agent, Session, Task, cleanup
from interruptible.testing import Restate

from .conftest import Deploy, Log, normal_mode

pytestmark = pytest.mark.anyio


@normal_mode
@pytest.mark.xfail(
    strict=True,
    reason="a block that fails does not cut off a delegate: it waits for its own end",
)
async def test_a_block_that_fails_cuts_off_a_delegate_beside_it(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class LongChildAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            return await ctx.run_typed("work", log.step, name="child", seconds=3)

    class FailsBesideAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            async def refused() -> None:
                await ctx.run_typed("ask", log.step, name="ask", seconds=0.5)
                raise TerminalError("refused", 418)

            async with cleanup(ctx) as undo:
                undo.on_error("undo", log.step, "undo")
                await asyncio.gather(refused(), task.delegate(child, "one", "go"))
            return "done"

    child, parent = LongChildAgent(), FailsBesideAgent()
    await deploy(child, parent)
    outcome = await Session(restate_env.client, parent, "one").ask("go")
    assert outcome["status"] == "failed"
    assert log.of("abort", "end") == [("end", "ask"), ("abort", "child"), ("end", "undo")]
