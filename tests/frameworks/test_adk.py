"""Google ADK: the contract of the frameworks, and what is its own."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.agents import LlmAgent, RunConfig
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.tools import FunctionTool
from google.genai import types

from interruptible.ext import adk
from interruptible.formats import gemini

from .contract import Contract
from .offline import Offline, tools

if TYPE_CHECKING:
    from interruptible import Agent, Task

pytestmark = pytest.mark.anyio


class Model(BaseLlm):
    """Answers as an `Offline` does."""

    offline: Any = None

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        asked = [{**x} for content in llm_request.contents for x in gemini.to_messages([content])]
        for message in asked:
            if message["role"] == "tool" and message["content"].startswith('{"result": "'):
                message["content"] = json.loads(message["content"])["result"]
        answer = await self.offline.answer(asked)
        for piece in answer.pieces:
            if stream:
                yield LlmResponse(content=said(types.Part(text=piece)), partial=True)
        await self.offline.end(answer)
        parts = [types.Part(text=answer.text)] if answer.text else []
        for call, name, args in answer.calls:
            parts.append(types.Part(function_call=types.FunctionCall(id=call, name=name, args=args)))
        yield LlmResponse(content=said(*parts))


def said(*parts: types.Part) -> types.Content:
    return types.Content(role="model", parts=[*parts])


class TestADK(Contract):
    other_id = "look-1"  # Gemini gets no id that it has not made itself

    def made(self, name: str, model: Offline, *names: str, **options: Any) -> Any:
        known, ask = tools(model.log), options.get("approve", ())
        return LlmAgent(
            name=name.replace(" ", "_"),
            model=Model(model="offline", offline=model),
            tools=[FunctionTool(known[x], require_confirmation=x in ask) for x in names],
        )

    def agent(self, framework_agent: Any, **options: Any) -> Agent:
        return adk.agent(framework_agent, **options)

    async def output(self, framework_agent: Any, task: Task, *, limit: int | None = None) -> Any:
        config = RunConfig(max_llm_calls=limit or 500)
        return (await adk.run(framework_agent, task, run_config=config)).output
