"""A turn that is told to stop in order: what is in flight ends and is kept, and nothing begins."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import restate
from restate import Context, RunOptions, TerminalError

from interruptible import Agent, Interrupted, Session, Task, cleanup, shield
from interruptible._task.repair import NOT_BEGUN
from interruptible.testing import Restate

from .conftest import LONG, REPLAY, Deploy, Log, eventually, is_idle, normal_mode
from .signalled import begun
from .streaming import assistant
from .test_interruption import outcomes

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


class Steps(Agent):
    """Has steps that end when they are told to."""

    def __init__(self, log: Log, **options: Any) -> None:
        super().__init__(**options)
        self.log = log
        self.gates: dict[str, asyncio.Event] = {}

    def step(self, ctx: Context, name: str) -> Any:
        return ctx.run_typed(name, self.work, name=name)

    async def work(self, name: str) -> str:
        await self.log.add("begin", name)
        try:
            await self.gates.setdefault(name, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.log.note("abort", name)
            raise
        await self.log.add("end", name)
        return name

    def let(self, *names: str) -> None:
        for name in names:
            self.gates.setdefault(name, asyncio.Event()).set()

    async def note(self, *event: Any) -> None:
        await self.log.add(*event)

    def undone(self, undo: Any) -> None:
        """Note how a block of cleanup ends."""
        for kind in ("exit", "error", "interrupt"):
            getattr(undo, f"on_{kind}")(kind, self.note, "cleanup", kind)

    async def on_interrupted(self, ctx: Context, task: Task) -> None:
        await ctx.run_typed("told", self.note, RunOptions(), "on_interrupted")


CLEANED = [("cleanup", "interrupt"), ("cleanup", "error"), ("cleanup", "exit")]


async def test_the_step_in_flight_ends_what_it_gave_is_put_out_and_no_other_begins(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class OneStepAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> str:
            async with cleanup(ctx) as undo:
                self.undone(undo)
                for name in ("first", "second", "third"):
                    task.append(str(await self.step(ctx, name)))
            return "never"

    agent = OneStepAgent(log)
    agent.let("first", "third")
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("begin", "second")
    await tells.stop(session, task_id)
    agent.let("second")
    messages = [assistant("first"), assistant("second")]
    assert await session.attach() == {"turn": 1, "status": "interrupted", "messages": messages}
    assert log.events == [
        *(("begin", "first"), ("end", "first"), ("begin", "second"), ("end", "second")),
        *CLEANED,
        ("on_interrupted",),
    ]
    await eventually(lambda: is_idle(session))
    assert (await session.turns())["turns"][0]["messages"] == messages
    assert await outcomes(restate_env, "OneStepTask") == ["[409] cancelled"]


@pytest.mark.parametrize("how", ["asyncio", "restate", "as completed"])
async def test_of_steps_side_by_side_all_results_are_kept(
    restate_env: Restate, deploy: Deploy, log: Log, how: str
) -> None:
    class ThreeStepsAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> None:
            names = ("one", "two", "three")

            async def use(name: str) -> None:
                task.append(str(await self.step(ctx, name)))
                task.append(str(await self.step(ctx, f"after {name}")))

            if how == "asyncio":
                await asyncio.gather(*map(use, names))
            steps = [self.step(ctx, name) for name in names]
            if how == "restate":
                for step in await restate.gather(*steps):
                    task.append(str(await step))
            else:
                async for step in restate.as_completed(*steps):
                    task.append(str(await step))
            task.append(str(await self.step(ctx, "after all")))

    agent = ThreeStepsAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent, how.replace(" ", "-"))
    for name in ("one", "two", "three"):
        await log.until("begin", name)
    await tells.stop(session, task_id)
    if REPLAY:  # what is in flight holds up the attempt that hears
        agent.let("one", "two", "three")
    for name in ("two", "one", "three"):
        agent.let(name)
        await log.until("end", name)
    outcome = await session.attach()
    assert outcome["status"] == "interrupted"
    said = [x["content"] for x in outcome["messages"]]
    assert sorted(said) == ["one", "three", "two"]
    assert not [x for x in log.of("begin", "abort") if "after" in x[1] or x[0] == "abort"]


async def test_who_has_his_result_waits_for_what_is_in_flight_beside_him(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class LongerAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> None:
            async def use(name: str) -> None:
                task.append(str(await self.step(ctx, name)))
                await log.add("has", name)
                try:
                    await self.step(ctx, f"after {name}")
                except Interrupted:
                    await log.add("interrupted", name)
                    raise

            await asyncio.gather(use("short"), use("long"))

    agent = LongerAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("begin", "short")
    await log.until("begin", "long")
    await tells.stop(session, task_id)
    agent.let(*(("short", "long") if REPLAY else ("short",)))
    await log.until("has", "short")
    agent.let("long")
    outcome = await session.attach()
    assert outcome["messages"] == [assistant("short"), assistant("long")] or REPLAY
    assert log.before(("has", "long"), ("interrupted", "short"))


@pytest.mark.parametrize("what", ["sleep", "signal", "step beside"])
async def test_a_wait_is_no_step_and_ends_but_not_before_what_is_in_flight_beside_it(
    restate_env: Restate, deploy: Deploy, log: Log, what: str
) -> None:
    class StopWaitingAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> None:
            async def use() -> None:
                if what == "step beside":
                    task.append(str(await self.step(ctx, "step")))

            wait = ctx.signal("approved") if what == "signal" else ctx.sleep(HOUR)
            await asyncio.gather(self.waits(wait), use())

        async def waits(self, wait: Any) -> None:
            await log.add("waits")
            await wait
            await log.add("never")

    agent = StopWaitingAgent(log, name="WaitingForStopAgent")
    session, tells, task_id = await begun(restate_env, deploy, agent, what.replace(" ", "-"))
    await log.until("waits")
    if what == "step beside":
        await log.until("begin", "step")
    await tells.stop(session, task_id)
    agent.let("step")
    outcome = await session.attach()
    kept = [assistant("step")] if what == "step beside" else []
    assert (outcome["status"], outcome["messages"]) == ("interrupted", kept)
    assert ("never",) not in log.events


async def test_an_await_that_is_of_a_step_and_of_a_wait_goes_on(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class SelectsAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> None:
            timer, step = ctx.sleep(HOUR), self.step(ctx, "step")
            kind, given = await restate.select(late=timer, done=step)
            task.append(f"{kind}: {given}")
            await ctx.sleep(HOUR)

    agent = SelectsAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("begin", "step")
    await tells.stop(session, task_id)
    agent.let("step")
    outcome = await session.attach()
    assert (outcome["status"], outcome["messages"]) == ("interrupted", [assistant("done: step")])


async def test_a_call_of_another_service_is_a_step(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    service = restate.Service("SlowToStop")
    gate = asyncio.Event()

    @service.handler()
    async def work(ctx: Context) -> str:
        await log.add("called")
        await gate.wait()
        return "done"

    class StopCallingAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> None:
            task.append(await ctx.service_call(work, None))
            await self.step(ctx, "after")

    agent = StopCallingAgent(log, name="CallingToStopAgent")
    await deploy(service)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("called")
    await tells.stop(session, task_id)
    gate.set()
    outcome = await session.attach()
    assert (outcome["status"], outcome["messages"]) == ("interrupted", [assistant("done")])
    assert log.of("begin") == []


@pytest.mark.parametrize("then", ["cancel", "message"])
async def test_a_plain_cancellation_after_it_cuts_at_once(
    restate_env: Restate, deploy: Deploy, log: Log, then: str
) -> None:
    class ThenCutAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn == 1:
                async with cleanup(ctx) as undo:
                    self.undone(undo)
                    task.append(str(await ctx.run_typed("step", log.step, name=1, seconds=LONG)))
            return "done"

    agent = ThenCutAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent, then)
    await log.until("begin", 1)
    await tells.stop(session, task_id)
    if then == "cancel":
        await session.cancel()
    else:
        assert (await session.ask("next"))["status"] == "completed"
    outcome = await session.attach(1)
    assert outcome["status"] == "interrupted"
    if not REPLAY:
        assert outcome["messages"] == []
        assert log.of("abort", "end") == [("abort", 1)]
    assert log.of("cleanup") == CLEANED


async def test_before_a_turn_begins_it_ends_at_once_and_has_never_begun(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class BehindAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> str:
            return str(await self.step(ctx, f"turn {task.turn}"))

    agent = BehindAgent(log, policy="queue")
    session, tells, _ = await begun(restate_env, deploy, agent)
    await log.until("begin", "turn 1")
    second = await session.send("second")
    await tells.stop(session, second["task_id"])
    never = {"turn": 2, "status": "interrupted", "messages": [], "never_began": True}
    assert await session.attach(2) == never
    agent.let("turn 1")
    assert (await session.attach(1))["status"] == "completed"
    assert ("begin", "turn 2") not in log.events


@pytest.mark.parametrize("then", ["goes on", "returns", "fails"])
async def test_cleanup_goes_on_to_its_end_and_then_the_code_does_until_it_waits(
    restate_env: Restate, deploy: Deploy, log: Log, then: str
) -> None:
    class InCleanupAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> str:
            async with cleanup(ctx) as undo:
                undo.on_exit("slow", self.work, "slow")
                undo.on_interrupt("undo", self.note, "undo")
                if then == "fails":
                    raise TerminalError("no luck", 418)
            if then == "goes on":
                await self.step(ctx, "after")
            return "done"

    agent = InCleanupAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent, then.replace(" ", "-"))
    await log.until("begin", "slow")
    await tells.stop(session, task_id)
    agent.let("slow")
    status = {"goes on": "interrupted", "returns": "completed", "fails": "failed"}[then]
    assert (await session.attach())["status"] == status
    told = [("on_interrupted",)] if status == "interrupted" else []
    assert log.events[-1 - len(told) :] == [("end", "slow"), *told]


@pytest.mark.parametrize("where", ["in its step", "after its step"])
async def test_an_error_that_is_retried_does_not_get_past_it(
    restate_env: Restate, deploy: Deploy, log: Log, where: str
) -> None:
    class RetriedAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> str:
            task.append(str(await ctx.run_typed("step", self.fail_once)))
            await log.add("has")
            if where == "after its step":
                raise ValueError("a bug")
            return str(await self.step(ctx, "after"))

        async def fail_once(self) -> str:
            await self.work("step")
            if where == "in its step" and log.events.count(("end", "step")) == 1:
                raise ConnectionError
            return "step"

    agent = RetriedAgent(log, name="RetriedStopAgent")
    session, tells, task_id = await begun(restate_env, deploy, agent, where.replace(" ", "-"))
    await log.until("begin", "step")
    await tells.stop(session, task_id)
    agent.let("step")
    outcome = await session.attach()
    assert (outcome["status"], outcome["messages"]) == ("interrupted", [assistant("step")])


async def test_what_is_shielded_goes_on_and_counts(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class StopShieldedAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> None:
            async def pay() -> str:
                return f"{await self.step(ctx, 'reserve')}, {await self.step(ctx, 'pay')}"

            task.append(await shield(pay()))
            await self.step(ctx, "after")

    agent = StopShieldedAgent(log, name="ShieldedFromStopAgent")
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("begin", "reserve")
    await tells.stop(session, task_id)
    agent.let("reserve", "pay")
    outcome = await session.attach()
    assert (outcome["status"], outcome["messages"]) == ("interrupted", [assistant("reserve, pay")])
    assert ("begin", "after") not in log.events


@pytest.mark.parametrize("how", ["returns", "fails", "step fails"])
async def test_who_ends_by_himself_before_he_is_told_has_ended_so(
    restate_env: Restate, deploy: Deploy, log: Log, how: str
) -> None:
    class ByItselfAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> str:
            async with cleanup(ctx) as undo:
                self.undone(undo)
                step = self.fails(ctx) if how == "step fails" else self.step(ctx, "step")
                given = str(await step)
                if how == "fails":
                    raise TerminalError("no luck", 418)
                return given

        def fails(self, ctx: Context) -> Any:
            return ctx.run_typed("fails", self.fail)

        async def fail(self) -> None:
            await self.work("step")
            raise TerminalError("no luck", 418)

    agent = ByItselfAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent, how.replace(" ", "-"))
    await log.until("begin", "step")
    await tells.stop(session, task_id)
    agent.let("step")
    outcome = await session.attach()
    if how == "returns":
        assert outcome == {"turn": 1, "status": "completed", "messages": [assistant("step")]}
        assert log.of("cleanup") == [("cleanup", "exit")]
    else:
        assert (outcome["status"], outcome.get("error")) == ("failed", "no luck")
        assert log.of("cleanup") == [("cleanup", "error"), ("cleanup", "exit")]


async def test_after_run_has_returned_the_turn_is_completed(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class ReturnedAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> str:
            asyncio.ensure_future(shield(self.step(ctx, "left")))  # noqa: RUF006
            await ctx.run_typed("note", self.note, RunOptions(), "returns")
            return "done"

    agent = ReturnedAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("returns")
    await log.until("begin", "left")
    await tells.stop(session, task_id)
    agent.let("left")
    outcome = await session.attach()
    assert (outcome["status"], outcome["messages"]) == ("completed", [assistant("done")])


async def test_a_call_that_the_model_made_last_was_not_begun(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class LastCallAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> None:
            await self.step(ctx, "model")
            calls = [
                {"id": x, "type": "function", "function": {"name": "f", "arguments": "{}"}}
                for x in ("a", "b")
            ]
            task.append({"role": "assistant", "content": None, "tool_calls": calls})
            if task.session == "named":
                with task.call("a"):
                    await self.step(ctx, "tool")
            await self.step(ctx, "tool")

    agent = LastCallAgent(log)
    await deploy(agent)
    for key in ("named", "unnamed"):
        session, tells, task_id = await begun(restate_env, deploy, agent, key)
        await log.until("begin", "model")
        await tells.stop(session, task_id)
        agent.let("model")
        outcome = await session.attach()
        assert (key, outcome.get("not_begun"), outcome.get("cut_off")) == (key, ["a", "b"], None)
        assert [x["content"] for x in outcome["messages"][1:]] == [NOT_BEGUN] * 2
        log.events.clear()
        agent.gates.clear()


async def test_the_turn_of_another_agent_that_is_waited_for_is_told_as_well(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class StopAskedAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> None:
            task.append(str(await self.step(ctx, "theirs")))
            await self.step(ctx, "later")

    asked = StopAskedAgent(log, name="AskedToStopAgent")

    class AsksAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> None:
            given = await task.delegate(asked, "theirs", "go")
            task.append(given["status"])
            await self.step(ctx, "after")

    agent = AsksAgent(log, name="AsksToStopAgent")
    await deploy(asked)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("begin", "theirs")
    await tells.stop(session, task_id)

    async def is_told() -> bool:
        rows = await restate_env.query(
            "SELECT id FROM sys_invocation WHERE target_service_name = 'AskedToStopAgent' "
            "AND target_handler_name = 'cancel'"
        )
        return bool(rows)

    await eventually(is_told)
    asked.let("theirs", "later")
    outcome = await session.attach()
    assert outcome["status"] == "interrupted"
    # An agent that does not know how to stop in order goes on to its end.
    assert outcome["messages"] in ([assistant("interrupted")], [assistant("completed")])
    assert ("begin", "after") not in log.events


async def test_no_other_agent_is_asked_any_more(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class AskedNoMoreAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> str:
            return "never"

    asked = AskedNoMoreAgent(log)

    class AsksNoMoreAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> None:
            task.append(str(await self.step(ctx, "step")))
            await task.delegate(asked, "theirs", "go")

    agent = AsksNoMoreAgent(log)
    await deploy(asked)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("begin", "step")
    await tells.stop(session, task_id)
    agent.let("step")
    outcome = await session.attach()
    assert (outcome["status"], outcome["messages"]) == ("interrupted", [assistant("step")])
    assert (await Session(restate_env.client, asked, "theirs").turns())["turns"] == []


@normal_mode
async def test_a_step_that_is_no_async_function_ends_and_is_kept(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    loop = asyncio.get_running_loop()

    class ThreadStopAgent(Steps):
        async def run(self, ctx: Context, task: Task) -> None:
            task.append(str(await ctx.run_typed("step", self.block)))
            await self.step(ctx, "after")

        def block(self) -> str:
            return asyncio.run_coroutine_threadsafe(self.work("blocks"), loop).result()

    agent = ThreadStopAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("begin", "blocks")
    await tells.stop(session, task_id)
    agent.let("blocks")
    outcome = await session.attach()
    assert (outcome["status"], outcome["messages"]) == ("interrupted", [assistant("blocks")])
