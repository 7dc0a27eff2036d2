"""A model server: `python -m tests.benchmarks.model`.

It streams, or is silent, as the text of the message says, and notes when its client hangs up. It is
a process of its own, so that it notices at once. It ends when its input does.
"""

import asyncio
import sys
from contextlib import suppress
from urllib.parse import unquote

from .events import Event, Events, note

TOKEN = 0.02  # seconds between two pieces of a stream


class Calls(Events):
    """What the model server has noted: `started`, and then `cut off` or `finished`, and `over`."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        """The most calls at a time, since it was set to 0."""
        self._open = 0

    def note(self, event: Event) -> None:
        super().note(event)
        self._open += {"started": 1, "over": -1}.get(event.kind, 0)
        self.most = max(self.most, self._open)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One call, `GET /<seconds>/<text>`: the text begins with `stream` or `silent`."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:  # cut off before it had asked for anything
        writer.close()
        return
    _, seconds, quoted = head.split()[1].decode().split("/", 2)
    loop, text = asyncio.get_running_loop(), unquote(quoted)
    streams, end = text.startswith("stream"), loop.time() + float(seconds)
    note("started", text)
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
    hung_up = asyncio.create_task(reader.read())
    while (left := end - loop.time()) > 0 and not hung_up.done():
        if streams:
            writer.write(b"token ")
        await asyncio.wait({hung_up}, timeout=min(left, TOKEN) if streams else left)
    note("cut off" if hung_up.done() else "finished", text)
    note("over", text)
    hung_up.cancel()
    with suppress(asyncio.CancelledError, OSError):
        await hung_up
    writer.close()


async def main() -> None:
    """Serve until the input ends."""
    server = await asyncio.start_server(answer, "127.0.0.1")
    note("serving", "", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
