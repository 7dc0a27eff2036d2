"""Where the turns of a session are kept, and the conversation that they make.

A live turn has a key of its own, `turn/<n>`, so that a message writes only itself. A settled turn
moves into a page of sixteen, `page/<p>`, so that a long history is a few reads; one that is too
large for a page keeps its key, and the page names it.
"""

import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, cast

from restate import ObjectContext, ObjectSharedContext
from restate.serde import JsonSerde, Serde

from interruptible._session import Record
from interruptible._types import Message, Outcome, Turn, output

JSON: Final[Serde[Any]] = JsonSerde()
TURNS_PER_PAGE: Final = 16
LARGE: Final = 16 * 1024
"""Bytes from which on a turn stays out of its page: what bounds the cost of settling."""

Note = Callable[[Turn], "str | Message | None"]


def turn_key(turn: int) -> str:
    """Where a live turn is, and a large one."""
    return f"turn/{turn}"


def page_key(turn: int) -> str:
    """Where a settled turn is."""
    return f"page/{(turn - 1) // TURNS_PER_PAGE}"


def begin(ctx: ObjectContext, turn: int, messages: list[Message]) -> None:
    """Store a new turn."""
    ctx.set(turn_key(turn), messages, serde=JSON)


async def settle(ctx: ObjectContext, outcome: Outcome, reason: str | None) -> None:
    """Move a live turn into its page, with its outcome."""
    number = outcome["turn"]
    messages, page = ctx.get(turn_key(number), serde=JSON), ctx.get(page_key(number), serde=JSON)
    turn = _turn(number, await messages, outcome, reason)
    entries = _entries(await page)
    large = len(json.dumps(turn)) > LARGE
    if large:
        ctx.set(turn_key(number), turn, serde=JSON)
    ctx.set(page_key(number), [*entries, number if large else turn], serde=JSON)
    if not large:
        ctx.clear(turn_key(number))


async def read(ctx: ObjectSharedContext, record: Record, before: int) -> list[Turn]:
    """All turns with a number less than `before`, in order.

    The live ones are read first: one that is settled meanwhile is then found in its page.
    """
    live = [(x, ctx.get(turn_key(x.turn), serde=JSON)) for x in record.before(before)]
    pages = [ctx.get(page_key(first), serde=JSON) for first in range(1, before, TURNS_PER_PAGE)]
    turns: dict[int, Turn] = {}
    for x, reading in live:
        messages: Any = await reading
        if isinstance(messages, list):  # not yet settled, nor settled as a large one
            turns[x.turn] = _turn(x.turn, cast("list[Message]", messages), None, x.cancelled)
    large: dict[int, Awaitable[Any]] = {}
    for page in pages:
        for entry in _entries(await page):
            if isinstance(entry, int):
                large[entry] = ctx.get(turn_key(entry), serde=JSON)
            else:
                turns[entry["turn"]] = entry
    for number, turn in large.items():
        turns[number] = cast("Turn", await turn)
    return [turns[number] for number in sorted(turns) if number < before]


async def read_one(ctx: ObjectSharedContext, number: int) -> Turn | None:
    """One settled turn; `None` while it is not settled."""
    for entry in _entries(await ctx.get(page_key(number), serde=JSON)):
        if entry == number:
            return cast("Turn", await ctx.get(turn_key(number), serde=JSON))
        if not isinstance(entry, int) and entry["turn"] == number:
            return entry
    return None


def conversation(turns: Iterable[Turn], note: Note) -> list[Message]:
    """The conversation that the turns make, in their order, with the notes on interrupted ones."""
    messages: list[Message] = []
    for turn in turns:
        messages += [*turn["input"], *turn["messages"]]
        if turn["status"] == "interrupted":
            said = note(turn)
            messages += (
                [{"role": "user", "content": said}] if isinstance(said, str) else (output(said))
            )
    return messages


def _entries(page: Any) -> list[Turn | int]:
    return cast("list[Turn | int]", page or [])


def _turn(
    number: int, messages: list[Message] | None, outcome: Outcome | None, reason: str | None
) -> Turn:
    turn: Turn = {"turn": number, "status": "running", "input": messages or [], "messages": []}
    if outcome is not None:
        turn["status"], turn["messages"] = outcome["status"], outcome["messages"]
        if "error" in outcome:
            turn["error"] = outcome["error"]
    if reason is not None:
        turn["reason"] = reason
    return turn
