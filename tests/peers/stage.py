"""What all contenders share: the model server, and a record of what happens in all processes."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from tests.benchmarks.events import Event, Events, read
from tests.benchmarks.stage import ROOT

APPS: Final = Path(__file__).parent / "apps"

LATE: Final = 0.005
"""Seconds after which the model server, at the latest, has seen that a client hung up."""


class Record(Events):
    """What happened, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Event] = []

    def note(self, event: Event) -> None:
        self.all.append(event)
        super().note(event)

    async def when(self, kind: str, text: str, seconds: float = 20) -> float | None:
        """Wait for something, and say when it was; not for ever."""
        with suppress(asyncio.TimeoutError):
            return (await self.of(kind, text, seconds)).at
        return None

    def time(self, kind: str, text: str) -> float | None:
        """When it was, if it has been."""
        return next((e.at for e in self.all if (e.kind, e.text) == (kind, text)), None)

    def began_since(self, text: str, since: float) -> bool:
        """Whether a call began after a point in time."""
        return any((e.kind, e.text) == ("started", text) and e.at > since for e in self.all)


def at_once(events: Sequence[Event], texts: Collection[str]) -> int:
    """The most calls at a time, of those with these texts."""
    changes = [(e.at, 1) for e in events if e.text in texts and e.kind == "started"]
    ends = [e for e in events if e.text in texts and e.kind in ("cut off", "finished")]
    most = open_ = 0
    for _, change in sorted([*changes, *((e.at - LATE, -1) for e in ends)]):
        open_ += change
        most = max(most, open_)
    return most


class Stage:
    """One run.

    Attributes:
        record: What has happened.
        folder: A temporary one; each contender's files are in one of its own in it.
    """

    def __init__(self, record: Record, folder: Path, env: Mapping[str, str]) -> None:
        self.record = record
        self.folder = folder
        self._env = env

    def spawn(self, cwd: Path, command: Sequence[str], **env: str) -> "Process":
        """Start a contender's process, with what it tells in a file of its folder."""
        return Process(cwd, command, {**os.environ, **self._env, **env})


class Process:
    """A process with all that it starts, which end together."""

    def __init__(self, cwd: Path, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.log = cwd / "log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for who measures, and that ends it then
            )

    def kill(self) -> None:
        """End all of it with SIGKILL, and wait for it."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def check(self) -> None:
        """Say why, if it has ended.

        Raises:
            RuntimeError: It has.
        """
        if self._process.poll() is not None:
            raise RuntimeError(f"it has ended. Its log ends:\n{self.log.read_text()[-3000:]}")


class Notes(asyncio.DatagramProtocol):
    """Takes what the contenders' processes tell."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._record.note(read(data))


@asynccontextmanager
async def stage() -> AsyncGenerator[Stage]:
    """Start the model server, and listen."""
    record, loop = Record(), asyncio.get_running_loop()
    told, _ = await loop.create_datagram_endpoint(
        lambda: Notes(record), local_addr=("127.0.0.1", 0)
    )
    model = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.peers.model"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        limit=2**24,
    )
    lines = model.stdout
    assert lines is not None

    async def listen() -> None:
        async for line in lines:
            record.note(read(line))

    listening = asyncio.create_task(listen())
    try:
        with tempfile.TemporaryDirectory(prefix="peers-", ignore_cleanup_errors=True) as folder:
            env = {
                "PEER_MODEL": (await record.of("serving", "", 30)).more[0],
                "PEER_NOTES": str(told.get_extra_info("sockname")[1]),
                "PYTHONPATH": str(APPS),
                "PYTHONUNBUFFERED": "1",
            }
            yield Stage(record, Path(folder), env)
    finally:
        model.kill()
        await model.wait()
        await listening
        told.close()


def now() -> float:
    """The clock that all processes of a machine share."""
    return time.monotonic()
