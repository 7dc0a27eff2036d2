"""A model server that says what a test tells it to, over a real socket, and keeps what it was sent.

It speaks the streams of OpenAI (`/v1/chat/completions`) and of Anthropic (`/v1/messages`).
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, NamedTuple

from interruptible.testing import serve


async def body_of(receive: Any) -> Any:
    """The JSON of a request."""
    body, event = b"", {"more_body": True}
    while event.get("more_body"):
        event = await receive()
        body += event["body"]
    return json.loads(body)


class Call(NamedTuple):
    """A call of a tool, without arguments."""

    id: str
    name: str


class Hold(NamedTuple):
    """Say nothing more until the caller hangs up."""


HOLD: Final = Hold()
Piece = str | Call | Hold
End = Literal["completed", "cut off"]


class Model:
    """Gives one answer after the other, and "done" when there is none left.

    Attributes:
        url: Its base URL.
        requests: The messages of each request.
    """

    def __init__(self, *answers: list[Piece]) -> None:
        self.url = ""
        self.requests: list[list[dict[str, Any]]] = []
        self._answers = answers
        self._ends: dict[int, asyncio.Future[End]] = defaultdict(asyncio.Future)

    async def end(self, number: int) -> End:
        """How a request ended, from 1 on, once it has."""
        return await asyncio.wait_for(asyncio.shield(self._ends[number]), 30)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.requests.append((await body_of(receive))["messages"])
        number = len(self.requests)
        answer = self._answers[number - 1] if number <= len(self._answers) else ["done"]
        events = _openai if scope["path"].endswith("/chat/completions") else _anthropic
        answering = asyncio.ensure_future(_answer(events(answer), send))
        leaving = asyncio.ensure_future(receive())  # all that can come now is that the caller goes
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._ends[number].set_result("completed" if answering.done() else "cut off")
            answering.cancel()
            leaving.cancel()


@asynccontextmanager
async def model_server(*answers: list[Piece]) -> AsyncIterator[Model]:
    model = Model(*answers)
    async with serve(model.app) as url:  # type: ignore[arg-type]
        model.url = f"{url}/v1"
        yield model


async def _answer(events: Iterator[Any], send: Any) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for event in events:
        if isinstance(event, Hold):
            await asyncio.Event().wait()
        text = f"data: {json.dumps(event)}\n\n"
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _openai(answer: list[Piece]) -> Iterator[Any]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        of = {
            "id": "chatcmpl",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": "scripted",
        }
        return {**of, "choices": [choice]}

    calls = 0
    for piece in answer:
        if isinstance(piece, str):
            yield chunk({"role": "assistant", "content": piece})
        elif isinstance(piece, Call):
            function = {"name": piece.name, "arguments": "{}"}
            call = {"index": calls, "id": piece.id, "type": "function", "function": function}
            yield chunk({"tool_calls": [call]})
            calls += 1
        else:
            yield piece
    yield chunk({}, "tool_calls" if calls else "stop")


def _anthropic(answer: list[Piece]) -> Iterator[Any]:
    message = {"id": "msg", "type": "message", "role": "assistant", "content": []}
    yield {"type": "message_start", "message": message}
    for index, piece in enumerate(answer):
        if isinstance(piece, Hold):
            yield piece
            continue
        block: dict[str, Any] = {"type": "text", "text": ""}
        delta: dict[str, Any] = {"type": "text_delta", "text": piece}
        if isinstance(piece, Call):
            block = {"type": "tool_use", "id": piece.id, "name": piece.name, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": "{}"}
        yield {"type": "content_block_start", "index": index, "content_block": block}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    reason = "tool_use" if any(isinstance(piece, Call) for piece in answer) else "end_turn"
    yield {"type": "message_delta", "delta": {"stop_reason": reason}}
    yield {"type": "message_stop"}
