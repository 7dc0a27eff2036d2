"""What README and docs say is so: examples run, links lead somewhere, no name is missing."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import runpy
import signal
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import httpx
import pytest
from restate import TerminalError

import interruptible
from interruptible import Agent, Session, client, formats, stream, testing
from interruptible._wire import types
from tests import agui
from tests.server import npm
from tests.server.editing import editor_of, new_session, stop_reason
from tests.server.process import free_port

from .pages import LANGUAGES, OF_FRAMEWORKS, PATHS, PATIENCE, RECIPES, ROOT, Page, Reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from interruptible.stream import Event

pytestmark = pytest.mark.anyio

Reading: TypeAlias = "Callable[[str], AbstractAsyncContextManager[Reader]]"

JSON = {"content-type": "application/json"}

REGISTER_AGAIN = (
    "curl localhost:9070/deployments --json "
    """'{"uri": "http://localhost:9080", "force": true}'"""
)
NOT_RUN = {
    ("README.md", "make demo"),
    (
        "README.md",
        "from interruptible.ext import pydantic_ai  # or openai_agents, langchain, adk",
    ),
    ("README.md", "pip install 'restate-interruptible[client,testing]'"),
    ("docs/README.md", "class CodingAgent(Agent):"),
    ("docs/from-the-recipe.md", 'coding_agent = restate.VirtualObject("CodingAgent")'),
    ("docs/from-the-recipe.md", "class CodingAgent(Agent):"),
    ("docs/how-to/add-a-handler.md", "import restate"),
    ("docs/how-to/add-a-handler.md", REGISTER_AGAIN),
    ("docs/how-to/adopt-cleanup.md", "rendering moon"),
    ("docs/how-to/call-an-agent.md", "looking up tea"),
    ("docs/how-to/clean-up.md", "lock taken by inv_…"),
    ("docs/how-to/do-what-cannot-be-undone.md", "reserved for inv_…"),
    ("docs/how-to/keep-what-a-provider-gave.md", "sent: user"),
    ("docs/how-to/learn-why.md", "listening"),
    ("docs/how-to/let-browsers-in.md", 'import { HttpAgent } from "@ag-ui/client";'),
    ("docs/how-to/learn-why.md", "reviewing one.py"),
    ("docs/how-to/run-on-lambda.md", "part 1 begins"),
    ("docs/how-to/serve.md", "python worker.py"),
    ("docs/how-to/show-tokens.md", "pip install 'restate-interruptible[gateway]' hypercorn"),
    (
        "docs/how-to/serve.md",
        'curl localhost:9070/deployments --json \'{"uri": "http://localhost:9080"}\'',
    ),
    ("docs/how-to/serve.md", REGISTER_AGAIN),
    (
        "docs/how-to/test-without-docker.md",
        (
            "TooManyRetries: DreamerTask/run_task (inv_1iBzZF…) has failed 5 times and is retried. "
            "If that is meant, raise"
        ),
    ),
    (
        "docs/how-to/use-a-framework.md",
        (
            ".venv-pydantic-ai/bin/python -m tests.frameworks.cost "
            "tests.frameworks.test_pydantic_ai TestPydanticAI"
        ),
    ),
    ("docs/how-to/use-an-editor.md", "pip install 'restate-interruptible[acp]'"),
    (
        "docs/which-way.md",
        (
            "curl localhost:8080/ChatAgent/ada/message --json "
            '\'{"content": "And in SQLite, please.", "policy": "steer"}\''
        ),
    ),
    ("docs/how-to/use-an-editor.md", "npm install --global acpx"),
    ("docs/how-to/use-adk.md", "pip install 'restate-interruptible[adk]'"),
    ("docs/how-to/use-langchain.md", "pip install 'restate-interruptible[langchain]'"),
    ("docs/how-to/use-litellm.md", "pip install restate-interruptible litellm"),
    ("docs/how-to/use-pydantic-ai.md", "pip install 'restate-interruptible[pydantic-ai]'"),
    ("docs/how-to/use-openai-agents.md", "pip install 'restate-interruptible[openai-agents]'"),
    ("docs/how-to/use-typescript.md", "class DraftAgent(Agent):"),
    (
        "docs/how-to/use-typescript.md",
        "const agent = connect({ url }).objectClient(draftAgent, session);",
    ),
    ("docs/how-to/use-typescript.md", "export type Handlers = {"),
    (
        "docs/how-to/use-typescript.md",
        "node generate.mjs src/agent.gen.ts DraftAgent http://localhost:9070",
    ),
    (
        "docs/how-to/use-typescript.md",
        "async function order(ctx: restate.Context, { session, text }: Order) {",
    ),
    (
        "docs/how-to/use-typescript.md",
        "async function write(ctx: restate.Context, messages: Said[]): Promise<string> {",
    ),
    (
        "docs/how-to/use-the-claude-agent-sdk.md",
        "pip install restate-interruptible claude-agent-sdk",
    ),
    ("docs/policies.md", "class SupportAgent(Agent):"),
    ("docs/tutorial.md", "mkdir first-steps"),
    ("docs/upstream/README.md", "restate-server &"),
    (
        "docs/upstream/README.md",
        "F1 (the page's): Four messages, each while the model works on the one before.",
    ),
    ("docs/upstream/README.md", "patch -p1 < recipe.diff"),
    ("docs/upstream/README.md", "class CancelledError(TerminalError):"),
    (
        "docs/upstream/README.md",
        (
            'restate.Service("CodingTask", explicit_cancellation=True)  '
            "# also VirtualObject, Workflow, handler"
        ),
    ),
    (
        "docs/upstream/README.md",
        'restate.Service("CodingTask", hooks=[MyHooks])  # called with `ctx` for each attempt',
    ),
    ("docs/upstream/README.md", "class LevelTriggered(Hooks):"),
    ("docs/tutorial.md", '"$(python -m interruptible.testing)"'),
    ("docs/tutorial.md", "python -m hypercorn --bind localhost:9080 agent:app"),
    (
        "docs/tutorial.md",
        'curl localhost:9070/deployments --json \'{"uri": "http://localhost:9080"}\'',
    ),
    ("docs/tutorial.md", "thinking of an outline of a poem about rain"),
    ("docs/tutorial.md", "pip install pytest anyio"),
}
"""The blocks that no test runs: what installs or starts something, and what a program prints."""


# -- the examples ------------------------------------------------------------------------------


YOURS = """
async def complete(about: list, prompt: str) -> str:
    print(f"asked with {len(about)} messages: {prompt}")
    return "An answer."

async def create_sandbox(name: str) -> None:
    print("sandbox created")

async def delete_sandbox(name: str) -> None:
    print("sandbox deleted")

async def render(scene: str) -> str:
    return f"{scene}.png"

async def free_gpu(scene: str) -> None:
    print(f"GPU of {scene} is free")
"""
"""What the README leaves to its reader."""


async def test_readme(reading: Reading) -> None:
    async with reading("README.md") as page:
        # The lines for `make serve`, against what that starts.
        ingress, admin = str(free_port()), str(free_port())
        await page.start(
            *(sys.executable, "-m", "examples.quickstart.serve"),
            until="For another terminal",
            INGRESS_PORT=ingress,
            ADMIN_PORT=admin,
        )
        page.hosts["localhost:8080"] = f"localhost:{ingress}"
        lines = asyncio.ensure_future(page.shell())

        (page.folder / "yours.py").write_text(YOURS)
        page.write("agent.py")
        await page.serve("agent.py")
        outcome = await Session(page.server.client, "CodingAgent", "ada").ask("Hello")
        assert [message["content"] for message in outcome["messages"]] == ["An answer."] * 2
        assert page.said == [
            "sandbox created",
            "asked with 1 messages: Make a plan.",
            "asked with 2 messages: Write it.",
            "sandbox deleted",
        ]
        page.write("service.py")
        await page.serve("service.py")
        call = page.server.client.generic_call
        assert await call("Renderer", "render", b'"moon"', headers=JSON) == b'"moon.png"'
        await page.until_said("GPU of moon is free")
        page.write("test_agent.py")
        assert "1 passed" in await page.run(sys.executable, "-m", "pytest", "test_agent.py")

        first, sent, second, status, cancelled, ended, history = answers(await lines)
        assert (first["turn"], first["interrupted"]) == (1, [])
        assert sent["status"] == "Accepted"
        assert (second["turn"], second["interrupted"]) == (2, [1])
        assert (status["status"], status["turn"]) == ("running", 2)
        assert cancelled == {"cancelled": [2]}
        assert (ended["turn"], ended["status"]) == (1, "completed")
        assert [message["role"] for message in history] == ["user", *["assistant"] * 3]


async def test_tutorial(reading: Reading) -> None:
    async with reading("docs/tutorial.md") as page:
        assert await page.shell()  # the path of the server
        page.write("agent.py", {"SECONDS = 10.0": "SECONDS = 1.0"})
        await page.serve("agent.py")
        await page.shell()
        await page.until_said("thinking of an outline of a poem about rain")
        await page.shell()
        await page.until_said("thinking of an outline of no, about snow")
        assert page.said == [
            "thinking of an outline of a poem about rain",
            "cut off: an outline of a poem about rain",
            "thinking of an outline of no, about snow",
        ]
        await page.shell()
        await page.shell()
        page.said.clear()
        page.write("agent.py", {"SECONDS = 10.0": "SECONDS = 1.0"})
        await page.serve("agent.py")
        await page.shell("thinking of a poem about rain")
        (deleted,) = [
            x for x, line in enumerate(page.said) if line.startswith("deleting work-inv_")
        ]
        assert deleted > page.said.index("cut off: a poem about rain")
        assert not (page.folder / page.said[deleted].removeprefix("deleting ")).exists()
        page.write("test_agent.py")
        assert "1 passed" in await page.shell()


async def test_how_to_stop_the_work(reading: Reading) -> None:
    async with reading("docs/how-to/stop-the-work.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell()
        await page.shell()
        names = await page.run_lines()
        # What the page says of Restate's UI and CLI, which use the admin API.
        session = Session(page.server.client, "SlowAgent", "carl")
        for end, outcome in ((page.server.cancel, "interrupted"), (page.server.kill, "killed")):
            receipt = await session.send("a long story")
            await end(receipt["task_id"])
            assert (await session.attach())["status"] == outcome
        assert names["outcome"]["turn"] == 1
        # What the page says of bodies, and the reference as well.
        async with httpx.AsyncClient(base_url=page.server.ingress_url, timeout=PATIENCE) as http:
            for body, headers, status in (
                (b"", {}, 200),
                (b"null", JSON, 200),
                (b"{}", JSON, 200),
                (b"", JSON, 400),
                (b"{}", {}, 400),
            ):
                answer = await http.post("/SlowAgent/carl/cancel", content=body, headers=headers)
                assert answer.status_code == status, (body, headers)


async def test_how_to_keep_what_was_done(reading: Reading) -> None:
    async with reading("docs/how-to/keep-what-was-done.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell("thinking of a house")
        history = await Session(page.server.client, "PlannerAgent", "ada").history()
        assert [message["role"] for message in history] == ["user", "assistant", "user"]


async def test_how_to_keep_what_a_provider_gave(reading: Reading) -> None:
    async with reading("docs/how-to/keep-what-a-provider-gave.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell("looking up Oslo")
        assert page.said == shown(page, "sent: user")
        await page.run_lines()


async def test_how_to_show_tokens(reading: Reading) -> None:
    async with reading("docs/how-to/show-tokens.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.run_lines()
        page.write("page.py")
        page.write("page.html")
        port = free_port()
        hypercorn = (sys.executable, "-m", "hypercorn", "page:app", "--bind", f"localhost:{port}")
        await page.start(*hypercorn, until="Running on", cwd=page.folder)
        async with httpx.AsyncClient(base_url=f"http://localhost:{port}", timeout=PATIENCE) as http:
            assert "EventSource" in (await http.get("/")).text
            tabs = [asyncio.ensure_future(first_turn(http)) for _ in range(2)]
            said = await http.post("/agents/StoryAgent/ben/message", json={"content": "mouse"})
            assert said.json()["turn"] == 1
            left, right = await asyncio.gather(*tabs)
            assert left[0]["type"] == right[0]["type"] == "gap"
            assert [x for x in left if x["type"] not in ("gap", "text")] == [
                x for x in right if x["type"] not in ("gap", "text")
            ]
            again = await first_turn(http, left[-2]["id"])
            assert again == left[-1:]
            await Session(page.server.client, "StoryAgent", "ben").attach(1)  # it is on record
            (turn,) = (await http.post("/agents/StoryAgent/ben/get_turns", json={})).json()["turns"]
            assert [x["message"] for x in left if x["type"] == "message"] == turn["messages"]
        page.write("solver.py")
        await page.serve("solver.py")
        session = Session(page.server.client, "SolverAgent", "ada")
        await session.ask("6 x 7")
        events = [{**event} async for event in until_an_end(session)]
        assert {"progress"} < {x["type"] for x in events}


async def test_how_to_let_browsers_in(reading: Reading) -> None:
    async with reading("docs/how-to/let-browsers-in.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        page.write("app.py")
        port = free_port()
        hypercorn = (sys.executable, "-m", "hypercorn", "app:app", "--bind", f"localhost:{port}")
        await page.start(*hypercorn, until="Running on", cwd=page.folder)
        page.hosts["localhost:8000"] = f"localhost:{port}"
        await page.shell(refused=True)
        headers = {"Authorization": "Bearer secret-of-ada"}
        base = f"http://localhost:{port}/agents"
        async with httpx.AsyncClient(base_url=base, timeout=PATIENCE, headers=headers) as http:
            client = agui.Page(http, "ChatAgent", "ada/2")
            client.say("ask me")
            asked = await client.run("r1", mode="interrupt")
            (one,) = asked["outcome"]["interrupts"]
            no = {"interruptId": one["id"], "status": "resolved", "payload": False}
            ended = await client.run("r2", resume=[no])
        assert ended["outcome"] == {"type": "success"}
        assert [x[2] for x in client.shown] == ["ask me", "Then not."]


async def test_how_to_use_an_editor(
    reading: Reading, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = npm.installed(tmp_path_factory.mktemp("acpx"), "acpx@0.1.15")
    modules = folder / "node_modules"
    monkeypatch.setenv("PATH", f"{modules}/.bin{os.pathsep}{os.environ['PATH']}")
    async with reading("docs/how-to/use-an-editor.md") as page:
        monkeypatch.setenv("HOME", str(page.folder))
        page.write("agent.py")
        await page.serve("agent.py")
        for answer, said in (
            ("allow", "The roses have had their water."),
            ("reject", "Then I leave them dry."),
        ):
            server = page.settings()["agent_servers"]["Garden"]
            assert server["command"] == "/home/ada/.venv/bin/python"
            async with editor_of(sys.executable, *server["args"]) as editor:
                session = await new_session(editor)
                prompt = editor.prompt(session, "water the roses")
                await editor.until(lambda: editor.asked)
                editor.asked[0][1].set_result(answer)
                assert await stop_reason(prompt) == "end_turn"
                assert editor.shown[session][-1] == ("agent", said)
        await page.shell()


async def until_an_end(session: Session) -> AsyncIterator[Event]:
    async for event in session.follow():
        yield event
        if event["type"] == "turn" and event["state"] == "ends":
            return


async def first_turn(http: httpx.AsyncClient, after: int | None = None) -> list[Any]:
    """The events of a page until a turn ends; the record has it then."""
    headers = {} if after is None else {"last-event-id": str(after)}
    events = []
    path = "/agents/StoryAgent/ben/events"
    async with (
        http.stream("GET", path, headers=headers) as answer,
        aclosing(answer.aiter_lines()) as lines,  # type: ignore[type-var]
    ):
        async for line in lines:
            if line.startswith("data: "):
                events.append(json.loads(line.removeprefix("data: ")))
                if events[-1].get("state") == "ends":
                    return events
    raise AssertionError(events)


async def test_how_to_clean_up(reading: Reading) -> None:
    async with reading("docs/how-to/clean-up.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell("process started")
        said = [re.sub(r"inv_\w+", "inv_…", line) for line in page.said]
        assert said == shown(page, "lock taken by inv_…")
        page.write("notify.py")
        await page.serve("notify.py")
        session = Session(page.server.client, "PoliteAgent", "ada")
        await session.send("Hello")
        await page.until_said("thinking")
        await session.cancel()
        assert (await session.attach())["status"] == "interrupted"
        await page.until_said("turn 1 was interrupted; 1 message(s) so far")


async def test_how_to_change_the_note(reading: Reading) -> None:
    async with reading("docs/how-to/change-the-note.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell()
        session = Session(page.server.client, "BareAgent", "ada")
        await session.send("paint it red")
        outcome = await session.ask("no, green")
        assert outcome["messages"][0]["content"] == "I was sent 2 messages."


async def test_how_to_queue_follow_ups(reading: Reading) -> None:
    async with reading("docs/how-to/queue-follow-ups.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell()
        assert page.said == ["writing a story", "writing a summary"]
        await page.shell()
        # What the page says of turns that never began.
        session = Session(page.server.client, "ScribeAgent", "bob")
        assert (await session.attach(4))["status"] == "completed"
        assert page.said[2:] == ["writing a story", "writing a letter"]
        said = [m["content"] for m in await session.history() if not m["content"].startswith("[")]
        assert said == ["a story", "a poem", "a summary", "a letter", "Here is a letter."]
        await page.shell()
        await page.shell()
        await page.shell(refused=True)


async def test_how_to_refuse_while_at_work(reading: Reading) -> None:
    async with reading("docs/how-to/refuse-while-at-work.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell(refused=True)
        await page.run_lines()
        # What docs/policies.md says of idempotency keys.
        session = Session(page.server.client, "DeployAgent", "news")
        await session.send("v1")
        with pytest.raises(TerminalError) as refusal:
            await session.send("v2", idempotency_key="one")
        assert (refusal.value.status_code, await session.cancel()) == (423, [1])
        assert (await session.attach())["status"] == "interrupted"
        with pytest.raises(TerminalError) as refusal:
            await session.send("v2", idempotency_key="one")
        assert refusal.value.status_code == 423
        assert (await session.send("v2", idempotency_key="two"))["turn"] == 2


async def test_how_to_interrupt_what_was_seen(reading: Reading) -> None:
    async with reading("docs/how-to/interrupt-what-was-seen.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell(refused=True)
        await page.run_lines()


async def test_how_to_say_why(reading: Reading) -> None:
    async with reading("docs/how-to/say-why.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell("editing main.py")
        # The other rows of the page's table, and its limit.
        session = Session(page.server.client, "EditorAgent", "bob")
        first = await session.send("one.py")
        await page.until_said("editing one.py")
        await page.server.cancel(first["task_id"])
        await session.attach()
        await session.send("two.py")
        await session.send("three.py")
        with pytest.raises(TerminalError, match="reason: has 1001 bytes") as refusal:
            await session.cancel(reason="x" * 1001)
        assert refusal.value.status_code == 400
        assert await session.cancel() == [3]
        assert await session.cancel(reason="too late") == []
        for turn in (2, 3):
            assert (await session.attach(turn))["status"] == "interrupted"
        notes = [m["content"] for m in await session.history()][1::2]
        reasons = ["cancelled", "interrupted by turn 3", "cancelled"]
        assert notes == [f"[Turn {n} was {reason}.]" for n, reason in enumerate(reasons, 1)]
        for times, reason in enumerate(("wrong file", None), 1):
            turn = (await session.send("four.py"))["turn"]
            await page.until_said("editing four.py", times)
            await session.cancel(reason="first")
            await session.rewind(turn, reason=reason)
        await session.send("five.py")
        await session.send("six.py", policy="rollback")
        await session.regenerate()
        await session.cancel()
        await session.attach()
        turns = (await session.turns())["turns"]
        assert [turn.get("reason") for turn in turns[3:]] == [
            *("rolled back: wrong file", "rolled back"),
            *("rolled back by turn 7", "rolled back by turn 8", "cancelled"),
        ]
        await session.send("seven.py")
        assert await session.reset(reason="the end") == [9]
        await session.attach()
        *_, turn_9 = (await session.turns())["turns"]
        assert turn_9.get("reason") == "rolled back: the end"


async def test_how_to_take_back_the_last_message(reading: Reading) -> None:
    async with reading("docs/how-to/take-back.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell("searching for a cheap hotel")
        await page.shell()
        await page.run_lines()
        session = Session(page.server.client, "TripAgent", "ada")
        assert (await session.attach(2))["status"] == "interrupted"
        turns = (await session.turns())["turns"]
        assert [turn.get("discarded", False) for turn in turns] == [False, True, True]
        # What was cancelled before, and what was steered.
        session = Session(page.server.client, "TripAgent", "carl")
        await session.send("a cheap boat")
        await session.send("a cheap tent")
        await session.send("with a stove", policy="steer")
        receipt = await session.send("a tent", policy="rollback")
        assert (receipt["interrupted"], receipt.get("discarded")) == ([2], [2])
        await session.attach()
        said = [m["content"] for m in await session.history() if not m["content"].startswith("[")]
        assert said == ["a cheap boat", "a tent", "Here is a tent."]
        assert "discarded" not in await session.send("a cheap boat", policy="rollback")
        page.write("booking.py")
        await page.serve("booking.py")
        await page.shell()
        await page.until_said("cancelled: a room")


async def test_how_to_steer(reading: Reading) -> None:
    async with reading("docs/how-to/steer.md") as page:
        page.write("agent.py", {"SECONDS = 4.0": "SECONDS = 1.0"})
        await page.serve("agent.py")
        await page.shell("writing starter")
        page.said.clear()
        await page.shell("writing dessert")
        # The rest of what the page says.
        session = Session(page.server.client, "MenuAgent", "carl")
        assert (await session.send("Greek", policy="steer"))["status"] == "running"
        await page.until_said("writing starter", 3)
        await session.send("Thai", policy="queue")
        for content in ("no fish", "no garlic"):
            await session.send(content, policy="steer")
        await page.until_said("writing dessert", 3)
        await session.send("no salt", policy="steer")
        await session.attach(2)
        first, second = (await session.turns())["turns"]
        assert [m["content"] for m in first["messages"]] == [
            *("starter: Greek", "no fish", "no garlic"),
            "dessert: Greek, no fish, no garlic",
        ]
        assert first.get("steered") == [1, 2]
        assert [m["content"] for m in second["input"]] == ["Thai", "no salt"]
        # An interrupt and a rollback.
        for policy in ("interrupt", "rollback"):
            page.said.clear()
            receipt = await session.send("Thai")
            await page.until_said("writing starter")
            await session.send("with rice", policy="steer")
            await session.send("Dutch", policy=policy)
            await session.attach()
            said = {m["content"] for m in await session.history()}
            assert ("with rice" in said) == (policy == "interrupt")
            await session.rewind(receipt["turn"])


async def test_how_to_wait_for_quiet(reading: Reading) -> None:
    async with reading("docs/how-to/wait-for-quiet.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell()
        await page.shell()
        assert page.said == ["heard ['a table', 'for two', 'at eight']", "heard ['no, at eight']"]
        # What docs/policies.md says of those that join.
        session = Session(page.server.client, "ListeningAgent", "bob")
        await session.send("one")
        for content, policy in (("two", "steer"), ("three", "queue")):
            assert (await session.send(content, policy=policy))["status"] == "joined"
        with pytest.raises(TerminalError) as refusal:
            await session.send("four", policy="reject")
        assert refusal.value.status_code == 423
        receipt = await session.send("five", policy="rollback")
        assert (receipt["turn"], receipt.get("discarded")) == (2, [1])
        await session.attach()
        assert [m["content"] for m in await session.history()] == ["five", "I heard 1."]


async def test_how_to_try_again(reading: Reading) -> None:
    async with reading("docs/how-to/try-again.md") as page:
        run = "async def run(self, ctx: restate.Context, task: Task) -> str:\n"
        held = "        if task.session == 'carl':\n            await ctx.awakeable()[1]\n"
        page.write("agent.py", {run: run + held})
        await page.serve("agent.py")
        await page.shell()
        await page.run_lines()
        session = Session(page.server.client, "NameAgent", "carl")
        await session.send("a name")
        receipt = await session.regenerate(idempotency_key="carl-again")
        assert await session.regenerate(idempotency_key="carl-again") == receipt
        assert (receipt["status"], receipt["interrupted"]) == ("waiting", [1])
        with pytest.raises(TerminalError) as refusal:
            await session.regenerate(1)
        assert refusal.value.status_code == 404
        await session.cancel()
        assert (await session.attach())["status"] == "interrupted"


async def test_how_to_edit_a_message(reading: Reading) -> None:
    async with reading("docs/how-to/edit-a-message.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell()
        await page.run_lines()
        turns = (await Session(page.server.client, "ScaleAgent", "ada").turns())["turns"]
        assert [turn["turn"] for turn in turns if turn.get("discarded")] == [2, 3]


async def test_how_to_change_what_is_pending(reading: Reading) -> None:
    async with reading("docs/how-to/change-what-is-pending.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        for _ in range(3):
            await page.shell()
        await page.shell(refused=True)
        await page.run_lines()
        # What the page says of steering, and of keys.
        session = Session(page.server.client, "SecretaryAgent", "carl")
        await session.send("a novel")
        for content in ("a poem", "a letter"):
            await session.send(content)
        receipt = await session.promote(2, "steer")
        assert (receipt["turn"], receipt["status"], receipt.get("discarded")) == (1, "steered", [2])
        receipt = await session.promote(2, "interrupt")
        assert (receipt["turn"], receipt["interrupted"]) == (3, [1])
        for _ in range(2):
            await session.withdraw(3, idempotency_key="carl-3")
        assert (await session.attach(message=2))["status"] == "completed"
        first, second, *_ = (await session.turns())["turns"]
        assert (second.get("reason"), second.get("discarded")) == ("promoted", True)
        assert (first["status"], page.said.count("writing a letter")) == ("interrupted", 2)


async def test_how_to_go_on(reading: Reading) -> None:
    async with reading("docs/how-to/go-on.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell("building roof")
        assert page.said == [f"building {x}" for x in ("walls", "roof", "roof", "garden")]
        session = Session(page.server.client, "BuilderAgent", "ada")
        assert (await session.attach(message=1)).get("turn") == 2
        _, turn = (await session.turns())["turns"]
        assert (turn["input"], turn.get("resumes")) == ([], 1)
        with pytest.raises(TerminalError) as refusal:
            await session.resume()
        assert refusal.value.status_code == 412
        # What the page says of a turn that is taken back.
        await session.rewind(2)
        assert (await session.history())[-1]["content"].startswith("[I interrupted you")
        receipt = await session.resume(1, idempotency_key="ada-3")
        assert await session.resume(1, idempotency_key="ada-3") == receipt
        assert (await session.attach(3))["status"] == "completed"
        assert [m["role"] for m in await session.history()] == ["user", *["assistant"] * 3]
        page.write("counter.py")
        await page.serve("counter.py")
        await page.shell()
        session = Session(page.server.client, "CounterAgent", "ada")
        assert (await session.history())[1:3] == [
            {"role": "assistant", "content": "One, two"},
            {"role": "user", "content": "Go on."},
        ]


async def test_how_to_ask_before_it_is_done(reading: Reading) -> None:
    async with reading("docs/how-to/ask-before-it-is-done.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        session = Session(page.server.client, "GitAgent", "ada")
        await page.shell(until_it_asks(session))
        assert page.said == ["pushing main"]
        await page.run_lines()
        await page.shell(refused=True)


async def until_it_asks(session: Session) -> None:
    while not (await session.status())["waiting_for"]:
        await asyncio.sleep(0.1)


async def test_how_to_note_who_said_it(reading: Reading) -> None:
    async with reading("docs/how-to/note-who-said-it.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell()
        session = Session(page.server.client, "TableAgent", "four")
        await session.ask("salad", metadata={"author": "Bob"})
        await session.ask("soup")
        assert page.said == ["Ada ordered soup", "Bob ordered salad", "somebody ordered soup"]
        await session.edit(3, "fish")
        await session.attach()
        assert page.said[-1] == "somebody ordered fish"
        with pytest.raises(TerminalError) as refusal:
            await session.send("tea", metadata={"author": "x" * types.MAX_METADATA})
        assert refusal.value.status_code == 400


async def test_how_to_say_it_now(reading: Reading) -> None:
    async with reading("docs/how-to/say-it-now.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell("speaking of Oslo")
        assert page.said == ["speaking of Oslo", "speaking of Oslo, Bergen"]
        (turn,) = (await Session(page.server.client, "GuideAgent", "ada").turns())["turns"]
        assert {**turn}["cut_short"] == [0]
        with pytest.raises(TerminalError) as refusal:
            await Session(page.server.client, "GuideAgent", "bob").send("Oslo", now=True)
        assert refusal.value.status_code == 400
        page.write("again.py")
        await page.serve("again.py")
        page.said.clear()
        await page.shell("thinking of Oslo")
        assert page.said == ["thinking of Oslo", "thinking of Oslo, Bergen"]


async def test_how_to_stop_after_this_step(reading: Reading) -> None:
    async with reading("docs/how-to/stop-after-this-step.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell("building walls")
        assert page.said == ["building walls"]
        await page.run_lines()


async def test_how_to_start_over(reading: Reading) -> None:
    async with reading("docs/how-to/start-over.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell()
        await page.shell(refused=True)
        session = Session(page.server.client, "OracleAgent", "ada")
        second, third = (await session.turns())["turns"]
        assert (second["turn"], second.get("reason")) == (2, "rolled back: another user")
        assert (second.get("discarded"), third.get("discarded")) == (True, None)
        assert await session.reset() == []
        assert (await session.turns())["turns"] == []


async def test_how_to_branch(reading: Reading) -> None:
    async with reading("docs/how-to/branch.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.run_lines()
        await page.shell(refused=True)
        north, west = [
            (await Session(page.server.client, "RouteAgent", key).turns())["turns"]
            for key in ("north", "west")
        ]
        assert west[:3] == north
        # What is discarded is not copied.
        session = Session(page.server.client, "RouteAgent", "north")
        await session.rewind(2)
        for _ in range(2):
            copy = await session.fork("copy", idempotency_key="copy")
        assert [turn["turn"] for turn in (await copy.turns())["turns"]] == [1]


async def test_how_to_show_what_happened(reading: Reading) -> None:
    async with reading("docs/how-to/show-what-happened.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell()
        await page.run_lines()
        await page.run_lines()
        session = Session(page.server.client, "SketchAgent", "ada")
        await session.send("a city")
        (running,) = (await session.turns(limit=1))["turns"]
        assert (running["status"], running["input"][0]["content"]) == ("running", "a city")
        await session.reset()
        await session.ask("a tree")
        page_of_one = await session.turns(before=4, limit=2)
        assert page_of_one == {"turns": [], "before": 2}


async def test_how_to_keep_partial_answers(reading: Reading) -> None:
    async with reading("docs/how-to/keep-partial-answers.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell("said dragon")
        history = await Session(page.server.client, "TaleAgent", "ada").history()
        assert [m["role"] for m in history] == ["user", "assistant", "user", "user", "assistant"]


async def test_how_to_use_tools(reading: Reading) -> None:
    async with reading("docs/how-to/use-tools.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell("reading huge")
        page.write("notes.py")
        await page.serve("notes.py")
        await page.shell("paying")
        page.write("parallel.py")
        await page.serve("parallel.py")
        await page.shell("read small")
        page.write("shell.py")
        await page.serve("shell.py")
        await page.shell("tests run")
        page.write("blocks.py")
        await page.serve("blocks.py")
        page.said.clear()
        await page.shell("reading huge")
        session = Session(page.server.client, "BlocksAgent", "ada")
        for kind in ("tool_use", "tool_result"):
            with pytest.raises(TerminalError, match="which only agents put out") as refusal:
                await session.send([{"type": kind, "id": "toolu_small"}])
            assert refusal.value.status_code == 400


async def test_how_to_fit_the_conversation_to_the_model(reading: Reading) -> None:
    async with reading("docs/how-to/fit-to-the-model.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.run_lines()
        await page.run_lines()
        await page.shell()
        page.write("local.py")
        await page.serve("local.py")
        await page.shell("thinking")


async def test_how_to_do_what_cannot_be_undone(reading: Reading) -> None:
    async with reading("docs/how-to/do-what-cannot-be-undone.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell("charging for inv_")
        said = [re.sub(r"inv_\w+", "inv_…", line) for line in page.said]
        assert said == shown(page, "reserved for inv_…")


async def test_how_to_learn_why(reading: Reading) -> None:
    async with reading("docs/how-to/learn-why.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell("reviewing one.py", "reviewing one.py, wrong.py")
        assert page.said == shown(page, "reviewing one.py")
        page.write("catch.py")
        await page.serve("catch.py")
        page.said.clear()
        await page.shell("listening")
        assert page.said == shown(page, "listening")


async def test_how_to_adopt_cleanup(reading: Reading) -> None:
    async with reading("docs/how-to/adopt-cleanup.md") as page:
        page.write("service.py")
        await page.serve("service.py")
        await page.shell("rendering moon")
        await page.until_said("told that moon was interrupted")
        assert page.said == shown(page, "rendering moon")
        *_, row = await page.server.invocations("target_service_name = 'Renderer'")
        async with httpx.AsyncClient(base_url=page.server.ingress_url, timeout=PATIENCE) as http:
            ended = await http.get(f"/restate/invocation/{row['id']}/attach")
        assert (ended.status_code, ended.json()["message"]) == (409, "cancelled")


async def test_how_to_add_a_handler(reading: Reading) -> None:
    async with reading("docs/how-to/add-a-handler.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell()
        page.write("talk.py")
        await page.shell()
        await page.shell(refused=True)


async def test_how_to_serve_it(reading: Reading) -> None:
    async with reading("docs/how-to/serve.md") as page:
        page.write("agent.py")
        text = page.write("worker.py")
        port = free_port()
        (page.folder / "worker.py").write_text(text.replace("0.0.0.0:9080", f"127.0.0.1:{port}"))
        worker = await page.start_worker("worker.py")
        url = f"http://127.0.0.1:{port}"
        await page.server.register(url)
        session = Session(page.server.client, "ThinkingAgent", "ada")
        await session.send("stars")
        await page.until_said("thinking")
        names = await page.run_lines()
        assert names["live"][f"{url}/"] == 1
        worker.send_signal(signal.SIGTERM)
        await asyncio.wait_for(worker.wait(), PATIENCE)
        await page.start_worker("worker.py")
        assert (await session.attach())["status"] == "completed"


async def test_how_to_call_an_agent(reading: Reading) -> None:
    async with reading("docs/how-to/call-an-agent.md") as page:
        page.write("team.py")
        await page.serve("team.py")
        await page.shell("looking up everything")
        assert page.said == shown(page, "looking up tea")
        session = Session(page.server.client, "ResearchAgent", "ada")
        (turn,) = (await session.turns(limit=1))["turns"]
        assert turn.get("reason") == "cancelled: the agent that asked for it was interrupted"
        await page.shell()
        page.write("agent.py")
        await page.serve("agent.py")
        page.write("talk.py")
        await page.shell()
        await page.shell()
        page.write("impatient.py")
        await page.serve("impatient.py")
        session = Session(page.server.client, "ThinkerAgent", "ada")
        send = page.server.client.generic_send
        call = await send("Hotline", "call", b'"ada"', headers=JSON)
        await page.until_said("thinking")
        await page.server.cancel(call.invocation_id)
        assert (await session.attach())["status"] == "interrupted"


async def test_how_to_use_a_framework(reading: Reading) -> None:
    async with reading("docs/how-to/use-a-framework.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell("fetching two")
        assert page.said == ["fetching one", "fetching two"]


async def test_how_to_choose_timeouts_and_retries(reading: Reading) -> None:
    async with reading("docs/how-to/timeouts-and-retries.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{page.server.admin_url}/services/PatientTask")
        service = answer.json()
        assert (service["inactivity_timeout"], service["abort_timeout"]) == ("20m", "5m")
        assert service["journal_retention"] == service["idempotency_retention"] == "7d"
        assert service["retry_policy"] == {
            "initial_interval": "50ms",
            "exponentiation_factor": 2.0,
            "max_attempts": 100,
            "on_max_attempts": "Pause",
            "max_interval": "1s",
        }


async def test_how_to_end_a_task_that_is_stuck(reading: Reading) -> None:
    async with reading("docs/how-to/end-a-stuck-task.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell()
        assert page.said == ["drawing a city", "drawing a town", "drawing a house"]
        await page.run_lines()
        session = Session(page.server.client, "DraughtAgent", "ada")
        assert (await session.status())["live"] == []


async def test_how_to_test_without_docker(reading: Reading) -> None:
    async with reading("docs/how-to/test-without-docker.md") as page:
        for name in ("agent.py", "test_agent.py", "check.py", "test_replay.py"):
            page.write(name)
        assert "2 passed" in await page.shell()
        await page.shell()
        assert "1 passed" in await page.shell()


async def test_how_to_run_on_lambda(reading: Reading) -> None:
    async with reading("docs/how-to/run-on-lambda.md") as page:
        page.write("agent.py")
        await page.serve("agent.py")
        await page.shell("part 1 begins")
        assert page.said == shown(page, "part 1 begins")


async def test_explanation_of_cancellation(reading: Reading) -> None:
    async with reading("docs/explanation/cancellation.md") as page:
        page.write("shop.py")
        await page.serve("shop.py")
        send = page.server.client.generic_send
        sale = await send("Shop", "sell", b'"a book"', headers=JSON)
        await page.until_said("shipping a book")
        await page.server.cancel(sale.invocation_id)
        await page.until_said("paying back a book")
        await page.server.cancel(sale.invocation_id)
        await page.until_said("paid back a book")
        page.write("editor.py")
        await page.serve("editor.py")
        outcome = await Session(page.server.client, "Editor", "ada").ask("a title")
        assert outcome["messages"][-1]["content"] == "an answer to a title"


GREETER = """
import pytest
import restate
from interruptible.testing import Restate, fixture

greeter = restate.Service("Greeter")

@greeter.handler()
async def greet(ctx: restate.Context, name: str) -> str:
    return f"Hello {name}"

@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
"""
"""What the example of `interruptible.testing` takes for granted."""


async def test_example_in_the_reference(reading: Reading) -> None:
    async with reading("docs/reference.md") as page:
        page.write_lines("test_greeter.py", before=GREETER)
        assert "1 passed" in await page.run(sys.executable, "-m", "pytest", "test_greeter.py")


def shown(page: Reader, first: str) -> list[str]:
    """Return the lines that a page shows as the output of its program."""
    (block,) = [b for b in page.page.blocks if b.text.startswith(f"{first}\n")]
    return block.text.splitlines()


def answers(output: str) -> list[Any]:
    """Return the JSON values in the output of commands."""
    decoder, values = json.JSONDecoder(), []
    while output := output.lstrip():
        value, end = decoder.raw_decode(output)
        values.append(value)
        output = output[end:]
    return values


# -- the rest ----------------------------------------------------------------------------------


def test_no_example_is_left_out_in_silence() -> None:
    blocks = [block for path in PATHS for block in Page(path).blocks]
    assert {block.language for block in blocks} == LANGUAGES
    skipped = {
        (block.page, block.text.partition("\n")[0])
        for block in blocks
        if block.mark.startswith("not run: ")
    }
    assert skipped == NOT_RUN
    followed = set(re.findall(r'reading\("(.*?)"\)', Path(__file__).read_text()))
    followed |= {*OF_FRAMEWORKS.values(), *RECIPES.values()}
    assert {block.page for block in blocks if block.is_run} == followed


def test_every_link_leads_somewhere() -> None:
    pages = {(ROOT / path).resolve(): Page(path) for path in PATHS}
    broken = []
    for path, page in pages.items():
        for target in re.findall(r"\]\((.*?)\)", page.prose):
            if target.startswith("https://"):
                continue
            name, _, anchor = target.partition("#")
            file = (path.parent / name).resolve() if name else path
            if not file.is_file() or (anchor and anchor not in anchors(pages[file])):
                broken.append((page.path, target))
    assert not broken


def anchors(page: Page) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_page_of_typescript_shows_the_example() -> None:
    folder = ROOT / "examples/typescript"
    sources = [path.read_text() for path in (folder / "agent.py", *folder.glob("src/*.ts"))]
    shown = [x for x in Page("docs/how-to/use-typescript.md").blocks if x.language != "bash"]
    assert len(shown) == 5
    assert not [str(x) for x in shown if not any(x.text in source for source in sources)]


def test_the_first_page_shows_the_agent_of_the_readme() -> None:
    [shown] = [x.text for x in Page("docs/README.md").blocks if x.language == "python"]
    assert shown.strip() in Page("README.md").text


def test_every_page_is_in_the_index() -> None:
    index = Page("docs/README.md").prose
    pages = {path.removeprefix("docs/") for path in PATHS if path.startswith("docs/")}
    assert pages - {"README.md"} == set(re.findall(r"\]\((.*?\.md)\)", index))


def test_the_site_has_every_page() -> None:
    named = re.findall(r' = "(\S+\.md)"', (ROOT / "zensical.toml").read_text())
    pages = {path.removeprefix("docs/") for path in PATHS if path.startswith("docs/")}
    assert sorted(named) == sorted(pages)


def test_every_make_target_that_is_named_exists() -> None:
    text = "\n".join(Page(path).text for path in PATHS)
    named = set(re.findall(r"(?:`|^)make ([a-z-]*[a-z])", text, re.MULTILINE))
    exist = {f"demo-{x}" for x in ("pydantic-ai", "openai-agents", "langchain", "adk")}
    exist |= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named <= exist
    assert {"demo", "test", "serve", "compare"} <= named


def test_every_public_name_is_in_the_reference() -> None:
    headings = set(re.findall(r"^#+ `(\w+)`", Page("docs/reference.md").prose, re.MULTILINE))
    for module in (interruptible, client, formats, stream, testing):
        missing = set(module.__all__) - headings
        assert not missing, module.__name__


def test_the_reference_is_what_the_docstrings_say() -> None:
    made = runpy.run_path(str(ROOT / "docs/build_reference.py"))["reference"]()
    assert Page("docs/reference.md").text == made, "Run: python docs/build_reference.py"


def test_the_protocol_has_a_diagram_and_all_invariants() -> None:
    page = Page("docs/explanation/protocol.md")
    diagrams = [block.text for block in page.blocks if block.language == "mermaid"]
    assert [text.partition("\n")[0] for text in diagrams] == ["sequenceDiagram"] * 2
    assert re.findall(r"^\| (I\d+) \|", page.text, re.MULTILINE) == [f"I{n}" for n in range(1, 13)]


def test_the_table_of_policies_has_them_all_and_the_options_with_their_defaults() -> None:
    page = Page("docs/policies.md").text
    policies, receipts, *_, options = (
        re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.MULTILINE)
        for table in re.split(r"^\| --- .*$", page, flags=re.MULTILINE)[1:]
    )
    assert [name for name, _ in policies] == list(types.POLICIES)
    assert [name for name, _ in receipts] == list(get_args(types.Receipt.__annotations__["status"]))
    for option, shown in options:
        meant = types.POLICIES if shown == "all" else ast.literal_eval(shown.strip("`"))
        assert getattr(Agent, option) == meant, option
    assert f"at most {types.MAX_REASON:,} bytes" in Page("docs/how-to/say-why.md").text


def test_why_tells_all_faults() -> None:
    faults = re.findall(r"^\*\*F(\d+)\.", Page("docs/explanation/why.md").text, re.MULTILINE)
    assert faults == [str(number) for number in range(1, 14)]


def test_the_readme_shows_a_run_of_the_demo_and_the_table_of_faults() -> None:
    page = Page("README.md")
    shown_run = page.between("demo")
    calls = re.findall(r"model call: (.*)", shown_run)
    said = re.findall(r"“(.*)”\n", shown_run)
    checked = re.findall(r"^  ok +(.*)$", shown_run, re.MULTILINE)
    folder = ROOT / "examples/quickstart"
    agent, demo = ((folder / f"{name}.py").read_text() for name in ("agent", "demo"))
    assert len(said) == 3
    assert len(calls) == 6
    assert len(checked) == 4
    assert all(call in agent for call in calls)
    assert all(text in demo for text in said)
    faults = re.findall(r"^\| *(F\d+)\b", page.between("compare"), re.MULTILINE)
    assert faults == [f"F{number}" for number in range(1, 14)]


def test_the_range_of_the_sdk_is_the_one_that_is_installed() -> None:
    wanted = r"restate-sdk>=([\d.]+),<([\d.]+)"
    found = re.search(wanted, (ROOT / "pyproject.toml").read_text())
    assert found
    oldest, before = found.groups()
    for path, text in (
        ("README.md", f"`restate-sdk`, {oldest} or newer and before {before},"),
        ("CHANGELOG.md", f"`restate-sdk` {oldest} and newer, before {before}."),
        ("docs/explanation/cancellation.md", f"The oldest `restate-sdk` is {oldest}."),
    ):
        assert text in Page(path).text, path


def test_the_changelog_names_the_version() -> None:
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert re.search(rf"^## {re.escape(version[1])} ", Page("CHANGELOG.md").text, re.MULTILINE)
