"""A program in a pseudo-terminal, and the screen as a person sees it."""

import asyncio
import fcntl
import os
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import pyte

SECONDS = 30
# The terminal is to be the program's own: what is typed is for it, and so is the hang-up.
OWN = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Terminal:
    """What a program shows, and its keys.

    Attributes:
        written: All that it has written, as it is.
    """

    def __init__(self, fd: int, columns: int, rows: int) -> None:
        self.written = b""
        self._fd = fd
        self._screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=0.5)
        self._stream = pyte.ByteStream(self._screen)
        self._news = asyncio.Event()
        self._resize(columns, rows)
        self.process: asyncio.subprocess.Process

    @property
    def rows(self) -> list[str]:
        """The rows on the screen."""
        return [row.rstrip() for row in self._screen.display]

    @property
    def above(self) -> list[str]:
        """The rows that have scrolled away."""
        width = self._screen.columns
        return [
            "".join(row[x].data for x in range(width)).rstrip() for row in self._screen.history.top
        ]

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join([*self.above, *self.rows]).rstrip()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something is shown: it is when this returns, and not a moment before."""
        loop = asyncio.get_running_loop()
        end = loop.time() + SECONDS
        while not holds():
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), end - loop.time())
            except asyncio.TimeoutError:
                raise AssertionError(f"It shows:\n{self.text}") from None

    async def sees(self, *texts: str) -> None:
        """Wait until each of them is shown."""
        await self.until(lambda: all(x in self.text for x in texts))

    async def sees_not(self, text: str) -> None:
        """Wait until it is no more shown."""
        await self.until(lambda: text not in self.text)

    def types(self, keys: str) -> None:
        """Press keys."""
        os.write(self._fd, keys.encode())

    def says(self, text: str) -> None:
        """Type a line."""
        self.types(f"{text}\r")

    def resize(self, columns: int, rows: int) -> None:
        """Make the window another size."""
        self._screen.resize(rows, columns)
        self._resize(columns, rows)

    def hang_up(self) -> None:
        """Close the window."""
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1

    async def ends(self) -> int:
        """Wait for its end; returns its status."""
        return await asyncio.wait_for(self.process.wait(), SECONDS)

    def close(self) -> None:
        if self._fd >= 0:
            self.hang_up()

    def _resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self) -> None:
        with suppress(OSError):  # it has ended
            data = os.read(self._fd, 65536)
            self.written += data
            self._stream.feed(data)
            self._news.set()
            return
        asyncio.get_running_loop().remove_reader(self._fd)


@asynccontextmanager
async def terminal(
    *command: str, columns: int = 100, rows: int = 40, env: Mapping[str, str] | None = None
) -> AsyncIterator[Terminal]:
    """Run `python -m …` in a terminal of its own; kills it at the end."""
    ours, theirs = os.openpty()
    shown = Terminal(ours, columns, rows)
    asyncio.get_running_loop().add_reader(ours, shown._read)
    try:
        shown.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", OWN, "-m", *command),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", **(env or {})},
        )
        os.close(theirs)
        yield shown
    finally:
        if shown.process.returncode is None:
            shown.process.send_signal(signal.SIGKILL)
            await shown.process.wait()
        shown.close()
