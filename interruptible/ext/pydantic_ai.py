"""Agents of Pydantic AI, on Restate's integration.

What the model says and what each tool returns is put out as it is made; what is steered at the turn
is told to the model before its next request.
"""

import inspect
from collections.abc import Sequence
from typing import Any, TypeVar

from restate import RunOptions
from typing_extensions import Unpack

from interruptible import Agent, Task
from interruptible.ext._extra import extra

with extra("pydantic-ai"):
    from pydantic_ai import messages as said
    from pydantic_ai.agent import AbstractAgent, EventStreamHandler
    from pydantic_ai.capabilities import ReinjectSystemPrompt
    from pydantic_ai.exceptions import AgentRunError, UserError
    from pydantic_ai.models import Model
    from pydantic_ai.run import AgentRunResult
    from pydantic_ai.tools import DeferredToolRequests
    from pydantic_core import PydanticSerializationError
    from restate.ext.pydantic import RestateAgent

    from interruptible.ext._adapter import (
        GO_ON,
        Approve,
        Feed,
        Options,
        WrongUse,
        as_agent,
        by_the_user,
        check_approve,
        failing,
    )
    from interruptible.ext._pydantic_ai import Kept
    from interruptible.ext._pydantic_ai_model import Durable, heard
    from interruptible.formats.pydantic_ai import from_messages

__all__ = ["agent", "run"]

Deps = TypeVar("Deps")
Out = TypeVar("Out")


def agent(
    framework_agent: AbstractAgent[None, Any],
    *,
    name: str | None = None,
    approve: Approve | None = None,
    auto_wrap_tools: bool = False,
    **options: Unpack[Options],
) -> Agent:
    """Make an agent of Pydantic AI one that can be interrupted.

    Args:
        framework_agent: The agent; one that needs dependencies is run by a `run` of your own.
        name: The name of the object in Restate; by default the agent's own, in camel case.
        approve: Whether a tool may run that asks for approval; see `run`. By default the user is
            asked, by `task.approval`.
        auto_wrap_tools: Whether each tool is a durable step; what it gives is JSON then.
        options: Those of `interruptible.Agent`.

    Raises:
        TypeError: The agent has no name, or an option has the wrong type.
        ValueError: An option makes no sense.
    """

    async def work(task: Task) -> None:
        result = await run(
            framework_agent, task, approve=approve or by_the_user, auto_wrap_tools=auto_wrap_tools
        )
        if isinstance(result.output, DeferredToolRequests):
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
    check_approve(approve)
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

    A message that is to be read at once cuts off the request to the model, which is made anew with
    what had come of the answer, and the message. If the turn goes on with one that stopped after
    words of the model, the framework would ask it nothing: it is told "Go on.", and that is in no
    record.

    Args:
        framework_agent: The agent.
        task: The task. What the model says and what the tools return is put out there.
        approve: Whether a tool may run that asks for approval: an `async` function of the tool's
            name and arguments, which may wait durably; True, False, or the reason why not. Without
            it, `result.output` has the requests.
        auto_wrap_tools: Whether each tool is a durable step; what it gives is JSON then.
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
        TypeError: It is no agent that Restate's integration can run, or an argument makes no sense.
            The turn fails.
        Interrupted: The turn was cancelled.
    """
    _check(framework_agent)
    check_approve(approve)
    steps = run_options or RunOptions[Any]()
    feed = Feed(task)
    kept = Kept(feed, approve, steps if auto_wrap_tools else None)
    given = from_messages(task.messages) if message_history is None else message_history
    is_answered = bool(given) and isinstance(given[-1], said.ModelResponse)
    if is_answered and not {"user_prompt", "deferred_tool_results"} & framework_options.keys():
        if task.resumes is None:
            raise WrongUse(
                "The conversation ends in the assistant's words, and a model would not be asked. "
                'Say what it is asked: `run(agent, task, user_prompt="...")`. The model alone is '
                "told that."
            )
        framework_options["user_prompt"] = GO_ON
    handler = heard(framework_agent, feed, event_stream_handler, capabilities)
    durable = Durable(framework_agent, feed, steps, handler, kept.meanwhile)
    options: dict[str, Any] = {
        "message_history": given,
        "capabilities": [ReinjectSystemPrompt(), *capabilities, kept],
        **framework_options,
    }
    with failing(TypeError):
        inspect.signature(durable.run).bind(**options)
    with feed.running(AgentRunError, UserError, PydanticSerializationError):
        result: AgentRunResult[Out] = await durable.run(**options)
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
    if not isinstance(framework_agent, AbstractAgent):
        kind = type(framework_agent).__name__
        raise WrongUse(f"This is a {kind}. Give the agent: `pydantic_ai.Agent(...)`.")
    model: Any = framework_agent.model
    if not isinstance(model, Model):
        raise WrongUse(
            f"The agent's model is {model!r}, and Restate's integration asks for an object. Give "
            "the agent a `Model`: `Agent(OpenAIChatModel('...'))`."
        )
