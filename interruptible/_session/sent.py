"""What a task is sent of a session: the latest turns, as they are stored. The task decodes them."""

import json
from collections.abc import Mapping
from typing import Any, Final

from restate import ObjectSharedContext
from restate.serde import Serde

from interruptible._session.reading import MAX_AHEAD, Moment, read_moment, read_record
from interruptible._session.storage import JSON, page_key, steered_key, tail_of, turn_key
from interruptible._session.stored_record import dump_record

MAX_LOADED: Final = 12 * 1024 * 1024
"""Bytes, as stored, of the latest turns that a task reads, all in all. Restate allows an invocation
32 MiB of memory by default (`worker.invoker.per-invocation-memory-limit`), and what else a task
does needs some, too."""
MAX_OLDER: Final = MAX_LOADED * 3 // 4
"""Bytes of the older turns, which are loaded for many tasks; what is newer has the rest."""
_FIRST: Final = "first"
"""Where `Stored` has the first of its turns, if these are not all."""


class Stored:
    """The values of a session's keys, as they are stored: a task decodes them."""

    def __init__(self, values: Mapping[str, bytes]) -> None:
        self._values = values

    @property
    def first(self) -> int:
        """The first turn that it has, if it has not all of those that were asked for; else 1."""
        return int(self._values.get(_FIRST, b"1"))

    @property
    def size(self) -> int:
        """How many bytes its turns have that are in pages, or large."""
        return sum(len(x) for key, x in self._values.items() if key.startswith(("page/", "turn/")))

    @classmethod
    async def copy(
        cls,
        ctx: ObjectSharedContext,
        before: int | None = None,
        after: int = 1,
        most: int | None = None,
        room: int | None = None,
    ) -> "Stored":
        """What a task needs of a session, the latest first, until it is enough.

        Args:
            ctx: The session.
            before: Only the turns before this one; the task has what else there is.
            after: Only from this one on.
            most: How many bytes of them are wanted; the last that has ended is there in any case.
            room: How many may come at most, also of that one; by default there is no such bound.
        """
        read: dict[str, bytes] = {}
        # A task that has a part of it knows what was steered.
        moment = await read_moment(ctx) if before is None else Moment(ctx, await read_record(ctx))
        session, record = moment._replace(notes=read), moment.record
        if not record.epoch:
            return cls({})
        numbers = range(after, record.next)
        if before is not None:
            numbers = range(after, min(before, record.next))
            live = {x.turn for x in record.live if x.turn < before}
            tail = tuple(x.encode() for x in tail_of(record) if x.number < before)
            record = record.only(live)._replace(steered=(), approvals=(), tail=tail)
            session = session._replace(record=record)
        bounds = (MAX_LOADED if most is None else min(most, MAX_LOADED), room)
        if bounds[0] < MAX_AHEAD:
            return await cls._latest(session._replace(most=most), numbers, read, bounds)
        keys = ctx.state_keys() if record.paged else None
        stored = await cls._latest(session._replace(keys=keys), numbers, read, bounds)
        # Where there is no room for all, none is for what is discarded: so pages are parsed then.
        return await cls._latest(session, numbers, read, bounds) if stored.first > 1 else stored

    @classmethod
    async def _latest(
        cls,
        session: Moment,
        numbers: range,
        read: Mapping[str, bytes],
        bounds: tuple[int, int | None],
    ) -> "Stored":
        record, (most, room) = session.record, bounds
        values = {"session": JSON.serialize(dump_record(record))}
        values |= {steered_key(x.number): JSON.serialize(said) for x, said in session.said}
        size, has_ended = sum(map(len, values.values())) if room is None else 0, False
        async for slot, _ in session.newest_first(numbers, discarded=False):
            where = (page_key(slot.number), turn_key(slot.number))
            more = {key: read[key] for key in where if read.get(key) and key not in values}
            size += sum(map(len, more.values()))
            # The newest that has ended is sent in any case, if there is room for it at all.
            if more and ((size > most and has_ended) or (room is not None and size > room)):
                values[_FIRST] = str(slot.number + 1).encode()
                break
            values |= more
            has_ended = has_ended or record.find(slot.number) is None
        return cls(values)

    @classmethod
    def unpack(cls, packed: bytes) -> "Stored":
        """The inverse of `pack`."""
        header, _, rest = packed.partition(b"\n")
        values: dict[str, bytes] = {}
        start = 0
        for key, size in json.loads(header):
            values[key] = rest[start : start + size]
            start += size
        return cls(values)

    def pack(self) -> bytes:
        """All of it as bytes: first what there is of which length, then the values."""
        header = json.dumps([[key, len(value)] for key, value in self._values.items()])
        return b"\n".join((header.encode(), b"".join(self._values.values())))

    async def get(self, name: str, serde: Serde[Any]) -> Any:
        """The value of a key, or `None`."""
        value = self._values.get(name)
        return None if value is None else serde.deserialize(value)
