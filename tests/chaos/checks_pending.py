"""Messages that are taken back, replaced and promoted, and what callers note of them."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from .checks_steps import disturbs
from .records import Line, Op, token
from .said import Said
from .view import TICK, SessionView, Violation

AT_ONCE = 4.5
"""Seconds until a step is cut off by what is to be read at once, on a busy machine."""


def one_place_or_withdrawn(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I1: a message is in one place, or withdrawn; it says what was said last, and only that.

    What was withdrawn, or replaced, was told to no model. What was refused has changed nothing.
    Allowed: a reset removes it; a change without an answer may have happened; what is answered once
    more stands in the discarded turn as well, and was told to a model there.
    """
    if view.final is None or view.final.turns is None:
        return
    withdrawn = [
        token(message["content"])
        for turn in view.turns.values()
        for message in turn.get("withdrawn", ())
    ]
    for said in view.said.values():
        for text in (*_withdrawn(view, said, withdrawn, count), *_replaced(view, said, withdrawn)):
            yield Violation("I1", view.agent, view.session, text)
    for op in view.ops_of("replace"):
        text = token(op.body["content"])
        if not op.ok and not op.unknown and _is_anywhere(view, text, withdrawn):
            what = f"{text} was to replace message {op.body['message']}, which was refused with "
            yield Violation("I1", view.agent, view.session, f"{what}{op.status}; and it is there")
    for text in _listed(view):
        yield Violation("I1", view.agent, view.session, text)


def _withdrawn(
    view: SessionView, said: Said, withdrawn: list[str], count: Counter[str]
) -> Iterator[str]:
    name, places = str(said.op.said), [x for x in view.places_of(said.op) if _stands(view, x[0])]
    asked = said.named("withdraw")
    certain = [x for x in asked if x.ok]
    there = [x for x in withdrawn if x in said.tokens]
    count["I1"] += bool(certain)
    if len(certain) > 1:
        yield f"{name} was withdrawn {len(certain)} times"
    if len(there) > 1 or (there and places):
        yield f"{name} is withdrawn, and stands in {there[1:] or places}"
    if certain and places:
        yield f"{name} was withdrawn, and is in turn {places[0][0]}"
    if certain and not there and not view.reset_after(said.op.asked):
        yield f"{name} was withdrawn, and the record does not say so"
    if there and not asked and not said.op.unknown:
        yield f"{name} is withdrawn, and nobody took it back"
    told = {n for x in said.tokens for n in _told(view, x)}
    if (certain or there) and told:
        yield f"{name} was withdrawn, and a model was told of it in turn {min(told)}"


def _replaced(view: SessionView, said: Said, withdrawn: list[str]) -> Iterator[str]:
    if len(said.tokens) == 1:
        return
    last = said.last
    told = [x for x in said.tokens if _told(view, x)]
    places = {x: [turn for turn, _ in view.places.get(x, ())] for x in said.tokens}
    there = [x for x, y in places.items() if any(_stands(view, turn) for turn in y)]
    there += [x for x in said.tokens if x in withdrawn]
    for text in told:
        if text not in last:
            yield f"{text} was replaced by {' or '.join(sorted(last))}, and a model was told of it"
    for text in there:
        if text not in last:
            yield f"{text} was replaced by {' or '.join(sorted(last))}, and is in the record"
    if len(there) > 1 or len({*told, *there}) > 1:
        yield f"one message says {' and '.join(sorted({*told, *there}))}"


def _told(view: SessionView, text: str) -> set[int]:
    """The turns in which a model was told this, as far as they count."""
    return {x for x in view.model_was_told.get(text, ()) if _stands(view, x)}


def _stands(view: SessionView, turn: int) -> bool:
    """Whether a turn counts: what was in one that is discarded may have been asked again."""
    again = any(x.name == "regenerate" for x in view.writes)
    return not again or turn not in view.turns or not view.discarded(turn)


def _is_anywhere(view: SessionView, text: str, withdrawn: list[str]) -> bool:
    return bool(view.places.get(text) or view.model_was_told.get(text)) or text in withdrawn


def _listed(view: SessionView) -> Iterator[str]:
    """What the status says of what is pending."""
    known = {x.id: x for x in view.said.values() if x.id is not None}
    for op in view.ops_of("get_status"):
        listed = op.answer.get("pending", ()) if op.ok else ()
        for each in listed:
            said = known.get(each["id"])
            if said is None:
                continue
            if token(each["content"]) not in said.tokens:
                yield f"{each['content']} is pending as message {said.id}, which is {said.tokens}"
            before = [x for x in said.changes if x.ok and (x.answered or op.asked) < op.asked]
            if any(x.name == "withdraw" for x in before):
                yield f"{said.op.said} was withdrawn, and is still pending"
        ids = [x["id"] for x in listed]
        if len(ids) != len(set(ids)):
            yield f"a message is pending more than once: {listed}"


def taken_back_before_it_began(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I7: a turn without a message does not begin; all were taken from it."""
    begun = {work.turn for work in view.works}
    for number in view.turns:
        if not view.is_empty(number):
            continue
        count["I7"] += 1
        if number in begun:
            text = f"turn {number} has no message, and began"
            yield Violation("I7", view.agent, view.session, text)


def promoted_is_next(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I9: the turn of a message that was promoted is the next that begins.

    Allowed: somebody has promoted another one since; the turns that this has interrupted may have
    been about to begin; and its own turn may never have begun.
    """
    by_id = {x.id: x for x in view.said.values() if x.id is not None}
    for op in view.ops_of("promote"):
        said = by_id.get(op.body["message"])
        if not op.ok or op.answered is None or op.body["policy"] != "interrupt" or said is None:
            continue
        turns = {turn for turn, _ in view.places_of(said.op)}
        mine = min((x.first for x in view.works if x.turn in turns), default=None)
        if mine is None or mine < op.asked:
            continue
        others = [x for x in view.ops_of("promote") if x is not op and (x.ok or x.unknown)]
        if any(x.asked < mine and (x.answered or mine) > op.asked for x in others):
            continue
        count["I9"] += 1
        for work in view.works:
            stays = work.turn not in turns and work.turn not in op.answer["interrupted"]
            if stays and op.answered + TICK < work.first < mine:
                yield Violation(
                    "I9",
                    view.agent,
                    view.session,
                    f"{said.op.said} was promoted, and turn {work.turn} began before its turn "
                    f"{max(turns)}",
                )


def queued_is_spared(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I9: a message that spares what is queued interrupts the turn at work alone."""
    for op in view.ops_of("message"):
        if not op.ok or not op.body.get("keep_queued") or view.agent == "HastyAgent":
            continue
        count["I9"] += 1
        if len(op.answer["interrupted"]) > 1:
            text = f"{op.said} was to spare what is queued, and interrupted "
            text += ", ".join(map(str, op.answer["interrupted"]))
            yield Violation("I9", view.agent, view.session, text)


def read_at_once(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I9: what is to be read at once cuts off the step in flight that may be steered.

    Allowed: a fault was in force; the message was withdrawn, or promoted to a turn of its own.
    """
    for op, turn in _read_at_once(view):
        until = (op.answered or float("inf")) + AT_ONCE
        for step in _steerable(view, turn):
            begun, ended = step[0].at, step[-1].at if len(step) > 1 else float("inf")
            if not begun < op.asked or ended < op.asked:
                continue
            count["I9"] += 1
            if ended > until and step[-1].at > until:
                faults = view.records.faults
                if not any(disturbs(x, op.asked, ended, step[0]) for x in faults):
                    yield Violation(
                        "I9",
                        view.agent,
                        view.session,
                        f"{op.said or 'what was promoted'} was to be read at once, and "
                        f"{step[0].step!r} of turn {turn} went on for {ended - op.asked:.1f} s",
                    )


def _read_at_once(view: SessionView) -> Iterator[tuple[Op, int]]:
    changed = {x.op.id for x in view.said.values() if x.changes}
    for op in view.ops_of("message", "promote"):
        is_steered = op.ok and op.body.get("now") and op.answer["status"] == "steered"
        if is_steered and (op.name == "promote" or op.id not in changed):
            yield op, op.answer["turn"]


def _steerable(view: SessionView, turn: int) -> Iterator[list[Line]]:
    """Each execution of a step that a message ends: its first line, and its last if it ended."""
    for work in view.works:
        if work.turn != turn:
            continue
        for attempt in work.attempts:
            flying: dict[str, Line] = {}
            for line in attempt.lines:
                if line.event == "begin" and line.steerable:
                    flying[line.step] = line
                elif line.event in ("done", "failed", "aborted") and line.step in flying:
                    yield [flying.pop(line.step), line]


def attached_by_message(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I3: who waits for what answers a message has the outcome of its turn, or: withdrawn.

    Allowed: a turn that goes on with that one answers it.
    """
    by_id = {x.id: x for x in view.said.values() if x.id is not None}
    for op in view.ops_of("attach"):
        said = by_id.get((op.body or {}).get("message", 0))
        if said is None or op.unknown or view.reset_after(said.op.asked):
            continue
        count["I3"] += 1
        if text := _attached(view, op, said):
            yield Violation("I3", view.agent, view.session, f"attach to {said.op.said}: {text}")


def _attached(view: SessionView, op: Op, said: Said) -> str | None:
    withdraws = said.named("withdraw")
    if not op.ok:
        return f"it was refused with {op.status}"
    if op.answer["status"] == "withdrawn":
        return None if withdraws else "it is withdrawn, and nobody took it back"
    if any(x.ok and (x.answered or op.asked) < op.asked for x in withdraws):
        return f"it was withdrawn, and turn {op.answer['turn']} has answered it"
    number: int | None = op.answer["turn"]
    turns = {turn for turn, _ in view.places_of(said.op)}
    while number is not None and number not in turns:
        number = view.turns.get(number, {}).get("resumes")
    return None if number is not None else f"turn {op.answer['turn']} has not answered it"


def notes_stay_with_messages(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """Metadata: what a caller notes of a message is in the record as sent, and in no request."""
    said = {text: x for x in view.said.values() for text in x.tokens}
    for line in view.lines:
        if more := {*line.keys} - {"role", "content"}:
            text = f"turn {line.turn} was told {', '.join(sorted(more))} of messages"
            yield Violation("metadata", view.agent, view.session, text)
        if any("noted with" in text for text in line.seen):
            text = f"turn {line.turn} was told what callers noted: {line.seen}"
            yield Violation("metadata", view.agent, view.session, text)
    for number, turn in view.turns.items():
        kept = [*turn["input"], *turn["messages"], *turn.get("withdrawn", ())]
        for message in kept:
            of = said.get(token(message["content"])) if message["role"] == "user" else None
            if of is not None:
                count["metadata"] += 1
                for text in _noted(of, message):
                    where = f"{token(message['content'])} in turn {number}: {text}"
                    yield Violation("metadata", view.agent, view.session, where)
    yield from _told_to_tasks(view, said)


def _noted(said: Said, message: dict[str, Any]) -> Iterator[str]:
    sent = said.op.body.get("metadata")
    if message.get("metadata") != sent:
        yield f"{sent} was noted, and the record has {message.get('metadata')}"
    if said.id is not None and message.get("id") != said.id:
        yield f"it was accepted as message {said.id}, and the record has {message.get('id')}"


def _told_to_tasks(view: SessionView, said: dict[str, Said]) -> Iterator[Violation]:
    for line in view.lines:
        own = [said.get(token(x)) for x in line.seen[len(line.seen) - len(line.noted) :]]
        if line.event != "start" or None in own:
            continue
        sent = [x.op.body.get("metadata") or {} for x in own if x is not None]
        if sent != line.noted:
            text = f"turn {line.turn} was given {line.noted}, and its callers noted {sent}"
            yield Violation("metadata", view.agent, view.session, text)
