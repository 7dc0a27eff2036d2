"""The page's server: static files, a few calls of `Session`, and the stream.

    GET  /                      goes to a conversation
    GET  /c/<session>           the page
    GET  /static/<file>         its parts
    GET  /api/<session>/record  ?before=7&limit=20: turns, and what the session is doing
    GET  /api/<session>/attach  ?turn=3: answers when the record has the turn's end
    GET  /api/<session>/diff    ?turn=3
    GET  /api/<session>/live    ?after=7, or Last-Event-ID: the stream, as server-sent events
    POST /api/<session>/send, edit, regenerate, resume, cancel, answer, withdraw, replace, promote

A browser sends what any page asks it to, also to this machine. So only requests that name this
machine are answered (a page elsewhere may point its name here, but `Host` still has that name), and
what tells or changes something only if it comes from this page (`Origin`, `Sec-Fetch-Site`).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import httpx
from restate import RestateClient, TerminalError

from examples.coding_agent.web.calls import AGENT, Calls
from interruptible.stream import Event

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
MOST = 1_100_000  # bytes of a request; a message of the library has at most 1 MiB
FIRST_SESSION = "main"
AGAIN = 1000  # milliseconds until a browser that lost the stream tries again
KEEP_OPEN = 15.0  # seconds between two comments on a stream
SILENCE = 40.0  # seconds after which a browser that does not read is hung up on, and resumes
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class No(Exception):
    """A request that is refused: why, and with which status."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Page:
    """The page, as an ASGI app.

    Args:
        client: The way to Restate.
        ui: Restate's admin API, for links into its UI.
        agent: The agent's name.
        names: Other names of this machine that a browser may use, beside the loopback ones.
    """

    def __init__(
        self,
        client: RestateClient,
        *,
        ui: str,
        agent: str = AGENT,
        names: Collection[str] = (),
    ) -> None:
        self.names = {*LOOPBACK, *names}
        self.closing = asyncio.Event()
        self.calls = Calls(client, ui, agent)

    def close(self) -> None:
        """Hang up on who watches: a server that ends waits for them."""
        self.closing.set()

    async def __call__(
        self,
        scope: Any,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        headers = {
            name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        raw = scope.get("raw_path") or scope["path"].encode()
        path = raw.decode("latin-1").partition("?")[0]
        try:
            self.check(scope["method"], path, headers)
            if path == "/":
                await _reply(send, HTTPStatus.SEE_OTHER, more={"location": f"/c/{FIRST_SESSION}"})
            elif path.startswith("/api/"):
                await self.answer(scope, path, headers, receive, send)
            else:
                await _reply(send, HTTPStatus.OK, *static(path))
        except No as no:
            await _json(send, no.status, {"error": no.why})
        except TerminalError as error:
            await _json(send, HTTPStatus(error.status_code), {"error": error.message})
        except httpx.TransportError:
            why = "Restate or the worker does not answer; it is tried again."
            await _json(send, HTTPStatus.BAD_GATEWAY, {"error": why})

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Refuse what does not come from this page.

        Raises:
            No: 421: the request is for another machine. 403: another page has sent it.
        """
        host = headers.get("host") or headers.get(":authority", "")
        if re.sub(r":\d+$", "", host) not in self.names:
            why = "This page is served to this machine alone. Open it as http://localhost:…"
            raise No(HTTPStatus.MISDIRECTED_REQUEST, why)
        if method not in ("GET", "POST"):
            raise No(HTTPStatus.METHOD_NOT_ALLOWED, "GET or POST.")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
        ours = origin == f"http://{host}"
        if (origin is not None or method == "POST") and not ours:
            raise No(HTTPStatus.FORBIDDEN, f"Not from this page. Send Origin: http://{host}")
        if path.startswith("/api/") and site not in ("same-origin", "none"):
            raise No(HTTPStatus.FORBIDDEN, "Another page has sent this request.")

    async def answer(
        self, scope: Any, path: str, headers: Mapping[str, str], receive: Any, send: Any
    ) -> None:
        """Answer a call of the page's scripts."""
        found = re.fullmatch(r"/api/([^/]+)/([a-z]+)", path)
        if found is None:
            raise No(HTTPStatus.NOT_FOUND, "No such call.")
        session, name = unquote(found[1]), found[2]
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        if (scope["method"], name) == ("GET", "live"):
            last = headers.get("last-event-id") or query.get("after", "")
            after = int(last) if re.fullmatch("[0-9]{1,15}", last) else None
            await _stream(send, receive, self.calls.follow(session, after), self.closing)
            return
        if scope["method"] == "GET":
            call = self.calls.reading.get(name)
            body: dict[str, Any] = {k: _number(k, v) for k, v in query.items()}
        else:
            call = self.calls.changing.get(name)
            body = await _body(receive, headers)
        if call is None:
            raise No(HTTPStatus.NOT_FOUND, "No such call.")
        try:
            answer = await call(session, **body)
        except (TypeError, ValueError) as error:  # the arguments are not those of the call
            raise No(HTTPStatus.BAD_REQUEST, str(error)) from error
        await _json(send, HTTPStatus.OK, answer)


def static(path: str) -> tuple[bytes, str]:
    """One of the static files, and its type.

    Raises:
        No: 404: there is none.
    """
    name = "index.html" if re.fullmatch(r"/c/[^/]+", path) else path.removeprefix("/static/")
    file = STATIC / name
    if re.fullmatch(r"[a-z]+\.(html|css|js|svg)", name) is None or not file.is_file():
        raise No(HTTPStatus.NOT_FOUND, "There is no such page.")
    return file.read_bytes(), TYPES[file.suffix]


def _number(name: str, value: str) -> int:
    if not re.fullmatch(r"\d{1,15}", value):
        raise No(HTTPStatus.BAD_REQUEST, f"{name}: must be a whole number.")
    return int(value)


async def _body(receive: Any, headers: Mapping[str, str]) -> dict[str, Any]:
    if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise No(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send JSON.")
    data = b""
    while True:
        part = await receive()
        if part["type"] == "http.disconnect":
            raise No(HTTPStatus.BAD_REQUEST, "The request ends early.")
        data += part.get("body", b"")
        if len(data) > MOST:
            raise No(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"At most {MOST} bytes are accepted.")
        if not part.get("more_body"):
            break
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise No(HTTPStatus.BAD_REQUEST, f"The body is not JSON: {error}.") from None
    if not isinstance(body, dict):
        raise No(HTTPStatus.BAD_REQUEST, "The body is no JSON object.")
    return body


async def _stream(
    send: Any, receive: Any, events: AsyncGenerator[Event, None], closing: asyncio.Event
) -> None:
    """Pass events on until one side hangs up."""

    async def say(text: str) -> None:
        part = {"type": "http.response.body", "body": text.encode(), "more_body": True}
        await asyncio.wait_for(send(part), SILENCE)

    async def pass_on() -> None:
        await _start(send, HTTPStatus.OK, {"content-type": "text/event-stream"})
        await say(f"retry: {AGAIN}\n\n")
        async with aclosing(events):
            async for event in events:
                await say(f"id: {event['id']}\ndata: {json.dumps(event)}\n\n")

    async def keep_open() -> None:
        while True:
            await asyncio.sleep(KEEP_OPEN)
            await say(": still here\n\n")

    async def hang_up() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    ends = [asyncio.ensure_future(x) for x in (pass_on(), keep_open(), hang_up(), closing.wait())]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left = set(ends)
        while left:  # before Python 3.12, `wait_for` may lose a cancellation
            for each in left:
                each.cancel()
            _, left = await asyncio.wait(left, timeout=1)
        await asyncio.gather(*ends, return_exceptions=True)
    await send({"type": "http.response.body", "body": b""})


async def _json(send: Any, status: HTTPStatus, answer: Any) -> None:
    await _reply(send, status, json.dumps(answer).encode(), "application/json")


async def _reply(
    send: Any,
    status: HTTPStatus,
    body: bytes = b"",
    content_type: str = "text/plain",
    more: Mapping[str, str] | None = None,
) -> None:
    await _start(send, status, {"content-type": content_type, **(more or {})})
    await send({"type": "http.response.body", "body": body})


async def _start(send: Any, status: HTTPStatus, more: Mapping[str, str]) -> None:
    headers = [(name.encode(), value.encode()) for name, value in {**HEADERS, **more}.items()]
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
