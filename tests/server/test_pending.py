"""What may be done to a message that no model has read yet, on a real server."""

import asyncio
from typing import Any

import pytest
from restate import TerminalError

from interruptible import Session
from interruptible.testing import Restate

from .conftest import Deploy, Log, eventually, is_idle, normal_mode
from .gated import RACES, Gated, finish, history, open_session, record, start, texts

pytestmark = pytest.mark.anyio


async def pending(session: Session, *fields: str) -> list[tuple[Any, ...]]:
    """These fields of all that is pending, in order."""
    return [tuple(x.get(name) for name in fields) for x in (await session.status())["pending"]]


async def refused(what: Any) -> int:
    """The status with which it is refused; 0 if it is not."""
    try:
        await what
    except TerminalError as error:
        return error.status_code
    return 0


async def queue(session: Session, *said: str) -> list[int]:
    """Queue messages; returns their ids."""
    return [(await session.send(text, policy="queue"))["message"] for text in said]


async def test_what_is_pending_is_listed_with_its_kind_in_the_order_in_which_it_is_read(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "ListedAgent")
    session = await open_session(restate_env, deploy, worker)
    first = await start(session, worker, "first")
    assert first["message"] == 1
    second = await session.send("second", policy="queue", metadata={"by": "ada"})
    steered = await session.send("now this", policy="steer")
    assert await pending(session, "id", "turn", "kind", "content", "metadata") == [
        (steered["message"], 1, "steered", "now this", None),
        (second["message"], 2, "queued", "second", {"by": "ada"}),
    ]
    worker.tell(1, "look")
    await log.until("took", 1, ["now this"])
    assert await pending(session, "id") == [(second["message"],)]
    worker.tell(1, "end")
    await log.until("begin", 2)
    assert await pending(session, "id") == []
    await finish(session, worker, 2)
    said = [[x.get("id") for x in turn["input"]] for turn in (await session.turns())["turns"]]
    assert said == [[1], [2]]


async def test_a_queued_message_that_is_withdrawn_runs_nothing_and_is_on_record_as_withdrawn(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "WithdrawnAgent")
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "first")
    mine, other = await queue(session, "not this", "but this")
    waits = asyncio.create_task(session.attach(message=mine))
    await session.withdraw(mine)
    assert await waits == {"status": "withdrawn"}
    assert await refused(session.withdraw(mine)) == 412
    assert await pending(session, "id", "turn") == [(other, 3)]
    await finish(session, worker, 1, 3)
    assert log.of("begin") == [("begin", 1), ("begin", 3)]
    assert worker.seen[3] == ["first", "answer 1", "but this"]
    assert await history(session) == ["first", "answer 1", "but this", "answer 3"]
    [_, turn, _] = (await session.turns())["turns"]
    assert turn["discarded"]
    assert turn["input"] == []
    assert turn["reason"] == "withdrawn"
    assert turn["withdrawn"] == [{"role": "user", "content": "not this", "id": mine}]
    assert await session.attach(message=mine) == {"status": "withdrawn"}


async def test_a_steered_message_that_is_withdrawn_is_not_taken(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "UnsteeredAgent", policy="steer")
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "first")
    a, b = [(await session.send(text))["message"] for text in "ab"]
    await session.withdraw(a)
    worker.tell(1, "look")
    await log.until("took", 1, ["b"])
    assert await refused(session.withdraw(b)) == 412
    await finish(session, worker, 1)
    assert await history(session) == ["first", "b", "answer 1"]
    [turn] = (await session.turns())["turns"]
    assert texts(turn.get("withdrawn", [])) == ["a"]


async def test_what_is_replaced_keeps_its_place_and_its_id(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "ReplacedAgent")
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "first")
    mine, other = await queue(session, "wrng", "third")
    steered = (await session.send("stered", policy="steer"))["message"]
    receipt = await session.replace(mine, "right")
    assert (receipt["turn"], receipt["message"], receipt["status"]) == (2, mine, "waiting")
    assert (await session.replace(steered, "steered"))["status"] == "steered"
    assert await pending(session, "id", "content") == [
        (steered, "steered"),
        (mine, "right"),
        (other, "third"),
    ]
    worker.tell(1, "look")
    await log.until("took", 1, ["steered"])
    await finish(session, worker, 1, 2, 3)
    said = ["first", "steered", "answer 1", "right", "answer 2", "third", "answer 3"]
    assert await history(session) == said


async def test_a_queued_message_that_is_promoted_runs_next_and_the_rest_stays_in_its_order(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "PromotedAgent")
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "first")
    a, b, c = await queue(session, "a", "b", "c")
    attached = [asyncio.create_task(session.attach(message=x)) for x in (a, b, c)]
    receipt = await session.promote(b, "interrupt")
    worker.stop(1)
    assert (receipt["turn"], receipt["message"], receipt["interrupted"]) == (2, b, [1])
    await log.until("begin", 2)
    assert worker.seen[2] == ["first", "note: interrupted by turn 2", "b"]
    assert await pending(session, "id", "turn", "content") == [(a, 3, "a"), (c, 4, "c")]
    await finish(session, worker, 2, 3, 4)
    answers = [await x for x in attached]
    assert [x["status"] for x in answers] == ["completed"] * 3
    assert [x.get("messages") for x in answers] == [
        [{"role": "assistant", "content": f"answer {turn}"}] for turn in (3, 2, 4)
    ]
    said = [x for x in await history(session) if not x.startswith("note")]
    assert said == ["first", "b", "answer 2", "a", "answer 3", "c", "answer 4"]


async def test_a_steered_message_that_is_promoted_gets_a_turn_of_its_own_before_the_queue(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "SteeredFirstAgent")
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "first")
    [a] = await queue(session, "a")
    urgent = (await session.send("urgent", policy="steer"))["message"]
    receipt = await session.promote(urgent, "interrupt")
    worker.stop(1)
    assert (receipt["turn"], receipt["interrupted"]) == (2, [1])
    await log.until("begin", 2)
    assert worker.seen[2][-1] == "urgent"
    assert await pending(session, "id", "turn") == [(a, 3)]
    await finish(session, worker, 2, 3)
    said = [x for x in await history(session) if not x.startswith("note")]
    assert said == ["first", "urgent", "answer 2", "a", "answer 3"]
    assert [x["turn"] for x in [await session.attach(message=a)] if "turn" in x] == [3]


async def test_a_queued_message_that_is_steered_is_taken_and_its_turn_does_not_begin(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "QueuedSteeredAgent")
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "first")
    a, b = await queue(session, "a", "b")
    receipt = await session.promote(b, "steer")
    assert (receipt["turn"], receipt["status"], receipt["interrupted"]) == (1, "steered", [])
    assert receipt.get("discarded") == [3]
    worker.tell(1, "look")
    await log.until("took", 1, ["b"])
    await finish(session, worker, 1, 2)
    assert log.of("begin") == [("begin", 1), ("begin", 2)]
    assert await history(session) == ["first", "b", "answer 1", "a", "answer 2"]
    outcome = await session.attach(message=b)
    assert outcome["status"] == "completed"
    assert texts(outcome.get("messages", [])) == ["b", "answer 1"]
    del a


async def test_messages_are_withdrawn_from_a_turn_in_its_quiet_window(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    from datetime import timedelta  # noqa: PLC0415

    worker = Gated(log, "QuietlyWithdrawnAgent", debounce=timedelta(seconds=1.5))
    session = await open_session(restate_env, deploy, worker)
    sent = [(await session.send(text))["message"] for text in ("a", "b", "c")]
    assert await pending(session, "id", "kind") == [
        (sent[0], "queued"),
        (sent[1], "joined"),
        (sent[2], "joined"),
    ]
    await session.withdraw(sent[0])
    await session.replace(sent[1], "B")
    await log.until("begin", 1)
    assert worker.seen[1] == ["B", "c"]
    assert await refused(session.withdraw(sent[2])) == 412
    await finish(session, worker, 1)
    alone = (await session.send("alone"))["message"]
    await session.withdraw(alone)
    await eventually(lambda: is_idle(session))
    assert await history(session) == ["B", "c", "answer 1"]


@pytest.mark.parametrize("what", ["withdraw", "replace", "promote"])
async def test_what_is_unknown_or_read_is_refused_and_nothing_changes(
    restate_env: Restate, deploy: Deploy, log: Log, what: str
) -> None:
    worker = Gated(log, f"Refused{what.title()}Agent")
    session = await open_session(restate_env, deploy, worker)

    def ask(message: int) -> Any:
        more = {"withdraw": (), "replace": ("x",), "promote": ("steer",)}[what]
        return getattr(session, what)(message, *more)

    assert await refused(ask(1)) == 404
    await start(session, worker, "first")
    before = await session.turns(), await session.status()
    assert await refused(ask(1)) == 412
    assert await refused(ask(2)) == 404
    assert await refused(ask(0)) == 404
    assert (await session.turns(), await session.status()) == before
    await finish(session, worker, 1)
    assert await refused(ask(1)) == 412


@pytest.mark.parametrize("race", range(RACES))
@pytest.mark.parametrize(
    "what", ["withdraw", "replace", "steer", pytest.param("promote", marks=normal_mode)]
)
async def test_whoever_changes_a_message_as_its_turn_begins_wins_or_is_refused(
    restate_env: Restate, deploy: Deploy, log: Log, what: str, race: int
) -> None:
    worker = Gated(log, f"BeginRace{what.title()}{race}Agent")
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "first")
    [mine] = await queue(session, "mine")
    [after] = await queue(session, "after")

    async def change() -> int:
        await asyncio.sleep(0.005 * race)
        if what == "withdraw":
            return await refused(session.withdraw(mine))
        if what == "replace":
            return await refused(session.replace(mine, "changed"))
        if what == "steer":
            return await refused(session.promote(mine, "steer"))
        return await refused(session.promote(after, "interrupt"))

    worker.tell(1, "end")
    status, _ = await asyncio.gather(change(), session.attach(1))
    for turn in range(2, 6):
        worker.tell(turn, "end")
    await eventually(lambda: is_idle(session))
    said = [x for x in await history(session) if not x.startswith(("note", "answer"))]
    won = status == 0
    expected = {
        "withdraw": ["first", "after"] if won else ["first", "mine", "after"],
        "replace": ["first", "changed" if won else "mine", "after"],
        "steer": ["first", "mine", "after"],
    }
    if what in expected:
        assert said == expected[what]
        assert status in (0, 412)
    else:
        assert sorted(said) == sorted(["first", "mine", "after"])
    if what == "withdraw":
        model_saw = [text for seen in worker.seen.values() for text in seen]
        assert ("mine" in model_saw) != won
    assert {x["status"] for x in (await session.turns())["turns"]} <= {"completed", "interrupted"}


async def test_metadata_stays_with_its_message_and_no_model_sees_it(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    seen: dict[int, Any] = {}

    class Noting(Gated):
        async def run(self, ctx: Any, task: Any) -> str:
            seen[task.turn] = list(task.messages), list(task.input_metadata), list(task.input)
            return await super().run(ctx, task)

    worker = Noting(log, "NotedAgent")
    session = await open_session(restate_env, deploy, worker)
    noted = {"author": "ada", "client": {"id": 7}}
    await start(session, worker, "first", metadata=noted)
    await session.send("aside", policy="steer", metadata={"author": "bob"})
    worker.tell(1, "look")
    await log.until("took", 1, ["aside"])
    await finish(session, worker, 1)
    plain = {"role": "user", "content": "first"}
    assert seen[1] == ([plain], [noted], [plain])
    assert (await session.history())[:2] == [plain, {"role": "user", "content": "aside"}]
    assert (await session.attach(1))["messages"][0] == {"role": "user", "content": "aside"}
    [turn] = (await session.turns())["turns"]
    assert turn["input"] == [{**plain, "id": 1, "metadata": noted}]
    said = turn["messages"][0]
    assert (said["id"], said["metadata"]) == (2, {"author": "bob"})
    await session.regenerate()
    await log.until("begin", 2)
    assert seen[2][1] == [noted, {"author": "bob"}]
    await finish(session, worker, 2)
    assert await refused(session.send("x", metadata={"x": "y" * 4096})) == 400


async def test_a_message_says_itself_whether_it_spares_the_queue(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "SparingAgent")
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "first")
    await queue(session, "second")
    receipt = await session.send("third", keep_queued=True)
    assert receipt["interrupted"] == [1]
    worker.stop(1)
    await finish(session, worker, 2, 3)
    assert [x for x in await history(session) if x[:4] not in ("note", "answ")] == [
        "first",
        "second",
        "third",
    ]
    assert await record(session, "status") == [("interrupted",), ("completed",), ("completed",)]


async def test_who_asks_by_steering_waits_for_the_turn_that_answers(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "AskedAgent")
    session = await open_session(restate_env, deploy, worker)
    await start(session, worker, "first")
    asks = asyncio.create_task(session.ask("and this?", policy="steer"))
    await eventually(lambda: pending(session, "id"))
    worker.tell(1, "end")  # it does not take it
    await log.until("begin", 2)
    worker.tell(2, "end")
    assert texts((await asks)["messages"]) == ["answer 2"]
    await eventually(lambda: is_idle(session))


async def test_an_edit_takes_the_place_of_a_turn_and_all_after_it(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "EditedTurnAgent")
    session = await open_session(restate_env, deploy, worker)
    for turn in (1, 2, 3):
        await start(session, worker, f"message {turn}")
        await finish(session, worker, turn)
    assert await refused(session.edit(2, "other", if_last=2)) == 412
    receipt = await session.edit(2, "other", if_last=3)
    assert (receipt["turn"], receipt["message"]) == (4, 4)
    assert receipt.get("discarded") == [2, 3]
    await finish(session, worker, 4)
    assert await history(session) == ["message 1", "answer 1", "other", "answer 4"]
    assert await refused(session.edit(2, "again")) == 404
    assert (await session.attach(message=4))["status"] == "completed"
