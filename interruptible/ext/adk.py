"""Agents of Google ADK, on Restate's integration.

What the model says and what each tool returns is put out as it is made; what is steered at the turn
is told to the model before its next request. The session of a run is made of the task's
conversation.
"""

import json
from collections.abc import Generator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from restate import TerminalError
from typing_extensions import Unpack

from interruptible import Agent, Task
from interruptible.ext._extra import extra

with extra("adk"):
    from google.adk.agents import LlmAgent, RunConfig
    from google.adk.agents.invocation_context import LlmCallsLimitExceededError
    from google.adk.apps import App
    from google.adk.artifacts import BaseArtifactService
    from google.adk.auth.credential_service.base_credential_service import BaseCredentialService
    from google.adk.events import Event
    from google.adk.memory import BaseMemoryService
    from google.adk.runners import Runner
    from google.adk.sessions import BaseSessionService, Session
    from google.adk.tools.agent_tool import AgentTool
    from google.genai import types
    from pydantic import TypeAdapter
    from restate.ext.adk import RestatePlugin

    from interruptible.ext._adapter import (
        Approve,
        Options,
        WrongUse,
        as_agent,
        by_the_user,
        check_approve,
        failing,
    )
    from interruptible.ext._adk import Run, agents_of
    from interruptible.formats.adk import from_messages, to_messages

__all__ = ["Result", "agent", "run"]


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
    **options: Unpack[Options],
) -> Agent:
    """Make an agent of ADK one that can be interrupted.

    Args:
        framework_agent: The agent, or the app whose root it is.
        name: The name of the object in Restate; by default the agent's own, in camel case.
        approve: Whether a tool may run that asks for a confirmation; see `run`. By default the user
            is asked, by `task.approval`.
        options: Those of `interruptible.Agent`.

    Raises:
        TypeError: It is no such agent, or an option has the wrong type.
        ValueError: An option makes no sense.
    """
    app = _app(framework_agent)
    check_approve(approve)

    async def work(task: Task) -> None:
        events = (await run(app, task, approve=approve or by_the_user)).events
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
    user_id: str | None = None,
    state: dict[str, Any] | None = None,
    artifact_service: BaseArtifactService | None = None,
    memory_service: BaseMemoryService | None = None,
    credential_service: BaseCredentialService | None = None,
    session_service: BaseSessionService | None = None,
) -> Result:
    """Run an agent of ADK for a turn.

    A message that is to be read at once cuts off the request to the model, which is made anew with
    what had come of the answer, and the message; an agent that is a tool goes on. A turn that goes
    on with one that stopped after words of the model asks it with these at the end, to which ADK
    adds by itself what its own models need; for one that refuses that, the agent needs a
    `resume_note`.

    Args:
        framework_agent: The agent, or the app whose root it is. If a `RestatePlugin` is among the
            app's plugins, that one makes the requests to the model durable.
        task: The task. What the model says and what the tools return is put out there.
        approve: Whether a tool may run that asks for a confirmation: an `async` function of the
            tool's name and arguments, which may wait durably; True, False, or the reason why not.
            Without it, the run ends there, and its events have the requests.
        run_config: ADK's settings of the run, such as `max_llm_calls`.
        user_id: Whom the session is of, for memories and artifacts; by default, the task's session.
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
    check_approve(approve)
    if session_service is not None:
        raise WrongUse(
            f"`run` was given a {type(session_service).__name__}. The session of a run is made of "
            "`task.messages`, and a task has no state in which another could be kept. Leave "
            "`session_service` out; what the session's state is at first is `state=`."
        )
    root = cast("LlmAgent", app.root_agent)
    plugins = [x for x in app.plugins if isinstance(x, RestatePlugin)]
    work = Run(task, plugins[0] if plugins else RestatePlugin(), approve)
    others = [x for x in app.plugins if x not in plugins]
    runner = Runner(
        app=app.model_copy(update={"root_agent": work.copied(root), "plugins": others}),
        session_service=work.sessions,
        artifact_service=artifact_service,
        memory_service=memory_service,
        credential_service=credential_service,
    )
    app_name, user = runner.app_name, user_id or task.session
    session = await work.sessions.create_session(
        app_name=app_name, user_id=user, session_id=task.id, state=state
    )
    said = from_messages(task.messages, root)
    asked = said.pop().content if said[-1].author == "user" else None
    for event in said:
        event.invocation_id = task.id
        await work.sessions.append_event(session, event)
    events: list[Event] = []
    with work.running(), _failing():
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
        output = _output(events, root)
    work.end(output, said=True)
    return Result(events, ended or session, output)


@contextmanager
def _failing() -> Generator[None, None, None]:
    """Let the turn end with what ADK says of the model's doing; of all else, Restate decides."""
    try:
        with failing(LlmCallsLimitExceededError):
            yield
    except (KeyError, ValueError) as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
        with failing(*(KeyError, ValueError) * where.startswith("google.adk.")):
            raise


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
    for each, nested in agents_of(app.root_agent):
        if each is app.root_agent and nested:
            raise WrongUse(
                f"The agent {each.name!r} has the mode {each.mode!r}, which makes it a tool of "
                "another. Leave the mode out, or let another lead it."
            )
        for tool in each.tools:
            if isinstance(tool, AgentTool):
                list(agents_of(tool.agent))
    return app


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
