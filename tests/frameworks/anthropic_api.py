"""Stands in for Anthropic's API, as far as Claude Code asks it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

Block = str | dict[str, Any] | None
"""Words; a call of a tool; or None, where the answer stays until the client has hung up."""


class AnthropicApi:
    """An ASGI app that streams what `script` answers, and keeps the requests.

    The script is given the blocks of the conversation, without what Claude Code puts in by itself.
    If it raises a `ValueError`, the request is refused.
    """

    def __init__(self, script: Callable[[list[dict[str, Any]]], list[Block]]) -> None:
        self.script = script
        self.requests: list[list[dict[str, Any]]] = []
        self.hung_up = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        blocks = blocks_of(json.loads(body)["messages"])
        self.requests.append(blocks)
        try:
            answer = self.script(blocks)
        except ValueError as error:
            said = {
                "type": "error",
                "error": {"type": "invalid_request_error", "message": f"{error}"},
            }
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 400, "headers": headers})
            await send({"type": "http.response.body", "body": json.dumps(said).encode()})
            return
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for event in events(answer, f"{len(self.requests)}"):
            if event is None:
                await receive()
                self.hung_up.set()
                return
            data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def blocks_of(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    blocks = []
    for message in messages:
        content = message["content"]
        given = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if message["role"] != "system":
            blocks += [x for x in given if "<system-reminder>" not in x.get("text", "")]
    return blocks


def events(answer: list[Block], number: str) -> list[dict[str, Any] | None]:
    """The answer as it is streamed."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "content": []}
    message |= {"model": "offline", "stop_reason": None, "stop_sequence": None, "usage": usage}
    told: list[dict[str, Any] | None] = [{"type": "message_start", "message": message}]
    for index, block in enumerate(answer):
        if block is None:
            return [*told, None]
        if isinstance(block, str):
            start: dict[str, Any] = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": x} for x in block.splitlines(keepends=True)]
        else:
            start = {"type": "tool_use", "id": f"toolu_{number}_{index}", **block, "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        told.append({"type": "content_block_start", "index": index, "content_block": start})
        told += [{"type": "content_block_delta", "index": index, "delta": x} for x in deltas]
        told.append({"type": "content_block_stop", "index": index})
    called = any(isinstance(x, dict) for x in answer)
    delta = {"stop_reason": "tool_use" if called else "end_turn", "stop_sequence": None}
    end = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 1}}
    return [*told, end, {"type": "message_stop"}]
