"""What the library relies on of the SDK and the server, and what of the SDK must go on working."""

import asyncio
import base64
import gc
import hashlib
import inspect
import re
import shutil
import weakref
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import restate
from restate import Context, TerminalError
from restate.server_context import ServerInvocationContext
from restate.vm import FirstCompletedUnresolvedFuture, SingleUnresolvedFuture, VMWrapper

from interruptible import Agent, Interrupted, Session, Task, cleanup, shield
from interruptible._cancel import sdk
from interruptible._cancel.watch import Watch
from interruptible.testing import Restate, restate_server, serve

from .conftest import LONG, Deploy, Log, eventually, normal_mode

pytestmark = pytest.mark.anyio


def test_the_sdk_has_the_methods_that_cancellation_replaces() -> None:
    poll = inspect.signature(ServerInvocationContext.create_poll_or_cancel_coroutine)
    assert list(poll.parameters) == ["self", "unresolved_future"]
    run = inspect.signature(ServerInvocationContext.create_run_coroutine)
    assert list(run.parameters)[:4] == ["self", "handle", "action", "serde"]
    source = inspect.getsource(ServerInvocationContext.create_poll_or_cancel_coroutine)
    assert 'raise TerminalError("cancelled", 409)' in source
    assert source.count("TerminalError(") == 1
    assert source.count("await self.receive()") == 1
    assert {"sys_run", "sys_call", "sys_send"} <= set(sdk.COMMANDS)


async def test_what_has_come_is_handed_out_one_thing_at_a_time_in_its_order(
    restate_env: Restate, deploy: Deploy
) -> None:
    """The fact that replays of what runs side by side rest on."""
    service = restate.Service("InOrder")
    attempts = iter(range(2))

    @service.handler()
    async def tell(ctx: Context, invocation: str) -> None:
        for name in ("three", "two", "one"):
            ctx.resolve_signal(invocation, name, True)
            await ctx.sleep(timedelta(milliseconds=20))

    @service.handler()
    async def work(ctx: Context) -> list[bool]:
        inside: Any = ctx
        ctx.service_send(tell, ctx.request().id)
        if next(attempts) == 0:
            await ctx.signal("one")
            raise RuntimeError("fails, so that all of them are there from the beginning")
        handles = [inside.vm.sys_signal(name) for name in ("one", "two", "three")]
        union = FirstCompletedUnresolvedFuture([])
        union.children[:] = [SingleUnresolvedFuture(handle) for handle in handles[:2]]
        await inside.create_poll_or_cancel_coroutine(union)
        assert isinstance(inside.receive._http_input_closed, asyncio.Event)
        return [inside.vm.is_completed(handle) for handle in handles]

    await deploy(service)
    assert await restate_env.client.service_call(work, None) == [False, True, True]


def test_it_can_be_seen_whether_an_event_loop_has_something_to_call() -> None:
    async def look() -> tuple[int, int]:
        callbacks = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
        before = len(callbacks)
        asyncio.get_running_loop().call_soon(lambda: None)
        return before, len(callbacks)

    assert asyncio.run(look()) == (0, 1)


async def test_a_cancellation_is_raised_once_outside_of_the_library(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    """The fact that level-triggering rests on."""
    service = restate.Service("Plain")

    @service.handler()
    async def work(ctx: Context) -> str:
        await log.add("waiting")
        with pytest.raises(TerminalError) as raised:
            await ctx.signal("never")
        assert type(raised.value) is TerminalError
        assert (raised.value.status_code, raised.value.message) == (409, "cancelled")
        return await ctx.run_typed("after", log.step, name="after", result="went on")

    await deploy(service)
    sent = await restate_env.client.service_send(work, None)
    await log.until("waiting")
    await restate_env.cancel(sent.invocation_id)
    await log.until("end", "after")


async def test_the_context_is_as_it_was_once_the_handler_has_ended(
    restate_env: Restate, deploy: Deploy
) -> None:
    """Otherwise it would be part of a circle, and what it received would stay for a long time."""
    service = restate.Service("Tidy")
    known: list[tuple[Any, dict[str, Any]]] = []

    @service.handler()
    async def work(ctx: Context) -> list[str]:
        known[:] = [(x, dict(vars(x))) for x in (ctx, vars(ctx)["vm"])]
        async with cleanup(ctx):
            await shield(ctx.run_typed("one", one))
        return [name for x, before in known for name in vars(x).keys() - before.keys()]

    async def one() -> int:
        return 1

    await deploy(service)
    replaced = await restate_env.client.service_call(work, None)
    methods = {"create_poll_or_cancel_coroutine", "create_run_coroutine"}
    assert set(replaced) == methods | {"give"}
    assert all(vars(x) == before for x, before in known)
    assert type(known[1][0]) is VMWrapper
    assert known[0][1]["extension_data"] == {}


@normal_mode
async def test_an_attempt_that_completes_is_freed_without_the_collector_of_garbage(
    restate_env: Restate, deploy: Deploy
) -> None:
    service = restate.Service("Freed")
    known: list[weakref.ref[Watch]] = []

    @service.handler()
    async def work(ctx: Context) -> None:
        known.append(weakref.ref(Watch.of(ctx)))
        async with cleanup(ctx):
            await shield(ctx.run_typed("one", one))
            await asyncio.gather(*(ctx.run_typed("more", one) for _ in range(2)))

    async def one() -> int:
        return 1

    async def is_freed() -> bool:
        return known[0]() is None

    await deploy(service)
    gc.disable()
    try:
        await restate_env.client.service_call(work, None)
        await eventually(is_freed)
    finally:
        gc.enable()


async def test_a_state_machine_that_somebody_else_has_wrapped_stays_so(
    restate_env: Restate, deploy: Deploy
) -> None:
    service = restate.Service("Wrapped")
    asked: list[str] = []

    class Noting(VMWrapper):
        def sys_run(self, name: str) -> Any:
            asked.append(name)
            return super().sys_run(name)

    @service.handler()
    async def work(ctx: Context) -> str:
        vm = vars(ctx)["vm"]
        vm.__class__ = Noting
        async with cleanup(ctx):
            await shield(ctx.run_typed("one", one))
            assert Watch.of(ctx).commands == 1
        return type(vm).__name__

    async def one() -> int:
        return 1

    await deploy(service)
    assert await restate_env.client.service_call(work, None) == "Noting"
    assert set(asked) == {"one"}


async def test_a_cancelled_invocation_is_what_restate_shows_as_cancelled(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    assert (Interrupted().message, Interrupted().status_code) == ("cancelled", 409)

    class ShownAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            await log.add("waiting")
            await ctx.signal("never")

    agent = ShownAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    receipt = await session.send("go")
    await log.until("waiting")
    await session.cancel()
    await session.attach()
    rows = await restate_env.invocations(f"id = '{receipt['task_id']}'")
    assert rows[0]["completion_failure"] == "[409] cancelled"


async def test_error_metadata_reaches_whoever_attaches(
    restate_env: Restate, deploy: Deploy
) -> None:
    service = restate.Service("Metadata")

    @service.handler()
    async def fail(ctx: Context) -> None:
        raise TerminalError("no", 418, metadata={"why": "x" * 100_000})

    @service.handler()
    async def ask(ctx: Context) -> int:
        handle = ctx.service_send(fail, None)
        try:
            await ctx.attach_invocation(await handle.invocation_id())
        except TerminalError as error:
            return len((error.metadata or {})["why"])
        return 0

    await deploy(service)
    assert await restate_env.client.service_call(ask, None) == 100_000


async def test_an_attach_to_an_invocation_that_never_was_is_answered(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    service = restate.Service("NeverWas")

    @service.handler()
    async def nothing(ctx: Context) -> None: ...

    @service.handler()
    async def ask(ctx: Context, invocation_id: str) -> int:
        try:
            await ctx.attach_invocation(invocation_id)
        except TerminalError as error:
            return error.status_code
        return 0

    await deploy(service)
    sent = await restate_env.client.service_send(nothing, None)

    async def over() -> bool:
        rows = await restate_env.invocations(f"id = '{sent.invocation_id}'")
        return bool(rows) and rows[0]["status"] == "completed"

    await eventually(over)
    await restate_env.purge(sent.invocation_id)

    async def gone() -> bool:
        return not await restate_env.invocations(f"id = '{sent.invocation_id}'")

    await eventually(gone)
    assert await restate_env.client.service_call(ask, sent.invocation_id) == 404


async def test_requests_that_restate_did_not_sign_are_refused(
    restate_env: Restate, deploy: Deploy
) -> None:
    class SignedAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            return "never"

    key = "publickeyv1_w7YHemBctH5Ck2nQRQ47iBBqhNHy4FV7t2Usbye2A6f"
    with pytest.raises(RuntimeError, match="401"):
        await deploy(SignedAgent(), identity_keys=[key])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the server's key")
async def test_requests_that_restate_signed_are_answered(tmp_path: Path) -> None:
    class TrustedAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            return "trusted"

    private = tmp_path / "key.pem"
    command = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", private]
    await (await asyncio.create_subprocess_exec(*command)).wait()
    env = {"RESTATE_REQUEST_IDENTITY_PRIVATE_KEY_PEM_FILE": str(private)}
    async with restate_server(env=env) as signing:
        key = re.search(r"publickeyv1_\w+", signing.logs())
        assert key is not None
        agent = TrustedAgent()
        app = restate.app(services=agent.services, identity_keys=[key[0]])
        async with serve(app) as url:
            await signing.register(url)
            outcome = await Session(signing.client, agent, "one").ask("hello")
    assert outcome["messages"] == [{"role": "assistant", "content": "trusted"}]


class Scrambled(getattr(restate, "JournalValueCodec", object)):  # type: ignore[misc]
    """A stand-in for encryption: nothing that goes through it can be read."""

    @staticmethod
    def _scramble(buf: bytes) -> bytes:
        stream = b"".join(
            hashlib.sha256(str(n).encode()).digest() for n in range(len(buf) // 32 + 1)
        )
        return bytes(a ^ b for a, b in zip(buf, stream, strict=False))

    def encode(self, buf: bytes) -> bytes:
        return b"enc:" + self._scramble(buf)

    async def decode(self, buf: bytes) -> bytes:
        assert buf[:4] == b"enc:", buf[:40]
        return self._scramble(buf[4:])


@pytest.mark.skipif(
    not hasattr(restate, "JournalValueCodec"), reason="this restate-sdk has no journal codec"
)
async def test_with_a_journal_codec_nothing_that_was_said_is_stored_in_the_clear(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    codec = Scrambled()

    class SecretAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            task.append("the plan is SECRET")
            seconds = LONG if task.turn == 1 else 0.0
            await ctx.run_typed("think", log.step, name=task.turn, seconds=seconds)
            seen = [m["content"] for m in task.messages]
            assert task.turn == 1 or seen[:2] == ["a SECRET", "the plan is SECRET"]
            return "my SECRET answer"

    agent = SecretAgent()
    await deploy(agent, journal_value_codec=codec)
    url = restate_env.ingress_url
    async with restate.create_client(url, journal_value_codec=codec) as client:
        session = Session(client, agent, "one")
        await session.send("a SECRET")
        await log.until("begin", 1)
        assert (await session.ask("another SECRET"))["status"] == "completed"
        interrupted = await session.attach(1)
        assert interrupted["messages"] == [{"role": "assistant", "content": "the plan is SECRET"}]
        history = [m["content"] for m in await session.history() if "SECRET" in m["content"]]
        assert len(history) == 5
    sql = (
        "SELECT j.raw FROM sys_journal j JOIN sys_invocation i ON i.id = j.id "
        "WHERE i.target_service_name IN ('SecretAgent', 'SecretTask')"
    )
    raws = [_raw(row["raw"]) for row in await restate_env.query(sql)]
    state = "SELECT value FROM state WHERE service_name = 'SecretAgent'"
    raws += [_raw(row["value"]) for row in await restate_env.query(state)]
    assert len(raws) > 20
    assert not [raw for raw in raws if b"SECRET" in raw]


def _raw(value: Any) -> bytes:
    try:
        return bytes.fromhex(value)
    except ValueError:
        return base64.b64decode(value)


async def test_no_handler_is_sent_all_of_the_state(restate_env: Restate, deploy: Deploy) -> None:
    class StateAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            return "ok"

    agent = StateAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.ask("one")
    await session.ask("two")  # the conversation is at hand
    await session.ask("x" * 10_000)
    await session.ask("three")  # it has to be loaded
    await session.fork("two")
    sql = (
        "SELECT i.target_handler_name AS name, j.entry_type AS entry FROM sys_journal j "
        "JOIN sys_invocation i ON i.id = j.id WHERE i.target_service_name = 'StateAgent' "
        "AND j.entry_type LIKE 'Command: Get%'"
    )
    reads = {(row["name"], row["entry"]) for row in await restate_env.query(sql)}
    lazy = {name for name, entry in reads if entry == "Command: GetLazyState"}
    eager = {name for name, entry in reads if entry == "Command: GetEagerState"}
    assert {"message", "settle", "attach", "fork"} <= lazy
    assert eager == set()


async def test_side_by_side_awaits_survive_a_shielded_one_in_another_branch(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    """A cancellation wakes the branch that is not shielded and leaves the shielded one alone."""
    service = restate.Service("Branches")
    release = asyncio.Event()

    async def save() -> str:
        await log.add("saving")
        await release.wait()
        return "saved"

    @service.handler()
    async def work(ctx: Context) -> None:
        async def shielded() -> str:
            return await shield(ctx.run_typed("save", save))

        async def open_to_it() -> str:
            try:
                return await ctx.signal("never", type_hint=str)
            except Interrupted:
                return "interrupted"

        async with cleanup(ctx):
            await log.add("both", *await asyncio.gather(shielded(), open_to_it()))

    await deploy(service)
    sent = await restate_env.client.service_send(work, None)
    await log.until("saving")
    await restate_env.cancel(sent.invocation_id)
    release.set()

    async def over() -> Any:
        rows = await restate_env.invocations(f"id = '{sent.invocation_id}'")
        return rows[0].get("completion_failure")

    assert await eventually(over) == "[409] cancelled"
    assert log.of("both")[-1] == ("both", "saved", "interrupted")
