"""The OpenAI Agents SDK: the contract of the frameworks, and what is its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import agents as sdk
import mcp
import pytest
from agents.extensions.handoff_filters import remove_all_tools
from agents.models.interface import ModelProvider
from agents.models.multi_provider import MultiProvider
from agents.run import ModelInputData
from agents.tool_context import ToolContext
from openai.types.responses import (
    ResponseCompletedEvent,
    ResponseErrorEvent,
    ResponseOutputItemDoneEvent,
)
from restate import RunOptions
from restate.ext.openai import DurableRunner, durable_function_tool
from restate.extensions import current_context

from interruptible import Agent, Session, agent
from interruptible._task.repair import INTERRUPTED, NOT_BEGUN
from interruptible.ext import openai_agents
from interruptible.formats import native
from tests.server.conftest import normal_mode

from .contract import NOTE, Contract, plain
from .offline import Answer, Log, Offline, calls, last, says, tools
from .openai_agents_model import OfflineModel, thought

if TYPE_CHECKING:
    from agents.models.interface import Model
    from restate import Context, ObjectContext

    from interruptible import Message, Task
    from interruptible.testing import Restate
    from tests.server.conftest import Deploy

    from .offline import Script

pytestmark = pytest.mark.anyio

sdk.set_tracing_disabled(True)

ONE_BY_ONE = sdk.RunConfig(tool_execution=sdk.ToolExecutionConfig(max_function_tool_concurrency=1))


class TestOpenAIAgents(Contract):
    side_by_side = True
    takes_an_id_again = False
    told_whole = ("pdf",)

    def made(self, name: str, model: Offline, *names: str, **options: Any) -> Any:
        known, ask = tools(model.log), options.get("approve", ())
        made = [durable_function_tool(known[x]) for x in names]
        for tool in made:
            tool.needs_approval = tool.name in ask
        return sdk.Agent(name=name, model=OfflineModel(model), tools=[*made])

    def agent(self, framework_agent: Any, **options: Any) -> Agent:
        return openai_agents.agent(framework_agent, **options)

    async def output(self, framework_agent: Any, task: Task, *, limit: int | None = None) -> Any:
        options = {} if limit is None else {"max_turns": limit}
        return (await openai_agents.run(framework_agent, task, **options)).final_output

    async def alone(self, framework_agent: Any, ctx: ObjectContext, said: str) -> str:
        named = framework_agent.clone(model="offline")
        items = [*(await ctx.get("items") or ()), {"role": "user", "content": said}]
        with pytest.MonkeyPatch.context() as patch:  # it takes the names of OpenAI's models alone
            patch.setattr(MultiProvider, "get_model", lambda *_: framework_agent.model)
            result = await DurableRunner.run(named, items)
        ctx.set("items", result.to_input_list())
        return str(result.final_output)


def model(log: Log, script: Script, **options: Any) -> OfflineModel:
    return OfflineModel(Offline(log, script), **options)


def to(tool: str, call: str = "h", **arguments: Any) -> Answer:
    return Answer(calls=((call, tool, arguments),))


async def served(
    env: Restate, deploy: Deploy, name: str, sdk_agent: sdk.Agent[Any], **options: Any
) -> tuple[Session, list[Any]]:
    """A session with an agent whose `run` gives these options, and the results as they come."""
    results: list[Any] = []

    @agent(name=name)
    async def served(_: Context, task: Task) -> None:
        try:
            results.append(await openai_agents.run(sdk_agent, task, **options))
        except Exception as error:
            results.append(error)
            raise

    await deploy(served)
    return Session(env.client, served, "one"), results


# -- Tools. ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [sdk.function_tool, durable_function_tool])
async def test_cut_off_in_the_second_of_three_tools_one_by_one_the_third_is_not_begun(
    restate_env: Restate, deploy: Deploy, log: Log, make: Any
) -> None:
    """A plain tool of the SDK's makes text of its interruption, and the next one is begun."""
    three = calls(a="look moon", b="slow sun", c="look stars")
    asked = model(log, lambda x: three if last(x) == "Look." else says("Good."))
    known = tools(log)
    seeing = sdk.Agent(name="x", model=asked, tools=[make(known["look"]), make(known["slow"])])
    name = f"OneByOne{make.__name__}"
    session, _ = await served(restate_env, deploy, name, seeing, run_config=ONE_BY_ONE)
    await session.send("Look.")
    await log.until("begin", "slow sun")
    await session.ask("Stop.")
    outcome = await session.attach(1)
    assert plain(outcome["messages"]) == [
        ("assistant", "", "a", "b", "c"),
        ("tool", "found moon", "a"),
        ("tool", INTERRUPTED, "b"),
        ("tool", NOT_BEGUN, "c"),
    ]
    assert (outcome["cut_off"], outcome["not_begun"]) == (["b"], ["c"])
    assert ("begin", "look stars") not in log.events


async def test_what_goes_wrong_in_a_plain_tool_is_told_to_the_model(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    def script(messages: list[Message]) -> Answer:
        return says("Oh.") if messages[-1]["role"] == "tool" else calls(a="fail luck")

    failing = sdk.Agent(
        name="plain", model=model(log, script), tools=[sdk.function_tool(tools(log)["fail"])]
    )
    session, _ = await served(restate_env, deploy, "PlainFailure", failing)
    outcome = await session.ask("Try.")
    assert plain(outcome["messages"])[2:] == [("assistant", "Oh.")]
    assert "An error occurred" in outcome["messages"][1]["content"]


async def test_what_goes_wrong_in_one_of_two_durable_tools_is_tried_again(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    @durable_function_tool
    async def flaky() -> str:
        """Fail the first time."""
        await log.add("try")
        if len(log.of("try")) <= 2:
            raise OSError("not now")
        return "it worked"

    def script(messages: list[Message]) -> Answer:
        two = Answer(calls=(("a", "flaky", {}), ("b", "flaky", {})))
        return says("Good.") if messages[-1]["role"] == "tool" else two

    asked = model(log, script)
    trying = sdk.Agent(name="x", model=asked, tools=[flaky])
    session, _ = await served(restate_env, deploy, "Flaky", trying)
    outcome = await session.ask("Try.")
    done = [("tool", "it worked", "a"), ("tool", "it worked", "b"), ("assistant", "Good.")]
    assert plain(outcome["messages"])[1:] == done
    assert len(asked.requests) == 2


async def test_what_fails_for_good_beside_another_tool_fails_the_turn_once(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    known = tools(log)
    both = [durable_function_tool(known[x]) for x in ("slow", "fail")]
    asked = model(log, lambda _: calls(a="slow sun", b="fail luck"))
    trying = sdk.Agent(name="x", model=asked, tools=[*both])
    session, _ = await served(restate_env, deploy, "FailsBeside", trying)
    outcome = await session.ask("Try.")
    assert (outcome["status"], outcome["cut_off"]) == ("failed", ["a"])
    assert "no luck today" in outcome["error"]
    assert len(asked.requests) == 1


async def test_a_step_that_is_tried_again_in_a_plain_tool_is_no_failure_of_the_tool(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def attempt() -> str:
        await log.add("try")
        if len(log.of("try")) == 1:
            raise OSError("not now")
        return "it worked"

    @sdk.function_tool
    async def flaky() -> str:
        """Do something in a step that fails the first time."""
        ctx = current_context()
        assert ctx is not None
        return await ctx.run_typed("attempt", attempt, RunOptions())

    def script(messages: list[Message]) -> Answer:
        return says("Good.") if messages[-1]["role"] == "tool" else to("flaky", "a")

    trying = sdk.Agent(name="x", model=model(log, script), tools=[flaky])
    session, _ = await served(restate_env, deploy, "FlakyStep", trying)
    outcome = await session.ask("Try.")
    assert plain(outcome["messages"])[1:] == [("tool", "it worked", "a"), ("assistant", "Good.")]


async def test_a_call_whose_arguments_are_broken_is_in_no_record_and_the_run_goes_on(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class Broken(OfflineModel):
        async def get_response(self, *args: Any, **request: Any) -> Any:
            response = await super().get_response(*args, **request)
            for item in response.output:
                if item.type == "function_call":
                    item.arguments = item.arguments[:-3]
            return response

    def script(messages: list[Message]) -> Answer:
        return says("Hm.") if len(log.of("asked")) > 1 else calls(a="look moon")

    asked = Broken(Offline(log, script), streams=False)
    looking = sdk.Agent(name="x", model=asked, tools=[sdk.function_tool(tools(log)["look"])])
    session, _ = await served(restate_env, deploy, "Broken", looking)
    outcome = await session.ask("Look.")
    assert plain(outcome["messages"]) == [("assistant", "Hm.")]
    assert [x["type"] for x in asked.requests[1][-2:]] == ["function_call", "function_call_output"]


class Server(sdk.mcp.MCPServer):
    """One with a tool that takes long."""

    name = "server"

    async def connect(self) -> None: ...
    async def cleanup(self) -> None: ...

    async def list_tools(self, *_: Any) -> Any:
        return [mcp.Tool(name="remote", inputSchema={"type": "object", "properties": {}})]

    async def call_tool(self, *_: Any) -> Any:
        return await self.slow("sun")

    async def list_prompts(self) -> Any: ...
    async def get_prompt(self, *_: Any) -> Any: ...


async def test_a_tool_that_the_sdk_calls_by_itself_may_have_begun(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    """Those of an MCP server."""
    server = Server()
    server.slow = tools(log)["slow"]  # type: ignore[attr-defined]

    def script(messages: list[Message]) -> Answer:
        both = Answer(calls=(("a", "remote", {}), ("b", "look", {"word": "moon"})))
        return says("Good.") if last(messages) == "Stop." else both

    look = sdk.function_tool(tools(log)["look"])
    asking = sdk.Agent(name="x", model=model(log, script), mcp_servers=[server], tools=[look])
    session, _ = await served(restate_env, deploy, "Remote", asking)
    await session.send("Go.")
    await log.until("begin", "slow sun")
    await log.until("end", "look moon")
    await session.ask("Stop.")
    outcome = await session.attach(1)
    assert sorted(plain(outcome["messages"])) == [
        ("assistant", "", "a", "b"),
        ("tool", INTERRUPTED, "a"),
        ("tool", "found moon", "b"),
    ]


# -- Handoffs and agents as tools. -----------------------------------------------------------------


@pytest.mark.parametrize("filtered", [False, True])
async def test_cut_off_after_a_handoff_it_is_in_the_record(
    restate_env: Restate, deploy: Deploy, log: Log, *, filtered: bool
) -> None:
    def first(messages: list[Message]) -> Answer:
        return says("Good.") if last(messages) == "Stop." else to("transfer_to_second")

    def second(messages: list[Message]) -> Answer:
        return calls(a="look moon", b="slow sun", c="look stars")

    known = tools(log)
    made = [sdk.function_tool(known[x]) for x in ("look", "slow")]
    looking = sdk.Agent(name="second", model=model(log, second), tools=[*made])
    to_second = sdk.handoff(looking, input_filter=remove_all_tools) if filtered else looking
    asked = model(log, first)
    starting = sdk.Agent(name="first", model=asked, handoffs=[to_second])
    looking.handoffs.append(starting)  # and back
    name = f"HandsOff{filtered}"
    session, _ = await served(restate_env, deploy, name, starting, run_config=ONE_BY_ONE)
    await session.send("Look.")
    await log.until("end", "look moon")
    await log.until("begin", "slow sun")
    await session.ask("Stop.")
    outcome = await session.attach(1)
    done = [
        ("assistant", "", "h"),
        ("tool", '{"assistant": "second"}', "h"),
        ("assistant", "", "a", "b", "c"),
        ("tool", "found moon", "a"),
        ("tool", INTERRUPTED, "b"),
        ("tool", NOT_BEGUN, "c"),
    ]
    assert plain(outcome["messages"]) == done
    assert (outcome["cut_off"], outcome["not_begun"]) == (["b"], ["c"])
    request = asked.offline.requests[-1]
    assert plain(request) == [("user", "Look."), *done, ("user", NOTE), ("user", "Stop.")]


async def test_of_two_handoffs_the_first_is_followed_and_both_have_a_result(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    both = Answer(calls=(("h", "transfer_to_second", {}), ("i", "transfer_to_third", {})))
    said = model(log, lambda _: says("Here."))
    starting = sdk.Agent(
        name="first",
        model=model(log, lambda _: both),
        handoffs=[sdk.Agent(name="second", model=said), sdk.Agent(name="third", model=said)],
    )
    session, results = await served(restate_env, deploy, "TwoHandoffs", starting)
    outcome = await session.ask("Go.")
    messages = plain(outcome["messages"])
    assert messages[:2] == [("assistant", "", "h", "i"), ("tool", '{"assistant": "second"}', "h")]
    assert messages[2][::2] == ("tool", "i")
    assert messages[3:] == [("assistant", "Here.")]
    assert results[-1].last_agent.name == "second"


async def test_agents_as_tools_put_out_nothing_and_their_requests_are_durable(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    """Each asks twice, however often the turn is replayed; two work side by side."""

    def script(messages: list[Message]) -> Answer:
        if messages[-1]["role"] == "tool":
            return says(f"{last(messages)}: {messages[-1]['content']}")
        return calls(a=f"look {last(messages)}")

    def outer(messages: list[Message]) -> Answer:
        if messages[-1]["role"] == "tool":
            return says("Both.")
        return Answer(calls=(("x", "ask", {"input": "moon"}), ("y", "ask", {"input": "sun"})))

    inner, asked = model(log, script), model(log, outer)
    look = sdk.function_tool(tools(log)["look"])
    asking = sdk.Agent(name="inner", model=inner, tools=[look])
    asked_too = asking.as_tool("ask", "Ask.")
    starting = sdk.Agent(name="outer", model=asked, tools=[asked_too])
    session, _ = await served(restate_env, deploy, "AsTools", starting)
    outcome = await session.ask("Go.")
    first, *results, answer = plain(outcome["messages"])
    assert (first, answer) == (("assistant", "", "x", "y"), ("assistant", "Both."))
    found = [("tool", "moon: found moon", "x"), ("tool", "sun: found sun", "y")]
    assert sorted(results) == found
    assert (len(inner.requests), len(asked.requests)) == (4, 2)
    assert len(log.of("end")) == 2


async def test_cut_off_in_an_agent_that_is_a_tool_its_call_is_cut_off(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    def outer(messages: list[Message]) -> Answer:
        return says("Good.") if last(messages) == "Stop." else to("ask", "x", input="sun")

    inner = model(log, lambda x: calls(a="slow sun"))
    slow = sdk.function_tool(tools(log)["slow"])
    asking = sdk.Agent(name="inner", model=inner, tools=[slow])
    starting = sdk.Agent(name="o", model=model(log, outer), tools=[asking.as_tool("ask", "Ask.")])
    session, _ = await served(restate_env, deploy, "CutOffAsTool", starting)
    await session.send("Go.")
    await log.until("begin", "slow sun")
    await session.ask("Stop.")
    outcome = await session.attach(1)
    assert plain(outcome["messages"]) == [("assistant", "", "x"), ("tool", INTERRUPTED, "x")]
    assert len(inner.requests) == 1


async def test_a_run_within_a_tool_is_durable_with_the_configuration_of_the_tools_context(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    inner = model(log, lambda x: says("Inner."))
    asking = sdk.Agent(name="inner", model=inner)

    @sdk.function_tool
    async def ask(context: ToolContext[Any]) -> str:
        """Ask another agent."""
        result = await sdk.Runner.run(asking, "Well?", run_config=context.run_config)
        return str(result.final_output)

    def outer(messages: list[Message]) -> Answer:
        return says("Good.") if messages[-1]["role"] == "tool" else to("ask", "x")

    starting = sdk.Agent(name="outer", model=model(log, outer), tools=[ask])
    session, _ = await served(restate_env, deploy, "RunWithin", starting)
    outcome = await session.ask("Go.")
    assert plain(outcome["messages"])[1:] == [("tool", "Inner.", "x"), ("assistant", "Good.")]
    assert len(inner.requests) == 1


# -- What the model is told. -----------------------------------------------------------------------


async def test_reasoning_comes_back_as_it_was_also_after_an_interruption(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    def script(messages: list[Message]) -> Answer:
        return calls(b="slow sun") if last(messages) == "Look." else says("Good.")

    asked = model(log, script)
    asked.thought = lambda: thought(status=None)  # as it comes, so it has to go
    slow = sdk.function_tool(tools(log)["slow"])
    seen: list[Any] = []

    @agent
    async def reasoning(_: Context, task: Task) -> None:
        seen[:] = [native(message, "responses") for message in task.messages]
        await openai_agents.run(sdk.Agent(name="x", model=asked, tools=[slow]), task)

    await deploy(reasoning)
    session = Session(restate_env.client, reasoning, "one")
    await session.send("Look.")
    await log.until("begin", "slow sun")
    await session.ask("Stop.")
    await session.ask("Well?")
    items = asked.requests[-1]
    assert [x.get("type", x.get("role")) for x in items] == [
        "user",
        "reasoning",
        "function_call",
        "function_call_output",
        "user",
        "user",
        "reasoning",
        "message",
        "user",
    ]
    assert {**items[1], "id": ""} == {**asked.thought().model_dump(exclude_unset=True), "id": ""}
    assert items[2]["id"].startswith("fc_")
    assert seen[1] == items[1:3]


async def test_what_was_steered_stays_at_its_place_in_all_later_requests(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def wait() -> str:
        await log.add("waits")
        await log.until("go", times=len(log.of("waits")))
        return ""

    @sdk.function_tool
    async def gate() -> str:
        """Wait."""
        ctx = current_context()
        assert ctx is not None
        await ctx.run_typed("wait", wait, RunOptions())
        return "open"

    def script(messages: list[Message]) -> Answer:
        done = sum(x["role"] == "tool" for x in messages)
        return says("Done.") if done == 3 else to("gate", f"g{done}")

    asked = model(log, script)
    starting = sdk.Agent(name="x", model=asked, tools=[gate])
    session, _ = await served(restate_env, deploy, "SteeredTwice", starting)
    await session.send("Go.")
    for number, words in enumerate((["One."], ["Two.", "Three."], []), 1):
        await log.until("waits", times=number)
        for word in words:
            assert (await session.send(word, policy="steer"))["status"] == "steered"
        await log.add("go")
    outcome = await session.attach(1)
    whole = [
        ("assistant", "", "g0"),
        ("tool", "open", "g0"),
        ("user", "One."),
        ("assistant", "", "g1"),
        ("tool", "open", "g1"),
        ("user", "Two."),
        ("user", "Three."),
        ("assistant", "", "g2"),
        ("tool", "open", "g2"),
    ]
    assert plain(outcome["messages"]) == [*whole, ("assistant", "Done.")]
    assert [plain(x) for x in asked.offline.requests[1:]] == [
        [("user", "Go."), *whole[:end]] for end in (3, 7, 9)
    ]


async def test_what_was_steered_is_told_to_the_agent_that_is_handed_to_whatever_else_is(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def wait() -> str:
        await log.add("waits")
        await log.until("go")
        return ""

    @sdk.function_tool
    async def gate() -> str:
        """Wait."""
        ctx = current_context()
        assert ctx is not None
        await ctx.run_typed("wait", wait, RunOptions())
        return "open"

    def first(messages: list[Message]) -> Answer:
        return to("transfer_to_second") if last(messages) == "Now." else to("gate", "g")

    def second(messages: list[Message]) -> Answer:
        return says("Done.") if messages[-1]["role"] == "tool" else calls(a="look moon")

    asked = model(log, second)
    look = sdk.function_tool(tools(log)["look"])
    looking = sdk.Agent(name="second", model=asked, tools=[look])
    without = sdk.handoff(looking, input_filter=remove_all_tools)
    starting = sdk.Agent(name="x", model=model(log, first), tools=[gate], handoffs=[without])
    session, _ = await served(restate_env, deploy, "SteeredHandoff", starting)
    await session.send("Go.")
    await log.until("waits")
    await session.send("Now.", policy="steer")
    await log.add("go")
    outcome = await session.attach(1)
    assert [x[0] for x in plain(outcome["messages"])] == [
        *("assistant", "tool", "user"),
        *("assistant", "tool"),
        *("assistant", "tool", "assistant"),
    ]
    told = [("user", "Go."), ("user", "Now.")]
    assert [plain(x) for x in asked.offline.requests] == [
        told,
        [*told, ("assistant", "", "a"), ("tool", "found moon", "a")],
    ]


async def test_a_model_that_cannot_stream_is_asked_all_the_same(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    asked = model(log, lambda _: says("Hello."), streams=False)
    session, results = await served(restate_env, deploy, "Silent", sdk.Agent("x", model=asked))
    assert plain((await session.ask("Hi."))["messages"]) == [("assistant", "Hello.")]
    assert results[-1].raw_responses[0].usage.input_tokens == 7


class Failing(OfflineModel):
    """Answers at the second request only."""

    def __init__(self, offline: Offline, event: Any) -> None:
        super().__init__(offline)
        self.event = event

    async def stream_response(self, *args: Any, **request: Any) -> Any:
        async for event in super().stream_response(*args, **request):
            if len(self.requests) > 1:
                yield event
            elif isinstance(self.event, Exception):
                raise self.event
        if len(self.requests) == 1 and self.event is not None:
            yield self.event


@pytest.mark.parametrize("event", [None, ResponseErrorEvent.model_construct(message="overloaded")])
async def test_an_answer_that_broke_off_is_asked_for_again(
    restate_env: Restate, deploy: Deploy, log: Log, event: Any
) -> None:
    asked = Failing(Offline(log, lambda _: says("Hello.")), event)
    name = f"Breaks{event is None}"
    session, _ = await served(restate_env, deploy, name, sdk.Agent("x", model=asked))
    assert plain((await session.ask("Hi."))["messages"]) == [("assistant", "Hello.")]
    assert len(asked.requests) == 2


async def test_a_model_that_is_used_wrongly_fails_the_turn_once(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    asked = Failing(Offline(log, lambda _: says("Hello.")), sdk.UserError("no such tool"))
    session, _ = await served(restate_env, deploy, "Misused", sdk.Agent("x", model=asked))
    outcome = await session.ask("Hi.")
    assert (outcome["status"], outcome["error"]) == ("failed", "UserError: no such tool")
    assert len(asked.requests) == 1


async def test_items_that_came_before_an_answer_without_any_are_the_answer(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class Bare(OfflineModel):
        async def stream_response(self, *args: Any, **request: Any) -> Any:
            async for event in super().stream_response(*args, **request):
                if isinstance(event, ResponseCompletedEvent):
                    for item in event.response.output:
                        yield ResponseOutputItemDoneEvent.model_construct(item=item)
                    event.response.output = []
                yield event

    asked = Bare(Offline(log, lambda _: says("Hello.")))
    session, results = await served(restate_env, deploy, "Bare", sdk.Agent("x", model=asked))
    assert plain((await session.ask("Hi."))["messages"]) == [("assistant", "Hello.")]
    usage = results[-1].raw_responses[0].usage
    assert (usage.requests, usage.input_tokens, usage.total_tokens) == (1, 7, 8)


@dataclass
class Names(ModelProvider):
    """Knows models by their names."""

    models: dict[str | None, OfflineModel]

    def get_model(self, model_name: str | None) -> Model:
        return self.models[model_name]


@pytest.mark.parametrize("given", ["on the agent", "by name", "for the run", "for the run by name"])
@pytest.mark.parametrize("settings", [None, sdk.ModelSettings(tool_choice="required")])
async def test_a_model_is_durable_wherever_it_comes_from(
    restate_env: Restate,
    deploy: Deploy,
    log: Log,
    given: str,
    settings: sdk.ModelSettings | None,
) -> None:
    """And it is asked with the settings that the SDK asks it with."""
    asked = model(log, lambda x: says("Hello.") if len(x) > 1 else calls(a="look moon"))
    other = model(log, lambda _: says("No."))
    names = Names({"gpt-5.2": asked, "gpt-4.1": other, None: other})
    on_agent = {"on the agent": asked, "by name": "gpt-5.2"}.get(given, "gpt-4.1")
    for_run = {"for the run": asked, "for the run by name": "gpt-5.2"}.get(given)
    config = sdk.RunConfig(model=for_run, model_provider=names)
    look = sdk.function_tool(tools(log)["look"])
    options = {} if settings is None else {"model_settings": settings}
    looking = sdk.Agent(name="x", model=on_agent, tools=[look], **options)
    name = f"Model{given.title().replace(' ', '')}{settings is None}"
    session, _ = await served(restate_env, deploy, name, looking, run_config=config)
    assert plain((await session.ask("Hi."))["messages"])[-1] == ("assistant", "Hello.")
    assert (len(asked.requests), len(other.requests)) == (2, 0)
    plainly = model(log, lambda x: says("Hello.") if len(x) > 1 else calls(a="look moon"))
    names.models["gpt-5.2"] = plainly
    if not isinstance(for_run, str | None):
        config.model = plainly
    if not isinstance(on_agent, str):
        looking.model = plainly
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.frameworks.offline._context", lambda: None)
        await sdk.Runner.run(looking, "Hi.", run_config=config)
    assert asked.settings == plainly.settings


# -- How a run ends. -------------------------------------------------------------------------------


@dataclass
class Weather:
    sky: str
    degrees: int


async def test_structured_output_is_the_last_message_once(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    asked = model(log, lambda _: says('{"sky": "blue", ', '"degrees": 21}'))
    looking = sdk.Agent(name="x", model=asked, output_type=Weather)

    @agent
    async def weather(_: Context, task: Task) -> Any:
        result = await openai_agents.run(looking, task)
        assert result.final_output == Weather("blue", 21)
        return result.final_output

    await deploy(weather)
    outcome = await Session(restate_env.client, weather, "one").ask("Look.")
    assert outcome["messages"] == [
        {"role": "assistant", "content": '{"sky": "blue", "degrees": 21}'}
    ]


async def test_an_output_that_a_tool_gave_is_the_last_message(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    look = sdk.function_tool(tools(log)["look"])
    looking = sdk.Agent(
        name="x",
        model=model(log, lambda _: calls(a="look moon")),
        tools=[look],
        tool_use_behavior="stop_on_first_tool",
    )
    session, _ = await served(restate_env, deploy, "ToolsOutput", looking)
    outcome = await session.ask("Look.")
    assert plain(outcome["messages"]) == [
        ("assistant", "", "a"),
        ("tool", "found moon", "a"),
        ("assistant", "found moon"),
    ]


async def test_a_guardrail_that_trips_fails_the_turn_once_with_the_frameworks_error(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    @sdk.input_guardrail
    async def guard(_: Any, __: Any, given: Any) -> sdk.GuardrailFunctionOutput:
        await log.add("guard")
        return sdk.GuardrailFunctionOutput(None, tripwire_triggered=given[-1]["content"] == "Bad.")

    def script(messages: list[Message]) -> Answer:
        return Answer(("Well",), stays=last(messages) == "Bad.")

    guarded = sdk.Agent(name="x", model=model(log, script), input_guardrails=[guard])
    session, results = await served(restate_env, deploy, "Guarded", guarded)
    outcome = await session.ask("Bad.")
    assert outcome["status"] == "failed"
    assert outcome["error"].startswith("InputGuardrailTripwireTriggered: ")
    assert isinstance(results[-1], sdk.InputGuardrailTripwireTriggered)
    assert len(log.of("guard")) == 1
    assert plain((await session.ask("Fine."))["messages"]) == [("assistant", "Well")]


async def test_a_model_that_calls_what_is_not_there_fails_the_turn(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    lost = sdk.Agent(name="x", model=model(log, lambda _: calls(a="nothing here")))
    session, results = await served(restate_env, deploy, "Lost", lost)
    outcome = await session.ask("Go.")
    assert outcome["status"] == "failed"
    assert "nothing" in outcome["error"]
    assert isinstance(results[-1], sdk.ModelBehaviorError)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"session": sdk.SQLiteSession("x")}, "`session` keeps the conversation elsewhere, "),
        ({"use_restate_session": True}, "`use_restate_session` keeps the conversation elsewhere"),
        ({"conversation_id": "conv_1"}, "Leave it out: the model is told `task.messages`."),
        ({"previous_response_id": "resp_1"}, "`previous_response_id` keeps"),
        ({"auto_previous_response_id": True}, "`auto_previous_response_id` keeps"),
        ({"colour": "red"}, "got an unexpected keyword argument 'colour'"),
    ],
)
async def test_what_cannot_work_is_refused_at_once(
    restate_env: Restate, deploy: Deploy, log: Log, options: dict[str, Any], why: str
) -> None:
    asked = model(log, lambda _: says("Good."))
    name = f"Refuses{next(iter(options)).title().replace('_', '')}"
    session, results = await served(
        restate_env, deploy, name, sdk.Agent("x", model=asked), **options
    )
    outcome = await session.ask("Go.")
    assert outcome["status"] == "failed"
    assert why in outcome["error"]
    assert (len(results), asked.requests) == (1, [])


@pytest.mark.parametrize("handled", [False, True])
async def test_what_was_denied_last_is_in_the_record_however_the_run_ends(
    restate_env: Restate, deploy: Deploy, log: Log, *, handled: bool
) -> None:
    """The result of a call that no request was made with."""

    async def approve(tool: str, arguments: dict[str, Any]) -> str:
        return f"no {tool} of {arguments['word']}"

    def enough(_: Any) -> Any:
        return "Enough."

    look = sdk.function_tool(tools(log)["look"], needs_approval=True)
    asking = sdk.Agent(name="x", model=model(log, lambda _: calls(a="look bill")), tools=[look])
    options = {"error_handlers": {"max_turns": enough}} if handled else {}
    session, _ = await served(
        restate_env, deploy, f"Denied{handled}", asking, approve=approve, max_turns=1, **options
    )
    outcome = await session.ask("Pay.")
    answer = [("assistant", "Enough.")] if handled else []
    done = [("assistant", "", "a"), ("tool", "no look of bill", "a")]
    assert plain(outcome["messages"]) == [*done, *answer]
    assert outcome["status"] == ("completed" if handled else "failed")


# -- The framework's own options. ------------------------------------------------------------------


async def test_hooks_context_and_input_filter_are_the_users(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class Hooks(sdk.RunHooks[Any]):
        async def on_agent_start(self, context: Any, agent: Any) -> None:
            log.note("hook", f"start {agent.name}")

        async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
            log.note("hook", f"asked {context.context}")

        async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
            log.note("hook", f"{tool.name} {result}")

        async def on_handoff(self, context: Any, from_agent: Any, to_agent: Any) -> None:
            log.note("hook", f"{from_agent.name} to {to_agent.name}")

    def only_the_last(data: Any) -> Any:
        return ModelInputData(data.model_data.input[-2:], "Be brief.")

    def script(messages: list[Message]) -> Answer:
        return to("transfer_to_second") if messages[-1]["role"] == "tool" else calls(a="look moon")

    second = model(log, lambda _: says("Good."))
    look = sdk.function_tool(tools(log)["look"])
    starting = sdk.Agent(
        name="first",
        model=model(log, script),
        tools=[look],
        handoffs=[sdk.Agent(name="second", model=second)],
    )
    session, _ = await served(
        restate_env,
        deploy,
        "Optioned",
        starting,
        hooks=Hooks(),
        context="here",
        run_config={"call_model_input_filter": only_the_last},
    )
    await session.ask("Look.")
    said = list(dict.fromkeys(log.of("hook")))  # a replay tells them again
    assert said == [
        ("hook", "start first"),
        ("hook", "asked here"),
        ("hook", "look found moon"),
        ("hook", "first to second"),
        ("hook", "start second"),
    ]
    assert [x["type"] for x in second.requests[0]] == ["function_call", "function_call_output"]


async def test_the_model_is_told_what_the_user_chose(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    """Nothing of it is put out, also where it is of a kind that a model says."""
    found = {"type": "tool_search_output", "id": "tso_1", "tools": [], "execution": "server"}
    given = [{"role": "user", "content": "Look."}, found]
    asked = model(log, lambda _: says("Good."))
    asking = sdk.Agent(name="x", model=asked)
    session, _ = await served(restate_env, deploy, "Chosen", asking, input=given)
    assert plain((await session.ask("Go."))["messages"]) == [("assistant", "Good.")]
    assert asked.requests == [given]


@pytest.mark.parametrize("said", [True, False])
async def test_a_tool_of_an_agent_that_is_a_tool_may_ask_for_approval(
    restate_env: Restate, deploy: Deploy, log: Log, *, said: bool
) -> None:
    def script(messages: list[Message]) -> Answer:
        return says("Paid.") if messages[-1]["role"] == "tool" else calls(a="look bill")

    def outer(messages: list[Message]) -> Answer:
        if messages[-1]["role"] == "tool":
            return says("Good.")
        return Answer(calls=(("x", "ask", {"input": "Pay."}), ("y", "look", {"word": "moon"})))

    async def approve(tool: str, arguments: dict[str, Any]) -> bool:
        await log.add("approve", tool, arguments["word"])
        return said

    known = tools(log)
    look = sdk.function_tool(known["look"])
    paying = sdk.Agent(
        name="paying",
        model=model(log, script),
        tools=[sdk.function_tool(known["look"], needs_approval=True)],
    )
    starting = sdk.Agent(
        name="o", model=model(log, outer), tools=[paying.as_tool("ask", "Ask."), look]
    )
    name, options = f"AsksWithin{said}", {"approve": approve, "context": "here"}
    session, results = await served(restate_env, deploy, name, starting, **options)
    outcome = await session.ask("Pay.")
    assert plain(outcome["messages"]) == [
        ("assistant", "", "x", "y"),
        ("tool", "found moon", "y"),
        ("tool", "Paid.", "x"),
        ("assistant", "Good."),
    ]
    assert results[-1].context_wrapper.context == "here"
    assert ("approve", "look", "bill") in log.events
    assert (("end", "look bill") in log.events) == said


async def test_without_approve_the_result_has_what_asks_for_it(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    look = sdk.function_tool(tools(log)["look"], needs_approval=True)
    asking = sdk.Agent(name="x", model=model(log, lambda _: calls(a="look bill")), tools=[look])
    session, results = await served(restate_env, deploy, "Pending", asking)
    outcome = await session.ask("Pay.")
    assert plain(outcome["messages"]) == [("assistant", "", "a"), ("tool", NOT_BEGUN, "a")]
    assert [x.name for x in results[-1].interruptions] == ["look"]


@normal_mode
@pytest.mark.parametrize("streams", [True, False])
async def test_what_cuts_off_the_model_goes_through_the_filter_of_the_user(
    restate_env: Restate, deploy: Deploy, log: Log, *, streams: bool
) -> None:
    def script(messages: list[Message]) -> Answer:
        if messages[-1]["role"] == "tool":
            return says("Good.")
        stays = Answer(("Half an answer",), stays=True)
        return calls(a="look moon") if last(messages) == "THIS." else stays

    def shout(data: sdk.run.CallModelData[Any]) -> ModelInputData:
        given: list[Any] = data.model_data.input
        for place, item in enumerate(given):
            if item.get("role") == "user":
                given[place] = {**item, "content": item["content"].upper()}
        return ModelInputData(given, f"{data.model_data.instructions} {len(given)}")

    asked = model(log, script, streams=streams)
    look = sdk.function_tool(tools(log)["look"])
    asking = sdk.Agent(name="x", instructions="Be brief.", model=asked, tools=[look])
    config = sdk.RunConfig(call_model_input_filter=shout)
    session, results = await served(
        restate_env, deploy, f"Shouts{streams}", asking, run_config=config
    )
    await session.send("Go.")
    await log.until("begin", "stay")
    await session.send("This.", policy="steer", now=True)
    outcome = await session.attach(1)
    words = [("assistant", "Half an answer")] if streams else []
    done = [("assistant", "", "a"), ("tool", "found moon", "a")]
    end = ("assistant", "Good.")
    assert plain(outcome["messages"]) == [*words, ("user", "This."), *done, end]
    known = [("user", "GO."), *words, ("user", "THIS.")]
    assert [*map(plain, asked.offline.requests)] == [[("user", "GO.")], known, [*known, *done]]
    assert asked.instructions == [
        f"Be brief. {count}" for count in (1, len(known), len(asked.requests[-1]))
    ]
    assert results[-1].final_output == "Good."
