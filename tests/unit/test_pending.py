"""What is pending, what may be done to it, and approvals: the edges, as plain tables."""

from typing import Any

import pytest

from interruptible._session import approvals, pending, rules
from interruptible._session.pending import Move, Pending
from interruptible._session.record import Addition, Asked, Live, Record, Refused
from interruptible._session.rules import Step

WORK = Live(1, "inv-1", own=(1,))
SECOND = Live(2, "inv-2", queued=True, own=(2,))
THIRD = Live(3, "inv-3", queued=True, own=(3,))
LINE = Record("e", 4, (WORK, SECOND, THIRD), messages=3)
STEERED = LINE._replace(steered=(Addition(1, 1, 4, id=4),), messages=4)
CUT = WORK._replace(cancelled="cancelled")
STOPS = WORK._replace(cancelled="stopped", after_step=True)

NOT_READ = "was read, its turn has begun or ended, or it was withdrawn"


def pending_in(record: Record) -> list[tuple[int, int, str]]:
    return [(x.id, x.turn, x.kind) for x in pending.pending(record)]


def find(record: Record, message: int) -> Pending:
    found = pending.find_pending(record, message)
    assert isinstance(found, Pending)
    return found


LISTS: dict[str, tuple[Record, list[tuple[int, int, str]]]] = {
    "an empty session": (Record(), []),
    "a turn at work has read its message": (LINE._replace(live=(WORK,)), []),
    "turns that wait": (LINE, [(2, 2, "queued"), (3, 3, "queued")]),
    "the first reads first": (STEERED, [(4, 1, "steered"), (2, 2, "queued"), (3, 3, "queued")]),
    "what is taken is read": (
        STEERED._replace(steered=(Addition(1, 1, 4, taken=True, id=4),)),
        [(2, 2, "queued"), (3, 3, "queued")],
    ),
    "what is cancelled reads nothing": (
        STEERED._replace(live=(CUT, SECOND)),
        [(2, 2, "queued")],
    ),
    "what stops reads nothing": (STEERED._replace(live=(STOPS, SECOND)), [(2, 2, "queued")]),
    "what was left stands before, what joins behind": (
        LINE._replace(
            live=(SECOND._replace(open=True),),
            steered=(Addition(1, 2, 2, id=4), Addition(2, 2, 3, joined=True, id=5)),
        ),
        [(4, 2, "steered"), (2, 2, "queued"), (5, 2, "joined")],
    ),
    "and so they do without a message of its own": (
        LINE._replace(
            live=(SECOND._replace(own=()),),
            steered=(Addition(1, 2, 3, joined=True, id=4), Addition(2, 2, 2, id=5)),
        ),
        [(5, 2, "steered"), (4, 2, "joined")],
    ),
    "what an earlier version accepted has no id": (
        Record("e", 3, (Live(1, "inv-1"), Live(2, "inv-2", open=True)), (Addition(1, 1, 2),)),
        [],
    ),
    "a turn in its quiet window": (
        Record("e", 2, (Live(1, "i", open=True, own=(1,)),)),
        [(1, 1, "queued")],
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_what_is_pending_is_listed_in_the_order_in_which_it_is_read(name: str) -> None:
    record, listed = LISTS[name]
    assert pending_in(record) == listed


REFUSALS: list[tuple[Record, int, Refused]] = [
    (
        Record(),
        1,
        Refused(404, "message: there is no message 1 in this session; it has none yet."),
    ),
    (
        LINE,
        0,
        Refused(404, "message: there is no message 0 in this session; its messages are 1 to 3."),
    ),
    (
        LINE,
        4,
        Refused(404, "message: there is no message 4 in this session; its messages are 1 to 3."),
    ),
    (
        LINE,
        1,
        Refused(412, f"message: 1 is not pending: it {NOT_READ}. Say something new instead."),
    ),
]


@pytest.mark.parametrize(("record", "message", "refused"), REFUSALS)
def test_what_is_not_pending_is_refused_with_the_reason(
    record: Record, message: int, refused: Refused
) -> None:
    assert pending.find_pending(record, message) == refused


def test_a_turn_whose_only_message_is_withdrawn_is_cancelled_and_discarded() -> None:
    empty = SECOND._replace(own=())
    gone = LINE._replace(live=(WORK, empty._replace(cancelled="withdrawn"), THIRD))
    step = pending.withdraw_step(LINE, find(LINE, 2))
    assert step == Step(gone, 2, cancel=(empty,), discard=(2,))


@pytest.mark.parametrize("message", [2, 4])
def test_a_turn_that_has_another_message_goes_on(message: int) -> None:
    record = LINE._replace(steered=(Addition(1, 2, 3, joined=True, id=4),), messages=4)
    step = pending.withdraw_step(record, find(record, message))
    assert (step.cancel, step.discard, step.record.goes_on(2)) == ((), (), True)
    assert [x for x, *_ in pending_in(step.record)] == [x for x in (2, 4, 3) if x != message]


def test_a_steered_message_is_withdrawn_from_a_turn_at_work_that_goes_on() -> None:
    step = pending.withdraw_step(STEERED, find(STEERED, 4))
    assert step == Step(STEERED._replace(steered=()), 4)


STEERS: dict[str, tuple[Record, int, bool, dict[str, Any]]] = {
    "one that waits": (LINE, 3, False, {"turn": 1, "discard": (3,), "nows": 0, "told": False}),
    "one that waits, now": (LINE, 3, True, {"turn": 1, "discard": (3,), "nows": 1, "told": True}),
    "one that is steered already": (STEERED, 4, False, {"turn": 1, "nows": 0, "told": False}),
    "one that is steered already, now": (STEERED, 4, True, {"turn": 1, "nows": 1, "told": True}),
    "one whose turn is first": (
        LINE._replace(live=(CUT, SECOND, THIRD)),
        2,
        True,
        {"turn": None, "nows": 0, "told": False},
    ),
    "one at a turn that waits": (
        LINE._replace(live=(CUT, SECOND, THIRD)),
        3,
        True,
        {"turn": 2, "discard": (3,), "nows": 0, "told": False},
    ),
}


@pytest.mark.parametrize("name", STEERS)
def test_a_message_is_steered_at_the_turn_that_reads_next(name: str) -> None:
    record, message, now, then = STEERS[name]
    step = pending.steer_step(record, find(record, message), now=now)
    added = next((x for x in step.record.steered if x.id == message), None)
    assert (added.turn if added else None) == then["turn"]
    assert step.discard == then.get("discard", ())
    assert (added.now if added else 0) == then["nows"]
    assert (step.tell_now is not None) == then["told"]
    assert step.message == message
    assert step.dispatch is None


FIRSTS: dict[str, tuple[Record, int, list[tuple[int, tuple[int, ...]]], list[int], list[Move]]] = {
    "the last": (LINE, 3, [(2, (3,)), (3, (2,))], [1], [Move(2, 3), Move(3, 2)]),
    "the first": (LINE, 2, [(2, (2,)), (3, (3,))], [1], []),
    "one steered at what is at work": (
        STEERED,
        4,
        [(2, (4,)), (3, (2,)), (4, (3,))],
        [1],
        [Move(2, Addition(1, 1, 4, id=4)), Move(3, 2), Move(4, 3)],
    ),
    "one steered, and nothing waits": (
        STEERED._replace(live=(WORK,)),
        4,
        [(4, (4,))],
        [1],
        [Move(4, Addition(1, 1, 4, id=4))],
    ),
    "behind what stops": (
        LINE._replace(live=(STOPS, SECOND, THIRD)),
        3,
        [(2, (3,)), (3, (2,))],
        [1],
        [Move(2, 3), Move(3, 2)],
    ),
    "behind what cleans up": (
        LINE._replace(live=(CUT, SECOND, THIRD)),
        3,
        [(2, (3,)), (3, (2,))],
        [],
        [Move(2, 3), Move(3, 2)],
    ),
}


@pytest.mark.parametrize("name", FIRSTS)
def test_a_message_is_put_first_and_the_others_stay_in_their_order(name: str) -> None:
    record, message, own, cancelled, moves = FIRSTS[name]
    step, moved = pending.run_next_step(record, find(record, message))
    assert [(x.turn, x.own) for x in step.record.going_on] == own
    assert [x.turn for x in step.cancel] == cancelled
    assert list(moved) == moves
    assert step.discard == ()
    assert step.dispatch == (4 if len(own) > len(record.going_on) - 1 and own[-1][0] == 4 else None)


def test_what_is_over_gets_no_messages_and_is_not_cancelled() -> None:
    step, moves = pending.run_next_step(STEERED, find(STEERED, 3), over={1, 2})
    assert (step.record, step.cancel, moves) == (STEERED, (), ())


def test_what_joined_moves_with_its_turn_and_is_watched() -> None:
    joined = (Addition(1, 2, 3, joined=True, id=4), Addition(2, 2, 2, id=5))
    record = LINE._replace(steered=joined, messages=5)
    step, _ = pending.run_next_step(record, find(record, 3))
    assert [(x.id, x.turn) for x in pending.pending(step.record)] == [
        (3, 2),
        (5, 3),
        (2, 3),
        (4, 3),
    ]
    assert step.watch == (3,)


def test_a_task_of_an_earlier_version_closes_its_window_with_what_it_takes() -> None:
    record = LINE._replace(live=(SECOND._replace(open=True),))
    closed = record._replace(live=(SECOND,))
    assert rules.hand_out(record, 2, waited=False, begins=True) == (closed, ())
    more = record._replace(steered=(Addition(1, 2, 3, joined=True, id=4),))
    after, taken = rules.hand_out(more, 2, waited=False, begins=True)
    assert ([x.id for x in taken], after.live) == ([4], record.live)


def test_what_is_taken_from_a_turn_before_is_no_more_to_be_read_at_once() -> None:
    record = STEERED._replace(steered=(Addition(1, 1, 4, id=4, now=2),))
    _, [taken] = rules.begin_step(record, 2)
    assert (taken.turn, taken.now) == (2, 0)
    _, [taken] = rules.hand_out(record, 1, waited=True, begins=False)
    assert (taken.turn, taken.now) == (1, 2)


def test_what_stops_is_at_work_and_not_cut_until_somebody_cancels() -> None:
    stopped = rules.cancel_step(LINE, after_step=True, reason="enough")
    assert [x.turn for x in stopped.stop] == [1]
    assert [x.turn for x in stopped.cancel] == [2, 3]
    assert [x.cancelled for x in stopped.record.live] == ["stopped: enough"] * 3
    assert stopped.record.at_work == stopped.record.live[0]
    assert rules.give_up_step(stopped.record, {1}).give_up == ()
    again = rules.cancel_step(stopped.record, after_step=True)
    assert (again.stop, again.cancel, again.record) == ((), (), stopped.record)
    cut = rules.cancel_step(stopped.record)
    assert ([x.turn for x in cut.cancel], cut.record.live[0].is_cut) == ([1], True)


def test_an_interrupt_cuts_what_stops_also_where_a_burst_waits_behind_it() -> None:
    record = LINE._replace(live=(STOPS, SECOND._replace(open=True)))
    step = rules.message_step(record, "interrupt", merge=True)
    assert [x.turn for x in step.cancel] == [1, 2]
    assert step.dispatch == 4


ASKED = Record("e", 2, (WORK,), asked=3, approvals=(Asked(1, 1, 1), Asked(3, 1, 3)))
OVER = "is over: it was answered, its time or its turn has ended, or that was interrupted"
ANSWERS: list[tuple[Record, int, Asked | Refused]] = [
    (ASKED, 3, Asked(3, 1, 3)),
    (ASKED, 2, Refused(410, f"approval: 2 {OVER}. Look at what waits.")),
    (ASKED._replace(live=(CUT,)), 3, Refused(410, f"approval: 3 {OVER}. Look at what waits.")),
    (ASKED._replace(live=(STOPS,)), 3, Refused(410, f"approval: 3 {OVER}. Look at what waits.")),
    (ASKED._replace(live=()), 3, Refused(410, f"approval: 3 {OVER}. Look at what waits.")),
    (
        ASKED,
        4,
        Refused(404, "approval: there is no approval 4 in this session; there were 1 to 3."),
    ),
    (
        Record(),
        1,
        Refused(404, "approval: there is no approval 1 in this session; none was asked for."),
    ),
]


@pytest.mark.parametrize(("record", "approval", "found"), ANSWERS)
def test_an_approval_is_found_or_refused_with_the_reason(
    record: Record, approval: int, found: Asked | Refused
) -> None:
    assert approvals.find_approval(record, approval) == found


def test_an_approval_ends_with_its_turn_and_its_id_is_not_used_again() -> None:
    settled = rules.settle_step(ASKED, 1)
    assert settled is not None
    assert (settled.record.approvals, settled.record.asked) == ((), 3)
    closed = approvals.close_step(ASKED, Asked(3, 1, 3))
    assert approvals.ask_step(closed, 1, 4)[1] == Asked(4, 1, 4)
    assert approvals.ask_step(ASKED._replace(live=(STOPS,)), 1, 4)[1] is None
    stuck = ASKED._replace(live=(CUT._replace(given_up=True),))
    assert rules.reset_step(stuck).record.approvals == ()


def test_a_turn_that_goes_on_with_another_gets_no_message_and_is_cancelled_for_one() -> None:
    lives = (
        Live(1, "inv-1"),
        Live(2, "inv-2", queued=True),
        Live(3, "inv-3", queued=True, own=(2,)),
    )
    record = Record("epoch", 4, lives, messages=2)
    message = pending.find_pending(record, 2)
    assert isinstance(message, pending.Pending)
    step, moves = pending.run_next_step(record, message, over={1}, fixed={2})
    assert moves == ()
    assert [x.turn for x in step.cancel] == [2]
