"""Turns that are stopped in good order, that go on where another stopped, and that ask first."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import Any

from .checks_steps import disturbs
from .records import Line, Op
from .view import SessionView, Violation, Work, texts

STOPS = 1.0
"""Seconds until a task that is to stop knows of it; or as long as it took to ask for that."""
NOT_KEPT = ("left", "right", "reach")
"""The steps whose results are not put out as they are, by how they begin."""


def nothing_begins_after_step(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """After step: what is in flight ends, and is in the record; only cleanup begins after it.

    Allowed: it takes a moment until the task knows, and longer where a fault holds it up; what a
    worker that died had in flight is done again; and a step that is tried again is in flight.
    Somebody may cut the turn off after all; then the record says so.
    """
    works = {work.turn: work for work in view.works}
    for op in view.ops_of("cancel"):
        if not op.ok or op.answered is None or not (op.body or {}).get("after_step"):
            continue
        for number in op.answer["cancelled"]:
            if number in works:
                count["after step"] += 1
                for text in _stopped(view, works[number], op.answered, op.answered - op.asked):
                    what = f"turn {number} was to end after its step, and {text}"
                    yield Violation("after step", view.agent, view.session, what)


def _stopped(view: SessionView, work: Work, answered: float, slow: float) -> Iterator[str]:
    known = answered + max(STOPS, slow)
    body = [x for x in work.lines if x.phase == "body"]
    flown = {x.step for x in body if x.event == "begin" and x.at <= known} | {"flaky"}
    late = [x for x in _begun_after(work, known) if x.step not in flown]
    if late and not any(disturbs(x, answered, late[0].at, late[0]) for x in view.records.faults):
        yield f"{late[0].step!r} began {late[0].at - answered:.3f} s after that was answered"
    turn = view.turns.get(work.turn, {"status": "removed"})
    in_order = str(turn.get("reason", "")).startswith("stopped") and not turn.get("given_up")
    if turn["status"] != "interrupted" or not in_order or view.touched[work.id]:
        return
    can_be_cut = {x.step for x in body if x.steerable} if _has_now(view, work.turn) else set[str]()
    kept = texts(turn["messages"])
    for x in body:
        if x.step.startswith(NOT_KEPT) or x.step in can_be_cut:
            continue
        if x.event == "aborted" and len(work.attempts) == 1 and x.at > known:
            yield f"{x.step!r} was cut off"
        result = f"{x.step} of turn {work.turn}"
        if x.event == "done" and not x.step.startswith("stream") and result not in kept:
            yield f"the result of {x.step!r} is not in the record"


def _begun_after(work: Work, known: float) -> Iterator[Line]:
    """The steps that the code asked for when the task knew; others may merely begin late."""
    counts = {id(x) for x in work.lines}
    for attempt in work.attempts:
        lines = [x for x in attempt.lines if id(x) in counts and x.phase == "body"]
        for before, line in pairwise(lines):
            if line.event == "begin" and before.at > known:
                yield line


def _has_now(view: SessionView, turn: int) -> bool:
    """Whether a message may have cut off what the turn had in flight."""
    return any(
        (x.body or {}).get("now") and (x.unknown or x.answer.get("turn") == turn)
        for x in view.writes
        if x.name in ("message", "promote")
    )


def resumes_where_it_stopped(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """Resume: a turn that goes on with another one does nothing again that has a result."""
    for op in view.ops_of("resume"):
        if op.ok and op.answer["turn"] in view.turns:
            turn, asked = view.turns[op.answer["turn"]], (op.body or {}).get("turn")
            if "resumes" not in turn or asked not in (None, turn["resumes"]):
                text = f"turn {op.answer['turn']} is to go on with {asked or 'the last'}: {turn}"
                yield Violation("resume", view.agent, view.session, text)
    works = {work.turn: work for work in view.works}
    for number, turn in view.turns.items():
        chain = _chain(view, turn)
        if not chain or number <= view.copied:
            continue
        count["resume"] += 1
        if chain[0]["status"] == "completed":
            text = f"turn {number} goes on with turn {chain[0]['turn']}, which had completed"
            yield Violation("resume", view.agent, view.session, text)
        results = {x for each in chain for x in texts(each["messages"])}
        for line in works[number].lines if number in works else ():
            done = [f"{line.step} of turn {each['turn']}" for each in chain]
            if (line.event, line.phase) == ("begin", "body") and results.intersection(done):
                text = f"turn {number} did {line.step!r} again, which turn {turn['resumes']} had"
                yield Violation("resume", view.agent, view.session, text)


def _chain(view: SessionView, turn: dict[str, Any]) -> list[dict[str, Any]]:
    """The turns that a turn goes on with, the latest first."""
    chain: list[dict[str, Any]] = []
    while turn.get("resumes") in view.turns:
        turn = view.turns[turn["resumes"]]
        chain.append(turn)
    return chain


Heard = list[Any]
"""What a task was answered: approved, reason, value, and whether the time was over."""


def approvals_are_answered_once(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """Approval: it is answered once; an answer that was accepted reaches the task as it was.

    What was refused does not. Allowed: the turn may end otherwise before it hears.
    """
    waits: dict[int, set[tuple[int, str]]] = defaultdict(set)
    for op in view.ops_of("get_status"):
        for each in op.answer.get("waiting_for", ()) if op.ok else ():
            waits[each["id"]].add((each["turn"], each["title"]))
    asked: dict[tuple[int, str], list[Line]] = defaultdict(list)
    for line in view.lines:
        if line.event in ("asks", "answered"):
            asked[line.turn, line.step].append(line)
    found = [*_listed(view, waits, asked), *_unlisted(view, asked)]
    for number, which in waits.items():
        for key in which:
            count["approval"] += 1
            found += [f"approval {number}: {text}" for text in _heard(view, number, asked, key)]
    for (turn, title), lines in asked.items():
        heard = [x.noted[0] for x in lines if x.event == "answered"]
        if any(x != heard[0] for x in heard):
            found.append(f"turn {turn} heard different answers to its {title}: {heard}")
        found += [f"turn {turn}, {title}: {x}" for x in _said_by_somebody(view, heard[:1])]
    for text in found:
        yield Violation("approval", view.agent, view.session, text)


def _listed(
    view: SessionView,
    waits: dict[int, set[tuple[int, str]]],
    asked: dict[tuple[int, str], list[Line]],
) -> Iterator[str]:
    ids: dict[tuple[int, str], set[int]] = defaultdict(set)
    for number, which in waits.items():
        if len(which) > 1:
            yield f"approval {number} is of several: {sorted(which)}"
        for key in which:
            ids[key].add(number)
    for key, numbers in ids.items():
        if len(numbers) > 1:
            yield f"turn {key[0]} asked for its {key[1]} once, and it is listed as {numbers}"
        if key not in asked:
            yield f"turn {key[0]} is listed to ask for {key[1]!r}, and has not"
    for op in view.ops_of("get_status"):
        for each in op.answer.get("waiting_for", ()) if op.ok else ():
            if any((x.answered or op.asked) < op.asked for x in _answers(view, each["id"])[0]):
                yield f"approval {each['id']} was answered, and still waits"


def _unlisted(view: SessionView, asked: Collection[tuple[int, str]]) -> Iterator[str]:
    listed: dict[int, float] = {}
    for op in view.ops_of("get_status"):
        for each in op.answer.get("waiting_for", ()) if op.ok else ():
            listed.setdefault(each["id"], op.answered or float("inf"))
    for op in view.ops_of("answer"):
        number = op.body["approval"]
        if op.ok and number > len(asked):
            yield f"approval {number} was answered, and turns have asked for {len(asked)}"
        if op.status == 404 and listed.get(number, float("inf")) < op.asked:
            yield f"approval {number} waited, and its answer was refused as if there were none"


def _answers(view: SessionView, number: int) -> tuple[list[Op], list[Op]]:
    """The answers that were accepted, and those that may have been."""
    mine = [x for x in view.ops_of("answer") if x.body["approval"] == number]
    return [x for x in mine if x.ok], [x for x in mine if x.unknown]


def _heard(
    view: SessionView, number: int, asked: dict[tuple[int, str], list[Line]], key: tuple[int, str]
) -> Iterator[str]:
    accepted, maybe = _answers(view, number)
    heard = [x.noted[0] for x in asked.get(key, ()) if x.event == "answered"]
    turn = view.turns.get(key[0])
    if len(accepted) > 1:
        yield f"it was answered {len(accepted)} times"
    for op in accepted:
        if heard and heard[0] != _as_heard(op):
            yield f"{_as_heard(op)} was accepted, and the task heard {heard[0]}"
        if not heard and turn is not None and turn["status"] == "completed":
            yield f"{_as_heard(op)} was accepted, and never reached turn {key[0]}"
    if heard and not heard[0][3] and heard[0] not in map(_as_heard, (*accepted, *maybe)):
        yield f"the task heard {heard[0]}, which was not accepted"
    late = [x for x in view.ops_of("answer") if (x.body["approval"], x.status) == (number, 410)]
    over = accepted or maybe or (heard and heard[0][3])
    if late and not over and turn is not None and turn["status"] == "completed":
        yield "its answer was refused as late, and nobody had answered it"


def _said_by_somebody(view: SessionView, heard: list[Heard]) -> Iterator[str]:
    for each in heard:
        answers = [_as_heard(x) for x in view.ops_of("answer") if x.ok or x.unknown]
        if not each[3] and each not in answers:
            yield f"it heard {each}, which nobody said, or which was refused"


def _as_heard(op: Op) -> Heard:
    return [op.body["approved"], op.body.get("reason"), op.body.get("value"), False]
