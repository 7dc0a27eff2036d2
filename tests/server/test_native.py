"""What a provider gave comes back to the task byte for byte, and is nowhere else to be seen."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from restate import Context, TerminalError

from interruptible import Agent, Message, Session, Task
from interruptible._session.storage import LARGE, TURNS_PER_PAGE
from interruptible._task.repair import INTERRUPTED
from interruptible.formats import native, responses, with_native
from interruptible.testing import Restate

from .conftest import LONG, Deploy, Log

pytestmark = pytest.mark.anyio

MARK = "encrypted"
"""Stands in everything that is native here, and in nothing else."""


def given(text: str, size: int = 1) -> list[dict[str, Any]]:
    """What a provider gave; its keys are in no order."""
    thought = {"type": "reasoning", "id": f"rs_{text}", "summary": [], MARK: MARK * size}
    said = [{"text": text, "type": "output_text", "annotations": None}]
    return [thought, {"role": "assistant", "type": "message", "id": f"m_{text}", "content": said}]


def answer(text: str, size: int = 1) -> Message:
    return with_native({"role": "assistant", "content": text}, "x", given(text, size))


class NativeAgent(Agent):
    """Answers with what a test says, and notes which native forms its turns were given."""

    def __init__(self, name: str, log: Log, **options: Any) -> None:
        super().__init__(name, **options)
        self.log = log
        self.seen: dict[int, list[str]] = {}

    async def run(self, ctx: Context, task: Task) -> Any:
        text: str = task.input[-1]["content"]
        forms = [native(message, "x") for message in task.messages]
        self.seen[task.turn] = [json.dumps(form) for form in forms if form is not None]
        assert {key for x in task.messages for key in x} == {"role", "content"}
        assert MARK not in json.dumps(task.messages) + json.dumps(list(task.turns))
        of_turns = [native(x, "x") for turn in task.turns for x in turn["messages"]]
        assert [x for x in of_turns if x is not None] == [x for x in forms if x is not None]
        if text.startswith("large"):
            return answer(text, LARGE)
        task.append(answer(text))
        assert native(task.messages[-1], "x") == given(text)
        await self.log.add("said", text)
        if text == "stay":
            await ctx.run_typed("stay", asyncio.sleep, delay=LONG)
        return "done"


async def shown(session: Session) -> str:
    """All that the public handlers show."""
    page = await session.turns()
    return json.dumps([await session.history(), page, await session.attach()])


async def test_it_goes_through_an_interrupted_turn_and_a_queue(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    agent = NativeAgent("NativeInterrupted", log)
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("stay")
    await log.until("said", "stay")
    await session.send("stay")
    await log.until("said", "stay", times=2)
    await session.send("queued", policy="queue")
    await session.cancel(turn=2)
    outcome = await session.attach()
    assert outcome["messages"] == [
        {"role": "assistant", "content": "queued"},
        {"role": "assistant", "content": "done"},
    ]
    stay = json.dumps(given("stay"))
    assert agent.seen == {1: [], 2: [stay], 3: [stay, stay]}
    assert MARK not in await shown(session)


async def test_it_goes_through_pages_large_turns_a_fork_and_what_is_taken_back(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    agent = NativeAgent("NativeLong", log)
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    texts = [f"large {n}" if n % 8 == 0 else f"small {n}" for n in range(TURNS_PER_PAGE + 4)]
    for text in texts:
        assert (await session.ask(text))["status"] == "completed"
    last = len(texts)

    def forms(*texts: str) -> list[str]:
        return [json.dumps(given(x, LARGE if "large" in x else 1)) for x in texts]

    assert agent.seen[last] == forms(*texts[:-1])
    fork = await session.fork("two", turn=last - 1)
    await fork.ask("forked")
    assert agent.seen[last] == forms(*texts[:-1])
    await session.regenerate()
    await session.attach()
    assert agent.seen[last + 1] == forms(*texts[:-1])
    await session.rewind(3)
    await session.ask("again")
    assert agent.seen[last + 2] == forms(*texts[:2])
    assert MARK not in await shown(session) + await shown(fork)


async def test_repair_keeps_it_with_the_messages_that_it_does_not_have_to_change(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    calls = [
        {"type": "function_call", "id": f"fc_{n}", "call_id": n, "name": "f", "arguments": "{}"}
        for n in ("a", "b")
    ]
    items = [{"type": "reasoning", "id": "rs_1", "summary": []}, *calls]
    result = {"type": "function_call_output", "call_id": "a", "output": "42", "status": "completed"}

    class CallingAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            if task.turn == 1:
                task.append(*responses.to_messages(items))
                task.append(*responses.to_messages([result]))
                await log.add("called")
                await ctx.run_typed("tool", asyncio.sleep, delay=LONG)
                raise AssertionError
            return json.dumps(responses.from_messages(task.messages))

    agent = CallingAgent("NativeCalling")
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.send("go")
    await log.until("called")
    outcome = await session.ask("stop")
    sent = json.loads(outcome["messages"][0]["content"])
    cut_off = {"type": "function_call_output", "call_id": "b", "output": INTERRUPTED}
    assert sent[1:6] == [*items, result, cut_off]
    first = await session.attach(1)
    assert [x["role"] for x in first["messages"]] == ["assistant", "tool", "tool"]
    assert "native" not in json.dumps(first) + await shown(session)


async def test_an_agent_that_asked_another_gets_what_everybody_gets(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    other = NativeAgent("NativeOther", log)

    class NativeAskingAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            outcome = await task.delegate(other, task.session, "hello")
            assert [native(x, "x") for x in outcome["messages"]] == [None, None]
            return json.dumps(outcome)

    agent = NativeAskingAgent("NativeAsking")
    await deploy(agent, other)
    outcome = await Session(restate_env.client, agent, "one").ask("go")
    assert outcome["status"] == "completed"
    assert MARK not in json.dumps(outcome)


async def test_the_size_of_a_turn_counts_it(restate_env: Restate, deploy: Deploy) -> None:
    class NativeFloodAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            try:
                task.append(answer("a", 1024 * 1024))
            except TerminalError as error:
                return error.message
            raise AssertionError

    agent = NativeFloodAgent("NativeFlood")
    await deploy(agent)
    outcome = await Session(restate_env.client, agent, "one").ask("go")
    assert "a turn has 8388608 at most" in outcome["messages"][0]["content"]


async def test_a_conversation_of_ones_own_has_it_and_what_it_changes_has_not(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    class ChangingAgent(NativeAgent):
        change: Callable[[Message], Message] = staticmethod(lambda x: x)

        def conversation(self, turns: Any) -> list[Message]:
            return [self.change(x) for x in super().conversation(turns)]

        async def run(self, ctx: Context, task: Task) -> Any:
            forms = [native(message, "x") for message in task.messages]
            self.seen[task.turn] = [json.dumps(form) for form in forms if form is not None]
            return answer(f"{task.turn}")

    agent = ChangingAgent("NativeChanging", log)
    await deploy(agent)
    session = Session(restate_env.client, agent, "one")
    await session.ask("one")
    await session.ask("two")
    agent.change = dict
    await session.ask("three")
    assert agent.seen == {1: [], 2: [json.dumps(given("1"))], 3: []}
