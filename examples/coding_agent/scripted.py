"""A scripted stand-in for a model: OpenAI's protocol over a real local socket, streamed.

It understands nothing, and says so. What it answers to a conversation is a function of it, a
*script*: `programmer.script` by default, others in the tests. It streams slowly, notes each
request, and notices at once when a caller hangs up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from typing_extensions import Self

from examples.coding_agent.model import Model
from examples.coding_agent.programmer import script as programmer

NAME = "scripted-programmer"
LABEL = "scripted stand-in, not a model: OPENAI_API_KEY is not set"
Script = Callable[[list[dict[str, Any]]], "Reply"]


@dataclass
class Reply:
    """What a script answers: text, and calls of tools as (name, arguments).

    Attributes:
        text: What it says.
        calls: What it calls; arguments that are a `str` are sent as they are, valid or not.
        endless: Whether it says its text again and again.
        status: Another than 200 refuses the request, with the text.
    """

    text: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    endless: bool = False
    status: int = 200


@dataclass
class Request:
    """One request, as the stand-in saw it."""

    messages: list[dict[str, Any]]
    status: Literal["in flight", "completed", "cut off"] = "in flight"
    said: str = ""

    @property
    def last(self) -> str:
        """What its last message says."""
        return str(self.messages[-1].get("content"))


class ScriptedModel:
    """The stand-in's server, up within `async with`.

    Args:
        script: What it answers to a conversation.
        pause: Seconds between two words.
        port: Where it listens on loopback; 0 is a free port.
    """

    def __init__(self, script: Script | None = None, *, pause: float = 0.03, port: int = 0) -> None:
        self.script: Script = script or (lambda messages: Reply(*programmer(messages)))
        self.pause = pause
        self.requests: list[Request] = []
        self._port = port
        self._changed = asyncio.Event()
        self._serving = set[asyncio.Task[Any]]()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for _turn in range(3):  # what was let in last begins, or nobody would hang up on it
            await asyncio.sleep(0)
        for task in (serving := set(self._serving)):
            task.cancel()
        if serving:
            await asyncio.wait(serving)
            await asyncio.sleep(0)

    @property
    def base_url(self) -> str:
        """What to put into `OPENAI_BASE_URL`."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def model(self) -> Model:
        """What to give to the agent."""
        return Model(NAME, self.base_url, "none")

    async def until(self, holds: Callable[[Request], bool], seconds: float = 30) -> Request:
        """Wait for a request of which `holds` is true, and return it."""

        async def found() -> Request:
            while True:
                for request in self.requests:
                    if holds(request):
                        return request
                self._changed.clear()
                await self._changed.wait()

        return await asyncio.wait_for(found(), seconds)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        answering: asyncio.Task[None] | None = None
        request: Request | None = None
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"(?i)\r\ncontent-length: *(\d+)", head)
            body = await reader.readexactly(int(length.group(1)) if length else 0)
            if not head.startswith("POST /v1/chat/completions "):
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                return
            request = Request(json.loads(body)["messages"])
            self.requests.append(request)
            self._changed.set()
            answering = asyncio.ensure_future(self._answer(request, writer))
            gone = asyncio.ensure_future(reader.read())  # ends as the caller hangs up
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
        except (OSError, asyncio.IncompleteReadError, ValueError, KeyError):
            pass
        finally:
            if answering is not None and request is not None:
                answering.cancel()
                await asyncio.wait({answering})
                if request.status == "in flight":
                    request.status = "cut off"
                self._changed.set()
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        reply = self.script(request.messages)
        kind = "application/json" if reply.status >= HTTPStatus.BAD_REQUEST else "text/event-stream"
        head = f"HTTP/1.1 {reply.status} So\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        if reply.status >= HTTPStatus.BAD_REQUEST:
            writer.write(json.dumps({"error": {"message": reply.text}}).encode())
            request.status = "completed"
            return
        with contextlib.suppress(OSError):
            async for delta in self._deltas(reply, request):
                writer.write(_event({"index": 0, "delta": delta, "finish_reason": None}))
                await writer.drain()
            reason = "tool_calls" if reply.calls else "stop"
            writer.write(_event({"index": 0, "delta": {}, "finish_reason": reason}))
            writer.write(b"data: [DONE]\n\n")
            await writer.drain()
            request.status = "completed"

    async def _deltas(self, reply: Reply, request: Request) -> AsyncIterator[dict[str, Any]]:
        yield {"role": "assistant", "content": ""}
        while True:
            for word in re.findall(r"\s*\S+\s*", reply.text):
                request.said += word
                yield {"content": word}
                self._changed.set()
                await asyncio.sleep(self.pause)
            if not reply.endless:
                break
        for number, (name, arguments) in enumerate(reply.calls):
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            call_id = f"call_{len(request.messages)}_{number}"
            function = {"name": name, "arguments": ""}
            call = {"index": number, "id": call_id, "type": "function", "function": function}
            yield {"tool_calls": [call]}
            for piece in _pieces(text):
                yield {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}
                await asyncio.sleep(self.pause / 10)


def _pieces(text: str, size: int = 40) -> Iterator[str]:
    yield from (text[at : at + size] for at in range(0, len(text), size))


def _event(choice: dict[str, Any]) -> bytes:
    chunk = {"id": "scripted", "object": "chat.completion.chunk", "created": 0, "model": NAME}
    return f"data: {json.dumps({**chunk, 'choices': [choice]})}\n\n".encode()
