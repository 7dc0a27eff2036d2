"""Cancel, regenerate, rewind and reset, on a real server."""

import asyncio
import json
import random
from typing import Any

import pytest
from restate import ObjectContext, ObjectSharedContext, TerminalError

from interruptible import Session, handler
from interruptible._session import storage
from interruptible.testing import Restate

from .conftest import Deploy, Log, eventually, is_idle
from .gated import RACES, Gated, finish, history, open_session, record, start, texts

pytestmark = pytest.mark.anyio


async def complete(session: Session, worker: Gated, *said: str) -> None:
    """Have turns of their own for these messages."""
    for text in said:
        await finish(session, worker, (await session.send(text))["turn"])


async def refused(call: Any, status: int, reason: str) -> None:
    with pytest.raises(TerminalError, match=reason) as refusal:
        await call
    assert refusal.value.status_code == status


# -- cancel ----------------------------------------------------------------------------------------


async def test_a_cancel_says_what_it_cancelled_keeps_the_reason_and_can_be_repeated(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "CancelAgent")
    session = await open_session(restate_env, deploy, worker)
    assert await session.cancel() == []
    await refused(session.cancel(1), 404, "there is no turn 1 in this session; it has no turns yet")
    worker.hold(1)
    await start(session, worker, "first")
    await session.send("second", policy="queue")
    assert await session.cancel(1, reason="wrong file") == [1]
    worker.stop(1)
    await log.until("cleaning", 1)
    assert await session.cancel(1, reason="again") == []
    assert await session.cancel(reason="all of it") == [2]
    assert await session.cancel() == []
    worker.free(1)
    outcomes = [await session.attach(turn) for turn in (1, 2)]
    assert [(x["turn"], x["status"]) for x in outcomes] == [(1, "interrupted"), (2, "interrupted")]
    await eventually(lambda: is_idle(session))
    assert await session.cancel(1) == []
    await refused(session.cancel(3), 404, "there is no turn 3 in this session; its turns are 1 to")
    reasons = ["cancelled: wrong file", "cancelled: all of it"]
    assert await record(session, "reason") == [(reason,) for reason in reasons]
    assert await history(session) == [
        "first",
        f"note: {reasons[0]}",
        "second",
        f"note: {reasons[1]}",
    ]
    assert log.events == [("begin", 1), ("cleaning", 1), ("cleaned", 1)]


# -- regenerate ------------------------------------------------------------------------------------


async def test_regenerate_answers_the_last_turn_again_as_often_as_one_likes(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "AgainAgent", policy="queue")
    session = await open_session(restate_env, deploy, worker)
    await refused(session.regenerate(), 404, "it has no turns yet")
    await complete(session, worker, "first", "second")
    for turn in (3, 4):
        receipt = await session.regenerate()
        assert {**receipt, "task_id": ""} == {
            "turn": turn,
            "message": 2,
            "task_id": "",
            "status": "running",
            "interrupted": [],
            "discarded": [turn - 1],
        }
        await finish(session, worker, turn)
        assert worker.seen[turn] == ["first", "answer 1", "second"]
        assert await history(session) == [*worker.seen[turn], f"answer {turn}"]
    assert await record(session, "turn", "status", "discarded") == [
        (1, "completed", None),
        (2, "completed", True),
        (3, "completed", True),
        (4, "completed", None),
    ]
    for turn in (2, 3):
        await refused(session.regenerate(turn), 404, f"{turn} is no part of the conversation")
    await refused(session.regenerate(5), 404, "there is no turn 5")
    assert (await session.turns())["turns"][-1]["turn"] == 4


async def test_regenerate_of_an_earlier_turn_takes_all_after_it_back_the_live_ones_too(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "EarlierAgainAgent")
    session = await open_session(restate_env, deploy, worker)
    await complete(session, worker, "first", "second", "third")
    await start(session, worker, "fourth")
    await session.send("fifth", policy="queue")
    receipt = await session.regenerate(2)
    assert (receipt["turn"], receipt["status"]) == (6, "waiting")
    assert (receipt["interrupted"], receipt.get("discarded")) == ([4, 5], [2, 3, 4, 5])
    worker.stop(4)
    await finish(session, worker, 6)
    assert worker.seen[6] == ["first", "answer 1", "second"]
    assert await history(session) == [*worker.seen[6], "answer 6"]
    why = "rolled back by turn 6"
    assert (await record(session, "turn", "reason", "discarded"))[1:] == [
        (2, None, True),
        (3, None, True),
        (4, why, True),
        (5, why, True),
        (6, None, None),
    ]
    assert log.of("begin")[-2:] == [("begin", 4), ("begin", 6)]


async def test_regenerate_of_a_live_turn_has_all_that_was_said_in_it(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "LiveAgainAgent")
    session = await open_session(restate_env, deploy, worker)
    worker.hold(1)
    await start(session, worker, "first")
    await session.send("a", policy="steer")
    worker.tell(1, "look", "half done")
    await log.until("took", 1, ["a"])
    await session.send("b", policy="steer")
    receipt = await session.regenerate()
    assert (receipt["interrupted"], receipt.get("discarded")) == ([1], [1])
    worker.stop(1)
    await log.until("cleaning", 1)
    # What is only on its way can be regenerated, too, and everything waits for the cleanup.
    receipt = await session.regenerate()
    assert (receipt["turn"], receipt["interrupted"], receipt.get("discarded")) == (3, [2], [2])
    worker.free(1)
    await finish(session, worker, 3)
    assert worker.seen[3] == ["first", "a", "b"]
    assert await history(session) == ["first", "a", "b", "answer 3"]
    assert log.of("begin") == [("begin", 1), ("begin", 3)]
    turns = (await session.turns())["turns"]
    assert [texts(turn["input"]) for turn in turns[:2]] == [["first"], ["first", "a", "b"]]


async def test_a_repeated_regenerate_or_rewind_of_one_idempotency_key_is_one(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "OnceControlAgent")
    session = await open_session(restate_env, deploy, worker)
    await complete(session, worker, "first")
    receipts = [await session.regenerate(idempotency_key="once") for _ in range(2)]
    assert receipts[0] == receipts[1]
    await finish(session, worker, 2)
    rewound = await session.rewind(2, idempotency_key="once more")
    assert rewound == {"cancelled": [], "discarded": [2]}
    await start(session, worker, "second")
    assert await session.rewind(2, idempotency_key="once more") == rewound
    await finish(session, worker, 3)
    assert await history(session) == ["second", "answer 3"]


async def test_who_has_not_seen_the_last_turn_takes_nothing_back(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "SeenControlAgent")
    session = await open_session(restate_env, deploy, worker)
    await complete(session, worker, "first")
    await complete(session, worker, "second")
    before = await session.turns()
    for stale in (session.rewind(1, if_last=1), session.regenerate(1, if_last=1)):
        with pytest.raises(TerminalError, match="if_last: turn 1 is not the last, but 2") as error:
            await stale
        assert error.value.status_code == 412
    assert await session.turns() == before
    assert (await session.rewind(2, if_last=2))["discarded"] == [2]
    assert (await session.regenerate(if_last=2))["discarded"] == [1]
    await finish(session, worker, 3)


# -- rewind ----------------------------------------------------------------------------------------


async def test_rewind_takes_back_a_turn_and_all_after_it(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "RewindAgent")
    session = await open_session(restate_env, deploy, worker)
    await refused(session.rewind(1), 404, "it has no turns yet")
    await complete(session, worker, "first", "second", "third")
    for turn in (0, 4):
        await refused(session.rewind(turn), 404, f"there is no turn {turn} in this session")
    assert await session.rewind(2) == {"cancelled": [], "discarded": [2, 3]}
    assert await session.rewind(2) == {"cancelled": [], "discarded": []}
    assert await history(session) == ["first", "answer 1"]
    await complete(session, worker, "fourth")
    assert worker.seen[4] == ["first", "answer 1", "fourth"]
    assert await session.rewind(1) == {"cancelled": [], "discarded": [1, 4]}
    assert await history(session) == []
    assert (await session.attach(2))["status"] == "completed"
    assert await record(session, "turn", "discarded") == [(turn, True) for turn in (1, 2, 3, 4)]


async def test_rewind_of_queued_turns_leaves_the_one_at_work_and_can_then_take_that(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "RewindLiveAgent", policy="queue")
    session = await open_session(restate_env, deploy, worker)
    await complete(session, worker, "first")
    await start(session, worker, "second")
    for text in ("third", "fourth", "fifth"):
        await session.send(text)
    assert await session.rewind(4) == {"cancelled": [4, 5], "discarded": [4, 5]}
    rewound = await session.rewind(3, reason="not that")
    assert rewound == {"cancelled": [3], "discarded": [3]}
    assert await history(session) == ["first", "answer 1", "second"]
    worker.tell(2, "half done")
    assert await session.rewind(2) == {"cancelled": [2], "discarded": [2]}
    assert await history(session) == ["first", "answer 1"]
    worker.stop(2)
    # Edit and resend.
    await session.send("second, edited")
    await finish(session, worker, 6)
    assert worker.seen[6] == ["first", "answer 1", "second, edited"]
    assert await history(session) == [*worker.seen[6], "answer 6"]
    assert log.of("begin") == [("begin", turn) for turn in (1, 2, 6)]
    assert await record(session, "turn", "reason") == [
        (1, None),
        (2, "rolled back"),
        (3, "rolled back: not that"),
        (4, "rolled back"),
        (5, "rolled back"),
        (6, None),
    ]


async def test_a_turn_that_is_rewound_while_it_is_cleaned_up_ends_so_and_nothing_of_it_remains(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "RewindCleaningAgent")
    session = await open_session(restate_env, deploy, worker)
    worker.hold(1)
    await start(session, worker, "first")
    worker.tell(1, "half done")
    await session.send("second")
    worker.stop(1)
    await log.until("cleaning", 1)
    assert await session.rewind(1, reason="typo") == {"cancelled": [2], "discarded": [1, 2]}
    live = (await session.status())["live"]
    assert [x["cancelled"] for x in live if x["turn"] == 1] == ["rolled back: typo"]
    await session.send("third")
    assert log.of("begin", "cleaned") == [("begin", 1)]
    worker.free(1)
    await finish(session, worker, 3)
    assert log.events == [
        ("begin", 1),
        ("cleaning", 1),
        ("cleaned", 1),
        ("begin", 3),
        ("end", 3),
    ]
    assert worker.seen[3] == ["third"]
    assert await history(session) == ["third", "answer 3"]
    assert await record(session, "turn", "status", "reason", "discarded") == [
        (1, "interrupted", "rolled back: typo", True),
        (2, "interrupted", "rolled back: typo", True),
        (3, "completed", None, None),
    ]


@pytest.mark.parametrize("how", ["rewind", "reset", "regenerate", "cancel"])
async def test_a_control_that_arrives_as_the_turn_ends_finds_it_live_or_over_and_nothing_between(
    restate_env: Restate, deploy: Deploy, log: Log, how: str
) -> None:
    worker = Gated(log, f"Control{how.title()}Agent")
    session = await open_session(restate_env, deploy, worker)
    moments = random.Random(how)  # noqa: S311
    for _ in range(RACES):
        turn = (await start(session, worker, "ask"))["turn"]
        worker.tell(turn, "end")
        await asyncio.sleep(moments.random() / 40)
        expected: list[Any] = []
        if how == "rewind":
            assert (await session.rewind(turn))["discarded"] == [turn]
        elif how == "reset":
            assert await session.reset() in ([turn], [])
        elif how == "regenerate":
            assert (await session.regenerate())["discarded"] == [turn]
            await finish(session, worker, turn + 1)
            assert worker.seen[turn + 1] == ["ask"]
            expected = ["ask", f"answer {turn + 1}"]
        else:
            assert await session.cancel() in ([turn], [])
            said = (await session.attach(turn))["messages"]
            expected = ["ask", *(texts(said) or ["note: cancelled"])]
        await eventually(lambda: is_idle(session))
        assert await history(session) == expected
        await session.rewind(1) if how != "reset" else await session.reset()


# -- reset -----------------------------------------------------------------------------------------


class Titled(Gated):
    @handler()
    async def set_title(self, ctx: ObjectContext, title: str) -> None:
        ctx.set("title", title)
        ctx.set("page/title", title)  # much like a key of the library

    @handler(kind="shared")
    async def get_titles(self, ctx: ObjectSharedContext) -> list[str | None]:
        return [await ctx.get(key, type_hint=str) for key in ("title", "page/title")]


async def test_reset_empties_the_conversation_and_nothing_late_lands_in_the_new_one(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Titled(log, "ResetAgent")
    session = await open_session(restate_env, deploy, worker)
    assert await session.reset() == []
    client = restate_env.client
    await client.object_call(worker.set_title, "one", "Todo CLI")
    await complete(session, worker, "first", "second")
    worker.hold(3)
    worker.tell(3, "half done")
    await start(session, worker, "third")
    await session.send("a", policy="steer")
    await session.send("fourth", policy="queue")
    assert await session.reset(reason="start over") == [3, 4]
    assert await history(session) == []
    assert await session.reset() == []
    receipt = await session.send("new")
    assert (receipt["turn"], receipt["status"], receipt["interrupted"]) == (5, "waiting", [])
    assert await history(session) == ["new"]
    worker.stop(3)
    await log.until("cleaning", 3)
    worker.free(3)
    await finish(session, worker, 5)
    assert worker.seen[5] == ["new"]
    assert await history(session) == ["new", "answer 5"]
    assert await client.object_call(worker.get_titles, "one", None) == ["Todo CLI"] * 2
    # The queued turn may have ended before the second reset, which then removed it.
    turns = await record(session, "turn", "status", "reason", "discarded")
    assert [turn for turn in turns if turn[0] != 4] == [
        (3, "interrupted", "rolled back: start over", True),
        (5, "completed", None, None),
    ]
    await refused(session.attach(1), 404, "turn: 1 was removed")
    await refused(session.regenerate(2), 404, "2 is no part of the conversation any more")
    await refused(session.rewind(2), 404, "turn: 2 was removed")
    await refused(session.fork("copy", 2), 404, "turn: 2 was removed")
    assert (await session.regenerate())["discarded"] == [5]
    await finish(session, worker, 6)
    assert await history(session) == ["new", "answer 6"]


async def test_reset_leaves_nothing_of_a_long_conversation_behind(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "LongResetAgent")
    session = await open_session(restate_env, deploy, worker)
    await complete(session, worker, *(f"message {n}" for n in range(17)), "large " * 5000)

    async def kept() -> str:
        rows = await restate_env.query(
            "SELECT key, encode(value, 'hex') AS value FROM state "
            "WHERE service_name = 'LongResetAgent'"
        )
        values = {row["key"]: bytes.fromhex(row["value"]) for row in rows}
        pages = [x for x in values if x.startswith(("page/", "turn/"))]
        unpacked = [json.dumps(storage.PACKED.deserialize(values.pop(x))) for x in pages]
        return "".join([*unpacked, *(value.decode() for value in values.values())])

    before = await kept()
    assert all(text in before for text in ("message 0", "message 16", "answer 18", "large"))
    assert await session.reset() == []
    after = await kept()
    assert not any(text in after for text in ("message ", "answer", "large"))
    assert await session.turns() == {"turns": [], "before": None}
    await complete(session, worker, "new")
    assert worker.seen[19] == ["new"]
    assert await record(session, "turn") == [(19,)]
