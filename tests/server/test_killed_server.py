"""The server is killed while something is waited for."""

import json
from pathlib import Path

import pytest

from interruptible import Session
from interruptible.testing import Restate

from .conftest import Deploy, Log
from .gated import history, open_session
from .process import Process, free_port
from .test_approval import Asking, waiting
from .test_debounce import burst, joined

pytestmark = pytest.mark.anyio


async def test_an_approval_that_is_waited_for_outlives_the_server(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    session = await open_session(restate_env, deploy, Asking(log, "PatientAskingAgent"))
    await session.send("git push")
    [asked] = await waiting(session, 1)
    await restate_env.restart(kill=True)
    assert await waiting(session, 1) == [asked]
    await session.answer(asked["id"], approved=True)
    assert (await session.attach())["messages"][-1]["content"] == "yes"
    assert log.of("told") == [("told", [[True, None, None, False]])]


async def test_a_quiet_window_outlives_the_worker_and_the_server(
    restate_env: Restate, tmp_path: Path
) -> None:
    worker = Process("tests.server.quiet_worker", free_port(), str(tmp_path))
    log = tmp_path / "log"
    session = Session(restate_env.client, "QuietAgent", "one")
    async with worker.running():
        await restate_env.register(worker.url)
        first, second = await burst(session, "a", "b")
        assert second == joined(first)
    assert not log.exists()
    await restate_env.restart(kill=True)
    async with worker.running():
        assert (await session.attach(1))["status"] == "completed"
        assert await history(session) == ["a", "b", "answer"]
        assert [json.loads(line) for line in log.read_text().splitlines()] == [["begin", "a", "b"]]
