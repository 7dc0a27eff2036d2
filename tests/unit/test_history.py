"""The conversation that turns make, and where they are kept."""

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

import pytest

from interruptible import Agent, Message, Turn, _history
from interruptible._history import LARGE, TURNS_PER_PAGE, conversation
from interruptible._session import Live, Record
from interruptible._types import Outcome, TurnStatus

T = TypeVar("T")

NOTE = "You were interrupted."


def note(turn: Turn) -> str:
    return f"Turn {turn['turn']} was interrupted."


def said(text: str) -> Message:
    return {"role": "user", "content": text}


def put_out(text: str) -> Message:
    return {"role": "assistant", "content": text}


def a_turn(number: int, status: TurnStatus = "completed", *, answer: str | None = "") -> Turn:
    """A turn with a message, and with an answer unless it is `None`."""
    messages = [] if answer is None else [put_out(answer or f"answer {number}")]
    return {
        "turn": number,
        "status": status,
        "input": [said(f"message {number}")],
        "messages": messages,
    }


# -- The conversation. -----------------------------------------------------------------------------


def test_a_conversation_is_what_was_said_and_put_out_in_the_order_of_the_turns() -> None:
    two = a_turn(2)
    two["input"].append(said("and one more"))
    two["messages"].append({"role": "tool", "content": "3", "tool_call_id": "1"})
    assert conversation([a_turn(1), two], note) == [
        said("message 1"),
        put_out("answer 1"),
        said("message 2"),
        said("and one more"),
        put_out("answer 2"),
        {"role": "tool", "content": "3", "tool_call_id": "1"},
    ]


def test_a_note_stands_between_what_the_turn_put_out_and_the_next_message() -> None:
    turns = [a_turn(1, "interrupted"), a_turn(2, "interrupted", answer=None), a_turn(3)]
    assert conversation(turns, note) == [
        said("message 1"),
        put_out("answer 1"),
        said("Turn 1 was interrupted."),
        said("message 2"),
        said("Turn 2 was interrupted."),
        said("message 3"),
        put_out("answer 3"),
    ]


@pytest.mark.parametrize("status", ["running", "completed", "failed", "killed"])
def test_a_turn_that_was_not_interrupted_has_no_note(status: TurnStatus) -> None:
    assert conversation([a_turn(1, status)], note) == [said("message 1"), put_out("answer 1")]


def test_there_is_no_note_where_an_agent_gives_none() -> None:
    turns = [a_turn(1, "interrupted"), a_turn(2)]
    assert conversation(turns, lambda _: None) == [
        said("message 1"),
        put_out("answer 1"),
        said("message 2"),
        put_out("answer 2"),
    ]


def test_a_note_may_be_a_message_of_any_role() -> None:
    message = {"role": "developer", "content": "Stop.", "name": "x"}
    assert conversation([a_turn(1, "interrupted")], lambda _: message)[-1] == message


def test_the_note_is_made_from_the_record_of_the_turn() -> None:
    seen: list[Turn] = []
    turn = a_turn(1, "interrupted")
    turn["reason"] = "interrupted by turn 2"
    conversation([turn, a_turn(2)], seen.append)
    assert seen == [turn]


def test_by_default_the_note_is_one_of_the_user_that_says_not_to_resume() -> None:
    class NotingAgent(Agent):
        async def run(self, ctx: Any, task: Any) -> None: ...

    message = conversation([a_turn(1, "interrupted")], NotingAgent().interruption_note)[-1]
    assert message["role"] == "user"
    assert "interrupted" in message["content"]
    assert "not resume" in message["content"]


def test_a_conversation_leaves_the_records_as_they_are() -> None:
    turns = [a_turn(1, "interrupted"), a_turn(2)]
    conversation(turns, note).append(said("x"))
    assert turns == [a_turn(1, "interrupted"), a_turn(2)]
    assert conversation([], note) == []


# -- Where turns are kept. -------------------------------------------------------------------------


def test_sixteen_turns_share_a_page_and_each_has_a_key_of_its_own() -> None:
    assert TURNS_PER_PAGE == 16
    assert [_history.page_key(turn) for turn in (1, 16, 17, 32, 33)] == [
        "page/0",
        "page/0",
        "page/1",
        "page/1",
        "page/2",
    ]
    assert [_history.turn_key(turn) for turn in (1, 16, 17)] == ["turn/1", "turn/16", "turn/17"]


class Value(Generic[T]):
    """What was read, once it is awaited."""

    def __init__(self, value: T) -> None:
        self.value = value

    def __await__(self) -> Generator[None, None, T]:
        return self.value
        yield


class State:
    """The state of an object: what is read is read when it is asked for, as in one attempt."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.reads: list[str] = []
        self.meanwhile: dict[int, Callable[[], Any]] = {}
        """What happens before which of the reads."""

    def get(self, key: str, **_: Any) -> Value[Any]:
        self.meanwhile.pop(len(self.reads), lambda: None)()
        self.reads.append(key)
        return Value(self.values.get(key))

    def set(self, key: str, value: Any, **_: Any) -> None:
        self.values[key] = value

    def clear(self, key: str) -> None:
        del self.values[key]


def run(coroutine: Any) -> Any:
    """The result of what never waits."""
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    return end.value.value


class History:
    """A history in such a state; `live` are the turns that have no outcome."""

    def __init__(self) -> None:
        self.state = State()
        self.ctx: Any = self.state
        self.record = Record(epoch="e")

    def begin(self, turn: int) -> None:
        _history.begin(self.ctx, turn, a_turn(turn)["input"])
        self.record = Record("e", turn + 1, (*self.record.live, Live(turn, "inv")))

    def settle(self, turn: int, *, size: int = 0, reason: str | None = None) -> Turn:
        messages = [put_out("x" * size or f"answer {turn}")]
        outcome: Outcome = {"turn": turn, "status": "completed", "messages": messages}
        run(_history.settle(self.ctx, outcome, reason))
        live = tuple(x for x in self.record.live if x.turn != turn)
        self.record = Record("e", self.record.next, live)
        return {**a_turn(turn), "messages": messages}

    def read(self, before: int | None = None, record: Record | None = None) -> list[Turn]:
        self.state.reads.clear()
        record = record or self.record
        turns: list[Turn] = run(_history.read(self.ctx, record, before or record.next))
        return turns


def test_turns_are_read_in_their_order_whatever_order_they_were_settled_in() -> None:
    history = History()
    for turn in range(1, 21):
        history.begin(turn)
    settled = {turn: history.settle(turn) for turn in (3, 1, 17, 16, 2, 20, 5)}
    live = {x: {**a_turn(x, "running", answer=None)} for x in range(1, 21) if x not in settled}
    assert history.read() == [settled.get(turn) or live[turn] for turn in range(1, 21)]
    assert history.read(before=4) == [settled[1], settled[2], settled[3]]
    assert history.read(before=1) == []


def test_a_long_history_is_a_read_for_every_sixteen_turns() -> None:
    history = History()
    for turn in range(1, 101):
        history.begin(turn)
        history.settle(turn)
    history.begin(101)
    assert len(history.read()) == 101
    assert history.state.reads == ["turn/101", *(f"page/{page}" for page in range(7))]
    assert history.state.values.keys() == {"turn/101", *(f"page/{page}" for page in range(7))}


def test_a_large_turn_stays_out_of_its_page_so_that_settling_another_costs_no_more() -> None:
    history = History()
    for turn in (1, 2, 3):
        history.begin(turn)
    turns = [history.settle(1), history.settle(2, size=LARGE), history.settle(3)]
    assert history.state.values == {"page/0": [turns[0], 2, turns[2]], "turn/2": turns[1]}
    assert history.read() == turns
    assert [run(_history.read_one(history.ctx, turn)) for turn in (1, 2, 3)] == turns


def test_a_settled_turn_keeps_why_it_was_cancelled_and_why_it_failed() -> None:
    history = History()
    history.begin(1)
    outcome: Outcome = {"turn": 1, "status": "failed", "messages": [], "error": "no"}
    run(_history.settle(history.ctx, outcome, "interrupted by turn 2"))
    assert history.state.values["page/0"] == [
        {
            **a_turn(1, "failed", answer=None),
            "reason": "interrupted by turn 2",
            "error": "no",
        }
    ]


def test_a_live_turn_says_why_it_was_cancelled() -> None:
    history = History()
    history.begin(1)
    record = Record("e", 2, (Live(1, "inv", "cancelled"),))
    assert history.read(record=record) == [
        {**a_turn(1, "running", answer=None), "reason": "cancelled"}
    ]


@pytest.mark.parametrize("size", [0, LARGE])
@pytest.mark.parametrize("moment", [0, 1, 2])
def test_a_turn_that_is_settled_while_it_is_read_is_found_once(size: int, moment: int) -> None:
    history = History()
    history.begin(1)
    history.begin(2)
    settled: list[Turn] = []

    def settle() -> None:
        history.state.meanwhile.clear()
        reads = len(history.state.reads)
        settled.append(history.settle(1, size=size))
        del history.state.reads[reads:]

    history.state.meanwhile[moment] = settle
    turns = history.read(record=history.record)
    assert turns == [*settled, a_turn(2, "running", answer=None)]


def test_a_turn_that_is_live_or_unknown_is_not_one_of_the_settled() -> None:
    history = History()
    history.begin(1)
    history.begin(2)
    history.settle(1)
    assert run(_history.read_one(history.ctx, 2)) is None
    assert run(_history.read_one(history.ctx, 17)) is None
