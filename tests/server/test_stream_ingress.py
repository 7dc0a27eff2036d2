"""No way to the ingress: it is said once, and the turn goes on as if there were no stream."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from restate import Context

from interruptible import Agent, Session, Task
from interruptible.stream import Stream
from interruptible.testing import Restate

from .conftest import Deploy, Log, eventually, normal_mode
from .following import Follower, all_converge, record_of
from .process import free_port
from .streaming import CALLING, assistant, result

pytestmark = pytest.mark.anyio


class Talker(Agent):
    """Says something, works on a call, and answers; where a test cuts it off, it stays."""

    def __init__(self, log: Log, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.log = log

    async def run(self, ctx: Context, task: Task) -> str:
        task.append(await ctx.run_typed("speak", self.speak, say=task.partial, words="hello"))
        task.append(CALLING)
        with task.call("c1"):
            give = task.partial_result()
            task.append(result(await ctx.run_typed("work", self.speak, say=give, words="a line")))
        task.publish({"type": "mood"})
        stays = task.text == "stay"
        return await ctx.run_typed("end", self.speak, say=task.partial, words="end", stays=stays)

    async def speak(self, say: Callable[[str], None], words: str, *, stays: bool = False) -> str:
        for word in words.split(" "):
            say(word)
        if stays:
            await self.log.add("stays")
            await asyncio.Event().wait()
        return words


def same(turn: dict[str, Any]) -> dict[str, Any]:
    """What of a turn's record is the same in another session."""
    return {k: x for k, x in turn.items() if k not in ("task_id", "accepted_at", "ended_at")}


WAYS = ["nobody says where", "nobody listens", "it is another service", "it is no address"]


def stream_to(way: str, env: Restate, monkeypatch: pytest.MonkeyPatch) -> Stream:
    addresses = {
        "nobody listens": f"http://127.0.0.1:{free_port()}",
        "it is another service": env.admin_url,
        "it is no address": "nonsense",
    }
    url = addresses.get(way)
    if url is None or not url.startswith("http"):  # the environment says so, or nothing
        monkeypatch.delenv("RESTATE_INGRESS_URL", raising=False)
        if url is not None:
            monkeypatch.setenv("RESTATE_INGRESS_URL", url)
        return Stream()
    return Stream(ingress=url)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        x.getMessage()
        for x in caplog.records
        if x.name.startswith("interruptible") and x.levelno >= logging.WARNING
    ]


@pytest.mark.parametrize("way", WAYS)
async def test_without_a_way_to_the_ingress_all_is_as_without_a_stream_and_messages_are_told(
    restate_env: Restate,
    deploy: Deploy,
    log: Log,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    monkeypatch.delenv("RESTATE_INGRESS_URL", raising=False)
    agent = Talker(log, "WaylessAgent", stream=stream_to(way, restate_env, monkeypatch))
    bare = Talker(log, "BareAgent")
    await deploy(agent, bare)
    session = Session(restate_env.client, agent, way)
    other = Session(restate_env.client, bare, way)
    async with Follower(session) as follower:
        outcome = await session.ask("go")
        assert outcome == await other.ask("go")
        assert outcome["messages"] == [
            assistant("hello"),
            CALLING,
            result("a line"),
            assistant("end"),
        ]
        await session.ask("again")
        await other.ask("again")
        await all_converge(restate_env, session, follower)
        assert [same(x) for x in await record_of(session)] == [
            same(x) for x in await record_of(other)
        ]
        types = [x["type"] for x in follower.events if x["turn"] == 1]
        assert types == ["turn", "message", "message", "message", "mood", "message", "turn"]
    said = warnings_of(caplog)
    assert len(said) <= 1, said  # a turn may be over before it is known
    assert all("streams no tokens" in x and "are on record as always" in x for x in said)


@normal_mode
@pytest.mark.parametrize("way", WAYS)
async def test_without_a_way_to_the_ingress_half_an_answer_is_kept_and_it_is_said_once(
    restate_env: Restate,
    deploy: Deploy,
    log: Log,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    monkeypatch.delenv("RESTATE_INGRESS_URL", raising=False)
    agent = Talker(log, "LostWayAgent", stream=stream_to(way, restate_env, monkeypatch))
    await deploy(agent)
    session = Session(restate_env.client, agent, way)
    async with Follower(session) as follower:
        for turn in (1, 2):
            await session.send("stay")
            await log.until("stays", times=turn)

            async def is_said() -> bool:
                return bool(warnings_of(caplog))

            await eventually(is_said)
            await session.cancel()
            outcome = await session.attach(turn)
            assert (outcome["messages"][-1], outcome["partial"]) == (assistant("end"), 1)
        await all_converge(restate_env, session, follower)
    (said,) = warnings_of(caplog)
    assert said.startswith("LostWayAgent streams no tokens for now: ")
    if way == "nobody says where":
        assert "Set RESTATE_INGRESS_URL, or `ingress=...`" in said


async def test_the_address_of_the_ingress_is_read_when_it_is_first_needed(
    restate_env: Restate,
    deploy: Deploy,
    log: Log,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class LateWayAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            return await ctx.run_typed("speak", self.speak, say=task.partial)

        async def speak(self, say: Callable[[str], None]) -> str:
            say("hello")
            await log.until("seen")
            return "bye"

    monkeypatch.delenv("RESTATE_INGRESS_URL", raising=False)
    agent = LateWayAgent(stream=Stream())
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    monkeypatch.setenv("RESTATE_INGRESS_URL", restate_env.ingress_url)
    async with Follower(session) as follower:
        await session.send("go")
        await follower.until_text("hello")
        await log.add("seen")
        await session.attach()
        await all_converge(restate_env, session, follower)
    assert warnings_of(caplog) == []
