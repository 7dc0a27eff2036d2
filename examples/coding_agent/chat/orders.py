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
        typed: The line as it was typed.
    """

    what: str
    text: str = ""
    turn: int | None = None
    typed: str = ""


def read(typed: str) -> Order | str:
    """What a typed line means, or what is wrong with it."""
    if typed.startswith("/"):
        name, _, turn = typed[1:].strip().partition(" ")
        if name not in COMMANDS:
            return f"There is no /{name}; /help says what there is."
        if not re.fullmatch(r"\d{0,15}", turn.strip(), re.ASCII):
            return f"/{name} takes the number of a turn, or nothing."
        return Order(name, turn=int(turn) if turn else None, typed=typed)
    if typed[:1] in POLICIES:
        if not typed[1:].strip():
            return f"There is no message after {typed[0]}."
        return Order(POLICIES[typed[0]], typed[1:].strip(), typed=typed)
    return Order("interrupt", typed.strip(), typed=typed)


def answer(typed: str) -> bool | None:
    """Whether a line says yes or no to a command that waits."""
    return {"y": True, "yes": True, "n": False, "no": False}.get(typed.strip().lower())
