"""An offline stand-in for a model: OpenAI's chat completions protocol over a real local socket.

It understands nothing. It answers slowly, word by word, with something that shows what it was sent,
and it notices at once when a caller hangs up.

    python -m examples.quickstart.offline_model --port 8000

serves `POST /v1/chat/completions` (streamed or whole), `GET /v1/models`, and, to look inside,
`GET /stats` (the counts) and `GET /requests` (what each request held, and how it ended).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from typing_extensions import Self

Messages: TypeAlias = "list[dict[str, Any]]"

HOST = "127.0.0.1"
MODEL = "offline-stand-in"

log = logging.getLogger("quickstart.model")


@contextlib.asynccontextmanager
async def endpoint() -> AsyncGenerator[OfflineModel | None]:
    """Let the `openai` client find a model: the real one if there is a key, else a stand-in.

    Yields:
        The stand-in, to look into it; `None` if the environment has an `OPENAI_API_KEY`.
    """
    if os.environ.get("OPENAI_API_KEY"):
        yield None
        return
    async with OfflineModel() as model:
        os.environ["OPENAI_BASE_URL"] = model.base_url
        os.environ["OPENAI_API_KEY"] = "none"
        os.environ["OPENAI_MODEL"] = MODEL
        yield model


def answer_to(messages: Messages) -> str:
    """Return what the stand-in answers: to the same messages always the same.

    The last message says what to do, and what the user said before it is the wish to do it for.
    """
    task = _text(messages[-1])
    wishes = [_text(message) for message in messages[:-1] if message["role"] == "user"] or [task]
    wish, so_far = wishes[-1], f"I was sent {len(messages)} messages"
    if "plan" in task.lower():
        return f"Plan for: {wish} 1. Read what is there. 2. Change it. 3. Test it. ({so_far}.)"
    if "polish" in task.lower():
        return f"Done: {wish} It is written, tested and polished, says the stand-in. ({so_far}.)"
    if "draft" in task.lower():
        return f"Draft for: {wish} It is written, and its tests are still rough. ({so_far}.)"
    return f"A stand-in's answer to: {task} ({so_far}.)"


@dataclass
class ModelCall:
    """One request for an answer, as the stand-in saw it."""

    number: int
    messages: Messages
    stream: bool
    answer: str
    status: Literal["in flight", "completed", "cut off"] = "in flight"
    tokens: int = 0  # words sent so far; an answer that is not streamed sends all at its end
    seconds: float = 0.0  # from the request to its end
    started: float = field(default_factory=time.monotonic)

    @property
    def tokens_in_all(self) -> int:
        """How many words the answer has when nobody cuts it off."""
        return len(self.answer.split())


class OfflineModel:
    """The stand-in's server, up within `async with`.

    Args:
        seconds: How long one answer takes.
        port: Where to listen on loopback; 0 takes a free port.
        answer: What to answer to the messages of a request.
    """

    def __init__(
        self,
        *,
        seconds: float = 1.8,
        port: int = 0,
        answer: Callable[[Messages], str] = answer_to,
    ) -> None:
        self.seconds = seconds
        self.answer = answer
        self.calls: list[ModelCall] = []
        self.connections: set[_Connection] = set()
        self._port = port
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), HOST, self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in list(self.connections):
            connection.hang_up()
        await self._server.wait_closed()

    @property
    def base_url(self) -> str:
        """What to put into `OPENAI_BASE_URL`."""
        return f"http://{HOST}:{self._port}/v1"

    @property
    def label(self) -> str:
        """What it is, for people."""
        return f"offline stand-in on {self.base_url}; OPENAI_API_KEY is not set"

    @property
    def stats(self) -> dict[str, int]:
        """How many answers were started, and how they ended."""
        ends = [call.status for call in self.calls]
        return {
            "started": len(ends),
            "completed": ends.count("completed"),
            "cut_off": ends.count("cut off"),
            "in_flight": ends.count("in flight"),
        }

    async def wait_for(self, holds: Callable[[ModelCall], bool], *, timeout: float) -> ModelCall:
        """Return the first call of which `holds` is true, as soon as there is one.

        Raises:
            asyncio.TimeoutError: There was none for so many seconds.
        """

        async def found() -> ModelCall:
            while True:
                for call in self.calls:
                    if holds(call):
                        return call
                self._changed.clear()
                await self._changed.wait()

        return await asyncio.wait_for(found(), timeout)

    def begin(self, request: dict[str, Any]) -> ModelCall:
        """Record a request."""
        messages, stream = request["messages"], bool(request.get("stream"))
        call = ModelCall(len(self.calls) + 1, messages, stream, self.answer(messages))
        self.calls.append(call)
        self._changed.set()
        return call

    def end(self, call: ModelCall, status: Literal["completed", "cut off"]) -> None:
        """Record how a request ended."""
        call.status = status
        call.seconds = round(time.monotonic() - call.started, 3)
        of = f"{call.tokens} of {call.tokens_in_all}"
        text = f"call {call.number} {status} after {call.seconds:.2f} s, {of} tokens"
        log.info(text, extra={"call": call})
        self._changed.set()

    def sent(self, call: ModelCall, tokens: int) -> None:
        """Record how much of an answer has been sent so far."""
        call.tokens = tokens
        self._changed.set()


class _Connection(asyncio.Protocol):
    """One request over HTTP/1.1, and its answer; asyncio says at once when the caller is gone."""

    def __init__(self, model: OfflineModel) -> None:
        self.model = model
        self.received = b""
        self.call: ModelCall | None = None
        self.answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self.transport = transport
        self.model.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, complete, body = self.received.partition(b"\r\n\r\n")
        if not complete or self.answering:
            return
        request_line, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value for name, _, value in (f.partition(":") for f in lines)}
        if len(body) >= int(fields.get("content-length", 0)):
            method, target, _ = request_line.split(" ", 2)
            self.answering = asyncio.ensure_future(self.answer(f"{method} {target}", body))

    def eof_received(self) -> None:
        self.hang_up()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.hang_up()
        self.model.connections.discard(self)

    def hang_up(self) -> None:
        """Stop answering: the caller is gone, or the server stops."""
        if self.answering:
            self.answering.cancel()
        if self.call and self.call.status == "in flight":
            self.model.end(self.call, "cut off")
        self.transport.close()

    async def answer(self, what: str, body: bytes) -> None:
        """Answer the request, and end the connection."""
        if what == "POST /v1/chat/completions":
            await self.complete(body)
        elif what == "GET /v1/models":
            model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "nobody"}
            self.reply(200, {"object": "list", "data": [model]})
        elif what == "GET /stats":
            self.reply(200, self.model.stats)
        elif what == "GET /requests":
            self.reply(200, [asdict(call) for call in self.model.calls])
        else:
            self.reply(404, _error(f"the stand-in has no {what}"))
        self.transport.close()

    async def complete(self, body: bytes) -> None:
        """Give one answer, streamed or whole."""
        try:
            self.call = call = self.model.begin(json.loads(body))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            self.reply(400, _error(f"this is no chat completions request: {error!r}"))
            return
        if call.stream:
            await self.stream(call)
        else:
            await asyncio.sleep(self.model.seconds)
            self.model.sent(call, call.tokens_in_all)
            self.reply(200, _completion(call))
        self.model.end(call, "completed")

    async def stream(self, call: ModelCall) -> None:
        """Send the answer word by word, as server-sent events."""
        pause = self.model.seconds / max(call.tokens_in_all, 1)
        self.head(200, "text/event-stream", "Transfer-Encoding: chunked")
        for word in call.answer.split():
            await asyncio.sleep(pause)
            first = {"role": "assistant", "content": word}
            self.send_event(_chunk(call, {"content": f" {word}"} if call.tokens else first))
            self.model.sent(call, call.tokens + 1)
        self.send_event(_chunk(call, {}, finish="stop"))
        self.send_event("[DONE]")
        self.transport.write(b"0\r\n\r\n")

    def reply(self, status: int, value: object) -> None:
        """Send a JSON value."""
        body = json.dumps(value, ensure_ascii=False).encode()
        self.head(status, "application/json", f"Content-Length: {len(body)}")
        self.transport.write(body)

    def head(self, status: int, content_type: str, *fields: str) -> None:
        """Send the head of an answer."""
        reason = {200: "OK", 400: "Bad Request", 404: "Not Found"}[status]
        lines = [f"HTTP/1.1 {status} {reason}", f"Content-Type: {content_type}", *fields]
        self.transport.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())

    def send_event(self, data: object) -> None:
        """Send a server-sent event."""
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        event = f"data: {text}\n\n".encode()
        self.transport.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")


def _text(message: dict[str, Any]) -> str:
    """Return a message's text, be it a string or a list of parts."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if part.get("type") == "text")


# -- OpenAI's objects ----------------------------------------------------------------------------


def _envelope(call: ModelCall, kind: str, **choice: object) -> dict[str, object]:
    return {
        "id": f"chatcmpl-offline-{call.number}",
        "object": kind,
        "created": 0,
        "model": MODEL,
        "choices": [{"index": 0, **choice}],
    }


def _chunk(call: ModelCall, delta: dict[str, str], finish: str | None = None) -> dict[str, object]:
    return _envelope(call, "chat.completion.chunk", delta=delta, finish_reason=finish)


def _completion(call: ModelCall) -> dict[str, object]:
    message = {"role": "assistant", "content": call.answer}
    sent, made = sum(len(_text(each).split()) for each in call.messages), call.tokens
    usage = {"prompt_tokens": sent, "completion_tokens": made, "total_tokens": sent + made}
    answer = _envelope(call, "chat.completion", message=message, finish_reason="stop")
    return {**answer, "usage": usage}


def _error(text: str) -> dict[str, object]:
    return {"error": {"message": text, "type": "invalid_request_error", "code": None}}


# -- on its own ----------------------------------------------------------------------------------


async def main(seconds: float, port: int) -> None:
    """Serve until interrupted."""
    async with OfflineModel(seconds=seconds, port=port) as model:
        log.info("An offline stand-in, not a model. For the openai client:")
        log.info("  export OPENAI_BASE_URL=%s OPENAI_API_KEY=none", model.base_url)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1.8, help="how long one answer takes")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free port")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(options.seconds, options.port))
