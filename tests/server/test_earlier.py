"""A task of a long conversation reads it as far back as its agent looks at it."""

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta

import pytest
from restate import Context, ObjectSharedContext

from interruptible import Agent, Message, Session, Task, Turn
from interruptible._session import storage
from interruptible._session.sent import Stored
from interruptible.testing import Restate

from .conftest import Deploy, Log, once

pytestmark = pytest.mark.anyio

NOISE = 12_000
"""Characters of an answer, of which half compresses: ten of them are more than is at hand."""


def noise(turn: int) -> str:
    return random.Random(turn).randbytes(NOISE // 2).hex()  # noqa: S311


def said(turns: Sequence[Turn]) -> list[str]:
    return [str(turn["input"][0]["content"]) for turn in turns]


class Looking(Agent):
    """Puts out much; its task tells which messages of the user it was sent."""

    log: Log

    async def run(self, ctx: Context, task: Task) -> str:
        words = [str(x["content"]) for x in task.messages if x["role"] == "user"]
        await self.log.add("sent", task.turn, *words)
        if task.input and task.text == "wait":
            await ctx.run_typed("wait", self.log.step, name=task.turn, seconds=60)
        return noise(task.turn)


async def grow(session: Session, turns: int = 20) -> None:
    for n in range(1, turns + 1):
        assert (await session.ask(str(n)))["status"] == "completed"


async def journal(restate: Restate, task_id: str) -> tuple[int, int]:
    """How often a task has asked for what is stored, and the bytes of all that it was told."""
    rows = await restate.query(f"SELECT * FROM sys_journal WHERE id = '{task_id}'")  # noqa: S608
    calls = [x["entry_lite_json"] for x in rows if x["entry_type"] == "Command: Call"]
    asked = [x for x in calls if '"handler":"load"' in x]
    return len(asked), sum(x["raw_length"] for x in rows)


@once
async def test_a_window_is_all_that_is_read_of_a_long_conversation(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class NarrowAgent(Looking):
        def conversation(self, turns: Sequence[Turn]) -> list[Message]:
            return super().conversation(turns[-4:])

    agent = NarrowAgent()
    agent.log = log
    await deploy(agent)
    session = Session(restate_env.client, agent, "window")
    await grow(session)
    receipt = await session.send("wait")
    await log.until("sent", 21, "17", "18", "19", "20", "wait")
    await log.until("begin", 21)
    receipt = await session.send("now", policy="rollback")
    assert (await session.attach(receipt["turn"]))["status"] == "completed"
    await log.until("sent", 22, "17", "18", "19", "20", "now")
    asked, size = await journal(restate_env, receipt["task_id"])
    assert asked == 1
    assert size < 10 * NOISE


@pytest.mark.long
async def test_who_counts_back_reads_until_it_is_enough(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class CountingBackAgent(Looking):
        def conversation(self, turns: Sequence[Turn]) -> list[Message]:
            kept: list[Turn] = []
            room = 15 * NOISE
            for turn in reversed(turns):
                room -= sum(len(str(x["content"])) for x in turn["messages"])
                if room < 0:
                    break
                kept.append(turn)
            return super().conversation(kept[::-1])

    agent = CountingBackAgent()
    agent.log = log
    await deploy(agent)
    session = Session(restate_env.client, agent, "back")
    await grow(session)
    receipt = await session.send("now")
    await session.attach(receipt["turn"])
    assert log.events[-1] == ("sent", 21, *map(str, range(6, 21)), "now")
    asked, _ = await journal(restate_env, receipt["task_id"])
    assert asked == 2
    # Where less is there than would be enough, all of it is.
    await session.rewind(4)
    await session.ask("now")
    assert log.events[-1] == ("sent", 22, "1", "2", "3", "now")


async def test_who_reads_further_in_run_has_all_turns_in_the_end(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class FurtherAgent(Looking):
        def conversation(self, turns: Sequence[Turn]) -> list[Message]:
            return super().conversation(turns[-1:])

        async def run(self, ctx: Context, task: Task) -> str:
            if task.text == "all":
                found = [len(said(task.turns[-1:]))]
                while more := await task.earlier():
                    found.append(more)
                await log.add("all", len(found), *said(task.turns))
            if task.text == "careless":
                return str(len(task.turns))
            return await super().run(ctx, task)

    agent = FurtherAgent()
    agent.log = log
    await deploy(agent)
    session = Session(restate_env.client, agent, "further")
    await grow(session)
    assert (await session.ask("all"))["status"] == "completed"
    assert ("all", 2, *map(str, range(1, 21))) in log.events
    outcome = await session.ask("careless")
    assert outcome["status"] == "failed"
    assert "task.turns: those before turn 1" in outcome["error"]
    fork = await session.fork("further fork", 20)
    assert (await fork.ask("all"))["status"] == "completed"
    assert log.of("all")[-1] == ("all", 2, *map(str, range(1, 21)))


@pytest.mark.long
async def test_a_window_is_whole_and_comes_once_beside_a_burst_of_pictures(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class PicturesAgent(Looking):
        def conversation(self, turns: Sequence[Turn]) -> list[Message]:
            return super().conversation(turns[-18:])

        async def run(self, ctx: Context, task: Task) -> str:
            await log.add("begins", len(task.input), len(task.messages) - len(task.input))
            return noise(task.turn)

    agent = PicturesAgent(debounce=timedelta(seconds=0.3))
    await deploy(agent)
    session = Session(restate_env.client, agent, "pictures")
    await grow(session)
    receipt = await session.send("look")
    for _ in range(3):
        await session.send("p" * 900_000)
    await session.attach(receipt["turn"])
    assert log.events[-1] == ("begins", 4, 36)
    asked, size = await journal(restate_env, receipt["task_id"])
    assert asked == 2
    assert size < 2 * 2 * 3 * 900_000  # what the object sent of the pictures, and `load` once more


# -- The older turns, which are loaded once. -------------------------------------------------------


class Whole(Looking):
    """Tells its model the whole conversation."""


async def whole(restate: Restate, deploy: Deploy, log: Log, name: str) -> Session:
    """A session whose first sixteen turns are the older ones."""
    agent = Whole(name)
    agent.log = log
    await deploy(agent)
    session = Session(restate.client, agent, "whole")
    await grow(session)
    return session


async def shared_loads(restate: Restate, name: str) -> list[str]:
    """What loads, or has loaded, the older turns for many tasks."""
    where = f"target_service_name = '{name}' AND target_handler_name = 'load'"
    rows = await restate.query(f"SELECT id, idempotency_key FROM sys_invocation WHERE {where}")  # noqa: S608
    return [row["id"] for row in rows if row.get("idempotency_key")]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MANY_PAGES", 1)


@pytest.mark.usefixtures("few")
async def test_the_older_turns_are_loaded_once_for_many_tasks_until_some_are_taken_back(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    session = await whole(restate_env, deploy, log, "LoadedOnceAgent")
    expected = [str(n) for n in range(1, 21)]
    for turn in range(21, 26):
        assert (await session.ask(str(turn)))["status"] == "completed"
        assert log.events[-1] == ("sent", turn, *expected, str(turn))
        expected.append(str(turn))
    assert len(await shared_loads(restate_env, "LoadedOnceAgent")) == 1
    assert (await session.regenerate(22))["turn"] == 26
    await session.attach(26)
    assert log.events[-1] == ("sent", 26, *expected[:22])
    assert len(await shared_loads(restate_env, "LoadedOnceAgent")) == 1
    await session.rewind(3)
    await session.ask("now")
    assert log.events[-1] == ("sent", 27, "1", "2", "now")
    await session.ask("again")
    assert log.events[-1] == ("sent", 28, "1", "2", "now", "again")
    assert len(await shared_loads(restate_env, "LoadedOnceAgent")) == 2
    await session.reset()
    await session.ask("anew")
    assert log.events[-1] == ("sent", 29, "anew")


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("end", ["goes on", "cancel", "kill"])
async def test_who_is_interrupted_as_the_older_turns_are_loaded_takes_them_from_nobody(
    restate_env: Restate, deploy: Deploy, log: Log, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    name = f"Loads{end.title().replace(' ', '')}Agent"
    session = await whole(restate_env, deploy, log, name)
    await session.rewind(20)  # it is no older one
    copy, held = Stored.copy, asyncio.Event()

    async def hold(ctx: ObjectSharedContext, before: int | None = None, **more: int) -> Stored:
        if before is not None and not held.is_set():
            await log.add("loads")
            await held.wait()
        return await copy(ctx, before, **more)

    monkeypatch.setattr(Stored, "copy", hold)
    await session.rewind(16)  # this is one
    first = await session.send("first")
    await log.until("loads")
    second = await session.send("second")
    assert second["interrupted"] == [first["turn"]]
    assert (await session.attach(first["turn"]))["status"] == "interrupted"
    (loading,) = [
        each
        for each in await shared_loads(restate_env, name)
        if (await restate_env.invocations(f"id = '{each}'"))[0]["status"] != "completed"
    ]
    if end != "goes on":
        await getattr(restate_env, end)(loading)
    held.set()
    assert (await session.attach(second["turn"]))["status"] == "completed"
    expected = [*map(str, range(1, 16)), "first", "second"]
    assert log.events[-1] == ("sent", second["turn"], *expected)
    assert (await session.ask("third"))["status"] == "completed"
    assert log.events[-1][2:] == (*expected, "third")
    (loaded,) = await restate_env.query(
        f"SELECT completion_result FROM sys_invocation WHERE id = '{loading}'"  # noqa: S608
    )
    assert loaded["completion_result"] == ("success" if end == "goes on" else "failure")
