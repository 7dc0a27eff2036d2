"""What the coding agent found out about the stream."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from restate import Context

from interruptible import Agent, Session, Task
from interruptible._stream import publisher
from interruptible.stream import Stream
from interruptible.testing import Restate

from .conftest import Deploy

pytestmark = pytest.mark.anyio


async def test_who_is_interrupted_while_nothing_speaks_ends_however_soon_the_stream_answers(
    deploy: Deploy, restate_env: Restate
) -> None:
    asked: asyncio.Queue[str] = asyncio.Queue()

    class Waits(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            await ctx.run_typed("speak", speak, say=task.partial)
            _, answer = ctx.awakeable()
            asked.put_nowait(task.session)
            await answer

    async def speak(say: Any) -> None:
        say("I ask.")

    agent = Waits(name="WaitsForAnswerAgent", stream=Stream(ingress=restate_env.ingress_url))
    await deploy(agent)
    sessions = [Session(restate_env.client, agent, f"s{n}") for n in range(20)]
    await asyncio.gather(*(x.send("go") for x in sessions))
    for _ in sessions:
        await asyncio.wait_for(asked.get(), 30)
    await asyncio.gather(*(x.cancel() for x in sessions))
    outcomes = await asyncio.wait_for(asyncio.gather(*(x.attach(1) for x in sessions)), 60)
    assert [x["status"] for x in outcomes] == ["interrupted"] * 20


async def test_what_a_step_tells_as_it_fails_is_told(
    deploy: Deploy, restate_env: Restate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "LAST", 30.0)  # on a busy machine a second may be too short
    tries: list[int] = []

    async def call(tell: Any, say: Any) -> None:
        tries.append(len(tries) + 1)
        tell({"type": "model", "state": "begins", "try": len(tries)})
        say("So")
        if len(tries) < 3:
            tell({"type": "model", "state": "fails", "try": len(tries)})
            raise OSError("it is busy")

    class Busy(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            await ctx.run_typed("call", call, tell=task.publish, say=task.partial)
            return "Done."

    agent = Busy(name="BusyModelAgent", stream=Stream(ingress=restate_env.ingress_url))
    await deploy(agent)
    session = Session(restate_env.client, agent, "ada")
    await session.send("go")
    events: list[Any] = []
    async with aclosing(session.follow()) as stream:
        async for event in stream:
            events = [] if event["type"] == "gap" else [*events, event]
            if "status" in event:
                break
    told = [(x["state"], x["try"]) for x in events if x["type"] == "model"]
    # What the last one says may come too late: the turn is over at once.
    assert told[:4] == [("begins", 1), ("fails", 1), ("begins", 2), ("fails", 2)]
