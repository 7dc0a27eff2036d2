"""Contents of Gemini's API come back as they were, and fit however a turn was cut off."""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interruptible import Message
from interruptible._task.repair import INTERRUPTED, repaired
from interruptible._wire.native import from_stored, to_stored
from interruptible.formats import native
from interruptible.formats.gemini import UNSIGNED, from_messages, to_messages

Content = dict[str, Any]
Part = dict[str, Any]

often = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine is no failure


def user(*parts: Part | str) -> Content:
    return {"role": "user", "parts": [{"text": x} if isinstance(x, str) else x for x in parts]}


def model(*parts: Part | str) -> Content:
    return {**user(*parts), "role": "model"}


def call(name: str, id: str | None = None, **more: Any) -> Part:  # noqa: A002
    made = {"name": name, "args": {"a": 1}}
    return {"functionCall": made if id is None else {"id": id, **made}, **more}


def response(name: str, id: str | None = None, said: Any = "42") -> Part:  # noqa: A002
    made = {"name": name, "response": {"output": said} if isinstance(said, str) else said}
    return {"functionResponse": made if id is None else {"id": id, **made}}


THOUGHT = {"text": "Hm.", "thought": True}
SIGNED = {"thoughtSignature": "c2ln"}
IMAGE = {"inlineData": {"mimeType": "image/png", "data": "AA=="}}


def cut(*messages: Message) -> list[Message]:
    """What a next turn has of them."""
    fit = repaired([to_stored(x) for x in messages]).messages
    return [from_stored(x) for x in json.loads(json.dumps(fit))]


# -- The rules of the API. -------------------------------------------------------------------------


def part_of(part: Part, key: str) -> Any:
    spelled = {"functionCall": "function_call", "functionResponse": "function_response"}
    return part.get(key) or part.get(spelled.get(key, "thought_signature"))


def refused(contents: Sequence[Content]) -> Iterator[str]:
    """What the API complains of.

    - github.com/google-gemini/gemini-cli/issues/4217: as many responses as calls.
    - github.com/google-gemini/gemini-cli/issues/26486: where a call may stand;
      github.com/langchain-ai/langchain/issues/27799: where a response may.
    - github.com/router-for-me/CLIProxyAPI/issues/5199: a response has its call's id.
    - github.com/google-gemini/gemini-cli/issues/26956: roles alternate.
    - ai.google.dev/gemini-api/docs/thought-signatures: in the current turn, which begins with the
      last content of the user that is not responses alone, the first call of each content is
      signed.
    """
    if not all(content["parts"] for content in contents):
        yield "parts are empty"
    if any(before["role"] == after["role"] for before, after in pairwise(contents)):
        yield "roles do not alternate"
    for before, content, after in zip(
        [user(), *contents], contents, [*contents[1:], user()], strict=False
    ):
        calls = [x for x in map(called, content["parts"]) if x]
        answers = [x for x in map(answered, after["parts"]) if x]
        if len(calls) != len(answers):
            yield "the number of function response parts is not that of function call parts"
        if {(x["name"], x.get("id")) for x in calls} != {(x["name"], x.get("id")) for x in answers}:
            yield "functionResponse.id does not match functionCall.id"
        if calls and before["role"] != "user":
            yield "a function call turn comes after a user turn"
        if any(map(answered, content["parts"])) and before["role"] != "model":
            yield "a function response turn comes after a function call turn"
    yield from refused_signatures(contents)


def refused_signatures(contents: Sequence[Content]) -> Iterator[str]:
    said = [n for n, x in enumerate(contents) if x["role"] == "user" and not all_answers(x)]
    for content in contents[said[-1] :]:
        calls = [x for x in content["parts"] if called(x)]
        if calls and not part_of(calls[0], "thoughtSignature"):
            yield "Function call is missing a thought_signature"


def called(part: Part) -> Any:
    return part_of(part, "functionCall")


def answered(part: Part) -> Any:
    return part_of(part, "functionResponse")


def all_answers(content: Content) -> bool:
    return all(map(answered, content["parts"]))


ASKED, ANSWER = model(call("f", **SIGNED)), user(response("f"))


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        ([user("?"), ASKED], "number"),
        ([user("?"), ASKED, user("!")], "number"),
        ([user("?"), ASKED, user(response("f"), response("f"))], "number"),
        ([user("?"), ASKED, user(response("f", "x"))], "does not match"),
        ([user("?"), model("a"), ASKED, ANSWER], "alternate"),
        ([user("?"), ANSWER], "comes after"),
        ([user("?"), model()], "empty"),
        ([user("?"), model(call("f")), ANSWER], "missing a thought_signature"),
    ],
)
def test_the_oracle_refuses_what_the_api_refuses(contents: list[Content], complaint: str) -> None:
    assert complaint in " ".join(refused(contents))


def test_the_oracle_looks_for_signatures_in_the_current_turn_alone() -> None:
    contents = [user("?"), model(call("f")), user(response("f"), "No."), ASKED, ANSWER]
    assert [*refused(contents)] == []


# -- One by one. -----------------------------------------------------------------------------------


def test_a_content_of_the_model_is_one_message_and_each_response_another() -> None:
    contents = [
        user("Add."),
        model(THOUGHT, "I ", "add.", call("f", "x", **SIGNED), call("g", "y")),
        user(response("f", "x"), response("g", "y", {"sum": 42}), "And?"),
        model("Done."),
    ]
    messages = to_messages(contents)
    calls = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": '{"a": 1}'}}
        for id_, name in (("x", "f"), ("y", "g"))
    ]
    assert messages == [
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": "I add.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "x", "content": "42"},
        {"role": "tool", "tool_call_id": "y", "content": '{"sum": 42}'},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "Done."},
    ]
    assert native(messages[1], "gemini") == contents[1]
    assert [native(x, "gemini") for x in (messages[0], messages[4], messages[5])] == [None] * 3
    assert from_messages(messages) == contents


def test_calls_without_an_id_get_one_from_their_number() -> None:
    contents = [
        user("?"),
        model(call("f", **SIGNED), call("a.b"), call("f")),
        user(response("f"), response("a.b"), response("f")),
        model(call("f", **SIGNED)),
        user(response("f")),
    ]
    messages = to_messages(contents)
    asked = [call["id"] for x in messages for call in x.get("tool_calls", [])]
    assert asked == ["f-1", "a_b-1", "f-2", "f-3"]
    assert [x["tool_call_id"] for x in messages if x["role"] == "tool"] == asked
    assert from_messages(messages) == contents
    fit = from_messages(cut(*messages[:3]))  # the others have no response
    assert [x["functionResponse"]["name"] for x in fit[2]["parts"]] == ["f", "a.b", "f"]
    assert "id" not in fit[2]["parts"][1]["functionResponse"]


def test_a_call_that_had_no_response_does_not_get_that_of_another() -> None:
    stopped = [user("?"), model(call("f", **SIGNED)), user("No!")]
    messages = to_messages([*stopped, model(call("f", **SIGNED)), user(response("f"))])
    assert messages[-1]["tool_call_id"] == messages[-2]["tool_calls"][0]["id"] == "f-2"


def test_a_response_that_was_made_up_has_the_id_of_its_call() -> None:
    contents = [user("?"), model(call("f", "x", **SIGNED))]
    said = {"id": "x", "name": "f", "response": {"output": INTERRUPTED}}
    assert from_messages(cut(*to_messages(contents))) == [
        *contents,
        user({"functionResponse": said}),
    ]


def test_what_is_written_anew_has_no_ids_and_one_signature_that_is_not_checked() -> None:
    messages = to_messages([user("?"), model(call("f", "x"), call("g", "y"))])
    messages += to_messages([user(response("f", "x"), response("g", "y"))])
    messages[1] = {**messages[1], "content": "I add."}
    assert from_messages(messages) == [
        user("?"),
        model("I add.", call("f", thoughtSignature=UNSIGNED), call("g")),
        user(response("f"), response("g")),
    ]


def test_both_spellings_are_understood_and_kept() -> None:
    contents = [
        user("?"),
        model({"function_call": {"name": "f", "args": {}}, "thought_signature": "c2ln"}),
        user({"function_response": {"name": "f", "response": {"output": "42"}}}),
        model({"executable_code": {"language": "PYTHON", "code": "1"}}),
        user({"inline_data": {"mime_type": "image/png", "data": "AA=="}}),
    ]
    messages = to_messages(contents)
    assert from_messages(messages) == contents
    assert [*refused(contents)] == []
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"] == "f-1"
    assert messages[3]["content"].strip() == "```python\n1\n```"
    image = {"url": "data:image/png;base64,AA=="}
    assert messages[4]["content"] == [{"type": "image_url", "image_url": image}]


@pytest.mark.parametrize(
    "half",
    [
        model(THOUGHT),
        model({"functionCall": {"name": "f", "willContinue": True}}),
        model({"functionCall": {"name": "f", "partialArgs": [{"jsonPath": "$.a"}]}}),
    ],
)
def test_what_is_half_said_is_nothing(half: Content) -> None:
    assert to_messages([half]) == []


def test_a_picture_alone_says_that_it_is_one() -> None:
    assert to_messages([model(IMAGE)]) == [{"role": "assistant", "content": "[inlineData]"}]
    assert from_messages(to_messages([model(IMAGE)])) == [model(IMAGE)]


def test_what_a_user_gave_is_told_as_far_as_chat_messages_can() -> None:
    picture = {"fileData": {"mimeType": "image/png", "fileUri": "https://x.org/x.png"}}
    video = {"fileData": {"mimeType": "video/mp4", "fileUri": "https://x.org/x.mp4"}}
    pdf = {"inlineData": {"mimeType": "application/pdf", "data": "AA=="}}
    contents = [user("?"), ASKED, user("Look.", picture, video, pdf, response("f"))]
    messages = to_messages(contents)
    assert messages[2]["content"] == [
        {"type": "text", "text": "Look."},
        {"type": "image_url", "image_url": {"url": "https://x.org/x.png"}},
        {"type": "text", "text": "[https://x.org/x.mp4]"},
        {
            "type": "file",
            "file": {"filename": "file", "file_data": "data:application/pdf;base64,AA=="},
        },
    ]
    assert from_messages(messages) == contents


def test_neighbours_of_one_role_become_one_and_what_was_given_stays_as_it_is() -> None:
    contents = [model("a", call("f", **SIGNED)), user(response("f"))]
    before = json.dumps(contents)
    messages = [*to_messages(contents), {"role": "system", "content": "[x]"}]
    assert from_messages([*messages, {"role": "user", "content": "No."}]) == [
        contents[0],
        user(response("f"), "[x]", "No."),
    ]
    assert json.dumps(contents) == before


def test_messages_of_other_providers_are_written_anew() -> None:
    source = {"type": "url", "url": "https://example.org/x.png"}
    messages: list[Message] = [
        {
            "role": "user",
            "content": [
                {"type": "image", "source": source},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                {"type": "input_audio", "input_audio": {"format": "wav", "data": "AA=="}},
                {"type": "file", "file": {"file_id": "file_1", "filename": "x.pdf"}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": "42"},
                {"type": "text", "text": "And?"},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "sh", "input": "ls"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": '{"files": []}'},
    ]
    shell = {"functionCall": {"name": "sh", "args": {"input": "ls"}}, "thoughtSignature": UNSIGNED}
    contents = from_messages(messages)
    assert contents == [
        user(
            {"fileData": {"fileUri": source["url"]}},
            IMAGE,
            {"inlineData": {"mimeType": "audio/wav", "data": "AA=="}},
            "[x.pdf]",
        ),
        model(call("f", thoughtSignature=UNSIGNED)),
        user(response("f"), "And?"),
        model(shell),
        user(response("sh", said={"files": []})),
    ]
    assert [*refused(contents)] == []


# -- Whatever was said, wherever it was cut. -------------------------------------------------------

texts = st.sampled_from(["a", "b\n", "…"])
said = st.one_of(
    st.just([THOUGHT, {"text": "b"}]),
    texts.map(lambda x: [{"text": x}]),
    texts.map(lambda x: [{"text": x, **SIGNED}]),
    texts.map(lambda x: [{"text": x}, {"text": "", "thought_signature": "c2ln"}]),
    st.just([IMAGE]),
    st.just(
        [
            {"executableCode": {"language": "PYTHON", "code": "1"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
            {"text": "It is 1."},
        ]
    ),
)
asked = st.lists(
    st.one_of(
        texts.map(lambda x: {"text": x}),
        st.just(IMAGE),
        st.just({"fileData": {"mimeType": "application/pdf", "fileUri": "https://x.org"}}),
    ),
    min_size=1,
    max_size=2,
)
results = st.sampled_from(["", "42", '{"a": 1}', {"sum": 1}, {"error": "x"}, {"output": {}}, {}])


def snake(contents: list[Content]) -> list[Content]:
    """The same with its keys as Python has them."""
    text = json.dumps(contents)
    for name in ("functionCall", "functionResponse", "thoughtSignature", "inlineData"):
        text = text.replace(name, re.sub("[A-Z]", lambda x: f"_{x[0].lower()}", name))
    made: list[Content] = json.loads(text)
    return made


@st.composite
def conversations(draw: st.DrawFn) -> list[Content]:
    """Any conversation that the API takes."""
    contents = [user(*draw(asked))]
    with_ids, number = draw(st.booleans()), 0
    for _ in range(draw(st.integers(1, 4))):
        calls: list[tuple[str, str | None]] = []
        for _ in range(draw(st.integers(0, 3))):
            number += 1
            name = draw(st.sampled_from(["f", "g", "a.b"]))
            calls.append((name, f"id_{number}" if with_ids else None))
        parts: list[Part] = draw(said) if not calls or draw(st.booleans()) else []
        more = [SIGNED, *[{}] * len(calls)]
        parts = [*parts, *(call(*x, **y) for x, y in zip(calls, more, strict=False))]
        contents.append(model(*parts))
        answers: list[Part] = [response(*x, said=draw(results)) for x in calls]
        contents.append(user(*answers, *(draw(asked) if not calls or draw(st.booleans()) else [])))
    return contents if draw(st.booleans()) else snake(contents)


@often
@given(conversations())
def test_any_conversation_comes_back_as_it_was(contents: list[Content]) -> None:
    messages = to_messages(contents)
    assert json.dumps(from_messages(messages)) == json.dumps(contents)
    kept = [from_stored(x) for x in json.loads(json.dumps([to_stored(x) for x in messages]))]
    assert json.dumps(from_messages(kept)) == json.dumps(contents)
    pieces = [x for content in contents for x in to_messages([content])]
    assert json.dumps(from_messages(pieces)) == json.dumps(contents)


@often
@given(conversations(), st.data())
def test_however_it_is_cut_off_the_api_takes_it(
    contents: list[Content], data: st.DataObject
) -> None:
    assert [*refused(contents)] == []
    first, *messages = to_messages(contents)
    messages = messages[: data.draw(st.integers(0, len(messages)))]
    kept = [x for x in messages if data.draw(st.integers(0, 9))]  # some was lost
    kept = [x if data.draw(st.integers(0, 5)) else dict(x) for x in kept]  # and some changed
    fit = from_messages([first, *cut(*kept), {"role": "user", "content": "No!"}])
    assert [*refused(fit)] == []
