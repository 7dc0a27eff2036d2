"""What goes over the wire, and its validation. Knows nobody."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeGuard

if sys.version_info >= (3, 11):
    from typing import NotRequired, TypedDict
else:
    from typing_extensions import NotRequired, TypedDict

Message: TypeAlias = dict[str, Any]
"""One message, as the chat APIs have it: `role`, `content`, and what else they take."""

Policy: TypeAlias = Literal["interrupt", "rollback", "queue", "steer", "reject"]
"""What a message does to the turns that are live."""

Burst: TypeAlias = Literal["merge", "supersede"]
TurnStatus: TypeAlias = Literal["running", "completed", "interrupted", "failed", "killed"]
"""How a turn is: it is live, or it ended so."""


POLICIES: Final[tuple[Policy, ...]] = ("interrupt", "rollback", "queue", "steer", "reject")
BURSTS: Final[tuple[Burst, ...]] = ("merge", "supersede")
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


class Request(NamedTuple):
    """A message as it came in, with what it asks for."""

    message: Message
    policy: Policy
    if_turn: int | None
    if_idle: bool


class Receipt(TypedDict):
    """The answer to a message: its turn, and the live turns that it interrupted.

    The status is `waiting` while an earlier turn is at work or cleans up, otherwise `running`. It
    is `steered` when the message went to a turn at work, and `joined` when it became part of one
    that had not begun; then turn and task are those. `discarded` is there when turns were.
    """

    turn: int
    task_id: str
    status: Literal["running", "waiting", "steered", "joined"]
    interrupted: list[int]
    discarded: NotRequired[list[int]]


class Cancelled(TypedDict):
    """The answer to a cancel: the turns that were live and not yet cancelled."""

    cancelled: list[int]


class Rewound(TypedDict):
    """The answer to a rewind: the turns that it cancelled, and those that it discarded."""

    cancelled: list[int]
    discarded: list[int]


class Forked(TypedDict):
    """The answer to a fork: the new session, and the last turn that it has."""

    session: str
    turn: int


class Outcome(TypedDict):
    """How a turn ended, with the messages it put out; `error` says why a failed one failed.

    Messages that were steered at the turn stand where it took them. The last `partial` messages of
    an interrupted turn were cut off while the model said them. `cut_off` and `not_begun` are the
    ids of calls that had no result: those that may have had an effect, and those that had none. A
    turn that `never_began` was interrupted while it waited, and has done nothing.
    """

    turn: int
    status: TurnStatus
    messages: list[Message]
    error: NotRequired[str]
    partial: NotRequired[int]
    cut_off: NotRequired[list[str]]
    not_begun: NotRequired[list[str]]
    never_began: NotRequired[bool]


class TaskOutcome(Outcome):
    """The outcome as a task reports it."""

    taken: NotRequired[list[tuple[int, int]]]
    """The steered messages that are among its messages: the number and the place of each."""


class LiveTurn(TypedDict):
    """A turn whose outcome the session has not recorded yet; `cancelled` says why, once it is.

    One that is `given_up` did not end within `cleanup_timeout`: nothing waits for it any more.
    """

    turn: int
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
    steered: int


class Turn(TypedDict):
    """The record of one turn: what came in, what it put out, and how it ended.

    `reason` says why it was interrupted, `error` why it failed. `steered` are the places among
    `messages` of those that a user steered at it; the last `partial` of them were cut off while the
    model said them. `cut_off` and `not_begun` are the ids of its calls that had no result: those
    that may have had an effect, and those that had none. A `discarded` turn is no part of the
    conversation. One that `never_began` was interrupted while it waited; one that was `given_up`
    did not end within `cleanup_timeout`, and later turns did not wait for its end. Times are in
    milliseconds since 1970: when it was accepted, and when its end was recorded.
    """

    turn: int
    status: TurnStatus
    input: list[Message]
    messages: list[Message]
    reason: NotRequired[str | None]
    error: NotRequired[str]
    steered: NotRequired[list[int]]
    partial: NotRequired[int]
    cut_off: NotRequired[list[str]]
    not_begun: NotRequired[list[str]]
    never_began: NotRequired[bool]
    discarded: NotRequired[bool]
    given_up: NotRequired[bool]
    task_id: NotRequired[str | None]
    accepted_at: NotRequired[int]
    ended_at: NotRequired[int]


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


class Settlement(TypedDict):
    """What a task reports: its turn's outcome, and the earlier turns that it saw end."""

    outcome: TaskOutcome
    ended: NotRequired[list[int]]


class Refusal(Exception):
    """A request that is refused: what is wrong with it, and the HTTP status that says so."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class Malformed:
    """A request body that is not JSON."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def parse(body: bytes, *, lenient: bool = False) -> Any:
    """Parse a request body; nothing at all is `None`, and what is not JSON is `Malformed`.

    Args:
        body: The body.
        lenient: NaN and infinities are `None`.
    """
    constant = _no_constant if lenient else _refuse_constant
    try:
        return json.loads(body, parse_constant=constant) if body else None
    except (ValueError, RecursionError) as e:
        return Malformed(str(e))


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
    known = {"content", "role", "policy", "if_turn", "if_idle"}
    fields = _fields(body, known, example='{"content": "Hello"}')
    if "content" not in fields:
        raise Refusal("content: is missing. Send text, or a list of parts.")
    role = fields.get("role", "user")
    if role != "user":
        raise Refusal(f'role: must be "user", not {brief(role)}. Leave it out.')
    chosen = fields.get("policy", policy)
    if chosen not in allowed:
        raise Refusal(f"policy: must be one of {', '.join(allowed)}, not {brief(chosen)}.")
    if_idle = fields.get("if_idle", False)
    if not isinstance(if_idle, bool):
        raise Refusal(f"if_idle: must be true or false, not {brief(if_idle)}.")
    content = fields["content"]
    _check_content(content, max_content)
    if if_idle and fields.get("if_turn") is not None:
        raise Refusal("if_turn: cannot hold together with if_idle. Send one of them.")
    message: Message = {"role": "user", "content": content}
    return Request(message, chosen, _whole_number(fields, "if_turn"), if_idle)


def _check_content(content: Any, max_content: int) -> None:
    if _is_list(content):
        for index, part in enumerate(content):
            _check_part(f"content[{index}]", part)
    elif not isinstance(content, str):
        raise Refusal(f"content: must be text or a list of parts, not {brief(content)}.")
    if not content or (isinstance(content, str) and not content.strip()):
        raise Refusal("content: is empty. Send text, or a list of parts.")
    if _is_deep(content, MAX_DEPTH):
        raise Refusal(f"content: is nested more than {MAX_DEPTH} levels deep. Flatten it.")
    try:
        size = len(json.dumps(content, ensure_ascii=False, allow_nan=False).encode())
    except UnicodeEncodeError:
        raise Refusal("content: has half a surrogate pair, which is no text.") from None
    except ValueError:
        raise Refusal("content: has a number that is not finite, which is no JSON.") from None
    if isinstance(content, str):
        size = len(content.encode())
    if size > max_content:
        raise Refusal(f"content: has {size} bytes; at most {max_content} are accepted.", 413)


def _check_part(name: str, part: Any) -> None:
    if not _is_object(part) or not isinstance(part.get("type"), str):
        raise Refusal(f"{name}: must be an object with a `type`, not {brief(part)}.")
    if part["type"] in ("tool_use", "tool_result"):
        raise Refusal(f"{name}: is a {part['type']}, which only agents put out.")
    text = part.get("text")
    if part["type"] == "text" and (not isinstance(text, str) or not text.strip()):
        raise Refusal(f"{name}: is a text part without text. Leave it out.")


def turn_in(body: Any) -> int | None:
    """Check the body of `attach`: nothing, or `{"turn": n}`.

    Raises:
        Refusal: 400 names the field that is wrong.
    """
    if body is None:
        return None
    return _whole_number(_fields(body, {"turn"}, example='{"turn": 1}, or no body'), "turn")


def regenerate_in(body: Any) -> tuple[int | None, int | None]:
    """Check the body of `regenerate`: nothing, or `{"turn": n, "if_last": n}`, or one of them.

    Raises:
        Refusal: 400 names the field that is wrong.
    """
    if body is None:
        return None, None
    fields = _fields(body, {"turn", "if_last"}, example='{"turn": 1}, or no body')
    return _whole_number(fields, "turn"), _whole_number(fields, "if_last")


def rewind_in(body: Any) -> tuple[int, str | None, int | None]:
    """Check the body of `rewind`: `{"turn": n}`, and perhaps a reason and `if_last`.

    Raises:
        Refusal: 400 names the field that is wrong.
    """
    fields = _fields(body, {"turn", "reason", "if_last"}, example='{"turn": 1}')
    turn = _whole_number(fields, "turn")
    if turn is None:
        raise Refusal('turn: is missing. Send {"turn": 1} for the first and all after it.')
    return turn, _reason(fields), _whole_number(fields, "if_last")


def reset_in(body: Any) -> str | None:
    """Check the body of `reset`: nothing, or a reason.

    Raises:
        Refusal: 400 names the field that is wrong.
    """
    if body is None:
        return None
    return _reason(_fields(body, {"reason"}, example='{"reason": "…"}, or no body'))


def fork_in(body: Any, session: str) -> tuple[str, int | None]:
    """Check the body of `fork`: `{"session": key}`, and perhaps the last turn to take along.

    Raises:
        Refusal: 400 names the field that is wrong.
    """
    fields = _fields(body, {"session", "turn"}, example='{"session": "copy"}')
    key = fields.get("session")
    if not isinstance(key, str) or not key:
        raise Refusal(f"session: must be the new session's key, not {brief(key)}.")
    if key == session:
        raise Refusal("session: is this session itself. Name a new one.")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise Refusal("session: has half a surrogate pair, which is no text.") from None
    return key, _whole_number(fields, "turn")


def turns_in(body: Any) -> tuple[int | None, int]:
    """Check the body of `get_turns`: nothing, or `{"before": n, "limit": n}`, or one of them.

    Raises:
        Refusal: 400 names the field that is wrong.
    """
    if body is None:
        return None, MAX_TURNS
    fields = _fields(body, {"before", "limit"}, example='{"limit": 10}, or no body')
    limit = _whole_number(fields, "limit")
    if limit is not None and not 1 <= limit <= MAX_TURNS:
        raise Refusal(f"limit: must be 1 to {MAX_TURNS}, not {limit}.")
    return _whole_number(fields, "before"), limit or MAX_TURNS


def cancel_in(body: Any) -> tuple[int | None, str | None]:
    """Check the body of `cancel`: nothing, or `{"turn": n, "reason": text}`, or one of them.

    Raises:
        Refusal: 400 names the field that is wrong.
    """
    if body is None:
        return None, None
    fields = _fields(body, {"turn", "reason"}, example='{"turn": 1}, or no body')
    return _whole_number(fields, "turn"), _reason(fields)


def nothing_in(body: Any) -> None:
    """Check the body of a handler that takes nothing.

    Raises:
        Refusal: 400 names the field that is there all the same.
    """
    if body is not None:
        _fields(body, set(), example="no body")


def cause_of(why: str) -> Cause:
    """The cause that a cancelled turn has in the session's record."""
    by = re.fullmatch(r"(interrupted|rolled back) by turn (\d+)", why)
    if by is not None:
        return Cause("interrupted" if by[1] == "interrupted" else "rolled back", int(by[2]))
    did, _, reason = why.partition(": ")
    return Cause("rolled back" if did == "rolled back" else "cancelled", None, reason or None)


def _fields(body: Any, known: set[str], *, example: str) -> Mapping[str, Any]:
    if isinstance(body, Malformed):
        raise Refusal(f"body: is not JSON ({body.reason}). Send {example}.")
    if _is_deep(body, MAX_DEPTH + 2):
        raise Refusal(f"body: is nested more than {MAX_DEPTH} levels deep. Flatten it.")
    if not _is_object(body):
        raise Refusal(f"body: must be a JSON object, not {brief(body)}. Send {example}.")
    for name in body:
        if name not in known:
            fields = ", ".join(sorted(known)) or "none"
            shown = name[:60].encode(errors="backslashreplace").decode()
            raise Refusal(f"{shown}: is not a field. Known fields: {fields}.")
    return body


def _whole_number(fields: Mapping[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise Refusal(f"{name}: must be a whole number, not {brief(value)}.")
    if value is not None and abs(value) > MAX_NUMBER:
        raise Refusal(f"{name}: is a number beyond {MAX_NUMBER}, which JSON cannot carry safely.")
    return value


def _reason(fields: Mapping[str, Any]) -> str | None:
    reason = fields.get("reason")
    if reason is None:
        return None
    if not isinstance(reason, str):
        raise Refusal(f"reason: must be text, not {brief(reason)}.")
    try:
        size = len(reason.encode())
    except UnicodeEncodeError:
        raise Refusal("reason: has half a surrogate pair, which is no text.") from None
    if size > MAX_REASON:
        raise Refusal(f"reason: has {size} bytes; at most {MAX_REASON} are accepted.")
    return reason


def _is_deep(value: Any, levels: int) -> bool:
    if _is_object(value):
        value = list(value.values())
    if not _is_list(value):
        return False
    return levels == 0 or any(_is_deep(item, levels - 1) for item in value)


def _no_constant(_: str) -> None: ...


def _refuse_constant(name: str) -> None:
    msg = f"{name} is not a JSON value"
    raise ValueError(msg)


def _is_object(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, (list, tuple))


def brief(value: Any, limit: int = 60) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= limit else f"{text[:limit]}…"
