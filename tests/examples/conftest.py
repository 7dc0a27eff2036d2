"""The example on one real server; each test has an agent, a model and workspaces of its own."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import restate

from examples.coding_agent.agent import CodingAgent
from examples.coding_agent.scripted import Script, ScriptedModel
from examples.coding_agent.shell import Limits
from examples.coding_agent.workspace import Workspace
from interruptible import Session
from interruptible.stream import Stream
from interruptible.testing import Restate, serve
from tests.server.conftest import eventually, restate_env

__all__ = ["restate_env"]

_numbers = itertools.count(1)

LIMITS = Limits(seconds=20, grace=0.3, printed=100_000, processes=24)


class Stage:
    """One agent at work with one model, and a session to talk to it."""

    def __init__(self, restate: Restate, model: ScriptedModel, agent: CodingAgent) -> None:
        self.restate, self.model, self.agent = restate, model, agent
        session = f"ada/{agent.name}"
        self.key = quote(session, safe="")
        self.session = Session(restate.client, agent, session)
        self.workspace = Workspace(agent.root, session)

    async def call(self, handler: str, body: Any = None) -> tuple[int, Any]:
        """Call a handler of the object as a client does, over HTTP."""
        url = f"{self.restate.ingress_url}/{self.agent.name}/{self.key}/{handler}"
        answer = await self.restate._http.post(url, json=body)
        return answer.status_code, answer.json()

    def read(self, path: str) -> str:
        return (self.workspace.files / path).read_text()

    async def until_file(self, path: str) -> None:
        async def there() -> bool:
            return (self.workspace.files / path).exists()

        await eventually(there)


Play = Callable[..., Any]


@pytest.fixture
async def play(restate_env: Restate, tmp_path: Path) -> AsyncIterator[Play]:
    """Put an agent with a script on the stage."""
    async with AsyncExitStack() as stack:

        async def play(
            script: Script | None = None, *, pause: float = 0.002, **options: Any
        ) -> Stage:
            model = await stack.enter_async_context(ScriptedModel(script, pause=pause))
            name = f"Coder{next(_numbers)}Agent"
            stream = Stream(ingress=restate_env.ingress_url)
            options = {"limits": LIMITS, "stream": stream, **options}
            agent = CodingAgent(tmp_path / "workspaces", model.model, name=name, **options)
            app = restate.app(services=agent.services)
            await restate_env.register(await stack.enter_async_context(serve(app)))
            return Stage(restate_env, model, agent)

        yield play


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "workspaces", "ada")
    made.checkpoint(1, "inv_1", [])
    return made


def is_there(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def mentioned(token: str) -> list[int]:
    """The processes of this machine whose command line has a token, this one left out.

    Other tests run beside this one: the token has to be its own.
    """
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if token.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for pid in found if is_there(pid)]


async def soon(check: Callable[[], bool]) -> None:
    async def asked() -> bool:
        return check()

    await eventually(asked)


async def no_news(seconds: float = 0.2) -> None:
    """Let time pass in which nothing must happen."""
    await asyncio.sleep(seconds)
