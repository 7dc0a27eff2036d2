"""Google ADK at its edges: what is rare in one turn, and common in ten thousand."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.models import LlmResponse
from google.adk.tools import LongRunningFunctionTool, ToolContext
from google.adk.tools.agent_tool import AgentTool
from google.genai import types
from pydantic import BaseModel
from restate import Context, RunOptions
from restate.extensions import current_context

from interruptible import Agent, Task, current_task
from interruptible.ext import adk

from .contract import keep, plain
from .offline import Answer, Log, Offline, calls, last, promised, says, tools
from .test_adk import Fixed, agent_of, calls_once, open_session, said, saying

if TYPE_CHECKING:
    from interruptible.testing import Restate
    from tests.server.conftest import Deploy

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore"),
]


def returning(made: Any, name: str, **options: Any) -> Agent:
    class Returning(Agent):
        async def run(self, ctx: Context, task: Task) -> Any:
            return (await adk.run(made, task, **options)).output

    return Returning(name=name)


class Trip(BaseModel):
    city: str
    nights: int | None = 3


@pytest.mark.parametrize("value", ['{"city": "Rome"}', '{"city": "Rome", "nights": null}'])
async def test_output_with_a_default_returned_by_run(
    restate_env: Restate, deploy: Deploy, log: Log, value: str
) -> None:
    made = agent_of(Offline(log, lambda _: says(value)), "c1", output_schema=Trip)
    session = await open_session(restate_env, deploy, returning(made, f"C1{len(value)}Agent"))
    outcome = await session.ask("Go.")
    assert outcome["status"] == "completed", outcome
    assert len(outcome["messages"]) == 1, outcome


async def test_an_id_twice_in_an_answer(restate_env: Restate, deploy: Deploy, log: Log) -> None:
    two = Answer(calls=(("a", "look", {"word": "moon"}), ("a", "look", {"word": "sun"})))
    session = await open_session(
        restate_env, deploy, agent_of(calls_once(log, two, says("Good.")), "c3", tools(log)["look"])
    )
    outcome = await asyncio.wait_for(session.ask("Go."), 20)
    assert (await session.ask("Go."))["status"] == "completed"


async def test_a_long_running_tool(restate_env: Restate, deploy: Deploy, log: Log) -> None:
    async def order(word: str) -> Any:
        """Order."""
        return None

    async def order2(word: str) -> Any:
        """Order."""
        return {"status": "pending"}

    model = calls_once(log, calls(a="order moon", b="order2 sun"), says("Ordered."))
    made = agent_of(model, "c4", LongRunningFunctionTool(order), LongRunningFunctionTool(order2))
    session = await open_session(restate_env, deploy, made)
    for _ in range(2):
        outcome = await asyncio.wait_for(session.ask("Go."), 20)
        assert outcome["status"] == "completed", outcome
        assert not outcome.get("cut_off"), outcome


async def test_parallel_tools_with_steps(restate_env: Restate, deploy: Deploy, log: Log) -> None:
    async def many(word: str) -> str:
        """Many."""
        ctx = current_context()
        assert ctx
        for n in range(4):
            await ctx.run_typed(f"{word} {n}", log.step, RunOptions(), name=f"{word} {n}")
        return f"done {word}"

    async def before(tool: Any, args: Any, tool_context: Any) -> None:
        ctx = current_context()
        assert ctx
        for n in range(3):
            await ctx.run_typed(
                "before", log.step, RunOptions(), name="before", seconds=0.01 * len(args["word"])
            )

    async def after(tool: Any, args: Any, tool_context: Any, tool_response: Any) -> None:
        ctx = current_context()
        assert ctx
        for n in range(3):
            await ctx.run_typed(
                "after", log.step, RunOptions(), name="after", seconds=0.01 * len(args["word"])
            )

    model = calls_once(log, calls(a="many moon", b="many sun", c="many stars"), says("Good."))
    made = agent_of(model, "c5", many, before_tool_callback=before, after_tool_callback=after)
    session = await open_session(restate_env, deploy, made)
    outcome = await asyncio.wait_for(session.ask("Go."), 60)
    assert plain(outcome["messages"])[-1] == ("assistant", "Good."), outcome


async def test_a_sync_tool(restate_env: Restate, deploy: Deploy, log: Log) -> None:
    def sync(word: str) -> str:
        """Sync."""
        log.events.append(("sync", word))
        return f"{word} {current_task().turn}"

    model = calls_once(log, calls(a="sync moon"), says("Good."))
    session = await open_session(restate_env, deploy, agent_of(model, "c6", sync))
    outcome = await session.ask("Go.")
    assert plain(outcome["messages"])[1] == ("tool", "moon 1", "a")


async def test_half_a_surrogate_pair_in_an_object_that_a_tool_returns(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def bad(word: str) -> Any:
        """Bad."""
        return "x\ud800y" if word == "text" else {"k": "x\ud800y"}

    model = calls_once(log, calls(a="bad text", b="bad dict"), says("Good."))
    session = await open_session(restate_env, deploy, agent_of(model, "c7", bad))
    for _ in range(2):
        outcome = await asyncio.wait_for(session.ask("Go."), 20)
        assert outcome["status"] == "completed", outcome


@pytest.mark.parametrize("parts", [[], [types.Part(text="")], [types.Part(text=" ")]])
async def test_an_empty_answer(restate_env: Restate, deploy: Deploy, log: Log, parts: Any) -> None:
    model = Fixed(model="fixed", requests=[], responses=[LlmResponse(content=said(*parts))])
    session = await open_session(
        restate_env, deploy, agent_of(model, f"c8_{len(parts) and len(parts[0].text) + 1}")
    )
    for _ in range(2):
        outcome = await asyncio.wait_for(session.ask("Go."), 20)
        assert outcome["status"] == "completed", outcome


async def test_thoughts_alone_and_unsigned(restate_env: Restate, deploy: Deploy, log: Log) -> None:
    model = Fixed(
        model="fixed",
        requests=[],
        responses=[LlmResponse(content=said(types.Part(text="Hm.", thought=True)))],
    )
    session = await open_session(restate_env, deploy, returning(agent_of(model, "c9"), "C9Agent"))
    for _ in range(2):
        outcome = await asyncio.wait_for(session.ask("Go."), 20)
        assert outcome["status"] == "completed", outcome


async def test_code_execution_returned(restate_env: Restate, deploy: Deploy, log: Log) -> None:
    parts = [
        types.Part(text="Let me see."),
        types.Part(executable_code=types.ExecutableCode(code="1+1", language="PYTHON")),
        types.Part(
            code_execution_result=types.CodeExecutionResult(output="2", outcome="OUTCOME_OK")
        ),
        types.Part(text="It is 2."),
    ]
    model = Fixed(model="fixed", requests=[], responses=[LlmResponse(content=said(*parts))])
    session = await open_session(restate_env, deploy, returning(agent_of(model, "c10"), "C10Agent"))
    for _ in range(2):
        outcome = await asyncio.wait_for(session.ask("Go."), 20)
        assert len(outcome["messages"]) == 1, outcome
    assert model.requests[-1][1].parts == parts


@pytest.mark.xfail(reason="put out after the callbacks", strict=True)
async def test_a_result_that_a_slow_callback_holds_is_kept(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    known = tools(log)

    async def after(tool: Any, args: Any, tool_context: Any, tool_response: Any) -> None:
        await known["slow"]("audit")

    model = Offline(
        log, lambda x: says("Good.") if last(x) == "Stop." else calls(a="look moon", b="look stars")
    )
    session = await open_session(
        restate_env, deploy, agent_of(model, "c12", known["look"], after_tool_callback=after)
    )
    await session.send("Go.")
    await log.until("begin", "slow audit")
    await session.ask("Stop.")
    outcome = await session.attach(1)
    assert ("tool", "found moon", "a") in plain(outcome["messages"])


async def test_two_steers_while_an_approval_waits(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    from google.adk.tools import FunctionTool

    async def approve(tool: str, arguments: dict[str, Any]) -> bool | str:
        return await promised(log, "approve")

    model = Offline(log, lambda x: calls(a="look bill") if len(x) == 1 else says("Good."))
    tool = FunctionTool(tools(log)["look"], require_confirmation=True)
    session = await open_session(restate_env, deploy, agent_of(model, "c13", tool), approve=approve)
    await session.send("Pay.")
    promise = await log.first("approve")
    await session.send("One.", policy="steer")
    await session.send("Two.", policy="steer")
    await keep(restate_env, promise, True)
    outcome = await session.attach(1)
    assert plain(outcome["messages"]) == [
        ("assistant", "", "a"),
        ("tool", "found bill", "a"),
        ("user", "One."),
        ("user", "Two."),
        ("assistant", "Good."),
    ]
    assert len((await session.turns())["turns"]) == 1
    assert str(model.requests[-1]).count("One.") == 1


async def test_agent_tool_of_another_kind_is_refused(log: Log) -> None:
    from google.adk.agents import SequentialAgent

    made = agent_of(Offline(log, lambda _: says("")), "c14", AgentTool(SequentialAgent(name="seq")))
    with pytest.raises(TypeError):
        adk.agent(made)


async def test_skip_summarization(restate_env: Restate, deploy: Deploy, log: Log) -> None:
    async def final(word: str, tool_context: ToolContext) -> str:
        """Final."""
        tool_context.actions.skip_summarization = True
        return "the answer"

    model = calls_once(log, calls(a="final moon"), says("Good."))
    session = await open_session(restate_env, deploy, agent_of(model, "c15", final))
    for _ in range(2):
        outcome = await asyncio.wait_for(session.ask("Go."), 20)
        assert plain(outcome["messages"])[1] == ("tool", "the answer", "a")


async def test_include_contents_none(restate_env: Restate, deploy: Deploy, log: Log) -> None:
    model = calls_once(log, calls(a="hold Godot"), says("Good."))
    model = Offline(
        log,
        lambda x: says("Good.") if any(y["role"] == "tool" for y in x) else calls(a="hold Godot"),
    )
    session = await open_session(
        restate_env, deploy, agent_of(model, "c16", tools(log)["hold"], include_contents="none")
    )
    await session.send("Go.")
    promise = await log.first("held")
    await session.send("Quick.", policy="steer")
    await keep(restate_env, promise, None)
    outcome = await session.attach(1)
    assert outcome["status"] == "completed"


async def test_large_result(restate_env: Restate, deploy: Deploy, log: Log) -> None:
    async def large(word: str) -> str:
        """Large."""
        return "x" * 9_000_000

    model = Offline(log, lambda x: says("Good.") if last(x) == "And?" else calls(a="large moon"))
    session = await open_session(restate_env, deploy, agent_of(model, "c17", large))
    outcome = await asyncio.wait_for(session.ask("Go."), 60)
    assert outcome["status"] == "failed", str(outcome)[:500]
    assert (await session.ask("And?"))["status"] == "completed"


async def test_state_of_a_tool_and_dynamic_instruction(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def remember(word: str, tool_context: ToolContext) -> str:
        """Remember."""
        tool_context.state["word"] = word
        return "ok"

    model = calls_once(log, calls(a="remember moon"), says("Good."))
    made = agent_of(model, "c18", remember, instruction="Know {word?}.")
    session = await open_session(restate_env, deploy, made)
    for _ in range(2):
        outcome = await asyncio.wait_for(session.ask("Go."), 20)
        assert outcome["status"] == "completed"


async def test_a_transfer_and_a_tool_beside_cut_off_in_sub(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    known = tools(log)
    expert = Offline(log, lambda x: says("Yes.") if last(x) == "Stop." else calls(b="slow moon"))
    sub = agent_of(expert, "expert", known["slow"], description="Knows.")
    two = Answer(
        calls=(("x", "look", {"word": "sun"}), ("a", "transfer_to_agent", {"agent_name": "expert"}))
    )
    first = Offline(log, lambda _: two)
    session = await open_session(
        restate_env, deploy, agent_of(first, "c19", known["look"], sub_agents=[sub])
    )
    await session.send("Look.")
    await log.until("begin", "slow moon")
    outcome = await session.ask("Stop.")
    assert plain(outcome["messages"]) == [("assistant", "Yes.")]
    outcome = await session.attach(1)
    assert outcome["cut_off"] == ["b"]


async def test_before_model_callback_that_answers(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    def before(callback_context: Any, llm_request: Any) -> Any:
        return LlmResponse(content=said(types.Part(text="Cached.")))

    made = agent_of(Offline(log, lambda _: says("No.")), "c20", before_model_callback=before)
    session = await open_session(restate_env, deploy, returning(made, "C20Agent"))
    for _ in range(2):
        outcome = await session.ask("Go.")
        assert plain(outcome["messages"]) == [("assistant", "Cached.")]


@pytest.mark.xfail(reason="media results are put out only when all tools are done", strict=True)
async def test_a_media_result_kept_when_another_is_cut_off(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def snap(word: str) -> Any:
        """Snap."""
        return types.Part.from_bytes(data=b"hello", mime_type="image/png")

    model = Offline(
        log, lambda x: says("Good.") if last(x) == "Stop." else calls(a="snap moon", b="slow sun")
    )
    session = await open_session(
        restate_env, deploy, agent_of(model, "c21", snap, tools(log)["slow"])
    )
    await session.send("Go.")
    await log.until("begin", "slow sun")
    await session.ask("Stop.")
    outcome = await session.attach(1)
    assert outcome["cut_off"] == ["b"], outcome


async def test_model_error_codes_midway_and_finish_max_tokens(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    model = Fixed(
        model="fixed",
        requests=[],
        responses=[LlmResponse(content=said(types.Part(text="Half")), error_code="MAX_TOKENS")],
    )
    session = await open_session(restate_env, deploy, agent_of(model, "c22"))
    outcome = await session.ask("Go.")
    assert plain(outcome["messages"]) == [("assistant", "Half")]


async def test_two_calls_at_once_one_raises_once(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    known = tools(log)
    tried: list[str] = []

    async def flaky(word: str) -> str:
        """Flaky."""
        tried.append(word)
        await known["look"](word)
        if len(tried) == 1:
            raise ConnectionError("gone")
        return await known["look"](word + "2")

    model = calls_once(log, calls(a="look moon", b="flaky sun", c="look stars"), says("Good."))
    session = await open_session(restate_env, deploy, agent_of(model, "c24", known["look"], flaky))
    outcome = await asyncio.wait_for(session.ask("Go."), 30)
    assert plain(outcome["messages"]) == [
        ("assistant", "", "a", "b", "c"),
        ("tool", "found moon", "a"),
        ("tool", "found sun2", "b"),
        ("tool", "found stars", "c"),
        ("assistant", "Good."),
    ]
    assert log.events.count(("end", "look moon")) == 1


async def test_steered_in_an_agent_that_is_a_tool(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    nested = calls_once(log, calls(i="hold Godot"), says("Inner."))
    sub = agent_of(nested, "expert", tools(log)["hold"], description="Knows.")
    model = calls_once(log, saying("expert", request="Sun?"), says("Good."))
    model = Offline(
        log,
        lambda x: (
            says("Good.")
            if any(y["role"] == "tool" for y in x)
            else saying("expert", request="Sun?")
        ),
    )
    session = await open_session(restate_env, deploy, agent_of(model, "c25", AgentTool(sub)))
    await session.send("Go.")
    promise = await log.first("held")
    await session.send("One.", policy="steer")
    await keep(restate_env, promise, None)
    outcome = await session.attach(1)
    assert plain(outcome["messages"]) == [
        ("assistant", "", "a"),
        ("tool", "Inner.", "a"),
        ("user", "One."),
        ("assistant", "Good."),
    ]


async def test_output_key_and_tools_and_none(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    """An output_schema, with tools beside it, and one cut off."""
    known = tools(log)
    model = Offline(
        log,
        lambda x: (
            saying("set_model_response", city="Rome", nights=1)
            if last(x) == "Stop."
            else calls(a="look moon", b="slow sun")
        ),
    )
    made = agent_of(model, "c26", known["look"], known["slow"], output_schema=Trip)
    session = await open_session(restate_env, deploy, returning(made, "C26Agent"))
    await session.send("Go.")
    await log.until("begin", "slow sun")
    outcome = await asyncio.wait_for(session.ask("Stop."), 20)
    assert outcome["status"] == "completed", outcome
    assert json.loads(outcome["messages"][-1]["content"]) == {"city": "Rome", "nights": 1}
    outcome = await session.attach(1)
    assert outcome["cut_off"] == ["b"]


@pytest.mark.xfail(reason="a plugin that changes a result skips the agent callback", strict=True)
async def test_a_plugin_that_changes_results_and_one_cut_off(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    from google.adk.apps import App

    from .test_adk import Changing

    known = tools(log)
    model = Offline(
        log, lambda x: says("Good.") if last(x) == "Stop." else calls(a="look moon", b="slow sun")
    )
    app = App(
        name="c27",
        root_agent=agent_of(model, "c27", known["look"], known["slow"]),
        plugins=[Changing()],
    )
    session = await open_session(restate_env, deploy, app)
    await session.send("Go.")
    await log.until("begin", "slow sun")
    await asyncio.wait_for(session.ask("Stop."), 20)
    outcome = await session.attach(1)
    assert plain(outcome["messages"])[1] == ("tool", "changed", "a")


async def test_an_agent_that_is_a_tool_whose_model_answers_piece_by_piece(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    apart = [
        LlmResponse(content=said(types.Part(text="Hm.", thought=True))),
        LlmResponse(content=said(types.Part(text="Full."))),
    ]
    sub = agent_of(
        Fixed(model="fixed", requests=[], responses=apart), "expert", description="Knows."
    )
    model = calls_once(log, saying("expert", request="Moon?"), says("Good."))
    session = await open_session(restate_env, deploy, agent_of(model, "c28", AgentTool(sub)))
    outcome = await asyncio.wait_for(session.ask("Go."), 20)
    assert plain(outcome["messages"])[1] == ("tool", "Full.", "a")


async def test_a_system_message_in_the_conversation(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    made = agent_of(model := Offline(log, lambda _: says("Hi.")), "c31", instruction="Be kind.")

    class NotedAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            await adk.run(made, task)

        def conversation(self, turns: Any) -> list[Any]:
            return [{"role": "system", "content": "Ada likes tea."}, *super().conversation(turns)]

    session = await open_session(restate_env, deploy, NotedAgent(name="C31Agent"))
    for _ in range(2):
        outcome = await asyncio.wait_for(session.ask("Go."), 15)
        assert outcome["status"] == "completed", outcome
    assert "Ada likes tea." in str(model.requests[-1])


@pytest.mark.parametrize("data", ["@@@", "abc", ""])
async def test_audio_that_is_none(
    restate_env: Restate, deploy: Deploy, log: Log, data: str
) -> None:
    part = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    model = Offline(log, lambda _: says("I see."))
    session = await open_session(
        restate_env, deploy, agent_of(model, f"c32_{len(data)}{data.isalpha()}")
    )
    outcome = await asyncio.wait_for(session.ask([{"type": "text", "text": "This?"}, part]), 15)
    assert outcome["status"] == "completed", outcome
