"""The example in TypeScript on the stage: a model that is told what to say, and Node."""

import asyncio
import itertools
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from examples.typescript.agent import app
from interruptible import Session
from interruptible.testing import Restate, serve
from tests.server.conftest import REPLAY, Log, eventually, is_idle
from tests.server.model import body_of

from .conftest import no_news, soon

HERE = Path(__file__).parent

_sessions = itertools.count(1)


class Model:
    """Answers the writer when it is told to; notes what it is asked, and which desks stand then."""

    def __init__(self, desks: Path) -> None:
        self.log = Log()
        self.asked: list[list[str]] = []
        self.desks: list[set[str]] = []
        self._folder = desks
        self._answers = asyncio.Queue[str]()

    def standing(self) -> set[str]:
        return {path.name for path in self._folder.glob("desk-*")}

    def answer(self, *texts: str) -> None:
        for text in texts:
            self._answers.put_nowait(text)

    def let_go(self) -> None:
        """End a request that was cancelled, where the writer does not hear of that."""
        if REPLAY:
            self.answer("too late")

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = await body_of(receive)
        self.asked.append([message["content"] for message in body["messages"]])
        self.desks.append(self.standing())
        number = len(self.asked)
        await self.log.add("asked", number)
        answering = asyncio.ensure_future(self._answers.get())
        leaving = asyncio.ensure_future(receive())
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not answering.done():
            answering.cancel()
            await self.log.add("cut off", number)
            return
        answer = {"choices": [{"message": {"content": answering.result()}}]}
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


class Stage:
    """A session, the model that is asked in it, and the processes in Node."""

    def __init__(self, restate: Restate, folder: Path, model: Model, desks: Path) -> None:
        self.restate, self.model, self._desks = restate, model, desks
        self.session = Session(restate.client, "DraftAgent", f"ada {next(_sessions)}")
        self._folder = folder

    async def talk(self, *words: str) -> Any:
        """What the example's client prints."""
        process = await asyncio.create_subprocess_exec(
            *("node", "dist/talk.js", self.session.key, *words),
            cwd=self._folder,
            env={**os.environ, "RESTATE_INGRESS_URL": self.restate.ingress_url},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        printed, error = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == bool(error), error.decode()
        return json.loads(error or printed)

    async def call(self, handler: str, body: Any) -> tuple[int, Any]:
        """Call the editor, which is a service in TypeScript."""
        url = f"{self.restate.ingress_url}/Editor/{handler}"
        answer = await self.restate._http.post(url, json=body)
        return answer.status_code, answer.json()

    async def at_work(self, number: int) -> None:
        """Wait until the model has been asked so often."""
        await self.model.log.until("asked", number)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold what the writer cleans up, until the block ends."""
        hold = self._desks / "hold"
        hold.touch()
        try:
            yield
        finally:
            hold.unlink()

    async def clears(self) -> None:
        """Wait until it cleans up, and while nothing more may happen."""
        await soon((self._desks / "clearing").exists)
        await no_news()

    async def live(self) -> list[tuple[int, bool]]:
        """The live turns, and whether each goes on."""
        live = (await self.session.status())["live"]
        return [(x["turn"], x["cancelled"] is None) for x in live]

    async def writing(self) -> list[dict[str, Any]]:
        """The invocations of the writer in this session, oldest first."""
        tasks = [x["task_id"] for x in (await self.session.turns())["turns"]]
        of = ", ".join(f"'{task}'" for task in tasks)
        where = f"target_service_name = 'Writer' AND invoked_by_id IN ({of})"
        return await self.restate.invocations(where)


@asynccontextmanager
async def staged(restate: Restate, folder: Path, desks: Path) -> AsyncIterator[Stage]:
    """Serve all of it; at the end nothing is live, and no desk is left."""
    model = Model(desks)
    async with (
        serve(model.app) as model_url,  # type: ignore[arg-type]
        serve(app) as agent_url,
        _node(folder, OPENAI_BASE_URL=model_url, TMPDIR=str(desks)) as url,
    ):
        await restate.register(agent_url)
        # Not by `register`: Node speaks HTTP/1.1 or HTTP/2 on a port, and not both.
        await restate._admin("POST", "/deployments", {"uri": url, "force": True})
        stage = Stage(restate, folder, model, desks)
        yield stage
        await eventually(lambda: is_idle(stage.session))
        assert model.standing() == set()


@asynccontextmanager
async def _node(folder: Path, **env: str) -> AsyncIterator[str]:
    """The services in TypeScript, up at a URL."""
    script = "dist/serve.js"
    if REPLAY:
        script = shutil.copy(HERE / "serve_replaying.mjs", folder)
    process = await asyncio.create_subprocess_exec(
        *("node", "--import", HERE / "held.mjs", script),
        cwd=folder,
        env={**os.environ, "PORT": "0", **env},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = ""
        while not (found := re.search(r"^listening on (\d+)", line)):
            line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
            assert line, "it has ended"
        reading = asyncio.ensure_future(process.stdout.read())
        yield f"http://127.0.0.1:{found[1]}"
        reading.cancel()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
