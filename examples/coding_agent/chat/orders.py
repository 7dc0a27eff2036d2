"""What a person can type: one table says how it is written, and what is asked of the session."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from interruptible import Session


@dataclass
class Order:
    """What a person wants: of a turn, of a message that waits, or of an approval."""

    name: str
    number: Any = None
    text: str = ""
    again: bool = field(default=False, compare=False)  # what it is to stop is stopping already
    typed: str = field(default="", compare=False)
    key: str = field(default_factory=lambda: uuid4().hex, compare=False)  # makes all tries one

    @property
    def sends(self) -> bool:
        """Whether it is a new message."""
        return bool(self.text) and self.number is None

    @property
    def is_of_message(self) -> bool:
        """Whether it changes a message that waits."""
        return self.name in ("/withdraw", "/replace", "/promote", "/now")


# What may follow the name, and what is said of anything else.
TEXT = "(?P<text>.+)", "There is no message after {}."
TURN = r"(?P<number>\d{1,15})?", "{} takes the number of a turn, or nothing."
MESSAGE = r"(?P<number>\d{1,15})", "{} takes the number of a message that waits."
NEW_TEXT = rf"{MESSAGE[0]}\s+{TEXT[0]}", "{} takes the number of a message that waits, and text."
EITHER = f"{MESSAGE[0]}|{TEXT[0]}", TEXT[1]
ANY = ".*", ""

ORDERS: dict[str, tuple[tuple[str, str], Callable[[Session, Order], Awaitable[Any]]]] = {
    "": (TEXT, lambda s, o: s.send(o.text, policy="interrupt", idempotency_key=o.key)),
    "+": (TEXT, lambda s, o: s.send(o.text, policy="steer", idempotency_key=o.key)),
    ">": (TEXT, lambda s, o: s.send(o.text, policy="queue", idempotency_key=o.key)),
    "y": (ANY, lambda s, o: s.answer(o.number, approved=True, idempotency_key=o.key)),
    "n": (ANY, lambda s, o: s.answer(o.number, approved=False, idempotency_key=o.key)),
    "/stop": (TURN, lambda s, o: s.cancel(o.number, after_step=not o.again)),
    "/continue": (TURN, lambda s, o: s.resume(o.number, idempotency_key=o.key)),
    "/again": (TURN, lambda s, o: s.regenerate(o.number, idempotency_key=o.key)),
    "/back": (TURN, lambda s, o: s.rewind(o.number, idempotency_key=o.key)),
    "/diff": (TURN, lambda s, o: s.call("get_diff", {"turn": o.number})),
    "/pending": (ANY, lambda s, _: s.status()),
    "/withdraw": (MESSAGE, lambda s, o: s.withdraw(o.number, idempotency_key=o.key)),
    "/replace": (NEW_TEXT, lambda s, o: s.replace(o.number, o.text, idempotency_key=o.key)),
    "/promote": (MESSAGE, lambda s, o: s.promote(o.number, "interrupt", idempotency_key=o.key)),
    "/now": (
        EITHER,
        lambda s, o: (
            s.promote(o.number, "steer", now=True, idempotency_key=o.key)
            if o.number
            else s.send(o.text, policy="steer", now=True, idempotency_key=o.key)
        ),
    ),
}
OWN = ("/help", "/quit")  # no session is asked for these
OF_LAST = ("/continue", "/again", "/back", "/diff")  # turn, if no number is said
HELP = {
    "Enter": "sends; what is at work is interrupted",
    "+text": "adds text to what is at work, which goes on",
    ">text": "queues text behind what is at work",
    "y, n": "answers a command that waits for your yes",
    "Esc, Ctrl-C": "stops all after this step, and once more at once; also /stop, /stop 3",
    "/continue": "goes on where the newest turn stopped",
    "/pending": "lists the messages that are not read yet, with their numbers",
    "/withdraw 3": "takes message 3 back",
    "/replace 3 text": "says text in its place",
    "/promote 3": "interrupts what is at work: message 3 is next",
    "/now text": "adds text, to be read at once; /now 3 does that with message 3",
    "/again": "has the newest turn answered again; also /again 3",
    "/back": "takes the newest turn back, and its files; also /back 3, with all after it",
    "/diff": "shows what the newest turn has done to the files; also /diff 3",
    "/quit, Ctrl-D": "ends this program",
    "Alt-Enter": "begins a new line",
    "a space": "in front sends +, > or / as it stands",
}


def read(typed: str, asked: int | None = None) -> Order | str:
    """What a line means, or what is wrong with it; it may answer the approval that is `asked`."""
    if asked is not None and (answer := typed.strip().lower()) in ("y", "yes", "n", "no"):
        return Order(answer[0], asked)
    name = re.findall(r"/\S*|[+>]?", typed)[0]
    if name in OWN:
        return Order(name)
    if name not in ORDERS:
        return f"There is no {name}; /help says what there is."
    pattern, otherwise = ORDERS[name][0]
    given = re.fullmatch(pattern, typed.removeprefix(name).strip(), re.ASCII | re.DOTALL)
    if given is None:
        return otherwise.format(name)
    number, text = (given.groupdict().get(x) for x in ("number", "text"))
    return Order(name, number and int(number), text or "", typed=typed)
