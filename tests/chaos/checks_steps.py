"""The invariants that the steps' log decides: I2, I4, I7, I8, I10."""

from collections import Counter
from collections.abc import Iterator

from .records import CHANGES, Fault, Line, Op, token
from .view import Attempt, SessionView, Violation, Work

DEFAULT_TIMEOUT = 30.0
PATIENCE = 4.5
"""Seconds that an answer may take on a busy machine: longer than any cleanup of the workload that
does not wait for the answer. So where one decides, no machine is slow enough to be blamed."""
RECOVERY = 3.0
"""Seconds after a fault in which answers may be slow because of it."""
LEEWAY = 0.3
"""Seconds between the cancel of a turn and what is known of its successor's acceptance."""
UNDER_WAY = 0.5
"""Seconds that a cancellation takes to its task, on a busy machine without faults."""
ENDS = {"done", "failed", "aborted"}
CLEANUP = {"interrupt", "error", "exit"}


def one_at_work(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I2: bodies and cleanups of two turns of a session never overlap.

    Allowed: a successor that had waited for `cleanup_timeout` goes on, and so do those after it.
    """
    before: Work | None = None
    for work in view.works:
        if before is not None:
            count["I2"] += 1
            if work.first < before.last and not _given_up(view, before.turn, work.turn):
                yield Violation(
                    "I2",
                    view.agent,
                    view.session,
                    f"turn {work.turn} began {before.last - work.first:.3f} s before turn "
                    f"{before.turn} was over",
                )
        if before is None or work.last > before.last:
            before = work


def _given_up(view: SessionView, turn: int, by: int) -> bool:
    """Whether some turn had waited out another, up to this one; the record says so, too."""
    timeout = view.records.cleanup_timeout.get(view.agent, DEFAULT_TIMEOUT)
    waited = (x.first - _since(view, x) for x in view.works if turn < x.turn <= by)
    recorded = bool(view.turns.get(turn, {}).get("given_up"))
    return recorded or any(x >= timeout - LEEWAY for x in waited)


def _since(view: SessionView, work: Work) -> float:
    """Since when a turn may have waited: the earliest of what clients know of its acceptance."""
    start = work.attempts[0].lines[0]
    said = token(start.seen[-1]) if start.seen else None  # its receipt may have been lost
    asked = [
        op.asked
        for op in view.writes
        if (op.ok and op.answer.get("turn") == work.turn) or (said and op.said == said)
    ]
    return min([work.first, *asked])


def cleanup_once(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I4: registered cleanup runs to its end, once, last registered first, and only at an end.

    Allowed: a step is done again by a later attempt if nothing after it was recorded. A task that
    was killed owes nothing.
    """
    for work in view.works:
        for text in _cleanup_once(work, count):
            yield Violation("I4", view.agent, view.session, f"turn {work.turn}: {text}")


def _cleanup_once(work: Work, count: Counter[str]) -> Iterator[str]:
    lines = [line for attempt in work.attempts for line in attempt.lines]
    registered = {line.step: line.phase for line in lines if line.event == "registered"}
    begun = {line.step for line in lines if line.event == "begin" and line.phase in CLEANUP}
    ended = {line.step for line in lines if line.event in ("done", "failed")}
    owed = {"completed": {"exit"}, "failed": {"exit", "error"}, "interrupted": CLEANUP}
    if work.outcome in owed:
        due = owed[work.outcome]
        if work.invocation is not None and "Cleanup failed" in (work.invocation.failure or ""):
            due = {"exit"}  # all went well until then
        count["I4"] += len(registered)
        for step, phase in registered.items():
            if phase in due and step not in ended:
                yield f"it was {work.outcome}, and its cleanup step {step!r} ({phase}) was not done"
            if phase not in due and step in begun:
                yield f"it was {work.outcome}, and yet its cleanup step {step!r} ({phase}) ran"
    attempts = [x for x in work.attempts if not x.thawed]
    yield from _repeated(attempts)
    yield from _too_early(attempts)
    order = list(registered)
    for attempt in work.attempts:
        begins = [x for x in attempt.lines if x.event == "begin" and x.phase in CLEANUP]
        begins = [x for x in begins if x.step in order]
        steps, phases = [x.step for x in begins], [x.phase for x in begins]
        places = [order.index(step) for step in steps]
        for step in sorted(x for x in set(steps) if steps.count(x) > 1):
            yield f"attempt {attempt.id} did cleanup step {step!r} twice"
        if _in_disorder(places, phases):
            yield f"cleanup ran in the order {', '.join(steps)}"


def _in_disorder(places: list[int], phases: list[str]) -> bool:
    # A cancellation that comes during the steps of another end adds, in order, what that left out.
    rises = [at for at in range(1, len(places)) if places[at] > places[at - 1]]
    return len(rises) > 1 or (len(rises) == 1 and "interrupt" in phases[: rises[0]])


def _repeated(attempts: list[Attempt]) -> Iterator[str]:
    recorded: set[str] = set()
    for attempt in attempts:
        for line in attempt.lines:
            if line.event == "begin" and line.phase in CLEANUP and line.step in recorded:
                yield f"attempt {attempt.id} did {line.step!r} again, which had been recorded"
        done: str | None = None
        for line in attempt.lines:
            if line.phase in CLEANUP and line.event == "begin" and done is not None:
                recorded.add(done)
            if line.phase in CLEANUP and line.event in ("done", "failed"):
                done = line.step


def _too_early(attempts: list[Attempt]) -> Iterator[str]:
    """Cleanup in an attempt that merely crashed: a later one goes on with what is undone."""
    for index, attempt in enumerate(attempts):
        undone = [x for x in attempt.lines if x.event == "begin" and x.phase in CLEANUP]
        begun = {x.step for x in attempt.lines if x.event == "begin" and x.phase == "body"}
        for later in attempts[index + 1 :]:
            steps = {x.step for x in later.lines if x.event == "begin" and x.phase == "body"}
            if undone and steps - begun:
                yield (
                    f"attempt {attempt.id} ran {undone[0].step!r}, and attempt {later.id} went on "
                    f"with {', '.join(sorted(steps - begun))}"
                )


def superseded_before_it_began(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I7: a turn that had not begun when it was superseded runs no step.

    Allowed: the cancellation is under way for a moment, and for longer where a fault holds it up;
    what begins in it is aborted.
    """
    by_turn = {work.turn: work for work in view.works}
    for op in view.ops_of("message", "regenerate", "edit", "promote"):
        if not op.ok or op.answered is None:
            continue
        for turn in op.answer.get("interrupted", ()):
            count["I7"] += 1
            work = by_turn.get(turn)
            if work is None or work.first <= op.answered:
                continue
            count["I7 under way"] += 1
            late = [x for x in work.lines if x.event == "begin" and x.phase == "body"]
            late = [x for x in late if x.at > op.answered + UNDER_WAY]
            faults = view.records.faults
            if late and not any(disturbs(x, op.answered, late[0].at, late[0]) for x in faults):
                yield Violation(
                    "I7",
                    view.agent,
                    view.session,
                    f"turn {turn} was superseded by turn {op.answer['turn']}, and began "
                    f"{work.first - op.answered:.3f} s after that was answered",
                )


def aborted_before_cleanup(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I8: what is in flight is aborted, and a delegate has ended, before cleanup begins.

    Allowed: what another attempt had in flight.
    """
    for work in view.works:
        for attempt in work.attempts:
            flying: dict[str, Line] = {}
            for line in attempt.lines:
                if line.phase in CLEANUP and line.event == "begin":
                    count["I8"] += 1
                    for step in flying:
                        yield Violation(
                            "I8",
                            view.agent,
                            view.session,
                            f"turn {work.turn}: cleanup step {line.step!r} began while {step!r} "
                            f"was in flight (attempt {attempt.id})",
                        )
                    break
                if line.event == "begin":
                    flying[line.step] = line
                elif line.event in ENDS:
                    flying.pop(line.step, None)


def delegates_end_first(views: list[SessionView], count: Counter[str]) -> Iterator[Violation]:
    """I8 for agents that call agents: the other turn has ended when this one cleans up.

    Allowed: the other turn was killed, or the worker of either was cut off.
    """
    theirs = {
        attempt.lines[0].seen[-1]: work
        for view in views
        for work in view.works
        for attempt in work.attempts
        if attempt.lines[0].seen
    }
    for view in views:
        for work in view.works:
            asked = [x.seen[0] for x in work.lines if x.event == "delegate"]
            undoing = [x for x in work.lines if x.event == "begin" and x.phase in CLEANUP]
            if not asked or not undoing or asked[0] not in theirs:
                continue
            count["I8"] += 1
            child = theirs[asked[0]]
            if child.outcome != "killed" and child.last > undoing[0].at:
                yield Violation(
                    "I8",
                    view.agent,
                    view.session,
                    f"turn {work.turn}: {undoing[0].step!r} began "
                    f"{child.last - undoing[0].at:.3f} s before its delegate was over",
                )


def answers_during_cleanup(view: SessionView, count: Counter[str]) -> Iterator[Violation]:
    """I10: what is asked while a cleanup step runs is answered while it runs.

    Some of these steps end only when that was answered, or after a long time. Allowed: the step
    ended within `PATIENCE`; a fault was in force between `RECOVERY` seconds before the request and
    the end of the step; others of the session were answered meanwhile, so that it waited for those,
    and not for the cleanup; or one in ten requests of other sessions took as long at that moment,
    so that all the machine was slow.
    """
    cleanups = list(_cleanups(view))
    for op in view.ops_of("message", "cancel", "get_status", "get_history", *CHANGES):
        for begun, ended, line in cleanups:
            if not begun < op.asked < ended:
                continue
            answered = op.answered if op.answered is not None else float("inf")
            if answered < ended:
                count["I10"] += 1
                continue
            if op.asked > ended - PATIENCE or _all_slow(view, op, answered):
                continue
            others = (x.answered for x in view.ops if x is not op and x.name != "attach")
            served = any(x and op.asked < x < ended for x in others)
            disturbed = any(disturbs(x, op.asked, ended, line) for x in view.records.faults)
            if not served and not disturbed:
                count["I10"] += 1
                yield Violation(
                    "I10",
                    view.agent,
                    view.session,
                    f"{op.name} was asked {ended - op.asked:.1f} s before the end of "
                    f"{line.step!r} of turn {line.turn}, and answered only after it",
                )


def _all_slow(view: SessionView, op: Op, answered: float) -> bool:
    elsewhere = [
        (x.answered or float("inf")) - x.asked
        for x in view.records.ops
        if x.session != view.session and x.name != "attach" and abs(x.asked - op.asked) < PATIENCE
    ]
    slow = sum(x >= answered - op.asked for x in elsewhere)
    return slow > 0 and slow * 10 >= len(elsewhere)


def disturbs(fault: Fault, asked: float, answered: float, line: Line) -> bool:
    ended = fault.ended if fault.ended is not None else float("inf")
    elsewhere = fault.target.startswith("inv_") and fault.kind not in (
        "pause message",
        "pause change",
    )
    if elsewhere and fault.target != line.task:
        return False
    return fault.begun < answered and ended > asked - RECOVERY


def _cleanups(view: SessionView) -> Iterator[tuple[float, float, Line]]:
    for work in view.works:
        begun: dict[str, Line] = {}
        for line in work.lines:
            if line.phase in CLEANUP and line.event == "begin":
                begun[line.step] = line
            elif line.phase in CLEANUP and line.event in ("done", "failed"):
                first = begun.pop(line.step, None)
                if first is not None:
                    yield first.at, line.at, first
