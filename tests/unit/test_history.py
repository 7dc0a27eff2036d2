"""The conversation that turns make, and where they are kept."""

import copy
import json
from collections.abc import Callable, Generator, Sequence
from typing import Any, Generic, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from restate.serde import BytesSerde, Serde

from interruptible import Agent, Message, Turn
from interruptible._session import reading, sent, storage
from interruptible._session.reading import Moment, at_hand
from interruptible._session.record import Addition, Live, Record
from interruptible._session.sent import Stored
from interruptible._session.storage import JSON, PACKED, TURNS_PER_PAGE
from interruptible._session.stored_record import dump_record
from interruptible._session.turns import (
    TurnNote,
    asked,
    finished_turn,
    whole_conversation,
    with_joined,
    with_resumed,
)
from interruptible._wire.native import as_tasks_have, neutral
from interruptible._wire.said import (
    as_shown,
    id_of,
    ids_of,
    metadata_of,
    said_again,
    with_id,
    with_metadata,
    without_said,
)
from interruptible._wire.types import TaskOutcome, TurnStatus

T = TypeVar("T")
Said = tuple[Addition, Message]

LARGE, TAIL = 4096, 8192
"""Bounds that are small, so that histories which outgrow them are."""


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LARGE", LARGE)
    monkeypatch.setattr(storage, "TAIL", TAIL)


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


def conversation(
    turns: Sequence[Turn], note: TurnNote, resume_note: TurnNote = lambda _: None
) -> list[Message]:
    return whole_conversation(turns, note, resume_note)


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


def test_a_discarded_turn_is_left_out_and_so_is_its_note() -> None:
    gone = a_turn(2, "interrupted")
    gone["discarded"] = True
    told: list[Turn] = []
    three = a_turn(3, "interrupted")
    assert conversation([a_turn(1), gone, three], told.append) == [
        said("message 1"),
        put_out("answer 1"),
        said("message 3"),
        put_out("answer 3"),
    ]
    assert told == [three]


def test_a_steered_message_stands_where_the_turn_took_it() -> None:
    turn = a_turn(1)
    turn["messages"] = [put_out("a"), said("b"), put_out("c")]
    turn["steered"] = [1]
    assert conversation([turn], note) == [said("message 1"), *turn["messages"]]


def test_a_conversation_leaves_the_records_as_they_are() -> None:
    turns = [a_turn(1, "interrupted"), a_turn(2)]
    conversation(turns, note).append(said("x"))
    assert turns == [a_turn(1, "interrupted"), a_turn(2)]
    assert conversation([], note) == []


# -- A turn that goes on with another one. ---------------------------------------------------------


def resuming(number: int, resumes: int, status: TurnStatus = "completed") -> Turn:
    """A turn that has no message of its own."""
    return {**a_turn(number, status), "input": [], "resumes": resumes}


def after(turn: Turn) -> list[Message]:
    """What the model is told of a turn that is resumed next."""
    return conversation(with_resumed([turn], resumes=turn["turn"]), note)


@pytest.mark.parametrize("status", ["interrupted", "failed", "killed"])
def test_a_turn_that_is_resumed_has_no_note_now_and_later(status: TurnStatus) -> None:
    one = a_turn(1, status)
    assert after(one) == [said("message 1"), put_out("answer 1")]
    later = with_resumed([one, resuming(2, 1), a_turn(3)])
    assert conversation(later, note) == [
        said("message 1"),
        put_out("answer 1"),
        put_out("answer 2"),
        said("message 3"),
        put_out("answer 3"),
    ]
    assert one == a_turn(1, status)


def test_what_went_on_and_was_interrupted_again_has_its_note_until_that_goes_on_too() -> None:
    turns = [a_turn(1, "interrupted"), resuming(2, 1, "interrupted")]
    told = [said("message 1"), put_out("answer 1"), put_out("answer 2")]
    assert conversation(with_resumed(turns), note) == [*told, said("Turn 2 was interrupted.")]
    assert conversation(with_resumed(turns, resumes=2), note) == told


def test_what_went_on_and_is_discarded_has_left_the_note_where_it_was() -> None:
    gone: Turn = {**resuming(2, 1), "discarded": True}
    turns = with_resumed([a_turn(1, "interrupted"), gone])
    assert "resumed" not in turns[0]
    assert conversation(turns, note)[-1] == said("Turn 1 was interrupted.")


def test_an_agent_may_say_something_where_a_turn_goes_on() -> None:
    seen: list[Turn] = []

    def resume_note(turn: Turn) -> str:
        seen.append(turn)
        return "Go on."

    turns = with_resumed([a_turn(1, "interrupted"), resuming(2, 1)])
    assert conversation(turns, note, resume_note) == [
        said("message 1"),
        put_out("answer 1"),
        said("Go on."),
        put_out("answer 2"),
    ]
    assert seen == [{**a_turn(1, "interrupted"), "resumed": True}]
    message = {"role": "developer", "content": "Go on."}
    assert conversation(turns, note, lambda _: message)[2] == message


def test_by_default_nothing_is_said_where_a_turn_goes_on() -> None:
    class GoingOnAgent(Agent):
        async def run(self, ctx: Any, task: Any) -> None: ...

    agent = GoingOnAgent()
    turns = with_resumed([a_turn(1, "interrupted"), resuming(2, 1)])
    assert agent.conversation(turns) == [
        said("message 1"),
        put_out("answer 1"),
        put_out("answer 2"),
    ]


TEXT = {"type": "text", "text": "Once upon "}
IMAGE = {"type": "image", "text": "not at the end "}
CALLS = {"tool_calls": [{"id": "1", "type": "function"}]}


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (put_out("Once upon "), put_out("Once upon")),
        (put_out("Once\n\t \u2003"), put_out("Once")),
        (put_out(" Once"), None),
        (
            {"role": "assistant", "content": [IMAGE, TEXT], "x": 1},
            {"role": "assistant", "content": [IMAGE, {**TEXT, "text": "Once upon"}], "x": 1},
        ),
        ({"role": "assistant", "content": [TEXT, {"type": "image"}]}, None),
        ({"role": "assistant", "content": [TEXT, "odd "]}, None),
        ({"role": "assistant", "content": []}, None),
        ({"role": "assistant", "content": None}, None),
        ({"role": "assistant"}, None),
        ({"role": "assistant", "content": "Once ", **CALLS}, None),
        ({"role": "tool", "tool_call_id": "1", "content": "3 "}, None),
        (said("and then "), None),
    ],
)
def test_what_the_model_goes_on_with_has_no_space_at_its_end(last: Any, told: Any) -> None:
    turn = a_turn(1, "interrupted")
    turn["messages"] = [put_out("first "), last]
    before = copy.deepcopy(turn)
    assert after(turn) == [said("message 1"), put_out("first "), told or last]
    assert turn == before
    # Where nothing goes on with it, it is as it was.
    assert conversation([turn], note)[2] == last


def test_who_goes_on_before_anything_was_put_out_is_told_what_was_said_as_it_was() -> None:
    turn = a_turn(1, "killed", answer=None)
    turn["input"] = [said("message 1 ")]
    assert after(turn) == [said("message 1 ")]
    assert after({**turn, "input": []}) == []


@pytest.mark.parametrize(
    ("reason", "is_told"),
    [
        ("stopped", "after the step"),
        ("stopped: enough", "after the step"),
        ("cancelled: stopped", "before you were done"),
        ("interrupted by turn 2", "before you were done"),
        (None, "before you were done"),
    ],
)
def test_by_default_the_note_says_whether_a_turn_was_stopped_in_good_order(
    reason: str | None, is_told: str
) -> None:
    class StoppedAgent(Agent):
        async def run(self, ctx: Any, task: Any) -> None: ...

    turn: Turn = {**a_turn(1, "interrupted"), "reason": reason}
    note = StoppedAgent().interruption_note(turn)
    assert isinstance(note, str)
    assert is_told in note
    assert "Do not resume" in note
    assert StoppedAgent().interruption_note({**turn, "never_began": True}) is None


# -- What is known of a message. -------------------------------------------------------------------

KNOWN: Message = {**said("Hello"), "said": {"id": 7, "metadata": {"author": "Ada"}}}


def test_what_is_known_of_a_message_is_told_to_no_model_and_to_nobody_but_who_looks() -> None:
    turn: Turn = {**a_turn(1), "input": [KNOWN], "withdrawn": [KNOWN]}
    turn["messages"] = [put_out("a"), KNOWN]
    plain: Any = {**turn, "input": [said("Hello")], "messages": [put_out("a"), said("Hello")]}
    assert neutral(turn) == {**plain, "withdrawn": [said("Hello")]}
    assert as_tasks_have(turn) == neutral(turn)
    seen = {**said("Hello"), "id": 7, "metadata": {"author": "Ada"}}
    assert neutral(turn, as_shown) == {
        **turn,
        "input": [seen],
        "messages": [put_out("a"), seen],
        "withdrawn": [seen],
    }
    assert turn["input"] == [KNOWN]


@pytest.mark.parametrize("message", [said("Hello"), {**said("Hello"), "said": 5}, {"said": {}}])
def test_a_message_of_which_nothing_is_known_has_no_id_and_no_metadata(message: Message) -> None:
    assert (id_of(message), ids_of([message]), metadata_of(message)) == (0, [], {})
    assert as_shown(message) == without_said(message)
    assert "said" not in without_said(message)


def test_an_id_and_what_is_noted_stay_together_whichever_comes_first() -> None:
    noted = with_metadata(said("Hello"), {"author": "Ada"})
    assert with_id(noted, 7) == KNOWN
    assert with_metadata(with_id(said("Hello"), 7), {"author": "Ada"}) == KNOWN
    assert with_id(with_id(noted, 6), 7) == KNOWN
    assert with_metadata(said("Hello"), {}) == with_metadata(said("Hello"), None) == said("Hello")
    assert said_again(said("Bye"), KNOWN) == {**KNOWN, "content": "Bye"}
    assert said_again(said("Bye"), said("Hello")) == said("Bye")
    assert (id_of(KNOWN), ids_of([KNOWN, said("x"), with_id(said("y"), 9)])) == (7, [7, 9])
    assert metadata_of(KNOWN) == {"author": "Ada"}


# -- Where turns are kept. -------------------------------------------------------------------------


def test_sixteen_turns_share_a_page_and_a_large_one_has_a_key_of_its_own() -> None:
    assert TURNS_PER_PAGE == 16
    assert [storage.page_key(turn) for turn in (1, 16, 17, 32, 33)] == [
        "page/0",
        "page/0",
        "page/1",
        "page/1",
        "page/2",
    ]
    assert [storage.turn_key(turn) for turn in (1, 16, 17)] == ["turn/1", "turn/16", "turn/17"]


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

    def get(self, name: str, serde: Serde[Any]) -> Value[Any]:
        self.meanwhile.pop(len(self.reads), lambda: None)()
        self.reads.append(name)
        value = copy.deepcopy(self.values.get(name))
        if value is None or not isinstance(serde, BytesSerde):
            return Value(value)
        stored = PACKED if name.startswith(("page/", "turn/")) else JSON
        return Value(stored.serialize(value))

    def set(self, key: str, value: Any, **_: Any) -> None:
        self.values[key] = copy.deepcopy(value)

    def clear(self, key: str) -> None:
        del self.values[key]

    def state_keys(self) -> Value[list[str]]:
        return Value(list(self.values)[::-1])  # in any order


def run(coroutine: Any) -> Any:
    """The result of what never waits."""
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    return end.value.value


ACCEPTED_AT, ENDED_AT = 1_000, 2_000
BIG = LARGE // 2
"""Of turns of this size, three fit into a tail that is not outgrown."""


def begun_turn(number: int) -> Any:
    """What is kept of a turn that has no outcome."""
    return {**a_turn(number, "running", answer=None), "accepted_at": ACCEPTED_AT}


def live_turn(number: int, **more: Any) -> Any:
    """What is read of a turn that has no outcome."""
    return {**begun_turn(number), "task_id": f"inv-{number}", **more}


def settled_turn(number: int, **more: Any) -> Any:
    """What is kept of a turn that has one."""
    turn = {**live_turn(number), "messages": [put_out(f"answer {number}")]}
    return {**turn, "status": "completed", "ended_at": ENDED_AT, **more}


def size_of(*turns: Any) -> int:
    """How much of the tail these take."""
    return sum(len(json.dumps(turn)) for turn in turns)


class History:
    """A history in such a state; the record has the tail, and the turns that have no outcome."""

    def __init__(self) -> None:
        self.state = State()
        self.ctx: Any = self.state
        self.record = Record(epoch="e")

    def begin(self, turn: int, cancelled: str | None = None, *, size: int = 0) -> None:
        messages = [said("x" * size)] if size else a_turn(turn)["input"]
        live = Live(turn, f"inv-{turn}", cancelled)
        record = self.record._replace(next=turn + 1, live=(*self.record.live, live))
        self.record = storage.add_turn(self.ctx, record, turn, messages, ACCEPTED_AT)

    def steer(self, number: int, turn: int, *, at: int = 0, joined: bool = False) -> Said:
        """Keep a message that has no turn of its own."""
        message = said(f"steered {number}")
        self.state.set(storage.steered_key(number), message)
        steered = Addition(number, turn, at or self.record.next, joined=joined)
        self.record = self.record._replace(steered=(*self.record.steered, steered))
        return steered, message

    def settle(self, turn: int, *, size: int = 0, kept: Sequence[Said] = (), **ended: Any) -> Any:
        messages = [put_out("x" * size or f"answer {turn}")]
        outcome: Any = {"turn": turn, "status": "completed", "messages": messages, **ended}
        live = self.record.find(turn)
        assert live is not None
        left = tuple(x for x in self.record.live if x.turn != turn)
        steered = tuple(x for x in self.record.steered if x.turn != turn)
        begun = run(Moment(self.ctx, self.record).turn(turn))
        ended: Turn = {**finished_turn(begun, outcome, kept), "ended_at": ENDED_AT}
        record = self.record._replace(live=left, steered=steered)
        self.record = run(storage.put_turns(self.ctx, record, [ended]))
        return settled_turn(turn, messages=messages)

    def run_turn(self, turn: int, *, size: int = 0) -> Any:
        self.begin(turn)
        return self.settle(turn, size=size)

    def discard(self, *turns: int) -> list[str]:
        """Discard turns; returns the pages that are written."""
        self.record, pages = run(storage.mark_discarded(self.ctx, self.record, turns))
        storage.write_pages(self.ctx, pages)
        return list(pages)

    def read(
        self,
        before: int | None = None,
        record: Record | None = None,
        *,
        first: int = 1,
        bare: bool = False,
    ) -> list[Turn]:
        self.state.reads.clear()
        record = record or self.record
        numbers = range(first, before or record.next)
        theirs = [x for x in record.steered if x.turn in numbers and not bare]
        steered = run(reading.read_steered(self.ctx, theirs))
        turns: list[Turn]
        turns, _ = run(Moment(self.ctx, record, steered).turns(numbers))
        return turns

    def newest(self) -> int | None:
        self.state.reads.clear()
        newest: int | None = run(self.now.newest())
        return newest

    @property
    def now(self) -> Moment:
        return Moment(self.ctx, self.record)

    @property
    def tail(self) -> list[int]:
        """The numbers of the turns in the tail, as large ones have them."""
        return [x if isinstance(x, int) else x["turn"] for x in self.record.tail]


def test_turns_are_read_in_their_order_whatever_order_they_were_settled_in() -> None:
    history = History()
    for turn in range(1, 21):
        history.begin(turn)
    sizes = {3: BIG, 1: 0, 17: LARGE, 16: BIG, 2: BIG, 20: BIG, 5: BIG}
    settled = {turn: history.settle(turn, size=size) for turn, size in sizes.items()}
    live = {x: live_turn(x) for x in range(1, 21) if x not in settled}
    assert history.record.paged
    assert history.read() == [settled.get(turn) or live[turn] for turn in range(1, 21)]
    assert history.read(before=4) == [settled[1], settled[2], settled[3]]
    assert history.read(before=1) == []


def test_a_short_history_is_in_the_record_and_nowhere_else() -> None:
    history = History()
    turns = [history.run_turn(1), history.run_turn(2)]
    history.begin(3, "cancelled")
    assert history.state.values == {}
    assert history.record.tail == (
        *turns,
        begun_turn(3),
    )
    assert not history.record.paged
    assert history.read() == [*turns, live_turn(3, reason="cancelled")]
    assert history.state.reads == []


def test_a_long_history_is_a_read_for_every_sixteen_turns() -> None:
    history = History()
    for turn in range(1, 101):
        history.run_turn(turn)
    history.begin(101)
    assert [turn["turn"] for turn in history.read()] == list(range(1, 102))
    pages = sorted(history.state.values)
    assert history.state.reads == pages[::-1]
    assert pages == [f"page/{page}" for page in range(len(pages))]
    assert len(pages) == 7
    assert history.tail == [101]  # what is live


def test_all_that_is_settled_leaves_a_tail_once_it_is_outgrown_and_not_before() -> None:
    history = History()
    turns = [history.run_turn(turn, size=BIG) for turn in (1, 2, 3)]
    assert size_of(*turns) <= TAIL < size_of(*turns, turns[0])
    assert (history.tail, history.record.paged) == ([1, 2, 3], False)
    turns.append(history.run_turn(4, size=BIG))
    assert (history.tail, history.record.paged) == ([], True)
    assert history.state.values == {"page/0": turns}
    # From here on each turn leaves when it is settled.
    turns.append(history.run_turn(5))
    assert history.tail == []
    assert history.state.values == {"page/0": turns}
    assert history.read() == turns


def test_a_tail_of_just_its_bound_stays() -> None:
    history = History()
    first = [history.run_turn(turn, size=BIG) for turn in (1, 2)]
    room = TAIL - size_of(*first, settled_turn(3, messages=[put_out("")]))
    for more, tail in ((0, [1, 2, 3]), (1, [])):
        again = copy.deepcopy(history)
        again.run_turn(3, size=room + more)
        assert again.tail == tail


def test_what_is_live_stays_in_a_tail_that_is_outgrown_and_all_that_is_settled_goes() -> None:
    history = History()
    history.begin(1, size=BIG)
    two = history.run_turn(2, size=BIG)
    history.begin(3, size=BIG)
    four = history.run_turn(4, size=BIG)
    assert history.tail == [1, 3]
    assert history.state.values == {"page/0": [two, four]}
    history.begin(5, size=BIG)
    history.begin(6, size=BIG)
    one = history.settle(1)
    assert history.tail == [3, 5, 6]  # more than it should, but nothing else may go
    assert [turn["turn"] for turn in history.state.values["page/0"]] == [2, 4, 1]
    assert [turn["turn"] for turn in history.read()] == [1, 2, 3, 4, 5, 6]
    assert history.read(before=2) == [{**one, "input": [said("x" * BIG)]}]


def test_turns_of_two_pages_move_at_once_each_into_its_own() -> None:
    history = History()
    for turn in range(1, 20):
        history.run_turn(turn)
    assert (history.state.values, history.record.paged) == ({}, False)
    history.run_turn(20, size=LARGE - 400)
    history.run_turn(21, size=LARGE - 400)
    numbers = {key: [x["turn"] for x in page] for key, page in history.state.values.items()}
    assert numbers == {"page/0": list(range(1, 17)), "page/1": [17, 18, 19, 20, 21]}
    assert history.tail == []


def test_a_large_turn_has_a_key_of_its_own_and_only_its_number_stands_where_it_would() -> None:
    history = History()
    history.begin(1)
    two = history.run_turn(2, size=LARGE)
    assert history.tail == [1, 2]
    assert history.record.tail[1] == 2
    assert history.state.values == {"turn/2": two}
    three = [history.run_turn(turn, size=BIG) for turn in range(3, 7)]
    assert history.tail == [1]
    assert history.state.values == {"page/0": [2, *three], "turn/2": two}
    assert history.read() == [live_turn(1), two, *three]
    assert history.state.reads == ["page/0", "turn/2"]
    assert history.read(first=3) == three
    assert history.state.reads == ["page/0"]  # of the page, only what is asked for
    assert history.read(before=2) == [live_turn(1)]
    assert history.state.reads == []


@pytest.mark.parametrize("more", [0, 1])
def test_a_turn_is_large_from_the_bound_on(more: int) -> None:
    history = History()
    room = LARGE - size_of(settled_turn(1, messages=[put_out("")]))
    turn = history.run_turn(1, size=room + more)
    assert history.record.tail == ((1,) if more else (turn,))
    assert history.state.values == ({"turn/1": turn} if more else {})


def test_a_message_that_is_large_has_the_key_of_its_turn_at_once_and_keeps_it() -> None:
    history = History()
    history.begin(1, size=LARGE)
    begun = {**begun_turn(1), "input": [said("x" * LARGE)]}
    assert history.record.tail == (1,)
    assert history.state.values == {"turn/1": begun}
    assert history.read() == [live_turn(1, input=begun["input"])]
    turn = history.settle(1)
    assert history.record.tail == (1,)
    assert history.state.values == {"turn/1": {**turn, "input": begun["input"]}}


def test_a_settled_turn_keeps_why_it_was_interrupted_and_why_it_failed() -> None:
    history = History()
    history.begin(1, "interrupted by turn 2")
    history.begin(2)
    history.settle(1, status="interrupted", partial=1)
    history.settle(2, status="failed", messages=[], error="no")
    assert history.record.tail == (
        settled_turn(1, status="interrupted", reason="interrupted by turn 2", partial=1),
        settled_turn(2, status="failed", messages=[], error="no"),
    )


def test_a_live_turn_whose_task_is_not_known_says_so() -> None:
    history = History()
    history.begin(1)
    history.record = history.record._replace(live=(Live(1),))
    assert history.read() == [live_turn(1, task_id=None)]


def test_a_live_turn_shows_what_was_steered_at_it_and_a_bare_one_does_not() -> None:
    history = History()
    for turn in (1, 2):
        history.begin(turn)
    history.steer(1, 1)
    history.steer(2, 2, at=2, joined=True)
    history.steer(3, 2, at=3, joined=True)
    history.steer(4, 2)
    shown = [
        live_turn(1, messages=[said("steered 1")], steered=[0]),
        live_turn(
            2,
            input=[said("steered 2"), said("message 2"), said("steered 3")],
            messages=[said("steered 4")],
            steered=[0],
        ),
    ]
    assert history.read() == shown
    assert history.read(first=2) == shown[1:]
    assert history.state.reads == ["steered/2", "steered/3", "steered/4"]
    assert history.read(bare=True) == [live_turn(1), live_turn(2)]
    assert history.state.reads == []


@pytest.mark.parametrize(
    ("numbers", "pages"),
    [
        (range(1, 17), [0]),
        (range(16, 17), [0]),
        (range(17, 18), [1]),
        (range(16, 18), [0, 1]),
        (range(2, 33), [0, 1]),
        (range(39, 41), [2]),
        (range(40, 41), []),
        (range(20, 20), []),
        (range(17, 17), []),
        (range(1, 1), []),
    ],
)
def test_only_the_pages_are_read_that_are_asked_for(numbers: range, pages: list[int]) -> None:
    history = History()
    for turn in range(1, 40):
        history.run_turn(turn, size=BIG if turn > 34 else 0)
    history.begin(40)
    assert history.tail == [40]
    turns = history.read(first=numbers.start, before=numbers.stop)
    assert [turn["turn"] for turn in turns] == list(numbers)
    expected = [f"page/{page}" for page in reversed(pages)]
    assert history.state.reads == expected


@pytest.mark.parametrize("size", [0, LARGE])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("moment", [0, 1, 2, 3])
def test_a_turn_that_is_settled_while_it_is_read_is_found_once(
    size: int, large: bool, moment: int
) -> None:
    history = History()
    history.run_turn(1, size=LARGE)
    for turn in (2, 3, 4):
        history.run_turn(turn, size=BIG)
    history.begin(5, size=LARGE if large else 0)
    before = history.record
    started = history.read()

    def settle() -> None:
        history.state.meanwhile.clear()
        reads = len(history.state.reads)
        history.settle(5, size=size)
        del history.state.reads[reads:]

    history.state.meanwhile[moment] = settle
    turns = history.read(record=before)
    assert [turn["turn"] for turn in turns] == [1, 2, 3, 4, 5]
    assert turns[:4] == started[:4]
    # As it was, or as it is; a large one may be either.
    assert turns[4] in (started[4], history.read(first=5)[0])


def test_a_turn_that_is_removed_while_it_is_read_is_not_there() -> None:
    history = History()
    history.run_turn(1, size=LARGE)
    two = history.run_turn(2)
    history.state.clear("turn/1")
    assert history.read() == [two]


def test_what_a_live_turn_began_with_is_read_whether_it_is_large_or_not() -> None:
    history = History()
    history.begin(1)
    history.begin(2, size=LARGE)
    history.steer(1, 1, joined=True)
    assert run(history.now.turn(1))["input"] == [said("message 1")]
    assert run(history.now.turn(2))["input"] == [said("x" * LARGE)]


# -- The conversation that a new task is sent with. ------------------------------------------------


@given(st.dictionaries(st.text(), st.binary()))
def test_what_is_stored_is_the_same_after_its_way_to_a_task(values: dict[str, bytes]) -> None:
    stored = Stored.unpack(Stored(values).pack())
    assert {key: run(stored.get(key, BytesSerde())) for key in values} == values
    assert stored.pack() == Stored(values).pack()
    assert run(Stored.unpack(stored.pack()).get("".join(values) + "?", BytesSerde())) is None


def test_a_page_is_stored_compressed() -> None:
    page = [settled_turn(number) for number in range(1, 17)]
    packed = PACKED.serialize(page)
    assert len(packed) < size_of(*page) / 3
    assert PACKED.deserialize(packed) == page
    assert packed == PACKED.serialize(json.loads(json.dumps(page)))  # the same in each attempt


def test_a_short_conversation_is_at_hand_as_it_would_be_read() -> None:
    history = History()
    history.run_turn(1)
    history.run_turn(2)
    history.begin(3, "interrupted by turn 4")
    history.begin(4)
    history.discard(2)
    kept = [turn for turn in history.read(before=4) if not turn.get("discarded")]
    assert [turn["turn"] for turn in kept] == [1, 3]
    history.state.reads.clear()
    assert at_hand(history.record, 4) == kept
    assert at_hand(history.record, 2) == kept[:1]
    assert at_hand(history.record, 1) == []
    assert history.state.reads == []


def test_a_conversation_is_not_at_hand_when_some_of_it_has_to_be_read() -> None:
    history = History()
    history.run_turn(1)
    history.begin(2)
    assert at_hand(history.record, 2) is not None
    assert at_hand(history.record._replace(paged=True), 2) is None
    steered = (Addition(1, 2, 3, taken=True),)
    assert at_hand(history.record._replace(steered=steered), 3) is None
    assert at_hand(history.record._replace(steered=steered), 2) is not None
    history.begin(3, size=LARGE)
    # Its own turn is not what it is to know of.
    assert at_hand(history.record, 3) is not None
    assert at_hand(history.record, 4) is None
    history.discard(3)
    assert at_hand(history.record, 4) is not None


# -- The older turns. ------------------------------------------------------------------------------


def test_the_older_turns_are_settled_and_most_of_what_fills_pages_and_rarely_become_more() -> None:
    ends = [storage.older_before(Record("e", next=n)) for n in range(1, 20_000)]
    assert ends == sorted(ends)
    for number, end in enumerate(ends, start=1):
        full = (number - 1) // TURNS_PER_PAGE
        few = full < storage.MANY_PAGES
        assert end == 1 if few else 7 * full // 8 * TURNS_PER_PAGE < end <= number
        assert end % TURNS_PER_PAGE == 1
    # From one number of turns to its double, they are loaded eight times.
    assert len(set(ends[1024:2048])) == len(set(ends[8192:16384])) == 8
    assert len(set(ends)) < 100


@pytest.mark.parametrize(("live", "end"), [((200,), 193), ((100, 200), 97), ((64, 200), 1)])
def test_what_is_live_and_all_after_it_is_none_of_the_older(live: Sequence[int], end: int) -> None:
    lives = tuple(Live(x, f"inv-{x}", given_up=True) for x in live)
    assert storage.older_before(Record("e", next=201, live=lives)) == end


def test_after_a_reset_there_are_no_older_turns_until_there_are_many_anew() -> None:
    ends = {n: storage.older_before(Record("e", next=n, first=1001)) for n in range(1001, 1200)}
    assert {end for n, end in ends.items() if n < 1057} == {1}
    assert ends[1057] == 1025


@pytest.mark.parametrize(("turn", "named"), [(1, ""), (64, ""), (65, "older"), (70, "older")])
def test_once_one_of_the_older_turns_is_discarded_they_are_loaded_anew(
    turn: int, named: str
) -> None:
    record = Record("e", next=71, paged=True, older="older")
    after, _ = run(storage.mark_discarded(State(), record, range(turn, 71)))
    assert after.older == named
    assert run(storage.mark_discarded(State(), record, ()))[0].older == "older"
    assert storage.without_settled(record).older == ""


# -- What is discarded. ----------------------------------------------------------------------------


def test_a_turn_in_the_tail_is_discarded_by_a_mark_and_no_page_is_read_or_written() -> None:
    history = History()
    one = history.run_turn(1)
    history.run_turn(2, size=LARGE)
    history.begin(3)
    four = history.run_turn(4)
    history.state.reads.clear()
    before = copy.deepcopy(history.state.values)
    assert history.discard(2, 3, 4) == []
    assert history.state.reads == []
    assert history.state.values == before
    begun = begun_turn(3)
    assert history.record.tail == (
        one,
        -2,
        {**begun, "discarded": True},
        {**four, "discarded": True},
    )
    assert [(x["turn"], x.get("discarded")) for x in history.read()] == [
        (1, None),
        (2, True),
        (3, True),
        (4, True),
    ]
    history.discard(2, 4)
    assert history.tail == [1, -2, 3, 4]  # still, and not once more the other way round


def test_a_turn_in_a_page_is_discarded_there_and_only_its_page_is_written() -> None:
    history = History()
    for turn in range(1, 60):
        history.run_turn(turn, size=LARGE if turn == 18 else 0)
    assert history.record.paged
    tail, page = history.record.tail, history.state.values["page/0"]
    assert history.discard(17, 18) == ["page/1"]
    assert history.record.tail == tail
    assert history.state.values["page/0"] == page
    first, second, third = history.state.values["page/1"][:3]
    assert first == {**settled_turn(17), "discarded": True}
    assert second == -18
    assert third == settled_turn(19)
    gone = [turn["turn"] for turn in history.read() if turn.get("discarded")]
    assert gone == [17, 18]


def test_a_turn_that_is_discarded_while_it_is_live_stays_so_when_it_is_settled() -> None:
    history = History()
    history.begin(1)
    history.begin(2, size=LARGE)
    history.begin(3)
    history.discard(1, 2, 3)
    one = history.settle(1, status="interrupted")
    history.settle(2)
    history.settle(3, size=LARGE)
    assert history.record.tail == (
        {**one, "status": "interrupted", "reason": "cancelled", "discarded": True},
        -2,
        -3,
    )
    assert [turn["discarded"] for turn in history.read()] == [True, True, True]
    for turn in range(4, 10):
        history.run_turn(turn, size=BIG)
    paged = history.state.values["page/0"]
    assert (paged[0]["discarded"], *paged[1:3]) == (True, -2, -3)
    assert [x["turn"] for x in history.read() if x.get("discarded")] == [1, 2, 3]


def test_to_discard_nothing_reads_nothing_in_any_history() -> None:
    history = History()
    for turn in range(1, 60):
        history.run_turn(turn)
    before = history.record
    assert before.paged
    history.state.reads.clear()
    assert history.discard() == []
    assert (history.record, history.state.reads) == (before, [])


def test_the_newest_turn_of_the_conversation_is_the_last_that_is_not_discarded() -> None:
    history = History()
    assert history.newest() is None
    for turn in range(1, 60):
        history.run_turn(turn, size=LARGE if turn in (1, 59) else 0)
    assert history.newest() == 59
    history.discard(59)
    assert history.newest() == 58
    history.discard(*range(2, 59))
    assert history.newest() == 1
    history.discard(1)
    assert history.newest() is None


def test_the_newest_turn_may_be_live() -> None:
    history = History()
    history.run_turn(1)
    history.begin(2)
    assert history.newest() == 2
    history.discard(2)
    assert history.newest() == 1
    history.discard(1)
    assert history.newest() is None
    assert history.state.reads == []


# -- Histories that are longer than what can be sent. ----------------------------------------------


def long_history(
    monkeypatch: pytest.MonkeyPatch, large: Sequence[int] = range(5, 101, 5)
) -> History:
    """A hundred turns, every fifth of them large, and some discarded; one more is live."""
    monkeypatch.setattr(reading, "AHEAD", 2)
    history = History()
    history.begin(1)
    for turn in range(2, 101):
        history.run_turn(turn, size=LARGE if turn in large else 0)
    history.discard(*range(71, 81))
    history.begin(101)
    history.state.values["session"] = dump_record(history.record)
    history.state.reads.clear()
    return history


def test_who_stops_early_has_read_little(monkeypatch: pytest.MonkeyPatch) -> None:
    history = long_history(monkeypatch)

    async def newest(count: int) -> list[int]:
        found: list[int] = []
        async for slot, packed in history.now.newest_first(range(1, 102)):
            assert (slot.turn is None) == bool(packed)
            found.append(slot.number)
            if len(found) == count:
                break
        return found

    assert run(newest(1)) == [101]
    assert history.state.reads == ["page/6", "page/5"]
    history.state.reads.clear()
    assert run(newest(7)) == [101, 100, 99, 98, 97, 96, 95]
    assert history.state.reads == ["page/6", "page/5", "turn/100", "turn/95", "turn/90"]
    assert run(newest(200)) == list(range(101, 0, -1))


@pytest.mark.parametrize("most", [0, 10, 1_000, 3_000, 20_000, 10**6])
def test_an_answer_has_the_latest_turns_that_fit_and_at_least_one(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = long_history(monkeypatch)
    every = {turn["turn"]: turn for turn in history.read()}
    turns, more = run(history.now.turns(range(1, 102), most))
    numbers = [turn["turn"] for turn in turns]
    assert numbers == list(range(numbers[0], 102))
    assert [every[number] for number in numbers] == turns
    assert more == (numbers[0] > 1)
    assert more == (most < 10**6)
    assert len(turns) == 1 or size_of(*turns[:-1]) < most * 1.5
    if more and most:
        left = [every[number] for number in range(numbers[0] - 5, numbers[0])]
        assert size_of(*turns, *left) > most / 1.5  # it is not for nothing that these are left out


def test_an_answer_may_leave_out_what_is_discarded_and_then_has_room_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = long_history(monkeypatch)
    numbers, most = range(60, 81), 5_000
    turns, more = run(history.now.turns(numbers, most, discarded=False))
    assert [turn["turn"] for turn in turns][-2:] == [69, 70]
    assert (len(turns), more) == (4, True)
    assert "turn/75" not in history.state.reads
    turns, more = run(history.now.turns(numbers, most))
    assert turns[-1]["turn"] == 80


def test_what_stands_is_known_without_reading_what_is_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = long_history(monkeypatch)
    slots = run(history.now.slots(range(60, 102)))
    assert [x.number for x in slots] == list(range(60, 102))
    assert [x.number for x in slots if not x.discarded] == [*range(60, 71), *range(81, 102)]
    assert history.state.reads == ["page/6", "page/5", "page/4", "page/3"]
    assert run(history.now.slots(range(50, 50))) == []


def loaded(history: History) -> tuple[Stored, list[int]]:
    """What a task is sent, and the turns that it makes of it."""
    stored = Stored.unpack(run(Stored.copy(history.ctx)).pack())
    numbers = range(stored.first, history.record.next)
    turns: list[Turn]
    turns, _ = run(Moment(stored, history.record).turns(numbers))
    assert turns == [x for x in history.read(bare=True) if x in turns]
    return stored, [turn["turn"] for turn in turns if not turn.get("discarded")]


STANDING = [*range(1, 71), *range(81, 102)]


def test_a_task_is_sent_all_of_a_conversation_that_is_not_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = long_history(monkeypatch)
    history.state.set("my state", "x")
    stored, turns = loaded(history)
    assert (stored.first, turns) == (1, STANDING)
    history.state.reads.clear()
    run(Stored.copy(history.ctx))
    assert "my state" not in history.state.reads
    assert "turn/85" in history.state.reads


def test_a_task_is_sent_the_latest_turns_of_a_conversation_that_is_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = long_history(monkeypatch)
    every = len(run(Stored.copy(history.ctx)).pack())
    seen = set()
    for most in range(0, every + 200, 50):
        monkeypatch.setattr(sent, "MAX_LOADED", most)
        stored, turns = loaded(history)
        assert turns == [x for x in STANDING if x >= stored.first]
        assert turns[-2:] == [100, 101]
        assert len(stored.pack()) < most + 1000
        seen.add(len(turns))
    assert min(seen) == 5
    assert max(seen) == len(STANDING)
    assert len(seen) > 10


def test_a_page_goes_to_a_task_as_it_is_unless_something_in_it_has_to_be_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = long_history(monkeypatch, large=range(20, 81, 20))
    history.state.set("turn/x", "a user's own")
    parsed: list[bytes] = []

    def parse(page: bytes) -> Any:
        parsed.append(page)
        return storage.parse_page(page)

    monkeypatch.setattr(reading, "parse_page", parse)
    stored = run(Stored.copy(history.ctx))
    pages = [run(stored.get(f"page/{x}", BytesSerde())) for x in range(7)]
    assert None not in pages
    assert sorted(parsed) == sorted(pages[x] for x in (1, 2, 3, 4))  # of 20, 40, 60 and 80


def test_pages_that_are_discarded_take_no_room_where_there_is_none_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = long_history(monkeypatch, large=())
    history.discard(*range(40, 101))
    history.state.values["session"] = dump_record(history.record)
    history.state.reads.clear()
    every = run(Stored.copy(history.ctx))
    monkeypatch.setattr(sent, "MAX_LOADED", 0)
    history.state.reads.clear()
    stored, turns = loaded(history)
    assert turns == [*range(33, 40), 101]
    assert len(history.state.reads) == len(set(history.state.reads))
    for page in range(3, 6):
        key = f"page/{page}"
        assert run(every.get(key, BytesSerde()))
        assert run(stored.get(key, BytesSerde())) is None


def test_large_turns_that_stand_in_the_tail_are_too_long_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = History()
    for turn in range(1, 11):
        history.run_turn(turn, size=LARGE)
    history.begin(11)
    history.state.values["session"] = dump_record(history.record)
    assert history.tail == list(range(1, 12))
    assert not history.record.paged
    monkeypatch.setattr(sent, "MAX_LOADED", 0)
    assert loaded(history)[1] == [10, 11]
    history.discard(10)
    history.state.values["session"] = dump_record(history.record)
    assert loaded(history)[1] == [9, 11]
    monkeypatch.setattr(sent, "MAX_LOADED", 10**6)
    assert loaded(history)[1] == [*range(1, 10), 11]


def test_what_is_large_and_discarded_is_not_sent_and_takes_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = long_history(monkeypatch)
    kept = run(Stored.copy(history.ctx))
    history.discard(*range(2, 101))
    history.state.values["session"] = dump_record(history.record)
    history.state.reads.clear()
    gone = run(Stored.copy(history.ctx))
    read = [key for key in history.state.reads if key.startswith("turn/")]
    assert len(read) < 10  # of twenty: the others were known to be gone
    assert run(kept.get("turn/85", BytesSerde())) is not None
    for turn in range(5, 101, 5):
        assert run(gone.get(f"turn/{turn}", BytesSerde())) is None
    monkeypatch.setattr(sent, "MAX_LOADED", len(gone.pack()))
    assert loaded(history)[1] == [1, 101]


def test_a_steered_message_is_sent_with_the_record_of_the_same_moment() -> None:
    history = History()
    history.run_turn(1)
    history.begin(2)
    steered, message = history.steer(1, 2)
    history.state.values["session"] = dump_record(history.record)
    history.state.reads.clear()

    def end() -> None:
        history.settle(2, kept=[(steered, message)])
        history.state.clear("steered/1")
        history.state.values["session"] = dump_record(history.record)

    history.state.meanwhile = {1: end}  # between the record and the message
    stored = run(Stored.copy(history.ctx))
    record = run(stored.get("session", JSON))
    assert history.state.reads == ["session", "steered/1", "session"]
    assert record == json.loads(json.dumps(dump_record(history.record)))
    assert history.record.steered == ()
    assert run(Stored.copy(State())).pack() == Stored({}).pack()  # type: ignore[arg-type]


# -- What a new session is given, and what is left when one is emptied. ----------------------------


def test_a_new_session_of_many_turns_has_them_in_pages() -> None:
    history = History()
    turns: list[Any] = [settled_turn(turn) for turn in range(1, 60) if turn != 5]
    turns[1] = settled_turn(2, messages=[put_out("x" * LARGE)])
    turns[-1] = settled_turn(59, messages=[put_out("x" * LARGE)])
    empty = history.record._replace(next=60)
    history.record = run(storage.put_turns(history.ctx, empty, turns))
    assert history.record._replace(tail=()) == empty._replace(paged=True)
    assert history.tail == []
    assert history.state.values["page/3"][-1] == 59
    assert [x if isinstance(x, int) else x["turn"] for x in history.state.values["page/0"]] == [
        1,
        2,
        3,
        4,
        *range(6, 17),
    ]
    assert history.state.values["page/0"][1] == 2
    assert history.read() == turns


def test_a_new_session_of_a_few_turns_has_no_pages() -> None:
    history = History()
    turns: list[Any] = [settled_turn(1), settled_turn(3)]
    history.record = run(storage.put_turns(history.ctx, history.record._replace(next=4), turns))
    assert history.record == Record("e", 4, tail=tuple(turns))
    assert history.state.values == {}
    assert at_hand(history.record, 4) == turns


def test_a_session_without_its_settled_turns_has_the_live_ones_and_no_page() -> None:
    history = History()
    for turn in range(1, 31):
        history.run_turn(turn)
    history.begin(31)
    history.run_turn(32, size=LARGE)
    history.begin(33, size=LARGE)
    after = storage.without_settled(history.record)
    live = begun_turn(31)
    assert after == history.record._replace(tail=(live, 33), paged=False, first=31)
    history.record = after
    assert [turn["turn"] for turn in history.read()] == [31, 33]  # 32 is in a key that goes
    # What moves out of the tail later is in pages again, where nothing of the former is.
    for key in run(storage.stale_keys(history.ctx, history.record)):
        history.state.clear(key)
    for turn in range(34, 40):
        history.run_turn(turn, size=BIG)
    assert history.record.paged
    assert [turn["turn"] for turn in history.read()] == [31, *range(33, 40)]
    assert "page/0" not in history.state.reads
    idle = storage.without_settled(history.record._replace(live=()))
    assert (idle.tail, idle.paged, idle.first) == ((), False, 40)


def test_a_live_turn_that_is_older_than_all_pages_is_read_too() -> None:
    history = History()
    history.record = history.record._replace(next=16, first=16)  # those before were removed
    history.begin(16)
    for turn in range(17, 22):
        history.run_turn(turn, size=BIG)
    assert history.tail == [16]
    assert [turn["turn"] for turn in history.read()] == list(range(16, 22))
    assert history.state.reads == ["page/1"]


def test_turns_before_the_first_are_not_looked_for() -> None:
    history = History()
    for turn in range(1, 60):
        history.run_turn(turn)
    assert history.record.paged
    history.record = history.record._replace(first=20)
    assert [turn["turn"] for turn in history.read()] == list(range(20, 60))
    assert "page/0" not in history.state.reads
    history.state.reads.clear()
    assert history.discard(*range(1, 18)) == []
    assert history.state.reads == []


def test_the_keys_of_settled_turns_are_those_of_no_live_turn_and_of_nobody_else() -> None:
    history = History()
    for turn in range(1, 19):
        history.begin(turn, size=LARGE if turn == 18 else 0)
        if turn not in (2, 18):
            history.settle(turn, size=LARGE if turn == 3 else BIG)
    history.steer(1, 2)
    foreign = ["session", "discarded", "my state", "page/x", "my page/0", "turn/3/x", "Page/0"]
    for key in foreign:
        history.state.set(key, "x")
    settled = ["page/0", "page/1", "turn/3"]
    assert sorted(run(storage.stale_keys(history.ctx, history.record))) == settled
    assert history.state.values.keys() == {*settled, *foreign, "turn/18", "steered/1"}


# -- The record of a turn that has ended. ----------------------------------------------------------

A, B, C = put_out("a"), put_out("b"), put_out("c")


def steered(number: int, at: int = 2, *, taken: bool = False, joined: bool = False) -> Said:
    """A message that belongs to turn 1."""
    return Addition(number, 1, at, taken, joined), said(f"steered {number}")


S1, S2, S3 = said("steered 1"), said("steered 2"), said("steered 3")
JUST_PUT_OUT: TaskOutcome = {"turn": 1, "status": "completed", "messages": [A, B]}


@pytest.mark.parametrize(
    ("outcome", "kept", "expected"),
    [
        pytest.param({}, [], {}, id="nothing steered"),
        pytest.param(
            {"messages": [A, S1, B], "taken": [(1, 1)]},
            [steered(1, taken=True)],
            {"messages": [A, S1, B], "steered": [1]},
            id="taken",
        ),
        pytest.param(
            {"messages": [S2, A, S1], "taken": [[1, 2], [2, 0]]},  # as JSON has it
            [steered(1, taken=True), steered(2, taken=True)],
            {"messages": [S2, A, S1], "steered": [2, 0]},
            id="taken, at places of the task's choice",
        ),
        pytest.param(
            {},
            [steered(1), steered(2)],
            {"messages": [A, B, S1, S2], "steered": [2, 3]},
            id="left",
        ),
        pytest.param(
            {"messages": []},
            [steered(1)],
            {"messages": [S1], "steered": [0]},
            id="left, and nothing was put out",
        ),
        pytest.param(
            {"messages": [S1, A], "taken": [(1, 0)]},
            [steered(1, taken=True), steered(2, taken=True), steered(3)],
            {"messages": [S1, A, S2, S3], "steered": [0, 2, 3]},
            id="taken, lost on the way, and left",
        ),
        pytest.param(
            {"status": "killed", "messages": []},
            [steered(1, taken=True), steered(2)],
            {"status": "killed", "messages": [S1, S2], "steered": [0, 1]},
            id="taken by a task that was killed",
        ),
        pytest.param(
            {},
            [steered(1, 1, joined=True), steered(2, 2, joined=True)],
            {"input": [S1, said("message 1"), S2]},
            id="joined",
        ),
        pytest.param(
            {"messages": [S3], "taken": [(3, 0)]},
            [steered(1, taken=True, joined=True), steered(2), steered(3, taken=True)],
            {
                "input": [said("message 1"), S1],
                "messages": [S3, S2],
                "steered": [0, 1],
            },
            id="joined, left and taken",
        ),
        pytest.param(
            {"messages": [A, S3], "taken": [(3, 1)]},
            [steered(1, 1), steered(2), steered(3, 1, taken=True)],
            {
                "input": [S1, said("message 1")],
                "messages": [A, S3, S2],
                "steered": [1, 2],
            },
            id="passed on from an earlier turn: before its own unless it was taken",
        ),
        pytest.param(
            {"status": "failed", "error": "no"},
            [],
            {"status": "failed", "error": "no"},
            id="failed",
        ),
        pytest.param(
            {"status": "interrupted", "partial": 1},
            [],
            {"status": "interrupted", "partial": 1, "reason": "cancelled"},
            id="cut off",
        ),
        pytest.param(
            {"status": "interrupted", "cut_off": ["a"], "not_begun": ["b", "c"]},
            [],
            {
                "status": "interrupted",
                "cut_off": ["a"],
                "not_begun": ["b", "c"],
                "reason": "cancelled",
            },
            id="calls without a result",
        ),
        pytest.param(
            {"status": "interrupted", "never_began": True},
            [],
            {"status": "interrupted", "never_began": True, "reason": "cancelled"},
            id="never began",
        ),
        pytest.param(
            {"status": "interrupted", "messages": [S1, A, B, C], "taken": [(1, 0)], "partial": 2},
            [steered(1, taken=True), steered(2), steered(3)],
            {
                "status": "interrupted",
                "messages": [S1, A, S2, S3, B, C],
                "steered": [0, 2, 3],
                "partial": 2,
                "reason": "cancelled",
            },
            id="left, and cut off: what was cut off is last",
        ),
    ],
)
def test_a_turn_that_has_ended_has_each_message_once_and_says_which_were_steered(
    outcome: dict[str, Any], kept: list[Said], expected: dict[str, Any]
) -> None:
    live: Any = live_turn(1)
    before = copy.deepcopy((live, kept))
    ended: Any = {**JUST_PUT_OUT, **outcome}
    base = live_turn(1, status="completed", messages=[A, B])
    assert finished_turn(live, ended, iter(kept)) == {**base, **expected}
    assert (live, kept) == before


@pytest.mark.parametrize(
    ("status", "reason", "kept"),
    [
        ("interrupted", "interrupted by turn 2", "interrupted by turn 2"),
        ("interrupted", "cancelled: x", "cancelled: x"),
        ("interrupted", None, "cancelled"),  # in Restate, past the session
        ("completed", "cancelled", None),
        ("failed", "rolled back", None),
        ("killed", "interrupted by turn 2", None),
        ("completed", None, None),
    ],
)
def test_only_a_turn_that_was_interrupted_has_a_reason(
    status: TurnStatus, reason: str | None, kept: str | None
) -> None:
    live: Any = live_turn(1) if reason is None else live_turn(1, reason=reason)
    ended = finished_turn(live, {"turn": 1, "status": status, "messages": []}, [])
    expected = (
        live_turn(1, status=status) if kept is None else live_turn(1, status=status, reason=kept)
    )
    assert ended == expected


def test_what_joined_a_turn_stands_before_or_after_what_it_was_begun_for_as_it_was_accepted() -> (
    None
):
    begun = [said("begun 1"), said("begun 2")]
    joined = [
        (Addition(number, 3, at, joined=True), said(f"steered {number}"))
        for number, at in ((1, 2), (2, 3), (3, 4), (4, 7))
    ]
    assert with_joined(3, begun, iter(joined)) == [S1, S2, *begun, S3, said("steered 4")]
    assert with_joined(3, begun, []) == begun
    assert begun == [said("begun 1"), said("begun 2")]


def test_what_was_asked_in_a_turn_is_what_it_began_with_and_then_what_was_steered_at_it() -> None:
    turn = a_turn(1)
    assert asked(turn) == [said("message 1")]
    turn["messages"], turn["steered"] = [A, S2, B, S1], [3, 1]
    assert asked(turn) == [said("message 1"), S1, S2]


def test_a_turn_that_goes_on_with_another_and_never_began_has_resumed_nothing() -> None:
    one: Any = {"turn": 1, "status": "interrupted", "input": [], "messages": []}
    two: Any = {**one, "turn": 2, "resumes": 1}
    assert with_resumed([one, two])[0]["resumed"]
    assert "resumed" not in with_resumed([one, {**two, "never_began": True}])[0]
    assert "resumed" not in with_resumed([one, {**two, "discarded": True}])[0]
