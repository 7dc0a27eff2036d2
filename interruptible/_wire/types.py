"""What goes over the wire, as types; the checks and the schemas are made of them."""

from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias, get_args

from typing_extensions import NotRequired, TypedDict

from interruptible._wire.rule import Rule, within

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
MAX_METADATA: Final = 4 * 1024
"""Bytes of what a caller notes of a message, as JSON."""
MAX_ASKED: Final = 64 * 1024
"""Bytes of what is asked for an approval, and of what comes with its answer, as JSON."""
MAX_DEPTH: Final = 64
"""How deep content may be nested: Python's JSON gives up at about a thousand."""
MAX_TURNS: Final = 100
"""How many turns a page of the record has at most."""


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
    `message` is the message's id; of a turn that answers messages once more, that of the last of
    them, or 0 if it has none.
    """

    turn: TurnNumber
    message: Count
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


class Withdrawn(TypedDict):
    """The answer to a withdraw: the message that was taken back."""

    withdrawn: Count


class Answered(TypedDict):
    """The answer to an answer: the approval that it was for."""

    answered: Count


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


class TakenBack(TypedDict):
    """What became of a message that was withdrawn: no turn has answered it."""

    status: Literal["withdrawn"]


class LiveTurn(TypedDict):
    """A turn whose outcome the session has not recorded yet; `cancelled` says why, once it is.

    One that is `given_up` did not end within `cleanup_timeout`: nothing waits for it any more. One
    that is cancelled `after_step` ends once what it has in flight has ended.
    """

    turn: TurnNumber
    task_id: str | None
    cancelled: str | None
    given_up: NotRequired[bool]
    after_step: NotRequired[bool]


class PendingMessage(TypedDict):
    """A message that no model has read yet, and its turn.

    It is `queued` if its turn waits, `joined` if it became part of such a turn in its quiet window,
    and `steered` if it was steered at a turn that has not taken it.
    """

    id: Count
    turn: TurnNumber
    kind: Literal["queued", "steered", "joined"]
    content: str | list[Any]
    metadata: NotRequired[dict[str, Any]]


class WaitingApproval(TypedDict):
    """What a turn may not do before somebody has said yes: what it is, and more about it.

    `until` is when its time is over, in milliseconds since 1970, if it has one.
    """

    id: Count
    turn: TurnNumber
    title: str
    value: NotRequired[Any]
    until: NotRequired[Count]


class Status(TypedDict):
    """What a session is doing; `turn` and `task_id` are those of the turn at work.

    That is the oldest live turn that is not cancelled, or else the newest; none that was given up.
    So a session may be idle while `live` has some. `steered` is how many messages wait to be taken
    by a turn. `pending` is what no model has read yet, in the order in which it will be;
    `waiting_for` are the approvals that a turn waits for.
    """

    status: Literal["idle", "running"]
    turn: int | None
    task_id: str | None
    live: list[LiveTurn]
    steered: Count
    pending: list[PendingMessage]
    waiting_for: list[WaitingApproval]


class Turn(TypedDict):
    """The record of one turn: what came in, what it put out, and how it ended.

    `reason` says why it was interrupted, `error` why it failed. `steered` are the places among
    `messages` of those that a user steered at it; the last `partial` of them were cut off while the
    model said them. `cut_short` are the places of those that were cut off because the user said
    something else; the turn went on. `cut_off` and `not_begun` are the ids of its calls that had no
    result: those that may have had an effect, and those that had none. A `discarded` turn is no
    part of the conversation. What was `withdrawn` was taken back before it was read. A turn that
    `resumes` another went on where that one had stopped. One that `never_began` was interrupted
    while it waited; one that was `given_up` did not end within `cleanup_timeout`, and later turns
    did not wait for its end. Times are in milliseconds since 1970: when it was accepted, and when
    its end was recorded.
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
    withdrawn: NotRequired[Messages]
    resumes: NotRequired[TurnNumber]
    resumed: NotRequired[bool]
    given_up: NotRequired[bool]
    task_id: NotRequired[str | None]
    accepted_at: NotRequired[Count]
    ended_at: NotRequired[Count]


class Turns(TypedDict):
    """A page of the record; `before` asks for the one before it, and is `None` at the beginning."""

    turns: list[Turn]
    before: int | None


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
    queued: NotRequired[bool]
    """Whether it asks the session before it begins."""
    long: NotRequired[bool]
    """Whether it then loads the conversation, which is too long to come with the answer."""
    older: NotRequired[tuple[int, str]]
    """Before which turn the older ones end, and what they are loaded by, once for many tasks."""
    resumes: NotRequired[int]
    """The turn that it goes on with."""
    stream: NotRequired[str]
    """The key that publishes for the turn, if the agent streams."""


class Settlement(TypedDict):
    """What a task reports: its turn's outcome, and the earlier turns that it saw end."""

    outcome: TaskOutcome
    ended: NotRequired[list[TurnNumber]]
