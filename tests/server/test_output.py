"""What gets into the record otherwise than by a message, on a real server: it poisons nothing."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
import restate
from restate import Context, TerminalError

from interruptible import Agent, Session, Task, Turn, cleanup
from interruptible.testing import Restate

from .conftest import Deploy, Log, eventually, is_idle, normal_mode
from .gated import texts

pytestmark = pytest.mark.anyio

HALF = "\ud83d"
MENDED = "\ufffd"
NO_NUMBER = "is a number that is not finite, or too large for JSON. Make it text."


def result(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "document", "data": content}]}


def nested(levels: int) -> Any:
    deep: Any = "x"
    for _ in range(levels):
        deep = [deep]
    return deep


class PoisonAgent(Agent):
    """Does what it is told to, once for each attempt; then it answers."""

    def __init__(self, name: str, **acts: Callable[[Context, Task], Any]) -> None:
        super().__init__(name)
        self.acts = acts
        self.attempts: list[str] = []
        self.seen: list[Any] = []

    async def run(self, ctx: Context, task: Task) -> Any:
        self.seen = list(task.messages)
        self.attempts.append(task.text)
        act = self.acts.get(task.text)
        return "Done." if act is None else act(ctx, task)


def raises(error: Exception) -> Any:
    def act(ctx: Context, task: Task) -> None:
        raise error

    return act


WRONG: dict[str, tuple[Callable[[Context, Task], Any], str]] = {
    "append not a number": (
        lambda _, task: task.append(result([json.loads("NaN")])),
        f"What was put out cannot be stored: `content[0].data[0]` {NO_NUMBER}",
    ),
    "append infinity": (
        lambda _, task: task.append(result({"x": json.loads("1e999")})),
        f"What was put out cannot be stored: `content[0].data.x` {NO_NUMBER}",
    ),
    "append what is deep": (
        lambda _, task: task.append(result(nested(970))),
        (
            "What was put out cannot be stored: `content` is nested more than 128 levels deep. "
            "Flatten it."
        ),
    ),
    "return not a number": (
        lambda *_: result(float("nan")),
        f"What was put out cannot be stored: `content[0].data` {NO_NUMBER}",
    ),
    "return a typo": (
        lambda *_: {"role": "assistant", "contents": HALF},
        (
            "A message has a `role` and a `content`; this one is "
            '{"role": "assistant", "contents": "\\ufffd"}.'
        ),
    ),
    "return a set": (
        lambda *_: {"Done."},
        (
            "A turn puts out text, a message, a list of messages, or nothing; not set. "
            "Return or append one of these."
        ),
    ),
    "return the conversation": (
        lambda _, task: [*task.messages, "Done."],
        (
            "A message that is put out is in the conversation already, and would be in it twice. "
            "Put out the new ones only."
        ),
    ),
    "change the conversation": (
        lambda _, task: task.messages.append(result("x")),  # type: ignore[arg-type]
        (
            "`task.messages` cannot be changed, as that would be in no record. Put out messages "
            "with `task.append`; what the model alone is to see, in a list of your own: "
            "`[*task.messages, message]`."
        ),
    ),
    "fail in half words": (
        raises(TerminalError(f"no {HALF}", 418, {f"why{HALF}": HALF})),
        f"no {MENDED}",
    ),
}


async def test_a_mistake_in_what_is_put_out_ends_the_turn_with_the_reason_and_the_session_goes_on(
    restate_env: Restate, deploy: Deploy
) -> None:
    acts = {name: act for name, (act, _) in WRONG.items()}
    acts["return what is just not too deep"] = lambda *_: result(nested(124))
    poison = PoisonAgent("PoisonAgent", **acts)
    await deploy(poison)
    session = Session(restate_env.client, poison, "wrong")
    for name, (_, reason) in WRONG.items():
        outcome = await session.ask(name)
        assert (outcome["status"], outcome.get("error")) == ("failed", reason)
    outcome = await session.ask("return what is just not too deep")
    assert outcome["status"] == "completed"
    outcome = await session.ask("Are you there?")
    assert (outcome["status"], texts(outcome["messages"])) == ("completed", ["Done."])
    assert [name for name in WRONG if poison.attempts.count(name) != 1] == []
    assert await session.cancel() == []
    assert len(await session.history()) == len(WRONG) + 4
    await eventually(lambda: is_idle(session))


def cuts_in_half(ctx: Context, task: Task) -> Any:
    task.append(HALF, {"role": "tool", "tool_call_id": HALF, "content": f"{HALF}\ude00"})
    return [{f"a{HALF}": [HALF], "role": "assistant", "content": HALF}]


async def test_half_a_surrogate_pair_is_mended_wherever_it_is_put_out(
    restate_env: Restate, deploy: Deploy
) -> None:
    poison = PoisonAgent("MendingAgent", cut=cuts_in_half)
    await deploy(poison)
    session = Session(restate_env.client, poison, "half")
    outcome = await session.ask("cut")
    assert outcome["status"] == "completed"
    assert outcome["messages"][0]["content"] == MENDED
    assert outcome["messages"][-1] == {
        "role": "assistant",
        "content": MENDED,
        f"a{MENDED}": [MENDED],
    }
    assert (await session.ask("next"))["status"] == "completed"
    for said in (await session.history(), poison.seen, (await session.turns())["turns"]):
        assert json.dumps(said, ensure_ascii=False).encode()


class HalvingAgent(Agent):
    """Is interrupted with all that it says cut in half."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log
        self.seen: list[Any] = []

    async def run(self, ctx: Context, task: Task) -> None:
        self.seen = list(task.messages)
        async with cleanup(ctx) as undo:
            undo.on_interrupt(f"clean {HALF}", self.fail)
            if task.turn == 1:
                task.append(
                    {"role": "assistant", "content": None, "tool_calls": [{"id": f"c{HALF}"}]}
                )
                on_result = task.partial_result(f"c{HALF}")
                await ctx.run_typed("say", self.say, say=task.partial, on_result=on_result)

    async def say(self, say: Any, on_result: Any) -> None:
        for delta in (None, "half ", HALF, None, "\ude00", HALF):
            say(delta)
        on_result(HALF)
        await self.log.add("said")
        await asyncio.sleep(60)

    async def fail(self) -> None:
        raise TerminalError("stuck")

    def interruption_note(self, turn: Turn) -> str:
        return f"note {HALF}"

    def conversation(self, turns: Sequence[Turn]) -> list[Any]:
        return [{"role": "system", "content": HALF}, *super().conversation(turns)]


@normal_mode
async def test_half_answers_notes_and_failed_steps_are_mended_too(
    restate_env: Restate, deploy: Deploy, log: Log
) -> None:
    halving = HalvingAgent(log)
    await deploy(halving)
    session = Session(restate_env.client, halving, "half")
    receipt = await session.send("go")
    await log.until("said")
    await session.ask("next")
    outcome = await session.attach(1)
    assert outcome["status"] == "interrupted"
    assert outcome["messages"][-1]["content"] == f"half 😀{MENDED}"
    assert outcome["messages"][1]["tool_call_id"] == f"c{MENDED}"
    assert outcome["messages"][1]["content"].startswith(MENDED)
    assert [x["content"] for x in halving.seen if x["role"] != "assistant"] == [
        MENDED,
        "go",
        outcome["messages"][1]["content"],
        f"note {MENDED}",
        "next",
    ]
    (row,) = await restate_env.invocations(f"id = '{receipt['task_id']}'")
    assert row["completion_failure"] == "[409] cancelled"


class OutputAskingAgent(Agent):
    """Asks another, in half words."""

    async def run(self, ctx: Context, task: Task) -> str:
        content: Any = HALF if task.text == "half" else [{"type": "x", "n": float("nan")}]
        outcome = await task.delegate("HelpedAgent", ctx.request().id, content)
        return str(outcome["messages"][0]["content"])


async def test_what_is_delegated_is_mended_or_refused_at_the_call(
    restate_env: Restate, deploy: Deploy
) -> None:
    class HelpedAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            return task.text

    asking = OutputAskingAgent()
    await deploy(asking, HelpedAgent())
    session = Session(restate_env.client, asking, "asks")
    assert texts((await session.ask("half"))["messages"]) == [MENDED]
    outcome = await session.ask("NaN")
    assert outcome.get("error") == f"What was put out cannot be stored: `[0].n` {NO_NUMBER}"


def raises_half(error: type[Exception]) -> Any:
    def act(*_: Any) -> None:
        raise error(f"no {HALF}")

    return act


async def raises_half_async() -> None:
    raise ValueError(HALF) from TerminalError(HALF)


async def test_an_error_in_half_words_is_an_error_like_any_other(
    restate_env: Restate, deploy: Deploy
) -> None:
    """restate-sdk gets stuck on such a text, and the task would never end."""
    steps: dict[str, Any] = {
        "terminal": raises_half(TerminalError),
        "plain": raises_half(ValueError),
        "async": raises_half_async,
        "custom": raises_half(StubbornError),
    }

    class HalfWordsAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            if task.text == "run":
                raise ValueError(HALF)
            if task.text == "key":
                await task.delegate("HalfWordsAgent", HALF, "Hi")
            once = restate.RunOptions[None](max_attempts=1)
            await ctx.run_typed("step", steps[task.text], once)

    policy = restate.InvocationRetryPolicy(
        initial_interval=timedelta(milliseconds=10), max_attempts=2, on_max_attempts="kill"
    )
    wordy = HalfWordsAgent(retry_policy=policy)
    await deploy(wordy)
    outcomes = {
        x: await Session(restate_env.client, wordy, x).ask(x) for x in (*steps, "run", "key")
    }
    assert {x: outcome.get("error") for x, outcome in outcomes.items()} == {
        "terminal": f"no {MENDED}",
        "plain": f"ValueError('no {MENDED}')",
        "async": f"RuntimeError('ValueError: {MENDED}')",
        "custom": f"RuntimeError('StubbornError: stubborn {MENDED}')",
        "run": f"ValueError('{MENDED}')",
        "key": "session: has half a surrogate pair, which is no text.",
    }


class StubbornError(Exception):
    """Says what it says."""

    def __str__(self) -> str:
        return f"stubborn {HALF}"


async def test_what_is_said_piece_by_piece_is_text_or_nothing(
    restate_env: Restate, deploy: Deploy
) -> None:
    async def say(say: Any) -> None:
        say(None)
        say(5)

    class PiecesAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> None:
            if task.text == "id":
                task.partial_result(5)  # type: ignore[arg-type]
            on_text = task.partial_result("1") if task.text == "result" else task.partial
            await ctx.run_typed("say", say, say=on_text)

    saying = PiecesAgent()
    await deploy(saying)
    session = Session(restate_env.client, saying, "says")
    assert [(await session.ask(x)).get("error") for x in ("text", "result", "id")] == [
        "`task.partial` takes text, or nothing; not int.",
        "`task.partial_result` takes text, or nothing; not int.",
        "`task.partial_result` takes the id of a call, not int.",
    ]


@pytest.mark.parametrize("is_final", [False, True, None])
async def test_an_answer_that_run_returns_too_is_put_out_once_if_it_was_said_to_be_final(
    restate_env: Restate, deploy: Deploy, is_final: bool | None
) -> None:
    class OutputTwiceAgent(Agent):
        async def run(self, ctx: Context, task: Task) -> str:
            task.append("One.", "Two.", final=is_final is not False)
            if is_final is None:  # it was not the last
                task.append("Three.")
            return "Two."

    await deploy(agent := OutputTwiceAgent(f"OutputTwiceAgent{is_final}"))
    outcome = await Session(restate_env.client, agent, "one").ask("Count.")
    more = {False: ["Two."], True: [], None: ["Three.", "Two."]}[is_final]
    assert texts(outcome["messages"]) == ["One.", "Two.", *more]
