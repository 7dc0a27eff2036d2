# pyright: strict
"""What users write, and the types that they get: no checker finds anything here."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypedDict

import restate
from typing_extensions import assert_type

from interruptible import (
    Agent,
    Interrupted,
    Message,
    Session,
    Task,
    Turn,
    agent,
    cleanup,
    handler,
    shield,
)
from interruptible.client import LiveTurn, Outcome, Receipt, Status


class TextAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> str:
        return f"{ctx} {task.id}"


class MessageAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> Message:
        return {"role": "assistant", "content": task.input}


class MappingAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> Mapping[str, object]:
        return {"role": "assistant", "content": task.input}


class ListAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> list[Message]:
        return task.messages


class MixedAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> list[str | Message]:
        return ["Done.", {"role": "tool", "content": "3"}]


class NothingAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> None:
        task.append("Done.")


class ToolMessage(TypedDict):
    """As the packages of model providers have them."""

    role: str
    content: str


class TextPart(TypedDict):
    """Likewise."""

    type: str
    text: str


class ToolAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> list[ToolMessage]:
        message: ToolMessage = {"role": "tool", "content": "3"}
        task.append(message)
        return [message]


class FullAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> str | None:
        assert_type(task.session, str)
        assert_type(task.turn, int)
        assert_type(task.id, str)
        assert_type(task.messages, list[dict[str, Any]])
        assert_type(task.input, list[dict[str, Any]])
        task.append("Done.", {"role": "tool", "content": "3", "tool_call_id": "1"})
        async with cleanup(ctx, timeout=timedelta(seconds=5)) as undo:
            undo.on_exit("remove", remove, "path", force=True)
            undo.on_error("remove", remove, path="path")
            undo.on_interrupt("forget", forget)
            number = await ctx.run_typed("count", count, text="text")
            assert_type(number, int)
        return None

    async def on_interrupted(self, ctx: restate.Context, task: Task) -> None:
        await ctx.run_typed("forget", forget)

    def interruption_note(self, turn: Turn) -> str | None:
        return f"{turn['turn']} {turn['status']}"

    @handler(kind="shared")
    async def pages(self, ctx: restate.ObjectSharedContext, start: int) -> int:
        return len(ctx.key()) + start


class NotingAgent(TextAgent):
    def interruption_note(self, turn: Turn) -> Message:
        return {"role": "developer", "content": "Stop."}


async def remove(path: str, *, force: bool = False) -> None: ...
async def count(text: str) -> int:
    return len(text)


def forget() -> None: ...


coding_agent = FullAgent()
named_agent = FullAgent(
    "CodingAgent",
    policy="interrupt",
    allowed_policies=["interrupt", "queue"],
    max_pending=8,
    cleanup_timeout=timedelta(seconds=10),
    inactivity_timeout=None,
    retry_policy=restate.InvocationRetryPolicy(max_attempts=3),
)


@agent
async def plain_agent(ctx: restate.Context, task: Task) -> str:
    return task.id


@agent()
async def bare_agent(ctx: restate.Context, task: Task) -> None: ...


@agent(
    name="ReviewAgent",
    policy="queue",
    allowed_policies=("queue", "reject"),
    max_pending=1,
    cleanup_timeout=timedelta(seconds=5),
    inactivity_timeout=None,
    abort_timeout=timedelta(minutes=1),
    retry_policy=restate.InvocationRetryPolicy(max_attempts=3),
    retention=timedelta(days=7),
    max_content=64 * 1024,
)
async def review_agent(ctx: restate.Context, task: Task) -> list[Message]:
    return task.messages


assert_type(plain_agent, Agent)
assert_type(bare_agent, Agent)
assert_type(review_agent, Agent)
app = restate.app(services=coding_agent.services)
more = restate.app(services=[*plain_agent.services, *review_agent.services])


async def from_outside(client: restate.RestateClient) -> None:
    session = Session(client, coding_agent, "key")
    receipt = await session.send("Hello", policy="interrupt", idempotency_key="1")
    assert_type(receipt, Receipt)
    assert_type(receipt["turn"], int)
    assert_type(receipt["task_id"], str)
    assert_type(receipt["interrupted"], list[int])
    outcome = await session.ask([{"type": "text", "text": "Hello"}])
    assert_type(outcome, Outcome)
    assert_type(outcome["messages"], list[dict[str, Any]])
    assert_type(await session.attach(), Outcome)
    assert_type(await session.attach(receipt["turn"]), Outcome)
    assert_type(await session.cancel(), list[int])
    assert_type(await session.cancel(receipt["turn"]), list[int])
    assert_type(await session.cancel(receipt["turn"], reason="wrong file"), list[int])
    assert_type(await session.cancel(reason=None), list[int])
    await session.send("Hello", policy="queue", if_turn=receipt["turn"])
    await session.send("Hello", policy="reject", if_idle=True)
    assert_type(await session.ask("Hello", policy="queue", if_turn=1, if_idle=False), Outcome)
    seen = (await session.status())["turn"]
    assert_type(seen, int | None)
    await session.send("Hello", policy=None, if_turn=seen)
    assert_type(await session.history(), list[dict[str, Any]])
    assert_type(await session.status(), Status)
    assert_type(session.key, str)
    status = await session.status()
    assert_type(status["live"], list[LiveTurn])
    assert_type([live["cancelled"] for live in status["live"]], list[str | None])
    part: TextPart = {"type": "text", "text": "Hello"}
    parts = [part]
    await session.send(parts)
    await session.ask((part, {"type": "image_url", "image_url": {"url": "https://x.example"}}))


async def from_a_handler(ctx: restate.ObjectContext) -> None:
    assert_type(await Session(ctx, "CodingAgent", ctx.key()).send("Hello"), Receipt)


async def from_a_task(ctx: restate.Context) -> str:
    assert_type(await Session(ctx, plain_agent, "key").history(), list[dict[str, Any]])
    assert_type(await shield(ctx.run_typed("count", count, text="text")), int)
    assert_type(await shield(count("text")), int)
    try:
        await ctx.run_typed("forget", forget)
    except Interrupted as interrupted:
        assert_type(interrupted.status_code, int)
        raise
    except restate.TerminalError as error:
        return error.message
    return "Done."
