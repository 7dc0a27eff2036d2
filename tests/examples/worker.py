"""A worker process that tests kill: `python -m tests.examples.worker PORT FOLDER MODEL INGRESS`.

It notes each tool call that begins and ends in `FOLDER/log`, outside of the workspace. A restore
waits while `FOLDER/hold` exists.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import restate
from hypercorn.asyncio import serve

from examples.coding_agent import tools
from examples.coding_agent.__main__ import _config
from examples.coding_agent.agent import CodingAgent
from examples.coding_agent.model import Model
from examples.coding_agent.workspace import Workspace
from interruptible.stream import Stream

NAME = "CrashCoderAgent"


def main(port: int, folder: Path, url: str, ingress: str) -> None:
    def note(*event: str) -> None:
        with (folder / "log").open("a") as log:
            log.write(json.dumps(event) + "\n")
            log.flush()
            os.fsync(log.fileno())

    call, check_out = tools.call, Workspace._check_out

    async def noted(name: str, values: dict[str, Any], **rest: Any) -> str:
        what = values.get("command") or values.get("path", "")
        note("begin", name, what)
        text = await call(name, values, **rest)
        note("end", name, what)
        return text

    def held(self: Workspace, commit: str, into: Path) -> None:
        check_out(self, commit, into)
        note("checked out")
        while (folder / "hold").exists():
            time.sleep(0.01)

    tools.call = noted
    Workspace._check_out = held  # type: ignore[method-assign]
    model, stream = Model("scripted", url, "none"), Stream(ingress=ingress)
    agent = CodingAgent(folder / "workspaces", model, name=NAME, stream=stream)
    asyncio.run(serve(restate.app(services=agent.services), _config(port)))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
