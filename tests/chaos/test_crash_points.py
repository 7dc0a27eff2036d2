"""The worker dies at every journal entry of a turn that is interrupted and cleans up."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from .agent import CLEANUP_TIMEOUT
from .checker import check
from .client import Client
from .records import Final, History, Records, read_lines
from .system import System, single

AGENT = "ChaosAgent"
FIRST = "steps=1 sleep=0.01 undo=3 undo_sleep=0 steer beside long=60"
SECOND = "steps=1 sleep=0"
STRIDE = int(os.environ.get("CHAOS_STRIDE", "1"))
"""Only every so many entries, for a short run."""
LAST = 200
"""More entries than the scenario has."""


class Scenario:
    """A turn is interrupted in its long step; the worker dies once somewhere on the way."""

    def __init__(self, system: System, client: Client, folder: Path) -> None:
        self._system, self._client, self._folder = system, client, folder

    async def play(self, mode: str, number: int) -> tuple[str | None, list[str]]:
        """Play it with the worker dying at an entry.

        Returns:
            The entry, or `None` if there are not that many; and what was wrong.
        """
        session = f"{mode}-{number}"
        arm = {"id": session, "mode": mode, "at": number}
        (self._folder / "arm.new").write_text(json.dumps(arm))
        (self._folder / "arm.new").rename(self._folder / "arm")
        first = await self._send(session, f"{session}.1 {FIRST}", "interrupt")
        await self._until(session, "long")
        steered = await self._send(session, f"{session}.2 {SECOND}", "steer")
        second = await self._send(session, f"{session}.3 {SECOND}", "interrupt")
        ends = [(await self._call(session, "attach", {"turn": turn})).answer for turn in (1, 2)]
        wrong = [
            text
            for text, is_so in {
                f"it was not accepted: {first}": first["turn"] == 1,
                f"it was not steered: {steered}": steered["status"] == "steered",
                f"it did not interrupt: {second}": second["interrupted"] == [1],
                f"turn 1 ended so: {ends[0]}": ends[0]["status"] == "interrupted",
                f"turn 2 ended so: {ends[1]}": ends[1]["status"] == "completed",
            }.items()
            if not is_so
        ]
        wrong += [str(violation) for violation in check(await self._records(session))]
        (self._folder / "arm").unlink(missing_ok=True)
        return self._entry(session), wrong

    async def _send(self, session: str, content: str, policy: str) -> Any:
        body = {"content": content, "policy": policy}
        return (await self._call(session, "message", body)).answer

    async def _call(self, session: str, name: str, body: Any = None) -> Any:
        op = await self._client.call(AGENT, session, name, body, patience=60)
        assert op.ok, f"{name} was answered {op.status} {op.answer}"
        return op

    async def _until(self, session: str, step: str) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            lines = read_lines(self._folder / "steps.jsonl")
            if any(x.session == session and x.step == step for x in lines):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{step} did not begin in {session}")

    async def _records(self, session: str) -> Records:
        turns: list[dict[str, Any]] = [{"status": "running"}]
        while any(turn["status"] == "running" for turn in turns):
            turns = (await self._call(session, "get_turns")).answer["turns"]
        status = (await self._call(session, "get_status")).answer
        history = (await self._call(session, "get_history")).answer
        tasks = {turn["task_id"] for turn in turns}
        return Records(
            [op for op in self._client.history.ops if op.session == session],
            [x for x in read_lines(self._folder / "steps.jsonl") if x.session == session],
            invocations=[task for task in await self._system.tasks() if task.id in tasks],
            finals=[Final(AGENT, session, status, turns, history)],
            cleanup_timeout=CLEANUP_TIMEOUT,
        )

    def _entry(self, session: str) -> str | None:
        entries = self._folder / "entries.jsonl"
        for text in entries.read_text().splitlines() if entries.exists() else ():
            if (entry := json.loads(text))["id"] == session:
                return str(entry["entry"])
        return None


@asynccontextmanager
async def scenario(folder: Path) -> AsyncIterator[Scenario]:
    """A server, and a worker that comes back at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.set_inheritable(listener.fileno(), True)
        descriptor = listener.fileno()
        command = [sys.executable, "-m", "tests.chaos.crash_worker", str(descriptor), str(folder)]
        with (folder / "worker.log").open("ab") as log:
            worker = subprocess.Popen(command, pass_fds=[descriptor], stdout=log, stderr=log)
        try:
            async with single(folder) as system, httpx.AsyncClient(trust_env=False) as http:
                await system.register(f"http://127.0.0.1:{listener.getsockname()[1]}")
                client = Client(system.urls, http, History(folder / "clients.jsonl"))
                yield Scenario(system, client, folder)
        finally:
            worker.kill()
            worker.wait()


@pytest.mark.parametrize("mode", ["before", "after"])
def test_wherever_the_worker_dies_the_turn_ends_as_it_should(mode: str, tmp_path: Path) -> None:
    async def play() -> tuple[Counter[str], dict[str, list[str]]]:
        entries: Counter[str] = Counter()
        failures: dict[str, list[str]] = {}
        async with scenario(tmp_path) as played:
            for number in range(1, LAST, STRIDE):
                entry, wrong = await played.play(mode, number)
                if wrong:
                    failures[f"{mode} {number} ({entry})"] = wrong
                if entry is None:
                    return entries, failures
                entries[entry] += 1
        raise AssertionError(f"the scenario has more than {LAST} entries")

    entries, failures = asyncio.run(play())
    print(f"the worker died {mode} each of {entries.total()} entries: {dict(entries)}")
    assert failures == {}
    assert entries.total() > 40 // STRIDE
