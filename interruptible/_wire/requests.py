"""What callers send to an agent: the fields of each handler's body, and what is refused."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple

from typing_extensions import NotRequired, Required, TypedDict

from interruptible._wire.checks import Body, Refusal
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
from interruptible._wire.said import with_metadata
from interruptible._wire.shapes import NO_TEXT
from interruptible._wire.text import brief
from interruptible._wire.types import (
    MAX_ASKED,
    MAX_TURNS,
    Message,
    Policy,
)


def _no_key(session: str) -> str | None:
    return None if session.encode() else "is empty."


class MessageIn(TypedDict, total=False):
    """What `message` takes."""

    content: Required[Content]
    role: Annotated[
        Literal["user"],
        says("Whose message it is; it may be left out.", remedy="Leave it out."),
    ]
    policy: Annotated[Policy, says("What the message does to a live turn; by default the agent's.")]
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
WITHDRAW_IN: Final = Body(WithdrawIn, '{"message": 1}')
REPLACE_IN: Final = Body(ReplaceIn, '{"message": 1, "content": "Hello"}')
PROMOTE_IN: Final = Body(PromoteIn, '{"message": 1, "policy": "interrupt"}')
RESUME_IN: Final = Body(ResumeIn, '{"turn": 1}')
EDIT_IN: Final = Body(EditIn, '{"turn": 1, "content": "Hello"}')
ANSWER_IN: Final = Body(AnswerIn, '{"approval": 1, "approved": true}')


class Request(NamedTuple):
    """A message as it came in, with what it asks for."""

    message: Message
    policy: Policy
    if_turn: int | None
    if_idle: bool
    now: bool
    keep_queued: bool | None
    """`None` is: as the agent says."""


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
    check_policy(chosen, allowed)
    asked = MESSAGE_IN.checked(fields)
    if_idle, if_turn = asked.get("if_idle", False), asked.get("if_turn")
    if if_idle and if_turn is not None:
        raise Refusal("if_turn: cannot hold together with if_idle. Send one of them.")
    check_now(asked, chosen)
    message = user_message(asked["content"], max_content)
    metadata = asked.get("metadata")
    return Request(
        with_metadata(message, metadata),
        chosen,
        if_turn,
        if_idle,
        asked.get("now", False),
        asked.get("keep_queued"),
    )


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
