"""Where the turns of a session are kept, and the conversation that they make.

A live turn has a key of its own, `turn/<n>`, so that a message writes only itself, and so has a
steered message, `steered/<n>`, until its turn is settled. A settled turn moves into a page of
sixteen, `page/<p>`, so that a long history is a few reads; one that is too large for a page keeps
its key, and the page names it.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, cast

from restate import ObjectContext, ObjectSharedContext
from restate.serde import JsonSerde, Serde

from interruptible._session import Discarded, Live, Record, Steered, is_discarded
from interruptible._types import Message, TaskOutcome, Turn, output

JSON: Final[Serde[Any]] = JsonSerde()
TURNS_PER_PAGE: Final = 16
LARGE: Final = 16 * 1024
"""Bytes from which on a turn stays out of its page: what bounds the cost of settling."""

Note = Callable[[Turn], "str | Message | None"]
AnyContext = ObjectContext | ObjectSharedContext
Said = tuple[Steered, Message]
"""A steered message and what it says."""


def turn_key(turn: int) -> str:
    """Where a live turn is, and a large one."""
    return f"turn/{turn}"


def page_key(turn: int) -> str:
    """Where a settled turn is."""
    return f"page/{(turn - 1) // TURNS_PER_PAGE}"


def steered_key(number: int) -> str:
    """Where a steered message is."""
    return f"steered/{number}"


def begin(ctx: ObjectContext, turn: int, messages: list[Message], accepted_at: int) -> None:
    """Store a new turn."""
    ctx.set(turn_key(turn), {"input": messages, "accepted_at": accepted_at}, serde=JSON)


async def begun_with(ctx: AnyContext, turn: int) -> list[Message]:
    """The messages that a live turn was begun for."""
    stored = cast("dict[str, Any] | None", await ctx.get(turn_key(turn), serde=JSON))
    return stored["input"] if stored is not None else []


async def said(ctx: AnyContext, steered: Iterable[Steered]) -> list[Said]:
    """What steered messages say."""
    reading = [(x, ctx.get(steered_key(x.number), serde=JSON)) for x in steered]
    return [(x, cast("Message", await message)) for x, message in reading]


async def settle(
    ctx: ObjectContext, live: Live, outcome: TaskOutcome, kept: Iterable[Said], ended_at: int
) -> None:
    """Move a live turn into its page, with its outcome."""
    number = outcome["turn"]
    stored, page = ctx.get(turn_key(number), serde=JSON), ctx.get(page_key(number), serde=JSON)
    entries = _entries(await page)
    turn = finish(_begun(live, await stored), outcome, kept)
    turn["ended_at"] = ended_at
    store(ctx, entries, [turn])
    if not _is_large(turn):
        ctx.clear(turn_key(number))


def store(ctx: ObjectContext, page: Sequence[Turn | int], turns: Sequence[Turn]) -> None:
    """Add settled turns of one page to it."""
    entries = list(page)
    for turn in turns:
        entries.append(turn["turn"] if _is_large(turn) else turn)
        if _is_large(turn):
            ctx.set(turn_key(turn["turn"]), turn, serde=JSON)
    ctx.set(page_key(turns[0]["turn"]), entries, serde=JSON)


def finish(turn: Turn, outcome: TaskOutcome, kept: Iterable[Said]) -> Turn:
    """The record of a turn that has ended.

    Args:
        turn: The record of the live turn, without what was steered at it.
        outcome: How it ended.
        kept: What was steered at it and stays with it, taken or not.
    """
    taken = dict(outcome.get("taken", []))
    kept = list(kept)
    left = [message for x, message in kept if not x.joined and x.number not in taken]
    said, cut = outcome["messages"], len(outcome["messages"]) - outcome.get("partial", 0)
    messages = [*said[:cut], *left, *said[cut:]]
    steered = [*taken.values(), *range(cut, cut + len(left))]
    joined = [(x, message) for x, message in kept if x.joined]
    ended = turn.copy()
    ended["status"], ended["messages"] = outcome["status"], messages
    ended["input"] = with_joined(turn["turn"], turn["input"], joined)
    if steered:
        ended["steered"] = steered
    if outcome["status"] == "interrupted":
        ended.setdefault("reason", "cancelled")
    else:
        ended.pop("reason", None)
    if "error" in outcome:
        ended["error"] = outcome["error"]
    if "partial" in outcome:
        ended["partial"] = outcome["partial"]
    return ended


def with_joined(turn: int, begun: Sequence[Message], joined: Iterable[Said]) -> list[Message]:
    """All messages that a turn begins with, in the order in which they were accepted."""
    joined = list(joined)
    earlier = [message for x, message in joined if x.at <= turn]
    return [*earlier, *begun, *(message for x, message in joined if x.at > turn)]


async def read(
    ctx: AnyContext,
    record: Record,
    discarded: Discarded,
    numbers: range,
    *,
    bare: bool = False,
) -> list[Turn]:
    """The turns with these numbers, in order.

    The live ones are read first: one that is settled meanwhile is then found in its page. If they
    are to be `bare`, they are without what was steered at them.
    """
    live = [(x, ctx.get(turn_key(x.turn), serde=JSON)) for x in record.live if x.turn in numbers]
    theirs = () if bare else (x for x in record.steered if x.turn in numbers)
    steered = await said(ctx, theirs)
    first = numbers.start - (numbers.start - 1) % TURNS_PER_PAGE
    pages = [
        ctx.get(page_key(start), serde=JSON) for start in range(first, numbers.stop, TURNS_PER_PAGE)
    ]
    turns: dict[int, Turn] = {}
    for x, reading in live:
        stored = await reading
        if stored is not None and "status" not in stored:  # it may be settled by now
            turns[x.turn] = _running(x, stored, [s for s in steered if s[0].turn == x.turn])
    large: dict[int, Awaitable[Any]] = {}
    for page in pages:
        for entry in _entries(await page):
            if not isinstance(entry, int):
                turns[entry["turn"]] = entry
            elif entry in numbers:
                large[entry] = ctx.get(turn_key(entry), serde=JSON)
    for number, large_turn in large.items():
        turns[number] = cast("Turn", await large_turn)
    for number, turn in turns.items():
        if is_discarded(discarded, number):
            turn["discarded"] = True
    return [turns[number] for number in sorted(turns) if number in numbers]


async def read_one(ctx: ObjectSharedContext, number: int) -> Turn | None:
    """One settled turn; `None` while it is not settled."""
    for entry in _entries(await ctx.get(page_key(number), serde=JSON)):
        if entry == number:
            return cast("Turn", await ctx.get(turn_key(number), serde=JSON))
        if not isinstance(entry, int) and entry["turn"] == number:
            return entry
    return None


async def settled_keys(ctx: ObjectContext, record: Record) -> list[str]:
    """The keys of all turns that are settled."""
    live = {turn_key(x.turn) for x in record.live}
    keys = await ctx.state_keys()
    return [key for key in keys if re.fullmatch(r"(page|turn)/\d+", key) and key not in live]


def asked(turn: Turn) -> list[Message]:
    """All that the user said in a turn."""
    steered = turn.get("steered", [])
    return [*turn["input"], *(turn["messages"][place] for place in steered)]


def conversation(turns: Iterable[Turn], note: Note) -> list[Message]:
    """The conversation that the turns make, in their order, with the notes on interrupted ones."""
    messages: list[Message] = []
    for turn in turns:
        if turn.get("discarded"):
            continue
        messages += [*turn["input"], *turn["messages"]]
        if turn["status"] == "interrupted":
            said = note(turn)
            messages += (
                [{"role": "user", "content": said}] if isinstance(said, str) else (output(said))
            )
    return messages


def _is_large(turn: Turn) -> bool:
    return len(json.dumps(turn)) > LARGE


def _entries(page: Any) -> list[Turn | int]:
    return cast("list[Turn | int]", page or [])


def _begun(live: Live, stored: Any) -> Turn:
    stored = stored or {}
    turn: Turn = {
        "turn": live.turn,
        "status": "running",
        "input": stored.get("input", []),
        "messages": [],
        "task_id": live.task_id,
    }
    if "accepted_at" in stored:
        turn["accepted_at"] = stored["accepted_at"]
    if live.cancelled is not None:
        turn["reason"] = live.cancelled
    return turn


def _running(live: Live, stored: Any, steered: Sequence[Said]) -> Turn:
    turn = _begun(live, stored)
    turn["input"] = with_joined(live.turn, turn["input"], (x for x in steered if x[0].joined))
    turn["messages"] = [message for x, message in steered if not x.joined]
    if turn["messages"]:
        turn["steered"] = list(range(len(turn["messages"])))
    return turn
