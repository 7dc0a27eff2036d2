"""What goes on in a run of Pydantic AI: its model streams, its tools put out what they give."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, cast

from pydantic import TypeAdapter
from pydantic_ai import ModelRequestNode, exceptions
from pydantic_ai import messages as said
from pydantic_ai.agent import AbstractAgent, WrapperAgent
from pydantic_ai.capabilities import AbstractCapability
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
from pydantic_core import PydanticSerializationError, to_jsonable_python
from restate import Context, RunOptions, TerminalError
from restate.extensions import current_context

from interruptible.ext._adapter import DENIED, Approve, Feed, asking
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
        self.feed = feed

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
                return await self.wrapped.request(*request)
            async for event in streamed:
                match event:
                    case said.PartStartEvent(part=said.TextPart(content=text)):
                        self.feed.partial(text)
                    case said.PartDeltaEvent(delta=said.TextPartDelta(content_delta=text)):
                        self.feed.partial(text)
                    case _:
                        pass
            return streamed.get()


class Kept(AbstractCapability[Any]):
    """Puts out what is said and done in a run, and tells the model what was steered at it."""

    def __init__(self, feed: Feed, approve: Approve | None, wrap: RunOptions[Any] | None) -> None:
        super().__init__()
        self.feed, self._approve = feed, approve
        self._wrap = wrap
        """How a tool is run, if it is to be a durable step."""
        self._seen: dict[int, Any] = {}
        """The parts of requests that are in the record, or were there before the run."""
        self._has_begun = False

    async def after_node_run(self, ctx: RunContext[Any], *, node: Any, result: Any) -> Any:
        """Before a request to the model: what was put into it, and what was steered meanwhile."""
        if isinstance(result, ModelRequestNode):
            self.put_new([*ctx.messages, result.request])
            for message in await self.feed.steering():
                for request in from_messages([message]):
                    self._seen |= {id(part): part for part in request.parts}
                    ctx.enqueue(request)
        return result

    async def after_model_request(
        self,
        ctx: RunContext[Any],
        *,
        request_context: ModelRequestContext,
        response: said.ModelResponse,
    ) -> said.ModelResponse:
        self.feed.put(to_messages([response]))
        return response

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
        with self.feed.working_on(call.tool_call_id):
            try:
                if self._wrap is None:
                    result = await handler(args)
                else:
                    result = await in_step(call.tool_name, handler, args, self._wrap)
            except Exception as error:
                part = _told_by(error)
                if part is not None:
                    self._put(part)
                raise
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
            if self._has_begun:
                self._put(part)
        self._has_begun = True

    def _put(self, part: said.ModelRequestPart) -> None:
        self.feed.put(to_messages([said.ModelRequest([part])]))


def _told_by(error: Exception) -> said.ModelRequestPart | None:
    """What the model is told of a tool that says itself that it failed, or is to be tried again."""
    return getattr(error, "tool_retry", None) or getattr(error, "tool_failed", None)


_WHOLE: Final = TypeAdapter(said.ToolReturn[Any])


async def in_step(
    name: str, handler: Callable[[Any], Awaitable[Any]], args: Any, options: RunOptions[Any]
) -> Any:
    """Run a tool as one durable step.

    Restate's own way of it lets the tools of an answer wait for each other, and for ever if one
    asks to retry.
    """

    async def step() -> dict[str, Any]:
        try:
            result = await handler(args)
            if isinstance(result, said.ToolReturn):
                return {"whole": _WHOLE.dump_python(result, mode="json")}
            return {"result": to_jsonable_python(result)}
        except (exceptions.UserError, PydanticSerializationError) as error:
            raise TerminalError(f"{type(error).__name__}: {error}") from error
        except (exceptions.ApprovalRequired, exceptions.CallDeferred) as error:
            return {"raised": type(error).__name__}
        except Exception as error:
            part = _told_by(error)
            if part is None:
                raise
            request = said.ModelRequest([part])
            dumped = said.ModelMessagesTypeAdapter.dump_python([request], mode="json")
            return {"raised": type(error).__name__, "told": dumped}

    ctx = cast("Context", current_context())  # there is one where there is a task
    done = await ctx.run_typed(f"Calling {name}", step, options)
    if "whole" in done:
        return _WHOLE.validate_python(done["whole"])
    if "raised" not in done:
        return done["result"]
    told = said.ModelMessagesTypeAdapter.validate_python(done.get("told", []))
    raise getattr(exceptions, done["raised"])(*(part for request in told for part in request.parts))
