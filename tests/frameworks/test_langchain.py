"""LangChain and LangGraph: the contract of the frameworks, and what are their own."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    HumanInTheLoopMiddleware,
    ModelCallLimitMiddleware,
)
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    messages_from_dict,
    messages_to_dict,
)
from langchain_core.tools import InjectedToolCallId, StructuredTool, ToolException
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt
from pydantic import BaseModel
from restate import Context, ObjectContext, RunOptions
from restate.ext.langchain import RestateMiddleware
from restate.ext.langchain._state import _State, get_or_create_state
from restate.extensions import current_context
from typing_extensions import TypedDict

from interruptible import Agent, Session, Task, agent, current_task
from interruptible._task.repair import INTERRUPTED, NOT_BEGUN
from interruptible.ext import langchain
from interruptible.ext.langchain import InterruptibleMiddleware
from interruptible.formats import native
from interruptible.formats.langchain import from_messages, to_messages
from tests.server.conftest import LONG, normal_mode

from .contract import NOTE, Contract, keep, plain
from .langchain_model import OfflineModel, PlainModel
from .offline import Answer, Log, Offline, calls, last, promised, says, tools

if TYPE_CHECKING:
    from interruptible.testing import Restate
    from tests.server.conftest import Deploy

pytestmark = pytest.mark.anyio

Tool = Callable[..., Any]


def made_tools(log: Any, *names: str | Tool) -> list[StructuredTool]:
    known = {x: tools(log)[x] if isinstance(x, str) else x for x in names}
    return [
        StructuredTool.from_function(coroutine=tool, name=getattr(x, "__name__", x))
        for x, tool in known.items()
    ]


class TestLangChain(Contract):
    def made(self, name: str, model: Offline, *names: str, **options: Any) -> Any:
        ask = options.get("approve", ())
        asking = [HumanInTheLoopMiddleware(dict.fromkeys(ask, True))] if ask else []
        self.limit = ModelCallLimitMiddleware(run_limit=99, exit_behavior="error")
        self.without = create_agent(
            OfflineModel(offline=model),
            made_tools(model.log, *names),
            name=name,
            middleware=[RestateMiddleware(), self.limit],
        )
        return agent_of(model, name, *names, middleware=[*asking, self.limit])

    def agent(self, framework_agent: Any, **options: Any) -> Agent:
        return langchain.agent(framework_agent, **options)

    async def output(self, framework_agent: Any, task: Task, *, limit: int | None = None) -> Any:
        self.limit.run_limit = limit or 99
        return (await langchain.run(framework_agent, task))["messages"][-1].text

    async def alone(self, framework_agent: Any, ctx: ObjectContext, said: str) -> str:
        kept = messages_from_dict(await ctx.get("messages", type_hint=list) or [])
        result = await self.without.ainvoke({"messages": [*kept, HumanMessage(said)]})
        ctx.set("messages", messages_to_dict(result["messages"]))
        return str(result["messages"][-1].text)


# -- What are their own. ---------------------------------------------------------------------------


def agent_of(
    model: Any, name: str | None, *names: str | Tool, middleware: Any = (), **options: Any
) -> Any:
    log = getattr(model, "log", None)
    return create_agent(
        OfflineModel(offline=model) if isinstance(model, Offline) else model,
        made_tools(log, *names),
        name=name,
        middleware=[RestateMiddleware(), *middleware, InterruptibleMiddleware()],
        **options,
    )


async def open_session(env: Restate, deploy: Deploy, agent: Agent) -> Session:
    await deploy(agent)
    return Session(env.client, agent, "one")


def once(first: Answer, then: Answer) -> Callable[[list[Any]], Answer]:
    """Answer a message of a person, and then what became of it."""
    return lambda messages: first if not any(x["role"] == "tool" for x in messages) else then


def working(name: str, made: Any, **options: Any) -> Agent:
    """An agent that returns what the graph has come to."""

    async def work(ctx: Context, task: Task) -> Any:
        result = await langchain.run(made, task, **options)
        return result.get("structured_response") or str(result["messages"][-1].text)

    return agent(name=name)(work)


# Answers. -----------------------------------------------------------------------------------------


class Booking(BaseModel):
    city: str
    nights: int


BOOKING = {"city": "Rome", "nights": 2}


@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy])
async def test_structured_output_is_the_last_message_as_json_and_the_result_has_the_object(
    restate_env: Restate, deploy: Deploy, log: Log, strategy: Any
) -> None:
    by_tool = strategy is ToolStrategy
    called = Answer(calls=(("a", "Booking", BOOKING),))
    model = Offline(log, lambda _: called if by_tool else says(json.dumps(BOOKING)))
    made = agent_of(model, "a", response_format=strategy(Booking))
    outputs: list[Any] = []

    async def work(ctx: Context, task: Task) -> Any:
        result = await langchain.run(made, task)
        outputs.append(result["structured_response"])
        return result["structured_response"]

    session = await open_session(restate_env, deploy, agent(name=f"Lc{strategy.__name__}")(work))
    done = plain((await session.ask("Book."))["messages"])
    assert [x[0] for x in done] == (["assistant", "tool"] if by_tool else []) + ["assistant"]
    assert json.loads(done[-1][1]) == BOOKING
    assert outputs[-1] == Booking(**BOOKING)
    assert plain((await session.ask("Again."))["messages"]) == done
    assert plain(model.requests[-1]) == [("user", "Book."), *done, ("user", "Again.")]


async def test_structured_output_that_is_wrong_fails_the_turn_once(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    model = Offline(log, lambda _: Answer(calls=(("a", "Booking", {"city": "Rome"}),)))
    strategy = ToolStrategy(Booking, handle_errors=False)
    made = agent_of(model, "Lc Wrong Output", response_format=strategy)
    session = await open_session(restate_env, deploy, langchain.agent(made))
    outcome = await session.ask("Book.")
    assert outcome["status"] == "failed"
    assert "StructuredOutputValidationError: " in outcome["error"]
    assert len(model.requests) == 1


async def test_what_a_provider_gave_comes_back_to_it(restate_env: Restate, deploy: Deploy) -> None:
    content: Any = [
        {"type": "thinking", "thinking": "Hm.", "signature": "signed"},
        {"type": "text", "text": "Hello."},
    ]
    said = AIMessage(
        content,
        id="msg_1",
        additional_kwargs={"provider": {"item": 1}},
        response_metadata={"stop_reason": "end_turn"},
    )
    model = PlainModel(script=lambda _: said.model_copy(deep=True))
    session = await open_session(restate_env, deploy, langchain.agent(agent_of(model, "LcGave")))
    outcome = await session.ask("Hi.")
    assert outcome["messages"] == [{"role": "assistant", "content": "Hello."}]
    await session.ask("Again.")
    (again,) = [x for x in model.requests[-1] if isinstance(x, AIMessage)]
    assert again == said.model_copy(update={"name": "LcGave"})


async def test_steps_that_are_too_many_fail_the_turn_once(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    raised: list[BaseException] = []
    model = Offline(log, lambda _: calls(**{f"a{len(model.requests)}": "look moon"}))
    made = agent_of(model, "a", "look")

    async def work(ctx: Context, task: Task) -> None:
        try:
            await langchain.run(made, task, config={"recursion_limit": 6})
        except GraphRecursionError as error:
            raised.append(error)
            raise

    session = await open_session(restate_env, deploy, agent(name="LcTooMany")(work))
    outcome = await session.ask("Go.")
    assert outcome["status"] == "failed"
    assert "GraphRecursionError: Recursion limit of 6 reached" in outcome["error"]
    assert [x["role"] for x in outcome["messages"]] == ["assistant", "tool"] * 2
    assert len(model.requests) == 2
    assert len(raised) == 1


# Tools. -------------------------------------------------------------------------------------------


async def test_a_tool_that_wants_other_arguments_or_reports_an_error_is_told_to_the_model(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def guess(word: str, times: int) -> str:
        raise ToolException(f"not {word}")

    def script(messages: list[Any]) -> Answer:
        results = sum(x["role"] == "tool" for x in messages)
        more = Answer(calls=(("b", "guess", {"word": "two", "times": 1}),))
        return [calls(a="guess one"), more, calls(c="nothing x"), says("I give up.")][results]

    guessing = StructuredTool.from_function(
        coroutine=guess, name="guess", description="Guess.", handle_tool_error=True
    )
    model = Offline(log, script)
    made = create_agent(
        OfflineModel(offline=model),
        [guessing],
        name="LcGuessing",
        middleware=[RestateMiddleware(), InterruptibleMiddleware()],
    )
    session = await open_session(restate_env, deploy, langchain.agent(made))
    outcome = await session.ask("Guess.")
    messages = plain(outcome["messages"])
    assert [x[0] for x in messages] == ["assistant", "tool"] * 3 + ["assistant"]
    assert "times" in messages[1][1]
    assert messages[3] == ("tool", "not two", "b")
    assert "nothing" in messages[5][1]
    assert plain(model.requests[-1])[1:] == messages[:-1]


async def test_one_of_two_tools_that_fails_for_good_is_the_reason(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    model = Offline(log, lambda _: calls(a="fail luck", b="look sun", c="look moon"))
    made = agent_of(model, "LcFailsFirst", "fail", "look")
    session = await open_session(restate_env, deploy, langchain.agent(made))
    outcome = await session.ask("Try.")
    assert (outcome["status"], outcome["error"]) == ("failed", "no luck today")
    assert outcome["not_begun"] == ["b", "c"]
    assert log.of("begin") == [("begin", "fail luck")]


async def test_a_tool_that_gives_a_command_is_done_when_it_has_returned(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def note(word: str, call: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Note a word."""
        task = current_task()
        done = ToolMessage(f"noted {word} in turn {task.turn}", tool_call_id=call)
        return Command(update={"messages": [done]})

    model = Offline(log, once(calls(a="note moon", b="slow sun"), says("Good.")))
    model.script = lambda messages: (
        calls(a="note moon", b="slow sun") if last(messages) == "Note." else says("Good.")
    )
    made = agent_of(model, "LcCommand", note, "slow")
    session = await open_session(restate_env, deploy, langchain.agent(made))
    await session.send("Note.")
    await log.until("begin", "slow sun")
    await session.ask("Stop.")
    outcome = await session.attach(1)
    assert plain(outcome["messages"]) == [
        ("assistant", "", "a", "b"),
        ("tool", "noted moon in turn 1", "a"),
        ("tool", INTERRUPTED, "b"),
    ]
    assert plain(model.requests[-1])[1:] == [
        *plain(outcome["messages"]),
        ("user", NOTE),
        ("user", "Stop."),
    ]


@normal_mode
async def test_what_had_come_of_a_tool_that_is_cut_off_is_kept(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def read(word: str) -> str:
        """Read."""
        say = current_task().partial_result()

        async def reading() -> str:
            say(f"{word}, page one")
            return await log.step("read", LONG)

        ctx = current_context()
        assert ctx is not None
        return await ctx.run_typed("read", reading, RunOptions())

    script = lambda x: calls(a="read moon") if last(x) == "Read." else says("Good.")  # noqa: E731
    made = agent_of(Offline(log, script), "LcReading", read)
    session = await open_session(restate_env, deploy, langchain.agent(made))
    await session.send("Read.")
    await log.until("begin", "read")
    await session.ask("Stop.")
    (_, result) = (await session.attach(1))["messages"]
    assert result["content"].startswith("moon, page one\n[Interrupted: ")


# Agents in agents. --------------------------------------------------------------------------------


async def test_an_agent_that_is_a_tool_puts_out_nothing_of_its_own(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    inner_model = Offline(log, once(calls(a="look moon"), says("Inner ", "words.")))
    inner = agent_of(inner_model, "inner", "look")

    async def consult(word: str) -> str:
        """Ask the inner one."""
        result = await inner.ainvoke({"messages": [("user", word)]})
        return str(result["messages"][-1].text)

    both = calls(a="consult moon", b="consult sun")
    made = agent_of(Offline(log, once(both, says("Done."))), "LcConsulting", consult)
    session = await open_session(restate_env, deploy, langchain.agent(made))
    assert plain((await session.ask("Ask."))["messages"]) == [
        ("assistant", "", "a", "b"),
        ("tool", "Inner words.", "a"),
        ("tool", "Inner words.", "b"),
        ("assistant", "Done."),
    ]


@normal_mode
@pytest.mark.parametrize("config", [None, {"configurable": {"thread_id": "another"}}])
async def test_an_agent_that_is_a_tool_is_cut_off_and_says_nothing_by_itself(
    restate_env: Restate, deploy: Deploy, log: Log, config: Any
) -> None:
    inner = agent_of(Offline(log, lambda _: Answer(("Inner ", "words"), stays=True)), "inner")

    async def consult(word: str) -> str:
        """Ask the inner one."""
        result = await inner.ainvoke({"messages": [("user", word)]}, config)
        return str(result["messages"][-1].text)

    script = lambda x: calls(a="consult moon") if last(x) == "Ask." else says("Good.")  # noqa: E731
    made = agent_of(Offline(log, script), f"LcInner {config is None}", consult)
    session = await open_session(restate_env, deploy, langchain.agent(made))
    await session.send("Ask.")
    await log.until("said", "Inner words")
    await session.ask("Stop.")
    outcome = await session.attach(1)
    assert plain(outcome["messages"]) == [("assistant", "", "a"), ("tool", INTERRUPTED, "a")]
    assert outcome.get("partial") is None


NOW: Any = {"policy": "steer", "now": True}


def team(name: str, *members: Any, beside: bool = False) -> Any:
    """A graph with agents as its nodes, one after the other or side by side."""
    graph = StateGraph(MessagesState)
    places = [f"member {place}" for place, _ in enumerate(members)]
    for place, member in zip(places, members, strict=True):
        graph.add_node(place, member)
    for before, place in zip([START, *places], places, strict=False):
        graph.add_edge(START if beside else before, place)
    return graph.compile(name=name)


async def test_what_an_agent_that_is_a_node_does_is_put_out_as_it_does_it(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    def script(messages: list[Any]) -> Answer:
        return says("Good.") if last(messages) == "Stop." else calls(a="look moon", b="slow sun")

    first = agent_of(Offline(log, lambda _: says("I am first.")), None)
    model = Offline(log, script)
    made = team("LcTeam", first, team("inner", agent_of(model, None, "look", "slow")))
    session = await open_session(restate_env, deploy, langchain.agent(made))
    await session.send("Go.")
    await log.until("begin", "slow sun")
    await session.ask("Stop.")
    outcome = await session.attach(1)
    done = [
        ("assistant", "I am first."),
        ("assistant", "", "a", "b"),
        ("tool", "found moon", "a"),
        ("tool", INTERRUPTED, "b"),
    ]
    assert plain(outcome["messages"]) == done
    assert plain(model.requests[-1])[:-1] == [
        ("user", "Go."),
        *done,
        ("user", NOTE),
        ("user", "Stop."),
    ]


async def test_steered_at_a_team_it_is_told_to_the_member_that_asks_next(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    holding = agent_of(Offline(log, once(calls(a="hold Godot"), says("Came."))), None, "hold")
    model = Offline(log, lambda _: says("I am second."))
    made = team("LcSteered", holding, agent_of(model, None))
    session = await open_session(restate_env, deploy, langchain.agent(made))
    await session.send("Wait.")
    promise = await log.first("held")
    await session.send("Quickly.", policy="steer")
    await keep(restate_env, promise, "")
    outcome = await session.attach(1)
    assert plain(outcome["messages"]) == [
        ("assistant", "", "a"),
        ("tool", "Godot came", "a"),
        ("user", "Quickly."),
        ("assistant", "Came."),
        ("assistant", "I am second."),
    ]


@normal_mode
@pytest.mark.parametrize("beside", [False, True])
async def test_members_of_a_team_are_cut_off_by_what_is_to_be_read_now(
    restate_env: Restate, deploy: Deploy, log: Log, beside: bool
) -> None:
    def script(messages: list[Any]) -> Answer:
        return says("Good.") if last(messages) == "Now." else Answer(("Half",), stays=True)

    models = [Offline(log, script) for _ in range(1 + beside)]
    first, *others = (agent_of(model, None) for model in models)
    made = team(f"LcTeamNow {beside}", team("inner", first), *others, beside=True)
    session = await open_session(restate_env, deploy, langchain.agent(made))
    await session.send("Speak.")
    await log.until("said", "Half", times=len(models))
    await session.send("Now.", **NOW)
    outcome = await session.attach(1)
    half, good = [("assistant", "Half")] * len(models), [("assistant", "Good.")] * len(models)
    assert plain(outcome["messages"]) == [*half, ("user", "Now."), *good]
    for model in models:
        assert plain(model.requests[1])[-2:] == [("assistant", "Half"), ("user", "Now.")]
        assert len(model.requests) == 2
    await session.ask("Now.")
    assert plain(models[0].requests[-1])[:-1] == [
        ("user", "Speak."),
        *(*half, ("user", "Now."), *good),
    ]


@normal_mode
async def test_an_agent_that_is_a_tool_is_not_cut_off_by_what_is_to_be_read_now(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    log.hold("stay")
    inner = agent_of(Offline(log, lambda _: Answer(("Inner ", "words"), stays=True)), "inner")

    async def consult(word: str) -> str:
        """Ask the inner one."""
        result = await inner.ainvoke({"messages": [("user", word)]})
        return str(result["messages"][-1].text)

    model = Offline(log, once(calls(a="consult moon"), says("Good.")))
    made = agent_of(model, "LcInnerNow", consult)
    session = await open_session(restate_env, deploy, langchain.agent(made))
    await session.send("Ask.")
    await log.until("begin", "stay")
    await session.send("Now.", **NOW)
    log.let("stay")
    assert plain((await session.attach(1))["messages"]) == [
        ("assistant", "", "a"),
        ("tool", "Inner words", "a"),
        ("user", "Now."),
        ("assistant", "Good."),
    ]
    assert log.events.count(("asked", 1)) == 2


@normal_mode
async def test_cut_off_by_what_is_to_be_read_now_middleware_and_output_are_as_ever(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    seen: list[Any] = []

    class Seeing(AgentMiddleware):
        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            seen.append([x.text for x in request.messages])
            response = await handler(request)
            seen.append([type(x).__name__ for x in response.result])
            return response

        async def aafter_model(self, state: Any, runtime: Any) -> None:
            del runtime
            seen.append([x.text for x in state["messages"]][:4])

    def script(messages: list[Any]) -> Answer:
        if last(messages) == "Book.":
            return Answer(("Let me ", "see"), stays=True)
        return Answer(calls=(("a", "Booking", {"city": "Rome", "nights": 2}),))

    made = create_agent(
        OfflineModel(offline=Offline(log, script)),
        name="LcNowOutput",
        middleware=[Seeing(), RestateMiddleware(), InterruptibleMiddleware()],
        response_format=ToolStrategy(Booking),
    )
    session = await open_session(restate_env, deploy, langchain.agent(made))
    await session.send("Book.")
    await log.until("said", "Let me see")
    await session.send("Rome.", **NOW)
    outcome = await session.attach(1)
    said = [("assistant", "Let me see"), ("user", "Rome."), ("assistant", "", "a")]
    assert plain(outcome["messages"])[:3] == said
    assert outcome["messages"][-1]["content"] == '{"city":"Rome","nights":2}'
    assert seen == [
        *(["Book."], ["Book.", "Let me see", "Rome."]),
        *(["AIMessage", "ToolMessage"], ["Book.", "Let me see", "Rome.", ""]),
    ]


async def test_a_member_of_a_team_hands_over_to_another(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def hand_over(word: str, call: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Let somebody else go on."""
        done = ToolMessage(f"over to {word}", tool_call_id=call, name="hand_over")
        return Command(goto=word, graph=Command.PARENT, update={"messages": [done]})

    first = agent_of(Offline(log, lambda _: calls(a="hand_over second")), None, hand_over)
    model = Offline(log, lambda _: says("I am second."))
    graph = StateGraph(MessagesState)
    graph.add_node("first", first, destinations=("second",))
    graph.add_node("second", agent_of(model, None))
    graph.add_edge(START, "first")
    agent_ = langchain.agent(graph.compile(name="LcHandsOver"))
    session = await open_session(restate_env, deploy, agent_)
    messages = plain((await session.ask("Go."))["messages"])
    assert messages == [
        ("assistant", "", "a"),
        ("tool", "over to second", "a"),
        ("assistant", "I am second."),
    ]
    await session.ask("Again.")
    assert plain(model.requests[-1])[:4] == [("user", "Go."), *messages]


@pytest.mark.parametrize("again", range(3))
async def test_members_of_a_team_side_by_side_have_their_tools_run(
    restate_env: Restate, deploy: Deploy, log: Log, again: int
) -> None:
    """Again: what waits for a thread goes on in another order, sometimes."""

    def member(word: str) -> Any:
        first = calls(**{f"{word}1": f"look {word}1", f"{word}2": f"look {word}2"})
        script = lambda x: says(f"{word} done.") if f"found {word}2" in str(x) else first  # noqa: E731
        return agent_of(Offline(log, script), word, "look")

    made = team(f"LcBeside {again}", member("moon"), member("sun"), beside=True)
    session = await open_session(restate_env, deploy, langchain.agent(made))
    outcome = await session.ask("Go.")
    assert outcome["status"] == "completed"
    said = plain(outcome["messages"])
    for word in ("moon", "sun"):
        assert [x for x in said if word in str(x)] == [
            ("assistant", "", f"{word}1", f"{word}2"),
            ("tool", f"found {word}1", f"{word}1"),
            ("tool", f"found {word}2", f"{word}2"),
            ("assistant", f"{word} done."),
        ]


async def test_of_an_agent_that_a_node_calls_by_itself_the_nodes_answer_is_put_out(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    inner = agent_of(Offline(log, once(calls(a="look moon"), says("Inner words."))), None, "look")

    async def node(state: MessagesState) -> Any:
        result = await inner.ainvoke({"messages": [("user", "Quietly.")]})
        return {"messages": {"role": "assistant", "content": result["messages"][-1].text.upper()}}

    session = await open_session(restate_env, deploy, langchain.agent(team("LcCalling", node)))
    outcome = await session.ask("Go.")
    assert plain(outcome["messages"]) == [("assistant", "INNER WORDS.")]


# Graphs of one's own. -----------------------------------------------------------------------------


def graph_of(model: Offline, name: str, *names: str | Tool) -> Any:
    """A graph that asks a model in durable steps, and has a node for its tools."""
    asked = OfflineModel(offline=model)

    async def think(state: MessagesState) -> Any:
        async def ask() -> dict[str, Any]:
            answer = await asked.ainvoke(state["messages"])
            return answer.model_dump(mode="json")

        steered = await current_task().steering()
        ctx = current_context()
        assert ctx is not None
        said = await ctx.run_typed("ask", ask, RunOptions())
        return {"messages": [*steered, AIMessage(**said)]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode(made_tools(model.log, *names)))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    return graph.compile(name=name)


@pytest.mark.parametrize("nested", [False, True])
async def test_a_graph_of_ones_own_stops_in_order_after_the_tools_that_run_at_once(
    restate_env: Restate, deploy: Deploy, log: Log, nested: bool
) -> None:
    log.hold("look moon", "look sun")
    made = graph_of(
        Offline(log, lambda _: calls(a="look moon", b="look sun")), f"LcStops {nested}", "look"
    )
    made = team(f"LcStops {nested}", made) if nested else made
    session = await open_session(restate_env, deploy, langchain.agent(made))
    await session.send("Look.")
    await log.until("begin", "look moon")
    await log.until("begin", "look sun")
    await session.cancel(after_step=True)
    log.let("look moon", "look sun")
    outcome = await session.attach(1)
    assert outcome["status"] == "interrupted"
    assert sorted(plain(outcome["messages"]), key=lambda x: x[-1]) == [
        ("tool", "found moon", "a"),
        ("assistant", "", "a", "b"),
        ("tool", "found sun", "b"),
    ]
    assert log.events.count(("asked", 1)) == 1
    assert log.of("abort") == []


@normal_mode
async def test_a_node_of_ones_own_may_be_cut_off_by_what_is_to_be_read_now(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    def script(messages: list[Any]) -> Answer:
        return says("Good.") if last(messages) == "Now." else Answer(("Half",), stays=True)

    model = Offline(log, script)
    asked = OfflineModel(offline=model)

    async def think(state: MessagesState) -> Any:
        async def ask() -> dict[str, Any]:
            return (await asked.ainvoke(state["messages"])).model_dump(mode="json")

        ctx = current_context()
        assert ctx is not None
        said = await current_task().steerable(ctx.run_typed("ask", ask, RunOptions()))
        return {"messages": [AIMessage(**said)]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_edge(START, "think")
    made = graph.compile(name="LcNodeNow")
    session = await open_session(restate_env, deploy, langchain.agent(made))
    await session.send("Speak.")
    await log.until("said", "Half")
    await session.send("Now.", **NOW)
    done = [("assistant", "Half"), ("user", "Now.")]
    outcome = await session.attach(1)
    assert plain(outcome["messages"]) == [*done, ("assistant", "Good.")]
    assert plain(model.requests[-1]) == [("user", "Speak."), *done]


@pytest.mark.parametrize("nested", [False, True])
async def test_a_graph_of_ones_own_keeps_what_its_nodes_and_tools_have_done(
    restate_env: Restate, deploy: Deploy, log: Log, nested: bool
) -> None:
    def script(messages: list[Any]) -> Answer:
        return calls(a="look moon", b="slow sun") if last(messages) == "Look." else says("Good.")

    model = Offline(log, script)
    made = graph_of(model, f"LcGraph {nested}", "look", "slow")
    made = team(f"LcGraph {nested}", made) if nested else made
    session = await open_session(restate_env, deploy, langchain.agent(made))
    await session.send("Look.")
    await log.until("end", "look moon")
    await log.until("begin", "slow sun")
    await session.ask("Stop.")
    outcome = await session.attach(1)
    done = [
        ("assistant", "", "a", "b"),
        ("tool", "found moon", "a"),
        ("tool", INTERRUPTED, "b"),
    ]
    assert plain(outcome["messages"]) == done
    assert plain(model.requests[-1]) == [
        *(("user", "Look."), *done),
        *(("user", NOTE), ("user", "Stop.")),
    ]


@normal_mode
async def test_a_graph_of_ones_own_keeps_the_words_of_a_step_that_was_cut_off(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    def script(messages: list[Any]) -> Answer:
        stays = last(messages) == "Speak."
        return Answer(("Half an ", "answer"), stays=True) if stays else says("Good.")

    made = graph_of(Offline(log, script), "LcGraphCut", "look")
    session = await open_session(restate_env, deploy, langchain.agent(made))
    await session.send("Speak.")
    await log.until("said", "Half an answer")
    assert plain((await session.ask("Stop."))["messages"]) == [("assistant", "Good.")]
    outcome = await session.attach(1)
    assert plain(outcome["messages"]) == [("assistant", "Half an answer")]


async def test_a_graph_of_ones_own_takes_what_is_steered_at_it_by_itself(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    model = Offline(log, once(calls(a="hold Godot"), says("Done.")))
    made = graph_of(model, "LcGraphSteered", "hold")
    session = await open_session(restate_env, deploy, langchain.agent(made))
    await session.send("Wait.")
    promise = await log.first("held")
    await session.send("Quickly.", policy="steer")
    await keep(restate_env, promise, "")
    assert plain((await session.attach(1))["messages"]) == [
        ("assistant", "", "a"),
        ("tool", "Godot came", "a"),
        ("user", "Quickly."),
        ("assistant", "Done."),
    ]


async def test_a_history_that_is_rewritten_for_the_model_stays_in_the_conversation(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class Forgetting(AgentMiddleware[Any, Any]):
        async def abefore_model(self, state: Any, runtime: Any) -> Any:
            kept = state["messages"][-1:]
            gone = RemoveMessage(id=REMOVE_ALL_MESSAGES)
            return {"messages": [gone, HumanMessage("It was nice."), *kept]}

    model = Offline(log, lambda messages: says(f"I know of {len(messages)}."))
    made = agent_of(model, "LcForgetting", middleware=[Forgetting()])
    session = await open_session(restate_env, deploy, langchain.agent(made))
    await session.ask("One.")
    await session.ask("Two.")
    assert plain(model.requests[-1]) == [("user", "It was nice."), ("user", "Two.")]
    assert plain(await session.history()) == [
        ("user", "One."),
        ("assistant", "I know of 2."),
        ("user", "Two."),
        ("assistant", "I know of 2."),
    ]


class Visits(TypedDict):
    city: str


class State(MessagesState):
    count: int


async def test_run_takes_what_the_framework_takes_and_gives_what_it_gives(
    restate_env: Restate, deploy: Deploy
) -> None:
    async def node(state: State, runtime: Runtime[Visits]) -> Any:
        said = AIMessage(f"Hello {runtime.context['city']}, {state['count']}.")
        return {"messages": [said], "count": state["count"] + 1}

    graph = StateGraph(State, context_schema=Visits)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    made, results = graph.compile(), []

    async def work(ctx: Context, task: Task) -> None:
        options: Any = {"input": {"count": 5}, "context": {"city": "Rome"}}
        results.append(await langchain.run(made, task, **options))
        results.append(await langchain.run(made, task, output_keys=["count"], **options))

    session = await open_session(restate_env, deploy, agent(name="LcOptions")(work))
    outcome = await session.ask("Hi.")
    assert plain(outcome["messages"]) == [("assistant", "Hello Rome, 5.")] * 2
    whole, part = results[-2:]
    assert (whole["count"], [x.text for x in whole["messages"]]) == (6, ["Hi.", "Hello Rome, 5."])
    assert part == {"count": 6}


# What is asked for. -------------------------------------------------------------------------------


async def asking_tool(word: str) -> str:
    """Ask somebody."""
    answer = interrupt({"question": f"Do you like {word}?"})
    return f"The answer for {word} is {answer}."


async def test_tools_that_interrupt_to_ask_hold_up_no_other_and_get_their_answers(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def approve(name: str, arguments: dict[str, Any]) -> Any:
        return await promised(log, f"{name} {arguments['question']}")

    asked = calls(a="asking_tool moon", b="look stars", c="asking_tool sun")
    model = Offline(log, once(asked, says("Good.")))
    made = agent_of(model, "LcInterrupts", asking_tool, "look")
    session = await open_session(restate_env, deploy, langchain.agent(made, approve=approve))
    await session.send("Go.")
    moon = await log.first("asking_tool Do you like moon?")
    sun = await log.first("asking_tool Do you like sun?")
    await log.until("end", "look stars")
    await keep(restate_env, sun, "no")
    await keep(restate_env, moon, True)
    messages = plain((await session.attach(1))["messages"])
    assert sorted(messages[1:4], key=str) == [
        ("tool", "The answer for moon is True.", "a"),
        ("tool", "The answer for sun is no.", "c"),
        ("tool", "found stars", "b"),
    ]
    assert messages[4] == ("assistant", "Good.")
    assert len(model.requests) == 2
    assert log.events.count(("begin", "look stars")) == 1


@pytest.mark.parametrize("asks", ["in the graph", "in a tool of a tool"])
async def test_a_node_and_an_agent_that_is_a_tool_may_ask_too(
    restate_env: Restate, deploy: Deploy, log: Log, asks: str
) -> None:
    async def approve(name: str, arguments: dict[str, Any]) -> Any:
        return await promised(log, json.dumps([name, arguments]))

    inner = agent_of(
        Offline(log, once(calls(x="asking_tool moon"), says("Hm."))), None, asking_tool
    )

    async def node(state: MessagesState) -> Any:
        return {"messages": [AIMessage(f"You said {interrupt('Well?')}.")]}

    async def consult(word: str) -> str:
        """Ask the inner one."""
        result = await inner.ainvoke({"messages": [("user", word)]})
        return " ".join(str(x.text) for x in result["messages"])

    if asks == "in the graph":
        made, asked = team("LcNodeAsks", team("a", node)), ["interrupt", {"value": "Well?"}]
    else:
        model = Offline(log, once(calls(a="consult moon"), says("Done.")))
        made = agent_of(model, "LcInnerAsks", consult)
        asked = ["consult", {"question": "Do you like moon?"}]
    session = await open_session(restate_env, deploy, langchain.agent(made, approve=approve))
    await session.send("Go.")
    await keep(restate_env, await log.first(json.dumps(asked)), "yes")
    messages = plain((await session.attach(1))["messages"])
    assert messages == (
        [("assistant", "You said yes.")]
        if asks == "in the graph"
        else [
            ("assistant", "", "a"),
            ("tool", "moon  The answer for moon is yes. Hm.", "a"),
            ("assistant", "Done."),
        ]
    )


async def test_one_of_two_calls_is_approved_and_the_other_is_not(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def approve(name: str, arguments: dict[str, Any]) -> bool:
        await promised(log, f"{name} {arguments['word']}")
        return arguments["word"] == "moon"

    model = Offline(log, once(calls(a="look moon", b="look sun"), says("Done.")))
    asking = HumanInTheLoopMiddleware({"look": True})
    made = agent_of(model, "LcApprovals", "look", middleware=[asking])
    session = await open_session(restate_env, deploy, langchain.agent(made, approve=approve))
    await session.send("Go.")
    for word in ("moon", "sun"):
        await keep(restate_env, await log.first(f"look {word}"), "")
    called, *results, done = plain((await session.attach(1))["messages"])
    assert called == ("assistant", "", "a", "b")
    assert ("tool", "found moon", "a") in results
    assert "User rejected the tool call" in str(results)
    assert log.of("begin") == [("begin", "look moon")]
    assert done == ("assistant", "Done.")


async def test_calls_that_are_approved_one_by_one_have_not_begun(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    if "interrupt_mode" not in inspect.signature(HumanInTheLoopMiddleware).parameters:
        pytest.skip("this version of LangChain asks about all calls at once")

    async def approve(name: str, arguments: dict[str, Any]) -> Any:
        return await promised(log, f"{name} {arguments['word']}")

    def script(messages: list[Any]) -> Answer:
        both = calls(a="look moon", b="look sun")
        return both if not any(x["role"] == "tool" for x in messages) else says("Done.")

    model = Offline(log, script)
    asking: Any = HumanInTheLoopMiddleware({"look": True}, interrupt_mode="per_call")
    made = agent_of(model, "LcOneByOne", "look", middleware=[asking])
    session = await open_session(restate_env, deploy, langchain.agent(made, approve=approve))
    await session.send("Go.")
    await log.first("look moon")
    await keep(restate_env, await log.first("look sun"), "too dear")
    await session.send("Go on.")
    messages = plain((await session.attach(1))["messages"])
    assert messages == [
        ("assistant", "", "a", "b"),
        ("tool", NOT_BEGUN, "a"),
        ("tool", NOT_BEGUN, "b"),
    ]


async def test_without_approve_the_result_has_what_is_asked_for(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    asked: list[Any] = []
    made = agent_of(Offline(log, lambda _: calls(a="asking_tool moon")), "a", asking_tool)

    async def work(ctx: Context, task: Task) -> str:
        result = await langchain.run(made, task)
        asked[:] = [x.value for x in result["__interrupt__"]]
        return "Somebody has to answer."

    session = await open_session(restate_env, deploy, agent(name="LcAsked")(work))
    outcome = await session.ask("Go.")
    assert asked == [{"question": "Do you like moon?"}]
    assert plain(outcome["messages"])[-1] == ("assistant", "Somebody has to answer.")
    assert plain(outcome["messages"])[0] == ("assistant", "", "a")


# Wrong use. ---------------------------------------------------------------------------------------


class OwnSaver(BaseCheckpointSaver[int]):
    """Somebody's own."""


def with_middleware(*middleware: Any, **options: Any) -> Any:
    model = PlainModel(script=lambda _: AIMessage("Hi."))
    return create_agent(model, name="Wrong", middleware=middleware, **options)


def without_messages() -> Any:
    graph = StateGraph(Visits)
    graph.add_node("node", lambda _: {"city": "Rome"})
    graph.add_edge(START, "node")
    return graph.compile(name="a")


BOTH = (RestateMiddleware(), InterruptibleMiddleware())


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (with_middleware(), "has no `InterruptibleMiddleware`"),
        (with_middleware(RestateMiddleware()), "has no `InterruptibleMiddleware`"),
        (with_middleware(*BOTH, checkpointer=OwnSaver()), "checkpointer of its own"),
        (StateGraph(MessagesState), "A StateGraph is no compiled graph"),
        (without_messages(), "has no `messages`"),
        (team("a", with_middleware(RestateMiddleware())), "agent 'Wrong' has no"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(made: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        langchain.agent(made)


def test_a_checkpointer_in_memory_is_left_out() -> None:
    assert langchain.agent(with_middleware(*BOTH, checkpointer=InMemorySaver())).name == "Wrong"


@pytest.mark.parametrize("wrong", [(InterruptibleMiddleware(), RestateMiddleware()), BOTH[1:]])
async def test_middleware_that_is_missing_or_in_the_wrong_place_fails_the_turn_before_a_request(
    restate_env: Restate, deploy: Deploy, wrong: Any
) -> None:
    made = with_middleware(*wrong)
    agent_ = langchain.agent(made, name=f"LcWrong{len(wrong)}")
    session = await open_session(restate_env, deploy, agent_)
    outcome = await session.ask("Hi.")
    assert outcome["status"] == "failed"
    assert outcome["error"] == (
        "The request to the model is no durable step where `InterruptibleMiddleware` stands. "
        "It stands after Restate's: `middleware=[RestateMiddleware(), InterruptibleMiddleware()]`."
    )


async def test_wrong_calls_fail_the_turn(restate_env: Restate, deploy: Deploy) -> None:
    made = with_middleware(*BOTH)

    async def work(ctx: Context, task: Task) -> None:
        if task.text == "Invoke.":
            await made.ainvoke({"messages": [("user", "Hi.")]})
        elif task.text == "Nest.":
            await langchain.run(nesting, task)
        await langchain.run(made, task, stream_mode="values")

    async def node(state: MessagesState) -> None:
        await langchain.run(made, current_task())

    nesting = team("a", node)
    session = await open_session(restate_env, deploy, agent(name="LcWrongCalls")(work))
    outcomes = [await session.ask(x) for x in ("Invoke.", "Stream.", "Nest.")]
    assert [x["status"] for x in outcomes] == ["failed"] * 3
    assert "An agent that is a tool is called as ever" in outcomes[2]["error"]
    assert "Call `await run(agent, task)` instead of `agent.ainvoke`." in outcomes[0]["error"]
    assert "It takes no `stream_mode`" in outcomes[1]["error"]


async def test_restates_integration_keeps_its_turns_where_ours_stand(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    """It is an inner name; see `_Turns`."""
    found: list[Any] = []

    async def look_up(word: str) -> str:
        """Look."""
        ctx = current_context()
        assert ctx is not None
        found.append(get_or_create_state(ctx))
        return word

    model = Offline(log, once(calls(a="look_up moon"), says("Done.")))
    session = await open_session(
        restate_env, deploy, langchain.agent(agent_of(model, "LcTurns", look_up))
    )
    await session.ask("Go.")
    state = found[-1]
    assert type(state).__module__ == langchain.__name__
    assert [name for name in _State.__slots__ if name != "turnstile"] == []


# Messages. ----------------------------------------------------------------------------------------


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}


@pytest.mark.parametrize(
    ("own", "neutral", "is_native"),
    [
        (HumanMessage("Hi."), {"role": "user", "content": "Hi."}, False),
        (
            HumanMessage([{"type": "text", "text": "This?"}, IMAGE]),
            {"role": "user", "content": [{"type": "text", "text": "This?"}, IMAGE]},
            False,
        ),
        (HumanMessage("Hi.", name="Ada"), {"role": "user", "content": "Hi."}, True),
        (SystemMessage("Be kind."), {"role": "system", "content": "Be kind."}, False),
        (AIMessage("Hello."), {"role": "assistant", "content": "Hello."}, False),
        (
            AIMessage("", tool_calls=[{"id": "a", "name": "look", "args": {"word": "moon"}}]),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "a",
                        "type": "function",
                        "function": {"name": "look", "arguments": '{"word": "moon"}'},
                    }
                ],
            },
            False,
        ),
        (
            AIMessage([{"type": "reasoning", "reasoning": "Hm."}, "Hello."], id="msg_1"),
            {"role": "assistant", "content": "Hello."},
            True,
        ),
        (
            ToolMessage("found", tool_call_id="a", name="look"),
            {"role": "tool", "tool_call_id": "a", "content": "found"},
            False,
        ),
        (
            ToolMessage([IMAGE], tool_call_id="a", status="error"),
            {"role": "tool", "tool_call_id": "a", "content": "image_url"},
            True,
        ),
    ],
)
def test_a_message_comes_back_as_it_was(own: Any, neutral: Any, is_native: bool) -> None:
    (made,) = to_messages([own])
    assert made == neutral
    assert (native(made, "langchain") is not None) == is_native
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    before = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert from_messages([before, made])[1:] == [own]


@pytest.mark.parametrize("id_", ["lc_run--019", "run-1", "c8f0a54a-8b0a-4bd6-8d0e-b1a4b0b2a6d0"])
def test_an_id_that_no_provider_gave_is_left_out(id_: str) -> None:
    (made,) = to_messages([AIMessage("Hello.", id=id_)])
    assert native(made, "langchain") is None


def test_what_is_only_for_the_program_is_left_out() -> None:
    (made,) = to_messages([ToolMessage("found", tool_call_id="a", artifact=object())])
    assert made == {"role": "tool", "tool_call_id": "a", "content": "found"}
    assert native(made, "langchain") is None


def test_chunks_are_messages_and_removals_are_none() -> None:
    chunk = AIMessageChunk("Hello.", id="msg_1")
    assert from_messages(to_messages([chunk, RemoveMessage(id="x")])) == [
        AIMessage("Hello.", id="msg_1")
    ]


def test_a_call_that_is_no_json_is_no_call() -> None:
    broken = {"name": "look", "args": '{"wo', "id": "a", "error": None, "type": "invalid_tool_call"}
    message: Any = AIMessage("", invalid_tool_calls=[broken])
    assert from_messages(to_messages([message])) == [AIMessage("[look]")]
