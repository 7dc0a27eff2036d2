"""The fields that the bodies of several handlers have, and what is refused."""

import json
from collections.abc import Callable
from typing import Annotated, Any

from typing_extensions import TypedDict

from interruptible._wire.rule import MAX_NUMBER, Rule, within
from interruptible._wire.types import MAX_METADATA, MAX_REASON


def says(description: str, called: str | None = None, remedy: str = "", **more: Any) -> Rule:
    return Rule({"description": description, **more}, called=called, remedy=remedy)


def number_of(description: str) -> Rule:
    return says(description, called="a whole number")


def _too_long(reason: str) -> str | None:
    size = len(reason.encode())
    wrong = f"has {size} bytes; at most {MAX_REASON} are accepted."
    return wrong if size > MAX_REASON else None


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


AnyTurn = Annotated[int, within(-MAX_NUMBER), Rule({"minimum": 1})]
AskedTurn = AnyTurn | None
"""A turn's number. That there is no such turn is for the handler to say, which knows the last."""
IfLast = Annotated[AskedTurn, number_of("Only if this is the session's last turn.")]
Reason = Annotated[
    Annotated[str, Rule(wrong=_too_long)] | None,
    says("Why; it is kept with the turn.", called="text"),
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
    says(
        "What the user says: text, or a list of parts.",
        remedy="Send text, or a list of parts.",
    ),
    Rule(wrong=_empty),
]


def too_much(limit: int) -> Callable[[Any], str | None]:
    def wrong(value: Any) -> str | None:
        size = len(json.dumps(value, ensure_ascii=False).encode())
        return f"has {size} bytes; at most {limit} are accepted." if size > limit else None

    return wrong


Metadata = Annotated[
    dict[str, Any],
    says("What the caller notes of the message; no model sees it.", called="a JSON object"),
    Rule(wrong=too_much(MAX_METADATA)),
]
AnyMessage = Annotated[
    int, within(-MAX_NUMBER), Rule({"minimum": 1}, remedy='Send {"message": 1}, say.')
]
"""A message's id. That there is no such message is for the handler to say."""
Now = Annotated[bool, says("Whether the turn at work is to read it at once; with `steer` alone.")]
