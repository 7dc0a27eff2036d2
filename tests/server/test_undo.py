"""What a cleanup step may be made of, how often it is tried, and how it is dropped."""

import asyncio
import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import restate
from restate import Context, RunOptions, TerminalError

from interruptible import Agent, Interrupted, Session, Task, cleanup, shield
from interruptible._cancel.cleanup import RETRY
from interruptible.testing import Restate

from .conftest import LONG, REPLAY, Deploy, Log
from .gated import texts

pytestmark = pytest.mark.anyio

QUICK = RunOptions[Any](max_attempts=3, initial_retry_interval=timedelta(milliseconds=10))


def under_a_plain_decorator(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


async def test_an_action_may_be_anything_that_can_be_called_and_take_any_arguments(
    restate_env: Restate, deploy: Deploy
) -> None:
    service = restate.Service("Anything")
    done: list[Any] = []

    async def free(name: str, action: str = "", ctx: str = "") -> object:
        done.append((name, action, ctx))
        return object()  # no JSON, and nobody asks

    def blocks(name: str, action: str = "", ctx: str = "") -> None:
        done.append((name, action, ctx))

    class Frees:
        async def __call__(self, name: str, action: str = "", ctx: str = "") -> None:
            done.append((name, action, ctx))

    actions: list[Callable[..., Any]] = [
        free,
        blocks,
        Frees(),
        lambda name, **more: free(name, **more),  # noqa: PLW0108
        functools.partial(free),
        functools.partial(Frees()),
        under_a_plain_decorator(free),
    ]

    @service.handler()
    async def work(ctx: Context) -> None:
        async with cleanup(ctx) as undo:
            for number, action in enumerate(actions):
                undo.on_exit(f"free {number}", action, name="x", action="y", ctx="z")
                undo.on_error(f"not {number}", action, name="never")

    await deploy(service)
    await restate_env.client.service_call(work, None)
    assert done == [("x", "y", "z")] * len(actions)


async def test_what_cannot_be_called_is_refused_where_it_is_registered(
    restate_env: Restate, deploy: Deploy
) -> None:
    service = restate.Service("Refused")

    async def free() -> None: ...

    @service.handler()
    async def work(ctx: Context) -> list[str]:
        said: list[str] = []
        async with cleanup(ctx) as undo:
            for action in (free(), None):
                try:
                    undo.on_exit("free", action)  # type: ignore[arg-type]
                except TypeError as error:
                    said.append(str(error))
        return said

    await deploy(service)
    assert await restate_env.client.service_call(work, None) == [
        f"The action of cleanup step 'free' is {what}, which cannot be called. "
        "Pass the function itself, and its arguments after it."
        for what in ("coroutine", "NoneType")
    ]


async def test_a_step_that_fails_again_and_again_is_reported_and_the_next_one_runs(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    tries: list[str] = []

    async def fails() -> None:
        tries.append("async")
        raise OSError("no route")

    def fails_in_a_thread() -> None:
        tries.append("thread")
        raise OSError("no route")

    class BoundedAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn > 1:
                return "done"
            async with cleanup(ctx, retry=QUICK) as undo:
                undo.on_interrupt("last", log.step, "last")
                undo.on_interrupt("fails", fails)
                undo.on_interrupt("fails in a thread", fails_in_a_thread)
                await log.add("waiting")
                return await ctx.signal("never", type_hint=str)

    agent = BoundedAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    receipt = await session.send("first")
    await log.until("waiting")
    assert (await session.ask("second"))["status"] == "completed"
    assert tries == ["thread"] * 3 + ["async"] * 3
    assert log.of("end") == [("end", "last")]
    task = await session.attach(1)
    assert task["status"] == "interrupted"
    rows = await restate_env.invocations(f"id = '{receipt['task_id']}'")
    assert rows[0]["completion_failure"] == "[409] cancelled"


def test_by_default_a_step_is_given_up_before_the_next_turn_has_waited_for_it_in_vain() -> None:
    assert RETRY.max_attempts is not None
    assert RETRY.initial_retry_interval is not None
    assert RETRY.max_retry_interval is not None
    waits = [
        min(RETRY.initial_retry_interval * 2**n, RETRY.max_retry_interval)
        for n in range(RETRY.max_attempts - 1)
    ]
    longest = sum(waits, timedelta(0)) * 1.3  # the server adds up to 30 % to an interval
    assert longest < timedelta(seconds=30) / 2


async def test_a_step_that_is_dismissed_does_not_run(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    service = restate.Service("Dismissed")

    @service.handler()
    async def work(ctx: Context) -> None:
        async with cleanup(ctx) as undo:
            steps = [
                on(name, log.step, name)
                for on, name in (
                    (undo.on_exit, "exit"),
                    (undo.on_error, "error"),
                    (undo.on_interrupt, "interrupt"),
                    (undo.on_error, "kept"),
                )
            ]
            for step in steps[:-1]:
                step.dismiss()
                step.dismiss()
            raise TerminalError("no")

    await deploy(service)
    with pytest.raises(restate.HttpError):
        await restate_env.client.service_call(work, None)
    assert log.of("end") == [("end", "kept")]


@pytest.mark.parametrize("how", ["shielded inside", "shielded as a whole"])
async def test_a_payment_that_went_through_is_not_taken_back_and_its_receipt_is_kept(
    restate_env: Restate, deploy: Deploy, log: Log, how: str
) -> None:
    paying = asyncio.Event()

    async def charge() -> str:
        await log.add("charging")
        await paying.wait()
        return "receipt 7"

    async def pay(ctx: Context) -> str:
        async with cleanup(ctx) as undo:
            refund = undo.on_error("refund", log.step, "refund")
            receipt = await shield(ctx.run_typed("charge", charge))
            refund.dismiss()
            return receipt

    class PaysAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn > 1:
                return "done"
            if how == "shielded as a whole":
                task.append(await shield(pay(ctx)))
            else:
                async with cleanup(ctx) as undo:
                    refund = undo.on_error("refund", log.step, "refund")
                    receipt = await shield(ctx.run_typed("charge", charge))
                    refund.dismiss()
                    task.append(receipt)
            return await ctx.run_typed("ship", log.step, name="ship", seconds=LONG)

    agent = PaysAgent("".join(word.title() for word in how.split()))
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("charging")
    await session.cancel()
    paying.set()
    outcome = await session.attach(1)
    assert outcome["status"] == "interrupted"
    assert texts(outcome["messages"]) == ["receipt 7"]
    assert log.of("begin") == []


async def test_a_payment_beside_what_is_cut_off_goes_on_to_its_end_before_the_cleanup(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    """Tools run side by side, and the turn is interrupted in another one than that which pays."""
    paying = asyncio.Event()

    async def charge() -> str:
        await log.add("charging")
        await paying.wait()
        await log.add("charged")
        return "receipt 7"

    class PaysBesideAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            async with cleanup(ctx, timeout=timedelta(seconds=20)) as undo:
                undo.on_exit("tidy", log.step, "tidy")
                refund = undo.on_error("refund", log.step, "refund")

                async def pay() -> None:
                    receipt = await shield(ctx.run_typed("charge", charge))
                    refund.dismiss()
                    task.append(receipt)
                    await ctx.run_typed("thank", log.step, name="thank")

                ship = ctx.run_typed("ship", log.step, name="ship", seconds=LONG)
                await asyncio.gather(pay(), ship)

    agent = PaysBesideAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("charging")
    await log.until("begin", "ship")
    await session.cancel()
    if not REPLAY:
        await log.until("abort", "ship")
        await asyncio.sleep(0.2)  # in which a cleanup could begin
        assert log.of("begin") == [("begin", "ship")]
    paying.set()
    outcome = await session.attach(1)
    assert outcome["status"] == "interrupted"
    assert texts(outcome["messages"]) == ["receipt 7"]
    assert log.before(("charged",), ("begin", "tidy"))
    assert ("begin", "refund") not in log.events
    assert ("begin", "thank") not in log.events


async def test_a_payment_that_fails_is_taken_back_although_it_was_shielded(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def charge() -> str:
        await log.add("charging")
        raise TerminalError("the card was declined")

    class DeclinedAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            async with cleanup(ctx) as undo:
                refund = undo.on_error("refund", log.step, "refund")
                try:
                    receipt = await shield(ctx.run_typed("charge", charge))
                except Interrupted:  # it is no interruption
                    return "interrupted"
                refund.dismiss()
                return receipt

    agent = DeclinedAgent()
    await deploy(agent)
    outcome = await Session(restate_env.client, agent, "one").ask("go")
    assert (outcome["status"], outcome.get("error")) == ("failed", "the card was declined")
    assert log.of("end") == [("end", "refund")]
