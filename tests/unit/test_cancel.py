"""The table of what code is to do once something has happened to its attempt."""

from typing import get_args

import pytest

from interruptible._cancel.state import AttemptState, Fate, Standing, State, standing

NO, YES = "goes on", "ends"


def attempt(state: State, depth: int = 1) -> AttemptState:
    made = AttemptState()
    made.depth = depth
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
