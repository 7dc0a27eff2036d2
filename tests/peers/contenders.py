"""What is compared: the library, and what people would use instead."""

import asyncio
import json
import os
import sys
import time
from contextlib import AsyncExitStack
from typing import Any, Final

from interruptible._testing.server import free_ports
from interruptible.testing import Restate, restate_server
from tests.benchmarks.stage import ROOT, SERVER

from .contender import UP, Contender, Order, Script
from .stage import APPS, Stage


class Plain(Script):
    name = "asyncio"
    venv = ".venv-peer-asyncio"
    packages = ("starlette", "uvicorn")
    setting = "the next task waits for the end of the one that it cancelled"
    script = "asyncio_app.py"


class OpenAIAgents(Script):
    name = "OpenAI Agents SDK"
    venv = ".venv-peer-openai-agents"
    packages = ("openai-agents",)
    setting = (
        "`run_streamed`, `cancel()` at once, the stream read to its end before the next run; "
        "`SQLiteSession` in a file, `SessionSettings(limit=8)`"
    )
    script = "openai_agents_app.py"


class Dbos(Script):
    name = "DBOS"
    venv = ".venv-peer-dbos"
    packages = ("dbos",)
    setting = (
        "SQLite; `step(preemptible=True)` for the model's calls; the cleanup in a `finally`; "
        "to queue, a queue with `partition_concurrency=1`, polled every 0.1 s, not every second; "
        "*waiting*: the new workflow waits in its process until the old one's code has ended"
    )
    script = "dbos_app.py"
    others = ("wait",)


class LangGraph(Contender):
    name = "LangGraph dev server"
    venv = ".venv-peer-langgraph"
    packages = ("langgraph", "langgraph-api", "langgraph-runtime-inmem", "langgraph-cli")
    setting = "`langgraph dev --no-reload --n-jobs-per-worker 10`, tracing off"
    others = ("rollback",)

    async def start(self) -> None:
        graph = f"{APPS / 'langgraph_app.py'}:graph"
        config = {"dependencies": ["."], "graphs": {"agent": graph}}
        (self.folder / "langgraph.json").write_text(json.dumps(config))
        self.process = self.stage.spawn(
            self.folder,
            (
                *(self.program("langgraph"), "dev", "--no-browser", "--no-reload"),
                *("--host", "127.0.0.1", "--port", str(self.port), "--n-jobs-per-worker", "10"),
            ),
            LANGSMITH_TRACING="false",
            LANGGRAPH_NO_VERSION_CHECK="true",
            LANGGRAPH_CLI_NO_ANALYTICS="1",
        )
        await self.until_up("/ok")

    async def session(self, name: str) -> str:
        return str((await self.post("/threads", {}))["thread_id"])

    async def say(self, session: str, order: Order, policy: str = "interrupt") -> None:
        body = {
            "assistant_id": "agent",
            "input": {"messages": [{"role": "user", "content": json.dumps(order)}]},
            "multitask_strategy": {"queue": "enqueue"}.get(policy, policy),
        }
        await self.post(f"/threads/{session}/runs", body)

    async def history(self, session: str) -> list[Any]:
        values = (await self.get(f"/threads/{session}/state"))["values"] or {}
        roles = {"human": "user", "ai": "assistant"}
        return [{**each, "role": roles[each["type"]]} for each in values.get("messages", [])]

    async def grow(self, session: str, orders: list[Order]) -> None:
        """Through the state of the thread: a run for each would wait half a second each."""
        await super().grow(session, orders[:1])
        await asyncio.sleep(1)
        rows = [
            row
            for order in orders[1:]
            for row in (
                {"role": "user", "content": json.dumps(order)},
                {"role": "assistant", "content": "end."},
            )
        ]
        for place in range(0, len(rows), 40):
            body = {"values": {"messages": rows[place : place + 40]}, "as_node": "step"}
            await self.post(f"/threads/{session}/state", body)


class Library(Contender):
    name = "interruptible"
    venv = sys.prefix  # this one
    packages = ("restate-sdk",)
    setting = (
        "`cleanup` for what has to be cleaned up, `task.partial` for what the model says; "
        "`conversation` tells the last four turns"
    )
    others = ("rollback",)

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._worker_port = free_ports()[0]
        self._stack = AsyncExitStack()
        self._restate: Restate | None = None

    async def start(self) -> None:
        command = sys.executable, str(APPS / "library_app.py")
        self.process = self.stage.spawn(
            self.folder,
            command,
            PEER_PORT=str(self._worker_port),
            PYTHONPATH=os.pathsep.join(map(str, (APPS, ROOT))),
        )
        if self._restate is not None:
            await self._restate._server.start()
            return
        self._restate = await self._stack.enter_async_context(restate_server(env=SERVER))
        self.port = int(self._restate.ingress_url.rpartition(":")[2])
        deadline = time.monotonic() + UP
        while True:
            self.process.check()
            try:
                await self._restate.register(f"http://127.0.0.1:{self._worker_port}")
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    async def session(self, name: str) -> str:
        return name

    async def say(self, session: str, order: Order, policy: str = "interrupt") -> None:
        body = {"content": json.dumps(order), "policy": policy}
        await self.post(f"/PeerAgent/{session}/message", body)

    async def history(self, session: str) -> list[Any]:
        return list(await self.get(f"/PeerAgent/{session}/get_history"))

    def kill(self) -> None:
        super().kill()
        if self._restate is not None:
            self._restate._server.kill()

    async def close(self) -> None:
        await super().close()
        await self._stack.aclose()


ALL: Final[tuple[type[Contender], ...]] = (Library, LangGraph, Dbos, OpenAIAgents, Plain)
