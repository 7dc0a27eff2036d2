"""The library: an agent that keeps what the model was saying, served as any Restate service."""

import asyncio
import os
from collections.abc import Sequence

import hypercorn.asyncio
import hypercorn.config
import restate
from shared import WINDOW, ask, clean_up, order_of

from interruptible import Agent, Message, Task, Turn, cleanup


class PeerAgent(Agent):
    def conversation(self, turns: Sequence[Turn]) -> list[Message]:
        return super().conversation(turns[-WINDOW // 2 :])

    async def run(self, ctx: restate.Context, task: Task) -> None:
        order = order_of(task.input[-1])
        say = task.partial
        async with cleanup(ctx) as undo:
            if "cleanup" in order:
                undo.on_exit("clean up", clean_up, order["tag"], order["cleanup"])
            for _ in range(order.get("steps", 1)):
                answer = await ctx.run_typed("model", ask, messages=task.messages, say=say)
                task.append(answer)


if __name__ == "__main__":
    config = hypercorn.config.Config()
    config.bind = [f"127.0.0.1:{os.environ['PEER_PORT']}"]
    config.accesslog = config.errorlog = None
    config.h2_max_concurrent_streams = config.keep_alive_max_requests = 2**31 - 1
    config.keep_alive_timeout = 3600.0
    app = restate.app(services=PeerAgent().services)
    asyncio.run(hypercorn.asyncio.serve(app, config, mode="asgi"))
