"""The demo tells the truth, `make serve` does what it prints, the stand-in counts."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from examples.quickstart import agent
from examples.quickstart.offline_model import OfflineModel
from tests.server.conftest import REPLAY
from tests.server.process import free_port

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
ASKED: list[Any] = [{"role": "user", "content": "Hi."}, {"role": "user", "content": "Make a plan."}]

once = pytest.mark.skipif(REPLAY, reason="its server is its own, always in normal mode")

# An event is a line that begins with the seconds since the start.
EVENT = re.compile(r"^ +\d+\.\d\d s  (?P<who>.{11})(?P<text>.*)$", re.MULTILINE)

HAPPY = [
    "alice “Write a command that counts words.”",
    "step create sandbox",
    "step model call: Make a plan.",
    "model call 1 completed",
    "step model call: Write a draft.",
    "model call 2 completed",
    "step model call: Polish it.",
    "model call 3 completed",
    "cleanup delete sandbox",
]
INTERRUPTED = [
    "bob “Write a to-do app with Flask.”",
    "step create sandbox",
    "step model call: Make a plan.",
    "bob “Stop: use FastAPI instead.”",
    "model call 4 cut off",
    "cleanup delete sandbox",
    "step create sandbox",
    "step model call: Make a plan.",
    "model call 5 completed",
    "step model call: Write a draft.",
    "bob “And keep the to-dos in SQLite, not in memory.”",
    "model call 6 cut off",
    "cleanup delete sandbox",
    "step create sandbox",
    "step model call: Make a plan.",
    "model call 7 completed",
    "step model call: Write a draft.",
    "model call 8 completed",
    "step model call: Polish it.",
    "model call 9 completed",
    "cleanup delete sandbox",
]


@once
async def test_the_demo_tells_both_stories_in_order_within_45_seconds(tmp_path: Path) -> None:
    async with running("demo", tmp_path) as demo:
        output, errors = await asyncio.wait_for(demo.communicate(), 45)

    text = output.decode()
    assert (demo.returncode, errors.decode()) == (0, ""), text
    events = [f"{match['who'].strip()} {match['text']}" for match in EVENT.finditer(text)]
    acts = ("alice ", "bob ", "step ", "model call", "cleanup ")
    assert [told(event) for event in events if event.startswith(acts)] == [*HAPPY, *INTERRUPTED]
    assert [event for event in events if event.startswith("receipt")] == [
        "receipt turn 1",
        "receipt turn 2, interrupts turn 1",
        "receipt turn 3, interrupts turn 2",
    ]
    endings = re.findall(r"^  turn (\d) +inv_\w+ +[\d.]+ s  (\w+)$", text, re.MULTILINE)
    assert endings == [("1", "cancelled"), ("2", "cancelled"), ("3", "completed")]
    assert len(re.findall(r"^  ok ", text, re.MULTILINE)) == 4
    assert "\x1b" not in text
    assert left_behind(tmp_path) == []


async def test_the_demo_stops_all_that_it_started_when_it_is_interrupted(tmp_path: Path) -> None:
    async with running("demo", tmp_path) as demo:
        await until_printed(demo, "1. Happy path")
        demo.send_signal(signal.SIGINT)
        await asyncio.wait_for(demo.communicate(), 15)

    assert demo.returncode == 130
    assert left_behind(tmp_path) == []


async def test_the_demo_fails_in_one_line_when_the_real_model_does_not_answer(
    tmp_path: Path,
) -> None:
    nobody = {"OPENAI_API_KEY": "wrong", "OPENAI_BASE_URL": f"http://127.0.0.1:{free_port()}/v1"}
    async with running("demo", tmp_path, **nobody) as demo:
        _, errors = await asyncio.wait_for(demo.communicate(), 15)

    assert demo.returncode == 1
    assert re.fullmatch(r"demo: the model at \S+ does not answer: .+\n", errors.decode())


@once
@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
async def test_what_serve_prints_can_be_copied_and_pasted(tmp_path: Path) -> None:
    ports = {"INGRESS_PORT": str(free_port()), "ADMIN_PORT": str(free_port())}
    async with running("serve", tmp_path, **ports) as serve:
        printed = await until_printed(serve, "/cancel -X POST")
        commands = re.findall(r"^  curl (.+)$", printed, re.MULTILINE)
        answers = [await shell(f"curl -sS --fail-with-body {command}") for command in commands]
        ingress = f"http://localhost:{ports['INGRESS_PORT']}"
        await shell(f"curl -sS --fail-with-body {ingress}/CodingAgent/bob/attach")
        serve.send_signal(signal.SIGINT)
        await asyncio.wait_for(serve.communicate(), 15)

    receipt, outcome, history, sent, second, status, cancelled = answers
    assert receipt["interrupted"] == []
    assert (outcome["turn"], outcome["status"]) == (1, "completed")
    assert [each["role"] for each in history] == ["user", *["assistant"] * 3]
    assert sent["status"] == "Accepted"
    assert (second["turn"], second["interrupted"]) == (2, [1])
    assert (status["status"], status["turn"]) == ("running", 2)
    assert cancelled == {"cancelled": [2]}
    assert serve.returncode == 0
    assert left_behind(tmp_path) == []


@once
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
async def test_serve_stops_at_any_signal_that_wants_it_to(
    tmp_path: Path, signum: signal.Signals
) -> None:
    ports = {"INGRESS_PORT": str(free_port()), "ADMIN_PORT": str(free_port())}
    async with running("serve", tmp_path, **ports) as serve:
        await until_printed(serve, "/cancel -X POST")
        serve.send_signal(signum)
        await asyncio.wait_for(serve.communicate(), 15)

    assert serve.returncode == 0
    assert left_behind(tmp_path) == []


async def test_serve_says_in_one_line_that_a_port_is_taken_and_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        async with running("serve", tmp_path, INGRESS_PORT=str(port)) as serve:
            _, errors = await asyncio.wait_for(serve.communicate(), 15)

    assert serve.returncode == 1
    line = rf"serve: port {port} .*address already in use.* make serve INGRESS_PORT=\d+\n"
    assert re.fullmatch(line, errors.decode())


def test_the_agent_has_fewer_than_60_lines() -> None:
    assert len(Path(agent.__file__).read_text().splitlines()) < 60


async def test_the_stand_in_streams_word_by_word_and_shows_what_it_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with OfflineModel(seconds=0.1) as model, client_of(model, monkeypatch) as client:
        create = client.chat.completions.create
        chunks = [
            chunk.choices[0].delta.content
            async for chunk in await create(model="any", messages=ASKED, stream=True)
        ]
        whole = await create(model="any", messages=ASKED)

    answer = (
        "Plan for: Hi. 1. Read what is there. 2. Change it. 3. Test it. (I was sent 2 messages.)"
    )
    assert "".join(chunk or "" for chunk in chunks) == answer
    assert len(chunks) == len(answer.split()) + 1
    assert whole.choices[0].message.content == answer
    assert whole.model == "offline-stand-in"


async def test_the_stand_in_sees_at_once_that_a_step_has_been_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with OfflineModel(seconds=60) as model, client_of(model, monkeypatch):
        streaming = asyncio.ensure_future(agent.ask(ASKED[:1], "Make a plan."))
        await model.wait_for(lambda call: call.tokens > 0, timeout=10)
        streaming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await streaming
        call = await model.wait_for(lambda call: call.status == "cut off", timeout=10)

    assert call.messages == ASKED
    assert 0 < call.tokens < call.tokens_in_all
    assert call.seconds < 10


async def test_the_stand_in_counts_and_shows_its_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    async with OfflineModel(seconds=0.05) as model, client_of(model, monkeypatch):
        await agent.ask(ASKED[:1], "Make a plan.")
        model.seconds = 60
        cut_off = asyncio.ensure_future(agent.ask(ASKED, "Write a draft."))
        await model.wait_for(lambda call: call.number == 2, timeout=10)
        cut_off.cancel()
        await model.wait_for(lambda call: call.status == "cut off", timeout=10)
        in_flight = asyncio.ensure_future(agent.ask(ASKED, "Polish it."))
        await model.wait_for(lambda call: call.number == 3, timeout=10)

        async with httpx.AsyncClient(base_url=model.base_url.removesuffix("/v1")) as http:
            stats = (await http.get("/stats")).json()
            requests = (await http.get("/requests")).json()
        in_flight.cancel()
        await asyncio.gather(in_flight, cut_off, return_exceptions=True)

    assert stats == {"started": 3, "completed": 1, "cut_off": 1, "in_flight": 1}
    assert [request["status"] for request in requests] == ["completed", "cut off", "in flight"]
    assert requests[1]["messages"] == [*ASKED, {"role": "user", "content": "Write a draft."}]


async def test_the_stand_in_refuses_what_is_no_request_for_an_answer() -> None:
    async with OfflineModel() as model, httpx.AsyncClient(base_url=model.base_url) as http:
        for body in (b"", b"{}", b"[]", b'{"messages": []}', b'{"messages": [{"role": "user"}]}'):
            response = await http.post("/chat/completions", content=body)
            assert response.status_code == 400, body
            assert "no chat completions request" in response.json()["error"]["message"]
        assert (await http.get("/nothing")).status_code == 404
        assert model.stats["started"] == 0


def told(event: str) -> str:
    """Leave out what differs from run to run."""
    return re.sub(r"( sandbox).*|((?:completed|cut off)) after.*", r"\1\2", event)


@asynccontextmanager
async def running(
    name: str, tmp_path: Path, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run one of the quickstart's programs, with no model but the stand-in."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("OPENAI_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"examples.quickstart.{name}"),
        cwd=ROOT,
        env={**inherited, "TMPDIR": str(tmp_path), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def until_printed(process: asyncio.subprocess.Process, text: str) -> str:
    """Read what a program prints, to a line that has this text in it."""
    assert process.stdout is not None
    printed = ""
    while text not in printed:
        line = await asyncio.wait_for(process.stdout.readline(), 15)
        assert line, f"ended before it printed {text}: {printed}"
        printed += line.decode()
    return printed


def left_behind(tmp_path: Path) -> list[str]:
    """List the files and, where /proc tells, the processes that were not cleaned up."""
    files = [str(path) for path in tmp_path.iterdir()]
    ours = f"TMPDIR={tmp_path}".encode()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if ours in environ.read_bytes().split(b"\0"):
                files.append(str(environ))
        except OSError:  # ended meanwhile
            continue
    return files


async def shell(command: str) -> Any:
    """Run a command line that prints JSON."""
    process = await asyncio.create_subprocess_shell(command, stdout=subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, f"{command}: {output.decode()}"
    return json.loads(output)


@asynccontextmanager
async def client_of(
    model: OfflineModel, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[openai.AsyncOpenAI]:
    """Let the environment name the stand-in, and give a client of it."""
    monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    async with openai.AsyncOpenAI(max_retries=0) as client:
        yield client
