"""What callers send to an agent: the fields of each handler's body, and what is refused."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple

from typing_extensions import NotRequired, Required, TypedDict

from interruptible._wire.checks import Body, Refusal
from interruptible._wire.shapes import NO_TEXT
from interruptible._wire.text import brief
from interruptible._wire.types import (
    MAX_NUMBER,
    MAX_REASON,
    MAX_TURNS,
    Message,
    Policy,
    Rule,
    within,
)


def _says(description: str, called: str | None = None, remedy: str = "", **more: Any) -> Rule:
    return Rule({"description": description, **more}, called=called, remedy=remedy)


def _number(description: str) -> Rule:
    return _says(description, called="a whole number")


def _too_long(reason: str) -> str | None:
    size = len(reason.encode())
    wrong = f"has {size} bytes; at most {MAX_REASON} are accepted."
    return wrong if size > MAX_REASON else None


def _no_key(session: str) -> str | None:
    return None if session.encode() else "is empty."


def _not_for_users(part: dict[str, Any]) -> str | None:
    kind, text = part["type"], part.get("text")
    if kind in ("tool_use", "tool_result"):
        return f"is a {kind}, which only agents put out."
    if kind == "text" and (not isinstance(text, str) or not text.strip()):
        return "is a text part without text. Leave it out."
    return None


def _empty(content: str | list[Any]) -> str | None:
    said = content.strip() if isinstance(content, str) else content
    return None if said else "is empty."


_AnyTurn = Annotated[int, within(-MAX_NUMBER), Rule({"minimum": 1})]
AskedTurn = _AnyTurn | None
"""A turn's number. That there is no such turn is for the handler to say, which knows the last."""
IfLast = Annotated[AskedTurn, _number("Only if this is the session's last turn.")]
Reason = Annotated[
    Annotated[str, Rule(wrong=_too_long)] | None,
    _says("Why; it is kept with the turn.", called="text"),
]


class Part(TypedDict):
    """A part of what a user says; what else is in it is for the model."""

    type: str


Text = Annotated[str, Rule({"pattern": "\\S"})]
AnyPart = Annotated[
    Part, Rule({"additionalProperties": True}, _not_for_users, called="an object with a `type`")
]
Content = Annotated[
    Text | Annotated[list[AnyPart], Rule({"minItems": 1})],
    _says(
        "What the user says: text, or a list of parts.",
        remedy="Send text, or a list of parts.",
    ),
    Rule(wrong=_empty),
]


class MessageIn(TypedDict, total=False):
    """What `message` takes."""

    content: Required[Content]
    role: Annotated[
        Literal["user"],
        _says("Whose message it is; it may be left out.", remedy="Leave it out."),
    ]
    policy: Annotated[
        Policy, _says("What the message does to a live turn; by default the agent's.")
    ]
    if_turn: Annotated[AskedTurn, _number("Only if this turn is at work.")]
    if_idle: Annotated[bool, _says("Only if no turn is live.")]


class CancelIn(TypedDict, total=False):
    """What `cancel` takes."""

    turn: Annotated[AskedTurn, _number("By default everything live.")]
    reason: Reason


class AttachIn(TypedDict, total=False):
    """What `attach` takes."""

    turn: Annotated[AskedTurn, _number("By default the newest.")]


class RegenerateIn(TypedDict, total=False):
    """What `regenerate` takes."""

    turn: Annotated[AskedTurn, _number("By default the last.")]
    if_last: IfLast


class RewindIn(TypedDict):
    """What `rewind` takes."""

    turn: Annotated[_AnyTurn, Rule(remedy='Send {"turn": 1} for the first and all after it.')]
    reason: NotRequired[Reason]
    if_last: NotRequired[IfLast]


class ResetIn(TypedDict, total=False):
    """What `reset` takes."""

    reason: Reason


class ForkIn(TypedDict, total=False):
    """What `fork` takes."""

    session: Required[
        Annotated[
            str,
            _says("The key of the new session.", remedy="Name the new session.", minLength=1),
            Rule(wrong=_no_key),
        ]
    ]
    turn: Annotated[
        AskedTurn, _number("The last turn to take along; by default the last that has ended.")
    ]


class GetTurnsIn(TypedDict, total=False):
    """What `get_turns` takes."""

    before: Annotated[AskedTurn, _number("Turns before this one; by default the newest.")]
    limit: Annotated[
        Annotated[int, within(1, MAX_TURNS)] | None, _number(f"How many; by default {MAX_TURNS}.")
    ]


class NothingIn(TypedDict):
    """What a handler takes that takes nothing."""


SAID: Final = [{"content": "Write me a small todo CLI in Python."}]
MESSAGE_IN: Final = Body(MessageIn, '{"content": "Hello"}', examples=SAID)
CANCEL_IN: Final = Body(CancelIn, '{"turn": 1}')
ATTACH_IN: Final = Body(AttachIn, '{"turn": 1}')
REGENERATE_IN: Final = Body(RegenerateIn, '{"turn": 1}')
REWIND_IN: Final = Body(RewindIn, '{"turn": 1}')
RESET_IN: Final = Body(ResetIn, '{"reason": "…"}')
FORK_IN: Final = Body(ForkIn, '{"session": "copy"}')
GET_TURNS_IN: Final = Body(GetTurnsIn, '{"limit": 10}')
NOTHING_IN: Final = Body(NothingIn, "")


class Request(NamedTuple):
    """A message as it came in, with what it asks for."""

    message: Message
    policy: Policy
    if_turn: int | None
    if_idle: bool


def message_in(body: Any, *, max_content: int, policy: Policy, allowed: Sequence[str]) -> Request:
    """Check the body of `message`.

    Args:
        body: The body.
        max_content: The largest content, in bytes.
        policy: The policy of a message that names none.
        allowed: The policies that the agent allows.

    Returns:
        The message to store, and what it asks for.

    Raises:
        Refusal: 400 names the field that is wrong; 413 when the content is too long.
    """
    fields = MESSAGE_IN.opened(body)
    chosen = fields.get("policy", policy)
    if chosen not in allowed:
        raise Refusal(f"policy: must be one of {', '.join(allowed)}, not {brief(chosen)}.")
    asked = MESSAGE_IN.checked(fields)
    content, if_idle, if_turn = asked["content"], asked.get("if_idle", False), asked.get("if_turn")
    if if_idle and if_turn is not None:
        raise Refusal("if_turn: cannot hold together with if_idle. Send one of them.")
    try:
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Refusal(f"content: {NO_TEXT}") from None
    if size > max_content:
        raise Refusal(f"content: has {size} bytes; at most {max_content} are accepted.", 413)
    return Request({"role": "user", "content": content}, chosen, if_turn, if_idle)
