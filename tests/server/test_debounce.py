"""A quiet window before a turn begins, and what a burst of messages becomes, on a real server."""

import asyncio
import json
import random
from datetime import timedelta
from typing import Any

import pytest

from interruptible import Session
from interruptible._session import stored_record
from interruptible.testing import Restate

from .conftest import Deploy, Log, eventually, is_idle
from .gated import RACES, Gated, finish, history, open_session, record, start, texts

pytestmark = pytest.mark.anyio

WINDOW = timedelta(seconds=1.5)
"""Longer than it takes to accept the messages of a burst, one after the other."""


class Bursts(Gated):
    def __init__(self, log: Log, name: str, debounce: timedelta = WINDOW, **options: Any) -> None:
        super().__init__(log, name, debounce=debounce, **options)


async def burst(session: Session, *said: str, **options: Any) -> list[Any]:
    return [await session.send(text, **options) for text in said]


def joined(receipt: Any, after: int = 1) -> Any:
    """The receipt of a message that came later, as many messages after."""
    message = receipt["message"] + after
    return {**receipt, "message": message, "status": "joined", "interrupted": []}


async def tasks_of(env: Restate, agent: Gated) -> list[str]:
    rows = await env.invocations(
        f"target_service_name = '{agent.task_name}' AND target_handler_name = 'run_task'"
    )
    return [row["id"] for row in rows]


async def test_a_burst_becomes_one_turn_with_all_messages_and_all_senders_get_its_outcome(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Bursts(log, "OneBurstAgent")
    session = await open_session(restate_env, deploy, worker)
    receipts = await burst(session, "a", "b", "c")
    assert (receipts[0]["turn"], receipts[0]["status"]) == (1, "running")
    assert receipts[1:] == [joined(receipts[0], after) for after in (1, 2)]
    assert await history(session) == ["a", "b", "c"]
    assert (await session.status())["steered"] == 2
    waiting = [asyncio.create_task(session.attach(r["turn"])) for r in receipts]
    await finish(session, worker, 1)
    answer = [{"role": "assistant", "content": "answer 1"}]
    outcome = {"turn": 1, "status": "completed", "messages": answer}
    assert await asyncio.gather(*waiting) == [outcome] * 3
    assert log.events == [("begin", 1), ("end", 1)]
    assert worker.seen[1] == ["a", "b", "c"]
    assert await history(session) == ["a", "b", "c", "answer 1"]
    (turn,) = (await session.turns())["turns"]
    assert (texts(turn["input"]), turn.get("steered")) == (["a", "b", "c"], None)
    assert await tasks_of(restate_env, worker) == [receipts[0]["task_id"]]


async def test_a_message_after_the_window_is_a_turn_of_its_own(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Bursts(log, "AfterAgent")
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "a")
    receipts = await burst(session, "b", "c")
    assert (receipts[0]["turn"], receipts[0]["interrupted"]) == (2, [1])
    # Within the window of the turn that interrupts, nothing is interrupted again.
    assert receipts[1] == joined(receipts[0])
    worker.stop(1)
    await finish(session, worker, 2)
    assert log.events == [("begin", 1), ("begin", 2), ("end", 2)]
    assert worker.seen[2] == ["a", "note: interrupted by turn 2", "b", "c"]


async def test_a_burst_joins_a_turn_that_waits_for_a_cleanup(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Bursts(log, "CleaningAgent")
    session = await open_session(restate_env, deploy, worker)
    worker.hold(1)
    await start(session, worker, "a")
    first = await session.send("b")
    worker.stop(1)
    await log.until("cleaning", 1)
    assert await session.send("c") == joined(first)
    worker.free(1)
    await finish(session, worker, 2)
    assert worker.seen[2] == ["a", "note: interrupted by turn 2", "b", "c"]
    assert log.of("begin") == [("begin", 1), ("begin", 2)]


async def test_a_burst_behind_another_turn_becomes_one_turn_until_its_window_is_over(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Bursts(log, "BehindBurstAgent", policy="queue")
    session = await open_session(restate_env, deploy, worker)

    async def is_closed() -> bool:
        (row,) = await restate_env.query(
            "SELECT value_utf8 FROM state "
            "WHERE service_name = 'BehindBurstAgent' AND key = 'session'"
        )
        return not any(
            live.open for live in stored_record.parse_record(json.loads(row["value_utf8"])).live
        )

    await start(session, worker, "a")
    receipts = await burst(session, "b", "c")
    assert (receipts[0]["turn"], receipts[0]["status"]) == (2, "waiting")
    assert receipts[1] == joined(receipts[0])
    await eventually(is_closed)
    receipts = await burst(session, "d", "e")
    assert (receipts[0]["turn"], receipts[0]["status"]) == (3, "waiting")
    assert receipts[1] == joined(receipts[0])
    await finish(session, worker, 1, 2, 3)
    said = ["a", "answer 1", "b", "c", "answer 2", "d", "e"]
    assert worker.seen[2] == said[:4]
    assert worker.seen[3] == said
    assert log.events == [(kind, turn) for turn in (1, 2, 3) for kind in ("begin", "end")]
    assert len(await tasks_of(restate_env, worker)) == 3


@pytest.mark.parametrize("how", ["cancel", "rollback", "reset"])
async def test_a_turn_that_is_cancelled_within_its_window_runs_no_step(
    restate_env: Restate, deploy: Deploy, log: Log, how: Any
) -> None:
    worker = Bursts(log, f"Quiet{how.title()}Agent")
    session = await open_session(restate_env, deploy, worker)
    await burst(session, "a", "b")
    if how == "cancel":
        assert await session.cancel(reason="never mind") == [1]
    elif how == "reset":
        assert await session.reset() == [1]
    else:
        receipt = await session.send("c", policy="rollback")
        assert (receipt["turn"], receipt["discarded"]) == (2, [1])
        await finish(session, worker, 2)
        assert worker.seen[2] == ["c"]
    assert (await session.attach(1))["status"] == "interrupted"
    await eventually(lambda: is_idle(session))
    assert ("begin", 1) not in log.events
    left = {"cancel": ["a", "b", "note: cancelled: never mind"], "rollback": ["c", "answer 2"]}
    assert await history(session) == left.get(how, [])


async def test_a_burst_whose_task_an_operator_kills_within_its_window_goes_on_by_itself(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Bursts(log, "KilledBurstAgent")
    session = await open_session(restate_env, deploy, worker)
    receipts = await burst(session, "a", "b", "c")
    await restate_env.kill(receipts[0]["task_id"])
    await log.until("begin", 2)
    assert worker.seen[2] == ["a", "b", "c"]
    await finish(session, worker, 2)
    assert await history(session) == ["a", "b", "c", "answer 2"]
    assert await record(session, "status") == [("killed",), ("completed",)]
    assert log.events == [("begin", 2), ("end", 2)]


async def test_of_a_burst_that_supersedes_only_the_last_message_makes_a_call(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Bursts(log, "LastAgent", burst="supersede")
    session = await open_session(restate_env, deploy, worker)
    receipts = await burst(session, "a", "b", "c", "d")
    assert [(r["turn"], r["interrupted"]) for r in receipts] == [
        (1, []),
        (2, [1]),
        (3, [2]),
        (4, [3]),
    ]
    await finish(session, worker, 4)
    assert log.events == [("begin", 4), ("end", 4)]
    said = [text for text in worker.seen[4] if not text.startswith("note")]
    assert said == ["a", "b", "c", "d"]
    ended = [status for (status,) in await record(session, "status")]
    assert ended == ["interrupted"] * 3 + ["completed"]


async def test_what_was_not_taken_belongs_to_a_queued_turn_that_still_waits_for_quiet(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Bursts(log, "HeirBurstAgent", burst="supersede")
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "first")
    await session.send("a", policy="steer")
    await session.send("second", policy="queue")
    await session.send("b", policy="steer")
    await finish(session, worker, 1, 2)
    said = ["first", "answer 1", "a", "second", "b"]
    assert worker.seen[2] == said
    assert await history(session) == [*said, "answer 2"]


async def test_a_message_that_is_steered_or_regenerated_waits_for_quiet_like_any_other(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Bursts(log, "SteeredBurstAgent")
    session = await open_session(restate_env, deploy, worker)
    first = await session.send("a", policy="steer")
    assert await session.send("b", policy="steer") == joined(first)
    await finish(session, worker, 1)
    assert worker.seen[1] == ["a", "b"]
    again = await session.regenerate()
    assert (again["turn"], again["discarded"]) == (2, [1])
    assert await session.send("shorter, please") == {
        "turn": 2,
        "message": again["message"] + 1,
        "task_id": again["task_id"],
        "status": "joined",
        "interrupted": [],
    }
    await finish(session, worker, 2)
    assert worker.seen[2] == ["a", "b", "shorter, please"]
    assert await history(session) == [*worker.seen[2], "answer 2"]


async def test_a_message_that_arrives_as_the_window_ends_is_answered_once_and_in_order(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    short = timedelta(milliseconds=50)
    worker = Bursts(log, "WindowEndAgent", debounce=short, policy="queue")
    session = await open_session(restate_env, deploy, worker)
    moments = random.Random(3)  # noqa: S311
    expected: list[str] = []
    for _ in range(RACES):
        turn = (await session.send("ask"))["turn"]
        await asyncio.sleep(moments.random() / 5)
        receipt = await session.send("more")
        expected.append("ask")
        if receipt["turn"] == turn:
            assert receipt["status"] == "joined"
            expected.append("more")
            await finish(session, worker, turn)
            assert worker.seen[turn] == expected
            expected.append(f"answer {turn}")
        else:
            assert receipt["turn"] == turn + 1
            await finish(session, worker, turn, turn + 1)
            assert worker.seen[turn] == expected
            expected += [f"answer {turn}", "more"]
            assert worker.seen[turn + 1] == expected
            expected.append(f"answer {turn + 1}")
        assert await history(session) == expected
