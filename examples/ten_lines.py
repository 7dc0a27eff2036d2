"""The smallest agent, and a message that interrupts it: `python -m examples.ten_lines`."""

import asyncio

import restate

from interruptible import Agent, Session, Task
from interruptible.testing import harness


async def count(up_to: int) -> str:
    """Stands in for a model that takes its time."""
    for number in range(up_to):
        print(f"  {number + 1}", flush=True)
        await asyncio.sleep(0.2)
    return f"I counted up to {up_to}."


class CountingAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> str:
        return await ctx.run_typed("count", count, up_to=int(task.text))


app = restate.app(services=CountingAgent().services)


async def main() -> None:
    """Talk to it, on a server of its own that is gone afterwards."""
    async with harness(app) as server:
        session = Session(server.client, "CountingAgent", "ada")
        print("You: 100")
        await session.send("100")
        await asyncio.sleep(1)
        print("You: no, 3")
        outcome = await session.ask("3")
        print(f"Agent: {outcome['messages'][-1]['content']}")
        for turn in (await session.turns())["turns"]:
            print(f"Turn {turn['turn']}: {turn['status']}")


if __name__ == "__main__":
    asyncio.run(main())
