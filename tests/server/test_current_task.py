"""What works for a task finds it, and what does not is told so."""

import asyncio
import threading
from typing import Any

import pytest
from restate import Context

from interruptible import Agent, Session, Task, cleanup, current_task
from interruptible.testing import Restate

from .conftest import LONG, Deploy, Log

pytestmark = pytest.mark.anyio


def deep(levels: int = 3) -> Task:
    return deep(levels - 1) if levels else current_task()


async def said_in_a_step() -> str:
    return deep().session


def said_in_a_thread() -> str:
    assert threading.current_thread() is not threading.main_thread()
    return deep().session


async def test_it_is_found_wherever_work_is_done_for_it(
    restate_env: Restate, deploy: Deploy
) -> None:
    async def branch(number: int) -> int:
        await asyncio.sleep(0)
        deep().append(f"branch {number}")
        return deep().turn

    class FindingAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> list[str]:
            assert deep() is task
            assert await asyncio.gather(branch(1), branch(2)) == [task.turn, task.turn]
            assert await asyncio.to_thread(deep) is task
            return [
                await ctx.run_typed("step", said_in_a_step),
                await ctx.run_typed("thread", said_in_a_thread),
            ]

    agent = FindingAgent("CurrentFinding")
    await deploy(agent)
    outcome = await Session(restate_env.client, agent, "one").ask("go")
    said = [message["content"] for message in outcome["messages"]]
    assert said == ["branch 1", "branch 2", "one", "one"]


async def test_sessions_side_by_side_have_each_their_own(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class SideAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            await log.add("there", task.session)
            for session in sessions:  # both are there, and both go on
                await log.until("there", session)
            assert deep() is task
            return await ctx.run_typed("step", said_in_a_step)

    agent, sessions = SideAgent("CurrentSide"), ("one", "two")
    await deploy(agent)
    outcomes = await asyncio.gather(
        *(Session(restate_env.client, agent, session).ask("go") for session in sessions)
    )
    assert [x["messages"][0]["content"] for x in outcomes] == [*sessions]


async def test_cleanup_and_on_interrupted_find_it_and_the_next_turn_finds_its_own(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def undo(what: str) -> None:
        await log.add(what, deep().turn)

    class UndoingAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn == 2:
                return f"turn {deep().turn}"
            async with cleanup(ctx) as clean:
                clean.on_exit("undo", undo, "undone")
                await log.add("began")
                await ctx.run_typed("work", asyncio.sleep, delay=LONG)
            raise AssertionError

        async def on_interrupted(self, ctx: Context, task: Task) -> None:
            assert deep() is task
            await ctx.run_typed("tell", undo, what="told")

    agent = UndoingAgent("CurrentUndoing")
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("go")
    await log.until("began")
    outcome = await session.ask("stop")
    assert outcome["messages"][0]["content"] == "turn 2"
    assert {*log.of("undone", "told")} == {("undone", 1), ("told", 1)}


async def test_what_outlives_its_turn_is_told_so(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    left: list[asyncio.Task[Any]] = []
    over = asyncio.Event()

    async def late() -> Task:
        await over.wait()
        return current_task()

    class CurrentLeavingAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            left.append(asyncio.create_task(late()))
            return "done"

    agent = CurrentLeavingAgent("CurrentLeaving")
    await deploy(agent)
    await Session(restate_env.client, agent, "one").ask("go")
    over.set()
    for task in left:
        with pytest.raises(RuntimeError, match=r"turn=1.* is over, .* left running. Await it"):
            await task
    with pytest.raises(RuntimeError, match="where no turn is worked on"):
        current_task()
