"""A real restate-server for tests, without Docker (Linux and macOS).

    from interruptible.testing import fixture

    restate = fixture(app)

    async def test_greets(restate):
        assert await restate.client.service_call(greet, "Ada") == "Hello Ada"

`python -m interruptible.testing` prints the path of the server, installing it first if needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    import httpx
    from restate import RestateClient
    from restate.server_types import RestateAppT

__all__ = [
    "AdminError",
    "Restate",
    "ServerNotFound",
    "find_server",
    "fixture",
    "harness",
    "restate_server",
    "serve",
]

_VERSION = "1.7.12"
_START_TIMEOUT = 30.0  # seconds, for one start
_STOP_TIMEOUT = 10.0  # seconds, after which SIGTERM becomes SIGKILL
_POLL = 0.02  # seconds; a start takes about 0.3 s


class ServerNotFound(RuntimeError):  # noqa: N818 - reads as what happened
    """Raised when there is no restate-server on this machine and none can be installed."""


class AdminError(RuntimeError):
    """Raised when the server's admin API refuses a request.

    Args:
        message: What was asked and why it was refused.
        status_code: The HTTP status: 404 for an unknown invocation, 409 for one in a wrong state.
    """

    def __init__(self, message: str, status_code: int) -> None:
        super().__init__(message)
        self.status_code = status_code


def fixture(
    app: RestateAppT,
    *,
    always_replay: bool = False,
    env: Mapping[str, str] | None = None,
    scope: Literal["session", "package", "module", "class", "function"] = "function",
) -> Any:
    """Make a pytest fixture that yields what `harness` yields; async tests need the anyio plugin.

    Args:
        app: The ASGI application, from `restate.app`.
        always_replay: Suspend and replay at every await, to find non-determinism.
        env: Configuration of the server, `RESTATE_…` variables.
        scope: As in `pytest.fixture`; a wider one needs an `anyio_backend` fixture as wide.
    """
    import pytest

    @pytest.fixture(scope=scope)
    async def restate() -> AsyncIterator[Restate]:
        async with harness(app, always_replay=always_replay, env=env) as server:
            yield server

    return restate


@asynccontextmanager
async def harness(
    app: RestateAppT, *, always_replay: bool = False, env: Mapping[str, str] | None = None
) -> AsyncIterator[Restate]:
    """Start a server, serve the app, register it: all that a test needs.

    When the block fails, the end of the server's log goes to stderr.

    Args:
        app: The ASGI application, from `restate.app`.
        always_replay: Suspend and replay at every await, to find non-determinism.
        env: Configuration of the server, `RESTATE_…` variables.
    """
    async with serve(app) as url, restate_server(always_replay=always_replay, env=env) as server:
        try:
            await server.register(url)
            yield server
        except BaseException:
            sys.stderr.write(f"\n--- end of restate-server's log ---\n{_tail(server.logs())}\n")
            raise


@asynccontextmanager
async def restate_server(
    *, always_replay: bool = False, env: Mapping[str, str] | None = None
) -> AsyncIterator[Restate]:
    """Start a server on free loopback ports with its data in a temporary directory.

    It ends with the block, and when this process dies, however it dies.

    Args:
        always_replay: Suspend and replay at every await, to find non-determinism.
        env: Configuration of the server, `RESTATE_…` variables.

    Raises:
        ServerNotFound: Raised when there is no server and none can be installed.
        RuntimeError: Raised when the server does not come up; has the end of its log.
    """
    httpx = _import_httpx()
    binary = await asyncio.to_thread(find_server)
    with tempfile.TemporaryDirectory(
        prefix="restate-", ignore_cleanup_errors=True
    ) as base_dir:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=None, limits=limits, trust_env=False) as http:
            restate = Restate(binary, Path(base_dir), http, always_replay, env or {})
            try:
                await restate._start(tries=3)
                yield restate
            finally:
                await restate._stop(signal.SIGKILL)


@asynccontextmanager
async def serve(app: RestateAppT) -> AsyncIterator[str]:
    """Serve an ASGI app in this event loop, over HTTP/2 without TLS on a free loopback port.

    Args:
        app: The ASGI application, from `restate.app`.

    Yields:
        Its URL.
    """
    try:
        from hypercorn.asyncio import serve as hypercorn_serve
        from hypercorn.config import Config
    except ImportError as error:
        raise ImportError(_EXTRA) from error

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.errorlog = logging.getLogger(f"{__name__}.serve")
    config.errorlog.setLevel(logging.ERROR)
    config.h2_max_concurrent_streams = 2**31 - 1
    config.keep_alive_max_requests = 2**31 - 1
    config.keep_alive_timeout = 3600.0
    config.graceful_timeout = 1.0
    config.shutdown_timeout = 1.0

    stop = asyncio.Event()
    serving = asyncio.create_task(
        hypercorn_serve(app, config, mode="asgi", shutdown_trigger=stop.wait)
    )
    try:
        yield url
    finally:
        stop.set()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(serving, 2.0)


class Restate:
    """A running restate-server, made by `restate_server`, `harness` or a `fixture`.

    Attributes:
        ingress_url: Where services are called.
        admin_url: Where the server is administered; its web UI too.
        base_dir: The directory with the server's data and log.
        client: A client of the ingress that waits for as long as a call takes.
    """

    ingress_url: str
    admin_url: str
    base_dir: Path
    client: RestateClient

    def __init__(
        self,
        binary: Path,
        base_dir: Path,
        http: httpx.AsyncClient,
        always_replay: bool,
        env: Mapping[str, str],
    ) -> None:
        from restate.client import Client

        self.base_dir = base_dir
        self.client = Client(http)
        self._binary = binary
        self._http = http
        self._always_replay = always_replay
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: list[int] = []

    async def register(self, url: str, *, force: bool = True) -> None:
        """Register the services that are served at a URL.

        Args:
            url: Where they are served.
            force: Replace an earlier registration of the same URL.

        Raises:
            AdminError: Raised when the server cannot reach or does not accept the services.
        """
        body = {"uri": url, "force": force}
        if self._always_replay:
            body["use_http_11"] = True
        await self._admin("POST", "/deployments", body)

    async def query(self, sql: str) -> list[dict[str, Any]]:
        """Run SQL on the server's tables; columns that are null are left out of a row.

        Args:
            sql: A query, see https://docs.restate.dev/references/sql-introspection.
        """
        return (await self._admin("POST", "/query", {"query": sql}))["rows"]

    async def invocations(self, where: str = "") -> list[dict[str, Any]]:
        """List the invocations the server knows, oldest first.

        Args:
            where: An SQL condition on `sys_invocation`; all invocations without it.
        """
        condition = f"WHERE {where} " if where else ""
        return await self.query(f"SELECT * FROM sys_invocation {condition}ORDER BY created_at")  # noqa: S608

    async def cancel(self, invocation_id: str) -> None:
        """Ask an invocation to end; it sees this at its next await."""
        await self._admin("PATCH", f"/invocations/{invocation_id}/cancel")

    async def kill(self, invocation_id: str) -> None:
        """End an invocation and its calls at once, without any cleanup."""
        await self._admin("PATCH", f"/invocations/{invocation_id}/kill")

    async def pause(self, invocation_id: str) -> None:
        """Pause a running invocation."""
        await self._admin("PATCH", f"/invocations/{invocation_id}/pause")

    async def resume(self, invocation_id: str) -> None:
        """Resume an invocation that is paused, suspended, or waits to be tried again."""
        await self._admin("PATCH", f"/invocations/{invocation_id}/resume")

    async def purge(self, invocation_id: str) -> None:
        """Forget a completed invocation: its result, journal and idempotency key."""
        await self._admin("PATCH", f"/invocations/{invocation_id}/purge")

    async def restart(self, *, kill: bool = False) -> None:
        """Stop the server and start it again on the same ports with the same data.

        Args:
            kill: Stop it as a crash would, with SIGKILL instead of SIGTERM.
        """
        await self._stop(signal.SIGKILL if kill else signal.SIGTERM)
        await self._start(tries=1)

    def logs(self) -> str:
        """Return all that the server has logged."""
        return self._log.read_text(errors="replace")

    @property
    def _log(self) -> Path:
        return self.base_dir / "server.log"

    async def _admin(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        response = await self._http.request(
            method,
            self.admin_url + path,
            json=body,
            headers={"accept": "application/json"},
            timeout=30.0,
        )
        if response.is_error:
            message = f"{method} {path} was refused with {response.status_code}: {response.text}"
            raise AdminError(message, response.status_code)
        return response.json() if response.content else None

    async def _start(self, tries: int) -> None:
        for _ in range(tries):
            if tries > 1:
                self._ports = _free_ports(3)
            ingress, admin, _ = self._ports
            self.ingress_url = f"http://127.0.0.1:{ingress}"
            self.admin_url = f"http://127.0.0.1:{admin}"
            self._http.base_url = self.ingress_url
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-ISc", _SUPERVISED, self._binary, "--no-logo"],
                    env=self._environment(),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            if await self._comes_up():
                return
            await self._stop(signal.SIGKILL)
        msg = f"restate-server did not start. The end of its log:\n{_tail(self.logs())}"
        raise RuntimeError(msg)

    async def _comes_up(self) -> bool:
        httpx = _import_httpx()
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                return False
            with contextlib.suppress(httpx.TransportError, AdminError):
                if await self._is_ready():
                    return True
            await asyncio.sleep(_POLL)
        return False

    async def _is_ready(self) -> bool:
        # Another server may have taken the ports since they were found free.
        if (await self._admin("GET", "/cluster-health"))["cluster_name"] != self.base_dir.name:
            return False
        # A query needs the partitions, which lag behind the health checks.
        await self.query("SELECT id FROM sys_invocation")
        response = await self._http.get("/restate/health")
        return bool(response.is_success)

    async def _stop(self, signum: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signum)
        deadline = time.monotonic() + _STOP_TIMEOUT
        while process.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(_POLL)
        process.stdin.close()
        process.wait()

    def _environment(self) -> dict[str, str]:
        ingress, admin, fabric = map(str, self._ports)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("RESTATE_") and name.upper() not in {"HTTP_PROXY", "NO_PROXY"}
        }
        return {
            **inherited,
            "RESTATE_ADMIN__BIND_PORT": admin,
            "RESTATE_ADVERTISED_HOST": "127.0.0.1",
            "RESTATE_BASE_DIR": str(self.base_dir),
            "RESTATE_BIND_IP": "127.0.0.1",
            "RESTATE_BIND_PORT": fabric,
            "RESTATE_CLUSTER_NAME": self.base_dir.name,
            "RESTATE_DEFAULT_NUM_PARTITIONS": "2",
            "RESTATE_DISABLE_TELEMETRY": "true",
            "RESTATE_INGRESS__BIND_PORT": ingress,
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_LOG_DISABLE_ANSI_CODES": "true",
            "RESTATE_LOG_FILTER": "warn,restate=info,octocrab=off",
            "RESTATE_LOG_FORMAT": "compact",
            "RESTATE_NODE_NAME": "test",
            "RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE": "64MB",
            **self._env,
        }


def find_server() -> Path:
    """Find the restate-server, or install it from npm.

    The first of: the environment variable `RESTATE_SERVER`; the `PATH`; the directory
    `RESTATE_NPM_DIR` (default `~/.cache/restate-interruptible/npm-<version>`), installed on first
    use.

    Returns:
        The path of the program.

    Raises:
        ServerNotFound: Raised when there is none and npm cannot install it.
    """
    if chosen := os.environ.get("RESTATE_SERVER"):
        if not os.access(chosen, os.X_OK):
            raise ServerNotFound(_not_found(f"RESTATE_SERVER is {chosen}, not a program."))
        return _native(Path(chosen))
    if found := shutil.which("restate-server"):
        return _native(Path(found))
    default = f"~/.cache/restate-interruptible/npm-{_VERSION}"
    folder = Path(os.environ.get("RESTATE_NPM_DIR") or default).expanduser()
    wrapper = folder / "node_modules/.bin/restate-server"
    if not wrapper.exists():
        with _locked(folder):
            if not wrapper.exists():
                _npm_install(folder)
    return _native(wrapper)


def _npm_install(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise ServerNotFound(_not_found("it is not on the PATH, and neither is npm."))
    sys.stderr.write(
        f"installing restate-server {_VERSION} from npm into {folder} (about 400 MB, once)\n"
    )
    packages = [f"@restatedev/restate-server@{_VERSION}", f"@restatedev/restate@{_VERSION}"]
    options = ["--ignore-scripts", "--no-audit", "--no-fund"]
    with tempfile.TemporaryDirectory(dir=folder, prefix="installing-") as temporary:
        command = [npm, "install", "--prefix", temporary, *options, *packages]
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
            raise ServerNotFound(_not_found("npm could not install it, see its output."))
        # Only a complete installation gets its name.
        Path(temporary, "node_modules").rename(folder / "node_modules")


def _not_found(reason: str) -> str:
    remedy = "Install Node.js (npm), put restate-server on the PATH, or set RESTATE_SERVER."
    return f"restate-server not found: {reason} {remedy}"


def _native(program: Path) -> Path:
    """Resolve npm's wrapper to the program it wraps, which gets signals itself."""
    for parent in program.resolve().parents:
        for native in parent.glob("node_modules/@restatedev/restate-server-*/bin/restate-server"):
            return native
    return program


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _import_httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise ImportError(_EXTRA) from error
    return httpx


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _tail(log: str, lines: int = 60) -> str:
    return "\n".join(log.splitlines()[-lines:])


_EXTRA = (
    "interruptible.testing needs the extra: pip install 'restate-interruptible[testing]'"
)

# Becomes the server. Its child waits for the end of a pipe that only the test process can write
# to, so it notices every death of that process, and then kills the group: the server and itself.
_SUPERVISED = """
import os, signal, sys
if os.fork():
    os.execv(sys.argv[1], sys.argv[1:])
os.read(0, 1)
os.killpg(0, signal.SIGKILL)
"""


if __name__ == "__main__":
    print(find_server())
