"""The table of what code is to do once something has happened to its attempt."""

from contextvars import copy_context
from typing import get_args

import pytest

from interruptible._cancel.state import AttemptState, Fate, Standing, State, standing
from interruptible._cancel.steered import (
    NowMessages,
    Scope,
    Steered,
    is_steered,
    is_to_leave,
    may_be_steered,
    scope,
)

NO, YES, WAITS = "goes on", "ends", "waits"


def attempt(state: State, depth: int = 1) -> AttemptState:
    made = AttemptState()
    made.depth = depth
    if state == "stopping":
        made.stop({7})
    if state in ("cancelled", "told"):
        made.cancel()
    if state == "told":
        made.tell()
    if state == "over":
        made.finish(KeyError("lost"))
    return made


@pytest.mark.parametrize(
    ("state", "in_a_block", "outside", "unwinding", "shielded"),
    [
        ("not cancelled", NO, NO, NO, NO),
        ("stopping", WAITS, WAITS, WAITS, NO),
        ("cancelled", YES, YES, YES, NO),
        ("told", YES, NO, YES, NO),
        ("over", YES, YES, YES, YES),
    ],
)
def test_what_code_is_to_do_depends_on_what_has_happened_and_where_it_is(
    state: State, in_a_block: Fate, outside: Fate, unwinding: Fate, shielded: Fate
) -> None:
    made = attempt(state)
    assert made.state == state
    assert made.fate("open") == in_a_block
    assert made.fate("unwinding") == unwinding
    assert made.fate("shielded") == shielded
    assert attempt(state, depth=0).fate("open") == outside
    assert attempt(state, depth=0).fate("shielded") == shielded


@pytest.mark.parametrize("of", get_args(Standing))
@pytest.mark.parametrize("state", get_args(State))
def test_while_a_block_that_ends_badly_is_left_code_waits_that_would_go_on(
    state: State, of: Standing
) -> None:
    made = attempt(state)
    before = made.fate(of)
    made.held = True
    waits = before == "goes on" and of == "open"
    assert made.fate(of) == ("waits" if waits else before)


@pytest.mark.parametrize("of", get_args(Standing))
def test_while_it_stops_what_is_in_flight_goes_on_and_all_else_waits(of: Standing) -> None:
    made = attempt("stopping")
    shielded = of == "shielded"
    assert made.fate(of, [7]) == made.fate(of, [8, 7]) == NO
    assert made.fate(of, [8]) == (NO if shielded else WAITS)
    assert not made.must_end
    assert not made.cancelled
    made.in_flight.discard(7)
    assert made.fate(of, [7]) == (NO if shielded else WAITS)


@pytest.mark.parametrize("state", get_args(State))
def test_it_is_told_to_stop_once_and_a_cancellation_wins(state: State) -> None:
    made = attempt(state)
    made.stop({9})
    assert made.state == ("stopping" if state == "not cancelled" else state)
    if state != "over":
        made.cancel()
        assert (made.state, made.in_flight) == ("cancelled", set())


@pytest.mark.parametrize("state", get_args(State))
def test_nothing_that_code_asks_for_begins_while_it_stops_or_once_it_was_told(state: State) -> None:
    made = attempt(state)
    assert made.begins_nothing == (state in ("stopping", "told"))
    token = standing.set("shielded")
    assert made.begins_nothing == (state == "told")
    standing.reset(token)


def test_each_cancellation_is_raised_once_outside_of_all_blocks_and_again_and_again_in_one() -> (
    None
):
    made = attempt("told", depth=0)
    made.cancel()
    assert made.must_end
    made.tell()
    assert not made.must_end
    made.depth = 1
    assert made.must_end


def test_awaits_side_by_side_are_told_as_one_and_each_later_one_counts() -> None:
    made = attempt("told")
    made.tell()
    assert made.raised == 1
    made.tell(again=True)
    made.tell(again=True)
    assert made.raised == 3


def test_what_was_shielded_counts_until_its_code_comes_to_its_next_await() -> None:
    copy_context().run(_shielded_counts)  # or what it keeps would be known to the tests after it


def _shielded_counts() -> None:
    made = attempt("not cancelled")
    assert made.counts
    made.keep()  # what was shielded before says nothing
    made.cancel()
    assert made.counts
    assert not made.told
    made.tell()
    assert made.told
    assert not made.counts
    token = standing.set("shielded")
    assert made.counts
    standing.reset(token)
    made.keep()
    assert made.counts
    made.tell()  # another one beside it is told
    assert made.counts
    made.tell(again=True)
    assert not made.counts


def test_the_end_of_an_attempt_is_raised_to_whoever_asks() -> None:
    made = attempt("told")
    made.check()
    assert made.cancelled
    made.finish(KeyError("lost"))
    for _ in range(2):
        with pytest.raises(KeyError, match="lost"):
            made.check()
    assert not made.cancelled


# -- What is read at once. -------------------------------------------------------------------------


class Signals:
    """Those that have come."""

    def __init__(self) -> None:
        self.came = set[int]()
        self.now = NowMessages(lambda number: number)

    def hear(self, *numbers: int) -> bool:
        """Whether one of all that have come is to be raised."""
        self.came.update(numbers)
        self.now.hear(self.came.__contains__)
        return self.now.is_due


def test_each_message_is_due_once_and_those_that_came_together_as_one() -> None:
    signals = Signals()
    assert not signals.hear()
    assert signals.hear(1)
    signals.now.raised = signals.now.arrived
    assert not signals.hear()
    assert signals.hear(3, 2)
    assert (signals.now.arrived, signals.now.next) == (3, 4)
    signals.now.raised = signals.now.arrived
    assert not signals.hear()


def test_a_later_one_that_comes_first_waits_for_the_earlier() -> None:
    signals = Signals()
    assert not signals.hear(2)
    assert signals.hear(1)
    assert signals.now.arrived == 2


def test_what_was_taken_is_not_due_whenever_its_signal_comes() -> None:
    signals = Signals()
    signals.now.see(0)
    signals.now.see(2)
    assert signals.now.next == 3
    assert not signals.hear(1, 2)
    assert signals.hear(3)
    signals.now.see(3)
    assert not signals.hear()
    signals.now.see(1)  # it is over already
    assert signals.now.next == 4
    assert signals.hear(4)


def test_the_innermost_scope_that_the_code_has_not_left_hears_of_a_message() -> None:
    run = Scope("run")
    outer = Scope("steerable", run)
    inner = Scope("steerable", outer)
    safe = Scope("protected", inner)
    assert [x.hears() for x in (run, outer, inner, safe)] == [None, outer, inner, None]
    assert may_be_steered(None, "open") is None
    assert may_be_steered(inner, "shielded") is None
    assert may_be_steered(inner, "unwinding") is inner
    inner.left = True
    assert inner.hears() is outer
    outer.left = True
    assert inner.hears() is None


def test_awaits_in_a_scope_that_was_steered_raise_unless_they_are_protected_or_it_is_hopeless() -> (
    None
):
    run = Scope("run")
    outer = Scope("steerable", run)
    inner = Scope("steerable", outer)
    safe = Scope("protected", inner)
    scopes = (run, outer, inner, safe)
    assert not any(x.must_leave for x in scopes)
    outer.steered = True
    assert [x.must_leave for x in scopes] == [False, True, True, False]
    safe.left = True
    assert safe.must_leave
    outer.steered, run.steered = False, True
    assert all(x.must_leave for x in scopes)
    for _ in range(1_000):
        inner.count()
    assert not any(x.must_leave for x in scopes)


def test_an_await_that_is_begun_when_a_message_is_due_raises_it_once() -> None:
    signals = Signals()
    signals.hear(1)
    assert not is_to_leave(signals.now, "open")
    token = scope.set(Scope("steerable"))
    assert not is_to_leave(signals.now, "shielded")
    assert is_to_leave(signals.now, "open")
    assert is_to_leave(signals.now, "open")  # the code has swallowed it
    scope.set(Scope("steerable"))
    assert not is_to_leave(signals.now, "open")
    scope.reset(token)


def test_a_group_of_nothing_else_is_as_good_as_one() -> None:
    class Group(BaseException):
        def __init__(self, *exceptions: BaseException) -> None:
            self.exceptions = exceptions

    assert is_steered(Steered())
    assert is_steered(Group(Steered(), Group(Steered())))
    assert not is_steered(Group(Steered(), ValueError()))
    assert not is_steered(Group())
    assert not is_steered(None)
    assert not isinstance(Steered(), Exception)
