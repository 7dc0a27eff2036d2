"""`tests/reference.py` under the workload's simplest form: four messages, each to interrupt."""

import asyncio
import time
import uuid
from pathlib import Path
from typing import Any, Final

import httpx
from restate import Context, app

from interruptible.testing import harness
from tests.reference import Append, Message, reference

from .client import Client
from .records import Appender, History, Records, read_lines
from .records import Final as FinalState

SESSION: Final = ("ByHandAgent", "s")
GAP: Final = 0.7
CLEANUP: Final = 6.5


async def record_reference(folder: Path) -> Records:
    """Send messages to a session of the hand-written pattern while its tasks work; no faults."""
    log = Appender(folder / "steps.jsonl")

    async def step(ctx: Context, common: dict[str, Any], name: str, seconds: float) -> None:
        async def work() -> None:
            log.add(**common, event="begin", step=name)
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                log.add(**common, event="aborted", step=name)
                raise
            log.add(**common, event="done", step=name)

        await ctx.run_typed(name, work)

    async def work(ctx: Context, messages: list[Message], append: Append) -> str:
        said = [message for message in messages if message["role"] == "user"]
        common = {
            "agent": SESSION[0],
            "session": SESSION[1],
            "turn": len(said),
            "task": ctx.request().id,
            "attempt": uuid.uuid4().hex[:8],
            "worker": 0,
            "version": "v1",
        }
        log.add(**common, event="start", seen=[str(message["content"]) for message in messages])
        running.append(common)
        for number in range(3):
            await step(ctx, common, f"step {number}", 1.0)
        log.add(**common, event="end")
        return f"answer of turn {len(said)}"

    async def undo() -> None:
        log.add(**running[-1], event="begin", step="undo 0", phase="interrupt")
        await asyncio.sleep(CLEANUP)
        log.add(**running[-1], event="done", step="undo 0", phase="interrupt")

    running: list[dict[str, Any]] = []
    services = reference("ByHand", work, [("undo 0", undo)])
    history = History(folder / "clients.jsonl")
    async with harness(app(services)) as server, httpx.AsyncClient(trust_env=False) as http:
        client = Client([server.ingress_url], http, history)

        async def say(number: int) -> None:
            op = await client.call(*SESSION, "message", {"content": f"m{number}"})
            op.answer = {"turn": number, "status": "running", "task_id": None, "interrupted": []}

        await say(1)
        await asyncio.sleep(GAP)
        second = asyncio.ensure_future(say(2))
        await asyncio.sleep(GAP)
        await asyncio.gather(second, say(3))
        await asyncio.sleep(GAP)
        await say(4)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            live = await server.invocations("status <> 'completed'")
            if not live:
                break
            await asyncio.sleep(0.2)
        said = (await client.call(*SESSION, "get_history")).answer
    final = FinalState(*SESSION, None, None, said)
    return Records(history.ops, read_lines(folder / "steps.jsonl"), finals=[final])
