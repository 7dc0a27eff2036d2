"""A worker process that waits for quiet: `python -m tests.server.quiet_worker PORT FOLDER`.

Its step writes what it was sent to `FOLDER/log`.
"""

import asyncio
import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config
from restate import Context

from interruptible import Agent, Task

WINDOW = timedelta(seconds=3)


class QuietAgent(Agent):
    async def run(self, ctx: Context, task: Task) -> str:
        said = [message["content"] for message in task.messages]
        return await ctx.run_typed("think", self.think, said=said)

    async def think(self, said: list[str]) -> str:
        with (Path(sys.argv[2]) / "log").open("a") as log:
            log.write(json.dumps(["begin", *said]) + "\n")
            log.flush()
            os.fsync(log.fileno())
        return "answer"


if __name__ == "__main__":
    agent = QuietAgent(debounce=WINDOW)
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    config.h2_max_concurrent_streams = 2**31 - 1
    asyncio.run(serve(restate.app(services=agent.services), config, mode="asgi"))
