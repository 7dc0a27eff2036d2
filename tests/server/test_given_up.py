"""A predecessor that does not end: it is waited out once, and is in nobody's way any more."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from restate import Context

from interruptible import Agent, Session, Task
from interruptible.testing import Restate

from .conftest import Deploy, Log, eventually, is_idle
from .gated import Gated, finish, history, open_session, record, start
from .process import free_port
from .test_crash import Worker

pytestmark = pytest.mark.anyio

SHORT, EVER = timedelta(milliseconds=500), timedelta(hours=1)


class Stubborn(Gated):
    """A step of its first turn goes on whatever it is told, until it is freed."""

    def __init__(self, log: Log, name: str, **options: Any) -> None:
        self.patience = SHORT
        super().__init__(log, name, **options)
        self.freed = asyncio.Event()

    @property
    def cleanup_timeout(self) -> timedelta:
        """Whoever waits reads it as its wait begins; it is noted."""
        if hasattr(self, "log"):
            self.log.note("waits", self.patience)
        return self.patience

    @cleanup_timeout.setter
    def cleanup_timeout(self, _: timedelta) -> None: ...

    async def _work(self, turn: int) -> str:
        if turn > 1 or self.freed.is_set():
            return await super()._work(turn)
        await self.log.add("stuck", turn)
        while not self.freed.is_set():
            try:
                await self.freed.wait()
            except asyncio.CancelledError:
                self.log.note("goes on", turn)
        return "late words"


Stuck = Callable[[str], Awaitable[tuple[Session, Stubborn]]]


@pytest.fixture
async def stuck(restate_env: Restate, deploy: Deploy, log: Log) -> AsyncIterator[Stuck]:
    """Make a session whose first turn is stuck in a step, until the test ends at the latest."""
    workers: list[Stubborn] = []

    async def stuck(name: str) -> tuple[Session, Stubborn]:
        worker = Stubborn(log, name)
        workers.append(worker)
        session = await open_session(restate_env, deploy, worker)
        await start(session, worker, "one")
        await log.until("stuck", 1)
        return session, worker

    yield stuck
    for worker in workers:
        worker.freed.set()


async def given_up(session: Session, *turns: int) -> None:
    """Wait until the status says that these were given up."""

    async def shown() -> bool:
        live = (await session.status())["live"]
        return [x["turn"] for x in live if x.get("given_up")] == list(turns)

    await eventually(shown)


async def free(session: Session, worker: Stubborn) -> Any:
    """Let the stuck step end; returns the outcome of its turn."""
    ending = asyncio.ensure_future(session.attach(1))
    worker.tell(1, "end")  # on a server that replays, the step does not hear of the cancellation
    worker.freed.set()
    return await asyncio.wait_for(ending, 30)


async def test_a_turn_that_does_not_end_is_waited_out_once_and_its_late_end_fills_its_own_slot(
    stuck: Stuck, log: Log
) -> None:
    session, worker = await stuck("UnmovedAgent")
    receipt = await session.send("two")
    assert (receipt["status"], receipt["interrupted"]) == ("waiting", [1])
    await log.until("begin", 2)
    await given_up(session, 1)
    status = await session.status()
    assert (status["status"], status["turn"]) == ("running", 2)
    assert status["live"][0] == {
        "turn": 1,
        "task_id": worker.tasks[1],
        "cancelled": "interrupted by turn 2",
        "given_up": True,
    }
    assert await record(session, "turn", "status", "given_up") == [
        (1, "running", True),
        (2, "running", None),
    ]
    worker.patience = EVER  # whoever waits for it again waits longer than this test
    await finish(session, worker, 2)
    assert (await session.status())["live"] == status["live"][:1]
    receipt = await session.send("three", policy="reject", if_idle=True)
    assert (receipt["status"], receipt["interrupted"]) == ("running", [])
    await log.until("begin", 3)
    assert worker.seen[3] == ["one", "note: interrupted by turn 2", "two", "answer 2", "three"]
    receipt = await session.send("four", if_turn=3)
    assert (receipt["status"], receipt["interrupted"]) == ("waiting", [3])
    worker.stop(3)
    await log.until("begin", 4)
    await finish(session, worker, 4)
    assert (await free(session, worker))["status"] == "interrupted"
    assert (await session.status())["live"] == []
    assert await record(session, "turn", "status", "given_up") == [
        (1, "interrupted", True),
        (2, "completed", None),
        (3, "interrupted", None),
        (4, "completed", None),
    ]
    assert [turn for kind, turn in log.of("begin")] == [1, 2, 3, 4]


async def test_who_waits_for_it_already_is_told_that_another_waited_it_out(
    stuck: Stuck, log: Log
) -> None:
    session, worker = await stuck("StuckQueueAgent")
    await session.send("two")
    await log.until("waits", SHORT)
    worker.patience = EVER
    await session.send("three", policy="queue")
    await log.until("waits", EVER)
    await log.until("begin", 2)
    worker.tell(2, "end")
    await log.until("begin", 3)
    await finish(session, worker, 3)
    assert (await free(session, worker))["status"] == "interrupted"
    assert await eventually(lambda: is_idle(session))


async def test_a_queued_turn_gives_up_what_is_cancelled_later(stuck: Stuck, log: Log) -> None:
    session, worker = await stuck("StuckLaterAgent")
    for text in ("two", "three"):
        await session.send(text, policy="queue")
    assert await session.cancel(1) == [1]
    await log.until("begin", 2)
    await given_up(session, 1)
    worker.patience = EVER
    worker.tell(2, "end")
    await log.until("begin", 3)
    await finish(session, worker, 3)
    await free(session, worker)


async def test_what_was_steered_at_it_stays_with_it(stuck: Stuck, log: Log) -> None:
    session, worker = await stuck("StuckSteeredAgent")
    assert (await session.send("and this", policy="steer"))["turn"] == 1
    await session.send("two")
    await log.until("begin", 2)
    await given_up(session, 1)
    note = "note: interrupted by turn 2"
    assert worker.seen[2] == ["one", "and this", note, "two"]
    assert (await session.status())["steered"] == 0
    assert (await session.send("more", policy="steer"))["turn"] == 2
    worker.tell(2, "look")
    await finish(session, worker, 2)
    assert (await session.send("three", policy="steer"))["turn"] == 3
    await log.until("begin", 3)
    assert worker.seen[3] == ["one", "and this", note, "two", "more", "answer 2", "three"]
    await free(session, worker)
    await finish(session, worker, 3)
    assert (await history(session))[:3] == ["one", "and this", note]


async def test_it_can_be_taken_back_answered_again_forked_around_and_removed(
    stuck: Stuck, log: Log
) -> None:
    session, worker = await stuck("StuckBackAgent")
    await session.send("two")
    await log.until("begin", 2)
    await given_up(session, 1)
    worker.patience = EVER
    await finish(session, worker, 2)
    fork = await session.fork("copy")
    assert await record(fork, "turn", "status", "given_up") == [
        (1, "interrupted", True),
        (2, "completed", None),
    ]
    assert await history(fork) == ["one", "note: interrupted by turn 2", "two", "answer 2"]
    assert (await session.rewind(2))["discarded"] == [2]
    receipt = await session.regenerate(1)
    assert (receipt["turn"], receipt["status"], receipt["discarded"]) == (3, "running", [1])
    await log.until("begin", 3)
    assert worker.seen[3] == ["one"]
    await finish(session, worker, 3)
    assert [x["turn"] for x in (await session.status())["live"]] == [1]
    waiting = asyncio.ensure_future(session.send("later", policy="queue"))
    assert (await waiting)["status"] == "running"
    await log.until("begin", 4)
    assert worker.seen[4] == ["one", "answer 3", "later"]
    await finish(session, worker, 4)
    assert await session.reset() == []
    assert (await session.status())["live"] == (await session.turns())["turns"] == []
    worker.freed.set()
    worker.tell(1, "end")
    assert (await start(session, worker, "new"))["turn"] == 5
    await finish(session, worker, 5)
    assert await history(session) == ["new", "answer 5"]


class Shifting(Agent):
    """Its first turn does something else in each attempt, so that no other can replay it."""

    def __init__(self, log: Log, name: str) -> None:
        super().__init__(name, cleanup_timeout=SHORT)
        self.log = log
        self.attempts = 0

    async def run(self, ctx: Context, task: Task) -> str:
        if task.turn == 1:
            self.attempts += 1
            self.log.note("attempt", self.attempts)
            if self.attempts > 1:
                await ctx.sleep(timedelta(0))
            await ctx.run_typed("step", self.log.step, name="step")
            msg = "so that there is another attempt"
            raise RuntimeError(msg)
        return "done"


async def test_a_task_that_cannot_be_replayed_is_waited_out_once_and_can_be_killed(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Shifting(log, "ShiftingAgent")
    session = await open_session(restate_env, deploy, worker)
    task_id = (await session.send("one"))["task_id"]
    await log.until("attempt", 3)
    [stuck_task] = await restate_env.invocations(f"id = '{task_id}'")
    assert stuck_task["last_failure_error_code"] == "RT0016"  # a journal mismatch
    assert (await session.ask("two"))["status"] == "completed"
    await given_up(session, 1)
    worker.cleanup_timeout = EVER
    assert (await session.ask("three"))["status"] == "completed"
    await restate_env.kill(task_id)
    assert (await session.attach(1))["status"] == "killed"
    assert (await session.status())["live"] == []


async def test_a_task_whose_worker_is_gone_is_waited_out_once_until_an_operator_ends_it(
    restate_env: Restate, tmp_path: Path
) -> None:
    first, second = (Worker(tmp_path, free_port()) for _ in range(2))
    session = Session(restate_env.client, "LostAgent", tmp_path.name)
    async with first.running():
        await restate_env.register(first.url)
        first.hold("turn 1")
        task_id = (await session.send("one"))["task_id"]
        await first.until("begin", "turn 1")
        await first.kill()
    async with second.running():
        await restate_env.register(second.url)
        second.die_before("turn 2")  # when it has noted that it gave up, and before it did anything
        answered = asyncio.ensure_future(session.ask("two"))
        await second.died()
        await second.start()
        assert (await answered)["status"] == "completed"
        await given_up(session, 1)
        note = f"target_handler_name = 'give_up' AND target_service_key = '{tmp_path.name}'"
        assert len(await restate_env.invocations(note)) == 1
        (tmp_path / "patient").touch()
        for text in ("three", "four"):
            assert (await session.ask(text))["status"] == "completed"
        [live] = (await session.status())["live"]
        assert live["task_id"] == task_id
        await restate_env.kill(live["task_id"])
        outcome = await session.attach(1)
        assert (outcome["status"], outcome["messages"]) == ("killed", [])
        assert (await session.status())["live"] == []
        assert await record(session, "turn", "status", "given_up") == [
            (1, "killed", True),
            *((turn, "completed", None) for turn in (2, 3, 4)),
        ]
