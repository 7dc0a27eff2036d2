"""Agents of OpenAI's Agents SDK, run by the SDK's own `Runner`.

What the model says and what each tool returns is put out as it is made; what is steered at the turn
is told to the model before its next request. Restate's `DurableRunner` is not used: it knows models
by their names alone, and lets them say nothing before they are done.
"""

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar, cast

from restate import RunOptions
from typing_extensions import Unpack

from interruptible import Agent, Interrupted, Message, Task
from interruptible.ext._extra import extra

with extra("openai-agents"):
    import agents as sdk
    from agents.items import HandoffOutputItem, ModelResponse, ToolCallOutputItem
    from agents.tool_context import ToolContext

    from interruptible.ext._adapter import (
        DENIED,
        Approve,
        Feed,
        Options,
        WrongUse,
        as_agent,
        by_the_user,
        check_approve,
        failing,
    )
    from interruptible.ext._openai_agents import Durable
    from interruptible.formats.responses import from_messages, to_messages

__all__ = ["agent", "run"]

Context = TypeVar("Context")
Invoke = Callable[[ToolContext[Any], str], Awaitable[Any]]

_ELSEWHERE: Final = (
    "session",
    "use_restate_session",
    "conversation_id",
    "previous_response_id",
    "auto_previous_response_id",
)
"""The options that keep the conversation elsewhere."""


def agent(
    framework_agent: sdk.Agent[Any],
    *,
    name: str | None = None,
    approve: Approve | None = None,
    **options: Unpack[Options],
) -> Agent:
    """Make an agent of OpenAI's Agents SDK one that can be interrupted.

    Args:
        framework_agent: The agent with which each turn starts; one that needs a context is run by a
            `run` of your own.
        name: The name of the object in Restate; by default the agent's own, in camel case.
        approve: Whether a tool may run that needs approval; see `run`. By default the user is
            asked, by `task.approval`.
        options: Those of `interruptible.Agent`.

    Raises:
        TypeError: The agent has no name, or an option has the wrong type.
        ValueError: An option makes no sense.
    """

    async def work(task: Task) -> None:
        await run(framework_agent, task, approve=approve or by_the_user)

    check_approve(approve)
    return as_agent(work, framework_agent, name, options)


async def run(
    framework_agent: sdk.Agent[Context],
    task: Task,
    *,
    approve: Approve | None = None,
    input: str | list[sdk.TResponseInputItem] | None = None,  # noqa: A002
    hooks: sdk.RunHooks[Context] | None = None,
    run_config: sdk.RunConfig | dict[str, Any] | None = None,
    run_options: RunOptions[Any] | None = None,
    **framework_options: Any,
) -> sdk.RunResult:
    """Run an agent of OpenAI's Agents SDK for a turn.

    A message that is to be read at once cuts off the request to the model, which is made anew with
    what had come of the answer, and the message. A turn that goes on with one that stopped after
    words of the model asks it with these at the end, as OpenAI's API takes it; for a provider that
    does not, the agent needs a `resume_note`.

    Args:
        framework_agent: The agent.
        task: The task. What the model says and what the tools return is put out there.
        approve: Whether a tool may run that needs approval: an `async` function of the tool's name
            and arguments, which may wait durably; True, False, or the reason why not. Without it,
            `result.interruptions` has the requests.
        input: What the model is told instead of the task's conversation.
        hooks: As for `Runner.run`.
        run_config: As for `Runner.run`.
        run_options: How Restate runs the requests to the models.
        framework_options: All else that `Runner.run` takes, such as `context` and `max_turns`.

    Returns:
        The result, as `Runner.run` returns it; its agents are copies of those that were given.

    Raises:
        AgentsException: A limit was reached, a guardrail tripped, or the model did not do as it was
            told. The turn fails.
        TypeError: There is no such option, or it keeps the conversation elsewhere. The turn fails.
        Interrupted: The turn was cancelled.
    """
    check_approve(approve)
    for option in (x for x in _ELSEWHERE if framework_options.get(x)):
        raise WrongUse(
            f"`{option}` keeps the conversation elsewhere, which a task cannot replay. Leave it "
            "out: the model is told `task.messages`."
        )
    kept = _Kept(Feed(task), hooks)
    config = sdk.RunConfig(**run_config) if isinstance(run_config, dict) else run_config
    config = config or sdk.RunConfig()
    starting = kept.within_calls(framework_agent, Durable(config, run_options).config(), {})
    options: dict[str, Any] = {"run_config": Durable(config, run_options, kept).config()}
    options |= {"hooks": kept, **framework_options}
    given: Any = from_messages(task.messages) if input is None else input
    with failing(TypeError):
        inspect.signature(sdk.Runner.run).bind(starting, given, **options)
    with kept.feed.running():
        try:
            result = await sdk.Runner.run(starting, given, **options)
            answered: set[str] = set()
            while approve and result.interruptions:
                state, asked = result.to_state(), result.interruptions
                calls = {str(getattr(x.raw_item, "call_id", None)) for x in asked}
                if calls <= answered:  # it would go on for ever, and await nothing
                    raise WrongUse(
                        f"The SDK asks again for approval of {asked[0].name!r}. Update it."
                    )
                answered |= calls
                questions = ((x.name or "", json.loads(x.arguments or "{}")) for x in asked)
                answers = await asyncio.gather(*(approve(*question) for question in questions))
                for request, yes in zip(asked, answers, strict=True):
                    if yes is True:
                        state.approve(request)
                    else:
                        state.reject(request, rejection_message=yes or DENIED)
                result = await sdk.Runner.run(starting, state, **options)
        except sdk.AgentsException as error:
            kept.put_rest(error.run_data.new_items if error.run_data else ())
            if any(error.__cause__ is each for each in kept.raised):
                raise  # it is tried again, unless what the tool has raised is terminal
            with failing(sdk.AgentsException):
                raise
    kept.put_rest(result.new_items)
    if not result.interruptions:  # what the model has said last is the output as it is
        is_said = task.messages[-1]["role"] == "assistant"
        kept.feed.end(result.final_output, said=is_said)
    return result


class _Kept(sdk.RunHooks[Any]):
    """Puts out what is said and done in a run, and tells the model what was steered at it."""

    def __init__(self, feed: Feed, hooks: sdk.RunHooks[Any] | None) -> None:
        self.feed = feed
        self._hooks = hooks or sdk.RunHooks[Any]()
        for name in dir(sdk.RunHooks):
            if name.startswith("on_") and name not in vars(_Kept):
                setattr(self, name, getattr(self._hooks, name))
        self.raised: list[Exception] = []
        """What tools have raised."""
        self._is_cut_off = False
        self._invoke: list[Invoke] = []
        """What begins the calls that say so."""
        self._handoffs: list[str] = []
        """The calls of the last response that hand off."""
        self._used_again: set[str] = set()
        """The ids of calls that the model has used for another one: they name two results."""
        self._steered: list[tuple[Any, list[Any]]] = []
        """What was steered, and the item that it comes after."""

    def within_calls(
        self, agent_: sdk.Agent[Any], nested: sdk.RunConfig, done: dict[int, sdk.Agent[Any]]
    ) -> sdk.Agent[Any]:
        """A copy of an agent, and of those that it hands off to, whose tools say what they work on.

        Args:
            agent_: The agent.
            nested: The configuration of the runs that its tools begin.
            done: The copies that there are, by the `id` of what they were made of.
        """
        if id(agent_) not in done:
            copy = done[id(agent_)] = agent_.clone(tools=[*agent_.tools], handoffs=[])
            for place, tool in enumerate(agent_.tools):
                if isinstance(tool, sdk.FunctionTool):
                    copy.tools[place] = self._within_call(tool, nested)
            for handoff in agent_.handoffs:
                if isinstance(handoff, sdk.Handoff):
                    copy.handoffs.append(self._to_copy(handoff, nested, done))
                else:
                    copy.handoffs.append(self.within_calls(handoff, nested, done))
        return done[id(agent_)]

    def _to_copy(
        self,
        handoff: sdk.Handoff[Any, Any],
        nested: sdk.RunConfig,
        done: dict[int, sdk.Agent[Any]],
    ) -> sdk.Handoff[Any, Any]:
        async def invoke(*given: Any) -> sdk.Agent[Any]:
            to = await handoff.on_invoke_handoff(*given)
            return self.within_calls(to, nested, done)

        return replace(handoff, on_invoke_handoff=invoke)

    def _within_call(self, tool: sdk.FunctionTool, nested: sdk.RunConfig) -> sdk.FunctionTool:
        async def invoke(context: ToolContext[Any], arguments: str) -> Any:
            context.run_config = nested  # `Agent.as_tool` takes it from there
            with self.feed.working_on(context.tool_call_id):
                if self._is_cut_off:  # and the tool before this one has made text of it
                    raise Interrupted
                try:
                    return await tool.on_invoke_tool(context, arguments)
                except Exception as error:
                    self.raised.append(error)
                    raise

        self._invoke.append(invoke)
        return replace(tool, on_invoke_tool=invoke)

    def put_response(self, response: ModelResponse, request: dict[str, Any]) -> None:
        """Put out what the model has said."""
        messages = to_messages(response.output)
        calls = [call for message in messages for call in message.get("tool_calls") or ()]
        self._used_again |= self.feed.calls & {x["id"] for x in calls}
        self.feed.put(messages)
        handoffs = {x.tool_name for x in request["handoffs"]}
        ours = {x.name for x in request["tools"] if getattr(x, "on_invoke_tool", 0) in self._invoke}
        names = {x["id"]: x["function"]["name"] if "function" in x else None for x in calls}
        self._handoffs = [call for call, name in names.items() if name in handoffs]
        for call, name in names.items():
            if name not in ours | handoffs:  # who runs it does not say when it begins
                with self.feed.working_on(call):
                    pass

    def put_results(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Put out the results of calls, but for those that were put out as they came."""
        results = [x for x in items if str(x.get("type")).endswith("_output")]
        self._put_results(x for x in results if x.get("call_id") not in self._used_again)

    def _put_results(self, results: Iterable[Mapping[str, Any]]) -> None:
        # The type comes first where they are written anew: what is the same needs no native form.
        made = to_messages({"type": x["type"], **x} for x in results)
        self.feed.put(message for message in made if message["role"] == "tool")

    def put_rest(self, items: Iterable[sdk.RunItem]) -> None:
        """Put out the results of calls that no request was made with."""
        kinds = (ToolCallOutputItem, HandoffOutputItem)
        self.put_results(cast("Any", x.to_input_item()) for x in items if isinstance(x, kinds))

    async def on_tool_end(self, context: Any, agent: Any, tool: sdk.Tool, result: Any) -> None:
        call = getattr(context, "tool_call", None)
        if call is not None and call.call_id in self.feed.calls:
            known = len(self.feed.task.messages)
            self._put_results([cast("Any", sdk.ItemHelpers.tool_call_output_item(call, result))])
            self._is_cut_off = len(self.feed.task.messages) == known
        await self._hooks.on_tool_end(context, agent, tool, result)

    async def on_handoff(self, context: Any, from_agent: Any, to_agent: Any) -> None:
        if self._handoffs:  # of several, the first is followed
            output = json.dumps({"assistant": to_agent.name})
            item = {"type": "function_call_output", "call_id": self._handoffs[0], "output": output}
            self._put_results([item])
        await self._hooks.on_handoff(context, from_agent, to_agent)

    async def add_steered(self, items: list[Any]) -> None:
        """Add what was steered, now and before, to the input of a request."""
        self.put_results(items)
        for number, (before, words) in enumerate(self._steered):
            at = max((n for n, item in enumerate(items, 1) if item == before), default=len(items))
            self._steered[number] = (items[at - 1], words)
            items[at:at] = words
        self.add_said(items, await self.feed.steering())

    def add_said(self, items: list[Any], messages: Sequence[Message]) -> None:
        """Add what was said meanwhile to the input of a request, and to that of later ones."""
        if words := from_messages(messages):
            self._steered.append((items[-1], words))
            items += words
