"""Agents of Google ADK, on Restate's integration.

What the model says and what each tool returns is put out as it is made; what is steered at the turn
is told to the model before its next request.

A run works on a copy of the agents, in which each model asks Restate's plugin. All else goes on as
ADK does it, with callbacks, plugins and limits. The session is made of the task's conversation.
"""

import asyncio
import copy
import inspect
import json
import logging
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import aclosing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from restate import TerminalError

from interruptible import Agent, Interrupted, Task
from interruptible.ext._extra import extra

with extra("adk"):
    from google.adk.agents import LlmAgent, RunConfig
    from google.adk.agents.callback_context import CallbackContext
    from google.adk.agents.invocation_context import LlmCallsLimitExceededError
    from google.adk.apps import App
    from google.adk.artifacts import BaseArtifactService
    from google.adk.auth.credential_service.base_credential_service import BaseCredentialService
    from google.adk.events import Event
    from google.adk.memory import BaseMemoryService
    from google.adk.models import BaseLlm
    from google.adk.models.llm_request import LlmRequest
    from google.adk.models.llm_response import LlmResponse
    from google.adk.runners import Runner
    from google.adk.sessions import BaseSessionService, InMemorySessionService, Session
    from google.adk.tools.agent_tool import AgentTool
    from google.adk.tools.base_tool import BaseTool
    from google.adk.tools.tool_confirmation import ToolConfirmation
    from google.adk.tools.tool_context import ToolContext
    from google.genai import types
    from pydantic import TypeAdapter
    from restate.ext.adk import RestatePlugin

    from interruptible.ext._adapter import (
        Approve,
        Feed,
        Options,
        WrongUse,
        as_agent,
        failing,
        not_approved,
    )
    from interruptible.formats.adk import from_messages, to_messages

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Result", "agent", "run"]

T = TypeVar("T")
Responses = AsyncGenerator[LlmResponse, None]

LOGGERS: Final = ("runners", "workflow._node_runner")
"""The modules of ADK that log what a run ends with, with a traceback each."""
REJECTED: Final = "This tool call is rejected."
"""What ADK tells the model of a call that is not confirmed."""
NESTED: Final = ("single_turn", "task")
"""The modes of sub-agents that are tools of their parent."""


@dataclass(frozen=True)
class Result:
    """What a run has come to; ADK itself has no such object, its runs yield events.

    Attributes:
        events: What `Runner.run_async` has yielded.
        session: ADK's session after the run, with its state.
        output: The answer: its text, or what that is by the agent's `output_schema`.
    """

    events: list[Event]
    session: Session
    output: Any


def agent(
    framework_agent: LlmAgent | App,
    *,
    name: str | None = None,
    approve: Approve | None = None,
    **options: "Unpack[Options]",
) -> Agent:
    """Make an agent of ADK one that can be interrupted.

    Args:
        framework_agent: The agent, or the app whose root it is.
        name: The name of the object in Restate; by default the agent's own, in camel case.
        approve: Whether a tool may run that asks for a confirmation; see `run`.
        options: Those of `interruptible.Agent`.

    Raises:
        TypeError: It is no such agent, or an option has the wrong type.
        ValueError: An option makes no sense.
    """
    app = _app(framework_agent)

    async def work(task: Task) -> None:
        events = (await run(app, task, approve=approve)).events
        for event in events:
            for response in event.get_function_responses():
                if response.id in event.actions.requested_tool_confirmations:
                    raise not_approved(str(response.name))
        if events and events[-1].error_code and not events[-1].content:
            said = f"{events[-1].error_code}: {events[-1].error_message}"
            raise TerminalError(f"The model gave no answer ({said}).")

    return as_agent(work, app.root_agent, name, options)


async def run(
    framework_agent: LlmAgent | App,
    task: Task,
    *,
    approve: Approve | None = None,
    run_config: RunConfig | None = None,
    state: dict[str, Any] | None = None,
    artifact_service: BaseArtifactService | None = None,
    memory_service: BaseMemoryService | None = None,
    credential_service: BaseCredentialService | None = None,
    session_service: BaseSessionService | None = None,
) -> Result:
    """Run an agent of ADK for a turn.

    Args:
        framework_agent: The agent, or the app whose root it is. If a `RestatePlugin` is among the
            app's plugins, that one makes the requests to the model durable.
        task: The task. What the model says and what the tools return is put out there.
        approve: Whether a tool may run that asks for a confirmation: an `async` function of the
            tool's name and arguments, which may wait durably; True, False, or the reason why not.
            Without it, the run ends there, and its events have the requests.
        run_config: ADK's settings of the run, such as `max_llm_calls`.
        state: What the session's state is at first.
        artifact_service: As for ADK's `Runner`.
        memory_service: Likewise.
        credential_service: Likewise.
        session_service: None is taken: the session is made of the task's conversation.

    Returns:
        The events, the session and the answer.

    Raises:
        LlmCallsLimitExceededError: There were to be more requests than `max_llm_calls`. The turn
            fails.
        ValueError: The model did not do as it was told. The turn fails.
        Interrupted: The turn was cancelled.
    """
    app = _app(framework_agent)
    if session_service is not None:
        raise WrongUse(
            f"`run` was given a {type(session_service).__name__}. The session of a run is made of "
            "`task.messages`, and a task has no state in which another could be kept. Leave "
            "`session_service` out; what the session's state is at first is `state=`."
        )
    root = cast("LlmAgent", app.root_agent)
    plugins = [x for x in app.plugins if isinstance(x, RestatePlugin)]
    work = _Run(task, plugins[0] if plugins else RestatePlugin(), approve)
    others = [x for x in app.plugins if x not in plugins]
    runner = Runner(
        app=app.model_copy(update={"root_agent": work.copied(root), "plugins": others}),
        session_service=work.sessions,
        artifact_service=artifact_service,
        memory_service=memory_service,
        credential_service=credential_service,
    )
    app_name, user = runner.app_name, task.session
    session = await work.sessions.create_session(
        app_name=app_name, user_id=user, session_id=task.id, state=state
    )
    said = from_messages(task.messages, root)
    asked = said.pop().content if said[-1].author == "user" else None
    for event in said:
        event.invocation_id = task.id
        await work.sessions.append_event(session, event)
    events: list[Event] = []
    with _failing():
        running = runner.run_async(
            user_id=user,
            session_id=task.id,
            invocation_id=None if asked else task.id,
            new_message=asked,
            run_config=run_config,
        )
        async with aclosing(running) as stream:
            async for event in stream:
                # What a nested agent says is within the call of it.
                if not (event.partial or event.branch or event.isolation_scope):
                    work.put(to_messages(event))
                events.append(event)
    ended = await work.sessions.get_session(app_name=app_name, user_id=user, session_id=task.id)
    with failing(ValueError):
        return Result(events, ended or session, _output(events, root))


@contextmanager
def _failing() -> Generator[None, None, None]:
    """Let the turn end with what ADK says of the model's doing; of all else, Restate decides."""
    try:
        with failing(LlmCallsLimitExceededError):
            yield
    except ValueError as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
        with failing(*[ValueError] * where.startswith("google.adk.")):
            raise


class _Run(Feed):
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
            _tree(root, nested=nested), _tree(made), strict=True
        ):
            _Copy(self, each, own.canonical_model, nested=is_nested)
        return made


class _Copy:
    """An agent as it is in a run: what happens between its model and its tools."""

    def __init__(self, run: _Run, agent: LlmAgent, model: BaseLlm, *, nested: bool) -> None:
        self._run, self._agent, self._model, self._nested = run, agent, model, nested
        self._context: CallbackContext
        self._order = _Order()
        self._after_tool = agent.canonical_after_tool_callbacks
        agent.model = _with(model, generate_content_async=self.generate)
        agent.before_model_callback = [self.before_model, *agent.canonical_before_model_callbacks]
        agent.after_tool_callback = self.after_tool
        agent.on_tool_error_callback = [
            *agent.canonical_on_tool_error_callbacks,
            self.on_tool_error,
        ]

    async def before_model(
        self, callback_context: CallbackContext, llm_request: LlmRequest
    ) -> None:
        self._context = callback_context
        if self._nested:
            return
        for event in from_messages(await self._run.steering(), self._agent):
            await self._run.sessions.append_event(callback_context.session, event)
            llm_request.contents += [x.model_copy(deep=True) for x in [event.content] if x]

    async def generate(
        self, llm_request: LlmRequest, **_: Any
    ) -> AsyncGenerator[LlmResponse, None]:
        """Ask the model, by way of Restate's plugin, which makes a durable step of it.

        The plugin alone would do so in place of the model: no callback of the agent would be
        called, and `max_llm_calls` would count nothing.
        """
        self._order = _Order()
        tools = llm_request.tools_dict
        tools.update({name: self._ordered(tool, self._order) for name, tool in tools.items()})
        asked = self._model if self._nested else _with(self._model, generate_content_async=self.say)
        own = self._agent.model_copy(update={"model": asked})
        context, durable = self._context, self._run.durable
        await durable.before_agent_callback(agent=own, callback_context=context)
        response = await durable.before_model_callback(
            callback_context=context, llm_request=llm_request
        )
        if response is not None:
            yield response

    async def say(self, llm_request: LlmRequest, **_: Any) -> Responses:
        """Ask the model, within the step, to stream."""
        whole: list[LlmResponse] = []
        async with aclosing(self._model.generate_content_async(llm_request, stream=True)) as said:
            async for response in said:
                if not response.partial:
                    whole.append(response)
                    continue
                for part in (response.content and response.content.parts) or []:
                    self._run.partial(None if part.thought else part.text)
        if whole:  # some models give their thoughts, their words and their calls one by one
            parts = [x for each in whole if each.content for x in each.content.parts or []]
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


def _app(framework_agent: Any) -> App:
    """The app of an agent, if it can be run."""
    app = framework_agent
    if isinstance(framework_agent, LlmAgent):
        app = App(name=framework_agent.name, root_agent=framework_agent)
    if not isinstance(app, App):
        raise WrongUse(
            f"This is a {type(app).__name__}. Give the `LlmAgent` or the `App` that is to be run; "
            "a session is made for each run of it, of the task's conversation."
        )
    if app.events_compaction_config is not None:
        raise WrongUse(
            f"The app {app.name!r} has an `events_compaction_config`. What it makes would be lost "
            "with the run's session. Leave it out; `conversation` of an agent sums up."
        )
    for _ in _tree(app.root_agent):
        pass
    return app


def _tree(agent: Any, *, nested: bool = False) -> Iterator[tuple[LlmAgent, bool]]:
    """An agent and those below it; each, and whether it is a tool of another."""
    if not isinstance(agent, LlmAgent):
        raise WrongUse(
            f"{agent.name!r} is a {type(agent).__name__}, and Restate's integration runs an "
            "`LlmAgent` alone. Let one lead the others, or run them one after the other."
        )
    yield agent, nested
    for each in agent.sub_agents:
        yield from _tree(each, nested=nested or getattr(each, "mode", None) in NESTED)


def _output(events: Sequence[Event], root: LlmAgent) -> Any:
    last = events[-1] if events else Event(author=root.name)
    parts = (last.content and last.content.parts) or []
    text = "".join(x.text for x in parts if x.text and not x.thought)
    schema = getattr(root.find_agent(last.author), "output_schema", None)
    if schema is None:
        return text
    if not text:
        return None
    is_json = isinstance(schema, (dict, types.Schema))
    return json.loads(text) if is_json else TypeAdapter(schema).validate_json(text)


class _Quiet(logging.Filter):
    """Leaves out that a turn was interrupted: nobody has to look into that."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], Interrupted))


for _module in LOGGERS:
    logging.getLogger(f"google_adk.google.adk.{_module}").addFilter(_Quiet())
