"""A travel agent of OpenAI's SDK, interrupted: `python -m examples.frameworks.openai_agents`."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Model, ModelResponse, function_tool, set_tracing_disabled
from openai.types import responses as api
from restate.ext.openai import restate_context

from examples.frameworks import travel
from examples.frameworks.story import play
from interruptible.ext import openai_agents
from interruptible.formats.responses import to_messages

_ids = itertools.count(1)


class StandIn(Model):
    """Stands in for a model; with a real one, all else is as it is here."""

    async def get_response(self, *_: Any, **__: Any) -> ModelResponse:
        raise NotImplementedError  # it streams

    async def stream_response(self, *_: Any, **request: Any) -> AsyncIterator[Any]:
        answer = travel.reply(to_messages(request["input"]))
        async for word in answer.words():
            yield api.ResponseTextDeltaEvent.model_construct(delta=word)
        items: list[Any] = [
            api.ResponseFunctionToolCall(
                type="function_call", call_id=call, name=name, arguments=json.dumps(arguments)
            )
            for call, name, arguments in answer.calls
        ]
        if answer.text:
            text = api.ResponseOutputText(type="output_text", text=answer.text, annotations=[])
            said = api.ResponseOutputMessage(
                id=f"msg_{next(_ids)}",
                type="message",
                role="assistant",
                status="completed",
                content=[text],
            )
            items.append(said)
        response = api.Response.model_construct(id=f"resp_{next(_ids)}", output=items, usage=None)
        yield api.ResponseCompletedEvent.model_construct(response=response)


@function_tool
async def find_trains(city: str) -> str:
    """Find trains to a city."""
    return await restate_context().run_typed("trains", travel.trains, city=city)


@function_tool
async def find_hotels(city: str) -> str:
    """Find hotels in a city."""
    return await restate_context().run_typed("hotels", travel.hotels, city=city)


travel_agent = Agent(
    name="travel agent",
    instructions="You plan weekends.",
    model=StandIn(),
    tools=[find_trains, find_hotels],
)
agent = openai_agents.agent(travel_agent)

if __name__ == "__main__":
    set_tracing_disabled(disabled=True)
    play(agent, "OpenAI's Agents SDK")
