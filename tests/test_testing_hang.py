"""What `interruptible.testing` does about a test that hangs, on a real restate-server."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import restate
from restate import InvocationRetryPolicy

from interruptible._testing import retries
from interruptible.testing import TooManyRetries, harness, restate_server, serve
from tests.server.process import group_exists

pytestmark = pytest.mark.anyio

DEADLINE = 20.0  # seconds, for what takes milliseconds
HANGING = 120.0  # seconds, for what takes ten

quickly = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=100),
    max_interval=timedelta(milliseconds=200),
    max_attempts=1000,
)
service = restate.Service("Failing", invocation_retry_policy=quickly)
failures_to_come = 0


@service.handler()
async def fail(ctx: restate.Context, why: str) -> str:
    del ctx
    global failures_to_come  # noqa: PLW0603
    failures_to_come -= 1
    if failures_to_come >= 0:
        raise ValueError(why)
    return "well"


@service.handler()
async def await_often(ctx: restate.Context) -> str:
    for number in range(8):
        await ctx.run_typed(f"step {number}", lambda: None)
        await ctx.sleep(timedelta(milliseconds=1))
    return "well"


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_FIRST_PAUSE", 0.03)
    monkeypatch.setattr(retries, "_LAST_PAUSE", 0.03)


def failing(times: int) -> restate.server_types.RestateAppT:
    global failures_to_come  # noqa: PLW0603
    failures_to_come = times
    return restate.app([service])


async def test_what_is_retried_in_vain_ends_the_block_that_hangs() -> None:
    task = asyncio.current_task()
    assert task
    with pytest.raises(TooManyRetries) as e:  # noqa: PT012
        async with harness(failing(1000)) as server:
            handle = await server.client.service_send(fail, "no \N{SNOWMAN}")
            await asyncio.Event().wait()

    text = str(e.value)
    assert text.startswith(f"Failing/fail ({handle.invocation_id}) has failed ")
    assert "If that is meant, raise `fail_on_retries`, which is 4." in text
    assert e.value.invocation_id == handle.invocation_id
    assert "ValueError: no \N{SNOWMAN}" in e.value.last_failure
    assert text.endswith(e.value.last_failure)
    assert any("Event().wait()" in str(entry.statement) for entry in e.traceback)  # where it hung
    if sys.version_info >= (3, 11):
        assert task.cancelling() == 0


async def test_a_call_ends_that_hangs_in_the_block_and_so_does_its_cleanup() -> None:
    cleanup_began = False
    with pytest.raises(TooManyRetries):  # noqa: PT012
        async with harness(failing(1000)) as server:
            try:
                await server.client.service_call(fail, "no")
            finally:
                cleanup_began = True
                await asyncio.Event().wait()
    assert cleanup_began


async def test_a_block_that_swallows_its_end_fails_all_the_same() -> None:
    with pytest.raises(TooManyRetries):
        async with harness(failing(1000)) as server:
            await asyncio.wait({asyncio.ensure_future(swallow(server.client.service_call))})


async def swallow(call: Any) -> None:
    try:
        await call(fail, "no")
    finally:
        return  # noqa: B012


async def test_what_fails_again_and_again_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []

    def is_said() -> bool:
        said.append(capsys.readouterr().err)
        return " times and is retried. The last failure: " in "".join(said)

    async with harness(failing(1000), fail_on_retries=None) as server:
        call = asyncio.ensure_future(server.client.service_call(fail, "not yet"))
        await until(is_said)
        failing(0)
        assert await call == "well"
    is_said()
    (line,) = (line for line in "".join(said).splitlines() if line.startswith("Failing/fail (inv_"))
    assert line.endswith("The last failure: [500 Internal] ValueError('not yet')")
    assert "restate-server's log ends" not in "".join(said)


async def test_what_fails_a_few_times_ends_nothing() -> None:
    async with harness(failing(4)) as server:
        assert await server.client.service_call(fail, "not yet") == "well"


@pytest.mark.parametrize("limit", [12, None])
async def test_how_often_is_too_often_can_be_chosen(limit: int | None) -> None:
    async with harness(failing(10), fail_on_retries=limit) as server:
        assert await server.client.service_call(fail, "not yet") == "well"


async def test_no_retry_at_all_can_be_asked_for() -> None:
    with pytest.raises(TooManyRetries, match="raise `fail_on_retries`, which is 0"):
        async with harness(failing(1000), fail_on_retries=0) as server:
            await server.client.service_call(fail, "no")


async def test_replays_are_no_retries() -> None:
    async with harness(failing(0), always_replay=True, fail_on_retries=0) as server:
        assert await server.client.service_call(await_often, None) == "well"


async def test_a_restart_of_the_server_does_not_end_the_watch() -> None:
    with pytest.raises(TooManyRetries):  # noqa: PT012
        async with harness(failing(1000)) as server:
            await server.restart(kill=True)
            await server.client.service_call(fail, "no")


PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull]

TESTS = """
import asyncio
import contextlib
from datetime import timedelta
import gc
import os
import pathlib
import re
import signal
import pytest
import restate
from restate import InvocationRetryPolicy
from interruptible._testing import retries
from interruptible.testing import fixture, harness

retries._FIRST_PAUSE = retries._LAST_PAUSE = 0.03
pytestmark = pytest.mark.anyio
quickly = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=100),
    max_interval=timedelta(milliseconds=200),
    max_attempts=1000,
)
service = restate.Service("Failing", invocation_retry_policy=quickly)

@service.handler()
async def fail(ctx: restate.Context, why: str) -> str:
    raise ValueError(why)

@service.handler()
async def succeed(ctx: restate.Context, text: str) -> str:
    return text

app = restate.app([service])

def say_where(*_) -> None:
    with pathlib.Path(__file__).with_suffix(".where").open("w") as where:
        for task in asyncio.all_tasks():
            print(file=where)
            at = task.get_coro()
            while at is not None:
                frame = getattr(at, "cr_frame", getattr(at, "ag_frame", None))
                print(at, frame and f"line {frame.f_lineno}", file=where)
                inner = (x for x in gc.get_referents(at) if hasattr(x, "ag_await"))
                at = getattr(at, "cr_await", getattr(at, "ag_await", next(inner, None)))

signal.signal(signal.SIGUSR1, say_where)
"""


def run_pytest(path: Path, *options: str) -> tuple[str, str]:
    """Run tests that begin with `TESTS`, to their end; if they hang, fail with where they do."""
    pipe = subprocess.PIPE
    command = [*PYTEST, *options, str(path)]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as tests:
        try:
            return tests.communicate(timeout=HANGING)
        except subprocess.TimeoutExpired:
            tests.send_signal(signal.SIGUSR1)
            time.sleep(1)  # a process that hangs tells of nothing
            tests.send_signal(signal.SIGABRT)  # pytest's faulthandler writes where each thread is
            out, err = tests.communicate(timeout=DEADLINE)
            where = path.with_suffix(".where")
            tasks = where.read_text() if where.exists() else "None of its tasks could be asked."
            pytest.fail(f"pytest hung.\n{out}\n{err}\n{tasks}", pytrace=False)
        finally:
            tests.kill()


FIXTURES = (
    TESTS
    + """
server = fixture(app)
shared = fixture(app, scope="module")
patient = fixture(app, fail_on_retries=None)

@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"

@pytest.fixture
async def around(server):
    yield
    print("torn down, and it answers:", await server.client.service_call(succeed, "yes"))

@pytest.fixture
async def own():
    async with harness(app) as running:
        yield running

async def until_retried(server, times) -> None:
    while not await server.invocations(f"retry_count > {times}"):
        await asyncio.sleep(0.02)

class TestIt:
    async def test_hangs(self, around, server) -> None:
        await server.client.service_send(fail, "for one")
        await asyncio.Event().wait()

async def test_waits(shared) -> None:
    await shared.client.service_call(fail, "for many")

async def test_shares(shared) -> None:
    (row,) = await shared.invocations("retry_count > 0")
    await until_retried(shared, row["retry_count"] + 2)
    assert await shared.client.service_call(succeed, "yes") == "yes"

async def test_fails(server) -> None:
    assert await server.client.service_call(succeed, "yes") == "no"

async def test_is_patient(patient) -> None:
    await patient.client.service_send(fail, "for the patient")
    await until_retried(patient, 8)

async def test_has_its_own(own) -> None:
    await own.client.service_send(fail, "for its own")
    await until_retried(own, 8)

def test_is_not_async(shared) -> None:
    pass
"""
)


def test_a_fixture_ends_the_tests_that_hang(tmp_path: Path) -> None:
    path = tmp_path / "test_it.py"
    path.write_text(FIXTURES)
    out, err = run_pytest(path, "-rA")
    report, summary = out.split("= short test summary info =")

    outcomes = {
        line.split("::", 1)[1].split(" ")[0]: line.split(" ")[0]
        for line in summary.splitlines()
        if "::" in line
    }
    assert outcomes == {
        "TestIt::test_hangs": "FAILED",
        "test_waits": "FAILED",
        "test_shares": "PASSED",
        "test_fails": "FAILED",
        "test_is_patient": "PASSED",
        "test_has_its_own": "PASSED",
        "test_is_not_async": "PASSED",
    }, out
    assert "ValueError('for the patient')" in err  # though pytest captures what tests say
    assert "ValueError('for its own')" not in err
    assert report.count("TooManyRetries: Failing/fail (inv_") == 2
    assert "torn down, and it answers: yes" in report
    assert report.count("restate-server's log ends:") == 3


HANGS = (
    TESTS
    + """
server = fixture(app)

@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"

async def test_hangs(server) -> None:
    assert await server.client.service_call(succeed, "yes") == "yes"
    print(server._server._process.pid, server.base_dir, flush=True)
    await asyncio.Event().wait()
"""
)


def test_sigterm_ends_a_test_that_hangs_and_its_server(tmp_path: Path) -> None:
    path = tmp_path / "test_it.py"
    path.write_text(HANGS)
    with subprocess.Popen([*PYTEST, "-qs", str(path)], stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout
        pid, folder = tests.stdout.readline().split()
        assert group_exists(int(pid))
        tests.terminate()
        try:
            assert tests.wait(DEADLINE) == -signal.SIGTERM
        finally:
            tests.kill()

    asyncio.run(until(lambda: not group_exists(int(pid)) and not Path(folder).exists()))


@pytest.fixture
async def signals(request: pytest.FixtureRequest) -> AsyncIterator[list[str]]:
    """A handler of SIGTERM, which notes each here, set by signal's or by asyncio's function."""
    seen: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    loop = asyncio.get_running_loop()
    if request.param == "signal":
        signal.signal(signal.SIGTERM, lambda *_: seen.append("signal"))
    else:
        loop.add_signal_handler(signal.SIGTERM, seen.append, "asyncio")
    yield seen
    loop.remove_signal_handler(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)


def mounted(app: Any) -> Any:
    """Keep an app from learning of the lifespan, as a framework does that mounts it."""

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)

    return mounted


@pytest.mark.parametrize("mount", [mounted, lambda app: app])
@pytest.mark.parametrize("signals", ["signal", "asyncio"], indirect=True)
async def test_a_handler_of_sigterm_stays_what_it_is(
    signals: list[str], mount: Callable[[Any], Any]
) -> None:
    async with restate_server() as server:
        async with serve(mount(failing(0))) as url:
            await server.register(url)
            assert await server.client.service_call(fail, "") == "well"
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: len(signals) == 1)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: len(signals) == 2)


async def test_a_handler_can_be_set_while_an_app_is_served() -> None:
    loop, seen = asyncio.get_running_loop(), list[str]()
    before = signal.getsignal(signal.SIGTERM)
    async with serve(failing(0)), serve(failing(0)):
        loop.add_signal_handler(signal.SIGTERM, seen.append, "asyncio")
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: seen == ["asyncio"])
    loop.remove_signal_handler(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_what_is_invoked_as_the_block_begins_is_of_it_though_the_servers_time_is_behind() -> (
    None
):
    asked: list[int] = []

    async def query(sql: str) -> list[dict[str, Any]]:
        since = re.search(r"to_timestamp_millis\((\d+)\)", sql)
        assert since is not None
        asked.append(int(since[1]))
        return []

    watch = retries.RetryWatch(query, 4, contextlib.nullcontext)
    with watch.ends_block():
        begun = time.time_ns() // 1_000_000
        await watch._look()
    assert asked[0] <= begun - 10  # one has been seen
