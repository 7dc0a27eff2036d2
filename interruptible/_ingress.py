"""The way to Restate's ingress from outside of a handler: a client that an event loop shares.

It needs `httpx`, which the extras of those who import it bring.
"""

import asyncio
import functools
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from os import environ
from typing import Final, cast
from weakref import WeakKeyDictionary

import anyio
import httpx
from restate import HttpError, RestateClient

from interruptible._stream.publisher import NoIngress

INGRESS: Final = "RESTATE_INGRESS_URL"
PASSES: Final = (408, 425, 502, 503, 504)
"""HTTP's statuses that say that Restate, or what is before it, does not answer for now."""


class Ingress:
    """Restate's ingress.

    Args:
        url: Its address; by default that of the environment variable `RESTATE_INGRESS_URL`, when it
            is first needed.
        headers: What it wants besides, such as an API key.

    Raises:
        ValueError: The address is none.
    """

    def __init__(self, url: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        if url is not None and (wrong := wrong_address(url)):
            raise ValueError(f"ingress {wrong}.")
        self._url, self.headers = url, dict(headers or {})
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = WeakKeyDictionary()

    @property
    def url(self) -> str | None:
        """Its address, if it is known by now."""
        return self._url or environ.get(INGRESS)

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[RestateClient, None]:
        """What makes sessions, for as long as somebody uses it: all in an event loop share one.

        Raises:
            NoIngress: No address is named, or it is none.
        """
        async with self._used() as made:
            yield cast("RestateClient", made)

    @asynccontextmanager
    async def http(self) -> AsyncGenerator[httpx.AsyncClient, None]:
        """The same, for who speaks HTTP."""
        async with self._used() as made:
            yield made.http

    @asynccontextmanager
    async def _used(self) -> AsyncGenerator["_Client", None]:
        loop = asyncio.get_running_loop()
        shared = self._open.get(loop)
        if shared is None:
            url = self.url
            if not url:
                raise NoIngress(f"is named nowhere. Set {INGRESS}, or `ingress=...`")
            if wrong := wrong_address(url):
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
                with anyio.CancelScope(shield=True):  # or who is cancelled leaves connections open
                    await shared.closing.aclose()


class _Client:
    """What this library uses of a `RestateClient`."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def generic_call(
        self,
        service: str,
        handler: str,
        arg: bytes,
        *,
        key: str,
        idempotency_key: str | None = None,
        headers: Mapping[str, str],
    ) -> bytes:
        if idempotency_key is not None:
            headers = {**headers, "Idempotency-Key": idempotency_key}
        answer = await self.http.post(f"/{service}/{key}/{handler}", content=arg, headers=headers)
        if answer.is_error:
            raise HttpError(answer.status_code, answer.reason_phrase, answer.text)
        return answer.content


@asynccontextmanager
async def create_client(url: str, headers: Mapping[str, str]) -> AsyncGenerator[_Client, None]:
    """A client of the ingress; that of restate-sdk reads all certificates for each.

    Who follows waits on a connection, so there may be as many as there are users.
    """
    verify = False if url.startswith("http:") else _certificates()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, verify=verify, limits=limits
    ) as http:
        yield _Client(http)


@functools.cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def wrong_address(url: str) -> str | None:
    """What is wrong with an address, if anything."""
    if url.startswith(("http://", "https://")):
        return None
    return f"is {url!r}, which is no address. Write it as `http://localhost:8080`"


@dataclass
class _Shared:
    """The client of an event loop, and how many use it."""

    closing: AsyncExitStack
    client: _Client
    users: int = 0
