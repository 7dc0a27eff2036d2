"""The server under test: one process or a cluster of three, and its admin API."""

import asyncio
import os
import random
import re
import signal
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from interruptible._testing.install import find_server
from interruptible._testing.server import Server, free_ports

from .disk import Disk
from .network import Network
from .records import Invocation

LIMITS = httpx.Limits(max_connections=None)
TASKS = "target_handler_name = 'run_task'"


class System:
    """One or more nodes, whichever of them are up.

    Attributes:
        urls: The nodes' ingresses.
        disk: Where the data of a single server is, if that can be full.
        network: What is between the nodes of a cluster.
    """

    def __init__(
        self,
        nodes: list[Server],
        http: httpx.AsyncClient,
        *,
        disk: Disk | None = None,
        network: Network | None = None,
    ) -> None:
        self.nodes, self._http = nodes, http
        self.disk, self.network = disk, network
        self.down: set[int] = set()

    @property
    def urls(self) -> list[str]:
        return [node.ingress_url for node in self.nodes]

    @property
    def is_cluster(self) -> bool:
        return len(self.nodes) > 1

    async def admin(self, method: str, path: str, body: Any = None, *, tries: int = 1) -> Any:
        """Ask any node that is up.

        Raises:
            RuntimeError: It was refused, or no node answered.
        """
        problem = "no node is up"
        for attempt in range(tries):
            if attempt:
                await asyncio.sleep(0.2)
            up = [n for i, n in enumerate(self.nodes) if i not in self.down] or self.nodes
            url = random.choice(up).admin_url + path  # noqa: S311
            headers = {"accept": "application/json"}
            try:
                response = await self._http.request(
                    method, url, json=body, headers=headers, timeout=20.0
                )
            except httpx.HTTPError as error:
                problem = repr(error)
                continue
            if response.is_success:
                return response.json() if response.content else None
            problem = f"{response.status_code} {response.text}"
        raise RuntimeError(f"{method} {path}: {problem}")

    async def health(self, node: int) -> str:
        """What a node says of itself."""
        try:
            url = f"{self.nodes[node].admin_url}/cluster-health"
            return (await self._http.get(url, timeout=5.0)).text
        except httpx.HTTPError as error:
            return repr(error)

    async def query(self, sql: str, *, tries: int = 1) -> list[dict[str, Any]]:
        answer = await self.admin("POST", "/query", {"query": sql}, tries=tries)
        rows: list[dict[str, Any]] = answer["rows"]
        return rows

    async def command(self, verb: str, invocation: str) -> bool | None:
        """`cancel`, `kill`, `pause` or `resume` an invocation.

        Returns:
            Whether that was accepted; `None` if nobody knows.
        """
        try:
            await self.admin("PATCH", f"/invocations/{invocation}/{verb}")
        except RuntimeError as error:
            refused = re.search(r": 4\d\d ", str(error))
            return False if refused else None
        return True

    async def register(self, url: str) -> None:
        await self.admin("POST", "/deployments", {"uri": url, "force": False}, tries=50)

    async def tasks(self) -> list[Invocation]:
        """Every task there has been."""
        sql = (
            "SELECT id, target_service_name, status, completion_result, completion_failure, "  # noqa: S608
            f"completed_at FROM sys_invocation WHERE {TASKS}"
        )
        return [
            Invocation(
                row["id"],
                row["target_service_name"],
                row["status"],
                row.get("completion_result"),
                row.get("completion_failure"),
                _seconds(row.get("completed_at")),
            )
            for row in await self.query(sql, tries=20)
        ]

    async def telling(self) -> int:
        """How much is on its way to the streams of sessions."""
        sql = (
            "SELECT id FROM sys_invocation WHERE target_service_name LIKE '%Stream' "
            "AND target_handler_name <> 'pull' AND status <> 'completed'"
        )
        return len(await self.query(sql, tries=20))

    async def callers(self) -> dict[str, str]:
        """By which invocation each other one was sent."""
        sql = "SELECT id, invoked_by_id FROM sys_invocation WHERE invoked_by_id IS NOT NULL"
        return {row["id"]: row["invoked_by_id"] for row in await self.query(sql, tries=20)}

    # -- faults of nodes -------------------------------------------------------------------------

    def kill(self, node: int) -> None:
        self.down.add(node)
        self.nodes[node].kill()

    async def start(self, node: int) -> None:
        await self.nodes[node].start()
        self.down.discard(node)

    def freeze(self, node: int) -> None:
        self.down.add(node)
        self._signal(node, signal.SIGSTOP)

    def thaw(self, node: int) -> None:
        self._signal(node, signal.SIGCONT)
        self.down.discard(node)

    def cut_off(self, node: int) -> None:
        assert self.network is not None
        self.down.add(node)  # clients do talk to it
        self.network.cut_off(node)

    def reconnect(self, node: int) -> None:
        assert self.network is not None
        self.network.reconnect()
        self.down.discard(node)

    def _signal(self, node: int, number: int) -> None:
        process = self.nodes[node]._process
        if process is not None and process.poll() is None:
            os.kill(process.pid, number)

    def logs(self) -> str:
        return "\n".join(node.logs() for node in self.nodes)


@asynccontextmanager
async def single(folder: Path, *, with_disk: bool = False) -> AsyncGenerator[System]:
    """One server, on a disk of its own if that is wanted, and can be had."""
    disk = _disk(folder / "disk") if with_disk else None
    binary = await asyncio.to_thread(find_server)
    async with httpx.AsyncClient(timeout=None, limits=LIMITS, trust_env=False) as http:  # noqa: S113
        node = Server(binary, _base(disk.path if disk else folder / "disk"), {}, http, (0, 0))
        node._log = folder / "node.log"  # it is to be read although the disk is full
        try:
            await node.start()
            yield System([node], http, disk=disk)
        finally:
            node.kill()
            if disk is not None:
                disk.close()


def _disk(path: Path) -> Disk | None:
    try:
        return Disk(path)
    except OSError as error:
        print(f"chaos: the disk is never full in this run: {error}")
        return None


def _base(folder: Path, cluster: str | None = None) -> Path:
    # The name of the folder is that of the cluster: so `Server` knows its own.
    base = folder / (cluster or f"chaos-{uuid.uuid4().hex[:8]}")
    base.mkdir(parents=True)
    return base


@asynccontextmanager
async def cluster(folder: Path) -> AsyncGenerator[System]:
    """Three servers on loopback that replicate everything to two of them."""
    binary = await asyncio.to_thread(find_server)
    fabric = free_ports()
    nodes: list[Server] = []
    network = Network(fabric, lambda: [x._process.pid if x._process else None for x in nodes])
    name = f"chaos-{uuid.uuid4().hex[:8]}"
    async with (
        httpx.AsyncClient(timeout=None, limits=LIMITS, trust_env=False) as http,  # noqa: S113
        network,
    ):
        for number, port in enumerate(fabric):
            base = _base(folder / f"node-{number}", name)
            env = {
                "RESTATE_ADVERTISED_ADDRESS": network.addresses[number],
                "RESTATE_AUTO_PROVISION": "true" if number == 0 else "false",
                "RESTATE_BIFROST__DEFAULT_PROVIDER": "replicated",
                "RESTATE_BIND_PORT": str(port),
                "RESTATE_DEFAULT_REPLICATION": "2",
                "RESTATE_METADATA_CLIENT__ADDRESSES": f"[{','.join(network.addresses)}]",
                "RESTATE_NODE_NAME": f"node-{number}",
                "RESTATE_ROLES": "[worker,admin,metadata-server,log-server,http-ingress]",
            }
            nodes.append(Server(binary, base, env, http, (0, 0)))
        try:
            await asyncio.gather(*(node.start() for node in nodes))
            yield System(nodes, http, network=network)
        finally:
            for node in nodes:
                node.kill()


def _seconds(timestamp: str | None) -> float | None:
    if timestamp is None:
        return None
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()
