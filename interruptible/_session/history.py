"""Where the turns of a session are kept, and the conversation that they make.

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
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Container,
    Iterable,
    Mapping,
    Sequence,
)
from itertools import groupby
from typing import Any, Final, Protocol, cast

from restate import ObjectContext, ObjectSharedContext
from restate.serde import BytesSerde, JsonSerde, Serde

from interruptible._session.rules import Live, Record, Steered
from interruptible._session.rules import load as load_record
from interruptible._wire.output import told
from interruptible._wire.types import Message, TaskOutcome, Turn


class _PackedSerde(Serde[Any]):
    def serialize(self, obj: Any) -> bytes:
        return zlib.compress(json.dumps(obj).encode(), level=1)

    def deserialize(self, buf: bytes) -> Any:
        return _unpack(buf)[0]


JSON: Final[Serde[Any]] = JsonSerde()
PACKED: Final[Serde[Any]] = _PackedSerde()
"""JSON, compressed by zlib: the same bytes in each attempt, as all workers of a deployment are of
one build."""
TURNS_PER_PAGE: Final = 16
LARGE: Final = 8 * 1024
"""Bytes from which on a turn has a key of its own."""
TAIL: Final = 24 * 1024
"""Bytes up to which a conversation is short, and all of it stays in the tail."""
AHEAD: Final = 32
"""How many keys are asked for at a time, if they are small."""
FEW_AHEAD: Final = 4
"""The same if they are large, or may be."""
MAX_LOADED: Final = 12 * 1024 * 1024
"""Bytes, as stored, of the latest turns that a task is sent. Restate allows an invocation 32 MiB of
memory by default (`worker.invoker.per-invocation-memory-limit`), and what else a task does needs
some, too."""
MAX_ANSWER: Final = 24 * 1024 * 1024
"""Bytes of the turns that go into one answer, for the same reason."""
MAX_COPIED: Final = 12 * 1024 * 1024
"""Bytes of the turns that a fork copies: it has read them, and has them again in what it sends."""

_OF_TURNS: Final = r"(page|turn)/\d+"
_OURS: Final = r"(page|turn|steered)/\d+"
_FIRST: Final = "first"
"""Where `Stored` has the first of its turns, if these are not all."""
Note = Callable[[Turn], "str | Message | None"]
Said = tuple[Steered, Message]
"""A steered message and what it says."""
Entry = Turn | int
"""A turn, or the number of a large one; it is negative when the turn is discarded."""


class State(Protocol):
    """Where the values of a session's keys are: the context of its object, or `Stored`."""

    def get(self, name: str, serde: Serde[Any]) -> Awaitable[Any]: ...


class Stored:
    """The values of a session's keys, as they are stored.

    The record is as it was when they were read, one after the other; a turn may have ended since.
    """

    def __init__(self, values: Mapping[str, bytes]) -> None:
        self._values = values

    @property
    def first(self) -> int:
        """The first turn that it has; of a very long conversation it has the latest only."""
        return int(self._values.get(_FIRST, b"1"))

    @classmethod
    async def load(cls, ctx: ObjectSharedContext) -> "Stored":
        """Read what a task needs, the latest first, until it is enough."""
        values = await _steered(ctx)
        if not values:
            return cls(values)
        known = _Known(load_record(json.loads(values["session"])), values)
        keys = [key for key in await ctx.state_keys() if re.fullmatch(_OF_TURNS, key)]
        keys.sort(key=lambda key: (_last(key), key.startswith("page")), reverse=True)
        size, largest = sum(map(len, values.values())), MAX_LOADED
        while keys:
            ahead = AHEAD if largest * AHEAD <= 2 * MAX_LOADED else FEW_AHEAD
            wanted = [key for key in keys[:ahead] if not known.is_gone(key)]
            reading = [(key, ctx.get(key, serde=BytesSerde())) for key in wanted]
            found = [(key, value) for key, value in [(k, await v) for k, v in reading] if value]
            largest = max((len(value) for _, value in found), default=largest)
            for key, value in found:
                if known.is_gone(key):  # its page was read with it
                    continue
                size += len(value)
                last = _last_in(key, value) if size > MAX_LOADED else 0
                if last and last < known.newest:  # the newest is sent in any case
                    values[_FIRST] = str(last + 1).encode()
                    return cls(values)
                values[key] = value
            del keys[:ahead]
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


def _last(key: str) -> int:
    """The last turn that a page or a large turn's key may be about."""
    kind, _, number = key.partition("/")
    return (int(number) + 1) * TURNS_PER_PAGE if kind == "page" else int(number)


def _last_in(key: str, value: bytes) -> int:
    """The last turn that a page or a large turn's key is about."""
    if not key.startswith("page"):
        return _last(key)
    page: list[Entry] = PACKED.deserialize(value) or []
    return max(map(_number, page), default=0)


class _Known:
    """What is known of a session's turns from its record and from the pages read so far."""

    def __init__(self, record: Record, values: Mapping[str, bytes]) -> None:
        self._record = record
        self._values = values
        self._pages: dict[str, list[Entry]] = {}

    def is_gone(self, key: str) -> bool:
        """Whether a key is that of a large turn which is discarded."""
        kind, _, number = key.partition("/")
        if kind != "turn":
            return False
        gone = -int(number)
        return gone in self._record.tail or gone in self._page(page_key(-gone))

    @property
    def newest(self) -> int:
        """The last turn that has ended and is in the conversation."""
        ended = [x for x in self._record.tail if self._record.find(_number(x)) is None]
        pages = (self._page(key) for key in self._values if key.startswith("page"))
        for entries in (ended, *pages):  # from the last on
            if stands := [_number(x) for x in entries if not _is_discarded(x)]:
                return max(stands)
        return 0

    def _page(self, key: str) -> list[Entry]:
        if key not in self._values:
            return []
        if key not in self._pages:
            self._pages[key] = PACKED.deserialize(self._values[key]) or []
        return self._pages[key]


async def _steered(ctx: ObjectSharedContext) -> dict[str, bytes]:
    """The session's record, as stored, and the steered messages of that moment."""
    while True:
        stored = await ctx.get("session", serde=BytesSerde())
        if not stored:
            return {}
        values = {"session": stored}
        keys = [steered_key(x.number) for x in load_record(json.loads(stored)).steered]
        if not keys:
            return values
        reading = [(key, ctx.get(key, serde=BytesSerde())) for key in keys]
        values |= {key: value for key, value in [(k, await v) for k, v in reading] if value}
        if await ctx.get("session", serde=BytesSerde()) == stored:  # a turn may end meanwhile
            return values


def turn_key(turn: int) -> str:
    """Where a large turn is."""
    return f"turn/{turn}"


def page_key(turn: int) -> str:
    """Where a turn is that is not in the tail any more."""
    return f"page/{(turn - 1) // TURNS_PER_PAGE}"


def steered_key(number: int) -> str:
    """Where a steered message is."""
    return f"steered/{number}"


# -- To write. -------------------------------------------------------------------------------------


def begin(
    ctx: ObjectContext, record: Record, turn: int, messages: list[Message], accepted_at: int
) -> Record:
    """Add a new turn to the tail."""
    new: Turn = {
        "turn": turn,
        "status": "running",
        "input": messages,
        "messages": [],
        "accepted_at": accepted_at,
    }
    return record._replace(tail=(*record.tail, _kept(ctx, new)))


async def settle(
    ctx: ObjectContext,
    record: Record,
    live: Live,
    outcome: TaskOutcome,
    kept: Iterable[Said],
    ended_at: int,
) -> Record:
    """Give a turn of the tail its outcome, and move into pages what the tail has outgrown."""
    (begun,) = await _turns(ctx, [x for x in record.tail if _number(x) == live.turn])
    turn = finish(_of_live(begun, live), outcome, kept)
    turn["ended_at"] = ended_at
    entry: Entry = turn if _size(turn) <= LARGE else _pointer(turn)
    tail = [entry if _number(x) == live.turn else x for x in record.tail]
    moving = _outgrown(tail, [x.turn for x in record.live], paged=record.paged)
    pages = await _pages(ctx, {page_key(_number(x)) for x in moving})
    _kept(ctx, turn)
    for x in moving:
        pages[page_key(_number(x))].append(x)
    write(ctx, pages)
    rest = tuple(x for x in tail if x not in moving)
    return record._replace(tail=rest, paged=record.paged or bool(moving))


async def discard(
    ctx: ObjectContext, record: Record, turns: Sequence[int]
) -> tuple[Record, dict[str, list[Entry]]]:
    """Leave turns out of the conversation.

    Returns:
        The record, and the pages to write.
    """
    tail = tuple(_discarded(x) if _number(x) in turns else x for x in record.tail)
    here = {_number(x) for x in tail}
    others = [n for n in turns if n >= record.first and n not in here] if record.paged else []
    pages = await _pages(ctx, {page_key(n) for n in others})
    after = {
        key: [_discarded(x) if _number(x) in turns else x for x in page]
        for key, page in pages.items()
    }
    return record._replace(tail=tail), {
        key: after[key] for key in after if after[key] != pages[key]
    }


def adopt(ctx: ObjectContext, record: Record, turns: Sequence[Turn]) -> Record:
    """Store the settled turns that a new session begins with."""
    entries = [_kept(ctx, turn) for turn in turns]
    moving = _outgrown(entries, (), paged=False)
    for key, page in groupby(moving, lambda x: page_key(_number(x))):
        write(ctx, {key: list(page)})
    rest = tuple(x for x in entries if x not in moving)
    return record._replace(tail=rest, paged=bool(moving))


def write(ctx: ObjectContext, pages: dict[str, list[Entry]]) -> None:
    """Write pages."""
    for key in sorted(pages):
        ctx.set(key, pages[key], serde=PACKED)


async def stale_keys(ctx: ObjectContext, record: Record) -> list[str]:
    """The keys of all turns that are not live, and of what was steered at them."""
    needed = {turn_key(x.turn) for x in record.live}
    needed |= {steered_key(x.number) for x in record.steered}
    keys = await ctx.state_keys()
    return [key for key in keys if re.fullmatch(_OURS, key) and key not in needed]


def without_settled(record: Record) -> Record:
    """The record of a session whose settled turns are removed."""
    tail = tuple(x for x in record.tail if record.find(_number(x)) is not None)
    first = min((x.turn for x in record.live), default=record.next)
    return record._replace(tail=tail, paged=False, first=first)


# -- To read. --------------------------------------------------------------------------------------


async def read(ctx: State, record: Record, numbers: range, *, bare: bool = False) -> list[Turn]:
    """The turns with these numbers, in order; `bare` is without what was steered at live ones."""
    turns = [turn async for turn, _ in newest_first(ctx, record, numbers, bare=bare)]
    return turns[::-1]


async def newest_first(
    ctx: State, record: Record, numbers: range, *, bare: bool = False, discarded: bool = True
) -> AsyncGenerator[tuple[Turn, int], None]:
    """The turns with these numbers, from the last on, each with about how many bytes it has.

    They are read as they are asked for: who stops early has read little.

    Args:
        ctx: Where they are.
        record: The session.
        numbers: Which turns.
        bare: Without what was steered at live ones.
        discarded: With those that are no part of the conversation any more.
    """
    steered = await said(ctx, [x for x in record.steered if x.turn in numbers and not bare])
    async for entry, size in _newest_entries(ctx, record, numbers):
        if _is_discarded(entry) and not discarded:
            continue
        if isinstance(entry, int):
            packed = await ctx.get(turn_key(abs(entry)), serde=BytesSerde())
            if not packed:  # removed meanwhile
                continue
            turn, size = cast("tuple[Turn, int]", _unpack(packed))  # noqa: PLW2901
            if entry < 0:
                turn["discarded"] = True
        else:
            turn = entry
        live = record.find(turn["turn"])
        if live is not None and turn["status"] == "running":  # a large one may be settled by now
            theirs = [x for x in steered if x[0].turn == live.turn]
            turn = with_steered(_of_live(turn, live), theirs)
        yield turn, size


async def some(
    ctx: State, record: Record, numbers: range, most: int, *, discarded: bool = True
) -> tuple[list[Turn], bool]:
    """The latest of the turns with these numbers, in order.

    Args:
        ctx: Where they are.
        record: The session.
        numbers: Which turns.
        most: How many bytes they may have; but the last is there in any case.
        discarded: With those that are no part of the conversation any more.

    Returns:
        The turns, and whether there are more.
    """
    turns: list[Turn] = []
    left = most
    async for turn, size in newest_first(ctx, record, numbers, discarded=discarded):
        left -= size
        if left < 0 and turns:
            return turns[::-1], True
        turns.append(turn)
    return turns[::-1], False


async def standing(ctx: State, record: Record, numbers: range) -> list[int]:
    """Those of these numbers whose turns are in the conversation, in order."""
    entries = [x async for x, _ in _newest_entries(ctx, record, numbers)]
    return [_number(x) for x in reversed(entries) if not _is_discarded(x)]


async def has(ctx: State, record: Record, turn: int) -> bool:
    """Whether a turn is on record, in the conversation or not."""
    return [x async for x, _ in _newest_entries(ctx, record, range(turn, turn + 1))] != []


def at_hand(record: Record, before: int) -> list[Turn] | None:
    """The conversation before a turn, or `None` if some of it has to be read."""
    if record.paged or record.steered:
        return None
    turns: list[Turn] = []
    for x in record.tail:
        if _number(x) >= before or _is_discarded(x):
            continue
        if isinstance(x, int):
            return None
        live = record.find(x["turn"])
        turns.append(x if live is None else _of_live(x, live))
    return turns


async def newest(ctx: State, record: Record) -> int | None:
    """The last turn that is in the conversation."""
    async for x, _ in _newest_entries(ctx, record, range(1, record.next)):
        if not _is_discarded(x):
            return _number(x)
    return None


async def begun_with(ctx: State, record: Record, turn: int) -> list[Message]:
    """The messages that a live turn was begun for."""
    (begun,) = await read(ctx, record, range(turn, turn + 1), bare=True)
    return begun["input"]


async def said(ctx: State, steered: Iterable[Steered]) -> list[Said]:
    """What steered messages say."""
    reading = [(x, ctx.get(steered_key(x.number), serde=JSON)) for x in steered]
    texts = [(x, cast("Message | None", await message)) for x, message in reading]
    return [(x, text) for x, text in texts if text is not None]  # it may be settled meanwhile


# -- What a turn is made of. -----------------------------------------------------------------------


def finish(turn: Turn, outcome: TaskOutcome, kept: Iterable[Said]) -> Turn:
    """The record of a turn that has ended.

    Args:
        turn: The record of the live turn, without what was steered at it.
        outcome: How it ended.
        kept: What was steered at it and stays with it, taken or not.
    """
    taken = dict(outcome.get("taken", []))
    others = [(x._replace(taken=False), said) for x, said in kept if x.number not in taken]
    joined, left = _split(turn["turn"], others)
    said, cut = outcome["messages"], len(outcome["messages"]) - outcome.get("partial", 0)
    messages = [*said[:cut], *left, *said[cut:]]
    steered = [*taken.values(), *range(cut, cut + len(left))]
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
    told: Any = outcome
    more: Any = {x: told[x] for x in ("cut_off", "not_begun", "never_began") if x in told}
    ended.update(more)
    return ended


def without_end(turn: Turn) -> Turn:
    """The record of a live turn that was given up, as later ones are told of it."""
    return {**turn, "status": "interrupted"}


def _split(turn: int, steered: Sequence[Said]) -> tuple[list[Said], list[Message]]:
    """What belongs to the messages that a turn began with, and what came later.

    What passed on from an earlier turn stands before this one's own message, in the order in which
    they were accepted, unless the turn has taken it while it worked.
    """
    joined = [(x, message) for x, message in steered if _is_first(x, turn)]
    return joined, [message for x, message in steered if not _is_first(x, turn)]


def _is_first(x: Steered, turn: int) -> bool:
    return x.joined or (not x.taken and x.at <= turn)


def with_joined(turn: int, begun: Sequence[Message], joined: Iterable[Said]) -> list[Message]:
    """All messages that a turn begins with, in the order in which they were accepted."""
    joined = list(joined)
    earlier = [message for x, message in joined if x.at <= turn]
    return [*earlier, *begun, *(message for x, message in joined if x.at > turn)]


def with_steered(turn: Turn, steered: Sequence[Said]) -> Turn:
    """The record of a live turn with what was steered at it so far."""
    turn = turn.copy()
    joined, turn["messages"] = _split(turn["turn"], steered)
    turn["input"] = with_joined(turn["turn"], turn["input"], joined)
    if turn["messages"]:
        turn["steered"] = list(range(len(turn["messages"])))
    return turn


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
            messages += told("interruption_note", note(turn), "user")
    return messages


# -- What stands in the tail and in pages. ---------------------------------------------------------


def _kept(ctx: ObjectContext, turn: Turn) -> Entry:
    if _size(turn) <= LARGE:
        return turn
    ctx.set(turn_key(turn["turn"]), turn, serde=PACKED)
    return _pointer(turn)


def _pointer(turn: Turn) -> int:
    return -turn["turn"] if turn.get("discarded") else turn["turn"]


async def _turns(ctx: State, entries: Sequence[Entry]) -> list[Turn]:
    """The turns that entries stand for, without those that are removed meanwhile."""
    reading = [(x, ctx.get(turn_key(abs(x)), serde=PACKED)) for x in entries if isinstance(x, int)]
    turns = [x for x in entries if not isinstance(x, int)]
    for x, large in reading:
        turn = cast("Turn | None", await large)
        if turn is not None:
            turns.append({**turn, "discarded": True} if x < 0 else turn)
    return sorted(turns, key=lambda turn: turn["turn"])


async def _newest_entries(
    ctx: State, record: Record, numbers: range
) -> AsyncGenerator[tuple[Entry, int], None]:
    """The entries of the turns with these numbers, from the last on, with their bytes."""
    numbers = range(max(numbers.start, record.first), numbers.stop)
    tail = {_number(x): x for x in record.tail if _number(x) in numbers}
    coming = sorted(tail)  # what is live may be older than what is settled and in a page
    keys = list(dict.fromkeys(page_key(n) for n in reversed(numbers) if n not in tail))
    for start in range(0, len(keys) if record.paged else 0, AHEAD):
        reading = [ctx.get(key, serde=BytesSerde()) for key in keys[start : start + AHEAD]]
        for packed in [await page for page in reading]:
            if not packed:
                continue
            page, size = _unpack(packed)
            for x in sorted(page, key=_number, reverse=True):
                while coming and coming[-1] > _number(x):
                    entry = tail[coming.pop()]
                    yield entry, _size(entry)
                if _number(x) in numbers and _number(x) not in tail:
                    yield x, size // len(page)
    while coming:
        entry = tail[coming.pop()]
        yield entry, _size(entry)


def _unpack(packed: bytes) -> tuple[Any, int]:
    """What `PACKED` has packed, and how many bytes it has as JSON."""
    unpacked = zlib.decompress(packed)
    return json.loads(unpacked), len(unpacked)


async def _pages(ctx: State, keys: Iterable[str]) -> dict[str, list[Entry]]:
    reading = {key: ctx.get(key, serde=PACKED) for key in sorted(keys)}
    return {key: list(await page or []) for key, page in reading.items()}


def _outgrown(tail: Sequence[Entry], live: Container[int], *, paged: bool) -> list[Entry]:
    """What has to move into pages: all that is settled, once the conversation is not short."""
    if not paged and sum(map(_size, tail)) <= TAIL:
        return []
    return [x for x in tail if _number(x) not in live]


def _number(entry: Entry) -> int:
    return abs(entry) if isinstance(entry, int) else entry["turn"]


def _is_discarded(entry: Entry) -> bool:
    return entry < 0 if isinstance(entry, int) else entry.get("discarded", False)


def _discarded(entry: Entry) -> Entry:
    return -abs(entry) if isinstance(entry, int) else {**entry, "discarded": True}


def _of_live(turn: Turn, live: Live) -> Turn:
    turn = {**turn, "task_id": live.task_id}
    if live.cancelled is not None:
        turn["reason"] = live.cancelled
    if live.given_up:
        turn["given_up"] = True
    return turn


def _size(entry: Entry) -> int:
    return len(json.dumps(entry))
