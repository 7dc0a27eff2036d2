"""The checker passes a good history, and catches each invariant's break in a bad one."""

import asyncio
import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from .checker import CHECKS, check
from .good_history import assistant, find, good, line, op, turn, user
from .records import Fault, Records, dump, load
from .reference_run import record_reference
from .story import story


def test_a_good_history_passes_and_each_invariant_had_something_to_decide() -> None:
    decided: Counter[str] = Counter()
    assert check(good(), decided) == []
    assert {name for name in CHECKS if decided[name]} == set(CHECKS)


def test_what_is_written_down_is_read_again(tmp_path: Path) -> None:
    dump(good(), tmp_path / "records.json")
    assert load(tmp_path / "records.json") == good()


def lost(records: Records) -> None:
    turn(records, 3)["input"] = []


def twice(records: Records) -> None:
    turn(records, 3)["input"].append(user("b"))


def refused_and_kept(records: Records) -> None:
    turn(records, 3)["input"].append(user("e"))


def out_of_order(records: Records) -> None:
    records.ops[0].asked, records.ops[0].answered = 9.0, 9.1


def not_in_the_history(records: Records) -> None:
    del records.finals[0].history[0]


def discarded_unasked(records: Records) -> None:
    turn(records, 3)["discarded"] = True


def same_number(records: Records) -> None:
    records.ops[4].answer["turn"] = 2


def side_by_side(records: Records) -> None:
    find(records, 2, "start").at = 6.35


def other_outcome(records: Records) -> None:
    records.invocations[1].result, records.invocations[1].failure = "failure", "[500] no"


def two_outcomes(records: Records) -> None:
    records.ops[6].answer["status"] = "interrupted"


def killed_by_nobody(records: Records) -> None:
    turn(records, 3)["status"] = "killed"
    records.invocations[2].result, records.invocations[2].failure = "failure", "[409] killed"


def interrupted_by_nobody(records: Records) -> None:
    records.ops[1].answer["interrupted"] = []


def two_tasks(records: Records) -> None:
    find(records, 3, "end").task = "inv_9"


def two_versions(records: Records) -> None:
    find(records, 3, "end").version = "v2"


def cleanup_left_out(records: Records) -> None:
    records.lines.remove(find(records, 1, "done", "undo 0"))


def cleanup_of_a_good_end(records: Records) -> None:
    records.lines.insert(-1, line(8.05, 3, "registered", "undo 0", "interrupt"))
    records.lines.insert(-1, line(8.06, 3, "begin", "undo 0", "interrupt"))


def cleanup_again(records: Records) -> None:
    for at, event, step in ((6.42, "start", ""), (6.43, "begin", "undo 1")):
        records.lines.append(line(at, 1, event, step, "interrupt", attempt="b1", seen=["a"]))


def cleanup_twice(records: Records) -> None:
    records.lines.append(line(6.42, 1, "begin", "undo 1", "interrupt"))


def cleanup_in_order(records: Records) -> None:
    for step in ("undo 0", "undo 1"):
        find(records, 1, "registered", step).step = "x"
        find(records, 1, "registered", "x").step = "y" + step[-1]
    find(records, 1, "registered", "y0").step = "undo 1"
    find(records, 1, "registered", "y1").step = "undo 0"
    for x in records.lines:
        if x.event == "registered":
            x.phase = "interrupt"


def cleanup_after_a_crash(records: Records) -> None:
    records.lines.append(line(7.9, 3, "start", attempt="b3", seen=find(records, 3, "start").seen))
    records.lines.append(line(7.91, 3, "begin", "undo 0", "exit", attempt="b3"))
    records.lines.append(line(8.05, 3, "begin", "step 0"))


def never_ends(records: Records) -> None:
    records.finals[0].status = {"status": "running"}


def no_outcome(records: Records) -> None:
    turn(records, 3)["status"] = "running"


def task_stays(records: Records) -> None:
    records.invocations[2].status = "paused"


def fails_without_reason(records: Records) -> None:
    turn(records, 3).update(status="failed", error="KeyError")
    records.invocations[2].result, records.invocations[2].failure = "failure", "[500] KeyError"


def late_output(records: Records) -> None:
    turn(records, 3)["messages"].append(assistant("step 1 of turn 1"))


def unseen(records: Records) -> None:
    find(records, 2, "start").seen.remove("step 0 of turn 1")


def seen_differently(records: Records) -> None:
    records.lines.append(line(8.01, 3, "start", attempt="b3", seen=["d"]))


def seen_too_much(records: Records) -> None:
    find(records, 1, "start").seen.insert(0, "z")


def began_superseded(records: Records) -> None:
    records.ops[1].answer["interrupted"] = [1, 3]
    records.lines.append(line(8.01, 3, "begin", "step 0"))


def in_flight(records: Records) -> None:
    find(records, 1, "aborted", "step 1").at = 2.3


def delegate_goes_on(records: Records) -> None:
    records.lines.append(line(1.35, 1, "delegate", seen=["to the helper"]))
    for at, event in ((1.4, "start"), (3.0, "end")):
        child = line(at, 1, event, seen=["to the helper"], attempt="h")
        child.agent, child.session, child.task = "HelperAgent", "h", "inv_h"
        records.lines.append(child)


def not_taken(records: Records) -> None:
    find(records, 2, "took").seen.clear()


def steered_backwards(records: Records) -> None:
    records.ops[3].answer["turn"] = 3


def waits_for_cleanup(records: Records) -> None:
    records.ops[2].answered = 6.25


def never_answered(records: Records) -> None:
    records.ops[2].answered = records.ops[2].status = None


BREAKS: dict[str, list[Callable[[Records], None]]] = {
    "I1": [
        lost,
        twice,
        refused_and_kept,
        out_of_order,
        not_in_the_history,
        discarded_unasked,
        same_number,
    ],
    "I2": [side_by_side],
    "I3": [
        other_outcome,
        two_outcomes,
        killed_by_nobody,
        interrupted_by_nobody,
        two_tasks,
        two_versions,
    ],
    "I4": [
        cleanup_left_out,
        cleanup_of_a_good_end,
        cleanup_again,
        cleanup_twice,
        cleanup_in_order,
        cleanup_after_a_crash,
    ],
    "I5": [never_ends, no_outcome, task_stays, fails_without_reason],
    "I6": [late_output, unseen, seen_differently, seen_too_much],
    "I7": [began_superseded],
    "I8": [in_flight, delegate_goes_on],
    "I9": [not_taken, steered_backwards],
    "I10": [waits_for_cleanup, never_answered],
}
CASES = [(name, breaks) for name, all_of in BREAKS.items() for breaks in all_of]


@pytest.mark.parametrize(("name", "breaks"), CASES, ids=lambda x: getattr(x, "__name__", x))
def test_each_break_is_caught(name: str, breaks: Callable[[Records], None]) -> None:
    records = good()
    breaks(records)
    violations = check(records)
    assert name in {violation.invariant for violation in violations}
    for violation in violations:
        assert story(records, violation)


def test_every_invariant_has_a_break() -> None:
    assert BREAKS.keys() == CHECKS.keys()


def killed_and_not_cleaned_up(records: Records) -> None:
    records.faults.append(Fault("kill task", "inv_1", 6.25, 6.25))
    turn(records, 1).update(status="killed", messages=[])
    for seen in (find(records, 2, "start").seen, find(records, 3, "start").seen):
        del seen[1:3]  # what it had put out, and the note
    del records.finals[0].history[1:3]
    records.invocations[0].failure, records.invocations[0].ended = "[409] killed", 6.25
    records.lines = [x for x in records.lines if x.step != "undo 0" or x.event == "registered"]


def cut_off_and_going_on(records: Records) -> None:
    records.lines.append(line(7.02, 2, "begin", "step 9", attempt="z"))
    for x in records.lines:
        if x.attempt == "z":
            x.attempt = "a2"
    records.lines.append(line(7.95, 2, "done", "step 9"))
    records.lines.append(line(7.15, 2, "start", attempt="b2", seen=find(records, 2, "start").seen))
    records.lines.append(line(8.05, 2, "aborted", "step 9"))


def broken_off_and_not_there(records: Records) -> None:
    records.ops.append(op(9, "message", {"content": "z"}, 5.0, {"code": 409}, status=409))


def reset_since(records: Records) -> None:
    records.ops.append(op(9, "reset", None, 1.5, {"cancelled": []}))
    turns = records.finals[0].turns
    assert turns is not None
    del turns[0]
    del records.finals[0].history[:3]


def failed_with_what_was_cancelled(records: Records) -> None:
    records.faults.append(Fault("cancel message", "inv_9", 8.0, 8.0))
    turn(records, 3).update(status="failed", error="cancelled")
    records.invocations[2].result, records.invocations[2].failure = "failure", "[409] cancelled"


@pytest.mark.parametrize(
    "changes",
    [
        killed_and_not_cleaned_up,
        cut_off_and_going_on,
        broken_off_and_not_there,
        reset_since,
        failed_with_what_was_cancelled,
    ],
    ids=lambda x: x.__name__,
)
def test_what_is_allowed_is_not_held_against_the_library(
    changes: Callable[[Records], None],
) -> None:
    records = copy.deepcopy(good())
    changes(records)
    assert check(records) == []


def test_the_pattern_written_by_hand_is_convicted(tmp_path: Path) -> None:
    records = asyncio.run(record_reference(tmp_path))
    convicted = {violation.invariant for violation in check(records)}
    assert {"I2", "I6", "I10"} <= convicted
