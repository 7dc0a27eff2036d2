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
import functools
import inspect
import os
import sys
import tempfile
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from interruptible._testing.install import ServerNotFound, find_server
from interruptible._testing.retries import RetryWatch, TooManyRetries
from interruptible._testing.serve import extra, serve
from interruptible._testing.server import Server, tail

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

    Meanwhile `RESTATE_INGRESS_URL` says where it is, unless the environment has it already.

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
            with _named(restate.ingress_url):
                yield restate, watch
        finally:
            watching.cancel()
            await asyncio.wait({watching})
            if not watching.cancelled():
                watching.result()


@contextmanager
def _named(ingress: str) -> Generator[None]:
    """Have agents with a stream find the ingress."""
    name = "RESTATE_INGRESS_URL"
    if name in os.environ:
        yield
        return
    os.environ[name] = ingress
    try:
        yield
    finally:
        del os.environ[name]


@contextmanager
def _log_on_failure(restate: Restate) -> Generator[None]:
    try:
        yield
    except BaseException:
        sys.stderr.write(f"\nrestate-server's log ends:\n{tail(restate.logs())}\n")
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
    with extra():
        import httpx
    binary = await asyncio.to_thread(find_server)
    limits = httpx.Limits(max_connections=None)
    with tempfile.TemporaryDirectory(prefix="restate-", ignore_cleanup_errors=True) as folder:
        async with httpx.AsyncClient(timeout=None, limits=limits, trust_env=False) as http:  # noqa: S113
            server = Server(binary, Path(folder), env or {}, http, (ingress_port, admin_port))
            try:
                await server.start()
                yield Restate(server, http, always_replay=always_replay)
            finally:
                server.kill()


class Restate:
    """A running restate-server, as `fixture`, `harness` and `restate_server` yield it.

    Attributes:
        ingress_url: Where to call services.
        admin_url: Where its admin API and its web UI are.
        base_dir: The folder with its data and its log.
        client: Calls services; waits for as long as a call takes.
    """

    def __init__(self, server: Server, http: httpx.AsyncClient, *, always_replay: bool) -> None:
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


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{find_server()}\n")
    except ServerNotFound as error:
        sys.exit(str(error))
