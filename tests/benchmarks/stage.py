"""One restate-server with a worker process for each side, and a model server."""

import asyncio
import itertools
import json
import os
import random
import sys
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from interruptible.testing import Restate, restate_server

from .events import Events, read
from .figures import SIDES
from .model import Calls
from .services import Options
from .wire import Wire

ROOT: Final = Path(__file__).parents[2]

SERVER: Final = {"RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE": "2GB"}
"""The server's defaults but for this, which `interruptible.testing` makes small."""

QUIET: Final = 0.1
"""Seconds without an invocation that ends, after which none is to be expected."""

BYTES: Final = 1000
"""The length of each message of a history."""


class Sent(NamedTuple):
    """A message that was sent."""

    text: str
    at: float
    accepted_at: float

    @property
    def acknowledged(self) -> float:
        """Seconds until it was accepted."""
        return self.accepted_at - self.at


class Side:
    """The services of one side, in their worker."""

    def __init__(self, name: str, stage: "Stage", pid: int, events: Events) -> None:
        self.name = name
        self.events = events
        self.pid = pid
        self._stage = stage

    def service(self, kind: str = "") -> str:
        """The name of an object: the plain one, the `Tidy` one or the `Quiet` one."""
        return f"{self.name.title()}{kind}Agent"

    async def call(self, key: str, handler: str, body: Any = None, *, kind: str = "") -> Any:
        """Call a handler of a session."""
        return await self._stage.ingress.post(f"/{self.service(kind)}/{key}/{handler}", body)

    async def send(
        self, key: str, work: str, *, kind: str = "", size: int = 0, **more: str
    ) -> Sent:
        """Send a message that asks for some work, and wait until it is accepted."""
        text = f"{work} {next(_NUMBERS)} {_CHANCE.randbytes(size // 2).hex()}".strip()
        at = time.monotonic()
        await self.call(key, "message", {"content": text, **more}, kind=kind)
        return Sent(text, at, time.monotonic())

    async def begun(self, sent: Sent) -> float:
        """Seconds from sending a message to the first step of its task."""
        return await self.events.at("step", sent.text) - sent.at

    async def ended(self, sent: Sent) -> None:
        """Wait for the end of a message's task, by its id."""
        (task_id,) = (await self.events.of("begin", sent.text)).more
        await self._stage.ingress.get(f"/restate/invocation/{task_id}/attach")

    async def quiet(self) -> None:
        """Wait until the worker has had nothing to do for a moment."""
        while (left := self.events.last("ended") + QUIET - time.monotonic()) > 0:
            await asyncio.sleep(left)

    def last_end(self, sent: Sent) -> float:
        """Seconds from sending a message to the end of all that was done in the worker since."""
        return self.events.last("ended") - sent.at

    async def old(self, messages: int, size: int = BYTES, *, kind: str = "") -> str:
        """A new session with a past."""
        key = f"session-{next(_NUMBERS)}"
        if messages:
            await self.call(key, "grow_old", {"messages": messages, "bytes": size}, kind=kind)
        return key

    def memory(self) -> float:
        """The resident memory of the worker, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return float(line.split()[1]) * 1024


class Stage:
    """All that is measured at a time."""

    def __init__(self, restate: Restate, model: Calls) -> None:
        self.restate = restate
        self.model = model
        self.ingress = Wire(restate.ingress_url)
        self.sides: dict[str, Side] = {}

    async def settled(self) -> None:
        """Wait until nothing goes on."""
        still = 0
        while still < 2:  # for a moment a send is on its way and in neither place
            sql = "SELECT count(1) AS n FROM sys_invocation WHERE status <> 'completed'"
            still = 0 if (await self.restate.query(sql))[0]["n"] else still + 1
            await asyncio.sleep(0.02)

    async def invocations(self, side: Side, where: str = "true") -> list[str]:
        """The ids of a side's invocations."""
        its = f"target_service_name LIKE '{side.name.title()}%' AND {where}"
        return [row["id"] for row in await self.restate.invocations(its)]

    async def journal(self, ids: Iterable[str], columns: str) -> list[dict[str, Any]]:
        """The journals of some invocations."""
        rows: list[dict[str, Any]] = []
        for each in ids:
            sql = f"SELECT {columns} FROM sys_journal WHERE id = '{each}' ORDER BY index"  # noqa: S608
            rows += await self.restate.query(sql)
        return rows

    async def entries(self, ids: Iterable[str]) -> int:
        """How many entries they have."""
        return len(await self.journal(ids, "index"))

    async def bytes(self, ids: Iterable[str]) -> int:
        """How many bytes these have, all together."""
        rows = await self.journal(ids, "index, raw_length")
        return sum(int(row["raw_length"]) for row in rows)

    @property
    def server_pid(self) -> int:
        """The server's process."""
        process = self.restate._server._process
        assert process is not None
        return process.pid


def processor_time(pid: int) -> float:
    """The seconds that a process has worked, on all cores together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def stage(
    sides: Sequence[str] = SIDES, options: Options | None = None, **env: str
) -> AsyncGenerator[Stage]:
    """Start a server and the workers.

    Args:
        sides: Those that are measured.
        options: What the workers are told.
        env: Configuration of the server.
    """
    async with AsyncExitStack() as stack:
        restate = await stack.enter_async_context(restate_server(env={**SERVER, **env}))
        model = Calls()
        running = Stage(restate, model)
        stack.callback(running.ingress.close)
        await stack.enter_async_context(process(model, "model"))
        told = (options or Options())._replace(
            model=(await model.of("serving", "")).more[0], ingress=restate.ingress_url
        )
        for name in sides:
            events = Events()
            arguments = name, json.dumps(told._asdict())
            pid = await stack.enter_async_context(process(events, "worker", *arguments))
            running.sides[name] = Side(name, running, pid, events)
        for side in running.sides.values():  # by now, all are starting at once
            await restate.register((await side.events.of("serving", "")).more[0])
        yield running


@asynccontextmanager
async def process(events: Events, module: str, *arguments: str) -> AsyncGenerator[int]:
    """A process that tells what happens in it, until the block ends; yields its number."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"{__package__}.{module}", *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the benchmark, which then ends it
    )
    assert process.stdout is not None
    reading = asyncio.create_task(_read(process.stdout, events))
    try:
        yield process.pid
    finally:
        process.kill()
        await process.wait()
        await reading


async def _read(lines: asyncio.StreamReader, events: Events) -> None:
    async for line in lines:
        events.note(read(line))


_NUMBERS = itertools.count(1)
_CHANCE = random.Random(0)  # noqa: S311 - so that nothing can compress it to nothing
