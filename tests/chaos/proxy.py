"""A TCP proxy on loopback, as between the server and the workers of one deployment.

It gives each new connection to the next worker that takes one, can be slow, and can cut.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from typing_extensions import Self

CHUNK = 64 * 1024


class Proxy:
    """One endpoint, several workers; `async with Proxy(ports)`.

    Attributes:
        port: Where the server connects to.
        delay: Seconds that each chunk of bytes is held back.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = list(ports)
        self._next = 0
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.delay = 0.0
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def cut(self, *, every: int = 1) -> int:
        """Cut connections, by default all, with what is under way in them."""
        chosen = list(self._pairs)[::every]
        for pair in chosen:
            for writer in pair:
                writer.transport.abort()
        return len(chosen)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        worker = await self._connect()
        if worker is None:
            writer.transport.abort()
            return
        pair = writer, worker[1]
        self._pairs.add(pair)
        source: int = writer.get_extra_info("peername")[1]
        pumps = [
            asyncio.ensure_future(self._pump(reader, worker[1], source)),
            asyncio.ensure_future(self._pump(worker[0], writer, source)),
        ]
        self._pumps.update(pumps)
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._pairs.discard(pair)
            for one in pair:
                one.transport.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._pumps.difference_update(pumps)

    async def _held_back(self, source: int) -> None:
        """Wait before passing on what goes through the connection from this port."""
        if self.delay:
            await asyncio.sleep(self.delay)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self._ports:
            port = self._ports[self._next % len(self._ports)]
            self._next += 1
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        return None

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: int
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._held_back(source)
                writer.write(data)
                await writer.drain()
