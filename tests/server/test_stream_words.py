"""What of a turn's words is on record as partial: that of steps that were cut off, and no other."""

import asyncio
from collections.abc import Callable

import pytest
import restate
from restate import Context, RunOptions

from interruptible import Agent, Session, Task
from interruptible.stream import Stream
from interruptible.testing import Restate

from .conftest import Deploy, Log, eventually
from .following import Follower, all_converge
from .streaming import CALLING

pytestmark = pytest.mark.anyio


class Drafting(Agent):
    """Its first step says something and ends well; then it waits until it is cut off."""

    def __init__(self, log: Log, name: str, env: Restate) -> None:
        super().__init__(name, stream=Stream(ingress=env.ingress_url))
        self.log = log

    async def run(self, ctx: Context, task: Task) -> None:
        if task.session == "a tool":
            task.append(CALLING)
            with task.call("c1"):
                give = task.partial_result()
                await ctx.run_typed("work", self.speak, RunOptions(), give, "line 1")
                await self.wait(ctx)
        elif task.session == "side by side":
            steps = [
                ctx.run_typed("draft", self.speak, RunOptions(), task.partial, words)
                for words in ("one ", "one ")
            ]
            await restate.gather(*steps)
            await self.wait(ctx)
        else:
            await ctx.run_typed("draft", self.speak, RunOptions(), task.partial, "a draft")
            await self.wait(ctx)

    async def wait(self, ctx: Context) -> None:
        await ctx.run_typed("note", self.log.add, RunOptions(), "waits")
        await ctx.signal("never")

    async def speak(self, say: Callable[[str], None], words: str) -> str:
        say(words)
        await self.log.until("seen")
        return words


@pytest.mark.parametrize("key", ["the model", "a tool", "side by side"])
async def test_what_a_step_said_that_has_ended_is_no_partial_answer(
    restate_env: Restate, deploy: Deploy, log: Log, key: str
) -> None:
    agent = Drafting(log, "DraftingAgent", restate_env)
    await deploy(agent)
    session = Session(restate_env.client, agent, key)
    async with Follower(session) as follower:
        await session.send("go")
        said = {"a tool": "line 1", "side by side": "one one "}.get(key, "a draft")
        await follower.until(
            lambda view: said == view.text + "".join(view.outputs.values()), f"{said!r}"
        )
        await log.add("seen")
        await log.until("waits")
        await session.cancel()
        outcome = await session.attach()
        assert (outcome["status"], outcome.get("partial")) == ("interrupted", None)
        assert said.strip() not in str(outcome["messages"])
        await all_converge(restate_env, session, follower)


async def test_the_stream_is_asked_for_words_in_vain_where_its_answer_is_killed(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    """The turn ends all the same, as interrupted."""
    agent = Drafting(log, "UnansweredAgent", restate_env)
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    async with Follower(session) as follower:
        await session.send("go")
        await follower.until_text("a draft")
        blocking = asyncio.Event()
        real = agent.services[-1].handlers["words"].fn

        async def words(*_: object) -> object:
            blocking.set()
            return await asyncio.Event().wait()

        agent.services[-1].handlers["words"].fn = words
        await log.add("seen")
        await log.until("waits")
        await session.cancel()
        await asyncio.wait_for(blocking.wait(), 30)

        async def under_way() -> list[dict[str, object]]:
            return await restate_env.invocations(
                "target = 'UnansweredAgentStream/one/words' AND status != 'completed'"
            )

        (asked,) = await eventually(under_way)
        await restate_env.kill(str(asked["id"]))
        agent.services[-1].handlers["words"].fn = real
        outcome = await session.attach()
        assert outcome == {"turn": 1, "status": "interrupted", "messages": []}
        await all_converge(restate_env, session, follower)
