"""Chat models of LangChain that answer offline."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import agenerate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import Field

from interruptible.formats.langchain import to_messages


class OfflineModel(BaseChatModel):
    """It answers as an `Offline` does, and streams."""

    offline: Any

    @property
    def _llm_type(self) -> str:
        return "offline"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Runnable[Any, Any]:
        return self

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages))

    async def _astream(
        self, messages: list[BaseMessage], *_: Any, **__: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        answer = await self.offline.answer([{**x} for x in to_messages(messages)])
        for thought in answer.thoughts:
            block = {"type": "reasoning", "reasoning": thought, "index": 0}
            yield ChatGenerationChunk(message=AIMessageChunk(content=[block]))
        for piece in answer.pieces:
            yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
        for place, (call, name, arguments) in enumerate(answer.calls):
            chunk = tool_call_chunk(name=name, args=json.dumps(arguments), id=call, index=place)
            message = AIMessageChunk(content="", tool_call_chunks=[chunk])
            yield ChatGenerationChunk(message=message)
        if not answer.pieces and not answer.calls:
            yield ChatGenerationChunk(message=AIMessageChunk(content=""))
        await self.offline.end(answer)


class PlainModel(BaseChatModel):
    """It cannot stream, and says messages as they are."""

    script: Callable[[list[BaseMessage]], AIMessage]
    requests: list[list[BaseMessage]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "plain"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Runnable[Any, Any]:
        return self

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        self.requests.append(messages)
        answer = self.script(messages)
        return ChatResult(generations=[ChatGeneration(message=answer)])
