"""An agent whose work is done in TypeScript, by `src/writer.ts`."""

import json
from contextlib import suppress
from typing import Any

import restate

from interruptible import Agent, Interrupted, Task, shield


class DraftAgent(Agent):
    """Writes what it is asked for, and once more for each detail that is added meanwhile."""

    async def run(self, ctx: restate.Context, task: Task) -> None:
        while True:
            task.append(await in_typescript(ctx, "Writer", "write", task.messages))
            if not await task.steering():
                return


async def in_typescript(ctx: restate.Context, service: str, handler: str, body: Any) -> Any:
    """Call a handler that is cancelled with this turn, and wait until it has cleaned up."""
    call = ctx.generic_call(service, handler, json.dumps(body).encode())
    try:
        return json.loads(await call)
    except Interrupted:  # Restate has cancelled what this turn calls
        with suppress(restate.TerminalError):
            await shield(call)
        raise


app = restate.app(services=DraftAgent().services)
