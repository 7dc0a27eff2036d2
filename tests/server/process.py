"""A worker in a process of its own, which a test can kill."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from interruptible._testing.server import free_ports

from .conftest import eventually


def free_port() -> int:
    """A port that nobody listens on."""
    return free_ports()[0]


def group_exists(pid: int) -> bool:
    """Whether there is still a process of this group."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Process:
    """`python -m MODULE PORT …`, again and again on the same port."""

    def __init__(self, module: str, port: int, *arguments: str) -> None:
        self.port = port
        self._command = [sys.executable, "-m", module, str(port), *arguments]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start it, and kill what is running of it at the end."""
        await self.start()
        try:
            yield
        finally:
            await self.kill()

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", _SUPERVISED, "supervised", *self._command),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )

        async def listens() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                return False
            writer.close()
            await writer.wait_closed()
            return True

        await eventually(listens)

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def died(self) -> None:
        await asyncio.wait_for(self._process.wait(), 30)


# Becomes the program. Its child reads from a pipe that only the test process holds open, so that
# the program ends with the tests, however these end: where one hangs, nothing is torn down.
_SUPERVISED = """
exec 3<&0
{ read -r end <&3; kill -9 $$; kill -9 -$$; } 2>/dev/null &
exec "$@" 3<&- </dev/null
"""
