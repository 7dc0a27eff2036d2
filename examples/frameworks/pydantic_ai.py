"""A travel agent of Pydantic AI, interrupted: `python -m examples.frameworks.pydantic_ai`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from restate.ext.pydantic import restate_context

from examples.frameworks import travel
from examples.frameworks.story import play
from interruptible.ext import pydantic_ai
from interruptible.formats.pydantic_ai import to_messages


async def stand_in(
    messages: list[ModelMessage], _: AgentInfo
) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    """Stands in for a model; with a real one, all else is as it is here."""
    answer = travel.reply(to_messages(messages))
    async for word in answer.words():
        yield word
    for place, (call, name, arguments) in enumerate(answer.calls):
        yield {place: DeltaToolCall(name, json.dumps(arguments), tool_call_id=call)}


travel_agent = Agent(
    FunctionModel(stream_function=stand_in),
    name="travel agent",
    instructions="You plan weekends.",
)


@travel_agent.tool_plain
async def find_trains(city: str) -> str:
    """Find trains to a city."""
    return await restate_context().run_typed("trains", travel.trains, city=city)


@travel_agent.tool_plain
async def find_hotels(city: str) -> str:
    """Find hotels in a city."""
    return await restate_context().run_typed("hotels", travel.hotels, city=city)


agent = pydantic_ai.agent(travel_agent)

if __name__ == "__main__":
    play(agent, "Pydantic AI")
