"""The rules of a session's stream: what is kept of it, and what a follower is given. Pure.

The stream is a log of entries with growing ids. Some of them *stay*; others, the deltas, are *live*
until what replaces them comes, and are then left out:

| event                | is live until                                        |
| -------------------- | ---------------------------------------------------- |
| `text`, `reasoning`  | the assistant's next message, or the end of the turn |
| `output` of a call   | the result of the call, or the end of the turn       |
| all others           | (they stay)                                          |

A turn has a *voice*: the attempt whose deltas are live. An attempt that speaks for the first time
takes over, and what the one before had said, live, is void. Then, as whenever something is lost,
the log is made *anew*: a `gap`, and after it all that stays.

After a gap comes what is of the newest turn, and of those whose end the record does not have yet:
so whoever is told of one finds everything either in the record or after the gap. What the turn
before left stays as long, for followers who are just behind.
"""

import hmac
import json
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from interruptible.formats._calls import id_answered

Said: TypeAlias = dict[str, Any]
"""An event without its id and turn."""

BEGINS: Final[Said] = {"type": "turn", "state": "begins"}
GAP: Final[Said] = {"type": "gap"}
PAGE: Final = 4096
"""Bytes of entries that stand in the log itself, which each change writes; then they get a page."""
UNRECORDED: Final = 8
"""Turns that are kept although they are not on record. An older one that ends makes a gap."""
SILENT: Final = 16
"""Attempts of which is known that another has taken over."""
TEXT: Final = ""
"""What stands for the words of the model where else the id of a call stands."""


class Entry(NamedTuple):
    """One entry of the log."""

    id: int
    turn: int
    event: Said
    step: int | None = None
    """Which step said it, if it is a delta."""


class Page(NamedTuple):
    """Entries that stand by themselves, under the id of the first; they never change."""

    first: int
    last: int
    period: int
    """The newest turn when they came."""
    live: tuple[str, ...] | None
    """What they are deltas of, all of them; `None` if one of them stays."""


class Progress(NamedTuple):
    """How far a turn has come that is not on record yet."""

    told: int = 0
    """How often its task has told something of it."""
    messages: int = 0
    """How many messages it has put out; less than 0 if somebody may have missed some."""
    status: str | None = None
    """How it ended, as its task says."""


class Log(NamedTuple):
    """What a stream knows about itself."""

    base: int = 1
    """All up to this id is gone."""
    tail: int = 1
    """The id of the newest entry."""
    turn: int = 0
    """The newest turn that has begun."""
    before: int = 0
    """The one that was the newest before."""
    key: str = ""
    """What publishes for it from outside has to know; empty when it has ended."""
    turns: tuple[tuple[int, Progress], ...] = ()
    """Those that are not on record yet."""
    spoke: int = 0
    """How often the task had told something when the assistant's last message was told."""
    answered: tuple[str, ...] = ()
    """The calls that have had their result since."""
    voice: str = ""
    seq: int = 0
    """The number of the last batch from that voice, and how many of its events were taken."""
    took: int = 0
    silent: tuple[str, ...] = ()
    pages: tuple[Page, ...] = ()
    recent: tuple[Entry, ...] = ()
    size: int = 0
    """Bytes of the recent entries, about."""

    @property
    def least(self) -> int:
        """The oldest turn that a follower cannot find in the record, or else the newest."""
        return min([self.turn, *(turn for turn, _ in self.turns)])

    @property
    def is_live(self) -> bool:
        """Whether there are deltas that nothing has replaced."""
        pages = any(page.live is not None for page in self.pages)
        return pages or any(_delta_of(x.event) is not None for x in self.recent)


class Plan(NamedTuple):
    """What a rule leads to: the log as it is then, and what comes after it."""

    log: Log
    say: Sequence[tuple[int, Said, int | None]] = ()
    """Whose event, the event, and which step said it."""
    anew: bool = False
    """Whether the log is made anew before that; for this, all its entries have to be read."""
    without: int | None = None
    """The turn of which nothing but its beginning is kept then."""
    period: int | None = None
    """The newest turn before, if there is a newer one now."""


class Batch(NamedTuple):
    """What an attempt publishes at once."""

    key: str
    voice: str
    seq: int
    say: Sequence[tuple[int, Said, int | None]]
    """How often its task had told something when it was said; the event; and the step."""
    gap: bool = False
    """Whether something before it was lost."""


class Change(NamedTuple):
    """What is to be stored."""

    log: Log
    write: dict[int, list[Entry]]
    """The pages that are new, by the id of the first entry."""
    drop: list[int]
    """The pages that go."""
    fresh: list[Entry]
    """What followers that have seen everything before do not have yet."""


# -- What happens to a stream. ---------------------------------------------------------------------


def begin(log: Log, turn: int, key: str) -> Plan | None:
    """A turn begins; `None` if a newer one has."""
    if turn <= log.turn:
        return None
    turns = (*log.turns, (turn, Progress()))[-UNRECORDED:]
    begun = log._replace(
        turn=turn,
        before=log.turn,
        key=key,
        turns=turns,
        spoke=0,
        answered=(),
        voice="",
        seq=0,
        took=0,
    )
    return Plan(begun, [(turn, BEGINS, None)], period=log.turn)


def tell(log: Log, turn: int, events: Sequence[Said], *, anew: bool = False) -> Plan | None:
    """A task tells what its turn did; `None` if that does not matter any more.

    Args:
        log: The log.
        turn: The turn.
        events: The events, in order.
        anew: Whether they are all that the turn did, and what was told before does not count.
    """
    progress = dict(log.turns).get(turn)
    if progress is None:
        return None
    told, messages = progress.told + 1, 0 if anew else progress.messages
    messages += sum(x["type"] in ("message", "steered") for x in events)
    ends = [x["status"] for x in events if x["type"] == "turn"]
    if turn < log.turn:  # it was given up, and who follows the newer one is not told
        return Plan(_with(log, turn, Progress(told, -1, ends[0] if ends else None)))
    log = _with(log, turn, Progress(told, messages, ends[0] if ends else None))
    for message in (x["message"] for x in events if x["type"] == "message"):
        if message.get("role") == "assistant":
            log = log._replace(spoke=told, answered=())
        log = log._replace(answered=(*log.answered, *answered(message)))
    if ends:
        log = log._replace(key="")
    return Plan(log, [(turn, x, None) for x in events], anew, turn if anew else None)


def publish(log: Log, batch: Batch) -> Plan | int | str:
    """An attempt says something from outside, piece by piece.

    Of its events, the first are taken for which all has come that its task had told before: the
    rest is to be published again.

    Returns:
        What follows: the log then knows how many were taken. If the batch was here before, how many
        of it were taken; or why it is refused.
    """
    if not log.key or not hmac.compare_digest(batch.key.encode(), log.key.encode()):
        return "key: is not that of the turn at work."
    if batch.voice in log.silent:
        return "voice: another attempt at this turn has taken over."
    anew = batch.gap
    if batch.voice != log.voice:
        anew = anew or log.is_live
        silent = (*log.silent, *([log.voice] if log.voice else []))[-SILENT:]
        log = log._replace(voice=batch.voice, seq=0, silent=silent)
    elif batch.seq <= log.seq:
        return log.took
    told = dict(log.turns)[log.turn].told
    ready = [after <= told for after, _, _ in batch.say]
    taken = ready.index(False) if False in ready else len(ready)
    say = [
        (log.turn, event, step)
        for after, event, step in batch.say[:taken]
        if not _is_late(log, after, event)
    ]
    return Plan(log._replace(seq=batch.seq, took=taken), say, anew)


def end(log: Log, turn: int, status: str, messages: int) -> Plan:
    """The record has the end of a turn: how it ended, and how many messages it put out."""
    progress = dict(log.turns).get(turn, Progress() if turn > log.turn else Progress(0, -1))
    turns = tuple(x for x in log.turns if x[0] != turn)
    log = log._replace(turns=turns, key="" if turn == log.turn else log.key)
    if progress == (progress.told, messages, status):
        return Plan(log)
    ends: Said = {"type": "turn", "state": "ends", "status": status}
    missed = progress.messages != messages or progress.status is not None
    return Plan(log, [(turn, ends, None)], anew=missed, without=turn if missed else None)


def truncate(log: Log, count: int) -> Change:
    """Forget the oldest, as many ids."""
    base = min(log.base + count, log.tail)
    drop = [page.first for page in log.pages if page.last <= base]
    pages = tuple(page for page in log.pages if page.last > base)
    recent = tuple(x for x in log.recent if x.id > base)
    return Change(log._replace(base=base, pages=pages, recent=recent), {}, drop, [])


# -- What is kept. ---------------------------------------------------------------------------------


def changed(plan: Plan, entries: Sequence[Entry] = ()) -> Change:
    """What a plan comes to.

    Args:
        plan: The plan.
        entries: Those of the pages that a new follower is given, and the recent ones, if it makes
            the log anew.
    """
    log, say = plan.log, list(plan.say)
    write: dict[int, list[Entry]] = {}
    drop: list[int] = []
    if plan.anew:
        say = [*_anew(plan, entries), *say]
        drop = [page.first for page in log.pages]
        log = log._replace(base=log.tail, pages=(), recent=(), size=0)
    elif plan.period is not None:
        log = _paged(log, write, plan.period)
    log, gone = _trimmed(log)
    drop += gone
    tail = log.tail
    for turn, event, step in say:
        if (over := _replaces(event)) is not None and (event["type"] != "turn" or turn == log.turn):
            log, gone = _without(log, over)
            drop += gone
        entry = Entry(log.tail + 1, turn, event, step)
        size = log.size + len(json.dumps(event)) + 32
        log = log._replace(tail=entry.id, recent=(*log.recent, entry), size=size)
        if size > PAGE:
            log = _paged(log, write, log.turn)
    for first in [x for x in drop if x in write]:
        del write[first]
        drop.remove(first)
    new = [x for page in write.values() for x in page] + list(log.recent)
    return Change(log, write, drop, [x for x in new if x.id > tail])


def _anew(plan: Plan, entries: Sequence[Entry]) -> list[tuple[int, Said, int | None]]:
    stays = [
        x
        for x in entries
        if _delta_of(x.event) is None
        and x.event != GAP
        and (x.turn != plan.without or x.event == BEGINS)
    ]
    return [(plan.log.turn, GAP, None), *((x.turn, x.event, None) for x in stays)]


def _paged(log: Log, write: dict[int, list[Entry]], period: int) -> Log:
    if not log.recent:
        return log
    kinds = [_delta_of(x.event) for x in log.recent]
    live = None if None in kinds else tuple(dict.fromkeys(x for x in kinds if x is not None))
    first, last = log.recent[0].id, log.recent[-1].id
    write[first] = list(log.recent)
    return log._replace(pages=(*log.pages, Page(first, last, period, live)), recent=(), size=0)


def _trimmed(log: Log) -> tuple[Log, list[int]]:
    """The log without what is older than the turns that are kept, and the pages that go."""
    gone = [page for page in log.pages if page.period < min(log.least, log.before)]
    if not gone:
        return log, []
    base = max(log.base, gone[-1].last)
    return log._replace(base=base, pages=log.pages[len(gone) :]), [x.first for x in gone]


def _without(log: Log, over: Callable[[str], bool]) -> tuple[Log, list[int]]:
    """The log without the deltas that are over, and the pages that go."""
    pages: list[Page] = []
    gone: list[int] = []
    for page in log.pages:
        left = None if page.live is None else tuple(x for x in page.live if not over(x))
        if left == ():
            gone.append(page.first)
        else:
            pages.append(page._replace(live=left))
    recent = tuple(x for x in log.recent if (of := _delta_of(x.event)) is None or not over(of))
    size = (
        log.size
        if len(recent) == len(log.recent)
        else sum(len(json.dumps(x.event)) + 32 for x in recent)
    )
    return log._replace(pages=tuple(pages), recent=recent, size=size), gone


def _with(log: Log, turn: int, progress: Progress) -> Log:
    turns = tuple((x, progress if x == turn else was) for x, was in log.turns)
    return log._replace(turns=turns)


# -- What events mean to each other. ---------------------------------------------------------------


def _delta_of(event: Said) -> str | None:
    """What an event is a delta of: the model's words, or a call; `None` if it stays."""
    if event["type"] in ("text", "reasoning"):
        return TEXT
    return str(event["call"]) if event["type"] == "output" else None


def _replaces(event: Said) -> Callable[[str], bool] | None:
    """Which deltas an event replaces, if any."""
    if event["type"] == "turn":
        return lambda _: True
    if event["type"] != "message":
        return None
    calls = answered(event["message"])
    speaks = event["message"].get("role") == "assistant"
    return (lambda of: speaks if of == TEXT else of in calls) if speaks or calls else None


def answered(message: dict[str, Any]) -> list[str]:
    """The calls of which a message has the results."""
    content: Any = message.get("content")
    parts: list[Any] = [message, *(content if isinstance(content, list) else [])]
    return [call for x in parts if isinstance(x, dict) and (call := id_answered(x))]


def _is_late(log: Log, after: int, event: Said) -> bool:
    """Whether what replaces a delta has come before it."""
    of = _delta_of(event)
    return of is not None and (after < log.spoke or of in log.answered)


# -- What a follower is given. ---------------------------------------------------------------------


class Since(NamedTuple):
    """What there is since an offset: the id of the last entry that somebody has."""

    gap: bool
    start: int
    pages: list[Page]
    recent: list[Entry]


def since(log: Log, offset: int) -> Since:
    """What there is since an offset; all there is, if something before that is gone."""
    gap = not log.base <= offset <= log.tail
    old = [page.last for page in log.pages if page.period < log.least]
    start = max([log.base, *old]) if gap else offset
    pages = [page for page in log.pages if page.last > start]
    return Since(gap, start, pages, [x for x in log.recent if x.id > start])


def shown(log: Log, found: Since, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The events of entries, for a follower."""
    events = [{"id": x.id, "turn": x.turn, **x.event} for x in entries if x.id > found.start]
    if found.gap and not (events and events[0]["type"] == "gap"):
        return [{"id": found.start, "turn": log.turn, "type": "gap"}, *events]
    return events


def words(entries: Sequence[Entry], turn: int) -> list[tuple[str | None, str]]:
    """What a turn has said that nothing has replaced: its words, and what came of each call.

    Of the model's words, those of the last step that said some: a step before it has ended.
    """
    said = [x for x in entries if x.turn == turn and x.event["type"] in ("text", "output")]
    steps = [x.step for x in said if x.event["type"] == "text"]
    found: dict[str | None, str] = {}
    for x in said:
        if x.event["type"] == "output" or x.step == steps[-1]:
            of = x.event.get("call")
            found[of] = found.get(of, "") + x.event["text"]
    return [(of, text) for of, text in found.items() if text.strip()]
