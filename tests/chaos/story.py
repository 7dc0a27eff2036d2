"""The shortest story of a violation: what happened in its session around the turns it names."""

import re
from collections.abc import Iterator

from .records import Records
from .view import Violation

TURN = re.compile(r"turn (\d+)")
MARGIN = 0.3


def story(records: Records, violation: Violation) -> list[str]:
    """The session's events in order, from just before the turns that are named to their end."""
    key = violation.agent, violation.session
    turns = {int(number) for number in TURN.findall(violation.text)}
    begun, ended = _span(records, key, turns)
    told = [
        f"{at - begun:8.3f} {text}"
        for at, text in sorted(_events(records, key))
        if begun <= at <= ended
    ]
    for final in records.finals:
        if (final.agent, final.session) == key:
            told += [f"         # {turn}" for turn in final.turns or () if turn["turn"] in turns]
    return told


def _events(records: Records, key: tuple[str, str]) -> Iterator[tuple[float, str]]:
    tasks: set[str] = set()
    for line in records.lines:
        if (line.agent, line.session) == key:
            tasks.add(line.task)
            what = f"turn {line.turn} {line.event} {line.step} {line.phase} {' | '.join(line.seen)}"
            yield line.at, f"  {what} [{line.attempt} on {line.worker} {line.version}]"
    for op in records.ops:
        if (op.agent, op.session) == key:
            yield op.asked, f"> {op.id} {op.name} {op.body}"
            if op.answered is not None:
                yield op.answered, f"< {op.id} {op.name} {op.status} {op.answer}"
    for fault in records.faults:
        if fault.target in tasks or not fault.target.startswith("inv_"):
            yield fault.begun, f"! {fault.kind} {fault.target}"
            if fault.ended is not None:
                yield fault.ended, f"! {fault.kind} {fault.target} is over"
    for task in records.invocations:
        if task.id in tasks and task.ended is not None:
            yield task.ended, f"= {task.id} {task.outcome}"


def _span(records: Records, key: tuple[str, str], turns: set[int]) -> tuple[float, float]:
    times = [
        line.at
        for line in records.lines
        if (line.agent, line.session) == key and (line.turn in turns or not turns)
    ]
    for op in records.ops:
        if (op.agent, op.session) == key and isinstance(op.answer, dict):
            named = {op.answer.get("turn"), *op.answer.get("interrupted", ())}
            if named & turns:
                times += [op.asked, op.answered or op.asked]
    return (min(times) - MARGIN, max(times) + MARGIN) if times else (0.0, float("inf"))
