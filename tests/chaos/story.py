"""The story of a violation: what happened, in order."""

from collections.abc import Iterator

from .records import Fault, Records

MARGIN = 1.0
"""Seconds before and after in which a fault may have to do with it."""


def story(part: Records, whole: Records) -> list[str]:
    """All that a part of a record tells, and the faults of the whole that were made meanwhile."""
    events = sorted(_events(part))
    begun = events[0][0] if events else 0.0
    ended = events[-1][0] if events else 0.0
    tasks = {line.task for line in part.lines} | {x.id for x in part.invocations}
    for fault in whole.faults:
        if fault.target in tasks or not fault.target.startswith("inv_"):
            events += [x for x in _of(fault) if begun - MARGIN < x[0] < ended + MARGIN]
    told = [f"{at - begun:8.3f} {text}" for at, text in sorted(events)]
    for final in part.finals:
        told.append(f"         # {final.agent}/{final.session} in the end: {final.status}")
        told += [f"         # {turn}" for turn in final.turns or ()]
        if final.turns is None or not part.lines:
            told.append(f"         # {final.history}")
    return told


def _events(records: Records) -> Iterator[tuple[float, str]]:
    told = records.told
    sessions = {(x.agent, x.session) for x in (*records.lines, *records.ops, *told)}
    for line in records.lines:
        where = f"{line.session} " if len(sessions) > 1 else ""
        what = " ".join(x for x in (line.event, line.step, line.phase) if x and x != "body")
        seen = f": {' | '.join(line.seen)}" if line.seen else ""
        by = f"[{line.attempt} on {line.worker} {line.version}]"
        yield line.at, f"  {where}turn {line.turn} {what}{seen} {by}"
    for op in records.ops:
        where = f"{op.session} " if len(sessions) > 1 else ""
        yield op.asked, f"> {where}{op.id} {op.name} {op.body or ''}"
        if op.answered is not None:
            yield op.answered, f"< {where}{op.id} {op.name} {op.status} {op.answer}"
    for each in told:
        where = f"{each.session} " if len(sessions) > 1 else ""
        yield each.at, f"~ {where}follower {each.follower} {each.event}"
    for fault in records.faults:
        yield from _of(fault)
    for task in records.invocations:
        if task.ended is not None:
            yield (
                task.ended,
                f"= {task.id} {task.outcome or task.status}: {task.failure or task.result}",
            )


def _of(fault: Fault) -> Iterator[tuple[float, str]]:
    yield fault.begun, f"! {fault.kind} {fault.target}"
    if fault.ended is not None and fault.ended > fault.begun:
        yield fault.ended, f"! {fault.kind} {fault.target} is over"
