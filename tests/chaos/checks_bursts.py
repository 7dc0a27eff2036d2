"""Messages that become part of a turn, and quiet windows: what they decide of I7 and I9."""

from collections import Counter
from collections.abc import Iterator

from .records import Op, token
from .view import TICK, SessionView, Violation

JOINS = ("interrupt", "queue", "steer")


def quiet_first(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I7: a turn begins only when it has been quiet since each of its messages came.

    A timer may be late, and is never early; so no fault excuses it.
    """
    window = view.records.debounce.get(view.agent)
    if window is None:
        return
    begun = {work.turn: work.first for work in view.works}
    for op in view.ops_of("message", "regenerate", "edit"):
        if not op.ok or op.answer["status"] == "steered" or op.answer["turn"] not in begun:
            continue
        count["I7"] += 1
        waited = begun[op.answer["turn"]] - op.asked
        if waited < window - TICK:
            yield Violation(
                "I7",
                view.agent,
                view.session,
                f"turn {op.answer['turn']} began {waited:.3f} s after {op.said or op.name} was "
                f"sent, and is to wait for {window} s of quiet",
            )


def steered_is_answered(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I9: a steered message passes on until a turn takes it.

    So whatever stands in a turn that completed, or failed, was seen by its task. Allowed: a turn
    that was cancelled or killed keeps what it has not taken.
    """
    seen: dict[int, set[str]] = {}
    for line in view.lines:
        if line.event in ("start", "took"):
            seen.setdefault(line.turn, set()).update(line.seen)
    for number, turn in view.turns.items():
        if turn["status"] not in ("completed", "failed") or number not in seen:
            continue
        if view.is_cancelled(number):
            continue  # it was superseded while it ended
        for message in (*turn["input"], *turn["messages"]):
            if message["role"] == "user" and message["content"] not in seen[number]:
                text = f"turn {number} {turn['status']} without {token(message['content'])}"
                yield Violation("I9", view.agent, view.session, text)
    for op in view.ops_of("message"):
        if not op.ok or op.answer["status"] not in ("steered", "joined"):
            continue
        if view.moved_after(op) or view.said[op.id].named("promote"):
            continue
        count["I9"] += 1
        turns = [turn for turn, _ in view.places_of(op)]
        if turns and min(turns) < op.answer["turn"]:
            text = f"{op.said} was steered at turn {op.answer['turn']}, and is in turn {min(turns)}"
            yield Violation("I9", view.agent, view.session, text)


def bursts_join(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I9: what comes while a turn waits for quiet joins it, and is among what it begins with.

    Allowed: what joined a turn that was killed passes on to another; one that was cancelled keeps
    it without having begun.
    """
    for op in view.ops_of("message"):
        for text in _joined(view, op, count):
            yield Violation("I9", view.agent, view.session, text)


def _joined(view: SessionView, op: Op, count: Counter[str]) -> Iterator[str]:
    if not op.ok:
        return
    status, turn = op.answer["status"], op.answer["turn"]
    if status != "joined":
        host = _open_for(view, op)
        if host is not None:
            count["I9"] += 1
            yield (
                f"{op.said} came while turn {host} waited for quiet, and did not join it: it was "
                f"{status} at turn {turn}"
            )
        return
    count["I9"] += 1
    if view.agent not in view.records.merges:
        yield f"{op.said} joined turn {turn}, and {view.agent} does not merge"
    if view.moved_after(op) or view.said[op.id].changes:
        return
    for number, place in view.places.get(str(op.said), []):
        if number == turn and place >= len(view.turns[turn]["input"]):
            yield f"{op.said} joined turn {turn}, and is not among what that began with"
    for line in view.lines:
        if (line.turn, line.event) != (turn, "start") or view.is_cancelled(turn):
            continue
        if op.body["content"] not in line.seen:
            yield f"{op.said} joined turn {turn}, which began without it"


def _open_for(view: SessionView, op: Op) -> int | None:
    """The turn that a message has to join, if that is certain from what clients know.

    It is the only live one, began to wait for quiet less than a window before the message was
    answered, and everything else that was under way meanwhile joined it, too.
    """
    window = view.records.debounce.get(view.agent, 0.0)
    if view.agent not in view.records.merges or op.body["policy"] not in JOINS:
        return None
    until = op.answered or float("inf")
    for host in view.ops_of("message"):
        if not host.ok or host.answer["status"] != "running" or host.answered is None:
            continue
        if not (host.answered < op.asked and until < host.asked + window):
            continue
        turn = host.answer["turn"]
        others = [
            x
            for x in view.writes
            if x not in (host, op) and x.asked < until and (x.answered or float("inf")) > host.asked
        ]
        joined = all(
            x.ok and (x.answer.get("status"), x.answer.get("turn")) == ("joined", turn)
            for x in others
        )
        if joined and not view.touched[str(host.answer["task_id"])]:
            return int(turn)
    return None
