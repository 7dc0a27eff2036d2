"""The faults that are made here themselves do what they are to do."""

import asyncio
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from .faults import Faults
from .network import Network
from .records import History
from .system import System


def test_a_node_that_is_cut_off_hears_of_the_others_when_it_is_reconnected() -> None:
    heard: list[asyncio.Queue[bytes]] = [asyncio.Queue() for _ in range(3)]
    me = 1  # the node that all connections of this process are of

    async def listen(stack: AsyncExitStack, node: int) -> int:
        async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while said := await reader.read(100):
                heard[node].put_nowait(said)
            writer.close()

        server = await asyncio.start_server(hear, "127.0.0.1", 0)
        stack.callback(server.close)
        return int(server.sockets[0].getsockname()[1])

    async def play() -> None:
        async with AsyncExitStack() as stack:
            ports = [await listen(stack, node) for node in range(3)]
            network = Network(ports, lambda: [None, os.getpid(), None])
            await stack.enter_async_context(network)
            links = [int(address.rpartition(":")[2]) for address in network.addresses]
            ways = [(await asyncio.open_connection("127.0.0.1", port))[1] for port in links]
            for way in ways:
                stack.callback(way.close)

            async def tell(word: bytes, *nodes: int) -> None:
                for node in nodes:
                    ways[node].write(word)
                    await ways[node].drain()

            await tell(b"before", 0, 1, 2)
            assert [await each.get() for each in heard] == [b"before"] * 3
            network.cut_off(0)
            await tell(b"meanwhile", 0, 1, 2)
            assert [await heard[node].get() for node in (me, 2)] == [b"meanwhile"] * 2
            assert heard[0].empty()
            network.reconnect()
            assert await heard[0].get() == b"meanwhile"
            network.cut_off(me)
            await tell(b"at last", 0, 1, 2)
            assert await heard[me].get() == b"at last"
            assert heard[0].empty()
            assert heard[2].empty()

    asyncio.run(play())


FILL = """
import sys
from pathlib import Path
from tests.chaos.disk import Disk
try:
    disk = Disk(Path(sys.argv[1]) / "disk")
except OSError as error:
    sys.exit(f"skip: {error}")
file = disk.path / "file"
file.write_bytes(b"x" * 100_000)
disk.fill()
try:
    (disk.path / "more").write_bytes(b"x" * 1_000_000)
except OSError as error:
    assert error.errno == 28, error
else:
    raise AssertionError("there was room")
disk.free()
(disk.path / "more").write_bytes(b"x" * 1_000_000)
assert file.read_bytes() == b"x" * 100_000
print(disk.path in [Path(line.split()[1]) for line in open("/proc/mounts")])
disk.close()
disk.path.rmdir()
"""


def test_a_full_disk_keeps_what_it_has_and_has_room_again(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.stderr.startswith("skip: "):
        pytest.skip(done.stderr)
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert not list(tmp_path.iterdir())


class Harmless(Faults):
    """Faults that hurt nobody, and of which every second one does not take hold."""

    tried = 0

    async def _process(self, kind: str) -> None:
        self.tried += 1
        takes_hold = self.tried % 2  # the others try meanwhile
        await asyncio.sleep(0)
        if takes_hold:
            await self._during(kind, "nobody", lambda: None, 0.001)

    _network = _operator = _process


def test_as_many_faults_are_made_as_were_asked_for_however_long_a_run_lasts(tmp_path: Path) -> None:
    async def play() -> None:
        history = History(tmp_path / "clients.jsonl")
        system = System([], httpx.AsyncClient())
        faults = Harmless(system, history, tmp_path, "1", gone=0, only=())
        await faults.run(20, 0.001, asyncio.Event())
        assert faults.counts.total() == 20
        assert faults.tried > 30

    asyncio.run(play())
