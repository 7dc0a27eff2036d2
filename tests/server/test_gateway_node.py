"""Runs of AG-UI by npm's own client, in Node, over whole sessions: it complains of nothing."""

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from interruptible import Session
from interruptible.gateway import Gateway
from interruptible.testing import Restate, serve

from . import npm
from .conftest import Deploy, Log, eventually, once
from .streaming import CALL, Speaker
from .test_gateway_ag_ui import CANCELLED, SUCCESS, Asks, stream_of

pytestmark = [pytest.mark.anyio, once]

SCRIPT = Path(__file__).with_name("http_agent.mjs")
PACKAGES = ("@ag-ui/client@1.0.0",)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script, where npm has installed AG-UI's client."""
    folder = npm.installed(tmp_path_factory.mktemp("ag-ui"), *PACKAGES)
    return Path(shutil.copy(SCRIPT, folder))


class Node:
    """One client in Node, which keeps its messages from run to run."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, run: str, say: str | None = None, **options: Any) -> dict[str, Any]:
        """Run the agent, and return how that ended, and what the client has then."""
        self.begin(run, say, **options)
        return await self.end()

    def begin(self, run: str, say: str | None = None, **options: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"run": run, "say": say, **options}).encode() + b"\n")

    async def end(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 120)
        ended: dict[str, Any] = json.loads(line)
        assert (ended["failed"], ended["complaints"]) == (None, [])
        return ended


@asynccontextmanager
async def node(script: Path, url: str, agent: str) -> AsyncGenerator[Node, None]:
    process = await asyncio.create_subprocess_exec(
        *("node", str(script), f"{url}/ag-ui/{agent}", "one"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    try:
        yield Node(process)
    finally:
        process.kill()
        await process.wait()


async def allow(_: Request, agent: str, session: str) -> bool:
    return bool(agent and session)


def texts(ended: dict[str, Any]) -> list[Any]:
    return [(x["role"], x.get("content") or "") for x in ended["messages"]]


async def test_a_whole_session_with_a_tool_an_interruption_steering_and_a_lost_connection(
    deploy: Deploy, restate_env: Restate, log: Log, script: Path
) -> None:
    agent = Speaker(log, "NodeAgUi", restate_env)
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    gateway = Gateway(agents=[agent], authorize=allow, ingress=restate_env.ingress_url)
    async with (
        serve(gateway) as url,  # type: ignore[arg-type]
        node(script, url, agent.name) as first,
        node(script, url, agent.name) as second,
    ):
        agent.tell(1, "think Hm.", "say I ", "I look.", "call", "found", "Here it is.", "end")
        ended = await first.run("r1", "Look")
        assert ended["outcome"] == SUCCESS
        so_far = [
            ("user", "Look"),
            ("assistant", "I look."),
            ("assistant", ""),
            ("tool", "found"),
            ("assistant", "Here it is."),
        ]
        assert texts(ended) == so_far
        assert ended["messages"][2]["toolCalls"] == [CALL]

        first.begin("r2", "Count")
        await agent.asks.until(2)
        agent.tell(2, "One, two")
        await agent.asks.until(2, times=2)
        # Another page speaks up: it knows nothing, and is told all that there is.
        agent.tell(3, "I stopped.", "end")
        theirs = await second.run("r3", "Stop")
        assert theirs["outcome"] == SUCCESS
        assert texts(theirs) == [
            *so_far,
            *[("user", "Count"), ("assistant", "One, two")],
            *[("user", "Stop"), ("assistant", "I stopped.")],
        ]
        ended = await first.end()
        assert ended["outcome"] == CANCELLED
        assert texts(ended) == [*so_far, ("user", "Count"), ("assistant", "One, two")]

        first.begin("r4", "Go on", hangUp="Thr")
        await agent.asks.until(4)
        agent.tell(4, "say Thr")
        await first.end()  # it has hung up
        assert (await session.status())["turn"] == 4
        second.begin("r5", "Faster", mode="steer")
        await eventually(lambda: _pending(session))
        agent.tell(4, "look", "Three.", "end")
        assert (await second.end())["outcome"] == SUCCESS
        ended = await first.run("r4")  # and comes back
        assert ended["outcome"] == SUCCESS
        assert sorted(texts(ended)[7:]) == sorted(
            [("user", "Go on"), ("user", "Faster"), ("assistant", "Three.")]
        )


async def _pending(session: Session) -> bool:
    return bool((await session.status())["pending"])


async def test_an_approval_is_an_interrupt_that_is_resumed(
    deploy: Deploy, restate_env: Restate, script: Path
) -> None:
    agent = Asks(name="NodeAgUiAsks", stream=stream_of(restate_env))
    await deploy(agent)
    gateway = Gateway(agents=[agent], authorize=allow, ingress=restate_env.ingress_url)
    async with serve(gateway) as url, node(script, url, agent.name) as client:  # type: ignore[arg-type]
        ended = await client.run("r1", "1")
        [asked] = ended["outcome"]["interrupts"]
        answer = {"interruptId": asked["id"], "status": "resolved", "payload": {"approved": True}}
        ended = await client.run("r2", resume=[answer])
        assert ended["outcome"] == SUCCESS
        assert texts(ended) == [("user", "1"), ("assistant", "True None None")]
