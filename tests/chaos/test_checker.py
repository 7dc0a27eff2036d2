"""The checker passes a good history, and catches each invariant's break in a bad one."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .checker import CHECKS, check
from .good_changes import good_changes, good_controls
from .good_history import (
    FORKED,
    NOTE,
    QUIET,
    SESSION,
    SPEAKING,
    assistant,
    find,
    good,
    good_burst,
    good_followed,
    good_fork,
    line,
    op,
    told,
    turn,
    user,
)
from .records import Fault, Records, Told, dump, load
from .reference_run import record_reference
from .shrink import shrink, smallest
from .story import story
from .test_checker_changes import BROKEN


def test_a_good_history_passes_and_each_invariant_had_something_to_decide() -> None:
    decided: Counter[str] = Counter()
    for records in (good(), good_followed(), good_changes(), good_controls()):
        assert check(records, decided) == []
    assert {name for name in CHECKS if decided[name]} == set(CHECKS)
    for more in (good_fork(), good_burst()):
        assert check(more) == []


def test_what_is_written_down_is_read_again(tmp_path: Path) -> None:
    dump(good_followed(), tmp_path / "records.json")
    assert load(tmp_path / "records.json") == good_followed()


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


def done_again_beside_the_next(records: Records) -> None:
    replayed_when_it_had_told(records)
    records.lines.append(line(8.055, 2, "begin", "step 0", attempt="b2", worker=2))


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
    find(records, 1, "aborted", "step 1").at = -0.7


def delegate_goes_on(records: Records) -> None:
    records.lines.append(line(1.35, 1, "delegate", seen=["to the helper"]))
    for at, event in ((1.4, "start"), (3.0, "end")):
        child = line(at, 1, event, seen=["to the helper"], attempt="h")
        child.agent, child.session, child.task = "HelperAgent", "s-helper", "inv_h"
        records.lines.append(child)


def not_taken(records: Records) -> None:
    find(records, 2, "took").seen.clear()


def steered_backwards(records: Records) -> None:
    records.ops[3].answer["turn"] = 3


def said_by_nobody(records: Records) -> None:
    find(records, 1, "said", "stream", SPEAKING).seen = ["9/1/a1 "]


def cut_off_and_kept_in_part(records: Records) -> None:
    streamed_by_one_that_died(records)
    records.lines = [x for x in records.lines if x.attempt != "b1"]


def cut_off_and_lost(records: Records) -> None:
    turn(records, 1, SPEAKING)["messages"].clear()
    del turn(records, 1, SPEAKING)["partial"]


def cut_off_and_called_whole(records: Records) -> None:
    del turn(records, 1, SPEAKING)["partial"]


def whole_and_called_cut_off(records: Records) -> None:
    turn(records, 2, SPEAKING)["partial"] = 1


def cut_off_words_elsewhere(records: Records) -> None:
    turn(records, 2, SPEAKING)["messages"].append(assistant("0/1/a1 1/1/a1 "))


def cut_off_in_other_words(records: Records) -> None:
    turn(records, 1, SPEAKING)["messages"] = [assistant("What I wanted to say")]


def cut_off_words_twice(records: Records) -> None:
    turn(records, 1, SPEAKING)["messages"] *= 2


def fork_with_another_turn(records: Records) -> None:
    turn(records, 1, FORKED)["input"] = [user("p.9")]


def fork_with_one_more_turn(records: Records) -> None:
    records.ops[-3].answer["turn"] = 2
    records.ops[-1].answer["turn"] = 3
    del records.finals[-2].turns[1]  # type: ignore[union-attr]


def fork_with_less(records: Records) -> None:
    del records.finals[-1].turns[0]  # type: ignore[union-attr]


def fork_of_what_was_taken_back(records: Records) -> None:
    taken_back = {"cancelled": [], "discarded": [1]}
    records.ops.append(op(16, "rewind", {"turn": 1}, 10.8, taken_back, key=SPEAKING))
    turn(records, 1, SPEAKING)["discarded"] = True


def began_in_the_burst(records: Records) -> None:
    find(records, 1, "start", key=QUIET).at = 20.5


def began_without_one_that_joined(records: Records) -> None:
    find(records, 1, "start", key=QUIET).seen.pop()


def joined_and_taken_later(records: Records) -> None:
    first = turn(records, 1, QUIET)
    first["messages"].append(first["input"].pop())


def joined_where_nothing_joins(records: Records) -> None:
    records.merges.clear()


def did_not_join(records: Records) -> None:
    records.ops[-2].answer.update(turn=2, status="waiting")


def joined_out_of_order(records: Records) -> None:
    turn(records, 1, QUIET)["input"].reverse()


def interrupted_as_what_it_called(records: Records) -> None:
    records.faults.append(Fault("cancel message", "inv_9", 8.0, 8.0))
    turn(records, 3).update(status="failed", error="cancelled")
    records.invocations[2].result, records.invocations[2].failure = "failure", "[409] cancelled"


def waits_for_cleanup(records: Records) -> None:
    records.ops[2].answered = 6.25


def never_answered(records: Records) -> None:
    records.ops[2].answered = records.ops[2].status = None


def told_out_of_order(records: Records) -> None:
    told(records, "message", 1)["id"] = 2


def told_again(records: Records) -> None:
    again = told(records, "message", 2)
    _tell(records, 1, {**again, "id": again["id"] + 20})


def begun_again(records: Records) -> None:
    _tell(records, 1, {**told(records, "turn", 3), "id": 20})


def words_told_again(records: Records) -> None:
    told(records, "text", 1)["text"] = "step 0 of "


def words_told_after_the_message(records: Records) -> None:
    _tell(records, 1, {**told(records, "text", 2), "id": 20})


def own_event_told_again(records: Records) -> None:
    _tell(records, 1, {**told(records, "half", 2), "id": 20})


def end_not_told(records: Records) -> None:
    _forget(records, lambda x: x.get("state") == "ends" and x["turn"] == 2)


def turn_not_told(records: Records) -> None:
    _forget(records, lambda x: x.get("turn") == 3 and x["type"] == "turn")


def message_not_told(records: Records) -> None:
    _forget(records, lambda x: x["type"] == "message" and x["turn"] == 2)


def other_message_told(records: Records) -> None:
    event = told(records, "message", 1)
    event["message"] = assistant("step 0 of turn 9")


def told_in_another_order(records: Records) -> None:
    steered, message = told(records, "steered", 2), told(records, "message", 2)
    steered["message"], message["message"] = message["message"], steered["message"]


def other_end_told(records: Records) -> None:
    _last(records, 1)["status"] = "failed"


def discard_not_told(records: Records) -> None:
    records.ops.append(op(9, "rewind", {"turn": 3}, 8.5, {"cancelled": [], "discarded": [3]}))
    turn(records, 3)["discarded"] = True
    del records.finals[0].history[-1]


def told_of_what_is_not_there(records: Records) -> None:
    _tell(records, 1, {"id": 20, "turn": 4, "type": "turn", "state": "begins"})


def gap_and_nothing_more(records: Records) -> None:
    _tell(records, 1, {"id": 20, "turn": 3, "type": "gap"})
    _tell(records, 1, {"type": "record", "turns": [turn(records, 1), turn(records, 2)]})


def _tell(records: Records, follower: int, event: dict[str, Any]) -> None:
    records.told.append(Told(9.0, *SESSION, follower, event))


def _forget(records: Records, what: Callable[[dict[str, Any]], bool]) -> None:
    records.told = [x for x in records.told if x.follower != 1 or not what(x.event)]


def _last(records: Records, follower: int) -> dict[str, Any]:
    return [x.event for x in records.told if x.follower == follower][-1]


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
    "I2": [side_by_side, done_again_beside_the_next],
    "I3": [
        other_outcome,
        interrupted_as_what_it_called,
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
MORE: list[tuple[Callable[[], Records], str, Callable[[Records], None], str]] = [
    (good_fork, "I1", fork_with_another_turn, "and is another there"),
    (good_fork, "I1", fork_with_one_more_turn, "which has none such"),
    (good_fork, "I1", fork_with_less, "was left out of the fork"),
    (good_fork, "I1", fork_of_what_was_taken_back, "had been taken back, and came"),
    (good_fork, "I6", said_by_nobody, "and what was said is"),
    (good_fork, "I6", cut_off_and_lost, "which is lost"),
    (good_fork, "I6", cut_off_and_kept_in_part, "and what was said is"),
    (good_fork, "I6", cut_off_and_called_whole, "as a whole answer, and it was cut off"),
    (good_fork, "I6", whole_and_called_cut_off, "and has words that were cut off"),
    (good_fork, "I6", cut_off_words_elsewhere, "words of turn 1 stand in turn 2"),
    (good_fork, "I6", cut_off_in_other_words, "which no step has said"),
    (good_fork, "I6", cut_off_words_twice, "more than once"),
    (good_burst, "I1", joined_out_of_order, "and stands behind"),
    (good_burst, "I7", began_in_the_burst, "is to wait for 0.4 s of quiet"),
    (good_burst, "I9", began_without_one_that_joined, "which began without it"),
    (good_burst, "I9", joined_and_taken_later, "is not among what that began with"),
    (good_burst, "I9", joined_where_nothing_joins, "does not merge"),
    (good_burst, "I9", did_not_join, "and did not join it"),
    (good_followed, "I12", told_out_of_order, "after event 4 came"),
    (good_followed, "I12", told_again, "came twice"),
    (good_followed, "I12", begun_again, "came twice"),
    (good_followed, "I12", words_told_again, "came twice"),
    (good_followed, "I12", words_told_after_the_message, "came twice"),
    (good_followed, "I12", own_event_told_again, "came twice"),
    (good_followed, "I12", end_not_told, "the end of turn 2 was never told"),
    (good_followed, "I12", turn_not_told, "turn 3 was never told of"),
    (good_followed, "I12", message_not_told, "turn 2 shows"),
    (good_followed, "I12", other_message_told, "turn 1 shows"),
    (good_followed, "I12", told_in_another_order, "turn 2 shows"),
    (good_followed, "I12", other_end_told, "turn 3 ended as failed"),
    (good_followed, "I12", discard_not_told, "turn 3 is discarded in one of both"),
    (good_followed, "I12", told_of_what_is_not_there, "it shows turn 4"),
    (good_followed, "I12", gap_and_nothing_more, "turn 3 was never told of"),
]
"""Of the checks that are about one feature, each is to say so itself."""


def test_every_invariant_has_a_break() -> None:
    assert {*BREAKS, *(name for _, name, *_ in (*MORE, *BROKEN))} == CHECKS.keys()


def _id(x: object) -> str:
    return getattr(x, "__name__", str(x).split(" ", maxsplit=1)[0])


CASES = [(good, name, breaks, "") for name, all_of in BREAKS.items() for breaks in all_of] + MORE


@pytest.mark.parametrize(("made", "name", "breaks", "says"), CASES, ids=_id)
def test_each_break_is_caught(
    made: Callable[[], Records], name: str, breaks: Callable[[Records], None], says: str
) -> None:
    records = made()
    breaks(records)
    violations = check(records)
    assert any(x.invariant == name and says in x.text for x in violations)
    for violation in violations:
        part = shrink(records, violation)
        assert violation[:3] in {found[:3] for found in check(part)}
        assert story(part, records)


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
    error = "What the task called was cancelled."
    turn(records, 3).update(status="failed", error=error)
    records.invocations[2].result, records.invocations[2].failure = "failure", f"[500] {error}"


def frozen_and_taken_over_by_one_that_was(records: Records) -> None:
    records.faults.append(Fault("freeze worker", "2", -2.0, -1.5))
    records.faults.append(Fault("freeze worker", "1", -1.2, 4.9))
    for x in records.lines:
        if x.turn == 1 and x.at >= -0.8:
            x.attempt, x.worker = "b1", 2
    records.lines.append(line(-0.85, 1, "start", attempt="b1", worker=2, seen=["a"]))
    find(records, 1, "aborted", "step 1").at = 5.0


def replayed_when_it_had_told(records: Records) -> None:
    records.invocations[1].ended = 8.2
    again = {"attempt": "b2", "worker": 2}
    records.lines += [line(8.05, 2, "start", **again), line(8.06, 2, "end", **again)]


def forked_and_taken_back_since(records: Records) -> None:
    taken_back = {"cancelled": [], "discarded": [1, 2]}
    records.ops.append(op(16, "rewind", {"turn": 1}, 13.0, taken_back, key=SPEAKING))
    for number in (1, 2):
        turn(records, number, SPEAKING)["discarded"] = True
    records.finals[-2].history.clear()


def said_by_one_that_died(records: Records) -> None:
    seen = find(records, 1, "start", key=SPEAKING).seen
    records.lines.append(line(10.4, 1, "start", seen=seen, key=SPEAKING, attempt="b1"))
    for key in (SPEAKING, FORKED):
        turn(records, 1, key)["messages"].clear()
        del turn(records, 1, key)["partial"]
        find(records, 2, "start", key=key).seen.pop(1)
    for final in records.finals[-2:]:
        del final.history[1]


def streamed_by_one_that_died(records: Records) -> None:
    seen = find(records, 1, "start", key=SPEAKING).seen
    records.lines.append(line(10.4, 1, "start", seen=seen, key=SPEAKING, attempt="b1"))
    for key in (SPEAKING, FORKED):
        turn(records, 1, key)["messages"] = [assistant("0/1/a1 ")]
        find(records, 2, "start", key=key).seen[1] = "0/1/a1 "
    for final in records.finals[-2:]:
        final.history[1] = assistant("0/1/a1 ")


def joined_what_was_cancelled(records: Records) -> None:
    records.ops.append(op(24, "cancel", None, 20.4, {"cancelled": [1]}, key=QUIET))
    turn(records, 1, QUIET)["status"] = "interrupted"
    records.invocations[-2].result, records.invocations[-2].failure = "failure", "[409] cancelled"
    records.lines = [x for x in records.lines if (x.session, x.turn) != ("q", 1)]
    find(records, 2, "start", key=QUIET).seen.insert(2, NOTE)
    records.finals[-1].history.insert(2, user(NOTE))


def told_again_after_a_gap(records: Records) -> None:
    _tell(records, 1, {"id": 20, "turn": 3, "type": "gap"})
    read = [turn(records, 1), turn(records, 2), {**turn(records, 3), "status": "running"}]
    _tell(records, 1, {"type": "record", "turns": read})
    for number, event in enumerate([told(records, "turn", 3), _last(records, 2)], 21):
        _tell(records, 1, {**event, "id": number})


def discarded_before_a_gap_and_not_ended(records: Records) -> None:
    discard_not_told(records)
    told_again_after_a_gap(records)
    records.told = [x for x in records.told if x.follower == 1]


def told_of_what_the_record_had(records: Records) -> None:
    _tell(records, 2, {**told(records, "turn", 2), "id": 50})


def discarded_before_it_began(records: Records) -> None:
    discard_not_told(records)
    records.told = [x for x in records.told if x.follower == 1]
    place = records.told.index(next(x for x in records.told if x.event.get("turn") == 3))
    discarded = {"id": 14, "turn": 3, "type": "discarded", "turns": [3]}
    for x in records.told[place:]:
        x.event["id"] += 1
    records.told.insert(place, Told(7.8, *SESSION, 1, discarded))


@pytest.mark.parametrize(
    ("made", "changes"),
    [
        (good, killed_and_not_cleaned_up),
        (good, cut_off_and_going_on),
        (good, broken_off_and_not_there),
        (good, reset_since),
        (good, failed_with_what_was_cancelled),
        (good, frozen_and_taken_over_by_one_that_was),
        (good, replayed_when_it_had_told),
        (good_fork, forked_and_taken_back_since),
        (good_fork, said_by_one_that_died),
        (good_fork, streamed_by_one_that_died),
        (good_burst, joined_what_was_cancelled),
        (good_followed, told_again_after_a_gap),
        (good_followed, discarded_before_a_gap_and_not_ended),
        (good_followed, told_of_what_the_record_had),
        (good_followed, discarded_before_it_began),
    ],
    ids=lambda x: x.__name__,
)
def test_what_is_allowed_is_not_held_against_the_library(
    made: Callable[[], Records], changes: Callable[[Records], None]
) -> None:
    records = made()
    changes(records)
    assert check(records) == []


def test_the_shortest_story_is_what_the_verdict_rests_on() -> None:
    records = good_fork()
    in_flight(records)
    records.faults += [Fault("freeze worker", "1", -1.0, -0.6), Fault("kill worker", "1", 9.0, 9.5)]
    (violation,) = check(records)
    part = shrink(records, violation)
    assert story(part, records) == [
        "   0.000   turn 1 registered undo 1 interrupt [a1 on 1 v1]",
        "   0.300   turn 1 begin step 1 [a1 on 1 v1]",
        "   1.000 ! freeze worker 1",
        "   1.200   turn 1 begin undo 1 interrupt [a1 on 1 v1]",
        "   1.300   turn 1 aborted step 1 [a1 on 1 v1]",
        "   1.400 ! freeze worker 1 is over",
        "   8.200   turn 1 done undo 1 interrupt [a1 on 1 v1]",
    ]
    assert (part.ops, part.invocations, part.finals) == ([], [], [])


def test_a_turn_is_left_out_with_what_later_turns_saw_of_it() -> None:
    records = good()
    not_taken(records)
    find(records, 3, "start").seen.insert(0, "z")
    violation = next(x for x in check(records) if "turn 3 saw" in x.text)
    part = shrink(records, violation)
    (final,) = part.finals
    assert final.turns is not None
    assert [turn["turn"] for turn in final.turns] == [3]
    assert [x.seen for x in part.lines] == [["z", "d"]]


def test_a_turn_is_not_left_out_whose_words_are_not_where_they_should_be() -> None:
    records = good()
    not_in_the_history(records)
    violation = next(x for x in check(records) if x.text.startswith("get_history"))
    (final,) = shrink(records, violation).finals
    assert final.turns is not None
    assert [turn["turn"] for turn in final.turns] == [1]
    assert user("d") not in final.history


def test_what_cannot_be_left_out_is_found_wherever_it_stands() -> None:
    for size in range(1, 12):
        for needed in ({0}, {size - 1}, {0, size - 1}, set(range(0, size, 3))):
            assert set(smallest(range(size), lambda x, n=needed: n <= set(x))) == needed  # type: ignore[misc]


def test_the_pattern_written_by_hand_is_convicted(tmp_path: Path) -> None:
    records = asyncio.run(record_reference(tmp_path))
    convicted = {violation.invariant for violation in check(records)}
    assert {"I2", "I6", "I10"} <= convicted
