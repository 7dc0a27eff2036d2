"""What a browser may take of the gateway: connections, memory, time. Knows HTTP alone."""

import logging
import re
from collections.abc import Awaitable
from typing import Final, TypeVar

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

A = TypeVar("A")
_log = logging.getLogger("interruptible.gateway")

BODY_TIME: Final = 30.0
"""Seconds in which a request has to be sent, all of it."""


class AtMost:
    """An app that has at most so many requests open; another app answers the others.

    Who reads nothing of an answer for so many seconds is hung up on.
    """

    def __init__(self, app: ASGIApp, full: ASGIApp, limit: int, patience: float) -> None:
        self._app, self._full, self._limit, self._patience = app, full, limit, patience
        self._open: set[anyio.CancelScope] = set()

    @property
    def open(self) -> int:
        """How many there are."""
        return len(self._open)

    def hang_up(self) -> None:
        """End them all."""
        for each in [*self._open]:
            each.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self.open < self._limit:
            with anyio.CancelScope() as it:
                self._open.add(it)
                try:
                    await self._app(scope, receive, self._patiently(send))
                except _Unread:
                    _log.info("Somebody who reads nothing of an answer is hung up on.")
                finally:
                    self._open.discard(it)
        else:
            await self._full(scope, receive, send)

    def _patiently(self, send: Send) -> Send:
        async def send_in_time(message: Message) -> None:
            with anyio.move_on_after(self._patience) as time:
                await send(message)
            if time.cancelled_caught:
                raise _Unread

        return send_in_time


class _Unread(Exception):
    pass


async def too_many(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """What is answered if there are too many.

    Raises:
        HTTPException: 503.
    """
    raise HTTPException(503, "Too many requests are open. Try again.", {"Retry-After": "5"})


async def body_of(request: Request, limit: int) -> bytes:
    """The body of a request, if it is not too large, and comes in time.

    Raises:
        HTTPException: 413: it is larger. 408: it has not come.
    """
    too_large = HTTPException(413, f"body: has more than {limit} bytes.")
    said = request.headers.get("content-length", "")
    if re.fullmatch("[0-9]{1,20}", said) and int(said) > limit:
        raise too_large
    body = bytearray()
    try:
        with anyio.fail_after(BODY_TIME):
            async for piece in request.stream():
                body += piece
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        raise HTTPException(408, f"body: has not come within {BODY_TIME:g} s.") from None
    return bytes(body)


async def unless_hung_up(request: Request, answer: Awaitable[A]) -> A:
    """Wait for something as long as who asked for it waits, too.

    Raises:
        HTTPException: 499: they have hung up, and hear of nothing any more.
    """
    found: list[A] = []
    failed: Exception | None = None
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        try:
            found.append(await answer)
        except Exception as error:  # noqa: BLE001 - it is raised below, or would come in a group
            failed = error
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed
    if not found:
        raise HTTPException(499, "The request was given up.")
    return found[0]
