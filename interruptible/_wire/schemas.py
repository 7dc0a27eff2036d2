"""JSON schemas of what callers send and receive; the UI's playground makes a form of them."""

from typing import Any, Final

from interruptible._wire.types import MAX_TURNS, POLICIES


def _object(title: str, needed: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "title": title,
        "type": "object",
        "properties": {**needed, **more},
        "required": list(needed),
    }


def _takes(title: str, needed: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    schema = {**_object(title, needed or {}, **more), "additionalProperties": False}
    return schema if needed else {**schema, "type": ["object", "null"]}


def _number(description: str) -> dict[str, Any]:
    return {"type": ["integer", "null"], "minimum": 1, "description": description}


_PARTS = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {"type": {"type": "string"}},
        "required": ["type"],
        "additionalProperties": True,
    },
}
_MESSAGE = {
    "type": "object",
    "properties": {"role": {"type": "string"}, "content": {}},
    "required": ["role"],
    "additionalProperties": True,
}
_MESSAGES = {"type": "array", "items": _MESSAGE}
_TURN = {"type": "integer", "minimum": 1}
_TURNS = {"type": "array", "items": _TURN}
_COUNT = {"type": "integer", "minimum": 0}
_CALLS = {"type": "array", "items": {"type": "string"}}
_ID = {"type": ["string", "null"]}
_REASON = {"type": ["string", "null"], "description": "Why; it is kept with the turn."}
MESSAGE_IN: Final = {
    **_takes(
        "Message",
        {
            "content": {
                "description": "What the user says: text, or a list of parts.",
                "anyOf": [{"type": "string", "pattern": "\\S"}, _PARTS],
            }
        },
        role={"const": "user", "description": "Whose message it is; it may be left out."},
        policy={
            "description": "What the message does to a live turn; by default the agent's.",
            "enum": list(POLICIES),
        },
        if_turn=_number("Only if this turn is at work."),
        if_idle={"description": "Only if no turn is live.", "type": "boolean"},
    ),
    "examples": [{"content": "Write me a small todo CLI in Python."}],
}
CANCEL_IN: Final = _takes("Cancel", turn=_number("By default everything live."), reason=_REASON)
ATTACH_IN: Final = _takes("Attach", turn=_number("By default the newest."))
_IF_LAST = _number("Only if this is the session's last turn.")
REGENERATE_IN: Final = _takes("Regenerate", turn=_number("By default the last."), if_last=_IF_LAST)
REWIND_IN: Final = _takes("Rewind", {"turn": _TURN}, reason=_REASON, if_last=_IF_LAST)
RESET_IN: Final = _takes("Reset", reason=_REASON)
FORK_IN: Final = _takes(
    "Fork",
    {"session": {"type": "string", "description": "The key of the new session.", "minLength": 1}},
    turn=_number("The last turn to take along; by default the last that has ended."),
)
TURNS_IN: Final = _takes(
    "GetTurns",
    before=_number("Turns before this one; by default the newest."),
    limit={**_number(f"How many; by default {MAX_TURNS}."), "maximum": MAX_TURNS},
)

RECEIPT: Final = _object(
    "Receipt",
    {
        "turn": _TURN,
        "task_id": {"type": "string"},
        "status": {"enum": ["running", "waiting", "steered", "joined"]},
        "interrupted": _TURNS,
    },
    discarded=_TURNS,
)
CANCELLED: Final = _object("Cancelled", {"cancelled": _TURNS})
REWOUND: Final = _object("Rewound", {"cancelled": _TURNS, "discarded": _TURNS})
FORKED: Final = _object("Forked", {"session": {"type": "string"}, "turn": _COUNT})
OUTCOME: Final = _object(
    "Outcome",
    {
        "turn": _TURN,
        "status": {"enum": ["completed", "interrupted", "failed", "killed"]},
        "messages": _MESSAGES,
    },
    error={"type": "string"},
    partial=_COUNT,
    cut_off=_CALLS,
    not_begun=_CALLS,
    never_began={"type": "boolean"},
)
HISTORY: Final[dict[str, Any]] = {"title": "History", **_MESSAGES}
STATUS: Final = _object(
    "Status",
    {
        "status": {"enum": ["idle", "running"]},
        "turn": {"type": ["integer", "null"]},
        "task_id": _ID,
        "live": {
            "type": "array",
            "items": _object(
                "LiveTurn",
                {"turn": _TURN, "task_id": _ID, "cancelled": {"type": ["string", "null"]}},
                given_up={"type": "boolean"},
            ),
        },
        "steered": _COUNT,
    },
)
TURN: Final = _object(
    "Turn",
    {
        "turn": _TURN,
        "status": {"enum": ["running", "completed", "interrupted", "failed", "killed"]},
        "input": _MESSAGES,
        "messages": _MESSAGES,
    },
    reason={"type": ["string", "null"]},
    error={"type": "string"},
    steered={"type": "array", "items": _COUNT},
    partial=_COUNT,
    cut_off=_CALLS,
    not_begun=_CALLS,
    never_began={"type": "boolean"},
    discarded={"type": "boolean"},
    given_up={"type": "boolean"},
    task_id=_ID,
    accepted_at=_COUNT,
    ended_at=_COUNT,
)
TURNS: Final = _object(
    "Turns",
    {
        "turns": {"type": "array", "items": TURN},
        "before": {"type": ["integer", "null"]},
    },
)
