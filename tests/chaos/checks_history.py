"""The invariants that clients' answers and the final record decide: I1, I3, I5, I6."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from .records import SAYS, Op, token
from .view import SessionView, Violation, is_note, texts

NOTED = ("id", "metadata")
"""What the record has of a message, and a model is not told."""
MADE_BY = re.compile(r" of turn (\d+)$")


def each_message_once_in_order(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I1: each accepted message is in the record once, in the order of acceptance.

    Allowed: a `reset` that came later removes it; a `regenerate` repeats it in a new turn, and
    discards the old one; an unknown message is there once or not at all. A steered message stands
    where its turn took it, so before a message of a later turn that was accepted earlier; and it
    passes by a queued turn that was cancelled or killed meanwhile. A message that was promoted has
    left its place.
    """
    if view.final is None:
        return
    if view.final.turns is None:
        yield from _once_in_history(view, count)
        return
    for text in _once(view, count):
        yield Violation("I1", view.agent, view.session, text)
    for text in (*_in_order(view), *_history_is_record(view), *_discards(view)):
        yield Violation("I1", view.agent, view.session, text)


def _once(view: SessionView, count: Counter[str]) -> Iterator[str]:
    again = sum(op.name == "regenerate" for op in view.writes)
    numbers: dict[int, str] = {}
    for op in view.ops_of(*SAYS):
        count["I1"] += 1
        said = str(op.said)
        places, withdrawn = view.places_of(op), view.said[op.id].named("withdraw")
        kept = [turn for turn, _ in places if not view.discarded(turn)]
        if len(kept) > 1 or len(places) > 1 + again:
            yield f"{said} is in turns {', '.join(str(turn) for turn, _ in places)}"
        if not op.ok and not op.unknown and places:
            yield f"{said} was refused with {op.status}, and is in turn {places[0][0]}"
        if not op.ok:
            continue
        if not places and not withdrawn and not view.reset_after(op.asked):
            yield f"{said} was accepted for turn {op.answer['turn']}, and is not in the record"
        if op.answer["status"] in ("running", "waiting"):
            turn = op.answer["turn"]
            if turn in numbers:
                yield f"{said} and {numbers[turn]} both became turn {turn}"
            numbers[turn] = said
            stays = not view.moved_after(op) and not view.said[op.id].changes
            if turn in view.turns and stays and turn not in [x for x, _ in places]:
                yield f"{said} became turn {turn}, and is not in it"


def _in_order(view: SessionView) -> Iterator[str]:
    accepted = [op for op in view.ops_of(*SAYS) if op.ok and op.answered is not None]
    accepted = [op for op in accepted if not view.said[op.id].named("promote")]
    accepted.sort(key=lambda op: op.asked)
    for index, later in enumerate(accepted):
        if later.answer["status"] == "steered":
            continue
        for earlier in accepted[:index]:
            if later.answer["status"] == "joined" and not _stays(view, earlier):
                continue
            if earlier.answered is None or earlier.answered >= later.asked:
                continue
            here, there = view.places_of(earlier), view.places_of(later)
            if not here or not there or min(here) < min(there):
                continue
            ended = (
                view.is_cancelled(min(there)[0]) or view.turns[min(there)[0]]["status"] == "killed"
            )
            passed_by = min(here)[0] > min(there)[0] and ended
            if earlier.answer["status"] not in ("steered", "joined") or not passed_by:
                yield (
                    f"{earlier.said} was accepted before {later.said} was sent, and stands behind "
                    f"it: {min(here)}, {min(there)}"
                )


def _stays(view: SessionView, op: Op) -> bool:
    """Whether a message stands where it was accepted for: it was not steered, nor passed on."""
    places = view.places_of(op)
    status, turn = op.answer["status"], op.answer["turn"]
    return status != "steered" and turn in [number for number, _ in places]


def _history_is_record(view: SessionView) -> Iterator[str]:
    assert view.final is not None
    history = texts(view.final.history)
    expected = [
        text
        for number in sorted(view.turns)
        if not view.discarded(number)
        for text in _block(view.turns[number])
    ]
    if [text.rstrip() for text in history if not is_note(text)] != expected:
        yield f"get_history is not what the turns make: {history} instead of {expected}"


def _discards(view: SessionView) -> Iterator[str]:
    told = {turn for op in view.writes if op.ok for turn in _list(op, "discarded")}
    for turn in told:
        if turn in view.turns and not view.discarded(turn):
            yield f"turn {turn} was discarded, and is in the conversation"
    if view.has_unknown or view.resets:
        return
    for turn in view.turns:
        if view.discarded(turn) and turn not in told and not view.is_emptied(turn):
            yield f"turn {turn} is discarded, and nobody was told so"


def _once_in_history(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    assert view.final is not None
    said = [token(x["content"]) for x in view.final.history if x["role"] == "user"]
    accepted = [op for op in view.ops_of("message") if op.ok]
    for op in accepted:
        count["I1"] += 1
        if said.count(str(op.said)) != 1:
            text = f"{op.said} is {said.count(str(op.said))} times in the history"
            yield Violation("I1", view.agent, view.session, text)


def one_outcome(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I3: a turn has one outcome, the same for whoever asks, and it is its invocation's.

    Allowed: an operator may kill a task that has reported its outcome already, and is not over; and
    a turn whose `message` was killed may not know its task.
    """
    for number, turn in view.turns.items():
        for text in _one_outcome(view, number, turn, count):
            yield Violation("I3", view.agent, view.session, f"turn {number}: {text}")


def _one_outcome(
    view: SessionView, number: int, turn: dict[str, Any], count: Counter[str]
) -> Iterator[str]:
    count["I3"] += 1
    task, status = str(turn.get("task_id")), turn["status"]
    invocation = view.invocations.get(task)
    if status == "running":
        return  # I5
    killed = "kill task" in view.touched[task] or view.killed_with_caller(task)
    outcome = invocation.outcome if invocation else None
    if invocation is not None and outcome not in (status, "killed" if killed else ""):
        yield f"its record says {status}, its invocation {outcome}"
    if status == "killed" and not killed:
        yield "it was killed, and nobody did"
    tasks = {work.id for work in view.works if work.turn == number}
    if tasks - {task} and (turn.get("task_id") or len(tasks) > 1 or not view.has_unknown):
        yield f"other tasks worked on it: {', '.join(tasks - {task})}"
    answers = [op.answer for op in view.ops_of("attach") if op.ok]
    for outcome in [x for x in answers if x.get("turn") == number]:
        if _content(outcome) != _content(turn):
            yield f"attach said {outcome}, its record says {turn}"
    versions = {line.version for work in view.works if work.turn == number for line in work.lines}
    if len(versions) > 1:
        yield f"it ran on versions {', '.join(sorted(versions))}"
    caused = view.is_cancelled(number) or view.agent == "HelperAgent" or number <= view.copied
    if status == "interrupted" and not caused:
        yield "it was interrupted, and nobody had cancelled it"


def _content(ended: dict[str, Any]) -> dict[str, Any]:
    """What an outcome has in common with its record, which has more on what the user said."""
    names = ("status", "partial", "cut_short", "cut_off", "not_begun")
    said = [{x: y for x, y in each.items() if x not in NOTED} for each in ended["messages"]]
    return {"messages": said, **{name: ended.get(name) for name in names}}


def all_ends(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I5: in the end nothing is live, and the last turn has completed or failed by its own doing.

    Allowed: the last turn may have been cancelled or killed by a client or the operator.
    """
    if view.final is None or view.final.turns is None:
        return
    count["I5"] += 1
    if (status := view.final.status.get("status")) != "idle":
        yield Violation("I5", view.agent, view.session, f"in the end it is {status}")
    waits = [*view.final.status.get("pending", ()), *view.final.status.get("waiting_for", ())]
    if waits and status == "idle":
        yield Violation("I5", view.agent, view.session, f"in the end it waits for {waits}")
    for number, turn in view.turns.items():
        task = str(turn.get("task_id"))
        if turn["status"] == "running":
            text = f"turn {number} has no outcome"
            yield Violation("I5", view.agent, view.session, text)
        error = turn.get("error", "")
        planned = "as planned" in error or "killed" in error or "cancel" in error
        if turn["status"] == "failed" and not planned:
            text = f"turn {number} failed, not by its own doing: {error}"
            yield Violation("I5", view.agent, view.session, text)
        invocation = view.invocations.get(task)
        if invocation is not None and invocation.outcome is None:
            text = f"the task of turn {number} is {invocation.status}"
            yield Violation("I5", view.agent, view.session, text)


def nothing_late(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I6: what a turn put out stands in its place, and each later turn has seen it there.

    Allowed: a turn that was discarded may have been seen or not; one that did not wait for a long
    cleanup has not seen what that turn had put out.
    """
    for number, turn in view.turns.items():
        for text in texts(turn["messages"]):
            made = MADE_BY.search(text)
            if made and int(made[1]) != number:
                what = f"{text!r} stands in turn {number}"
                yield Violation("I6", view.agent, view.session, what)
    if view.final is not None and view.final.turns is None:
        yield from _in_place(view, count)
    for work in view.works:
        starts = [line for a in work.attempts for line in a.lines if line.event == "start"]
        if any(line.seen != starts[0].seen for line in starts):
            text = f"the attempts of turn {work.turn} saw different conversations"
            yield Violation("I6", view.agent, view.session, text)
        if starts and work.turn in view.turns:
            count["I6"] += 1
            if text := _seen(view, work.turn, starts[0].seen):
                yield Violation("I6", view.agent, view.session, text)


def _in_place(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    assert view.final is not None
    turn = 0
    for message in view.final.history:
        turn += message["role"] == "user"
        made = MADE_BY.search(str(message["content"]))
        count["I6"] += made is not None
        if made and int(made[1]) != turn:
            text = f"{message['content']!r} stands behind message {turn}"
            yield Violation("I6", view.agent, view.session, text)


def _seen(view: SessionView, number: int, seen: list[str]) -> str | None:
    """Compare, from its end, what a turn saw with the record of the turns before."""
    left = [text.rstrip() for text in seen]
    own = texts(view.turns[number]["input"])
    if left[len(left) - len(own) :] != own:
        return f"turn {number} did not see its own messages at the end: {seen}, {own}"
    del left[len(left) - len(own) :]
    hasty = view.agent == "HastyAgent"
    standing = [turn for x, turn in view.turns.items() if x == number or not view.discarded(x)]
    resumed = {turn.get("resumes") for turn in standing if turn["turn"] <= number}
    for earlier in sorted((x for x in view.turns if x < number), reverse=True):
        turn = view.turns[earlier]
        block = _block(turn)
        said = texts([x for x in (*turn["input"], *turn["messages"]) if x["role"] == "user"])
        noted = bool(left) and is_note(left[-1]) and (hasty or turn["status"] == "interrupted")
        noted = noted and earlier not in resumed  # it is to go on, and not told that it was cut off
        rest = left[: len(left) - noted]
        if rest[len(rest) - len(block) :] == block:
            left = rest[: len(rest) - len(block)]
        elif hasty and rest[len(rest) - len(said) :] == said:
            left = rest[: len(rest) - len(said)]
        elif not view.discarded(earlier):
            return f"turn {number} did not see turn {earlier} as it is recorded: {seen}, {block}"
    if left and not view.resets:
        return f"turn {number} saw what is in no turn: {left}"
    return None


def _block(turn: dict[str, Any]) -> list[str]:
    return texts([*turn["input"], *turn["messages"]])


def _list(op: Op, name: str) -> list[int]:
    return list(op.answer.get(name, ())) if isinstance(op.answer, dict) else []
