"""What the model of a turn was really sent, as a model server recorded it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI
from restate import Context

from interruptible import Agent, Message, Session, Task, Turn
from interruptible._task.repair import INTERRUPTED
from interruptible.testing import Restate
from tests.unit import oracles

from .conftest import Deploy, Log, normal_mode
from .model import HOLD, Call, Model, Piece, model_server

pytestmark = pytest.mark.anyio

NOTE = (
    "[I interrupted you before you were done. Do not resume that work by yourself: "
    "go on from what I say next.]"
)
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("look", "ask", "build")
]


def user(content: Any) -> Message:
    return {"role": "user", "content": content}


def assistant(content: Any, *calls: Call) -> Message:
    said: Message = {"role": "assistant", "content": content}
    if calls:
        said["tool_calls"] = [
            {"id": id_, "type": "function", "function": {"name": name, "arguments": "{}"}}
            for id_, name in calls
        ]
    return said


def tool(call: str, content: str) -> Message:
    return {"role": "tool", "tool_call_id": call, "content": content}


class ToolAgent(Agent):
    """Calls the model and its tools in turns, until it has no more to call.

    `look` gives a result at once, `ask` waits for an answer that never comes, and `build` works
    until it is released.
    """

    def __init__(self, log: Log, name: str, model: Model, **options: Any) -> None:
        super().__init__(name, **options)
        self.log = log
        self.model = model
        self.built = asyncio.Event()

    async def run(self, ctx: Context, task: Task) -> None:
        while True:
            await task.steering()
            said = await ctx.run_typed("model", self.think, sent=task.messages, say=task.partial)
            task.append(said)
            calls = self.calls(said)
            if not calls:
                return
            await self.work(ctx, task, calls)

    async def work(self, ctx: Context, task: Task, calls: list[Call]) -> None:
        for call in calls:
            task.append(tool(call.id, await self.use(ctx, call)))

    async def use(self, ctx: Context, call: Call) -> str:
        if call.name == "ask":
            await self.log.add("asks", call.id)
            await ctx.signal("answer")
        return await ctx.run_typed(call.name, self.build if call.name == "build" else self.look)

    async def look(self) -> str:
        return "a file"

    async def build(self) -> str:
        await self.log.add("builds")
        await self.built.wait()
        return "built"

    def calls(self, said: Message) -> list[Call]:
        return [Call(call["id"], call["function"]["name"]) for call in said.get("tool_calls", [])]

    async def think(self, sent: list[Any], say: Callable[[str], None]) -> Message:
        """One request, streamed."""
        words, calls = "", list[Call]()
        async with AsyncOpenAI(base_url=self.model.url, api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model="scripted", messages=sent, tools=TOOLS, stream=True
            )
            async with stream:
                async for chunk in stream:
                    delta = chunk.choices[0].delta
                    if delta.content:
                        words += delta.content
                        say(delta.content)
                        await self.log.add("heard", delta.content)
                    for call in delta.tool_calls or []:
                        assert call.id is not None
                        assert call.function is not None
                        calls.append(Call(call.id, str(call.function.name)))
        return assistant(words or None, *calls)


class Stage:
    """A model that says what a test tells it to, an agent that it drives, and one session."""

    def __init__(self, env: Restate, deploy: Deploy, log: Log, stack: AsyncExitStack) -> None:
        self.env, self.deploy, self.log, self.stack = env, deploy, log, stack
        self.refused = oracles.openai

    async def set(
        self, name: str, *answers: list[Piece], kind: type[ToolAgent] = ToolAgent, **options: Any
    ) -> tuple[Session, Model, ToolAgent]:
        self.model = await self.stack.enter_async_context(model_server(*answers))
        agent = kind(self.log, name, self.model, **options)
        await self.deploy(agent)
        return Session(self.env.client, agent, "one"), self.model, agent

    async def ends(self, count: int) -> list[str]:
        """How the first so many requests ended."""
        return [await self.model.end(number) for number in range(1, count + 1)]


@pytest.fixture
async def stage(restate_env: Restate, deploy: Deploy, log: Log) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        stage = Stage(restate_env, deploy, log, stack)
        yield stage
        assert [list(stage.refused(sent)) for sent in stage.model.requests] == [
            [] for _ in stage.model.requests
        ]


LOOK, ASK, BUILD = Call("call_1", "look"), Call("call_2", "ask"), Call("call_3", "build")


async def test_a_turn_cut_off_between_its_calls_and_their_results_leaves_each_call_answered(
    stage: Stage, log: Log
) -> None:
    session, model, _ = await stage.set("CallsAgent", ["I look. ", LOOK, ASK, BUILD])
    await session.send("go")
    await log.until("asks", "call_2")
    assert (await session.ask("stop"))["status"] == "completed"
    begun = [user("go"), assistant("I look. ", LOOK, ASK, BUILD), tool("call_1", "a file")]
    assert model.requests == [
        [user("go")],
        [
            *begun,
            tool("call_2", INTERRUPTED),
            tool("call_3", INTERRUPTED),
            user(NOTE),
            user("stop"),
        ],
    ]
    assert await session.history() == [*model.requests[-1], assistant("done")]
    assert await stage.ends(2) == ["completed", "completed"]


@normal_mode
async def test_a_tool_that_is_cut_off_at_work_is_answered_for_and_what_came_before_it_stays(
    stage: Stage, log: Log
) -> None:
    session, model, _ = await stage.set("BuildAgent", [LOOK], ["Now I build.", BUILD])
    await session.send("go")
    await log.until("builds")
    assert (await session.ask("stop"))["status"] == "completed"
    assert model.requests[-1] == [
        user("go"),
        assistant(None, LOOK),
        tool("call_1", "a file"),
        assistant("Now I build.", BUILD),
        tool("call_3", INTERRUPTED),
        user(NOTE),
        user("stop"),
    ]


@normal_mode
async def test_an_answer_that_is_cut_off_is_aborted_and_its_words_are_sent_to_the_next_turn(
    stage: Stage, log: Log
) -> None:
    session, model, _ = await stage.set(
        "WordsAgent", [LOOK], ["The file ", "says", ASK, HOLD, " nothing"]
    )
    await session.send("go")
    await log.until("heard", "says")
    assert (await session.ask("stop"))["status"] == "completed"
    assert model.requests == [
        [user("go")],
        [user("go"), assistant(None, LOOK), tool("call_1", "a file")],
        [
            *model.requests[1],
            assistant("The file says"),
            user(NOTE),
            user("stop"),
        ],
    ]
    assert (await session.attach(1))["partial"] == 1
    assert await stage.ends(3) == ["completed", "cut off", "completed"]


async def test_a_queued_turn_is_sent_all_of_the_turn_before_it(stage: Stage, log: Log) -> None:
    session, model, agent = await stage.set("QueuedAgent", [LOOK, BUILD], ["It ", "is built."])
    await session.send("go")
    await log.until("builds")
    await session.send("then test", policy="queue")
    agent.built.set()
    assert (await session.attach(2))["status"] == "completed"
    used = [user("go"), assistant(None, LOOK, BUILD), tool("call_1", "a file")]
    assert model.requests == [
        [user("go")],
        [*used, tool("call_3", "built")],
        [*used, tool("call_3", "built"), assistant("It is built."), user("then test")],
    ]
    assert await session.history() == [*model.requests[-1], assistant("done")]


async def test_a_steered_message_is_sent_after_the_results_of_the_tools(
    stage: Stage, log: Log
) -> None:
    session, model, agent = await stage.set("SteeredAgent", [LOOK, BUILD])
    await session.send("go")
    await log.until("builds")
    for text in ("use tabs", "and no semicolons"):
        assert (await session.send(text, policy="steer"))["status"] == "steered"
    agent.built.set()
    assert (await session.attach())["status"] == "completed"
    assert model.requests == [
        [user("go")],
        [
            user("go"),
            assistant(None, LOOK, BUILD),
            tool("call_1", "a file"),
            tool("call_3", "built"),
            user("use tabs"),
            user("and no semicolons"),
        ],
    ]
    assert await session.history() == [*model.requests[-1], assistant("done")]


async def test_nothing_of_a_turn_that_is_rolled_back_is_sent(stage: Stage, log: Log) -> None:
    session, model, _ = await stage.set("HandedRollbackAgent", ["Hello."], ["I look.", LOOK, ASK])
    await session.ask("hi")
    await session.send("go")
    await log.until("asks", "call_2")
    receipt = await session.send("rather this", policy="rollback")
    assert (receipt["interrupted"], receipt["discarded"]) == ([2], [2])
    assert (await session.attach())["status"] == "completed"
    first = [user("hi"), assistant("Hello.")]
    assert model.requests == [[user("hi")], [*first, user("go")], [*first, user("rather this")]]
    assert await session.history() == [*model.requests[-1], assistant("done")]


@pytest.mark.parametrize("live", [False, True], ids=["that have ended", "that are live"])
async def test_nothing_of_the_turns_that_are_taken_back_is_sent(
    stage: Stage, log: Log, live: bool
) -> None:
    last: list[Piece] = ["I look.", LOOK, ASK] if live else ["Bye."]
    session, model, _ = await stage.set(f"Rewind{live}Agent", ["Hello."], ["Yes."], last)
    for text in ("hi", "you there?"):
        await session.ask(text)
    await session.send("go")
    await (log.until("asks", "call_2") if live else session.attach())
    assert (await session.rewind(2))["discarded"] == [2, 3]
    assert (await session.ask("again"))["status"] == "completed"
    first = [user("hi"), assistant("Hello.")]
    second = [*first, user("you there?")]
    assert model.requests == [
        [user("hi")],
        second,
        [*second, assistant("Yes."), user("go")],
        [*first, user("again")],
    ]
    assert await session.history() == [*model.requests[-1], assistant("done")]


@pytest.mark.parametrize("live", [False, True], ids=["has ended", "is live"])
async def test_a_turn_that_is_made_again_is_sent_the_same(
    stage: Stage, log: Log, live: bool
) -> None:
    last: list[Piece] = ["I look.", LOOK, ASK] if live else ["Bye."]
    session, model, _ = await stage.set(f"Again{live}Agent", ["Hello."], last)
    await session.ask("hi")
    await session.send("go")
    await (log.until("asks", "call_2") if live else session.attach())
    receipt = await session.regenerate()
    assert (receipt["turn"], receipt["interrupted"]) == (3, [2] if live else [])
    assert (await session.attach())["status"] == "completed"
    asked = [user("hi"), assistant("Hello."), user("go")]
    assert model.requests == [[user("hi")], asked, asked]
    assert await session.history() == [*asked, assistant("done")]


async def test_a_hook_that_keeps_the_last_two_turns_keeps_them_whole_and_none_that_was_discarded(
    stage: Stage, log: Log
) -> None:
    class WindowAgent(ToolAgent):
        def conversation(self, turns: Sequence[Turn]) -> list[Message]:
            return super().conversation(turns[-2:])

    answers: list[list[Piece]] = [["one"], [LOOK, ASK], ["three"], ["no"], ["four"]]
    session, model, _ = await stage.set("WindowAgent", *answers, kind=WindowAgent)
    await session.ask("first")
    await session.send("second")
    await log.until("asks", "call_2")
    for text in ("third", "fourth"):
        assert (await session.ask(text))["status"] == "completed"
    assert (await session.regenerate())["discarded"] == [4]
    assert (await session.ask("fifth", policy="queue"))["status"] == "completed"
    cut_off = [
        user("second"),
        assistant(None, LOOK, ASK),
        tool("call_1", "a file"),
        tool("call_2", INTERRUPTED),
        user(NOTE),
    ]
    first, third = [user("first"), assistant("one")], [user("third"), assistant("three")]
    assert model.requests == [
        [user("first")],
        [*first, user("second")],
        [*first, *cut_off, user("third")],
        [*cut_off, *third, user("fourth")],
        [*cut_off, *third, user("fourth")],
        [*third, user("fourth"), assistant("four"), user("fifth")],
    ]
    assert await session.history() == [
        *first,
        *cut_off,
        *third,
        *[user("fourth"), assistant("four"), user("fifth"), assistant("done")],
    ]


class BlocksAgent(ToolAgent):
    """The same in Anthropic's shape."""

    async def work(self, ctx: Context, task: Task, calls: list[Call]) -> None:
        results: list[Message] = []
        for call in calls:
            if call.name == "ask":  # what was finished before it is put out first
                task.append(user(results))
                results = []
            content = await self.use(ctx, call)
            results.append({"type": "tool_result", "tool_use_id": call.id, "content": content})
        task.append(user(results))

    def calls(self, said: Message) -> list[Call]:
        blocks = [block for block in said["content"] if block["type"] == "tool_use"]
        return [Call(block["id"], block["name"]) for block in blocks]

    async def think(self, sent: list[Any], say: Callable[[str], None]) -> Message:
        blocks: list[Any] = []
        async with (
            httpx.AsyncClient(timeout=60) as client,
            client.stream("POST", f"{self.model.url}/messages", json={"messages": sent}) as answer,
        ):
            async for line in answer.aiter_lines():
                event = json.loads(line[6:]) if line.startswith("data: ") else {}
                if event.get("type") == "content_block_start":
                    blocks.append(event["content_block"])
                delta = event.get("delta", {})
                if delta.get("type") == "text_delta":
                    blocks[-1]["text"] += delta["text"]
                    say(delta["text"])
                    await self.log.add("heard", delta["text"])
        return {"role": "assistant", "content": blocks}


async def test_a_turn_in_anthropics_shape_leaves_each_call_answered_in_one_message(
    stage: Stage, log: Log
) -> None:
    stage.refused = oracles.anthropic
    session, model, _ = await stage.set("BlocksAgent", ["I look.", LOOK, ASK], kind=BlocksAgent)
    await session.send("go")
    await log.until("asks", "call_2")
    assert (await session.ask("stop"))["status"] == "completed"
    uses = [{"type": "tool_use", "id": id_, "name": name, "input": {}} for id_, name in (LOOK, ASK)]
    cut = {"type": "tool_result", "tool_use_id": "call_2", "content": INTERRUPTED, "is_error": True}
    found = {"type": "tool_result", "tool_use_id": "call_1", "content": "a file"}
    assert model.requests == [
        [user("go")],
        [
            user("go"),
            assistant([{"type": "text", "text": "I look."}, *uses]),
            user([found, cut]),
            user(NOTE),
            user("stop"),
        ],
    ]


@normal_mode
async def test_an_answer_in_anthropics_shape_that_is_cut_off_is_sent_as_text(
    stage: Stage, log: Log
) -> None:
    stage.refused = oracles.anthropic
    answer: list[Piece] = ["The file ", "says", LOOK, HOLD, "nothing"]
    session, model, _ = await stage.set("SaidAgent", answer, kind=BlocksAgent)
    await session.send("go")
    await log.until("heard", "says")
    assert (await session.ask("stop"))["status"] == "completed"
    said = assistant("The file says")
    assert model.requests == [[user("go")], [user("go"), said, user(NOTE), user("stop")]]
    assert await stage.ends(2) == ["cut off", "completed"]
