"""The process of a restate-server, which ends with the one that has started it."""
# ruff: noqa: PLC0415 - what the extra brings is imported on use, to name the extra if it lacks

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx

_START_TIMEOUT = 120.0  # seconds; it takes half a second, or longer if it has a log to read
_STOP_TIMEOUT = 10.0  # seconds; the server waits up to 5 for calls that are open
_POLL = 0.02  # seconds


class Server:
    """The process, from one start to the next; its ports stay once it has come up on them."""

    def __init__(
        self,
        binary: Path,
        base_dir: Path,
        env: Mapping[str, str],
        http: httpx.AsyncClient,
        wanted_ports: tuple[int, int],
    ) -> None:
        self.base_dir = base_dir
        self._binary = binary
        self._env = env
        self._http = http
        self._wanted_ports = wanted_ports
        self._log = base_dir / "server.log"
        self._ports: tuple[int, ...] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        for _ in range(3):  # somebody may take a free port before the server does
            ports = self._ports or free_ports(*self._wanted_ports)
            self._process = process = self._spawn(*ports)
            while process.poll() is None and time.monotonic() < deadline:
                if await self._is_ready():
                    self._ports = ports
                    return
                await asyncio.sleep(_POLL)
            self.kill()
        raise RuntimeError(f"restate-server did not start. Its log ends:\n{tail(self.logs())}")

    async def terminate(self) -> None:
        if self._process:
            self._process.terminate()
            deadline = time.monotonic() + _STOP_TIMEOUT
            while self._process.poll() is None and time.monotonic() < deadline:
                await asyncio.sleep(_POLL)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process:
            process.kill()
            process.communicate(_IN_ORDER)  # also waits for its end

    def logs(self) -> str:
        return self._log.read_text(errors="replace")

    def _spawn(self, ingress: int, admin: int, fabric: int) -> subprocess.Popen[bytes]:
        self.ingress_url = f"http://127.0.0.1:{ingress}"
        self.admin_url = f"http://127.0.0.1:{admin}"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_INHERITED)}
        own = {
            "RESTATE_ADMIN__BIND_PORT": str(admin),
            "RESTATE_BASE_DIR": str(self.base_dir),
            "RESTATE_BIND_PORT": str(fabric),
            "RESTATE_CLUSTER_NAME": self.base_dir.name,
            "RESTATE_INGRESS__BIND_PORT": str(ingress),
            "TMPDIR": str(self.base_dir),  # for what the server would leave behind
        }
        shell = ["/bin/sh", "-c", _SUPERVISED, "supervised", str(self.base_dir)]
        command = [*shell, str(self._binary), "--no-logo"]
        env = {**inherited, **_CONFIGURATION, **own, **self._env}
        pipe = subprocess.PIPE
        with self._log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                command, env=env, stdin=pipe, stdout=log, stderr=log, start_new_session=True
            )

    async def _is_ready(self) -> bool:
        from httpx import HTTPError

        with contextlib.suppress(HTTPError):
            # Who answers may be another server, which was faster to take the port.
            cluster = await self._http.get(f"{self.admin_url}/cluster-health", timeout=2.0)
            ingress = await self._http.get(f"{self.ingress_url}/restate/health", timeout=2.0)
            if self.base_dir.name in cluster.text and ingress.is_success:
                # It calls itself healthy before its partitions have leaders, and until then answers
                # even from those of its last life. Only a leader knows what it does not have.
                purge = [f"{self.admin_url}/invocations/{each}/purge" for each in _NOT_FOUND]
                answers = [await self._http.patch(url, timeout=2.0) for url in purge]
                return all(answer.status_code == HTTPStatus.NOT_FOUND for answer in answers)
        return False


def free_ports(*wanted: int) -> tuple[int, ...]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    free = tuple(listener.getsockname()[1] for listener in listeners)
    for listener in listeners:
        listener.close()
    return (*(port or free[i] for i, port in enumerate(wanted)), *free[len(wanted) :])


def tail(log: str) -> str:
    return "\n".join(log.splitlines()[-60:])


# What is in the environment is for other servers, and loopback needs no proxy.
_NOT_INHERITED = ("RESTATE_", "HTTP_PROXY", "NO_PROXY")

_CONFIGURATION = {
    "RESTATE_ADVERTISED_HOST": "127.0.0.1",
    "RESTATE_BIND_IP": "127.0.0.1",
    "RESTATE_DEFAULT_NUM_PARTITIONS": "2",
    "RESTATE_DISABLE_TELEMETRY": "true",
    "RESTATE_LISTEN_MODE": "tcp",
    "RESTATE_LOG_DISABLE_ANSI_CODES": "true",
    "RESTATE_LOG_FILTER": "warn,restate=info,octocrab=off",
    "RESTATE_LOG_FORMAT": "compact",
    "RESTATE_NODE_NAME": "test",
    "RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE": "64MB",
}

# Ids of invocations in the first and in the last partition.
_NOT_FOUND = (f"inv_1{'0' * 33}", f"inv_1lYGhA16ahyf{'0' * 22}")

# Becomes the server. Its child reads from a pipe that only the test process holds open, so learns
# of every end of that process; then it kills the server, and cleans up if nobody else can. No other
# process gets the server's number meanwhile: it is also that of their group, where the child stays.
_SUPERVISED = """
folder=$1
shift
exec 3<&0
{
  read in_order <&3
  kill -9 $$
  [ "$in_order" ] || rm -rf "$folder"
  kill -9 -$$
} 2>/dev/null &
exec "$@" 3<&- </dev/null
"""
_IN_ORDER = b"in order\n"
