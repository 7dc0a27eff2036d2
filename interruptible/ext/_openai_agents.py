"""The models of OpenAI's Agents SDK, asked in durable steps."""

import inspect
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final, Protocol, cast

import agents as sdk
from agents.items import ModelResponse
from agents.models.interface import Model, ModelProvider
from agents.run import CallModelData, ModelInputData
from openai.types import responses as api
from pydantic import TypeAdapter
from pydantic_core import to_json
from restate import RunOptions, TerminalError
from restate.ext.openai import restate_context
from restate.serde import Serde

from interruptible import Message
from interruptible.ext._adapter import Feed, WrongUse, asking, mended_within

__all__ = ["Durable"]


class Kept(Protocol):
    """What is told of the requests of a run."""

    feed: Feed

    async def add_steered(self, items: list[Any]) -> None: ...
    def add_said(self, items: list[Any], messages: Sequence[Message]) -> None: ...
    def put_response(self, response: ModelResponse, request: dict[str, Any]) -> None: ...


_next: Final[ContextVar[CallModelData[Any]]] = ContextVar("interruptible_next")
"""What is asked next, and of which agent's model, before the user's filter has seen it."""


class Durable(Model, ModelProvider):
    """Asks the model of whichever agent it is, in a step of Restate."""

    def __init__(
        self,
        config: sdk.RunConfig,
        options: RunOptions[Any] | None,
        kept: Kept | None = None,
    ) -> None:
        """Take how a run asks its models.

        Args:
            config: As the user gave it.
            options: How Restate runs the requests.
            kept: What is told of them; of those of nested runs, nothing is.
        """
        self._config, self._kept = config, kept
        self._options = replace(options or RunOptions[Any](), serde=_Serde())

    def config(self) -> sdk.RunConfig:
        """The configuration of a run that asks this one."""
        named = self._config.model if isinstance(self._config.model, str) else self
        return replace(
            self._config, model=named, model_provider=self, call_model_input_filter=self._input
        )

    async def _input(self, data: CallModelData[Any]) -> ModelInputData:
        if self._kept is not None:
            await self._kept.add_steered(data.model_data.input)
        whole = replace(data.model_data, input=[*data.model_data.input])
        _next.set(replace(data, model_data=whole))
        return await self._filtered(data)

    async def _filtered(self, data: CallModelData[Any]) -> ModelInputData:
        if self._config.call_model_input_filter is None:
            return data.model_data
        filtered = self._config.call_model_input_filter(data)
        return await filtered if inspect.isawaitable(filtered) else filtered

    def get_model(self, model_name: str | None) -> Model:
        del model_name
        return self

    async def get_response(self, *_: Any, **request: Any) -> ModelResponse:
        asked = _next.get()
        agent_ = asked.agent
        model = self._config.model or agent_.model
        if self._config.model is None and not isinstance(model, Model):
            # As this is no name, the runner has left out what is the default for a name.
            given = request["model_settings"]
            whole = agent_.model_settings.resolve(given)
            request["model_settings"] = replace(whole, tool_choice=given.tool_choice)
        if not isinstance(model, Model):
            model = self._config.model_provider.get_model(model)

        async def ask(said: Sequence[Message] = ()) -> ModelResponse:
            if said and self._kept is not None:
                self._kept.add_said(asked.model_data.input, said)
                copy = replace(asked.model_data, input=[*asked.model_data.input])
                given = await self._filtered(replace(asked, model_data=copy))
                request.update(input=given.input, system_instructions=given.instructions)
            step = restate_context().run_typed(
                "call LLM", _said, self._options, model, request, feed
            )
            return cast("ModelResponse", await step)

        if self._kept is None:
            feed = None
            return await ask()
        feed = self._kept.feed
        response = await feed.ask(ask)
        self._kept.put_response(response, request)
        return response

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        raise WrongUse(
            "`Runner.run_streamed` cannot be replayed, nor can `on_stream` of `as_tool`. What "
            "the model says is given to `task.partial` as it comes. Leave it out."
        )


async def _said(model: Model, request: dict[str, Any], feed: Feed | None) -> ModelResponse:
    """Ask a model, which says what it says as it says it, if it can; this is Restate's step."""
    try:
        with asking():
            if feed is not None:
                with suppress(NotImplementedError):
                    return await _streamed(model, request, feed)
            return await model.get_response(**request)
    except sdk.UserError as error:  # it would be tried again
        raise TerminalError(f"UserError: {error}") from error


async def _streamed(model: Model, request: dict[str, Any], feed: Feed) -> ModelResponse:
    items: list[Any] = []
    answer: api.Response | None = None
    async for event in model.stream_response(**request):
        if isinstance(event, api.ResponseTextDeltaEvent):
            feed.partial(event.delta)
        elif isinstance(event, _THOUGHT):
            feed.reasoning(event.delta)
        elif isinstance(event, api.ResponseOutputItemDoneEvent):
            items.append(event.item)
        elif isinstance(event, (api.ResponseCompletedEvent, api.ResponseIncompleteEvent)):
            answer = event.response
        elif isinstance(event, (api.ResponseFailedEvent, api.ResponseErrorEvent)):
            raise sdk.ModelBehaviorError(f"The model's answer ended in {event!r}.")
    if answer is None:
        raise sdk.ModelBehaviorError("The model's answer broke off.")
    usage, used = sdk.Usage(), answer.usage
    if used is not None:
        counts = {x: getattr(used, x) for x in vars(usage) if hasattr(used, x)}
        usage = sdk.Usage(requests=1, **counts)
    return ModelResponse(answer.output or items, usage, answer.id)


_THOUGHT: Final = (api.ResponseReasoningTextDeltaEvent, api.ResponseReasoningSummaryTextDeltaEvent)
_RESPONSE: Final = TypeAdapter(ModelResponse)


class _Serde(Serde[ModelResponse]):
    """Writes a response without what nobody has set, and its items as they came.

    Text that cannot be stored is mended: the model would be asked again without end.
    """

    def serialize(self, obj: ModelResponse | None) -> bytes:
        response = cast("ModelResponse", obj)
        lean = _RESPONSE.dump_python(response, mode="json", by_alias=True, exclude_defaults=True)
        whole = _RESPONSE.dump_python(response, mode="json", by_alias=True, exclude_unset=True)
        response = mended_within({**lean, "output": whole["output"]})
        for item in response["output"]:
            if isinstance(item.get("arguments"), str):  # those of a tool search are an object
                item["arguments"] = _mended_arguments(item["arguments"])
        return to_json(response)

    def deserialize(self, buf: bytes) -> ModelResponse | None:
        return _RESPONSE.validate_json(buf)


def _mended_arguments(arguments: str) -> str:
    """JSON without half surrogate pairs, also where they are escaped: the SDK fails at these."""
    if "\\ud" in arguments.lower():
        with suppress(ValueError):  # it may be half-said
            told = json.loads(arguments)
            if (mended := mended_within(told)) != told:
                return json.dumps(mended)
    return arguments
