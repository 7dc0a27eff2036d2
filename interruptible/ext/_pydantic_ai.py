"""What goes on in a run of Pydantic AI: what is said and done is put out as it is."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Final, cast

from pydantic import TypeAdapter
from pydantic_ai import ModelRequestNode, exceptions
from pydantic_ai import messages as said
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.exceptions import SkipModelRequest
from pydantic_ai.models import ModelRequestContext
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

from interruptible.ext._adapter import DENIED, Approve, Feed, mended_within
from interruptible.formats.pydantic_ai import from_messages, to_messages


def _mended(result: Any) -> Any:
    """What a tool has given, as models can be told it."""
    if isinstance(result, said.ToolReturn):
        return replace(result, return_value=mended_within(result.return_value))
    return mended_within(result)


class Kept(AbstractCapability[Any]):
    """Puts out what is said and done in a run, and tells the model what was steered at it."""

    def __init__(self, feed: Feed, approve: Approve | None, wrap: RunOptions[Any] | None) -> None:
        super().__init__()
        self._feed, self._approve = feed, approve
        self._wrap = wrap
        """How a tool is run, if it is to be a durable step."""
        self._seen: dict[int, Any] = {}
        """The parts of requests that are in the record, or were there before the run."""
        self._told: list[Any] = []
        """What tools have given besides their results."""
        self._has_begun = False
        self._has_answer = False
        """Whether the answer to the last request is in the record."""
        self.meanwhile: list[said.ModelMessage] = []
        """What has been said during the last request; it is in the record."""

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
            at = len(ctx.messages) - isinstance(answer, said.ModelResponse)
            ctx.messages[at:at] = self.meanwhile
            self.meanwhile.clear()
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
                if self._wrap is None:
                    result = _mended(await handler(args))
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
        if whole.content:  # the framework tells it when all tools are done
            self._told.append(whole.content)
            self._put(said.UserPromptPart(whole.content))
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
            if isinstance(part, said.UserPromptPart) and part.content in self._told:
                self._told.remove(part.content)
                continue
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
            result = _mended(await handler(args))
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
