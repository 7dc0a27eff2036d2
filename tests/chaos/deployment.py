"""Worker processes, two behind one endpoint: what a deployment of one version is."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

from typing_extensions import Self

from .proxy import Proxy

START_TIMEOUT = 60.0


class Worker:
    """A process that serves the agents; it is started again after each kill."""

    def __init__(self, folder: Path, version: str, ingress: str) -> None:
        self._folder, self._version, self._ingress = folder, version, ingress
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        with (self._folder / f"worker-{self.port}.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tests.chaos.worker", str(self.port)),
                *(str(self._folder / "steps.jsonl"), self._version, self._ingress),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not await self._listens():
            if self._process.returncode is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the worker did not start: see {log.name}")
            await asyncio.sleep(0.05)

    async def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            os.kill(self._process.pid, number)

    async def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.close()
            return True
        return False


class Deployment:
    """Two workers of one version behind a proxy; `async with Deployment(folder, "v1", url)`."""

    def __init__(self, folder: Path, version: str, ingress: str) -> None:
        self.version = version
        self.workers = [Worker(folder, version, ingress) for _ in range(2)]
        self.proxy = Proxy([worker.port for worker in self.workers])
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for worker in self.workers:
                stack.push_async_callback(worker.kill)
            await stack.enter_async_context(self.proxy)
            await asyncio.gather(*(worker.start() for worker in self.workers))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
