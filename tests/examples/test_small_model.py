"""The coding agent with a real language model: what it has said stays, and it says no more."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest
import restate

from examples.coding_agent.agent import CodingAgent
from examples.coding_agent.model import Model
from interruptible import Session
from interruptible.stream import Event, Stream
from interruptible.testing import Restate, serve
from tests.examples.small_model import missing
from tests.server.conftest import eventually
from tests.server.process import Process, free_port

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]


@pytest.fixture
async def server() -> AsyncIterator[str]:
    process = Process("tests.examples.small_model", free_port())
    async with process.running(), httpx.AsyncClient(base_url=process.url) as http:

        async def loaded() -> bool:
            return (await http.get("/health")).is_success

        await eventually(loaded)
        yield process.url


async def words(events: AsyncIterator[Event], turn: int, count: int = 8) -> str:
    """The first words of a turn, as they come."""
    said = ""
    async for event in events:
        if event["type"] == "text" and event["turn"] == turn:
            said += event["text"]
            if len(said.split()) >= count:
                return said
    raise AssertionError("the stream ended")


async def test_a_model_is_interrupted_in_mid_answer_and_its_slot_is_free_for_the_next(
    restate_env: Restate, server: str, tmp_path: Path
) -> None:
    stream = Stream(ingress=restate_env.ingress_url)
    agent = CodingAgent(tmp_path, Model("smollm2", f"{server}/v1", "none"), stream=stream)
    ada = Session(restate_env.client, agent, "ada")
    async with (
        serve(restate.app(services=agent.services)) as worker,
        aclosing(ada.follow()) as events,
        httpx.AsyncClient(base_url=server) as http,
    ):
        await restate_env.register(worker)

        async def at_work() -> bool:
            (slot,) = (await http.get("/slots")).json()
            return bool(slot["is_processing"])

        async def idle() -> bool:
            return not await at_work()

        await ada.send("Tell me a story.")
        story = await words(events, turn=1)
        assert await at_work()
        await ada.send("No, tell me a joke.")
        joke = await words(events, turn=2)  # from the one slot, and the story never ends
        assert await ada.cancel() == [2]
        await eventually(idle)
        assert [(await ada.attach(turn))["status"] for turn in (1, 2)] == ["interrupted"] * 2
        history = await ada.history()
    asked, told, note, then, quipped, end = history
    assert asked == {"role": "user", "content": "Tell me a story."}
    assert then == {"role": "user", "content": "No, tell me a joke."}
    assert told["content"].startswith(story)
    assert quipped["content"].startswith(joke)
    assert note == end
    assert note["content"].startswith("[I interrupted you")
