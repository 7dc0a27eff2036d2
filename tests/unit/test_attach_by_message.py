"""Which turn answers a message, once none that has it is live."""

import asyncio
from typing import Any, cast

import pytest
from restate import TerminalError

from interruptible._session import storage, views
from interruptible._session.record import Record
from interruptible._wire.said import with_id

from .given import Given


class Reading:
    """The context of a handler that reads a session of which all is in its record."""

    def get(self, _: str, __: Any) -> Given[None]:
        return Given(None)


SAID: Any = with_id({"role": "user", "content": "hi"}, 1)


def a_turn(number: int, *said: Any, **more: Any) -> Any:
    return {"turn": number, "status": "completed", "input": list(said), "messages": [], **more}


def answers(*turns: Any) -> int | None:
    tail = tuple(storage.Slot.of(x).encode() for x in turns)
    record = Record("epoch", len(turns) + 1, tail=tail, messages=1)
    return asyncio.run(views._turn_of(cast("Any", Reading()), record, 1))


def test_the_newest_that_stands_answers() -> None:
    assert answers(a_turn(1, SAID, discarded=True), a_turn(2, SAID)) == 2
    assert answers(a_turn(1, SAID), a_turn(2), a_turn(3, resumes=1)) == 3


def test_of_discarded_ones_it_is_the_newest() -> None:
    turns = [a_turn(x, SAID, discarded=True) for x in (1, 2)]
    assert answers(*turns) == 2


def test_what_was_withdrawn_when_it_was_to_be_answered_again_has_no_answer() -> None:
    again = a_turn(2, discarded=True, withdrawn=[SAID])
    assert answers(again | {"turn": 1}) is None
    assert answers(a_turn(1, SAID, discarded=True), again) is None


def test_what_is_on_record_no_more_is_refused() -> None:
    with pytest.raises(TerminalError, match="was removed"):
        answers(a_turn(1))
