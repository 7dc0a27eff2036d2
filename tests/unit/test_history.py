"""The conversation that turns make, and where they are kept."""

import copy
from collections.abc import Callable, Generator, Sequence
from typing import Any, Generic, TypeVar

import pytest

from interruptible import Agent, Message, Turn, _history
from interruptible._history import LARGE, TURNS_PER_PAGE, asked, conversation, finish, with_joined
from interruptible._session import Discarded, Live, Record, Steered
from interruptible._types import TaskOutcome, TurnStatus

T = TypeVar("T")
Said = tuple[Steered, Message]

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

    def state_keys(self) -> Value[list[str]]:
        return Value(list(self.values))


def run(coroutine: Any) -> Any:
    """The result of what never waits."""
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    return end.value.value


ACCEPTED_AT, ENDED_AT = 1_000, 2_000


def live_turn(number: int, **more: Any) -> Any:
    """What is read of a turn that has no outcome."""
    turn = a_turn(number, "running", answer=None)
    return {**turn, "task_id": f"inv-{number}", "accepted_at": ACCEPTED_AT, **more}


def settled_turn(number: int, **more: Any) -> Any:
    """What is kept of a turn that has one."""
    turn = {**live_turn(number), "messages": [put_out(f"answer {number}")]}
    return {**turn, "status": "completed", "ended_at": ENDED_AT, **more}


class History:
    """A history in such a state; the record has the turns that have no outcome."""

    def __init__(self) -> None:
        self.state = State()
        self.ctx: Any = self.state
        self.record = Record(epoch="e")

    def begin(self, turn: int, cancelled: str | None = None) -> None:
        _history.begin(self.ctx, turn, a_turn(turn)["input"], ACCEPTED_AT)
        live = (*self.record.live, Live(turn, f"inv-{turn}", cancelled))
        self.record = self.record._replace(next=turn + 1, live=live)

    def steer(self, number: int, turn: int, *, at: int = 0, joined: bool = False) -> Said:
        """Keep a message that has no turn of its own."""
        message = said(f"steered {number}")
        self.state.set(_history.steered_key(number), message)
        steered = Steered(number, turn, at or self.record.next, joined=joined)
        self.record = self.record._replace(steered=(*self.record.steered, steered))
        return steered, message

    def settle(self, turn: int, *, size: int = 0, kept: Sequence[Said] = (), **ended: Any) -> Any:
        messages = [put_out("x" * size or f"answer {turn}")]
        outcome: Any = {"turn": turn, "status": "completed", "messages": messages, **ended}
        live = self.record.find(turn)
        assert live is not None
        run(_history.settle(self.ctx, live, outcome, kept, ENDED_AT))
        left = tuple(x for x in self.record.live if x.turn != turn)
        steered = tuple(x for x in self.record.steered if x.turn != turn)
        self.record = self.record._replace(live=left, steered=steered)
        return settled_turn(turn, messages=messages)

    def read(
        self,
        before: int | None = None,
        record: Record | None = None,
        *,
        first: int = 1,
        discarded: Discarded = (),
        bare: bool = False,
    ) -> list[Turn]:
        self.state.reads.clear()
        record = record or self.record
        numbers = range(first, before or record.next)
        turns: list[Turn] = run(_history.read(self.ctx, record, discarded, numbers, bare=bare))
        return turns


def test_turns_are_read_in_their_order_whatever_order_they_were_settled_in() -> None:
    history = History()
    for turn in range(1, 21):
        history.begin(turn)
    settled = {turn: history.settle(turn) for turn in (3, 1, 17, 16, 2, 20, 5)}
    live = {x: live_turn(x) for x in range(1, 21) if x not in settled}
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
    assert history.read(before=2) == turns[:1]
    assert history.state.reads == ["page/0"]  # of the page, only what is asked for
    assert history.read(first=2, before=3) == turns[1:2]
    assert [run(_history.read_one(history.ctx, turn)) for turn in (1, 2, 3)] == turns


def test_a_settled_turn_keeps_why_it_was_interrupted_and_why_it_failed() -> None:
    history = History()
    history.begin(1, "interrupted by turn 2")
    history.begin(2)
    history.settle(1, status="interrupted", partial=1)
    history.settle(2, status="failed", messages=[], error="no")
    assert history.state.values == {
        "page/0": [
            settled_turn(1, status="interrupted", reason="interrupted by turn 2", partial=1),
            settled_turn(2, status="failed", messages=[], error="no"),
        ]
    }


def test_a_live_turn_says_why_it_was_cancelled() -> None:
    history = History()
    history.begin(1, "cancelled")
    assert history.read() == [live_turn(1, reason="cancelled")]


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
    assert history.state.reads == ["turn/2", "steered/2", "steered/3", "steered/4", "page/0"]
    assert history.read(bare=True) == [live_turn(1), live_turn(2)]
    assert history.state.reads == ["turn/1", "turn/2", "page/0"]


def test_what_is_discarded_is_marked_whether_it_is_settled_large_or_live() -> None:
    history = History()
    for turn in range(1, 6):
        history.begin(turn)
    history.settle(1)
    history.settle(2)
    history.settle(3, size=LARGE)
    turns = history.read(discarded=((2, 3), (5, 9)))
    assert [(turn["turn"], turn.get("discarded")) for turn in turns] == [
        (1, None),
        (2, True),
        (3, True),
        (4, None),
        (5, True),
    ]


@pytest.mark.parametrize(
    ("numbers", "pages"),
    [
        (range(1, 17), [0]),
        (range(16, 17), [0]),
        (range(17, 18), [1]),
        (range(16, 18), [0, 1]),
        (range(2, 33), [0, 1]),
        (range(33, 41), [2]),
        (range(40, 41), [2]),
        (range(20, 20), []),
        (range(17, 17), []),
        (range(1, 1), []),
    ],
)
def test_only_the_pages_and_the_live_turns_are_read_that_are_asked_for(
    numbers: range, pages: list[int]
) -> None:
    history = History()
    for turn in range(1, 40):
        history.begin(turn)
        history.settle(turn)
    history.begin(40)
    turns = history.read(first=numbers.start, before=numbers.stop)
    assert [turn["turn"] for turn in turns] == list(numbers)
    live = ["turn/40"] if 40 in numbers else []
    assert set(history.state.reads) >= {*live, *(f"page/{page}" for page in pages)}
    if numbers:
        assert history.state.reads == [*live, *(f"page/{page}" for page in pages)]


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
    assert turns == [*settled, live_turn(2)]


def test_a_turn_that_is_live_or_unknown_is_not_one_of_the_settled() -> None:
    history = History()
    history.begin(1)
    history.begin(2)
    history.settle(1)
    assert run(_history.read_one(history.ctx, 2)) is None
    assert run(_history.read_one(history.ctx, 17)) is None


def test_what_a_live_turn_began_with_is_read_and_nothing_of_what_there_is_not() -> None:
    history = History()
    history.begin(1)
    assert run(_history.begun_with(history.ctx, 1)) == [said("message 1")]
    assert run(_history.begun_with(history.ctx, 2)) == []


def test_settled_turns_of_one_page_are_stored_at_once_beside_what_is_there() -> None:
    history = History()
    turns: list[Any] = [settled_turn(17), settled_turn(19, messages=[put_out("x" * LARGE)])]
    _history.store(history.ctx, [18], turns)
    assert history.state.values == {"page/1": [18, turns[0], 19], "turn/19": turns[1]}


# -- What is left when a session is emptied. -------------------------------------------------------


def test_the_keys_of_settled_turns_are_those_of_no_live_turn_and_of_nobody_else() -> None:
    history = History()
    for turn in range(1, 19):
        history.begin(turn)
        if turn not in (2, 18):
            history.settle(turn, size=LARGE if turn == 3 else 0)
    history.steer(1, 2)
    foreign = ["session", "discarded", "my state", "page/x", "my page/0", "turn/3/x", "Page/0"]
    for key in foreign:
        history.state.set(key, "x")
    settled = ["page/0", "page/1", "turn/3"]
    assert sorted(run(_history.settled_keys(history.ctx, history.record))) == settled
    assert history.state.values.keys() == {*settled, *foreign, "turn/2", "turn/18", "steered/1"}


# -- The record of a turn that has ended. ----------------------------------------------------------

A, B, C = put_out("a"), put_out("b"), put_out("c")


def steered(number: int, at: int = 2, *, taken: bool = False, joined: bool = False) -> Said:
    """A message that belongs to turn 1."""
    return Steered(number, 1, at, taken, joined), said(f"steered {number}")


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
    assert finish(live, ended, iter(kept)) == {**base, **expected}
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
    ended = finish(live, {"turn": 1, "status": status, "messages": []}, [])
    expected = (
        live_turn(1, status=status) if kept is None else live_turn(1, status=status, reason=kept)
    )
    assert ended == expected


def test_what_joined_a_turn_stands_before_or_after_what_it_was_begun_for_as_it_was_accepted() -> (
    None
):
    begun = [said("begun 1"), said("begun 2")]
    joined = [
        (Steered(number, 3, at, joined=True), said(f"steered {number}"))
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
