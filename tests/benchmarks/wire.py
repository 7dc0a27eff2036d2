"""A client of Restate's ingress that costs little, so that what is measured is not the client."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Wire:
    """Connections to one server that are kept open, one for each request at a time."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._idle: list[Connection] = []

    async def post(self, path: str, body: Any = None) -> Any:
        """Call a handler with JSON, and wait for what it answers.

        Raises:
            RuntimeError: It answered with an error.
        """
        answer = await self.call(path, b"" if body is None else json.dumps(body).encode())
        return json.loads(answer) if answer else None

    async def call(self, path: str, content: bytes) -> bytes:
        """Call a handler with what may be JSON; the same, but for that.

        Raises:
            RuntimeError: It answered with an error.
        """
        head = f"POST {path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-length: {len(content)}\r\n"
        if content:
            head += "content-type: application/json\r\n"
        status, answer = await self._exchange(f"{head}\r\n".encode() + content)
        if status >= 300:
            raise RuntimeError(f"POST {path}: {status} {answer.decode(errors='replace')}")
        return answer

    async def get(self, path: str) -> int:
        """Get something and drop it; returns the status."""
        head = f"GET {path} HTTP/1.1\r\nhost: {self._host}\r\n\r\n"
        return (await self._exchange(head.encode()))[0]

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        async with self._connection() as (reader, writer):
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
            fields = dict(line.split(b": ", 1) for line in head[1:] if line)
            length = fields.get(b"content-length")
            answer = (
                await reader.readexactly(int(length))
                if length is not None
                else await _chunks(reader)
            )
            return int(head[0].split()[1]), answer

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Connection]:
        if self._idle:
            connection = self._idle.pop()
        else:
            connection = await asyncio.open_connection(self._host, self._port, limit=2**24)
        try:
            yield connection
        except BaseException:
            connection[1].close()
            raise
        self._idle.append(connection)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)
