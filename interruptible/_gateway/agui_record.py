"""What a session knows of the messages that a client of AG-UI names."""

import asyncio
from collections.abc import Mapping

from ag_ui.core import Message
from restate import TerminalError

from interruptible._gateway.agui_messages import id_of_said, noted_of, to_messages
from interruptible._wire import types as wire
from interruptible.client import Session

_LOOKED_AT = 8
"""Turns, from the newest on, among which a message is looked for."""


async def number_known(session: Session, noted: Mapping[str, str]) -> int | None:
    """The session's number of a message that a client has sent before; `None` if it has not.

    Raises:
        TerminalError: 409: it has sent another one under this name.
    """
    turns, status = await asyncio.gather(session.turns(limit=_LOOKED_AT), session.status())
    said = [x for turn in turns["turns"] for x in (*turn["input"], *turn["messages"])]
    for x in (*said, *status["pending"]):
        if id_of_said({**x}) == noted["message"]:
            if noted_of({**x}).get("sum", noted["sum"]) != noted["sum"]:
                name = noted["message"]
                reason = f"messages: {name!r} says something else by now. Name each another way."
                raise TerminalError(reason, 409)
            return int(x["id"])
    return None


async def is_answered_by(session: Session, turn: int, message: int) -> bool:
    """Whether this turn answers a message, or is to take it."""
    record = await record_of_turn(session, turn)
    said = [] if record is None else [*record["input"], *record["messages"]]
    if any(x.get("id") == message for x in said):
        return True
    status = await session.status()
    return any((x["id"], x["turn"]) == (message, turn) for x in status["pending"])


async def record_of_turn(session: Session, turn: int) -> wire.Turn | None:
    """A turn as it is on record; `None` if it is not there any more."""
    found = (await session.turns(before=turn + 1, limit=1))["turns"]
    return found[0] if found and found[0]["turn"] == turn else None


async def conversation_of(session: Session, said: Message) -> tuple[list[Message], bool]:
    """The newest turns, as a client is to have them; and whether those before have ended, all."""
    page = [x for x in (await session.turns())["turns"] if not x.get("discarded")]
    made: dict[str, Message] = {}
    for turn in page:
        for n, x in enumerate(turn["input"]):
            made |= {y.id: y for y in to_messages(x, f"said-{turn['turn']}-{n}")}
        for n, x in enumerate(turn["messages"]):
            made |= {y.id: y for y in to_messages(x, f"{turn['turn']}.{n}")}
    is_whole = all(x["status"] != "running" for x in page[:-1])
    return [*({**made, said.id: said}).values()], is_whole
