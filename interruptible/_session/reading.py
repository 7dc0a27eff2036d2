"""How a session is read, its turns from the newest on.

There is one reader, `Moment.newest_first`. It reads as it is asked to go on: who stops early has
read little. A turn that ends meanwhile has moved from the record into a page; it goes by the
record, in which that turn is live.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Iterable, Sequence
from typing import Final, NamedTuple, cast

from restate.serde import BytesSerde

from interruptible._session.record import Addition, Record
from interruptible._session.storage import (
    JSON,
    PACKED,
    Slot,
    Values,
    first_of_page,
    page_key,
    parse_page,
    steered_key,
    tail_of,
    turn_key,
    turns_of,
)
from interruptible._session.stored_record import parse_record
from interruptible._session.turns import Added, as_live
from interruptible._wire.types import Message, Turn

AHEAD: Final = 32
"""How many keys are asked for at a time at most, for each time is a way to Restate and back."""
MAX_AHEAD: Final = 4 * 1024 * 1024
"""Bytes that come of one such time, if large turns are as large as those before."""
MAX_ANSWER: Final = 24 * 1024 * 1024
"""Bytes of the turns that go into one answer; `sent.MAX_LOADED` says why."""
MAX_COPIED: Final = 12 * 1024 * 1024
"""Bytes of the turns that a fork copies: it has read them, and has them again in what it sends."""
_FEW: Final = 2
"""How many pages are asked for at first, if not all are wanted."""
_UNREAD: Final = cast("Turn", {})
"""What stands in a page that is not parsed."""


class Moment(NamedTuple):
    """A session as it was when its record was read, and where to read its turns."""

    ctx: Values
    record: Record
    said: Sequence[Added] = ()
    """What was steered at live turns, if they are to have it."""
    notes: dict[str, bytes] | None = None
    """Where to note each page and large turn that is read, as it is stored, to read it once."""
    most: int | None = None
    """How many bytes are wanted, if not all there are: few keys are then asked for at first."""
    keys: Awaitable[list[str]] | None = None
    """Every key of the state, if pages are not parsed for nothing: one that has no large turn is
    then read as one slot, that of the last turn in it."""

    async def turns(
        self, numbers: range, most: int | None = None, *, discarded: bool = True
    ) -> tuple[list[Turn], bool]:
        """The latest of the turns with these numbers, in order, and whether there are more.

        Args:
            numbers: Which turns.
            most: How many bytes they may have as JSON; but the last is there in any case.
            discarded: With those that are no part of the conversation any more.
        """
        turns: list[Turn] = []
        size = 0
        async for turn in self.each_newest_first(numbers, discarded=discarded):
            size += len(json.dumps(turn)) if most is not None else 0
            if size > (most or 0) and turns:
                return turns[::-1], True
            turns.append(turn)
        return turns[::-1], False

    async def each_newest_first(
        self, numbers: range | None = None, *, discarded: bool = True
    ) -> AsyncGenerator[Turn, None]:
        """The turns with these numbers, from the last on; by default all."""
        numbers = range(1, self.record.next) if numbers is None else numbers
        async for slot, packed in self.newest_first(numbers, discarded=discarded):
            turn = slot.turn or cast("Turn", PACKED.deserialize(packed))
            if slot.discarded:
                turn["discarded"] = True
            live = self.record.find(slot.number)
            if live is not None and turn["status"] == "running":  # a large one may be settled
                turn = as_live(turn, live, self.said)
            yield turn

    async def turn(self, number: int) -> Turn | None:
        """One turn, unless it was removed."""
        turns, _ = await self.turns(range(number, number + 1))
        return turns[0] if turns else None

    async def slots(self, numbers: range) -> list[Slot]:
        """Where the turns with these numbers stand, in order; large ones are not read."""
        return [slot async for chunk in self._chunks(numbers) for slot in chunk][::-1]

    async def newest(self) -> int | None:
        """The last turn that is in the conversation."""
        async for chunk in self._chunks(range(1, self.record.next)):
            for slot in chunk:
                if not slot.discarded:
                    return slot.number
        return None

    async def newest_first(
        self, numbers: range, *, discarded: bool = True
    ) -> AsyncGenerator[tuple[Slot, bytes], None]:
        """Where the turns with these numbers stand, from the last on, and large ones as stored."""
        async for chunk in self._chunks(numbers):
            slots = [x for x in chunk if discarded or not x.discarded]
            large = self._values([turn_key(x.number) for x in slots if x.turn is None])
            for slot in slots:
                packed = await anext(large) if slot.turn is None else b""
                if slot.turn is not None or packed:  # else it was removed meanwhile
                    yield slot, packed

    async def _chunks(self, numbers: range) -> AsyncGenerator[list[Slot], None]:
        """The same without large ones, as many as are read at a time."""
        numbers = range(max(numbers.start, self.record.first), numbers.stop)
        tail = {x.number: x for x in tail_of(self.record) if x.number in numbers}
        elsewhere = [n for n in numbers if n not in tail] if self.record.paged else []
        last = {first_of_page(n): n for n in elsewhere}  # in each page
        pages = list(last)[::-1]
        whole: set[int] = set()
        above = numbers.stop
        start, at_once, size = 0, AHEAD if self.most is None else _FEW, 0
        while start <= len(pages):
            batch = pages[start : start + at_once]
            read = await self._read([page_key(x) for x in batch])
            if self.keys is not None and start == 0:  # they were asked for together
                whole = set(pages) - set(map(first_of_page, turns_of(await self.keys)))
            each = [
                [Slot(last[x], _UNREAD, discarded=False)] if x in whole else parse_page(page)
                for x, page in zip(batch, read, strict=True)
            ]
            found = {x.number: x for slots in each for x in slots if x.number in numbers}
            # What is live may be older than what is settled, and in a page.
            lowest = batch[-1] if start + at_once <= len(pages) else 0
            found |= {number: x for number, x in tail.items() if lowest <= number < above}
            yield [found[number] for number in sorted(found, reverse=True)]
            above = lowest
            start, size = start + at_once, size + sum(map(len, read))
            if self.most is not None:  # as many as are left, if they are as large as those before
                left = (self.most - size) * len(batch) // max(1, sum(map(len, read)))
                # But not many more at a time: those before may be small by chance.
                at_once = min(AHEAD, max(1, left), 2 * at_once)

    async def _values(self, keys: Sequence[str]) -> AsyncGenerator[bytes, None]:
        """The values of keys, many at a time unless they are large."""
        at_once, most = 1, MAX_AHEAD if self.most is None else min(MAX_AHEAD, self.most)
        while keys:
            values = await self._read(keys[:at_once])
            for value in values:
                yield value
            keys = keys[at_once:]
            at_once = min(AHEAD, max(1, most // max(1, *map(len, values))))

    async def _read(self, keys: Sequence[str]) -> list[bytes]:
        notes = {} if self.notes is None else self.notes
        reading = {key: self.ctx.get(key, BytesSerde()) for key in keys if key not in notes}
        notes.update({key: await value or b"" for key, value in reading.items()})
        return [notes[key] for key in keys]


async def read_record(ctx: Values) -> Record:
    """The session's record; of a session that nothing is stored of, an empty one."""
    return parse_record(await ctx.get("session", JSON))


async def read_moment(ctx: Values) -> Moment:
    """The session, with what the steered messages of the same moment say."""
    record = await read_record(ctx)
    while record.steered:
        said = await read_steered(ctx, record.steered)
        again = await read_record(ctx)
        if again == record:
            return Moment(ctx, record, said)
        record = again  # a turn has ended meanwhile, and they have found their place
    return Moment(ctx, record)


async def read_steered(ctx: Values, steered: Iterable[Addition]) -> list[Added]:
    """What steered messages say."""
    reading = [(x, ctx.get(steered_key(x.number), JSON)) for x in steered]
    texts = [(x, cast("Message | None", await message)) for x, message in reading]
    return [(x, text) for x, text in texts if text is not None]  # it may be settled meanwhile


def at_hand(record: Record, before: int) -> list[Turn] | None:
    """The conversation before a turn, or `None` if some of it has to be read."""
    slots = [x for x in tail_of(record) if x.number < before and not x.discarded]
    turns = [x.turn for x in slots if x.turn is not None]
    steered = any(x.turn < before for x in record.steered)
    if record.paged or steered or len(turns) < len(slots):
        return None
    lives = {x.turn: x for x in record.live}
    return [as_live(x, lives[x["turn"]]) if x["turn"] in lives else x for x in turns]
