"""Items of OpenAI's Responses API come back as they were, and fit however a turn was cut off."""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseInputItemParam,
    ResponseReasoningItem,
)
from pydantic import TypeAdapter, ValidationError

from interruptible import Message
from interruptible._task.repair import INTERRUPTED, repaired
from interruptible._wire.native import from_stored, to_stored
from interruptible.formats import native
from interruptible.formats.responses import from_messages, to_messages

Item = dict[str, Any]

often = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine is no failure


def user(content: Any) -> Item:
    return {"role": "user", "content": content}


def reasoning(name: str) -> Item:
    summary = [{"type": "summary_text", "text": "Hm."}]
    return {"id": f"rs_{name}", "type": "reasoning", "summary": summary, "encrypted_content": "gAA"}


def message(name: str, *texts: str, **more: Any) -> Item:
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {
        "id": f"msg_{name}",
        "type": "message",
        "role": "assistant",
        "content": content,
        "status": "completed",
        **more,
    }


def function(name: str, arguments: str = '{"a": 1}', **more: Any) -> Item:
    ids = {"id": f"fc_{name}", "type": "function_call", "call_id": f"call_{name}"}
    return {**ids, "name": "f", "arguments": arguments, "status": "completed", **more}


def custom(name: str) -> Item:
    ids = {"id": f"ctc_{name}", "type": "custom_tool_call", "call_id": f"call_{name}"}
    return {**ids, "name": "sh", "input": "ls", "status": "completed"}


def computer(name: str) -> Item:
    ids = {"id": f"cu_{name}", "type": "computer_call", "call_id": f"call_{name}"}
    click = {"type": "click", "button": "left", "x": 1, "y": 2}
    return {**ids, "action": click, "pending_safety_checks": [], "status": "completed"}


def patch(name: str) -> Item:
    ids = {"id": f"apc_{name}", "type": "apply_patch_call", "call_id": f"call_{name}"}
    return {**ids, "operation": {"type": "delete_file", "path": "x"}, "status": "completed"}


def hosted(name: str) -> Item:
    query = {"type": "search", "query": "tea"}
    return {"id": f"ws_{name}", "type": "web_search_call", "action": query, "status": "completed"}


def output(call: Item, said: Any = "42") -> Item:
    values = {
        "computer_call": {"type": "computer_screenshot", "image_url": "data:image/png;base64,AA"},
        "apply_patch_call": None,
    }
    result = {"call_id": call["call_id"], "type": f"{call['type']}_output"}
    value = values.get(call["type"], said)
    return {**result, "status": "completed"} if value is None else {**result, "output": value}


def cut(*messages: Message) -> list[Message]:
    """What a next turn has of them."""
    fit = repaired([to_stored(x) for x in messages]).messages
    return [from_stored(x) for x in json.loads(json.dumps(fit))]


# -- The rules of the API. -------------------------------------------------------------------------


SCHEMA: TypeAdapter[Any] = TypeAdapter(ResponseInputItemParam)


def refused(items: Sequence[Item], leaders: dict[str, str]) -> Iterator[str]:
    """What the API complains of; `leaders` are the reasoning items that items were made with.

    - github.com/openai/openai-node/issues/1567, github.com/cline/cline/issues/12242: reasoning and
      the item after it go together.
    - github.com/bytedance/trae-agent/issues/245, github.com/can1357/oh-my-pi/issues/106: a call and
      its output go together; github.com/openai/openai-python/blob/main/src/openai/types/responses/
      response_input_item_param.py: the output is of the call's own type, which for a computer is a
      screenshot and for a patch no words alone.
    - github.com/earendil-works/pi/issues/5151: "Duplicate item found with id".
    - github.com/openai/openai-python, `ResponseInputItemParam`: what an item is made of.
    """
    ids = [item["id"] for item in items if item.get("id")]
    if len(set(ids)) < len(ids):
        yield "Duplicate item found with id"
    if any(item.get("role") and not item["content"] for item in items):
        yield "content is empty"
    for item in items:
        try:
            SCHEMA.validate_python(item)
        except ValidationError:
            yield f"{item} is no input item"
    yield from refused_reasoning(items, leaders)
    yield from refused_calls(items)


def refused_reasoning(items: Sequence[Item], leaders: dict[str, str]) -> Iterator[str]:
    for item, after in pairwise([*items, user("")]):
        of_model = after.get("role", "assistant") == "assistant"
        if item.get("type") == "reasoning" and (
            not of_model or str(after.get("type")).endswith("_output")
        ):
            yield f"{item['id']} was provided without its required following item"
    for before, item in pairwise([user(""), *items]):
        if leaders.get(item.get("id", "")) not in (None, before.get("id")):
            yield f"{item['id']} was provided without its required reasoning item"


def refused_calls(items: Sequence[Item]) -> Iterator[str]:
    calls: dict[str, str] = {}
    for item in items:
        kind = item.get("type", "message")
        if kind.endswith("_call") and "call_id" in item:
            calls[item["call_id"]] = kind
        if not kind.endswith("_output"):
            continue
        call = calls.pop(item["call_id"], None)
        if call is None:
            yield f"No tool call found for output with call_id {item['call_id']}"
        elif kind != f"{call}_output":
            yield f"{kind} answers a {call}"
        if kind == "computer_call_output" and "image_url" not in item["output"]:
            yield "output is no screenshot"
        if kind == "apply_patch_call_output" and "status" not in item:
            yield "status is missing"
    for call in calls:
        yield f"No tool output found for call {call}"


CALL = function("a")


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        ([reasoning("a")], "following item"),
        ([reasoning("a"), user("?")], "following item"),
        ([CALL, output(CALL)], "reasoning item"),
        ([reasoning("a"), CALL], "No tool output"),
        ([output(CALL)], "No tool call"),
        ([reasoning("a"), CALL, output(CALL), output(CALL)], "No tool call"),
        ([computer("a"), {**output(computer("a")), "type": "function_call_output"}], "answers a"),
        ([reasoning("a"), CALL, reasoning("a"), CALL], "Duplicate"),
        ([{"role": "assistant", "content": ""}], "empty"),
    ],
)
def test_the_oracle_refuses_what_the_api_refuses(items: list[Item], complaint: str) -> None:
    assert complaint in " ".join(refused(items, {"fc_a": "rs_a"}))


# -- One by one. -----------------------------------------------------------------------------------

SEARCH = {"type": "input_image", "image_url": "https://example.org/x.png", "detail": "low"}


def test_a_response_is_one_message_and_each_output_another() -> None:
    items = [
        user("Add."),
        reasoning("1"),
        message("1", "I ", "add."),
        function("1"),
        custom("2"),
        output(custom("2"), "x"),
        output(function("1"), "42"),
        message("2", "Done."),
    ]
    messages = to_messages(items)
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"id": "call_2", "type": "custom", "custom": {"name": "sh", "input": "ls"}},
    ]
    assert messages == [
        user("Add."),
        {"role": "assistant", "content": "I add.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_2", "content": "x"},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
        {"role": "assistant", "content": "Done."},
    ]
    assert native(messages[1], "responses") == items[1:5]
    assert from_messages(messages) == items


def test_only_what_would_not_come_back_the_same_has_a_native_form() -> None:
    items = [
        {"role": "developer", "content": "Be kind."},
        user([{"type": "input_text", "text": "Look."}, SEARCH]),
        {"role": "assistant", "content": "A cat."},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "42"},
    ]
    messages = to_messages(items)
    assert [native(x, "responses") for x in messages] == [None] * 4
    assert from_messages(messages) == items


def test_objects_of_the_sdk_are_taken_as_the_api_gave_them() -> None:
    given = [reasoning("1"), function("1")]
    made = [ResponseReasoningItem(**given[0]), ResponseFunctionToolCall(**given[1])]
    assert from_messages(to_messages(made)) == given
    with pytest.raises(TypeError, match="Dump it"):
        to_messages(["text"])


def test_what_a_shell_printed_is_its_result() -> None:
    ids = {"id": "sh_1", "call_id": "call_1"}
    action = {"commands": ["ls"], "timeout_ms": None, "max_output_length": None}
    printed = {"stdout": "x", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}
    items = [
        {"type": "shell_call", **ids, "action": action, "status": "completed"},
        {"type": "shell_call_output", "call_id": "call_1", "output": [printed]},
    ]
    messages = to_messages(items)
    assert from_messages(messages) == items
    assert messages[0]["tool_calls"][0]["function"] == {
        "name": "shell_call",
        "arguments": json.dumps({"action": action}),
    }
    assert messages[1] == {"role": "tool", "tool_call_id": "call_1", "content": json.dumps(printed)}


def test_a_refusal_is_said() -> None:
    item = {**message("1"), "content": [{"type": "refusal", "refusal": "No."}]}
    assert to_messages([item]) == [{"role": "assistant", "content": "No."}]
    assert from_messages(to_messages([item])) == [item]


def test_a_response_of_hosted_tools_alone_says_what_it_did() -> None:
    items = [reasoning("1"), hosted("1")]
    assert to_messages(items) == [{"role": "assistant", "content": "[web_search_call]"}]
    assert from_messages(to_messages(items)) == items


def test_an_output_whose_call_is_on_the_server_stays_with_the_reference() -> None:
    items = [user("?"), {"type": "item_reference", "id": "fc_1"}, output(function("1")), user("!")]
    assert [x["role"] for x in to_messages(items)] == ["user", "assistant", "user"]
    assert from_messages(to_messages(items)) == items


@pytest.mark.parametrize(
    "half",
    [
        function("1", '{"a": '),
        function("1", status="incomplete"),
        {**hosted("1"), "status": "in_progress"},
    ],
)
def test_what_is_half_done_is_nothing_and_takes_its_reasoning_along(half: Item) -> None:
    assert to_messages([reasoning("1"), half]) == []
    assert from_messages(to_messages([message("0", "Hm."), reasoning("1"), half])) == [
        message("0", "Hm.")
    ]
    assert to_messages([reasoning("1")]) == []


def test_a_call_that_was_cut_off_keeps_its_reasoning_and_gets_an_output() -> None:
    items = [reasoning("1"), function("1"), custom("2")]
    result = {"type": "function_call_output", "call_id": "call_1", "output": INTERRUPTED}
    assert from_messages(cut(*to_messages(items))) == [
        *items,
        result,
        {**result, "type": "custom_tool_call_output", "call_id": "call_2"},
    ]


def test_a_call_that_takes_no_words_as_its_result_is_written_anew_when_it_was_cut_off() -> None:
    items = [reasoning("1"), computer("1"), function("2"), output(function("2"))]
    kinds = [x.get("type") for x in from_messages(cut(*to_messages(items)))]
    assert kinds == [
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
    ]


def test_a_message_that_was_changed_goes_without_its_reasoning() -> None:
    changed = {**to_messages([reasoning("1"), message("1", "Yes.")])[0], "content": "No."}
    assert from_messages([changed]) == [{"role": "assistant", "content": "No."}]


def test_messages_of_other_providers_are_written_anew() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A"}}
    audio = {"type": "input_audio", "input_audio": {"format": "wav", "data": "A"}}
    file = {"type": "file", "file": {"file_id": "file_1"}}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "A"}
    documents = [{"type": "document", "source": x} for x in (pdf, {"type": "text", "data": "Hi."})]
    messages: list[Message] = [
        user([{"type": "text", "text": "Look."}, image, audio, file, *documents, {"text": "?"}]),
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
            ],
        },
        user([{"type": "tool_result", "tool_use_id": "t", "content": "42"}]),
        {"role": "assistant", "tool_calls": [{"function": {"name": "g", "arguments": {"b": 2}}}]},
        {"role": "tool", "tool_name": "g", "content": "43"},
    ]
    url = {"image_url": "data:image/png;base64,A", "detail": "auto"}
    read = "data:application/pdf;base64,A"
    items = from_messages(messages)
    assert [*refused(items, {})] == []
    assert items == [
        user(
            [
                {"type": "input_text", "text": "Look."},
                {"type": "input_image", **url},
                {"type": "input_text", "text": "[input_audio]"},
                {"type": "input_file", "file_id": "file_1"},
                {"type": "input_file", "filename": "file", "file_data": read},
                {"type": "input_text", "text": "Hi."},
                {"type": "input_text", "text": '{"text": "?"}'},
            ]
        ),
        {"role": "assistant", "content": "I look."},
        {"type": "function_call", "call_id": "t", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "t", "output": "42"},
        {"type": "function_call", "call_id": "g", "name": "g", "arguments": '{"b": 2}'},
        {"type": "function_call_output", "call_id": "g", "output": "43"},
    ]


# -- Whatever was said, wherever it was cut. -------------------------------------------------------

texts = st.sampled_from(["", " ", "a", "b\n", "…"])
some_text = st.sampled_from(["a", "b\n", "…"])
part = st.one_of(
    st.builds(lambda x: {"type": "input_text", "text": x}, some_text),
    st.just(SEARCH),
    st.just({"type": "input_image", "file_id": "file_1", "detail": "auto"}),
    st.just({"type": "input_file", "file_data": "data:x;base64,AA", "filename": "x"}),
    st.just({"type": "input_file", "file_url": "https://example.org/x.pdf"}),
)
inputs = st.builds(
    lambda role, content, kind: {**kind, "role": role, "content": content},
    st.sampled_from(["user", "user", "system", "developer"]),
    st.one_of(some_text, st.lists(part, min_size=1, max_size=2)),
    st.sampled_from([{}, {"type": "message"}]),
)
followers = st.sampled_from([message, function, function, custom, computer, patch, hosted])


@st.composite
def conversations(draw: st.DrawFn) -> list[Item]:
    """Any conversation that the API takes."""
    items = [user("Hello")]
    number = 0
    for _ in range(draw(st.integers(1, 4))):
        said: list[Item] = []
        for _ in range(draw(st.integers(1, 4))):
            number += 1
            if draw(st.booleans()):
                said.append(reasoning(str(number)))
            follower = draw(followers)
            more = [draw(some_text), draw(texts)] if follower is message else []
            said.append(follower(str(number), *more))
        items += said
        calls = [x for x in said if "call_id" in x]
        result = st.one_of(
            texts, st.sampled_from([[], [{"type": "input_text", "text": "x"}, SEARCH]])
        )
        items += [output(x, draw(result)) for x in draw(st.permutations(calls))]
        items += draw(st.lists(inputs, max_size=2))
    return items


def in_pieces(items: list[Item]) -> Iterator[list[Item]]:
    """As they come: each response in one, each input by itself."""
    said: list[Item] = []
    for item in items:
        if str(item.get("type")).endswith("_output") or item.get("role", "assistant") in OTHERS:
            yield from filter(None, (said, [item]))
            said = []
        else:
            said.append(item)
    yield said


OTHERS = ("user", "system", "developer")


@often
@given(conversations())
def test_any_conversation_comes_back_as_it_was(items: list[Item]) -> None:
    messages = to_messages(items)
    assert json.dumps(from_messages(messages)) == json.dumps(items)
    kept = [from_stored(x) for x in json.loads(json.dumps([to_stored(x) for x in messages]))]
    assert json.dumps(from_messages(kept)) == json.dumps(items)
    pieces = [x for part in in_pieces(items) for x in to_messages(part)]
    assert json.dumps(from_messages(pieces)) == json.dumps(items)


@often
@given(conversations(), st.data())
def test_however_it_is_cut_off_the_api_takes_it(items: list[Item], data: st.DataObject) -> None:
    leaders = {
        after["id"]: before["id"]
        for before, after in pairwise(items)
        if before.get("type") == "reasoning"
    }
    assert [*refused(items, leaders)] == []
    first, *messages = to_messages(items)
    messages = messages[: data.draw(st.integers(0, len(messages)))]
    kept = [x for x in messages if data.draw(st.integers(0, 9))]  # some was lost
    kept = [x if data.draw(st.integers(0, 5)) else dict(x) for x in kept]  # and some changed
    fit = from_messages([first, *cut(*kept), user("No!")])
    assert [*refused(fit, leaders)] == []
