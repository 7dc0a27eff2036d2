"""The documented "Interrupt & Regenerate" pattern, written by hand on the SDK alone.

This is what the library is compared with: a virtual object that keeps the conversation and the id
of the running task, and a service for the tasks. It follows Restate's documentation
(docs.restate.dev, AI patterns, "Interrupt & Regenerate") step by step:

- `message` loads the history, cancels the running invocation, attaches to it for 30 seconds at
  most, sends a new task with the whole history, and stores the new task's id.
- A task works; a cancellation surfaces as a `TerminalError` with status 409 at an await. The task
  catches it, cleans up, tells the object one-way, and raises it again.
- `append_message`, to which tasks report, adds to the history and clears the id: the task is over.

The documentation leaves two things to the reader, which are filled in here as it suggests. Its
page shows no body for `append_message`; that it clears the id is what the published example does.
And where it says that there is room for durable cleanup, there is a list of steps here, in order.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final, TypedDict

import restate
from restate import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    RestateDurableFuture,
    Service,
    TerminalError,
    VirtualObject,
)

Message = dict[str, Any]
Append = Callable[[Message], None]
Work = Callable[[Context, list[Message], Append], Awaitable[str]]
"""The work on a message: the conversation, how to add to it, and at the end the answer."""
Cleanup = Sequence[tuple[str, Callable[[], Awaitable[None]]]]

CLEANUP_TIMEOUT: Final = timedelta(seconds=30)
CANCELLED: Final = "[interrupted: the task has cleaned up]"
FAILED: Final = "[failed: the task has cleaned up]"


class Said(TypedDict):
    """What `message` and `append_message` take."""

    content: str


class TaskInput(TypedDict):
    """What the object sends to a task."""

    agent_id: str
    messages: list[Message]


def reference(name: str, work: Work, cleanup: Cleanup = ()) -> tuple[VirtualObject, Service]:
    """Write the pattern's two services.

    Args:
        name: What the object and the service are called, before "Agent" and "Task".
        work: The task's work; in the documentation, three model calls in a row.
        cleanup: Durable steps for a task that is cancelled or fails, in the order to run them.

    Returns:
        The object, with `message`, `append_message` and `get_history`; and the task service.
    """
    agent = VirtualObject(f"{name}Agent")
    task = Service(f"{name}Task")

    @agent.handler()
    async def message(ctx: ObjectContext, said: Said) -> None:
        messages = await ctx.get("messages", type_hint=list[Message]) or []
        messages.append({"role": "user", "content": said["content"]})

        running = await ctx.get("current_task_id", type_hint=str)
        if running:
            ctx.cancel_invocation(running)
            ended: RestateDurableFuture[None] = ctx.attach_invocation(running)
            with suppress(TerminalError):  # how a cancelled invocation is expected to end
                await restate.select(ended=ended, late=ctx.sleep(CLEANUP_TIMEOUT))

        job: TaskInput = {"agent_id": ctx.key(), "messages": messages}
        task_id = await ctx.service_send(run_task, arg=job).invocation_id()
        ctx.set("current_task_id", task_id)
        ctx.set("messages", messages)

    @agent.handler()
    async def append_message(ctx: ObjectContext, said: Said) -> None:
        messages = await ctx.get("messages", type_hint=list[Message]) or []
        messages.append({"role": "assistant", "content": said["content"]})
        ctx.set("messages", messages)
        ctx.clear("current_task_id")

    @agent.handler(kind="shared")
    async def get_history(ctx: ObjectSharedContext) -> list[Message]:
        return await ctx.get("messages", type_hint=list[Message]) or []

    @task.handler()
    async def run_task(ctx: Context, job: TaskInput) -> None:
        def report(content: str) -> None:
            said: Said = {"content": content}
            ctx.object_send(append_message, key=job["agent_id"], arg=said)

        try:
            messages = list(job["messages"])
            report(await work(ctx, messages, messages.append))
        except TerminalError as error:
            for step, action in cleanup:
                await ctx.run_typed(step, action)
            report(CANCELLED if error.status_code == HTTPStatus.CONFLICT else FAILED)
            raise

    return agent, task
