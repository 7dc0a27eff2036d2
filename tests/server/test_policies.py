"""What a message does to a live turn, as its sender chooses, on a real server."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from restate import Context, TerminalError

from interruptible import Agent, Session, Task
from interruptible.testing import Restate

from .conftest import REPLAY, Deploy, Log, eventually, is_idle

pytestmark = pytest.mark.anyio


class Worker(Agent):
    """Works on each turn until it is released; notes what it was sent."""

    def __init__(self, log: Log, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.log = log
        self.seen: dict[int, list[Any]] = {}
        self.released: dict[int, asyncio.Event] = {}

    async def run(self, ctx: Context, task: Task) -> str:
        self.seen[task.turn] = [m["content"] for m in task.messages]
        return await ctx.run_typed("work", self.work, turn=task.turn)

    async def work(self, turn: int) -> str:
        await self.log.add("begin", turn)
        try:
            await self.release(turn).wait()
        except asyncio.CancelledError:
            self.log.note("abort", turn)
            raise
        await self.log.add("end", turn)
        return f"answer {turn}"

    def stop(self, turn: int) -> None:
        """Let go of a turn that was cancelled, where its step does not hear of that."""
        if REPLAY:
            self.release(turn).set()

    def release(self, turn: int) -> asyncio.Event:
        return self.released.setdefault(turn, asyncio.Event())


class Noting(Worker):
    """Tells the model why a turn was interrupted."""

    def interruption_note(self, turn: Any) -> str:
        return f"note: {turn['reason']}"


async def test_queued_messages_become_turns_of_their_own_one_after_the_other(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Worker(log, "QueueAgent", policy="queue")
    await deploy(worker)
    session = Session(restate_env.client, worker, "one")
    receipts = [await session.send(f"message {n}") for n in (1, 2, 3)]
    assert [r["status"] for r in receipts] == ["running", "waiting", "waiting"]
    assert [r["interrupted"] for r in receipts] == [[], [], []]
    await log.until("begin", 1)
    status = await session.status()
    assert (status["turn"], [x["turn"] for x in status["live"]]) == (1, [1, 2, 3])
    tasks = await restate_env.invocations(
        "target_service_name = 'QueueTask' AND target_handler_name = 'run_task'"
    )
    assert [task["id"] for task in tasks] == [r["task_id"] for r in receipts]
    for turn in (1, 2, 3):
        worker.release(turn).set()
    assert (await session.attach(3))["status"] == "completed"
    assert [event for event in log.events if event[0] != "abort"] == [
        (kind, turn) for turn in (1, 2, 3) for kind in ("begin", "end")
    ]
    expected = ["message 1", "answer 1", "message 2", "answer 2", "message 3"]
    assert worker.seen[3] == expected
    assert [m["content"] for m in await session.history()] == [*expected, "answer 3"]
    await eventually(lambda: is_idle(session))


async def test_an_interrupt_supersedes_the_turn_at_work_and_all_that_are_queued(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Worker(log, "SupersedeAgent")
    await deploy(worker)
    session = Session(restate_env.client, worker, "one")
    await session.send("first")
    await log.until("begin", 1)
    await session.send("second", policy="queue")
    await session.send("third", policy="queue")
    receipt = await session.send("fourth")
    assert (receipt["turn"], receipt["interrupted"]) == (4, [1, 2, 3])
    worker.stop(1)
    worker.release(4).set()
    assert (await session.attach(4))["status"] == "completed"
    statuses = [(await session.attach(turn))["status"] for turn in (1, 2, 3)]
    assert statuses == ["interrupted"] * 3
    assert [turn for _, turn in log.of("begin")] == [1, 4]
    said = [m["content"] for m in await session.history() if not m["content"].startswith("[")]
    assert said == ["first", "second", "third", "fourth", "answer 4"]


async def test_a_queued_turn_that_is_cancelled_leaves_the_others_in_their_order(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Noting(log, "DequeueAgent", policy="queue")
    await deploy(worker)
    session = Session(restate_env.client, worker, "one")
    for n in (1, 2, 3):
        await session.send(f"message {n}")
    await log.until("begin", 1)
    assert await session.cancel(2, reason="not needed any more") == [2]
    assert (await session.attach(2))["status"] == "interrupted"
    for turn in (1, 3):
        worker.release(turn).set()
    assert (await session.attach(3))["status"] == "completed"
    assert [turn for _, turn in log.of("begin")] == [1, 3]
    note = "note: cancelled: not needed any more"
    assert worker.seen[3] == ["message 1", "answer 1", "message 2", note, "message 3"]


async def test_a_reject_is_refused_while_a_turn_is_live_and_taken_once_none_is(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Worker(log, "RejectAgent", policy="reject")
    await deploy(worker)
    session = Session(restate_env.client, worker, "one")
    receipt = await session.send("first")
    await log.until("begin", 1)
    with pytest.raises(TerminalError, match="turn 1 is live") as refusal:
        await session.send("second")
    assert refusal.value.status_code == 423
    assert [m["content"] for m in await session.history()] == ["first"]
    # A task that was killed is no live turn, whatever the record says.
    await restate_env.kill(receipt["task_id"])
    worker.release(2).set()
    assert (await session.ask("third"))["turn"] == 2
    assert [m["content"] for m in await session.history()] == ["first", "third", "answer 2"]


async def test_a_precondition_that_does_not_hold_changes_nothing(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Worker(log, "ConditionAgent")
    await deploy(worker)
    session = Session(restate_env.client, worker, "one")
    with pytest.raises(TerminalError, match="turn 1 is not at work; no turn is live") as refusal:
        await session.send("first", if_turn=1)
    assert refusal.value.status_code == 412
    await session.send("first", if_idle=True)
    await log.until("begin", 1)
    for condition in ({"if_idle": True}, {"if_turn": 2}):
        with pytest.raises(TerminalError, match="turn 1 is live") as refusal:
            await session.send("second", **condition)  # type: ignore[arg-type]
        assert refusal.value.status_code == 412
    assert [x["turn"] for x in (await session.status())["live"]] == [1]
    # Two clients have seen turn 1 and interrupt it at once: one of them wins.
    sends = [session.send(f"client {n}", if_turn=1) for n in (1, 2)]
    results = await asyncio.gather(*sends, return_exceptions=True)
    refused = [r for r in results if isinstance(r, TerminalError)]
    accepted = [r for r in results if isinstance(r, dict)]
    assert [(r.status_code, "turn 2 is live" in r.message) for r in refused] == [(412, True)]
    assert [r["interrupted"] for r in accepted] == [[1]]
    worker.stop(1)
    worker.release(2).set()
    assert (await session.attach(2))["status"] == "completed"


async def test_more_turns_than_may_be_pending_are_refused_and_an_interrupt_still_works(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Worker(log, "FullAgent", policy="queue", max_pending=3)
    await deploy(worker)
    session = Session(restate_env.client, worker, "one")
    for n in (1, 2, 3):
        await session.send(f"message {n}")
    with pytest.raises(TerminalError, match="3 of 3 are pending") as refusal:
        await session.send("message 4")
    assert refusal.value.status_code == 429
    assert len(await session.history()) == 3
    assert (await session.send("stop", policy="interrupt"))["interrupted"] == [1, 2, 3]
    worker.stop(1)
    worker.release(4).set()
    assert (await session.attach(4))["status"] == "completed"


async def test_a_policy_that_the_agent_does_not_allow_is_refused(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Worker(log, "NarrowAgent", policy="queue", allowed_policies=["queue", "reject"])
    await deploy(worker)
    session = Session(restate_env.client, worker, "one")
    with pytest.raises(TerminalError, match="policy: must be one of queue, reject") as refusal:
        await session.send("first", policy="interrupt")
    assert refusal.value.status_code == 400
    assert await session.history() == []


async def test_the_reason_for_a_cancel_is_kept_with_the_turn(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Noting(log, "ReasonAgent")
    await deploy(worker)
    session = Session(restate_env.client, worker, "one")
    await session.send("first")
    await log.until("begin", 1)
    await session.cancel(reason="wrong file")
    worker.stop(1)
    await session.attach()
    assert [m["content"] for m in await session.history()][1:] == ["note: cancelled: wrong file"]


async def test_a_queued_turn_waits_for_a_cancelled_one_no_longer_than_the_cleanup_timeout(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    release = asyncio.Event()

    class StuckAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn == 1:
                await log.add("waiting")
                await ctx.signal("never")
            return "done"

        async def on_interrupted(self, ctx: Context, task: Task) -> None:
            await ctx.run_typed("stuck", release.wait)

    agent = StuckAgent(policy="queue", cleanup_timeout=timedelta(milliseconds=300))
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("first")
    await log.until("waiting")
    await session.send("second")
    await session.send("third")
    assert await session.cancel(1) == [1]
    assert (await session.attach(3))["status"] == "completed"
    assert [x["turn"] for x in (await session.status())["live"]] == [1]
    release.set()
    assert (await session.attach(1))["status"] == "interrupted"
