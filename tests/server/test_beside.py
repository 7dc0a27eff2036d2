"""Side by side, and what one branch takes from another."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import restate
from restate import Context

from interruptible import Agent, Session, Task, cleanup
from interruptible.testing import Restate

from .conftest import Deploy, Log, eventually, is_idle, normal_mode
from .test_side_by_side import Failing

pytestmark = pytest.mark.anyio


def step(ctx: Context, name: str, seconds: float) -> restate.RestateDurableFuture[str]:
    return ctx.run_typed(name, asyncio.sleep, delay=seconds, result=name)


async def gathered(first: Any, second: Any) -> Any:
    return [await each for each in await restate.gather(first, second)]


async def selected(first: Any, second: Any) -> Any:
    return await restate.select(first=first, second=second)


async def waited_for(first: Any, second: Any) -> Any:
    return [x is first for x in (await restate.wait_completed(first, second))[0]]


async def waited_for_alone(first: Any, second: Any) -> Any:
    return [x is first for x in (await restate.wait_completed(first))[0]]


@pytest.mark.parametrize(
    ("look", "found"),
    [
        (gathered, ["first", "second"]),
        (selected, ["first", "first"]),
        (waited_for, [True]),
        (waited_for_alone, [True]),
    ],
)
async def test_a_future_that_one_branch_awaits_may_be_waited_for_among_others_in_another(
    restate_env: Restate,
    deploy: Deploy,
    look: Callable[[Any, Any], Awaitable[Any]],
    found: Any,
) -> None:
    service, failing = restate.Service("TakenElsewhere"), Failing()

    @service.handler()
    async def work(ctx: Context) -> Any:
        first, second = step(ctx, "first", 0.2), step(ctx, "second", 0.6)

        async def takes() -> Any:
            return await first

        async def looks() -> Any:
            await step(ctx, "before", 0.05)
            return await look(first, second)

        async with cleanup(ctx):
            got = await asyncio.gather(takes(), looks())
            await ctx.run_typed("fail", failing.step)
        return got

    await deploy(service)
    answer = restate_env.client.service_call(work, None)
    assert await asyncio.wait_for(answer, 20) == ["first", found]


@normal_mode
async def test_what_timed_out_in_a_block_takes_nothing_from_what_is_awaited_after_it(
    restate_env: Restate, deploy: Deploy
) -> None:
    service = restate.Service("TimedOutInABlock")

    @service.handler()
    async def work(ctx: Context) -> str:
        async with cleanup(ctx):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ctx.sleep(timedelta(hours=1)), 0.2)
        for _ in range(4):
            await ctx.sleep(timedelta(seconds=0.05))
        return "done"

    await deploy(service)
    answer = restate_env.client.service_call(work, None)
    assert await asyncio.wait_for(answer, 10) == "done"


@normal_mode
async def test_a_cancelled_error_of_its_own_is_retried_and_can_be_cancelled(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class LetsOutAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            async with cleanup(ctx) as undo:
                undo.on_interrupt("undo", log.step, "undo")
                await ctx.run_typed("work", log.step, name="work")
                if task.turn == 1:
                    await log.add("attempt")
                    branch = asyncio.ensure_future(asyncio.sleep(60))
                    branch.cancel()
                    await branch
            return "done"

    agent = LetsOutAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("go")
    await log.until("attempt", times=2)
    await session.send("next")
    await eventually(lambda: is_idle(session), 10)
    turns = (await session.turns())["turns"]
    assert [turn["status"] for turn in turns] == ["interrupted", "completed"]
    assert log.of("end").count(("end", "undo")) == 1


class Refused(restate.TerminalError):
    def __init__(self) -> None:
        super().__init__("refused", 418)


def refuse() -> None:
    raise Refused


@normal_mode
async def test_nothing_goes_on_side_by_side_while_a_cleanup_runs(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class ChargesAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            async def refused() -> None:
                await ctx.run_typed("ask", log.step, name="ask", seconds=0.1)
                raise Refused

            async def charges() -> None:  # `asyncio.gather` leaves it to itself
                await ctx.sleep(timedelta(seconds=0.3))
                await ctx.run_typed("charge", log.step, name="charge")

            async with cleanup(ctx) as undo:
                undo.on_error("undo", log.step, "undo", 0.6)
                await asyncio.gather(refused(), charges())
            return "done"

    agent = ChargesAgent()
    await deploy(agent)
    outcome = await Session(restate_env.client, agent, "one").ask("go")
    assert outcome["status"] == "failed"
    await asyncio.sleep(0.1)
    assert [event[1] for event in log.of("begin")] == ["ask", "undo"]


@normal_mode
async def test_a_branch_that_awaits_what_the_error_of_an_inner_block_cut_off_goes_on_after_it(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    service, failing = restate.Service("InnerBlockFails"), Failing()

    @service.handler()
    async def work(ctx: Context) -> str:
        async with cleanup(ctx):
            branch = asyncio.create_task(
                awaited(ctx.run_typed("long", log.step, name="long", seconds=0.3))
            )
            await ctx.run_typed("first", log.step, name="first")
            with contextlib.suppress(Refused):
                async with cleanup(ctx) as inner:
                    inner.on_error("undo", log.step, "undo")
                    refuse()
            found: str = await branch
            await ctx.run_typed("fail", failing.step)
            return found

    async def awaited(future: Any) -> Any:
        return await future

    await deploy(service)
    answer = restate_env.client.service_call(work, None)
    assert await asyncio.wait_for(answer, 10) == "long"
    assert log.before(("end", "undo"), ("end", "long"))


class Stray(BaseException):
    """What frameworks raise to get out of everything."""


@normal_mode
@pytest.mark.parametrize("where", ["run", "on_interrupted"])
async def test_what_is_no_exception_breaks_nobody_elses_connection(
    restate_env: Restate, deploy: Deploy, log: Log, where: str
) -> None:
    class StrayAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            await ctx.run_typed("work", log.step, name=task.text, seconds=float(task.text))
            if task.text == "0" and where == "run":
                await log.add("attempt")
                raise Stray
            return "done"

        async def on_interrupted(self, ctx: Context, task: Task) -> None:
            if where == "on_interrupted":
                async with asyncio.TaskGroup():
                    raise Stray

    agent = StrayAgent()
    await deploy(agent)
    other = Session(restate_env.client, agent, f"other {where}")
    await other.send("1.5")
    session = Session(restate_env.client, agent, f"stray {where}")
    await session.send("0" if where == "run" else "60")
    await (log.until("attempt", times=2) if where == "run" else log.until("begin", "60"))
    assert (await session.ask("0.1"))["status"] == "completed"
    assert (await session.attach(1))["status"] == "interrupted"
    assert (await other.attach(1))["status"] == "completed"
    assert log.of("begin").count(("begin", "1.5")) == 1


async def test_deep_branches_of_many_tasks_at_once_can_be_replayed(
    restate_env: Restate, deploy: Deploy
) -> None:
    class FathomsAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            async def down(level: int, name: str) -> str:
                if level == 0:
                    return await step(ctx, name, 0)
                return await asyncio.ensure_future(down(level - 1, name))

            async def branch(level: int) -> None:
                for number in range(3):
                    await down(level, f"{level} {number}")

            await asyncio.gather(branch(40), branch(0), branch(1))
            await ctx.run_typed("fail", failing[task.session].step)
            return "done"

    agent = FathomsAgent()
    await deploy(agent)
    failing = {str(number): Failing() for number in range(6)}
    sessions = [Session(restate_env.client, agent, number) for number in failing]
    asked = asyncio.gather(*(session.ask("go") for session in sessions))
    outcomes = await asyncio.wait_for(asked, 30)
    assert [outcome["status"] for outcome in outcomes] == ["completed"] * 6
