"""Pydantic AI: the contract of the frameworks, and what is its own."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai import ImageUrl, ModelRetry, Tool, ToolReturn, UsageLimits
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.tools import DeferredToolRequests
from restate import Context, ObjectContext, RunOptions
from restate.ext.pydantic import RestateAgent
from restate.serde import BytesSerde

from interruptible import Agent, Session, Task, current_task
from interruptible.ext import pydantic_ai
from interruptible.formats.pydantic_ai import to_messages

from .contract import Contract, plain
from .offline import Answer, Log, Offline, calls, last, says, tools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from interruptible.testing import Restate
    from tests.server.conftest import Deploy

pytestmark = pytest.mark.anyio


def function_model(model: Offline) -> FunctionModel:
    async def stream(
        messages: list[ModelMessage], _: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall] | dict[int, DeltaThinkingPart]]:
        answer = await model.answer([{**x} for x in to_messages(messages)])
        for thought in answer.thoughts:
            yield {0: DeltaThinkingPart(content=thought)}
        for piece in answer.pieces:
            yield piece
        for place, (call, name, arguments) in enumerate(answer.calls):
            yield {place: DeltaToolCall(name, json.dumps(arguments), tool_call_id=call)}
        await model.end(answer)

    return FunctionModel(stream_function=stream)


class TestPydanticAI(Contract):
    side_by_side = True
    goes_on_by_itself = False

    def made(self, name: str, model: Offline, *names: str, **options: Any) -> Any:
        known, ask = tools(model.log), options.get("approve", ())
        return PydanticAgent(
            function_model(model),
            name=name,
            tools=[Tool(known[x], name=x, requires_approval=x in ask) for x in names],
            output_type=[str, DeferredToolRequests] if ask else str,
        )

    def agent(self, framework_agent: Any, **options: Any) -> Agent:
        return pydantic_ai.agent(framework_agent, **options)

    async def output(self, framework_agent: Any, task: Task, *, limit: int | None = None) -> Any:
        limits = UsageLimits(request_limit=limit)
        return (await pydantic_ai.run(framework_agent, task, usage_limits=limits)).output

    async def alone(self, framework_agent: Any, ctx: ObjectContext, said: str) -> str:
        async def handle(_: Any, events: AsyncIterator[Any]) -> None:
            async for _event in events:
                pass

        durable = RestateAgent(framework_agent, event_stream_handler=handle)
        kept = await ctx.get("messages", serde=BytesSerde())
        known = ModelMessagesTypeAdapter.validate_json(kept) if kept else []
        result = await durable.run(said, message_history=known)
        ctx.set("messages", result.all_messages_json(), serde=BytesSerde())
        return str(result.output)


# -- What is its own. ------------------------------------------------------------------------------


class Booking(BaseModel):
    city: str
    nights: int


def agent_of(
    model: Offline | FunctionModel, name: str, *tools: Any, **options: Any
) -> PydanticAgent[None, Any]:
    made = function_model(model) if isinstance(model, Offline) else model
    return PydanticAgent(made, name=name, tools=tools, **options)


async def open_session(env: Restate, deploy: Deploy, agent: Agent) -> Session:
    await deploy(agent)
    return Session(env.client, agent, "one")


async def test_structured_output_is_the_last_message_as_json_and_the_result_has_the_object(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    def script(messages: list[Any]) -> Answer:
        if last(messages) != "Book.":
            return says("Yes.")
        return Answer(calls=(("a", "final_result", {"city": "Rome", "nights": 2}),))

    outputs: list[Any] = []
    model = Offline(log, script)
    made = agent_of(model, "structured", output_type=[Booking, str])

    class StructuredAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> Any:
            result = await pydantic_ai.run(made, task)
            outputs.append(result.output)
            return result.output

    session = await open_session(restate_env, deploy, StructuredAgent())
    done = [
        ("assistant", "", "a"),
        ("tool", "Final result processed.", "a"),
        ("assistant", '{"city":"Rome","nights":2}'),
    ]
    assert plain((await session.ask("Book."))["messages"]) == done
    assert outputs[-1] == Booking(city="Rome", nights=2)
    assert plain((await session.ask("Sure?"))["messages"]) == [("assistant", "Yes.")]
    assert plain(model.requests[-1]) == [("user", "Book."), *done, ("user", "Sure?")]


async def test_thinking_comes_back_with_its_signature(restate_env: Restate, deploy: Deploy) -> None:
    requests: list[list[ModelMessage]] = []

    async def stream(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[Any]:
        requests.append([*messages])
        yield {0: DeltaThinkingPart(content="Hm.", signature="signed")}
        yield "Hello."

    agent = pydantic_ai.agent(agent_of(FunctionModel(stream_function=stream), "thinking"))
    session = await open_session(restate_env, deploy, agent)
    await session.ask("Hi.")
    assert plain((await session.ask("Again."))["messages"]) == [("assistant", "Hello.")]
    (response,) = [x for x in requests[-1] if isinstance(x, ModelResponse)]
    thinking, text = response.parts
    assert isinstance(thinking, ThinkingPart)
    assert (thinking.content, thinking.signature) == ("Hm.", "signed")
    assert isinstance(text, TextPart)


async def test_a_tool_that_asks_to_retry_and_one_that_there_is_not_are_in_the_record(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    def script(messages: list[Any]) -> Answer:
        results = sum(x["role"] == "tool" for x in messages)
        return [calls(a="guess one"), calls(b="nothing two"), says("I give up.")][results]

    async def guess(word: str) -> str:
        raise ModelRetry(f"Not {word}.")

    model = Offline(log, script)
    agent = pydantic_ai.agent(agent_of(model, "retrying", guess, retries=3))
    session = await open_session(restate_env, deploy, agent)
    outcome = await session.ask("Guess.")
    first, retried, second, unknown, end = plain(outcome["messages"])
    assert (first, second, end) == (
        ("assistant", "", "a"),
        ("assistant", "", "b"),
        ("assistant", "I give up."),
    )
    assert (retried[0], retried[2]) == ("tool", "a")
    assert "Not one." in retried[1]
    assert (unknown[0], unknown[2]) == ("tool", "b")
    assert "nothing" in unknown[1]
    assert plain(model.requests[-1])[1:] == [first, retried, second, unknown]


async def test_an_agent_that_is_a_tool_puts_out_nothing_of_its_own(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    said = ModelResponse([TextPart("Inner words.")])
    durable = RestateAgent(agent_of(FunctionModel(lambda *_: said), "inner"))

    async def consult(word: str) -> str:
        return (await durable.run(word)).output

    def script(messages: list[Any]) -> Answer:
        return calls(a="consult moon") if len(messages) == 1 else says("Done.")

    agent = pydantic_ai.agent(agent_of(Offline(log, script), "consulting", consult))
    session = await open_session(restate_env, deploy, agent)
    assert plain((await session.ask("Ask."))["messages"]) == [
        ("assistant", "", "a"),
        ("tool", "Inner words.", "a"),
        ("assistant", "Done."),
    ]


async def test_what_a_tool_gives_besides_its_result_is_told_once(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def snap(word: str) -> ToolReturn[str]:
        return ToolReturn(f"shot {word}", content=["Look: ", ImageUrl("https://a.b/c.png")])

    def script(messages: list[Any]) -> Answer:
        return calls(a="snap moon") if messages[-1]["role"] == "user" else says("Done.")

    model = Offline(
        log, lambda messages: calls(a="snap moon") if len(messages) == 1 else says("Nice.")
    )
    agent = pydantic_ai.agent(agent_of(model, "snapping", snap))
    session = await open_session(restate_env, deploy, agent)
    outcome = await session.ask("Snap.")
    image = {"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}
    assert outcome["messages"][1:] == [
        {"role": "tool", "tool_call_id": "a", "content": "shot moon"},
        {"role": "user", "content": [{"type": "text", "text": "Look: "}, image]},
        {"role": "assistant", "content": "Nice."},
    ]
    await session.ask("And?")
    assert [x["role"] for x in model.requests[-1]] == [
        *("user", "assistant", "tool", "user", "assistant", "user")
    ]


async def test_what_a_tool_gives_that_is_no_json_fails_the_turn_once(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def odd(word: str) -> object:
        await log.add("odd", word)
        return log

    model = Offline(log, lambda _: calls(a="odd one"))
    session = await open_session(
        restate_env, deploy, pydantic_ai.agent(agent_of(model, "odd", odd))
    )
    outcome = await session.ask("Go.")
    assert outcome["status"] == "failed"
    assert "Unable to serialize unknown type" in outcome["error"]
    assert log.of("odd") == [("odd", "one")]


async def test_two_agents_may_work_in_one_turn(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    writer = agent_of(Offline(log, lambda _: says("A poem.")), "writer")
    critic = agent_of(critics := Offline(log, lambda _: says("Too long.")), "critic")

    class PairAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            await pydantic_ai.run(writer, task)
            await pydantic_ai.run(critic, task, user_prompt="Criticise it.")

    session = await open_session(restate_env, deploy, PairAgent())
    said = [("assistant", "A poem."), ("assistant", "Too long.")]
    assert plain((await session.ask("Write."))["messages"]) == said
    (request,) = critics.requests
    assert plain(request) == [("user", "Write."), said[0], ("user", "Criticise it.")]


async def test_tools_that_are_steps_run_side_by_side_also_if_one_asks_to_retry(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def guess(word: str) -> str:
        await log.add("guess", word)
        raise ModelRetry("No.")

    async def snap(word: str) -> ToolReturn[str]:
        return ToolReturn(f"shot {word}", content=["Look: ", ImageUrl("https://a.b/c.png")])

    def script(messages: list[Any]) -> Answer:
        asked = messages[-1]["role"] == "user" and len(messages) == 1
        return calls(a="guess one", b="snap moon") if asked else says("Done.")

    made = agent_of(Offline(log, script), "steps", guess, snap, retries=2)
    agent = pydantic_ai.agent(made, auto_wrap_tools=True)
    session = await open_session(restate_env, deploy, agent)
    outcome = await session.ask("Go.")
    results = {x["tool_call_id"]: x["content"] for x in outcome["messages"] if x["role"] == "tool"}
    assert results["b"] == "shot moon"
    assert "No." in results["a"]
    assert [x["role"] for x in outcome["messages"]][3:] == ["user", "assistant"]
    assert log.of("guess") == [("guess", "one")]


@pytest.mark.parametrize(("status", "times"), [(401, 1), (400, 1), (429, 2), (500, 2)])
async def test_what_a_model_refuses_fails_the_turn_and_what_may_pass_is_tried_again(
    restate_env: Restate, deploy: Deploy, log: Log, status: int, times: int
) -> None:
    async def stream(_: list[ModelMessage], __: AgentInfo) -> AsyncIterator[str]:
        await log.add("asked")
        if len(log.of("asked")) == 1:
            raise ModelHTTPError(status, "a model", {"error": "no key"})
        yield "Hello."

    made = agent_of(FunctionModel(stream_function=stream), f"refused {status}")
    session = await open_session(restate_env, deploy, pydantic_ai.agent(made))
    outcome = await session.ask("Hi.")
    assert len(log.of("asked")) == times
    if times == 1:
        assert outcome["status"] == "failed"
        assert outcome["error"].startswith("The model refused the request. ModelHTTPError: status_")
        assert "no key" in outcome["error"]
    else:
        assert plain(outcome["messages"]) == [("assistant", "Hello.")]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("answered", "a model would not be asked"),
        ("no task", "where the task stands"),
        ("no option", "unexpected keyword argument 'dips'|no parameter named 'dips'|'dips'"),
        ("no coroutine", "Give an `async def`"),
    ],
)
async def test_a_wrong_use_of_run_fails_the_turn_once(
    restate_env: Restate, deploy: Deploy, log: Log, wrong: str, reason: str
) -> None:
    made = agent_of(Offline(log, lambda _: says("Hello.")), "wrong")

    class WrongAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            given: Any = "a task" if wrong == "no task" else task
            more: dict[str, Any] = {"dips": 3} if wrong == "no option" else {}
            if wrong == "no coroutine":
                more["approve"] = lambda *_: True
            if wrong == "answered":
                task.append("Let me see.")
            await pydantic_ai.run(made, given, **more)

    agent = WrongAgent(f"Wrong{wrong.title().replace(' ', '')}Agent")
    outcome = await (await open_session(restate_env, deploy, agent)).ask("Go.")
    assert outcome["status"] == "failed"
    assert re.search(reason, outcome["error"]), outcome["error"]


@pytest.mark.parametrize("streams", [True, False])
async def test_the_system_prompt_and_the_instructions_reach_the_model_that_may_not_stream(
    restate_env: Restate, deploy: Deploy, streams: bool
) -> None:
    told: list[Any] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        parts = [x for y in messages if isinstance(y, ModelRequest) for x in y.parts]
        prompts = [x.content for x in parts if isinstance(x, SystemPromptPart)]
        told.append((prompts, info.instructions))
        return ModelResponse([TextPart("Hi.")])

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        answer(messages, info)
        yield "Hi."

    model = FunctionModel(stream_function=stream) if streams else FunctionModel(answer)
    name = f"prompted {streams}"
    made = agent_of(model, name, system_prompt="Be kind.", instructions="Be short.")
    session = await open_session(restate_env, deploy, pydantic_ai.agent(made))
    for _ in range(2):
        assert plain((await session.ask("Hello."))["messages"]) == [("assistant", "Hi.")]
    assert {repr(x) for x in told} == {repr((["Be kind."], "Be short."))}


async def test_tools_may_be_durable_steps_by_themselves(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def plain_tool(word: str) -> str:
        return await log.step(f"plain {word}", result=f"{word}: {current_task().turn}")

    model = Offline(
        log, lambda messages: calls(a="plain_tool moon") if len(messages) == 1 else says("Done.")
    )
    made = agent_of(model, "wrapped", plain_tool)

    class WrappedAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            await pydantic_ai.run(made, task, auto_wrap_tools=True)
            await ctx.run_typed("after", log.step, RunOptions(), name="after")

    session = await open_session(restate_env, deploy, WrappedAgent())
    outcome = await session.ask("Go.")
    assert plain(outcome["messages"])[1] == ("tool", "moon: 1", "a")
    assert log.events.count(("begin", "plain moon")) == 1


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (RestateAgent(PydanticAgent(TestModel(), name="a")), "`RestateAgent` already"),
        (PydanticAgent("openai:gpt-5", name="a", defer_model_check=True), "'openai:gpt-5'"),
        (PydanticAgent(TestModel(), name="a", deps_type=Booking), r"dependencies \(Booking\)"),
        (PydanticAgent(TestModel()), "has no name"),
        ("travel agent", "This is a str"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(made: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        pydantic_ai.agent(made)
