"""How long it takes to load a long history, beside one state value that holds all of it.

`python -m tests.benchmarks.history` prints medians and their ratio, measured in turn in one run.
"""

import asyncio
import statistics
import time
from typing import Any

import restate
from restate import Context, ObjectContext, ObjectSharedContext, VirtualObject

from interruptible import Agent, Session, Task, _history, _session, handler
from interruptible.testing import harness

RUNS = 25
SIZES = ((10, 1000), (100, 1000), (1000, 1000), (4000, 1000), (400, 20_000))


class LongAgent(Agent):
    """An agent with a past."""

    async def run(self, ctx: Context, task: Task) -> str:
        return "ok"

    @handler()
    async def grow_old(self, ctx: ObjectContext, past: dict[str, int]) -> None:
        """Store a past, as that many messages would have left it."""
        turns = past["messages"] // 2
        text = "x" * past["size"]
        for turn in range(1, turns + 1):
            _history.begin(ctx, turn, [{"role": "user", "content": text}])
            await _history.settle(
                ctx,
                {
                    "turn": turn,
                    "status": "completed",
                    "messages": [{"role": "assistant", "content": text}],
                },
                None,
            )
        ctx.set("session", _session.dump(_session.Record("past", next=turns + 1)))


single = VirtualObject("SingleValue")


@single.handler()
async def fill(ctx: ObjectContext, past: dict[str, int]) -> None:
    """Store the same conversation as one value."""
    ctx.set("messages", [{"role": "user", "content": "x" * past["size"]}] * past["messages"])


@single.handler(kind="shared")
async def get_history(ctx: ObjectSharedContext) -> list[dict[str, Any]]:
    """Return it."""
    return await ctx.get("messages", type_hint=list) or []


async def median(times: list[float], call: Any) -> None:
    started = time.perf_counter()
    await call
    times.append(time.perf_counter() - started)


async def main() -> None:
    agent = LongAgent()
    async with harness(restate.app(services=[*agent.services, single])) as env:
        print("| messages | bytes each | one value, ms | in pages, ms | ratio |")
        print("| --- | --- | --- | --- | --- |")
        for messages, size in SIZES:
            past = {"messages": messages, "size": size}
            key = f"{messages}-{size}"
            await env.client.object_call(fill, key, past)
            await env.client.object_call(agent.grow_old, key, past)
            session = Session(env.client, agent, key)
            assert len(await session.history()) == messages
            one: list[float] = []
            pages: list[float] = []
            for _ in range(RUNS):
                await median(one, env.client.object_call(get_history, key, None))
                await median(pages, session.history())
            a, b = statistics.median(one), statistics.median(pages)
            print(f"| {messages} | {size} | {a * 1e3:.0f} | {b * 1e3:.0f} | {b / a:.2f} |")


if __name__ == "__main__":
    asyncio.run(main())
