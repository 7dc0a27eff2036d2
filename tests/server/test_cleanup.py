"""`cleanup` and `shield`: in an agent's `run`, and in handlers that somebody wrote by hand."""

import asyncio
import contextlib
import json
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
import restate
from restate import Context, ObjectContext, TerminalError

from interruptible import Agent, Interrupted, Session, Task, cleanup, shield
from interruptible._session import effects
from interruptible.testing import Restate

from .conftest import LONG, REPLAY, Deploy, Log, eventually, is_idle, normal_mode

pytestmark = pytest.mark.anyio

CODE = 409


async def ended(env: Restate, invocation_id: str) -> dict[str, Any]:
    """The row of an invocation, once it is over."""

    async def look() -> Any:
        rows = await env.invocations(f"id = '{invocation_id}'")
        return rows[0] if rows and rows[0]["status"] == "completed" else None

    return await eventually(look)


async def test_the_agent_answers_while_a_cleanup_runs_and_the_next_turn_waits_for_it(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    release = asyncio.Event()

    async def undo() -> None:
        await log.add("cleaning")
        await release.wait()
        await log.add("cleaned")

    class SlowCleanupAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            async with cleanup(ctx) as steps:
                steps.on_interrupt("undo", undo)
                seconds = LONG if task.turn == 1 else 0.0
                await ctx.run_typed("think", log.step, name=task.turn, seconds=seconds)

    agent = SlowCleanupAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("begin", 1)
    await session.send("second")
    await log.until("cleaning")
    # All of this is answered although the cleanup cannot end before `release` is set.
    status = await session.status()
    assert (status["status"], [x["turn"] for x in status["live"]]) == ("running", [1, 2])
    assert status["live"][0]["cancelled"] == "interrupted by turn 2"
    assert [m["content"] for m in await session.history()] == ["first", "second"]
    assert await session.cancel() == [2]
    assert (await session.send("third"))["interrupted"] == []
    release.set()
    assert (await session.attach())["status"] == "completed"
    assert log.of("begin", "cleaning", "cleaned") == [
        ("begin", 1),
        ("cleaning",),
        ("cleaned",),
        ("begin", 3),
    ]


async def test_a_cleanup_may_call_the_handlers_of_its_own_agent(
    restate_env: Restate, deploy: Deploy, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_at_the_clock_for_long() -> int:
        await asyncio.sleep(0.3)
        return int(time.time() * 1000)

    # Nobody is cancelled before it is on record by what.
    monkeypatch.setattr(effects, "_time", look_at_the_clock_for_long)

    class SelfishAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            if task.turn == 1:
                await ctx.run_typed("think", log.step, name=1, seconds=LONG)

        async def on_interrupted(self, ctx: Context, task: Task) -> None:
            session = Session(ctx, self, task.session)
            history, status = await session.history(), await session.status()
            texts = [message["content"] for message in history]
            live = [x["turn"] for x in status["live"]]
            by = (await task.cause()).turn
            await ctx.run_typed("note", log.add, restate.RunOptions(), "seen", texts, live, by)

    agent = SelfishAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("begin", 1)
    assert (await session.ask("second"))["status"] == "completed"
    assert log.of("seen") == [("seen", ["first", "second"], [1, 2], 2)]


async def test_three_cancellations_during_a_cleanup_break_off_none_of_its_steps(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    go = asyncio.Event()

    async def undo(number: int) -> None:
        await log.add("undo", number)
        if number == 3:
            await go.wait()
        await log.add("undone", number)

    class ShieldedAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            async with cleanup(ctx) as steps:
                for number in (1, 2, 3):
                    steps.on_exit(f"undo {number}", undo, number)
                await ctx.run_typed("think", log.step, name="think", seconds=LONG)

    agent = ShieldedAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    receipt = await session.send("first")
    await log.until("begin", "think")
    await session.cancel()
    await log.until("undo", 3)
    for _ in range(3):
        await restate_env.cancel(receipt["task_id"])

    async def arrived() -> bool:
        where = f"id = '{receipt['task_id']}' AND entry_type LIKE '%Signal%'"
        return len(await restate_env.query(f"SELECT id FROM sys_journal WHERE {where}")) >= 4  # noqa: S608

    await eventually(arrived)
    go.set()
    assert (await session.attach())["status"] == "interrupted"
    order = [("undo", 3), ("undone", 3), ("undo", 2), ("undone", 2), ("undo", 1), ("undone", 1)]
    assert log.of("undo", "undone") == order
    assert (await ended(restate_env, receipt["task_id"]))["completion_failure"] == (
        "[409] cancelled"
    )


class Kinds:
    """A handler written by hand, which notes which cleanup steps run."""

    def __init__(self, log: Log, name: str) -> None:
        self.service = restate.Service(
            name, invocation_retry_policy=restate.InvocationRetryPolicy(max_attempts=3)
        )

        async def undo(kind: str) -> None:
            await log.add("undo", kind)

        @self.service.handler()
        async def work(ctx: Context, how: str) -> str:
            async with cleanup(ctx) as steps:
                steps.on_exit("exit", undo, "exit")
                steps.on_error("error", undo, "error")
                steps.on_interrupt("interrupt", undo, "interrupt")
                if how == "fails":
                    raise TerminalError("no luck", 418)
                if how == "fails inside":
                    try:
                        raise TerminalError("no luck", 418)  # noqa: TRY301
                    except TerminalError as error:
                        raise RuntimeError("wrapped") from error
                if how == "waits":
                    await log.add("waiting")
                    await ctx.signal("never")
                if how == "suspends":
                    await ctx.sleep(timedelta(milliseconds=50))
                return how

        self.work = work


async def test_which_steps_run_depends_on_how_a_hand_written_handler_ends(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    kinds = Kinds(log, "HandWritten")
    await deploy(kinds.service)
    for how in ("returns", "suspends"):
        assert await restate_env.client.service_call(kinds.work, how) == how
        assert log.events == [("undo", "exit")]
        log.events.clear()
    for how in ("fails", "fails inside"):
        with pytest.raises(restate.HttpError, match="418"):
            await restate_env.client.service_call(kinds.work, how)
        assert log.events == [("undo", "error"), ("undo", "exit")]
        log.events.clear()
    sent = await restate_env.client.service_send(kinds.work, "waits")
    await log.until("waiting")
    await restate_env.cancel(sent.invocation_id)
    row = await ended(restate_env, sent.invocation_id)
    assert row["completion_failure"] == "[409] cancelled"
    assert log.of("undo") == [("undo", "interrupt"), ("undo", "error"), ("undo", "exit")]


async def test_an_attempt_that_is_retried_runs_no_cleanup(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    service = restate.Service("Retried")
    attempts: list[int] = []

    async def undo() -> None:
        await log.add("undo")

    @service.handler()
    async def work(ctx: Context) -> str:
        async with cleanup(ctx) as steps:
            steps.on_exit("undo", undo)
            attempts.append(1)
            if len(attempts) == 1:
                raise RuntimeError("try again")
            return "done"

    await deploy(service)
    assert await restate_env.client.service_call(work, None) == "done"
    assert len(attempts) >= 2
    assert log.events == [("undo",)]


async def test_nested_cleanups_run_from_the_inside_out(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    service = restate.Service("Nested")

    async def undo(where: str) -> None:
        await log.add("undo", where)

    @service.handler()
    async def work(ctx: Context) -> None:
        async with cleanup(ctx) as outer:
            outer.on_interrupt("outer", undo, "outer")
            async with cleanup(ctx) as inner:
                inner.on_interrupt("inner", undo, "inner")
                await log.add("waiting")
                await ctx.signal("never")

    await deploy(service)
    sent = await restate_env.client.service_send(work, None)
    await log.until("waiting")
    await restate_env.cancel(sent.invocation_id)
    row = await ended(restate_env, sent.invocation_id)
    assert row["completion_failure"] == "[409] cancelled"
    assert log.of("undo") == [("undo", "inner"), ("undo", "outer")]


async def test_a_step_that_fails_for_good_is_reported_and_does_not_stop_the_rest(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def fail() -> None:
        await log.add("fail")
        raise TerminalError("the disk is gone")

    async def undo() -> None:
        await log.add("undo")

    class FailingCleanupAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            async with cleanup(ctx) as steps:
                steps.on_exit("undo", undo)
                steps.on_exit("fail", fail)
                if task.input[0]["content"] == "fails":
                    raise TerminalError("out of money", 402)
                if task.input[0]["content"] == "waits":
                    await log.add("waiting")
                    await ctx.signal("never")

    agent = FailingCleanupAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")

    outcome = await session.ask("fails")
    assert (outcome["status"], outcome.get("error")) == ("failed", "out of money")
    assert log.events == [("fail",), ("undo",)]

    log.events.clear()
    receipt = await session.send("waits")
    await log.until("waiting")
    await session.cancel()
    assert (await session.attach())["status"] == "interrupted"
    assert log.of("fail", "undo") == [("fail",), ("undo",)]
    told = await metadata_of(restate_env, deploy, receipt["task_id"])
    assert json.loads(told["cleanup_failed"]) == [{"step": "fail", "error": "the disk is gone"}]

    outcome = await session.ask("returns")
    assert (outcome["status"], outcome.get("error")) == (
        "failed",
        "Cleanup failed: the disk is gone",
    )


async def metadata_of(env: Restate, deploy: Deploy, invocation_id: str) -> dict[str, str]:
    """The metadata of the error that an invocation ended with, as whoever attaches sees it."""
    service = restate.Service("Asker")

    @service.handler()
    async def ask(ctx: Context, invocation_id: str) -> dict[str, str]:
        try:
            await ctx.attach_invocation(invocation_id)
        except TerminalError as error:
            return error.metadata or {}
        return {}

    await deploy(service)
    return await env.client.service_call(ask, invocation_id)


@normal_mode
async def test_a_cleanup_that_outlasts_its_timeout_is_cut_off_and_reported(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def undo(name: str, seconds: float = 0.0) -> None:
        await log.step(name, seconds)

    class TimeoutAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            if task.turn > 1:
                return
            async with cleanup(ctx, timeout=timedelta(milliseconds=300)) as steps:
                steps.on_exit("never run", undo, "never run")
                steps.on_exit("too slow", undo, "too slow", seconds=LONG)
                steps.on_exit("quick", undo, "quick")
                await log.add("waiting")
                await ctx.signal("never")

    agent = TimeoutAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    receipt = await session.send("first")
    await log.until("waiting")
    assert (await session.ask("second"))["status"] == "completed"
    assert log.of("begin", "end", "abort") == [
        ("begin", "quick"),
        ("end", "quick"),
        ("begin", "too slow"),
        ("abort", "too slow"),
    ]
    told = await metadata_of(restate_env, deploy, receipt["task_id"])
    assert json.loads(told["cleanup_failed"]) == [
        {"step": "too slow", "error": "not done within 0:00:00.300000"},
        {"step": "never run", "error": "not run: the timeout was over"},
    ]


async def test_a_turn_waits_for_a_cleanup_no_longer_than_the_cleanup_timeout(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    release = asyncio.Event()

    async def undo() -> None:
        await log.add("cleaning")
        await release.wait()

    class ImpatientAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            if task.turn == 1:
                async with cleanup(ctx) as steps:
                    steps.on_interrupt("undo", undo)
                    await log.add("waiting")
                    await ctx.signal("never")

    agent = ImpatientAgent(cleanup_timeout=timedelta(milliseconds=300))
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("waiting")
    assert (await session.ask("second"))["status"] == "completed"
    assert [x["turn"] for x in (await session.status())["live"]] == [1]
    release.set()
    assert (await session.attach(1))["status"] == "interrupted"
    await eventually(lambda: is_idle(session))


async def test_a_shielded_await_gives_its_result_under_cancellation_and_the_next_one_raises(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    service = restate.Service("Shielded")

    @service.handler()
    async def work(ctx: Context) -> None:
        await log.add("waiting", ctx.request().id)
        told = await shield(ctx.signal("told", type_hint=str))
        await ctx.run_typed("note", log.add, restate.RunOptions(), "told", told)

    await deploy(service)
    sent = await restate_env.client.service_send(work, None)
    await log.until("waiting", sent.invocation_id)
    for _ in range(2):
        await restate_env.cancel(sent.invocation_id)
    await resolve(restate_env, deploy, sent.invocation_id)
    row = await ended(restate_env, sent.invocation_id)
    assert row["completion_failure"] == "[409] cancelled"
    assert log.of("told") == []


async def resolve(env: Restate, deploy: Deploy, invocation_id: str) -> None:
    service = restate.Service("Resolver")

    @service.handler()
    async def tell(ctx: Context, invocation_id: str) -> None:
        ctx.resolve_signal(invocation_id, "told", "yes")

    await deploy(service)
    await env.client.service_call(tell, invocation_id)


@normal_mode
async def test_a_step_that_was_cut_off_runs_again_when_it_is_awaited_shielded(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    service = restate.Service("Insisting")
    tries: list[int] = []

    async def pay() -> str:
        tries.append(1)
        await log.step("pay", LONG if len(tries) == 1 else 0.0)
        return "paid"

    @service.handler()
    async def work(ctx: Context) -> None:
        async with cleanup(ctx):
            payment = ctx.run_typed("pay", pay)
            try:
                await payment
            except Interrupted:
                await log.add("receipt", await shield(payment))
                raise

    await deploy(service)
    sent = await restate_env.client.service_send(work, None)
    await log.until("begin", "pay")
    await restate_env.cancel(sent.invocation_id)
    row = await ended(restate_env, sent.invocation_id)
    assert row["completion_failure"] == "[409] cancelled"
    assert log.events == [
        ("begin", "pay"),
        ("abort", "pay"),
        ("begin", "pay"),
        ("end", "pay"),
        ("receipt", "paid"),
    ]


async def test_what_is_awaited_after_the_block_is_not_refused(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    """Outside of the block a cancellation is what it always was: raised once."""
    service = restate.Service("After")

    @service.handler()
    async def work(ctx: Context) -> str:
        try:
            async with cleanup(ctx):
                await log.add("waiting")
                await ctx.signal("never")
        except Interrupted:
            return await ctx.run_typed("after", log.step, name="after", result="told the owner")
        return "never"

    await deploy(service)
    sent = await restate_env.client.service_send(work, None)
    await log.until("waiting")
    await restate_env.cancel(sent.invocation_id)
    row = await ended(restate_env, sent.invocation_id)
    assert row["completion_result"] == "success"


async def test_cleanup_works_in_the_handlers_of_objects_and_workflows(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    obj = restate.VirtualObject("CleanObject")
    flow = restate.Workflow("CleanWorkflow")

    async def undo(what: str) -> None:
        await log.add("undo", what)

    @obj.handler()
    async def hold(ctx: ObjectContext) -> None:
        async with cleanup(ctx) as steps:
            steps.on_interrupt("release", undo, ctx.key())
            await log.add("waiting", "object")
            await ctx.signal("never")

    @flow.main()
    async def run(ctx: restate.WorkflowContext) -> None:
        async with cleanup(ctx) as steps:
            steps.on_interrupt("release", undo, ctx.key())
            await log.add("waiting", "workflow")
            await ctx.promise("never").value()

    await deploy(obj, flow)
    sent = await restate_env.client.object_send(hold, "lock", None)
    await log.until("waiting", "object")
    await restate_env.cancel(sent.invocation_id)
    await log.until("undo", "lock")
    sent = await restate_env.client.workflow_send(run, "flow", None)
    await log.until("waiting", "workflow")
    await restate_env.cancel(sent.invocation_id)
    await log.until("undo", "flow")
    assert REPLAY or log.of("waiting") == [("waiting", "object"), ("waiting", "workflow")]


@normal_mode
async def test_a_step_that_is_in_flight_when_a_block_ends_well_goes_on(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    service = restate.Service("Outlasting")
    release = asyncio.Event()

    async def slow() -> str:
        await log.add("begin", "slow")
        await release.wait()
        return "slow"

    async def fast() -> str:
        return "fast"

    @service.handler()
    async def work(ctx: Context) -> list[str]:
        lasting = ctx.run_typed("slow", slow)
        async with cleanup(ctx) as steps:
            steps.on_exit("noted", log.add, "exit")
            which, first = await restate.select(lasting=lasting, quick=ctx.run_typed("fast", fast))
        release.set()
        return [which, first, await lasting]

    await deploy(service)
    assert await restate_env.client.service_call(work, None) == ["quick", "fast", "slow"]
    assert log.of("begin") == [("begin", "slow")]


@normal_mode
async def test_a_step_that_an_error_cut_off_runs_again_for_whoever_awaits_it(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    service = restate.Service("CutOff")
    tries: list[int] = []

    async def slow() -> str:
        tries.append(1)
        return await log.step("slow", LONG if len(tries) == 1 else 0.0)

    async def fail() -> None:
        await log.until("begin", "slow")
        raise TerminalError("no luck")

    @service.handler()
    async def work(ctx: Context) -> str:
        lasting = ctx.run_typed("slow", slow)
        try:
            async with cleanup(ctx):
                await restate.select(lasting=lasting, failing=ctx.run_typed("fail", fail))
        except TerminalError:
            return await lasting
        return "no error"

    await deploy(service)
    assert await restate_env.client.service_call(work, None) == "slow"
    assert log.of("begin", "abort", "end") == [
        ("begin", "slow"),
        ("abort", "slow"),
        ("begin", "slow"),
        ("end", "slow"),
    ]


async def test_after_a_shielded_await_a_cancellation_is_raised_once_and_can_be_compensated(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    service = restate.Service("Compensating")

    @service.handler()
    async def work(ctx: Context) -> str:
        await log.add("waiting")
        await shield(ctx.signal("told"))
        try:
            await ctx.signal("never")
        except TerminalError:
            return await ctx.run_typed("refund", log.step, name="refund", result="refunded")
        return "not cancelled"

    await deploy(service)
    sent = await restate_env.client.service_send(work, None)
    await log.until("waiting")
    await restate_env.cancel(sent.invocation_id)
    await resolve(restate_env, deploy, sent.invocation_id)
    row = await ended(restate_env, sent.invocation_id)
    assert row["completion_result"] == "success"
    assert log.of("end") == [("end", "refund")]


async def test_a_cancellation_that_comes_while_a_block_is_left_runs_the_rest_of_its_steps(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    release = asyncio.Event()

    async def leave() -> None:
        await log.add("leaving")
        await release.wait()
        await log.add("left")

    class LeavingAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            async with cleanup(ctx) as steps:
                steps.on_interrupt("undo", log.add, "undo")
                steps.on_exit("leave", leave)
            return "well"

    agent = LeavingAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    receipt = await session.send("go")
    await log.until("leaving")
    await session.cancel()

    async def arrived() -> bool:
        where = f"id = '{receipt['task_id']}' AND entry_type LIKE '%Signal%'"
        return bool(await restate_env.query(f"SELECT id FROM sys_journal WHERE {where}"))  # noqa: S608

    await eventually(arrived)
    release.set()
    assert (await session.attach())["status"] == "interrupted"
    if REPLAY:  # the step was over before its attempt could hear of the cancellation, or not
        assert log.of("left")
    assert log.of("undo") == [("undo",)]


async def test_an_error_that_a_terminal_error_caused_does_not_hide_how_the_turn_ended(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class CausedAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            task.append("so far")
            await log.add("waiting")
            await ctx.signal("never")

        async def on_interrupted(self, ctx: Context, task: Task) -> None:
            try:
                raise TerminalError("gone", 404)  # noqa: TRY301
            except TerminalError as error:
                raise RuntimeError("wrapped") from error

    agent = CausedAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("go")
    await log.until("waiting")
    await session.cancel()
    said = {"role": "assistant", "content": "so far"}
    assert await session.attach() == {"turn": 1, "status": "interrupted", "messages": [said]}


@normal_mode
async def test_a_step_that_takes_its_time_to_unwind_is_cut_off_once(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    service = restate.Service("Unwinding")

    async def slow() -> None:
        await log.add("begin")
        try:
            await asyncio.sleep(LONG)
        finally:
            await log.add("unwinding")
            await asyncio.sleep(0.2)  # closing the connection takes a while
            await log.add("unwound")

    @service.handler()
    async def work(ctx: Context) -> None:
        async def other() -> None:
            await log.until("unwinding")
            await ctx.signal("never")

        async with cleanup(ctx) as steps:
            steps.on_interrupt("undo", log.add, "undo")
            await asyncio.gather(ctx.run_typed("slow", slow), other())

    await deploy(service)
    sent = await restate_env.client.service_send(work, None)
    await log.until("begin")
    await restate_env.cancel(sent.invocation_id)
    row = await ended(restate_env, sent.invocation_id)
    assert row["completion_failure"] == "[409] cancelled"
    await log.until("undo")
    assert log.events.index(("unwound",)) < log.events.index(("undo",))


@normal_mode
async def test_what_run_leaves_in_flight_is_over_before_the_next_turn_begins(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    loop, release = asyncio.get_running_loop(), threading.Event()

    def blocks() -> None:
        asyncio.run_coroutine_threadsafe(log.add("begin", "thread"), loop).result()
        release.wait(30)
        asyncio.run_coroutine_threadsafe(log.add("end", "thread"), loop).result()

    class LeakingAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn == 1:
                await restate.select(
                    thread=ctx.run_typed("thread", blocks),
                    begun=ctx.run_typed(
                        "begun", log.until, restate.RunOptions(), "begin", "thread"
                    ),
                )
                return "left"
            return await ctx.run_typed("next", log.step, name="next")

    agent = LeakingAgent(policy="queue")
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await session.send("second")
    await log.until("begin", "thread")
    # The thread is held until the next turn has begun, were that not to wait for it.
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(log.until("begin", "next"), 1)
    release.set()
    assert (await session.attach(2))["status"] == "completed"
    assert log.events == [
        ("begin", "thread"),
        ("end", "thread"),
        ("begin", "next"),
        ("end", "next"),
    ]


@normal_mode
async def test_awaits_side_by_side_all_hear_of_what_happens(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    service = restate.Service("SideBySide")

    async def quick() -> str:
        await log.until("waiting")
        await asyncio.sleep(0.1)  # by then the other one is parked, and takes what comes first
        return "quick"

    @service.handler()
    async def work(ctx: Context) -> list[Any]:
        async with cleanup(ctx):

            async def run() -> str:
                done = await ctx.run_typed("quick", quick)
                await log.add("done")
                return done

            async def wait() -> Any:
                await log.add("waiting")
                return await ctx.signal("told", type_hint=str)

            return list(await asyncio.gather(run(), wait()))

    await deploy(service)
    sent = await restate_env.client.service_send(work, None)
    await log.until("waiting")
    await log.until("done")
    await resolve(restate_env, deploy, sent.invocation_id)
    row = await ended(restate_env, sent.invocation_id)
    assert row["completion_result"] == "success"


async def test_a_block_in_an_asyncio_task_of_its_own_and_a_shielded_task_are_refused(
    restate_env: Restate, deploy: Deploy
) -> None:
    service = restate.Service("Refusing")
    said: list[str] = []

    @service.handler()
    async def work(ctx: Context) -> str:
        async def branch() -> None:
            async with cleanup(ctx):
                pass

        async with cleanup(ctx):
            with pytest.raises(RuntimeError, match="an asyncio task of its own") as refusal:
                await asyncio.gather(branch())
            said.append(str(refusal.value))
            with pytest.raises(TypeError, match=r"restate\.gather"):
                await shield(asyncio.gather(asyncio.sleep(0)))
        return "ok"

    await deploy(service)
    assert await restate_env.client.service_call(work, None) == "ok"
    assert "Register them on a block around the tasks" in said[0]


@normal_mode
async def test_a_step_that_does_not_let_itself_be_cut_off_runs_once_and_its_result_is_kept(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    service = restate.Service("Stubborn")

    async def stubborn() -> str:
        await log.add("begin")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG)
        return "kept"

    @service.handler()
    async def work(ctx: Context) -> None:
        async with cleanup(ctx):
            step = ctx.run_typed("stubborn", stubborn)
            try:
                await step
            except Interrupted:
                await log.add("result", await shield(step))
                raise

    await deploy(service)
    sent = await restate_env.client.service_send(work, None)
    await log.until("begin")
    await restate_env.cancel(sent.invocation_id)
    row = await ended(restate_env, sent.invocation_id)
    assert row["completion_failure"] == "[409] cancelled"
    assert log.events == [("begin",), ("result", "kept")]
