"""Agents of Pydantic AI, on Restate's integration.

What the model says and what each tool returns is put out as it is made; what is steered at the turn
is told to the model before its next request.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import replace
from typing import Any, TypeVar, cast

from restate import RunOptions
from typing_extensions import Unpack

from interruptible import Agent, Task
from interruptible.ext._extra import extra

with extra("pydantic-ai"):
    from pydantic_ai import ModelRequestNode
    from pydantic_ai import messages as said
    from pydantic_ai.agent import AbstractAgent, EventStreamHandler, WrapperAgent
    from pydantic_ai.capabilities import (
        AbstractCapability,
        CapabilityOrdering,
        ReinjectSystemPrompt,
    )
    from pydantic_ai.exceptions import AgentRunError, SkipModelRequest, UserError
    from pydantic_ai.models import Model, ModelRequestContext, ModelRequestParameters
    from pydantic_ai.models.wrapper import WrapperModel
    from pydantic_ai.run import AgentRunResult
    from pydantic_ai.settings import ModelSettings
    from pydantic_ai.tools import (
        DeferredToolRequests,
        DeferredToolResults,
        RunContext,
        ToolDefinition,
        ToolDenied,
    )
    from pydantic_core import PydanticSerializationError
    from restate.ext.pydantic import RestateAgent

    from interruptible.ext._adapter import (
        DENIED,
        Approve,
        Feed,
        Options,
        WrongUse,
        as_agent,
        failing,
        not_approved,
        sayable,
    )
    from interruptible.formats.pydantic_ai import from_messages, to_messages

__all__ = ["agent", "run"]

Deps = TypeVar("Deps")
Out = TypeVar("Out")


def agent(
    framework_agent: AbstractAgent[None, Any],
    *,
    name: str | None = None,
    approve: Approve | None = None,
    **options: Unpack[Options],
) -> Agent:
    """Make an agent of Pydantic AI one that can be interrupted.

    Args:
        framework_agent: The agent; one that needs dependencies is run by a `run` of your own.
        name: The name of the object in Restate; by default the agent's own, in camel case.
        approve: Whether a tool may run that asks for approval; see `run`.
        options: Those of `interruptible.Agent`.

    Raises:
        TypeError: The agent has no name, or an option has the wrong type.
        ValueError: An option makes no sense.
    """

    async def work(task: Task) -> None:
        result = await run(framework_agent, task, approve=approve)
        if isinstance(result.output, DeferredToolRequests):
            if result.output.approvals:
                raise not_approved(result.output.approvals[0].tool_name)
            raise WrongUse(
                f"The tool {result.output.calls[0].tool_name!r} is to be run elsewhere. Write a "
                "`run` of your own, which waits for that, and gives `run` the results."
            )

    _check(framework_agent)
    needed: type = getattr(framework_agent, "deps_type", object)
    if needed not in (object, type(None)):  # `object`, where it is not said
        raise WrongUse(
            f"The agent needs dependencies ({needed.__name__}), which `agent` has not. Write a "
            "`run` of your own, with `await pydantic_ai.run(agent, task, deps=...)`."
        )
    return as_agent(work, framework_agent, name, options)


async def run(
    framework_agent: AbstractAgent[Deps, Out],
    task: Task,
    *,
    approve: Approve | None = None,
    auto_wrap_tools: bool = False,
    run_options: RunOptions[Any] | None = None,
    event_stream_handler: EventStreamHandler[Deps] | None = None,
    message_history: Sequence[said.ModelMessage] | None = None,
    capabilities: Sequence[Any] = (),
    **framework_options: Any,
) -> AgentRunResult[Out]:
    """Run an agent of Pydantic AI for a turn.

    Args:
        framework_agent: The agent.
        task: The task. What the model says and what the tools return is put out there.
        approve: Whether a tool may run that asks for approval: an `async` function of the tool's
            name and arguments, which may wait durably; True, False, or the reason why not. Without
            it, `result.output` has the requests.
        auto_wrap_tools: Whether each tool is a durable step, as for `RestateAgent`.
        run_options: How Restate runs the requests to the model (and the tools, if they are steps).
        event_stream_handler: It gets the events of a request within the step that makes it, as for
            `RestateAgent`; those of the tools where they run.
        message_history: What the model is told instead of the task's conversation.
        capabilities: Those of this run; the module's own come with them.
        framework_options: All else that `Agent.run` takes, such as `deps` and `usage_limits`.

    Returns:
        The result, as `Agent.run` returns it.

    Raises:
        AgentRunError: A limit was reached, or the model did not do as it was told. The turn fails.
        TypeError: It is no agent that Restate's integration can run. The turn fails.
        Interrupted: The turn was cancelled.
    """
    _check(framework_agent)
    feed = Feed(task)
    durable: RestateAgent[Deps, Out] = RestateAgent(
        _Streaming(framework_agent, feed),
        auto_wrap_tools=auto_wrap_tools,
        run_options=run_options,
        event_stream_handler=_heard(framework_agent, feed, event_stream_handler, capabilities),
    )
    kept = _Kept(feed, approve)
    given = from_messages(task.messages) if message_history is None else message_history
    with failing(AgentRunError, UserError, PydanticSerializationError):
        result: AgentRunResult[Out] = await durable.run(
            message_history=given,
            capabilities=[ReinjectSystemPrompt(), *capabilities, kept],
            **framework_options,
        )
        kept.put_new(result.all_messages())
        if not isinstance(result.output, DeferredToolRequests):
            feed.end(result.output)
    return result


def _check(framework_agent: Any) -> None:
    if isinstance(framework_agent, RestateAgent):
        raise WrongUse(
            "This is a `RestateAgent` already, which keeps its messages to itself. Give the agent "
            "that is in it; what `RestateAgent` takes, `run` takes, too."
        )
    model = getattr(framework_agent, "model", framework_agent)
    if not isinstance(model, Model):
        raise WrongUse(
            f"The agent's model is {model!r}, and Restate's integration asks for an object. Give "
            "the agent a `Model`: `Agent(OpenAIChatModel('...'))`."
        )


class _Streaming(WrapperAgent[Any, Any]):
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
    for part in response.parts:
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


def _heard(
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
        whole = cast("said.ToolReturn[Any]", result)
        return replace(whole, return_value=sayable(whole.return_value))
    return sayable(result)


class _Kept(AbstractCapability[Any]):
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
