"""What the session notes of a turn stays when that turn is told of anew."""

import pytest

from interruptible._stream.keeping import change_of
from interruptible._stream.log import BEGINS, Entry, Log, Plan


@pytest.mark.parametrize("kind", ["discarded", "pending", "approval"])
def test_what_the_session_noted_is_not_forgotten_with_what_the_turn_told(kind: str) -> None:
    entries = [
        Entry(1, 9, BEGINS, None),
        Entry(2, 9, {"type": "message", "message": {"role": "assistant", "content": "a"}}, None),
        Entry(3, 9, {"type": kind}, None),
    ]
    log = Log(tail=3, turn=9)
    kept = change_of(Plan(log, [], anew=True, without=9), entries).fresh
    assert [x.event["type"] for x in kept] == ["gap", "turn", kind]
