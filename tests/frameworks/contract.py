"""What holds for an agent of each framework, on a real server, replayed or not.

A framework's module subclasses `Contract`, and says how its agents are made.
"""

from __future__ import annotations

import asyncio
import json
import sys
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from restate import Context, ObjectContext, VirtualObject

from interruptible import Agent, Session, Task
from interruptible._task.repair import INTERRUPTED, NOT_BEGUN
from interruptible.stream import Stream
from tests.server.conftest import REPLAY, eventually, is_idle, normal_mode
from tests.server.process import Process, free_port
from tests.server.signalled import told as signals_of

from .offline import Answer, Log, Offline, Script, calls, last, promised, says

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from interruptible import Message
    from interruptible.testing import Restate
    from tests.server.conftest import Deploy

    Approve = Callable[[str, dict[str, Any]], Awaitable[bool | str]]

NOTE = (
    "[I interrupted you before you were done. Do not resume that work by yourself: "
    "go on from what I say next.]"
)


def plain(messages: list[Any]) -> list[tuple[Any, ...]]:
    """Messages for comparison: role, text, and the ids of its calls, or of the call it answers."""
    return [
        (
            x["role"],
            x["content"] or "",
            *([call["id"] for call in x.get("tool_calls") or ()]),
            *([x["tool_call_id"]] if "tool_call_id" in x else []),
        )
        for x in messages
    ]


async def keep(env: Restate, promise: str, value: Any) -> None:
    """Keep a durable promise."""
    async with httpx.AsyncClient(base_url=env.ingress_url) as http:
        answer = await http.post(f"/restate/awakeables/{promise}/resolve", json=value)
        answer.raise_for_status()


async def journal_bytes(env: Restate, invocation: str) -> int:
    """How much an invocation has written to its journal."""
    rows = await env.query(f"SELECT raw_length FROM sys_journal WHERE id = '{invocation}'")  # noqa: S608
    return sum(row["raw_length"] for row in rows)


def look_and_tell(messages: list[Message]) -> Answer:
    """Calls a tool, and then tells what it gave: what an agent does in an ordinary turn."""
    if messages[-1]["role"] == "user":
        return calls(a=f"look {last(messages)}")
    return says("It is ", "where it ", "always was.")


class Contract:
    """The tests; `pytestmark` of a subclass's module is `pytest.mark.anyio`."""

    side_by_side = False
    """Whether the framework runs the tools of one answer at once."""

    goes_on_by_itself = True
    """Whether a model is asked after its own words, with nothing said to it."""

    takes_an_id_again = True
    """Whether the framework lets a model use the id of a call again in one run."""

    told_whole = ("audio", "pdf")
    """What a user sends that a model is told as it is; else it is told that there was something."""

    other_id = "x"
    """What a model is told of the id `x` of a call that another provider made."""

    # -- What a framework says of itself. ----------------------------------------------------------

    @abstractmethod
    def made(self, name: str, model: Offline, *names: str, **options: Any) -> Any:
        """The framework's agent: of this name, with this model and these of the `tools`.

        `approve` has the names of the tools that ask for approval.
        """

    @abstractmethod
    def agent(self, framework_agent: Any, **options: Any) -> Agent:
        """`agent` of the framework's module."""

    @abstractmethod
    async def output(self, framework_agent: Any, task: Task, *, limit: int | None = None) -> Any:
        """What `run` of the framework's module comes to, as the framework calls its output.

        `limit` is how many requests to the model are allowed.
        """

    @abstractmethod
    async def alone(self, framework_agent: Any, ctx: ObjectContext, said: str) -> str:
        """A turn by Restate's integration alone, which keeps the conversation in its state."""

    # -- What must hold. ---------------------------------------------------------------------------

    async def start(
        self, env: Restate, deploy: Deploy, log: Log, name: str, script: Script, *names: str
    ) -> tuple[Session, Offline]:
        model = Offline(log, script)
        streamed = Stream(ingress=env.ingress_url)  # as it is more to replay
        agent = self.agent(self.made(name, model, *names), stream=streamed)
        await deploy(agent)
        return Session(env.client, agent, "one"), model

    @normal_mode
    async def test_cut_off_in_a_request_the_words_that_had_come_are_kept(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        def script(messages: list[Message]) -> Answer:
            stays = last(messages) == "Speak."
            return Answer(("Half an ", "answer"), stays=True) if stays else says("Good.")

        session, model = await self.start(restate_env, deploy, log, "Cut Off", script)
        await session.send("Speak.")
        await log.until("said", "Half an answer")
        outcome = await session.ask("Stop.")
        assert plain(outcome["messages"]) == [("assistant", "Good.")]
        assert ("abort", "stay") in log.events
        first = await session.attach(1)
        assert (first["status"], first.get("partial")) == ("interrupted", 1)
        assert plain(first["messages"]) == [("assistant", "Half an answer")]
        assert plain(model.requests[-1]) == [
            ("user", "Speak."),
            ("assistant", "Half an answer"),
            ("user", NOTE),
            ("user", "Stop."),
        ]

    @normal_mode
    async def test_words_of_a_request_that_failed_are_not_doubled(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        tries = iter([True, True, False])

        def script(messages: list[Message]) -> Answer:
            if last(messages) == "Stop.":
                return says("Good.")
            breaks = next(tries)
            return Answer(("Half ",), stays=not breaks, breaks=breaks)

        session, _ = await self.start(restate_env, deploy, log, "Failed Requests", script)
        await session.send("Speak.")
        await log.until("said", "Half ")
        await session.ask("Stop.")
        assert plain((await session.attach(1))["messages"]) == [("assistant", "Half ")]

    @pytest.mark.parametrize(
        ("pieces", "said"), [(("\ud83d", "\ude00"), "\U0001f600"), (("x\ud83d",), "x\ufffd")]
    )
    async def test_half_a_surrogate_pair_that_a_model_says_is_mended(
        self, restate_env: Restate, deploy: Deploy, log: Log, pieces: tuple[str, ...], said: str
    ) -> None:
        name = f"Half{len(pieces)}"
        session, _ = await self.start(restate_env, deploy, log, name, lambda _: says(*pieces))
        for _ in range(2):
            outcome = await session.ask("Speak.")
            assert outcome["status"] == "completed"
            assert [x["content"] for x in outcome["messages"]] == [said]

    async def test_half_a_surrogate_pair_in_what_a_tool_returns_is_mended(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        def script(messages: list[Message]) -> Answer:
            return calls(a="odd moon") if messages[-1]["role"] == "user" else says("Good.")

        session, _ = await self.start(restate_env, deploy, log, "Half Result", script, "odd")
        for _ in range(2):
            done = plain((await session.ask("Look."))["messages"])
            assert done[1:] == [("tool", "moon \ufffd", "a"), ("assistant", "Good.")]

    async def test_half_a_surrogate_pair_in_a_call_stops_no_session(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        def script(messages: list[Message]) -> Answer:
            asked = messages[-1]["role"] == "user"
            return calls(a="look mo\ud83don") if asked else says("Good.")

        session, _ = await self.start(restate_env, deploy, log, "Half Call", script, "look")
        for _ in range(2):
            outcome = await session.ask("Look.")
            assert plain(outcome["messages"])[2:] == [("assistant", "Good.")]

    @pytest.mark.parametrize("kind", ["audio", "plain", "broken", "pdf"])
    async def test_what_a_user_sends_is_told_or_named_and_poisons_nothing(
        self, restate_env: Restate, deploy: Deploy, log: Log, kind: str
    ) -> None:
        part: dict[str, Any] = {
            "audio": {"type": "input_audio", "input_audio": {"data": "aGVsbG8=", "format": "wav"}},
            "plain": {"type": "image_url", "image_url": {"url": "data:image/svg+xml,abc"}},
            "broken": {"type": "image_url", "image_url": {"url": "data:image/png;base64,@@@"}},
            "pdf": {
                "type": "file",
                "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGVsbG8="},
            },
        }[kind]
        name = f"Sent{kind.title()}"
        session, model = await self.start(restate_env, deploy, log, name, lambda _: says("Ah."))
        for said in ([{"type": "text", "text": "This?"}, part], "And?"):
            assert (await session.ask(said))["status"] == "completed"
        assert kind not in self.told_whole or "aGVsbG8=" in str(model.requests[-1])

    @normal_mode
    async def test_those_who_follow_the_session_see_what_it_does_as_it_does_it(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        def script(messages: list[Message]) -> Answer:
            if messages[-1]["role"] == "user":
                return calls(a="look moon")
            return Answer(("It is ", "there."), stays=True, thoughts=("Where ", "is it?"))

        made = self.made("Followed", Offline(log, script), "look")
        agent = self.agent(made, stream=Stream(ingress=restate_env.ingress_url))
        await deploy(agent)
        session = Session(restate_env.client, agent, "one")
        await session.send("Look.")
        seen: list[Any] = []
        live = {"reasoning": "", "text": ""}
        async for event in session.follow():
            match event:
                case {"type": "gap"}:
                    continue
                case {"type": "reasoning" | "text" as kind, "text": text}:
                    live[kind] += text
                case {"type": "message", "message": message}:
                    seen += plain([message])
                case _:
                    seen.append((event["type"], *map(event.get, ("name", "state", "status"))))
            if live["text"] == "It is there.":
                await session.cancel()
            if event["type"] == "turn" and event["state"] == "ends":
                break
        assert live == {"reasoning": "Where is it?", "text": "It is there."}
        tools = {("tool", "look", "begins", None), ("tool", "look", "ends", None)}
        assert ("tool", "look", "ends", None) in seen  # that it begins may come too late
        assert [x for x in seen if x not in tools] == [
            ("turn", None, "begins", None),
            ("assistant", "", "a"),
            ("tool", "found moon", "a"),
            ("assistant", "It is there."),
            ("turn", None, "ends", "interrupted"),
        ]

    async def test_cut_off_in_the_second_of_three_tools_the_next_request_has_all_that_was_done(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        three = calls(a="look moon", b="slow sun", c="look stars")

        def script(messages: list[Message]) -> Answer:
            return three if last(messages) == "Look." else says("Good.")

        session, model = await self.start(
            restate_env, deploy, log, "Second Of Three", script, "look", "slow"
        )
        await session.send("Look.")
        await log.until("begin", "slow sun")
        if self.side_by_side:
            await log.until("end", "look stars")
        assert plain((await session.ask("Stop."))["messages"]) == [("assistant", "Good.")]
        outcome = await session.attach(1)
        done = [
            ("assistant", "", "a", "b", "c"),
            ("tool", "found moon", "a"),
            ("tool", INTERRUPTED, "b"),
            ("tool", "found stars" if self.side_by_side else NOT_BEGUN, "c"),
        ]
        assert outcome["status"] == "interrupted"
        assert sorted(plain(outcome["messages"])) == sorted(done)
        assert (outcome["cut_off"], outcome.get("not_begun")) == (
            ["b"],
            None if self.side_by_side else ["c"],
        )
        request = plain(model.requests[-1])
        assert request[0] == ("user", "Look.")
        assert sorted(request[1:5]) == sorted(done)
        assert request[5:] == [("user", NOTE), ("user", "Stop.")]

    async def test_what_a_tool_makes_of_its_own_interruption_is_no_result(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        two = calls(a="look moon", b="swallow sun")

        def script(messages: list[Message]) -> Answer:
            return two if last(messages) == "Look." else says("Good.")

        session, _ = await self.start(
            restate_env, deploy, log, "Swallowed", script, "look", "swallow"
        )
        await session.send("Look.")
        await log.until("begin", "slow sun")
        await log.until("end", "look moon")
        assert plain((await session.ask("Stop."))["messages"]) == [("assistant", "Good.")]
        assert sorted(plain((await session.attach(1))["messages"])) == [
            ("assistant", "", "a", "b"),
            ("tool", INTERRUPTED, "b"),
            ("tool", "found moon", "a"),
        ]

    async def test_a_tool_that_raises_is_tried_again_by_restate(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        two = calls(a="look moon", b="flaky sun")

        def script(messages: list[Message]) -> Answer:
            return two if messages[-1]["role"] == "user" else says("Good.")

        session, model = await self.start(
            restate_env, deploy, log, "Raised", script, "look", "flaky"
        )
        assert sorted(plain((await session.ask("Look."))["messages"])) == [
            ("assistant", "", "a", "b"),
            ("assistant", "Good."),
            ("tool", "found moon", "a"),
            ("tool", "found sun", "b"),
        ]
        assert sorted(log.of("end")) == [("end", "look moon"), ("end", "look sun")]
        assert len(model.requests) == 2

    async def test_an_id_that_a_model_uses_again_is_of_another_call(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        def script(messages: list[Message]) -> Answer:
            done = sum(x["role"] == "tool" for x in messages)
            return (calls(a="look moon"), calls(a="look sun"), says("Good."))[done]

        session, _ = await self.start(restate_env, deploy, log, "Same Id", script, "look")
        outcome = await session.ask("Look.")
        done = [("assistant", "", "a"), ("tool", "found moon", "a"), ("assistant", "", "a")]
        if self.takes_an_id_again:
            end = [("tool", "found sun", "a"), ("assistant", "Good.")]
            assert plain(outcome["messages"]) == [*done, *end]
        else:
            assert (outcome["status"], outcome["not_begun"]) == ("failed", ["a"])
            assert plain(outcome["messages"]) == [*done, ("tool", NOT_BEGUN, "a")]

    async def test_steered_while_a_tool_runs_it_is_in_the_next_request_once(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        def script(messages: list[Message]) -> Answer:
            return says("Done.") if len(messages) > 1 else calls(a="hold Godot")

        session, model = await self.start(restate_env, deploy, log, "Steered", script, "hold")
        await session.send("Wait.")
        promise = await log.first("held")
        assert (await session.send("Quickly.", policy="steer"))["status"] == "steered"
        await keep(restate_env, promise, None)
        outcome = await session.attach(1)
        done = [
            ("assistant", "", "a"),
            ("tool", "Godot came", "a"),
            ("user", "Quickly."),
        ]
        assert plain(outcome["messages"]) == [*done, ("assistant", "Done.")]
        assert plain(model.requests[-1]) == [("user", "Wait."), *done]
        await eventually(lambda: is_idle(session))
        assert len((await session.turns())["turns"]) == 1

    @pytest.mark.parametrize("words", ["Half an answer", ""])
    async def test_a_message_that_is_to_be_read_now_cuts_the_model_off(
        self, restate_env: Restate, deploy: Deploy, log: Log, words: str
    ) -> None:
        def script(messages: list[Message]) -> Answer:
            if last(messages) == "And now?":
                return says("Nothing.")
            if messages[-1]["role"] == "tool" and messages[-1]["content"] == "found sun":
                return says("Good.")
            if messages[-1]["role"] == "user" and last(messages) != "This.":
                return calls(a="look moon") if last(messages) == "Look." else calls(b="look sun")
            return Answer((words,) if words else (), stays=True)

        name = f"Now{bool(words)}"
        session, model = await self.start(restate_env, deploy, log, name, script, "look")
        await session.send("Look.")
        for times, said in enumerate(("This.", "That."), 1):
            await log.until("said", words, times=times)
            now = {"policy": "steer", "now": True, "metadata": {"by": "ada"}}
            assert (await session.send(said, **now))["status"] == "steered"
        outcome = await session.attach(1)

        def shown(messages: list[Any]) -> list[tuple[Any, ...]]:
            """Whether words are kept of a step that cannot be cut off is for the stream to say."""
            lost = REPLAY and words
            return [x for x in plain(messages) if not lost or x != ("assistant", words)]

        known = [("assistant", words)] if words and not REPLAY else []
        first = [("assistant", "", "a"), ("tool", "found moon", "a"), *known, ("user", "This.")]
        second = [*known, ("user", "That.")]
        then = [("assistant", "", "b"), ("tool", "found sun", "b")]
        assert shown(outcome["messages"]) == [*first, *second, *then, ("assistant", "Good.")]
        user = ("user", "Look.")
        if not REPLAY:
            assert outcome.get("cut_short") == ([2, 4] if words else None)
            assert log.events.count(("abort", "stay")) == 2
            assert [*map(plain, model.requests)] == [
                [user],
                [user, *first[:2]],
                [user, *first],
                [user, *first, *second],
                [user, *first, *second, *then],
            ]
        await session.ask("And now?")
        assert shown(model.requests[-1])[:-2] == [user, *first, *second, *then]
        assert "ada" not in json.dumps(model.requests)  # what is noted of a message

    async def test_a_tool_is_not_cut_off_by_a_message_that_is_to_be_read_now(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        def script(messages: list[Message]) -> Answer:
            return says("Done.") if len(messages) > 1 else calls(a="look moon", b="look sun")

        log.hold("look moon")
        session, model = await self.start(restate_env, deploy, log, "Not Now", script, "look")
        await session.send("Look.")
        await log.until("begin", "look moon")
        assert (await session.send("Now.", policy="steer", now=True))["status"] == "steered"
        log.let("look moon")
        outcome = await session.attach(1)
        assert "cut_short" not in outcome
        assert not log.of("abort")
        done = [("tool", "found moon", "a"), ("tool", "found sun", "b")]
        assert sorted(plain(outcome["messages"])[1:3]) == done
        assert plain(outcome["messages"])[3:] == [("user", "Now."), ("assistant", "Done.")]
        assert plain(model.requests[-1])[-1] == ("user", "Now.")
        assert len(model.requests) == 2

    @pytest.mark.parametrize("what", ["a tool", "two tools", "the model"])
    async def test_a_turn_stops_in_order_after_its_step(
        self, restate_env: Restate, deploy: Deploy, log: Log, what: str
    ) -> None:
        two, all_held = calls(a="look moon", b="look sun"), ["look moon", "look sun", "stay"]

        def script(messages: list[Message]) -> Answer:
            if last(messages) != "Look.":
                return says("Good.")
            speaks = Answer(("Let me look.",), calls(a="look moon").calls, stays=True)
            answers = {"a tool": calls(a="look moon"), "two tools": two, "the model": speaks}
            return answers[what]

        log.hold(*all_held)
        name = f"Stops After {what.title()}"
        session, model = await self.start(restate_env, deploy, log, name, script, "look")
        task_id = (await session.send("Look."))["task_id"]
        await log.until("begin", "stay" if what == "the model" else "look moon")
        if what == "two tools" and self.side_by_side:
            await log.until("begin", "look sun")
        assert await session.cancel(after_step=True) == [1]
        await eventually(lambda: signals_of(restate_env, task_id))
        log.let(*all_held)
        outcome = await session.attach(1)
        second = "found sun" if self.side_by_side else NOT_BEGUN
        expected = {
            "a tool": [("assistant", "", "a"), ("tool", "found moon", "a")],
            "two tools": [
                ("assistant", "", "a", "b"),
                ("tool", "found moon", "a"),
                ("tool", second, "b"),
            ],
            "the model": [("assistant", "Let me look.", "a"), ("tool", NOT_BEGUN, "a")],
        }
        assert outcome["status"] == "interrupted"
        assert sorted(plain(outcome["messages"])) == sorted(expected[what])
        assert len(model.requests) == 1
        assert not log.of("abort")
        assert "cut_off" not in outcome
        assert (("begin", "look moon") in log.events) == (what != "the model")
        await eventually(lambda: is_idle(session))
        assert (await session.turns())["turns"][0]["reason"] == "stopped"
        assert plain((await session.ask("And?"))["messages"]) == [("assistant", "Good.")]

    @pytest.mark.parametrize(
        "after", ["nothing", "a result", pytest.param("words", marks=normal_mode)]
    )
    async def test_a_turn_goes_on_where_another_stopped(
        self, restate_env: Restate, deploy: Deploy, log: Log, after: str
    ) -> None:
        has_stopped = asyncio.Event()

        def script(messages: list[Message]) -> Answer:
            if has_stopped.is_set():
                return says("Done.")
            if after == "a result" and messages[-1]["role"] == "user":
                return calls(a="look moon")
            return Answer(("Half an ", "answer") if after == "words" else (), stays=True)

        name = f"Goes On After {after.title()}"
        session, model = await self.start(restate_env, deploy, log, name, script, "look")
        await session.send("Look.")
        await log.until("begin", "stay")
        await session.cancel()
        done = {
            "nothing": [],
            "a result": [("assistant", "", "a"), ("tool", "found moon", "a")],
            "words": [("assistant", "Half an answer")],
        }[after]
        assert plain((await session.attach(1))["messages"]) == done
        has_stopped.set()
        await eventually(lambda: is_idle(session))
        assert (await session.resume())["turn"] == 2
        outcome = await session.attach(2)
        assert (outcome["status"], plain(outcome["messages"])) == (
            "completed",
            [("assistant", "Done.")],
        )
        asked = after == "words" and not self.goes_on_by_itself
        go_on = [("user", "Go on.")] if asked else []
        known = [("user", "Look."), *done]
        assert plain(model.requests[-1]) == [*known, *go_on]
        assert log.events.count(("begin", "look moon")) == (after == "a result")
        assert plain(await session.history()) == [*known, ("assistant", "Done.")]
        await session.ask("And?")
        told = json.dumps(model.requests[-1])
        assert [*map(told.count, ("Half an answer", "Go on.", "Done.", "And?"))] == [
            *(after == "words", 0, 1, 1)
        ]

    async def test_the_next_turn_gets_the_conversation_whole_each_message_once(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        def script(messages: list[Message]) -> Answer:
            asked = messages[-1]["role"] == "user"
            return (
                calls(**{last(messages): f"look {last(messages)}"})
                if asked
                else says("I ", "know.")
            )

        session, model = await self.start(restate_env, deploy, log, "Whole", script, "look")
        for word in ("moon", "sun"):
            outcome = await session.ask(word)
            assert plain(outcome["messages"]) == [
                ("assistant", "", word),
                ("tool", f"found {word}", word),
                ("assistant", "I know."),
            ]
        first = [
            ("user", "moon"),
            ("assistant", "", "moon"),
            ("tool", "found moon", "moon"),
            ("assistant", "I know."),
        ]
        assert [*map(plain, model.requests[-2:])] == [
            [*first, ("user", "sun")],
            [*first, ("user", "sun"), ("assistant", "", "sun"), ("tool", "found sun", "sun")],
        ]
        assert plain(await session.history())[:4] == first

    async def test_what_other_providers_wrote_is_told_to_the_framework(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        """Parts of the user's, and Anthropic's blocks, that are in the conversation."""
        model = Offline(log, lambda _: says("I see."))
        made = self.made("Others", model, "look")
        output = self.output

        class OthersAgent(Agent):
            async def run(self, ctx: Context, task: Task) -> Any:
                if task.turn == 1:
                    return [
                        {
                            "role": "assistant",
                            "content": [
                                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                                {"type": "text", "text": "Let me look."},
                                {"type": "tool_use", "id": "x", "name": "look", "input": {}},
                            ],
                        },
                        {
                            "role": "user",
                            "content": [
                                {"type": "tool_result", "tool_use_id": "x", "content": "nothing"}
                            ],
                        },
                    ]
                return await output(made, task)

        await deploy(agent := OthersAgent())
        session = Session(restate_env.client, agent, "one")
        await session.ask("Look.")
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}
        said = await session.ask([{"type": "text", "text": "This?"}, image])
        assert plain(said["messages"]) == [("assistant", "I see.")]
        request = model.requests[-1]
        assert plain(request)[:3] == [
            ("user", "Look."),
            ("assistant", "Let me look.", self.other_id),
            ("tool", "nothing", self.other_id),
        ]
        assert request[3]["role"] == "user"
        told = json.dumps(request[3]["content"])
        assert "This?" in told
        assert "aGVsbG8=" in told

    async def test_a_tool_finds_the_task_that_it_works_for(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        def script(messages: list[Message]) -> Answer:
            return calls(a="turn number") if messages[-1]["role"] == "user" else says("So.")

        session, _ = await self.start(restate_env, deploy, log, "Finds", script, "turn")
        assert plain((await session.ask("Which?"))["messages"])[1] == ("tool", "number 1", "a")

    async def test_two_tools_of_one_answer_both_give_their_results(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        def script(messages: list[Message]) -> Answer:
            asked = messages[-1]["role"] == "user"
            return calls(a="look moon", b="look sun") if asked else says("Both.")

        session, _ = await self.start(restate_env, deploy, log, "Two Tools", script, "look")
        outcome = await session.ask("Look.")
        assert sorted(plain(outcome["messages"])[1:3]) == [
            ("tool", "found moon", "a"),
            ("tool", "found sun", "b"),
        ]
        assert plain(outcome["messages"])[3:] == [("assistant", "Both.")]

    async def test_killed_in_the_second_tool_the_worker_goes_on_with_what_was_done(
        self, restate_env: Restate, tmp_path: Path
    ) -> None:
        def log() -> list[list[Any]]:
            path = tmp_path / "log"
            lines = path.read_text().splitlines() if path.exists() else []
            return [json.loads(line) for line in lines]

        async def begun() -> bool:
            done = not self.side_by_side or ["end", "look stars"] in log()
            return done and ["begin", "look sun"] in log() and ["end", "look moon"] in log()

        async def kept() -> bool:
            """All that has ended is in the journal: what is not is done once more."""
            which = f"id = '{receipt['task_id']}' AND entry_type LIKE '%: Run'"
            rows = await restate_env.query(f"SELECT entry_type FROM sys_journal WHERE {which}")  # noqa: S608
            results = sum(x["entry_type"].startswith("Notification") for x in rows)
            return 2 * results == len(rows) - 1

        kind = type(self)
        worker = Process(
            *("tests.frameworks.worker", free_port(), str(tmp_path), kind.__module__, kind.__name__)
        )
        (tmp_path / "hold look sun").touch()
        async with worker.running():
            await restate_env.register(worker.url)
            session = Session(restate_env.client, "Killed", tmp_path.name)
            receipt = await session.send("Look.")
            await eventually(begun)
            await eventually(kept)
            await worker.kill()
            (tmp_path / "hold look sun").unlink()
            await worker.start()
            outcome = await session.attach(1)
            assert outcome["status"] == "completed"
            assert sorted(plain(outcome["messages"])[:4]) == [
                ("assistant", "", "a", "b", "c"),
                ("tool", "found moon", "a"),
                ("tool", "found stars", "c"),
                ("tool", "found sun", "b"),
            ]
            assert plain(outcome["messages"])[4:] == [("assistant", "I know.")]
            ends = [event for event in log() if event[0] in ("asked", "end")]
            asked = [event for event in log() if event[0] == "asked"]
            assert len(asked) == 2  # the request that was answered is not sent again
            assert sorted(x[1] for x in ends if x[0] == "end") == [
                *("look moon", "look stars", "look sun")
            ]
            assert (await session.ask("And?"))["status"] == "completed"

    async def test_a_tool_that_fails_for_good_fails_the_turn_once_with_the_reason(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        def script(messages: list[Message]) -> Answer:
            return calls(a="fail luck") if last(messages) == "Try." else says("Well.")

        session, _ = await self.start(restate_env, deploy, log, "Fails", script, "fail")
        outcome = await session.ask("Try.")
        assert outcome["status"] == "failed"
        assert "no luck today" in outcome["error"]
        assert log.events.count(("begin", "fail luck")) == 1
        assert plain(outcome["messages"]) == [
            ("assistant", "", "a"),
            ("tool", "[Failed: no luck today]", "a"),
        ]
        assert plain((await session.ask("And?"))["messages"]) == [("assistant", "Well.")]

    async def test_the_limit_of_requests_fails_the_turn_once_with_the_reason(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        model = Offline(log, lambda _: calls(**{f"a{len(model.requests)}": "look moon"}))
        made = self.made("Endless", model, "look")
        output = self.output

        class EndlessAgent(Agent):
            async def run(self, ctx: Context, task: Task) -> Any:
                return await output(made, task, limit=2)

        await deploy(agent := EndlessAgent())
        outcome = await Session(restate_env.client, agent, "one").ask("Go.")
        assert outcome["status"] == "failed"
        assert "2" in outcome["error"]
        assert [x["role"] for x in outcome["messages"]] == ["assistant", "tool"] * 2
        assert len(model.requests) == 2

    async def test_who_returns_the_output_does_not_say_it_twice(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        made = self.made("Returns", Offline(log, lambda _: says("Hello.")))
        output = self.output

        class ReturnsAgent(Agent):
            async def run(self, ctx: Context, task: Task) -> Any:
                return await output(made, task)

        await deploy(agent := ReturnsAgent())
        outcome = await Session(restate_env.client, agent, "one").ask("Hi.")
        assert plain(outcome["messages"]) == [("assistant", "Hello.")]

    @pytest.mark.parametrize("said", [True, False, "too dear"])
    async def test_a_tool_that_asks_for_approval_waits_for_it(
        self, restate_env: Restate, deploy: Deploy, log: Log, said: bool | str
    ) -> None:
        session, model = await self.approving(restate_env, deploy, log, f"Asks {said}")
        await session.send("Pay.")
        promise = await log.first("approve")
        await keep(restate_env, promise, said)
        outcome = await session.attach(1)
        assert plain(outcome["messages"])[-1] == ("assistant", "Good.")
        assert (("end", "look bill") in log.events) == (said is True)
        if said is True:
            assert ("tool", "found bill", "a") in plain(model.requests[-1])
        elif said:
            assert "too dear" in json.dumps(model.requests[-1])

    async def test_who_waits_for_an_approval_can_be_interrupted(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        session, _ = await self.approving(restate_env, deploy, log, "Asks Long")
        await session.send("Pay.")
        await log.first("approve")
        assert plain((await session.ask("Stop."))["messages"]) == [("assistant", "Good.")]
        outcome = await session.attach(1)
        assert plain(outcome["messages"]) == [("assistant", "", "a"), ("tool", NOT_BEGUN, "a")]
        assert outcome["not_begun"] == ["a"]

    async def approving(
        self, env: Restate, deploy: Deploy, log: Log, name: str
    ) -> tuple[Session, Offline]:
        def script(messages: list[Message]) -> Answer:
            paying = last(messages) == "Pay." and messages[-1]["role"] == "user"
            return calls(a="look bill") if paying else says("Good.")

        async def approve(tool: str, arguments: dict[str, Any]) -> bool | str:
            assert (tool, arguments) == ("look", {"word": "bill"})
            return await promised(log, "approve")

        model = Offline(log, script)
        made = self.made(name, model, "look", approve=("look",))
        await deploy(agent := self.agent(made, approve=approve))
        return Session(env.client, agent, "one"), model

    @pytest.mark.parametrize("approved", [True, False])
    async def test_an_approval_that_nobody_was_named_for_is_the_users(
        self, restate_env: Restate, deploy: Deploy, log: Log, approved: bool
    ) -> None:
        model = Offline(log, look_and_tell)
        agent = self.agent(self.made(f"Asks User {approved}", model, "look", approve=("look",)))
        await deploy(agent)
        session = Session(restate_env.client, agent, "one")
        await session.send("bill")

        async def asked() -> Any:
            return (await session.status())["waiting_for"]

        (waits,) = await eventually(asked)
        assert (waits["turn"], waits["title"]) == (1, "look")
        assert "bill" in str(waits.get("value"))
        await session.answer(waits["id"], approved, reason=None if approved else "Not that one.")
        assert (await session.attach())["status"] == "completed"
        (result,) = [x["content"] for x in await session.history() if x["role"] == "tool"]
        assert ("Not that one." in str(result)) != approved

    async def test_the_journal_is_not_much_larger_than_without_the_module(
        self, restate_env: Restate, deploy: Deploy, log: Log
    ) -> None:
        made = self.made("Journal", Offline(log, look_and_tell), "look")
        by_hand, alone = VirtualObject("JournalAlone"), self.alone

        @by_hand.handler()
        async def message(ctx: ObjectContext, said: str) -> str:
            return await alone(made, ctx, said)

        await deploy(agent := self.agent(made, name="JournalAgent"), by_hand)
        session = Session(restate_env.client, agent, "one")
        receipt = await session.send("moon")
        assert (await session.attach())["status"] == "completed"
        said = await restate_env.client.object_call(message, "one", "moon")
        assert said == "It is where it always was."
        (invocation,) = await restate_env.invocations("target_service_name = 'JournalAlone'")
        sizes = [
            await journal_bytes(restate_env, x) for x in (receipt["task_id"], invocation["id"])
        ]
        print(f"bytes of the journal: {sizes[0]}, and {sizes[1]} without the module")
        assert sizes[0] <= 1.3 * sizes[1], sizes

    @normal_mode
    async def test_the_example_is_as_it_tells(self, anyio_backend: str) -> None:
        name = type(self).__module__.rpartition("test_")[2]
        shown = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"examples.frameworks.{name}"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        told, _ = await shown.communicate()
        assert shown.returncode == 0, told.decode()
        assert "All as told" in told.decode()

    async def test_an_agent_is_called_as_the_framework_calls_it(self, log: Log) -> None:
        made = self.made("booking agent", Offline(log, lambda _: says("")))
        assert self.agent(made).name == "BookingAgent"
        assert self.agent(made, name="Other", policy="steer").policy == "steer"
        with pytest.raises(TypeError, match="has no option 'colour'"):
            self.agent(made, colour="red")
