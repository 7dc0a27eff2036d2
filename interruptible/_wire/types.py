"""What goes over the wire, as types; the checks and the schemas are made of them. Knows nobody."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias, get_args

from typing_extensions import NotRequired, TypedDict

Message: TypeAlias = dict[str, Any]
"""One message, as the chat APIs have it: `role`, `content`, and what else they take."""

Policy: TypeAlias = Literal["interrupt", "rollback", "queue", "steer", "reject"]
"""What a message does to the turns that are live."""

Burst: TypeAlias = Literal["merge", "supersede"]
TurnStatus: TypeAlias = Literal["running", "completed", "interrupted", "failed", "killed"]
"""How a turn is: it is live, or it ended so."""

POLICIES: Final[tuple[Policy, ...]] = get_args(Policy)
MAX_CONTENT: Final = 1024 * 1024
MAX_OUTPUT: Final = 8 * 1024 * 1024
"""Bytes of what a turn puts out: the next task and whoever attaches are sent all of it."""
MAX_REASON: Final = 1000
"""Bytes of the reason for a cancel: it stands in the record that each message reads."""
MAX_DEPTH: Final = 64
"""How deep content may be nested: Python's JSON gives up at about a thousand."""
MAX_NUMBER: Final = 2**53 - 1
"""The largest whole number that every reader of JSON keeps exact (RFC 8259, section 6)."""
MAX_TURNS: Final = 100
"""How many turns a page of the record has at most."""


class Rule:
    """What a value has to be beside its type. It stands in `Annotated`, and `shapes` reads it.

    Args:
        schema: What its JSON schema says besides.
        wrong: What is wrong with a value of the type, if anything.
        called: What it must be, in words, where those for its type say too little.
        remedy: What to do about one that is missing or wrong.
    """

    def __init__(
        self,
        schema: Mapping[str, Any] | None = None,
        wrong: Callable[[Any], str | None] | None = None,
        called: str | None = None,
        remedy: str = "",
    ) -> None:
        self.schema = schema or {}
        self.wrong = wrong
        self.called = called
        self.remedy = remedy


def within(least: int, most: int = MAX_NUMBER) -> Rule:
    """A number between these two; it never goes beyond what JSON carries safely."""

    def wrong(value: int) -> str | None:
        if abs(value) > MAX_NUMBER:
            return f"is a number beyond {MAX_NUMBER}, which JSON cannot carry safely."
        return None if least <= value <= most else f"must be {least} to {most}, not {value}."

    return Rule({"minimum": least, **({"maximum": most} if most < MAX_NUMBER else {})}, wrong)


TurnNumber: TypeAlias = Annotated[int, within(1)]
Count: TypeAlias = Annotated[int, within(0)]


def _not_an_end(status: str) -> str | None:
    return None if status in ENDS else "must be how a turn ends."


ENDS: Final = tuple(x for x in get_args(TurnStatus) if x != "running")
EndStatus: TypeAlias = Annotated[
    TurnStatus,
    Rule(
        {"enum": list(ENDS)},
        _not_an_end,
        called="how a turn ends",
    ),
]
Messages: TypeAlias = Annotated[
    list[Message],
    Rule(
        {
            "items": {
                "type": "object",
                "properties": {"role": {"type": "string"}, "content": {}},
                "required": ["role"],
                "additionalProperties": True,
            }
        },
        called="a list of messages",
    ),
]
"""Messages that were taken in or put out; nobody checks again what is in them."""
History: TypeAlias = Annotated[Messages, Rule({"title": "History"})]


class Receipt(TypedDict):
    """The answer to a message: its turn, and the live turns that it interrupted.

    The status is `waiting` while an earlier turn is at work or cleans up, otherwise `running`. It
    is `steered` when the message went to a turn at work, and `joined` when it became part of one
    that had not begun; then turn and task are those. `discarded` is there when turns were.
    """

    turn: TurnNumber
    task_id: str
    status: Literal["running", "waiting", "steered", "joined"]
    interrupted: list[TurnNumber]
    discarded: NotRequired[list[TurnNumber]]


class Cancelled(TypedDict):
    """The answer to a cancel: the turns that were live and not yet cancelled."""

    cancelled: list[TurnNumber]


class Rewound(TypedDict):
    """The answer to a rewind: the turns that it cancelled, and those that it discarded."""

    cancelled: list[TurnNumber]
    discarded: list[TurnNumber]


class Forked(TypedDict):
    """The answer to a fork: the new session, and the last turn that it has."""

    session: str
    turn: Count


class Outcome(TypedDict):
    """How a turn ended, with the messages it put out; `error` says why a failed one failed.

    Messages that were steered at the turn stand where it took them. The last `partial` messages of
    an interrupted turn were cut off while the model said them. `cut_short` are the places of those
    that were cut off because the user said something else; the turn went on. `cut_off` and
    `not_begun` are the ids of calls that had no result: those that may have had an effect, and
    those that had none. A turn that `never_began` was interrupted while it waited, and has done
    nothing.
    """

    turn: TurnNumber
    status: EndStatus
    messages: Messages
    error: NotRequired[str]
    partial: NotRequired[Count]
    cut_short: NotRequired[list[Count]]
    cut_off: NotRequired[list[str]]
    not_begun: NotRequired[list[str]]
    never_began: NotRequired[bool]


class LiveTurn(TypedDict):
    """A turn whose outcome the session has not recorded yet; `cancelled` says why, once it is.

    One that is `given_up` did not end within `cleanup_timeout`: nothing waits for it any more.
    """

    turn: TurnNumber
    task_id: str | None
    cancelled: str | None
    given_up: NotRequired[bool]


class Status(TypedDict):
    """What a session is doing; `turn` and `task_id` are those of the turn at work.

    That is the oldest live turn that is not cancelled, or else the newest; none that was given up.
    So a session may be idle while `live` has some. `steered` is how many messages wait to be taken
    by a turn.
    """

    status: Literal["idle", "running"]
    turn: int | None
    task_id: str | None
    live: list[LiveTurn]
    steered: Count


class Turn(TypedDict):
    """The record of one turn: what came in, what it put out, and how it ended.

    `reason` says why it was interrupted, `error` why it failed. `steered` are the places among
    `messages` of those that a user steered at it; the last `partial` of them were cut off while the
    model said them. `cut_short` are the places of those that were cut off because the user said
    something else; the turn went on. `cut_off` and `not_begun` are the ids of its calls that had no
    result: those that may have had an effect, and those that had none. A `discarded` turn is no
    part of the conversation. One that `never_began` was interrupted while it waited; one that was
    `given_up` did not end within `cleanup_timeout`, and later turns did not wait for its end. Times
    are in milliseconds since 1970: when it was accepted, and when its end was recorded.
    """

    turn: TurnNumber
    status: TurnStatus
    input: Messages
    messages: Messages
    reason: NotRequired[str | None]
    error: NotRequired[str]
    steered: NotRequired[list[Count]]
    partial: NotRequired[Count]
    cut_short: NotRequired[list[Count]]
    cut_off: NotRequired[list[str]]
    not_begun: NotRequired[list[str]]
    never_began: NotRequired[bool]
    discarded: NotRequired[bool]
    given_up: NotRequired[bool]
    task_id: NotRequired[str | None]
    accepted_at: NotRequired[Count]
    ended_at: NotRequired[Count]


class Turns(TypedDict):
    """A page of the record; `before` asks for the one before it, and is `None` at the beginning."""

    turns: list[Turn]
    before: int | None


class Cause(NamedTuple):
    """Why a turn was cancelled: by which turn, if by one, and the caller's reason, if any."""

    kind: Literal["interrupted", "cancelled", "rolled back"]
    turn: int | None = None
    reason: str | None = None


class Origin(NamedTuple):
    """Where a session was forked: the other session, and the last turn that was copied."""

    session: str
    turn: int


class TaskOutcome(Outcome):
    """The outcome as a task reports it."""

    taken: NotRequired[list[tuple[Count, Count]]]
    """The steered messages that are among its messages: the number and the place of each."""


class Predecessor(TypedDict):
    """A live turn that a new task waits for."""

    turn: int
    task_id: str
    cancelled: bool


class Dispatch(TypedDict):
    """What the object sends to the task service: one turn to work on."""

    session: str
    turn: int
    input: list[Message]
    after: list[Predecessor]
    turns: NotRequired[list[Turn]]
    """The conversation before, when it is short and complete."""
    forked_from: NotRequired[tuple[str, int]]
    stream: NotRequired[str]
    """The key that publishes for the turn, if the agent streams."""


class Settlement(TypedDict):
    """What a task reports: its turn's outcome, and the earlier turns that it saw end."""

    outcome: TaskOutcome
    ended: NotRequired[list[TurnNumber]]


def cause_of(why: str) -> Cause:
    """The cause that a cancelled turn has in the session's record."""
    by = re.fullmatch(r"(interrupted|rolled back) by turn (\d+)", why)
    if by is not None:
        return Cause("interrupted" if by[1] == "interrupted" else "rolled back", int(by[2]))
    did, _, reason = why.partition(": ")
    return Cause("rolled back" if did == "rolled back" else "cancelled", None, reason or None)
