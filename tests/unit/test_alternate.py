"""Roles that alternate, for models whose chat template insists on it."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interruptible import Message
from interruptible._task import repair
from interruptible.formats import alternating
from interruptible.formats._alternate import BETWEEN

from . import oracles
from .turns import (
    assistant,
    calling,
    cut_turns,
    function,
    often,
    refused,
    result,
    text,
    tool,
    used,
    user,
    using,
    without_native,
)

NOTE = user("[I interrupted you.]")


def system(said: str) -> Message:
    return {"role": "system", "content": said}


@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        ([user("1"), user("2")], "M2"),
        ([user("1"), assistant("2"), assistant("3")], "M2"),
        ([assistant("1")], "M2"),
        ([user("1"), calling("a"), tool("a", "x"), user("2")], "M3"),
        ([user("1"), assistant("2"), calling("a"), tool("a", "x"), assistant("3")], "M2"),
        ([system("1"), system("2"), user("3")], "M1"),
        ([user("1"), system("2"), assistant("3")], "M1"),
    ],
)
def test_the_oracle_finds_what_is_wrong_and_it_is_mended(
    messages: list[Message], rule: str
) -> None:
    assert rule in [complaint[:2] for complaint in oracles.alternating(messages)]
    assert list(oracles.alternating(alternating(messages))) == []


def test_what_an_interruption_leaves_becomes_one_message() -> None:
    assert alternating([user("go"), NOTE, user("stop")]) == [
        user("go\n\n[I interrupted you.]\n\nstop")
    ]


def test_behind_a_result_of_a_tool_something_of_the_assistant_stands() -> None:
    messages = [user("go"), calling("a"), tool("a", "x"), NOTE, user("stop")]
    assert alternating(messages) == [
        *messages[:3],
        assistant(BETWEEN),
        user("[I interrupted you.]\n\nstop"),
    ]


def test_text_and_parts_are_joined_as_parts() -> None:
    image = {"type": "image", "source": {}}
    assert alternating([user([image]), user("1"), user([text("2")])]) == [
        user([image, text("1"), text("2")])
    ]
    assert alternating([using("a"), user([result("a", "x")]), NOTE])[1:] == [
        using("a"),
        user([result("a", "x"), text(str(NOTE["content"]))]),
    ]
    of_converse = [user([used("a", [{"text": "x"}])]), user("1")]
    assert alternating(of_converse) == [user([used("a", [{"text": "x"}]), {"text": "1"}])]


def test_what_the_assistant_said_and_called_is_joined() -> None:
    one = assistant("1", reasoning_content="a", name="x", images=["i"])
    other = assistant(
        None, reasoning_content="b", name="y", images=["j"], tool_calls=[function("a")]
    )
    assert alternating([user("0"), one, other, tool("a", "x")]) == [
        user("0"),
        {
            **assistant("1", reasoning_content="a\n\nb", name="y", images=["i", "j"]),
            "tool_calls": [function("a")],
        },
        tool("a", "x"),
    ]


def test_of_systems_the_first_are_one_and_later_ones_are_the_users() -> None:
    developer = {"role": "developer", "content": "3"}
    assert alternating([system("1"), system("2"), user("x"), developer, assistant("y")]) == [
        system("1\n\n2"),
        user("x\n\n3"),
        assistant("y"),
    ]


def test_what_is_joined_has_no_native_form_and_what_is_not_keeps_it() -> None:
    native = {"native": {"format": "x", "value": 1}}
    alone = {**assistant("1"), **native}
    joined = alternating([alone, {**user("2"), **native}, {**user("3"), **native}])
    assert joined == [user(BETWEEN), alone, user("2\n\n3")]
    assert joined[1] is alone


def said(messages: list[Message]) -> str:
    """All the text, without what joins it and what only stands in between."""
    texts = []
    for message in messages:
        content: Any = message["content"]
        blocks = [text(content)] if isinstance(content, str) else content or []
        texts += [x["text"] for x in blocks if "text" in x]
    return "".join("".join(texts).replace(BETWEEN, "").split())


@often
@given(st.data(), st.sampled_from(["openai", "ollama", "anthropic", "converse"]))
def test_any_conversation_alternates_and_is_accepted_and_says_the_same(
    data: Any, dialect: str
) -> None:
    messages: list[Message] = []
    for _ in range(data.draw(st.integers(1, 3))):
        turn = repair.repaired(data.draw(cut_turns(dialect))).messages
        messages += [user("begin"), *turn, *([NOTE] if data.draw(st.booleans()) else [])]
    before = deepcopy(messages)
    done = alternating(messages)
    assert messages == before
    assert list(oracles.alternating(done)) == []
    assert refused(dialect, done) == []
    assert said(without_native(done)) == said(messages)
    again = alternating(done)
    assert all(a is b for a, b in zip(again, done, strict=True))
