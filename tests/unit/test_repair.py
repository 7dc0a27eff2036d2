"""What a turn put out is fit for a model again, wherever the turn was cut off."""

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interruptible import Message
from interruptible._task.repair import CUT_OFF, INTERRUPTED, NOTHING, STRAY
from interruptible.formats import _dialects

from . import oracles
from .oracles import ORACLES
from .turns import (
    IMAGE,
    REDACTED,
    SAYS,
    THINKING,
    UNSIGNED,
    assistant,
    calling,
    cut_result,
    cut_tool,
    found,
    function,
    half,
    legacy,
    named,
    naming,
    often,
    reasoning,
    repaired,
    result,
    searching,
    text,
    to_use,
    tool,
    tool_use,
    used,
    user,
    using,
)

# -- The oracles. ----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("arguments", ['{"x": NaN}', "[]x", "[1]", "1", "false", '"x"', "{" * 2000])
def test_arguments_that_are_no_json_object_are_no_call(arguments: str) -> None:
    assert repaired([assistant("1", tool_calls=[half("a", arguments)])]) == [assistant("1")]


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
