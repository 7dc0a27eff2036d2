"""Interrupting what the server itself has given up listening to, or has stopped trying."""

import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import restate
from restate import Context

from interruptible import Agent, Session, Task, cleanup
from interruptible.testing import Restate, restate_server, serve

from .conftest import Deploy, Log, eventually, normal_mode

pytestmark = [pytest.mark.anyio, normal_mode]

PROMPT = 2.0
"""Seconds: the bound that the retry policy promises for a step in back-off. The faults that these
tests look for take at least twice as long, or never end."""


@pytest.fixture
async def hasty_server(anyio_backend: str) -> AsyncIterator[Restate]:
    """A server that hangs up on a call that is silent for a second."""
    del anyio_backend
    env = {"RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT": "1s"}
    async with restate_server(env=env) as running:
        yield running


async def test_a_call_that_is_silent_beyond_the_servers_inactivity_timeout_is_interrupted_at_once(
    hasty_server: Restate, log: Log
) -> None:
    class SilentAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            seconds = 60.0 if task.turn == 1 else 0.0
            return await ctx.run_typed("think", log.step, name=task.turn, seconds=seconds)

    agent = SilentAgent()
    async with serve(restate.app(services=agent.services)) as url:
        await hasty_server.register(url)
        session = Session(hasty_server.client, agent, "one")
        receipt = await session.send("first")
        await log.until("begin", 1)
        # Silent for longer than the timeout of the server: it would have hung up by then.
        started = time.monotonic()

        async def silent_for_long() -> bool:
            return time.monotonic() - started > 2.5

        await eventually(silent_for_long)
        rows = await hasty_server.invocations(f"id = '{receipt['task_id']}'")
        assert rows[0]["status"] == "running"
        assert (await session.ask("second"))["status"] == "completed"
    # The first call was cut off: it had 57 seconds to go.
    assert log.events == [("begin", 1), ("abort", 1), ("begin", 2), ("end", 2)]


async def test_a_step_in_retry_back_off_is_interrupted_at_its_next_attempt(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    tries: list[float] = []

    async def flaky() -> str:
        tries.append(time.monotonic())
        await log.add("try", len(tries))
        raise RuntimeError("the provider is overloaded")

    async def undo() -> None:
        await log.add("undo")

    class FlakyAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn > 1:
                return "done"
            async with cleanup(ctx) as steps:
                steps.on_interrupt("undo", undo)
                return await ctx.run_typed("flaky", flaky)

    agent = FlakyAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("try", 7)
    receipt = await session.send("second")
    assert receipt["interrupted"] == [1]
    assert (await session.attach())["status"] == "completed"
    assert (await session.attach(1))["status"] == "interrupted"
    assert log.of("undo") == [("undo",)]
    assert len(tries) <= 8
    services = await restate_env._admin("GET", "/services/FlakyTask")
    (run_task,) = [h for h in services["handlers"] if h["name"] == "run_task"]
    policy = {**services["retry_policy"], **run_task.get("retry_policy", {})}
    assert policy["max_interval"] == "1s 500ms", policy


async def test_a_task_that_restate_has_paused_is_interrupted_and_cleaned_up(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def flaky() -> str:
        raise RuntimeError("the provider is gone")

    async def undo() -> None:
        await log.add("undo")

    class PausedAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn > 1:
                return "done"
            async with cleanup(ctx) as steps:
                steps.on_interrupt("undo", undo)
                return await ctx.run_typed("flaky", flaky)

    agent = PausedAgent(
        retry_policy=restate.InvocationRetryPolicy(
            initial_interval=timedelta(milliseconds=10), max_attempts=2, on_max_attempts="pause"
        )
    )
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    receipt = await session.send("first")

    async def paused() -> bool:
        rows = await restate_env.invocations(f"id = '{receipt['task_id']}'")
        return bool(rows) and rows[0]["status"] == "paused"

    await eventually(paused)
    assert (await session.status())["status"] == "running"
    assert (await session.ask("second"))["status"] == "completed"
    assert await session.attach(1) == {"turn": 1, "status": "interrupted", "messages": []}
    assert log.events == [("undo",)]
