"""One run of a graph of LangGraph for a task: what is said and done in it is put out as it is.

A graph may have others in it. What those say that are nodes is said in the conversation; what a
tool or a node calls by itself puts out nothing.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from contextvars import Context, ContextVar
from typing import Any, Final, cast

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import RunnableConfig, merge_configs
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_config
from langgraph.constants import TAG_NOSTREAM
from langgraph.errors import GraphInterrupt
from langgraph.pregel import Pregel  # pyright: ignore[reportMissingTypeStubs]
from langgraph.types import Command, Interrupt
from langsmith import set_runtime_overrides

from interruptible import Message, Task
from interruptible.ext._adapter import Approve, Feed, WrongUse
from interruptible.ext._langchain_model import is_shared_graph, with_models
from interruptible.ext._langchain_said import messages_in, said_in
from interruptible.formats.langchain import from_messages, to_messages

INTERRUPT: Final = "__interrupt__"
"""Where a graph's result has what it waits for."""

_KEY: Final = "interruptible"
"""Where the configuration of a graph has the run that it belongs to."""

_current: Final[ContextVar["GraphRun | None"]] = ContextVar("interruptible_graph", default=None)


async def _in_place(default: Any, ctx: Context, function: Any, *args: Any, **options: Any) -> Any:
    """Trace without a thread in a run: who waits for one goes on in another order when replayed."""
    if _current.get() is None:
        return await default(ctx, function, *args, **options)
    return ctx.run(function, *args, **options)


set_runtime_overrides(aio_to_thread=_in_place)


class GraphRun:
    """One run of a graph for a task."""

    def __init__(
        self, graph: Pregel[Any, Any, Any, Any], task: Task, approve: Approve | None
    ) -> None:
        # The conversation is in the task: what a graph remembers is for its interrupts in this run.
        memory = InMemorySaver() if approve else None
        self.graph, self.feed = with_models(graph, self.ask_model, checkpointer=memory), Feed(task)
        self._approve = approve
        self.result: dict[str, Any] = {}
        """The state that the graph ended in."""
        self.waiting: list[Interrupt] = []
        """What the graph waits for."""
        self.asked_by: dict[str, str] = {}
        """The tools that ask for something, by the interrupt."""
        self._seen: dict[int, BaseMessage] = {}
        self._begun: set[str] = set()

    async def go(
        self,
        given: Mapping[str, Any],
        config: RunnableConfig | None,
        *,
        output_keys: str | Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        """Go on until the graph ends, or waits for something that nobody approves of."""
        if _current.get() is not None:
            raise WrongUse(
                "`run` was called in what another `run` calls. An agent that is a tool is called "
                "as ever: `await agent.ainvoke(...)`."
            )
        thread: RunnableConfig = {"configurable": {"thread_id": self.feed.task.id}}
        mine: RunnableConfig = {"callbacks": [_Watching(self)], "configurable": {_KEY: self}}
        whole = merge_configs(thread, config, mine)
        messages = from_messages(self.feed.task.messages)
        self.see(messages)
        if self._approve:
            options = {"durability": "exit", **options}
        token = _current.set(self)
        try:
            state = await self._stream({**given, "messages": messages}, whole, options)
            while self._approve and self.waiting:
                answers = await self._answers(self._approve)
                state = await self._stream(Command(resume=answers), whole, options)
        finally:
            _current.reset(token)
        wanted = output_keys or self.graph.output_channels
        keys = [wanted] if isinstance(wanted, str) else wanted
        self.result = {key: state[key] for key in keys if key in state}

    async def _stream(
        self, given: Any, config: RunnableConfig, options: Mapping[str, Any]
    ) -> Mapping[str, Any]:
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
                        self.put(said_in(update))
        return state

    def asks(self, interrupt: Interrupt) -> list[tuple[str, dict[str, Any]]]:
        """What is asked for: names and arguments of tools."""
        value: Any = interrupt.value
        if asked := _asked(value):
            return asked
        name = self.asked_by.get(interrupt.id, "interrupt")
        return [(name, value if isinstance(value, dict) else {"value": value})]

    async def _answers(self, approve: Approve) -> dict[str, Any]:
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

    async def ask_model(
        self, bound: Runnable[Any, Any], given: Any, config: Any, options: Any
    ) -> Any:
        """Have an agent's node ask its model; once more, when there is what it is to read at once.

        Args:
            bound: The node.
            given: The agent's state.
            config: What the node is run with.
            options: Likewise.

        Returns:
            What the node makes of the state; before it, what was said meanwhile.
        """
        said: list[BaseMessage] = []

        async def ask(told: Sequence[Message]) -> Any:
            new = from_messages(told)
            self.see(new)
            said.extend(new)
            state = {**given, "messages": [*given["messages"], *said]} if said else given
            return await bound.ainvoke(state, config, **options)

        made: Any = await self.feed.ask(ask)
        if not said:
            return made
        updates = made if isinstance(made, list) else [made]
        return [Command(update={"messages": said}), *updates]

    def is_shared(self, path: Sequence[str]) -> bool:
        """Whether what a graph within this one says is said in the conversation.

        It is if each on the way to it stands in its parent as a node, and has `messages`: theirs
        are the same. What a tool or a node calls by itself gives that one its answer, and no more.
        """
        graph: Any = self.graph
        for place in path:
            node = graph.nodes.get(place.partition(":")[0])
            graph = getattr(node, "bound", None)
            if not is_shared_graph(graph):
                return False
        return True

    def see(self, messages: Sequence[BaseMessage]) -> None:
        """Know messages: they are in the conversation already."""
        self._seen |= {id(x): x for x in messages}

    def put(self, messages: Iterable[BaseMessage]) -> None:
        """Put out messages, but for those that are in the conversation already."""
        ids = {x.id for x in self._seen.values() if x.id}  # a state may give them late
        for message in messages:
            if id(message) not in self._seen and message.id not in ids:
                self.see([message])
                ids |= {message.id} if message.id else set()
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

    def __init__(self, running: GraphRun) -> None:
        self._run = running
        self._tools: dict[Any, str] = {}
        """The tools at work on calls of this run, by what LangChain calls their runs."""

    async def on_llm_new_token(
        self, token: Any, *, chunk: Any = None, tags: list[str] | None = None, **_: Any
    ) -> None:
        if TAG_NOSTREAM in (tags or ()) or not self._is_here():
            return
        message = getattr(chunk, "message", chunk)
        thought = [x.get("reasoning") for x in getattr(message, "content_blocks", ())]
        with suppress(RuntimeError):  # a model that is asked outside of a step
            self._run.feed.reasoning("".join(x for x in thought if isinstance(x, str)))
            self._run.feed.partial(str(token if message is None else message.text))

    async def on_tool_start(
        self, serialized: dict[str, Any], input_str: str, *, run_id: Any, **more: Any
    ) -> None:
        del input_str
        if (call := more.get("tool_call_id")) and self._is_here():
            self._tools[run_id] = serialized["name"]
            self._run.begin(call)

    async def on_tool_end(self, output: Any, *, run_id: Any, **_: Any) -> None:
        if self._tools.pop(run_id, None):
            self._run.put(messages_in(output))

    async def on_tool_error(self, error: BaseException, *, run_id: Any, **_: Any) -> None:
        if (name := self._tools.pop(run_id, None)) and isinstance(error, GraphInterrupt):
            self._run.asked_by |= {x.id: name for x in error.args[0]}

    def _is_here(self) -> bool:
        return _current.get() is self._run and here() is self._run


def current_run() -> GraphRun:
    running = _current.get()
    if running is None:
        raise WrongUse(
            "An agent with `InterruptibleMiddleware` was not run by `interruptible.ext.langchain`. "
            "Call `await run(agent, task)` instead of `agent.ainvoke`."
        )
    return running


def here() -> GraphRun | None:
    """The run in whose conversation this code works; none in what a tool or a node calls.

    Raises:
        TypeError: There is no run at all.
    """
    running = current_run()
    own, path = own_graph()
    return running if own is running and running.is_shared(path) else None


def own_graph() -> tuple[GraphRun | None, tuple[str, ...]]:
    """The run that the graph of this node belongs to, and the way to it, from node to node."""
    configurable: Any = get_config().get("configurable") or {}
    *path, _ = str(configurable.get("checkpoint_ns") or "").split("|")
    return configurable.get(_KEY), tuple(path)


def is_graph(value: Any) -> bool:
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
