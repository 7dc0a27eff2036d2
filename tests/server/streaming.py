"""An agent that streams what its test tells it, and what the tests of the stream have in common."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

from restate import Context, RunOptions, TerminalError

from interruptible import Session, Task
from interruptible.stream import Stream
from interruptible.testing import Restate

from .conftest import Deploy, Log
from .following import Follower
from .gated import Gated

CALL = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}


def user(text: str, number: int | None = None) -> dict[str, Any]:
    message = {"role": "user", "content": text}
    return message if number is None else {**message, "id": number}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def result(text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "c1", "content": text}


class Speaker(Gated):
    """A `Gated` agent that can do more; also: its turns put out nothing at the end by themselves.

    In a step it is told to `say …`, `think …`, and to `tell …` an event of its own, and it stays in
    the step. Outside: `note …` is such an event, and `call` is to work on a tool's call: what it is
    told to `say` until the next order is its output, and that order is the result.
    """

    def __init__(self, log: Log, name: str, env: Restate, **options: Any) -> None:
        stream = options.pop("stream", None) or Stream(
            ingress=env.ingress_url, every=timedelta(milliseconds=20)
        )
        super().__init__(log, name, stream=stream, **options)

    async def run(self, ctx: Context, task: Task) -> Any:
        await ctx.run_typed("begin", self.log.add, RunOptions(), "begin", task.turn)
        while True:
            order = await self._order(ctx, task, task.partial)
            match order.split(" ", 1):
                case ["end"]:
                    return None
                case ["end", answer]:
                    task.append(json.dumps({"answer": answer}), final=True)
                    return {"answer": answer}
                case ["fail"]:
                    raise TerminalError("no luck", 418)
                case ["wait"]:
                    await ctx.signal("never")
                case ["look"]:
                    await task.steering()
                case ["note", kind]:
                    task.publish({"type": kind, "step": False})
                case ["call"]:
                    task.append(CALLING)
                    with task.call("c1"):
                        came = await self._order(ctx, task, task.partial_result())
                    task.append(result(came))
                case _:
                    task.append(order)

    def _order(self, ctx: Context, task: Task, say: Callable[[str | None], None]) -> Any:
        return ctx.run_typed("work", self._speak, RunOptions(), task, say)

    async def _speak(self, task: Task, say: Callable[[str | None], None]) -> str:
        orders = self._orders.setdefault(task.turn, asyncio.Queue())
        while True:
            await self.asks.add(task.turn)
            order = await orders.get()
            match order.split(" ", 1):
                case ["say", text]:
                    say(text)
                case ["think", text]:
                    task.publish({"type": "reasoning", "text": text})
                case ["tell", kind]:
                    task.publish({"type": kind, "step": True})
                case _:
                    return order


@asynccontextmanager
async def speaking(
    env: Restate, deploy: Deploy, agent: Speaker, key: str = "one"
) -> AsyncGenerator[tuple[Session, Follower], None]:
    """A session of the agent, and who follows it from the start."""
    await deploy(agent)
    session = Session(env.client, agent, key)
    async with AsyncExitStack() as stack:
        yield session, await stack.enter_async_context(Follower(session))
