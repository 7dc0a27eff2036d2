"""The smallest part of a record that the checker still convicts of the same violation.

A run cannot be repeated exactly, but its record can be judged again, as often as one likes. So what
is left out here is left out of the record, as if it had not been: a request with its answer, a turn
with all that is known of it, one execution of a step, a follower, a fault, a task's end. What the
checker still says without it, it does not need.
"""

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from .checker import check
from .records import Final, Line, Records, Told
from .view import Violation, is_note, texts, views

T = TypeVar("T")
Piece = tuple[Any, ...]
"""What may be left out: its kind, and what sets it apart."""
STEP = frozenset({"registered", "begin", "said", "done", "failed", "aborted"})
VARIES = re.compile(r"\d+\.\d+|[\[{].*", re.DOTALL)
"""In a violation's text: times, and whole conversations."""


def shrink(records: Records, violation: Violation) -> Records:
    """Leave out all that can be left out.

    Args:
        records: A record that has the violation.
        violation: One of those that `check` finds in it.
    """
    near = _near(records, violation)

    def convicts(pieces: Sequence[Piece]) -> bool:
        part = _only(near, frozenset(pieces))
        return part is not None and _is_in(part, violation)

    whole = _pieces(near)
    if not convicts(whole):
        return records  # it needs the other sessions, or is not there at all
    part = _only(near, frozenset(smallest(whole, convicts)))
    assert part is not None
    return part


def smallest(items: Sequence[T], holds: Callable[[Sequence[T]], bool]) -> list[T]:
    """Items of which none can be left out any more: leave out halves, then quarters, and so on."""
    kept, size = list(items), len(items)
    while size:
        start, before = 0, len(kept)
        while start < len(kept):
            rest = kept[:start] + kept[start + size :]
            if holds(rest):
                kept = rest
            else:
                start += size
        if size > 1 or len(kept) == before:
            size //= 2
    return kept


def _is_in(records: Records, violation: Violation) -> bool:
    return any(
        found[:3] == violation[:3] and _plain(found.text) == _plain(violation.text)
        for found in check(records)
    )


def _plain(text: str) -> str:
    return VARIES.sub("", text)


def _near(records: Records, violation: Violation) -> Records:
    """What is known of the session, of those it was forked off, and of its delegates."""
    keys = {(violation.agent, violation.session), ("HelperAgent", f"{violation.session}-helper")}
    for view in views(records):
        if view.fork is not None and (view.agent, view.session) in keys:
            keys.add((view.fork.agent, view.fork.session))
    near = replace(
        records,
        ops=[x for x in records.ops if (x.agent, x.session) in keys],
        lines=[x for x in records.lines if (x.agent, x.session) in keys],
        finals=[x for x in records.finals if (x.agent, x.session) in keys],
        told=[x for x in records.told if (x.agent, x.session) in keys],
    )
    tasks = {line.task for line in near.lines}
    tasks |= {turn["task_id"] for x in near.finals for turn in x.turns or () if turn.get("task_id")}
    near.invocations = [x for x in records.invocations if x.id in tasks]
    near.callers = {x: y for x, y in records.callers.items() if tasks & {x, y}}
    return near


def _pieces(records: Records) -> list[Piece]:
    pieces: dict[Piece, None] = {}
    pieces.update((("fault", index), None) for index in range(len(records.faults)))
    for final in records.finals:
        pieces["final", final.agent, final.session] = None
        for turn in final.turns or ():
            pieces["turn", final.agent, final.session, turn["turn"]] = None
    pieces.update((("op", op.id), None) for op in records.ops)
    pieces.update((("invocation", x.id), None) for x in records.invocations)
    pieces.update((_piece_of(line), None) for line in records.lines)
    pieces.update((_follower_of(x), None) for x in records.told)
    return list(pieces)


def _piece_of(line: Line) -> Piece:
    # Without its end alone, a step would look as if it had none.
    if line.event in STEP:
        return "step", line.attempt, line.step
    return "line", line.attempt, line.event, line.at


def _follower_of(told: Told) -> Piece:
    return "follower", told.agent, told.session, told.follower


def _only(records: Records, kept: frozenset[Piece]) -> Records | None:
    """The record with these pieces alone; `None` where that would be another history."""
    left_out = {piece[1:] for piece in _pieces(records) if piece[0] == "turn"}
    left_out -= {piece[1:] for piece in kept if piece[0] == "turn"}
    part = replace(
        records,
        faults=[x for index, x in enumerate(records.faults) if ("fault", index) in kept],
        ops=[x for x in records.ops if ("op", x.id) in kept],
        invocations=[x for x in records.invocations if ("invocation", x.id) in kept],
        lines=[
            line
            for line in records.lines
            if _piece_of(line) in kept and (line.agent, line.session, line.turn) not in left_out
        ],
        finals=[x for x in records.finals if ("final", x.agent, x.session) in kept],
        told=[
            told
            for x in records.told
            if _follower_of(x) in kept
            and (told := _without_turns(x, {n for *key, n in left_out if key == _key(x)}))
        ],
    )
    if left_out:
        part = copy.deepcopy(part)
        for final in records.finals:
            if not all(_without(part, final, number) for number in _of(left_out, final)):
                return None
    return part


def _key(told: Told) -> list[str]:
    return [told.agent, told.session]


def _without_turns(told: Told, turns: set[int]) -> Told | None:
    """What a follower would have been told without these turns, if anything."""
    event = told.event
    if event["type"] == "gap" or not turns:
        return told
    if event["type"] == "record":
        event = {**event, "turns": [x for x in event["turns"] if x["turn"] not in turns]}
    elif event["type"] == "discarded":
        event = {**event, "turns": [x for x in event["turns"] if x not in turns]}
    elif event["turn"] in turns:
        return None
    return replace(told, event=event)


def _of(left_out: set[Piece], final: Final) -> Iterator[int]:
    key = final.agent, final.session
    yield from (number for *session, number in sorted(left_out) if tuple(session) == key)


def _without(records: Records, whole: Final, number: int) -> bool:
    """Take a turn out of a session, and of what others have seen; whether that can be done."""
    turn = next(turn for turn in whole.turns or () if turn["turn"] == number)
    block = texts([*turn["input"], *turn["messages"]])
    key, is_discarded = (whole.agent, whole.session), bool(turn.get("discarded"))
    for final in records.finals:
        if (final.agent, final.session) == key:
            final.turns = [x for x in final.turns or () if x["turn"] != number]
            place = _place(texts(final.history), block)
            if (place is None) != is_discarded:
                return False  # what is wrong with it must stay, as it is
            if place is not None:
                del final.history[place]
    for line in records.lines:
        if (line.agent, line.session) == key and line.event == "start" and line.turn > number:
            place = _place(line.seen, block)
            if place is None and not is_discarded:
                return False
            if place is not None:
                del line.seen[place]
    return True


def _place(said: list[str], block: list[str]) -> slice | None:
    """Where a turn's messages stand, with the note that may follow."""
    for start in range(len(said) - len(block) + 1):
        end = start + len(block)
        if block and [x.rstrip() for x in said[start:end]] == block:
            return slice(start, end + (end < len(said) and is_note(said[end])))
    return None
