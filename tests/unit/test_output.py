"""What a turn puts out: what is taken, what is mended, what is refused and in which words."""

import collections
import copy
import dataclasses
import enum
import json
import pickle
import types
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage, ParsedChatCompletionMessage
from restate import TerminalError

from interruptible._wire.output import (
    MAX_NESTING,
    Conversation,
    WrongOutput,
    last_output,
    new_output,
    output,
    stored,
    told_to_model,
)
from interruptible._wire.text import mended
from interruptible.formats._neutral import text_of

TEXT_PART = {"type": "text", "text": "Hello"}
ASSISTANT = {"role": "assistant", "content": "Done."}
TOOL = {"role": "tool", "content": [TEXT_PART], "tool_call_id": "1"}
CALL: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": []}
FUNCTION = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def refused(call: Callable[[], Any]) -> str:
    """Why: as an error that ends the turn."""
    with pytest.raises(WrongOutput) as caught:
        call()
    assert isinstance(caught.value, TerminalError)
    assert isinstance(caught.value, TypeError)
    assert (str(caught.value), caught.value.status_code) == (caught.value.message, 500)
    return caught.value.message


# -- What is taken. --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "messages"),
    [
        (None, []),
        ("", []),
        ([], []),
        ("Done.", [ASSISTANT]),
        (ASSISTANT, [ASSISTANT]),
        (CALL, [CALL]),
        ([TOOL, "Done.", CALL], [TOOL, ASSISTANT, CALL]),
        (("Done.", TOOL), [ASSISTANT, TOOL]),
        ([[TOOL], [], None, ["Done."]], [TOOL, ASSISTANT]),
        (types.MappingProxyType(ASSISTANT), [ASSISTANT]),
        (collections.UserList(["Done.", collections.ChainMap(TOOL)]), [ASSISTANT, TOOL]),
        (collections.deque(["Done."]), [ASSISTANT]),
    ],
)
def test_nothing_text_a_message_and_a_list_of_these_are_put_out_as_messages(
    value: Any, messages: list[dict[str, Any]]
) -> None:
    assert output(value) == messages


def test_text_may_stand_for_a_message_of_somebody_else() -> None:
    assert told_to_model("interruption_note", ["Stop.", ASSISTANT], "user") == [
        {"role": "user", "content": "Stop."},
        ASSISTANT,
    ]
    assert refused(lambda: told_to_model("conversation", 5)) == (
        "What `conversation` returned cannot be told to the model. A turn puts out text, a "
        "message, a list of messages, or nothing; not int. Return or append one of these."
    )


def test_a_message_that_was_put_out_does_not_change_with_its_source() -> None:
    source: dict[str, Any] = {"role": "assistant", "content": [dict(TEXT_PART)]}
    messages = output(source)
    source["content"][0]["text"] = "Changed."
    assert messages == [{"role": "assistant", "content": [TEXT_PART]}]


@pytest.mark.parametrize(
    "says",
    [
        {"tool_calls": [FUNCTION]},
        {"function_call": {"name": "f", "arguments": "{}"}},
        {"refusal": "No."},
        {"audio": {"id": "1"}},
    ],
)
def test_an_assistant_need_not_have_content_when_it_says_something_else(says: Any) -> None:
    assert output({"role": "assistant", **says}) == [{"role": "assistant", **says}]


# -- What is mended. -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("Hello 😀", "Hello 😀"),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83d\ude00", "😀"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ud83d\ude00\udcff", "\ufffd😀\ufffd"),
    ],
)
def test_half_a_surrogate_pair_becomes_the_replacement_character(text: str, expected: str) -> None:
    assert mended(text) == expected


def test_text_is_mended_wherever_it_is() -> None:
    assert output(
        ["\ud83d", {"role": "tool\ud83d", "content": [{"a\ud83d": ["\ud83d\ude00"]}]}]
    ) == [
        {"role": "assistant", "content": "\ufffd"},
        {"role": "tool\ufffd", "content": [{"a\ufffd": ["😀"]}]},
    ]


class Color(str, enum.Enum):
    RED = "red\ud83d"


class Size(enum.IntEnum):
    SMALL = 1


def test_what_python_has_and_json_has_not_becomes_what_json_has() -> None:
    value = stored(
        {"a": (1, 2), "b": Color.RED, "c": Size.SMALL, 5: True, "d": collections.Counter("a")}
    )
    assert value == {"a": [1, 2], "b": "red\ufffd", "c": 1, "5": True, "d": {"a": 1}}
    assert [type(x) for x in value.values()] == [list, str, int, bool, dict]


def test_any_text_and_key_comes_out_as_utf_8() -> None:
    halves = ["\ud800", "\udfff", "a", "\U0010ffff"]
    for text in (x + y + z for x in halves for y in halves for z in halves):
        assert json.dumps(stored({text: [text]}), ensure_ascii=False).encode()


# -- What is refused. ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [5, True, b"Done.", {1}, object(), iter(["Done."]), (x for x in "a"), object, ["x", 5]],
)
def test_anything_else_is_refused_with_its_type_and_the_remedy(value: Any) -> None:
    culprit = type(value[1] if isinstance(value, list) else value).__name__
    assert refused(lambda: output(value)) == (
        f"A turn puts out text, a message, a list of messages, or nothing; not {culprit}. "
        "Return or append one of these."
    )


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"role": "x"},
        {"content": "x"},
        {"role": 5, "content": ""},
        {"role": "assistant", "contents": "x"},
        {"role": "assistant", "tool_calls": []},
    ],
)
def test_a_mapping_that_is_no_message_is_refused_with_what_it_lacks(message: Any) -> None:
    assert refused(lambda: output([message])) == (
        f"A message has a `role` and a `content`; this one is {json.dumps(message)}."
    )


NO_NUMBER = "is a number that is not finite, or too large for JSON. Make it text."
REFUSED: list[tuple[Any, str]] = [
    (float("nan"), f"`content.x` {NO_NUMBER}"),
    (json.loads("1e999"), f"`content.x` {NO_NUMBER}"),
    (10**400, f"`content.x` {NO_NUMBER}"),
    (-(10**5000), f"`content.x` {NO_NUMBER}"),
    (
        Decimal(1),
        (
            "`content.x` is of the type `Decimal`, which is no JSON. "
            "Make it text, a number, a list, a dict."
        ),
    ),
    (
        [datetime.now(timezone.utc)],
        (
            "`content.x[0]` is of the type `datetime`, which is no JSON. "
            "Make it text, a number, a list, a dict."
        ),
    ),
    (
        {"\ud83d": b"x"},
        (
            "`content.x.\\ufffd` is of the type `bytes`, which is no JSON. "
            "Make it text, a number, a list, a dict."
        ),
    ),
    (
        {("a",): 1},
        "`content.x` has a key of the type `tuple`, which is no JSON. Make it text.",
    ),
]


@pytest.mark.parametrize(("value", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_json_is_refused_with_its_place(value: Any, reason: str) -> None:
    message = {"role": "tool", "content": {"x": value}}
    assert refused(lambda: output(message)) == f"What was put out cannot be stored: {reason}"


def test_what_is_nested_without_end_or_too_deep_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    reason = f"is nested more than {MAX_NESTING} levels deep. Flatten it."
    for deep in (endless, nested(MAX_NESTING), nested(2000)):
        message = {"role": "tool", "content": deep}
        assert refused(lambda message=message: output(message)) == (
            f"What was put out cannot be stored: `content` {reason}"
        )
    just = output({"role": "tool", "content": nested(MAX_NESTING - 1)})
    assert just == output(just) == told_to_model("conversation", [*just])


def nested(levels: int) -> Any:
    deep: Any = "x"
    for _ in range(levels):
        deep = [deep]
    return deep


# -- What SDKs hand out. ---------------------------------------------------------------------------


class Dumped:
    """Stands in for what an SDK hands out."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def model_dump(self, *, mode: str = "python", exclude_none: bool = False) -> Any:
        assert (mode, exclude_none) == ("json", True)
        return {key: x for key, x in self.fields.items() if x is not None}


BLOCK = Dumped(type="text", text="Hi", citations=None, parsed_output=None)
USE = {"type": "tool_use", "id": "1", "name": "f", "input": {"parsed": None, "annotations": [1]}}


CITATION = {"type": "char_location", "cited_text": "x"}


def test_a_message_of_anthropics_is_taken_without_what_belongs_to_the_answer() -> None:
    cites = {"type": "text", "text": "Hi", "citations": [CITATION]}
    answer = Dumped(
        id="msg_1",
        type="message",
        role="assistant",
        model="claude",
        content=[{**cites, "citations": [{**CITATION, "file_id": "1"}]}, USE],
        stop_reason="end_turn",
        usage={"input_tokens": 1},
    )
    assert output(answer) == [{"role": "assistant", "content": [cites, USE]}]


def test_blocks_within_a_message_are_taken_too() -> None:
    assert output({"role": "assistant", "content": [BLOCK, Dumped(**USE)]}) == [
        {"role": "assistant", "content": [{"type": "text", "text": "Hi"}, USE]}
    ]


def test_a_message_of_openais_is_taken_as_it_may_be_sent_again() -> None:
    answer = ParsedChatCompletionMessage[Any].model_validate(
        {
            "role": "assistant",
            "content": None,
            "parsed": {"a": 1},
            "annotations": [],
            "reasoning_content": "Hm.",
            "tool_calls": [
                {**FUNCTION, "function": {**FUNCTION["function"], "parsed_arguments": {"a": 1}}}  # type: ignore[dict-item]
            ],
        }
    )
    expected = {"role": "assistant", "reasoning_content": "Hm.", "tool_calls": [FUNCTION]}
    assert output([answer]) == [expected]
    assert output({"role": "assistant", "tool_calls": answer.tool_calls}) == [
        {"role": "assistant", "tool_calls": [FUNCTION]}
    ]


def test_of_audio_the_id_is_kept_which_is_all_that_is_taken_back() -> None:
    audio = {"id": "audio_1", "data": "…", "expires_at": 1, "transcript": "Hello."}
    answer = ChatCompletionMessage.model_validate({"role": "assistant", "audio": audio})
    assert output(answer) == [{"role": "assistant", "audio": {"id": "audio_1"}}]


def test_an_answer_that_says_nothing_has_empty_content_and_no_null() -> None:
    assert output(ChatCompletionMessage(role="assistant", content=None)) == [
        {"role": "assistant", "content": ""}
    ]


def test_what_an_sdk_hands_out_is_mended_and_refused_like_all_else() -> None:
    half = ChatCompletionMessage.model_construct(role="assistant", content="\ud83d")
    assert output(half) == [{"role": "assistant", "content": "\ufffd"}]
    wrong = refused(lambda: output(Dumped(role="tool", content=float("inf"))))
    assert wrong == f"What was put out cannot be stored: `content` {NO_NUMBER}"
    no_message = refused(lambda: output(Dumped(choices=[])))
    assert no_message == 'A message has a `role` and a `content`; this one is {"choices": []}.'

    class Broken:
        def model_dump(self) -> Any: ...

    assert refused(lambda: output(Broken())).startswith("`Broken.model_dump` failed: ")


# -- The conversation. -----------------------------------------------------------------------------

CHANGES: list[Callable[[Any], Any]] = [
    lambda x: x.append(ASSISTANT),
    lambda x: x.extend([ASSISTANT]),
    lambda x: x.insert(0, ASSISTANT),
    lambda x: x.remove(ASSISTANT),
    lambda x: x.pop(),
    lambda x: x.clear(),
    lambda x: x.sort(key=str),
    lambda x: x.reverse(),
    lambda x: x.__setitem__(0, ASSISTANT),
    lambda x: x.__delitem__(0),
    lambda x: x.__iadd__([ASSISTANT]),
    lambda x: x.__imul__(2),
]


def test_the_conversation_cannot_be_changed() -> None:
    messages = Conversation([TOOL])
    for change in CHANGES:
        assert "Put out messages with `task.append`" in refused(lambda c=change: c(messages))
    assert messages == [TOOL]


def test_the_conversation_is_a_list_and_what_is_made_of_it_is_ones_own() -> None:
    messages = Conversation([TOOL])
    assert isinstance(messages, list)
    assert json.loads(json.dumps(messages)) == [TOOL]
    own: list[Any] = [
        [*messages],
        messages[:],
        messages + [],  # noqa: RUF005
        messages * 1,
        messages.copy(),
        copy.copy(messages),
        copy.deepcopy(messages),
        pickle.loads(pickle.dumps(messages)),  # noqa: S301
        list(messages),
        sorted(messages, key=str),
    ]
    for each in own:
        assert (type(each), each) == (list, [TOOL])


def test_what_is_in_the_conversation_is_not_put_out_again() -> None:
    messages = Conversation([dict(TOOL)])
    for again in (messages, [*messages, "Done."], messages[0], messages[-1:]):
        assert refused(lambda again=again: new_output(again, messages)) == (
            "A message that is put out is in the conversation already, and would be in it twice. "
            "Put out the new ones only."
        )
    assert new_output([TOOL, "Done."], messages) == [TOOL, ASSISTANT]  # equal, but another


# -- What the user said. ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contents", "text"),
    [
        ([], ""),
        (["Hello"], "Hello"),
        (["Hello", "World"], "Hello\n\nWorld"),
        ([[TEXT_PART, {"type": "image_url", "text": "x"}, TEXT_PART]], "Hello\nHello"),
        ([[{"type": "input_text", "text": "Hi"}], "Hello"], "Hi\n\nHello"),
        ([[{"type": "image"}], "Hello"], "Hello"),
        ([None, 5, [None, "x", {"type": "text"}, {"type": "text", "text": 5}]], ""),
    ],
)
def test_the_text_of_messages_is_their_text_and_that_of_their_parts(
    contents: list[Any], text: str
) -> None:
    assert text_of({"role": "user", "content": content} for content in contents) == text


# -- What `run` returns, when the turn has put out its answer. -------------------------------------


@dataclasses.dataclass
class Booking:
    city: str
    nights: int


class Dumped:
    def __init__(self, **values: Any) -> None:
        self.values = values

    def model_dump(self, *, mode: str = "python", exclude_none: bool = False) -> Any:
        return self.values


BOOKED = {"role": "assistant", "content": '{"city":"Rome","nights":2}'}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("Done.", ASSISTANT),
        ("half \ud83d", {"role": "assistant", "content": "half \ufffd"}),
        ('{"city":"Rome","nights":2}', BOOKED),
        (Booking("Rome", 2), BOOKED),
        (Dumped(city="Rome", nights=2), BOOKED),
        ({"nights": 2, "city": "Rome"}, BOOKED),
        ([1, 2], {"role": "assistant", "content": "[1, 2]"}),
        (3, {"role": "assistant", "content": "3"}),
        ("Done.", {**ASSISTANT, "native": {"format": "f", "value": 1}}),
    ],
)
def test_the_answer_is_not_put_out_again_when_run_returns_it(
    value: Any, said: dict[str, Any]
) -> None:
    assert last_output(value, [said], said) == []


@pytest.mark.parametrize(
    "answer",
    [
        None,
        TOOL,
        {"role": "assistant", "content": "Done!"},
        {"role": "user", "content": "Done."},
        {**ASSISTANT, "tool_calls": [FUNCTION]},
        {"role": "assistant", "content": [{"type": "text", "text": "Done."}]},
    ],
)
def test_all_else_that_run_returns_is_put_out(answer: dict[str, Any] | None) -> None:
    assert last_output("Done.", [], answer) == [ASSISTANT]


def test_the_very_object_that_the_answer_stands_for_is_not_put_out_again() -> None:
    meant = object()
    assert last_output(meant, [], {"role": "assistant", "content": "3 nights"}, meant) == []
    assert "not object" in refused(lambda: last_output(object(), [], ASSISTANT, meant))


def test_an_object_that_nobody_has_said_is_still_refused() -> None:
    assert "this one is" in refused(lambda: last_output(Dumped(city="Oslo"), [BOOKED], BOOKED))
