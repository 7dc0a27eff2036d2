"""The worker's live stream, passed on to the browser.

It is the stream of `live.py`, with one form more: `event: changed`, when this page was used to
change something. So a second tab learns of a message that waits, or of a turn that was taken back,
of which the worker has nothing to tell.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import httpx

BEGIN = b"retry: 1000\n\n"  # milliseconds until a browser tries again
CHANGED = b"event: changed\ndata: {}\n\n"
SILENCE = 40.0  # seconds; the worker sends a comment each 15
BEHIND = 256  # pieces that a browser may be behind, before it is hung up on and resumes


class Streams:
    """The live streams of all sessions.

    Args:
        worker: Where the worker serves them.
    """

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.closing = asyncio.Event()
        self._watchers: defaultdict[str, set[asyncio.Queue[bytes | None]]] = defaultdict(set)

    def close(self) -> None:
        """End all of them."""
        self.closing.set()

    def changed(self, session: str) -> None:
        """Tell whoever watches a session that its record has changed."""
        for queue in self._watchers.get(session, ()):
            with contextlib.suppress(asyncio.QueueFull):  # it is hung up on, then it looks again
                queue.put_nowait(CHANGED)

    @asynccontextmanager
    async def of(self, session: str, last: str | None) -> AsyncIterator[AsyncIterator[bytes]]:
        """The stream of one session, from an event on.

        Raises:
            httpx.TransportError: The worker does not answer.
        """
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(BEHIND)
        url = f"{self.worker}/live/{quote(session, safe='')}"
        headers = {"Last-Event-ID": last} if last and last.isascii() else {}
        timeout = httpx.Timeout(5.0, read=SILENCE)
        async with (
            httpx.AsyncClient(timeout=timeout, trust_env=False) as http,
            http.stream("GET", url, headers=headers) as response,
        ):
            if response.is_error:
                raise httpx.ConnectError("the worker refuses")
            self._watchers[session].add(queue)
            filling = asyncio.ensure_future(_fill(queue, response))
            try:
                yield _drain(queue)
            finally:
                filling.cancel()
                self._watchers[session].discard(queue)
                if not self._watchers[session]:
                    del self._watchers[session]
                await asyncio.gather(filling, return_exceptions=True)


async def _fill(queue: asyncio.Queue[bytes | None], response: httpx.Response) -> None:
    """Take whole events from the worker: something else may come between two of them."""
    rest = b""
    with contextlib.suppress(httpx.TransportError, asyncio.QueueFull):
        async for chunk in response.aiter_bytes():
            whole, end, rest = (rest + chunk).rpartition(b"\n\n")
            if end:
                await asyncio.wait_for(queue.put(whole + end), SILENCE)
    await queue.put(None)


async def _drain(queue: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    yield BEGIN
    while (data := await queue.get()) is not None:
        yield data
