"""A travel agent of LangChain, interrupted: `python -m examples.frameworks.langchain`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from restate.ext.langchain import RestateMiddleware, restate_context

from examples.frameworks import travel
from examples.frameworks.story import play
from interruptible.ext import langchain
from interruptible.formats.langchain import to_messages


class StandIn(BaseChatModel):
    """Stands in for a model; with a real one, all else is as it is here."""

    @property
    def _llm_type(self) -> str:
        return "stand-in"

    def bind_tools(self, *_: Any, **__: Any) -> StandIn:
        """It knows them by itself."""
        return self

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError

    async def _astream(
        self, messages: list[BaseMessage], *_: Any, **__: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        answer = travel.reply(to_messages(messages))
        async for word in answer.words():
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        for place, (call, name, arguments) in enumerate(answer.calls):
            chunk = tool_call_chunk(id=call, name=name, args=json.dumps(arguments), index=place)
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[chunk]))


@tool
async def find_trains(city: str) -> str:
    """Find trains to a city."""
    return await restate_context().run_typed("trains", travel.trains, city=city)


@tool
async def find_hotels(city: str) -> str:
    """Find hotels in a city."""
    return await restate_context().run_typed("hotels", travel.hotels, city=city)


travel_agent = create_agent(
    StandIn(),
    [find_trains, find_hotels],
    name="travel agent",
    system_prompt="You plan weekends.",
    middleware=[RestateMiddleware(), langchain.InterruptibleMiddleware()],
)

agent = langchain.agent(travel_agent)

if __name__ == "__main__":
    play(agent, "LangChain")
