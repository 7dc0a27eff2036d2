"""The record of the turns, forks of it, and waiting for a turn, on a real server."""

import asyncio
import time
from typing import Any

import pytest
from restate import Context, TerminalError

from interruptible import Agent, Session, Task
from interruptible.testing import Restate

from .conftest import Deploy, Log, eventually, normal_mode, once
from .gated import Gated, finish, history, open_session, record, start, texts

pytestmark = pytest.mark.anyio


class RecordEchoAgent(Agent):
    """Answers at once, in capitals."""

    async def run(self, ctx: Context, task: Task) -> str:
        return texts(task.input)[0].upper()


async def refused(call: Any, status: int, reason: str) -> None:
    with pytest.raises(TerminalError, match=reason) as refusal:
        await call
    assert refusal.value.status_code == status


# -- get_turns -------------------------------------------------------------------------------------


async def test_the_record_shows_every_turn_and_why_it_ended(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "RecordAgent")
    session = await open_session(restate_env, deploy, worker)
    assert await session.turns() == {"turns": [], "before": None}
    began = time.time() * 1000
    ids = [(await start(session, worker, "good"))["task_id"]]
    await finish(session, worker, 1)
    ids.append((await start(session, worker, "bad"))["task_id"])
    worker.tell(2, "half done", "fail")
    assert (await session.attach(2))["error"] == "no luck"
    ids.append((await start(session, worker, "wrong"))["task_id"])
    await session.send("steered", policy="steer")
    worker.tell(3, "so far", "look")
    await log.until("took", 3, ["steered"])
    await session.cancel(reason="wrong file")
    worker.stop(3)
    await session.attach(3)
    ids.append((await start(session, worker, "killed"))["task_id"])
    await restate_env.kill(ids[3])
    assert (await session.attach(4))["status"] == "killed"
    ids.append((await start(session, worker, "taken back"))["task_id"])
    ids.append((await session.send("last", policy="rollback"))["task_id"])
    worker.stop(5)
    await log.until("begin", 6)
    await session.attach(5)

    page = await session.turns()
    assert page["before"] is None
    accepted, ended = "accepted_at", "ended_at"
    assert [
        {name: value for name, value in turn.items() if name not in (accepted, ended)}
        for turn in page["turns"]
    ] == [
        expected(1, "completed", ids, "good", "answer 1"),
        expected(2, "failed", ids, "bad", "half done", error="no luck"),
        {
            **expected(3, "interrupted", ids, "wrong", "so far", reason="cancelled: wrong file"),
            "messages": [said("assistant", "so far"), said("user", "steered", 4)],
            "steered": [1],
        },
        expected(4, "killed", ids, "killed", said_as=5),
        expected(
            5,
            "interrupted",
            ids,
            "taken back",
            said_as=6,
            reason="rolled back by turn 6",
            discarded=True,
        ),
        expected(6, "running", ids, "last", said_as=7),
    ]
    over = page["turns"][:-1]
    times: list[Any] = [x for turn in over for x in (turn.get(accepted), turn.get(ended))]
    # The last is accepted before the one that it takes back has ended.
    times.insert(-1, page["turns"][-1].get(accepted))
    assert times == sorted(times)
    assert began - 1 <= times[0] <= times[-1] <= time.time() * 1000 + 1
    assert ended not in page["turns"][-1]
    await finish(session, worker, 6)


def said(role: str, text: str, number: int | None = None) -> dict[str, Any]:
    message = {"role": role, "content": text}
    return message if number is None else {**message, "id": number}


def expected(
    turn: int,
    status: str,
    ids: list[str],
    asked: str,
    *put_out: str,
    said_as: int | None = None,
    **why: Any,
) -> Any:
    return {
        "turn": turn,
        "status": status,
        "task_id": ids[turn - 1],
        "input": [said("user", asked, said_as or turn)],
        "messages": [said("assistant", text) for text in put_out],
        **why,
    }


@normal_mode
async def test_the_record_marks_what_was_cut_off(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    async def stream(say: Any) -> str:
        say("Once upon ")
        say("a time")
        await log.add("said")
        await asyncio.sleep(60)
        return "the end"

    class TellingAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            task.append("Listen.")
            return await ctx.run_typed("stream", stream, say=task.partial)

    session = await open_session(restate_env, deploy, TellingAgent())
    await session.send("a story")
    await log.until("said")
    await session.cancel()
    outcome = await session.attach(1)
    assert (texts(outcome["messages"]), outcome.get("partial")) == (
        ["Listen.", "Once upon a time"],
        1,
    )
    assert await record(session, "status", "partial") == [("interrupted", 1)]


@once
async def test_the_record_is_paged_from_its_end_to_its_beginning(
    restate_env: Restate, deploy: Deploy
) -> None:
    session = await open_session(restate_env, deploy, RecordEchoAgent("PagedAgent"))
    for number in range(1, 36):
        await session.ask(f"message {number}")

    async def page(**options: int) -> tuple[list[int], int | None]:
        turns = await session.turns(**options)
        return [turn["turn"] for turn in turns["turns"]], turns["before"]

    assert await page() == ([*range(1, 36)], None)
    assert await page(limit=35) == ([*range(1, 36)], None)
    assert await page(limit=15) == ([*range(21, 36)], 21)
    assert await page(limit=15, before=21) == ([*range(6, 21)], 6)
    assert await page(limit=15, before=6) == ([*range(1, 6)], None)
    assert await page(limit=1, before=17) == ([16], 16)
    assert await page(limit=1, before=2) == ([1], None)
    for before in (1, 0, -7):
        assert await page(before=before) == ([], None)
    assert await page(limit=2, before=1000) == ([34, 35], 34)
    for limit in (0, 101, -1):
        await refused(page(limit=limit), 400, "limit: must be 1 to 100")


# -- attach ----------------------------------------------------------------------------------------


async def test_twenty_callers_wait_for_a_turn_that_has_not_begun(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "AttachAgent", policy="queue")
    session = await open_session(restate_env, deploy, worker)
    await refused(session.attach(), 404, "it has no turns yet")
    await start(session, worker, "first")
    for text in ("second", "third"):
        await session.send(text)
    callers = [asyncio.create_task(session.attach(2)) for _ in range(20)]

    async def all_wait() -> bool:
        rows = await restate_env.invocations(
            "target_service_name = 'AttachAgent' AND target_handler_name = 'attach'"
        )
        return len(rows) == 21  # with the one that was refused

    await eventually(all_wait)
    assert not any(caller.done() for caller in callers)
    await finish(session, worker, 1, 2, 3)
    outcome = {"turn": 2, "status": "completed", "messages": [said("assistant", "answer 2")]}
    assert await asyncio.gather(*callers) == [outcome] * 20


# -- fork ------------------------------------------------------------------------------------------


async def test_a_fork_has_the_conversation_up_to_a_turn_and_both_go_on_by_themselves(
    restate_env: Restate, deploy: Deploy
) -> None:
    session = await open_session(restate_env, deploy, RecordEchoAgent("ForkAgent"))
    for text in ("a", "b", "c"):
        await session.ask(text)
    await session.rewind(3)
    await session.ask("d")
    whole = await session.fork("whole")
    assert whole.key == "whole"
    early = await session.fork("early", 2)
    late = await session.fork("late", 3)  # which is discarded
    assert await history(whole) == ["a", "A", "b", "B", "d", "D"]
    assert await history(early) == await history(late) == ["a", "A", "b", "B"]
    assert await record(whole, "turn", "discarded") == [(1, None), (2, None), (4, None)]
    turns = (await session.turns())["turns"]
    assert (await whole.turns())["turns"] == [turns[0], turns[1], turns[3]]
    assert (await early.attach(2)) == await session.attach(2)
    await refused(whole.attach(3), 404, "turn: 3 was removed from this session")
    outcomes = [await x.ask(text) for x, text in ((session, "e"), (whole, "f"), (early, "g"))]
    assert [outcome["turn"] for outcome in outcomes] == [5, 5, 3]
    assert await history(session) == ["a", "A", "b", "B", "d", "D", "e", "E"]
    assert await history(whole) == ["a", "A", "b", "B", "d", "D", "f", "F"]
    assert await history(early) == ["a", "A", "b", "B", "g", "G"]
    await early.rewind(2)
    assert await history(early) == ["a", "A"]
    await early.reset()
    assert await history(session) == ["a", "A", "b", "B", "d", "D", "e", "E"]


class Knowing(Agent):
    """Says which turns are in the conversation before, and where the session comes from."""

    async def run(self, ctx: Context, task: Task) -> str:
        turns = ", ".join(f"{x['turn']} {x['status']}" for x in task.turns)
        return f"{turns or 'none'}; {tuple(task.forked_from) if task.forked_from else 'no fork'}"


async def told_by(session: Session) -> str:
    return str((await session.ask("what do you know?"))["messages"][-1]["content"])


async def test_a_task_knows_the_turns_of_its_conversation_and_so_those_that_were_taken_back(
    restate_env: Restate, deploy: Deploy
) -> None:
    session = await open_session(restate_env, deploy, Knowing("KnowingAgent"))
    assert await told_by(session) == "none; no fork"
    assert [await told_by(session) for _ in range(2)] == [
        "1 completed; no fork",
        "1 completed, 2 completed; no fork",
    ]
    await session.rewind(2)
    assert await told_by(session) == "1 completed; no fork"
    again = await session.regenerate(4)
    assert (await session.attach(again["turn"]))["messages"][-1]["content"] == (
        "1 completed; no fork"
    )
    await session.ask("x" * 30_000)  # so that it is not at hand any more
    assert await told_by(session) == "1 completed, 5 completed, 6 completed; no fork"
    await session.reset()
    assert await told_by(session) == "none; no fork"


async def test_the_tasks_of_a_fork_know_where_its_turns_were_worked_on(
    restate_env: Restate, deploy: Deploy
) -> None:
    session = await open_session(restate_env, deploy, Knowing("ForkedAgent"), "first")
    for _ in range(3):
        await session.ask("go")
    await session.rewind(3)
    fork = await session.fork("second", 3)
    told = "1 completed, 2 completed; ('first', 2)"
    assert await told_by(fork) == told
    await fork.regenerate()
    assert (await fork.attach())["messages"][-1]["content"] == told
    early, late = await fork.fork("third", 1), await fork.fork("fourth")
    assert await told_by(early) == "1 completed; ('first', 1)"
    assert await told_by(late) == "1 completed, 2 completed, 4 completed; ('second', 4)"
    await late.reset()
    assert await told_by(late) == "none; no fork"


async def test_a_fork_leaves_live_turns_out_and_refuses_what_it_cannot_copy(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    worker = Gated(log, "ForkLiveAgent", policy="queue")
    session = await open_session(restate_env, deploy, worker)
    empty = await session.fork("empty")
    assert await history(empty) == []
    await start(session, worker, "first")
    nothing = await session.fork("nothing")
    assert await history(nothing) == []
    await finish(session, worker, 1)
    await start(session, worker, "second")
    await session.send("third")
    for turn in (2, 3):
        await refused(session.fork("late", turn), 423, "turn 2 is live. Wait for it")
    for turn in (0, 4):
        await refused(session.fork("late", turn), 404, f"there is no turn {turn}")
    await refused(session.fork("one"), 400, "session: is this session itself")
    fork = await session.fork("fork")
    assert await history(fork) == ["first", "answer 1"]
    for taken in ("fork", "empty", "nothing"):
        await refused(session.fork(taken), 412, "session: there is one of this key already")
    assert (await fork.status())["status"] == "idle"
    assert await history(Session(restate_env.client, worker, "late")) == []
    receipts = [await x.send("other") for x in (fork, nothing, empty)]
    assert [(r["turn"], r["status"]) for r in receipts] == [(2, "running")] + [(1, "running")] * 2
    worker.tell(1, "end", "end")
    worker.tell(2, "end")  # in either session
    await finish(session, worker, 2, 3)
    assert [(await x.attach())["status"] for x in (fork, nothing, empty)] == ["completed"] * 3


async def test_of_two_forks_into_one_session_one_is_refused(
    restate_env: Restate, deploy: Deploy
) -> None:
    session = await open_session(restate_env, deploy, RecordEchoAgent("ForkTwiceAgent"))
    for text in ("a", "b"):
        await session.ask(text)
    forks = await asyncio.gather(
        *(session.fork("copy", turn) for turn in (1, 2)), return_exceptions=True
    )
    (refusal,) = [x.status_code for x in forks if isinstance(x, TerminalError)]
    assert refusal == 412
    (copy,) = [x for x in forks if isinstance(x, Session)]
    last = 2 if isinstance(forks[1], Session) else 1
    assert await history(copy) == ["a", "A", "b", "B"][: 2 * last]


@once
async def test_a_fork_of_a_long_conversation_has_all_of_it_large_turns_too(
    restate_env: Restate, deploy: Deploy
) -> None:
    session = await open_session(restate_env, deploy, RecordEchoAgent("ForkLongAgent"))
    large = {3: "large " * 4000, 20: "longer " * 4000}
    said = [large.get(number, f"message {number}") for number in range(1, 36)]
    for text in said:
        await session.ask(text)
    fork = await session.fork("copy", 33)
    assert await history(fork) == [t for text in said[:33] for t in (text, text.upper())]
    assert (await fork.turns())["turns"] == (await session.turns())["turns"][:33]
    assert texts((await fork.attach(20))["messages"]) == [large[20].upper()]
    assert (await fork.ask("next"))["turn"] == 34
    assert (await history(fork))[-2:] == ["next", "NEXT"]
    again = await fork.fork("copy of the copy")
    assert await history(again) == await history(fork)
