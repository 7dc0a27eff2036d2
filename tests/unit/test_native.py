"""A message keeps what a provider gave beside it, and nobody sees it who does not ask."""

import copy
import json
import pickle
from typing import Any

import pytest

from interruptible import Message
from interruptible._task.repair import repaired
from interruptible._wire.native import as_tasks_have, from_stored, neutral, to_stored
from interruptible._wire.output import output
from interruptible.formats import native, with_native

PLAIN: Message = {"role": "assistant", "content": "Hi."}
GIVEN: dict[str, Any] = {"z": [1, {"y": None}], "a": "Hi."}
KEPT: Message = {**PLAIN, "native": {"format": "x", "value": GIVEN}}


def test_it_is_the_neutral_message_to_everybody_else() -> None:
    message = with_native(PLAIN, "x", GIVEN)
    assert isinstance(message, dict)
    assert message == PLAIN == {**message} == dict(message) == message.copy()
    assert json.dumps(message) == json.dumps(PLAIN)
    assert (native(message, "x"), native(message, "y"), native(PLAIN, "x")) == (GIVEN, None, None)


def test_what_was_given_stays_as_it_is() -> None:
    before = dict(PLAIN)
    with_native(PLAIN, "x", GIVEN)["content"] = "Bye."
    assert before == PLAIN


def test_stored_it_is_a_key_and_comes_back_the_same() -> None:
    message = with_native(PLAIN, "x", GIVEN)
    assert json.dumps(to_stored(message)) == json.dumps(KEPT)
    assert output([PLAIN, [message, "text"], None]) == [PLAIN, KEPT, {**PLAIN, "content": "text"}]
    again = from_stored(json.loads(json.dumps(to_stored(message))))
    assert again == PLAIN
    assert json.dumps(native(again, "x")) == json.dumps(GIVEN)
    assert from_stored(PLAIN) is PLAIN


@pytest.mark.parametrize("copied", [dict, lambda x: {**x}, lambda x: x | {}, dict.copy])
def test_a_copy_has_none(copied: Any) -> None:
    assert to_stored(copied(with_native(PLAIN, "x", GIVEN))) == PLAIN


def test_one_that_was_changed_in_place_has_none_any_more() -> None:
    message = with_native({**PLAIN, "content": [{"type": "text", "text": "Hi."}]}, "x", GIVEN)
    message["content"][0]["text"] = "Bye."
    assert native(message, "x") is None
    assert to_stored(message) == {**PLAIN, "content": [{"type": "text", "text": "Bye."}]}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])  # noqa: S301
def test_the_same_message_elsewhere_keeps_it(copied: Any) -> None:
    assert native(copied(with_native(PLAIN, "x", GIVEN)), "x") == GIVEN


def test_a_key_of_that_name_that_is_none_of_ours_stays() -> None:
    for value in ("x", None, {"format": "x"}, {"format": "x", "value": 1, "more": 2}):
        mine = {**PLAIN, "native": value}
        assert from_stored(mine) is mine
        assert neutral({"messages": [mine]}) == {"messages": [mine]}


def test_a_record_is_opened_for_tasks_and_neutral_for_others() -> None:
    record = {"turn": 1, "messages": [PLAIN, KEPT]}
    assert neutral(record) == as_tasks_have(record) == {"turn": 1, "messages": [PLAIN, PLAIN]}
    assert native(as_tasks_have(record)["messages"][1], "x") == GIVEN
    assert native(neutral(record)["messages"][1], "x") is None


def test_repair_keeps_it_with_what_it_does_not_change_and_with_nothing_else() -> None:
    calling = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    form = {"native": {"format": "x", "value": GIVEN}}
    messages: list[Message] = [
        {"role": "assistant", "content": None, "tool_calls": [calling, calling], **form},
        {"role": "assistant", "content": None, "tool_calls": [calling], **form},
        {"role": "tool", "tool_call_id": "a", "content": "42", **form},
    ]
    fit = repaired(messages).messages
    assert ["native" in message for message in fit] == [False, False, True, True]
    assert fit[2] is messages[1]
