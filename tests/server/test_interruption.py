"""What an interrupting message does to the turn at work, on a real server."""

import asyncio
import contextlib
import random
import sys
import threading
from typing import Any

import pytest
import restate
from restate import Context, TerminalError

from interruptible import Agent, Session, Task, cleanup
from interruptible.testing import Restate

from .conftest import LONG, REPLAY, Deploy, Log, eventually, is_idle, normal_mode

pytestmark = pytest.mark.anyio


def texts(messages: list[dict[str, Any]]) -> list[Any]:
    return [message["content"] for message in messages]


async def outcomes(env: Restate, service: str) -> list[str]:
    """How Restate itself shows the invocations of a service, oldest first."""
    rows = await env.invocations(f"target_service_name = '{service}'")
    return [
        row["status"] if row.get("completion_result") != "failure" else row["completion_failure"]
        for row in rows
        if row["target_handler_name"] == "run_task"
    ]


async def test_each_of_seven_messages_in_a_row_interrupts_and_the_last_one_is_answered(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    at_work: list[int] = []

    async def think(turn: int) -> str:
        at_work.append(turn)
        assert at_work == [turn], "two tasks at work at the same time"
        try:
            return await log.step(turn, LONG if turn < 7 else 0.05)
        finally:
            at_work.remove(turn)

    async def undo(turn: int) -> None:
        assert at_work == []
        await log.add("undone", turn)

    registered: set[int] = set()  # its step may be cut off before its first line

    class SevenAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            async with cleanup(ctx) as undo_:
                undo_.on_interrupt("undo", undo, task.turn)
                registered.add(task.turn)
                return await ctx.run_typed("think", think, turn=task.turn)

    agent = SevenAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "seven")
    moments = random.Random(7)  # noqa: S311
    receipts = []
    for number in range(1, 8):
        receipts.append(await session.send(f"message {number}"))
        if moments.random() < 0.6:
            await log.until("begin", number)
        else:
            await asyncio.sleep(moments.random() / 20)
    outcome = await session.attach()

    assert [r["turn"] for r in receipts] == [1, 2, 3, 4, 5, 6, 7]
    assert outcome == {
        "turn": 7,
        "status": "completed",
        "messages": [{"role": "assistant", "content": "7"}],
    }
    history = [text for text in texts(await session.history()) if not text.startswith("[")]
    assert history == [*(f"message {number}" for number in range(1, 8)), "7"]
    assert log.of("begin")[-1] == ("begin", 7)
    assert {name for _, name in log.of("begin")} <= registered
    assert {name for _, name in log.of("undone")} == registered - {7}
    await eventually(lambda: is_idle(session))
    expected = ["[409] cancelled"] * 6 + ["completed"]
    assert await outcomes(restate_env, "SevenTask") == expected


@normal_mode
async def test_a_call_in_flight_has_unwound_before_the_first_cleanup_step_begins(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def think() -> str:
        await log.add("begin", "think")
        try:
            await asyncio.sleep(LONG)
        finally:
            await asyncio.sleep(0.2)  # closing the connection takes a while
            await log.add("unwound", "think")
        return ""

    async def undo() -> None:
        await log.add("undo")

    class UnwindAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            async with cleanup(ctx) as steps:
                steps.on_interrupt("undo", undo)
                if task.turn == 1:
                    await ctx.run_typed("think", think)
            return "second"

    agent = UnwindAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("begin", "think")
    assert (await session.ask("second"))["status"] == "completed"
    assert log.events == [("begin", "think"), ("unwound", "think"), ("undo",)]


@normal_mode
async def test_a_subprocess_started_by_a_step_is_gone_before_the_first_cleanup_step(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    processes: list[asyncio.subprocess.Process] = []

    async def compile_it() -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import time; time.sleep(600)"
        )
        processes.append(process)
        await log.add("begin", "compile")
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return ""

    async def undo() -> None:
        await log.add("undo", processes[0].returncode)

    class SubprocessAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            async with cleanup(ctx) as steps:
                steps.on_interrupt("undo", undo)
                if task.turn == 1:
                    await ctx.run_typed("compile", compile_it)

    agent = SubprocessAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("begin", "compile")
    await session.ask("second")
    assert log.events == [("begin", "compile"), ("undo", -9)]


@normal_mode
async def test_a_step_that_is_not_async_is_waited_for_before_cleanup(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    release = threading.Event()
    loop = asyncio.get_running_loop()

    def blocks() -> str:
        asyncio.run_coroutine_threadsafe(log.add("begin"), loop).result()
        release.wait(30)
        asyncio.run_coroutine_threadsafe(log.add("end"), loop).result()
        return ""

    async def undo() -> None:
        await log.add("undo")

    class ThreadAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            async with cleanup(ctx) as steps:
                steps.on_interrupt("undo", undo)
                if task.turn == 1:
                    await ctx.run_typed("blocks", blocks)

    agent = ThreadAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("begin")
    receipt = await session.send("second")
    assert receipt["interrupted"] == [1]
    release.set()
    assert (await session.attach())["status"] == "completed"
    assert log.events == [("begin",), ("end",), ("undo",)]


@pytest.mark.parametrize("swallow", ["returns", "goes_on", "wraps"])
async def test_a_body_that_swallows_the_cancellation_still_ends_interrupted(
    restate_env: Restate, deploy: Deploy, log: Log, swallow: str
) -> None:
    async def undo() -> None:
        await log.add("undo")

    class SwallowAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn > 1:
                return "done"
            async with cleanup(ctx) as steps:
                steps.on_interrupt("undo", undo)
                try:
                    await ctx.run_typed("tool", log.step, name="tool", seconds=LONG)
                except Exception as error:  # noqa: BLE001 - the fault
                    if swallow == "returns":
                        return f"tool failed: {error}"
                    if swallow == "wraps":
                        raise RuntimeError("tool failed") from None
                for number in range(3):
                    with contextlib.suppress(Exception):
                        await ctx.run_typed("later", log.step, name=f"later {number}")
                return "as if nothing had happened"

    agent = SwallowAgent(name=f"Swallow{swallow}")
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("begin", "tool")
    assert (await session.ask("second"))["messages"] == [{"role": "assistant", "content": "done"}]
    assert await session.attach(1) == {"turn": 1, "status": "interrupted", "messages": []}
    assert log.of("undo") == [("undo",)]
    assert not [name for kind, name in log.of("begin") if name.startswith("later")]
    assert (await outcomes(restate_env, f"Swallow{swallow}Task"))[0] == "[409] cancelled"


async def test_a_tool_runner_that_turns_exceptions_into_text_does_not_hide_an_interruption(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def run_tool(name: str, seconds: float) -> str:
        ctx = restate.extensions.current_context()
        assert ctx is not None
        try:
            return await ctx.run_typed(name, log.step, name=name, seconds=seconds)
        except Exception as error:  # noqa: BLE001 - the fault
            return f"Error running tool: {error}"

    class FrameworkAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn > 1:
                return "done"
            seen = await run_tool("first tool", LONG)
            for number in range(5):
                seen += await run_tool(f"tool {number}", 0)
            return seen

    agent = FrameworkAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("begin", "first tool")
    await session.ask("second")
    assert (await session.attach(1))["status"] == "interrupted"
    assert log.of("begin") == [("begin", "first tool")]


@normal_mode
async def test_steps_that_are_sent_off_as_the_cancellation_arrives_do_not_begin(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class EdgeAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            async with cleanup(ctx) as undo:
                undo.on_interrupt("undo", log.step, "undo", 0.2)
                await log.add("waits")
                inbox: Any = ctx
                while inbox.receive._queue.empty():
                    await asyncio.sleep(0.01)  # nothing durable: the SDK does not look yet
                await restate.gather(
                    ctx.run_typed("left", log.step, name="left", seconds=0.1),
                    ctx.run_typed("right", log.step, name="right", seconds=0.1),
                )
            return "done"

    agent = EdgeAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("go")
    await log.until("waits")
    await session.cancel()
    assert (await session.attach())["status"] == "interrupted"
    assert log.events == [("waits",), ("begin", "undo"), ("end", "undo")]


@normal_mode
async def test_tools_that_run_side_by_side_are_all_cut_off(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def undo() -> None:
        await log.add("undo")

    class ParallelAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn > 1:
                return "done"
            async with cleanup(ctx) as steps:
                steps.on_interrupt("undo", undo)

                async def tool(number: int) -> str:
                    return await ctx.run_typed("tool", log.step, name=number, seconds=LONG)

                results = await asyncio.gather(*map(tool, range(3)), return_exceptions=True)
                await log.add("results", *(type(result).__name__ for result in results))
            return "never"

    agent = ParallelAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    for number in range(3):
        await log.until("begin", number)
    assert (await session.ask("second"))["status"] == "completed"
    assert sorted(log.of("abort")) == [("abort", 0), ("abort", 1), ("abort", 2)]
    assert log.of("results", "undo") == [
        ("results", "Interrupted", "Interrupted", "Interrupted"),
        ("undo",),
    ]


async def test_a_409_that_is_not_a_cancellation_fails_the_turn(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    payments = restate.Service("FourOhNine")

    @payments.handler()
    async def pay(ctx: Context) -> None:
        raise TerminalError("conflict", 409)

    @payments.handler()
    async def wait(ctx: Context) -> None:
        await log.add("waiting", ctx.request().id)
        await ctx.signal("never")

    async def refuse() -> None:
        raise TerminalError("cancelled", 409)

    async def undo(kind: str) -> None:
        await log.add("undo", kind)

    class ConflictAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            what = task.input[0]["content"]
            async with cleanup(ctx) as steps:
                for kind in ("interrupt", "error", "exit"):
                    getattr(steps, f"on_{kind}")(kind, undo, kind)
                if what == "step":
                    await ctx.run_typed("refuse", refuse)
                elif what == "service":
                    await ctx.service_call(pay, None)
                else:
                    await ctx.service_call(wait, None)

    agent = ConflictAgent()
    await deploy(agent, payments)
    for what in ("step", "service", "cancelled child", "killed child"):
        log.events.clear()
        session = Session(restate_env.client, agent, what.replace(" ", "-"))
        receipt = await session.send(what)
        if what.endswith("child"):
            await eventually(lambda: _first(log, "waiting"))
            child = log.of("waiting")[0][1]
            await (restate_env.cancel if what[0] == "c" else restate_env.kill)(child)
        outcome = await session.attach()
        assert (what, outcome["status"]) == (what, "failed")
        assert (what, log.of("undo")) == (what, [("undo", "exit"), ("undo", "error")])
        rows = await restate_env.invocations(f"id = '{receipt['task_id']}'")
        # To Restate's tools 409 "cancelled" is a cancelled invocation, and this one was not.
        ended = {
            "step": "[500] What the task called was cancelled.",
            "service": "[409] conflict",
            "cancelled child": "[500] What the task called was cancelled.",
            "killed child": "[500] What the task called was killed.",
        }
        assert rows[0]["completion_failure"] == ended[what]


async def _first(log: Log, kind: str) -> Any:
    return log.of(kind)


async def test_what_an_interrupted_turn_put_out_stays_in_its_place_and_the_next_one_sees_it(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    seen: list[list[dict[str, Any]]] = []

    class PlanAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            seen.append(list(task.messages))
            plan = await ctx.run_typed("plan", log.step, name=f"plan {task.turn}")
            task.append({"role": "assistant", "content": plan})
            seconds = LONG if task.turn == 1 else 0.0
            return await ctx.run_typed(
                "draft", log.step, name=f"draft {task.turn}", seconds=seconds
            )

        def interruption_note(self, turn: Any) -> str:
            return f"note on {turn['turn']}: {turn['reason']}"

    agent = PlanAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("begin", "draft 1")
    await session.ask("second")
    expected = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "plan 1"},
        {"role": "user", "content": "note on 1: interrupted by turn 2"},
        {"role": "user", "content": "second"},
    ]
    assert seen[-1] == expected
    answer = [
        {"role": "assistant", "content": "plan 2"},
        {"role": "assistant", "content": "draft 2"},
    ]
    await eventually(lambda: is_idle(session))
    assert await session.history() == expected + answer


async def test_of_a_burst_only_the_last_turn_finishes_and_what_had_not_begun_runs_no_step(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    entered: list[int] = []

    class EightAtOnceAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            entered.append(task.turn)
            seconds = LONG if task.turn < 8 else 0.0
            return await ctx.run_typed("think", log.step, name=task.turn, seconds=seconds)

    agent = EightAtOnceAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "burst")
    await asyncio.gather(*(session.send(f"message {number}") for number in range(8)))
    outcome = await session.attach(8)
    assert (outcome["turn"], outcome["status"]) == (8, "completed")
    begun = [name for _, name in log.of("begin")]
    assert begun == sorted(set(begun)), "a turn ran its step twice, or after a later one"
    assert set(begun) <= set(entered)
    if not REPLAY:
        assert log.of("end") == [("end", 8)]
    assert [name for _, name in log.of("abort" if not REPLAY else "end")] == (
        begun[:-1] if not REPLAY else begun
    )
    statuses = [(await session.attach(turn))["status"] for turn in range(1, 8)]
    assert statuses == ["interrupted"] * 7
    said = [text for text in texts(await session.history()) if text.startswith("message")]
    assert sorted(said) == [f"message {number}" for number in range(8)]


async def test_a_task_that_is_cancelled_while_it_waits_for_its_turn_never_enters_its_body(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    entered: list[int] = []
    told: list[int] = []
    release = asyncio.Event()

    async def undo() -> None:
        await log.add("cleaning")
        await release.wait()

    class WaitingAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            entered.append(task.turn)
            async with cleanup(ctx) as steps:
                steps.on_interrupt("undo", undo)
                if task.turn == 1:
                    await ctx.run_typed("think", log.step, name=1, seconds=LONG)

        async def on_interrupted(self, ctx: Context, task: Task) -> None:
            told.append(task.turn)

    agent = WaitingAgent()
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("begin", 1)
    assert (await session.send("second"))["status"] == "waiting"
    await log.until("cleaning")
    assert (await session.send("third"))["interrupted"] == [2]
    never = {"turn": 2, "status": "interrupted", "messages": [], "never_began": True}
    assert await session.attach(2) == never
    release.set()
    assert (await session.attach(3))["status"] == "completed"
    assert set(entered) == {1, 3}
    assert set(told) == {1}
