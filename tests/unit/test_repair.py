"""What a turn put out is fit for a model again, wherever the turn was cut off."""

import json
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interruptible import Message
from interruptible._repair import CUT_OFF, INTERRUPTED, STRAY, repaired

often = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine is no failure


def user(content: Any) -> Message:
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> Message:
    return {"role": "assistant", "content": content, **more}


def text(said: str) -> Message:
    return {"type": "text", "text": said}


# OpenAI's shape.


def function(call: str) -> Message:
    return {"id": call, "type": "function", "function": {"name": "f", "arguments": "{}"}}


def calling(*calls: str, content: Any = None) -> Message:
    return assistant(content, tool_calls=[function(call) for call in calls])


def tool(call: str, content: Any) -> Message:
    return {"role": "tool", "tool_call_id": call, "content": content}


def cut_tool(call: str) -> Message:
    return tool(call, INTERRUPTED)


# Anthropic's shape.


def tool_use(call: str) -> Message:
    return {"type": "tool_use", "id": call, "name": "f", "input": {}}


def using(*calls: str, said: Sequence[Message] = ()) -> Message:
    return assistant([*said, *map(tool_use, calls)])


def result(call: str, content: Any) -> Message:
    return {"type": "tool_result", "tool_use_id": call, "content": content}


def cut_result(call: str) -> Message:
    return {**result(call, INTERRUPTED), "is_error": True}


IMAGE = {"type": "image", "source": {"type": "url", "url": "https://example.org/x.png"}}
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "x"}


# -- The providers' rules, as they document them. --------------------------------------------------


def refused_by_openai(messages: Sequence[Message]) -> Iterator[str]:
    """What OpenAI complains of."""
    waiting: list[str] = []
    for message in messages:
        role, content = message["role"], message.get("content")
        calls: list[Message] = message.get("tool_calls") or []
        if role == "tool":
            if message["tool_call_id"] not in waiting:
                yield "messages with role 'tool' must be a response to 'tool_calls'"
            if not content and content != "":
                yield "content of a tool message is text or parts"
            waiting = [call for call in waiting if call != message["tool_call_id"]]
            continue
        if waiting:
            yield f"tool_call_ids without response messages: {waiting}"
        if "tool_calls" in message and not calls:
            yield "tool_calls is an array that is not empty"
        waiting = [call["id"] for call in calls]
        if len(set(waiting)) < len(waiting):
            yield "the ids of tool_calls differ"
        if content == []:
            yield "content is an empty array"
        if not calls and (content is None or (isinstance(content, str) and not content.strip())):
            yield "content is required"
    if waiting:
        yield f"tool_call_ids without response messages: {waiting}"


def refused_by_anthropic(messages: Sequence[Message]) -> Iterator[str]:
    """What Anthropic complains of."""
    used: list[str] = []
    for message in [*messages, user("after")]:
        if set(message) != {"role", "content"} or message["role"] not in {"user", "assistant"}:
            yield "extra inputs are not permitted"
        content: Any = message["content"]
        blocks: list[Message] = [text(content)] if isinstance(content, str) else content or []
        if not blocks:
            yield "all messages must have non-empty content"
        if any(block["type"] == "text" and not block["text"].strip() for block in blocks):
            yield "text content blocks must be non-empty"
        kinds = [block["type"] for block in blocks]
        if ("tool_result" if message["role"] == "assistant" else "tool_use") in kinds:
            yield f"a message of the {message['role']} has none of these: {kinds}"
        if kinds != sorted(kinds, key=lambda kind: kind != "tool_result"):
            yield "tool_result blocks must come first"
        answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if set(answered) - set(used):
            yield "unexpected tool_use_id found in tool_result blocks"
        if set(used) - set(answered):
            yield "tool_use ids were found without tool_result blocks immediately after"
        if len(set(answered)) < len(answered):
            yield "each tool_use must have a single result"
        used = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if len(set(used)) < len(used):
            yield "tool_use ids must be unique"


VALIDATORS = {"openai": refused_by_openai, "anthropic": refused_by_anthropic}


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([calling("a")], "without response"),
        ([calling("a"), user("?")], "without response"),
        ([calling("a", "b"), tool("a", "1"), user("?")], "without response"),
        ([calling("a"), user("?"), tool("a", "1")], "without response"),
        ([tool("a", "1")], "must be a response"),
        ([calling("a"), tool("a", "1"), tool("a", "1")], "must be a response"),
        ([calling("a"), tool("b", "1")], "must be a response"),
        ([calling("a"), tool("a", None)], "text or parts"),
        ([calling("a"), tool("a", [])], "text or parts"),
        ([calling("a", "a"), tool("a", "1")], "differ"),
        ([calling()], "not empty"),
        ([assistant("x", tool_calls=None)], "not empty"),
        ([assistant(None)], "required"),
        ([assistant([])], "empty array"),
        ([calling("a", content=[]), tool("a", "1")], "empty array"),
        ([assistant(" ")], "required"),
    ],
)
def test_the_check_of_openais_rules_finds_what_is_wrong(
    messages: list[Message], complaint: str
) -> None:
    assert complaint in " | ".join(refused_by_openai(messages))


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([using("a")], "without tool_result"),
        ([using("a"), user("?")], "without tool_result"),
        ([using("a", "b"), user([result("a", "1")])], "without tool_result"),
        ([using("a", "b"), user([result("a", "")]), user([result("b", "")])], "without"),
        ([using("a"), user("?"), user([result("a", "1")])], "without tool_result"),
        ([using("a"), user([text("?"), result("a", "1")])], "come first"),
        ([user([result("a", "1")])], "unexpected"),
        ([using("a"), user([result("a", "1"), result("b", "1")])], "unexpected"),
        ([using("a"), user([result("a", "1"), result("a", "1")])], "single"),
        ([using("a", "a"), user([result("a", "1")])], "unique"),
        ([assistant([result("a", "1")])], "of the assistant"),
        ([user([tool_use("a")])], "of the user"),
        ([assistant([])], "non-empty"),
        ([assistant("")], "non-empty"),
        ([assistant([text("x"), text(" ")])], "non-empty"),
        ([calling("a")], "extra"),
        ([using("a"), tool("a", "1")], "extra"),
    ],
)
def test_the_check_of_anthropics_rules_finds_what_is_wrong(
    messages: list[Message], complaint: str
) -> None:
    assert complaint in " | ".join(refused_by_anthropic(messages))


# -- Examples. -------------------------------------------------------------------------------------


def test_a_call_that_was_cut_off_gets_a_result_that_says_so() -> None:
    assert repaired([calling("a", "b"), tool("b", "1")]) == [
        calling("a", "b"),
        tool("b", "1"),
        cut_tool("a"),
    ]
    assert repaired([using("a", "b"), user([result("b", "1")])]) == [
        using("a", "b"),
        user([result("b", "1"), cut_result("a")]),
    ]
    assert repaired([using("a", "b")]) == [
        using("a", "b"),
        user([cut_result("a"), cut_result("b")]),
    ]


def test_what_had_come_of_a_call_that_was_cut_off_is_its_result() -> None:
    cut_off = [("b", "some of b\n"), ("a", "more"), ("c", "c")]
    openai = [calling("a", "b"), tool("a", "whole"), calling("c"), user("and")]
    assert repaired(openai, cut_off) == [
        calling("a", "b"),
        tool("a", "whole"),
        tool("b", f"some of b\n{CUT_OFF}"),
        calling("c"),
        tool("c", f"c\n{CUT_OFF}"),
        user("and"),
    ]
    anthropic = [using("a", "b"), user([result("a", "whole")]), using("d", "c")]
    assert repaired(anthropic, cut_off) == [
        using("a", "b"),
        user([result("a", "whole"), {**result("b", f"some of b\n{CUT_OFF}"), "is_error": True}]),
        using("d", "c"),
        user([{**result("c", f"c\n{CUT_OFF}"), "is_error": True}, cut_result("d")]),
    ]


def test_what_had_come_goes_to_the_last_call_of_its_id() -> None:
    twice = [calling("a"), calling("a")]
    assert repaired(twice, [("a", "x")]) == [
        calling("a"),
        cut_tool("a"),
        calling("a"),
        tool("a", f"x\n{CUT_OFF}"),
    ]


def test_what_had_come_of_a_call_that_is_missing_is_not_lost() -> None:
    (said,) = repaired([], [("a", "x")])
    assert said["role"] == "user"
    assert said["content"].startswith(STRAY)
    assert json.loads(said["content"].removeprefix(STRAY)) == tool("a", f"x\n{CUT_OFF}")


def test_what_the_user_said_before_a_result_comes_after_it() -> None:
    assert repaired([calling("a", "b"), user("1"), tool("a", "x"), user("2")]) == [
        calling("a", "b"),
        tool("a", "x"),
        cut_tool("b"),
        user("1"),
        user("2"),
    ]
    assert repaired([using("a"), user("1"), user([text("2"), result("a", "x"), text("3")])]) == [
        using("a"),
        user([result("a", "x")]),
        user("1"),
        user([text("2"), text("3")]),
    ]


def test_what_the_assistant_said_before_a_result_comes_after_it() -> None:
    assert repaired([calling("a"), assistant("1"), tool("a", "x")]) == [
        calling("a"),
        tool("a", "x"),
        assistant("1"),
    ]
    assert repaired([using("a"), using("b"), user([result("b", "x"), result("a", "y")])]) == [
        using("a"),
        user([result("a", "y")]),
        using("b"),
        user([result("b", "x")]),
    ]


def test_results_in_several_messages_of_the_user_become_one_message_and_come_first() -> None:
    messages = [
        using("a", "b", "c"),
        user([text("1"), result("a", "x"), IMAGE]),
        user([result("c", "y"), text("2")]),
        user([result("b", "z")]),
    ]
    assert repaired(messages) == [
        using("a", "b", "c"),
        user([result("a", "x"), result("c", "y"), result("b", "z"), text("1"), IMAGE, text("2")]),
    ]


@pytest.mark.parametrize("content", ["", " \n", None, [], [text("")], [text(" "), text("\n")]])
def test_a_message_that_says_nothing_is_left_out(content: Any) -> None:
    assert repaired([assistant("1"), assistant(content), user("2"), user(content)]) == [
        assistant("1"),
        user("2"),
    ]


def test_empty_text_is_left_out_of_a_message_that_says_more() -> None:
    messages = [using("a", said=[text("")]), user([result("a", ""), text(" ")])]
    assert repaired(messages) == [using("a"), user([result("a", "")])]
    assert repaired([assistant([text(""), THINKING, text("1")])]) == [
        assistant([THINKING, text("1")])
    ]


@pytest.mark.parametrize("content", ["", None, " ", "1"])
def test_a_message_with_tool_calls_keeps_its_content(content: Any) -> None:
    messages = [calling("a", content=content), tool("a", "1")]
    assert all(a is b for a, b in zip(repaired(messages), messages, strict=True))


@pytest.mark.parametrize("content", [[], [text("")]])
def test_parts_that_say_nothing_are_no_content_beside_tool_calls(content: Any) -> None:
    assert repaired([calling("a", content=content)]) == [calling("a"), cut_tool("a")]


@pytest.mark.parametrize("more", [{"refusal": "No."}, {"audio": {"id": "x"}}])
def test_a_message_with_something_instead_of_content_is_kept(more: Message) -> None:
    assert repaired([assistant(None, **more)]) == [assistant(None, **more)]
    assert repaired([assistant(None, refusal=None, function_call=None, audio=None)]) == []


def test_of_two_results_of_a_call_the_first_is_kept() -> None:
    assert repaired([calling("a"), tool("a", "1"), tool("a", "2")]) == [
        calling("a"),
        tool("a", "1"),
    ]
    messages = [using("a"), user([result("a", "1"), result("a", "2")]), user([result("a", "3")])]
    assert repaired(messages) == [using("a"), user([result("a", "1")])]


def test_a_result_goes_to_the_nearest_call_of_its_id_that_has_none() -> None:
    messages = [
        calling("a"),
        tool("a", "1"),
        calling("a"),
        calling("a"),
        tool("a", "2"),
        tool("a", "3"),
    ]
    assert repaired(messages) == [
        calling("a"),
        tool("a", "1"),
        calling("a"),
        tool("a", "3"),
        calling("a"),
        tool("a", "2"),
    ]
    twice = [using("a"), user([result("a", "1")]), using("a")]
    assert repaired(twice) == [*twice, user([cut_result("a")])]
    assert repaired([*twice, using("a"), user([result("a", "2"), result("a", "3")])]) == [
        *twice,
        user([result("a", "3")]),
        using("a"),
        user([result("a", "2")]),
    ]


def test_a_result_without_a_call_becomes_what_the_user_says() -> None:
    stray = tool("a", "It is 3 °C.")
    assert repaired([stray, calling("a")]) == [
        user(STRAY + '{"role": "tool", "tool_call_id": "a", "content": "It is 3 °C."}'),
        calling("a"),
        cut_tool("a"),
    ]
    stray = {**result("b", [text("x")]), "is_error": True}
    assert repaired([using("a"), user([stray, text("1"), result("a", "2")])]) == [
        using("a"),
        user([result("a", "2"), text(STRAY + json.dumps(stray)), text("1")]),
    ]


@pytest.mark.parametrize("calls", [None, [], {}, "a", 1])
def test_calls_that_are_no_list_or_an_empty_one_are_left_out(calls: Any) -> None:
    assert repaired([assistant("1", tool_calls=calls)]) == [assistant("1")]
    assert repaired([assistant(None, tool_calls=calls)]) == []


@pytest.mark.parametrize("call", [None, "a", {}, {"id": 1}, {"id": ["a"]}, {"id": ""}])
def test_a_call_without_an_id_is_left_out(call: Any) -> None:
    assert repaired([assistant("1", tool_calls=[call])]) == [assistant("1")]
    assert repaired([assistant(None, tool_calls=[call])]) == []
    assert repaired([assistant(None, tool_calls=[call, function("a")])]) == [
        calling("a"),
        cut_tool("a"),
    ]


@pytest.mark.parametrize("block", [{}, {"id": None}, {"id": ["a"]}, {"id": ""}])
def test_a_tool_use_without_an_id_is_left_out(block: Message) -> None:
    block = {"type": "tool_use", **block}
    assert repaired([assistant([block])]) == []
    assert repaired([assistant([text("1"), block])]) == [assistant([text("1")])]


def test_a_second_call_of_an_id_in_one_message_is_left_out() -> None:
    assert repaired([calling("a", "a"), tool("a", "1")]) == [calling("a"), tool("a", "1")]
    assert repaired([using("a", "a")]) == [using("a"), user([cut_result("a")])]
    both = assistant([text("1"), tool_use("a")], tool_calls=[function("a")])
    assert repaired([both]) == [calling("a", content=[text("1")]), cut_tool("a")]


@pytest.mark.parametrize("call", [None, 1, ["a"], ""])
def test_a_result_without_an_id_belongs_to_no_call(call: Any) -> None:
    assert repaired([calling("a"), tool(call, "1")]) == [
        calling("a"),
        cut_tool("a"),
        user(STRAY + json.dumps(tool(call, "1"))),
    ]
    assert repaired([using("a"), user([result(call, "1")])]) == [
        using("a"),
        user([cut_result("a")]),
        user([text(STRAY + json.dumps(result(call, "1")))]),
    ]


def test_a_result_that_is_neither_text_nor_parts_becomes_text() -> None:
    gave = [tool("a", None), tool("b", {"x": "é"}), tool("c", []), tool("d", [text("")])]
    assert repaired([calling(*"abcd"), *gave]) == [
        calling(*"abcd"),
        tool("a", "null"),
        tool("b", '{"x": "é"}'),
        tool("c", "[]"),
        tool("d", [text("")]),
    ]
    nothing = {"type": "tool_result", "tool_use_id": "d"}
    gave = [result("a", None), result("b", 1), result("c", []), nothing]
    assert repaired([using(*"abcd"), user(gave)]) == [
        using(*"abcd"),
        user([result("a", "null"), result("b", "1"), result("c", []), nothing]),
    ]


def test_what_is_not_known_passes_through() -> None:
    messages: list[Message] = [
        {"role": "developer", "content": ""},
        {"content": "x"},
        assistant({"x": 1}),
        assistant([{"type": "text"}, "x", None, {"type": ["x"]}, IMAGE]),
        user(3),
        user(["x", IMAGE]),
    ]
    assert repaired(messages) == [
        *messages[:3],
        assistant(["x", None, {"type": ["x"]}, IMAGE]),
        *messages[4:],
    ]


def test_a_tuple_is_as_good_as_a_list() -> None:
    messages = [assistant((text("1"), tool_use("a"))), user((text("2"), result("a", ())))]
    assert repaired(messages) == [
        using("a", said=[text("1")]),
        user([result("a", ()), text("2")]),
    ]
    assert repaired([assistant(None, tool_calls=(function("a"),))]) == [calling("a"), cut_tool("a")]


def test_a_message_keeps_its_other_fields() -> None:
    messages = [
        {**using("a", "", said=[text("1")]), "id": "m1"},
        {**user([text("2"), result("a", "x")]), "id": "m2"},
    ]
    assert repaired(messages) == [
        {**using("a", said=[text("1")]), "id": "m1"},
        {**user([result("a", "x"), text("2")]), "id": "m2"},
    ]


# -- Any turn, cut off anywhere. -------------------------------------------------------------------


class Script:
    """Writes a turn; each text and each result that it writes is another one."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any], shape: str) -> None:
        self.draw = draw
        self.is_openai = shape == "openai"
        self.messages: list[Message] = []
        self.open: list[str] = []
        self.written = 0

    def write(self) -> str:
        self.written += 1
        return str(self.written)

    def says(self, *, blanks: bool) -> None:
        """The assistant says something, calls tools, or both."""
        calls = self.draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=3))
        said = [text(self.write()) for _ in range(self.draw(st.integers(0 if calls else 1, 2)))]
        if blanks and self.draw(st.booleans()):
            said.insert(self.draw(st.integers(0, len(said))), text(self.draw(blank)))
        if self.is_openai:
            plain: Any = "".join(block["text"] for block in said) or self.draw(nothing)
            content = said if said and self.draw(st.booleans()) else plain
            self.messages.append(calling(*calls, content=content) if calls else assistant(content))
        else:
            blocks = [*said, *map(tool_use, calls)]
            if self.draw(st.booleans()):
                blocks.insert(0, THINKING)
            self.messages.append(assistant(blocks))
        self.open += calls

    def steers(self, *, blanks: bool) -> None:
        """The user says something."""
        parts = [text(self.write()), IMAGE, *([text(self.draw(blank))] if blanks else [])]
        content = self.draw(st.sampled_from([self.write(), self.draw(st.permutations(parts))]))
        self.messages.append(user(content))

    def gives(self, calls: Sequence[str], *, mixed: bool) -> None:
        """The tools give results; for Anthropic in one message."""
        if self.is_openai:
            self.messages += [tool(call, self.write()) for call in calls]
        else:
            rest = [text(self.write()) for _ in range(self.draw(st.integers(0, 2)))]
            content = [result(call, self.write()) for call in calls] + rest
            self.messages.append(user(self.draw(st.permutations(content)) if mixed else content))
        for call in calls:
            self.open.remove(call)


blank = st.sampled_from(["", " ", "\n"])
nothing = st.sampled_from([None, ""])
shapes = st.sampled_from(list(VALIDATORS))


@st.composite
def whole_turns(draw: Any, shape: str) -> list[Message]:
    """A turn that went well: each call has its result in its place."""
    script = Script(draw, shape)
    for _ in range(draw(st.integers(0, 4))):
        script.says(blanks=False)
        if script.open:
            script.gives(draw(st.permutations(script.open)), mixed=False)
        while draw(st.integers(0, 2)) == 0:
            script.steers(blanks=False)
    return script.messages


@st.composite
def disordered_turns(draw: Any, shape: str) -> list[Message]:
    """A turn with its results late and split, and the user's messages anywhere."""
    script = Script(draw, shape)
    for _ in range(draw(st.integers(0, 8))):
        step = draw(st.sampled_from(["says", "steers", "gives", "gives"]))
        if step == "says":
            script.says(blanks=True)
        elif step == "steers":
            script.steers(blanks=True)
        elif script.open:
            calls = draw(st.permutations(script.open))
            script.gives(calls[: draw(st.integers(1, len(calls)))], mixed=True)
    return script.messages


@st.composite
def cut_turns(draw: Any, shape: str) -> list[Message]:
    """A turn that was cut off after any message, or within one."""
    turn: list[Message] = draw(whole_turns(shape) | disordered_turns(shape))
    turn = turn[: draw(st.integers(0, len(turn)))]
    for key in ("content", "tool_calls"):
        if turn and isinstance(turn[-1].get(key), list):
            turn[-1] = {**turn[-1], key: turn[-1][key][: draw(st.integers(0, len(turn[-1][key])))]}
    return turn


@st.composite
def jumbled_turns(draw: Any, shape: str) -> list[Message]:
    """Messages of a turn in any order, some twice and some not at all."""
    turn = draw(cut_turns(shape))
    jumbled: list[Message] = draw(
        st.lists(st.sampled_from(turn), max_size=8) if turn else st.just([])
    )
    return jumbled


def blocks_of(message: Message) -> list[Message]:
    content: Any = message["content"]
    return [text(content)] if isinstance(content, str) else content or []


def said_by(role: str, messages: Sequence[Message]) -> list[Message]:
    """Every text of one role that is not empty, and what else it put in, in order."""
    return [
        block
        for message in messages
        for block in blocks_of(message)
        if message["role"] == role
        and block["type"] not in {"tool_use", "tool_result"}
        and (block["type"] != "text" or block["text"].strip())
    ]


def results_in(messages: Sequence[Message]) -> list[tuple[str, Any]]:
    """The results, by the id of their call, in order."""
    found: list[tuple[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            found.append((message["tool_call_id"], message["content"]))
        found += [
            (block["tool_use_id"], block["content"])
            for block in blocks_of(message)
            if block["type"] == "tool_result"
        ]
    return found


def calls_in(messages: Sequence[Message]) -> list[str]:
    calls: list[str] = []
    for message in messages:
        calls += [x["id"] for x in message.get("tool_calls", [])]
        calls += [block["id"] for block in blocks_of(message) if block["type"] == "tool_use"]
    return calls


@often
@given(st.data(), shapes)
def test_a_turn_that_was_cut_off_is_valid_in_a_conversation(data: Any, shape: str) -> None:
    messages = repaired(data.draw(cut_turns(shape)))
    assert list(VALIDATORS[shape]([user("before"), *messages, user("after")])) == []


@often
@given(st.data(), shapes)
def test_what_was_said_is_there_once_and_in_its_order(data: Any, shape: str) -> None:
    turn = data.draw(cut_turns(shape))
    messages = repaired(turn)
    assert said_by("user", messages) == said_by("user", turn)
    assert said_by("assistant", messages) == said_by("assistant", turn)
    assert calls_in(messages) == calls_in(turn)


@often
@given(st.data(), shapes)
def test_each_result_is_there_once_and_calls_without_one_are_interrupted(
    data: Any, shape: str
) -> None:
    turn = data.draw(cut_turns(shape))
    results = results_in(repaired(turn))
    given_ones = [x for x in results if x[1] != INTERRUPTED]
    assert sorted(given_ones) == sorted(results_in(turn))
    assert sorted(call for call, _ in results) == sorted(calls_in(turn))


@often
@given(st.data(), shapes)
def test_results_of_one_message_stay_in_their_order(data: Any, shape: str) -> None:
    turn = data.draw(cut_turns(shape))
    order = [content for _, content in results_in(turn)]
    group: list[int] = []
    for message in [*repaired(turn), assistant("x")]:
        if message["role"] == "assistant":
            assert group == sorted(group)
            group = []
        given_ones = [x for _, x in results_in([message]) if x != INTERRUPTED]
        group += [order.index(content) for content in given_ones]


@often
@given(st.data(), shapes)
def test_repairing_twice_changes_nothing_more(data: Any, shape: str) -> None:
    messages = repaired(data.draw(cut_turns(shape)))
    again = repaired(messages)
    assert again == messages
    assert all(a is b for a, b in zip(again, messages, strict=True))


@often
@given(st.data(), shapes)
def test_a_turn_that_went_well_is_the_same_messages(data: Any, shape: str) -> None:
    turn = data.draw(whole_turns(shape))
    assert list(VALIDATORS[shape](turn)) == []
    messages = repaired(turn)
    assert messages == turn
    assert all(a is b for a, b in zip(messages, turn, strict=True))


@often
@given(st.data(), shapes)
def test_messages_that_do_not_change_are_the_same_and_none_is_mutated(
    data: Any, shape: str
) -> None:
    turn = data.draw(cut_turns(shape))
    before = deepcopy(turn)
    messages = repaired(turn)
    assert turn == before
    assert all(any(m is x for x in turn) for m in messages if m in turn)


@often
@given(st.data(), shapes)
def test_messages_that_make_no_sense_become_valid_too_and_nothing_said_is_lost(
    data: Any, shape: str
) -> None:
    turn = data.draw(jumbled_turns(shape))
    messages = repaired(turn)
    assert list(VALIDATORS[shape]([user("before"), *messages, user("after")])) == []
    assert repaired(messages) == messages
    said = said_by("user", messages)
    strays = [x["text"] for x in said if x.get("text", "").startswith(STRAY)]
    assert [x for x in said if x.get("text") not in strays] == said_by("user", turn)
    assert said_by("assistant", messages) == said_by("assistant", turn)
    results = results_in(messages)
    for call, content in results_in(turn):
        is_stray = any(f'"content": "{content}"' in stray for stray in strays)
        assert is_stray or call in [id_ for id_, gave in results if gave != INTERRUPTED]


# -- Any rubbish. ----------------------------------------------------------------------------------

ids = st.sampled_from(["a", "b", "", None, 1])
junk: st.SearchStrategy[Any] = st.sampled_from([None, 0, 1, "", " ", "x", [], {}])
blocks: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "tool_use", "tool_result", "image"]) | junk},
    optional={"id": ids, "tool_use_id": ids, "text": junk, "content": junk},
)
rubbish: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"role": st.sampled_from(["assistant", "tool", "user", "system"]) | junk},
    optional={
        "content": junk | st.lists(blocks | junk, max_size=3),
        "tool_calls": junk | st.lists(blocks | junk, max_size=3),
        "tool_call_id": ids,
    },
)


@often
@given(st.lists(rubbish, max_size=6))
def test_nothing_crashes_it_and_twice_is_as_once(turn: list[Message]) -> None:
    before = deepcopy(turn)
    messages = repaired(turn)
    assert turn == before
    assert repaired(messages) == messages
