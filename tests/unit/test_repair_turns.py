"""Any turn, cut off anywhere, is accepted by its provider once it is repaired."""

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interruptible._task import repair
from interruptible._task.repair import CUT_OFF, INTERRUPTED, NOT_BEGUN, STRAY

from .turns import (
    MALFORMED,
    assistant,
    calls_in,
    cut_turns,
    dialects,
    is_half,
    jumbled_turns,
    often,
    outputs,
    refused,
    repaired,
    results_in,
    said_by,
    whole_turns,
)

pytestmark = pytest.mark.long


@often
@given(st.data(), dialects)
def test_a_turn_that_was_cut_off_is_accepted_by_its_provider(data: Any, dialect: str) -> None:
    given_ones = data.draw(outputs) if dialect != "ollama" else []
    turn = data.draw(cut_turns(dialect))
    calls = [call for call, _ in calls_in(turn)]
    messages = repaired(turn, [x for x in given_ones if x[0] in calls])
    assert refused(dialect, messages) == []


@often
@given(st.data(), dialects)
def test_what_was_said_is_there_once_and_in_its_order(data: Any, dialect: str) -> None:
    turn = data.draw(cut_turns(dialect))
    messages = repaired(turn)
    assert said_by("user", messages) == said_by("user", turn)
    assert said_by("assistant", messages) == said_by("assistant", turn)
    whole = [call for call, arguments in calls_in(turn) if not is_half(arguments)]
    kept = [call for call, arguments in calls_in(messages) if arguments not in MALFORMED]
    assert kept == whole


@often
@given(st.data(), dialects)
def test_each_result_is_there_once_and_calls_without_one_are_interrupted(
    data: Any, dialect: str
) -> None:
    turn = data.draw(cut_turns(dialect))
    messages = repaired(turn)
    results = results_in(messages)
    given_ones = [x for x in results if x[1] != INTERRUPTED]
    assert sorted(given_ones) == sorted(results_in(turn))
    assert sorted(call for call, _ in results) == sorted(call for call, _ in calls_in(messages))


@often
@given(st.data(), dialects, outputs)
def test_what_had_come_of_a_call_that_was_cut_off_is_its_result_and_it_is_named(
    data: Any, dialect: str, given_ones: list[tuple[str, str]]
) -> None:
    turn = data.draw(cut_turns(dialect))
    done = repair.repaired(turn, given_ones, begun=lambda _: False)
    cut = [call for call, content in results_in(done.messages) if content.endswith(CUT_OFF)]
    assert set(done.cut_off) == set(cut)
    never = [call for call, content in results_in(done.messages) if content == NOT_BEGUN]
    assert set(done.not_begun) == set(never if dialect != "ollama" else [])
    texts = json.dumps(done.messages)
    for call in {call for call, _ in given_ones} - set(cut):
        answered = call in [x for x, _ in results_in(turn)]
        assert answered or json.dumps(STRAY)[1:-1] in texts


@often
@given(st.data(), dialects.filter(lambda dialect: dialect != "ollama"))
def test_results_of_one_message_stay_in_their_order(data: Any, dialect: str) -> None:
    turn = data.draw(cut_turns(dialect))
    order = [content for _, content in results_in(turn)]
    group: list[int] = []
    for message in [*repaired(turn), assistant("x")]:
        if message["role"] == "assistant":
            assert group == sorted(group)
            group = []
        given_ones = [x for _, x in results_in([message]) if x != INTERRUPTED]
        group += [order.index(content) for content in given_ones]


@often
@given(st.data(), dialects)
def test_repairing_twice_changes_nothing_more(data: Any, dialect: str) -> None:
    messages = repaired(data.draw(cut_turns(dialect)))
    again = repaired(messages)
    assert again == messages
    assert all(a is b for a, b in zip(again, messages, strict=True))


@often
@given(st.data(), dialects)
def test_a_turn_that_went_well_is_the_same_messages(data: Any, dialect: str) -> None:
    turn = data.draw(whole_turns(dialect))
    assert refused(dialect, turn) == []
    messages = repaired(turn)
    assert messages == turn
    assert all(a is b for a, b in zip(messages, turn, strict=True))


@often
@given(st.data(), dialects)
def test_what_does_not_change_is_the_same_what_does_has_no_native_and_nothing_is_mutated(
    data: Any, dialect: str
) -> None:
    turn = data.draw(cut_turns(dialect))
    before = deepcopy(turn)
    messages = repaired(turn)
    assert turn == before
    for message in messages:
        is_same = any(message is x for x in turn)
        assert is_same or message not in turn
        assert is_same or "native" not in message


@often
@given(st.data(), dialects)
def test_messages_that_make_no_sense_become_valid_too_and_nothing_said_is_lost(
    data: Any, dialect: str
) -> None:
    turn = data.draw(jumbled_turns(dialect))
    messages = repaired(turn)
    assert refused(dialect, messages) == []
    assert repaired(messages) == messages
    said = said_by("user", messages)
    strays = [x["text"] for x in said if x.get("text", "").startswith(STRAY)]
    assert [x for x in said if x.get("text") not in strays] == said_by("user", turn)
    assert said_by("assistant", messages) == said_by("assistant", turn)
    results = results_in(messages)
    for call, content in results_in(turn):
        is_stray = any(f'"{content}"' in stray for stray in strays)
        assert is_stray or call in [id_ for id_, gave in results if gave != INTERRUPTED]
