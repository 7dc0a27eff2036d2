"""The example in TypeScript: its types are the agent's, and its work is interrupted with a turn."""

import asyncio
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from examples.typescript.agent import app
from interruptible import Session
from interruptible.testing import Restate, serve
from tests.server import npm
from tests.server.conftest import REPLAY, Log, eventually, is_idle

from .conftest import no_news, soon

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "examples/typescript"
HERE = Path(__file__).parent
MADE = shutil.ignore_patterns("node_modules", "dist", "__pycache__")

_sessions = itertools.count(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, built as its README says."""
    copy = tmp_path_factory.mktemp("typescript") / "example"
    npm.installed(Path(shutil.copytree(EXAMPLE, copy, ignore=MADE)))
    npm.run(copy, "run", "build")
    return copy


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
        body, event = b"", {"more_body": True}
        while event.get("more_body"):
            event = await receive()
            body += event["body"]
        self.asked.append([message["content"] for message in json.loads(body)["messages"]])
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


@pytest.fixture
async def stage(restate_env: Restate, folder: Path, tmp_path: Path) -> AsyncIterator[Stage]:
    model = Model(tmp_path)
    async with (
        serve(model.app) as model_url,  # type: ignore[arg-type]
        serve(app) as agent_url,
        _node(folder, OPENAI_BASE_URL=model_url, TMPDIR=str(tmp_path)) as url,
    ):
        await restate_env.register(agent_url)
        # Not by `register`: Node speaks HTTP/1.1 or HTTP/2 on a port, and not both.
        await restate_env._admin("POST", "/deployments", {"uri": url, "force": True})
        stage = Stage(restate_env, folder, model, tmp_path)
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
        stdin=asyncio.subprocess.DEVNULL,
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


async def test_generating_the_types_again_gives_the_same(stage: Stage, folder: Path) -> None:
    again = folder / "again.ts"
    command = ["node", "generate.mjs", again, "DraftAgent", stage.restate.admin_url]
    await asyncio.to_thread(subprocess.run, command, cwd=folder, check=True)
    remedy = "Run `npm run generate` in examples/typescript while it is served."
    assert again.read_text() == (EXAMPLE / "src/agent.gen.ts").read_text(), remedy


async def test_each_wrong_use_is_a_type_error(folder: Path) -> None:
    wrong = Path(shutil.copy(HERE / "wrong_use.ts", folder / "src"))
    command = [folder / "node_modules/.bin/tsc", "--noEmit", "--pretty", "false"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, text=True)
    meant = re.findall(r"^.* // (TS\d+): (.*)$|^.*$", wrong.read_text(), re.MULTILINE)
    wrong.unlink()
    errors = re.findall(
        r"^src/wrong_use\.ts\((\d+),\d+\): error (TS\d+): (.*)$", done.stdout, re.MULTILINE
    )
    lines = {number: pair for number, pair in enumerate(meant, 1) if any(pair)}
    assert {int(number): code for number, code, _ in errors} == {n: x[0] for n, x in lines.items()}
    assert all(lines[int(number)][1] in text for number, _, text in errors), done.stdout
    assert len(errors) == 10


async def test_a_message_gets_a_receipt_another_is_steered_and_attach_has_the_outcome(
    stage: Stage,
) -> None:
    receipt = await stage.talk("say", "A haiku.")
    assert (receipt["turn"], receipt["message"], receipt["status"]) == (1, 1, "running")
    await stage.at_work(1)
    receipt = await stage.talk("steer", "About rain.")
    assert (receipt["turn"], receipt["message"], receipt["status"]) == (1, 2, "steered")
    status = await stage.talk("status")
    assert [x["content"] for x in status["pending"]] == ["About rain."]
    stage.model.answer("Ah, spring", "Ah, rain")
    outcome = await stage.talk("attach", str(receipt["message"]))
    said = [
        {"role": "assistant", "content": "Ah, spring"},
        {"role": "user", "content": "About rain."},
        {"role": "assistant", "content": "Ah, rain"},
    ]
    assert outcome == {"turn": 1, "status": "completed", "messages": said}
    assert await stage.talk("history") == [{"role": "user", "content": "A haiku."}, *said]
    assert stage.model.asked == [["A haiku."], ["A haiku.", "Ah, spring", "About rain."]]


async def test_what_was_interrupted_has_cleaned_up_before_the_next_turn_does_anything(
    stage: Stage,
) -> None:
    await stage.talk("say", "An epic.")
    await stage.at_work(1)
    [first] = stage.model.standing()
    async with stage.held():
        receipt = await stage.talk("say", "No, a haiku.")
        assert receipt["interrupted"] == [1]
        stage.model.let_go()
        await stage.clears()
        assert await stage.live() == [(1, False), (2, True)]
        assert len(await stage.writing()) == 1
    await stage.at_work(2)
    assert first not in stage.model.desks[1]
    stage.model.answer("Ah, rain")
    outcome = await stage.talk("attach")
    assert (outcome["turn"], outcome["status"]) == (2, "completed")
    assert (await stage.talk("attach", "1"))["status"] == "interrupted"
    ends = [x["completion_result"] for x in await stage.writing()]
    assert ends == ["failure", "success"]


async def test_a_cancel_cuts_off_the_request_and_clears_the_desk(stage: Stage) -> None:
    await stage.talk("say", "An epic.")
    await stage.at_work(1)
    assert await stage.talk("cancel") == {"cancelled": [1]}
    stage.model.let_go()
    assert await stage.talk("attach") == {"turn": 1, "status": "interrupted", "messages": []}
    if not REPLAY:
        await stage.model.log.until("cut off", 1)
    assert stage.model.standing() == set()
    [writing] = await stage.writing()
    assert writing["completion_failure"].startswith("[409]")


async def test_a_cancel_does_not_break_off_a_cleanup_that_runs(stage: Stage) -> None:
    await stage.talk("say", "An epic.")
    await stage.at_work(1)
    async with stage.held():
        stage.model.answer("Sing, o muse")
        await stage.clears()
        assert await stage.talk("cancel") == {"cancelled": [1]}
        await no_news()
        assert await stage.live() == [(1, False)]
    assert (await stage.talk("attach"))["status"] == "interrupted"
    assert stage.model.standing() == set()


async def test_a_refusal_is_an_error_with_its_status(stage: Stage) -> None:
    assert (await stage.talk("say", " "))["code"] == 400
    assert (await stage.talk("attach", "7"))["code"] == 404
    await stage.talk("say", "A haiku.")
    await stage.at_work(1)
    assert (await stage.talk("reject", "An epic."))["code"] == 423
    status, answer = await stage.call("order", {"session": stage.session.key, "text": ""})
    assert (status, answer["message"].partition(":")[0]) == (400, "content")
    stage.model.answer("Ah, rain")
    assert (await stage.talk("attach"))["status"] == "completed"


async def test_a_handler_in_typescript_sends_attaches_steers_and_stops(stage: Stage) -> None:
    order = {"session": stage.session.key, "text": "A haiku."}
    ordering = asyncio.ensure_future(stage.call("order", order))
    await stage.at_work(1)
    _, receipt = await stage.call("add", {**order, "text": "About rain."})
    assert (receipt["turn"], receipt["status"]) == (1, "steered")
    stage.model.answer("Ah, spring", "Ah, rain")
    status, outcome = await ordering
    assert (status, outcome["messages"][-1]["content"]) == (200, "Ah, rain")

    ordering = asyncio.ensure_future(stage.call("order", order))
    await stage.at_work(3)
    assert await stage.call("stop", stage.session.key) == (200, {"cancelled": [2]})
    stage.model.let_go()
    _, outcome = await ordering
    assert outcome == {"turn": 2, "status": "interrupted", "messages": []}
    reasons = [turn.get("reason") for turn in (await stage.session.turns())["turns"]]
    assert reasons == [None, "cancelled: the editor stopped it"]


async def test_a_handler_that_is_cancelled_takes_the_turn_along(stage: Stage) -> None:
    order = {"session": stage.session.key, "text": "An epic."}
    ordering = asyncio.ensure_future(stage.call("order", order))
    await stage.at_work(1)
    [task] = [x["task_id"] for x in (await stage.session.status())["live"]]
    [row] = await stage.restate.invocations("target = 'Editor/order' AND status != 'completed'")
    await stage.restate.cancel(row["id"])
    assert (await ordering)[0] == 409
    stage.model.let_go()
    outcome = await stage.session.attach()
    assert outcome["status"] == "interrupted"
    assert (await stage.restate.invocations(f"id = '{task}'"))[0]["completion_result"] == "failure"
