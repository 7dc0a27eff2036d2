"""Messages that are steered at a turn at work, on a real server."""

import asyncio
import random
from typing import Any
from unittest.mock import ANY

import pytest
from restate import Context, RunOptions

from interruptible import Agent, Interrupted, Session, Task
from interruptible.testing import Restate

from .conftest import Deploy, Log, eventually, is_idle
from .gated import RACES, Gated, finish, history, open_session, record, start, texts

pytestmark = pytest.mark.anyio


async def steer(session: Session, *said: str) -> list[Any]:
    return [await session.send(text, policy="steer") for text in said]


async def test_steered_messages_are_taken_in_order_and_once_and_stand_where_they_were_taken(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "SteerAgent", policy="steer")
    session = await open_session(restate_env, deploy, worker)
    receipt = await start(session, worker, "first")
    assert receipt["status"] == "running"
    steered = {**receipt, "status": "steered"}
    assert await steer(session, "a", "b") == [{**steered, "message": x} for x in (2, 3)]
    assert (await session.status())["steered"] == 2
    assert await history(session) == ["first", "a", "b"]
    worker.tell(1, "before", "look", "after", "look")
    await log.until("took", 1, [])
    assert (await session.status())["steered"] == 0
    await steer(session, "c")
    worker.tell(1, "look")
    await finish(session, worker, 1)
    assert log.of("took") == [("took", 1, taken) for taken in (["a", "b"], [], ["c"])]
    said = ["first", "before", "a", "b", "after", "c", "answer 1"]
    assert await history(session) == said
    assert texts((await session.attach(1))["messages"]) == said[1:]
    assert await record(session, "turn", "status", "steered") == [(1, "completed", [1, 2, 4])]
    await start(session, worker, "second")
    assert worker.seen[2] == [*said, "second"]
    await finish(session, worker, 2)


@pytest.mark.parametrize(("order", "status"), [("end", "completed"), ("fail", "failed")])
async def test_what_a_turn_did_not_take_becomes_the_next_turn(
    restate_env: Restate, deploy: Deploy, log: Log, order: str, status: str
) -> None:
    worker = Gated(log, f"Untaken{order.title()}Agent")
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "first")
    await steer(session, "taken")
    worker.tell(1, "look")
    await log.until("took", 1, ["taken"])
    await steer(session, "a", "b")
    worker.tell(1, order)
    await log.until("begin", 2)
    assert (await session.attach(1))["status"] == status
    await finish(session, worker, 2)
    said = ["first", "taken", *(["answer 1"] if order == "end" else []), "a", "b"]
    assert worker.seen[2] == said
    assert await history(session) == [*said, "answer 2"]
    turns = (await session.turns())["turns"]
    assert [texts(turn["input"]) for turn in turns] == [["first"], ["a", "b"]]
    assert turns[1]["task_id"] == worker.tasks[2]


async def test_what_a_turn_did_not_take_belongs_to_the_queued_one_in_the_order_of_acceptance(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "HeirAgent")
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "first")
    await steer(session, "a")
    await session.send("second", policy="queue")
    await steer(session, "b")
    await session.send("third", policy="queue")
    await steer(session, "c")
    worker.tell(1, "end")
    worker.tell(2, "look")
    await log.until("took", 2, [])
    await finish(session, worker, 2, 3)
    said = ["first", "answer 1", "a", "second", "b", "c", "answer 2", "third"]
    assert worker.seen[2] == said[:-2]
    assert worker.seen[3] == said
    assert await history(session) == [*said, "answer 3"]
    turns = (await session.turns())["turns"]
    assert texts(turns[1]["input"]) == ["a", "second", "b", "c"]


@pytest.mark.parametrize("how", ["interrupt", "cancel", "rollback", "rewind"])
async def test_what_was_steered_at_a_turn_stays_with_it_when_it_is_cancelled_and_goes_with_it(
    restate_env: Restate, deploy: Deploy, log: Log, how: Any
) -> None:
    worker = Gated(log, f"Stay{how.title()}Agent")
    session = await open_session(restate_env, deploy, worker)
    worker.hold(1)
    await start(session, worker, "first")
    await steer(session, "a")
    worker.tell(1, "look", "half done")
    await worker.asks.until(1, times=3)
    await steer(session, "b", "c")
    if how == "cancel":
        assert await session.cancel() == [1]
    elif how == "rewind":
        assert await session.rewind(1) == {"cancelled": [1], "discarded": [1]}
    else:
        await session.send("second", policy=how)
    worker.stop(1)
    await log.until("cleaning", 1)
    assert (await session.status())["steered"] == 0
    worker.free(1)
    assert texts((await session.attach(1))["messages"]) == ["a", "half done", "b", "c"]
    if how in ("cancel", "rewind"):
        await eventually(lambda: is_idle(session))
        await start(session, worker, "second")
    await finish(session, worker, 2)
    why = "cancelled" if how == "cancel" else "interrupted by turn 2"
    kept = ["first", "a", "half done", "b", "c", f"note: {why}"]
    said = [*(kept if how in ("interrupt", "cancel") else []), "second"]
    assert worker.seen[2] == said
    assert await history(session) == [*said, "answer 2"]
    assert log.of("took") == [("took", 1, ["a"])]
    assert (await record(session, "steered"))[0] == ([0, 2, 3],)


@pytest.mark.parametrize("how", ["kill", "cancel"])
async def test_what_was_steered_at_a_task_that_an_operator_ends_becomes_the_next_turn_by_itself(
    restate_env: Restate, deploy: Deploy, log: Log, how: str
) -> None:
    worker = Gated(log, f"Operator{how.title()}Agent")
    session = await open_session(restate_env, deploy, worker)
    receipt = await start(session, worker, "first")
    await steer(session, "a", "b")
    # From here on, nobody asks the session for anything until the next turn is at work.
    if how == "kill":
        await restate_env.kill(receipt["task_id"])
    else:
        await restate_env.cancel(receipt["task_id"])
        worker.stop(1)
    await log.until("begin", 2)
    said = ["first", *(["note: cancelled"] if how == "cancel" else []), "a", "b"]
    assert worker.seen[2] == said
    await finish(session, worker, 2)
    assert await history(session) == [*said, "answer 2"]
    ended = "killed" if how == "kill" else "interrupted"
    assert await record(session, "status") == [(ended,), ("completed",)]


async def test_what_is_steered_after_a_task_was_killed_comes_after_what_was_steered_before(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "SteeredKilledAgent")
    session = await open_session(restate_env, deploy, worker)
    for turn in range(1, 2 * RACES, 2):
        receipt = await start(session, worker, "ask")
        await steer(session, "a")
        await restate_env.kill(receipt["task_id"])
        (receipt,) = await steer(session, "b")
        # Whether or not it was known by then that the task was killed, both are in one turn.
        assert receipt["turn"] in (turn, turn + 1)
        await log.until("begin", turn + 1)
        worker.tell(turn + 1, "look")
        await log.until("took", turn + 1, ANY)
        await finish(session, worker, turn + 1)
        said = ["ask", "a", "b", f"answer {turn + 1}"]
        assert (await history(session))[-4:] == said
    assert len(await history(session)) == 4 * RACES


async def test_what_passed_on_to_a_queued_task_that_is_killed_passes_on_again(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "PassOnAgent")
    session = await open_session(restate_env, deploy, worker)
    first = await start(session, worker, "first")
    await steer(session, "a")
    second = await session.send("second", policy="queue")
    await restate_env.kill(second["task_id"])
    await restate_env.kill(first["task_id"])
    await log.until("begin", 3)
    await finish(session, worker, 3)
    assert await history(session) == ["first", "second", "a", "answer 3"]


async def test_a_message_that_is_steered_as_the_turn_ends_is_in_the_conversation_once(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "LastMomentAgent")
    session = await open_session(restate_env, deploy, worker)
    moments = random.Random(1)  # noqa: S311
    expected: list[str] = []
    for _ in range(RACES):
        turn = (await start(session, worker, "ask"))["turn"]
        worker.tell(turn, "look", "end")
        await asyncio.sleep(moments.random() / 20)
        (receipt,) = await steer(session, "steered")
        outcome = texts((await session.attach(turn))["messages"])
        if outcome == ["steered", f"answer {turn}"]:
            assert (receipt["turn"], receipt["status"]) == (turn, "steered")
            expected += ["ask", *outcome]
        else:
            assert outcome == [f"answer {turn}"]
            await log.until("begin", turn + 1)
            expected += ["ask", *outcome, "steered"]
            assert worker.seen[turn + 1] == expected
            await finish(session, worker, turn + 1)
            expected.append(f"answer {turn + 1}")
        await eventually(lambda: is_idle(session))
        assert await history(session) == expected


async def test_a_message_that_is_taken_as_its_turn_is_cancelled_is_not_lost(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "TornAgent")
    session = await open_session(restate_env, deploy, worker)
    moments = random.Random(2)  # noqa: S311
    for turn in range(1, RACES + 1):
        await start(session, worker, "ask")
        await steer(session, "a", "b")
        worker.tell(turn, "look")
        await asyncio.sleep(moments.random() / 20)
        assert await session.cancel() == [turn]
        worker.stop(turn)
        outcome = await session.attach(turn)
        assert (outcome["status"], texts(outcome["messages"])) == ("interrupted", ["a", "b"])
        await eventually(lambda: is_idle(session))
    assert await history(session) == ["ask", "a", "b", "note: cancelled"] * RACES


async def test_steering_in_a_cancelled_turn_raises_and_takes_nothing(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class DeafAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            await ctx.run_typed("begin", log.add, RunOptions(), "begin", task.turn)
            await log.add("waiting")  # the step before has ended, too
            for _ in range(2):
                try:
                    await ctx.signal("never")
                except Interrupted:
                    await log.add("heard")
                try:
                    await task.steering()
                except Interrupted:
                    await log.add("refused")

    session = await open_session(restate_env, deploy, DeafAgent())
    await session.send("first")
    await log.until("waiting")
    await steer(session, "a")
    await session.cancel()
    outcome = await session.attach(1)
    assert outcome["status"] == "interrupted"
    assert log.of("heard", "refused") == [("heard",), ("refused",)] * 2
    assert texts(outcome["messages"]) == ["a"]
    assert await record(session, "steered") == [([0],)]


async def test_an_attempt_that_is_retried_takes_nothing_twice(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    crashes = ["after the first", "after the second"]

    class CrashingAgent(Gated):
        async def run(self, ctx: Context, task: Task) -> str:
            await ctx.run_typed("begin", self.log.add, RunOptions(), "begin", task.turn)
            await ctx.run_typed("work", self._work, turn=task.turn)
            said = [texts(await task.steering())]
            if len(crashes) == 2:
                raise RuntimeError(crashes.pop())
            await ctx.run_typed("took", self.log.add, RunOptions(), "took", 1, said[0])
            await ctx.run_typed("work", self._work, turn=task.turn)
            said.append(texts(await task.steering()))
            if crashes:
                raise RuntimeError(crashes.pop())
            return str(said)

    worker = CrashingAgent(log, "CrashingAgent")
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "first")
    await steer(session, "a")
    worker.tell(1, "look")
    await log.until("took", 1, ["a"])
    await steer(session, "b")
    worker.tell(1, "look")
    outcome = await session.attach(1)
    assert texts(outcome["messages"]) == ["a", "b", str([["a"], ["b"]])]
    assert crashes == []
    await eventually(lambda: is_idle(session))
    assert await record(session, "turn", "steered") == [(1, [0, 1])]
