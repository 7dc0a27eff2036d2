"""How a contender is started, spoken to, killed and started again."""

import asyncio
import json
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, ClassVar, Final

import httpx

from interruptible._testing.server import free_ports
from tests.benchmarks.stage import ROOT

from .stage import APPS, Process, Stage

UP: Final = 60.0
"""Seconds in which a contender has to come up."""

Order = Mapping[str, Any]


class Contender(ABC):
    """One of them.

    Attributes:
        name: What the tables call it.
        venv: Its environment.
        packages: Whose versions are told.
        setting: What makes it better than it is by default, and how it is used.
        others: The policies, besides `interrupt`, with which a message can interrupt.
    """

    name: ClassVar[str]
    venv: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    setting: ClassVar[str]
    others: ClassVar[tuple[str, ...]] = ()

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        prefix = f"{type(self).__name__.lower()}-"
        self.folder = Path(tempfile.mkdtemp(prefix=prefix, dir=stage.folder))
        self.port = free_ports()[0]
        self.http = httpx.AsyncClient(timeout=120, trust_env=False)
        self.process: Process | None = None

    @classmethod
    def program(cls, name: str = "python") -> str:
        """A program of its environment."""
        return str(ROOT / cls.venv / "bin" / name)

    @classmethod
    def is_installed(cls) -> bool:
        """Whether its environment is whole."""
        made = (ROOT / cls.venv / ".installed").exists()
        return made and len(cls.versions()) == len(cls.packages)

    @classmethod
    def versions(cls) -> dict[str, str]:
        """What is installed in its environment."""
        found = (ROOT / cls.venv).glob("lib/python*/site-packages")
        installed = {each.name: each.version for each in distributions(path=[*map(str, found)])}
        return {name: installed[name] for name in cls.packages if name in installed}

    @classmethod
    def installed_on(cls) -> str:
        """The day on which these were the newest there were."""
        at = (ROOT / cls.venv / ".installed").stat().st_mtime
        return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d")

    @abstractmethod
    async def start(self) -> None:
        """Start it, for the first time or after a kill, and wait until it takes messages."""

    @abstractmethod
    async def session(self, name: str) -> str:
        """A new session."""

    @abstractmethod
    async def say(self, session: str, order: Order, policy: str = "interrupt") -> None:
        """Say something, to `queue`, `interrupt` or one of the others, until it is acknowledged."""

    @abstractmethod
    async def history(self, session: str) -> list[Any]:
        """The conversation; each message has a role and content."""

    async def grow(self, session: str, orders: list[Order]) -> None:
        """Give a session a past, in which all that was asked for was answered."""
        for order in orders:
            await self.say(session, order, "queue")
            await self.stage.record.of("finished", order["tag"], 20)

    def kill(self) -> None:
        """End all of its processes with SIGKILL."""
        if self.process:
            self.process.kill()

    async def close(self) -> None:
        """End it, whatever it does."""
        self.kill()
        await self.http.aclose()

    async def post(self, path: str, body: Any) -> Any:
        """Send JSON, get JSON."""
        answer = await self.http.post(f"http://127.0.0.1:{self.port}{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    async def get(self, path: str) -> Any:
        """Get JSON."""
        answer = await self.http.get(f"http://127.0.0.1:{self.port}{path}")
        answer.raise_for_status()
        return answer.json()

    async def until_up(self, path: str) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + UP
        while time.monotonic() < deadline:
            if self.process:
                self.process.check()
            with suppress(httpx.HTTPError):
                await self.get(path)
                return
            await asyncio.sleep(0.05)
        raise RuntimeError(f"{self.name} did not come up in {UP:.0f} s")


class Script(Contender):
    """One that is a process with two routes."""

    script: ClassVar[str]

    async def start(self) -> None:
        command = self.program(), str(APPS / self.script)
        self.process = self.stage.spawn(self.folder, command, PEER_PORT=str(self.port))
        await self.until_up("/nobody/history")

    async def session(self, name: str) -> str:
        return name

    async def say(self, session: str, order: Order, policy: str = "interrupt") -> None:
        await self.post(f"/{session}/message", {"content": json.dumps(order), "policy": policy})

    async def history(self, session: str) -> list[Any]:
        return list(await self.get(f"/{session}/history"))
