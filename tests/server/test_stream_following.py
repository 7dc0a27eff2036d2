"""Followers that are cut off, slow, or handlers; and turns that say very much, or odd things."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import httpx
import pytest
import restate
from restate import Context, ObjectContext

from interruptible import Agent, Session, Task
from interruptible.stream import Stream
from interruptible.testing import Restate

from .conftest import Deploy, Log
from .following import Follower, View, all_converge, ended_of, pull, told_all
from .streaming import CALLING, Speaker, assistant, result, speaking

pytestmark = pytest.mark.anyio


class Broken(Follower):
    """Closes its connection after each event, and opens it again with the event's id."""

    async def _run(self) -> None:
        while True:
            async with aclosing(self.session.follow(self.after)) as events:
                async for event in events:
                    await self.take(dict(event))
                    break


async def test_a_follower_that_is_cut_off_at_each_event_comes_to_the_same(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    agent = Speaker(log, "CutOffStreamAgent", restate_env)
    async with (
        speaking(restate_env, deploy, agent) as (session, whole),
        Broken(session) as broken,
    ):
        await session.send("go")
        said = ""
        for number in range(10):
            agent.tell(1, f"say {number} ")
            said += f"{number} "
            for follower in (whole, broken):
                await follower.until_text(said)
        agent.tell(1, said, "call")
        await broken.until(lambda view: CALLING in view.live[1].messages)
        agent.tell(1, "say line 1")
        await broken.until(lambda view: view.outputs == {"c1": "line 1"})
        agent.tell(1, "a line")
        await broken.until(lambda view: result("a line") in view.live[1].messages)
        await session.send("next", policy="queue")
        agent.tell(1, "end")
        agent.tell(2, "say two")
        await broken.until_text("two")
        agent.tell(2, "two", "end")
        await session.attach()
        await all_converge(restate_env, session, whole, broken)
        assert len(broken.events) >= len({x["id"] for x in broken.events}) >= 20


@pytest.mark.parametrize("policy", ["interrupt", "queue"])
async def test_from_whichever_event_a_follower_goes_on_it_comes_to_the_record(
    restate_env: Restate, deploy: Deploy, log: Log, policy: Any
) -> None:
    agent = Speaker(log, "ResumingAgent", restate_env)
    views: dict[int, View] = {}

    def keep(follower: Follower) -> None:
        """The view as it was after each event, as whoever was cut off there has it."""
        view = views[follower.after or 0] = View()
        view.recorded, view.discarded = follower.view.recorded, {*follower.view.discarded}
        for turn, live in follower.view.live.items():
            view.live[turn] = type(live)(**{**vars(live), "messages": [*live.messages]})

    await deploy(agent)
    session = Session(restate_env.client, agent, policy)
    async with Follower(session, check=keep) as follower:
        await session.send("go")
        agent.tell(1, "say one ")
        await follower.until_text("one ")
        agent.tell(1, "one", "say more")
        await follower.until_text("more")
        await session.send("on", policy=policy)
        if policy == "queue":
            agent.tell(1, "end")
        else:
            agent.stop(1)
        agent.tell(2, "say two")
        await follower.until_text("two")
        agent.tell(2, "two", "end")
        await session.attach()
        last = await told_all(restate_env, session)
        await follower.until_event(last)
        record = await ended_of(session)
        assert len(views) >= 8
        for after, view in views.items():
            async with Follower(session, after, view) as resumed:
                await resumed.until_event(last)
                assert resumed.view.ended == record, (after, resumed.events)


async def test_a_follower_that_never_reads_slows_nobody(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    agent = Speaker(log, "UnreadAgent", restate_env)
    async with speaking(restate_env, deploy, agent) as (session, follower):
        request = b'{"offset": 0}'
        where = httpx.URL(restate_env.ingress_url)
        connections = [await asyncio.open_connection(where.host, where.port) for _ in range(5)]
        for _, writer in connections:
            writer.write(b"POST /UnreadAgentStream/one/pull HTTP/1.1\r\nhost: here\r\n")
            writer.write(b"content-type: application/json\r\n")
            writer.write(b"content-length: %d\r\n\r\n%s" % (len(request), request))
        idle = session.follow()
        await anext(idle)  # it has begun, and does not go on
        await session.send("go")
        said = ""
        for number in range(20):
            agent.tell(1, f"say {number} {'.' * 10_000}")
            said += f"{number} {'.' * 10_000}"
            await follower.until_text(said)
        agent.tell(1, said, "end")
        assert (await session.attach())["messages"] == [assistant(said)]
        await all_converge(restate_env, session, follower)
        for _, writer in connections:
            writer.close()
        await idle.aclose()


async def pages(env: Restate, session: Session) -> list[Any]:
    """What is stored of a stream."""
    rows = await env.query(
        "SELECT key FROM state "  # noqa: S608
        f"WHERE service_name = '{session._agent}Stream' AND service_key = '{session.key}'"
    )
    return sorted(x["key"] for x in rows if x["key"].startswith("page/"))


async def test_a_million_characters_in_one_turn_come_through_and_leave_only_the_message(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    piece, count = "0123456789 é 日本 🎈" * 10, 0
    while len(piece) * count < 1_000_000:
        count += 1

    class MillionAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            return await ctx.run_typed("speak", self.speak, say=task.partial)

        async def speak(self, say: Callable[[str], None]) -> str:
            for number in range(count):
                say(piece)
                if number % 50 == 0:
                    await asyncio.sleep(0)
            await log.until("seen")
            return "the end"

    agent = MillionAgent(stream=Stream(ingress=restate_env.ingress_url))
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    async with Follower(session) as follower:
        await session.send("go")
        await follower.until(lambda view: len(view.text) >= len(piece) * count, "all of it")
        assert follower.view.text == piece * count
        assert len(await pages(restate_env, session)) > 10
        await log.add("seen")
        await session.attach()
        await all_converge(restate_env, session, follower)
        assert len(await pages(restate_env, session)) <= 1  # with what stays of the beginning


async def test_half_a_character_waits_for_its_other_half_and_what_has_none_is_mended(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    balloon, flag = "🎈", "🏴"
    high, low = (chr(x) for x in (0xD83C, 0xDF88))

    class HalvesAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            said = await ctx.run_typed("speak", self.speak, say=task.partial)
            return f"{said}{flag}"

        async def speak(self, say: Callable[[str], None]) -> str:
            say(f"a {high}")
            await log.until("half")
            say(f"{low} b {low} c ")
            await log.until("whole")
            say(high)
            say("d")
            await log.until("seen")
            return balloon

    agent = HalvesAgent(stream=Stream(ingress=restate_env.ingress_url))
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    async with Follower(session) as follower:
        await session.send("go")
        await follower.until_text("a ")
        await log.add("half")
        await follower.until_text(f"a {balloon} b \ufffd c ")
        await log.add("whole")
        await follower.until_text(f"a {balloon} b \ufffd c \ufffdd")
        await log.add("seen")
        await session.attach()
        await all_converge(restate_env, session, follower)
        assert follower.view.ended[1] == ("completed", [assistant(f"{balloon}{flag}")])


async def test_a_step_in_a_thread_speaks_as_any_other(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    loop = asyncio.get_running_loop()

    class ThreadStreamAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            return await ctx.run_typed("speak", self.speak, say=task.partial)

        def speak(self, say: Callable[[str], None]) -> str:
            for number in range(100):
                say(f"{number} ")
            asyncio.run_coroutine_threadsafe(log.until("seen"), loop).result()
            return "the end"

    agent = ThreadStreamAgent(stream=Stream(ingress=restate_env.ingress_url))
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    async with Follower(session) as follower:
        await session.send("go")
        await follower.until_text("".join(f"{number} " for number in range(100)))
        await log.add("seen")
        await session.attach()
        await all_converge(restate_env, session, follower)


async def test_a_handler_follows_and_what_it_saw_is_in_its_journal(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    agent = Speaker(log, "FollowedAgent", restate_env)
    reader = restate.VirtualObject("StreamReader")

    @reader.handler()
    async def read(ctx: ObjectContext) -> list[Any]:
        events: list[Any] = []
        async with aclosing(Session(ctx, agent, ctx.key()).follow()) as following:
            async for event in following:
                events.append(event)
                if event["type"] == "turn" and event["state"] == "ends":
                    break
                kind = {k: x for k, x in event.items() if k != "id"}
                await ctx.run_typed("note", log.add, restate.RunOptions(), "read", str(kind))
        return events

    await deploy(agent, reader)
    session = Session(restate_env.client, agent, "one")
    reading = asyncio.ensure_future(restate_env.client.object_call(read, "one", None))
    await log.until("read", str({"turn": 0, "type": "gap"}))
    await session.send("go")
    agent.tell(1, "say one")
    await log.until("read", str({"turn": 1, "type": "text", "text": "one"}))
    agent.tell(1, "one", "end")
    events: Any = await asyncio.wait_for(reading, 30)
    assert [x["type"] for x in events if x["type"] != "text"] == ["gap", "turn", "message", "turn"]
    ids = [x["id"] for x in events]
    assert ids == sorted(set(ids))
    assert (await pull(session, offset=0))["nextOffset"] == ids[-1]
