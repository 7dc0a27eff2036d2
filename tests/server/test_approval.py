"""What a turn may not do before somebody has said yes, on a real server."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from restate import Context

from interruptible import Agent, Task
from interruptible.testing import Restate

from .conftest import Deploy, Log, eventually
from .gated import open_session
from .test_pending import refused

pytestmark = pytest.mark.anyio


class Asking(Agent):
    """Asks for what its message says, one after the other or side by side."""

    def __init__(self, log: Log, name: str, timeout: timedelta | None = None) -> None:
        super().__init__(name)
        self.log = log
        self.timeout = timeout

    async def run(self, ctx: Context, task: Task) -> str:
        asked = task.text.split(", ")
        answers = await asyncio.gather(
            *(task.approval(x, value={"what": x}, timeout=self.timeout) for x in asked)
        )
        await ctx.run_typed("told", self._told, told=[list(x) for x in answers])
        return " ".join("yes" if x else "no" for x in answers)

    async def _told(self, told: Any) -> None:
        await self.log.add("told", told)


async def waiting(session: Any, count: int) -> Any:
    async def look() -> Any:
        waits = (await session.status())["waiting_for"]
        return waits if len(waits) == count else None

    return await eventually(look)


async def test_an_approval_is_listed_and_its_answer_is_what_the_task_gets(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    session = await open_session(restate_env, deploy, Asking(log, "ApprovalAgent"))
    assert await refused(session.answer(1, approved=True)) == 404
    await session.send("git push")
    [asked] = await waiting(session, 1)
    assert asked == {"id": 1, "turn": 1, "title": "git push", "value": {"what": "git push"}}
    await session.answer(1, approved=False, reason="not today", value=[1])
    assert (await session.attach())["messages"][-1]["content"] == "no"
    assert log.of("told") == [("told", [[False, "not today", [1], False]])]
    assert await refused(session.answer(1, approved=True)) == 410
    assert (await session.status())["waiting_for"] == []


async def test_several_are_answered_in_any_order(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    session = await open_session(restate_env, deploy, Asking(log, "SeveralAgent"))
    await session.send("a, b, c")
    waits = await waiting(session, 3)
    ids = {x["title"]: x["id"] for x in waits}
    await session.answer(ids["b"], approved=True)
    await session.answer(ids["c"], approved=False)
    assert [x["title"] for x in await waiting(session, 1)] == ["a"]
    await session.answer(ids["a"], approved=True)
    assert (await session.attach())["messages"][-1]["content"] == "yes yes no"


async def test_one_that_nobody_answers_in_time_is_over(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    agent = Asking(log, "TimedAgent", timedelta(seconds=1))
    session = await open_session(restate_env, deploy, agent)
    await session.send("anybody?")
    [asked] = await waiting(session, 1)
    assert asked["until"] > 0
    assert (await session.attach())["messages"][-1]["content"] == "no"
    assert log.of("told") == [("told", [[False, None, None, True]])]
    assert await refused(session.answer(asked["id"], approved=True)) == 410


async def test_an_interruption_withdraws_it_and_a_late_answer_changes_nothing(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    session = await open_session(restate_env, deploy, Asking(log, "LateAgent"))
    await session.send("first")
    [first] = await waiting(session, 1)
    await session.send("second")
    assert await refused(session.answer(first["id"], approved=True)) == 410
    [second] = await waiting(session, 1)
    assert (second["id"], second["title"], second["turn"]) == (2, "second", 2)
    await session.answer(second["id"], approved=True)
    assert (await session.attach())["messages"][-1]["content"] == "yes"
    assert (await session.attach(1))["status"] == "interrupted"
    assert len(log.of("told")) == 1


async def test_one_whose_task_was_killed_is_over(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    session = await open_session(restate_env, deploy, Asking(log, "KilledAskingAgent"))
    receipt = await session.send("first")
    [asked] = await waiting(session, 1)
    await restate_env.kill(receipt["task_id"])
    assert await refused(session.answer(asked["id"], approved=True)) == 410
    assert (await session.attach(1))["status"] == "killed"


async def test_what_cannot_be_asked_fails_the_turn_and_says_why(
    restate_env: Restate, deploy: Deploy
) -> None:
    class Wrong(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            wrong: Any = {"": "", "number": 7}.get(task.text, "title")
            value = "x" * 70_000 if task.text == "large" else None
            await task.approval(wrong, value=value)

    session = await open_session(restate_env, deploy, Wrong("WrongAskingAgent"))
    for said, reason in (("number", "takes what is asked as text"), ("large", "at most 65536")):
        outcome = await session.ask(said)
        assert outcome["status"] == "failed"
        assert reason in outcome.get("error", "")


async def test_what_is_asked_once_a_turn_is_cancelled_is_denied_and_nobody_waits(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class AsksLate(Asking):
        async def on_interrupted(self, ctx: Context, task: Task) -> None:
            answer = await task.approval("keep the half-done branch?")
            await ctx.run_typed("told", self._told, told=list(answer))

    session = await open_session(restate_env, deploy, AsksLate(log, "LateAskingAgent"))
    await session.send("first")
    await waiting(session, 1)
    await session.cancel()
    assert (await session.attach(1))["status"] == "interrupted"
    assert log.of("told") == [("told", [False, "cancelled", None, False])]
    assert (await session.status())["waiting_for"] == []


@pytest.mark.parametrize("timeout", [60, timedelta(seconds=-1), timedelta.max])
async def test_a_time_that_makes_no_sense_is_refused_or_made_one_that_does(
    restate_env: Restate, deploy: Deploy, log: Log, timeout: Any
) -> None:
    name = f"Time{'None' if timeout == 60 else 'Past' if timeout < timedelta(0) else 'Ever'}Agent"
    session = await open_session(restate_env, deploy, Asking(log, name, timeout))
    await session.send("go")
    if timeout == timedelta.max:
        [asked] = await waiting(session, 1)
        await session.answer(asked["id"], approved=True)
    outcome = await session.attach()
    assert outcome["status"] == ("failed" if timeout == 60 else "completed")
    assert ("takes a `timedelta`, not int" in outcome.get("error", "")) == (timeout == 60)
