"""What runs side by side goes the same way in each attempt, however many durable steps it has.

Restate hands out what has come in the order of its journal. Each of these handlers does things side
by side that end in another order than they began, and then fails: the next attempt replays them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import restate
from restate import Context

from interruptible import Agent, Session, Task, cleanup
from interruptible.testing import Restate

from .conftest import Deploy, Log

pytestmark = pytest.mark.anyio

SECONDS = [0.3, 0.1, 0.2, 0.0]


class Echo(Agent):
    """Takes as long as it is told."""

    async def run(self, ctx: Context, task: Task) -> str:
        seconds = task.input[-1]["content"]
        await ctx.run_typed("work", asyncio.sleep, delay=float(seconds), result=None)
        return f"after {seconds}"


class Failing:
    """Fails in its first attempts, so that what was before is replayed."""

    def __init__(self, times: int = 2) -> None:
        self.left = times

    async def step(self) -> None:
        self.left -= 1
        if self.left >= 0:
            raise RuntimeError("fails, so that all before is replayed")


Branch = Callable[[Context, Task, int], Awaitable[Any]]


async def delegates(ctx: Context, task: Task, number: int) -> Any:
    seconds = SECONDS[number]
    outcome = await task.delegate("BesideEchoAgent", f"{task.session}/{number}", str(seconds))
    return outcome["messages"][0]["content"]


async def delegates_in_the_background(ctx: Context, task: Task, number: int) -> Any:
    receipt = await task.delegate(
        "BesideEchoAgent", f"{task.session}/{number}", str(SECONDS[number]), background=True
    )
    return receipt["turn"]


async def asks(ctx: Context, task: Task, number: int) -> Any:
    session = Session(ctx, "BesideEchoAgent", f"{task.session}/{number}")
    return (await session.ask(str(SECONDS[number])))["status"]


async def takes_steps(ctx: Context, task: Task, number: int) -> Any:
    seconds = SECONDS[number]
    for name in "abc":
        await ctx.run_typed(f"{number} {name}", asyncio.sleep, delay=seconds / 3, result=None)
    return seconds


async def looks_for_steering(ctx: Context, task: Task, number: int) -> Any:
    if number > 0:
        return await takes_steps(ctx, task, number)
    return [len(await task.steering()) for _ in range(5)]


async def mixed(ctx: Context, task: Task, number: int) -> Any:
    each: list[Branch] = [delegates, takes_steps, looks_for_steering, asks]
    return await each[number](ctx, task, number)


async def deep(ctx: Context, task: Task, number: int) -> Any:
    async def one(level: int) -> Any:
        if level == number * 2:
            return await takes_steps(ctx, task, number)
        return (await asyncio.gather(one(level + 1)))[0]

    return await one(0)


@pytest.mark.parametrize(
    "branch",
    [delegates, delegates_in_the_background, asks, takes_steps, looks_for_steering, mixed, deep],
)
async def test_what_runs_side_by_side_can_be_replayed(
    restate_env: Restate, deploy: Deploy, log: Log, branch: Branch
) -> None:
    class Parent(Agent):
        async def run(self, ctx: Context, task: Task) -> Any:
            found = await asyncio.gather(*(branch(ctx, task, number) for number in range(4)))
            await ctx.run_typed("fail", failing.step)
            return str(found)

    failing = Failing()
    name = "".join(word.title() for word in branch.__name__.split("_"))
    echo, parent = Echo("BesideEchoAgent"), Parent(f"{name}Agent")
    await deploy(echo, parent)
    outcome = await Session(restate_env.client, parent, name).ask("go")
    assert outcome["status"] == "completed", outcome
    assert failing.left < 0


async def test_side_by_side_in_a_handler_of_ones_own(restate_env: Restate, deploy: Deploy) -> None:
    service = restate.Service("SideBySide")
    failing = Failing()

    @service.handler()
    async def work(ctx: Context) -> list[str]:
        async def branch(number: int) -> str:
            for name in "abc":
                await ctx.run_typed(f"{number} {name}", asyncio.sleep, delay=SECONDS[number])
            return str(number)

        async with cleanup(ctx):
            found = await asyncio.gather(*(branch(number) for number in range(4)))
            await ctx.run_typed("fail", failing.step)
        return list(found)

    await deploy(service)
    assert await restate_env.client.service_call(work, None) == ["0", "1", "2", "3"]
