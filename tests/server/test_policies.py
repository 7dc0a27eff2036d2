"""What a message does to a live turn, as its sender chooses, on a real server."""

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest
from restate import Context, TerminalError

from interruptible import Agent, Session, Task
from interruptible._session import private
from interruptible._task import waiting
from interruptible._wire.types import POLICIES
from interruptible.testing import Restate

from .conftest import Deploy, Log, eventually, is_idle
from .gated import RACES, Gated, finish, history, open_session, record, start

pytestmark = pytest.mark.anyio


async def test_queued_messages_become_turns_of_their_own_one_after_the_other(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "QueueAgent", policy="queue")
    session = await open_session(restate_env, deploy, worker)
    receipts = [await session.send(f"message {n}") for n in (1, 2, 3)]
    assert [r["status"] for r in receipts] == ["running", "waiting", "waiting"]
    assert [r["interrupted"] for r in receipts] == [[], [], []]
    await log.until("begin", 1)
    status = await session.status()
    assert (status["turn"], [x["turn"] for x in status["live"]]) == (1, [1, 2, 3])

    async def all_sent() -> bool:  # in any order: each is of a partition of its own
        tasks = await restate_env.invocations(
            "target_service_name = 'QueueTask' AND target_handler_name = 'run_task'"
        )
        return sorted(task["id"] for task in tasks) == sorted(r["task_id"] for r in receipts)

    await eventually(all_sent)
    await finish(session, worker, 1, 2, 3)
    assert log.events == [(kind, turn) for turn in (1, 2, 3) for kind in ("begin", "end")]
    expected = ["message 1", "answer 1", "message 2", "answer 2", "message 3"]
    assert worker.seen[3] == expected
    assert await history(session) == [*expected, "answer 3"]


async def _calls(env: Restate, task_id: str) -> int:
    """How many handlers a task has called."""
    where = f"id = '{task_id}' AND entry_type = 'Command: Call'"
    return len(await env.query(f"SELECT id FROM sys_journal WHERE {where}"))  # noqa: S608


async def test_a_queued_turn_is_told_what_it_begins_with_and_calls_nobody(
    restate_env: Restate, deploy: Deploy, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "TOLD_WITHIN", timedelta(minutes=5))
    worker = Gated(log, "ToldToBeginAgent", policy="queue")
    session = await open_session(restate_env, deploy, worker)
    receipts = [await session.send(f"message {n}") for n in (1, 2, 3)]
    await session.replace(receipts[1]["message"], "instead")
    await session.send("steered", policy="steer")
    await log.until("begin", 1)
    await finish(session, worker, 1, 2, 3)
    expected = ["message 1", "answer 1", "instead", "steered", "answer 2", "message 3"]
    assert worker.seen[3] == expected
    assert [await _calls(restate_env, x["task_id"]) for x in receipts] == [
        0,
        1,
        0,
    ]  # what was steered has to be asked for


async def test_a_queued_turn_that_is_not_told_asks(
    restate_env: Restate, deploy: Deploy, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An earlier version, to which somebody went back, does not tell.
    monkeypatch.setattr(private, "_tell_begin", lambda *_: None)
    worker = Gated(log, "UntoldAgent", policy="queue")
    session = await open_session(restate_env, deploy, worker)
    receipts = [await session.send(f"message {n}") for n in (1, 2)]
    await log.until("begin", 1)
    await finish(session, worker, 1, 2)
    assert worker.seen[2] == ["message 1", "answer 1", "message 2"]
    assert [await _calls(restate_env, x["task_id"]) for x in receipts] == [0, 1]


async def test_a_queued_turn_behind_one_that_is_killed_asks_at_once(
    restate_env: Restate, deploy: Deploy, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "TOLD_WITHIN", timedelta(minutes=5))
    worker = Gated(log, "KilledFirstAgent", policy="queue")
    session = await open_session(restate_env, deploy, worker)
    receipts = [await session.send(f"message {n}") for n in (1, 2)]
    await log.until("begin", 1)
    await restate_env.kill(receipts[0]["task_id"])
    await finish(session, worker, 2)
    assert worker.seen[2] == ["message 1", "message 2"]
    worker.tell(1, "end")  # its step goes on in the worker


async def test_a_rollback_takes_all_that_is_live_out_of_the_conversation_and_nothing_else(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "RollbackAgent")
    session = await open_session(restate_env, deploy, worker)
    # With nothing live, it is a message like any other.
    receipt = await start(session, worker, "first", policy="rollback")
    assert (receipt["status"], receipt["interrupted"]) == ("running", [])
    assert "discarded" not in receipt
    await finish(session, worker, 1)
    await start(session, worker, "second")
    worker.tell(2, "half done")
    await session.send("third", policy="queue")
    receipt = await session.send("fourth", policy="rollback")
    assert {**receipt, "task_id": ""} == {
        "turn": 4,
        "message": 4,
        "task_id": "",
        "status": "waiting",
        "interrupted": [2, 3],
        "discarded": [2, 3],
    }
    worker.stop(2)
    await finish(session, worker, 4)
    assert worker.seen[4] == ["first", "answer 1", "fourth"]
    assert await history(session) == ["first", "answer 1", "fourth", "answer 4"]
    assert [x for x in log.events if x[1] > 1] == [("begin", 2), ("begin", 4), ("end", 4)]
    why = "rolled back by turn 4"
    assert await record(session, "turn", "status", "reason", "discarded") == [
        (1, "completed", None, None),
        (2, "interrupted", why, True),
        (3, "interrupted", why, True),
        (4, "completed", None, None),
    ]


@pytest.mark.parametrize(("policy", "left"), [("interrupt", "draft"), ("rollback", "as it was")])
async def test_a_workspace_keeps_its_files_when_interrupted_and_restores_them_when_rolled_back(
    restate_env: Restate, deploy: Deploy, log: Log, policy: Any, left: str
) -> None:
    workspace = {"main.py": "as it was"}
    saved: dict[int, dict[str, str]] = {}

    async def write(turn: int) -> None:
        await log.add("found", turn, workspace["main.py"])
        saved[turn] = dict(workspace)
        workspace["main.py"] = "draft"

    async def restore(turn: int) -> None:
        workspace.update(saved[turn])
        await log.add("restored", turn)

    class WorkspaceAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            await ctx.run_typed("write", write, turn=task.turn)
            if task.turn == 1:
                await ctx.signal("approved")
            return "done"

        async def on_interrupted(self, ctx: Context, task: Task) -> None:
            if (await task.cause()).kind == "rolled back":
                await ctx.run_typed("restore", restore, turn=task.turn)

    agent = WorkspaceAgent(f"{policy.title()}WorkspaceAgent")
    session = await open_session(restate_env, deploy, agent)
    await session.send("first")
    await log.until("found", 1, "as it was")
    assert (await session.ask("second", policy=policy))["status"] == "completed"
    restored = [("restored", 1)] if policy == "rollback" else []
    assert log.events == [("found", 1, "as it was"), *restored, ("found", 2, left)]


async def test_a_reject_is_refused_while_a_turn_is_live_and_taken_once_none_is(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "RejectAgent", policy="reject")
    session = await open_session(restate_env, deploy, worker)
    receipt = await start(session, worker, "first")
    with pytest.raises(TerminalError, match="turn 1 is live") as refusal:
        await session.send("second")
    assert refusal.value.status_code == 423
    assert await history(session) == ["first"]
    # A task that was killed is no live turn, whatever the record says.
    await restate_env.kill(receipt["task_id"])
    worker.tell(2, "end")
    assert (await session.ask("third"))["turn"] == 2
    assert await history(session) == ["first", "third", "answer 2"]


async def test_a_precondition_that_does_not_hold_changes_nothing(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "ConditionAgent")
    session = await open_session(restate_env, deploy, worker)
    with pytest.raises(TerminalError, match="turn 1 is not at work; no turn is live") as refusal:
        await session.send("first", if_turn=1)
    assert refusal.value.status_code == 412
    assert (await session.send("first", if_idle=True, policy="steer"))["turn"] == 1
    await log.until("begin", 1)
    conditions: tuple[dict[str, Any], ...] = ({"if_idle": True}, {"if_turn": 2})
    for condition in conditions:
        for policy in POLICIES:
            with pytest.raises(TerminalError, match="turn 1 is live") as refusal:
                await session.send("second", policy=policy, **condition)
            assert refusal.value.status_code == 412
    status = await session.status()
    assert status["live"] == [{"turn": 1, "task_id": worker.tasks[1], "cancelled": None}]
    assert (status["steered"], await history(session)) == (0, ["first"])
    assert (await session.send("a", policy="steer", if_turn=1))["status"] == "steered"
    assert (await session.send("b", policy="rollback", if_turn=1))["discarded"] == [1]
    worker.stop(1)
    await finish(session, worker, 2)
    assert worker.seen[2] == ["b"]


@pytest.mark.parametrize("policy", ["interrupt", "rollback"])
async def test_of_clients_that_interrupt_what_they_have_seen_at_once_one_wins(
    restate_env: Restate, deploy: Deploy, log: Log, policy: Any
) -> None:
    worker = Gated(log, f"Clients{policy.title()}Agent")
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "begin")
    for turn in range(1, RACES + 1):
        sends = [session.send(f"client {n}", policy=policy, if_turn=turn) for n in range(5)]
        results = await asyncio.gather(*sends, return_exceptions=True)
        refused = [r for r in results if isinstance(r, TerminalError)]
        assert [r.status_code for r in refused] == [412] * 4
        assert all(f"turn {turn + 1} is live" in r.message for r in refused)
        (accepted,) = [r for r in results if isinstance(r, dict)]
        assert (accepted["turn"], accepted["interrupted"]) == (turn + 1, [turn])
        worker.stop(turn)
    await finish(session, worker, RACES + 1)
    said = [text for text in await history(session) if text.startswith("client")]
    assert len(said) == (RACES if policy == "interrupt" else 1)


async def test_more_than_may_be_pending_is_refused_and_an_interrupt_still_works(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "FullAgent", max_pending=3)
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "first")
    await session.send("second", policy="queue")
    await session.send("a", policy="steer")
    policies: tuple[Any, ...] = ("queue", "steer")
    before = await session.turns(), await session.status()
    for policy in policies:
        with pytest.raises(TerminalError, match="3 of 3 are pending") as refusal:
            await session.send("third", policy=policy)
        assert refusal.value.status_code == 429
    assert (await session.turns(), await session.status()) == before
    # What is taken is pending no more.
    worker.tell(1, "look")
    await log.until("took", 1, ["a"])
    await session.send("b", policy="steer")
    with pytest.raises(TerminalError, match="3 of 3 are pending"):
        await session.send("c", policy="steer")
    assert (await session.send("stop", policy="interrupt"))["interrupted"] == [1, 2]
    worker.stop(1)
    await finish(session, worker, 3)
    notes = ["note: interrupted by turn 3"] * 2
    said = ["first", "a", "b", notes[0], "second", notes[1], "stop"]
    assert worker.seen[3] == said


async def send_unless_rejected(session: Session, said: str, policy: Any) -> Any:
    try:
        return await session.send(said, policy=policy)
    except TerminalError as refusal:
        if refusal.status_code != 423:
            raise
        return {}


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_message_that_arrives_as_the_turn_ends_is_answered_once_and_in_order(
    restate_env: Restate, deploy: Deploy, log: Log, policy: Any
) -> None:
    worker = Gated(log, f"Settling{policy.title()}Agent")
    session = await open_session(restate_env, deploy, worker)
    moments = random.Random(policy)  # noqa: S311
    expected: list[str] = []
    for _ in range(RACES):
        turn = (await start(session, worker, "ask"))["turn"]
        worker.tell(turn, "end")
        await asyncio.sleep(moments.random() / 40)
        receipt = await send_unless_rejected(session, "more", policy)
        assert receipt or policy == "reject"
        if receipt:
            await log.until("begin", turn + 1)
        outcome = await session.attach(turn)
        assert outcome["status"] in ("completed", "interrupted")
        if receipt.get("discarded") != [turn]:
            expected.append("ask")
            expected += [message["content"] for message in outcome["messages"]]
            if outcome["status"] == "interrupted":
                assert receipt["interrupted"] == [turn]
                expected.append(f"note: interrupted by turn {turn + 1}")
        if receipt:
            expected.append("more")
            assert worker.seen[turn + 1] == expected
            await finish(session, worker, turn + 1)
            expected.append(f"answer {turn + 1}")
        assert await history(session) == expected
        await eventually(lambda: is_idle(session))


async def test_a_queued_turn_waits_for_a_cancelled_one_no_longer_than_the_cleanup_timeout(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    timeout = timedelta(milliseconds=300)
    worker = Gated(log, "StuckAgent", policy="queue", cleanup_timeout=timeout)
    session = await open_session(restate_env, deploy, worker)
    worker.hold(1)
    await start(session, worker, "first")
    for said in ("second", "third"):
        await session.send(said)
    assert await session.cancel(1) == [1]
    worker.stop(1)
    for turn in (2, 3):
        worker.tell(turn, "end")
    assert (await session.attach(3))["status"] == "completed"
    assert [x["turn"] for x in (await session.status())["live"]] == [1]
    assert worker.seen[3] == ["first", "note: cancelled", "second", "answer 2", "third"]
    worker.free(1)
    assert (await session.attach(1))["status"] == "interrupted"


class Noted(Gated):
    """With the note that an agent has by default."""

    interruption_note = Agent.interruption_note  # type: ignore[assignment]


async def test_a_turn_that_was_interrupted_before_it_began_says_so_and_has_no_note(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Noted(log, "NeverBeganAgent")
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "one")
    for text in ("two", "three"):
        await session.send(text, policy="queue")
    assert await session.cancel(2) == [2]
    await start_after(session, worker, "four", 1)
    note = worker.seen[4][1]
    assert note.startswith("[I interrupted you")
    assert worker.seen[4] == ["one", note, "two", "three", "four"]
    await finish(session, worker, 4)
    assert await history(session) == ["one", note, "two", "three", "four", "answer 4"]
    assert await record(session, "turn", "status", "never_began") == [
        (1, "interrupted", None),
        (2, "interrupted", True),
        (3, "interrupted", True),
        (4, "completed", None),
    ]
    never = {"turn": 3, "status": "interrupted", "messages": [], "never_began": True}
    assert await session.attach(3) == never


async def start_after(session: Session, worker: Gated, said: str, stopped: int) -> None:
    """Send a message that interrupts, and wait until its turn is at work."""
    receipt = await session.send(said)
    worker.stop(stopped)
    await worker.log.until("begin", receipt["turn"])
