"""What a client of AG-UI asks for with a run, checked; and what a run asks a user. Pure."""

import hashlib
import json
import re
from datetime import datetime, timezone
from typing import Any, Final, NamedTuple, cast, get_args

from ag_ui.core import Interrupt, Message, RunAgentInput

from interruptible._gateway.agui_messages import to_content
from interruptible._wire import types as wire
from interruptible.formats._values import value_in

ANSWER: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "reason": {"type": "string"}, "value": {}},
    "required": ["approved"],
}
"""What answers an approval, as a JSON schema; a bare boolean does, too."""


class AnswerOf(NamedTuple):
    """What a user has answered."""

    approval: int
    approved: bool
    reason: str | None = None
    value: Any = None


class RunAsked(NamedTuple):
    """What a client asks for with a run."""

    thread: str
    run: str
    known: list[Message]
    """The messages that the client has."""
    said: Message
    """The last of the user's."""
    content: str | list[dict[str, Any]]
    noted: dict[str, str]
    """What is noted of the message: its name, a sum of its content, and the run."""
    policy: wire.Policy | None
    answers: list[AnswerOf]


def asked_in(body: RunAgentInput) -> RunAsked:
    """What a client asks for.

    Raises:
        ValueError: Something is wrong with it; says what, and what to do.
    """
    mode = value_in(body.forwarded_props, "mode")
    modes = get_args(wire.Policy)
    if mode is not None and mode not in modes:
        raise ValueError(
            f"forwardedProps: mode is {mode!r}. Write it as one of {', '.join(modes)}."
        )
    if not body.thread_id:
        raise ValueError("threadId: is empty. Name the session.")
    said = [x for x in body.messages if x.role == "user"]
    if not said:
        raise ValueError("messages: none is a user's. Send what the user has said.")
    return RunAsked(
        thread=body.thread_id,
        run=body.run_id,
        known=body.messages,
        said=said[-1],
        content=(content := to_content(said[-1].content)),
        noted={"message": said[-1].id, "sum": _sum(content), "run": body.run_id},
        policy=cast("wire.Policy | None", mode),
        answers=[_answer_in(x.interrupt_id, x.status, x.payload) for x in body.resume or ()],
    )


def interrupt_of(waiting: wire.WaitingApproval) -> Interrupt:
    """An approval that a turn waits for, as AG-UI asks for it."""
    until = waiting.get("until")
    return Interrupt(
        id=str(waiting["id"]),
        reason="approval",
        message=waiting["title"],
        response_schema=ANSWER,
        expires_at=None if until is None else _date_of(until),
        metadata={"value": waiting["value"]} if "value" in waiting else None,
    )


def _sum(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _date_of(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).isoformat()


def _answer_in(interrupt: str, status: str, payload: Any) -> AnswerOf:
    if not re.fullmatch("[0-9]{1,15}", interrupt):
        raise ValueError(
            f"resume: there is no interrupt {interrupt!r}. Send the id that it came with."
        )
    if status == "cancelled":
        return AnswerOf(int(interrupt), approved=False)
    if isinstance(payload, bool):
        return AnswerOf(int(interrupt), approved=payload)
    approved, reason = value_in(payload, "approved"), value_in(payload, "reason")
    if not isinstance(approved, bool) or not isinstance(reason, (str, type(None))):
        raise ValueError(  # noqa: TRY004 - it is said to the client
            f"resume: the payload of {interrupt} is no answer. Write it as true, false, or "
            '{"approved": true, "reason": "..."}.'
        )
    return AnswerOf(int(interrupt), approved, reason, value_in(payload, "value"))
