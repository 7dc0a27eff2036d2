"""Google ADK: the contract of the frameworks, and what is its own."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.agents import LlmAgent, RunConfig, SequentialAgent
from google.adk.apps import App, ResumabilityConfig
from google.adk.apps.app import EventsCompactionConfig
from google.adk.events import Event
from google.adk.models import BaseLlm, Gemini
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins import BasePlugin
from google.adk.runners import InMemoryRunner, Runner
from google.adk.sessions import InMemorySessionService
from google.adk.tools import FunctionTool
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from pydantic import BaseModel
from restate import Context, ObjectContext, RunOptions
from restate.ext.adk import RestatePlugin, RestateSessionService

from interruptible import Agent, Session, Task
from interruptible._task.repair import INTERRUPTED
from interruptible.ext import adk
from interruptible.formats import gemini
from interruptible.formats.adk import from_messages, to_messages
from interruptible.testing import serve
from tests.server.conftest import eventually, normal_mode

from .contract import Contract, keep, plain
from .offline import Answer, Log, Offline, calls, last, promised, says, tools

if TYPE_CHECKING:
    from interruptible import Message
    from interruptible.testing import Restate
    from tests.server.conftest import Deploy

pytestmark = [
    pytest.mark.anyio,
    # Of what ADK does itself: when an agent is a tool, and by default.
    pytest.mark.filterwarnings("ignore:The `plugins` argument is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:\[EXPERIMENTAL\] :UserWarning"),
]


class Model(BaseLlm):
    """Answers as an `Offline` does."""

    offline: Any = None

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        answer = await self.offline.answer(neutral(llm_request))
        for thought in answer.thoughts:
            if stream:
                part = types.Part(text=thought, thought=True)
                yield LlmResponse(content=said(part), partial=True)
        for piece in answer.pieces:
            if stream:
                yield LlmResponse(content=said(types.Part(text=piece)), partial=True)
        await self.offline.end(answer)
        yield LlmResponse(content=said(*parts_of(answer)))


def neutral(request: LlmRequest) -> list[Message]:
    """What a model is asked, as messages; results of tools as they returned them."""
    asked = [{**x} for content in request.contents for x in gemini.to_messages([content])]
    for message in asked:
        if message["role"] == "tool" and message["content"].startswith('{"result": "'):
            message["content"] = json.loads(message["content"])["result"]
    return asked


def parts_of(answer: Answer) -> list[types.Part]:
    called = [types.FunctionCall(id=call, name=x, args=args) for call, x, args in answer.calls]
    words = [types.Part(text=answer.text)] if answer.text else []
    return [*words, *(types.Part(function_call=call) for call in called)]


def said(*parts: types.Part) -> types.Content:
    return types.Content(role="model", parts=[*parts])


class TestADK(Contract):
    other_id = "look-1"  # Gemini is told no id that it has not made itself

    def made(self, name: str, model: Offline, *names: str, **options: Any) -> Any:
        known, ask = tools(model.log), options.get("approve", ())
        given = [FunctionTool(known[x], require_confirmation=x in ask) for x in names]
        return agent_of(model, name.replace(" ", "_"), *given)

    def agent(self, framework_agent: Any, **options: Any) -> Agent:
        return adk.agent(framework_agent, **options)

    async def output(self, framework_agent: Any, task: Task, *, limit: int | None = None) -> Any:
        config = RunConfig(max_llm_calls=limit or 500)
        return (await adk.run(framework_agent, task, run_config=config)).output

    async def alone(self, framework_agent: Any, ctx: ObjectContext, said: str) -> str:
        app = App(name="alone", root_agent=framework_agent, plugins=[RestatePlugin()])
        has_state = isinstance(ctx, ObjectContext)
        sessions = RestateSessionService() if has_state else InMemorySessionService()
        runner = Runner(app=app, session_service=sessions, auto_create_session=not has_state)
        content = types.Content(role="user", parts=[types.Part(text=said)])
        text = ""
        async for event in runner.run_async(user_id="u", session_id="s", new_message=content):
            text = "".join(x.text or "" for x in (event.content or content).parts or [])
        return text


# -- What is its own. ------------------------------------------------------------------------------


def agent_of(model: Offline | BaseLlm, name: str, *tools: Any, **options: Any) -> LlmAgent:
    made = Model(model="offline", offline=model) if isinstance(model, Offline) else model
    return LlmAgent(name=name, model=made, tools=[*tools], **options)


async def open_session(env: Restate, deploy: Deploy, made: Any, **options: Any) -> Session:
    agent = made if isinstance(made, Agent) else adk.agent(made, **options)
    await deploy(agent)
    return Session(env.client, agent, "one")


def calls_once(log: Log, call: Answer, end: Answer) -> Offline:
    """A model that calls tools when the user has spoken, and ends when these have."""
    return Offline(log, lambda asked: call if asked[-1]["role"] == "user" else end)


def saying(tool: str, **arguments: Any) -> Answer:
    return Answer(calls=(("a", tool, arguments),))


# -- Agents of agents. -----------------------------------------------------------------------------


async def test_the_agent_that_a_transfer_led_to_goes_on_in_the_next_turn(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    known = tools(log)
    expert = calls_once(log, calls(b="look moon"), says("Full."))
    sub = agent_of(expert, "expert", known["look"], description="Knows.")
    first = Offline(log, lambda _: saying("transfer_to_agent", agent_name="expert"))
    session = await open_session(
        restate_env, deploy, agent_of(first, "transferring", sub_agents=[sub])
    )
    done = [
        ("assistant", "", "a"),
        ("tool", '{"result": null}', "a"),
        ("assistant", "", "b"),
        ("tool", "found moon", "b"),
        ("assistant", "Full."),
    ]
    assert plain((await session.ask("Look."))["messages"]) == done
    assert plain((await session.ask("Again."))["messages"]) == done[2:]
    assert (len(first.requests), len(expert.requests)) == (1, 4)
    # What is its own comes as it was; of what others did, ADK tells it in words.
    assert plain(expert.requests[-1])[-6:] == [
        *done[2:],
        ("user", "Again."),
        *done[2:4],
    ]


async def test_a_transfer_that_was_cut_off_leads_nowhere(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    known = tools(log)
    expert = Offline(log, lambda _: says("Here."))
    sub = agent_of(expert, "expert", description="Knows.")
    call = Answer(
        calls=(
            ("a", "slow", {"word": "sun"}),
            ("b", "transfer_to_agent", {"agent_name": "expert"}),
        )
    )
    first = Offline(log, lambda asked: call if last(asked) == "Look." else says("I am here."))
    made = agent_of(first, "cut_off_transfer", known["slow"], sub_agents=[sub])
    session = await open_session(restate_env, deploy, made)
    await session.send("Look.")
    await log.until("begin", "slow sun")
    assert plain((await session.ask("Who?"))["messages"]) == [("assistant", "I am here.")]
    outcome = await session.attach(1)
    assert (outcome["cut_off"], outcome["not_begun"]) == (["a"], ["b"])
    assert expert.requests == []


@pytest.mark.parametrize("way", ["AgentTool", "single_turn", "task"])
async def test_an_agent_that_is_a_tool_puts_out_nothing_of_its_own(
    restate_env: Restate, deploy: Deploy, log: Log, way: str
) -> None:
    def inner(asked: list[Message]) -> Answer:
        if asked[-1]["role"] == "user":
            return Answer(("Let me see. ",), (("i", "look", {"word": "moon"}),))
        end = Answer(calls=(("j", "finish_task", {"result": "Full."}),))
        return end if way == "task" else says("Full.")

    known, nested, outer = tools(log), Offline(log, inner), f"asking_{way}".lower()
    model = calls_once(log, saying("expert", request="Moon?"), says("It is full."))
    mode = {} if way == "AgentTool" else {"mode": way}
    sub = agent_of(nested, "expert", known["look"], description="Knows.", **mode)
    is_tool = way == "AgentTool"
    made = agent_of(model, outer, *([AgentTool(sub)] if is_tool else []))
    if not is_tool:
        made = agent_of(model, outer, sub_agents=[sub])
    session = await open_session(restate_env, deploy, made)
    for _ in range(2):
        assert plain((await session.ask("Look."))["messages"]) == [
            ("assistant", "", "a"),
            ("tool", "Full.", "a"),
            ("assistant", "It is full."),
        ]
    assert log.events.count(("begin", "look moon")) == 2
    assert len(nested.requests) == 4
    assert plain(nested.requests[1])[1:] == [
        ("assistant", "Let me see. ", "i"),
        ("tool", "found moon", "i"),
    ]


async def test_cut_off_in_a_tool_of_an_agent_that_is_a_tool_its_call_is_told_as_cut_off(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    nested = calls_once(log, calls(i="slow sun"), says("Never."))
    sub = agent_of(nested, "expert", tools(log)["slow"], description="Knows.")
    model = Offline(
        log, lambda x: says("Good.") if last(x) == "Stop." else saying("expert", request="Sun?")
    )
    session = await open_session(
        restate_env, deploy, agent_of(model, "asking_long", AgentTool(sub))
    )
    await session.send("Look.")
    await log.until("begin", "slow sun")
    assert plain((await session.ask("Stop."))["messages"]) == [("assistant", "Good.")]
    assert plain((await session.attach(1))["messages"]) == [
        ("assistant", "", "a"),
        ("tool", INTERRUPTED, "a"),
    ]


NOW: Any = {"policy": "steer", "now": True}


@normal_mode
async def test_the_agent_that_a_transfer_led_to_is_cut_off_by_what_is_to_be_read_now(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    expert = Offline(
        log,
        lambda x: says("Full.") if last(x) == "Quickly." else Answer(("Well, ", "the"), stays=True),
    )
    sub = agent_of(expert, "expert", description="Knows.")
    first = Offline(log, lambda _: saying("transfer_to_agent", agent_name="expert"))
    made = agent_of(first, "transferring_now", sub_agents=[sub])
    session = await open_session(restate_env, deploy, made)
    await session.send("Look.")
    await log.until("said", "Well, the")
    await session.send("Quickly.", **NOW)
    outcome = await session.attach(1)
    assert plain(outcome["messages"])[2:] == [
        ("assistant", "Well, the"),
        ("user", "Quickly."),
        ("assistant", "Full."),
    ]
    assert plain(expert.requests[-1])[-2:] == [("assistant", "Well, the"), ("user", "Quickly.")]
    assert (len(first.requests), len(expert.requests)) == (1, 2)


@normal_mode
async def test_an_agent_that_is_a_tool_is_not_cut_off_by_what_is_to_be_read_now(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    log.hold("stay")
    expert = Offline(log, lambda _: Answer(("It is ", "full."), stays=True))
    sub = agent_of(expert, "expert", description="Knows.")
    asks = saying("expert", request="Moon?")
    model = Offline(log, lambda x: says("Good.") if len(x) > 1 else asks)
    session = await open_session(restate_env, deploy, agent_of(model, "asking_now", AgentTool(sub)))
    await session.send("Look.")
    await log.until("begin", "stay")
    await session.send("Quickly.", **NOW)
    log.let("stay")
    outcome = await session.attach(1)
    assert plain(outcome["messages"]) == [
        ("assistant", "", "a"),
        ("tool", "It is full.", "a"),
        ("user", "Quickly."),
        ("assistant", "Good."),
    ]
    assert (len(model.requests), len(expert.requests)) == (2, 1)


@normal_mode
@pytest.mark.parametrize("resumable", [False, True])
async def test_the_agent_that_a_transfer_led_to_goes_on_where_it_was_cut_off(
    restate_env: Restate, deploy: Deploy, log: Log, resumable: bool
) -> None:
    answers = [Answer(("Well, ", "the"), stays=True), says("Full.")]
    expert = Offline(log, lambda _: answers[len(expert.requests) - 1])
    sub = agent_of(expert, "expert", description="Knows.")
    first = Offline(log, lambda _: saying("transfer_to_agent", agent_name="expert"))
    made = agent_of(first, f"resuming_{resumable}", sub_agents=[sub])
    config = ResumabilityConfig(is_resumable=True) if resumable else None
    app = App(name=made.name, root_agent=made, resumability_config=config)
    session = await open_session(restate_env, deploy, app)
    await session.send("Look.")
    await log.until("said", "Well, the")
    await session.cancel()
    await session.attach(1)
    await session.resume()
    assert plain((await session.attach(2))["messages"]) == [("assistant", "Full.")]
    assert plain(expert.requests[-1])[-1] == ("assistant", "Well, the")
    assert (len(first.requests), len(expert.requests)) == (1, 2)


# -- Callbacks and plugins. ------------------------------------------------------------------------


async def test_what_callbacks_make_of_an_answer_and_of_results_is_what_is_put_out(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    seen: list[str] = []

    def before_model(callback_context: Any, llm_request: LlmRequest) -> None:
        seen.append(f"asks with {len(llm_request.contents)}")

    async def after_model(callback_context: Any, llm_response: LlmResponse) -> LlmResponse | None:
        text = "".join(x.text or "" for x in (llm_response.content or said()).parts or [])
        return LlmResponse(content=said(types.Part(text=text.upper()))) if text else None

    def before_tool(tool: Any, args: dict[str, Any], tool_context: Any) -> dict[str, Any] | None:
        return {"result": "known"} if args["word"] == "sun" else None

    async def after_tool(
        tool: Any, args: dict[str, Any], tool_context: Any, tool_response: Any
    ) -> dict[str, Any] | None:
        return {"result": "secret"} if args["word"] == "moon" else None

    three = calls(a="look moon", b="look sun", c="look stars")
    made = agent_of(
        calls_once(log, three, says("good")),
        "called_back",
        tools(log)["look"],
        before_model_callback=before_model,
        after_model_callback=after_model,
        before_tool_callback=before_tool,
        after_tool_callback=after_tool,
    )
    session = await open_session(restate_env, deploy, made)
    first, *results, end = plain((await session.ask("Look."))["messages"])
    assert (first, end) == (("assistant", "", "a", "b", "c"), ("assistant", "GOOD"))
    assert sorted(results) == [
        ("tool", "found stars", "c"),
        ("tool", "known", "b"),
        ("tool", "secret", "a"),
    ]
    assert {*seen} == {"asks with 1", "asks with 3"}
    assert ("begin", "look sun") not in log.events


class Changing(BasePlugin):
    """A plugin of the user's, that changes what tools return."""

    def __init__(self) -> None:
        super().__init__(name="changing")
        self.steps: list[str] = []

    async def after_tool_callback(
        self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any, result: Any
    ) -> dict[str, Any] | None:
        return {"result": "changed"}


async def test_the_plugins_of_an_app_are_asked_and_a_restate_plugin_says_how_models_are_run(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    model = calls_once(log, calls(a="look moon", b="look sun"), says("Good."))

    class Once(Model):
        async def generate_content_async(
            self, llm_request: LlmRequest, stream: bool = False
        ) -> AsyncGenerator[LlmResponse, None]:
            if llm_request.contents[-1].parts[-1].text == "Fail.":
                raise ConnectionError("gone")
            async for response in super().generate_content_async(llm_request, stream):
                yield response

    root = agent_of(Once(model="offline", offline=model), "plugged", tools(log)["look"])
    options: RunOptions[Any] = RunOptions(max_attempts=1)
    app = App(
        name="plugged", root_agent=root, plugins=[Changing(), RestatePlugin(run_options=options)]
    )
    session = await open_session(restate_env, deploy, app)
    assert plain((await session.ask("Look."))["messages"])[1:3] == [
        ("tool", "changed", "a"),
        ("tool", "changed", "b"),
    ]
    outcome = await session.ask("Fail.")
    assert outcome["status"] == "failed"
    assert "gone" in outcome["error"]


class Remembering(BasePlugin):
    """A plugin that knows what the model would say."""

    async def before_model_callback(
        self, *, callback_context: Any, llm_request: LlmRequest
    ) -> LlmResponse | None:
        is_new = neutral(llm_request)[-1]["content"] == "Look."
        call = calls(a="look moon", b="slow sun")
        return LlmResponse(content=said(*parts_of(call))) if is_new else None


async def test_a_call_that_a_plugin_has_made_is_told_as_begun(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    known = tools(log)
    made = agent_of(Offline(log, lambda _: says("Good.")), "cached", known["look"], known["slow"])
    app = App(name="cached", root_agent=made, plugins=[Remembering(name="remembering")])
    session = await open_session(restate_env, deploy, app)
    await session.send("Look.")
    await log.until("end", "look moon")
    await log.until("begin", "slow sun")
    await session.ask("Stop.")
    outcome = await session.attach(1)
    assert ("tool", "found moon", "a") in plain(outcome["messages"])
    assert outcome["cut_off"] == ["b"]


async def test_an_error_that_a_callback_makes_a_result_of_lets_the_other_tools_go_on(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    def on_error(tool: Any, args: dict[str, Any], tool_context: Any, error: Exception) -> Any:
        return {"result": f"failed: {error}"}

    known = tools(log)
    model = calls_once(log, calls(a="fail luck", b="look moon"), says("Good."))
    made = agent_of(model, "erring", known["fail"], known["look"], on_tool_error_callback=on_error)
    session = await open_session(restate_env, deploy, made)
    assert plain((await session.ask("Try."))["messages"])[1:] == [
        ("tool", "failed: no luck today", "a"),
        ("tool", "found moon", "b"),
        ("assistant", "Good."),
    ]


async def test_after_a_tool_that_fails_for_good_no_other_begins(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    known = tools(log)
    model = Offline(log, lambda _: calls(a="fail luck", b="look moon"))
    made = agent_of(model, "failing_first", known["fail"], known["look"])
    session = await open_session(restate_env, deploy, made)
    outcome = await session.ask("Try.")
    assert outcome["status"] == "failed"
    assert plain(outcome["messages"])[1] == ("tool", "[Failed: no luck today]", "a")
    assert outcome["not_begun"] == ["b"]
    assert ("begin", "look moon") not in log.events


async def test_a_tool_that_there_is_not_gets_a_result_and_the_others_run(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    model = calls_once(log, calls(a="nothing moon", b="look sun"), says("Good."))
    made = agent_of(model, "mistaken", tools(log)["look"])
    session = await open_session(restate_env, deploy, made)
    _, found, unknown, end = plain((await session.ask("Look."))["messages"])
    assert found == ("tool", "found sun", "b")
    assert unknown[2] == "a"
    assert "nothing" in unknown[1]
    assert end == ("assistant", "Good.")


async def test_a_transfer_to_nobody_fails_the_turn_once(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    sub = agent_of(Offline(log, lambda _: says("Here.")), "expert", description="Knows.")
    model = Offline(log, lambda _: saying("transfer_to_agent", agent_name="nobody"))
    made = agent_of(model, "leading_nowhere", sub_agents=[sub])
    outcome = await (await open_session(restate_env, deploy, made)).ask("Go.")
    assert outcome["status"] == "failed"
    assert "nobody" in outcome["error"]
    assert len(model.requests) == 1


# -- What a model gives. ---------------------------------------------------------------------------


class Fixed(BaseLlm):
    """Gives these responses to each request, and keeps what it was asked."""

    responses: list[LlmResponse]
    requests: list[Any]

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        self.requests.append([x.model_copy(deep=True) for x in llm_request.contents])
        for response in self.responses:
            yield response


async def test_thoughts_and_their_signatures_come_back_also_from_a_model_that_gives_them_apart(
    restate_env: Restate, deploy: Deploy
) -> None:
    thought = types.Part(text="Hm.", thought=True)
    words = types.Part(text="Hello.", thought_signature=b"\xff\xfesigned")
    model = Fixed(
        model="fixed",
        requests=[],
        responses=[
            LlmResponse(content=said(thought), partial=True),
            LlmResponse(content=said(thought)),
            LlmResponse(content=said(words)),
        ],
    )
    session = await open_session(restate_env, deploy, agent_of(model, "thinking"))
    for _ in range(2):
        assert plain((await session.ask("Hi."))["messages"]) == [("assistant", "Hello.")]
    assert model.requests[-1][1].parts == [thought, words]


# Of what google-genai does itself where aiohttp happens to be installed.
@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
async def test_gemini_itself_streams_and_gets_all_of_it_back(
    restate_env: Restate, deploy: Deploy, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = {
        "functionCall": {"name": "look", "args": {"word": "moon"}},
        "thoughtSignature": "c2k=",
    }
    answers = [
        [{"text": "Hm.", "thought": True}, {"text": "I "}, {"text": "look."}, signed],
        [{"text": "It is "}, {"text": "full."}, {"text": "", "thoughtSignature": "c2ln"}],
        [{"text": "Yes."}],
    ]
    asked: list[Any] = []

    async def gemini_api(scope: Any, receive: Any, send: Any) -> None:
        body, event = b"", {"more_body": True}
        while event.get("more_body"):
            event = await receive()
            body += event["body"]
        parts, last_one = answers[len(asked)], answers[len(asked)][-1]
        asked.append((scope["path"].rpartition(":")[2], json.loads(body)["contents"]))
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in parts:
            end = {"finishReason": "STOP"} if part is last_one else {}
            chunk = {"candidates": [{"content": {"role": "model", "parts": [part]}, **end}]}
            data = b"data: %s\r\n\r\n" % json.dumps(chunk).encode()
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    monkeypatch.setenv("GOOGLE_API_KEY", "none")
    async with serve(gemini_api) as url:
        model = Gemini(model="gemini-3-pro", base_url=url)
        session = await open_session(
            restate_env, deploy, agent_of(model, "real", tools(log)["look"])
        )
        assert [x[:2] for x in plain((await session.ask("Look."))["messages"])] == [
            ("assistant", "I look."),
            ("tool", "found moon"),
            ("assistant", "It is full."),
        ]
        assert plain((await session.ask("Sure?"))["messages"]) == [("assistant", "Yes.")]
        await model.api_client.aio.aclose()
    ways, (_, _, contents) = zip(*asked, strict=True)
    assert {*ways} == {"streamGenerateContent"}
    assert contents[1]["parts"][:3] == [answers[0][0], {"text": "I look."}, signed]
    response = contents[2]["parts"][0]["functionResponse"]
    assert (response["name"], response["response"]) == ("look", {"result": "found moon"})
    assert contents[3]["parts"] == [{"text": "It is full."}, answers[1][2]]
    assert contents[4:] == [{"role": "user", "parts": [{"text": "Sure?"}]}]


async def test_a_model_that_gives_no_answer_fails_the_turn_with_its_reason(
    restate_env: Restate, deploy: Deploy
) -> None:
    refused = LlmResponse(error_code="SAFETY", error_message="I must not.")
    made = agent_of(Fixed(model="fixed", requests=[], responses=[refused]), "refusing")
    outcome = await (await open_session(restate_env, deploy, made)).ask("Hi.")
    assert outcome["status"] == "failed"
    assert outcome["error"] == "The model gave no answer (SAFETY: I must not.)."


class Booking(BaseModel):
    city: str
    nights: int


@pytest.mark.parametrize("has_tools", [False, True])
async def test_structured_output_is_the_last_message_as_json_and_the_result_has_the_object(
    restate_env: Restate, deploy: Deploy, log: Log, has_tools: bool
) -> None:
    rome = {"city": "Rome", "nights": 2}
    answer = saying("set_model_response", **rome) if has_tools else says(json.dumps(rome))
    made = agent_of(
        model := Offline(log, lambda _: answer),
        f"structured_{has_tools}".lower(),
        *([tools(log)["look"]] if has_tools else []),
        output_schema=Booking,
        output_key="booking",
    )
    results: list[adk.Result] = []

    class StructuredAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> Any:
            results.append(await adk.run(made, task, state={"of": "old"}))
            return results[-1].output.model_dump()

    agent = StructuredAgent(name=f"Structured{has_tools}Agent")
    session = await open_session(restate_env, deploy, agent)
    messages = (await session.ask("Book."))["messages"]
    assert json.loads(messages[-1]["content"]) == rome
    assert len(messages) == (3 if has_tools else 1)
    assert results[-1].output == Booking(**rome)
    assert results[-1].session.state["of"] == "old"
    assert results[-1].events[-1].author == made.name
    await session.ask("Again.")
    assert len(model.requests[-1]) == len(messages) + 2


async def test_an_answer_that_is_not_as_the_schema_has_it_fails_the_turn_once(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    model = Offline(log, lambda _: says('{"city": 1}'))
    made = agent_of(model, "misshapen", output_schema=Booking)
    outcome = await (await open_session(restate_env, deploy, made)).ask("Book.")
    assert outcome["status"] == "failed"
    assert "nights" in outcome["error"]
    assert len(model.requests) == 1


# -- Tools. ----------------------------------------------------------------------------------------


async def test_whatever_a_tool_returns_can_be_put_out(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    returned = {
        "nothing": None,
        "object": Booking(city="Rome", nights=2),
        "other": {"at": date(2026, 1, 2), "all": [1, 2]},
        "image": types.Part.from_bytes(data=b"hello", mime_type="image/png"),
    }

    async def give(word: str) -> Any:
        """Give."""
        return returned[word]

    four = {word[0]: f"give {word}" for word in returned}
    model = calls_once(log, Answer(calls=calls(**{**four, "x": "give other"}).calls), says("Ok."))
    session = await open_session(restate_env, deploy, agent_of(model, "giving", give))
    for _ in range(2):
        outcome = await session.ask("Give.")
        assert outcome["status"] == "completed", outcome


async def test_a_tool_may_ask_for_a_confirmation_itself(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def pay(word: str, tool_context: ToolContext) -> str:
        """Pay."""
        asked = tool_context.tool_confirmation
        if asked is None:
            tool_context.request_confirmation(hint=f"Pay the {word}?", payload={"euros": 5})
            return "asked"
        return f"paid {word}: {asked.confirmed}, {asked.payload}"

    async def approve(tool: str, arguments: dict[str, Any]) -> bool | str:
        assert (tool, arguments) == ("pay", {"word": "bill"})
        return bool(await promised(log, "approve"))

    model = calls_once(log, calls(a="pay bill"), says("Good."))
    session = await open_session(
        restate_env, deploy, agent_of(model, "paying", pay), approve=approve
    )
    for answer in (True, False):
        number = len(log.of("approve"))
        receipt = await session.send("Pay.")
        await eventually(lambda n=number: asked_more_than(log, n))
        await keep(restate_env, log.of("approve")[-1][1], answer)
        outcome = await session.attach(receipt["turn"])
        paid = f"paid bill: {answer}, {{'euros': 5}}"
        assert plain(outcome["messages"])[1:] == [("tool", paid, "a"), ("assistant", "Good.")]


async def asked_more_than(log: Log, number: int) -> bool:
    return len(log.of("approve")) > number


async def test_without_approve_a_run_ends_with_the_request_in_its_events(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    tool = FunctionTool(tools(log)["look"], require_confirmation=True)
    made = agent_of(Offline(log, lambda _: calls(a="look bill")), "pending", tool)

    class PendingAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            result = await adk.run(made, task)
            asked = [x for event in result.events for x in event.get_function_calls()]
            return f"{asked[-1].name} of {asked[-1].args['originalFunctionCall']['name']}"

    session = await open_session(restate_env, deploy, PendingAgent())
    messages = plain((await session.ask("Pay."))["messages"])
    assert messages[0] == ("assistant", "", "a")
    assert messages[1][0::2] == ("tool", "a")
    assert messages[2:] == [("assistant", "adk_request_confirmation of look")]


# -- What it says. ---------------------------------------------------------------------------------


@normal_mode
@pytest.mark.parametrize("where", ["model", "tool", "nested"])
async def test_an_interruption_is_logged_as_no_error(
    restate_env: Restate, deploy: Deploy, log: Log, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    call = Answer(("Hm.",), stays=True) if where == "model" else calls(a="slow sun")
    model = Offline(log, lambda asked: says("Good.") if last(asked) == "Stop." else call)
    made = agent_of(model, f"quiet_{where}", tools(log)["slow"])
    if where == "nested":
        nested = Offline(log, lambda _: calls(i="slow sun"))
        inner = agent_of(nested, "expert", tools(log)["slow"], description="Knows.")
        call = saying("expert", request="Sun?")
        made = agent_of(model, f"quiet_{where}", AgentTool(inner))
    session = await open_session(restate_env, deploy, made)
    await session.send("Look.")
    await log.until("begin", "stay" if where == "model" else "slow sun")
    assert plain((await session.ask("Stop."))["messages"]) == [("assistant", "Good.")]
    assert [x.message for x in caplog.records if x.levelno >= logging.ERROR] == []


async def test_two_runs_in_one_turn_each_have_what_was_said_before(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    one, two = Offline(log, lambda _: says("Draft.")), Offline(log, lambda _: says("Final."))
    first, second = agent_of(one, "first"), agent_of(two, "second")

    class TwoAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            await adk.run(first, task)
            await adk.run(second, task)

    session = await open_session(restate_env, deploy, TwoAgent())
    assert plain((await session.ask("Write."))["messages"]) == [
        ("assistant", "Draft."),
        ("assistant", "Final."),
    ]
    assert plain(two.requests[0])[:2] == [("user", "Write."), ("assistant", "Draft.")]


async def test_what_a_run_of_ones_own_has_looked_up_before_is_known_to_the_agent(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    model = Offline(log, lambda asked: says(f"You are {asked[-1]['content']}."))
    made = agent_of(model, "told", tools(log)["look"])
    function = {"name": "who", "arguments": "{}"}
    before = [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "w", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "w", "content": "Ada"},
    ]

    class ToldAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> Any:
            task.append(*before)
            return (await adk.run(made, task)).output

    session = await open_session(restate_env, deploy, ToldAgent())
    outcome = await session.ask("Who am I?")
    assert plain(outcome["messages"])[2:] == [("assistant", "You are Ada.")]


def nobody(name: str = "nobody") -> LlmAgent:
    return LlmAgent(name=name, model="gemini-2.5-flash")


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda: InMemoryRunner(agent=nobody()), "InMemoryRunner.*`LlmAgent` or the `App`"),
        (
            lambda: LlmAgent(
                name="a", sub_agents=[SequentialAgent(name="b", sub_agents=[nobody()])]
            ),
            "'b' is a SequentialAgent",
        ),
        (lambda: LlmAgent(name="a", mode="task"), "the mode 'task'"),
        (
            lambda: App(
                name="a",
                root_agent=nobody(),
                events_compaction_config=EventsCompactionConfig(
                    compaction_interval=2, overlap_size=1
                ),
            ),
            "events_compaction_config",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*EventsCompactionConfig:UserWarning")
@pytest.mark.filterwarnings("ignore:SequentialAgent is deprecated:DeprecationWarning")
def test_what_cannot_be_run_is_refused_at_once(made: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        adk.agent(made())


async def test_a_session_service_is_refused_at_once(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    made = agent_of(Offline(log, lambda _: says("Hi.")), "kept_elsewhere")

    class ElsewhereAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            await adk.run(made, task, session_service=RestateSessionService())

    outcome = await (await open_session(restate_env, deploy, ElsewhereAgent())).ask("Hi.")
    assert outcome["status"] == "failed"
    assert "RestateSessionService" in outcome["error"]
    assert "`state=`" in outcome["error"]


# -- Messages, both ways. --------------------------------------------------------------------------


def family() -> LlmAgent:
    return LlmAgent(name="parent", sub_agents=[LlmAgent(name="child"), LlmAgent(name="other")])


def call_part(call: str, name: str, **args: Any) -> types.Part:
    made = types.FunctionCall(id=call, name=name, args=args)
    return types.Part(function_call=made, thought_signature=b"\xfb\xff" + call.encode())


def result_part(call: str, name: str, result: Any) -> types.Part:
    given = types.FunctionResponse(id=call, name=name, response={"result": result})
    return types.Part(function_response=given)


def test_events_come_back_as_they_were_with_who_has_spoken() -> None:
    def event(author: str, role: str, *parts: types.Part) -> Event:
        return Event(author=author, content=types.Content(role=role, parts=[*parts]))

    picture = types.Part.from_bytes(data=b"\xff\xd8", mime_type="image/jpeg")
    given = [
        event("parent", "model", types.Part(text="Hm.", thought=True), call_part("a", "look")),
        event("parent", "user", result_part("a", "look", {"of": [1, None]})),
        event("parent", "model", call_part("b", "transfer_to_agent", agent_name="child")),
        event("parent", "user", result_part("b", "transfer_to_agent", None)),
        event("child", "model", types.Part(text="Here."), picture),
        event("child", "model", call_part("c", "look"), call_part("d", "look")),
        event("child", "user", result_part("c", "look", "one"), result_part("d", "look", "two")),
        event("child", "model", call_part("e", "transfer_to_agent", agent_name="parent")),
        event("child", "user", result_part("e", "transfer_to_agent", None)),
        event("parent", "model", types.Part(text="Back.", thought_signature=b"\xfe")),
    ]
    messages = [message for x in given for message in to_messages(x)]
    assert [(x["role"], x["content"]) for x in messages if x["role"] == "tool"][2:4] == [
        ("tool", "one"),
        ("tool", "two"),
    ]
    again = from_messages([{"role": "user", "content": "Go."}, *messages], family())
    assert [(x.author, x.content) for x in again[1:]] == [(x.author, x.content) for x in given]


@pytest.mark.parametrize(
    ("to", "result"), [("nobody", '{"result": null}'), ("child", "[Interrupted: …]")]
)
def test_a_transfer_that_led_nowhere_leaves_the_word_to_who_had_it(to: str, result: str) -> None:
    function = {"name": "transfer_to_agent", "arguments": json.dumps({"agent_name": to})}
    call = {"id": "a", "type": "function", "function": function}
    events = from_messages(
        [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "a", "content": result},
            {"role": "assistant", "content": "I am here."},
            {"role": "user", "content": "Good."},
        ],
        family(),
    )
    assert [x.author for x in events] == ["parent", "parent", "parent", "user"]
    (called,), (answered,) = events[0].get_function_calls(), events[1].get_function_responses()
    assert called.id == answered.id == "adk-a"  # ADK pairs them by it, and tells Gemini none


def test_what_adk_asks_its_caller_for_and_what_a_user_says_are_no_messages_of_the_agents() -> None:
    asked = call_part("x", "adk_request_confirmation")
    assert to_messages(Event(author="parent", content=said(asked))) == []
    words = types.Content(role="user", parts=[types.Part(text="Hi.")])
    assert to_messages(Event(author="user", content=words)) == []
    assert to_messages(Event(author="parent")) == []


def test_what_the_user_is_told_of_a_result_is_the_agents() -> None:
    parts = [result_part("a", "look", "found"), types.Part(text="I found it.")]
    event = Event(author="parent", content=types.Content(role="user", parts=parts))
    assert plain(to_messages(event)) == [("tool", "found", "a"), ("assistant", "I found it.")]
