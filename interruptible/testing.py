"""A real restate-server for tests, without Docker (Linux and macOS).

    server = fixture(restate.app([greeter]))

    @pytest.mark.anyio
    async def test_it_greets(server: Restate) -> None:
        assert await server.client.service_call(greet, "Ada") == "Hello Ada"

`python -m interruptible.testing` prints the path of the server, and installs it first if needed.
"""
# ruff: noqa: PLC0415 - what the extra brings is imported on use, to name the extra if it lacks

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import inspect
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from interruptible._retries import RetryWatch, TooManyRetries

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Mapping
    from contextlib import AbstractContextManager

    import httpx
    from restate import RestateClient
    from restate.server_types import RestateAppT

__all__ = [
    "AdminError",
    "Restate",
    "ServerNotFound",
    "TooManyRetries",
    "find_server",
    "fixture",
    "harness",
    "restate_server",
    "serve",
]

_VERSION = "1.7.12"
_START_TIMEOUT = 30.0  # seconds; a start takes about half a second
_STOP_TIMEOUT = 10.0  # seconds; the server waits up to 5 for calls that are open
_HANG_UP_TIMEOUT = 2.0  # seconds
_POLL = 0.02  # seconds


class ServerNotFound(RuntimeError):
    """Raised when there is no restate-server on this machine and none can be installed."""

    def __init__(self, reason: str) -> None:
        remedy = "Install Node.js (npm), put restate-server on the PATH, or set RESTATE_SERVER."
        super().__init__(f"restate-server not found: {reason} {remedy}")


class AdminError(RuntimeError):
    """Raised when the server refuses what it is asked to do, or cannot do it.

    Attributes:
        status_code: 404 for an unknown invocation, 409 for one whose status does not allow it.
    """

    def __init__(self, message: str, status_code: int) -> None:
        super().__init__(message)
        self.status_code = status_code


def fixture(
    app: RestateAppT,
    *,
    always_replay: bool = False,
    env: Mapping[str, str] | None = None,
    fail_on_retries: int | None = 4,
    scope: Literal["session", "package", "module", "class", "function"] = "function",
) -> object:
    """Make a pytest fixture that yields a `Restate`, for tests that anyio's plugin runs on asyncio.

    If a test fails, it shows the server's log.

    Args:
        app: What to serve, from `restate.app`.
        always_replay: Suspend and replay at every await, which finds non-determinism.
        env: Configuration of the server, `RESTATE_…` variables.
        fail_on_retries: As for `harness`; also ends a test that hangs. With a wider scope, a test
            fails by what was invoked in it.
        scope: As for `pytest.fixture`; a wider one needs an `anyio_backend` that is as wide.
    """
    import pytest

    class Tests:
        """Runs the tests that use the fixture as `harness` runs its block."""

        def __init__(self, running: Restate, watch: RetryWatch) -> None:
            self.running = running
            self.watch = watch

        @pytest.hookimpl(hookwrapper=True)
        def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None]:
            test = pyfuncitem.obj
            uses_it = any(each is self.running for each in pyfuncitem.funcargs.values())
            if uses_it and inspect.iscoroutinefunction(test):

                @functools.wraps(test)
                async def watched(**arguments: Any) -> None:
                    with _log_on_failure(self.running), self.watch.ends_block():
                        await test(**arguments)

                pyfuncitem.obj = watched
            yield
            pyfuncitem.obj = test

    @pytest.fixture(scope=scope)
    async def server(request: pytest.FixtureRequest) -> AsyncGenerator[Restate]:
        plugins = request.config.pluginmanager
        capture = cast("Any", plugins.getplugin("capturemanager"))
        on_terminal = capture.global_and_fixture_disabled if capture else contextlib.nullcontext
        running_app = _running(app, always_replay, env, fail_on_retries, on_terminal)
        async with running_app as (running, watch):
            tests = plugins.register(Tests(running, watch))
            try:
                yield running
            finally:
                plugins.unregister(name=tests)

    return server


@asynccontextmanager
async def harness(
    app: RestateAppT,
    *,
    always_replay: bool = False,
    env: Mapping[str, str] | None = None,
    fail_on_retries: int | None = 4,
) -> AsyncGenerator[Restate]:
    """Start a server, serve the app and register it; if the block fails, show the server's log.

    Args:
        app: What to serve, from `restate.app`.
        always_replay: Suspend and replay at every await, which finds non-determinism.
        env: Configuration of the server, `RESTATE_…` variables.
        fail_on_retries: Cancel the block, and raise, when an invocation was retried so often in
            vain: by default when five attempts have failed, which a flaky step in a test seldom
            means, but a mistake does, and who waits for it waits for ever. None: only say it, on
            stderr.

    Raises:
        TooManyRetries: Raised when an invocation was retried too often; has its last failure.
    """
    async with _running(app, always_replay, env, fail_on_retries) as (running, watch):
        # pytest runs a fixture's setup and the test in turns: the block of a fixture does not hang.
        is_fixture = os.environ.get("PYTEST_CURRENT_TEST", "").endswith("(setup)")
        ends_block = contextlib.nullcontext() if is_fixture else watch.ends_block()
        with _log_on_failure(running), ends_block:
            yield running


@asynccontextmanager
async def _running(
    app: RestateAppT,
    always_replay: bool,  # noqa: FBT001
    env: Mapping[str, str] | None,
    fail_on_retries: int | None,
    on_terminal: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
) -> AsyncGenerator[tuple[Restate, RetryWatch]]:
    async def query(sql: str) -> list[dict[str, Any]]:
        from httpx import HTTPError

        with contextlib.suppress(AdminError, HTTPError):  # the server is being restarted
            return await restate.query(sql)
        return []

    async with serve(app) as url, restate_server(always_replay=always_replay, env=env) as restate:
        with _log_on_failure(restate):
            await restate.register(url)
        watch = RetryWatch(query, fail_on_retries, on_terminal)
        watching = asyncio.create_task(watch.run())
        try:
            yield restate, watch
        finally:
            watching.cancel()
            await asyncio.wait({watching})
            if not watching.cancelled():
                watching.result()


@contextmanager
def _log_on_failure(restate: Restate) -> Generator[None]:
    try:
        yield
    except BaseException:
        sys.stderr.write(f"\nrestate-server's log ends:\n{_tail(restate.logs())}\n")
        raise


@asynccontextmanager
async def restate_server(
    *,
    always_replay: bool = False,
    env: Mapping[str, str] | None = None,
    ingress_port: int = 0,
    admin_port: int = 0,
) -> AsyncGenerator[Restate]:
    """Start a server on the loopback interface, with its data in a temporary folder.

    It ends with the block, and with this process, however that ends.

    Args:
        always_replay: Suspend and replay at every await, which finds non-determinism.
        env: Configuration of the server, `RESTATE_…` variables.
        ingress_port: Where clients reach it; 0 is a free port.
        admin_port: Where its admin API and UI are; 0 is a free port.

    Raises:
        ServerNotFound: Raised when there is no server and none can be installed.
        RuntimeError: Raised when the server does not start; has the end of its log.
    """
    with _extra():
        import httpx
    binary = await asyncio.to_thread(find_server)
    limits = httpx.Limits(max_connections=None)
    with tempfile.TemporaryDirectory(prefix="restate-", ignore_cleanup_errors=True) as folder:
        async with httpx.AsyncClient(timeout=None, limits=limits, trust_env=False) as http:  # noqa: S113
            server = _Server(binary, Path(folder), env or {}, http, (ingress_port, admin_port))
            try:
                await server.start()
                yield Restate(server, http, always_replay=always_replay)
            finally:
                server.kill()


@asynccontextmanager
async def serve(app: RestateAppT) -> AsyncGenerator[str]:
    """Serve an app in this event loop, by HTTP/2 without TLS on a free port; yields its URL.

    At the end it hangs up on what still runs: handlers see a lost connection. Those that go on for
    a second all the same are cancelled. Signals do what they did before; the app handles none.

    Args:
        app: What to serve, from `restate.app`.
    """
    with _extra():
        import hypercorn.asyncio
        from hypercorn.config import Config, Sockets

    class Bound(Config):
        def create_sockets(self) -> Sockets:
            return Sockets([], [listener], [])

    async def followed(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            request = cast("asyncio.Task[Any]", asyncio.current_task())
            requests.add(request)
            request.add_done_callback(requests.discard)
        _in_app.set(True)  # for this task of hypercorn's, and those that it starts
        await app(scope, receive, send)

    requests: set[asyncio.Task[Any]] = set()
    listener = _Listener()
    config = Bound()
    config.errorlog = logging.getLogger(f"{__name__}.serve")
    config.errorlog.setLevel(logging.ERROR)
    config.h2_max_concurrent_streams = 2**31 - 1
    config.keep_alive_max_requests = 2**31 - 1
    config.keep_alive_timeout = 3600.0

    stop = asyncio.Event()
    serving = asyncio.create_task(
        hypercorn.asyncio.serve(  # pyright: ignore[reportUnknownMemberType]
            followed, config, shutdown_trigger=stop.wait, mode="asgi"
        )
    )
    serving.add_done_callback(lambda _: listener.close())
    try:
        with _no_signals_for_apps():
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        if serving.done():
            await serving  # it failed, and this says why
        stop.set()
        begun = time.monotonic()
        while not serving.done() and (passed := time.monotonic() - begun) < _HANG_UP_TIMEOUT:
            listener.hang_up()
            if passed > _HANG_UP_TIMEOUT / 2:  # hypercorn may wait for ever to send what is left
                for request in requests:
                    request.cancel()
            await asyncio.wait({serving}, timeout=_POLL)
        serving.cancel()


_in_app: ContextVar[bool] = ContextVar("_in_app", default=False)


@contextmanager
def _no_signals_for_apps() -> Generator[None]:
    """Refuse apps a handler of a signal: restate-sdk's keeps SIGTERM from ending the process."""
    loop = cast("Any", asyncio.get_running_loop())
    add = loop.add_signal_handler

    def add_unless_in_app(*arguments: Any, **by_name: Any) -> None:
        if _in_app.get():
            raise RuntimeError("`interruptible.testing.serve` leaves signals to the process.")
        add(*arguments, **by_name)

    loop.add_signal_handler = add_unless_in_app
    try:
        yield
    finally:
        loop.add_signal_handler = add


class Restate:
    """A running restate-server, as `fixture`, `harness` and `restate_server` yield it.

    Attributes:
        ingress_url: Where to call services.
        admin_url: Where its admin API and its web UI are.
        base_dir: The folder with its data and its log.
        client: Calls services; waits for as long as a call takes.
    """

    def __init__(self, server: _Server, http: httpx.AsyncClient, *, always_replay: bool) -> None:
        from restate.client import Client

        http.base_url = server.ingress_url
        self.ingress_url = server.ingress_url
        self.admin_url = server.admin_url
        self.base_dir = server.base_dir
        self.client: RestateClient = Client(http)
        self._server = server
        self._http = http
        self._always_replay = always_replay

    async def register(self, url: str, *, force: bool = True) -> None:
        """Register the services that are served at a URL.

        Args:
            url: Where they are served.
            force: Replace what was registered at this URL before; without it, nothing happens then.

        Raises:
            AdminError: Raised when the server does not reach them or does not accept them.
            ValueError: Raised when they are to replay always, and cannot.
        """
        # A handler that is reached over HTTP/1.1 can be sent nothing once it runs, so it has to
        # suspend at every await, whatever inactivity timeout it or its service asks for.
        body = {"uri": url, "force": force, "use_http_11": self._always_replay}
        services = (await self._admin("POST", "/deployments", body))["services"]
        if self._always_replay and any(each["inactivity_timeout"] != "0s" for each in services):
            raise ValueError(
                f'{url} cannot replay always: its app has protocol="bidi". Leave that out.'
            )

    async def query(self, sql: str) -> list[dict[str, Any]]:
        """Query the server's tables; columns that are null are left out of the rows.

        Args:
            sql: A query, see https://docs.restate.dev/references/sql-introspection.
        """
        rows: list[dict[str, Any]] = (await self._admin("POST", "/query", {"query": sql}))["rows"]
        return rows

    async def invocations(self, where: str = "true") -> list[dict[str, Any]]:
        """List the rows of `sys_invocation`, oldest first.

        Args:
            where: A condition on its columns, in SQL.
        """
        return await self.query(f"SELECT * FROM sys_invocation WHERE {where} ORDER BY created_at")  # noqa: S608

    async def cancel(self, invocation_id: str) -> None:
        """Ask an invocation to end: it fails with 409 at its next await, and may clean up."""
        await self._admin("PATCH", f"/invocations/{invocation_id}/cancel")

    async def kill(self, invocation_id: str) -> None:
        """End an invocation at once: its handler sees a lost connection, and no retry follows."""
        await self._admin("PATCH", f"/invocations/{invocation_id}/kill")

    async def pause(self, invocation_id: str) -> None:
        """Pause a running invocation at its next await; does nothing to one that is suspended."""
        await self._admin("PATCH", f"/invocations/{invocation_id}/pause")

    async def resume(self, invocation_id: str) -> None:
        """Let an invocation go on that is paused or backing off; a pause under way stays."""
        await self._admin("PATCH", f"/invocations/{invocation_id}/resume")

    async def purge(self, invocation_id: str) -> None:
        """Forget a completed invocation."""
        await self._admin("PATCH", f"/invocations/{invocation_id}/purge")

    async def restart(self, *, kill: bool = False) -> None:
        """Stop the server, and start it again with the same data on the same ports.

        Args:
            kill: Stop it with SIGKILL, as a crash would, instead of SIGTERM.
        """
        if not kill:
            await self._server.terminate()
        self._server.kill()
        await self._server.start()

    def logs(self) -> str:
        """Return what the server has logged since its first start."""
        return self._server.logs()

    async def _admin(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        url, headers = f"{self.admin_url}{path}", {"accept": "application/json"}
        response = await self._http.request(method, url, json=body, headers=headers, timeout=30.0)
        if response.is_error:
            raise AdminError(
                f"{method} {path} was refused with {response.status_code}: {response.text}",
                response.status_code,
            )
        return response.json() if response.content else None


class _Server:
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
            ports = self._ports or _free_ports(*self._wanted_ports)
            self._process = process = self._spawn(*ports)
            while process.poll() is None and time.monotonic() < deadline:
                if await self._is_ready():
                    self._ports = ports
                    return
                await asyncio.sleep(_POLL)
            self.kill()
        raise RuntimeError(f"restate-server did not start. Its log ends:\n{_tail(self.logs())}")

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


def find_server() -> Path:
    """Find the restate-server, or install it.

    It is `RESTATE_SERVER` of the environment, or else the one on the `PATH`, or else the one that
    npm has installed, or now installs, into `RESTATE_NPM_DIR`, by default a folder in `~/.cache`.

    Returns:
        The path of the program.

    Raises:
        ServerNotFound: Raised when there is none and npm is missing or fails.
    """
    chosen = os.environ.get("RESTATE_SERVER")
    if found := shutil.which(chosen or "restate-server"):
        return _native(Path(found))
    if chosen:
        raise ServerNotFound(f"RESTATE_SERVER is {chosen}, which is no program.")
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
        raise ServerNotFound("it is not on the PATH, and there is no npm to install it.")
    size = "about 400 MB, once"
    sys.stderr.write(f"installing restate-server {_VERSION} from npm into {folder} ({size})\n")
    packages = [f"@restatedev/restate-server@{_VERSION}", f"@restatedev/restate@{_VERSION}"]
    options = ["--ignore-scripts", "--no-audit", "--no-fund"]
    with tempfile.TemporaryDirectory(dir=folder, prefix="unfinished-") as unfinished:
        command = [npm, "install", "--prefix", unfinished, *options, *packages]
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode:  # noqa: S603
            raise ServerNotFound("npm could not install it, as its output says.")
        Path(unfinished, "node_modules").rename(folder / "node_modules")


def _native(program: Path) -> Path:
    """Return what npm's wrapper starts, because SIGKILL does not get through the wrapper."""
    script = program.resolve()
    if script.suffix == ".js":
        for parent in script.parents:
            for native in parent.glob("node_modules/@restatedev/restate-server-*/bin/*"):
                return native
    return program


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _extra() -> Generator[None]:
    try:
        yield
    except ImportError as error:
        raise ImportError(
            "interruptible.testing needs the extra: pip install 'restate-interruptible[testing]'"
        ) from error


class _Listener(socket.socket):
    """A free port that knows its connections, because hypercorn does not hang up on busy ones."""

    def __init__(self) -> None:
        # With the protocol named, asyncio turns Nagle's algorithm off, which costs 40 ms a hop.
        super().__init__(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self.bind(("127.0.0.1", 0))
        self.listen(1024)
        self._accepted = weakref.WeakSet[socket.socket]()

    def accept(self) -> tuple[socket.socket, Any]:
        connection, address = super().accept()
        self._accepted.add(connection)
        return connection, address

    def hang_up(self) -> None:
        for connection in self._accepted:
            with contextlib.suppress(OSError):  # it is closed
                connection.shutdown(socket.SHUT_RDWR)


def _free_ports(*wanted: int) -> tuple[int, ...]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    free = tuple(listener.getsockname()[1] for listener in listeners)
    for listener in listeners:
        listener.close()
    return (*(port or free[i] for i, port in enumerate(wanted)), *free[len(wanted) :])


def _tail(log: str) -> str:
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

if __name__ == "__main__":
    try:
        sys.stdout.write(f"{find_server()}\n")
    except ServerNotFound as error:
        sys.exit(str(error))
