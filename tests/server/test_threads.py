"""Steps that block hold threads of the worker; the agent itself needs none."""

import asyncio
import threading

import pytest
from restate import Context

from interruptible import Agent, Session, Task
from interruptible.testing import Restate

from .conftest import Deploy, Log

pytestmark = pytest.mark.anyio


async def test_a_message_is_taken_in_while_steps_that_block_hold_all_threads(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    release = threading.Event()

    class ThreadsAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            await log.add("begin", task.session)
            if task.turn == 1:
                await ctx.run_typed("block", release.wait)
            return "done"

    agent = ThreadsAgent()
    await deploy(agent)
    loop = asyncio.get_running_loop()
    held = [loop.run_in_executor(None, release.wait) for _ in range(64)]
    try:
        session = Session(restate_env.client, agent, "one")
        await session.send("first")
        await log.until("begin", "one")
        assert (await session.send("second"))["interrupted"] == [1]
        assert await session.cancel() == [2]
        other = Session(restate_env.client, agent, "two")
        await other.send("first", policy="queue")
        await log.until("begin", "two")
    finally:
        release.set()
        await asyncio.gather(*held)
    assert (await session.attach(1))["status"] == "interrupted"
