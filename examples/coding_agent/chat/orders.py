"""What a typed line means."""

from __future__ import annotations

import re
from typing import NamedTuple

COMMANDS = ("stop", "again", "back", "diff", "help", "quit")
POLICIES = {"+": "steer", ">": "queue"}


class Order(NamedTuple):
    """What a person wants: one of `COMMANDS`, or a policy and a message.

    Attributes:
        what: The command, or `interrupt`, `steer` or `queue`.
        text: The message.
        turn: The turn that a command is about, if it names one.
    """

    what: str
    text: str = ""
    turn: int | None = None


def read(typed: str) -> Order | str:
    """What a typed line means, or what is wrong with it."""
    if typed.startswith("/"):
        found = re.fullmatch(r"/(\w+)(?:\s+(\d{1,15}))?\s*", typed)
        if found is None or found[1] not in COMMANDS:
            return f"There is no {typed.split(maxsplit=1)[0]}; /help says what there is."
        return Order(found[1], turn=int(found[2]) if found[2] else None)
    if typed[:1] in POLICIES:
        if not typed[1:].strip():
            return f"There is no message after {typed[0]}."
        return Order(POLICIES[typed[0]], typed[1:].strip())
    return Order("interrupt", typed.strip())


def answer(typed: str) -> bool | None:
    """Whether a line says yes or no to a command that waits."""
    return {"y": True, "yes": True, "n": False, "no": False}.get(typed.strip().lower())
