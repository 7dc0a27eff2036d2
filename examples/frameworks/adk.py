"""A travel agent of Google ADK, interrupted: `python -m examples.frameworks.adk`."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types
from restate.ext.adk import restate_context
from typing_extensions import override

from examples.frameworks import travel
from examples.frameworks.story import play
from interruptible.ext import adk
from interruptible.formats import gemini


class StandIn(BaseLlm):
    """Stands in for a model; with a real one, all else is as it is here."""

    @override
    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        answer = travel.reply([*asked(llm_request.contents)])
        async for word in answer.words():
            if stream:
                yield LlmResponse(content=said(types.Part(text=word)), partial=True)
        calls = [types.FunctionCall(id=x, name=name, args=args) for x, name, args in answer.calls]
        words = [types.Part(text=answer.text)] if answer.text else []
        yield LlmResponse(content=said(*words, *(types.Part(function_call=x) for x in calls)))


def asked(contents: Iterable[types.Content]) -> Iterable[dict[str, Any]]:
    """What it is asked, as it reads it: a result without the `result` that ADK puts it in."""
    for message in gemini.to_messages(contents):
        if message["role"] == "tool" and message["content"].startswith("{"):
            yield {**message, "content": json.loads(message["content"])["result"]}
        else:
            yield message


def said(*parts: types.Part) -> types.Content:
    return types.Content(role="model", parts=[*parts])


async def find_trains(city: str) -> str:
    """Find trains to a city."""
    return await restate_context().run_typed("trains", travel.trains, city=city)


async def find_hotels(city: str) -> str:
    """Find hotels in a city."""
    return await restate_context().run_typed("hotels", travel.hotels, city=city)


travel_agent = LlmAgent(
    name="travel_agent",
    model=StandIn(model="stand-in"),
    instruction="You plan weekends.",
    tools=[find_trains, find_hotels],
)

agent = adk.agent(travel_agent)

if __name__ == "__main__":
    play(agent, "Google ADK")
