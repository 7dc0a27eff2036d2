"""What a session's stream tells of a turn that goes well."""

from typing import Any

import pytest

from interruptible.testing import Restate

from .conftest import REPLAY, Deploy, Log
from .following import Follower, all_converge, pull, stays
from .streaming import CALLING, Speaker, assistant, result, speaking, user

pytestmark = pytest.mark.anyio


def of_turn(turn: int, *events: dict[str, Any]) -> list[Any]:
    return [{"turn": turn, **event} for event in events]


BEGINS = {"type": "turn", "state": "begins"}
COMPLETED = {"type": "turn", "state": "ends", "status": "completed"}


def message(content: Any) -> dict[str, Any]:
    return {"type": "message", "message": content}


def tool(state: str) -> dict[str, Any]:
    return {"type": "tool", "call": "c1", "name": "search", "state": state}


def in_order(events: list[Any]) -> list[Any]:
    """What stays of events, without what is said beside what the task tells."""
    return [x for x in stays(events) if x["type"] not in ("pending", "tool")]


async def play(agent: Speaker, follower: Follower) -> None:
    """A turn with all that a turn can have, each piece seen by the follower before the next."""
    agent.tell(1, "think Hm, ", "say Once ")
    await follower.until_text("Once ")
    agent.tell(1, "tell mood", "say upon")
    await follower.until_text("Once upon")
    agent.tell(1, "Once upon a time", "note chapter", "call")
    await follower.until(lambda view: CALLING in view.live[1].messages)
    agent.tell(1, "say line 1\n")
    await follower.until(lambda view: view.outputs == {"c1": "line 1\n"})
    agent.tell(1, "say line 2\n")
    await follower.until(lambda view: view.outputs == {"c1": "line 1\nline 2\n"})
    agent.tell(1, "two lines")
    await follower.until(lambda view: result("two lines") in view.live[1].messages)


async def test_a_whole_turn_is_told_in_order_and_what_stays_of_it_is_told_whoever_comes_later(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    agent = Speaker(log, "WholeAgent", restate_env)
    async with speaking(restate_env, deploy, agent) as (session, follower):
        await session.send("go")
        await play(agent, follower)
        await session.send("shorter", policy="steer")
        agent.tell(1, "look")
        await follower.until(lambda view: user("shorter", 2) in view.live[1].messages)
        agent.tell(1, "end 42")
        assert (await session.attach())["status"] == "completed"
        await all_converge(restate_env, session, follower)
        (turn,) = (await session.turns())["turns"]
        expected = of_turn(
            1,
            BEGINS,
            {"type": "mood", "step": True},
            message(assistant("Once upon a time")),
            {"type": "chapter", "step": False},
            message(CALLING),
            tool("begins"),
            tool("ends"),
            message(result("two lines")),
            {"type": "pending"},
            {"type": "steered", "message": user("shorter", 2)},
            message(turn["messages"][-1]),
            COMPLETED,
        )
        assert turn["messages"][-1]["content"] == '{"answer": "42"}'
        told = await pull(session, offset=0)
        assert told["messages"][0]["type"] == "gap"
        assert in_order(told["messages"]) == in_order(expected)
        assert of_turn(1, tool("ends"))[0] in stays(told["messages"])
        if not REPLAY:  # each attempt has a voice of its own there, which makes gaps
            assert len(told["messages"]) == len(expected) + 1
            assert in_order(follower.events) == in_order(expected)
            states = [x for x in stays(follower.events) if x["type"] == "tool"]
            assert states == of_turn(1, tool("begins"), tool("ends"))
            pieces = ("text", "reasoning", "output")
            assert "".join(x["text"] for x in follower.events if x["type"] in pieces) == (
                "Hm, Once uponline 1\nline 2\n"
            )


async def test_the_next_turn_takes_the_place_of_the_one_before_for_whoever_comes_then(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    agent = Speaker(log, "NextAgent", restate_env)
    async with speaking(restate_env, deploy, agent) as (session, follower):
        await session.send("go")
        agent.tell(1, "say one", "one", "end")
        await session.attach()
        await session.send("on")
        agent.tell(2, "say two ")
        await follower.until_text("two ")
        async with Follower(session) as late:
            await late.until_text("two ")
            assert [x["turn"] for x in late.events if x["type"] == "turn"] == [2]
            assert late.view.ended == {1: ("completed", [assistant("one")])}
            agent.tell(2, "two", "end")
            await session.attach()
            await all_converge(restate_env, session, follower, late)


async def test_a_step_that_is_run_again_speaks_anew(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class TwiceAgent(Speaker):
        failed = False

        async def _speak(self, task: Any, say: Any) -> str:
            if not self.failed:
                self.failed = True
                say("first")
                await log.until("seen")
                raise ConnectionError
            return await super()._speak(task, say)

    agent = TwiceAgent(log, "TwiceStreamAgent", restate_env)
    async with speaking(restate_env, deploy, agent) as (session, follower):
        await session.send("go")
        await follower.until_text("first")
        await log.add("seen")
        agent.tell(1, "say second")
        await follower.until_text("second")
        assert follower.events[-1]["type"] == "text"
        assert "gap" in [x["type"] for x in follower.events[1:]]
        agent.tell(1, "second", "end")
        await session.attach()
        await all_converge(restate_env, session, follower)
