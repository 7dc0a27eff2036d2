"""What an ACP client says and is told: the pure parts, without a server."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import acp
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from restate import TerminalError

from interruptible._acp.calls_told import SHOWN, approval_call, approval_is_over
from interruptible._acp.content import (
    blocks_of_content,
    content_of_prompt,
    thoughts_in,
    words_and_more,
)
from interruptible._acp.reaching import COMING_UP, LONGEST_PAUSE, reached
from interruptible._acp.telling import Retelling
from interruptible._stream import handlers, keeping, log

from .stream_oracle import MOST_UNRECORDED, Follower
from .stream_world import EVENTS, World

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTINGS = settings(deadline=None, derandomize=True, database=None)
DATA = b64encode(b"data").decode()


def dumped(given: Sequence[Any]) -> list[Any]:
    return [x.model_dump(by_alias=True, exclude_none=True, mode="json") for x in given]


def shown(updates: Sequence[Any]) -> list[Any]:
    """Updates in short: what kind, and the words or what is new of a call."""
    short: list[Any] = []
    for told in dumped(updates):
        kind = told.pop("sessionUpdate")
        if kind.startswith("tool_call"):
            content = "".join(x["content"].get("text", "?") for x in told.get("content", []))
            name = told["toolCallId"] + (f" {told['title']}" if "title" in told else "")
            short.append((name, told.get("status"), content))
        else:
            content = told["content"]
            said = content.get("text", f"[{content['type']}]")
            short.append((kind.removesuffix("_message_chunk").removesuffix("_chunk"), said))
    return short


# -- Content. --------------------------------------------------------------------------------------

TEXT = st.text(min_size=1, max_size=20).filter(lambda x: not x.startswith("<resource uri="))
BASE64 = st.binary(max_size=12).map(lambda x: b64encode(x).decode())
URI = st.text(min_size=1, max_size=20)
BLOCKS = st.one_of(
    TEXT.map(acp.text_block),
    st.builds(acp.image_block, BASE64.filter(bool), st.sampled_from(["image/png", "image/jpeg"])),
    st.builds(acp.audio_block, BASE64, st.sampled_from(["audio/wav", "audio/mpeg"])),
    st.builds(acp.embedded_text_resource, URI, st.text(max_size=20)).map(acp.resource_block),
)


@SETTINGS
@given(st.lists(BLOCKS, min_size=1, max_size=5))
def test_what_an_editor_says_is_shown_again_as_it_was(blocks: list[Any]) -> None:
    content = content_of_prompt(blocks)
    assert json.loads(json.dumps(content)) == content
    assert dumped(blocks_of_content(content)) == dumped(blocks)


def test_text_alone_is_text_and_parts_are_those_of_the_chat_api() -> None:
    assert content_of_prompt([acp.text_block("hi")]) == "hi"
    assert content_of_prompt([]) == []
    image = acp.image_block("", "image/png", uri="https://x/y.png")
    link = acp.resource_link_block("y", "file:///y")
    blob = acp.embedded_blob_resource("file:///a%20b.png?x", DATA, mime_type="image/png")
    other = acp.embedded_blob_resource("nothing/", DATA)
    found = content_of_prompt([image, link, acp.resource_block(blob), acp.resource_block(other)])
    assert found == [
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "text", "text": "[y](file:///y)"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}},
        {
            "type": "file",
            "file": {
                "filename": "file",
                "file_data": f"data:application/octet-stream;base64,{DATA}",
            },
        },
    ]


@pytest.mark.parametrize(
    ("content", "types"),
    [
        (None, []),
        ("", []),
        (7, []),
        ({"a": 1}, []),
        (["text", {"type": "text", "text": ""}, 7, None], ["text"]),
        ([{"text": "of Converse"}, {"type": "input_text", "text": "x"}], ["text", "text"]),
        ([{"type": "refusal", "refusal": "no"}], ["text"]),
        ([{"type": "thinking", "thinking": "x"}, {"type": "tool_use", "id": "1"}], []),
        (
            [
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": DATA},
                }
            ],
            ["image"],
        ),
        ([{"type": "image_url", "image_url": {"url": "https://x"}}], ["resource_link"]),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,%"}}], None),
        ([{"type": "image_url"}, {"type": "image_url", "image_url": 7}], None),
        ([{"type": "image", "source": {"type": "base64"}}], []),
        ([{"type": "file", "file": {"file_id": "f1"}}], ["resource_link"]),
        (
            [
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": DATA},
                }
            ],
            ["resource"],
        ),
        ([{"type": "input_audio", "input_audio": {"data": DATA, "format": "mp3"}}], ["audio"]),
        ([{"type": "input_audio", "input_audio": {}}], []),
    ],
)
def test_what_a_tool_or_a_model_gave_is_shown_whatever_it_is(
    content: Any, types: list[str] | None
) -> None:
    found = [x["type"] for x in dumped(blocks_of_content(content))]
    assert types is None or found == types


def test_the_words_of_the_assistant_and_what_else_is_in_a_message() -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}}
    content = [{"type": "text", "text": "a"}, image, {"type": "text", "text": "b"}]
    words, more = words_and_more(content)
    assert (words, [x["type"] for x in dumped(more)]) == ("ab", ["image"])
    assert words_and_more(None) == ("", [])
    thinking = {"type": "thinking", "thinking": "hm"}
    assert thoughts_in({"content": [thinking, {"type": "text", "text": "x"}]}) == "hm"
    assert thoughts_in({"content": "x", "reasoning_content": "hm"}) == "hm"
    assert thoughts_in({"content": None}) == ""


# -- What is told. ---------------------------------------------------------------------------------

CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"q": 1}'}}


def event(kind: str, turn: int = 1, **more: Any) -> Any:
    return {"id": 0, "turn": turn, "type": kind, **more}


def says(text: str, turn: int = 1) -> Any:
    return event("text", turn, text=text)


def put(message: Any, turn: int = 1) -> Any:
    return event("message", turn, message=message)


def assistant(text: str | None, *calls: Any) -> Any:
    message = {"role": "assistant", "content": text}
    return {**message, "tool_calls": [*calls]} if calls else message


def user(text: str, number: int) -> Any:
    return {"role": "user", "content": text, "id": number}


def result(text: Any, call: str = "c1", **more: Any) -> Any:
    return {"role": "tool", "tool_call_id": call, "content": text, **more}


ENDS = event("turn", state="ends", status="completed")
BEGINS = event("turn", state="begins")
GAP = event("gap")


def begun(*turns: int) -> Retelling:
    telling = Retelling()
    for turn in turns or (1,):
        assert telling.event(event("turn", turn, state="begins")) == []
    return telling


def told(telling: Retelling, *events: Any) -> list[Any]:
    return [x for each in events for x in shown(telling.event(each))]


def words(updates: Sequence[Any]) -> str:
    return "".join(x[1] for x in updates if x[0] == "agent")


def cut(draw: Any, text: str) -> list[str]:
    """A text in pieces."""
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    ends = [*places, len(text)]
    return [text[a:b] for a, b in zip([0, *places], ends, strict=True) if a < b]


MESSAGES = st.lists(st.text("ab ", min_size=1, max_size=6), min_size=1, max_size=4)


@SETTINGS
@given(st.data(), MESSAGES)
def test_whatever_is_cut_and_said_again_after_a_gap_is_told_once(
    data: st.DataObject, texts: list[str]
) -> None:
    """Nothing is lost: after a gap comes all that there is."""
    telling = begun()
    updates: list[Any] = []

    def hear(*events: Any) -> None:
        updates.extend(told(telling, *events))

    for place, text in enumerate(texts):
        said = ""
        for piece in cut(data.draw, text):
            said += piece
            hear(says(piece))
            if data.draw(st.booleans()):
                hear(GAP, BEGINS, *[put(assistant(x)) for x in texts[:place]])
                for again in cut(data.draw, said):
                    hear(says(again))
        hear(put(assistant(text)))
    how = data.draw(st.sampled_from(["stream", "outcome", "record"]))
    messages = [assistant(x) for x in texts]
    if how == "stream":
        hear(ENDS)
    elif how == "outcome":
        updates += shown(telling.outcome(1, messages, has_ids=False))
    else:
        turn: Any = {"turn": 1, "status": "completed", "input": [], "messages": messages}
        updates += shown(telling.record(turn))
    assert telling.is_over(1)
    assert words(updates) == "\n\n".join(texts)
    assert told(telling, GAP, BEGINS, put(assistant("x")), says("y"), ENDS) == []
    assert shown(telling.outcome(1, messages)) == []


@SETTINGS
@given(st.data(), MESSAGES)
def test_whatever_is_lost_or_said_otherwise_each_message_is_told_whole_and_in_order(
    data: st.DataObject, texts: list[str]
) -> None:
    """Pieces, messages and ends are lost; attempts say something else; the outcome comes last."""
    telling = begun()
    updates: list[Any] = []
    lost = st.sampled_from([False, False, True])
    for place, text in enumerate(texts):
        for attempt in (data.draw(st.text("ab ", max_size=6)), text):
            for piece in cut(data.draw, attempt):
                if not data.draw(lost):
                    updates += told(telling, says(piece))
            if data.draw(lost):
                updates += told(telling, GAP, BEGINS, *[put(assistant(x)) for x in texts[:place]])
        if data.draw(lost):  # and all after it
            break
        updates += told(telling, put(assistant(text)))
    updates += shown(telling.outcome(1, [assistant(x) for x in texts], has_ids=False))
    said, at = words(updates), 0
    for text in texts:
        whole = text if text.strip() else ""
        found = said.find(whole.strip(), at)
        assert found >= 0, (said, texts)
        at = found + len(whole.strip())


def test_a_message_that_is_not_what_its_pieces_began_is_told_anew_as_a_paragraph() -> None:
    telling = begun()
    assert told(telling, says("Hel"), says("lo")) == [("agent", "Hel"), ("agent", "lo")]
    assert told(telling, GAP, BEGINS, says("Help")) == [("agent", "\n\nHelp")]
    assert told(telling, put(assistant("Help me"))) == [("agent", " me")]
    assert told(telling, says("And"), put(assistant("But"))) == [
        ("agent", "\n\nAnd"),
        ("agent", "\n\nBut"),
    ]
    assert told(telling, says("But ")) == [("agent", "\n\nBut ")]
    assert told(telling, put(assistant("But"))) == []  # less space is no other message


def test_what_a_message_has_replaced_is_not_told_again_if_the_stream_still_has_it() -> None:
    telling = begun()
    told(telling, says("Hel"), put(result("r")), put(assistant("Hello")), put(result("r")))
    again = [GAP, BEGINS, says("Hel"), put(result("r")), event("reasoning", text="x")]
    assert told(telling, *again, put(assistant("Hello")), says("And")) == [("agent", "\n\nAnd")]


def test_messages_that_the_record_has_otherwise_are_told_anew_from_there_on() -> None:
    telling = begun()
    told(telling, put(assistant("a")), put(assistant("b")), put(assistant("c")))
    changed = [assistant("a"), assistant("B"), assistant("c")]
    assert shown(telling.outcome(1, changed)) == [("agent", "\n\nB"), ("agent", "\n\nc")]


def test_thoughts_are_told_as_they_come_and_those_of_a_message_if_none_came() -> None:
    telling = begun()
    assert told(telling, event("reasoning", text="Hm")) == [("agent_thought", "Hm")]
    thinking = {"type": "thinking", "thinking": "Hm, so."}
    message = {"role": "assistant", "content": [thinking, {"type": "text", "text": "So."}]}
    assert told(telling, put(message)) == [("agent_thought", ", so."), ("agent", "So.")]
    assert told(telling, put(message)) == [("agent_thought", "Hm, so."), ("agent", "So.")]
    told(telling, event("reasoning", text="x"))
    assert told(telling, GAP, event("reasoning", text="y")) == [("agent_thought", "\n\ny")]


def test_who_speaks_after_another_turn_is_told_anew() -> None:
    telling = begun(1, 2)
    told(telling, says("old", 1))
    assert told(telling, says("new", 2)) == [("agent", "\n\nnew")]
    assert shown(telling.outcome(1, [assistant("older")])) == [("agent", "\n\nolder")]
    assert told(telling, says("er", 2)) == [("agent", "\n\nnewer")]


def test_what_others_say_is_told_once_and_what_the_client_said_is_not() -> None:
    telling = begun()
    telling.knows(2)
    assert telling.asks_for_input(BEGINS)
    inputs = [user("theirs", 1), user("mine", 2)]
    assert shown(telling.input(1, inputs)) == [("user", "theirs")]
    assert not telling.asks_for_input(BEGINS)
    steered = event("steered", message=user("more", 3))
    assert told(telling, steered, GAP, BEGINS, steered) == [("user", "more")]
    messages = [user("more", 3), assistant("yes"), user("and", 4)]
    turn: Any = {"turn": 1, "status": "completed", "input": inputs, "messages": messages}
    assert shown(telling.record(turn)) == [("agent", "yes"), ("user", "and")]
    assert not telling.asks_for_input(BEGINS)
    assert shown(telling.input(1, [user("late", 9)])) == []


def test_what_an_outcome_has_without_ids_is_what_the_stream_told_with_them() -> None:
    telling = begun()
    noted = {**user("more", 3), "metadata": {"author": "Ada"}}
    told(telling, event("steered", message=noted), put(assistant("a")))
    messages = [{"role": "user", "content": "more"}, assistant("a"), assistant("b")]
    assert shown(telling.outcome(1, messages, has_ids=False)) == [("agent", "\n\nb")]


def test_of_an_outcome_nobody_knows_whose_the_users_messages_are() -> None:
    telling = begun()
    steered = {"role": "user", "content": "whose?"}
    messages = [assistant("a"), steered, assistant("b")]
    assert words(shown(telling.outcome(1, messages, has_ids=False))) == "a\n\nb"
    assert ("user", "whose?") in shown(telling.outcome(2, messages))


def test_what_is_told_after_what_the_user_has_said_is_no_new_paragraph() -> None:
    telling = begun()
    told(telling, put(assistant("a")))
    telling.prompted()
    assert told(telling, put(assistant("b", CALL)), put(assistant("c"))) == [
        ("agent", "b"),
        ("1/1/c1 find", "pending", ""),
        ("agent", "c"),
    ]


def test_of_a_turn_whose_beginning_is_gone_the_messages_are_told_by_the_record() -> None:
    telling = begun()
    assert told(telling, put(assistant("a")), GAP, put(assistant("b")), says("c"), ENDS) == [
        ("agent", "a"),
        ("agent", "\n\nc"),
    ]
    assert telling.asks_for_outcome(ENDS)
    messages = [assistant("a"), assistant("b"), assistant("cc")]
    assert shown(telling.outcome(1, messages)) == [("agent", "\n\nb"), ("agent", "\n\ncc")]
    assert not telling.asks_for_outcome(ENDS)


def test_a_turn_that_is_discarded_is_ended_and_not_told() -> None:
    telling = begun()
    told(telling, put(assistant(None, CALL)))
    turn: Any = {"turn": 1, "status": "interrupted", "input": [user("x", 1)], "discarded": True}
    turn["messages"] = [assistant(None, CALL), assistant("more")]
    assert shown(telling.record(turn)) == [("1/1/c1", "failed", "")]
    running: Any = {"turn": 2, "status": "running", "input": [user("y", 2)], "messages": []}
    assert shown(telling.record(running)) == []
    assert telling.lags(2)


def test_it_is_known_which_turns_are_over() -> None:
    telling = Retelling()
    assert (telling.settled(), telling.lags(1)) == (0, True)
    telling.outcome(1, [])
    assert (telling.settled(), telling.lags(1)) == (1, False)
    told(telling, says("x", 2))
    telling.outcome(3, [])
    assert (telling.settled(), telling.lags(3), telling.lags(1)) == (1, True, False)
    telling.outcome(2, [])
    assert (telling.settled(), telling.lags(3)) == (3, False)


def test_what_is_no_part_of_a_conversation_is_not_told() -> None:
    telling = begun()
    others = [event(x) for x in ("pending", "mood")]
    others += [event("discarded", turns=[1]), event("approval", approval=1, state="waits")]
    assert told(telling, *others, put({"role": "system", "content": "x"})) == []


# -- Calls. ----------------------------------------------------------------------------------------


def tool(state: str, call: str = "c1") -> Any:
    return event("tool", call=call, name="find", state=state)


def output(text: str) -> Any:
    return event("output", call="c1", text=text)


CALLED = put(assistant(None, CALL))


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([CALLED], [("1/1/c1 find", "pending", "")]),
        ([CALLED, tool("waits"), tool("begins"), tool("begins")], [None, ("in_progress", "")]),
        ([tool("begins"), CALLED], [("1/1/c1 find", "in_progress", ""), None]),
        ([tool("waits")], [("1/1/c1 find", "pending", "")]),
        ([CALLED, tool("cut off"), tool("begins")], [None, ("failed", "")]),
        ([tool("cut off")], [("1/1/c1 find", "pending", ""), ("failed", "")]),
        ([CALLED, output("a"), output("b")], [None, ("in_progress", "a"), ("in_progress", "ab")]),
        ([output("a")], [("1/1/c1 tool", "in_progress", ""), ("in_progress", "a")]),
        (
            [CALLED, output("a"), GAP, BEGINS, CALLED, output("a")],
            [None, *[("in_progress", "a")] * 2],
        ),
        ([CALLED, put(result("r")), output("x"), tool("ends")], [None, ("completed", "r")]),
        ([CALLED, put(result({"a": 1}))], [None, ("completed", '{"a": 1}')]),
        ([CALLED, put(result(None))], [None, ("completed", "")]),
        ([put(result("r", name="find"))], [("1/1/c1 find", "in_progress", ""), ("completed", "r")]),
        ([put(result("r"))], [("1/1/c1 tool", "in_progress", ""), ("completed", "r")]),
        ([CALLED, ENDS], [None, ("failed", "")]),
        ([CALLED, tool("ends"), ENDS], [None, ("completed", "")]),
        ([tool("ends"), ENDS], [None, ("completed", "")]),
    ],
)
def test_the_states_of_a_call(events: list[Any], expected: list[Any]) -> None:
    """`None` is anything; of an update, what it tells."""
    found = told(begun(), *events)
    assert len(found) == len(expected), found
    for update, wanted in zip(found, expected, strict=True):
        if wanted is not None:
            assert update[-len(wanted) :] == wanted
            assert len(wanted) == 3 or update[0] == "1/1/c1"


def test_a_result_is_found_by_its_dialect() -> None:
    use = {"type": "tool_use", "id": "c1", "name": "find", "input": {"q": 1}}
    blocks = [
        {"type": "tool_result", "tool_use_id": "c1", "content": "no", "is_error": True},
        {"type": "text", "text": "go on"},
    ]
    telling = begun()
    called = put({"role": "assistant", "content": [use]})
    assert told(telling, called, put({"role": "user", "content": blocks})) == [
        ("1/1/c1 find", "pending", ""),
        ("1/1/c1", "failed", "no"),
        ("user", "go on"),
    ]
    converse = {"toolUse": {"toolUseId": "c2", "name": "find", "input": {"q": 1}}}
    answered = {"toolResult": {"toolUseId": "c2", "content": [{"text": "yes"}]}}
    telling = begun()
    both = [{"role": "assistant", "content": [converse]}, {"role": "user", "content": [answered]}]
    assert told(telling, *map(put, both)) == [
        ("1/1/c2 find", "pending", ""),
        ("1/1/c2", "completed", "yes"),
    ]
    ollama = {"function": {"name": "find", "arguments": {"q": 1}}}
    telling = begun()
    by_name = {"role": "tool", "tool_name": "find", "content": "found"}
    assert told(telling, put(assistant(None, ollama)), put(by_name)) == [
        ("1/1/find find", "pending", ""),
        ("1/1/find", "completed", "found"),
    ]


def test_a_provider_may_use_an_id_twice_and_arguments_are_json_if_they_are() -> None:
    telling = begun()
    half = {**CALL, "function": {"name": "find", "arguments": '{"q'}}
    events = [CALLED, put(result("one")), put(assistant(None, half)), put(result("two"))]
    updates = dumped([x for each in events for x in telling.event(each)])
    assert [(x["toolCallId"], x.get("rawInput")) for x in updates if "title" in x] == [
        ("1/1/c1", {"q": 1}),
        ("1/2/c1", {"malformed": '{"q'}),
    ]
    assert [x["toolCallId"] for x in updates] == ["1/1/c1", "1/1/c1", "1/2/c1", "1/2/c1"]


def test_of_long_output_the_end_is_shown() -> None:
    telling = begun()
    [_, (_, _, content)] = told(telling, output("a" + "b" * SHOWN))
    assert content == "b" * SHOWN


def test_an_approval_is_a_call_that_waits() -> None:
    waits: Any = {"id": 7, "turn": 1, "title": "git push", "value": {"branch": "main"}}
    assert dumped([approval_call(waits)])[0] | {"sessionUpdate": "x"} == {
        "sessionUpdate": "x",
        "toolCallId": "approval/7",
        "title": "git push",
        "status": "pending",
        "rawInput": {"branch": "main"},
    }
    for approved, status in ((True, "completed"), (False, "failed"), (None, "completed")):
        [(name, found, content)] = shown([approval_is_over(7, approved=approved)])
        assert (name, found, bool(content)) == ("approval/7", status, approved is None)


# -- What is asked again. --------------------------------------------------------------------------


def unknown() -> TerminalError:
    reason = "service 'A' not found, make sure to register the service before calling it."
    return TerminalError(reason, 404)


@pytest.mark.parametrize(
    ("errors", "left"),
    [
        ([], 0),
        ([httpx.ConnectError("no"), httpx.ReadTimeout("no"), TerminalError("no", 503)], 0),
        ([OSError(), json.JSONDecodeError("no", "", 0)] * 20, 0),
        ([unknown()] * COMING_UP, 0),
        ([unknown()] * (COMING_UP + 2), 1),
        ([*[unknown()] * COMING_UP, TerminalError("no", 502), *[unknown()] * COMING_UP], 0),
        *(([TerminalError("no", status)] * 2, 1) for status in (400, 404, 410, 412, 423, 429, 500)),
        ([RuntimeError()] * 2, 1),
    ],
)
def test_it_is_asked_again_as_long_as_the_ingress_cannot_be_reached(
    errors: list[Exception], left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(seconds: float) -> None:
        assert 0 < seconds <= LONGEST_PAUSE

    async def call() -> str:
        if answers:
            raise answers.pop(0)
        return "answer"

    monkeypatch.setattr(asyncio, "sleep", at_once)
    answers = [*errors]
    if left:
        with pytest.raises(type(errors[-1])):
            asyncio.run(reached(call))
    else:
        assert asyncio.run(reached(call)) == "answer"
    assert len(answers) == left


# -- With the rules of the stream. -----------------------------------------------------------------


@dataclass
class Editing(Follower):
    """A follower that has an editor told of what it follows, and reads the record after a gap."""

    world: Any = None
    telling: Retelling = field(default_factory=Retelling)
    updates: list[Any] = field(default_factory=list[Any])
    lacks: set[int] = field(default_factory=set[int])
    """Turns that have ended and are not told: their beginning was truncated."""

    def apply(self, event: dict[str, Any]) -> None:
        whole: Any = dict(event)
        super().apply(event)
        self.updates += shown(self.telling.event(whole))
        if whole["type"] == "gap":
            for number in sorted(self.world.record):
                self.look(number)
        if self.telling.asks_for_outcome(whole):
            self.lacks.add(whole["turn"])

    def look(self, number: int) -> None:
        """Read a turn's record."""
        status, messages = self.world.record[number]
        turn: Any = {"turn": number, "status": status, "input": [], "messages": messages}
        if number in self.world.discarded:
            turn["discarded"] = True
        self.updates += shown(self.telling.record(turn))

    def read(self, record: Any, discarded: set[int]) -> Editing:
        known = vars(super().read(record, discarded))
        own = {x: getattr(self, x) for x in ("world", "telling", "updates", "lacks")}
        return Editing(**known, **own)


@pytest.mark.parametrize(
    "seed",
    [*range(40), 396, 468, *(pytest.param(x, marks=pytest.mark.long) for x in range(40, 160))],
)
def test_who_follows_the_stream_tells_each_message_of_the_record_once_and_in_order(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "PAGE", 400)
    monkeypatch.setattr(handlers, "MOST", 400)
    monkeypatch.setattr(handlers, "TOLD", 400)
    monkeypatch.setattr(log, "UNRECORDED", MOST_UNRECORDED)
    random = Random(seed)  # noqa: S311
    world = World(Counter())
    world.followers = [Editing(world=world)]
    for _ in range(150):
        random.choice(EVENTS)(world, random)
    world.all_comes_to_rest()
    [editor] = [x for x in world.followers if isinstance(x, Editing)]
    for turn in editor.lacks:
        editor.look(turn)
    said = re.findall(r"assistant \d+", words(editor.updates))
    for turn, (_, messages) in world.record.items():
        if turn not in world.discarded:
            wanted = [x["content"] for x in messages if x["role"] == "assistant"]
            assert editor.telling.is_over(turn)
            assert [x for x in said if x in wanted] == wanted


@pytest.mark.parametrize(
    "part",
    [
        {"type": "document", "source": {"type": "text", "data": None}},
        {"type": "input_audio", "input_audio": {"data": None, "format": "wav"}},
        {"type": "image", "source": {"type": "base64", "media_type": None, "data": None}},
    ],
    ids=["a document", "sound", "an image"],
)
def test_media_that_nobody_has_checked_is_left_out(part: Any) -> None:
    said = [{"type": "text", "text": "Look."}, part]
    assert [x["text"] for x in dumped(blocks_of_content(said)) if x["type"] == "text"] == ["Look."]
