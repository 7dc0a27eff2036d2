"""Who may do what with a stream, through Restate's ingress: pull, and nothing else."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from interruptible import Session
from interruptible.stream import Stream
from interruptible.testing import Restate

from . import npm
from .conftest import Deploy, Log, eventually
from .following import all_converge, pull, told_all
from .streaming import Speaker, assistant, speaking

pytestmark = pytest.mark.anyio

KEY = "known to the task alone"


class KnownStream(Stream):
    """Its keys are not secret."""

    made = 0

    def new_key(self) -> str:
        self.made += 1
        return f"{KEY} {self.made}"


@pytest.fixture
async def http(restate_env: Restate) -> AsyncIterator[httpx.AsyncClient]:
    # The ingress may close a connection on which it has refused a request without reading it.
    once = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=restate_env.ingress_url, limits=once, timeout=20) as http:
        yield http


def batch(key: Any, **more: Any) -> dict[str, Any]:
    events = [{"event": {"type": "text", "text": "forged"}, "after": 0, "step": 1}]
    return {"key": key, "voice": "somebody", "seq": 1, "events": events, **more}


async def test_who_does_not_know_the_key_of_the_turn_at_work_publishes_nothing(
    restate_env: Restate, deploy: Deploy, log: Log, http: httpx.AsyncClient
) -> None:
    stream = KnownStream(ingress=restate_env.ingress_url)
    agent = Speaker(log, "ForgedAgent", restate_env, stream=stream)
    where = "/ForgedAgentStream/one/publish"

    async def refused(body: Any) -> str:
        headers = {"content-type": "application/json"}
        answer = await http.post(where, content=json.dumps(body), headers=headers)
        assert answer.status_code == 403, answer.text
        return str(answer.json()["message"])

    async with speaking(restate_env, deploy, agent) as (session, follower):
        assert "not that of the turn at work" in await refused(batch("before any turn"))
        await session.send("go")
        agent.tell(1, "say one ")
        await follower.until_text("one ")
        before = await pull(session, offset=0)
        for key in ("", "wrong", f"{KEY} 2", "é\ud800"):
            assert "not that of the turn at work" in await refused(batch(key))
        assert await pull(session, offset=0) == before
        agent.tell(1, "one", "end")
        await session.attach()
        await told_all(restate_env, session)
        await refused(batch(f"{KEY} 1"))  # it is over
        await session.send("on")
        agent.tell(2, "say two ")
        await follower.until_text("two ")
        before = await pull(session, offset=0)
        await refused(batch(f"{KEY} 1"))
        await refused(batch(""))
        assert await pull(session, offset=0) == before
        agent.tell(2, "say words")
        await follower.until_text("two words")
        agent.tell(2, "two words", "end")
        await session.attach()
        await all_converge(restate_env, session, follower)


async def test_an_attempt_over_which_another_has_taken_publishes_nothing_any_more(
    restate_env: Restate, deploy: Deploy, log: Log, http: httpx.AsyncClient
) -> None:
    stream = KnownStream(ingress=restate_env.ingress_url)
    agent = Speaker(log, "OldVoiceAgent", restate_env, stream=stream)
    async with speaking(restate_env, deploy, agent) as (session, follower):
        await session.send("go")
        await follower.until(lambda view: 1 in view.live)
        key = f"{KEY} {stream.made}"
        where = "/OldVoiceAgentStream/one/publish"
        first = batch(key, voice="first", seq=1)
        assert (await http.post(where, json=first)).json() == {"taken": 1}
        await follower.until_text("forged")
        again = await http.post(where, json=first)
        assert again.json() == {"taken": 1}
        agent.tell(1, "say from the task")
        await follower.until_text("from the task")
        before = await pull(session, offset=0)
        late = await http.post(where, json=batch(key, voice="first", seq=2))
        assert late.status_code == 403
        assert "another attempt" in late.json()["message"]
        assert await pull(session, offset=0) == before
        agent.tell(1, "done", "end")
        assert (await session.attach())["messages"] == [assistant("done")]
        await all_converge(restate_env, session, follower)


PRIVATE: dict[str, Any] = {
    "begin": {"turn": 9, "key": "mine"},
    "tell": {"turn": 1, "events": [{"type": "message", "message": assistant("forged")}]},
    "end": {"turn": 1, "status": "completed", "messages": 0},
    "note": {"turn": 1, "events": [{"type": "discarded", "turns": [1]}]},
    "subscribe": {"id": "sign_1", "offset": 0},
    "truncate": 100,
    "words": {"turn": 1},
}


async def test_all_but_pulling_and_publishing_is_private(
    restate_env: Restate, deploy: Deploy, log: Log, http: httpx.AsyncClient
) -> None:
    agent = Speaker(log, "PrivateStreamAgent", restate_env)
    async with speaking(restate_env, deploy, agent) as (session, follower):
        await session.send("go")
        agent.tell(1, "say one ")
        await follower.until_text("one ")
        before = await pull(session, offset=0)
        for handler, body in PRIVATE.items():
            for path in (f"{handler}", f"{handler}/send"):
                answer = await http.post(f"/PrivateStreamAgentStream/one/{path}", json=body)
                assert answer.status_code in (400, 403, 404), (path, answer.text)
                assert "not public" in answer.text or "private" in answer.text, answer.text
        assert await pull(session, offset=0) == before
        agent.tell(1, "one", "end")
        await session.attach()
        await all_converge(restate_env, session, follower)


MALFORMED: list[tuple[str, Any]] = [
    ("pull", b"{"),
    ("pull", b"\xff\xfe"),
    ("pull", b"NaN"),
    ("pull", 1),
    ("pull", []),
    ("pull", {"offset": -1}),
    ("pull", {"offset": 2**53}),
    ("pull", {"offset": "1"}),
    ("pull", {"offset": 1.5}),
    ("pull", {"offset": None}),
    ("pull", {"offset": True}),
    ("pull", {"wait": -1}),
    ("pull", {"wait": 31}),
    ("pull", {"wait": "long"}),
    ("pull", {"other": 1}),
    ("publish", b""),
    ("publish", b"]"),
    ("publish", {}),
    ("publish", {"message": "hello"}),
    ("publish", {**batch(7)}),
    ("publish", {**batch("k"), "seq": 0}),
    ("publish", {**batch("k"), "seq": -1}),
    ("publish", {**batch("k"), "voice": None}),
    ("publish", {**batch("k"), "events": {}}),
    ("publish", {**batch("k"), "events": [1]}),
    ("publish", {**batch("k"), "events": [{"event": {}, "after": 0}]}),
    ("publish", {**batch("k"), "events": [{"event": {"type": ["x"]}, "after": 0}]}),
    ("publish", {**batch("k"), "events": [{"event": {"type": "text"}, "after": 0}]}),
    ("publish", {**batch("k"), "events": [{"event": {"type": "gap"}, "after": 0}]}),
    ("publish", {**batch("k"), "events": [{"event": {"type": "text", "text": 1}, "after": 0}]}),
    ("publish", {**batch("k"), "events": [{"event": {"type": "text", "text": ""}, "after": -1}]}),
    ("publish", {**batch("k"), "gap": "yes"}),
    ("publish", b'{"key": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
]


async def test_what_is_malformed_is_refused_and_the_stream_goes_on(
    restate_env: Restate, deploy: Deploy, log: Log, http: httpx.AsyncClient
) -> None:
    agent = Speaker(log, "MalformedAgent", restate_env)
    headers = {"content-type": "application/json"}
    async with speaking(restate_env, deploy, agent) as (session, follower):
        await session.send("go")
        said = ""
        for number, (handler, body) in enumerate(MALFORMED):
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            answer = await http.post(
                f"/MalformedAgentStream/one/{handler}", content=content, headers=headers
            )
            assert 400 <= answer.status_code < 500, (handler, body, answer.text)
            agent.tell(1, f"say {number} ")
            said += f"{number} "
            await follower.until_text(said)
        for offset in (2**31, 2**53 - 1):
            answer = await http.post("/MalformedAgentStream/one/pull", json={"offset": offset})
            assert answer.status_code == 200, (offset, answer.text)
            assert answer.json()["messages"][0]["type"] == "gap", (offset, answer.text)
        agent.tell(1, said, "end")
        await session.attach()
        await all_converge(restate_env, session, follower)


# -- The client of npm. ----------------------------------------------------------------------------

SCRIPT = Path(__file__).with_name("pubsub_client.mjs")
PACKAGES = ("@restatedev/pubsub-client@0.3", "@restatedev/restate-sdk-clients@1")


@pytest.fixture(scope="module")
def client_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where npm has installed Restate's own client of streams."""
    folder = npm.installed(tmp_path_factory.mktemp("pubsub"), *PACKAGES)
    shutil.copy(SCRIPT, folder)
    return folder


async def test_the_client_of_npm_reads_it_unchanged(
    restate_env: Restate, deploy: Deploy, log: Log, client_folder: Path
) -> None:
    agent = Speaker(log, "NodeAgent", restate_env)
    async with speaking(restate_env, deploy, agent, "a/b é") as (session, follower):

        async def node(last: int, *offset: str) -> asyncio.subprocess.Process:
            """Print events until one of this id; it says when it has begun."""
            process = await asyncio.create_subprocess_exec(
                *("node", str(client_folder / SCRIPT.name), restate_env.ingress_url),
                *("NodeAgentStream", session.key, str(last), *offset),
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            assert await process.stdout.readline() == b"pulls\n"
            return process

        async def printed(process: asyncio.subprocess.Process) -> list[Any]:
            output, _ = await asyncio.wait_for(process.communicate(), 30)
            assert process.returncode == 0
            return [json.loads(line) for line in output.splitlines()]

        await session.send("go")
        agent.tell(1, "say one ")
        await follower.until_text("one ")
        now = follower.after
        assert now is not None
        newest = await node(now + 1)
        awaited = asyncio.ensure_future(printed(newest))
        await waits(restate_env, session, 2)
        agent.tell(1, "say two")
        assert await awaited == [
            {"id": now + 1, "turn": 1, "type": "text", "text": "two"},
        ]
        agent.tell(1, "one two", "end")
        await session.attach()
        await all_converge(restate_env, session, follower)
        last = await told_all(restate_env, session)
        everything = (await pull(session, offset=0))["messages"]
        assert await printed(await node(last, "0")) == everything
        assert [x["type"] for x in everything] == ["gap", "turn", "message", "turn"]


async def waits(env: Restate, session: Session, followers: int) -> None:
    """Wait until so many pulls wait for something new."""

    async def so_many() -> bool:
        rows = await env.query(
            "SELECT value_utf8 FROM state WHERE key = 'followers' "  # noqa: S608
            f"AND service_name = '{session._agent}Stream' AND service_key = '{session.key}'"
        )
        return bool(rows) and len(json.loads(rows[0]["value_utf8"])) >= followers

    await eventually(so_many)
