"""The agent whose sessions are kept here. It runs on every version there was."""

import asyncio
from typing import Any

from interruptible import Agent


class Stored(Agent):
    """Does what each message says: `answer`, `call`, `long`, `ask` or `wait`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.given: list[dict[str, Any]] = []
        """What the newest turn was given."""
        self.at_work = asyncio.Event()

    async def run(self, ctx: Any, task: Any) -> Any:
        self.given = list(task.messages)
        if getattr(task, "resumes", None):
            return "It is done."
        order, _, what = task.input[-1]["content"].partition(" ")
        if order == "long":
            return "So be it. " * 100 * int(what)
        if order in {"call", "wait"}:
            function = {"name": "look", "arguments": "{}"}
            task.append(
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": f"call-{what}", "type": "function", "function": function}
                    ],
                }
            )
        if order == "wait":
            self.at_work.set()
            await ctx.run_typed("wait", asyncio.sleep, delay=3600)
        if order == "ask":
            return str(await task.approval(what))
        if order == "call":
            task.append({"role": "tool", "tool_call_id": f"call-{what}", "content": "It is there."})
        return f"This is about {what}."
