"""An editor whose agent's server or worker is killed while it works."""

import asyncio
from pathlib import Path

import pytest

from interruptible import Session
from interruptible.testing import Restate

from .conftest import Deploy, Log, once
from .editing import editing, new_session, stop_reason
from .process import Process, free_port
from .streaming import Speaker

pytestmark = [pytest.mark.anyio, once]


async def test_a_prompt_outlives_the_server(restate_env: Restate, deploy: Deploy, log: Log) -> None:
    agent = Speaker(log, "EditedOutlivingAgent", restate_env)
    await deploy(agent)
    async with editing(restate_env, agent.name) as editor:
        session = await new_session(editor)
        prompt = editor.prompt(session, "go")
        agent.tell(1, "First.", "say Half")
        await editor.until_shown(session, ("user", "go"), ("agent", "First.\n\nHalf"))
        await restate_env.restart(kill=True)
        agent.tell(1, "Second.", "end")
        assert await stop_reason(prompt) == "end_turn"
        [asked, told] = editor.shown[session]
        assert asked == ("user", "go")
        assert told.text.startswith("First.\n\nHalf")
        assert told.text.endswith("\n\nSecond.")
        assert told.text.count("First.") == 1
        again = editor.prompt(session, "again")
        agent.tell(2, "Third.", "end")
        assert await stop_reason(again) == "end_turn"
        assert editor.shown[session][-1] == ("agent", "Third.")


async def test_what_is_said_while_the_server_is_away_reaches_it_once(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    agent = Speaker(log, "EditedAwayAgent", restate_env)
    await deploy(agent)
    async with editing(restate_env, agent.name) as editor:
        session = await new_session(editor)
        agent.tell(1, "One.", "end")
        assert await stop_reason(editor.prompt(session, "one")) == "end_turn"
        restate_env._server.kill()
        prompt = editor.prompt(session, "two")
        agent.tell(2, "Two.", "end")
        await restate_env._server.start()
        assert await stop_reason(prompt) == "end_turn"
        restate_env._server.kill()
        prompt = editor.prompt(session, "three")
        await asyncio.sleep(0)  # it goes first
        await editor.agent.cancel(session_id=session)
        await restate_env._server.start()
        agent.stop(3)
        assert await stop_reason(prompt) == "cancelled"
        there = Session(restate_env.client, agent, session)
        said = [x["content"] for x in await there.history() if x["role"] == "user"]
        assert [x for x in said if not x.startswith("note")] == ["one", "two", "three"]
        shown = [("user", "one"), ("agent", "One."), ("user", "two"), ("agent", "Two.")]
        assert editor.shown[session] == [*shown, ("user", "three")]


async def test_a_worker_that_is_killed_in_the_middle_of_an_answer(
    restate_env: Restate, tmp_path: Path
) -> None:
    worker = Process(
        "tests.server.stream_worker",
        free_port(),
        str(tmp_path),
        "worker",
        restate_env.ingress_url,
    )
    said = tmp_path / "words 1"
    said.write_text("Once\n upon\n")
    async with worker.running():
        await restate_env.register(worker.url)
        async with editing(restate_env, "StreamCrashAgent") as editor:
            session = await new_session(editor)
            prompt = editor.prompt(session, "go")
            await editor.until_shown(session, ("user", "go"), ("agent", "plan\n\nOnce upon"))
            await worker.kill()
            said.write_text("Never\n.\n")
            await worker.start()
            assert await stop_reason(prompt) == "end_turn"
            assert editor.shown[session] == [
                ("user", "go"),
                ("agent", "plan\n\nOnce upon\n\nNever"),
            ]
