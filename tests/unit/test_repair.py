"""What a turn put out is fit for a model again, wherever the turn was cut off."""

import json
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interruptible import Message, _dialects, _repair
from interruptible._repair import CUT_OFF, INTERRUPTED, NOT_BEGUN, NOTHING, STRAY

from . import oracles
from .oracles import ORACLES

often = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine is no failure


def repaired(turn: Sequence[Message], outputs: Sequence[tuple[str, str]] = ()) -> list[Message]:
    return _repair.repaired(turn, outputs).messages


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


# -- The oracles. ----------------------------------------------------------------------------------


def legacy(name: str = "f", arguments: str = "{}") -> Message:
    return assistant(None, function_call={"name": name, "arguments": arguments})


def naming(*names: str) -> Message:
    """A message of Ollama's."""
    calls = [{"function": {"name": name, "arguments": {}}} for name in names]
    return assistant("", tool_calls=calls)


def named(name: str, content: str) -> Message:
    return {"role": "tool", "tool_name": name, "content": content}


def half(call: str, arguments: str) -> Message:
    return {"id": call, "type": "function", "function": {"name": "f", "arguments": arguments}}


def searching(call: str) -> Message:
    return {"type": "server_tool_use", "id": call, "name": "web_search", "input": {"query": "x"}}


def found(call: str) -> Message:
    return {"type": "web_search_tool_result", "tool_use_id": call, "content": []}


def to_use(*calls: str, said: Sequence[Message] = ()) -> Message:
    """A message of Converse's."""
    uses = [{"toolUse": {"toolUseId": call, "name": "f", "input": {}}} for call in calls]
    return assistant([*said, *uses])


def used(call: str, content: Any, **more: Any) -> Message:
    return {"toolResult": {"toolUseId": call, "content": content, **more}}


def reasoning(signature: str = "x") -> Message:
    return {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": signature}}}


UNSIGNED = {"type": "thinking", "thinking": "Hm"}
REDACTED = {"type": "redacted_thinking", "data": "x"}
SAYS = {"text": "1"}
REFUSED: list[tuple[str, list[Message], str]] = [
    ("openai", [calling("a")], "O1"),
    ("openai", [calling("a"), user("?")], "O1"),
    ("openai", [calling("a", "b"), tool("a", "1"), user("?")], "O1"),
    ("openai", [calling("a"), user("?"), tool("a", "1")], "O1"),
    ("openai", [tool("a", "1")], "O2"),
    ("openai", [calling("a"), tool("a", "1"), tool("a", "1")], "O2"),
    ("openai", [calling("a"), tool("b", "1")], "O2"),
    ("openai", [calling("a", "a"), tool("a", "1")], "O3"),
    ("openai", [calling()], "O3"),
    ("openai", [assistant("x", tool_calls=None)], "O3"),
    ("openai", [assistant(None, tool_calls=[half("a", '{"x": ')]), tool("a", "1")], "O4"),
    ("openai", [assistant(None, tool_calls=[half("a", "")]), tool("a", "1")], "O4"),
    ("openai", [assistant(None, tool_calls=[half("a", "[]")]), tool("a", "1")], "O4"),
    ("openai", [calling("a"), tool("a", None)], "O5"),
    ("openai", [calling("a"), tool("a", [])], "O5"),
    ("openai", [assistant(None)], "O5"),
    ("openai", [assistant([])], "O5"),
    ("openai", [calling("a", content=[]), tool("a", "1")], "O5"),
    ("openai", [assistant(" ")], "O5"),
    ("openai", [legacy()], "O6"),
    ("openai", [legacy(), user("?")], "O6"),
    ("openai", [{"role": "function", "name": "f", "content": "1"}], "O6"),
    ("ollama", [naming("f", "g"), named("f", "1")], "L1"),
    ("ollama", [naming("f", "g"), named("g", "1"), named("f", "1")], "L1"),
    ("ollama", [naming("f"), user("?"), named("f", "1")], "L1"),
    ("anthropic", [using("a")], "A1"),
    ("anthropic", [using("a"), user("?")], "A1"),
    ("anthropic", [using("a", "b"), user([result("a", "1")])], "A1"),
    ("anthropic", [using("a", "b"), user([result("a", "")]), user([result("b", "")])], "A1"),
    ("anthropic", [using("a"), user("?"), user([result("a", "1")])], "A1"),
    ("anthropic", [using("a"), user([text("?"), result("a", "1")])], "A1"),
    ("anthropic", [using("a"), user([result("a", "1"), result("a", "1")])], "A2"),
    ("anthropic", [using("a", "a"), user([result("a", "1")])], "A2"),
    ("anthropic", [user([result("a", "1")])], "A3"),
    ("anthropic", [using("a"), user([result("a", "1"), result("b", "1")])], "A3"),
    ("anthropic", [assistant([result("a", "1")])], "A3"),
    ("anthropic", [assistant([])], "A4"),
    ("anthropic", [assistant("")], "A4"),
    ("anthropic", [assistant([text("x"), text(" ")])], "A4"),
    ("anthropic", [using("a"), user([result("a", [text("")])])], "A4"),
    ("anthropic", [assistant([UNSIGNED, text("x")])], "A5"),
    ("anthropic", [assistant([THINKING])], "A6"),
    ("anthropic", [assistant([text("x"), REDACTED])], "A6"),
    ("anthropic", [assistant([searching("s"), text("x")])], "A7"),
    ("anthropic", [assistant([searching("s")]), user("?"), assistant([found("s")])], "A7"),
    ("anthropic", [assistant([text("x"), found("s")])], "A8"),
    ("anthropic", [assistant([found("s"), searching("s")])], "A8"),
    ("anthropic", [assistant([{**tool_use("a"), "input": "{"}]), user([result("a", "1")])], "A9"),
    ("converse", [to_use("a")], "B1"),
    ("converse", [to_use("a"), user([SAYS, used("a", [SAYS])])], "B1"),
    ("converse", [to_use("a", "b"), user([used("a", [SAYS])])], "B1"),
    ("converse", [user([used("a", [SAYS])])], "B1"),
    ("converse", [assistant([{"text": " "}])], "B2"),
    ("converse", [to_use("a"), user([used("a", [{"text": ""}])])], "B2"),
    ("converse", [assistant([reasoning(), SAYS, reasoning()])], "B3"),
    ("converse", [assistant([reasoning(""), SAYS])], "B3"),
    ("converse", [to_use("a"), user([used("a", "1")])], "B4"),
    ("converse", [assistant([{"toolUse": {"toolUseId": "a", "name": "f"}}])], "B4"),
]
FOREIGN: list[tuple[str, list[Message], str]] = [
    ("anthropic", [user([tool_use("a")])], "A3"),
    ("anthropic", [calling("a")], "A4"),
    ("anthropic", [using("a"), tool("a", "1")], "A4"),
]
"""What no agent puts out in this dialect."""


@pytest.mark.parametrize(("dialect", "messages", "rule"), [*REFUSED, *FOREIGN])
def test_an_oracle_finds_what_is_wrong(dialect: str, messages: list[Message], rule: str) -> None:
    assert rule in [complaint.partition(":")[0] for complaint in ORACLES[dialect](messages)]


@pytest.mark.parametrize(("dialect", "messages", "rule"), REFUSED)
def test_repair_mends_what_an_oracle_finds(
    dialect: str, messages: list[Message], rule: str
) -> None:
    mended = repaired(messages)
    assert list(ORACLES[dialect]([user("before"), *mended, user("after")])) == [], rule
    assert all(a is b for a, b in zip(repaired(mended), mended, strict=True))


def test_each_rule_has_its_source_and_is_in_an_oracle() -> None:
    rules = set(re.findall(r"^- ([A-Z]\d):", str(_dialects.__doc__), re.MULTILINE))
    asked = set(re.findall(r'f?"([OLAB]\d): ', Path(oracles.__file__).read_text()))
    assert rules == asked
    for rule in re.split(r"^- ", str(_dialects.__doc__), flags=re.MULTILINE)[1:]:
        assert re.search(r"\w\.\w+/|Param`|as A\d", rule), rule


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


@pytest.mark.parametrize(
    "more",
    [
        {"images": ["aGk="]},
        {"reasoning_content": "Hm."},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
        {"thinking": "Hm."},
    ],
)
@pytest.mark.parametrize("content", ["", None])
def test_what_says_something_beside_its_content_is_kept(content: Any, more: Message) -> None:
    message = assistant(content, **more)
    assert repaired([message])[0] is message


def test_of_thinking_what_is_signed_stays_as_it_is_and_what_is_not_goes() -> None:
    blocks = [THINKING, REDACTED, text("1"), UNSIGNED, THINKING, text("2")]
    assert repaired([assistant([*blocks, THINKING, text(" "), REDACTED])]) == [
        assistant([THINKING, REDACTED, text("1"), THINKING, text("2")])
    ]
    assert repaired([assistant([THINKING, text(" ")]), assistant([UNSIGNED])]) == []
    mistrals = assistant([{"type": "thinking", "thinking": [text("Hm.")]}, text("1")])
    assert repaired([mistrals])[0] is mistrals
    assert (
        repaired([assistant([reasoning(""), {"reasoningContent": {"redactedContent": "x"}}])]) == []
    )


def test_a_use_of_the_providers_own_tool_needs_its_result_and_the_other_way_round() -> None:
    pair = assistant([searching("s"), found("s"), text("1")])
    assert repaired([pair])[0] is pair
    assert repaired([assistant([searching("s"), text("1")])]) == [assistant([text("1")])]
    assert repaired([assistant([found("s"), text("1")]), assistant([searching("s")])]) == [
        assistant([text("1")])
    ]
    used_by_mcp = {"type": "mcp_tool_use", "id": "m", "name": "f", "server_name": "x", "input": {}}
    of_mcp = {"type": "mcp_tool_result", "tool_use_id": "m", "is_error": False, "content": []}
    whole = assistant([used_by_mcp, of_mcp, text("1")])
    assert repaired([whole])[0] is whole
    assert repaired([assistant([used_by_mcp])]) == []
    half_said = {**searching("s"), "input": "{"}
    assert repaired([assistant([half_said, found("s"), text("1")])]) == [assistant([text("1")])]


def test_its_result_may_come_once_the_calls_beside_it_are_answered() -> None:
    both = assistant([searching("s"), tool_use("a")])
    late = assistant([found("s"), text("1")])
    whole = [both, user([result("a", "x")]), late]
    assert all(a is b for a, b in zip(repaired(whole), whole, strict=True))
    assert repaired(whole[:2]) == [using("a"), whole[1]]
    assert repaired([both, user([result("a", "x"), text("?")]), late]) == [
        using("a"),
        user([result("a", "x"), text("?")]),
        assistant([text("1")]),
    ]


def test_arguments_that_are_half_said_are_no_call() -> None:
    cut = assistant("1", tool_calls=[half("a", "{}"), half("b", '{"path": "/')])
    assert repaired([cut]) == [calling("a", content="1"), cut_tool("a")]
    assert repaired([assistant(None, tool_calls=[half("b", '{"path": "/')])]) == []
    assert repaired([assistant([{**tool_use("a"), "input": '{"pa'}])]) == []
    assert repaired([legacy(arguments="{")]) == []


def test_arguments_that_are_half_said_and_have_a_result_are_kept_as_what_they_are() -> None:
    cut = assistant(None, tool_calls=[half("b", '{"path": "/')])
    assert repaired([cut, tool("b", "That is no JSON.")]) == [
        assistant(None, tool_calls=[half("b", '{"malformed": "{\\"path\\": \\"/"}')]),
        tool("b", "That is no JSON."),
    ]
    cut = assistant([{**tool_use("b"), "input": '{"pa'}])
    assert repaired([cut, user([result("b", "No.")])]) == [
        assistant([{**tool_use("b"), "input": {"malformed": '{"pa'}}]),
        user([result("b", "No.")]),
    ]


@pytest.mark.parametrize("arguments", ["", " ", None, "null"])
def test_no_arguments_are_an_empty_object(arguments: Any) -> None:
    assert repaired([assistant(None, tool_calls=[half("a", arguments)]), tool("a", "1")]) == [
        calling("a"),
        tool("a", "1"),
    ]


def test_a_function_call_is_answered_by_a_function() -> None:
    given = {"role": "function", "name": "f", "content": "1"}
    assert repaired([legacy(), user("?"), given]) == [legacy(), given, user("?")]
    assert repaired([legacy()]) == [
        legacy(),
        {"role": "function", "name": "f", "content": INTERRUPTED},
    ]
    assert repaired([given]) == [user(STRAY + json.dumps(given))]


def test_calls_without_an_id_are_answered_by_their_names_and_in_their_order() -> None:
    messages = [naming("f", "g", "f"), named("g", "1"), user("?"), named("f", "2")]
    assert repaired(messages) == [
        naming("f", "g", "f"),
        named("f", "2"),
        named("g", "1"),
        named("f", INTERRUPTED),
        user("?"),
    ]
    assert repaired([naming("f"), {"role": "tool", "content": "1"}]) == [
        naming("f"),
        {"role": "tool", "content": "1"},
    ]
    assert repaired([named("f", "1")]) == [user(STRAY + json.dumps(named("f", "1")))]
    with_id = naming("f")
    with_id["tool_calls"][0]["id"] = "a"
    assert repaired([with_id, named("f", "1")]) == [with_id, named("f", "1")]
    assert repaired([with_id]) == [with_id, {**named("f", INTERRUPTED), "tool_call_id": "a"}]


def test_calls_of_converse_get_results_like_the_others() -> None:
    cut = used("b", [{"text": INTERRUPTED}], status="error")
    assert repaired([to_use("a", "b"), user("?"), user([SAYS, used("a", [SAYS])])]) == [
        to_use("a", "b"),
        user([used("a", [SAYS]), cut]),
        user("?"),
        user([SAYS]),
    ]
    assert repaired([user([used("a", [SAYS])])]) == [
        user([{"text": STRAY + json.dumps(used("a", [SAYS]))}])
    ]
    assert repaired([to_use("a", "b"), user([used("a", "x"), used("b", [{"text": " "}])])]) == [
        to_use("a", "b"),
        user([used("a", [{"text": "x"}]), used("b", [{"text": NOTHING}])]),
    ]


def test_a_message_that_changes_has_no_native_form_any_more() -> None:
    native: Message = {"native": {"format": "x", "value": 1}}
    kept = [{**calling("a"), **native}, {**tool("a", "1"), **native}, {**user("2"), **native}]
    assert all(a is b for a, b in zip(repaired(kept), kept, strict=True))
    lost = [{**calling("a", content=[]), **native}, {**tool("a", None), **native}]
    stray = {**tool("b", "1"), **native}
    assert repaired([*lost, {**user([text("2"), text("")]), **native}, stray]) == [
        calling("a"),
        tool("a", "null"),
        user([text("2")]),
        user(STRAY + json.dumps(tool("b", "1"))),
    ]


# -- Any turn, cut off anywhere. -------------------------------------------------------------------


class Script:
    """Writes a turn in a dialect; each text and each result that it writes is another one."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any], dialect: str) -> None:
        self.draw = draw
        self.dialect = dialect
        self.has_blocks = dialect in {"anthropic", "converse"}
        self.messages: list[Message] = []
        self.open: list[tuple[str, str]] = []
        """The calls without a result: their ids and names."""
        self.written = 0

    def write(self) -> str:
        self.written += 1
        return str(self.written)

    def text(self, said: str) -> Message:
        return {"text": said} if self.dialect == "converse" else text(said)

    def put(self, message: Message) -> None:
        """Put out a message, perhaps with its native form."""
        native = {"native": {"format": "x", "value": self.write()}}
        keeps = self.dialect != "anthropic" and self.draw(st.booleans())
        self.messages.append({**message, **native} if keeps else message)

    def says(self, *, whole: bool) -> None:
        """The assistant says something, calls tools, or both."""
        unique = self.dialect != "ollama"  # there, calls have no ids
        names = self.draw(st.lists(st.sampled_from("abcd"), unique=unique, max_size=3))
        said = [self.text(self.write()) for _ in range(self.draw(st.integers(not names, 2)))]
        if not whole and self.draw(st.booleans()):
            said.insert(self.draw(st.integers(0, len(said))), self.text(self.draw(blank)))
        calls = [(name, name) for name in names]
        if self.has_blocks:
            self.put(assistant(self.blocks(said, names, whole=whole)))
        elif self.dialect == "ollama":
            told: Message = {"thinking": "Hm."} if self.draw(st.booleans()) else {}
            content = "".join(block["text"] for block in said)
            self.put({**naming(*names), **told} if names else assistant(content, **told))
            calls = [("", name) for name in names]
        else:
            self.put(self.chat(said, names, whole=whole))
        self.open += calls

    def chat(self, said: list[Message], names: list[str], *, whole: bool) -> Message:
        plain: Any = "".join(block["text"] for block in said) or self.draw(nothing)
        content = said if said and self.draw(st.booleans()) else plain
        reasons = {"reasoning_content": "Hm."} if self.draw(st.booleans()) else {}
        if not names:
            return assistant(content, **reasons)
        arguments = st.just('{"x": 1}') if whole else st.sampled_from(['{"x": 1}', '{"x": ', ""])
        calls = [half(name, self.draw(arguments)) for name in names]
        return assistant(content, tool_calls=calls, **reasons)

    def blocks(self, said: list[Message], names: list[str], *, whole: bool) -> list[Message]:
        converse = self.dialect == "converse"
        given: Any = st.just({}) if whole else st.sampled_from([{}, '{"x": ', '{"x": 1}', None])
        uses: list[Message] = []
        for name in names:
            use = {"name": name, "input": self.draw(given)}
            as_block = {"toolUse": {"toolUseId": name, **use}}
            uses.append(as_block if converse else {"type": "tool_use", "id": name, **use})
        searches: list[Message] = []
        if not converse and self.draw(st.booleans()):
            search = self.write()
            searches = [searching(search), found(search)]
            if not whole:
                searches = searches[self.draw(st.integers(0, 1)) :][: self.draw(st.integers(0, 2))]
        blocks = [*searches, *said, *uses]
        signed = [reasoning()] if converse else [THINKING, REDACTED]
        unsigned = [reasoning("")] if converse else [UNSIGNED]
        thinking = self.draw(st.lists(st.sampled_from(signed if whole else signed + unsigned)))
        for block in thinking[:3]:
            at = self.draw(st.integers(0, len(blocks) - 1 if whole else len(blocks)))
            blocks.insert(at, block)
        return blocks

    def steers(self, *, whole: bool) -> None:
        """The user says something."""
        image = {"image": {"format": "png"}} if self.dialect == "converse" else IMAGE
        parts = [self.text(self.write()), image]
        parts += [] if whole else [self.text(self.draw(blank))]
        content = [
            self.write(),
            *([self.draw(st.permutations(parts))] * (self.dialect != "ollama")),
        ]
        self.put(user(self.draw(st.sampled_from(content))))

    def gives(self, calls: Sequence[tuple[str, str]], *, whole: bool) -> None:
        """The tools give results; as blocks in one message."""
        given = [(call, name, self.write()) for call, name in calls]
        if self.dialect == "openai":
            for call, _, content in given:
                self.put(tool(call, content))
        elif self.dialect == "ollama":
            for _, name, content in given:
                self.put(named(name, content))
        else:
            rest = [self.text(self.write()) for _ in range(self.draw(st.integers(0, 2)))]
            blocks = [
                used(call, [{"text": content}])
                if self.dialect == "converse"
                else result(call, content)
                for call, _, content in given
            ] + rest
            self.put(user(blocks if whole else self.draw(st.permutations(blocks))))
        for call in calls:
            self.open.remove(call)


blank = st.sampled_from(["", " ", "\n"])
nothing = st.sampled_from([None, ""])
dialects = st.sampled_from(list(ORACLES))


@st.composite
def whole_turns(draw: Any, dialect: str) -> list[Message]:
    """A turn that went well: each call has its result in its place."""
    script = Script(draw, dialect)
    for _ in range(draw(st.integers(0, 4))):
        script.says(whole=True)
        if script.open:
            in_order = dialect == "ollama"
            calls = script.open if in_order else draw(st.permutations(script.open))
            script.gives(list(calls), whole=True)
        while draw(st.integers(0, 2)) == 0:
            script.steers(whole=True)
    return script.messages


@st.composite
def disordered_turns(draw: Any, dialect: str) -> list[Message]:
    """A turn with its results late and split, and the user's messages anywhere."""
    script = Script(draw, dialect)
    for _ in range(draw(st.integers(0, 8))):
        step = draw(st.sampled_from(["says", "steers", "gives", "gives"]))
        if step == "says":
            script.says(whole=False)
        elif step == "steers":
            script.steers(whole=False)
        elif script.open:
            calls = draw(st.permutations(script.open))
            script.gives(calls[: draw(st.integers(1, len(calls)))], whole=False)
    return script.messages


@st.composite
def cut_turns(draw: Any, dialect: str) -> list[Message]:
    """A turn that was cut off after any message, or within one."""
    turn: list[Message] = draw(whole_turns(dialect) | disordered_turns(dialect))
    turn = turn[: draw(st.integers(0, len(turn)))]
    for key in ("content", "tool_calls"):
        if turn and isinstance(turn[-1].get(key), list):
            turn[-1] = {**turn[-1], key: turn[-1][key][: draw(st.integers(0, len(turn[-1][key])))]}
    return turn


@st.composite
def jumbled_turns(draw: Any, dialect: str) -> list[Message]:
    """Messages of a turn in any order, some twice and some not at all."""
    turn = draw(cut_turns(dialect))
    jumbled: list[Message] = draw(
        st.lists(st.sampled_from(turn), max_size=8) if turn else st.just([])
    )
    return jumbled


outputs = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["x", "y\n"])), max_size=3)
"""What had come of calls that were cut off."""

NO_WORDS = {
    *("tool_use", "tool_result", "toolUse", "toolResult"),
    *("thinking", "redacted_thinking", "reasoningContent"),
    *("server_tool_use", "web_search_tool_result"),
}


def without_native(messages: Sequence[Message]) -> list[Message]:
    """What a provider is sent of them."""
    return [{key: x for key, x in each.items() if key != "native"} for each in messages]


def refused(dialect: str, messages: Sequence[Message]) -> list[str]:
    """Why a conversation with these messages is refused."""
    return list(ORACLES[dialect](without_native([user("before"), *messages, user("after")])))


def blocks_of(message: Message) -> list[Message]:
    content: Any = message.get("content")
    return [text(content)] if isinstance(content, str) else content or []


def said_by(role: str, messages: Sequence[Message]) -> list[Message]:
    """Every text of one role that is not empty, and what else it put in, in order."""
    return [
        block
        for message in messages
        for block in blocks_of(message)
        if message["role"] == role
        and _dialects.type_of(block) not in NO_WORDS
        and (_dialects.type_of(block) != "text" or block["text"].strip())
    ]


def results_in(messages: Sequence[Message]) -> list[tuple[str, Any]]:
    """The results, by the id or the name of their call, in order."""
    found: list[tuple[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            call = message.get("tool_call_id") or message.get("tool_name")
            found.append((str(call), message["content"]))
        for block in blocks_of(message):
            if block.get("type") == "tool_result":
                found.append((block["tool_use_id"], block["content"]))
            elif "toolResult" in block:
                (said,) = block["toolResult"]["content"]
                found.append((block["toolResult"]["toolUseId"], said["text"]))
    return found


def calls_in(messages: Sequence[Message]) -> list[tuple[str, Any]]:
    """The calls by their ids or names, and their arguments, in order."""
    calls: list[tuple[str, Any]] = []
    for message in messages:
        calls += [
            (x.get("id") or x["function"]["name"], x["function"]["arguments"])
            for x in message.get("tool_calls", [])
        ]
        for block in blocks_of(message):
            use = {"id": block.get("toolUse", {}).get("toolUseId"), **block.get("toolUse", block)}
            if block.get("type") == "tool_use" or "toolUse" in block:
                calls.append((use["id"], use["input"]))
    return calls


def is_half(arguments: Any) -> bool:
    return arguments == '{"x": '


MALFORMED = ({"malformed": '{"x": '}, json.dumps({"malformed": '{"x": '}))
"""What stands for half-said arguments of a call that has a result all the same."""


@often
@given(st.data(), dialects)
def test_a_turn_that_was_cut_off_is_accepted_by_its_provider(data: Any, dialect: str) -> None:
    given_ones = data.draw(outputs) if dialect != "ollama" else []
    turn = data.draw(cut_turns(dialect))
    calls = [call for call, _ in calls_in(turn)]
    messages = repaired(turn, [x for x in given_ones if x[0] in calls])
    assert refused(dialect, messages) == []


@often
@given(st.data(), dialects)
def test_what_was_said_is_there_once_and_in_its_order(data: Any, dialect: str) -> None:
    turn = data.draw(cut_turns(dialect))
    messages = repaired(turn)
    assert said_by("user", messages) == said_by("user", turn)
    assert said_by("assistant", messages) == said_by("assistant", turn)
    whole = [call for call, arguments in calls_in(turn) if not is_half(arguments)]
    kept = [call for call, arguments in calls_in(messages) if arguments not in MALFORMED]
    assert kept == whole


@often
@given(st.data(), dialects)
def test_each_result_is_there_once_and_calls_without_one_are_interrupted(
    data: Any, dialect: str
) -> None:
    turn = data.draw(cut_turns(dialect))
    messages = repaired(turn)
    results = results_in(messages)
    given_ones = [x for x in results if x[1] != INTERRUPTED]
    assert sorted(given_ones) == sorted(results_in(turn))
    assert sorted(call for call, _ in results) == sorted(call for call, _ in calls_in(messages))


@often
@given(st.data(), dialects, outputs)
def test_what_had_come_of_a_call_that_was_cut_off_is_its_result_and_it_is_named(
    data: Any, dialect: str, given_ones: list[tuple[str, str]]
) -> None:
    turn = data.draw(cut_turns(dialect))
    done = _repair.repaired(turn, given_ones, begun=lambda _: False)
    cut = [call for call, content in results_in(done.messages) if content.endswith(CUT_OFF)]
    assert set(done.cut_off) == set(cut)
    never = [call for call, content in results_in(done.messages) if content == NOT_BEGUN]
    assert set(done.not_begun) == set(never if dialect != "ollama" else [])
    texts = json.dumps(done.messages)
    for call in {call for call, _ in given_ones} - set(cut):
        answered = call in [x for x, _ in results_in(turn)]
        assert answered or json.dumps(STRAY)[1:-1] in texts


@often
@given(st.data(), dialects.filter(lambda dialect: dialect != "ollama"))
def test_results_of_one_message_stay_in_their_order(data: Any, dialect: str) -> None:
    turn = data.draw(cut_turns(dialect))
    order = [content for _, content in results_in(turn)]
    group: list[int] = []
    for message in [*repaired(turn), assistant("x")]:
        if message["role"] == "assistant":
            assert group == sorted(group)
            group = []
        given_ones = [x for _, x in results_in([message]) if x != INTERRUPTED]
        group += [order.index(content) for content in given_ones]


@often
@given(st.data(), dialects)
def test_repairing_twice_changes_nothing_more(data: Any, dialect: str) -> None:
    messages = repaired(data.draw(cut_turns(dialect)))
    again = repaired(messages)
    assert again == messages
    assert all(a is b for a, b in zip(again, messages, strict=True))


@often
@given(st.data(), dialects)
def test_a_turn_that_went_well_is_the_same_messages(data: Any, dialect: str) -> None:
    turn = data.draw(whole_turns(dialect))
    assert refused(dialect, turn) == []
    messages = repaired(turn)
    assert messages == turn
    assert all(a is b for a, b in zip(messages, turn, strict=True))


@often
@given(st.data(), dialects)
def test_what_does_not_change_is_the_same_what_does_has_no_native_and_nothing_is_mutated(
    data: Any, dialect: str
) -> None:
    turn = data.draw(cut_turns(dialect))
    before = deepcopy(turn)
    messages = repaired(turn)
    assert turn == before
    for message in messages:
        is_same = any(message is x for x in turn)
        assert is_same or message not in turn
        assert is_same or "native" not in message


@often
@given(st.data(), dialects)
def test_messages_that_make_no_sense_become_valid_too_and_nothing_said_is_lost(
    data: Any, dialect: str
) -> None:
    turn = data.draw(jumbled_turns(dialect))
    messages = repaired(turn)
    assert refused(dialect, messages) == []
    assert repaired(messages) == messages
    said = said_by("user", messages)
    strays = [x["text"] for x in said if x.get("text", "").startswith(STRAY)]
    assert [x for x in said if x.get("text") not in strays] == said_by("user", turn)
    assert said_by("assistant", messages) == said_by("assistant", turn)
    results = results_in(messages)
    for call, content in results_in(turn):
        is_stray = any(f'"{content}"' in stray for stray in strays)
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
