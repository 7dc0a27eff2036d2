"""A coding agent that plans, drafts and polishes, and that every new message interrupts."""

import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import restate
from openai import AsyncOpenAI

from interruptible import Agent, Task, cleanup

log = logging.getLogger("quickstart")


class CodingAgent(Agent):
    """Makes three model calls for each message, in a sandbox that never outlives them."""

    async def run(self, ctx: restate.Context, task: Task) -> str:
        """Work on one message. A newer one ends this at whichever `await` it has come to."""
        async with cleanup(ctx) as undo:
            sandbox = Path(tempfile.gettempdir(), f"sandbox-{task.id}")
            undo.on_exit("delete sandbox", delete_sandbox, sandbox)
            await ctx.run_typed("create sandbox", create_sandbox, path=sandbox)

            plan = await ctx.run_typed("plan", ask, messages=task.messages, then="Make a plan.")
            task.append({"role": "assistant", "content": plan})  # stays, even if interrupted later
            draft = await ctx.run_typed("draft", ask, messages=task.messages, then="Write a draft.")
            task.append({"role": "assistant", "content": draft})
            return await ctx.run_typed("polish", ask, messages=task.messages, then="Polish it.")


async def ask(messages: list[Any], then: str) -> str:
    """Ask the model. When the step is interrupted, the request is cut off, and so is its cost."""
    log.info("model call: %s", then)
    name = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
    asked: list[Any] = [*messages, {"role": "user", "content": then}]
    async with AsyncOpenAI(max_retries=0) as model:  # Restate retries
        stream = await model.chat.completions.create(model=name, messages=asked, stream=True)
        async with stream:
            words = [chunk.choices[0].delta.content async for chunk in stream if chunk.choices]
    return "".join(word or "" for word in words)


async def create_sandbox(path: Path) -> None:
    """Make the folder to work in."""
    log.info("create sandbox %s", path)
    path.mkdir(exist_ok=True)


async def delete_sandbox(path: Path) -> None:
    """Delete the folder, if it was made."""
    log.info("delete sandbox %s", path)
    shutil.rmtree(path, ignore_errors=True)


app = restate.app(services=CodingAgent().services)
