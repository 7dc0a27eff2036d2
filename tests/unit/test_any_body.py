"""Whatever is sent to a handler, it is done or refused: any other error would hold the session."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from restate import TerminalError

from interruptible._handlers import HANDLERS, PUBLIC
from interruptible._session import effects, stored_record
from interruptible._session.record import Record
from interruptible._wire import types
from interruptible._wire.checks import Malformed
from interruptible._wire.shapes import shape

from . import handling
from .handling import KILLED, QUIET, REPORTED, UNKNOWN, as_json, body_of, handle
from .test_changes import AGAIN, ASKED, ASKS, BURST, EARLIER, STOPPED

small_bounds, without_a_server = handling.small_bounds, handling.without_a_server
"""For each of these tests."""

LETTERS = st.text(st.sampled_from("ab \n\ud800ä"), max_size=4)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, 2**53, -(2**53), 10**30])
    | st.floats()
    | LETTERS,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(LETTERS, inside, max_size=3),
    max_leaves=6,
)
NUMBERS = st.integers(0, 6)
TURNS = st.sampled_from([1, 2, 2, 3, 3, 4, 5])
MESSAGES = st.sampled_from([0, 1, 2, 2, 3, 3, 4, 4, 5, 6])
REASONS = st.none() | st.sampled_from(["why", "rolled back by turn 1"])
PARTS = st.fixed_dictionaries({"type": st.sampled_from(["text", "image"]), "text": st.just("x")})
CONTENTS = st.sampled_from(["Hello", "x" * 5000]) | st.lists(PARTS, min_size=1, max_size=2)
TRUE = st.booleans()
FIELDS: Mapping[str, st.SearchStrategy[Any]] = {
    "after_step": TRUE,
    "approval": st.sampled_from([1, 3, 3, 4, 9]),
    "approved": TRUE,
    "after": NUMBERS,
    "before": NUMBERS,
    "begins": TRUE,
    "content": CONTENTS,
    "ended": st.lists(st.integers(1, 6), max_size=2),
    "from": st.just(["old", 1]),
    "if_idle": st.just(value=False),
    "if_last": st.none() | NUMBERS,
    "if_turn": st.none() | NUMBERS,
    "keep_queued": TRUE,
    "limit": st.integers(1, 100),
    "message": MESSAGES,
    "messages": st.just(3),
    "most": NUMBERS,
    "metadata": st.dictionaries(st.sampled_from("ab"), st.integers(0, 1), max_size=2),
    "next": st.just(3),
    "now": TRUE,
    "number": st.integers(1, 3),
    "outcome": st.fixed_dictionaries(
        {
            "turn": st.integers(1, 6),
            "status": st.sampled_from(["completed", "interrupted", "failed", "killed"]),
            "messages": st.just([{"role": "user", "content": "x"}] * 2),
        },
        optional={"taken": st.just([[1, 0]]), "partial": st.just(1), "error": st.just("no")},
    ),
    "policy": st.sampled_from(types.POLICIES),
    "reason": REASONS,
    "role": st.just("user"),
    "room": NUMBERS,
    "seen": NUMBERS,
    "session": st.sampled_from(["copy", "key"]),
    "title": st.just("git push"),
    "turn": TURNS,
    "turns": st.lists(st.integers(1, 6), max_size=2),
    "value": JSON,
    "waited": TRUE,
    "within": st.integers(0, 9),
}
OPTIONAL = {
    "after_step",
    "after",
    "before",
    "ended",
    "if_idle",
    "if_last",
    "if_turn",
    "keep_queued",
    "limit",
    "metadata",
    "most",
    "now",
    "policy",
    "reason",
    "role",
    "room",
    "value",
    "within",
}
ENDS = {"turn", "message"}
"""What `attach` takes one of, and `cancel`, `resume` and `regenerate` may have or not."""


def fields_of(handler: str) -> list[str]:
    return [*body_of(handler)._known]


def bodies(handler: str) -> st.SearchStrategy[Any]:
    """What may be sent to a handler: what is right, what is nearly so, and anything."""
    names = fields_of(handler)
    needed = {x: FIELDS[x] for x in names if x not in OPTIONAL}
    if handler == "promote":
        needed["policy"] = st.sampled_from(["interrupt", "steer"])
    if handler in ("attach", "cancel", "resume", "regenerate", "fork"):
        needed = {x: y for x, y in needed.items() if x not in ENDS}
    rest = {x: FIELDS[x] for x in names if x not in needed}
    right = st.fixed_dictionaries(needed, optional=rest)
    one_wrong = right.flatmap(
        lambda body: st.tuples(st.sampled_from([*names, "x"]), JSON).map(
            lambda field: {**body, field[0]: field[1]}
        )
    )
    anything = st.none() | st.just(Malformed("no JSON")) | JSON
    return st.sampled_from([*[right] * 7, one_wrong, anything]).flatmap(lambda x: x)


OFTEN = ("message", "withdraw", "replace", "promote", "answer", "settle", "resume", "edit")
CALLS = st.sampled_from([*HANDLERS, *OFTEN * 2]).flatmap(lambda x: st.tuples(st.just(x), bodies(x)))
LOOKS = st.dictionaries(st.integers(1, 6), st.sampled_from([KILLED, REPORTED, UNKNOWN]), max_size=1)
OPTIONS = st.fixed_dictionaries(
    {
        "debounce": st.sampled_from([None, QUIET]),
        "keep_queued": TRUE,
        "max_pending": st.sampled_from([3, 32]),
    }
)
PAGED = Record("epoch", 10, tail=tuple(AGAIN[6:]), paged=True, messages=8)
SESSIONS: list[tuple[Any, dict[str, Any]]] = [
    (None, {}),
    (stored_record.dump_record(ASKS), ASKED),
    (stored_record.dump_record(BURST), {"steered/1": handling.known(handling.said("x"), 2)}),
    (stored_record.dump_record(STOPPED), {}),
    (stored_record.dump_record(PAGED), {"page/0": [AGAIN[0], 2, *AGAIN[2:6]], "turn/2": AGAIN[1]}),
    (EARLIER, {"steered/1": handling.said("steered 1")}),
]


async def outcome(agent: Any, ctx: Any, record: Record, turn: int) -> Any:
    """What `attach` would wait for."""
    return {"turn": turn, "status": "completed", "messages": []}


def carry_on(state: dict[str, Any], done: list[Any]) -> None:
    """What a handler has stored."""
    for x in done:
        if isinstance(x, str) and x.startswith("clear "):
            state.pop(x.removeprefix("clear "), None)
        elif isinstance(x, tuple) and len(x) == 2 and not x[0].startswith("tell "):
            state[x[0]] = x[1]


@pytest.mark.long
@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from([*SESSIONS, *SESSIONS[1:4], SESSIONS[1]]),
    OPTIONS,
    st.lists(st.tuples(CALLS, LOOKS), min_size=2, max_size=14),
)
def test_whatever_json_comes_is_worked_on_or_refused_and_the_answer_is_as_its_schema_says(
    session: tuple[Any, dict[str, Any]], options: dict[str, Any], calls: list[Any]
) -> None:
    stands, more = as_json(session)
    state: dict[str, Any] = {**more, **({} if stands is None else {"session": stands})}
    accepted: set[int] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(effects, "recorded_outcome", outcome)
        for (name, body), ends in calls:
            handler = HANDLERS[name]
            answer, done = handle(handler.does, body, state=state, ends=ends, **options)
            if isinstance(answer, tuple):  # it is refused
                assert 400 <= answer[0] < 500, answer
                assert done == [] or name in ("get_status", "attach")
                answer[1].encode()
                continue
            carry_on(state, done)
            if name in PUBLIC:
                assert shape(handler.gives).misfit("answer", as_json(answer)) is None
            if name in ("message", "edit"):
                assert answer["message"] not in accepted
                accepted.add(answer["message"])
            if name in ("reset", "adopt"):
                accepted.clear()
            record = stored_record.parse_record(state.get("session"))
            assert record.messages >= max(accepted, default=0)
        for message in sorted(accepted):  # each is somewhere
            answer, _ = handle(HANDLERS["attach"].does, {"message": message}, state=state)
            assert isinstance(answer, dict), answer


def test_every_field_of_a_handler_is_among_those_that_are_tried() -> None:
    assert {x for name in HANDLERS for x in fields_of(name)} == FIELDS.keys()


@pytest.mark.parametrize("handler", sorted(set(PUBLIC) - {"fork", "get_history", "get_status"}))
def test_what_cannot_be_stored_is_refused_whatever_takes_it(handler: str) -> None:
    for body in (Malformed("no JSON"), [], "x", 5, {"\ud800": 1}, {"x": json.loads("NaN")}):
        answer, done = handle(HANDLERS[handler].does, body, state=SESSIONS[1][1])
        assert (answer[0], done) == (400, [])
        assert TerminalError(answer[1]).message.encode()
