"""The models of Pydantic AI, asked to stream within durable steps."""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, cast

from pydantic_ai import messages as said
from pydantic_ai.agent import AbstractAgent, EventStreamHandler, WrapperAgent
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import RunContext

from interruptible.ext._adapter import Feed, asking, mended_within


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
