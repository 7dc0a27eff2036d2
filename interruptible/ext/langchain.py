"""Agents of LangChain and graphs of LangGraph, on Restate's integration.

What the model says and what each tool returns is put out as it is made; what is steered at the turn
is told to the model before its next request.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, cast

from restate import Context, TerminalError
from restate.extensions import current_context

from interruptible import Agent, Task
from interruptible.ext._extra import extra

with extra("langchain"):
    if sys.version_info < (3, 11):
        raise ImportError("LangGraph hands nothing on to asyncio tasks before Python 3.11")
    from langchain import agents
    from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
    from langchain.agents.middleware.model_call_limit import ModelCallLimitExceededError
    from langchain.agents.middleware.tool_call_limit import ToolCallLimitExceededError
    from langchain.agents.structured_output import StructuredOutputError
    from langchain_core.callbacks import AsyncCallbackHandler
    from langchain_core.messages import (
        AIMessage,
        BaseMessage,
        RemoveMessage,
        ToolMessage,
        convert_to_messages,
    )
    from langchain_core.runnables.config import RunnableConfig, merge_configs
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.config import get_config
    from langgraph.constants import TAG_NOSTREAM
    from langgraph.errors import (
        GraphBubbleUp,
        GraphInterrupt,
        GraphRecursionError,
        InvalidUpdateError,
    )
    from langgraph.prebuilt.tool_node import ToolCallRequest
    from langgraph.pregel import Pregel  # pyright: ignore[reportMissingTypeStubs]
    from langgraph.types import Command, Interrupt
    from restate.ext.turnstile import Turnstile
    from restate.server_context import get_extension_data, set_extension_data

    from interruptible.ext._adapter import (
        Approve,
        Feed,
        WrongUse,
        as_agent,
        failing,
        not_approved,
    )
    from interruptible.formats.langchain import from_messages, to_messages

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from interruptible._options import Options

__all__ = ["InterruptibleMiddleware", "agent", "run"]

INTERRUPT: Final = "__interrupt__"
"""Where a graph's result has what it waits for."""
_KEY: Final = "interruptible"
"""Where the configuration of a graph has the run that it belongs to."""
_STATE: Final = "langchain-state"
_PLACE: Final = "middleware=[RestateMiddleware(), InterruptibleMiddleware()]"
_run: Final[ContextVar["_Run | None"]] = ContextVar("interruptible_langchain", default=None)


def agent(
    framework_agent: Pregel[Any, Any, Any, Any],
    *,
    name: str | None = None,
    approve: Approve | None = None,
    **options: "Unpack[Options]",
) -> Agent:
    """Make an agent of LangChain, or a graph of LangGraph, one that can be interrupted.

    Args:
        framework_agent: What `create_agent` gives, or a compiled graph with `messages`.
        name: The name of the object in Restate; by default the agent's own, in camel case.
        approve: What a graph is told that asks for approval; see `run`.
        options: Those of `interruptible.Agent`.

    Raises:
        TypeError: The agent cannot be run so (see `run`) or has no name, or an option has the
            wrong type.
        ValueError: An option makes no sense.
    """

    async def work(task: Task) -> None:
        running = await _ran(framework_agent, task, approve, None, None, {})
        for asked in running.waiting:
            raise not_approved(running.asks(asked)[0][0])

    _check(framework_agent)
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
) -> "_Run":
    _check(framework_agent)
    for option in {"stream_mode", "subgraphs", "version"} & options.keys():
        raise WrongUse(f"`run` streams the graph itself. It takes no `{option}`: leave it out.")
    if _run.get() is not None:
        raise WrongUse(
            "`run` was called in what another `run` calls. An agent that is a tool is called as "
            "ever: `await agent.ainvoke(...)`."
        )
    # The conversation is in the task: what a graph remembers is for its interrupts in this run.
    memory = InMemorySaver() if approve else None
    if memory:
        options = {"durability": "exit", **options}
    running = _Run(framework_agent.copy({"checkpointer": memory}), task)
    of_run: RunnableConfig = {"callbacks": [_Watching(running)], "configurable": {_KEY: running}}
    thread: RunnableConfig = {"configurable": {"thread_id": task.id}}
    whole = merge_configs(thread, config, of_run)
    messages = from_messages(task.messages)
    running.see(messages)
    token = _run.set(running)
    try:
        with failing(*_ALIKE):
            await running.go({**(input or {}), "messages": messages}, whole, **options)
            while approve is not None and running.waiting:
                answers = await running.answers(approve)
                await running.go(Command(resume=answers), whole, **options)
    finally:
        _run.reset(token)
    if not running.waiting and (output := running.result.get("structured_response")) is not None:
        running.feed.put_output(output)
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
        if (running := _here()) is None:
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
            _running().feed.task.partial  # noqa: B018
            raise WrongUse(
                "The request to the model is no durable step where `InterruptibleMiddleware` "
                f"stands. It stands after Restate's: `{_PLACE}`."
            )
        try:
            return await handler(request)
        except StructuredOutputError as error:  # Restate would repeat the step without end
            raise TerminalError(f"{type(error).__name__}: {error}") from error

    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        """Run a tool within the block that says that its call is worked on."""
        running, call = _here(), request.tool_call["id"] or ""
        if running is None:
            return await handler(request)
        with running.feed.working_on(call):
            return await handler(request)


class _Run:
    """One run of a graph for a task."""

    def __init__(self, graph: Pregel[Any, Any, Any, Any], task: Task) -> None:
        self.graph, self.feed = graph, Feed(task)
        self.result: dict[str, Any] = {}
        self.waiting: list[Interrupt] = []
        """What the graph waits for."""
        self.asked_by: dict[str, str] = {}
        """The tools that ask for something, by the interrupt."""
        self._seen: dict[int, BaseMessage] = {}
        self._begun: set[str] = set()
        ctx = cast("Context", current_context())  # there is one where there is a task
        if not isinstance(get_extension_data(ctx, _STATE), _Turns):
            set_extension_data(ctx, _STATE, _Turns())

    async def go(
        self,
        given: Any,
        config: RunnableConfig,
        *,
        output_keys: str | Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        """Go on until the graph ends, or waits for something."""
        self.waiting = []
        state: dict[str, Any] = {}
        # With `messages`, models stream that can.
        modes: Any = ["messages", "updates", "values"]
        graph: Any = self.graph
        stream = graph.astream(given, config, stream_mode=modes, subgraphs=True, **options)
        async with aclosing(stream):
            async for path, mode, chunk in stream:
                if mode == "values" and not path:
                    state = chunk
                elif mode == "updates" and self.is_shared(path):
                    self.waiting += chunk.get(INTERRUPT) or () if not path else ()
                    for update in chunk.values():
                        self.put(_said_in(update))
        wanted = output_keys or self.graph.output_channels
        keys = [wanted] if isinstance(wanted, str) else wanted
        self.result = {key: state[key] for key in keys if key in state}

    def asks(self, interrupt: Interrupt) -> list[tuple[str, dict[str, Any]]]:
        """What is asked for: names and arguments of tools."""
        value: Any = interrupt.value
        if asked := _asked(value):
            return asked
        name = self.asked_by.get(interrupt.id, "interrupt")
        return [(name, value if isinstance(value, dict) else {"value": value})]

    async def answers(self, approve: Approve) -> dict[str, Any]:
        """What the graph goes on with."""

        async def answer(interrupt: Interrupt) -> Any:
            said = await asyncio.gather(*(approve(*x) for x in self.asks(interrupt)))
            if not _asked(interrupt.value):
                return said[0]
            decisions = [*map(_decision, said)]
            return (
                {"decisions": decisions} if "action_requests" in interrupt.value else decisions[0]
            )

        said = await asyncio.gather(*map(answer, self.waiting))
        return {x.id: y for x, y in zip(self.waiting, said, strict=True)}

    def is_shared(self, path: Sequence[str]) -> bool:
        """Whether what a graph within this one says is said in the conversation.

        It is if each on the way to it stands in its parent as a node, and has `messages`: theirs
        are the same. What a tool or a node calls by itself gives that one its answer, and no more.
        """
        graph: Any = self.graph
        for place in path:
            node = graph.nodes.get(place.partition(":")[0])
            graph = getattr(node, "bound", None)
            if not _is_graph(graph) or "messages" not in graph.channels:
                return False
        return True

    def see(self, messages: Sequence[BaseMessage]) -> None:
        """Know messages: they are in the conversation already."""
        self._seen |= {id(x): x for x in messages}

    def put(self, messages: Iterator[BaseMessage] | Sequence[BaseMessage]) -> None:
        """Put out messages, but for those that are in the conversation already."""
        for message in messages:
            ids = {x.id for x in self._seen.values() if x.id}  # a state may give them late
            if id(message) not in self._seen and message.id not in ids:
                self.see([message])
                for said in to_messages([message]):
                    # A node of a graph of one's own may give it what was steered.
                    is_steered = said["role"] == "user" and said in self.feed.task.messages
                    self.feed.put([] if is_steered else [said])
        for call in self._begun & self.feed.calls:
            self.begin(call)

    def begin(self, call: str) -> None:
        """Let a call have begun, as soon as it is put out."""
        (self._begun.discard if call in self.feed.calls else self._begun.add)(call)
        with self.feed.working_on(call):
            pass


class _Watching(AsyncCallbackHandler):
    """What LangChain tells of models and tools, whatever graph they are in."""

    run_inline = True
    raise_error = True

    def __init__(self, running: _Run) -> None:
        self._run = running
        self._tools: dict[Any, str] = {}
        """The tools at work on calls of this run, by what LangChain calls their runs."""

    async def on_llm_new_token(
        self, token: Any, *, chunk: Any = None, tags: list[str] | None = None, **_: Any
    ) -> None:
        if TAG_NOSTREAM in (tags or ()) or not self._is_here():
            return
        text = getattr(chunk, "message", chunk).text if chunk is not None else token
        with suppress(RuntimeError):  # a model that is asked outside of a step
            self._run.feed.partial(str(text))

    async def on_tool_start(
        self, serialized: dict[str, Any], input_str: str, *, run_id: Any, **more: Any
    ) -> None:
        del input_str
        if (call := more.get("tool_call_id")) and self._is_here():
            self._tools[run_id] = serialized["name"]
            self._run.begin(call)

    async def on_tool_end(self, output: Any, *, run_id: Any, **_: Any) -> None:
        if self._tools.pop(run_id, None):
            self._run.put(_messages_in(output))

    async def on_tool_error(self, error: BaseException, *, run_id: Any, **_: Any) -> None:
        if (name := self._tools.pop(run_id, None)) and isinstance(error, GraphInterrupt):
            self._run.asked_by |= {x.id: name for x in error.args[0]}

    def _is_here(self) -> bool:
        return _run.get() is self._run and _here() is self._run


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
        return self._of[_graph()]

    @turnstile.setter
    def turnstile(self, turns: Turnstile) -> None:
        self._of[_graph()] = _PatientTurnstile([*turns.events])


class _PatientTurnstile(Turnstile):
    """When a tool has failed, the others wait on: LangGraph ends them."""

    def cancel_all_after(self, id: str) -> None:  # noqa: A002 - as there
        if isinstance(sys.exc_info()[1], GraphBubbleUp):  # it asks for something
            self.allow_next_after(id)


def _running() -> _Run:
    running = _run.get()
    if running is None:
        raise WrongUse(
            "An agent with `InterruptibleMiddleware` was not run by `interruptible.ext.langchain`. "
            "Call `await run(agent, task)` instead of `agent.ainvoke`."
        )
    return running


def _here() -> _Run | None:
    """The run in whose conversation this code works; none in what a tool or a node calls.

    Raises:
        TypeError: There is no run at all.
    """
    running = _running()
    own, path = _graph()
    return running if own is running and running.is_shared(path) else None


def _graph() -> tuple["_Run | None", tuple[str, ...]]:
    """The run that the graph of this node belongs to, and the way to it, from node to node."""
    configurable: Any = get_config().get("configurable") or {}
    *path, _ = str(configurable.get("checkpoint_ns") or "").split("|")
    return configurable.get(_KEY), tuple(path)


def _check(framework_agent: Any) -> None:
    graph: Any = framework_agent
    if not _is_graph(graph):
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
    # Their functions are the only trace of what made a graph.
    functions = [getattr(node, "afunc", None) for node in nodes]
    makers = {getattr(function, "__module__", None) for function in functions}
    owners = (getattr(function, "__self__", None) for function in functions)
    has = any(isinstance(owner, InterruptibleMiddleware) for owner in owners)
    if not has and cast("Any", agents).create_agent.__module__ in makers:
        raise WrongUse(
            f"The agent {graph.name!r} has no `InterruptibleMiddleware`, and what its tools do "
            f"would not be known. Make it with it: `create_agent(..., {_PLACE})`."
        )
    for node in nodes:
        if _is_graph(node):
            _check_middleware(node)


def _is_graph(value: Any) -> bool:
    return isinstance(value, Pregel)


def _asked(value: Any) -> list[tuple[str, dict[str, Any]]]:
    """The names and arguments of the tools that `HumanInTheLoopMiddleware` asks about."""
    if not isinstance(value, dict):
        return []
    asked = cast("dict[str, Any]", value)
    requests = asked.get("action_requests")
    if asked.get("type") == "tool_approval":
        requests = [asked]
    return [(x["name"], x["args"]) for x in requests or ()]


def _decision(said: bool | str) -> dict[str, Any]:  # noqa: FBT001 - what `approve` gave
    if said is True:
        return {"type": "approve"}
    return {"type": "reject", "message": said} if said else {"type": "reject"}


def _said_in(update: Any) -> Iterator[BaseMessage]:
    """What a node has said.

    What one says that removes messages as a person or the system is no new one: it rewrites the
    history that the model is told.
    """
    messages = [*_messages_in(update)]
    rewrites = any(isinstance(x, RemoveMessage) for x in messages)
    return (x for x in messages if not rewrites or isinstance(x, (AIMessage, ToolMessage)))


def _messages_in(value: Any) -> Iterator[BaseMessage]:
    """The messages in what a node or a tool returns, or in a state."""
    if isinstance(value, BaseMessage):
        yield value
    elif isinstance(value, Command):
        yield from _messages_in(cast("Any", value).update)
    elif isinstance(value, (list, tuple)):
        for part in cast("list[Any]", value):
            yield from _messages_in(part)
    else:
        own = cast("Any", value) if isinstance(value, dict) else getattr(value, "__dict__", {})
        given: Any = own.get("messages") or []
        yield from convert_to_messages(cast("Any", given if isinstance(given, list) else [given]))
