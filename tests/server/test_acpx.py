"""npm's `acpx`, a client of the Agent Client Protocol for terminals, in front of an agent."""

import asyncio
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from interruptible import Session
from interruptible.testing import Restate

from . import npm
from .conftest import Deploy, Log, once
from .editing import PATIENCE, ROOT, command
from .streaming import Speaker
from .test_acp import AskingStream

pytestmark = [pytest.mark.anyio, once]

PACKAGES = ("acpx@0.1.15",)


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where npm has installed it."""
    return npm.installed(tmp_path_factory.mktemp("acpx"), *PACKAGES) / "node_modules"


@pytest.fixture
def home() -> Iterator[Path]:
    """Its home, by a short path: there it listens on a socket, whose path may have 107 bytes.

    Of a longer one the end is cut off, and what is left of one helper is in the way of the next.
    """
    with TemporaryDirectory(prefix="acpx-") as path:
        yield Path(path)


async def acpx(
    modules: Path, home: Path, env: Restate, agent: str, *arguments: str, code: int = 0
) -> list[Any]:
    """Run it until it ends with this code; returns the protocol's messages as it prints them."""
    node = shutil.which("node")
    assert node is not None, "node is missing. Install Node.js 18 or newer."
    process = await asyncio.create_subprocess_exec(
        *(node, str(modules / "acpx/dist/cli.js"), "--format", "json", "--ttl", "1"),
        *("--cwd", str(home), "--agent", shlex.join(command(env, agent)), *arguments),
        cwd=ROOT,
        env={**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
    # It has a helper, which ends a second later. Until then a new one would give up.
    while list((home / ".acpx/queues").glob("*.lock")):
        await asyncio.sleep(0.02)
    assert process.returncode == code, (said, errors)
    return [json.loads(line) for line in said.splitlines()]


def answer(lines: list[Any]) -> str:
    """What the agent said, in one."""
    updates = [x["params"]["update"] for x in lines if x.get("method") == "session/update"]
    said = [x for x in updates if x["sessionUpdate"] == "agent_message_chunk"]
    return "".join(x["content"]["text"] for x in said)


def results(lines: list[Any]) -> list[Any]:
    return [x["result"] for x in lines if "result" in x]


async def test_it_asks_once_and_shows_calls_of_tools(
    restate_env: Restate, deploy: Deploy, log: Log, home: Path, modules: Path
) -> None:
    agent = Speaker(log, "AcpxAgent", restate_env)
    await deploy(agent)
    agent.tell(1, "say Hel", "Hello!", "call", "found", "end")
    lines = await acpx(modules, home, restate_env, agent.name, "exec", "hi")
    assert answer(lines) == "Hello!"
    calls = [x["params"]["update"] for x in lines if "toolCallId" in json.dumps(x)]
    assert {x["toolCallId"] for x in calls} == {"1/1/c1"}
    assert (calls[0]["title"], calls[-1]["status"]) == ("search", "completed")
    assert results(lines)[-1] == {"stopReason": "end_turn"}


DENIED = 5
"""What it ends with when it has denied something."""


@pytest.mark.parametrize(
    ("option", "said", "code"), [("--approve-all", "yes", 0), ("--deny-all", "no", DENIED)]
)
async def test_it_answers_what_it_is_asked(
    restate_env: Restate,
    deploy: Deploy,
    log: Log,
    home: Path,
    modules: Path,
    option: str,
    said: str,
    code: int,
) -> None:
    agent = AskingStream(log, "AcpxAskingAgent", restate_env)
    await deploy(agent)
    lines = await acpx(modules, home, restate_env, agent.name, option, "exec", "push", code=code)
    assert answer(lines) == said


async def test_it_goes_on_with_a_session_that_another_process_has_begun(
    restate_env: Restate, deploy: Deploy, log: Log, home: Path, modules: Path
) -> None:
    agent = Speaker(log, "AcpxSessionAgent", restate_env)
    await deploy(agent)
    await acpx(modules, home, restate_env, agent.name, "sessions", "new")
    agent.tell(1, "One.", "end")
    lines = await acpx(modules, home, restate_env, agent.name, "prompt", "one")
    assert answer(lines) == "One."
    agent.tell(2, "Two.", "end")
    lines = await acpx(modules, home, restate_env, agent.name, "prompt", "two")
    [session] = {x["params"]["sessionId"] for x in lines if x.get("method") == "session/prompt"}
    said = [x["content"] for x in await Session(restate_env.client, agent, session).history()]
    assert said == ["one", "One.", "two", "Two."]
    assert answer(lines) == "Two."
    methods = [x["method"] for x in lines if "method" in x]
    assert "session/load" in methods
    assert "session/new" not in methods
