"""Pydantic AI: the contract of the frameworks, and what is its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai import Tool, UsageLimits
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.tools import DeferredToolRequests

from interruptible.ext import pydantic_ai
from interruptible.formats.pydantic_ai import to_messages

from .contract import Contract
from .offline import Offline, tools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic_ai.messages import ModelMessage

    from interruptible import Agent, Task

pytestmark = pytest.mark.anyio


def function_model(model: Offline) -> FunctionModel:
    async def stream(
        messages: list[ModelMessage], _: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        answer = await model.answer([{**x} for x in to_messages(messages)])
        for piece in answer.pieces:
            yield piece
        for place, (call, name, arguments) in enumerate(answer.calls):
            yield {place: DeltaToolCall(name, json.dumps(arguments), tool_call_id=call)}
        await model.end(answer)

    return FunctionModel(stream_function=stream)


class TestPydanticAI(Contract):
    side_by_side = True

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
