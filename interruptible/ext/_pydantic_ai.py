"""What a run of an agent of Pydantic AI has besides: its model streams, its words are put out."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import replace
from typing import Any, cast

from pydantic_ai import ModelRequestNode
from pydantic_ai import messages as said
from pydantic_ai.agent import AbstractAgent, EventStreamHandler, WrapperAgent
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.exceptions import SkipModelRequest
from pydantic_ai.models import Model, ModelRequestContext, ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import (
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
    ToolDefinition,
    ToolDenied,
)

from interruptible.ext._adapter import DENIED, Approve, Feed, sayable
from interruptible.formats.pydantic_ai import from_messages, to_messages


class Streaming(WrapperAgent[Any, Any]):
    """An agent whose model says what it says as it says it."""

    def __init__(self, wrapped: AbstractAgent[Any, Any], feed: Feed) -> None:
        super().__init__(wrapped)
        self._model = _StreamingModel(cast("Model", wrapped.model), feed)

    @property
    def model(self) -> Model:
        return self._model


class _StreamingModel(WrapperModel):
    """Asks a model to stream, if it can; all of it is in Restate's step."""

    def __init__(self, wrapped: Model, feed: Feed) -> None:
        super().__init__(wrapped)
        self._feed = feed

    async def request(
        self,
        messages: list[said.ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> said.ModelResponse:
        request = (messages, model_settings, model_request_parameters)
        async with AsyncExitStack() as stack:
            try:
                opened = self.wrapped.request_stream(*request)
                streamed = await stack.enter_async_context(opened)
            except (NotImplementedError, AssertionError):  # a `FunctionModel` asserts that it can
                return _stored(await self.wrapped.request(*request))
            async for event in streamed:
                _tell(self._feed, event)
            return _stored(streamed.get())


def _stored(response: said.ModelResponse) -> said.ModelResponse:
    """An answer as a step can store it; otherwise the model would be asked again without end."""
    parts: list[Any] = []
    given: list[Any] = [*response.parts]
    for part in given:
        values = {key: getattr(part, key, None) for key in ("content", "args")}
        new = {key: x for key, x in values.items() if isinstance(x, (str, dict))}
        new = {key: sayable(x) for key, x in new.items() if sayable(x) != x}
        parts.append(replace(part, **new) if new else part)
    return replace(response, parts=parts) if parts != response.parts else response


def _tell(feed: Feed, event: Any) -> None:
    match event:
        case said.PartStartEvent(part=said.TextPart(content=text)):
            feed.partial(text)
        case said.PartDeltaEvent(delta=said.TextPartDelta(content_delta=text)):
            feed.partial(text)
        case _:
            pass


def heard(
    framework_agent: Any, feed: Feed, handler: Any, capabilities: Sequence[Any]
) -> EventStreamHandler[Any] | None:
    """Who hears the events of the requests, if anybody asks for events.

    If so, the framework asks Restate's model to stream, which fails if nobody hears it.
    """
    all_of = [*capabilities, getattr(framework_agent, "root_capability", None)]
    hear = ("has_wrap_run_event_stream", "has_on_event")
    if handler is None and not any(getattr(x, name, False) for x in all_of for name in hear):
        return None

    async def hear_all(ctx: RunContext[Any], events: AsyncIterable[Any]) -> None:
        async def told() -> AsyncIterator[Any]:
            async for event in events:
                _tell(feed, event)
                yield event

        if handler is not None:
            await handler(ctx, told())
        async for _ in told():
            pass

    return hear_all


def _sayable(result: Any) -> Any:
    """What a tool has given, as models can be told it."""
    if isinstance(result, said.ToolReturn):
        return replace(result, return_value=sayable(result.return_value))
    return sayable(result)


class Kept(AbstractCapability[Any]):
    """Puts out what is said and done in a run, and tells the model what was steered at it."""

    def __init__(self, feed: Feed, approve: Approve | None) -> None:
        super().__init__()
        self._feed, self._approve = feed, approve
        self._seen: dict[int, Any] = {}
        """The parts of requests that are in the record, or were there before the run."""
        self._has_begun = False
        self._has_answer = False
        """Whether the answer to the last request is in the record."""

    def get_ordering(self) -> CapabilityOrdering:
        """Around all others: what they make of an answer or a result is what is put out."""
        return CapabilityOrdering(position="outermost")

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Put out what was enqueued; what others make of it then is for the model alone."""
        self.put_new(request_context.messages)
        return request_context

    async def wrap_model_request(
        self, ctx: RunContext[Any], *, request_context: ModelRequestContext, handler: Any
    ) -> said.ModelResponse:
        """Put out an answer, whoever has given it."""
        try:
            response: said.ModelResponse = await handler(request_context)
        except SkipModelRequest as skipped:
            self._answer(skipped.response)
            raise
        self._answer(response)
        return response

    async def after_node_run(self, ctx: RunContext[Any], *, node: Any, result: Any) -> Any:
        """Before a request to the model: what was put into it, and what was steered meanwhile."""
        if isinstance(node, ModelRequestNode):
            answer = ctx.messages[-1] if ctx.messages else None
            if not self._has_answer and isinstance(answer, said.ModelResponse):
                self._answer(answer)  # a capability has refused it, and asks for another
            self._has_answer = False
            self._know(ctx.messages)
        if isinstance(result, ModelRequestNode):
            self.put_new([*ctx.messages, result.request])
            for message in await self._feed.steering():
                for request in from_messages([message]):
                    self._know([request])
                    ctx.enqueue(request)
        return result

    async def wrap_tool_execute(
        self,
        ctx: RunContext[Any],
        *,
        call: said.ToolCallPart,
        tool_def: ToolDefinition,
        args: dict[str, Any],
        handler: Any,
    ) -> Any:
        """Run a tool; what it gives is put out as it returns, and not when all have."""
        with self._feed.working_on(call.tool_call_id):
            try:
                result = await handler(args)
            except Exception as error:
                # How the framework tells a tool's own word for it that it failed.
                part = getattr(error, "tool_retry", None) or getattr(error, "tool_failed", None)
                if part is not None:
                    self._put(part)
                raise
        result = _sayable(result)
        is_whole = isinstance(result, said.ToolReturn)
        whole = cast("said.ToolReturn[Any]", result if is_whole else said.ToolReturn(result))
        self._put(
            said.ToolReturnPart(
                call.tool_name,
                whole.return_value,
                call.tool_call_id,
                tool_kind=tool_def.tool_kind,
                metadata=whole.metadata,
            )
        )
        return result

    async def wrap_output_process(
        self, ctx: RunContext[Any], *, output_context: Any, output: Any, handler: Any
    ) -> Any:
        """Run an output function: the call by which the model has given its arguments has begun."""
        call = output_context.tool_call if output_context.has_function else None
        with nullcontext() if call is None else self._feed.working_on(call.tool_call_id):
            return await handler(output)

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[Any], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        if self._approve is None:
            return None
        asked = requests.approvals
        answered = await asyncio.gather(
            *(self._approve(x.tool_name, x.args_as_dict()) for x in asked)
        )
        answers = {
            call.tool_call_id: yes if yes is True else ToolDenied(yes or DENIED)
            for call, yes in zip(asked, answered, strict=True)
        }
        return requests.build_results(approvals=answers)

    def put_new(self, messages: Sequence[said.ModelMessage]) -> None:
        """Put out what the framework itself has added to its requests since the last time."""
        requests = [x for x in messages if isinstance(x, said.ModelRequest)]
        for part in (x for request in requests for x in request.parts if id(x) not in self._seen):
            self._seen[id(part)] = part
            # The results of calls that were deferred come with the first request.
            if self._has_begun or getattr(part, "tool_call_id", None) in self._feed.calls:
                self._put(part)
        self._has_begun = True

    def _answer(self, response: said.ModelResponse) -> None:
        self._has_answer = True
        self._feed.put(to_messages([response]))

    def _know(self, messages: Sequence[said.ModelMessage]) -> None:
        """Let what there is be known: it is in the record, or is for the model alone."""
        requests = [x for x in messages if isinstance(x, said.ModelRequest)]
        self._seen |= {id(part): part for request in requests for part in request.parts}

    def _put(self, part: said.ModelRequestPart) -> None:
        self._feed.put(to_messages([said.ModelRequest([part])]))
