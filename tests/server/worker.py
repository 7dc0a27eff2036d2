"""A worker process that tests kill: `python -m tests.server.worker PORT FOLDER`.

Its steps write what they do to `FOLDER/log`; a step waits while `FOLDER/hold <step>` exists, and
kills the worker before it does anything if `FOLDER/die <step>` exists.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config
from restate import Context

from interruptible import Agent, Steered, Task, cleanup
from interruptible._session import effects

FOLDER = Path(sys.argv[2]) if __name__ == "__main__" else Path()


def write(*event: str) -> None:
    with (FOLDER / "log").open("a") as log:
        log.write(json.dumps([*event]) + "\n")
        log.flush()
        os.fsync(log.fileno())


async def step(name: str) -> str:
    die = FOLDER / f"die {name}"
    if die.exists():
        die.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    write("begin", name)
    while (FOLDER / f"hold {name}").exists():
        await asyncio.sleep(0.01)
    write("end", name)
    return name


class CrashAgent(Agent):
    async def run(self, ctx: Context, task: Task) -> str:
        if task.turn > 1:
            return await ctx.run_typed("next", step, name=f"turn {task.turn}")
        async with cleanup(ctx) as undo:
            for number in (3, 2, 1):
                undo.on_interrupt(f"undo {number}", step, f"undo {number}")
            plan = await ctx.run_typed("plan", step, name="plan")
            task.append(plan)
            return await ctx.run_typed("draft", step, name="draft")


class SpeakingAgent(Agent):
    """Is cut off while it speaks."""

    async def run(self, ctx: Context, task: Task) -> str:
        async with cleanup(ctx) as undo:
            undo.on_interrupt("undo", step, "undo")
            task.append("plan")
            return await ctx.run_typed("speak", speak, say=task.partial)

    async def on_interrupted(self, ctx: Context, task: Task) -> None:
        await ctx.run_typed("wrap up", step, name="wrap up")


class RedirectedAgent(Agent):
    """Is steered at once while it speaks, or told to stop."""

    async def run(self, ctx: Context, task: Task) -> str:
        task.append("plan")
        number = 1
        async with cleanup(ctx) as undo:
            undo.on_interrupt("undo", step, "undo")
            while True:
                model = ctx.run_typed("model", redirected, say=task.partial, number=number)
                try:
                    task.append(await task.steerable(model))
                    return await ctx.run_typed("after", step, name="after")
                except Steered:
                    number += 1
                    await ctx.run_typed("steered", step, name=f"steered {number}")
                    await task.steering()


async def redirected(say: Callable[[str], None], number: int) -> str:
    say(f"half an answer {number}")
    return await step(f"model {number}")


async def speak(say: Callable[[str], None]) -> str:
    say("half an ")
    say("answer")
    return await step("speak")


class LostAgent(Agent):
    """Has one step; it waits long for a predecessor while `FOLDER/patient` exists."""

    @property
    def cleanup_timeout(self) -> timedelta:
        return timedelta(hours=1 if (FOLDER / "patient").exists() else 0, milliseconds=500)

    @cleanup_timeout.setter
    def cleanup_timeout(self, _: timedelta) -> None: ...

    async def run(self, ctx: Context, task: Task) -> str:
        return await ctx.run_typed("work", step, name=f"turn {task.turn}")


class AskingAgent(Agent):
    """Asks the `CrashAgent`."""

    async def run(self, ctx: Context, task: Task) -> Any:
        async with cleanup(ctx) as undo:
            undo.on_interrupt("undo asking", step, "undo asking")
            return (await task.delegate("CrashAgent", task.session, "go"))["messages"]


def hold_message() -> None:
    """Make `message` a step of that name: the task is sent, and its id is not stored yet."""
    real = effects.shield

    async def shield(future: Any) -> Any:
        task_id = await real(future)
        if (FOLDER / "hold message").exists():
            await step("message")
        return task_id

    effects.shield = shield  # type: ignore[assignment]


if __name__ == "__main__":
    hold_message()
    agents = [CrashAgent(), SpeakingAgent(), AskingAgent(), LostAgent(), RedirectedAgent()]
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    config.h2_max_concurrent_streams = 2**31 - 1
    services = [service for agent in agents for service in agent.services]
    asyncio.run(serve(restate.app(services=services), config, mode="asgi"))
