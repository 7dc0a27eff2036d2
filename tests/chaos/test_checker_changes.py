"""The checker catches what may go wrong with messages that are changed, and turns that are steered.

As `test_checker.py`, which has how each of these is tried; here stands what is broken.
"""

from collections.abc import Callable
from typing import Any

import pytest

from .checker import check
from .good_changes import CHANGED, STOPPED, good_changes, good_controls, said
from .good_history import NOTE, assistant, find, line, op, receipt, turn, user
from .records import Fault, Invocation, Op, Records
from .shrink import shrink
from .story import story


def asked(records: Records, number: int) -> Op:
    return next(x for x in records.ops if x.id == number)


def withdrawn_and_kept(records: Records) -> None:
    turn(records, 2, CHANGED)["input"] = [said("w.2", 2)]


def withdrawn_and_not_on_record(records: Records) -> None:
    del turn(records, 2, CHANGED)["withdrawn"]


def withdrawn_twice(records: Records) -> None:
    turn(records, 3, CHANGED)["withdrawn"] = [said("w.2", 2)]


def withdrawn_and_told(records: Records) -> None:
    find(records, 3, "took", key=CHANGED).seen.append("w.2")


def withdrawn_by_nobody(records: Records) -> None:
    records.ops.remove(asked(records, 36))


def withdrawn_and_refused(records: Records) -> None:
    asked(records, 36).status = 412


def withdrawn_and_pending(records: Records) -> None:
    pending = {"id": 2, "turn": 2, "kind": "queued", "content": "w.2"}
    asked(records, 37).answer["pending"].append(pending)


def pending_as_another(records: Records) -> None:
    asked(records, 37).answer["pending"][0]["content"] = "w.9"


def pending_twice(records: Records) -> None:
    asked(records, 37).answer["pending"] *= 2


def replaced_and_told(records: Records) -> None:
    find(records, 4, "start", key=CHANGED).seen[-1] = "w.3"


def replaced_and_kept(records: Records) -> None:
    turn(records, 4, CHANGED)["input"] = [said("w.3", 3)]


def replaced_and_both_there(records: Records) -> None:
    turn(records, 3, CHANGED)["messages"].append(said("w.3", 3))


def refused_and_replaced(records: Records) -> None:
    turn(records, 1, CHANGED)["input"] = [said("w.6", 1)]


def refused_and_told(records: Records) -> None:
    find(records, 3, "took", key=CHANGED).seen.append("w.6")


def promoted_and_twice(records: Records) -> None:
    turn(records, 4, CHANGED)["input"].insert(0, said("w.4", 4))


def promoted_and_passed_by(records: Records) -> None:
    start, end = (find(records, 4, x, key=CHANGED) for x in ("start", "end"))
    start.at, end.at = 31.7, 31.8


def emptied_and_begun(records: Records) -> None:
    records.lines.append(line(31.75, 2, "start", seen=["w.1"], key=CHANGED))
    records.invocations[-3].ended = 31.8


def spared_and_interrupted(records: Records) -> None:
    records.ops[-12].body["keep_queued"] = True
    records.ops[-12].answer["interrupted"] = [7, 8]


def read_late(records: Records) -> None:
    for x in records.lines:
        if x.session == "w" and x.at > 32.3:
            x.at += 7
    for task in records.invocations[-2:]:
        task.ended = 41.0


def attached_to_another(records: Records) -> None:
    done = turn(records, 3, CHANGED)
    messages = [user("w.7"), *done["messages"][1:]]
    asked(records, 41).answer = {"turn": 3, "status": "completed", "messages": messages}


def attached_to_what_was_withdrawn(records: Records) -> None:
    asked(records, 42).answer = asked(records, 41).answer


def attached_and_called_withdrawn(records: Records) -> None:
    asked(records, 41).answer = {"status": "withdrawn"}


def attached_and_unknown(records: Records) -> None:
    asked(records, 41).status = 404


def waits_in_the_end(records: Records) -> None:
    records.finals[-1].status["pending"] = [{"id": 3, "turn": 4, "content": "w.5"}]


def note_told_to_a_model(records: Records) -> None:
    find(records, 1, "start", key=CHANGED).keys.append("metadata")


def note_told_as_text(records: Records) -> None:
    find(records, 3, "took", key=CHANGED).seen.append("z noted with w.1")


def note_lost(records: Records) -> None:
    del turn(records, 1, CHANGED)["input"][0]["metadata"]


def note_of_another(records: Records) -> None:
    turn(records, 4, CHANGED)["input"][0]["metadata"] = {"by": "noted with w.1"}


def note_not_given_to_the_task(records: Records) -> None:
    find(records, 1, "start", key=CHANGED).noted = [{}]


def other_id(records: Records) -> None:
    turn(records, 4, CHANGED)["input"][0]["id"] = 9


def began_after_step(records: Records) -> None:
    records.lines.append(line(43.1, 1, "begin", "step 1", key=STOPPED))


def stopped_and_result_lost(records: Records) -> None:
    turn(records, 1, STOPPED)["messages"].clear()


def stopped_and_cut_off(records: Records) -> None:
    find(records, 1, "done", "step 0", STOPPED).event = "aborted"


def done_again(records: Records) -> None:
    find(records, 2, "begin", "step 1", STOPPED).step = "step 0"


def gone_on_with_what_completed(records: Records) -> None:
    turn(records, 1, STOPPED)["status"] = "completed"


def gone_on_with_nothing(records: Records) -> None:
    del turn(records, 2, STOPPED)["resumes"]


def gone_on_and_told_to_stop(records: Records) -> None:
    find(records, 2, "start", key=STOPPED).seen.append(NOTE)


def gone_on_without_saying_so(records: Records) -> None:
    del turn(records, 2, STOPPED)["resumes"]
    records.ops.remove(asked(records, 53))


def answered_twice(records: Records) -> None:
    asked(records, 56).status = 200


def answered_and_heard_otherwise(records: Records) -> None:
    find(records, 2, "answered", "first", STOPPED).noted[0][1] = "c.9"


def answered_and_not_heard(records: Records) -> None:
    records.lines.remove(find(records, 2, "answered", "first", STOPPED))


def answered_and_its_time_over(records: Records) -> None:
    find(records, 2, "answered", "first", STOPPED).noted = [[False, None, None, True]]


def refused_and_heard(records: Records) -> None:
    records.ops.remove(asked(records, 55))
    find(records, 2, "answered", "first", STOPPED).noted = [[False, "c.3", None, False]]


def late_before_anybody(records: Records) -> None:
    records.ops.remove(asked(records, 55))


def heard_two_answers(records: Records) -> None:
    other = [[False, "c.3", None, False]]
    start = line(46.45, 2, "start", seen=["c.1", "step 0 of turn 1"], key=STOPPED, attempt="b")
    again = line(46.5, 2, "answered", "first", key=STOPPED, attempt="b", noted=other)
    records.lines += [start, again]


def answered_and_still_waits(records: Records) -> None:
    again = asked(records, 54).answer
    records.ops.append(op(59, "get_status", None, 46.55, again, key=STOPPED))


def asked_once_and_listed_twice(records: Records) -> None:
    asked(records, 54).answer["waiting_for"].append({"id": 2, "turn": 2, "title": "first"})


def waited_and_unknown(records: Records) -> None:
    asked(records, 56).status = 404


def answered_and_never_asked(records: Records) -> None:
    yes = {"approval": 2, "approved": True}
    records.ops.append(op(59, "answer", yes, 47.0, {"answered": 2}, key=STOPPED))


def refused_and_edited(records: Records) -> None:
    turn(records, 3, STOPPED)["input"].append(said("c.5", 3))


def edited_and_lost(records: Records) -> None:
    turn(records, 3, STOPPED)["input"].clear()


def edited_and_the_old_one_stays(records: Records) -> None:
    del turn(records, 2, STOPPED)["discarded"]


BROKEN: list[tuple[Callable[[], Records], str, Callable[[Records], None], str]] = [
    (good_changes, "I1", withdrawn_and_kept, "was withdrawn, and is in turn 2"),
    (good_changes, "I1", withdrawn_and_not_on_record, "and the record does not say so"),
    (good_changes, "I1", withdrawn_twice, "is withdrawn, and stands in"),
    (good_changes, "I1", withdrawn_and_told, "and a model was told of it in turn 3"),
    (good_changes, "I1", withdrawn_by_nobody, "and nobody took it back"),
    (good_changes, "I1", withdrawn_and_refused, "and nobody took it back"),
    (good_changes, "I1", withdrawn_and_pending, "and is still pending"),
    (good_changes, "I1", pending_as_another, "is pending as message 3"),
    (good_changes, "I1", pending_twice, "is pending more than once"),
    (good_changes, "I1", replaced_and_told, "was replaced by w.5, and a model was told of it"),
    (good_changes, "I1", replaced_and_kept, "was replaced by w.5, and is in the record"),
    (good_changes, "I1", replaced_and_both_there, "one message says w.3 and w.5"),
    (good_changes, "I1", refused_and_replaced, "which was refused with 412"),
    (good_changes, "I1", refused_and_told, "which was refused with 412"),
    (good_changes, "I1", promoted_and_twice, "is in turns 3, 4"),
    (good_changes, "I3", attached_to_another, "turn 3 has not answered it"),
    (good_changes, "I3", attached_to_what_was_withdrawn, "it was withdrawn, and turn 4"),
    (good_changes, "I3", attached_and_called_withdrawn, "is withdrawn, and nobody took it back"),
    (good_changes, "I3", attached_and_unknown, "it was refused with 404"),
    (good_changes, "I5", waits_in_the_end, "in the end it waits for"),
    (good_changes, "I7", emptied_and_begun, "turn 2 has no message, and began"),
    (good_changes, "I9", promoted_and_passed_by, "was promoted, and turn 4 began before"),
    (good_changes, "I9", spared_and_interrupted, "was to spare what is queued"),
    (good_changes, "I9", read_late, "was to be read at once, and 'step 0' of turn 3 went on"),
    (good_changes, "metadata", note_told_to_a_model, "was told metadata of messages"),
    (good_changes, "metadata", note_told_as_text, "was told what callers noted"),
    (good_changes, "metadata", note_lost, "and the record has None"),
    (good_changes, "metadata", note_of_another, "None was noted, and the record has"),
    (good_changes, "metadata", note_not_given_to_the_task, "turn 1 was given [{}]"),
    (good_changes, "metadata", other_id, "was accepted as message 3, and the record has 9"),
    (good_controls, "after step", began_after_step, "'step 1' began"),
    (good_controls, "after step", stopped_and_result_lost, "'step 0' is not in the record"),
    (good_controls, "after step", stopped_and_cut_off, "'step 0' was cut off"),
    (good_controls, "resume", done_again, "did 'step 0' again, which turn 1 had"),
    (good_controls, "resume", gone_on_with_what_completed, "which had completed"),
    (good_controls, "resume", gone_on_with_nothing, "is to go on with the last"),
    (good_controls, "I7", gone_on_without_saying_so, "turn 2 has no message, and began"),
    (good_controls, "I6", gone_on_and_told_to_stop, "did not see turn 1 as it is recorded"),
    (good_controls, "approval", answered_twice, "it was answered 2 times"),
    (good_controls, "approval", answered_and_heard_otherwise, "was accepted, and the task heard"),
    (good_controls, "approval", answered_and_not_heard, "and never reached turn 2"),
    (good_controls, "approval", answered_and_its_time_over, "was accepted, and the task heard"),
    (good_controls, "approval", refused_and_heard, "which was not accepted"),
    (good_controls, "approval", late_before_anybody, "which nobody said, or which was refused"),
    (good_controls, "approval", heard_two_answers, "turn 2 heard different answers"),
    (good_controls, "approval", answered_and_still_waits, "was answered, and still waits"),
    (good_controls, "approval", asked_once_and_listed_twice, "it is listed as {1, 2}"),
    (good_controls, "approval", waited_and_unknown, "was refused as if there were none"),
    (good_controls, "approval", answered_and_never_asked, "and turns have asked for 1"),
    (good_controls, "I1", refused_and_edited, "was refused with 404, and is in turn 3"),
    (good_controls, "I1", edited_and_lost, "c.4 was accepted for turn 3, and is not in"),
    (good_controls, "I1", edited_and_the_old_one_stays, "was discarded, and is in"),
]


@pytest.mark.parametrize("made", [good_changes, good_controls])
def test_a_good_history_passes(made: Callable[[], Records]) -> None:
    assert check(made()) == []


@pytest.mark.parametrize(
    ("made", "name", "breaks", "says"), BROKEN, ids=lambda x: getattr(x, "__name__", "")
)
def test_each_break_is_caught_by_its_rule(
    made: Callable[[], Records], name: str, breaks: Callable[[Records], None], says: str
) -> None:
    records = made()
    breaks(records)
    violations = check(records)
    found = [x for x in violations if x.invariant == name and says in x.text]
    assert found, violations
    part = shrink(records, found[0])
    assert found[0][:3] in {x[:3] for x in check(part)}
    assert story(part, records)


def perhaps_withdrawn(records: Records) -> None:
    asked(records, 36).status = asked(records, 36).answered = None


def perhaps_replaced_by_what_is_there(records: Records) -> None:
    asked(records, 35).status = asked(records, 35).answered = None


def perhaps_replaced_and_not(records: Records) -> None:
    perhaps_replaced_by_what_is_there(records)
    find(records, 4, "start", key=CHANGED).seen[-1] = "w.3"
    turn(records, 4, CHANGED)["input"] = [said("w.3", 3)]
    records.finals[-1].history[-1] = user("w.3")


def answered_again_and_then_withdrawn(records: Records) -> None:
    again = receipt(4, key=STOPPED, message=2, discarded=[3])
    records.ops += [
        op(60, "regenerate", None, 49.0, again, key=STOPPED),
        op(61, "withdraw", {"message": 2}, 49.3, {"withdrawn": 2}, key=STOPPED),
        op(62, "attach", {"message": 2}, 49.6, {"status": "withdrawn"}, key=STOPPED),
    ]
    turn(records, 3, STOPPED)["discarded"] = True
    turns = records.finals[-1].turns
    assert turns is not None
    emptied = {"status": "interrupted", "input": [], "messages": [], "discarded": True}
    turns.append({"turn": 4, "task_id": "inv_c4", "withdrawn": [said("c.4", 2)], **emptied})
    records.finals[-1].history.pop()
    ended = ("completed", "failure", "[409] cancelled", 49.5)
    records.invocations.append(Invocation("inv_c4", "ChaosTask", *ended))


def stopped_and_then_cut_off(records: Records) -> None:
    records.ops.append(op(60, "cancel", None, 42.5, {"cancelled": [1]}, key=STOPPED))
    turn(records, 1, STOPPED).update(reason="cancelled", messages=[])
    find(records, 1, "done", "step 0", STOPPED).event = "aborted"
    records.lines.remove(find(records, 2, "begin", "step 1", STOPPED))
    for number in (2, 3):
        find(records, number, "start", key=STOPPED).seen.remove("step 0 of turn 1")
    records.finals[-1].history.remove(assistant("step 0 of turn 1"))


def stopped_while_the_worker_died(records: Records) -> None:
    records.faults.append(Fault("kill worker", "1", 41.0, 41.5))
    records.lines.append(line(42.0, 1, "start", seen=["c.1"], attempt="b", key=STOPPED))
    records.lines.append(line(42.1, 1, "begin", "step 0", attempt="b", key=STOPPED))
    find(records, 1, "done", "step 0", STOPPED).attempt = "b"


def perhaps_answered(records: Records) -> None:
    asked(records, 55).status = asked(records, 55).answered = None


def answered_and_cut_off(records: Records) -> None:
    answered_and_not_heard(records)
    records.lines.remove(find(records, 2, "end", key=STOPPED))
    records.ops.append(op(60, "cancel", None, 46.3, {"cancelled": [2]}, key=STOPPED))
    turn(records, 2, STOPPED).update(status="interrupted", reason="cancelled")
    records.invocations[-2].result = "failure"
    records.invocations[-2].failure = "[409] cancelled"


def answered_before_it_was_asked(records: Records) -> None:
    yes = {"approval": 1, "approved": True}
    records.ops.append(op(59, "answer", yes, 44.0, {"code": 404}, status=404, key=STOPPED))


ALLOWED: list[Any] = [
    (good_changes, perhaps_withdrawn),
    (good_changes, perhaps_replaced_by_what_is_there),
    (good_changes, perhaps_replaced_and_not),
    (good_controls, answered_again_and_then_withdrawn),
    (good_controls, stopped_and_then_cut_off),
    (good_controls, stopped_while_the_worker_died),
    (good_controls, perhaps_answered),
    (good_controls, answered_and_cut_off),
    (good_controls, answered_before_it_was_asked),
]


@pytest.mark.parametrize(("made", "changes"), ALLOWED, ids=lambda x: x.__name__)
def test_what_is_allowed_is_not_held_against_the_library(
    made: Callable[[], Records], changes: Callable[[Records], None]
) -> None:
    records = made()
    changes(records)
    assert check(records) == []
