"""The stream: tokens as they come, for every page that shows a session, from whichever worker.

```python
from interruptible import Agent
from interruptible.stream import Stream


class Poet(Agent):
    stream = Stream()  # Restate's ingress is where RESTATE_INGRESS_URL says
```

Followers get the events with `Session.follow`. Needs the extra `stream`.
"""

import asyncio
import functools
import json
import logging
import secrets
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from os import environ
from typing import Any, Final
from urllib.parse import quote
from weakref import WeakKeyDictionary

from restate import HttpError, VirtualObject

from interruptible._stream.events import (
    ApprovalEvent,
    DiscardedEvent,
    Event,
    GapEvent,
    MessageEvent,
    OutputEvent,
    PendingEvent,
    ReasoningEvent,
    SteeredEvent,
    TextEvent,
    ToolEvent,
    TurnBeginsEvent,
    TurnEndsEvent,
)
from interruptible._stream.handlers import stream_object
from interruptible._stream.publisher import NoIngress, Post, Publisher
from interruptible._stream.teller import Send, Teller
from interruptible._task.body import Streaming

try:
    import httpx
except ImportError as error:
    raise ImportError(
        f"interruptible.stream needs what its extra installs ({error}). Run: pip install "
        "'restate-interruptible[stream]'",
        name=error.name,
        path=error.path,
    ) from error

__all__ = [
    "ApprovalEvent",
    "DiscardedEvent",
    "Event",
    "GapEvent",
    "MessageEvent",
    "OutputEvent",
    "PendingEvent",
    "ReasoningEvent",
    "SteeredEvent",
    "Stream",
    "TextEvent",
    "ToolEvent",
    "TurnBeginsEvent",
    "TurnEndsEvent",
]

INGRESS: Final = "RESTATE_INGRESS_URL"

_log = logging.getLogger("interruptible.stream")


class Stream(Streaming):
    """Has an agent stream what its turns do: `Agent(..., stream=Stream())`.

    Each session then has an object `<Agent>Stream` in Restate, from which followers pull. What a
    turn *did* goes there from its task, durably. What its steps *say*, piece by piece, goes there
    through Restate's ingress; where that does not answer, a warning says so once, and the turn goes
    on.

    Args:
        ingress: The address of Restate's ingress; by default that of the environment variable
            `RESTATE_INGRESS_URL`, when it is first needed.
        headers: What the ingress wants besides, such as an API key.
        every: How often a turn publishes while its steps speak. What is said meanwhile goes
            together: more often costs the server more.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument makes no sense.
    """

    def __init__(
        self,
        *,
        ingress: str | None = None,
        headers: Mapping[str, str] | None = None,
        every: timedelta = timedelta(milliseconds=50),
    ) -> None:
        kinds: tuple[tuple[str, Any, Any, str], ...] = (
            ("ingress", ingress, (str, type(None)), "text, such as `http://localhost:8080`"),
            ("headers", headers, (Mapping, type(None)), "a dict of text"),
            ("every", every, timedelta, "a `datetime.timedelta`"),
        )
        for name, given, kind, written in kinds:
            if not isinstance(given, kind):
                raise TypeError(f"Stream: {name} is {given!r}. Write it as {written}.")
        if ingress is not None and (wrong := _wrong_address(ingress)):
            raise ValueError(f"Stream: ingress {wrong}.")
        if every < timedelta(0):
            raise ValueError(f"Stream: every={every} is in the past. Make it positive.")
        self.ingress, self.headers, self.every = ingress, dict(headers or {}), every
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()
        self._has_warned = False

    def object_of(self, agent: str) -> VirtualObject:
        """The virtual object of an agent's streams."""
        return stream_object(f"{agent}Stream")

    def new_key(self) -> str:
        """What nobody can guess, for a new turn."""
        return secrets.token_urlsafe(16)

    def teller(self, agent: str, session: str, turn: int, key: str, send: Send) -> Teller:
        """What tells the followers of a session of one attempt at a turn."""

        @asynccontextmanager
        async def connect() -> AsyncGenerator[Post, None]:
            async with self._client() as client:

                async def post(batch: bytes) -> int:
                    answer = await client.generic_call(
                        f"{agent}Stream",
                        "publish",
                        batch,
                        key=quote(session, safe=""),
                        headers={"Content-Type": "application/json"},
                    )
                    return int(json.loads(answer)["taken"])

                yield post

        return Teller(send, turn, key, Publisher(connect, key, self.every, self._warn(agent)))

    def _warn(self, agent: str) -> Callable[[str], None]:
        def warn(why: str) -> None:
            if not self._has_warned:
                self._has_warned = True
                _log.warning(
                    "%s streams no tokens for now: Restate's ingress%s %s. Its turns go on, and "
                    "are on record as always.",
                    agent,
                    f" at {url}" if (url := self.ingress or environ.get(INGRESS)) else "",
                    why,
                )

        return warn

    @asynccontextmanager
    async def _client(self) -> AsyncGenerator["_Ingress", None]:
        """A client for as long as somebody uses it: all turns of an event loop share one."""
        loop = asyncio.get_running_loop()
        shared = self._open.get(loop)
        if shared is None:
            url = self.ingress or environ.get(INGRESS)
            if not url:
                raise NoIngress(f"is named nowhere. Set {INGRESS}, or `Stream(ingress=...)`")
            if wrong := _wrong_address(url):
                raise NoIngress(wrong)
            closing = AsyncExitStack()
            made = await closing.enter_async_context(create_client(url, headers=self.headers))
            shared = self._open[loop] = _Shared(closing, made)
        shared.users += 1
        try:
            yield shared.client
        finally:
            shared.users -= 1
            if not shared.users:
                if self._open.get(loop) is shared:
                    del self._open[loop]
                await shared.closing.aclose()


class _Ingress:
    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def generic_call(
        self, service: str, handler: str, arg: bytes, *, key: str, headers: Mapping[str, str]
    ) -> bytes:
        answer = await self._http.post(f"/{service}/{key}/{handler}", content=arg, headers=headers)
        if answer.is_error:
            raise HttpError(answer.status_code, answer.reason_phrase, answer.text)
        return answer.content


@asynccontextmanager
async def create_client(url: str, headers: Mapping[str, str]) -> AsyncGenerator[_Ingress, None]:
    """A client of the ingress; that of restate-sdk reads all certificates for each."""
    verify = False if url.startswith("http:") else _certificates()
    async with httpx.AsyncClient(base_url=url, headers=headers, verify=verify) as http:
        yield _Ingress(http)


@functools.cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _wrong_address(url: str) -> str | None:
    """What is wrong with an address, if anything."""
    if url.startswith(("http://", "https://")):
        return None
    return f"is {url!r}, which is no address. Write it as `http://localhost:8080`"


@dataclass
class _Shared:
    """The client of an event loop, and how many use it."""

    closing: AsyncExitStack
    client: _Ingress
    users: int = 0
