"""The rules of one session, in every order of events that a small world leads to."""

import json
from functools import cache
from itertools import product
from typing import Any, Final

import pytest

from interruptible._session import approvals, pending, rules, stored_record
from interruptible._session.record import Addition, Asked, Live, Record
from interruptible._session.record import Refused as RefusedChange
from interruptible._session.rules import Step

from . import world
from .walk import Walk, walk_through
from .world import CONTROLS, INVARIANTS, PENDING, POLICIES, Budget, Fault

ALL: Final = POLICIES + CONTROLS
LINED_UP: Final = ("interrupt", "queue", "steer")
STEADY: Final = ("queue", "steer")
FIRST_BUDGETS: Final = {
    "every pair": Budget(acts=3, can=ALL),
    "every pair, and queued turns are kept": Budget(acts=3, can=ALL, keep_queued=True),
    "every pair, and bursts are merged": Budget(acts=3, can=ALL, merge=True),
    "every pair, queued turns are kept and bursts are merged": Budget(
        acts=3, can=ALL, keep_queued=True, merge=True
    ),
}
BUDGETS: Final = {
    **FIRST_BUDGETS,
    "bursts behind a turn at work, and killed tasks": Budget(
        acts=3, can=("queue", "steer"), max_pending=3, task_kills=1, merge=True
    ),
    "many messages": Budget(acts=4, can=("interrupt", "queue"), max_pending=3),
    "many steered": Budget(acts=4, can=("queue", "steer"), max_pending=3),
    "much taken back": Budget(acts=4, can=("rollback", "rewind")),
    "killed tasks": Budget(acts=3, can=("interrupt", "rollback", "steer"), task_kills=1),
    "killed tasks and lost reports": Budget(acts=3, can=("queue", "steer"), task_kills=1, losses=1),
    "killed tasks and lost reports, and bursts are merged": Budget(
        acts=3, can=("queue", "steer"), task_kills=1, losses=1, merge=True
    ),
    "two killed tasks": Budget(acts=3, can=("queue", "steer"), max_pending=3, task_kills=2),
    "tasks cancelled in Restate": Budget(acts=3, can=LINED_UP, task_cancels=1),
    "killed messages": Budget(acts=3, can=(*POLICIES, "cancel"), message_kills=1),
    "killed messages and repeated reports": Budget(
        acts=3, can=("queue", "steer"), message_kills=1, repeats=1
    ),
    "overdue cleanups": Budget(acts=3, can=(*POLICIES, "cancel"), max_pending=3, timeouts=1),
    "overdue cleanups and repeated reports": Budget(
        acts=3, can=("interrupt", "rewind"), timeouts=1, repeats=1
    ),
    "given up, and taken back": Budget(
        acts=3, can=("interrupt", "steer", "rollback", *CONTROLS[1:]), timeouts=1
    ),
    "given up twice": Budget(acts=3, can=("interrupt", "queue", "cancel"), timeouts=2),
    "given up by a task that is killed": Budget(
        acts=3, can=("interrupt", "queue"), timeouts=1, task_kills=1
    ),
    "given up, and killed messages": Budget(
        acts=3, can=("interrupt", "queue", "reject"), timeouts=1, message_kills=1
    ),
    "most of these, after fewer messages": Budget(
        acts=2,
        can=(*LINED_UP, "rollback", "regenerate"),
        max_pending=1,
        task_kills=1,
        task_cancels=1,
        message_kills=1,
        losses=1,
    ),
    "what is pending is changed": Budget(acts=4, can=("queue", "steer", *PENDING), max_pending=3),
    "what is pending is changed, and bursts are merged": Budget(
        acts=4, can=("queue", "steer", "withdraw", "run next"), max_pending=3, merge=True
    ),
    "what is pending is changed while something ends": Budget(
        acts=3, can=("interrupt", "queue", "steer", "stop", *PENDING), max_pending=3
    ),
    "a line is put in another order": Budget(acts=5, can=("queue", "run next"), max_pending=4),
    "a line is put in another order, and killed tasks": Budget(
        acts=4, can=("queue", "run next"), max_pending=3, task_kills=1
    ),
    "what is pending is changed, and killed tasks": Budget(
        acts=3, can=("queue", "steer", "steer it", "withdraw"), max_pending=3, task_kills=1
    ),
    "what is pending is changed, and killed tasks, and bursts are merged": Budget(
        acts=3, can=("queue", "steer", "run next"), max_pending=3, task_kills=1, merge=True
    ),
    "what is pending is changed, and killed messages": Budget(
        acts=3, can=("queue", "steer", "run next", "withdraw"), max_pending=3, message_kills=1
    ),
    "read at once": Budget(
        acts=3, can=("queue", "steer now", "steer it now"), max_pending=3, merge=True
    ),
    "stopped after a step": Budget(acts=3, can=("interrupt", *STEADY, "stop", "cancel")),
    "stopped after a step, and bursts are merged": Budget(
        acts=4, can=("interrupt", "queue", "stop"), merge=True
    ),
    "stopped after a step, and queued turns are kept": Budget(
        acts=3, can=("interrupt", "queue", "stop"), keep_queued=True
    ),
    "stopped after a step, and overdue cleanups": Budget(
        acts=3, can=("interrupt", "queue", "stop"), timeouts=1
    ),
    "stopped after a step, and killed tasks": Budget(
        acts=3, can=("interrupt", "steer", "stop", "rewind"), task_kills=1
    ),
    "edited and resumed": Budget(acts=3, can=("queue", "cancel", "stop", "edit", "resume")),
    "edited and resumed, and killed tasks": Budget(
        acts=3, can=("queue", "edit", "resume"), task_kills=1, message_kills=1
    ),
    "approvals": Budget(acts=3, can=("interrupt", "stop", "answer"), asks=1),
    "approvals that are taken back": Budget(
        acts=3, can=("interrupt", "answer", "reset"), asks=1, timeouts=1
    ),
    "two approvals": Budget(acts=3, can=("queue", "answer", "cancel"), asks=2),
}


SHORT: Final = frozenset(
    {
        "every pair, and queued turns are kept",
        "killed tasks and lost reports, and bursts are merged",
        "two killed tasks",
        "killed messages and repeated reports",
        "what is pending is changed",
        "what is pending is changed, and killed tasks",
        "what is pending is changed, and killed messages",
        "read at once",
        "stopped after a step",
        "stopped after a step, and overdue cleanups",
        "edited and resumed",
        "two approvals",
    }
)
"""What is walked through in no time, and has each event: enough between two commits."""


@cache
def walk(name: str) -> Walk:
    return walk_through(BUDGETS[name])


@pytest.fixture(
    params=[pytest.param(x, marks=() if x in SHORT else pytest.mark.long) for x in BUDGETS]
)
def walked(request: pytest.FixtureRequest) -> Walk:
    """All worlds that one of the budgets leads to."""
    return walk(request.param)


def story_of(walked: Walk, what: str | Fault) -> str | None:
    """What leads to a broken invariant or to a fault, if anything does."""
    if isinstance(what, Fault):
        return walked.broken.get(what.name)
    assert what in INVARIANTS
    return walked.broken.get(what)


def test_every_accepted_message_is_in_one_place_and_in_order(walked: Walk) -> None:
    assert story_of(walked, "messages_are_in_the_history_once_and_in_order") is None


def test_the_conversation_has_each_message_once(walked: Walk) -> None:
    assert story_of(walked, "the_conversation_has_a_message_once") is None


def test_one_task_is_at_work_at_a_time(walked: Walk) -> None:
    assert story_of(walked, "one_task_is_at_work") is None


def test_a_turn_gets_one_outcome_and_it_is_its_tasks(walked: Walk) -> None:
    assert story_of(walked, "a_turns_outcome_is_its_tasks") is None
    assert story_of(walked, Fault.SETTLED_AGAIN) is None


def test_in_the_end_nothing_is_live_and_all_that_was_wanted_was_answered(walked: Walk) -> None:
    assert story_of(walked, AT_REST) is None


def test_a_turn_that_was_superseded_before_it_began_does_not_begin(walked: Walk) -> None:
    assert story_of(walked, "what_was_superseded_before_it_began_does_not_begin") is None


def test_a_message_is_refused_when_it_says_so_or_too_many_are_pending_and_else_taken_in(
    walked: Walk,
) -> None:
    assert story_of(walked, Fault.TAKEN_IN) is None
    assert story_of(walked, Fault.TURNED_AWAY) is None


def test_a_message_cancels_what_its_policy_says_and_others_nothing(walked: Walk) -> None:
    assert story_of(walked, Fault.SPARED) is None
    assert story_of(walked, Fault.CANCELLED_FOR_QUEUE) is None


def test_a_control_cancels_what_it_names_and_nothing_else(walked: Walk) -> None:
    assert story_of(walked, Fault.CANCELLED_OTHER) is None


def test_turns_begin_in_their_order(walked: Walk) -> None:
    assert story_of(walked, "what_is_live_stands_in_the_order_of_the_turns") is None
    assert story_of(walked, Fault.OUT_OF_ORDER) is None


def test_numbers_are_never_used_again(walked: Walk) -> None:
    assert story_of(walked, Fault.NUMBER_USED_AGAIN) is None


def test_a_settle_touches_its_own_turn_alone(walked: Walk) -> None:
    assert story_of(walked, Fault.SETTLED_OTHER) is None


def test_a_session_cancels_a_task_once_at_most_and_knows_its_id_by_then(walked: Walk) -> None:
    assert story_of(walked, Fault.CANCELLED_AGAIN) is None
    assert story_of(walked, Fault.CANCELLED_NOTHING) is None


def test_a_live_turn_has_a_reason_if_and_only_if_it_was_cancelled(walked: Walk) -> None:
    assert story_of(walked, "what_the_record_says_was_cancelled_was_cancelled") is None


def test_a_message_joins_the_turn_that_it_is_for_and_changes_nothing_else(walked: Walk) -> None:
    assert story_of(walked, Fault.JOINED) is None
    assert story_of(walked, Fault.NOT_JOINED) is None
    assert story_of(walked, Fault.DISTURBED) is None


def test_nothing_joins_a_turn_whose_quiet_window_is_over(walked: Walk) -> None:
    assert story_of(walked, "what_is_open_is_in_its_quiet_window") is None


def test_a_task_takes_what_waits_for_it_all_of_it_and_once(walked: Walk) -> None:
    assert story_of(walked, Fault.TAKEN_AGAIN) is None
    assert story_of(walked, Fault.TAKEN_OTHER) is None


def test_a_turn_begins_with_its_messages_in_the_order_of_acceptance(walked: Walk) -> None:
    assert story_of(walked, Fault.INPUT_OUT_OF_ORDER) is None
    assert story_of(walked, Fault.INPUT_OTHER) is None


def test_what_a_turn_did_not_take_passes_on_unless_the_turn_was_cancelled(walked: Walk) -> None:
    assert story_of(walked, Fault.PASSED_ON) is None
    assert story_of(walked, Fault.NOT_PASSED_ON) is None
    assert story_of(walked, Fault.PASSED_ASTRAY) is None
    assert story_of(walked, "what_is_steered_waits_at_a_live_turn") is None


def test_a_turn_that_took_what_another_left_passes_on_the_rest_when_it_is_killed() -> None:
    now = world.World(Budget(acts=4, can=("queue", "steer"), max_pending=4, task_kills=1))
    for label in (
        "message 1 (queue)",
        "1 begins",
        "message 2 (queue)",
        "message (steer) joins 1",
        "1 completes",
        "2 asks to begin",
        "2 begins",
        "settle 1",
        "message (steer) joins 2",
        "2 is killed",
        "2 is recovered",
        "3 begins",
        "3 completes",
        "settle 3",
    ):
        [now] = [x.world for happens in world.EVENTS for x in happens(now) if x.label == label]
        assert list(world.what_is_wrong(now)) == []
    assert not now.record.live


def test_what_was_taken_back_is_discarded_and_nothing_else(walked: Walk) -> None:
    assert story_of(walked, Fault.DISCARDED_OTHER) is None
    assert story_of(walked, "what_is_discarded_was_taken_back") is None


def test_what_is_discarded_does_not_go_on(walked: Walk) -> None:
    assert story_of(walked, "what_is_discarded_does_not_go_on") is None


def test_a_record_comes_back_from_the_store_as_it_was(walked: Walk) -> None:
    assert story_of(walked, "the_record_can_be_stored") is None


def test_what_was_waited_out_once_is_given_up_and_waited_for_no_more(walked: Walk) -> None:
    assert story_of(walked, "what_was_given_up_was_waited_out_and_nothing_else") is None
    assert story_of(walked, "nobody_waits_for_what_was_given_up") is None
    assert story_of(walked, Fault.GIVEN_UP_ONLY) is None


def test_a_reset_removes_what_was_given_up_and_nothing_that_is_waited_for(walked: Walk) -> None:
    assert story_of(walked, Fault.RESET_KEPT) is None


def test_a_message_is_changed_if_no_task_has_it_and_else_refused(walked: Walk) -> None:
    assert story_of(walked, Fault.CHANGED) is None
    assert story_of(walked, Fault.NOT_CHANGED) is None
    assert story_of(walked, Fault.CHANGED_OTHER) is None
    assert story_of(walked, LISTED) is None
    assert story_of(walked, BEGUN) is None


def test_what_is_withdrawn_is_read_by_no_task_and_its_turn_does_not_begin(walked: Walk) -> None:
    assert story_of(walked, WITHDRAWN) is None


def test_what_is_put_first_is_read_next_and_the_others_stay_in_their_order(walked: Walk) -> None:
    assert story_of(walked, Fault.OUT_OF_TURN) is None
    assert story_of(walked, MESSAGES) is None


def test_a_turn_is_told_of_what_it_is_to_read_at_once_if_it_is_at_work(walked: Walk) -> None:
    assert story_of(walked, Fault.TOLD_NOW) is None


def test_who_has_messages_that_others_are_to_have_is_watched(walked: Walk) -> None:
    assert story_of(walked, Fault.NOT_WATCHED) is None
    assert story_of(walked, WATCHED) is None


def test_a_turn_asks_before_it_begins_if_it_waits_for_more_than_cleanups(walked: Walk) -> None:
    assert story_of(walked, Fault.QUEUED_OTHER) is None


def test_a_quiet_window_ends_once_nothing_has_come(walked: Walk) -> None:
    assert story_of(walked, Fault.QUIET_OTHER) is None


def test_an_approval_is_answered_once_while_its_turn_goes_on(walked: Walk) -> None:
    assert story_of(walked, Fault.ANSWERED) is None
    assert story_of(walked, Fault.NOT_ANSWERED) is None
    assert story_of(walked, APPROVALS) is None


def test_nothing_else_is_wrong(walked: Walk) -> None:
    assert walked.broken == {}


@pytest.mark.long
def test_all_that_can_happen_does() -> None:
    happened = set[str]().union(*(walk(name).happened for name in BUDGETS))
    assert happened == {happens.__name__ for happens in world.EVENTS}
    assert sum(walk(name).worlds for name in BUDGETS) > 100_000


def test_what_is_walked_through_at_each_commit_has_each_event() -> None:
    happened = set[str]().union(*(walk(name).happened for name in SHORT))
    assert happened == {happens.__name__ for happens in world.EVENTS}


@pytest.mark.long
@pytest.mark.parametrize("name", FIRST_BUDGETS)
def test_every_policy_and_control_comes_after_every_other(name: str) -> None:
    first = {(None, policy) for policy in POLICIES}
    assert walk(name).pairs == first | set(product(ALL, ALL))


# -- That the walk finds what is wrong: rules with one mistake each. -------------------------------

_message, _cancel, _settle = rules.message_step, rules.cancel_step, rules.settle_step
_rewind, _regenerate, _take = rules.rewind_step, rules.regenerate_step, rules.hand_out
_give_up, _reset = rules.give_up_step, rules.reset_step
_refusal, _host = rules.refusal, rules._host
_quiet, _begins, _add_to, _begin = rules.quiet_step, rules.begin_step, rules.add_to, rules.new_turn
_edit, _resume = rules.edit_step, rules.resume_step
_pending, _find, _withdraw = pending.pending, pending.find_pending, pending.withdraw_step
_steer, _run_next, _ask = pending.steer_step, pending.run_next_step, approvals.ask_step
_approval, _moved = approvals.find_approval, pending._moved

Refused = tuple[int, str] | None
Taken = tuple[Record, tuple[Addition, ...]]


def with_record(what: Any, **changes: Any) -> Any:
    """A step or settling with something else in its record."""
    return what and what._replace(record=what.record._replace(**changes))


def settle_clears_everything(record: Record, turn: int, **options: Any) -> Step | None:
    return with_record(_settle(record, turn, **options), live=())


def settle_clears_whatever_is_live(record: Record, turn: int, **options: Any) -> Step | None:
    # The hand-written pattern: a report clears the one current task, whose ever it is.
    return Step(record._replace(live=())) if record.live else None


def settle_forgets_to(record: Record, turn: int, **options: Any) -> Step | None:
    return Step(record) if record.find(turn) else None


def settle_does_not_take_the_cancelled(record: Record, turn: int, **options: Any) -> Step | None:
    return _settle(record, turn, **options) if record.goes_on(turn) else None


def settle_takes_a_turn_every_time(record: Record, turn: int, **options: Any) -> Step:
    return _settle(record, turn, **options) or Step(record)


def settle_clears_what_came_before(record: Record, turn: int, **options: Any) -> Step | None:
    settled = _settle(record, turn, **options)
    later = tuple(x for x in record.live if x.turn > turn)
    return with_record(settled, live=later)


def settle_loses_what_was_not_taken(record: Record, turn: int, **options: Any) -> Step | None:
    steered = tuple(x for x in record.steered if x.turn != turn or x.taken)
    return _settle(record._replace(steered=steered), turn, **options)


def settle_keeps_what_was_not_taken(record: Record, turn: int, **options: Any) -> Step | None:
    steered = tuple(x._replace(taken=x.taken or x.turn == turn) for x in record.steered)
    return _settle(record._replace(steered=steered), turn, **options)


def settle_passes_on_what_was_taken(record: Record, turn: int, **options: Any) -> Step | None:
    steered = tuple(x._replace(taken=x.taken and x.turn != turn) for x in record.steered)
    return _settle(record._replace(steered=steered), turn, **options)


def settle_passes_on_what_was_cancelled(record: Record, turn: int, **options: Any) -> Step | None:
    live = (x._replace(cancelled=None) if x.turn == turn else x for x in record.live)
    return _settle(record._replace(live=tuple(live)), turn, **options)


def settle_passes_on_to_the_newest(record: Record, turn: int, **options: Any) -> Step | None:
    # It may be cancelled.
    settled = _settle(record, turn, **options)
    if settled is None or settled.dispatch is None or len(settled.record.live) < 2:
        return settled
    heir = settled.record.live[-2].turn
    steered = tuple(x._replace(turn=heir) for x in settled.begin)
    live = settled.record.live[:-1]
    rest = settled.record._replace(next=record.next, live=live, steered=steered)
    return Step(rest, keep=settled.keep, watch=(heir,))


def settle_passes_on_to_the_oldest(record: Record, turn: int, **options: Any) -> Step | None:
    # It may be at work already, and its own message be an earlier one.
    heir = next((x.turn for x in record.going_on if x.turn < turn), None)
    left = [x for x in record.steered if x.turn == turn and not x.taken]
    if heir is None or not left or not record.goes_on(turn):
        return _settle(record, turn, **options)
    steered = (x._replace(turn=heir) if x in left else x for x in record.steered)
    settled = _settle(record._replace(steered=tuple(steered)), turn, **options)
    return settled and settled._replace(watch=(heir,))


def settle_passes_on_to_nobody(record: Record, turn: int, **options: Any) -> Step | None:
    settled = _settle(record, turn, **options)
    if settled is None or settled.dispatch is None:
        return settled
    live = settled.record.live[:-1]
    rest = settled.record._replace(next=record.next, live=live, steered=settled.begin)
    return Step(rest, keep=settled.keep)


def settle_begins_a_turn_with_nothing(record: Record, turn: int, **options: Any) -> Step | None:
    settled = _settle(record, turn, **options)
    return settled and settled._replace(begin=())


def settle_begins_a_turn_that_is_not_open(record: Record, turn: int, *, merge: bool) -> Step | None:
    return _settle(record, turn, merge=False)


def settle_does_not_name_the_heir(record: Record, turn: int, **options: Any) -> Step | None:
    settled = _settle(record, turn, **options)
    return settled and settled._replace(watch=())


def settle_forgets_what_joins_an_open_heir(
    record: Record, turn: int, **options: Any
) -> Step | None:
    # The window's own `take` would set it right, but for one that finds nothing.
    settled = _settle(record, turn, **options)
    live = settled and tuple(
        x._replace(open=x.open and not settled.watch) for x in settled.record.live
    )
    return with_record(settled, live=live)


def message_does_not_cancel(record: Record, policy: str, **options: Any) -> Step:
    return _message(record, "queue", **options)


def message_always_cancels(record: Record, policy: str, **options: Any) -> Step:
    return _message(record, "interrupt", **options)


def message_cancels_unless_it_rejects(record: Record, policy: str, **options: Any) -> Step:
    return _message(record, "reject" if policy == "reject" else "interrupt", **options)


def message_cancels_the_oldest_alone(record: Record, policy: str, **options: Any) -> Step:
    # What is queued behind it is spared.
    step = _message(record._replace(live=record.live[:1]), policy, **options)
    return with_record(step, live=(*step.record.live[:-1], *record.live[1:], step.record.live[-1]))


def message_cancels_the_queued_alone(record: Record, policy: str, **options: Any) -> Step:
    step = _message(record._replace(live=record.live[1:]), policy, **options)
    return with_record(step, live=(*record.live[:1], *step.record.live))


def message_cancels_silently(record: Record, policy: str, **options: Any) -> Step:
    return _message(record, policy, **options)._replace(cancel=())


def message_cancels_again(record: Record, policy: str, **options: Any) -> Step:
    step = _message(record, policy, **options)
    return step._replace(cancel=record.live) if policy == "interrupt" else step


def message_uses_a_number_again(record: Record, policy: str, **options: Any) -> Step:
    free = max((live.turn for live in record.live), default=0) + 1
    return _message(record._replace(next=free), policy, **options)


def message_puts_the_new_turn_in_the_place_of_the_old(
    record: Record, policy: str, **options: Any
) -> Step:
    return with_record(_message(record, policy, **options), live=(Live(record.next),))


def message_puts_the_new_turn_before_the_queued(
    record: Record, policy: str, **options: Any
) -> Step:
    step = _message(record, policy, **options)
    *live, new = step.record.live
    return with_record(step, live=(*live[:1], new, *live[1:]))


def message_does_not_know_what_is_over(record: Record, policy: str, **options: Any) -> Step:
    return _message(record, policy, **{**options, "over": ()})


def rollback_does_not_discard(record: Record, policy: str, **options: Any) -> Step:
    return _message(record, policy, **options)._replace(discard=())


def rollback_does_not_cancel(record: Record, policy: str, **options: Any) -> Step:
    step = _message(record, policy, **options)
    queued = _message(record, "queue", **options)
    return queued._replace(discard=step.discard) if policy == "rollback" else step


def rollback_discards_what_was_cancelled_before(
    record: Record, policy: str, **options: Any
) -> Step:
    step = _message(record, policy, **options)
    live = tuple(x.turn for x in record.live)
    return step._replace(discard=live) if policy == "rollback" else step


def interrupt_discards(record: Record, policy: str, **options: Any) -> Step:
    step = _message(record, policy, **options)
    return step._replace(discard=tuple(x.turn for x in step.cancel))


def keep_queued_is_ignored(record: Record, policy: str, **options: Any) -> Step:
    return _message(record, policy, **{**options, "keep_queued": False})


def keep_queued_spares_all(record: Record, policy: str, **options: Any) -> Step:
    return _message(record, "queue" if policy == "interrupt" else policy, **options)


def a_number_is_free_once_its_message_is_taken(record: Record, policy: str, **options: Any) -> Step:
    step = _message(record, policy, **options)
    if step.steer is None:
        return step
    steered = step.steer._replace(number=len(record.untaken) + 1)
    return with_record(step._replace(steer=steered), steered=(*record.steered, steered))


def steered_stands_where_its_turn_does(record: Record, policy: str, **options: Any) -> Step:
    step = _message(record, policy, **options)
    if step.steer is None:
        return step
    steered = step.steer._replace(at=step.steer.turn)
    return with_record(step._replace(steer=steered), steered=(*record.steered, steered))


def a_message_that_joins_closes_the_window(record: Record, policy: str, **options: Any) -> Step:
    step = _message(record, policy, **options)
    live = tuple(x._replace(open=x.open and step.steer is None) for x in step.record.live)
    return with_record(step, live=live)


def steered_at_the_newest(record: Record, policy: str, *, merge: bool) -> Live | None:
    host = _host(record, policy, merge=merge)
    return [x for x in record.live if x.cancelled is None][-1] if host is not None else None


def steered_at_the_cancelled(record: Record, policy: str, *, merge: bool) -> Live | None:
    return record.live[0] if record.live and policy == "steer" else None


def steered_becomes_a_turn(record: Record, policy: str, *, merge: bool) -> Live | None:
    return None if policy == "steer" else _host(record, policy, merge=merge)


def queued_joins_a_turn_that_is_closed(record: Record, policy: str, *, merge: bool) -> Live | None:
    opened = record._replace(live=tuple(x._replace(open=True) for x in record.live))
    return _host(opened, policy, merge=merge)


def interrupt_joins_a_turn_and_spares_those_before(
    record: Record, policy: str, *, merge: bool
) -> Live | None:
    return _host(record, "queue" if policy == "interrupt" else policy, merge=merge)


def rollback_joins(record: Record, policy: str, *, merge: bool) -> Live | None:
    return _host(record, "interrupt" if policy == "rollback" else policy, merge=merge)


def nothing_joins(record: Record, policy: str, *, merge: bool) -> Live | None:
    return _host(record, policy, merge=False)


def nothing_is_refused(record: Record, policy: str, **wish: Any) -> None:
    pass


def refusal_leaves_out(name: str, default: Any) -> Any:
    def refusal(record: Record, policy: str, **wish: Any) -> Refused:
        return _refusal(record, policy, **{**wish, name: default})

    refusal.__name__ = f"refusal_leaves_out_{name}"
    return refusal


def judged_as(policy: str, other: str) -> Any:
    def refusal(record: Record, asked: str, **wish: Any) -> Refused:
        return _refusal(record, other if asked == policy else asked, **wish)

    refusal.__name__ = f"{policy}_is_judged_as_{other}"
    return refusal


def reject_is_taken_in_while_all_that_is_live_cleans_up(
    record: Record, policy: str, **wish: Any
) -> Refused:
    free = policy == "reject" and not record.counted
    return _refusal(record, "interrupt" if free else policy, **wish)


def more_may_be_pending(more: int) -> Any:
    def refusal(record: Record, policy: str, *, max_pending: int, **wish: Any) -> Refused:
        return _refusal(record, policy, max_pending=max_pending + more, **wish)

    refusal.__name__ = f"{more:+}_may_be_pending"
    return refusal


def the_newest_is_at_work(record: Record) -> Live | None:
    return record.live[-1] if record.live else None


def the_oldest_is_at_work(record: Record) -> Live | None:
    return record.live[0] if record.live else None


def what_was_cancelled_goes_on(record: Record) -> tuple[Live, ...]:
    return record.live


def the_cancelled_are_pending(record: Record) -> int:
    return len(record.live) + len(record.untaken)


def the_steered_are_not_pending(record: Record) -> int:
    return sum(x.cancelled is None for x in record.live)


def the_taken_are_pending(record: Record) -> int:
    return sum(x.cancelled is None for x in record.live) + len(record.steered)


def what_is_steered_at_the_cancelled_waits(record: Record) -> tuple[Addition, ...]:
    return tuple(x for x in record.steered if not x.taken)


def cancel_forgets_that_it_did(record: Record, turn: int | None = None, **how: Any) -> Step:
    return _cancel(record, turn, **how)._replace(record=record)


def cancel_takes_everything_every_time(record: Record, turn: int | None = None, **how: Any) -> Step:
    return _cancel(record, None, **how)


def cancel_takes_what_is_queued_behind_it(
    record: Record, turn: int | None = None, **how: Any
) -> Step:
    behind = tuple(x for x in record.live if turn is not None and x.turn < turn)
    step = _cancel(record._replace(live=record.live[len(behind) :]))
    return with_record(step, live=(*behind, *step.record.live))


def cancel_removes_what_is_queued(record: Record, turn: int | None = None, **how: Any) -> Step:
    step = _cancel(record, turn, **how)
    live = (*step.record.live[:1], *(x for x in step.record.live[1:] if x.cancelled is None))
    return with_record(step, live=live)


def cancel_discards(record: Record, turn: int | None = None, **how: Any) -> Step:
    step = _cancel(record, turn, **how)
    return step._replace(discard=tuple(x.turn for x in step.cancel))


def rewind_spares_the_first(record: Record, first: int) -> Step:
    return _rewind(record, first + 1)


def rewind_does_not_cancel_the_first(record: Record, first: int) -> Step:
    return _rewind(record, first + 1)._replace(discard=range(first, record.next))


def rewind_discards_what_is_live_alone(record: Record, first: int) -> Step:
    live = tuple(x.turn for x in record.live if x.turn >= first)
    return _rewind(record, first)._replace(discard=live)


def rewind_discards_the_next_turn_too(record: Record, first: int) -> Step:
    return _rewind(record, first)._replace(discard=range(first, record.next + 1))


def rewind_cancels_all(record: Record, first: int) -> Step:
    return _cancel(record)._replace(discard=range(first, record.next))


def rewind_does_not_cancel(record: Record, first: int) -> Step:
    return Step(record, discard=range(first, record.next))


def rewind_cancels_again(record: Record, first: int) -> Step:
    live = tuple(x for x in record.live if x.turn >= first)
    return _rewind(record, first)._replace(cancel=live)


def regenerate_forgets_to_discard(record: Record, first: int, *how: Any, **more: Any) -> Step:
    return _regenerate(record, first, *how, **more)._replace(discard=())


def regenerate_discards_the_one_turn(record: Record, first: int, *how: Any, **more: Any) -> Step:
    return _regenerate(record, first, *how, **more)._replace(discard=(first,))


def regenerate_discards_the_new_turn(record: Record, first: int, *how: Any, **more: Any) -> Step:
    step = _regenerate(record, first, *how, **more)
    return step._replace(discard=range(first, record.next + 1))


def regenerate_spares_what_is_at_work_before(
    record: Record, first: int, *how: Any, **more: Any
) -> Step:
    before = record.before(first)
    rest = record._replace(live=record.live[len(before) :])
    step = _regenerate(rest, first, *how, **more)
    return with_record(step, live=(*before, *step.record.live))


def regenerate_uses_the_number_again(record: Record, first: int, *how: Any, **more: Any) -> Step:
    return _regenerate(record, first, *how, **more)._replace(dispatch=first)


def give_up_forgets_that_it_did(record: Record, turns: Any) -> Step:
    return _give_up(record, turns)._replace(record=record)


def give_up_does_not_tell(record: Record, turns: Any) -> Step:
    return _give_up(record, turns)._replace(give_up=())


def give_up_takes_all_that_is_cancelled(record: Record, turns: Any) -> Step:
    return _give_up(record, {x.turn for x in record.live})


def give_up_settles(record: Record, turns: Any) -> Step:
    # So the late end would find no slot.
    live = tuple(x for x in record.live if x.turn not in turns)
    return with_record(_give_up(record, turns), live=live)


def give_up_passes_on_what_was_steered(record: Record, turns: Any) -> Step:
    heir = record.next - 1
    steered = (x._replace(turn=heir if x.turn in turns else x.turn) for x in record.steered)
    return with_record(_give_up(record, turns), steered=tuple(steered))


def after_has_what_was_given_up(record: Record, turn: int) -> tuple[Live, ...]:
    return tuple(x for x in record.live if x.turn < turn)


def what_was_given_up_is_awaited(record: Record) -> tuple[Live, ...]:
    return record.live


def what_is_cancelled_is_awaited_no_more(record: Record) -> tuple[Live, ...]:
    return tuple(x for x in record.live if x.cancelled is None)


def what_was_given_up_is_at_work(record: Record) -> Live | None:
    return next((x for x in record.live if x.cancelled is None), (*record.live[-1:], None)[0])


def reset_keeps_what_was_given_up(record: Record) -> Step:
    return _rewind(record, 1)


def reset_removes_what_cleans_up(record: Record) -> Step:
    step = _reset(record)
    live = tuple(x for x in step.record.live if x.turn in {y.turn for y in step.cancel})
    return with_record(step, live=live)


def reset_keeps_what_was_steered_at_what_it_removes(record: Record) -> Step:
    return with_record(_reset(record), steered=record.steered)


def settle_does_not_take_what_was_given_up(
    record: Record, turn: int, **options: Any
) -> Step | None:
    live = record.find(turn)
    return None if live and live.given_up else _settle(record, turn, **options)


def settle_passes_on_what_was_given_up(record: Record, turn: int, **options: Any) -> Step | None:
    lives = tuple(x._replace(cancelled=None) if x.given_up else x for x in record.live)
    return _settle(record._replace(live=lives), turn, **options)


def dispatched_is_not_stored(record: Record, turn: int, task_id: str) -> Record:
    return record


def take_hands_out_what_was_taken(record: Record, turn: int, **options: Any) -> Taken:
    after, taken = _take(record, turn, **options)
    return record if taken else after, taken


def take_is_open_to_the_cancelled(record: Record, turn: int, **options: Any) -> Taken:
    live = tuple(x._replace(cancelled=None) for x in record.live)
    after, taken = _take(record._replace(live=live), turn, **options)
    return after._replace(live=record.live), taken


def take_leaves_what_those_before_did_not_take(record: Record, turn: int, **options: Any) -> Taken:
    others = tuple(x for x in record.steered if x.turn != turn)
    after, taken = _take(
        record._replace(steered=tuple(x for x in record.steered if x.turn == turn)), turn, **options
    )
    merged = tuple(sorted((*others, *after.steered)))
    return after._replace(steered=merged), taken


def take_takes_one_at_a_time(record: Record, turn: int, **options: Any) -> Taken:
    first = record.untaken[:1]
    rest = tuple(x for x in record.steered if x not in record.untaken[1:])
    after, taken = _take(record._replace(steered=rest), turn, **options)
    left = tuple(x for x in record.steered if x in record.untaken[1:])
    return after._replace(steered=(*after.steered, *left)), taken if first else ()


def quiet_does_not_close_the_window(record: Record, turn: int, *, seen: int) -> Any:
    return record, _quiet(record, turn, seen=seen)[1]


def quiet_closes_the_window_with_what_came(record: Record, turn: int, *, seen: int) -> Any:
    return record.changed({turn}, open=False), _quiet(record, turn, seen=seen)[1]


def quiet_does_not_see_what_came(record: Record, turn: int, *, seen: int) -> Any:
    return record.changed({turn}, open=False), seen


def quiet_sees_what_came_for_others(record: Record, turn: int, *, seen: int) -> Any:
    newest = max((x.id for x in record.untaken), default=0)
    return (record, newest) if newest > seen else _quiet(record, turn, seen=seen)


def quiet_sees_the_same_again(record: Record, turn: int, *, seen: int) -> Any:
    return _quiet(record, turn, seen=0)


def take_does_not_know_that_a_turn_begins(
    record: Record, turn: int, *, waited: bool, begins: bool
) -> Taken:
    return _take(record, turn, waited=waited, begins=not waited)


def take_is_always_to_begin_with(record: Record, turn: int, *, waited: bool, begins: bool) -> Taken:
    return _take(record, turn, waited=waited, begins=True)


def after_has(part: slice) -> Any:
    def before(record: Record, turn: int) -> tuple[Live, ...]:
        return tuple(x for x in record.live if x.turn < turn)[part]

    before.__name__ = f"after_has_{part.start}_to_{part.stop}"
    return before


def after_misses_the_newest_that_is_queued(record: Record, turn: int) -> tuple[Live, ...]:
    after = tuple(x for x in record.live if x.turn < turn)
    return after[:-1] if len(after) > 1 else after


def after_has_no_cancelled(record: Record, turn: int) -> tuple[Live, ...]:
    return tuple(x for x in record.live if x.turn < turn and x.cancelled is None)


def the_lost_are_forgotten(record: Record) -> tuple[Live, ...]:
    return ()


def begins_and_can_still_be_changed(record: Record, turn: int) -> Taken:
    return _take(record, turn, waited=True, begins=True)


def begins_and_others_still_join(record: Record, turn: int) -> Taken:
    after, taken = _begins(record, turn)
    return after.changed({turn}, open=record.changed({turn}).find(turn) is not None), taken


def begins_without_what_was_left(record: Record, turn: int) -> Taken:
    return record.changed({turn}, open=False, queued=False), ()


def stop_cuts_at_once(record: Record, turn: int | None = None, **how: Any) -> Step:
    return _cancel(record, turn)


def stop_lets_begin_what_waits(record: Record, turn: int | None = None, **how: Any) -> Step:
    begun = record.changed({x.turn for x in record.live}, queued=False, open=False)
    step = _cancel(begun, turn, **how)
    live = (
        x._replace(open=y.open, queued=y.queued)
        for x, y in zip(step.record.live, record.live, strict=True)
    )
    return with_record(step, live=tuple(live))


def stop_tells_again(record: Record, turn: int | None = None, **how: Any) -> Step:
    step = _cancel(record, turn, **how)
    again = tuple(x for x in record.live if x.after_step and turn in (None, x.turn))
    return step._replace(stop=(*step.stop, *again)) if how.get("after_step") else step


def stop_cuts_what_stops(record: Record, turn: int | None = None, **how: Any) -> Step:
    step = _cancel(record, turn, **how)
    again = _cancel(record, turn)
    stops = any(x.after_step for x in again.cancel)
    return again if how.get("after_step") and stops else step


def cancel_leaves_what_stops(record: Record, chosen: Any, why: str) -> Step:
    fresh = tuple(x for x in chosen if x.goes_on)
    return Step(record.changed({x.turn for x in fresh}, cancelled=why), cancel=fresh)


def cancel_has_it_stop_still(record: Record, chosen: Any, why: str) -> Step:
    fresh = tuple(x for x in chosen if not x.is_cut)
    return Step(record.changed({x.turn for x in fresh}, cancelled=why), cancel=fresh)


def what_stops_is_cut(live: Live) -> bool:
    return live.cancelled is not None


def what_stops_goes_on(live: Live) -> bool:
    return live.cancelled is None or live.after_step


def what_stops_is_at_work_no_more(record: Record) -> Live | None:
    lives = record.awaited
    return next((x for x in lives if x.goes_on), lives[-1] if lives else None)


def interrupt_joins_and_spares_what_stops(
    record: Record, policy: str, *, merge: bool
) -> Live | None:
    rest = tuple(x for x in record.live if not x.after_step)
    return _host(record._replace(live=rest), policy, merge=merge)


def begin_does_not_ask_behind_what_stops(step: Step, messages: Any, *, opens: bool = False) -> Step:
    begun = _begin(step, messages, opens=opens)
    asks = any(x.goes_on for x in step.record.awaited)
    return begun._replace(record=begun.record.changed({step.record.next}, queued=asks))


def begin_never_asks(step: Step, messages: Any, *, opens: bool = False) -> Step:
    begun = _begin(step, messages, opens=opens)
    return begun._replace(record=begun.record.changed({step.record.next}, queued=False))


def begin_forgets_the_messages(step: Step, messages: Any, *, opens: bool = False) -> Step:
    return _begin(step, (), opens=opens)


def messages_are_not_counted(record: Record) -> tuple[Record, int]:
    return record, record.messages + 1


def add_tells_a_turn_that_waits(
    record: Record, host: Live, addition: Addition, *, now: bool = False
) -> Step:
    step = _add_to(record, host, addition, now=now)
    return step._replace(tell_now=step.record.find(host.turn)) if now else step


def add_does_not_tell(record: Record, host: Live, addition: Addition, *, now: bool = False) -> Step:
    return _add_to(record, host, addition)


def add_always_tells(record: Record, host: Live, addition: Addition, *, now: bool = False) -> Step:
    return _add_to(record, host, addition, now=True)


def add_tells_of_the_first_every_time(
    record: Record, host: Live, addition: Addition, *, now: bool = False
) -> Step:
    return _add_to(record, host._replace(nows=0), addition, now=now)


def add_does_not_watch(
    record: Record, host: Live, addition: Addition, *, now: bool = False
) -> Step:
    return _add_to(record, host, addition, now=now)._replace(watch=())


def settle_keeps_approvals(record: Record, turn: int, **options: Any) -> Step | None:
    return with_record(_settle(record, turn, **options), approvals=record.approvals)


def settle_passes_on_that_it_is_to_be_read_at_once(
    record: Record, turn: int, **options: Any
) -> Step | None:
    settled = _settle(record, turn, **options)
    nows = {x.number: x.now for x in record.steered}
    steered = settled and tuple(x._replace(now=nows[x.number]) for x in settled.record.steered)
    return with_record(settled, steered=steered)


def reset_keeps_approvals(record: Record) -> Step:
    return with_record(_reset(record), approvals=record.approvals)


def edit_forgets_to_discard(record: Record, first: int, *, merge: bool) -> Step:
    return _edit(record, first, merge=merge)._replace(discard=())


def edit_is_a_message(record: Record, first: int, *, merge: bool) -> Step:
    return _message(record, "interrupt")


def edit_is_a_queued_message(record: Record, first: int, *, merge: bool) -> Step:
    discard = _edit(record, first, merge=merge).discard
    return _message(record, "queue")._replace(discard=discard)


def edit_has_no_id(record: Record, first: int, *, merge: bool) -> Step:
    return _regenerate(record, first, merge=merge)


def resume_begins_the_turn_again(record: Record) -> Step:
    return _resume(record._replace(next=record.next - 1))


def pending_has_what_was_taken(record: Record) -> Any:
    real = {x.number: x for x in record.steered}
    untaken = tuple(x._replace(taken=False) for x in record.steered)
    found = _pending(record._replace(steered=untaken))
    return [x._replace(addition=x.addition and real[x.addition.number]) for x in found]


def pending_has_what_was_cancelled(record: Record) -> Any:
    return _pending(record.changed({x.turn for x in record.live}, cancelled=None))


def pending_has_what_has_begun(record: Record) -> Any:
    return _pending(record.changed({x.turn for x in record.live}, queued=True))


def pending_has_no_turns_that_wait(record: Record) -> Any:
    return [x for x in _pending(record) if x.addition is not None]


def pending_has_no_steered(record: Record) -> Any:
    return [x for x in _pending(record) if x.addition is None]


def pending_is_in_the_order_of_acceptance(record: Record) -> Any:
    return sorted(_pending(record))


def pending_has_what_was_left_last(record: Record) -> Any:
    return sorted(_pending(record), key=lambda x: (x.turn, x.addition is not None))


def what_was_read_is_unknown(record: Record, message: int) -> Any:
    found = _find(record, message)
    return found._replace(status=404) if isinstance(found, RefusedChange) else found


def what_is_unknown_was_read(record: Record, message: int) -> Any:
    return _find(record._replace(messages=record.messages + 1), message)


def withdraw_lets_the_turn_begin(record: Record, message: Any, *why: str, **more: Any) -> Step:
    return _withdraw(record, message, *why, **more)._replace(cancel=(), discard=())


def withdraw_says_so_and_does_not_cancel(
    record: Record, message: Any, *why: str, **more: Any
) -> Step:
    return _withdraw(record, message, *why, **more)._replace(cancel=())


def withdraw_does_not_discard(record: Record, message: Any, *why: str, **more: Any) -> Step:
    return _withdraw(record, message, *why, **more)._replace(discard=())


def withdraw_cancels_the_turn_with_others(
    record: Record, message: Any, *why: str, **more: Any
) -> Step:
    live = record.find(message.turn)
    step = _withdraw(record, message, *why, **more)
    return rules.cancel(step.record, [live], "withdrawn") if live is not None else step


def withdraw_forgets_to(record: Record, message: Any, *why: str, **more: Any) -> Step:
    step = _withdraw(record, message, *why, **more)
    return with_record(step, steered=record.steered) if message.addition else step


def withdraw_takes_all_of_its_turn(record: Record, message: Any, *why: str, **more: Any) -> Step:
    step = _withdraw(record, message, *why, **more)
    return with_record(
        step, steered=tuple(x for x in step.record.steered if x.turn != message.turn)
    )


def withdraw_removes_the_turn(record: Record, message: Any, *why: str, **more: Any) -> Step:
    step = _withdraw(record, message, *why, **more)
    gone = {x.turn for x in step.cancel}
    return with_record(step, live=tuple(x for x in step.record.live if x.turn not in gone))


def steer_it_at_the_newest(record: Record, message: Any, *, now: bool) -> Step:
    step = _steer(record, message, now=now)
    newest = step.record.going_on[-1]
    if step.steer is None:
        return step
    steered = step.steer._replace(turn=newest.turn)
    after = (*step.record.steered[:-1], steered)
    return with_record(step._replace(steer=steered, watch=(newest.turn,)), steered=after)


def steer_it_and_keep_it(record: Record, message: Any, *, now: bool) -> Step:
    step = _steer(record, message, now=now)
    return step._replace(record=step.record.changed({message.turn}, own=(message.id,)))


def steer_it_and_let_its_turn_begin(record: Record, message: Any, *, now: bool) -> Step:
    return _steer(record, message, now=now)._replace(cancel=())


def steer_it_unwatched(record: Record, message: Any, *, now: bool) -> Step:
    return _steer(record, message, now=now)._replace(watch=())


def steer_it_always_now(record: Record, message: Any, *, now: bool) -> Step:
    return _steer(record, message, now=True)


def steer_it_never_now(record: Record, message: Any, *, now: bool) -> Step:
    return _steer(record, message, now=False)


def steer_it_now_once(record: Record, message: Any, *, now: bool) -> Step:
    host = record.going_on[0]
    return _steer(record, message, now=now and not host.nows)


def run_next_swaps(record: Record, message: Any, **how: Any) -> Any:
    step, moves = _run_next(record, message, **how)
    if len(moves) < 3 or step.dispatch is not None:
        return step, moves
    pair = (moves[0], pending.Move(int(str(moves[0].source)), moves[0].to))
    after = pending._moved(record.changed({x.turn for x in step.cancel}, cancelled="x"), pair)
    return step._replace(record=after), pair


def run_next_does_not_cancel(record: Record, message: Any, **how: Any) -> Any:
    step, moves = _run_next(record, message, **how)
    cancelled = {x.turn: x.cancelled for x in record.live}
    live = (x._replace(cancelled=cancelled.get(x.turn)) for x in step.record.live)
    return with_record(step._replace(cancel=()), live=tuple(live)), moves


def run_next_cancels_the_line(record: Record, message: Any, **how: Any) -> Any:
    step, moves = _run_next(record, message, **how)
    rest = rules.cancel(step.record, step.record.going_on[1:], "interrupted")
    return step._replace(record=rest.record, cancel=(*step.cancel, *rest.cancel)), moves


def run_next_puts_it_last(record: Record, message: Any, **how: Any) -> Any:
    waits = [x for x in pending.pending(record) if x.kind == "queued"]
    return _run_next(record, waits[-1] if waits and message.kind == "queued" else message, **how)


def run_next_leaves_what_joined(record: Record, moves: Any) -> Record:
    return _moved(record, moves)._replace(steered=record.steered)


def run_next_leaves_what_stands_where(addition: Addition, turn: int) -> int:
    return addition.at


def run_next_does_not_watch(record: Record, message: Any, **how: Any) -> Any:
    step, moves = _run_next(record, message, **how)
    return step._replace(watch=()), moves


def run_next_gives_messages_to_what_is_over(record: Record, message: Any, **how: Any) -> Any:
    return _run_next(record, message)


def run_next_lets_what_stops_end(record: Record, message: Any, **how: Any) -> Any:
    step, moves = _run_next(record, message, **how)
    stops = {x.turn: x for x in record.live if x.after_step}
    live = tuple(stops.get(x.turn, x) for x in step.record.live)
    cancel = tuple(x for x in step.cancel if x.turn not in stops)
    return with_record(step._replace(cancel=cancel), live=live), moves


def run_next_has_a_steered_message_twice(record: Record, message: Any, **how: Any) -> Any:
    step, moves = _run_next(record, message, **how)
    return with_record(step, steered=record.steered), moves


def run_next_begins_a_turn_of_nothing(record: Record, message: Any, **how: Any) -> Any:
    step, moves = _run_next(record, message, **how)
    if step.dispatch is None:
        return step, moves
    return step._replace(record=step.record.changed({step.dispatch}, own=())), moves


def asks_though_it_is_cancelled(record: Record, turn: int, number: int) -> Any:
    after, asks = _ask(record.changed({turn}, cancelled=None), turn, number)
    return after._replace(live=record.live), asks


def asks_with_an_id_that_is_free(record: Record, turn: int, number: int) -> Any:
    return _ask(record._replace(asked=len(record.approvals)), turn, number)


def asks_and_forgets(record: Record, turn: int, number: int) -> Any:
    after, asks = _ask(record, turn, number)
    return after._replace(approvals=record.approvals), asks


def a_cancelled_turn_is_answered(record: Record, approval: int) -> Any:
    return _approval(record.changed({x.turn for x in record.live}, cancelled=None), approval)


def what_is_over_is_unknown(record: Record, approval: int) -> Any:
    found = _approval(record, approval)
    return found if isinstance(found, Asked) else found._replace(status=404)


def any_approval_is_answered(record: Record, approval: int) -> Any:
    return record.approvals[0] if record.approvals else _approval(record, approval)


def close_forgets_to(record: Record, approval: Asked) -> Record:
    return record


def close_closes_all_of_the_turn(record: Record, approval: Asked) -> Record:
    return record._replace(approvals=tuple(x for x in record.approvals if x.turn != approval.turn))


def dump_leaves_out(name: str, place: int) -> Any:
    dump = stored_record.dump_record

    def dump_without(record: Record) -> dict[str, Any]:
        stored = dump(record)
        return {**stored, name: [x[:place] for x in stored[name]]}

    dump_without.__name__ = f"dump_leaves_out_of_{name}_what_follows_{place}"
    return dump_without


PLAIN = Budget(acts=3, can=("interrupt", "queue", "reject", "cancel"), message_kills=1, repeats=1)
STEERING = Budget(acts=4, can=("queue", "steer", "cancel"), max_pending=3)
KILLING = Budget(acts=3, can=("queue", "steer"), max_pending=3, task_kills=1)
LINE = Budget(acts=4, can=LINED_UP, max_pending=3)
BURST = Budget(acts=3, can=("interrupt", "queue", "rollback", "steer"), max_pending=3, merge=True)
FULL = Budget(acts=2, merge=True, max_pending=1)
KILLED_BURST = Budget(acts=3, can=("queue", "steer"), max_pending=3, task_kills=1, merge=True)
BACK = Budget(acts=3, can=("interrupt", "queue", "rollback", "rewind", "regenerate"))
OVERDUE = Budget(acts=3, can=("interrupt", "queue", "reject", "reset"), timeouts=1)
GIVING_UP = Budget(acts=4, can=("interrupt", "steer", "reset"), timeouts=1)
KEEPING = Budget(acts=3, can=("interrupt", "rollback", "queue"), keep_queued=True)

CHANGING = Budget(acts=4, can=("queue", "steer", "withdraw", "steer it now"), max_pending=3)
JOINING = Budget(acts=4, can=("queue", "withdraw"), max_pending=4, merge=True)
FIRST = Budget(acts=4, can=("queue", "steer", "run next"), max_pending=3)
LONGER = Budget(acts=5, can=("queue", "run next"), max_pending=4)
JOINED_FIRST = Budget(acts=5, can=("queue", "run next"), max_pending=4, merge=True)
FIRST_STEERED = Budget(acts=4, can=("queue", "steer it"))
KILLED_FIRST = Budget(acts=4, can=("queue", "run next"), max_pending=3, task_kills=1)
STOPPED_FIRST = Budget(acts=4, can=("queue", "stop", "run next"))
TOLD_NOW = Budget(acts=4, can=("queue", "steer now", "steer it now"), max_pending=3)
STOPPING = Budget(acts=3, can=("interrupt", "queue", "reject", "stop", "cancel"))
STOPPED_LINE = Budget(acts=4, can=("queue", "stop"))
STOPPED_BURST = Budget(acts=4, can=("interrupt", "queue", "stop"), merge=True)
EDITING = Budget(acts=3, can=("queue", "cancel", "edit", "resume"))
ASKING = Budget(acts=3, can=("interrupt", "cancel", "answer"), asks=1)
ASKING_TWICE = Budget(acts=2, can=("interrupt", "answer"), asks=2)
ASKED_AND_STUCK = Budget(acts=3, can=("interrupt", "answer", "reset"), asks=1, timeouts=1)

AT_REST = "at_rest_nothing_is_live_and_all_that_was_wanted_was_answered"
ONCE = "messages_are_in_the_history_once_and_in_order"
SIDE_BY_SIDE = "one_task_is_at_work"
SUPERSEDED = "what_was_superseded_before_it_began_does_not_begin"
REASONS = "what_the_record_says_was_cancelled_was_cancelled"
STORED = "the_record_can_be_stored"
WAITS = "what_is_steered_waits_at_a_live_turn"
TAKEN_BACK = "what_is_discarded_was_taken_back"
GIVEN_UP = "what_was_given_up_was_waited_out_and_nothing_else"
WAITS_AGAIN = "nobody_waits_for_what_was_given_up"
GONE = "what_is_discarded_does_not_go_on"
WITHDRAWN = "what_is_withdrawn_was_read_by_no_task"
BEGUN = "what_a_task_was_given_to_begin_with_stays"
LISTED = "what_is_pending_is_what_no_task_has"
MESSAGES = "the_record_knows_the_messages"
WATCHED = "what_is_steered_is_watched"
APPROVALS = "an_approval_waits_for_a_live_turn"
MISTAKES: list[tuple[Budget, str, Any, str | Fault]] = [
    (PLAIN, "settle_step", settle_clears_everything, Fault.SETTLED_OTHER),
    (PLAIN, "settle_step", settle_clears_everything, SIDE_BY_SIDE),
    (PLAIN, "settle_step", settle_clears_whatever_is_live, SIDE_BY_SIDE),
    (PLAIN, "settle_step", settle_clears_what_came_before, Fault.SETTLED_OTHER),
    (PLAIN, "settle_step", settle_forgets_to, "a_turns_outcome_is_its_tasks"),
    (PLAIN, "settle_step", settle_does_not_take_the_cancelled, AT_REST),
    (PLAIN, "settle_step", settle_takes_a_turn_every_time, Fault.SETTLED_AGAIN),
    (STEERING, "settle_step", settle_loses_what_was_not_taken, WAITS),
    (STEERING, "settle_step", settle_keeps_what_was_not_taken, Fault.NOT_PASSED_ON),
    (STEERING, "settle_step", settle_passes_on_what_was_taken, ONCE),
    (STEERING, "settle_step", settle_passes_on_what_was_cancelled, Fault.PASSED_ON),
    (STEERING, "settle_step", settle_passes_on_to_the_newest, Fault.PASSED_ASTRAY),
    (STEERING, "settle_step", settle_passes_on_to_the_newest, AT_REST),
    (STEERING, "settle_step", settle_passes_on_to_nobody, WAITS),
    (STEERING, "settle_step", settle_begins_a_turn_with_nothing, WAITS),
    (STEERING, "settle_step", settle_does_not_name_the_heir, Fault.PASSED_ASTRAY),
    # Killed, the heir does not report, and nobody watches it.
    (KILLING, "settle_step", settle_does_not_name_the_heir, AT_REST),
    (BURST, "settle_step", settle_begins_a_turn_that_is_not_open, Fault.NOT_JOINED),
    (BURST, "settle_step", settle_forgets_what_joins_an_open_heir, Fault.SETTLED_OTHER),
    (PLAIN, "message_step", message_does_not_cancel, SUPERSEDED),
    (PLAIN, "message_step", message_cancels_the_oldest_alone, SUPERSEDED),
    (PLAIN, "message_step", message_does_not_cancel, Fault.SPARED),
    (PLAIN, "message_step", message_always_cancels, Fault.CANCELLED_FOR_QUEUE),
    (PLAIN, "message_step", message_cancels_unless_it_rejects, Fault.CANCELLED_FOR_QUEUE),
    (PLAIN, "message_step", message_cancels_the_oldest_alone, Fault.SPARED),
    (PLAIN, "message_step", message_cancels_the_queued_alone, Fault.SPARED),
    (PLAIN, "message_step", message_cancels_silently, REASONS),
    (PLAIN, "message_step", message_cancels_again, Fault.CANCELLED_AGAIN),
    (PLAIN, "message_step", message_uses_a_number_again, Fault.NUMBER_USED_AGAIN),
    (PLAIN, "message_step", message_uses_a_number_again, ONCE),
    (PLAIN, "message_step", message_puts_the_new_turn_in_the_place_of_the_old, SIDE_BY_SIDE),
    (PLAIN, "message_step", message_puts_the_new_turn_in_the_place_of_the_old, Fault.OUT_OF_ORDER),
    (
        PLAIN,
        "message_step",
        message_puts_the_new_turn_before_the_queued,
        "what_is_live_stands_in_the_order_of_the_turns",
    ),
    (BACK, "message_step", message_does_not_know_what_is_over, Fault.DISCARDED_OTHER),
    (BURST, "message_step", message_does_not_know_what_is_over, Fault.JOINED),
    (KEEPING, "message_step", message_does_not_know_what_is_over, Fault.SPARED),
    (BACK, "message_step", rollback_does_not_discard, Fault.DISCARDED_OTHER),
    (BACK, "message_step", rollback_does_not_discard, TAKEN_BACK),
    (BACK, "message_step", rollback_does_not_cancel, Fault.SPARED),
    (BACK, "message_step", rollback_does_not_cancel, GONE),
    (BACK, "message_step", rollback_discards_what_was_cancelled_before, Fault.DISCARDED_OTHER),
    (BACK, "message_step", interrupt_discards, Fault.DISCARDED_OTHER),
    (KEEPING, "message_step", keep_queued_is_ignored, Fault.CANCELLED_OTHER),
    (KEEPING, "message_step", keep_queued_spares_all, Fault.SPARED),
    (STEERING, "message_step", a_number_is_free_once_its_message_is_taken, Fault.NUMBER_USED_AGAIN),
    (STEERING, "message_step", steered_stands_where_its_turn_does, Fault.INPUT_OUT_OF_ORDER),
    (BURST, "message_step", a_message_that_joins_closes_the_window, Fault.DISTURBED),
    (STEERING, "_host", steered_at_the_newest, Fault.JOINED),
    (STEERING, "_host", steered_at_the_cancelled, Fault.JOINED),
    (STEERING, "_host", steered_becomes_a_turn, Fault.NOT_JOINED),
    (BURST, "_host", queued_joins_a_turn_that_is_closed, Fault.JOINED),
    (BURST, "_host", interrupt_joins_a_turn_and_spares_those_before, Fault.JOINED),
    (BURST, "_host", rollback_joins, Fault.JOINED),
    (BURST, "_host", nothing_joins, Fault.NOT_JOINED),
    (PLAIN, "refusal", nothing_is_refused, Fault.TAKEN_IN),
    (PLAIN, "refusal", refusal_leaves_out("if_turn", None), Fault.TAKEN_IN),
    (PLAIN, "refusal", refusal_leaves_out("if_idle", False), Fault.TAKEN_IN),
    (PLAIN, "refusal", refusal_leaves_out("max_pending", 32), Fault.TAKEN_IN),
    (FULL, "refusal", refusal_leaves_out("merge", False), Fault.TAKEN_IN),
    (PLAIN, "refusal", judged_as("reject", "interrupt"), Fault.TAKEN_IN),
    (PLAIN, "refusal", judged_as("queue", "reject"), Fault.TURNED_AWAY),
    (PLAIN, "refusal", judged_as("interrupt", "queue"), Fault.TURNED_AWAY),
    (STEERING, "refusal", judged_as("steer", "interrupt"), Fault.TAKEN_IN),
    (PLAIN, "refusal", reject_is_taken_in_while_all_that_is_live_cleans_up, Fault.TAKEN_IN),
    (PLAIN, "refusal", more_may_be_pending(1), Fault.TAKEN_IN),
    (PLAIN, "refusal", more_may_be_pending(-1), Fault.TURNED_AWAY),
    (PLAIN, "Record.at_work", the_newest_is_at_work, Fault.TAKEN_IN),
    (PLAIN, "Record.at_work", the_newest_is_at_work, Fault.TURNED_AWAY),
    (PLAIN, "Record.at_work", the_oldest_is_at_work, Fault.TAKEN_IN),
    (PLAIN, "Record.at_work", the_oldest_is_at_work, Fault.TURNED_AWAY),
    (KEEPING, "Record.at_work", the_newest_is_at_work, Fault.CANCELLED_OTHER),
    (LINE, "Record.going_on", what_was_cancelled_goes_on, Fault.PASSED_ASTRAY),
    (KILLED_BURST, "settle_step", settle_passes_on_to_the_oldest, Fault.PASSED_ASTRAY),
    (PLAIN, "Record.counted", the_cancelled_are_pending, Fault.TURNED_AWAY),
    (STEERING, "Record.counted", the_steered_are_not_pending, Fault.TAKEN_IN),
    (STEERING, "Record.counted", the_taken_are_pending, Fault.TURNED_AWAY),
    (STEERING, "Record.untaken", what_is_steered_at_the_cancelled_waits, Fault.TAKEN_OTHER),
    (PLAIN, "cancel_step", cancel_takes_what_is_queued_behind_it, Fault.CANCELLED_OTHER),
    (PLAIN, "cancel_step", cancel_removes_what_is_queued, "a_turns_outcome_is_its_tasks"),
    (PLAIN, "cancel_step", cancel_forgets_that_it_did, REASONS),
    (PLAIN, "cancel_step", cancel_takes_everything_every_time, Fault.CANCELLED_OTHER),
    (PLAIN, "cancel_step", cancel_discards, Fault.DISCARDED_OTHER),
    (BACK, "rewind_step", rewind_spares_the_first, Fault.DISCARDED_OTHER),
    (BACK, "rewind_step", rewind_does_not_cancel_the_first, Fault.SPARED),
    (BACK, "rewind_step", rewind_discards_what_is_live_alone, TAKEN_BACK),
    (BACK, "rewind_step", rewind_discards_the_next_turn_too, GONE),
    (BACK, "rewind_step", rewind_cancels_all, Fault.CANCELLED_OTHER),
    (BACK, "rewind_step", rewind_does_not_cancel, GONE),
    (BACK, "rewind_step", rewind_cancels_again, Fault.CANCELLED_AGAIN),
    (BACK, "regenerate_step", regenerate_forgets_to_discard, "the_conversation_has_a_message_once"),
    (BACK, "regenerate_step", regenerate_discards_the_one_turn, Fault.DISCARDED_OTHER),
    (BACK, "regenerate_step", regenerate_discards_the_new_turn, GONE),
    (BACK, "regenerate_step", regenerate_spares_what_is_at_work_before, Fault.SPARED),
    (BACK, "regenerate_step", regenerate_uses_the_number_again, Fault.NUMBER_USED_AGAIN),
    (PLAIN, "note_task_id", dispatched_is_not_stored, Fault.CANCELLED_NOTHING),
    (STEERING, "hand_out", take_hands_out_what_was_taken, Fault.TAKEN_AGAIN),
    (STEERING, "hand_out", take_is_open_to_the_cancelled, Fault.TAKEN_OTHER),
    (STEERING, "hand_out", take_leaves_what_those_before_did_not_take, Fault.TAKEN_OTHER),
    (STEERING, "hand_out", take_takes_one_at_a_time, Fault.TAKEN_OTHER),
    (STEERING, "hand_out", take_does_not_know_that_a_turn_begins, Fault.INPUT_OTHER),
    (STEERING, "hand_out", take_is_always_to_begin_with, Fault.INPUT_OTHER),
    (BURST, "quiet_step", quiet_does_not_close_the_window, "what_is_open_is_in_its_quiet_window"),
    (BURST, "quiet_step", quiet_does_not_close_the_window, Fault.JOINED),
    (BURST, "quiet_step", quiet_closes_the_window_with_what_came, Fault.QUIET_OTHER),
    (BURST, "quiet_step", quiet_does_not_see_what_came, Fault.QUIET_OTHER),
    (BURST, "quiet_step", quiet_sees_what_came_for_others, Fault.QUIET_OTHER),
    (BURST, "quiet_step", quiet_sees_the_same_again, "what_is_open_is_in_its_quiet_window"),
    (PLAIN, "Record.before", after_has(slice(-1, None)), SIDE_BY_SIDE),
    # What is queued in between is missed.
    (PLAIN, "Record.before", after_has(slice(0, 1)), SIDE_BY_SIDE),
    (PLAIN, "Record.before", after_has(slice(0, 1)), Fault.OUT_OF_ORDER),
    (PLAIN, "Record.before", after_misses_the_newest_that_is_queued, SIDE_BY_SIDE),
    (PLAIN, "Record.before", after_misses_the_newest_that_is_queued, Fault.OUT_OF_ORDER),
    (PLAIN, "Record.before", after_has_no_cancelled, SIDE_BY_SIDE),
    (OVERDUE, "Record.before", after_has_what_was_given_up, WAITS_AGAIN),
    (OVERDUE, "Record.awaited", what_was_given_up_is_awaited, WAITS_AGAIN),
    (OVERDUE, "Record.awaited", what_was_given_up_is_awaited, Fault.TURNED_AWAY),
    (OVERDUE, "Record.awaited", what_is_cancelled_is_awaited_no_more, SIDE_BY_SIDE),
    (OVERDUE, "Record.at_work", what_was_given_up_is_at_work, Fault.TURNED_AWAY),
    (OVERDUE, "give_up_step", give_up_forgets_that_it_did, GIVEN_UP),
    (OVERDUE, "give_up_step", give_up_does_not_tell, WAITS_AGAIN),
    (OVERDUE, "give_up_step", give_up_takes_all_that_is_cancelled, Fault.GIVEN_UP_ONLY),
    (OVERDUE, "give_up_step", give_up_settles, "a_turns_outcome_is_its_tasks"),
    (GIVING_UP, "give_up_step", give_up_passes_on_what_was_steered, Fault.GIVEN_UP_ONLY),
    (OVERDUE, "settle_step", settle_does_not_take_what_was_given_up, AT_REST),
    (GIVING_UP, "settle_step", settle_passes_on_what_was_given_up, Fault.PASSED_ON),
    (OVERDUE, "reset_step", reset_keeps_what_was_given_up, Fault.RESET_KEPT),
    (OVERDUE, "reset_step", reset_removes_what_cleans_up, Fault.RESET_KEPT),
    (GIVING_UP, "reset_step", reset_keeps_what_was_steered_at_what_it_removes, WAITS),
    (PLAIN, "Record.lost", the_lost_are_forgotten, AT_REST),
    (PLAIN, "dump_record", dump_leaves_out("live", 2), STORED),
    (BURST, "dump_record", dump_leaves_out("live", 3), STORED),
    (OVERDUE, "dump_record", dump_leaves_out("live", 4), STORED),
    (STEERING, "dump_record", dump_leaves_out("steered", 4), STORED),
    (PLAIN, "dump_record", dump_leaves_out("live", 5), STORED),
    (PLAIN, "dump_record", dump_leaves_out("live", 6), STORED),
    (STOPPING, "dump_record", dump_leaves_out("live", 7), STORED),
    (TOLD_NOW, "dump_record", dump_leaves_out("live", 8), STORED),
    (STEERING, "dump_record", dump_leaves_out("steered", 5), STORED),
    (TOLD_NOW, "dump_record", dump_leaves_out("steered", 6), STORED),
    (PLAIN, "count_message", messages_are_not_counted, Fault.NUMBER_USED_AGAIN),
    (PLAIN, "new_turn", begin_forgets_the_messages, MESSAGES),
    (PLAIN, "new_turn", begin_never_asks, Fault.QUEUED_OTHER),
    (STOPPING, "new_turn", begin_does_not_ask_behind_what_stops, Fault.QUEUED_OTHER),
    (STEERING, "begin_step", begins_and_can_still_be_changed, LISTED),
    (CHANGING, "begin_step", begins_and_can_still_be_changed, Fault.CHANGED),
    (CHANGING, "begin_step", begins_and_can_still_be_changed, BEGUN),
    (CHANGING, "begin_step", begins_and_can_still_be_changed, WITHDRAWN),
    (BURST, "begin_step", begins_and_others_still_join, "what_is_open_is_in_its_quiet_window"),
    (STEERING, "begin_step", begins_without_what_was_left, Fault.TAKEN_OTHER),
    (STOPPING, "cancel_step", stop_cuts_at_once, Fault.CANCELLED_OTHER),
    (STOPPING, "cancel_step", stop_lets_begin_what_waits, Fault.SPARED),
    (STOPPING, "cancel_step", stop_tells_again, Fault.CANCELLED_AGAIN),
    (STOPPING, "cancel_step", stop_cuts_what_stops, Fault.CANCELLED_OTHER),
    (STOPPING, "cancel", cancel_leaves_what_stops, Fault.SPARED),
    (STOPPING, "cancel", cancel_has_it_stop_still, REASONS),
    (STOPPING, "Live.is_cut", what_stops_is_cut, REASONS),
    (STOPPING, "Live.is_cut", what_stops_is_cut, Fault.QUEUED_OTHER),
    (STOPPING, "Live.goes_on", what_stops_goes_on, REASONS),
    (STOPPED_LINE, "Record.at_work", what_stops_is_at_work_no_more, Fault.TURNED_AWAY),
    (STOPPED_BURST, "_host", interrupt_joins_and_spares_what_stops, Fault.JOINED),
    (TOLD_NOW, "add_to", add_does_not_tell, Fault.TOLD_NOW),
    (STEERING, "add_to", add_always_tells, Fault.TOLD_NOW),
    (TOLD_NOW, "add_to", add_tells_of_the_first_every_time, Fault.TOLD_NOW),
    (TOLD_NOW, "add_to", add_tells_a_turn_that_waits, Fault.TOLD_NOW),
    (STEERING, "add_to", add_does_not_watch, Fault.NOT_WATCHED),
    (STEERING, "add_to", add_does_not_watch, WATCHED),
    (TOLD_NOW, "settle_step", settle_passes_on_that_it_is_to_be_read_at_once, MESSAGES),
    (EDITING, "edit_step", edit_forgets_to_discard, Fault.DISCARDED_OTHER),
    (EDITING, "edit_step", edit_is_a_message, Fault.DISCARDED_OTHER),
    (EDITING, "edit_step", edit_is_a_queued_message, Fault.SPARED),
    (EDITING, "edit_step", edit_is_a_queued_message, GONE),
    (EDITING, "edit_step", edit_has_no_id, Fault.NUMBER_USED_AGAIN),
    (EDITING, "resume_step", resume_begins_the_turn_again, Fault.NUMBER_USED_AGAIN),
    (CHANGING, "pending.pending", pending_has_what_was_taken, Fault.CHANGED),
    (CHANGING, "pending.pending", pending_has_what_was_taken, WITHDRAWN),
    (STEERING, "pending.pending", pending_has_what_was_cancelled, LISTED),
    (CHANGING, "pending.pending", pending_has_what_has_begun, Fault.CHANGED),
    (CHANGING, "pending.pending", pending_has_what_has_begun, BEGUN),
    (CHANGING, "pending.pending", pending_has_no_turns_that_wait, Fault.NOT_CHANGED),
    (CHANGING, "pending.pending", pending_has_no_steered, Fault.NOT_CHANGED),
    (LONGER, "pending.pending", pending_is_in_the_order_of_acceptance, LISTED),
    (STEERING, "pending.pending", pending_has_what_was_left_last, LISTED),
    (CHANGING, "pending.find_pending", what_was_read_is_unknown, Fault.NOT_CHANGED),
    (CHANGING, "pending.find_pending", what_is_unknown_was_read, Fault.NOT_CHANGED),
    (CHANGING, "pending.withdraw_step", withdraw_lets_the_turn_begin, Fault.DISCARDED_OTHER),
    (CHANGING, "pending.withdraw_step", withdraw_says_so_and_does_not_cancel, Fault.SPARED),
    (CHANGING, "pending.withdraw_step", withdraw_does_not_discard, Fault.DISCARDED_OTHER),
    (
        JOINING,
        "pending.withdraw_step",
        withdraw_cancels_the_turn_with_others,
        Fault.CANCELLED_OTHER,
    ),
    (CHANGING, "pending.withdraw_step", withdraw_forgets_to, WAITS),
    (JOINING, "pending.withdraw_step", withdraw_takes_all_of_its_turn, WAITS),
    (CHANGING, "pending.withdraw_step", withdraw_removes_the_turn, "a_turns_outcome_is_its_tasks"),
    (FIRST_STEERED, "pending.steer_step", steer_it_at_the_newest, Fault.CHANGED_OTHER),
    (CHANGING, "pending.steer_step", steer_it_and_keep_it, MESSAGES),
    (CHANGING, "pending.steer_step", steer_it_and_let_its_turn_begin, Fault.SPARED),
    (CHANGING, "pending.steer_step", steer_it_unwatched, Fault.NOT_WATCHED),
    (FIRST_STEERED, "pending.steer_step", steer_it_always_now, Fault.TOLD_NOW),
    (CHANGING, "pending.steer_step", steer_it_never_now, Fault.TOLD_NOW),
    (TOLD_NOW, "pending.steer_step", steer_it_now_once, Fault.TOLD_NOW),
    (LONGER, "pending.run_next_step", run_next_swaps, Fault.OUT_OF_TURN),
    (FIRST, "pending.run_next_step", run_next_does_not_cancel, Fault.SPARED),
    (FIRST, "pending.run_next_step", run_next_cancels_the_line, Fault.CANCELLED_OTHER),
    (FIRST, "pending.run_next_step", run_next_puts_it_last, Fault.OUT_OF_TURN),
    (JOINED_FIRST, "pending._moved", run_next_leaves_what_joined, Fault.OUT_OF_TURN),
    (JOINED_FIRST, "pending._beside", run_next_leaves_what_stands_where, Fault.INPUT_OUT_OF_ORDER),
    (JOINED_FIRST, "pending.run_next_step", run_next_does_not_watch, Fault.NOT_WATCHED),
    (KILLED_FIRST, "pending.run_next_step", run_next_gives_messages_to_what_is_over, AT_REST),
    (STOPPED_FIRST, "pending.run_next_step", run_next_lets_what_stops_end, Fault.SPARED),
    (FIRST, "pending.run_next_step", run_next_has_a_steered_message_twice, WAITS),
    (FIRST, "pending.run_next_step", run_next_begins_a_turn_of_nothing, MESSAGES),
    (ASKING, "approvals.ask_step", asks_though_it_is_cancelled, Fault.ANSWERED),
    (ASKING_TWICE, "approvals.ask_step", asks_with_an_id_that_is_free, Fault.NUMBER_USED_AGAIN),
    (ASKING, "approvals.ask_step", asks_and_forgets, APPROVALS),
    (ASKING, "approvals.find_approval", a_cancelled_turn_is_answered, Fault.ANSWERED),
    (ASKING, "approvals.find_approval", what_is_over_is_unknown, Fault.NOT_ANSWERED),
    (ASKING_TWICE, "approvals.find_approval", any_approval_is_answered, Fault.ANSWERED),
    (ASKING, "approvals.close_step", close_forgets_to, APPROVALS),
    (ASKING_TWICE, "approvals.close_step", close_closes_all_of_the_turn, APPROVALS),
    (ASKING, "settle_step", settle_keeps_approvals, APPROVALS),
    (ASKED_AND_STUCK, "reset_step", reset_keeps_approvals, APPROVALS),
]


def forget() -> None:
    """Forget what other rules have led to."""
    world.stored.cache_clear()
    world.listed_as_pending.cache_clear()


@pytest.mark.long
@pytest.mark.parametrize(
    ("budget", "rule", "mistake", "broken"),
    MISTAKES,
    ids=lambda x: (
        "" if isinstance(x, Budget) else getattr(x, "__name__", getattr(x, "name", str(x)))
    ),
)
def test_a_mistake_in_the_rules_is_found(
    monkeypatch: pytest.MonkeyPatch, budget: Budget, rule: str, mistake: Any, broken: str | Fault
) -> None:
    place: Any
    *within, name = rule.split(".")
    places = {"Record": Record, "Live": Live, "pending": pending, "approvals": approvals}
    place = places[within[0]] if within else rules if hasattr(rules, name) else stored_record
    is_property = isinstance(getattr(place, name), property)
    monkeypatch.setattr(place, name, property(mistake) if is_property else mistake)
    forget()
    what = broken.name if isinstance(broken, Fault) else broken
    walked = walk_through(budget, until=what)
    forget()
    assert story_of(walked, broken) is not None


# -- The record. -----------------------------------------------------------------------------------


def after_turns(number: int) -> Record:
    """A session in which so many turns ran and one was interrupted."""
    record = Record(epoch="0" * 8)
    for turn in range(1, number + 1):
        record = rules.note_task_id(rules.message_step(record).record, turn, f"inv-{turn:0>40}")
        if turn > 1:
            settled = rules.settle_step(record, turn - 1)
            record = settled.record if settled is not None else record
    return record


def test_the_size_of_a_record_does_not_grow_with_the_number_of_turns() -> None:
    sizes = [
        len(json.dumps(stored_record.dump_record(after_turns(number)))) for number in (1000, 9000)
    ]
    assert sizes[0] == sizes[1] < 250


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_a_record_is_stored_in_this_form_for_as_long_as_its_version_stays() -> None:
    record = Record(
        "e1",
        4,
        (Live(2, "inv-2", "interrupted by turn 3"), Live(3, open=True)),
        (Addition(1, 2, 3, taken=True), Addition(2, 3, 4, joined=True)),
        ({"turn": 1, "status": "completed", "input": [], "messages": []}, -2, 3),
        paged=True,
        first=2,
    )
    stored = {
        "v": 1,
        "epoch": "e1",
        "next": 4,
        "live": [
            [2, "inv-2", "interrupted by turn 3", False],
            [3, None, None, True],
        ],
        "steered": [[1, 2, 3, True, False], [2, 3, 4, False, True]],
        "tail": [{"turn": 1, "status": "completed", "input": [], "messages": []}, -2, 3],
        "paged": True,
        "first": 2,
    }
    assert as_json(stored_record.dump_record(record)) == stored
    assert stored_record.parse_record(json.loads(json.dumps(stored))) == record
    given_up = record._replace(live=(record.live[0]._replace(given_up=True),))
    stored_given_up = {**stored, "live": [[2, "inv-2", "interrupted by turn 3", False, True]]}
    assert as_json(stored_record.dump_record(given_up)) == stored_given_up
    assert stored_record.parse_record(json.loads(json.dumps(stored_given_up))) == given_up
    fork, stored_fork = (
        record._replace(forked_from=("old", 1)),
        {**stored, "forked_from": ["old", 1]},
    )
    assert as_json(stored_record.dump_record(fork)) == stored_fork
    assert stored_record.parse_record(json.loads(json.dumps(stored_fork))) == fork
    more = Record(
        "e1",
        4,
        (Live(2, "inv-2", queued=True, own=(1, 3)), Live(3, "inv-3", "stopped", after_step=True)),
        (Addition(1, 2, 3, id=2), Addition(2, 2, 3, id=4, now=1)),
        messages=4,
        asked=2,
        approvals=(Asked(2, 2, 1),),
    )
    stored_more = {
        "v": 1,
        "epoch": "e1",
        "next": 4,
        "live": [
            [2, "inv-2", None, False, False, True, [1, 3]],
            [3, "inv-3", "stopped", False, False, False, [], True],
        ],
        "steered": [[1, 2, 3, False, False, 2], [2, 2, 3, False, False, 4, 1]],
        "tail": [],
        "paged": False,
        "first": 1,
        "messages": 4,
        "asked": 2,
        "approvals": [[2, 2, 1]],
    }
    assert as_json(stored_record.dump_record(more)) == stored_more
    assert stored_record.parse_record(as_json(stored_more)) == more


def test_a_record_of_a_newer_version_is_refused_with_the_remedy() -> None:
    stored = {
        **stored_record.dump_record(Record("e")),
        "v": stored_record.VERSION + 1,
        "new": "field",
    }
    with pytest.raises(ValueError, match=r"version 2 .*Deploy the version .* or a newer one\."):
        stored_record.parse_record(stored)


@pytest.mark.parametrize("policy", ["queue", "reject"])
def test_a_message_that_interrupts_nothing_changes_only_what_comes_after(policy: str) -> None:
    live = (Live(1, "inv-1", "cancelled"), Live(2, "inv-2"))
    assert rules.message_step(Record("e", 3, live), policy) == Step(
        Record("e", 4, (*live, Live(3, queued=True, own=(1,))), messages=1), message=1, dispatch=3
    )


IDLE = Record("e", 4)
BUSY = Record("e", 4, (Live(1, "inv-1", "cancelled"), Live(2, "inv-2"), Live(3, "inv-3")))
ENDING = Record("e", 4, (Live(2, "inv-2", "cancelled"), Live(3, "inv-3", "cancelled")))
REFUSALS: list[tuple[Record, str, dict[str, Any], tuple[int, str]]] = [
    (
        BUSY,
        "queue",
        {"if_idle": True},
        (412, "if_idle: turn 2 is live. Wait for it, or leave out if_idle."),
    ),
    (
        ENDING,
        "interrupt",
        {"if_idle": True},
        (412, "if_idle: turn 3 is live. Wait for it, or leave out if_idle."),
    ),
    (
        BUSY,
        "interrupt",
        {"if_turn": 3},
        (412, "if_turn: turn 3 is not at work; turn 2 is live. Look at what has happened."),
    ),
    (
        IDLE,
        "queue",
        {"if_turn": 3},
        (412, "if_turn: turn 3 is not at work; no turn is live. Look at what has happened."),
    ),
    (
        BUSY,
        "reject",
        {"if_turn": 2},
        (423, "policy: turn 2 is live, and the policy is reject. Wait for it."),
    ),
    (
        ENDING,
        "reject",
        {},
        (423, "policy: turn 3 is live, and the policy is reject. Wait for it."),
    ),
    (
        BUSY,
        "queue",
        {"max_pending": 2},
        (429, "policy: 2 of 2 are pending. Wait for one."),
    ),
    # What the message may see before what the agent can take.
    (
        BUSY,
        "queue",
        {"max_pending": 1, "if_turn": 1},
        (412, "if_turn: turn 1 is not at work; turn 2 is live. Look at what has happened."),
    ),
]


@pytest.mark.parametrize(
    ("record", "policy", "wish", "refused"), REFUSALS, ids=[x[1] for *_, x in REFUSALS]
)
def test_a_message_is_refused_with_the_field_that_does_and_the_turn_that_is_live(
    record: Record, policy: str, wish: dict[str, Any], refused: tuple[int, str]
) -> None:
    assert rules.refusal(record, policy, **wish) == refused


def test_the_id_of_a_task_is_stored_at_its_own_turn() -> None:
    record = Record("e", 4, (Live(2, open=True), Live(3, "inv-3", "cancelled")))
    known = Live(2, "inv-2", open=True)
    assert rules.note_task_id(record, 2, "inv-2") == record._replace(live=(known, record.live[1]))
    assert rules.note_task_id(record, 1, "inv-1") == record


def test_a_record_knows_its_turns() -> None:
    record = Record("e", 4, (Live(2, "inv-2"), Live(3)))
    assert record.find(1) is None
    assert record.find(2) == Live(2, "inv-2")
    assert record.before(3) == (Live(2, "inv-2"),)
    assert record.lost == (Live(3),)


STUCK = Live(1, "inv-1", "cancelled")
GAVE_UP = BUSY._replace(live=(STUCK._replace(given_up=True), *BUSY.live[1:]))


def test_what_is_taken_back_again_keeps_why_it_was_the_first_time() -> None:
    lives = (Live(1, "inv-1", "rolled back: typo"), Live(2, "inv-2", "interrupted by turn 3"))
    step = rules.rewind_step(Record("e", 3, lives), 1, "again")
    assert [x.cancelled for x in step.record.live] == ["rolled back: typo", "rolled back: again"]
    assert step.cancel == ()


def test_a_reset_forgets_what_was_given_up_and_what_was_steered_at_it() -> None:
    record = GAVE_UP._replace(steered=(Addition(1, 1, 2), Addition(2, 2, 3)))
    why = "rolled back: new topic"
    live = tuple(x._replace(cancelled=why) for x in BUSY.live[1:])
    assert rules.reset_step(record, "new topic") == Step(
        record._replace(live=live, steered=record.steered[1:]),
        cancel=BUSY.live[1:],
        discard=range(1, 4),
    )
    assert rules.settle_step(rules.reset_step(record).record, 1) is None
