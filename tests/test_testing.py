"""What `interruptible.testing` promises, on a real restate-server."""

import asyncio
import contextlib
import gc
import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import restate
from h2.connection import H2Connection
from h2.events import StreamEnded

from interruptible import Session, Task, agent, testing
from interruptible._testing import serve as serving
from interruptible._testing import server as process
from interruptible.stream import Stream
from interruptible.testing import (
    AdminError,
    Restate,
    ServerNotFound,
    find_server,
    fixture,
    harness,
    restate_server,
    serve,
)
from tests.server.process import group_exists

pytestmark = pytest.mark.anyio

DEADLINE = 20.0  # seconds, for what takes milliseconds

service = restate.Service("Echo", inactivity_timeout=timedelta(minutes=5))
events: list[str] = []


@service.handler()
async def echo(ctx: restate.Context, text: str) -> str:
    del ctx
    return text


@service.handler()
async def await_thrice(ctx: restate.Context, text: str) -> str:
    events.append("attempt")
    await ctx.sleep(timedelta(milliseconds=1))
    await ctx.run_typed("shout", text.upper)
    return await ctx.service_call(echo, text)


@service.handler(inactivity_timeout=timedelta(minutes=6))
async def await_thrice_patiently(ctx: restate.Context, text: str) -> str:
    return await await_thrice(ctx, text)


@service.handler()
async def wait(ctx: restate.Context, text: str) -> str:
    events.append("attempt")
    _, answer = ctx.awakeable(type_hint=str)
    try:
        return text + await answer
    except BaseException as error:
        events.append(type(error).__name__)
        raise


app = restate.app([service])
fixed = fixture(app)


@pytest.fixture(autouse=True)
def _nothing_has_happened() -> None:
    events.clear()


async def test_a_fixture_answers_calls_of_the_app(fixed: Restate) -> None:
    assert await fixed.client.service_call(echo, "Ada") == "Ada"


async def test_many_calls_run_at_once(fixed: Restate) -> None:
    assert fixed.client.client.timeout == httpx.Timeout(None)  # type: ignore[attr-defined]
    calls = [asyncio.ensure_future(fixed.client.service_call(wait, "Ada")) for _ in range(110)]
    await until(lambda: events == ["attempt"] * 110)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)


async def test_invocations_are_listed_oldest_first() -> None:
    async with harness(app) as server:
        await server.client.service_call(echo, "Ada")
        await server.client.service_call(await_thrice, "Ada", idempotency_key="once")

        shown = ("target", "status", "completion_result", "invoked_by_target")
        assert [[row.get(column) for column in shown] for row in await server.invocations()] == [
            ["Echo/echo", "completed", "success", None],
            ["Echo/await_thrice", "completed", "success", None],
            ["Echo/echo", "completed", "success", "Echo/await_thrice"],
        ]
        (row,) = await server.invocations("idempotency_key = 'once'")
        assert row["target"] == "Echo/await_thrice"
        assert await server.query("SELECT name FROM sys_service") == [{"name": "Echo"}]


async def test_a_cancelled_invocation_fails_at_its_await() -> None:
    async with harness(app) as server:
        invocation = await begin(server)
        await server.cancel(invocation)

        row = await until_status(server, invocation, "completed")
        assert row["completion_failure"] == "[409] cancelled"
        assert events == ["attempt", "TerminalError"]


async def test_a_killed_invocation_loses_its_connection() -> None:
    async with harness(app) as server:
        invocation = await begin(server)
        await server.kill(invocation)

        row = await until_status(server, invocation, "completed")
        assert row["completion_failure"] == "[409] killed"
        await until(lambda: len(events) > 1)
        assert events == ["attempt", "DisconnectedException"]


async def test_a_paused_invocation_goes_on_when_resumed() -> None:
    async with harness(app) as server:
        invocation = await begin(server)
        await server.pause(invocation)
        await until_status(server, invocation, "paused")
        assert events == ["attempt", "SuspendedException"]

        await server.resume(invocation)
        await until_status(server, invocation, "running")
        await until(lambda: events.count("attempt") > 1)
        assert events == ["attempt", "SuspendedException", "attempt"]


async def test_a_purged_invocation_is_forgotten() -> None:
    async with harness(app) as server:
        await server.client.service_call(echo, "Ada")
        (row,) = await server.invocations()
        await server.purge(row["id"])

        assert await server.invocations() == []


async def test_the_server_says_why_it_refuses() -> None:
    async with harness(app) as server:
        invocation = await begin(server)
        with pytest.raises(
            AdminError, match=r"/purge was refused with 409: .*not yet completed"
        ) as e:
            await server.purge(invocation)
        assert e.value.status_code == 409

        with pytest.raises(AdminError, match="/deployments was refused with"):
            await server.register(f"http://127.0.0.1:{closed_port()}")


async def test_a_known_address_is_looked_at_again_only_by_force() -> None:
    growing = restate.Service("Growing")
    apps = [restate.app([growing])]

    async def newest(scope: Any, receive: Any, send: Any) -> None:
        await apps[-1](scope, receive, send)

    @growing.handler()
    async def old(ctx: restate.Context) -> None: ...

    async def handlers(*, force: bool) -> list[str]:
        await server.register(url, force=force)
        service = await server.client.client.get(f"{server.admin_url}/services/Growing")  # type: ignore[attr-defined]
        return sorted(each["name"] for each in service.json()["handlers"])

    async with restate_server() as server, serve(newest) as url:
        assert await handlers(force=False) == ["old"]

        @growing.handler()
        async def new(ctx: restate.Context) -> None: ...

        apps.append(restate.app([growing]))
        assert await handlers(force=False) == ["old"]
        assert await handlers(force=True) == ["new", "old"]


@pytest.mark.parametrize("kill", [False, True])
async def test_a_restart_keeps_ports_and_data(kill: bool) -> None:
    async with harness(app) as server:
        urls = server.ingress_url, server.admin_url
        await server.client.service_call(echo, "Ada")
        before = await server.invocations()
        invocation = await begin(server)

        await server.restart(kill=kill)
        await until(lambda: events.count("attempt") > 1)

        assert (server.ingress_url, server.admin_url) == urls
        assert await server.invocations("status = 'completed'") == before
        assert await server.client.service_call(echo, "Bob") == "Bob"
        await until_status(server, invocation, "running")
        assert events == ["attempt", "DisconnectedException", "attempt"]
        assert server.logs().count("Starting Restate Server") == 2
        assert server.logs().count("Received signal, starting shutdown") == (0 if kill else 1)


@pytest.mark.parametrize("handler", [await_thrice, await_thrice_patiently])
async def test_always_replay_replays_at_every_await(handler: Any) -> None:
    async with harness(app, always_replay=True) as server:
        assert await server.client.service_call(handler, "Ada") == "Ada"
        assert events == ["attempt"] * 4

    events.clear()
    async with harness(app) as server:
        assert await server.client.service_call(handler, "Ada") == "Ada"
        assert events == ["attempt"]


async def test_always_replay_refuses_what_it_cannot_replay() -> None:
    async with serve(restate.app([service], protocol="bidi")) as url:
        async with restate_server() as server:
            await server.register(url)
        async with restate_server(always_replay=True) as server:
            with pytest.raises(
                ValueError, match=f'{url} cannot replay always: its app has protocol="bidi"'
            ):
                await server.register(url)


async def test_two_servers_side_by_side_share_nothing() -> None:
    async with harness(app) as one, harness(app) as other:
        await one.client.service_call(echo, "Ada")

        assert len(await one.invocations()) == 1
        assert await other.invocations() == []
        assert one.base_dir != other.base_dir


async def test_a_port_that_somebody_takes_first_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with restate_server() as first:
        taken = tuple(int(url.rpartition(":")[2]) for url in (first.ingress_url, first.admin_url))
        choices = [(*taken, closed_port()), process.free_ports()]
        monkeypatch.setattr(process, "free_ports", lambda *_: choices.pop(0))

        async with restate_server() as second:
            assert not choices
            assert second.admin_url != first.admin_url
            assert await second.query("SELECT name FROM sys_service") == []


async def test_a_server_that_is_up_answers_queries_at_once() -> None:
    async with restate_server() as server:
        assert await server.invocations() == []
        await server.restart(kill=True)
        assert await server.invocations() == []


async def test_the_environment_configures_other_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTATE_SHUTDOWN_TIMEOUT", "no such time")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")

    async with harness(app, env={"RESTATE_NODE_NAME": "ada"}) as server:
        assert await server.client.service_call(echo, "Ada") == "Ada"
        assert (server.base_dir / "ada").is_dir()


async def test_a_server_that_does_not_start_shows_its_log() -> None:
    with pytest.raises(RuntimeError, match=r"did not start(.|\n)*no such format"):
        async with restate_server(env={"RESTATE_LOG_FORMAT": "no such format"}):
            pytest.fail("it started")


async def test_a_failing_block_shows_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with harness(app) as server:
            folder = server.base_dir
            _ = 1 / 0

    assert "Starting Restate Server" in capsys.readouterr().err
    assert not folder.exists()


def test_no_server_outlives_a_killed_test_process() -> None:
    program = (
        "import asyncio\n"
        "from interruptible.testing import restate_server\n"
        "async def main():\n"
        "    async with restate_server() as server:\n"
        "        print(server._server._process.pid, server.base_dir, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        pid, folder = process.stdout.readline().split()
        assert group_exists(int(pid))
        assert Path(folder).is_dir()
        process.kill()

    asyncio.run(until(lambda: not group_exists(int(pid)) and not Path(folder).exists()))


async def test_serve_is_quiet(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level("INFO"):
        async with serve(app) as url, httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{url}/health")).json() == {"status": "ok"}

    assert [record.name for record in caplog.records if record.name != "httpx"] == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kill", [False, True])
async def test_serve_hangs_up_on_what_still_runs(kill: bool) -> None:
    async with restate_server() as server:
        async with serve(app) as url:
            await server.register(url)
            invocation = await begin(server)
            if kill:  # after which hypercorn does not take the connection for idle
                await server.kill(invocation)
                await until(lambda: len(events) > 1)
            left = time.monotonic()
        assert time.monotonic() - left < serving._HANG_UP_TIMEOUT / 4
        await until(lambda: len(events) > 1)
        assert events == ["attempt", "DisconnectedException"]


async def test_serve_says_why_an_app_did_not_start() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": f"no {scope['type']}"})

    async with restate_server() as server:
        with pytest.raises(Exception, match="no lifespan"):
            async with serve(broken) as url:
                await server.register(url)


async def test_serve_cancels_an_app_that_ignores_the_lost_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "_HANG_UP_TIMEOUT", 0.2)
    deaf = asyncio.Event()

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        del send
        while scope["type"] == "http" and not deaf.is_set():
            await receive()
            events.append("attempt")
            try:
                await deaf.wait()
            except asyncio.CancelledError:
                events.append("cancelled")
                raise

    async with httpx.AsyncClient(trust_env=False) as client:
        async with serve(stubborn) as url:
            call = asyncio.ensure_future(client.get(url))
            await until(lambda: events == ["attempt"])
            left = time.monotonic()
        assert time.monotonic() - left < 2.0  # of which 0.2 are the timeout
        assert events == ["attempt", "cancelled"]
        with pytest.raises(httpx.RemoteProtocolError):
            await call


class TestFindServer:
    """`find_server`, with an environment of its own."""

    @pytest.fixture(autouse=True)
    def _bare(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "bin").mkdir()
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        monkeypatch.setenv("RESTATE_NPM_DIR", str(tmp_path / "npm"))
        monkeypatch.delenv("RESTATE_SERVER", raising=False)

    def test_takes_what_the_environment_names(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("RESTATE_SERVER", str(program(tmp_path / "mine")))
        program(tmp_path / "bin/restate-server")
        assert find_server() == tmp_path / "mine"

    def test_refuses_a_name_that_is_no_program(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RESTATE_SERVER", "/no/such")
        with pytest.raises(ServerNotFound, match="RESTATE_SERVER is /no/such, which is no program"):
            find_server()

    def test_takes_the_one_on_the_path(self, tmp_path: Path) -> None:
        found = program(tmp_path / "bin/restate-server")
        assert find_server() == found

    def test_sees_through_the_wrapper_of_npm(self, tmp_path: Path) -> None:
        modules = tmp_path / "lib/node_modules"
        native = program(modules / "@restatedev/restate-server-linux-x64/bin/restate-server")
        wrapper = program(modules / "@restatedev/restate-server/lib/index.js")
        (tmp_path / "bin/restate-server").symlink_to(wrapper)
        assert find_server() == native

    def test_without_npm_says_what_to_do(self) -> None:
        with pytest.raises(ServerNotFound) as e:
            find_server()
        assert str(e.value) == (
            "restate-server not found: it is not on the PATH, and there is no npm to install it. "
            "Install Node.js (npm), put restate-server on the PATH, or set RESTATE_SERVER."
        )

    def test_installs_once_however_many_ask(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        program(tmp_path / "bin/npm", FAKE_NPM.format(calls=tmp_path / "calls"))
        with ThreadPoolExecutor(4) as pool:
            found = [each.result() for each in [pool.submit(find_server) for _ in range(4)]]

        assert found == [tmp_path / "npm/node_modules/.bin/restate-server"] * 4
        wanted = "@restatedev/restate-server@1.7.12 @restatedev/restate@1.7.12"
        calls = (tmp_path / "calls").read_text()
        assert calls == f"--ignore-scripts --no-audit --no-fund {wanted}\n"
        said = f"installing restate-server 1.7.12 from npm into {tmp_path}/npm (about 400 MB, once)"
        assert capfd.readouterr() == ("", f"{said}\nadded 2 packages\n")
        assert sorted(each.name for each in (tmp_path / "npm").iterdir()) == [
            ".lock",
            "node_modules",
        ]

    def test_says_that_npm_failed(self, tmp_path: Path) -> None:
        program(tmp_path / "bin/npm", "#!/bin/sh\nexit 1\n")
        with pytest.raises(ServerNotFound, match="npm could not install it"):
            find_server()

    @pytest.mark.parametrize("exists", [False, True])
    def test_is_what_the_module_prints(self, tmp_path: Path, exists: bool) -> None:
        if exists:
            program(tmp_path / "bin/restate-server")
        command = [sys.executable, "-m", "interruptible.testing"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)

        assert done.stdout == (f"{tmp_path}/bin/restate-server\n" if exists else "")
        assert done.returncode == (0 if exists else 1)
        assert done.stderr.count("\n") == (0 if exists else 1)


@pytest.mark.parametrize(("module", "use"), [("httpx", restate_server), ("hypercorn", serve)])
async def test_a_lacking_extra_is_named(
    module: str, use: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [module, *(name for name in sys.modules if name.startswith(f"{module}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'restate-interruptible\[testing\]'"):
        async with use(*([app] if use is serve else [])):
            pytest.fail("it did without")


def test_all_that_is_public_is_there() -> None:
    own = {
        name
        for name, it in vars(testing).items()
        if getattr(it, "__module__", "").startswith(("interruptible.testing", "interruptible._te"))
    }
    private = {"RetryWatch", "Server", "extra", "tail"}
    assert {name for name in own - private if not name.startswith("_")} == set(testing.__all__)


async def begin(server: Restate) -> str:
    """Start an invocation that waits, and return its id once it does."""
    handle = await server.client.service_send(wait, "Ada")
    await until(lambda: events == ["attempt"])
    return handle.invocation_id


async def until_status(server: Restate, invocation: str, status: str) -> dict[str, Any]:
    deadline = time.monotonic() + DEADLINE
    while True:
        (row,) = await server.invocations(f"id = '{invocation}'")
        if row["status"] == status:
            return row
        assert time.monotonic() < deadline, row
        await asyncio.sleep(0.02)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def closed_port() -> int:
    return process.free_ports()[0]


def program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


# npm install --prefix <folder> …: as slow and as careless as the real one.
FAKE_NPM = """#!/bin/sh
shift 2
folder="$1"
shift
echo "$@" >> {calls}
/bin/mkdir -p "$folder/node_modules/.bin"
/bin/sleep 0.2
echo 'added 2 packages'
echo '#!/bin/sh' > "$folder/node_modules/.bin/restate-server"
/bin/chmod +x "$folder/node_modules/.bin/restate-server"
"""


async def test_of_what_breaks_as_serve_ends_only_the_late_requests_of_hypercorn_are_ignored() -> (
    None
):
    told: list[Any] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    broken = []
    for where in ("site-packages/hypercorn/protocol/h2.py", "app.py"):
        try:
            exec(compile("{}[7]", where, "exec"))  # noqa: S102
        except KeyError as error:
            broken.append(error)
    try:
        with serving._late_requests_ignored():
            for error in broken:
                loop.call_exception_handler({"message": "", "exception": error})
    finally:
        loop.set_exception_handler(before)
    assert told == broken[1:]


async def test_data_of_a_request_that_is_over_fails_no_test() -> None:
    """Restate sends some, and hypercorn ends the connection by a KeyError then."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"over"})

    async with serve(answer) as url:  # type: ignore[arg-type]
        where = urlsplit(url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        client = H2Connection()
        client.initiate_connection()
        pseudo = {":method": "POST", ":path": "/", ":scheme": "http", ":authority": "x"}
        client.send_headers(1, [*pseudo.items()])
        writer.write(client.data_to_send())
        ended = False
        while not ended:
            events = client.receive_data(await asyncio.wait_for(reader.read(65536), 30))
            ended = any(isinstance(x, StreamEnded) for x in events)
        client.send_data(1, b"late")
        writer.write(client.data_to_send())
        while await asyncio.wait_for(reader.read(65536), 30):
            pass
        writer.close()


@pytest.mark.parametrize("steps", range(25))
async def test_a_connection_that_comes_as_serve_ends_is_closed(steps: int) -> None:
    """After any number of steps of the event loop; in one of them the server closes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        pass

    async def come_late(where: Any) -> socket.socket | None:
        for _ in range(steps):
            await asyncio.sleep(0)
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection((where.hostname, where.port))
        return None

    async with serve(app) as url:  # type: ignore[arg-type]
        coming = asyncio.create_task(come_late(urlsplit(url)))
    if came := await coming:
        came.close()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        gc.collect()
    assert not told, told[0].message


@agent(stream=Stream())
async def hummer(ctx: restate.Context, task: Task) -> str:
    async def hum(say: Callable[[str | None], None]) -> str:
        say("Hm")
        return await asyncio.wait_for(heard.get(), DEADLINE)

    return await ctx.run_typed("hum", hum, say=task.partial)


heard: asyncio.Queue[str] = asyncio.Queue()


async def test_an_agent_with_a_stream_finds_the_ingress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESTATE_INGRESS_URL", raising=False)
    async with harness(restate.app(services=hummer.services)) as running:
        session = Session(running.client, hummer, "ada")
        await session.send("Hum.")
        async for event in session.follow():
            if event["type"] == "text":
                heard.put_nowait(event["text"])
            if event["type"] == "turn" and event["state"] == "ends":
                break
        assert (await session.attach())["messages"] == [{"role": "assistant", "content": "Hm"}]
    assert "RESTATE_INGRESS_URL" not in os.environ
