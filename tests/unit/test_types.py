"""What goes over the wire: what is accepted, what is refused and in which words."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import pytest

from interruptible._handlers import PUBLIC
from interruptible._session import rules
from interruptible._session.record import Live, Record
from interruptible._wire import requests
from interruptible._wire import types as _types
from interruptible._wire.cause import Cause, cause_of
from interruptible._wire.checks import Malformed, Refusal, parse
from interruptible._wire.shapes import shape
from interruptible._wire.types import Policy

from .handling import body_of

TAKEN = {name: body_of(name) for name in PUBLIC}
MAX = 200
LIMIT = _types.MAX_METADATA
POLICIES = ", ".join(_types.POLICIES)
FIELDS = "Known fields: content, if_idle, if_turn, keep_queued, metadata, now, policy, role."
STEERED_ALONE = (
    "now: is for messages that are steered, and the policy is {}. Send it with "
    '"policy": "steer", or without now.'
)
SEND = "Send text, or a list of parts."
TEXT_PART = {"type": "text", "text": "Hello"}
ASSISTANT = {"role": "assistant", "content": "Done."}
TOOL = {"role": "tool", "content": [TEXT_PART], "tool_call_id": "1"}
CALL: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": []}

ACCEPTED: list[Any] = [
    {"content": "Hello"},
    {"content": "  Hello\n"},
    {"content": "0"},
    {"content": "ä" * (MAX // 2)},
    {"content": [TEXT_PART]},
    {"content": [TEXT_PART, {"type": "image_url", "image_url": {"url": "https://x.example"}}]},
    {"content": [{"type": "x"}], "role": "user", "policy": "interrupt"},
    {"content": "Hello", "role": "user"},
    {"content": "Hello", "policy": "interrupt"},
    {"content": "Hello", "policy": "queue"},
    {"content": "Hello", "policy": "rollback"},
    {"content": "Hello", "policy": "steer", "if_turn": 1},
    {"content": "Hello", "policy": "reject", "if_turn": 2, "if_idle": False},
    {"content": [{"type": "tool_call"}, {"type": "Tool_Use"}, {"type": "x", "text": ""}]},
    {"content": "Hello", "if_turn": None},
    {"content": "Hello", "if_turn": 2**53 - 1},
    {"content": "Hello", "if_idle": True},
    {"content": "Hello", "policy": "steer", "now": True},
    {"content": "Hello", "policy": "queue", "now": False},
    {"content": "Hello", "keep_queued": True},
    {"content": "Hello", "keep_queued": False},
    {"content": "Hello", "metadata": {}},
    {"content": "Hello", "metadata": {"author": "Ada", "tags": [1, None], "größe": {"x": 1.5}}},
    {"content": "Hello", "metadata": {"x": "y" * (LIMIT - len('{"x": ""}'))}},
]

REFUSED: list[tuple[Any, str]] = [
    (None, 'body: must be a JSON object, not null. Send {"content": "Hello"}.'),
    ("Hello", 'body: must be a JSON object, not "Hello". Send {"content": "Hello"}.'),
    (5, 'body: must be a JSON object, not 5. Send {"content": "Hello"}.'),
    (True, 'body: must be a JSON object, not true. Send {"content": "Hello"}.'),
    (["Hello"], 'body: must be a JSON object, not ["Hello"]. Send {"content": "Hello"}.'),
    ({}, f"content: is missing. {SEND}"),
    ({"role": "user"}, f"content: is missing. {SEND}"),
    ({"content": None}, f"content: must be text or a list, not null. {SEND}"),
    ({"content": 5}, f"content: must be text or a list, not 5. {SEND}"),
    ({"content": False}, f"content: must be text or a list, not false. {SEND}"),
    (
        {"content": TEXT_PART},
        'content: must be text or a list, not {"type": "text", "text": "Hello"}. ' + SEND,
    ),
    ({"content": ""}, f"content: is empty. {SEND}"),
    ({"content": []}, f"content: is empty. {SEND}"),
    ({"content": ["Hello"]}, 'content[0]: must be an object with a `type`, not "Hello".'),
    ({"content": [None]}, "content[0]: must be an object with a `type`, not null."),
    ({"content": [TEXT_PART, {}]}, "content[1].type: is missing."),
    ({"content": [{"type": None}]}, "content[0].type: must be text, not null."),
    ({"content": [[]]}, "content[0]: must be an object with a `type`, not []."),
    (
        {"content": "Hello", "role": "system"},
        'role: must be "user", not "system". Leave it out.',
    ),
    ({"content": "Hello", "role": None}, 'role: must be "user", not null. Leave it out.'),
    ({"content": "Hello", "role": ["user"]}, 'role: must be "user", not ["user"]. Leave it out.'),
    (
        {"content": "Hello", "policy": "shout"},
        f'policy: must be one of {POLICIES}, not "shout".',
    ),
    ({"content": "Hello", "policy": None}, f"policy: must be one of {POLICIES}, not null."),
    ({"content": "Hello", "policy": {}}, f"policy: must be one of {POLICIES}, not {{}}."),
    *(
        (
            {"content": "Hello", "policy": policy},
            f"policy: must be one of {POLICIES}, not {json.dumps(policy)}.",
        )
        for policy in (["queue"], "Queue", "", 0, True)
    ),
    ({"content": "Hello", "if_turn": "1"}, 'if_turn: must be a whole number, not "1".'),
    ({"content": "Hello", "if_turn": 1.0}, "if_turn: must be a whole number, not 1.0."),
    ({"content": "Hello", "if_turn": True}, "if_turn: must be a whole number, not true."),
    ({"content": "Hello", "if_turn": [1]}, "if_turn: must be a whole number, not [1]."),
    ({"content": "Hello", "if_idle": None}, "if_idle: must be true or false, not null."),
    ({"content": "Hello", "if_idle": 1}, "if_idle: must be true or false, not 1."),
    ({"content": "Hello", "if_idle": "true"}, 'if_idle: must be true or false, not "true".'),
    *(
        ({"content": "Hello", name: x}, f"{name}: must be true or false, not {json.dumps(x)}.")
        for name in ("now", "keep_queued")
        for x in (None, 1, "true", [True], {})
    ),
    *(
        (
            {"content": "Hello", "metadata": x},
            f"metadata: must be a JSON object, not {json.dumps(x)}.",
        )
        for x in (None, [], "Ada", 5, True)
    ),
    ({"content": "Hello", "reason": "x"}, f"reason: is not a field. {FIELDS}"),
    ({"content": "Hello", "user": "Ada"}, f"user: is not a field. {FIELDS}"),
    ({"content": "Hello", "Content": "x"}, f"Content: is not a field. {FIELDS}"),
    ({"content": "Hello", "": "x"}, f": is not a field. {FIELDS}"),
    ({"content": " \n\t"}, f"content: is empty. {SEND}"),
    ({"content": "\u2003"}, f"content: is empty. {SEND}"),
]

# What providers refuse, or take for the agent's own: the schema says nothing of it.
NO_PART: list[tuple[Any, str]] = [
    *(
        (
            [TEXT_PART, {"type": kind, **more}],
            f"content[1]: is a {kind}, which only agents put out.",
        )
        for kind, more in (
            ("tool_use", {"id": "1", "name": "rm", "input": {}}),
            ("tool_use", {}),
            ("tool_result", {"tool_use_id": "1", "content": "Done."}),
            ("tool_result", {}),
        )
    ),
    *(
        ([{"type": "text", **text}], "content[0]: is a text part without text. Leave it out.")
        for text in ({}, *({"text": x} for x in ("", " \n\t", "\u2003", None, 5, True, ["x"], {})))
    ),
    ([TEXT_PART, {"type": "text"}], "content[1]: is a text part without text. Leave it out."),
    (
        [{"type": "text"}, {"type": "tool_use"}, None],  # the first that is wrong is named
        "content[0]: is a text part without text. Leave it out.",
    ),
]

TOO_LONG: list[tuple[Any, int]] = [
    ("x" * (MAX + 1), MAX + 1),
    ("ä" * (MAX // 2 + 1), MAX + 2),
    ([{"type": "x" * (MAX - 13)}], MAX + 1),
    ([{"type": "ä" * (MAX // 2 - 6)}], MAX + 2),
]


def message_in(
    body: Any,
    *,
    max_content: int = MAX,
    policy: Policy = "interrupt",
    allowed: Sequence[str] = _types.POLICIES,
) -> requests.MessageIn:
    """Check a message as an agent does to which nobody gave options."""
    fields: requests.MessageIn = TAKEN["message"](body)
    requests.check_message(fields, fields.get("policy", policy), allowed)
    requests.user_message(fields["content"], max_content)
    return fields


@pytest.mark.parametrize("body", ACCEPTED, ids=json.dumps)
def test_a_message_is_accepted_and_its_content_kept_as_it_is(body: Any) -> None:
    assert message_in(body) == body
    assert requests.user_message(body["content"], MAX) == {
        "role": "user",
        "content": body["content"],
    }


# What is asked of several fields together, and of the size of one: the schema says nothing of it.
NOT_TOGETHER: list[tuple[Any, str]] = [
    (
        {"content": "Hello", "if_turn": 1, "if_idle": True},
        "if_turn: cannot hold together with if_idle. Send one of them.",
    ),
    ({"content": "Hello", "now": True}, STEERED_ALONE.format("interrupt")),
    *(
        ({"content": "Hello", "policy": x, "now": True}, STEERED_ALONE.format(x))
        for x in _types.POLICIES
        if x != "steer"
    ),
    (
        {"content": "Hello", "metadata": {"x": "y" * (LIMIT - len('{"x": ""}') + 1)}},
        f"metadata: has {LIMIT + 1} bytes; at most {LIMIT} are accepted.",
    ),
    (
        {"content": "Hello", "metadata": {"x": "ä" * (LIMIT // 2)}},
        f"metadata: has {LIMIT + 9} bytes; at most {LIMIT} are accepted.",
    ),
    *(
        (
            {"content": "Hello", "metadata": x},
            "metadata: has half a surrogate pair, which is no text.",
        )
        for x in ({"\ud800": 1}, {"x": "\udfff"}, {"x": [{"y": "a\ud800"}]})
    ),
    *(
        (
            {"content": "Hello", "metadata": {"x": [json.loads(x)]}},
            "metadata: has a number that is not finite, which is no JSON.",
        )
        for x in ("1e999", "NaN", "-Infinity")
    ),
]


@pytest.mark.parametrize(("body", "reason"), NOT_TOGETHER)
def test_what_cannot_hold_together_or_be_kept_is_refused_with_400(body: Any, reason: str) -> None:
    with pytest.raises(Refusal) as caught:
        message_in(body)
    assert (caught.value.message, caught.value.status_code) == (reason, 400)
    assert caught.value.message.encode()


def test_a_message_is_read_at_once_also_where_the_policy_is_the_agents() -> None:
    assert message_in({"content": "Hello", "now": True}, policy="steer")


def test_what_is_noted_of_a_message_may_be_nested_to_a_depth_and_no_deeper() -> None:
    def noted(levels: int) -> Any:
        return {"content": "Hello", "metadata": {"x": json.loads("[" * levels + "]" * levels)}}

    assert message_in(noted(_types.MAX_DEPTH - 1))
    with pytest.raises(Refusal, match=r"^metadata: is nested more than 64 levels deep") as caught:
        message_in(noted(_types.MAX_DEPTH))
    assert caught.value.status_code == 400


def test_a_policy_that_the_agent_does_not_allow_is_refused_with_400_and_those_it_does() -> None:
    allowed = ("queue", "reject")
    with pytest.raises(Refusal) as caught:
        message_in({"content": "Hello", "policy": "interrupt"}, policy="queue", allowed=allowed)
    reason = 'policy: must be one of queue, reject, not "interrupt".'
    assert (caught.value.message, caught.value.status_code) == (reason, 400)
    for policy in allowed:
        body = {"content": "Hello", "policy": policy}
        assert message_in(body, policy="queue", allowed=allowed) == body


@pytest.mark.parametrize(("body", "reason"), REFUSED, ids=[json.dumps(x) for x, _ in REFUSED])
def test_a_wrong_message_is_refused_with_400_and_the_field_that_is_wrong(
    body: Any, reason: str
) -> None:
    with pytest.raises(Refusal) as caught:
        message_in(body)
    assert (caught.value.message, caught.value.status_code) == (reason, 400)


@pytest.mark.parametrize(
    ("content", "reason"), NO_PART, ids=[json.dumps(content) for content, _ in NO_PART]
)
def test_a_part_that_is_not_for_users_to_send_is_refused_with_400_and_its_place(
    content: Any, reason: str
) -> None:
    with pytest.raises(Refusal) as caught:
        message_in({"content": content})
    assert (caught.value.message, caught.value.status_code) == (reason, 400)


@pytest.mark.parametrize(
    ("content", "size"), TOO_LONG, ids=["text", "letters of two", "parts", "parts of two"]
)
def test_content_that_is_too_long_is_refused_with_413_and_both_sizes(
    content: Any, size: int
) -> None:
    with pytest.raises(Refusal) as caught:
        message_in({"content": content})
    reason = f"content: has {size} bytes; at most {MAX} are accepted."
    assert (caught.value.message, caught.value.status_code) == (reason, 413)
    assert message_in({"content": content}, max_content=size)


def test_a_refusal_quotes_no_more_of_the_input_than_a_reader_needs() -> None:
    with pytest.raises(Refusal) as caught:
        message_in({"content": "Hello", "role": "x" * 10_000})
    assert len(caught.value.message) < 150
    assert "…" in caught.value.message


# -- Bodies. ---------------------------------------------------------------------------------------


def test_a_body_is_parsed_as_json_and_no_body_is_nothing() -> None:
    assert parse(b'{"content": "\xc3\xa4"}') == {"content": "ä"}
    assert parse(b"null") is None
    assert parse(b"") is None


@pytest.mark.parametrize(
    "body", [b"Hello", b"{", b'{"content": }', b"\xff", b" ", b'{"content": "a\nb"}', b"9" * 5000]
)
def test_what_is_not_json_is_refused_by_every_handler_with_400(body: bytes) -> None:
    parsed = parse(body)
    assert isinstance(parsed, Malformed)
    for check, example in (
        (message_in, '{"content": "Hello"}'),
        (TAKEN["attach"], '{"turn": 1}, or no body'),
        (TAKEN["cancel"], '{"turn": 1}, or no body'),
        (TAKEN["regenerate"], '{"turn": 1}, or no body'),
        (TAKEN["rewind"], '{"turn": 1}'),
        (TAKEN["reset"], '{"reason": "…"}, or no body'),
        (TAKEN["fork"], '{"session": "copy"}'),
        (TAKEN["get_turns"], '{"limit": 10}, or no body'),
        (TAKEN["withdraw"], '{"message": 1}'),
        (TAKEN["replace"], '{"message": 1, "content": "Hello"}'),
        (TAKEN["promote"], '{"message": 1, "policy": "interrupt"}'),
        (TAKEN["resume"], '{"turn": 1}, or no body'),
        (TAKEN["edit"], '{"turn": 1, "content": "Hello"}'),
        (TAKEN["answer"], '{"approval": 1, "approved": true}'),
        (TAKEN["get_status"], "no body"),
    ):
        with pytest.raises(Refusal) as caught:
            check(parsed)
        assert caught.value.status_code == 400
        assert caught.value.message == f"body: is not JSON ({parsed.reason}). Send {example}."


NO_TEXT = "content: has half a surrogate pair, which is no text."
NOT_A_FIELD = f"\\ud800: is not a field. {FIELDS}"
EXAMPLE = 'Send {"content": "Hello"}.'
HOSTILE: dict[str, tuple[bytes, str]] = {
    "text that has no bytes": (rb'{"content": "\ud800"}', NO_TEXT),
    "bytes that are no text": (b'{"content": "\xed\xa0\x80"}', NO_TEXT),
    "a part that has no bytes": (rb'{"content": [{"type": "\ud800"}]}', NO_TEXT),
    "a name in a part that has no bytes": (
        rb'{"content": [{"type": "x", "\ud800": 1}]}',
        NO_TEXT,
    ),
    "a field that has no bytes": (rb'{"\ud800": "x"}', NOT_A_FIELD),
    "a number that is none": (
        b'{"content": [{"type": "x", "x": NaN}]}',
        f"body: is not JSON (NaN is not a JSON value). {EXAMPLE}",
    ),
    "a number without end": (
        b'{"content": [{"type": "x", "x": -Infinity}]}',
        f"body: is not JSON (-Infinity is not a JSON value). {EXAMPLE}",
    ),
    "a number too large to be finite": (
        b'{"content": [{"type": "x", "x": 1e999}]}',
        "content: has a number that is not finite, which is no JSON.",
    ),
    "a field with letters of its own": (
        '{"größe": 1}'.encode(),
        f"größe: is not a field. {FIELDS}",
    ),
}


@pytest.mark.parametrize(("body", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_what_cannot_be_stored_or_sent_back_is_refused(body: bytes, reason: str) -> None:
    # Any other error would be retried for ever, and the session would be stuck behind it.
    with pytest.raises(Refusal) as caught:
        message_in(parse(body))
    assert (caught.value.message, caught.value.status_code) == (reason, 400)
    assert caught.value.message.encode()


@pytest.mark.parametrize("around", ["[", '{"x": ['])
def test_content_may_be_nested_to_a_depth_and_no_deeper(around: str) -> None:
    levels = around.count("[") + around.count("{")

    def nested(depth: int) -> dict[str, Any]:
        # The list of parts and the part are two levels.
        inner: Any = []
        for _ in range(depth - 3):
            inner = [inner] if levels == 1 else {"x": inner}
        return {"content": [{"type": "x", "x": inner}]}

    assert message_in(nested(_types.MAX_DEPTH), max_content=MAX * MAX)
    with pytest.raises(Refusal) as caught:
        message_in(nested(_types.MAX_DEPTH + 1), max_content=MAX * MAX)
    reason = f"content: is nested more than {_types.MAX_DEPTH} levels deep. Flatten it."
    assert (caught.value.message, caught.value.status_code) == (reason, 400)


def test_a_depth_that_cannot_be_parsed_is_refused() -> None:
    with pytest.raises(Refusal, match=r"^body: is not JSON \(.*recursion") as caught:
        message_in(parse(b'{"content": ' + b"[" * 99_999))
    assert caught.value.status_code == 400


# -- Which turn. -----------------------------------------------------------------------------------


TURNS: list[Any] = [None, {}, {"turn": None}, {"turn": 1}, {"turn": 2**53 - 1}]
ATTACHED: list[Any] = [*TURNS, {"message": None}, {"message": 7}, {"message": 2**53 - 1}]


NO_TURN: list[tuple[Any, str]] = [
    (1, 'body: must be a JSON object, not 1. Send {"turn": 1}, or no body.'),
    ([], 'body: must be a JSON object, not []. Send {"turn": 1}, or no body.'),
    ("", 'body: must be a JSON object, not "". Send {"turn": 1}, or no body.'),
    ({"turn": True}, "turn: must be a whole number, not true."),
    ({"turn": "1"}, 'turn: must be a whole number, not "1".'),
    ({"turn": 1.5}, "turn: must be a whole number, not 1.5."),
    ({"turn": [1]}, "turn: must be a whole number, not [1]."),
    ({"turns": 1}, "turns: is not a field. Known fields: turn."),
    ({"turn": 1, "x": 1}, "x: is not a field. Known fields: turn."),
]


NO_ATTACH: list[tuple[Any, str]] = [
    *(
        (body, reason.replace("Known fields: turn.", "Known fields: message, turn."))
        for body, reason in NO_TURN
    ),
    ({"message": True}, "message: must be a whole number, not true."),
    ({"message": "1"}, 'message: must be a whole number, not "1".'),
    ({"message": 1.0}, "message: must be a whole number, not 1.0."),
    ({"message": {}}, "message: must be a whole number, not {}."),
]


LONGEST = "ä" * (_types.MAX_REASON // 2)
CANCELS: list[Any] = [
    None,
    {},
    {"turn": None, "reason": None},
    {"turn": 1},
    {"reason": "wrong file"},
    {"turn": 2, "reason": LONGEST},
    {"after_step": True},
    {"turn": 1, "reason": "enough", "after_step": False},
]
NO_CANCEL: list[tuple[Any, str]] = [
    *(
        (
            body,
            reason.replace(
                "Known fields: turn.", "Known fields: after_step, message, reason, turn."
            ),
        )
        for body, reason in NO_TURN
    ),
    *(
        ({"after_step": x}, f"after_step: must be true or false, not {json.dumps(x)}.")
        for x in (None, 0, "true", [])
    ),
    ({"reason": 5}, "reason: must be text, not 5."),
    ({"reason": False}, "reason: must be text, not false."),
    ({"turn": 1, "reason": ["x"]}, 'reason: must be text, not ["x"].'),
    ({"reason": {"x": 1}}, 'reason: must be text, not {"x": 1}.'),
    ({"turn": "1", "reason": "x"}, 'turn: must be a whole number, not "1".'),
]
NO_REASON = [
    (
        {"reason": f"{LONGEST}x"},
        f"reason: has {_types.MAX_REASON + 1} bytes; at most {_types.MAX_REASON} are accepted.",
    ),
    ({"reason": "\ud800"}, "reason: has half a surrogate pair, which is no text."),
]


# -- What is taken back, emptied, copied, and shown. -----------------------------------------------

REWINDS: list[Any] = [
    {"turn": 1},
    {"turn": 2**53 - 1, "reason": None},
    {"turn": 2, "reason": LONGEST},
    {"turn": 2, "reason": ""},
    {"turn": 2, "if_last": 3},
    {"turn": 2, "if_last": None},
]
FROM_THERE = 'Send {"turn": 1} for the first and all after it.'
NO_REWIND: list[tuple[Any, str]] = [
    (None, 'body: must be a JSON object, not null. Send {"turn": 1}.'),
    (1, 'body: must be a JSON object, not 1. Send {"turn": 1}.'),
    ([1], 'body: must be a JSON object, not [1]. Send {"turn": 1}.'),
    ({}, f"turn: is missing. {FROM_THERE}"),
    ({"turn": None}, f"turn: must be a whole number, not null. {FROM_THERE}"),
    ({"reason": "typo"}, f"turn: is missing. {FROM_THERE}"),
    ({"turn": True}, f"turn: must be a whole number, not true. {FROM_THERE}"),
    ({"turn": "1"}, f'turn: must be a whole number, not "1". {FROM_THERE}'),
    ({"turn": 1.0}, f"turn: must be a whole number, not 1.0. {FROM_THERE}"),
    ({"turn": 1, "reason": 5}, "reason: must be text, not 5."),
    ({"turn": 1, "reason": ["x"]}, 'reason: must be text, not ["x"].'),
    ({"turn": 1, "if_last": "3"}, 'if_last: must be a whole number, not "3".'),
    ({"turn": 1, "turns": 2}, "turns: is not a field. Known fields: if_last, reason, turn."),
]
REGENERATES: list[Any] = [
    None,
    {},
    {"turn": 2, "if_last": 3},
    {"if_last": 3},
]
NO_REGENERATE: list[tuple[Any, str]] = [
    (1, 'body: must be a JSON object, not 1. Send {"turn": 1}, or no body.'),
    ({"turn": "1"}, 'turn: must be a whole number, not "1".'),
    ({"if_last": True}, "if_last: must be a whole number, not true."),
    ({"reason": "typo"}, "reason: is not a field. Known fields: if_last, turn."),
]
RESETS: list[Any] = [
    None,
    {},
    {"reason": None},
    {"reason": "a new start"},
    {"reason": LONGEST},
]
NO_RESET: list[tuple[Any, str]] = [
    (5, 'body: must be a JSON object, not 5. Send {"reason": "…"}, or no body.'),
    ("why", 'body: must be a JSON object, not "why". Send {"reason": "…"}, or no body.'),
    ({"reason": 5}, "reason: must be text, not 5."),
    ({"reason": False}, "reason: must be text, not false."),
    ({"turn": 1}, "turn: is not a field. Known fields: reason."),
]
FORKS: list[Any] = [
    {"session": "copy"},
    {"session": "copy", "turn": None},
    {"session": "Key", "turn": 3},
    {"session": " ", "turn": 2**53 - 1},
    {"session": "a/b ä"},
]
NO_FORK: list[tuple[Any, str]] = [
    (None, 'body: must be a JSON object, not null. Send {"session": "copy"}.'),
    ("copy", 'body: must be a JSON object, not "copy". Send {"session": "copy"}.'),
    ({}, "session: is missing. Name the new session."),
    ({"turn": 1}, "session: is missing. Name the new session."),
    ({"session": None}, "session: must be text, not null. Name the new session."),
    ({"session": ""}, "session: is empty. Name the new session."),
    ({"session": 5}, "session: must be text, not 5. Name the new session."),
    ({"session": ["copy"]}, 'session: must be text, not ["copy"]. Name the new session.'),
    ({"session": "copy", "turn": "1"}, 'turn: must be a whole number, not "1".'),
    ({"session": "copy", "turn": True}, "turn: must be a whole number, not true."),
    ({"session": "copy", "key": "x"}, "key: is not a field. Known fields: session, turn."),
]
PAGES: list[Any] = [
    None,
    {},
    {"before": None, "limit": None},
    {"before": 7},
    {"limit": 1},
    {"before": 2**53 - 1, "limit": _types.MAX_TURNS},
]
NO_PAGE: list[tuple[Any, str]] = [
    (10, 'body: must be a JSON object, not 10. Send {"limit": 10}, or no body.'),
    ([], 'body: must be a JSON object, not []. Send {"limit": 10}, or no body.'),
    ({"limit": 0}, "limit: must be 1 to 100, not 0."),
    ({"limit": -1}, "limit: must be 1 to 100, not -1."),
    ({"limit": 101}, "limit: must be 1 to 100, not 101."),
    ({"limit": True}, "limit: must be a whole number, not true."),
    ({"limit": "10"}, 'limit: must be a whole number, not "10".'),
    ({"limit": 1.5}, "limit: must be a whole number, not 1.5."),
    ({"before": "1"}, 'before: must be a whole number, not "1".'),
    ({"before": False}, "before: must be a whole number, not false."),
    ({"after": 1}, "after: is not a field. Known fields: before, limit."),
]

# -- What is pending, goes on, is said otherwise, and is answered. ---------------------------------

ONE_MESSAGE = 'Send {"message": 1}, say.'


def no_message(example: str, fields: str, **rest: Any) -> list[tuple[Any, str]]:
    """What is refused by whatever takes a message's id, and these fields."""
    wrong = [None, True, "1", 1.0, [1], {}]
    return [
        (None, f"body: must be a JSON object, not null. Send {example}."),
        (1, f"body: must be a JSON object, not 1. Send {example}."),
        ([], f"body: must be a JSON object, not []. Send {example}."),
        (rest, f"message: is missing. {ONE_MESSAGE}"),
        *(
            (
                {**rest, "message": x},
                f"message: must be a whole number, not {json.dumps(x)}. {ONE_MESSAGE}",
            )
            for x in wrong
        ),
        ({**rest, "message": 1, "turn": 1}, f"turn: is not a field. Known fields: {fields}."),
    ]


MESSAGES: list[Any] = [{"message": 1}, {"message": 2**53 - 1}]
NO_MESSAGE = no_message('{"message": 1}', "message")
REPLACES: list[Any] = [
    {"message": 1, "content": "Hello"},
    {"message": 1, "content": [TEXT_PART]},
]
NO_REPLACE: list[tuple[Any, str]] = [
    *no_message('{"message": 1, "content": "Hello"}', "content, message", content="Hello"),
    ({"message": 1}, f"content: is missing. {SEND}"),
    ({"message": 1, "content": None}, f"content: must be text or a list, not null. {SEND}"),
    ({"message": 1, "content": ""}, f"content: is empty. {SEND}"),
    ({"message": 1, "content": []}, f"content: is empty. {SEND}"),
    ({"message": 1, "content": [5]}, "content[0]: must be an object with a `type`, not 5."),
    (
        {"message": 1, "content": "Hello", "metadata": {}},
        "metadata: is not a field. Known fields: content, message.",
    ),
]
PROMOTES: list[Any] = [
    {"message": 1, "policy": "interrupt"},
    {"message": 1, "policy": "steer"},
    {"message": 1, "policy": "steer", "now": True},
    {"message": 1, "policy": "interrupt", "now": False},
]
NO_PROMOTE: list[tuple[Any, str]] = [
    *no_message(
        '{"message": 1, "policy": "interrupt"}', "message, now, policy", policy="interrupt"
    ),
    ({"message": 1}, "policy: is missing. Send one of them."),
    *(
        (
            {"message": 1, "policy": x},
            f'policy: must be "interrupt" or "steer", not {json.dumps(x)}. Send one of them.',
        )
        for x in (None, "queue", "rollback", "reject", "Steer", ["steer"], True)
    ),
    *(
        ({"message": 1, "policy": "steer", "now": x}, f"now: must be true or false, not {said}.")
        for x, said in ((None, "null"), (1, "1"), ("true", '"true"'))
    ),
]
NO_RESUME: list[tuple[Any, str]] = [
    *NO_TURN,
    ({"content": "Go on."}, "content: is not a field. Known fields: turn."),
]
EDITS: list[Any] = [
    {"turn": 1, "content": "Hello"},
    {"turn": 1, "content": [TEXT_PART], "if_last": 3},
    {"turn": 2**53 - 1, "content": "Hello", "if_last": None},
]
FIRST_OF_ALL = 'Send {"turn": 1, "content": "…"}.'
NO_EDIT: list[tuple[Any, str]] = [
    (None, 'body: must be a JSON object, not null. Send {"turn": 1, "content": "Hello"}.'),
    ({}, f"turn: is missing. {FIRST_OF_ALL}"),
    ({"turn": None, "content": "Hello"}, f"turn: must be a whole number, not null. {FIRST_OF_ALL}"),
    ({"turn": "1", "content": "Hello"}, f'turn: must be a whole number, not "1". {FIRST_OF_ALL}'),
    ({"turn": True, "content": "Hello"}, f"turn: must be a whole number, not true. {FIRST_OF_ALL}"),
    ({"turn": 1}, f"content: is missing. {SEND}"),
    ({"turn": 1, "content": 5}, f"content: must be text or a list, not 5. {SEND}"),
    ({"turn": 1, "content": " "}, f"content: is empty. {SEND}"),
    ({"turn": 1, "content": "x", "if_last": "3"}, 'if_last: must be a whole number, not "3".'),
    (
        {"turn": 1, "content": "x", "reason": "typo"},
        "reason: is not a field. Known fields: content, if_last, turn.",
    ),
]
YES: dict[str, Any] = {"approval": 1, "approved": True}
ANSWERED: list[Any] = [
    YES,
    {"approval": 2**53 - 1, "approved": False},
    {**YES, "reason": None},
    {**YES, "reason": LONGEST},
    *({**YES, "value": x} for x in (None, 5, "x", [], {"branch": ["main"]}, False)),
    {**YES, "value": "x" * (_types.MAX_ASKED - 2)},
]
NO_ANSWER: list[tuple[Any, str]] = [
    (None, 'body: must be a JSON object, not null. Send {"approval": 1, "approved": true}.'),
    (True, 'body: must be a JSON object, not true. Send {"approval": 1, "approved": true}.'),
    ({}, "approval: is missing."),
    ({"approved": True}, "approval: is missing."),
    ({"approval": None, "approved": True}, "approval: must be a whole number, not null."),
    ({"approval": "1", "approved": True}, 'approval: must be a whole number, not "1".'),
    ({"approval": True, "approved": True}, "approval: must be a whole number, not true."),
    ({"approval": 1}, "approved: is missing."),
    *(
        ({"approval": 1, "approved": x}, f"approved: must be true or false, not {json.dumps(x)}.")
        for x in (None, 1, "yes", [])
    ),
    ({**YES, "reason": 5}, "reason: must be text, not 5."),
    ({**YES, "turn": 1}, "turn: is not a field. Known fields: approval, approved, reason, value."),
]

BODIES: dict[str, tuple[Sequence[Any], Sequence[tuple[Any, str]]]] = {
    "attach": (ATTACHED, NO_ATTACH),
    "cancel": (CANCELS, NO_CANCEL),
    "rewind": (REWINDS, NO_REWIND),
    "regenerate": (REGENERATES, NO_REGENERATE),
    "reset": (RESETS, NO_RESET),
    "fork": (FORKS, NO_FORK),
    "get_turns": (PAGES, NO_PAGE),
    "withdraw": (MESSAGES, NO_MESSAGE),
    "replace": (REPLACES, NO_REPLACE),
    "promote": (PROMOTES, NO_PROMOTE),
    "resume": (TURNS, NO_RESUME),
    "edit": (EDITS, NO_EDIT),
    "answer": (ANSWERED, NO_ANSWER),
}


@pytest.mark.parametrize(
    ("check", "body"),
    [
        pytest.param(TAKEN[name], body, id=f"{name} {json.dumps(body)}")
        for name, (taken, _) in BODIES.items()
        for body in taken
    ],
)
def test_the_body_of_a_control_is_read_as_it_is_and_none_is_an_empty_one(
    check: Any, body: Any
) -> None:
    assert check(body) == (body or {})


@pytest.mark.parametrize(
    ("check", "body", "reason"),
    [
        pytest.param(TAKEN[name], body, reason, id=f"{name} {json.dumps(body)}")
        for name, (_, refused) in BODIES.items()
        for body, reason in refused
    ],
)
def test_the_wrong_body_of_a_control_is_refused_with_400_and_the_field_that_is_wrong(
    check: Any, body: Any, reason: str
) -> None:
    with pytest.raises(Refusal) as caught:
        check(body)
    assert (caught.value.message, caught.value.status_code) == (reason, 400)


@pytest.mark.parametrize(
    ("check", "body"),
    [
        (TAKEN["rewind"], {"turn": 1}),
        (TAKEN["reset"], {}),
        (TAKEN["cancel"], {}),
        (TAKEN["answer"], YES),
    ],
)
@pytest.mark.parametrize(("wrong", "reason"), NO_REASON, ids=["long", "surrogate"])
def test_a_reason_that_cannot_be_kept_is_refused_by_whatever_takes_one(
    check: Any, body: Any, wrong: Any, reason: str
) -> None:
    with pytest.raises(Refusal) as caught:
        check({**body, **wrong})
    assert (caught.value.message, caught.value.status_code) == (reason, 400)
    assert caught.value.message.encode()


NO_VALUE: list[tuple[Any, str]] = [
    (
        "x" * (_types.MAX_ASKED - 1),
        f"value: has {_types.MAX_ASKED + 1} bytes; at most {_types.MAX_ASKED} are accepted.",
    ),
    (["\ud800"], "value: has half a surrogate pair, which is no text."),
    ({"\ud800": 1}, "value: has half a surrogate pair, which is no text."),
    ([json.loads("NaN")], "value: has a number that is not finite, which is no JSON."),
    (json.loads("-1e999"), "value: has a number that is not finite, which is no JSON."),
]


@pytest.mark.parametrize(("value", "reason"), NO_VALUE, ids=[x for _, x in NO_VALUE])
def test_a_value_that_cannot_be_kept_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(Refusal) as caught:
        TAKEN["answer"]({**YES, "value": value})
    assert (caught.value.message, caught.value.status_code) == (reason, 400)
    assert caught.value.message.encode()


@pytest.mark.parametrize("takes", [TAKEN["withdraw"], TAKEN["replace"], TAKEN["promote"]])
@pytest.mark.parametrize("number", [0, -1, -(2**53) + 1])
def test_that_there_is_no_such_message_is_left_to_the_handler(takes: Any, number: int) -> None:
    body = {"message": number, "content": "x", "policy": "steer"}
    known = {name: x for name, x in body.items() if name in takes.schema()["properties"]}
    assert takes(known) == known
    assert not accepts(takes.schema(), known)


def test_the_key_of_a_new_session_is_text() -> None:
    with pytest.raises(Refusal) as caught:
        TAKEN["fork"]({"session": "\ud800"})
    reason = "session: has half a surrogate pair, which is no text. Name the new session."
    assert (caught.value.message, caught.value.status_code) == (reason, 400)


@pytest.mark.parametrize(
    ("check", "field"),
    [
        (TAKEN["rewind"], "turn"),
        (TAKEN["reset"], "reason"),
        (TAKEN["fork"], "session"),
        (TAKEN["get_turns"], "before"),
        (TAKEN["withdraw"], "message"),
        (TAKEN["replace"], "content"),
        (TAKEN["promote"], "now"),
        (TAKEN["edit"], "content"),
        (TAKEN["answer"], "reason"),
    ],
)
def test_however_deep_the_body_of_a_control_is_it_is_refused_and_breaks_nothing(
    check: Any, field: str
) -> None:
    for depth in (_types.MAX_DEPTH, _types.MAX_DEPTH * 2, *range(900, 1100, 10)):
        body = b'{"' + field.encode() + b'": ' + b"[" * depth + b"]" * depth + b"}"
        with pytest.raises(Refusal, match=r"deep|is not JSON|must be|is missing"):
            check(parse(body))


# -- Why a turn was cancelled. ---------------------------------------------------------------------

HOSTILE_REASONS = [
    "wrong file",
    "a: b: c",
    ": ",
    " ",
    "interrupted by turn 2",
    "rolled back by turn 2",
    "rolled back",
    "cancelled: rolled back by turn 2",
    "stopped: withdrawn",
    "withdrawn",
    "promoted",
    "by turn 7",
    "x\nrolled back by turn 7",
    "\n",
    "ä" * 500,
]


@pytest.mark.parametrize(
    ("why", "cause"),
    [
        ("interrupted by turn 2", Cause("interrupted", 2)),
        ("rolled back by turn 12", Cause("rolled back", 12)),
        ("stopped", Cause("stopped")),
        ("stopped: enough", Cause("stopped", None, "enough")),
        ("withdrawn", Cause("withdrawn")),
        ("promoted", Cause("promoted")),
        ("stopped by turn 2", Cause("cancelled")),
        ("Stopped", Cause("cancelled")),
        ("cancelled", Cause("cancelled")),
        ("rolled back", Cause("rolled back")),
        ("interrupted by turn x", Cause("cancelled")),
        ("interrupted by turn 2\n", Cause("cancelled")),
        ("", Cause("cancelled")),
    ],
)
def test_a_cause_is_what_happened_and_the_turn_that_it_happened_for(why: str, cause: Cause) -> None:
    assert cause_of(why) == cause


@pytest.mark.parametrize("reason", HOSTILE_REASONS, ids=repr)
def test_no_reason_of_a_caller_is_taken_for_another_cause(reason: str) -> None:
    assert cause_of(f"cancelled: {reason}") == Cause("cancelled", None, reason)
    assert cause_of(f"rolled back: {reason}") == Cause("rolled back", None, reason)
    assert cause_of(f"stopped: {reason}") == Cause("stopped", None, reason)


@pytest.mark.parametrize("reason", [None, "", *HOSTILE_REASONS], ids=repr)
def test_a_cause_is_read_as_the_rules_wrote_it(reason: str | None) -> None:
    def cause(step: rules.Step) -> Cause:
        why = step.record.live[0].cancelled
        assert why is not None
        return cause_of(why)

    record = Record("epoch", 2, (Live(1, "inv-1"),))
    assert cause(rules.message_step(record)) == Cause("interrupted", 2)
    assert cause(rules.message_step(record, "rollback")) == Cause("rolled back", 2)
    assert cause(rules.regenerate_step(record, 1)) == Cause("rolled back", 2)
    assert cause(rules.cancel_step(record, 1, reason)) == Cause("cancelled", None, reason or None)
    stopped = rules.cancel_step(record, 1, reason, after_step=True)
    assert cause(stopped) == Cause("stopped", None, reason or None)
    assert cause(rules.cancel_step(stopped.record, 1)) == Cause("cancelled")
    assert cause(rules.rewind_step(record, 1, reason)) == Cause("rolled back", None, reason or None)


def test_what_takes_nothing_takes_nothing() -> None:
    TAKEN["get_status"](None)
    TAKEN["get_status"]({})
    for body, reason in (
        ({"turn": 1}, "turn: is not a field. Known fields: none."),
        (1, "body: must be a JSON object, not 1. Send no body."),
    ):
        with pytest.raises(Refusal) as caught:
            TAKEN["get_status"](body)
        assert (caught.value.message, caught.value.status_code) == (reason, 400)


# -- The schemas that discovery shows. -------------------------------------------------------------

JSON_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
NOTES = {"title", "description", "default", "examples"}


def accepts(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether a schema accepts a value: as much of JSON Schema as is used here, and no more."""

    def has_type(names: str | list[str]) -> bool:
        kinds = [JSON_TYPES[x] for x in ([names] if isinstance(names, str) else names)]
        # A bool is an int in Python.
        return any(isinstance(value, x) and (bool in x or type(value) is not bool) for x in kinds)

    def items(of: Mapping[str, Any]) -> bool:
        return not isinstance(value, list) or all(accepts(of, x) for x in value)

    def properties(of: Mapping[str, Mapping[str, Any]]) -> bool:
        return not isinstance(value, dict) or all(
            accepts(of[name], x) for name, x in value.items() if name in of
        )

    def additional(allowed: bool | Mapping[str, Any]) -> bool:
        known = schema.get("properties", {})
        rest = [value[x] for x in value.keys() - known.keys()] if isinstance(value, dict) else []
        return all(accepts(allowed, x) if isinstance(allowed, Mapping) else allowed for x in rest)

    checks: dict[str, Callable[[Any], bool]] = {
        "type": has_type,
        "enum": lambda those: any(type(x) is type(value) and x == value for x in those),
        "const": lambda that: value == that,
        "anyOf": lambda those: any(accepts(x, value) for x in those),
        "items": items,
        "properties": properties,
        "required": lambda names: not isinstance(value, dict) or value.keys() >= set(names),
        "additionalProperties": additional,
        "pattern": lambda this: not isinstance(value, str) or bool(re.search(this, value)),
        "minLength": lambda least: not isinstance(value, str) or len(value) >= least,
        "prefixItems": lambda those: not isinstance(value, list) or all(map(accepts, those, value)),
        "maxItems": lambda most: not isinstance(value, list) or len(value) <= most,
        "minItems": lambda least: not isinstance(value, list) or len(value) >= least,
        "minimum": lambda least: not isinstance(value, int) or value >= least,
        "maximum": lambda most: not isinstance(value, int) or value <= most,
    }
    return all(checks[word](wants) for word, wants in schema.items() if word not in NOTES)


@pytest.mark.parametrize(
    ("body", "valid"),
    [(body, True) for body in ACCEPTED] + [(body, False) for body, _ in REFUSED],
    ids=[json.dumps(body) for body in ACCEPTED + [body for body, _ in REFUSED]],
)
def test_the_schema_of_a_message_accepts_what_validation_accepts(body: Any, valid: bool) -> None:
    assert accepts(TAKEN["message"].schema(), body) is valid


@pytest.mark.parametrize("name", BODIES)
def test_the_schema_of_a_control_accepts_what_validation_accepts(name: str) -> None:
    taken, refused = BODIES[name]
    schema = TAKEN[name].schema()
    assert [body for body in taken if not accepts(schema, body)] == []
    assert [body for body, _ in refused if accepts(schema, body)] == []


@pytest.mark.parametrize(
    "name", ["cancel", "attach", "regenerate", "rewind", "fork", "resume", "edit"]
)
def test_the_schema_of_what_names_a_turn_knows_no_turn_nought(name: str) -> None:
    # Validation leaves it to the handler's 404.
    takes = TAKEN[name]
    rest = {"fork": {"session": "copy"}, "edit": {"content": "Hello"}}.get(name, {})
    assert accepts(takes.schema(), {**rest, "turn": 1})
    assert not accepts(takes.schema(), {**rest, "turn": 0})
    assert takes({**rest, "turn": 0})


def test_the_policies_of_the_schema_are_those_of_the_type() -> None:
    assert TAKEN["message"].schema()["properties"]["policy"]["enum"] == list(get_args(Policy))
    assert list(get_args(Policy)) == list(_types.POLICIES)


def test_a_schema_says_which_turn_is_meant_when_none_is_named() -> None:
    schemas = [
        x.schema()
        for x in (
            TAKEN["cancel"],
            TAKEN["attach"],
            TAKEN["regenerate"],
            TAKEN["fork"],
            TAKEN["resume"],
        )
    ]
    assert {x["title"]: x["properties"]["turn"]["description"] for x in schemas} == {
        "Cancel": "By default everything live.",
        "Attach": "By default the newest.",
        "Regenerate": "By default the last.",
        "Resume": "By default the last.",
        "Fork": "The last turn to take along; by default the last that has ended.",
    }


@pytest.mark.parametrize(
    ("schema", "places"),
    [
        (TAKEN["message"].schema(), 2),  # and what the caller notes of it
        (TAKEN["replace"].schema(), 1),
        (TAKEN["edit"].schema(), 1),
        (shape(_types.History).schema, 1),
        (shape(_types.Outcome).schema, 1),
    ],
)
def test_parts_and_messages_are_open_for_what_else_a_model_takes(
    schema: dict[str, Any], places: int
) -> None:
    """A client made from the schema sends and reads more than what is named."""
    opened = json.dumps(schema).count('"additionalProperties": true')
    assert opened == places
    assert '"default":' not in json.dumps(schema)  # or generators take it for always there
    assert TAKEN["message"].schema()["required"] == ["content"]


HELLO = {"role": "user", "content": "Hello"}
TURN: dict[str, Any] = {"turn": 1, "status": "running", "input": [HELLO], "messages": []}
ENDED: dict[str, Any] = {**TURN, "status": "interrupted", "messages": [ASSISTANT, HELLO]}
MORE_OF_A_TURN: dict[str, Any] = {
    "reason": "interrupted by turn 2",
    "error": "no",
    "steered": [1],
    "partial": 1,
    "cut_off": ["call_1"],
    "not_begun": ["call_2"],
    "discarded": True,
    "withdrawn": [HELLO],
    "resumes": 1,
    "given_up": True,
    "never_began": True,
    "task_id": "inv",
    "accepted_at": 1_760_000_000_000,
    "ended_at": 1_760_000_000_001,
}
RECEIPT = {"turn": 2, "message": 3, "task_id": "inv", "status": "waiting", "interrupted": [1]}
OUTCOME = {"turn": 1, "status": "interrupted", "messages": [ASSISTANT]}
STATUS: dict[str, Any] = {
    "status": "idle",
    "turn": None,
    "task_id": None,
    "live": [],
    "steered": 0,
    "pending": [],
    "waiting_for": [],
}
LIVE = {"turn": 1, "task_id": "inv", "cancelled": None}
PENDING = {"id": 2, "turn": 1, "kind": "steered", "content": [TEXT_PART]}
WAITS_FOR = {"id": 1, "turn": 1, "title": "git push"}

ANSWERS: list[tuple[Any, Any, dict[str, Any]]] = [
    (_types.Receipt, RECEIPT, {"discarded": [1]}),
    (_types.Receipt, {**RECEIPT, "status": "steered", "interrupted": []}, {}),
    (_types.Receipt, {**RECEIPT, "status": "joined", "interrupted": []}, {}),
    (_types.Cancelled, {"cancelled": []}, {}),
    (_types.Rewound, {"cancelled": [2], "discarded": [1, 2]}, {}),
    (_types.Forked, {"session": "copy", "turn": 0}, {}),
    (
        _types.Outcome,
        OUTCOME,
        {"error": "no", "partial": 1, "cut_off": ["a"], "not_begun": ["b"]},
    ),
    (_types.History, [HELLO, CALL, TOOL], {}),
    (_types.Status, STATUS, {}),
    (
        _types.Status,
        {
            **STATUS,
            "status": "running",
            "turn": 1,
            "task_id": "inv",
            "live": [LIVE, {**LIVE, "given_up": True, "after_step": True}],
            "steered": 2,
            "pending": [PENDING, {**PENDING, "kind": "queued", "metadata": {"author": "Ada"}}],
            "waiting_for": [WAITS_FOR, {**WAITS_FOR, "value": None, "until": 1_760_000_000_000}],
        },
        {},
    ),
    (_types.LiveTurn, LIVE, {"given_up": True, "after_step": True}),
    (_types.PendingMessage, PENDING, {}),
    (_types.TakenBack, {"status": "withdrawn"}, {}),
    (_types.Withdrawn, {"withdrawn": 2}, {}),
    (_types.Answered, {"answered": 1}, {}),
    (_types.Turn, TURN, {**MORE_OF_A_TURN, "reason": None, "task_id": None}),
    (_types.Turns, {"turns": [TURN, {**ENDED, **MORE_OF_A_TURN}], "before": 1}, {}),
    (_types.Turns, {"turns": [], "before": None}, {}),
]


@pytest.mark.parametrize(("typed", "answer", "more"), ANSWERS)
def test_the_schema_of_an_answer_accepts_it_and_nothing_less(
    typed: Any, answer: Any, more: dict[str, Any]
) -> None:
    schema = shape(typed).schema
    assert accepts(schema, answer)
    if isinstance(answer, dict):
        assert accepts(schema, {**answer, **more})
        for name in answer:
            assert not accepts(schema, {k: v for k, v in answer.items() if k != name})
        for name in (*answer, *more):
            assert not accepts(schema, {**answer, name: {"x": 1}})


def test_what_has_an_outcome_has_ended() -> None:
    statuses = list(get_args(_types.TurnStatus))
    assert shape(_types.Turn).schema["properties"]["status"]["enum"] == statuses
    statuses.remove("running")
    assert shape(_types.Outcome).schema["properties"]["status"]["enum"] == statuses


def test_the_examples_of_a_schema_are_valid() -> None:
    examples = TAKEN["message"].schema()["properties"]["content"]["examples"]
    assert examples
    for example in examples:
        assert message_in({"content": example}, max_content=_types.MAX_CONTENT)


@pytest.mark.parametrize("field", ["role", "policy", "if_turn", "if_idle", "type", "content"])
def test_however_deep_a_body_is_it_is_refused_and_breaks_nothing(field: str) -> None:
    # Python's JSON reads and writes about a thousand levels, not the same number of both.
    for depth in range(900, 1100):
        nest = b"[" * depth + b"]" * depth
        body = b'{"content": "x", "' + field.encode() + b'": ' + nest + b"}"
        with pytest.raises(Refusal, match=r"deep|is not JSON|is not a field"):
            message_in(parse(body))


@pytest.mark.parametrize("number", [2**53, -(2**53), 10**400])
def test_a_number_that_other_readers_of_json_would_change_is_refused_in_few_words(
    number: int,
) -> None:
    with pytest.raises(Refusal) as caught:
        TAKEN["attach"]({"turn": number})
    assert (caught.value.status_code, caught.value.message) == (
        400,
        "turn: is a number beyond 9007199254740991, which JSON cannot carry safely.",
    )
    assert TAKEN["attach"]({"turn": number // abs(number) * (2**53 - 1)}) is not None
