"""A worker in a process of its own: `python -m tests.frameworks.worker PORT FOLDER MODULE CLASS`.

What happens is written to `FOLDER/log`; a step waits while `FOLDER/hold <step>` exists.
"""

import asyncio
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

from .contract import Contract
from .offline import Answer, Offline, calls, last, says


class FileNotes:
    """Where the steps note what they do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def add(self, *event: Any) -> None:
        with (self.folder / "log").open("a") as log:
            log.write(json.dumps(event) + "\n")
            log.flush()
            os.fsync(log.fileno())

    async def step(self, name: Any, seconds: float = 0.0, result: str | None = None) -> str:
        del seconds
        await self.add("begin", name)
        while (self.folder / f"hold {name}").exists():
            await asyncio.sleep(0.01)
        await self.add("end", name)
        return result or str(name)


def script(messages: list[Any]) -> Answer:
    asked = messages[-1]["role"] == "user" and last(messages) == "Look."
    return calls(a="look moon", b="look sun", c="look stars") if asked else says("I ", "know.")


if __name__ == "__main__":
    port, folder, module, name = sys.argv[1:]
    framework: Contract = getattr(importlib.import_module(module), name)()
    model = Offline(FileNotes(Path(folder)), script)
    agent = framework.agent(framework.made("Killed", model, "look"))
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.h2_max_concurrent_streams = 2**31 - 1
    asyncio.run(serve(restate.app(services=agent.services), config, mode="asgi"))
