"""Pydantic AI at its edges: what is rare in one turn, and common in ten thousand."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel
from pydantic_ai import BinaryContent, DeferredToolResults, TextOutput, Tool, ToolReturn
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import CallDeferred
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.tools import DeferredToolRequests
from restate import Context, RunOptions
from restate.extensions import current_context

from interruptible import Agent, Session, Steered, Task, current_task
from interruptible._cancel.steered import Scope, scope
from interruptible._task.repair import INTERRUPTED, NOT_BEGUN
from interruptible._wire.output import Conversation
from interruptible.ext import pydantic_ai
from interruptible.ext._adapter import Feed
from interruptible.formats.pydantic_ai import to_messages
from tests.server.conftest import normal_mode

from .contract import keep, plain
from .offline import Answer, Log, Offline, calls, last, promised, says, tools
from .test_pydantic_ai import agent_of, open_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Sequence

    from interruptible import Message
    from interruptible.testing import Restate
    from tests.server.conftest import Deploy

pytestmark = pytest.mark.anyio


def once(log: Log, call: Answer, end: Answer) -> Offline:
    return Offline(log, lambda asked: call if asked[-1]["role"] == "user" else end)


def returning(made: Any, name: str, **options: Any) -> Agent:
    class Returning(Agent):
        async def run(self, ctx: Context, task: Task) -> Any:
            return (await pydantic_ai.run(made, task, **options)).output

    return Returning(name=name)


async def test_a_tool_that_returns_none(restate_env: Restate, deploy: Deploy, log: Log) -> None:
    async def nothing(word: str) -> None:
        """Nothing."""

    model = once(log, calls(a="nothing moon"), says("Ok."))
    session = await open_session(
        restate_env, deploy, pydantic_ai.agent(agent_of(model, "none one", nothing))
    )
    for _ in range(2):
        outcome = await session.ask("Go.")
        assert outcome["status"] == "completed", outcome


class Trip(BaseModel):
    city: str
    nights: int | None = None


async def test_output_with_an_optional_field_returned_by_run(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    model = Offline(log, lambda _: Answer(calls=(("a", "final_result", {"city": "Rome"}),)))
    made = agent_of(model, "b2", output_type=Trip)
    session = await open_session(restate_env, deploy, returning(made, "B2Agent"))
    outcome = await session.ask("Go.")
    assert outcome["status"] == "completed", outcome
    assert plain(outcome["messages"])[2:] == [("assistant", '{"city":"Rome","nights":null}')]


@dataclass
class When:
    day: date


async def test_a_dataclass_with_a_date_returned_by_run(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    model = Offline(log, lambda _: Answer(calls=(("a", "final_result", {"day": "2026-01-02"}),)))
    made = agent_of(model, "b3", output_type=When)
    session = await open_session(restate_env, deploy, returning(made, "B3Agent"))
    outcome = await session.ask("Go.")
    assert outcome["status"] == "completed", outcome
    assert plain(outcome["messages"])[2:] == [("assistant", '{"day":"2026-01-02"}')]


@pytest.mark.parametrize("kind", ["list", "bool", "int", "dates", "none"])
async def test_other_outputs(restate_env: Restate, deploy: Deploy, log: Log, kind: str) -> None:
    types: dict[str, Any] = {
        "list": (list[str], ["a"]),
        "bool": (bool, False),
        "int": (int, 0),
        "dates": (list[date], ["2026-01-02"]),
        "none": (list[Trip], [{"city": "x", "nights": None}]),
    }
    of, value = types[kind]
    model = Offline(log, lambda _: Answer(calls=(("a", "final_result", {"response": value}),)))
    made = agent_of(model, "b3o", output_type=of)
    session = await open_session(restate_env, deploy, returning(made, f"B3{kind}Agent"))
    outcome = await session.ask("Go.")
    assert outcome["status"] == "completed", outcome
    assert len(outcome["messages"]) == 3


async def test_cut_off_in_an_output_function_it_has_begun(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    known = tools(log)

    async def book(city: str) -> str:
        """Book."""
        ctx = current_context()
        assert ctx
        await ctx.run_typed("book", log.step, RunOptions(), name="book")
        return await known["slow"]("sun")

    def script(asked: list[Any]) -> Answer:
        if last(asked) == "Stop.":
            return says("Good.")
        if asked[-1]["role"] == "user":
            return calls(a="look moon")
        return Answer(calls=(("b", "final_result", {"city": "Rome"}),))

    made = agent_of(Offline(log, script), "b4", known["look"], output_type=[book, str])
    session = await open_session(restate_env, deploy, pydantic_ai.agent(made))
    await session.send("Book.")
    await log.until("begin", "slow sun")
    await session.ask("Stop.")
    outcome = await session.attach(1)
    assert plain(outcome["messages"])[-1] == ("tool", INTERRUPTED, "b")
    assert outcome["cut_off"] == ["b"]


async def test_an_event_stream_handler_of_the_run(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def handle(_: Any, events: Any) -> None:
        async for _event in events:
            await log.add("event")

    made = agent_of(Offline(log, lambda _: says("Hi.")), "b5")
    session = await open_session(
        restate_env, deploy, returning(made, "B5Agent", event_stream_handler=handle)
    )
    outcome = await asyncio.wait_for(session.ask("Go."), 20)
    assert plain(outcome["messages"]) == [("assistant", "Hi.")]


class Redacting(AbstractCapability[Any]):
    async def after_tool_execute(self, ctx: Any, *, result: Any, **_: Any) -> Any:
        return "redacted"

    async def after_model_request(self, ctx: Any, *, request_context: Any, response: Any) -> Any:
        parts = [
            TextPart(x.content.upper()) if isinstance(x, TextPart) else x for x in response.parts
        ]
        return ModelResponse(parts)


@pytest.mark.parametrize("where", ["agent", "run"])
async def test_what_a_capability_makes_of_it_is_in_the_record(
    restate_env: Restate, deploy: Deploy, log: Log, where: str
) -> None:
    model = once(log, calls(a="look moon"), says("Good."))
    own = {"capabilities": [Redacting()]}
    made = agent_of(model, "b6", tools(log)["look"], **(own if where == "agent" else {}))
    agent = returning(made, f"B6{where}Agent", **(own if where == "run" else {}))
    session = await open_session(restate_env, deploy, agent)
    outcome = await session.ask("Go.")
    assert plain(outcome["messages"]) == [
        ("assistant", "", "a"),
        ("tool", "redacted", "a"),
        ("assistant", "GOOD."),
    ]


class Odd:
    pass


async def test_an_output_that_is_no_json_fails_the_turn_once(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    def parse(text: str) -> Any:
        return Odd()

    model = Offline(log, lambda _: says("Hi."))
    made = agent_of(model, "b7", output_type=TextOutput(parse))
    session = await open_session(restate_env, deploy, pydantic_ai.agent(made))
    outcome = await asyncio.wait_for(session.ask("Go."), 20)
    assert outcome["status"] in ("failed", "completed"), outcome


async def test_a_deferred_call_that_a_run_of_ones_own_answers(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def elsewhere(word: str) -> str:
        """Elsewhere."""
        raise CallDeferred

    model = once(log, calls(a="elsewhere moon"), says("Good."))
    made = agent_of(model, "b8", elsewhere, output_type=[str, DeferredToolRequests])

    class DeferredAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> Any:
            result = await pydantic_ai.run(made, task)
            assert isinstance(result.output, DeferredToolRequests)
            results = DeferredToolResults(calls={"a": "found moon"})
            result = await pydantic_ai.run(made, task, deferred_tool_results=results)
            return result.output

    session = await open_session(restate_env, deploy, DeferredAgent())
    outcome = await session.ask("Go.")
    assert plain(outcome["messages"]) == [
        ("assistant", "", "a"),
        ("tool", "found moon", "a"),
        ("assistant", "Good."),
    ]


async def test_a_history_processor_puts_out_nothing(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    from pydantic_ai.capabilities import ProcessHistory

    async def shorten(messages: list[ModelMessage]) -> list[ModelMessage]:
        return (
            [ModelRequest([UserPromptPart("Summary.")]), *messages[-2:]]
            if len(messages) > 2
            else messages
        )

    model = once(log, calls(a="look moon"), says("Good."))
    made = agent_of(model, "b10", tools(log)["look"], capabilities=[ProcessHistory(shorten)])
    session = await open_session(restate_env, deploy, pydantic_ai.agent(made))
    for _ in range(2):
        outcome = await session.ask("Go.")
        assert plain(outcome["messages"]) == [
            ("assistant", "", "a"),
            ("tool", "found moon", "a"),
            ("assistant", "Good."),
        ]


async def test_what_a_tool_gives_besides_its_result_is_kept_when_another_is_cut_off(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def snap(word: str) -> ToolReturn[str]:
        await log.add("snapped")
        return ToolReturn(
            "shot", content=["Look: ", BinaryContent(b"hello", media_type="image/png")]
        )

    model = Offline(
        log, lambda x: says("Good.") if last(x) == "Stop." else calls(a="snap moon", b="slow sun")
    )
    session = await open_session(
        restate_env, deploy, pydantic_ai.agent(agent_of(model, "b11", snap, tools(log)["slow"]))
    )
    await session.send("Go.")
    await log.until("begin", "slow sun")
    await log.until("snapped")
    await session.ask("Stop.")
    outcome = await session.attach(1)
    assert "Look: " in str(outcome["messages"])


async def test_parallel_tools_with_several_steps_each(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def many(word: str) -> str:
        """Many."""
        ctx = current_context()
        assert ctx
        for n in range(6):
            await ctx.run_typed(
                f"{word} {n}",
                log.step,
                RunOptions(),
                name=f"{word} {n}",
                seconds=0.01 * (hash((word, n)) % 5),
            )
        return f"done {word}"

    model = once(log, calls(a="many moon", b="many sun", c="many stars"), says("Good."))
    session = await open_session(
        restate_env, deploy, pydantic_ai.agent(agent_of(model, "b12", many))
    )
    outcome = await asyncio.wait_for(session.ask("Go."), 60)
    assert plain(outcome["messages"])[-1] == ("assistant", "Good."), outcome
    assert all(n == 1 for n in map(log.events.count, log.of("end")))


async def test_a_sync_tool(restate_env: Restate, deploy: Deploy, log: Log) -> None:
    def sync(word: str) -> str:
        """Sync."""
        log.events.append(("sync", word))
        time.sleep(0.5)
        return f"{word} {current_task().turn}"

    model = Offline(
        log,
        lambda x: (
            says("Good.") if last(x) == "Stop." or x[-1]["role"] == "tool" else calls(a="sync moon")
        ),
    )
    session = await open_session(
        restate_env, deploy, pydantic_ai.agent(agent_of(model, "b13", sync))
    )
    outcome = await session.ask("Go.")
    assert plain(outcome["messages"])[1] == ("tool", "moon 1", "a")
    await session.send("Go.")
    while len(log.of("sync")) < 2:
        await asyncio.sleep(0.01)
    outcome = await asyncio.wait_for(session.ask("Stop."), 20)
    assert plain(outcome["messages"]) == [("assistant", "Good.")]


async def test_half_a_surrogate_pair_in_an_object_that_a_tool_returns(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def bad(word: str) -> Any:
        """Bad."""
        return "x\ud800y" if word == "text" else {"k\ud800": "x\ud800y"}

    model = once(log, calls(a="bad text", b="bad dict"), says("Good."))
    session = await open_session(
        restate_env, deploy, pydantic_ai.agent(agent_of(model, "b14", bad))
    )
    for _ in range(2):
        outcome = await asyncio.wait_for(session.ask("Go."), 20)
        assert outcome["status"] == "completed", outcome


async def test_two_steers(restate_env: Restate, deploy: Deploy, log: Log) -> None:
    def script(messages: list[Any]) -> Answer:
        return says("Done.") if len(messages) > 1 else calls(a="hold Godot")

    model = Offline(log, script)
    session = await open_session(
        restate_env, deploy, pydantic_ai.agent(agent_of(model, "b16", tools(log)["hold"]))
    )
    await session.send("Wait.")
    promise = await log.first("held")
    await session.send("One.", policy="steer")
    await session.send("Two.", policy="steer")
    await keep(restate_env, promise, None)
    outcome = await session.attach(1)
    done = [("assistant", "", "a"), ("tool", "Godot came", "a"), ("user", "One."), ("user", "Two.")]
    assert plain(outcome["messages"]) == [*done, ("assistant", "Done.")]
    assert "One." in str(model.requests[-1]) and "Two." in str(model.requests[-1])
    outcome = await session.ask("And?")
    assert outcome["status"] == "completed"


async def test_parallel_one_fails_terminal(restate_env: Restate, deploy: Deploy, log: Log) -> None:
    model = Offline(
        log,
        lambda x: (
            says("Good.")
            if last(x) == "Stop."
            else calls(a="fail luck", b="slow sun", c="look moon")
        ),
    )
    known = tools(log)
    session = await open_session(
        restate_env,
        deploy,
        pydantic_ai.agent(agent_of(model, "b18", *(known[x] for x in ("fail", "slow", "look")))),
    )
    outcome = await asyncio.wait_for(session.ask("Go."), 20)
    assert outcome["status"] == "failed"
    assert "no luck" in outcome["error"]
    assert (await session.ask("Stop."))["status"] == "completed"


async def test_an_agent_with_its_own_event_stream_handler(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    from pydantic_ai.capabilities import ProcessEventStream

    async def handle(_: Any, events: Any) -> None:
        async for _event in events:
            await log.add("event")

    made = agent_of(
        Offline(log, lambda _: says("Hi.")), "b19", capabilities=[ProcessEventStream(handle)]
    )
    session = await open_session(restate_env, deploy, pydantic_ai.agent(made))
    outcome = await asyncio.wait_for(session.ask("Go."), 20)
    assert plain(outcome["messages"]) == [("assistant", "Hi.")]


async def test_what_a_tool_enqueues_is_in_the_record_once(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    from pydantic_ai import RunContext

    async def telling(ctx: RunContext[None], word: str) -> str:
        """Tell."""
        ctx.enqueue(f"By the way: {word}.")
        return "told"

    telling.__annotations__["ctx"] = RunContext[None]
    model = Offline(
        log,
        lambda x: says("Good.") if any(y["role"] == "tool" for y in x) else calls(a="telling moon"),
    )
    session = await open_session(
        restate_env,
        deploy,
        pydantic_ai.agent(agent_of(model, "b20", Tool(telling, takes_ctx=True))),
    )
    outcome = await session.ask("Go.")
    assert plain(outcome["messages"]) == [
        ("assistant", "", "a"),
        ("tool", "told", "a"),
        ("user", "By the way: moon."),
        ("assistant", "Good."),
    ]


class Cached(AbstractCapability[Any]):
    async def wrap_model_request(self, ctx: Any, *, request_context: Any, handler: Any) -> Any:
        from pydantic_ai.messages import ToolCallPart

        if len(request_context.messages) == 1:
            return ModelResponse([ToolCallPart("look", {"word": "moon"}, "a")])
        return await handler(request_context)


async def test_an_answer_that_a_capability_gives_is_in_the_record(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    model = Offline(log, lambda _: says("Good."))
    made = agent_of(model, "b21", tools(log)["look"], capabilities=[Cached()])
    session = await open_session(restate_env, deploy, pydantic_ai.agent(made))
    outcome = await session.ask("Go.")
    assert plain(outcome["messages"]) == [
        ("assistant", "", "a"),
        ("tool", "found moon", "a"),
        ("assistant", "Good."),
    ]


class Refusing(AbstractCapability[Any]):
    async def after_model_request(self, ctx: Any, *, request_context: Any, response: Any) -> Any:
        from pydantic_ai import ModelRetry

        if response.text == "Bad.":
            raise ModelRetry("Better.")
        return response


async def test_an_answer_that_a_capability_refuses_is_in_the_record_once(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    model = Offline(log, lambda x: says("Bad.") if len(x) == 1 else says("Good."))
    made = agent_of(model, "b22", capabilities=[Refusing()])
    session = await open_session(restate_env, deploy, pydantic_ai.agent(made))
    outcome = await session.ask("Go.")
    assert [x["role"] for x in outcome["messages"]] == ["assistant", "user", "assistant"]
    assert (await session.ask("Go."))["status"] == "completed"


async def test_a_limit_of_tokens_keeps_the_answer(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    from pydantic_ai import UsageLimits

    made = agent_of(Offline(log, lambda _: says("Good. " * 50)), "b23")
    agent = returning(made, "B23Agent", usage_limits=UsageLimits(output_tokens_limit=5))
    session = await open_session(restate_env, deploy, agent)
    outcome = await asyncio.wait_for(session.ask("Go."), 20)
    assert outcome["status"] == "failed"
    assert [x["role"] for x in outcome["messages"]] == ["assistant"], outcome


async def test_a_tool_that_returns_an_image(restate_env: Restate, deploy: Deploy, log: Log) -> None:
    asked: list[Any] = []

    async def snap(word: str) -> Any:
        """Snap."""
        return ["Look: ", BinaryContent(b"\xff\xfehello", media_type="image/png")]

    def script(x: Any) -> Answer:
        return calls(a="snap moon") if x[-1]["role"] == "user" and len(x) < 3 else says("Good.")

    model = Offline(log, script)
    session = await open_session(
        restate_env, deploy, pydantic_ai.agent(agent_of(model, "b24", snap))
    )
    outcome = await asyncio.wait_for(session.ask("Go."), 20)
    assert outcome["status"] == "completed", outcome
    outcome = await asyncio.wait_for(session.ask("Go."), 20)
    assert outcome["status"] == "completed", outcome


@pytest.mark.parametrize("parts", [[], [TextPart("")], [TextPart(" ")]])
async def test_empty_answers(restate_env: Restate, deploy: Deploy, log: Log, parts: Any) -> None:
    from pydantic_ai.models.function import FunctionModel

    given: list[Any] = []

    def answer(messages: Any, info: Any) -> ModelResponse:
        given.append(messages)
        return ModelResponse([*parts] if len(given) == 1 else [TextPart("Hi.")])

    name = f"b25 {len(parts) and len(parts[0].content) + 1}"
    session = await open_session(
        restate_env, deploy, pydantic_ai.agent(agent_of(FunctionModel(answer), name))
    )
    for _ in range(2):
        outcome = await asyncio.wait_for(session.ask("Go."), 20)
        assert outcome["status"] == "completed", outcome


async def test_thinking_alone_and_unsigned(restate_env: Restate, deploy: Deploy, log: Log) -> None:
    from pydantic_ai.messages import ThinkingPart
    from pydantic_ai.models.function import FunctionModel

    given: list[Any] = []

    def answer(messages: Any, info: Any) -> ModelResponse:
        given.append([*messages])
        return ModelResponse(
            [ThinkingPart("Hm.")] if len(given) == 1 else [ThinkingPart("Hm."), TextPart("Hi.")]
        )

    session = await open_session(
        restate_env, deploy, pydantic_ai.agent(agent_of(FunctionModel(answer), "b26"))
    )
    for _ in range(2):
        outcome = await asyncio.wait_for(session.ask("Go."), 20)
        assert outcome["status"] == "completed", outcome


@pytest.mark.parametrize("where", ["handler", "capability"])
async def test_who_hears_events_can_be_interrupted_too(
    restate_env: Restate, deploy: Deploy, log: Log, where: str
) -> None:
    from pydantic_ai.capabilities import ProcessEventStream

    async def handle(_: Any, events: Any) -> None:
        async for _event in events:
            await log.add("event")

    known = tools(log)

    def script(x: list[Any]) -> Answer:
        if last(x) == "Stop.":
            return says("Good.")
        if last(x) == "Speak.":
            return Answer(("Half an ", "answer"), stays=True)
        return calls(a="look moon", b="slow sun")

    caps = [ProcessEventStream(handle)] if where == "capability" else []
    made = agent_of(Offline(log, script), "b27", known["look"], known["slow"], capabilities=caps)
    options: Any = {"event_stream_handler": handle} if where == "handler" else {}
    session = await open_session(
        restate_env, deploy, returning(made, f"B27{where}Agent", **options)
    )
    await session.send("Go.")
    await log.until("begin", "slow sun")
    await log.until("end", "look moon")
    outcome = await asyncio.wait_for(session.ask("Stop."), 20)
    assert plain(outcome["messages"]) == [("assistant", "Good.")]
    outcome = await session.attach(1)
    assert plain(outcome["messages"]) == [
        ("assistant", "", "a", "b"),
        ("tool", "found moon", "a"),
        ("tool", INTERRUPTED, "b"),
    ]
    from tests.server.conftest import REPLAY

    if REPLAY:
        return
    await session.send("Speak.")
    await log.until("said", "Half an answer")
    outcome = await asyncio.wait_for(session.ask("Stop."), 20)
    assert plain(outcome["messages"]) == [("assistant", "Good.")]
    assert plain((await session.attach(3))["messages"]) == [("assistant", "Half an answer")]


async def test_nested_run_of_the_same_task_in_a_tool(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    inner = agent_of(Offline(log, lambda _: says("Inner.")), "inner")

    async def consult(word: str) -> str:
        """Consult."""
        return (
            await pydantic_ai.run(inner, current_task(), user_prompt=word, message_history=[])
        ).output

    model = once(log, calls(a="consult moon"), says("Good."))
    session = await open_session(
        restate_env, deploy, pydantic_ai.agent(agent_of(model, "b30", consult))
    )
    for _ in range(2):
        outcome = await asyncio.wait_for(session.ask("Go."), 20)
        assert outcome["status"] == "completed", outcome


async def test_steered_while_an_output_is_validated_and_refused(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    from pydantic_ai import ModelRetry

    def script(x: list[Any]) -> Answer:
        return Answer(calls=((f"f{len(x)}", "final_result", {"city": "Rome"}),))

    made = agent_of(model := Offline(log, script), "b31", output_type=Trip)
    tried: list[int] = []

    @made.output_validator
    async def check(output: Trip) -> Trip:
        tried.append(1)
        if await promised(log, "held"):
            return output
        raise ModelRetry("Again.")

    session = await open_session(restate_env, deploy, returning(made, "B31Agent"))
    await session.send("Go.")
    promise = await log.first("held")
    await session.send("One.", policy="steer")
    await session.send("Two.", policy="steer")
    await keep(restate_env, promise, None)
    while len({x[1] for x in log.of("held")}) < 2:
        await asyncio.sleep(0.05)
    second = next(x[1] for x in log.of("held") if x[1] != promise)
    await session.send("Three.", policy="steer")
    await keep(restate_env, second, True)
    outcome = await session.attach(1)
    roles = [x["role"] for x in outcome["messages"]]
    assert roles == ["assistant", "tool", "user", "user", "assistant", "tool", "assistant"], roles


async def test_regenerate_and_fork_with_framework_turns(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    n = []

    def script(x: list[Any]) -> Answer:
        n.append(1)
        return says(f"Answer {len(n)}.") if x[-1]["role"] == "tool" else calls(a="look moon")

    made = agent_of(model := Offline(log, script), "b32", tools(log)["look"])
    session = await open_session(restate_env, deploy, pydantic_ai.agent(made))
    await session.ask("One.")
    await session.ask("Two.")
    receipt = await session.regenerate(2)
    outcome = await session.attach(receipt["turn"])
    assert outcome["status"] == "completed"
    assert [x["role"] for x in model.requests[-1]] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
        "assistant",
        "tool",
    ]


async def test_a_tool_beside_one_that_waits_for_approval(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def approve(tool: str, arguments: dict[str, Any]) -> bool | str:
        return await promised(log, "approve")

    known = tools(log)
    model = Offline(
        log,
        lambda x: (
            says("Good.")
            if last(x) == "Stop." or x[-1]["role"] == "tool"
            else calls(a="look moon", b="hold bill", c="hold rent")
        ),
    )
    made = agent_of(
        model,
        "b34",
        known["look"],
        Tool(known["hold"], requires_approval=True),
        output_type=[str, DeferredToolRequests],
    )
    await deploy(agent := pydantic_ai.agent(made, approve=approve))
    session = Session(restate_env.client, agent, "one")
    await session.send("Pay.")
    await log.first("approve")
    assert plain((await session.ask("Stop."))["messages"]) == [("assistant", "Good.")]
    outcome = await session.attach(1)
    assert plain(outcome["messages"]) == [
        ("assistant", "", "a", "b", "c"),
        ("tool", "found moon", "a"),
        ("tool", NOT_BEGUN, "b"),
        ("tool", NOT_BEGUN, "c"),
    ]


@pytest.mark.xfail(
    reason="ReinjectSystemPrompt does nothing where a system message is", strict=True
)
async def test_a_note_of_the_system_keeps_the_agents_prompt(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    from pydantic_ai.messages import SystemPromptPart
    from pydantic_ai.models.function import FunctionModel

    told: list[Any] = []

    def answer(messages: Any, info: Any) -> ModelResponse:
        parts = [x for y in messages if isinstance(y, ModelRequest) for x in y.parts]
        told.append([x.content for x in parts if isinstance(x, SystemPromptPart)])
        return ModelResponse([TextPart("Hi.")])

    made = agent_of(FunctionModel(answer), "b38", system_prompt="Be kind.")

    class NotedAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            await pydantic_ai.run(made, task)

        def conversation(self, turns: Any) -> list[Any]:
            return [{"role": "system", "content": "Ada likes tea."}, *super().conversation(turns)]

    session = await open_session(restate_env, deploy, NotedAgent())
    for _ in range(2):
        outcome = await asyncio.wait_for(session.ask("Go."), 15)
        assert outcome["status"] == "completed", outcome
    assert all({"Be kind.", "Ada likes tea."} <= {*x} for x in told), told


# -- A message that is to be read at once. ---------------------------------------------------------


@normal_mode
@pytest.mark.parametrize("where", ["streamed", "not streamed", "handler"])
async def test_what_cuts_off_the_model_is_in_the_result_and_the_instructions_stay(
    restate_env: Restate, deploy: Deploy, log: Log, where: str
) -> None:
    results: list[Any] = []
    told: list[tuple[str | None, list[str]]] = []
    heard: list[Any] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> str | None:
        told.append((info.instructions, [type(x).__name__ for x in messages]))
        asked = [x["content"] for x in to_messages(messages) if x["role"] == "user"]
        return f"Heard {asked}." if "This." in asked else None

    async def stays(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if said := answer(messages, info):
            return ModelResponse([TextPart(said)])
        await log.step("stay", 60.0)
        return ModelResponse([TextPart("Never.")])

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        if said := answer(messages, info):
            yield said
            return
        yield "Half an answer"
        await log.step("stay", 60.0)

    async def handle(_: Any, events: AsyncIterable[Any]) -> None:
        heard.extend([event async for event in events])

    streams = where != "not streamed"
    model = FunctionModel(stream_function=stream) if streams else FunctionModel(stays)
    made = agent_of(model, "cut", instructions="Be brief.")
    options: dict[str, Any] = {"event_stream_handler": handle} if where == "handler" else {}

    class CutAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> Any:
            results.append(await pydantic_ai.run(made, task, **options))
            return results[-1].output

    agent = CutAgent(f"Cut{where.title().replace(' ', '')}Agent")
    session = await open_session(restate_env, deploy, agent)
    await session.send("Go.")
    await log.until("begin", "stay")
    await session.send("This.", policy="steer", now=True)
    outcome = await session.attach(1)
    said = "Heard ['Go.', 'This.']."
    words = [("assistant", "Half an answer")] if streams else []
    assert plain(outcome["messages"]) == [*words, ("user", "This."), ("assistant", said)]
    assert plain(to_messages(results[-1].all_messages())) == [
        ("user", "Go."),
        *words,
        ("user", "This."),
        ("assistant", said),
    ]
    kinds = ["ModelRequest", "ModelResponse", "ModelRequest"] if streams else ["ModelRequest"]
    assert told == [("Be brief.", ["ModelRequest"]), ("Be brief.", kinds)]
    assert results[-1].usage.requests == 1
    assert bool(heard) == (where == "handler")


class Said(Task):
    """A task that is told of each of these messages at once, and then of nothing."""

    def __init__(self, said: list[list[Message]]) -> None:
        self.messages = Conversation([])
        self.said = said

    @property
    def partial(self) -> Any:
        return None

    async def steerable(self, awaitable: Any) -> Any:
        answer = await awaitable
        if not self.said:
            return answer
        self.messages.grow([{"role": "assistant", "content": "Half."}])
        raise Steered

    async def steering(self) -> list[Message]:
        said = self.said.pop(0)
        self.messages.grow(said)
        return said


async def test_a_model_that_was_cut_off_by_what_is_taken_back_is_told_to_go_on() -> None:
    asked: list[list[Message]] = []

    async def ask(added: Sequence[Message]) -> str:
        asked.append([*added])
        return "Good."

    told: list[Message] = [{"role": "user", "content": "This."}]
    assert await Feed(Said([told, []])).ask(ask) == "Good."
    words: Message = {"role": "assistant", "content": "Half."}
    assert asked == [[], [words, *told], [words, {"role": "user", "content": "Go on."}]]


async def test_code_around_the_run_hears_of_the_message_that_it_is_steered_by() -> None:
    async def ask(_: Sequence[Message]) -> str:
        return "Good."

    around = Scope("steerable")
    around.steered = True
    token = scope.set(around)
    with pytest.raises(Steered):
        await Feed(Said([[]])).ask(ask)
    scope.reset(token)
