"""Why a turn was cancelled. Knows nobody."""

import re
from typing import Any, Literal, NamedTuple, get_args


class Cause(NamedTuple):
    """Why a turn was cancelled: by which turn, if by one, and the caller's reason, if any."""

    kind: Literal["interrupted", "cancelled", "rolled back", "stopped", "withdrawn", "promoted"]
    turn: int | None = None
    reason: str | None = None


def cause_of(why: str) -> Cause:
    """The cause that a cancelled turn has in the session's record."""
    by = re.fullmatch(r"(interrupted|rolled back) by turn (\d+)", why)
    if by is not None:
        return Cause("interrupted" if by[1] == "interrupted" else "rolled back", int(by[2]))
    did, _, reason = why.partition(": ")
    kind: Any = did if did in get_args(Cause.__annotations__["kind"]) else "cancelled"
    return Cause(kind, None, reason or None)
