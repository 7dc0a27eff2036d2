"""What the model was saying when it was cut off stays, if its words are given to `partial`."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import restate
from restate import Context, RunOptions, TerminalError

from interruptible import Agent, Session, Task
from interruptible._task.repair import CUT_OFF, INTERRUPTED
from interruptible.testing import Restate

from .conftest import Deploy, Log, eventually, normal_mode

pytestmark = pytest.mark.anyio

Say = Callable[[str], None]
STAYS = ""
"""As the last word: the answer does not end."""


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


class Speaker(Agent):
    """Says in its first turn what a test has it say; notes what its later turns are sent."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log
        self.seen: dict[int, list[Any]] = {}

    async def run(self, ctx: Context, task: Task) -> Any:
        self.seen[task.turn] = list(task.messages)
        return "done" if task.turn > 1 else await self.speak(ctx, task)

    async def speak(self, ctx: Context, task: Task) -> Any:
        raise NotImplementedError

    async def say_all(self, say: Say, *words: str) -> str:
        """A step that streams an answer, and stays in the middle of one that ends in `STAYS`."""
        for word in words:
            say(word)
            await asyncio.sleep(0)  # another may speak in between
        await self.log.add("said", *words)
        if words[-1] == STAYS:
            await asyncio.Event().wait()
        return "".join(words)


def saying(ctx: Context, agent: Speaker, task: Task, *words: str) -> Any:
    return ctx.run_typed("say", agent.say_all, RunOptions(), task.partial, *words)


async def cut_off(session: Session, log: Log, *said: str) -> tuple[Any, Any]:
    """Interrupt the first turn once that was said; returns its outcome, and its record."""
    await session.send("go")
    await log.until("said", *said)
    assert (await session.ask("next"))["status"] == "completed"
    return await session.attach(1), (await session.turns())["turns"][0]


async def journal(env: Restate, task_id: str) -> list[tuple[str, str]]:
    """The entries of a task, each with its name if it has one."""
    rows = await env.query(
        f"SELECT entry_type, name FROM sys_journal WHERE id = '{task_id}' ORDER BY index"  # noqa: S608
    )
    return [(row["entry_type"], row.get("name", "")) for row in rows]


async def steps_ended(env: Restate, task_id: str, count: int) -> None:
    async def so_many() -> bool:
        return (await journal(env, task_id)).count(("Notification: Run", "")) == count

    await eventually(so_many)


@normal_mode
async def test_what_was_said_when_the_step_was_cut_off_stands_as_the_words_of_the_assistant(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class CutOffAgent(Speaker):
        async def speak(self, ctx: Context, task: Task) -> str:
            task.append("plan")
            return await saying(ctx, self, task, "Once ", "upon", STAYS)

    agent = CutOffAgent(log)
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    outcome, turn = await cut_off(session, log, "Once ", "upon", STAYS)
    messages = [assistant("plan"), assistant("Once upon")]
    assert outcome == {"turn": 1, "status": "interrupted", "messages": messages, "partial": 1}
    assert (turn["status"], turn["messages"], turn["partial"]) == ("interrupted", messages, 1)
    note = user(str(agent.interruption_note(turn)))
    conversation = [user("go"), *messages, note, user("next")]
    assert agent.seen[2] == conversation
    assert await session.history() == [*conversation, assistant("done")]


@normal_mode
async def test_what_a_step_said_is_forgotten_once_it_has_ended_well(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class EndedAgent(Speaker):
        async def speak(self, ctx: Context, task: Task) -> str:
            draft = await saying(ctx, self, task, "a draft")
            task.append(draft.upper())
            return await saying(ctx, self, task, "polished", STAYS)

    agent = EndedAgent(log)
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    outcome, turn = await cut_off(session, log, "polished", STAYS)
    messages = [assistant("A DRAFT"), assistant("polished")]
    assert outcome == {"turn": 1, "status": "interrupted", "messages": messages, "partial": 1}
    assert (turn["messages"], turn["partial"]) == (messages, 1)


async def test_a_turn_that_is_not_cut_off_while_it_speaks_keeps_nothing_of_it(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class SpokenAgent(Speaker):
        async def speak(self, ctx: Context, task: Task) -> str:
            said = await saying(ctx, self, task, "Hel", "lo")
            if task.session == "waits":
                task.append("plan")
                await log.add("waits")
                await ctx.signal("never")
            return str(said).upper()

    agent = SpokenAgent(log)
    await deploy(agent)
    completes = Session(restate_env.client, agent, "completes")
    done = {"turn": 1, "status": "completed", "messages": [assistant("HELLO")]}
    assert await completes.ask("go") == done
    assert "partial" not in (await completes.turns())["turns"][0]
    waits = Session(restate_env.client, agent, "waits")
    await waits.send("go")
    await log.until("waits")
    await waits.cancel()
    interrupted = {"turn": 1, "status": "interrupted", "messages": [assistant("plan")]}
    assert await waits.attach() == interrupted
    assert "partial" not in (await waits.turns())["turns"][0]


@normal_mode
@pytest.mark.parametrize("words", [(STAYS,), (" ", "\n\t", STAYS)], ids=["nothing", "blank"])
async def test_nothing_is_stored_where_nothing_was_said(
    restate_env: Restate, deploy: Deploy, log: Log, words: tuple[str, ...]
) -> None:
    class SpeechlessAgent(Speaker):
        async def speak(self, ctx: Context, task: Task) -> str:
            return await saying(ctx, self, task, *words)

    agent = SpeechlessAgent(log)
    await deploy(agent)
    session = Session(restate_env.client, agent, f"{len(words)} words")
    outcome, turn = await cut_off(session, log, *words)
    assert outcome == {"turn": 1, "status": "interrupted", "messages": []}
    assert (turn["messages"], "partial" in turn) == ([], False)
    assert [message["content"] for message in agent.seen[2]][::2] == ["go", "next"]


@normal_mode
async def test_steps_that_speak_side_by_side_keep_their_words_apart_and_in_the_order_of_the_steps(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class ChorusAgent(Speaker):
        async def speak(self, ctx: Context, task: Task) -> None:
            parts = [("one ", "two", STAYS), ("it", " ended"), ("three", " four", STAYS)]
            await restate.gather(*(saying(ctx, self, task, *words) for words in parts))

    agent = ChorusAgent(log)
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    receipt = await session.send("go")
    await log.until("said", "one ", "two", STAYS)
    await log.until("said", "three", " four", STAYS)
    await steps_ended(restate_env, receipt["task_id"], 1)
    await session.cancel()
    messages = [assistant("one two"), assistant("three four")]
    assert await session.attach() == {
        "turn": 1,
        "status": "interrupted",
        "messages": messages,
        "partial": 2,
    }


@normal_mode
async def test_what_had_come_of_a_tools_call_is_its_result_also_what_came_as_it_unwound(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class ToolsAgent(Speaker):
        async def speak(self, ctx: Context, task: Task) -> None:
            calls = [{"id": call, "type": "function"} for call in ("whole", "cut", "silent")]
            task.append({"role": "assistant", "content": None, "tool_calls": calls})
            whole = task.partial_result("whole")
            said = await ctx.run_typed("run", self.say_all, RunOptions(), whole, "all", " of it")
            task.append({"role": "tool", "tool_call_id": "whole", "content": said})
            await restate.gather(
                self.running(ctx, task, "cut"),
                self.running(ctx, task, "silent"),
                saying(ctx, self, task, "Meanwhile", STAYS),
            )

        def running(self, ctx: Context, task: Task, call: str) -> Any:
            give = task.partial_result(call)
            return ctx.run_typed("run", self.run_tool, RunOptions(), give, call)

        async def run_tool(self, give: Say, call: str) -> None:
            words = ["line 1\n", "line 2\n", "last words\n"] if call == "cut" else []
            await self.log.add("tool")
            try:
                for word in words[:2]:
                    give(word)
                await asyncio.Event().wait()
            finally:
                for word in words[2:]:
                    give(word)

    agent = ToolsAgent(log)
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("go")
    await log.until("tool", times=2)
    await log.until("said", "Meanwhile", STAYS)
    await session.cancel()
    outcome = await session.attach()
    cut = f"line 1\nline 2\nlast words\n{CUT_OFF}"
    assert outcome["messages"][1:] == [
        {"role": "tool", "tool_call_id": "whole", "content": "all of it"},
        {"role": "tool", "tool_call_id": "cut", "content": cut},
        {"role": "tool", "tool_call_id": "silent", "content": INTERRUPTED},
        assistant("Meanwhile"),
    ]
    assert outcome["partial"] == 1


@normal_mode
async def test_only_the_last_try_of_a_step_counts(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class PartialTwiceAgent(Speaker):
        async def speak(self, ctx: Context, task: Task) -> str:
            return await ctx.run_typed("say", self.try_twice, say=task.partial)

        async def try_twice(self, say: Say) -> str:
            if not log.of("said"):
                await self.say_all(say, "first")
                raise ConnectionError
            return await self.say_all(say, "second", STAYS)

    agent = PartialTwiceAgent(log)
    await deploy(agent)
    outcome, _ = await cut_off(Session(restate_env.client, agent, "one"), log, "second", STAYS)
    messages = [assistant("second")]
    assert outcome == {"turn": 1, "status": "interrupted", "messages": messages, "partial": 1}


@normal_mode
async def test_a_step_that_is_not_async_is_waited_for_and_its_words_stay(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    release, loop = threading.Event(), asyncio.get_running_loop()

    def block(say: Say) -> str:
        say("from a ")
        asyncio.run_coroutine_threadsafe(log.add("said", "from a "), loop).result()
        release.wait()
        say("thread")
        return "ended"

    class ThreadSpeakerAgent(Speaker):
        async def speak(self, ctx: Context, task: Task) -> str:
            return await ctx.run_typed("say", block, say=task.partial)

    agent = ThreadSpeakerAgent(log)
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    receipt = await session.send("go")
    await log.until("said", "from a ")
    await session.cancel()

    async def told() -> bool:
        entries = [name for name, _ in await journal(restate_env, receipt["task_id"])]
        return "Notification: Signal" in entries

    await eventually(told)
    release.set()
    messages = [assistant("from a thread")]
    assert await session.attach() == {
        "turn": 1,
        "status": "interrupted",
        "messages": messages,
        "partial": 1,
    }


@pytest.mark.parametrize(
    "session", ["speaks itself", pytest.param("beside one that speaks", marks=normal_mode)]
)
async def test_a_turn_that_fails_keeps_none_of_it(
    restate_env: Restate, deploy: Deploy, log: Log, session: str
) -> None:
    class FailingAgent(Speaker):
        async def speak(self, ctx: Context, task: Task) -> None:
            task.append("plan")
            fails = ctx.run_typed("fail", self.fail, say=task.partial)
            if task.session == "beside one that speaks":  # the failure cuts it off
                await restate.wait_completed(fails, saying(ctx, self, task, "half", STAYS))
            await fails

        async def fail(self, say: Say) -> None:
            say("half")
            if session == "beside one that speaks":
                await log.until("said", "half", STAYS)
            raise TerminalError("no credit", 402)

    agent = FailingAgent(log)
    await deploy(agent)
    failed = {"turn": 1, "status": "failed", "messages": [assistant("plan")], "error": "no credit"}
    talk = Session(restate_env.client, agent, session)
    assert await talk.ask("go") == failed
    assert "partial" not in (await talk.turns())["turns"][0]


@pytest.mark.parametrize("session", ["asks for it", "does not"])
async def test_it_costs_an_interrupted_turn_one_step_and_an_agent_that_does_not_use_it_nothing(
    restate_env: Restate, deploy: Deploy, log: Log, session: str
) -> None:
    class CostlyAgent(Speaker):
        async def speak(self, ctx: Context, task: Task) -> None:
            if task.session == "asks for it":
                assert callable(task.partial)
            await log.add("waits")
            await ctx.signal("never")

    agent = CostlyAgent(log)
    await deploy(agent)
    talk = Session(restate_env.client, agent, session)
    receipt = await talk.send("go")
    await log.until("waits")
    await talk.cancel()
    assert (await talk.attach())["status"] == "interrupted"
    entries = await journal(restate_env, receipt["task_id"])
    step = [("Command: Run", "partial answer")]
    commands = [
        ("Command: Input", ""),
        *(step if session == "asks for it" else []),
        ("Command: OneWayCall", ""),
        ("Command: Output", ""),
    ]
    assert [entry for entry in entries if entry[0].startswith("Command")] == commands
    assert [name for name, _ in entries].count("Notification: Run") == len(commands) - 3
