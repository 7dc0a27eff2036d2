"""The rules of one session, in every order of events that a small world leads to."""

import json
from functools import cache
from typing import Any

import pytest

from interruptible import _session
from interruptible._session import Live, Record, Step

from . import world
from .world import INVARIANTS, Budget, Fault, Walk

ALL = ("interrupt", "queue", "reject")
BUDGETS = {
    "many messages": Budget(messages=4, policies=ALL, max_pending=3),
    "killed tasks and lost reports": Budget(messages=3, policies=ALL, task_kills=1, losses=1),
    "cancels": Budget(messages=3, policies=ALL, max_pending=3, cancels=1),
    "killed messages": Budget(messages=3, policies=ALL, message_kills=1),
    "repeated reports": Budget(messages=3, policies=ALL, repeats=1),
    "interrupts, killed messages and repeated reports": Budget(
        messages=3, message_kills=1, repeats=1
    ),
    "overdue cleanups": Budget(messages=3, policies=ALL, max_pending=3, timeouts=1),
    "interrupts, overdue cleanups and repeated reports": Budget(messages=3, timeouts=1, repeats=1),
    "all of these, after fewer messages": Budget(
        messages=2,
        policies=ALL,
        max_pending=1,
        cancels=1,
        task_kills=1,
        message_kills=1,
        repeats=1,
        losses=1,
    ),
}


@cache
def walk(name: str) -> Walk:
    return world.walk(BUDGETS[name])


@pytest.fixture(params=BUDGETS)
def walked(request: pytest.FixtureRequest) -> Walk:
    """All worlds that one of the budgets leads to."""
    return walk(request.param)


def story_of(walked: Walk, what: str | Fault) -> str | None:
    """What leads to a broken invariant or to a fault, if anything does."""
    if isinstance(what, Fault):
        return walked.broken.get(what.name)
    assert what in INVARIANTS
    return walked.broken.get(what)


def test_accepted_messages_are_in_the_history_once_and_in_their_order(walked: Walk) -> None:
    assert story_of(walked, "messages_are_in_the_history_once_and_in_order") is None


def test_one_task_is_at_work_at_a_time(walked: Walk) -> None:
    assert story_of(walked, "one_task_is_at_work") is None


def test_a_turn_gets_one_outcome_and_it_is_its_tasks(walked: Walk) -> None:
    assert story_of(walked, "a_turns_outcome_is_its_tasks") is None
    assert story_of(walked, Fault.SETTLED_AGAIN) is None


def test_in_the_end_nothing_is_live_and_all_that_was_wanted_was_answered(walked: Walk) -> None:
    assert story_of(walked, "at_rest_nothing_is_live_and_all_that_was_wanted_was_answered") is None


def test_a_turn_that_was_superseded_before_it_began_does_not_begin(walked: Walk) -> None:
    assert story_of(walked, "what_was_superseded_before_it_began_does_not_begin") is None


def test_a_message_is_refused_when_it_says_so_or_too_many_are_pending_and_else_taken_in(
    walked: Walk,
) -> None:
    assert story_of(walked, Fault.TAKEN_IN) is None
    assert story_of(walked, Fault.TURNED_AWAY) is None


def test_a_message_that_interrupts_cancels_all_that_is_live_and_others_nothing(
    walked: Walk,
) -> None:
    assert story_of(walked, Fault.SPARED) is None
    assert story_of(walked, Fault.CANCELLED_FOR_QUEUE) is None
    assert story_of(walked, "what_nobody_cancelled_goes_on") is None


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


def test_a_cancel_cancels_what_it_names_and_nothing_else(walked: Walk) -> None:
    assert story_of(walked, Fault.CANCELLED_OTHER) is None


def test_a_live_turn_has_a_reason_if_and_only_if_it_was_cancelled(walked: Walk) -> None:
    assert story_of(walked, "what_the_record_says_was_cancelled_was_cancelled") is None


def test_a_record_comes_back_from_the_store_as_it_was(walked: Walk) -> None:
    assert story_of(walked, "the_record_can_be_stored") is None


def test_nothing_else_is_wrong(walked: Walk) -> None:
    assert walked.broken == {}


def test_all_that_can_happen_does(walked: Walk) -> None:
    del walked  # walk them all first
    happened = set[str]().union(*(walk(name).happened for name in BUDGETS))
    assert happened == {happens.__name__ for happens in world.EVENTS}
    assert sum(walk(name).worlds for name in BUDGETS) > 50_000


# -- That the walk finds what is wrong: rules with one mistake each. -------------------------------

_message, _cancel, _settle = _session.message, _session.cancel, _session.settle
_refusal = _session.refusal


def settle_clears_everything(record: Record, turn: int) -> Record | None:
    settled = _settle(record, turn)
    return settled and settled._replace(live=())


def settle_clears_whatever_is_live(record: Record, turn: int) -> Record | None:
    # The hand-written pattern: a report clears the one current task, whose ever it is.
    del turn
    return record._replace(live=()) if record.live else None


def settle_forgets_to(record: Record, turn: int) -> Record | None:
    return record if record.find(turn) else None


def settle_does_not_take_the_cancelled(record: Record, turn: int) -> Record | None:
    live = record.find(turn)
    return _settle(record, turn) if live and not live.cancelled else None


def settle_takes_a_turn_every_time(record: Record, turn: int) -> Record:
    return _settle(record, turn) or record


def settle_clears_what_came_before(record: Record, turn: int) -> Record | None:
    settled = _settle(record, turn)
    return settled and settled._replace(live=tuple(x for x in settled.live if x.turn > turn))


def message_does_not_cancel(record: Record, policy: str) -> Step:
    del policy
    return _message(record, "queue")


def message_always_cancels(record: Record, policy: str) -> Step:
    del policy
    return _message(record, "interrupt")


def message_cancels_unless_it_rejects(record: Record, policy: str) -> Step:
    return _message(record, "reject" if policy == "reject" else "interrupt")


def message_cancels_the_oldest_alone(record: Record, policy: str) -> Step:
    # What is queued behind it is spared.
    step = _message(record._replace(live=record.live[:1]), policy)
    live = (*step.record.live[:-1], *record.live[1:], step.record.live[-1])
    return step._replace(record=step.record._replace(live=live))


def message_cancels_the_queued_alone(record: Record, policy: str) -> Step:
    step = _message(record._replace(live=record.live[1:]), policy)
    live = (*record.live[:1], *step.record.live)
    return step._replace(record=step.record._replace(live=live))


def message_cancels_silently(record: Record, policy: str) -> Step:
    return _message(record, policy)._replace(cancel=())


def message_cancels_again(record: Record, policy: str) -> Step:
    step = _message(record, policy)
    return step._replace(cancel=record.live) if policy == "interrupt" else step


def message_uses_a_number_again(record: Record, policy: str) -> Step:
    free = max((live.turn for live in record.live), default=0) + 1
    return _message(record._replace(next=free), policy)


def message_puts_the_new_turn_in_the_place_of_the_old(record: Record, policy: str) -> Step:
    step = _message(record, policy)
    return step._replace(record=step.record._replace(live=(Live(record.next),)))


def message_puts_the_new_turn_before_the_queued(record: Record, policy: str) -> Step:
    step = _message(record, policy)
    *live, new = step.record.live
    return step._replace(record=step.record._replace(live=(*live[:1], new, *live[1:])))


def nothing_is_refused(record: Record, policy: str, **wish: Any) -> None:
    del record, policy, wish


def refusal_leaves_out(name: str, default: Any) -> Any:
    def refusal(record: Record, policy: str, **wish: Any) -> tuple[int, str] | None:
        return _refusal(record, policy, **{**wish, name: default})

    refusal.__name__ = f"refusal_leaves_out_{name}"
    return refusal


def reject_is_taken_in_while_a_turn_is_live(
    record: Record, policy: str, **wish: Any
) -> tuple[int, str] | None:
    return _refusal(record, "interrupt" if policy == "reject" else policy, **wish)


def reject_is_taken_in_while_all_that_is_live_cleans_up(
    record: Record, policy: str, **wish: Any
) -> tuple[int, str] | None:
    free = policy == "reject" and not record.pending
    return _refusal(record, "interrupt" if free else policy, **wish)


def queue_is_refused_while_a_turn_is_live(
    record: Record, policy: str, **wish: Any
) -> tuple[int, str] | None:
    return _refusal(record, "reject" if policy == "queue" else policy, **wish)


def one_more_may_be_pending(
    record: Record, policy: str, *, max_pending: int, **wish: Any
) -> tuple[int, str] | None:
    return _refusal(record, policy, max_pending=max_pending + 1, **wish)


def one_less_may_be_pending(
    record: Record, policy: str, *, max_pending: int, **wish: Any
) -> tuple[int, str] | None:
    return _refusal(record, policy, max_pending=max_pending - 1, **wish)


def an_interrupt_is_bounded_too(record: Record, policy: str, **wish: Any) -> tuple[int, str] | None:
    return _refusal(record, "queue" if policy == "interrupt" else policy, **wish)


def the_newest_is_at_work(record: Record) -> Live | None:
    return record.live[-1] if record.live else None


def the_oldest_is_at_work(record: Record) -> Live | None:
    return record.live[0] if record.live else None


def the_cancelled_are_pending(record: Record) -> int:
    return len(record.live)


def cancel_forgets_that_it_did(record: Record, turn: int | None = None) -> Step:
    return _cancel(record, turn)._replace(record=record)


def cancel_takes_everything_every_time(record: Record, turn: int | None = None) -> Step:
    del turn
    return _cancel(record, None)


def cancel_takes_what_is_queued_behind_it(record: Record, turn: int | None = None) -> Step:
    behind = tuple(x for x in record.live if turn is not None and x.turn < turn)
    step = _cancel(record._replace(live=record.live[len(behind) :]))
    return step._replace(record=step.record._replace(live=(*behind, *step.record.live)))


def cancel_removes_what_is_queued(record: Record, turn: int | None = None) -> Step:
    step = _cancel(record, turn)
    live = (*step.record.live[:1], *(x for x in step.record.live[1:] if x.cancelled is None))
    return step._replace(record=step.record._replace(live=live))


def dispatched_is_not_stored(record: Record, turn: int, task_id: str) -> Record:
    del turn, task_id
    return record


def after_has_the_newest_alone(record: Record, turn: int) -> tuple[Live, ...]:
    return tuple(x for x in record.live if x.turn < turn)[-1:]


def after_has_the_oldest_alone(record: Record, turn: int) -> tuple[Live, ...]:
    # What is queued in between is missed.
    return tuple(x for x in record.live if x.turn < turn)[:1]


def after_misses_the_newest_that_is_queued(record: Record, turn: int) -> tuple[Live, ...]:
    after = tuple(x for x in record.live if x.turn < turn)
    return after[:-1] if len(after) > 1 else after


def after_has_no_cancelled(record: Record, turn: int) -> tuple[Live, ...]:
    return tuple(x for x in record.live if x.turn < turn and x.cancelled is None)


def the_lost_are_forgotten(record: Record) -> tuple[int, ...]:
    del record
    return ()


def dump_leaves_out_the_reason(record: Record) -> dict[str, Any]:
    live = [[x.turn, x.task_id, None] for x in record.live]
    return {"v": 1, "epoch": record.epoch, "next": record.next, "live": live}


BROKEN = Budget(messages=3, policies=ALL, max_pending=2, cancels=1, message_kills=1, repeats=1)
AT_REST = "at_rest_nothing_is_live_and_all_that_was_wanted_was_answered"
MISTAKES: list[tuple[str, Any, str | Fault]] = [
    ("settle", settle_clears_everything, Fault.SETTLED_OTHER),
    ("settle", settle_clears_everything, "one_task_is_at_work"),
    ("settle", settle_clears_whatever_is_live, "one_task_is_at_work"),
    ("settle", settle_clears_what_came_before, Fault.SETTLED_OTHER),
    ("settle", settle_forgets_to, "a_turns_outcome_is_its_tasks"),
    (
        "settle",
        settle_does_not_take_the_cancelled,
        AT_REST,
    ),
    ("settle", settle_takes_a_turn_every_time, Fault.SETTLED_AGAIN),
    ("message", message_does_not_cancel, "what_was_superseded_before_it_began_does_not_begin"),
    (
        "message",
        message_cancels_the_oldest_alone,
        "what_was_superseded_before_it_began_does_not_begin",
    ),
    ("message", message_does_not_cancel, Fault.SPARED),
    ("message", message_always_cancels, Fault.CANCELLED_FOR_QUEUE),
    ("message", message_always_cancels, "what_nobody_cancelled_goes_on"),
    ("message", message_cancels_unless_it_rejects, Fault.CANCELLED_FOR_QUEUE),
    ("message", message_cancels_unless_it_rejects, AT_REST),
    ("message", message_cancels_the_oldest_alone, Fault.SPARED),
    ("message", message_cancels_the_queued_alone, Fault.SPARED),
    ("message", message_cancels_silently, "what_the_record_says_was_cancelled_was_cancelled"),
    ("message", message_cancels_again, Fault.CANCELLED_AGAIN),
    ("message", message_uses_a_number_again, Fault.NUMBER_USED_AGAIN),
    (
        "message",
        message_uses_a_number_again,
        "messages_are_in_the_history_once_and_in_order",
    ),
    ("message", message_puts_the_new_turn_in_the_place_of_the_old, "one_task_is_at_work"),
    ("message", message_puts_the_new_turn_in_the_place_of_the_old, Fault.OUT_OF_ORDER),
    (
        "message",
        message_puts_the_new_turn_before_the_queued,
        "what_is_live_stands_in_the_order_of_the_turns",
    ),
    ("refusal", nothing_is_refused, Fault.TAKEN_IN),
    ("refusal", refusal_leaves_out("if_turn", None), Fault.TAKEN_IN),
    ("refusal", refusal_leaves_out("if_idle", False), Fault.TAKEN_IN),
    ("refusal", refusal_leaves_out("max_pending", 32), Fault.TAKEN_IN),
    ("refusal", reject_is_taken_in_while_a_turn_is_live, Fault.TAKEN_IN),
    ("refusal", reject_is_taken_in_while_all_that_is_live_cleans_up, Fault.TAKEN_IN),
    ("refusal", queue_is_refused_while_a_turn_is_live, Fault.TURNED_AWAY),
    ("refusal", one_more_may_be_pending, Fault.TAKEN_IN),
    ("refusal", one_less_may_be_pending, Fault.TURNED_AWAY),
    ("refusal", an_interrupt_is_bounded_too, Fault.TURNED_AWAY),
    ("Record.at_work", the_newest_is_at_work, Fault.TAKEN_IN),
    ("Record.at_work", the_newest_is_at_work, Fault.TURNED_AWAY),
    ("Record.at_work", the_oldest_is_at_work, Fault.TAKEN_IN),
    ("Record.at_work", the_oldest_is_at_work, Fault.TURNED_AWAY),
    ("Record.pending", the_cancelled_are_pending, Fault.TURNED_AWAY),
    ("cancel", cancel_takes_what_is_queued_behind_it, Fault.CANCELLED_OTHER),
    ("cancel", cancel_removes_what_is_queued, "a_turns_outcome_is_its_tasks"),
    ("cancel", cancel_forgets_that_it_did, "what_the_record_says_was_cancelled_was_cancelled"),
    ("cancel", cancel_takes_everything_every_time, Fault.CANCELLED_OTHER),
    ("dispatched", dispatched_is_not_stored, Fault.CANCELLED_NOTHING),
    ("Record.before", after_has_the_newest_alone, "one_task_is_at_work"),
    ("Record.before", after_has_the_oldest_alone, "one_task_is_at_work"),
    ("Record.before", after_has_the_oldest_alone, Fault.OUT_OF_ORDER),
    ("Record.before", after_misses_the_newest_that_is_queued, "one_task_is_at_work"),
    ("Record.before", after_misses_the_newest_that_is_queued, Fault.OUT_OF_ORDER),
    ("Record.before", after_has_no_cancelled, "one_task_is_at_work"),
    (
        "Record.lost",
        the_lost_are_forgotten,
        AT_REST,
    ),
    ("dump", dump_leaves_out_the_reason, "the_record_can_be_stored"),
]


@pytest.mark.parametrize(
    ("rule", "mistake", "broken"),
    MISTAKES,
    ids=lambda x: getattr(x, "__name__", getattr(x, "name", str(x))),
)
def test_a_mistake_in_the_rules_is_found(
    monkeypatch: pytest.MonkeyPatch, rule: str, mistake: Any, broken: str | Fault
) -> None:
    of_record = getattr(Record, rule.removeprefix("Record."), None)
    mistaken = property(mistake) if isinstance(of_record, property) else mistake
    monkeypatch.setattr(f"interruptible._session.{rule}", mistaken)
    world.stored.cache_clear()
    what = broken.name if isinstance(broken, Fault) else broken
    walked = world.walk(BROKEN, until=what)
    world.stored.cache_clear()
    assert story_of(walked, broken) is not None


# -- The record. -----------------------------------------------------------------------------------


def after_turns(number: int) -> Record:
    """A session in which so many turns ran and one was interrupted."""
    record = Record(epoch="0" * 8)
    for turn in range(1, number + 1):
        record = _session.dispatched(_session.message(record).record, turn, f"inv-{turn:0>40}")
        if turn > 1:
            record = _session.settle(record, turn - 1) or record
    return record


def test_the_size_of_a_record_does_not_grow_with_the_number_of_turns() -> None:
    sizes = [len(json.dumps(_session.dump(after_turns(number)))) for number in (1000, 9000)]
    assert sizes[0] == sizes[1] < 200


def test_a_record_is_stored_in_this_form_for_as_long_as_its_version_stays() -> None:
    record = Record("e1", 4, (Live(2, "inv-2", "interrupted by turn 3"), Live(3)))
    stored = {
        "v": 1,
        "epoch": "e1",
        "next": 4,
        "live": [[2, "inv-2", "interrupted by turn 3"], [3, None, None]],
    }
    assert _session.dump(record) == stored
    assert _session.load(stored) == record


def test_a_record_of_a_newer_version_is_refused_with_the_remedy() -> None:
    stored = {**_session.dump(Record("e")), "v": _session.VERSION + 1, "new": "field"}
    with pytest.raises(ValueError, match=r"version 2 .*Deploy the version .* or a newer one\."):
        _session.load(stored)


def test_a_message_says_why_it_cancels_and_what_to_dispatch_in_this_order() -> None:
    one = Live(1, "inv-1", "cancelled")
    two = Live(2, "inv-2")
    record = Record("e", 3, (one, two))
    interrupted = two._replace(cancelled="interrupted by turn 3")
    assert _session.message(record) == Step(
        Record("e", 4, (one, interrupted, Live(3))), cancel=(two,), dispatch=3
    )


@pytest.mark.parametrize("policy", ["queue", "reject"])
def test_a_message_that_interrupts_nothing_changes_only_what_comes_after(policy: str) -> None:
    live = (Live(1, "inv-1", "cancelled"), Live(2, "inv-2"))
    assert _session.message(Record("e", 3, live), policy) == Step(
        Record("e", 4, (*live, Live(3))), dispatch=3
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
        (429, "policy: 2 of 2 turns are pending. Wait for one."),
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
    assert _session.refusal(record, policy, **wish) == refused


@pytest.mark.parametrize(
    ("record", "policy", "wish"),
    [
        (IDLE, "reject", {"if_idle": True, "max_pending": 1}),
        (IDLE, "queue", {"max_pending": 1}),
        (BUSY, "interrupt", {"if_turn": 2, "max_pending": 1}),
        (BUSY, "queue", {"if_turn": 2, "max_pending": 3}),
        (ENDING, "queue", {"if_turn": 3, "max_pending": 1}),
    ],
)
def test_any_other_message_is_taken_in(record: Record, policy: str, wish: dict[str, Any]) -> None:
    assert _session.refusal(record, policy, **wish) is None


def test_a_reason_is_kept_with_what_a_cancel_takes_and_with_nothing_else() -> None:
    one, two, three = Live(1, "inv-1", "cancelled"), Live(2, "inv-2"), Live(3, "inv-3")
    record = Record("e", 4, (one, two, three))
    cancelled = two._replace(cancelled="cancelled: wrong file")
    assert _session.cancel(record, 2, "wrong file") == Step(
        Record("e", 4, (one, cancelled, three)), cancel=(two,)
    )
    # One that is cancelled already keeps the reason it has.
    assert _session.cancel(record, 1, "wrong file") == Step(record)


def test_a_cancel_takes_all_that_is_live_or_one_and_leaves_what_is_over() -> None:
    one, two = Live(1, "inv-1"), Live(2, "inv-2")
    record = Record("e", 4, (one, two))
    all_cancelled = tuple(x._replace(cancelled="cancelled") for x in (one, two))
    assert _session.cancel(record) == Step(Record("e", 4, all_cancelled), cancel=(one, two))
    assert _session.cancel(record, 2) == Step(
        Record("e", 4, (one, all_cancelled[1])), cancel=(two,)
    )
    assert _session.cancel(record, 3) == Step(record)
    assert _session.cancel(Record("e", 4, all_cancelled)) == Step(Record("e", 4, all_cancelled))


def test_a_record_knows_its_turns() -> None:
    record = Record("e", 4, (Live(2, "inv-2"), Live(3)))
    assert [turn for turn in range(-1, 6) if record.has(turn)] == [1, 2, 3]
    assert record.find(1) is None
    assert record.find(2) == Live(2, "inv-2")
    assert record.before(3) == (Live(2, "inv-2"),)
    assert record.lost == (3,)


def test_the_oldest_turn_that_is_not_cancelled_is_at_work_or_else_the_newest_cleans_up() -> None:
    assert [x.at_work for x in (IDLE, BUSY, ENDING)] == [None, BUSY.live[1], ENDING.live[1]]
    assert [x.pending for x in (IDLE, BUSY, ENDING)] == [0, 2, 0]
