"""What callers send to an agent: the fields of each handler's body, and what is refused."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from typing_extensions import NotRequired, Required, TypedDict

from interruptible._wire.checks import Refusal
from interruptible._wire.fields import (
    AnyMessage,
    AnyTurn,
    AskedTurn,
    Content,
    IfLast,
    Metadata,
    Now,
    Reason,
    number_of,
    says,
    too_much,
)
from interruptible._wire.rule import MAX_NUMBER, Rule, within
from interruptible._wire.shapes import NO_TEXT
from interruptible._wire.text import brief
from interruptible._wire.types import MAX_ASKED, MAX_TURNS, POLICIES, Message


def _no_key(session: str) -> str | None:
    return None if session.encode() else "is empty."


class MessageIn(TypedDict, total=False):
    """What `message` takes."""

    content: Required[Annotated[Content, Rule({"examples": ["Write me a small todo CLI."]})]]
    role: Annotated[
        Literal["user"],
        says("Whose message it is; it may be left out.", remedy="Leave it out."),
    ]
    policy: Annotated[
        str,
        says(
            "What the message does to a live turn; by default the agent's.",
            called=f"one of {', '.join(POLICIES)}",
            enum=[*POLICIES],
        ),
    ]
    """Which of them the agent allows is for the handler to say."""
    if_turn: Annotated[AskedTurn, number_of("Only if this turn is at work.")]
    if_idle: Annotated[bool, says("Only if no turn is live.")]
    now: Now
    keep_queued: Annotated[
        bool, says("Whether turns that are queued are spared; by default as the agent says.")
    ]
    metadata: Metadata


class CancelIn(TypedDict, total=False):
    """What `cancel` takes."""

    turn: Annotated[AskedTurn, number_of("By default everything live.")]
    message: Annotated[int | None, within(-MAX_NUMBER), number_of("The turn begun for this.")]
    reason: Reason
    after_step: Annotated[
        bool, says("Whether what is in flight goes on to its end, and is kept; then it ends.")
    ]


class AttachIn(TypedDict, total=False):
    """What `attach` takes."""

    turn: Annotated[AskedTurn, number_of("By default the newest.")]
    message: Annotated[AnyMessage | None, number_of("Instead: the turn that answers this.")]


class WithdrawIn(TypedDict):
    """What `withdraw` takes."""

    message: AnyMessage


class ReplaceIn(TypedDict):
    """What `replace` takes."""

    message: AnyMessage
    content: Content


class PromoteIn(TypedDict):
    """What `promote` takes."""

    message: AnyMessage
    policy: Annotated[
        Literal["interrupt", "steer"],
        says(
            "Whether it is answered next, or steered at the turn at work.",
            remedy="Send one of them.",
        ),
    ]
    now: NotRequired[Now]


class ResumeIn(TypedDict, total=False):
    """What `resume` takes."""

    turn: Annotated[AskedTurn, number_of("By default the last.")]


class EditIn(TypedDict):
    """What `edit` takes."""

    turn: Annotated[AnyTurn, Rule(remedy='Send {"turn": 1, "content": "…"}.')]
    content: Content
    if_last: NotRequired[IfLast]


class AnswerIn(TypedDict):
    """What `answer` takes."""

    approval: Annotated[int, within(-MAX_NUMBER), Rule({"minimum": 1})]
    approved: bool
    reason: NotRequired[Annotated[Reason, says("Why.")]]
    value: NotRequired[
        Annotated[Any, says("What else the task is to know."), Rule(wrong=too_much(MAX_ASKED))]
    ]


class RegenerateIn(TypedDict, total=False):
    """What `regenerate` takes."""

    turn: Annotated[AskedTurn, number_of("By default the last.")]
    if_last: IfLast


class RewindIn(TypedDict):
    """What `rewind` takes."""

    turn: Annotated[AnyTurn, Rule(remedy='Send {"turn": 1} for the first and all after it.')]
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
            says("The key of the new session.", remedy="Name the new session.", minLength=1),
            Rule(wrong=_no_key),
        ]
    ]
    turn: Annotated[
        AskedTurn, number_of("The last turn to take along; by default the last that has ended.")
    ]


class GetTurnsIn(TypedDict, total=False):
    """What `get_turns` takes."""

    before: Annotated[AskedTurn, number_of("Turns before this one; by default the newest.")]
    limit: Annotated[
        Annotated[int, within(1, MAX_TURNS)] | None, number_of(f"How many; by default {MAX_TURNS}.")
    ]


class NothingIn(TypedDict):
    """What a handler takes that takes nothing."""


def check_message(fields: MessageIn, policy: str, allowed: Sequence[str]) -> None:
    """Refuse a message whose fields do not go together, or with the agent.

    Args:
        fields: The message.
        policy: Its policy.
        allowed: The policies that the agent allows.
    """
    check_policy(policy, allowed)
    if fields.get("if_idle") and fields.get("if_turn") is not None:
        raise Refusal("if_turn: cannot hold together with if_idle. Send one of them.")
    check_now(fields, policy)


def check_policy(policy: Any, allowed: Sequence[str]) -> None:
    """Refuse a policy that the agent does not allow."""
    if policy not in allowed:
        raise Refusal(f"policy: must be one of {', '.join(allowed)}, not {brief(policy)}.")


def check_now(fields: Mapping[str, Any], policy: str) -> None:
    """Refuse to have a message read at once that is not steered."""
    if fields.get("now") and policy != "steer":
        raise Refusal(
            f"now: is for messages that are steered, and the policy is {policy}. Send it with "
            '"policy": "steer", or without now.'
        )


def user_message(content: Any, max_content: int) -> Message:
    """What a user said, as a message.

    Raises:
        Refusal: 400: it is no text; 413: it is too long.
    """
    try:
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Refusal(f"content: {NO_TEXT}") from None
    if size > max_content:
        raise Refusal(f"content: has {size} bytes; at most {max_content} are accepted.", 413)
    return {"role": "user", "content": content}
