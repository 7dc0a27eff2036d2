"""How a session's record is written, and read again by other versions.

A task may be sent a record that a later version wrote, and reads of it what it knows. So a later
version may add to a record and to its entries, at their end. What an earlier one must not leave out
when it writes the record again needs another number, `VERSION`, and is refused by it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from restate import ObjectContext

from interruptible._session.record import Addition, Asked, Live, Record
from interruptible._session.storage import JSON

VERSION: Final = 1
# What the first version stored, whether it says something or not: that one can read it.
_LIVE_AT_FIRST: Final = 4
_ADDITION_AT_FIRST: Final = 5
_LATER: Final = ("forked_from", "messages", "asked", "approvals", "older")


def dump_record(record: Record) -> dict[str, Any]:
    """The record as it is stored."""
    stored: dict[str, Any] = {"v": VERSION, **record._asdict()}
    stored["live"] = [_short(x, _LIVE_AT_FIRST) for x in record.live]
    stored["steered"] = [_short(x, _ADDITION_AT_FIRST) for x in record.steered]
    for name in _LATER:
        if stored[name] == Record._field_defaults[name]:
            del stored[name]
    return stored


_E = TypeVar("_E", Live, Addition, Asked)


def _entry(kind: type[_E], stored: Sequence[Any]) -> _E:
    return kind(*stored[: len(kind._fields)])


def _parse_live(stored: Sequence[Any]) -> Live:
    live = _entry(Live, stored)
    return live._replace(own=tuple(live.own))


def _short(entry: Live | Addition, least: int) -> tuple[Any, ...]:
    """An entry without what says nothing at its end, as far as versions before did not have it."""
    end = len(entry)
    while end > least and entry[end - 1] == entry._field_defaults[entry._fields[end - 1]]:
        end -= 1
    return entry[:end]


def parse_record(stored: Mapping[str, Any] | None) -> Record:
    """The record that was stored, or an empty one.

    Raises:
        ValueError: It was written by a newer version of this library.
    """
    if stored is None:
        return Record()
    if stored["v"] != VERSION:
        msg = (
            f"The session was written in version {stored['v']} of its format; this is version "
            f"{VERSION}. Deploy the version of restate-interruptible that wrote it, or a newer one."
        )
        raise ValueError(msg)
    fields = {name: stored[name] for name in Record._fields if name in stored}
    fields["live"] = tuple(_parse_live(x) for x in stored["live"])
    fields["steered"] = tuple(_entry(Addition, x) for x in stored["steered"])
    fields["tail"] = tuple(stored["tail"])
    if "forked_from" in fields:
        fields["forked_from"] = tuple(fields["forked_from"])
    if "approvals" in fields:
        fields["approvals"] = tuple(_entry(Asked, x) for x in fields["approvals"])
    return Record(**fields)


def new_record(ctx: ObjectContext) -> Record:
    """The record of a session that has had no message."""
    return Record(epoch=f"{ctx.random().getrandbits(32):08x}")


def store_record(ctx: ObjectContext, record: Record) -> None:
    """Store the session's record."""
    ctx.set("session", dump_record(record), serde=JSON)
