"""The agents of a run of Google ADK: copies, in which each model asks Restate's plugin.

All else in them goes on as ADK does it, with their callbacks, tools and limits.
"""

import asyncio
import copy
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, nullcontext
from typing import Any, Final, TypeVar, cast

from google.adk.agents import LlmAgent
from google.adk.agents.callback_context import CallbackContext
from google.adk.events import Event
from google.adk.models import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.sessions import InMemorySessionService
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_confirmation import ToolConfirmation
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from restate.ext.adk import RestatePlugin

from interruptible import Interrupted, Message, Task
from interruptible.ext._adapter import Approve, Feed, WrongUse, asking, mended_within
from interruptible.formats.adk import from_messages, to_messages

T = TypeVar("T")
Responses = AsyncGenerator[LlmResponse, None]

REJECTED: Final = "This tool call is rejected."
"""What ADK tells the model of a call that is not confirmed."""
NESTED: Final = ("single_turn", "task")
"""The modes of sub-agents that are tools of their parent."""
LOGGERS: Final = ("runners", "workflow._node_runner")
"""The modules of ADK that log what a run ends with, with a traceback each."""


class Run(Feed):
    """What the agents of a run share."""

    def __init__(self, task: Task, durable: RestatePlugin, approve: Approve | None) -> None:
        super().__init__(task)
        self.durable, self.approve = durable, approve
        self.sessions = InMemorySessionService()

    def copied(self, root: LlmAgent, *, nested: bool = False) -> LlmAgent:
        """A copy of an agent for this run, with those below it.

        Args:
            root: The agent.
            nested: Whether it is a tool of another: then it puts out nothing.
        """
        made = root.clone()
        for (own, is_nested), (each, _) in zip(
            agents_of(root, nested=nested), agents_of(made), strict=True
        ):
            _Copy(self, each, own.canonical_model, nested=is_nested)
        return made


class _Copy:
    """An agent as it is in a run: what happens between its model and its tools."""

    def __init__(self, run: Run, agent: LlmAgent, model: BaseLlm, *, nested: bool) -> None:
        self._run, self._agent, self._model, self._nested = run, agent, model, nested
        self._context: CallbackContext
        self._order = _Order()
        self._after_tool = agent.canonical_after_tool_callbacks
        agent.model = _with(model, generate_content_async=self.generate)
        agent.before_model_callback = [self.before_model, *agent.canonical_before_model_callbacks]
        agent.before_tool_callback = [self.before_tool, *agent.canonical_before_tool_callbacks]
        agent.after_tool_callback = self.after_tool
        agent.on_tool_error_callback = [
            *agent.canonical_on_tool_error_callbacks,
            self.on_tool_error,
        ]

    async def before_model(
        self, callback_context: CallbackContext, llm_request: LlmRequest
    ) -> None:
        self._context, self._order = callback_context, _Order()
        tools = llm_request.tools_dict
        tools.update({name: self._ordered(tool, self._order) for name, tool in tools.items()})
        if self._nested:
            return
        await self._tell(await self._run.steering(), llm_request)

    async def _tell(self, messages: Sequence[Message], request: LlmRequest) -> None:
        """Tell the model what has come in the conversation since the request was made."""
        for event in from_messages(messages, self._agent):
            await self._run.sessions.append_event(self._context.session, event)
            request.contents += [x.model_copy(deep=True) for x in [event.content] if x]

    async def generate(
        self, llm_request: LlmRequest, **_: Any
    ) -> AsyncGenerator[LlmResponse, None]:
        """Ask the model, by way of Restate's plugin, which makes a durable step of it.

        The plugin alone would do so in place of the model: no callback of the agent would be
        called, and `max_llm_calls` would count nothing.
        """
        asked = _with(self._model, generate_content_async=self.say)
        own = self._agent.model_copy(update={"model": asked})
        context, durable = self._context, self._run.durable
        await durable.before_agent_callback(agent=own, callback_context=context)

        async def ask(told: Sequence[Message]) -> LlmResponse | None:
            await self._tell(told, llm_request)
            return await durable.before_model_callback(
                callback_context=context, llm_request=llm_request
            )

        # What an agent says that is a tool is within that tool, which goes on.
        response = await (ask([]) if self._nested else self._run.ask(ask))
        if response is not None:
            yield response

    async def say(self, llm_request: LlmRequest, **_: Any) -> Responses:
        """Ask the model, within the step, to stream."""
        whole: list[LlmResponse] = []
        async with aclosing(self._model.generate_content_async(llm_request, stream=True)) as said:
            with asking():
                async for response in said:
                    if not response.partial:
                        whole.append(response)
                        continue
                    for part in (response.content and response.content.parts) or []:
                        if not self._nested and part.thought:
                            self._run.reasoning(part.text)
                        elif not self._nested:
                            self._run.partial(part.text)
        if whole:  # some models give their thoughts, their words and their calls one by one
            parts = [x for each in whole if each.content for x in each.content.parts or []]
            for part in parts:  # as the step can store it
                part.text = mended_within(part.text)
                if part.function_call:
                    part.function_call.args = mended_within(part.function_call.args)
            content = types.Content(role="model", parts=parts) if parts else None
            yield whole[-1].model_copy(update={"content": content})

    def _ordered(self, tool: BaseTool, order: "_Order") -> BaseTool:
        """A tool that runs once those before it in the answer have, and if it may."""

        async def run_async(*, args: dict[str, Any], tool_context: ToolContext) -> Any:
            async with order.lock:
                if order.failed is not None:
                    raise order.failed
                try:
                    return await self._call(tool, args, tool_context)
                except Exception as error:
                    order.raised = error
                    raise

        more = {"check_require_confirmation": _no} if self._run.approve else {}
        return _with(tool, run_async=run_async, **more)

    async def _call(self, tool: BaseTool, args: dict[str, Any], context: ToolContext) -> Any:
        call, approve = str(context.function_call_id), self._run.approve
        if approve and await tool.check_require_confirmation(args, context):
            said = await self._confirm(approve, tool, args, context)
            if said is not True:
                return {"error": said or REJECTED}
        own = tool
        if isinstance(tool, AgentTool):
            own = _with(tool, agent=self._run.copied(cast("LlmAgent", tool.agent), nested=True))
        with nullcontext() if self._nested else self._run.working_on(call):
            result = await own.run_async(args=args, tool_context=context)
            if approve and call in context.actions.requested_tool_confirmations:
                said = await self._confirm(approve, tool, args, context)
                if isinstance(said, str):
                    return {"error": said}
                # The tool itself has asked, and does what it does about the answer.
                result = await own.run_async(args=args, tool_context=context)
            return result

    async def _confirm(
        self, approve: Approve, tool: BaseTool, args: dict[str, Any], context: ToolContext
    ) -> bool | str:
        said = await approve(tool.name, args)
        asked = context.actions.requested_tool_confirmations.pop(
            str(context.function_call_id), ToolConfirmation()
        )
        context.tool_confirmation = asked.model_copy(update={"confirmed": said is True})
        context.actions.skip_summarization = None  # who asks has the run end there
        return said

    def before_tool(self, tool: BaseTool, args: dict[str, Any], tool_context: ToolContext) -> None:
        """Say that a call begins that a plugin answered the request with: its tool is no copy."""
        if not self._nested and "run_async" not in vars(tool):
            with self._run.working_on(str(tool_context.function_call_id)):
                pass

    async def after_tool(
        self, tool: BaseTool, args: dict[str, Any], tool_context: ToolContext, tool_response: Any
    ) -> Any:
        """Put a result out, as the agent's own callbacks have it, before the next tool runs."""
        changed: Any = None
        given = {"tool": tool, "args": args, "tool_context": tool_context}
        for callback in cast("list[Callable[..., Any]]", self._after_tool):
            changed = callback(**given, tool_response=tool_response)
            changed = await changed if inspect.isawaitable(changed) else changed
            if changed is not None:
                break
        result: Any = tool_response if changed is None else changed
        if not self._nested and not _has_media(result):
            response = (
                cast("dict[str, Any]", result) if isinstance(result, dict) else {"result": result}
            )
            part = types.Part.from_function_response(name=tool.name, response=response)
            if part.function_response is not None:
                part.function_response.id = tool_context.function_call_id
            content = types.Content(role="user", parts=[part])
            self._run.put(to_messages(Event(author=self._agent.name, content=content)))
        return changed

    def on_tool_error(
        self, tool: BaseTool, args: dict[str, Any], tool_context: ToolContext, error: Exception
    ) -> None:
        """A tool has failed, and none of the user's callbacks has made a result of that."""
        if error is self._order.raised:  # not a tool that there is not: ADK makes a result of that
            self._order.failed = error


class _Order:
    """Lets the tools of an answer run in its order, as Restate's plugin does.

    Attributes:
        lock: What the tool has that runs.
        raised: What a tool has raised.
        failed: The same, if it ends the run: no other tool begins.
    """

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.raised: Exception | None = None
        self.failed: Exception | None = None


async def _no(*_: Any) -> bool:
    """Whether ADK is to ask for a confirmation, where it has been asked for."""
    return False


def _with(thing: T, **changes: Any) -> T:
    """A copy that does something otherwise, and is still of the class that ADK asks for."""
    made = copy.copy(thing)
    vars(made).update(changes)
    return made


def _has_media(result: Any) -> bool:
    """Whether ADK takes a result apart before the model gets it."""
    entries = [result]
    if isinstance(result, (dict, list, tuple)):
        entries += result.values() if isinstance(result, dict) else result
    return any(isinstance(x, (types.Part, types.FunctionResponse)) for x in entries)


def agents_of(agent: Any, *, nested: bool = False) -> Iterator[tuple[LlmAgent, bool]]:
    """An agent and those below it; each, and whether it is a tool of another.

    Raises:
        TypeError: One of them is of another kind.
    """
    if not isinstance(agent, LlmAgent):
        raise WrongUse(
            f"{agent.name!r} is a {type(agent).__name__}, and Restate's integration runs an "
            "`LlmAgent` alone. Let one lead the others, or run them one after the other."
        )
    nested = nested or getattr(agent, "mode", None) in NESTED
    yield agent, nested
    for each in agent.sub_agents:
        yield from agents_of(each, nested=nested)


class _Quiet(logging.Filter):
    """Leaves out that a turn was interrupted: nobody has to look into that."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], Interrupted))


for _module in LOGGERS:
    logging.getLogger(f"google_adk.google.adk.{_module}").addFilter(_Quiet())
