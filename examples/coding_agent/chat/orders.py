"""What a typed line means."""

from __future__ import annotations

from typing import NamedTuple

OF_TURNS = ("stop", "continue", "again", "back", "diff")
OF_MESSAGES = ("withdraw", "replace", "promote", "now")
COMMANDS = (*OF_TURNS, *OF_MESSAGES, "pending", "help", "quit")
POLICIES = {"+": "steer", ">": "queue"}
MOST_DIGITS = 15


class Order(NamedTuple):
    """What a person wants: one of `COMMANDS`, or a policy and a message.

    Attributes:
        what: The command, or `interrupt`, `steer` or `queue`.
        text: What is to be said.
        turn: The turn that a command is about, if it names one.
        message: The message that waits, and that a command is about.
        typed: The line as it was typed.
    """

    what: str
    text: str = ""
    turn: int | None = None
    message: int | None = None
    typed: str = ""

    @property
    def sends(self) -> bool:
        """Whether it is a new message."""
        return bool(self.text) and self.message is None


def read(typed: str) -> Order | str:
    """What a typed line means, or what is wrong with it."""
    if typed.startswith("/"):
        order = _command(*typed[1:].strip().partition(" ")[::2])
        return order if isinstance(order, str) else order._replace(typed=typed)
    if typed[:1] in POLICIES:
        if not typed[1:].strip():
            return f"There is no message after {typed[0]}."
        return Order(POLICIES[typed[0]], typed[1:].strip(), typed=typed)
    return Order("interrupt", typed.strip(), typed=typed)


def _command(name: str, rest: str) -> Order | str:
    if name not in COMMANDS:
        return f"There is no /{name}; /help says what there is."
    first, *more = rest.split(maxsplit=1)[:2] or [""]
    is_number = first.isascii() and first.isdigit() and len(first) <= MOST_DIGITS
    number = int(first) if is_number else None
    text = "".join(more) if is_number else rest.strip()
    if name == "now" and (text or number is None):
        return Order(name, rest.strip()) if text else "There is no message after /now."
    if name in OF_MESSAGES:
        wants = "the number of a message that waits" + ", and text" * (name == "replace")
        fits = number is not None and bool(text) == (name == "replace")
        return Order(name, text, message=number) if fits else f"/{name} takes {wants}."
    return f"/{name} takes the number of a turn, or nothing." if text else Order(name, turn=number)


def answer(typed: str) -> bool | None:
    """Whether a line says yes or no to a command that waits."""
    return {"y": True, "yes": True, "n": False, "no": False}.get(typed.strip().lower())
