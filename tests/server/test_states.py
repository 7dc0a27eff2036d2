"""A session that an earlier version has stored goes on: `tests/states` has what each stored."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import restate

from interruptible import Session
from interruptible.testing import Restate, serve
from tests.states.__main__ import BUSY, LONG
from tests.states.agent import Stored

from .conftest import eventually

pytestmark = pytest.mark.anyio

FILES = sorted((Path(__file__).parents[1] / "states").glob("*.json"))
VERSIONS = [file.stem for file in FILES]
KEPT: dict[str, dict[str, Any]] = {file.stem: json.loads(file.read_text()) for file in FILES}


@pytest.fixture(scope="module")
async def agent(restate_env: Restate) -> AsyncIterator[Stored]:
    """The agent as it is today."""
    agent = Stored(cleanup_timeout=timedelta(seconds=1))
    async with serve(restate.app(services=agent.services)) as url:
        await restate_env.register(url)
        yield agent


@pytest.fixture
async def opened(
    restate_env: Restate, agent: Stored, request: pytest.FixtureRequest
) -> dict[str, Session]:
    """The sessions of a version, each as it was stored, for this test alone."""
    sessions = {}
    for name, kept in KEPT[request.param].items():
        key = f"{request.param} {name} {request.node.originalname}"
        state = {name: list(bytes.fromhex(value)) for name, value in kept["state"].items()}
        body = {"object_key": key, "new_state": state}
        await restate_env._admin("POST", "/services/Stored/state", body)
        sessions[name] = Session(restate_env.client, "Stored", key)
    # The server says yes before it has written them.
    for session in sessions.values():
        await eventually(session.history)
    return sessions


AT_REST = [(stem, name) for stem in VERSIONS for name in KEPT[stem] if name != BUSY]
each_version = pytest.mark.parametrize("opened", VERSIONS, indirect=True)


def of(opened: dict[str, Session], name: str, handler: str) -> Any:
    """What the version that stored a session answered of it."""
    return KEPT[opened[name].key.split()[0]][name][handler]


def test_there_are_sessions_of_this_version_and_of_those_before() -> None:
    now = version("restate-interruptible")
    assert VERSIONS[0] == "0.1.0"
    assert now in VERSIONS, f"Nothing is kept of {now}: run `python -m tests.states`, and commit it"


@pytest.mark.parametrize(("opened", "name"), AT_REST, indirect=["opened"])
async def test_it_is_shown_as_the_version_that_stored_it_showed_it(
    opened: dict[str, Session], name: str
) -> None:
    session = opened[name]
    assert await session.history() == of(opened, name, "get_history")
    told = await session.call("get_turns", {"limit": 100})
    before = of(opened, name, "get_turns")["turns"]
    assert [{k: now[k] for k in then} for now, then in zip(told["turns"], before, strict=True)] == (
        before
    )
    assert (await session.status())["status"] == "idle"


@pytest.mark.parametrize(("opened", "name"), AT_REST, indirect=["opened"])
async def test_the_next_turn_is_given_all_of_it(
    opened: dict[str, Session], agent: Stored, name: str
) -> None:
    session, before = opened[name], of(opened, name, "get_history")
    outcome = await session.ask("call again")
    assert outcome["status"] == "completed"
    assert agent.given[: len(before)] == before
    assert (await session.history())[: len(before)] == before


@each_version
async def test_its_turns_can_be_tried_again_edited_and_taken_back(
    opened: dict[str, Session], agent: Stored
) -> None:
    session = opened[LONG]
    last = of(opened, LONG, "get_turns")["turns"][-1]["turn"]
    receipt = await session.send("answer one more")
    assert receipt["turn"] > last
    await session.attach(receipt["turn"])
    again = await session.regenerate()
    assert (await session.attach(again["turn"]))["status"] == "completed"
    edited = await session.edit(2, "answer in few words")
    assert (await session.attach(edited["turn"]))["status"] == "completed"
    assert [x["content"] for x in await session.history()] == [
        "answer 0",
        "This is about 0.",
        "answer in few words",
        "This is about in few words.",
    ]
    await session.reset()
    assert await session.history() == []


@each_version
async def test_a_fork_of_it_has_what_it_had(opened: dict[str, Session], agent: Stored) -> None:
    forked = await opened[LONG].fork(f"{opened[LONG].key} forked", 4)
    before = of(opened, LONG, "get_history")
    assert await eventually(forked.history) == before[:8]
    assert (await forked.ask("answer on"))["status"] == "completed"
    assert agent.given[:8] == before[:8]


@each_version
async def test_one_that_was_at_work_goes_on_without_the_tasks_that_are_gone(
    opened: dict[str, Session], agent: Stored
) -> None:
    session = opened[BUSY]
    assert (await session.ask("answer now"))["status"] == "completed"
    said = ["call two", "wait here", "answer this too", "answer later", "answer now"]
    for messages in agent.given, await session.history():
        assert [x["content"] for x in messages if x["content"] in said] == said
    turns = (await session.turns())["turns"]
    assert [x.get("given_up", False) for x in turns] == [False, True, True, False]
