"""The network between the nodes of a cluster, of which one can be cut off from the others.

Each node tells the others an address that leads through a proxy. What comes from the other side is
held back while a node is cut off, and goes on its way afterwards, as TCP does it: nobody is told.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from typing_extensions import Self

from .proxy import Proxy


class Network:
    """One link to each node; `async with Network(ports, pids)`.

    Args:
        ports: Where the nodes listen.
        pids: Tells the nodes' processes; a connection is that of a node if its process has it.
    """

    def __init__(self, ports: Sequence[int], pids: Callable[[], Sequence[int | None]]) -> None:
        self._pids = pids
        self._links = [Link(self, node, port) for node, port in enumerate(ports)]
        self._cut_off: int | None = None
        self._whole = asyncio.Event()
        self._whole.set()
        self._stack = AsyncExitStack()

    @property
    def addresses(self) -> list[str]:
        """Where to reach each node."""
        return [f"http://127.0.0.1:{link.port}" for link in self._links]

    def cut_off(self, node: int) -> None:
        """Let nothing through between this node and the others."""
        self._cut_off = node
        self._whole.clear()

    def reconnect(self) -> None:
        """Let everything through, also what was held back."""
        self._cut_off = None
        self._whole.set()

    async def passes(self, source: int | None, target: int) -> None:
        """Wait until what is on its way between two nodes may go on."""
        while not self._whole.is_set() and source != target and self._cut_off in (source, target):
            await self._whole.wait()

    def node_of(self, own: int, other: int) -> int | None:
        """The node that has opened a connection from its own port to the other."""
        for _ in range(3):  # the table may change while it is read
            socket = _socket_of(own, other)
            for node, pid in enumerate(self._pids()):
                if pid is not None and socket is not None and socket in _sockets_of(pid):
                    return node
        return None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for link in self._links:
                await stack.enter_async_context(link)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


class Link(Proxy):
    """The way to one node."""

    def __init__(self, network: Network, node: int, port: int) -> None:
        super().__init__([port])
        self._network, self._node = network, node
        self._sources: dict[int, int | None] = {}
        """Who has opened each connection."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port: int = writer.get_extra_info("peername")[1]
        self._sources[port] = self._network.node_of(port, self.port)
        try:
            await self._held_back(port)
            await super()._serve(reader, writer)
        finally:
            del self._sources[port]

    async def _held_back(self, port: int) -> None:
        await self._network.passes(self._sources[port], self._node)


def _socket_of(own: int, other: int) -> str | None:
    """The socket on loopback of a connection between these ports (`man 5 proc_pid_net`)."""
    wanted = [f"0100007F:{own:04X}", f"0100007F:{other:04X}"]
    for entry in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = entry.split()
        if fields[1:3] == wanted:
            return f"socket:[{fields[9]}]"
    return None


def _sockets_of(pid: int) -> set[str]:
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            found.add(str(descriptor.readlink()))
        except OSError:
            continue
    return found
