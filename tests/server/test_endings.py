"""However a body takes its interruption, the turn ends interrupted, with what had really ended."""

import asyncio
import builtins
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import restate
from restate import Context, TerminalError
from restate.exceptions import SdkInternalException

from interruptible import Agent, Interrupted, Session, Task, cleanup, shield
from interruptible.testing import Restate

from .conftest import LONG, Deploy, Log, eventually, is_idle, normal_mode
from .gated import texts

pytestmark = pytest.mark.anyio

GROUP: Any = getattr(builtins, "BaseExceptionGroup", ())
Body = Callable[[Context, Task, Log], Awaitable[Any]]


async def tool(ctx: Context, log: Log, name: str, seconds: float = LONG) -> str:
    return await ctx.run_typed(name, log.step, name=name, seconds=seconds)


async def raises_another_exception(ctx: Context, task: Task, log: Log) -> None:
    try:
        await tool(ctx, log, "tool")
    except Exception:  # noqa: BLE001
        raise ValueError("the framework's own") from None


async def raises_a_group(ctx: Context, task: Task, log: Log) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(tool(ctx, log, "tool"))


async def raises_what_the_sdk_raises_inside(ctx: Context, task: Task, log: Log) -> None:
    try:
        await tool(ctx, log, "tool")
    except TerminalError:
        raise SdkInternalException from None


async def raises_a_group_of_both(ctx: Context, task: Task, log: Log) -> None:
    async def second() -> None:
        try:
            await tool(ctx, log, "tool")
        finally:
            raise SdkInternalException

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(second())
    except GROUP as both:
        raise GROUP("both", [*both.exceptions, ValueError()]) from None


async def raises_a_cancelled_error(ctx: Context, task: Task, log: Log) -> None:
    try:
        await tool(ctx, log, "tool")
    except TerminalError:
        raise asyncio.CancelledError from None


async def raises_nothing(ctx: Context, task: Task, log: Log) -> str:
    try:
        return await tool(ctx, log, "tool")
    except TerminalError:
        return "An error occurred. Please try again."


async def puts_out_that_an_error_occurred(ctx: Context, task: Task, log: Log) -> None:
    try:
        await tool(ctx, log, "tool")
    except TerminalError as error:
        task.append(f"An error occurred: {error}")
        raise


async def never_ends(ctx: Context, task: Task, log: Log) -> None:
    while True:
        try:
            await tool(ctx, log, "tool")
        except Exception as error:  # noqa: BLE001
            task.append(str(error))


async def waits_for_its_turn(ctx: Context, task: Task, log: Log) -> None:
    """As Restate's turnstile: one after the other, and an error ends those behind by another."""
    ended = asyncio.Event()

    async def first() -> None:
        try:
            await tool(ctx, log, "tool")
        finally:
            ended.set()

    async def second() -> None:
        await ended.wait()
        raise SdkInternalException

    await asyncio.gather(second(), first())


NEW = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no groups")


@pytest.mark.parametrize(
    "body",
    [
        raises_another_exception,
        pytest.param(raises_a_group, marks=NEW),
        raises_what_the_sdk_raises_inside,
        pytest.param(raises_a_group_of_both, marks=NEW),
        pytest.param(raises_a_cancelled_error, marks=NEW),
        raises_nothing,
        puts_out_that_an_error_occurred,
        never_ends,
        waits_for_its_turn,
    ],
)
async def test_an_interruption_is_one_whatever_comes_out_of_the_body(
    restate_env: Restate, deploy: Deploy, log: Log, body: Body
) -> None:
    class Interruptee(Agent):
        async def run(self, ctx: Context, task: Task) -> Any:
            if task.turn > 1:
                return "done"
            task.append("a plan")
            async with cleanup(ctx) as undo:
                undo.on_interrupt("undo", log.step, "undo")
                return await body(ctx, task, log)

    agent = Interruptee("".join(word.title() for word in body.__name__.split("_")))
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("begin", "tool")
    outcome = await session.ask("second")
    assert outcome["status"] == "completed"
    interrupted = await session.attach(1)
    assert interrupted["status"] == "interrupted"
    assert texts(interrupted["messages"]) == ["a plan"]
    assert log.of("end")[-1] == ("end", "undo")
    assert log.events.count(("begin", "undo")) == 1
    await eventually(lambda: is_idle(session))


async def test_a_suspension_passes_whatever_the_body_makes_of_it(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    """Each await may suspend, where the server replays always; here the body hides it."""

    class HidingAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            async with cleanup(ctx) as undo:
                undo.on_error("undo", log.step, "undo")
                try:
                    said = [await tool(ctx, log, name, 0.0) for name in "abc"]
                except BaseException as error:
                    raise ValueError("the framework's own") from error
            return "".join(said)

    agent = HidingAgent()
    await deploy(agent)
    outcome = await Session(restate_env.client, agent, "one").ask("go")
    assert texts(outcome["messages"]) == ["abc"]
    assert log.of("end") == [("end", "a"), ("end", "b"), ("end", "c")]


@normal_mode
async def test_an_exception_that_every_attempt_raises_does_not_keep_a_turn_from_being_cancelled(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class BrokenAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn > 1:
                return "done"
            async with cleanup(ctx) as undo:
                undo.on_interrupt("undo", log.step, "undo")
                task.append(await tool(ctx, log, "answer", 0.0))
                await log.add("raises")
                raise ValueError("half said arguments")

    agent = BrokenAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("raises", times=2)
    assert (await session.ask("second"))["status"] == "completed"
    interrupted = await session.attach(1)
    assert interrupted["status"] == "interrupted"
    assert texts(interrupted["messages"]) == ["answer"]
    assert log.of("end") == [("end", "answer"), ("end", "undo")]


@normal_mode
async def test_a_handler_that_raises_in_every_attempt_can_be_cancelled_and_cleans_up(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    service = restate.Service("Broken")

    @service.handler()
    async def work(ctx: Context) -> None:
        async with cleanup(ctx) as undo:
            undo.on_interrupt("undo", log.step, "undo")
            await tool(ctx, log, "answer", 0.0)
            await log.add("raises")
            raise ValueError("each time")

    await deploy(service)
    sent = await restate_env.client.service_send(work, None)
    await log.until("raises", times=2)
    await restate_env.cancel(sent.invocation_id)
    await log.until("end", "undo")

    async def over() -> Any:
        rows = await restate_env.invocations(f"id = '{sent.invocation_id}'")
        return rows[0].get("completion_failure")

    assert await eventually(over) == "[409] cancelled"


async def test_an_on_interrupted_that_raises_is_reported_once_and_the_turn_ends(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class OnTheWayOutAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn > 1:
                return "done"
            return await tool(ctx, log, "tool")

        async def on_interrupted(self, ctx: Context, task: Task) -> None:
            task.append("on the way out")
            await log.add("on_interrupted")
            raise KeyError("a mistake")

    agent = OnTheWayOutAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    receipt = await session.send("first")
    await log.until("begin", "tool")
    assert (await session.ask("second"))["status"] == "completed"
    outcome = await session.attach(1)
    assert outcome["status"] == "interrupted"
    assert texts(outcome["messages"]) == ["on the way out"]
    rows = await restate_env.invocations(f"id = '{receipt['task_id']}'")
    assert rows[0]["completion_failure"] == "[409] cancelled"


async def test_what_had_ended_before_and_what_was_shielded_counts(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    release = asyncio.Event()

    async def pay() -> str:
        await log.add("paying")
        await release.wait()
        return "receipt 7"

    class PayingAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn > 1:
                return "done"

            async def looks_it_up() -> None:
                task.append(await tool(ctx, log, "looked up", 0.0))

            async def pays() -> None:
                task.append(await shield(ctx.run_typed("pay", pay)))

            async def waits() -> None:
                try:
                    await ctx.signal("never")
                except Interrupted:
                    task.append("An error occurred.")

            await looks_it_up()
            await asyncio.gather(pays(), waits())
            task.append("is not reached, or does not count")
            return await tool(ctx, log, "never", 0.0)

    agent = PayingAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("paying")
    await session.cancel()
    release.set()
    outcome = await session.attach(1)
    assert outcome["status"] == "interrupted"
    assert texts(outcome["messages"])[:2] == ["looked up", "receipt 7"]
    assert "An error occurred." not in texts(outcome["messages"])


@normal_mode
async def test_a_cleanup_that_follows_on_an_exception_can_be_replayed(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    """The cancellation is known to the attempt that asked for it, and to those after it."""
    left = iter(range(2))

    async def fails_twice() -> None:
        await log.add("cleaning")
        if next(left, None) is not None:
            raise OSError("fails, so that all before is replayed")

    class BrokenAgain(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            async with cleanup(ctx) as undo:
                undo.on_interrupt("last", log.step, "last")
                undo.on_interrupt("fails twice", fails_twice)
                await tool(ctx, log, "answer", 0.0)
                await log.add("raises")
                raise ValueError("half said arguments")

    agent = BrokenAgain()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("raises", times=2)
    await session.cancel()
    assert (await session.attach(1))["status"] == "interrupted"
    assert log.of("cleaning", "end") == [("end", "answer"), *[("cleaning",)] * 3, ("end", "last")]


@normal_mode
async def test_what_was_cut_off_as_a_turn_ended_does_not_begin_again_while_a_payment_ends(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    paying = asyncio.Event()

    async def charge() -> None:
        await log.add("charging")
        await paying.wait()

    class LeavesBehindAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            async def pays() -> None:
                await ctx.run_typed("charge", charge)
                await tool(ctx, log, "note", 0.2)

            work = (tool(ctx, log, "left"), shield(pays()))
            for branch in [asyncio.ensure_future(x) for x in work]:
                branch.add_done_callback(lambda done: done.exception())  # nobody awaits it
            await log.until("begin", "left")
            await log.until("charging")
            raise TerminalError("leaves them behind")

    agent = LeavesBehindAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("go")
    await log.until("abort", "left")
    paying.set()
    assert (await session.attach(1)).get("error") == "leaves them behind"
    assert log.of("begin") == [("begin", "left"), ("begin", "note")]
