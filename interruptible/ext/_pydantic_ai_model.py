"""The models of Pydantic AI, asked to stream within durable steps."""

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar, cast

from pydantic_ai import messages as said
from pydantic_ai.agent import AbstractAgent, EventStreamHandler, WrapperAgent
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import RunContext
from restate import RunOptions
from restate.ext.pydantic import RestateAgent, RestateModelWrapper

from interruptible import Message
from interruptible.ext._adapter import Feed, asking, mended_within
from interruptible.formats.pydantic_ai import from_messages

T = TypeVar("T")


class Durable(RestateAgent[Any, Any]):
    """An agent whose model is asked in durable steps, which a message may cut off."""

    def __init__(
        self,
        wrapped: AbstractAgent[Any, Any],
        feed: Feed,
        steps: RunOptions[Any],
        handler: EventStreamHandler[Any] | None,
        meanwhile: list[said.ModelMessage],
    ) -> None:
        streaming = Streaming(wrapped, feed)
        super().__init__(streaming, run_options=steps, event_stream_handler=handler)
        self._model = _SteerableModel(streaming.model, steps, handler)
        self._model.feed, self._model.meanwhile = feed, meanwhile


class _SteerableModel(RestateModelWrapper):
    """Asks once more, when a message that is to be read at once has cut off the request.

    The framework allows a request to be made only once, so it must not learn of it.

    Attributes:
        feed: What the model is asked by.
        meanwhile: What has been said in the request: by the model until it was cut off, and to it.
    """

    feed: Feed
    meanwhile: list[said.ModelMessage]

    async def request(
        self, messages: list[said.ModelMessage], *args: Any, **kwargs: Any
    ) -> said.ModelResponse:
        request = super().request

        async def ask(whole: list[said.ModelMessage]) -> said.ModelResponse:
            return await request(whole, *args, **kwargs)

        return await self._ask(messages, ask)

    @asynccontextmanager
    async def request_stream(
        self, messages: list[said.ModelMessage], *args: Any, **kwargs: Any
    ) -> AsyncGenerator[StreamedResponse]:
        request = super().request_stream
        async with AsyncExitStack() as stack:

            async def ask(whole: list[said.ModelMessage]) -> StreamedResponse:
                return await stack.enter_async_context(request(whole, *args, **kwargs))

            yield await self._ask(messages, ask)  # by now all of the answer is there

    async def _ask(
        self,
        messages: list[said.ModelMessage],
        request: Callable[[list[said.ModelMessage]], Awaitable[T]],
    ) -> T:
        async def ask(added: Sequence[Message]) -> T:
            self.meanwhile += from_messages(added)
            return await request([*_joined(messages[:end], self.meanwhile), *messages[end:]])

        # A response that the provider has suspended is asked for until it is there.
        end = len(messages) - (getattr(messages[-1], "state", "") == "suspended")
        return await (self.feed.ask(ask) if end == len(messages) else ask(()))


def _joined(
    messages: Sequence[said.ModelMessage], more: Sequence[said.ModelMessage]
) -> list[said.ModelMessage]:
    """Messages, and more of them; what is said to the model at once is one request."""
    joined = [*messages]
    for message in more:
        before = joined[-1] if joined else None
        if isinstance(message, said.ModelRequest) and isinstance(before, said.ModelRequest):
            joined[-1] = replace(before, parts=[*before.parts, *message.parts])
        else:
            joined.append(message)
    return joined


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
            stack.enter_context(asking())
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
        told = {key: x for key, x in values.items() if isinstance(x, (str, dict))}
        mended = {key: mended_within(x) for key, x in told.items()}
        new = {key: x for key, x in mended.items() if x != told[key]}
        parts.append(replace(part, **new) if new else part)
    return replace(response, parts=parts) if parts != response.parts else response


def _tell(feed: Feed, event: Any) -> None:
    match event:
        case said.PartStartEvent(part=said.TextPart(content=text)):
            feed.partial(text)
        case said.PartDeltaEvent(delta=said.TextPartDelta(content_delta=text)):
            feed.partial(text)
        case said.PartStartEvent(part=said.ThinkingPart(content=text)):
            feed.reasoning(text)
        case said.PartDeltaEvent(delta=said.ThinkingPartDelta(content_delta=text)):
            feed.reasoning(text)
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
