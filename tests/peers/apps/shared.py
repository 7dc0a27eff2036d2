"""What all apps share: telling what happens, and a call of the model. Knows no contender.

It runs in the contender's own environment, so it imports what is in each of them.
"""

import asyncio
import functools
import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx

WINDOW = 8
"""The messages that the model is sent: the last ones, from each contender."""

_MODEL = os.environ["PEER_MODEL"]
_TOLD = "127.0.0.1", int(os.environ["PEER_NOTES"])
_SOCKET = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
_SOCKET.setblocking(False)  # the dev server of LangGraph refuses what may block


@functools.cache
def _client(loop: asyncio.AbstractEventLoop) -> httpx.AsyncClient:
    """A client of an event loop; some contenders have several."""
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(timeout=None, limits=limits, trust_env=False)  # noqa: S113


def note(kind: str, text: str) -> None:
    """Tell who measures that something happened; no crash can hold it back."""
    _SOCKET.sendto(json.dumps([time.monotonic(), kind, text]).encode(), _TOLD)


def order_of(message: dict[str, Any]) -> dict[str, Any]:
    """What a message of the user asks for."""
    order: dict[str, Any] = json.loads(message["content"])
    order.pop("pad", None)
    return order


async def ask(messages: Sequence[Any], say: Callable[[str], object] | None = None) -> str:
    """Call the model, and read its answer as it streams."""
    words: list[str] = []
    body = {"stream": True, "messages": list(messages)[-WINDOW:]}
    client = _client(asyncio.get_running_loop())
    async with client.stream("POST", f"{_MODEL}/chat/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                word = json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
                words.append(word)
                if say and word:
                    say(word)
    return "".join(words)


async def clean_up(tag: str, seconds: float) -> None:
    """What a turn has to do before it is over, however it ends."""
    note("cleanup begins", tag)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note("cleanup broken off", tag)
        raise
    note("cleanup ends", tag)
