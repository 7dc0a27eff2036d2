"""The worker is killed with SIGKILL at the worst moments, and comes back."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from interruptible import Session
from interruptible.testing import Restate

from .conftest import REPLAY, eventually

pytestmark = pytest.mark.anyio


class Worker:
    """A worker in a process of its own; see `worker.py`."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.server.worker", str(self.port), str(self.folder)
        )

        async def listens() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                return False
            writer.close()
            await writer.wait_closed()
            return True

        await eventually(listens)

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def died(self) -> None:
        await asyncio.wait_for(self._process.wait(), 30)

    def hold(self, step: str) -> None:
        (self.folder / f"hold {step}").touch()

    def release(self, step: str) -> None:
        (self.folder / f"hold {step}").unlink()

    def die_before(self, step: str) -> None:
        (self.folder / f"die {step}").touch()

    def log(self) -> list[list[str]]:
        log = self.folder / "log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    async def until(self, *event: str) -> None:
        async def seen() -> bool:
            return list(event) in self.log()

        await eventually(seen)


@pytest.fixture
async def worker(restate_env: Restate, tmp_path: Path) -> AsyncIterator[Worker]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    worker = Worker(tmp_path, port)
    await worker.start()
    try:
        await restate_env.register(worker.url)
        yield worker
    finally:
        await worker.kill()


@pytest.fixture
def session(restate_env: Restate, tmp_path: Path) -> Session:
    return Session(restate_env.client, "CrashAgent", tmp_path.name)


def once(*steps: str) -> list[list[str]]:
    return [[kind, step] for step in steps for kind in ("begin", "end")]


CLEANUP = ("undo 1", "undo 2", "undo 3")
PLAN = {"role": "assistant", "content": "plan"}


async def test_killed_in_the_body_a_turn_goes_on_where_it_was_and_nothing_is_cleaned_up(
    worker: Worker, session: Session
) -> None:
    worker.hold("draft")
    await session.send("go")
    await worker.until("begin", "draft")
    await worker.kill()
    worker.release("draft")
    await worker.start()
    outcome = await session.attach()
    assert outcome["status"] == "completed"
    assert outcome["messages"] == [PLAN, {"role": "assistant", "content": "draft"}]
    assert worker.log() == [*once("plan"), ["begin", "draft"], *once("draft")]


async def test_cancelled_while_the_worker_is_dead_a_turn_is_cleaned_up_when_it_is_back(
    worker: Worker, session: Session, restate_env: Restate
) -> None:
    worker.hold("draft")
    receipt = await session.send("go")
    await worker.until("begin", "draft")
    await worker.kill()
    await restate_env.cancel(receipt["task_id"])
    await worker.start()
    assert await session.attach(1) == {"turn": 1, "status": "interrupted", "messages": [PLAN]}
    assert worker.log() == [*once("plan"), ["begin", "draft"], *once(*CLEANUP)]


@pytest.mark.parametrize("step", CLEANUP)
async def test_killed_in_a_cleanup_step_that_step_runs_again_and_the_others_once(
    worker: Worker, session: Session, step: str
) -> None:
    worker.hold("draft")
    worker.hold(step)
    await session.send("go")
    await worker.until("begin", "draft")
    await session.send("next")
    if REPLAY:  # a step in flight hears of nothing there
        worker.release("draft")
    await worker.until("begin", step)
    await worker.kill()
    worker.release(step)
    await worker.start()
    assert (await session.attach())["status"] == "completed"
    assert await session.attach(1) == {"turn": 1, "status": "interrupted", "messages": [PLAN]}
    position = CLEANUP.index(step)
    assert [entry for entry in worker.log() if entry[1] != "draft"] == [
        *once("plan"),
        *once(*CLEANUP[:position]),
        ["begin", step],
        *once(*CLEANUP[position:]),
        *once("turn 2"),
    ]


@pytest.mark.parametrize("step", CLEANUP)
async def test_killed_between_two_cleanup_steps_each_of_them_runs_once(
    worker: Worker, session: Session, step: str
) -> None:
    worker.hold("draft")
    worker.die_before(step)
    await session.send("go")
    await worker.until("begin", "draft")
    await session.send("next")
    if REPLAY:
        worker.release("draft")
    await worker.died()
    await worker.start()
    assert (await session.attach())["status"] == "completed"
    assert await session.attach(1) == {"turn": 1, "status": "interrupted", "messages": [PLAN]}
    assert [entry for entry in worker.log() if entry[1] != "draft"] == once(
        "plan", *CLEANUP, "turn 2"
    )


async def test_a_server_that_is_killed_with_its_worker_loses_no_turn(
    worker: Worker, session: Session, restate_env: Restate
) -> None:
    worker.hold("undo 2")
    worker.hold("draft")
    await session.send("go")
    await worker.until("begin", "draft")
    await session.send("next")
    if REPLAY:
        worker.release("draft")
    await worker.until("begin", "undo 2")
    await worker.kill()
    await restate_env.restart(kill=True)
    worker.release("undo 2")
    await worker.start()
    assert (await session.attach())["status"] == "completed"
    assert [entry for entry in worker.log() if entry[1] != "draft"] == [
        *once("plan", "undo 1"),
        ["begin", "undo 2"],
        *once("undo 2", "undo 3", "turn 2"),
    ]
