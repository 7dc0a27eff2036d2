"""The program of the example ends when it is told to, also in the middle of a turn."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from interruptible import Session
from interruptible.testing import Restate
from tests.server.process import free_port

pytestmark = pytest.mark.anyio

MAIN = ("-u", "-m", "examples.coding_agent")


async def started(*arguments: str, until: str) -> asyncio.subprocess.Process:
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        *MAIN,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert program.stdout is not None
    await asyncio.wait_for(program.stdout.readuntil(until.encode()), 30)
    return program


async def end(program: asyncio.subprocess.Process) -> int | None:
    """Tell it to end with SIGTERM; what does not is killed."""
    program.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(program.communicate(), 15)
    finally:
        if program.returncode is None:
            program.kill()
    return program.returncode


async def test_serve_ends_at_sigterm() -> None:
    serve = await started("serve", "--ingress", "0", "--admin", "0", until="get_diff")
    assert await end(serve) == 0


async def test_a_worker_that_is_at_work_ends_at_sigterm_and_another_goes_on(
    restate_env: Restate, tmp_path: Path
) -> None:
    port = free_port()
    ingress = restate_env.ingress_url.rpartition(":")[2]
    arguments = ("worker", f"--port={port}", f"--root={tmp_path}", f"--ingress={ingress}")
    worker = await started(*arguments, until="serving on")
    await restate_env.register(f"http://127.0.0.1:{port}")
    session = Session(restate_env.client, "CodingAgent", tmp_path.name)
    await session.send("Write a program that counts words.")
    assert await end(worker) is not None  # hypercorn stumbles over what is sent to it meanwhile
    worker = await started(*arguments, until="serving on")
    assert (await session.attach())["status"] == "completed"
    assert await end(worker) == 0
