"""The server is killed while browsers look: they are told the rest when it is back."""

import asyncio

import httpx
import pytest

from interruptible import Session
from interruptible.gateway import Gateway
from interruptible.testing import Restate, serve
from tests.agui import Page, complaints, events_of

from .conftest import Deploy, Log, once
from .streaming import Speaker
from .test_gateway_ag_ui import SUCCESS, allow

pytestmark = [pytest.mark.anyio, once]


async def test_a_run_and_events_go_on_over_a_server_that_is_killed(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    agent = Speaker(log, "AwayAgUi", restate_env)
    await deploy(agent)
    gateway = Gateway(agents=[agent], authorize=allow, ingress=restate_env.ingress_url)
    async with (
        serve(gateway) as url,  # type: ignore[arg-type]
        httpx.AsyncClient(base_url=url, timeout=300) as http,
    ):
        page = Page(http, agent.name, "one")
        page.say("Hi")
        running = asyncio.ensure_future(page.run("r1"))
        await agent.asks.until(1)
        agent.tell(1, "First.")
        await page.until(lambda x: len(x) == 2)
        following = asyncio.ensure_future(status_of(http, f"/{agent.name}/one/events"))
        await restate_env.restart(kill=True)
        agent.tell(1, "Second.", "end")
        end = await running
        assert end["outcome"] == SUCCESS
        assert await following == "completed"
        assert [x[2] for x in page.shown] == ["Hi", "First.", "Second."]
        assert complaints(page.heard) == []
        outcome = await Session(restate_env.client, agent, "one").attach()
        assert outcome["status"] == "completed"


async def status_of(http: httpx.AsyncClient, path: str) -> str:
    async with http.stream("GET", path) as answer, events_of(answer) as events:
        async for _, event in events:
            if "status" in event:
                return str(event["status"])
    raise AssertionError("the events ended before the turn did")
