"""A worker that dies at a chosen journal entry: `python -m tests.chaos.crash_worker FD FOLDER`.

`FOLDER/arm` says where: `{"id": …, "mode": "before", "at": n}` is before the nth command (or result
of a step) is written by anything in this worker, `"after"` is when the nth piece of output has been
sent. What is replayed does not count. The process that is started only forks: the next worker is
there at once.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from restate.server_context import ServerInvocationContext
from restate.vm import VMWrapper

from . import agent, steps
from .records import Appender
from .worker import die_with_parent

FLUSH = 0.02
"""Seconds for the kernel to take what was sent."""
ENTRIES = ("attach_invocation", "propose_run_completion_success", "propose_run_completion_failure")
NO_ENTRIES = ("sys_input",)


class Fuse:
    """Counts, and kills the process when its time has come."""

    def __init__(self, folder: Path) -> None:
        self._arm = folder / "arm"
        self._log = Appender(folder / "entries.jsonl")
        self._id: object = None
        self._count = 0

    def burns(self, mode: str, entry: str) -> bool:
        """Count one more; whether to die now."""
        try:
            armed = json.loads(self._arm.read_text())
        except (FileNotFoundError, ValueError):
            return False
        if armed["mode"] != mode:
            return False
        if armed["id"] != self._id:
            self._id, self._count = armed["id"], 0
        self._count += 1
        if self._count < armed["at"]:
            return False
        self._arm.unlink()
        self._log.add(id=armed["id"], mode=mode, number=self._count, entry=entry)
        return True


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def patch(fuse: Fuse) -> None:
    """Put the fuse into the SDK, where entries are written."""
    names = [x for x in vars(VMWrapper) if x.startswith("sys_") or x in ENTRIES]
    for name in names:
        if name not in NO_ENTRIES:
            setattr(VMWrapper, name, _before(fuse, name, getattr(VMWrapper, name)))
    send = ServerInvocationContext.take_and_send_output

    async def take_and_send_output(self: ServerInvocationContext) -> None:
        sent: list[object] = []
        original = self.send

        async def noted(event: Any) -> None:
            await original(event)
            sent.append(event)

        self.send = noted  # type: ignore[method-assign, assignment]
        try:
            await send(self)
        finally:
            self.send = original  # type: ignore[method-assign]
        if sent and fuse.burns("after", "output"):
            await asyncio.sleep(FLUSH)
            die()

    ServerInvocationContext.take_and_send_output = take_and_send_output  # type: ignore[method-assign]


def _before(fuse: Fuse, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: VMWrapper, *args: Any, **kwargs: Any) -> Any:
        if not self.is_replaying() and fuse.burns("before", name):
            die()
        return method(self, *args, **kwargs)

    return call


def main() -> None:
    die_with_parent()
    descriptor, folder = sys.argv[1], Path(sys.argv[2])
    while True:
        child = os.fork()
        if not child:
            die_with_parent()
            steps.WORKER = os.getpid()
            patch(Fuse(folder))
            config = Config()
            config.bind = [f"fd://{descriptor}"]
            config.h2_max_concurrent_streams = 2**31 - 1
            app = agent.app(Appender(folder / "steps.jsonl"), "v1")
            asyncio.run(serve(app, config, mode="asgi"))
            return
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
