"""What is kept of a session's stream, and what a follower is given of it. Pure."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from interruptible._stream.deltas import TEXT, Told, delta_of, replaces
from interruptible._stream.log import BEGINS, GAP, Entry, Log, Page, Plan

PAGE: Final = 4096
"""Bytes of entries that stand in the log itself, which each change writes; then they get a page."""
NOTED: Final = ("discarded", "pending", "approval")
"""What the session notes; a turn that is told of anew does not say it again."""


class Change(NamedTuple):
    """What is to be stored."""

    log: Log
    write: dict[int, list[Entry]]
    """The pages that are new, by the id of the first entry."""
    drop: list[int]
    """The pages that go."""
    fresh: list[Entry]
    """What followers that have seen everything before do not have yet."""


def truncate(log: Log, count: int) -> Change:
    """Forget the oldest, as many ids."""
    base = min(log.base + count, log.tail)
    drop = [page.first for page in log.pages if page.last <= base]
    pages = tuple(page for page in log.pages if page.last > base)
    recent = tuple(x for x in log.recent if x.id > base)
    turns = log.turns
    if base > log.base:  # whoever comes now cannot have all of them
        turns = tuple((turn, progress._replace(messages=-1)) for turn, progress in turns)
    kept = log._replace(base=base, turns=turns, pages=pages, recent=recent)
    return Change(kept, {}, drop, [])


def change_of(plan: Plan, entries: Sequence[Entry] = ()) -> Change:
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
        log = log._replace(base=log.tail, pages=(), recent=(), size=0, live=())
    elif plan.period is not None:
        log = _paged(log, write, plan.period)
    log, gone = _trimmed(log)
    drop += gone
    tail = log.tail
    for turn, event, step in say:
        if (over := replaces(event)) is not None and (event["type"] != "turn" or turn == log.turn):
            log, gone = _without_what_is_over(log, over)
            drop += gone
        entry = Entry(log.tail + 1, turn, event, step)
        size = log.size + _bytes_of(event)
        log = log._replace(tail=entry.id, recent=(*log.recent, entry), size=size)
        if (of := delta_of(event)) is not None and of not in log.live:
            log = log._replace(live=(*log.live, of))
        if size > PAGE:
            log = _paged(log, write, log.turn)
    for first in [x for x in drop if x in write]:
        del write[first]
        drop.remove(first)
    new = [x for page in write.values() for x in page] + list(log.recent)
    return Change(log, write, drop, [x for x in new if x.id > tail])


def _anew(plan: Plan, entries: Sequence[Entry]) -> list[tuple[int, Told, int | None]]:
    stays = [
        x
        for x in entries
        if (plan.keeps_live or delta_of(x.event) is None)
        and x.event != GAP
        and (x.turn != plan.without or x.event == BEGINS or x.event["type"] in NOTED)
    ]
    return [(plan.log.turn, GAP, None), *((x.turn, x.event, x.step) for x in stays)]


def _paged(log: Log, write: dict[int, list[Entry]], period: int) -> Log:
    if not log.recent:
        return log
    kinds = [delta_of(x.event) for x in log.recent]
    only = None if None in kinds else tuple(dict.fromkeys(x for x in kinds if x is not None))
    first, last = log.recent[0].id, log.recent[-1].id
    write[first] = list(log.recent)
    return log._replace(pages=(*log.pages, Page(first, last, period, only)), recent=(), size=0)


def _trimmed(log: Log) -> tuple[Log, list[int]]:
    """The log without what is older than the turns that are kept, and the pages that go."""
    gone = [page for page in log.pages if page.period < min(log.least, log.before)]
    if not gone:
        return log, []
    base = max(log.base, gone[-1].last)
    return log._replace(base=base, pages=log.pages[len(gone) :]), [x.first for x in gone]


def _without_what_is_over(log: Log, over: Callable[[str], bool]) -> tuple[Log, list[int]]:
    """The log without the deltas that are over, and the pages that go."""
    pages: list[Page] = []
    gone: list[int] = []
    for page in log.pages:
        left = None if page.only is None else tuple(x for x in page.only if not over(x))
        if left == ():
            gone.append(page.first)
        else:
            pages.append(page._replace(only=left))
    recent = tuple(x for x in log.recent if (of := delta_of(x.event)) is None or not over(of))
    if len(recent) < len(log.recent):
        log = log._replace(recent=recent, size=sum(_bytes_of(x.event) for x in recent))
    live = tuple(x for x in log.live if not over(x))
    return log._replace(pages=tuple(pages), live=live), gone


def _bytes_of(event: Told) -> int:
    return len(json.dumps(event)) + 32


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


def live_words(entries: Sequence[Entry], turn: int) -> list[tuple[str | None, str]]:
    """What a turn has said that nothing has replaced: its words, and what came of each call.

    Of the model's words, those of the last step that said some: a step before it has ended.
    """
    said: list[Entry] = []
    for x in entries:
        if x.turn == turn and (over := replaces(x.event)) is not None:
            said = [y for y in said if not over(delta_of(y.event) or TEXT)]
        elif x.turn == turn and x.event["type"] in ("text", "output"):
            said.append(x)
    steps = [x.step for x in said if x.event["type"] == "text"]
    found: dict[str | None, str] = {}
    for x in said:
        if x.event["type"] == "output" or x.step == steps[-1]:
            of = x.event.get("call")
            found[of] = found.get(of, "") + x.event["text"]
    return [(of, text) for of, text in found.items() if text.strip()]
