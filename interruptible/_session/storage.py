"""What stands where in the state of a session's object, and how it is written.

What is live is in the session's record itself, its tail, and so is all of a short conversation:
whoever has read the record has it. Once it outgrows its bound, settled turns move into pages of
sixteen, `page/<p>`, so that a long history is a few reads and a message costs the same in any. A
turn that is large has a key of its own, `turn/<n>`, and only its number stands where it would. A
steered message has one, `steered/<n>`, until its turn is settled.

Pages and large turns are compressed: a long conversation goes to a task through Restate's log, and
what it costs there is bytes.
"""

import json
import re
import zlib
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from restate import ObjectContext
from restate.serde import BytesSerde, JsonSerde, Serde

from interruptible._session.record import Addition, Record
from interruptible._wire.types import Message, Turn

TURNS_PER_PAGE: Final = 16
LARGE: Final = 8 * 1024
"""Bytes from which on a turn has a key of its own."""
MANY_PAGES: Final = 4
"""From how many full pages on the older turns are loaded by themselves: of few, that is slower."""
TAIL: Final = 24 * 1024
"""Bytes up to which a conversation is short, and all of it stays in the tail."""


class _PackedSerde(Serde[Any]):
    def serialize(self, obj: Any) -> bytes:
        return zlib.compress(json.dumps(obj).encode(), level=1)

    def deserialize(self, buf: bytes) -> Any:
        return json.loads(zlib.decompress(buf))


JSON: Final[Serde[Any]] = JsonSerde()
PACKED: Final[Serde[Any]] = _PackedSerde()
"""JSON, compressed by zlib: the same bytes in each attempt, as all workers of a deployment are of
one build."""


class Values(Protocol):
    """Where the values of a session's keys are: the context of its object, or a copy of them."""

    def get(self, name: str, serde: Serde[Any]) -> Awaitable[Any]: ...


def turn_key(turn: int) -> str:
    """Where a large turn is."""
    return f"turn/{turn}"


def turns_of(keys: Iterable[str]) -> list[int]:
    """The large turns that have one of these keys."""
    found = [re.fullmatch(r"turn/(\d+)", key) for key in keys]
    return [int(x[1]) for x in found if x is not None]


def page_key(turn: int) -> str:
    """Where a turn is that is not in the tail any more."""
    return f"page/{(turn - 1) // TURNS_PER_PAGE}"


def first_of_page(turn: int) -> int:
    """The first turn whose page is the same."""
    return turn - (turn - 1) % TURNS_PER_PAGE


def steered_key(number: int) -> str:
    """Where a steered message is."""
    return f"steered/{number}"


def approval_key(approval: int) -> str:
    """Where it is what a turn asks for."""
    return f"approval/{approval}"


def compact(value: Any) -> bytes:
    """JSON as tasks and the object tell each other of a turn: it is in many a journal."""
    return json.dumps(value, separators=(",", ":")).encode()


def older_before(record: Record) -> int:
    """The turn before which the older turns end, if there are many; else 1.

    All of them are settled, so they change only if they are discarded. They are at least seven
    eighths of what fills pages. So they stay the same for many turns, and have to be loaded anew
    each time that the conversation has grown by an eighth.
    """
    settled = min((x.turn for x in record.live), default=record.next) - 1
    pages = settled // TURNS_PER_PAGE
    if pages - (record.first - 1) // TURNS_PER_PAGE < MANY_PAGES:
        return 1
    step = 1 << max(0, pages.bit_length() - 4)
    return pages // step * step * TURNS_PER_PAGE + 1


# -- Where turns stand. ----------------------------------------------------------------------------


class Slot(NamedTuple):
    """A turn's place, in the tail or in a page."""

    number: int
    turn: Turn | None
    """What stands there; a large one has a key of its own instead."""
    discarded: bool

    @classmethod
    def of(cls, turn: Turn) -> "Slot":
        """The place of a turn."""
        is_large = _size(turn) > LARGE
        return cls(turn["turn"], None if is_large else turn, turn.get("discarded", False))

    @classmethod
    def decode(cls, stored: Turn | int) -> "Slot":
        """A place as it is stored: a large turn as its number, a negative one when discarded."""
        if isinstance(stored, int):
            return cls(abs(stored), None, stored < 0)
        return cls(stored["turn"], stored, stored.get("discarded", False))

    def encode(self) -> Turn | int:
        """The inverse of `decode`."""
        if self.turn is None:
            return -self.number if self.discarded else self.number
        return {**self.turn, "discarded": True} if self.discarded else self.turn


def parse_page(packed: bytes) -> list[Slot]:
    """The places in a page, in the order in which they were settled; empty if there is none."""
    return [Slot.decode(x) for x in PACKED.deserialize(packed) or ()] if packed else []


def tail_of(record: Record) -> list[Slot]:
    """The places in the record's tail, in their order."""
    return [Slot.decode(x) for x in record.tail]


def add_turn(
    ctx: ObjectContext,
    record: Record,
    turn: int,
    messages: Sequence[Message],
    accepted_at: int,
    resumes: int | None = None,
) -> Record:
    """Add a new turn to the tail."""
    new: Turn = {
        "turn": turn,
        "status": "running",
        "input": list(messages),
        "messages": [],
        "accepted_at": accepted_at,
    }
    if resumes is not None:
        new["resumes"] = resumes
    return _with_tail(record, [*tail_of(record), _stored(ctx, new)])


async def live_turn(ctx: Values, record: Record, number: int) -> Turn:
    """A live turn, as it is stored."""
    slot = next(x for x in tail_of(record) if x.number == number)
    return slot.turn or await ctx.get(turn_key(number), PACKED)


def change_turn(ctx: ObjectContext, record: Record, turn: Turn) -> Record:
    """Store a live turn anew, at its place in the tail."""
    place = _stored(ctx, turn)
    slots = tail_of(record)
    return _with_tail(
        record,
        [place._replace(discarded=x.discarded) if x.number == place.number else x for x in slots],
    )


async def put_turns(ctx: ObjectContext, record: Record, turns: Sequence[Turn]) -> Record:
    """Put settled turns into the tail, and move into pages what it has outgrown.

    That is all that is settled, once the conversation is not short any more.
    """
    tail = {x.number: x for x in tail_of(record)} | {x["turn"]: Slot.of(x) for x in turns}
    is_long = record.paged or sum(_size(x.encode()) for x in tail.values()) > TAIL
    moving = [x for x in tail.values() if is_long and record.find(x.number) is None]
    pages = {page_key(x.number): list[Slot]() for x in moving}
    if record.paged:
        pages = await _read_pages(ctx, pages)
    for turn in turns:
        _stored(ctx, turn)
    for x in moving:
        pages[page_key(x.number)].append(x)
    write_pages(ctx, pages)
    stays = [x for x in tail.values() if x not in moving]
    return _with_tail(record, stays)._replace(paged=is_long)


async def mark_discarded(
    ctx: ObjectContext, record: Record, turns: Sequence[int]
) -> tuple[Record, dict[str, list[Slot]]]:
    """Leave turns out of the conversation.

    Returns:
        The record, and the pages to write.
    """

    def marked(slots: Iterable[Slot]) -> list[Slot]:
        return [x._replace(discarded=x.discarded or x.number in turns) for x in slots]

    tail = tail_of(record)
    here = {x.number for x in tail}
    others = [n for n in turns if n >= record.first and n not in here] if record.paged else []
    pages = await _read_pages(ctx, map(page_key, others))
    changed = {key: marked(page) for key, page in pages.items() if marked(page) != page}
    if min(turns, default=record.next) < older_before(record):
        record = record._replace(older="")
    return _with_tail(record, marked(tail)), changed


def write_pages(ctx: ObjectContext, pages: Mapping[str, list[Slot]]) -> None:
    """Write pages."""
    for key in sorted(pages):
        ctx.set(key, [x.encode() for x in pages[key]], serde=PACKED)


def without_settled(record: Record) -> Record:
    """The record of a session whose settled turns are removed."""
    tail = [x for x in tail_of(record) if record.find(x.number) is not None]
    first = min((x.turn for x in record.live), default=record.next)
    return _with_tail(record, tail)._replace(paged=False, first=first, older="")


async def stale_keys(ctx: ObjectContext, record: Record) -> list[str]:
    """The keys of all turns that are not live, and of what was steered at them."""
    needed = {turn_key(x.turn) for x in record.live}
    needed |= {steered_key(x.number) for x in record.steered}
    needed |= {approval_key(x.id) for x in record.approvals}
    ours = re.compile(r"(page|turn|steered|approval)/\d+")
    return [key for key in await ctx.state_keys() if ours.fullmatch(key) and key not in needed]


def clear_steered(ctx: ObjectContext, record: Record, steered: Iterable[Addition | None]) -> None:
    """Clear what these said that are steered no more; another may have its number by now.

    It comes last: a handler that is killed in between has lost no message.
    """
    kept = {x.number for x in record.steered}
    for x in steered:
        if x is not None and x.number not in kept:
            ctx.clear(steered_key(x.number))


def _with_tail(record: Record, slots: Iterable[Slot]) -> Record:
    return record._replace(tail=tuple(x.encode() for x in slots))


def _stored(ctx: ObjectContext, turn: Turn) -> Slot:
    """The place of a turn; a large one is stored beside it."""
    slot = Slot.of(turn)
    if slot.turn is None:
        ctx.set(turn_key(slot.number), turn, serde=PACKED)
    return slot


async def _read_pages(ctx: Values, keys: Iterable[str]) -> dict[str, list[Slot]]:
    reading = {key: ctx.get(key, BytesSerde()) for key in sorted(set(keys))}
    return {key: parse_page(await page) for key, page in reading.items()}


def _size(stored: Turn | int) -> int:
    return len(json.dumps(stored))
