r"""The live stream: what a turn is doing now, for whoever watches. It is not the record.

The worker serves it on loopback, beside its Restate endpoint, as server-sent events:

    GET /live/<session>            # the session's key, percent-encoded
    Last-Event-ID: <id>            # or ?after=<id>; to go on where a lost connection ended

Each event is one line of JSON in `data:`, with an `id:`. Comments (`: …`) keep the connection open.
These are all the forms; `turn` is the number of the turn, `model` counts its model calls from 1,
and `call` is the id of a tool call as it stands in the conversation:

    {"type": "gap"}
    {"type": "turn",   "turn": 3, "state": "begins"}
    {"type": "turn",   "turn": 3, "state": "ends"}
    {"type": "model",  "turn": 3, "model": 1, "state": "begins"}
    {"type": "token",  "turn": 3, "model": 1, "text": "Hel"}
    {"type": "model",  "turn": 3, "model": 1, "state": "ends"}
    {"type": "model",  "turn": 3, "model": 1, "state": "cut off"}
    {"type": "model",  "turn": 3, "model": 1, "state": "fails", "text": "why; it is tried again"}
    {"type": "tool",   "turn": 3, "call": "call_1", "name": "run_command",
                       "arguments": "{\"command\": \"ls\"}", "state": "waits"}
    {"type": "tool",   … the same …,                          "state": "begins"}
    {"type": "output", "turn": 3, "call": "call_1", "text": "README.md\n"}
    {"type": "tool",   … the same …,                          "state": "ends", "text": "its result"}
    {"type": "tool",   … the same …,                          "state": "cut off"}

A tool call that `waits` needs a person's yes: see the handler `approve` in `agent.py`.

What a client has to know:

- Nothing here is durable, and all of it may come twice: when a worker dies, the step that it was in
  begins again. `begins` of a model call or a tool call voids what was shown of the same one before.
- A client that is new gets a `gap` and then what there is of the newest turn; so does one whose
  `id` is no longer known (the worker was restarted, or it was away for too long). On a `gap`:
  forget what was shown live, and read the record.
- The record (`get_turns`, `get_history`) wins. Ignore events of a turn that it shows as ended.
  After `ends` of a turn, `attach` to it: when that answers, the record has the turn.
- Text is untrusted: it is what a model said and what its commands printed.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote

PREFIX = "/live/"
KEPT_TEXT = 1_000_000  # characters of the newest turn's events that are kept for each session
KEPT_SESSIONS = 200
KEEP_OPEN = 15.0  # seconds between two comments on a connection that has no news
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Watched:
    """Where the steps of one turn publish what they do."""

    def __init__(self, session: str, turn: int) -> None:
        self.session, self.turn = session, turn

    def publish(self, kind: str, **fields: Any) -> None:
        """Publish one event; the forms are those above."""
        channel = _channel(self.session)
        if kind == "turn" and fields.get("state") == "begins":
            channel.clear()
        channel.add({"type": kind, "turn": self.turn, **fields})

    async def begins(self) -> None:
        """The step that says that the turn begins."""
        self.publish("turn", state="begins")

    async def ends(self) -> None:
        """The step that says that the turn ends."""
        self.publish("turn", state="ends")


class _Channel:
    """The newest turn's events of one session. Who reads them keeps a number, not a queue."""

    def __init__(self) -> None:
        self.epoch = f"{time.time_ns():x}"
        self.events: deque[tuple[int, str]] = deque()
        self.number = 0
        self.size = 0
        self.readers = 0
        self._changed = asyncio.Event()

    def clear(self) -> None:
        self.events.clear()
        self.size = 0

    def add(self, event: dict[str, Any]) -> None:
        line = json.dumps(event)
        self.number += 1
        self.size += len(line)
        self.events.append((self.number, line))
        while self.size > KEPT_TEXT and len(self.events) > 1:
            self.size -= len(self.events.popleft()[1])
        self._changed.set()
        self._changed = asyncio.Event()

    def since(self, last: int | None) -> tuple[bool, list[tuple[int, str]]]:
        """Whether something is lost between `last` and what there is, and what there is since."""
        first = self.number - len(self.events)
        gap = last is None or not first <= last <= self.number
        return gap, [x for x in self.events if gap or last is None or x[0] > last]

    def last_of(self, event_id: str | None) -> int | None:
        epoch, _, number = (event_id or "").partition(".")
        return int(number) if epoch == self.epoch and number.isdecimal() else None

    async def news(self) -> None:
        await self._changed.wait()


_channels: OrderedDict[str, _Channel] = OrderedDict()


def _channel(session: str) -> _Channel:
    channel = _channels.setdefault(session, _Channel())
    _channels.move_to_end(session)
    for key in [key for key, x in _channels.items() if not x.readers][:-KEPT_SESSIONS]:
        del _channels[key]
    return channel


Asgi = Callable[[Any, Any, Any], Awaitable[None]]


def beside(app: Asgi) -> Asgi:
    """Serve the live stream at `/live/…`, and all else by `app`."""

    async def both(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            await _serve(scope, receive, send)
        else:
            await app(scope, receive, send)

    return both


async def _serve(scope: Any, receive: Any, send: Any) -> None:
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get("host") or headers.get(":authority", "")
    if host.rpartition(":")[0] not in LOOPBACK and host not in LOOPBACK:
        await _reply(send, HTTPStatus.MISDIRECTED_REQUEST)  # a page elsewhere that renamed itself
        return
    if scope["method"] != "GET":
        await _reply(send, HTTPStatus.METHOD_NOT_ALLOWED)
        return
    raw = scope.get("raw_path") or scope["path"].encode()
    session = unquote(raw.decode("latin-1").partition("?")[0].removeprefix(PREFIX))
    after = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("after", [None])[0]
    await _reply(send, HTTPStatus.OK, b"text/event-stream", more=True)
    streaming = asyncio.ensure_future(_stream(session, headers.get("last-event-id", after), send))
    gone = asyncio.ensure_future(_hang_up(receive))
    try:
        await asyncio.wait({streaming, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        streaming.cancel()
        gone.cancel()
        await asyncio.gather(streaming, gone, return_exceptions=True)


async def _stream(session: str, last_id: str | None, send: Any) -> None:
    channel = _channel(session)
    channel.readers += 1
    last = channel.last_of(last_id)
    try:
        while True:
            gap, events = channel.since(last)
            lines = ['data: {"type": "gap"}\n\n'] if gap else []
            lines += [f"id: {channel.epoch}.{n}\ndata: {line}\n\n" for n, line in events]
            last = channel.number
            if not lines:
                try:
                    await asyncio.wait_for(channel.news(), KEEP_OPEN)
                    continue
                except asyncio.TimeoutError:
                    lines = [": still here\n\n"]
            body = "".join(lines).encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
    finally:
        channel.readers -= 1


async def _hang_up(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _reply(
    send: Any, status: HTTPStatus, content_type: bytes = b"text/plain", *, more: bool = False
) -> None:
    headers = [(b"content-type", content_type), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    body = b"" if more else status.phrase.encode()
    await send({"type": "http.response.body", "body": body, "more_body": more})
