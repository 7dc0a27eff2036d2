"""Agents of LangChain and graphs of LangGraph, on Restate's integration.

What the model says and what each tool returns is put out as it is made; what is steered at the turn
is told to the model before its next request, or cuts that off.
"""

import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from restate import TerminalError
from typing_extensions import Unpack

from interruptible import Agent, Task
from interruptible.ext._extra import extra

with extra("langchain"):
    if sys.version_info < (3, 11):
        raise ImportError("LangGraph hands nothing on to asyncio tasks before Python 3.11")
    from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
    from langchain.agents.middleware.model_call_limit import ModelCallLimitExceededError
    from langchain.agents.middleware.tool_call_limit import ToolCallLimitExceededError
    from langchain.agents.structured_output import StructuredOutputError
    from langchain_core.messages import ToolMessage
    from langchain_core.runnables.config import RunnableConfig
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.errors import GraphBubbleUp, GraphRecursionError, InvalidUpdateError
    from langgraph.prebuilt.tool_node import ToolCallRequest
    from langgraph.pregel import Pregel  # pyright: ignore[reportMissingTypeStubs]
    from langgraph.types import Command
    from restate.ext.langchain import restate_context
    from restate.ext.turnstile import Turnstile

    from interruptible.ext._adapter import (
        Approve,
        Options,
        WrongUse,
        as_agent,
        asking,
        by_the_user,
        check_approve,
        mended_within,
    )
    from interruptible.ext._langchain import (
        INTERRUPT,
        GraphRun,
        current_run,
        here,
        is_graph,
        own_graph,
    )
    from interruptible.ext._langchain_model import is_made_by_create_agent
    from interruptible.formats.langchain import from_messages

__all__ = ["InterruptibleMiddleware", "agent", "run"]

_PLACE: Final = "middleware=[RestateMiddleware(), InterruptibleMiddleware()]"
_STATE: Final = "langchain-state"


def agent(
    framework_agent: Pregel[Any, Any, Any, Any],
    *,
    name: str | None = None,
    approve: Approve | None = None,
    **options: Unpack[Options],
) -> Agent:
    """Make an agent of LangChain, or a graph of LangGraph, one that can be interrupted.

    Args:
        framework_agent: What `create_agent` gives, or a compiled graph with `messages`.
        name: The name of the object in Restate; by default the agent's own, in camel case.
        approve: What a graph is told that asks for approval; see `run`. By default the user is
            asked, by `task.approval`.
        options: Those of `interruptible.Agent`.

    Raises:
        TypeError: The agent cannot be run so (see `run`) or has no name, or an option has the
            wrong type.
        ValueError: An option makes no sense.
    """

    async def work(task: Task) -> None:
        await _ran(framework_agent, task, approve or by_the_user, None, None, {})

    _check(framework_agent)
    check_approve(approve)
    return as_agent(work, framework_agent, name, options)


async def run(
    framework_agent: Pregel[Any, Any, Any, Any],
    task: Task,
    *,
    approve: Approve | None = None,
    input: Mapping[str, Any] | None = None,  # noqa: A002 - as LangGraph calls it
    config: RunnableConfig | None = None,
    **framework_options: Any,
) -> dict[str, Any]:
    """Run an agent of LangChain, or a graph of LangGraph, for a turn.

    A message that is to be read at once cuts off an agent's request to the model, which is made
    anew with what had come of the answer, and the message. A turn that goes on with one that
    stopped after words of the model asks it with these at the end; for a provider that refuses
    that, the agent needs a `resume_note`.

    Args:
        framework_agent: What `create_agent` gives, with `InterruptibleMiddleware()` after
            `RestateMiddleware()`; or a compiled graph of your own whose state has `messages`.
        task: The task. What the model says and what the tools return is put out there.
        approve: What a graph is told that is interrupted to ask for something: an `async` function
            of the tool's name and arguments, which may wait durably; True, False, or the reason why
            not. An `interrupt()` of your own is given what it returns, and its value is the
            arguments. Without it, the result has `__interrupt__`.
        input: What else the graph's state begins with.
        config: The graph's configuration.
        framework_options: All else that `ainvoke` takes, such as `context`.

    Returns:
        The state that the graph ended in, as `ainvoke` returns it.

    Raises:
        GraphRecursionError: It took too many steps. The turn fails.
        TypeError: It cannot be run so: the middleware is missing, or not in its place; there is a
            checkpointer; there are no `messages`. The turn fails.
        Interrupted: The turn was cancelled.
    """
    running = await _ran(framework_agent, task, approve, input, config, framework_options)
    waiting = {INTERRUPT: running.waiting} if running.waiting else {}
    return {**running.result, **waiting}


async def _ran(
    framework_agent: Pregel[Any, Any, Any, Any],
    task: Task,
    approve: Approve | None,
    input: Mapping[str, Any] | None,  # noqa: A002 - as in `run`
    config: RunnableConfig | None,
    options: Mapping[str, Any],
) -> GraphRun:
    _check(framework_agent)
    check_approve(approve)
    for option in {"stream_mode", "subgraphs", "version"} & options.keys():
        raise WrongUse(f"`run` streams the graph itself. It takes no `{option}`: leave it out.")
    ctx: Any = restate_context()
    if not isinstance(ctx.get_extension_data(_STATE), _Turns):
        ctx.set_extension_data(_STATE, _Turns())
    running = GraphRun(framework_agent, task, approve)
    with running.feed.running(*_ALIKE):
        await running.go(input or {}, config, **options)
    if not running.waiting:
        running.feed.end(running.result.get("structured_response"))
    return running


_ALIKE: Final = (
    GraphRecursionError,
    InvalidUpdateError,
    ModelCallLimitExceededError,
    ToolCallLimitExceededError,
)
"""The errors that each attempt would come to."""


class InterruptibleMiddleware(AgentMiddleware[Any, Any]):
    """Puts out what tools return as they return it, and tells the model what was steered at it.

    It stands after `RestateMiddleware()`: its part of a request to the model is within the durable
    step, and a tool that waits for its turn has not begun. In an agent that is a tool of another
    one it does nothing.
    """

    async def abefore_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """Tell the model what was steered at the turn since its last request."""
        del state, runtime
        if (running := here()) is None:
            return None
        said = from_messages(await running.feed.steering())
        running.see(said)
        return {"messages": said} if said else None

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Ask the model, if that is within a durable step.

        Raises:
            TypeError: It is not.
            TerminalError: The answer is not of the form that was asked for.
        """
        with suppress(RuntimeError):  # that is what it raises within a step
            current_run().feed.task.partial  # noqa: B018
            raise WrongUse(
                "The request to the model is no durable step where `InterruptibleMiddleware` "
                f"stands. It stands after Restate's: `{_PLACE}`."
            )
        try:
            with asking():
                return _stored(await handler(request))
        except StructuredOutputError as error:  # Restate would repeat the step without end
            raise TerminalError(f"{type(error).__name__}: {error}") from error

    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        """Run a tool within the block that says that its call is worked on."""
        running, call = here(), request.tool_call["id"] or ""
        if running is None:
            return await handler(request)
        with running.feed.working_on(call):
            return await handler(request)


def _stored(response: ModelResponse[Any]) -> ModelResponse[Any]:
    """An answer as a step can store it; otherwise the model would be asked again without end."""
    for message in response.result:
        told = vars(message)
        for name in ("content", "tool_calls", "invalid_tool_calls", "additional_kwargs"):
            if name in told:
                setattr(message, name, mended_within(told[name]))
    return response


class _Turns:
    """What stands where `RestateMiddleware` keeps whose turn it is among the tools of an answer.

    Its own is one for a whole invocation, whichever agent asks, and ends the attempt when a tool is
    interrupted to ask for something. There is no public name for it: this is what stands as
    `_STATE` in the extension data of the context, with the one attribute that is used of it.
    """

    def __init__(self) -> None:
        self._of: dict[Any, Turnstile] = {}

    @property
    def turnstile(self) -> Turnstile:
        return self._of[own_graph()]

    @turnstile.setter
    def turnstile(self, turns: Turnstile) -> None:
        self._of[own_graph()] = _PatientTurnstile([*turns.events])


class _PatientTurnstile(Turnstile):
    """When a tool has failed, the others wait on: LangGraph ends them."""

    def cancel_all_after(self, id: str) -> None:  # noqa: A002 - as there
        if isinstance(sys.exc_info()[1], GraphBubbleUp):  # it asks for something
            self.allow_next_after(id)


def _check(framework_agent: Any) -> None:
    graph: Any = framework_agent
    if not is_graph(graph):
        raise WrongUse(
            f"A {type(graph).__name__} is no compiled graph. Give what `compile()` gives."
        )
    if "messages" not in graph.channels:
        raise WrongUse("The graph's state has no `messages`. Add them: `MessagesState`.")
    if not isinstance(graph.checkpointer, InMemorySaver | bool | None):
        raise WrongUse(
            "The graph has a checkpointer of its own, and would have the conversation twice. "
            "Compile it without: the session keeps it."
        )
    _check_middleware(graph)


def _check_middleware(graph: Any) -> None:
    """Check that an agent, and each one that is a node of a graph, has the middleware."""
    nodes = [node.bound for node in graph.nodes.values()]
    owners = (getattr(getattr(node, "afunc", None), "__self__", None) for node in nodes)
    has = any(isinstance(owner, InterruptibleMiddleware) for owner in owners)
    if not has and any(map(is_made_by_create_agent, nodes)):
        raise WrongUse(
            f"The agent {graph.name!r} has no `InterruptibleMiddleware`, and what its tools do "
            f"would not be known. Make it with it: `create_agent(..., {_PLACE})`."
        )
    for node in nodes:
        if is_graph(node):
            _check_middleware(node)
