"""A message that is to be read at once ends what is awaited as steerable, and the turn goes on."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import restate
from restate import Context, RunOptions, TerminalError

from interruptible import Agent, Interrupted, Session, Steered, Task, cleanup, shield
from interruptible.testing import Restate

from .conftest import LONG, REPLAY, Deploy, Log, normal_mode
from .gated import texts
from .signalled import begun
from .streaming import assistant, user

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


class Model(Agent):
    """Speaks for long in each call of its model that a test says, and notes what it does.

    A call is known by how many messages it was sent.
    """

    def __init__(self, log: Log, slow: int = 1) -> None:
        super().__init__()
        self.log, self.slow = log, slow
        self.gates: dict[str, asyncio.Event] = {}

    def call(self, ctx: Context, task: Task, number: int) -> Any:
        return ctx.run_typed("model", self.speak, RunOptions(), task.partial, number)

    async def speak(self, say: Callable[[str], None], number: int) -> str:
        say("Half an ")
        say(f"answer {number}")
        await self.log.step(f"model {number}", LONG if number <= self.slow else 0.0)
        return f"answer {number}"

    async def tool(self, name: str) -> str:
        """A step that ends when it is told to."""
        gate = self.gates.setdefault(name, asyncio.Event())
        await self.log.add("begin", name)
        try:
            await gate.wait()
        except asyncio.CancelledError:
            self.log.note("abort", name)
            raise
        return name

    def let(self, name: str) -> None:
        self.gates.setdefault(name, asyncio.Event()).set()

    async def note(self, *event: Any) -> None:
        await self.log.add(*event)

    def noted(self, ctx: Context, *event: Any) -> Any:
        """Note something once, in whichever attempt."""
        return ctx.run_typed("note", self.note, RunOptions(), *event)

    async def one_answer(self, ctx: Context, task: Task) -> str:
        """Ask the model until nothing more is said."""
        number = 1
        while True:
            try:
                return str(await task.steerable(self.call(ctx, task, number)))
            except Steered:
                number += 1
                await task.steering()


def kept(*words: str) -> list[dict[str, Any]]:
    """What was said by then, where a step in flight hears of what comes."""
    return [] if REPLAY else [assistant(x) for x in words]


async def test_the_model_is_cut_off_its_words_stay_in_their_place_and_the_same_turn_goes_on(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class CutShortAgent(Model):
        async def run(self, ctx: Context, task: Task) -> str:
            task.append("plan")
            return await self.one_answer(ctx, task) + f" of {len(task.messages)} messages"

    agent = CutShortAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("begin", "model 1")
    await tells.steer(session, task_id, "no, this")
    outcome = await session.attach()
    said = kept("Half an answer 1")
    messages = [assistant("plan"), *said, user("no, this")]
    expected = {
        "turn": 1,
        "status": "completed",
        "messages": [*messages, assistant(f"answer 2 of {1 + len(messages)} messages")],
        **({"cut_short": [1]} if said else {}),
    }
    assert outcome == expected
    if not REPLAY:
        assert log.events == [
            ("begin", "model 1"),
            ("abort", "model 1"),
            ("begin", "model 2"),
            ("end", "model 2"),
        ]
    (turn,) = (await session.turns())["turns"]
    assert texts(turn["messages"]) == texts(outcome["messages"])
    assert turn.get("cut_short") == outcome.get("cut_short")
    assert turn["task_id"] == task_id if "task_id" in turn else True


async def test_a_tool_beside_goes_on_and_what_it_gives_stays(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class ToolBesideAgent(Model):
        async def run(self, ctx: Context, task: Task) -> str:
            async def use() -> None:
                task.append(await ctx.run_typed("tool", self.tool, name="tool"))
                task.append(await ctx.run_typed("after", self.tool, name="after"))

            _, answer = await asyncio.gather(use(), self.one_answer(ctx, task))
            return answer

    agent = ToolBesideAgent(log)
    agent.let("after")
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("begin", "model 1")
    await log.until("begin", "tool")
    if REPLAY:  # or it would hold up the attempt that hears
        agent.let("tool")
    await tells.steer(session, task_id, "no, this")
    await log.until("end", "model 2")
    agent.let("tool")
    outcome = await session.attach()
    assert outcome["status"] == "completed"
    contents = [x["content"] for x in outcome["messages"]]
    assert [x for x in contents if x in ("tool", "after")] == ["tool", "after"]
    assert contents[-1] == "answer 2"
    assert ("abort", "tool") not in log.events
    if not REPLAY:
        assert contents[:2] == ["Half an answer 1", "no, this"]
        assert log.events.count(("begin", "tool")) == 1


async def test_code_that_makes_text_of_every_exception_lets_it_pass(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class PassesAgent(Model):
        async def run(self, ctx: Context, task: Task) -> str:
            number = 1
            while True:
                try:
                    return await task.steerable(self.deep(ctx, task, number, 5))
                except Exception as error:  # noqa: BLE001 - the fault
                    return f"error: {error}"
                except Steered:
                    number += 1
                    await task.steering()

        async def deep(self, ctx: Context, task: Task, number: int, levels: int) -> str:
            if levels == 0:
                return str(await self.call(ctx, task, number))
            try:
                beside = asyncio.ensure_future(self.deep(ctx, task, number, levels - 1))
                (text,) = await asyncio.gather(beside)
            except Exception as error:  # noqa: BLE001 - the fault
                return f"error: {error}"
            return text

    agent = PassesAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("begin", "model 1")
    await tells.steer(session, task_id, "no, this")
    outcome = await session.attach()
    messages = [*kept("Half an answer 1"), user("no, this"), assistant("answer 2")]
    assert outcome["messages"] == messages


@pytest.mark.parametrize("how", ["returns", "raises", "asks again"])
async def test_code_that_swallows_it_does_not_get_past_the_end_of_what_is_steerable(
    restate_env: Restate, deploy: Deploy, log: Log, how: str
) -> None:
    class SwallowsSteeredAgent(Model):
        async def run(self, ctx: Context, task: Task) -> str:
            number = 1
            while True:
                try:
                    return await task.steerable(self.swallow(ctx, task, number))
                except Steered:
                    number += 1
                    await task.steering()

        async def swallow(self, ctx: Context, task: Task, number: int) -> str:
            try:
                return str(await self.call(ctx, task, number))
            except BaseException as error:  # the fault
                if not isinstance(error, Steered):
                    raise
            if how == "raises":
                raise ValueError("the model said nothing")
            if how == "asks again":
                with contextlib.suppress(Steered):
                    await ctx.run_typed("again", self.note, RunOptions(), "again")
            return "nothing"

    agent = SwallowsSteeredAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent, how.replace(" ", "-"))
    await log.until("begin", "model 1")
    await tells.steer(session, task_id, "no, this")
    outcome = await session.attach()
    messages = [*kept("Half an answer 1"), user("no, this"), assistant("answer 2")]
    assert outcome["messages"] == messages
    assert ("again",) not in log.events


async def test_out_of_run_it_has_run_called_again_and_a_cleanup_block_has_ended_well(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    seen: list[list[Any]] = []

    class RunAgainAgent(Model):
        async def run(self, ctx: Context, task: Task) -> str:
            seen.append([x["content"] for x in task.messages])
            number = 1 + sum(x["role"] == "user" for x in task.messages[1:])
            async with cleanup(ctx) as undo:
                undo.on_exit("exit", self.note, "exit", number)
                undo.on_error("error", self.note, "error", number)
                undo.on_interrupt("interrupt", self.note, "interrupt", number)
                task.append(f"plan {number}")
                return str(await task.steerable(self.call(ctx, task, number)))

    agent = RunAgainAgent(log, slow=2)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("begin", "model 1")
    await tells.steer(session, task_id, "no, this")
    await log.until("begin", "model 2")
    await tells.steer(session, task_id, "no, that")
    outcome = await session.attach()
    first = [assistant("plan 1"), *kept("Half an answer 1"), user("no, this")]
    second = [assistant("plan 2"), *kept("Half an answer 2"), user("no, that")]
    messages = [*first, *second, assistant("plan 3"), assistant("answer 3")]
    assert (outcome["status"], outcome["messages"]) == ("completed", messages)
    if not REPLAY:
        assert outcome.get("cut_short") == [1, 4]
    assert seen[-1] == ["go", *(x["content"] for x in messages[:-2])]
    assert log.of("exit", "error", "interrupt") == [("exit", 1), ("exit", 2), ("exit", 3)]


async def test_what_run_left_behind_ends_before_it_is_called_again(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class LeavesAgent(Model):
        async def run(self, ctx: Context, task: Task) -> str:
            number = 1 + sum(x["role"] == "user" for x in task.messages[1:])

            async def use() -> None:
                while number == 1:
                    try:
                        await ctx.sleep(HOUR)
                    except BaseException as error:
                        await log.add("left", type(error).__name__)
                        raise

            call = task.steerable(self.call(ctx, task, number))
            return str((await asyncio.gather(call, use(), self.use(ctx, number)))[0])

        async def use(self, ctx: Context, number: int) -> None:
            if number == 1 and not REPLAY:
                await ctx.run_typed("tool", self.tool, name="tool")
                await log.add("never")

    agent = LeavesAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("begin", "model 1")
    await tells.steer(session, task_id, "no, this")
    outcome = await session.attach()
    messages = [*kept("Half an answer 1"), user("no, this"), assistant("answer 2")]
    assert (outcome["status"], outcome["messages"]) == ("completed", messages)
    assert log.events.index(("left", "Steered")) < log.events.index(("begin", "model 2"))
    assert ("never",) not in log.events


@pytest.mark.parametrize("how_many", [1, 2])
async def test_what_comes_while_nothing_is_steerable_is_raised_once_before_the_next_step_begins(
    restate_env: Restate, deploy: Deploy, log: Log, how_many: int
) -> None:
    class EarlyAgent(Model):
        async def run(self, ctx: Context, task: Task) -> str:
            await ctx.run_typed("tool", self.tool, name="tool")
            times = 0
            while True:
                try:
                    answer = await task.steerable(self.call(ctx, task, 9))
                except Steered:
                    times += 1
                else:
                    took = await task.steering()
                    return f"{answer}, steered {times} times, of {len(took)}"

    agent = EarlyAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent, f"{how_many}")
    await log.until("begin", "tool")
    for number in range(how_many):
        await tells.steer(session, task_id, f"no, {number}")
    agent.let("tool")
    outcome = await session.attach()
    assert outcome["messages"][-1] == assistant(f"answer 9, steered 1 times, of {how_many}")
    assert "cut_short" not in outcome
    assert log.events.count(("begin", "model 9")) == 1


async def test_it_ends_waits_and_selects_and_what_is_shielded_within_goes_on(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class WaitsAgent(Model):
        async def run(self, ctx: Context, task: Task) -> str:
            ended: list[str] = []
            for number, wait in enumerate(self.waits(ctx)):
                try:
                    await self.noted(ctx, "waits", number)
                    await task.steerable(wait())
                except Steered:
                    ended.append(str(number))
                    await task.steering()
            return ", ".join(ended)

        def waits(self, ctx: Context) -> list[Callable[[], Any]]:
            return [
                lambda: ctx.sleep(HOUR),
                lambda: restate.select(one=ctx.sleep(HOUR), two=ctx.signal("never")),
                lambda: restate.gather(ctx.sleep(HOUR), ctx.signal("never")),
                lambda: shield(ctx.run_typed("tool", self.tool, name="tool")),
                lambda: asyncio.wait_for(ctx.signal("never"), 1000),
            ]

    agent = WaitsAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    for number in range(4):
        await log.until("waits", number)
        if number == 3:
            await log.until("begin", "tool")
        await tells.steer(session, task_id, f"no, {number}")
        if number == 3:
            agent.let("tool")
    outcome = await session.attach()
    # What came while the shielded one was awaited ends the wait after it.
    assert outcome["messages"][-1] == assistant("0, 1, 2, 4")


async def test_the_turn_can_be_interrupted_right_after(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class ThenInterruptedAgent(Model):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn > 1:
                return "done"
            async with cleanup(ctx) as undo:
                undo.on_interrupt("undo", self.note, "undo")
                return await self.one_answer(ctx, task)

    agent = ThenInterruptedAgent(log, slow=2)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("begin", "model 1")
    await tells.steer(session, task_id, "no, this")
    await log.until("begin", "model 2")
    assert (await session.ask("stop"))["status"] == "completed"
    said = kept("Half an answer 1")
    outcome = await session.attach(1)
    assert outcome["status"] == "interrupted"
    assert outcome["messages"] == [*said, user("no, this"), *kept("Half an answer 2")]
    assert (outcome.get("cut_short"), outcome.get("partial")) == (
        (None, None) if REPLAY else ([0], 1)
    )
    assert log.of("undo") == [("undo",)]


async def test_interrupted_while_its_words_are_kept_the_turn_ends_and_has_them(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class BothAtOnceAgent(Model):
        async def run(self, ctx: Context, task: Task) -> str:
            try:
                return str(await task.steerable(self.call(ctx, task, 1)))
            except Steered:
                await ctx.run_typed("tool", self.tool, name="tool")
                raise

    agent = BothAtOnceAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("begin", "model 1")
    await tells.now(task_id)
    await log.until("begin", "tool")
    await session.cancel()
    if REPLAY:
        agent.let("tool")
    outcome = await session.attach()
    assert (outcome["status"], outcome["messages"]) == ("interrupted", kept("Half an answer 1"))
    assert "partial" not in outcome


@normal_mode
async def test_the_words_of_all_that_was_cut_off_stay_apart_and_blank_ones_are_none(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class TogetherAgent(Model):
        async def run(self, ctx: Context, task: Task) -> str:
            calls = [self.say(ctx, task, x) for x in ("one ", "  ", "three")]
            try:
                await task.steerable(asyncio.wait_for(self.all(calls), None))
            except Steered:
                return "done"
            return "never"

        def say(self, ctx: Context, task: Task, words: str) -> Any:
            return ctx.run_typed("say", self.utter, say=task.partial, words=words)

        async def utter(self, say: Callable[[str], None], words: str) -> None:
            say(words)
            await log.add("said", words)
            await asyncio.Event().wait()

        async def all(self, calls: list[Any]) -> None:
            await restate.gather(*calls)

    agent = TogetherAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    for words in ("one ", "  ", "three"):
        await log.until("said", words)
    await tells.now(task_id)
    outcome = await session.attach()
    assert outcome["messages"] == [*map(assistant, ("one ", "three", "done"))]
    assert outcome.get("cut_short") == [0, 1]


async def test_steerable_refuses_what_has_begun_in_an_asyncio_task(
    restate_env: Restate, deploy: Deploy
) -> None:
    class BegunAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            begun = asyncio.ensure_future(asyncio.sleep(0))
            try:
                await task.steerable(begun)
            except TypeError as error:
                await begun
                return str(error)
            return "never"

    agent = BegunAgent()
    await deploy(agent)
    outcome = await Session(restate_env.client, agent, "one").ask("go")
    assert outcome["messages"][0]["content"].startswith("task.steerable() takes a durable future")


async def test_a_future_that_was_cut_off_can_be_awaited_again(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class SameAgent(Model):
        async def run(self, ctx: Context, task: Task) -> str:
            call = ctx.run_typed("tool", self.tool, name="tool")
            with contextlib.suppress(Steered):
                await task.steerable(call)
            await self.noted(ctx, "again")
            return str(await task.steerable(call))

    agent = SameAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("begin", "tool")
    await tells.now(task_id)
    if REPLAY:  # or it would hold up the attempt that hears
        agent.let("tool")
    await log.until("again")
    agent.let("tool")
    outcome = await session.attach()
    assert outcome["messages"] == [assistant("tool")]


async def test_a_failure_beside_it_is_the_turns(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class FailsAgent(Model):
        async def run(self, ctx: Context, task: Task) -> str:
            with contextlib.suppress(Steered):
                await task.steerable(self.call(ctx, task, 1))
            raise TerminalError("no luck", 418)

    agent = FailsAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("begin", "model 1")
    await tells.now(task_id)
    outcome = await session.attach()
    assert (outcome["status"], outcome.get("error")) == ("failed", "no luck")
    assert outcome["messages"] == kept("Half an answer 1")


async def test_cancelled_first_nothing_is_steered(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class CancelledFirstAgent(Model):
        async def run(self, ctx: Context, task: Task) -> str:
            try:
                return str(await task.steerable(self.call(ctx, task, 1)))
            except BaseException as error:
                await log.add("raised", type(error).__name__)
                raise

        async def on_interrupted(self, ctx: Context, task: Task) -> None:
            await ctx.run_typed("tool", self.tool, name="tool")
            try:
                await task.steerable(ctx.run_typed("last", self.note, RunOptions(), "last"))
            except BaseException as error:
                await log.add("raised", type(error).__name__)
                raise

    agent = CancelledFirstAgent(log)
    session, tells, task_id = await begun(restate_env, deploy, agent)
    await log.until("begin", "model 1")
    await session.cancel()
    await log.until("begin", "tool")
    await tells.now(task_id)
    agent.let("tool")
    outcome = await session.attach()
    assert outcome["status"] == "interrupted"
    assert ("raised", Interrupted.__name__) in log.events
    assert ("raised", Steered.__name__) not in log.events
    assert ("last",) in log.events
