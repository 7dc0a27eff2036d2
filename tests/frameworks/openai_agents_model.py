"""What stands in for OpenAI's API: `Offline` as a model of the Agents SDK."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any

from agents import Usage
from agents.items import ModelResponse
from agents.models.interface import Model
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseReasoningItem,
    ResponseReasoningSummaryTextDeltaEvent,
    ResponseTextDeltaEvent,
    ResponseUsage,
)
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails

from interruptible.formats.responses import to_messages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .offline import Answer, Offline

_ids = count(1)


def message(text: str) -> ResponseOutputMessage:
    content = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(
        id=f"msg_{next(_ids)}",
        type="message",
        role="assistant",
        status="completed",
        content=[content],
    )


def call(name: str, call_id: str, **arguments: Any) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(
        id=f"fc_{next(_ids)}",
        type="function_call",
        call_id=call_id,
        name=name,
        arguments=json.dumps(arguments),
    )


def thought(**more: Any) -> ResponseReasoningItem:
    return ResponseReasoningItem(
        id=f"rs_{next(_ids)}",
        type="reasoning",
        summary=[],
        encrypted_content="gAAAA",
        **more,
    )


class OfflineModel(Model):
    """Streams what an `Offline` answers, each time after a thought.

    Attributes:
        offline: What answers.
        streams: Whether it can be asked to stream.
        requests: The `input` of each request, as it came.
        settings: The settings of each request.
        instructions: The instructions of each request.
    """

    def __init__(self, offline: Offline, *, streams: bool = True) -> None:
        self.offline, self.streams, self.thought = offline, streams, thought
        self.requests: list[Any] = []
        self.settings: list[Any] = []
        self.instructions: list[Any] = []

    async def get_response(self, *args: Any, **request: Any) -> ModelResponse:
        assert not args
        answer = await self._answer(request)
        await self.offline.end(answer)
        return ModelResponse(self._items(answer), Usage(requests=1, input_tokens=7), "resp_0")

    async def stream_response(self, *args: Any, **request: Any) -> AsyncIterator[Any]:
        assert not args
        if not self.streams:
            raise NotImplementedError
        answer = await self._answer(request)
        for piece in answer.thoughts:
            yield ResponseReasoningSummaryTextDeltaEvent(
                type="response.reasoning_summary_text.delta",
                delta=piece,
                item_id="rs_0",
                output_index=0,
                sequence_number=0,
                summary_index=0,
            )
        for piece in answer.pieces:
            yield ResponseTextDeltaEvent(
                type="response.output_text.delta",
                delta=piece,
                content_index=0,
                item_id="msg_0",
                logprobs=[],
                output_index=0,
                sequence_number=0,
            )
        await self.offline.end(answer)
        response = Response(
            id="resp_0",
            created_at=0,
            model="offline",
            object="response",
            output=self._items(answer),
            parallel_tool_calls=True,
            tool_choice="auto",
            tools=[],
            usage=ResponseUsage(
                input_tokens=7,
                input_tokens_details=InputTokensDetails(cached_tokens=0, cache_write_tokens=0),
                output_tokens=1,
                output_tokens_details=OutputTokensDetails(reasoning_tokens=0),
                total_tokens=8,
            ),
        )
        yield ResponseCompletedEvent(
            type="response.completed", response=response, sequence_number=1
        )

    async def _answer(self, request: dict[str, Any]) -> Answer:
        self.requests.append(request["input"])
        self.settings.append(request["model_settings"])
        self.instructions.append(request["system_instructions"])
        return await self.offline.answer([{**x} for x in to_messages(request["input"])])

    def _items(self, answer: Answer) -> list[Any]:
        said = [message(answer.text)] if answer.pieces else []
        calls = [call(name, call_id, **arguments) for call_id, name, arguments in answer.calls]
        return [self.thought(), *said, *calls]
