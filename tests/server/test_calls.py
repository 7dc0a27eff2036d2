"""Which calls were cut off and which were not begun, as the record tells it, replayed or not."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from restate import Context, TerminalError

from interruptible import Agent, Session, Task
from interruptible._task.repair import INTERRUPTED, NOT_BEGUN
from interruptible.testing import Restate

from .conftest import Deploy, Log

pytestmark = pytest.mark.anyio

ANSWER: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": call, "type": "function"} for call in "abc"],
}


def result(call: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call, "content": content}


class Caller(Agent):
    """Is asked for three calls in its first turn, and works on them until it is told to stop."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    async def run(self, ctx: Context, task: Task) -> str | None:
        if task.turn > 1:
            return "done"
        await ctx.run_typed("model", self.log.step, name="model")
        task.append(ANSWER)
        await self.work(ctx, task)
        return None

    async def work(self, ctx: Context, task: Task) -> None:
        raise NotImplementedError

    async def on_interrupted(self, ctx: Context, task: Task) -> None:
        # Where the server replays at every await, the outcome is made in an attempt of its own.
        await ctx.run_typed("bye", self.log.step, name="bye")

    async def stays(self, ctx: Context) -> None:
        await self.log.add("stays")
        await ctx.signal("never")


async def ends(env: Restate, deploy: Deploy, agent: Caller) -> tuple[Any, Any, dict[str, str]]:
    """The calls that were cut off, those that were not begun, and the results of all."""
    await deploy(agent)
    session = Session(env.client, agent, "one")
    await session.send("go")
    await agent.log.until("stays")
    assert (await session.ask("stop"))["status"] == "completed"
    outcome, turn = await session.attach(1), (await session.turns())["turns"][0]
    told = (outcome.get("cut_off"), outcome.get("not_begun"))
    assert (turn.get("cut_off"), turn.get("not_begun")) == told
    assert outcome["messages"][0] == ANSWER
    return *told, {x["tool_call_id"]: x["content"] for x in outcome["messages"][1:]}


async def test_before_anything_was_done_for_them_no_call_has_begun(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class WaitsFirstAgent(Caller):
        async def work(self, ctx: Context, task: Task) -> None:
            await self.stays(ctx)

    told = await ends(restate_env, deploy, WaitsFirstAgent(log))
    assert told == (None, ["a", "b", "c"], dict.fromkeys("abc", NOT_BEGUN))


async def test_when_something_was_done_and_nobody_says_for_which_all_may_have_begun(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class CallsSilentAgent(Caller):
        async def work(self, ctx: Context, task: Task) -> None:
            task.append(result("a", await ctx.run_typed("a", self.log.step, name="a")))
            await self.stays(ctx)

    told = await ends(restate_env, deploy, CallsSilentAgent(log))
    assert told == (["b", "c"], None, {"a": "a", "b": INTERRUPTED, "c": INTERRUPTED})


async def test_where_it_is_said_the_call_at_work_is_cut_off_and_the_next_was_not_begun(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class SayingAgent(Caller):
        async def work(self, ctx: Context, task: Task) -> None:
            for call in "abc":
                with task.call(call):
                    text = await ctx.run_typed(call, self.log.step, name=call)
                    if call == "b":
                        await self.stays(ctx)
                task.append(result(call, text))

    told = await ends(restate_env, deploy, SayingAgent(log))
    assert told == (["b"], ["c"], {"a": "a", "b": INTERRUPTED, "c": NOT_BEGUN})


async def test_side_by_side_what_has_ended_is_kept_and_each_call_that_began_is_cut_off(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class SideBySideAgent(Caller):
        async def work(self, ctx: Context, task: Task) -> None:
            await asyncio.gather(*(self.tool(ctx, task, call) for call in "ab"))

        async def tool(self, ctx: Context, task: Task, call: str) -> None:
            with task.call(call):
                if call == "a":
                    task.append(result(call, await ctx.run_typed(call, self.log.step, name=call)))
                    await self.log.add("stays")
                else:
                    await ctx.signal("never")

    told = await ends(restate_env, deploy, SideBySideAgent(log))
    assert told == (["b"], ["c"], {"a": "a", "b": INTERRUPTED, "c": NOT_BEGUN})


async def test_what_is_tried_after_the_cancellation_has_not_begun(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class StubbornAgent(Caller):
        async def work(self, ctx: Context, task: Task) -> None:
            for call in "abc":
                try:
                    with task.call(call):
                        if call == "a":
                            await self.stays(ctx)
                        await ctx.run_typed(call, self.log.step, name=call)
                except TerminalError:
                    continue

    told = await ends(restate_env, deploy, StubbornAgent(log))
    assert told == (["a"], ["b", "c"], {"a": INTERRUPTED, "b": NOT_BEGUN, "c": NOT_BEGUN})
    assert ("begin", "b") not in log.events


async def test_what_is_sent_after_the_cancellation_has_an_effect_and_its_call_has_begun(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class SendingAgent(Caller):
        async def work(self, ctx: Context, task: Task) -> None:
            for call in "abc":
                with suppress(TerminalError), task.call(call):
                    if call == "b":
                        ctx.generic_send(self.name, "get_status", b"null", key="another")
                    await self.stays(ctx)

    told = await ends(restate_env, deploy, SendingAgent(log))
    assert told == (["a", "b"], ["c"], {"a": INTERRUPTED, "b": INTERRUPTED, "c": NOT_BEGUN})


async def test_the_agent_says_what_the_model_is_told_of_them(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class WordyAgent(Caller):
        async def work(self, ctx: Context, task: Task) -> None:
            with task.call("a"):
                await self.stays(ctx)

        def call_note(self, name: str | None, *, begun: bool, output: str | None) -> str:
            return "perhaps" if begun else "never"

    told = await ends(restate_env, deploy, WordyAgent(log))
    assert told == (["a"], ["b", "c"], {"a": "perhaps", "b": "never", "c": "never"})


async def test_a_call_that_was_not_put_out_is_refused_and_so_is_putting_out_within_a_step(
    restate_env: Restate, deploy: Deploy
) -> None:
    class MistakenAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            async def appends() -> None:
                task.append("lost in the next attempt")

            if task.text == "append":
                await ctx.run_typed("append", appends)
            task.append(ANSWER)
            with task.call("look_up"):
                return "never"

    agent = MistakenAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    assert (await session.ask("append")).get("error") == (
        "`task.append` was called inside a step. Return what the step gave, and put it out where "
        "the step is awaited."
    )
    assert (await session.ask("call")).get("error") == (
        'task.call: there is no call "look_up" in what this turn has put out; its calls are: '
        "a, b, c. Put out the message with the call first, and give the call's id."
    )
