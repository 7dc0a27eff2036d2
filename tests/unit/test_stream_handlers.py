"""The handlers of a stream: nothing that they are sent may block it for ever."""

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import restate
from hypothesis import example, given, settings
from hypothesis import strategies as st
from restate import TerminalError

from interruptible._stream import bodies, handlers
from interruptible._stream.handlers import STREAM_HANDLERS
from interruptible._wire.checks import parse

from . import streams
from .given import Given
from .streams import Kept, call

BEGIN = {"turn": 1, "key": "key"}
SAID = {"event": {"type": "text", "text": "Hi"}, "after": 0, "step": 3}
BATCH = {"key": "key", "voice": "a", "seq": 1, "events": [SAID]}


class Waiting(Kept):
    """A context in which whoever waits is told what the test says."""

    told: Any = None
    is_told = False

    def awakeable(self, serde: Any) -> tuple[str, Given[Any]]:
        return "awakeable", Given(self.told)

    def sleep(self, _: Any) -> Given[None]:
        return Given(None)


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait_completed(*futures: Any) -> tuple[list[Any], list[Any]]:
        return [], [*futures]

    monkeypatch.setattr(restate, "wait_completed", wait_completed)


def answered(ctx: Kept, handler: str, body: Any) -> Any:
    """What comes of a body that was sent as JSON: an answer, or the status of a refusal."""
    try:
        return call(ctx, handler, parse(json.dumps(body).encode()))
    except TerminalError as refusal:
        return refusal.status_code


# -- What is refused. ------------------------------------------------------------------------------


def but(body: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return {**body, **fields}


NO_BODIES: Any = (1, "x", [], True)
NO_STEPS: Any = ("1", [])
NO_OFFSETS: Any = ("1", -1, [])
NO_NUMBERS: Any = ("1", 1.5, True, None, [1], {}, -1, 2**60)
NO_EVENTS: Any = (
    None,
    "text",
    {},
    {"type": None},
    {"type": 1},
    {"type": ["text"]},
    {"type": "text"},
    {"type": "text", "text": 1},
    {"type": "reasoning", "text": None},
    {"type": "output", "text": "x"},
    {"type": "output", "text": "x", "call": 1},
    {"type": "tool", "call": "1", "name": "f"},
    {"type": "tool", "call": "1", "name": "f", "state": 1},
)
NOT_SAID: Any = (
    {"type": "message", "message": {"role": "assistant"}},
    {"type": "steered", "message": {"role": "user"}},
    {"type": "turn", "state": "ends", "status": "completed"},
    {"type": "pending"},
    {"type": "discarded", "turns": [1]},
    {"type": "gap"},
)
NOT_TOLD: Any = (
    {"type": "message"},
    {"type": "message", "message": "Hi"},
    {"type": "steered", "message": None},
    {"type": "turn", "state": "ends"},
    {"type": "turn", "state": "ends", "status": None},
    {"type": "discarded", "turns": 1},
)
REFUSED: list[tuple[str, Any]] = [
    *((name, x) for name in STREAM_HANDLERS if name != "truncate" for x in NO_BODIES),
    *((name, None) for name in STREAM_HANDLERS if name != "pull"),
    *((name, {}) for name in STREAM_HANDLERS if name != "pull"),
    *(("pull", {"offset": x}) for x in NO_NUMBERS),
    *(("pull", {"wait": x}) for x in ("1", None, True, -1, 31)),
    ("pull", {"since": 1}),
    *(("publish", but(BATCH, **{x: 1})) for x in ("key", "voice", "events")),
    *(("publish", but(BATCH, seq=x)) for x in [*NO_NUMBERS, 0]),
    *(("publish", but(BATCH, gap=x)) for x in (1, "yes", None)),
    *(("publish", but(BATCH, events=[but(SAID, event=x)])) for x in [*NO_EVENTS, *NOT_SAID]),
    *(("publish", but(BATCH, events=[but(SAID, after=x)])) for x in NO_NUMBERS),
    *(("publish", but(BATCH, events=[but(SAID, step=x)])) for x in NO_STEPS),
    ("publish", but(BATCH, events=[{"event": SAID["event"]}])),
    *(("subscribe", {"id": x, "offset": 1}) for x in (1, None)),
    *(("subscribe", {"id": "x", "offset": x}) for x in NO_OFFSETS),
    *(("truncate", x) for x in (-1, 1.5, "1", True)),
    *(("begin", but(BEGIN, turn=x)) for x in [*NO_NUMBERS, 0]),
    ("begin", but(BEGIN, key=None)),
    *((x, {"turn": 1, "events": [y]}) for x in ("tell", "note") for y in [*NO_EVENTS, *NOT_TOLD]),
    *((x, {"turn": y, "events": []}) for x in ("tell", "note") for y in NO_NUMBERS),
    *(("end", {"turn": x, "status": "failed", "messages": 0}) for x in NO_NUMBERS),
    *(("end", {"turn": 1, "status": "failed", "messages": x}) for x in NO_NUMBERS),
    ("end", {"turn": 1, "status": None, "messages": 0}),
    *(("words", {"turn": x}) for x in NO_NUMBERS),
]


@pytest.mark.parametrize("began", [False, True], ids=["a new stream", "a turn at work"])
def test_what_a_handler_could_not_work_on_is_refused_and_changes_nothing(began: bool) -> None:
    ctx = Waiting()
    if began:
        call(ctx, "begin", BEGIN)
    before = dict(ctx.state)
    taken = [(name, x) for name, x in REFUSED if answered(ctx, name, x) != 400]
    assert taken == []
    assert ctx.state == before
    assert (ctx.sent, ctx.resolved) == ([], [])


@pytest.mark.parametrize("handler", STREAM_HANDLERS)
@pytest.mark.parametrize("body", [b"{", b'{"turn": NaN}', b"\xff", b"[" * 10_000], ids=repr)
def test_what_is_no_json_is_refused(handler: str, body: bytes) -> None:
    with pytest.raises(TerminalError) as refused:
        call(Waiting(), handler, parse(body))
    assert refused.value.status_code == 400


def test_only_who_knows_the_key_of_the_turn_at_work_publishes() -> None:
    ctx = Waiting()
    assert answered(ctx, "publish", BATCH) == 403
    call(ctx, "begin", BEGIN)
    for key in ("", "kez", "key ", "\ud800", "ké"):
        assert answered(ctx, "publish", but(BATCH, key=key)) == 403
    assert answered(ctx, "publish", BATCH) == {"taken": 1}
    call(ctx, "begin", {"turn": 2, "key": "another"})
    assert answered(ctx, "publish", but(BATCH, seq=2)) == 403
    call(ctx, "end", {"turn": 2, "status": "killed", "messages": 0})
    assert answered(ctx, "publish", but(BATCH, key="another")) == 403
    assert answered(ctx, "publish", but(BATCH, key="")) == 403


# -- Whatever JSON comes. --------------------------------------------------------------------------

LETTERS = st.sampled_from(["", "a", "key", "call", "\ud800", "\udc00x", "é", "\0", "😀"])
NUMBERS = st.sampled_from([0, 1, 2, 3, 7, 2**53, -1, 10**30]) | st.floats(allow_nan=False)
VALUES: Any = st.recursive(
    st.none() | st.booleans() | NUMBERS | LETTERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LETTERS, inner, max_size=3),
    max_leaves=6,
)


def mostly(right: Any) -> Any:
    """What is right, but not always."""
    return st.one_of(right, right, right, right, right, right, right, VALUES)


def record(needed: Mapping[str, Any], **optional: Any) -> Any:
    fields = {name: mostly(x) for name, x in needed.items()}
    return mostly(st.fixed_dictionaries(fields, optional=optional))


TURNS = st.integers(1, 4)
BLOCKS = st.lists(
    record({"type": st.sampled_from(["tool_result", "text", "toolResult"])}, tool_use_id=LETTERS),
    max_size=2,
)
MESSAGES = record(
    {"role": st.sampled_from(["assistant", "tool", "user", "function"])},
    content=mostly(st.one_of(LETTERS, BLOCKS)),
    tool_call_id=mostly(LETTERS),
)
KINDS = [*bodies._SHAPES, "mine"]
EVENTS = record(
    {
        "type": st.sampled_from(KINDS),
        "text": LETTERS,
        "call": LETTERS,
        "name": LETTERS,
        "state": st.sampled_from(["begins", "ends"]),
        "status": st.sampled_from(["completed", "killed", "mine"]),
        "message": MESSAGES,
        "turns": st.lists(TURNS, max_size=2),
    }
)
SAYS = record({"event": EVENTS, "after": st.integers(0, 2)}, step=mostly(st.integers(0, 2)))
TELLS = record({"turn": TURNS, "events": st.lists(EVENTS, max_size=3)}, anew=st.booleans())
BODIES: dict[str, Any] = {
    "pull": record({"offset": st.integers(0, 9), "wait": st.sampled_from([0, 1])}),
    "publish": record(
        {
            "key": LETTERS,
            "voice": LETTERS,
            "seq": st.integers(1, 4),
            "events": st.lists(SAYS, max_size=3),
        },
        gap=st.booleans(),
    ),
    "subscribe": record({"id": LETTERS, "offset": st.integers(0, 9)}),
    "truncate": mostly(st.integers(0, 9)),
    "begin": record({"turn": TURNS, "key": LETTERS}),
    "tell": TELLS,
    "note": TELLS,
    "end": record({"turn": TURNS, "status": LETTERS, "messages": st.integers(0, 3)}),
    "words": record({"turn": TURNS}),
}
CALLS = st.sampled_from([*STREAM_HANDLERS]).flatmap(lambda x: st.tuples(st.just(x), BODIES[x]))


@settings(max_examples=120, deadline=None, derandomize=True, database=None)
@given(st.lists(CALLS, min_size=1, max_size=15))
@example([("begin", {"turn": 1, "key": "\ud800"}), ("publish", but(BATCH, key="key"))])
def test_whatever_json_comes_is_worked_on_or_refused(calls: list[tuple[str, Any]]) -> None:
    """Any other error would be tried again, and nothing after it in the session's stream."""
    assert BODIES.keys() == STREAM_HANDLERS.keys()
    ctx = Waiting()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interruptible._stream.keeping.PAGE", 100)
        for handler, body in calls:
            before = dict(ctx.state)
            came = answered(ctx, handler, body)
            json.dumps(came)
            if type(came) is int:
                assert came in (400, 403)
                assert ctx.state == before
        answer = call(ctx, "pull", {"offset": 0, "wait": 0})
        assert answer["messages"][0]["type"] == "gap"


# -- Whoever waits. --------------------------------------------------------------------------------


def test_who_waits_subscribes_and_then_does_no_more() -> None:
    ctx = Waiting()
    call(ctx, "begin", BEGIN)
    answer = call(ctx, "pull", {"offset": 2})
    assert answer == {"messages": [], "nextOffset": 2}
    assert [(x, y, json.loads(body)) for x, y, body in ctx.sent] == [
        ("Stream", "subscribe", {"id": "awakeable", "offset": 2}),
        ("Stream", "subscribe", {"id": "awakeable"}),
    ]


def test_who_asks_for_no_offset_waits_for_what_is_new() -> None:
    ctx = Waiting()
    call(ctx, "begin", BEGIN)
    assert call(ctx, "pull", None) == {"messages": [], "nextOffset": 2}
    assert call(ctx, "pull", {}) == {"messages": [], "nextOffset": 2}
    assert {json.loads(body).get("offset", 2) for *_, body in ctx.sent} == {2}


def test_who_does_not_wait_is_answered_at_once() -> None:
    ctx = Waiting()
    assert call(ctx, "pull", {"offset": 1, "wait": 0}) == {"messages": [], "nextOffset": 1}
    assert ctx.sent == []


def told_while_it_waits(ctx: Waiting, monkeypatch: pytest.MonkeyPatch) -> Any:
    async def wait_completed(*futures: Any) -> tuple[list[Any], list[Any]]:
        call(ctx, "tell", {"turn": 1, "events": [{"type": "mine"}]})
        return [*futures[:1]], [*futures[1:]]

    monkeypatch.setattr(restate, "wait_completed", wait_completed)
    call(ctx, "begin", BEGIN)
    return call(ctx, "pull", {"offset": 2})


EXPECTED = {"messages": [{"id": 3, "turn": 1, "type": "mine"}], "nextOffset": 3}


def test_what_a_waiting_follower_is_told_is_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = Waiting()
    ctx.told = {"messages": [{"id": 9}], "nextOffset": 9}
    assert told_while_it_waits(ctx, monkeypatch) == ctx.told


def test_who_is_told_that_there_is_something_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told_while_it_waits(Waiting(), monkeypatch) == EXPECTED


def test_all_who_wait_are_told_once_and_who_comes_too_late_at_once() -> None:
    ctx = Waiting()
    call(ctx, "begin", BEGIN)
    for name in ("a", "b", "c"):
        call(ctx, "subscribe", {"id": name, "offset": 2})
    call(ctx, "subscribe", {"id": "late", "offset": 1})
    assert ctx.resolved == [("late", None)]
    call(ctx, "subscribe", {"id": "b", "offset": None})
    call(ctx, "tell", {"turn": 1, "events": [{"type": "mine"}]})
    call(ctx, "tell", {"turn": 1, "events": [{"type": "mine"}]})
    assert ctx.resolved[1:] == [("a", EXPECTED), ("c", EXPECTED)]


def test_who_waits_is_not_told_of_what_followers_do_not_see() -> None:
    ctx = Waiting()
    call(ctx, "begin", BEGIN)
    call(
        ctx, "tell", {"turn": 1, "events": [{"type": "turn", "state": "ends", "status": "failed"}]}
    )
    call(ctx, "subscribe", {"id": "a", "offset": 3})
    call(ctx, "end", {"turn": 1, "status": "failed", "messages": 0})
    assert ctx.resolved == []
    call(ctx, "begin", {"turn": 2, "key": "another"})
    assert [name for name, _ in ctx.resolved] == ["a"]


def test_who_waits_is_not_sent_more_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "TOLD", 100)
    ctx = Waiting()
    call(ctx, "begin", BEGIN)
    call(ctx, "subscribe", {"id": "a", "offset": 2})
    call(ctx, "tell", {"turn": 1, "events": [{"type": "mine", "much": "x" * 100}]})
    assert ctx.resolved == [("a", None)]


def test_a_page_that_goes_while_it_is_read_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interruptible._stream.keeping.PAGE", 10)
    ctx = Waiting()
    call(ctx, "begin", BEGIN)
    call(ctx, "publish", BATCH)
    assert ctx.pages == ["page/2", "page/3"]

    class Behind(Waiting):
        """It reads the log before the message comes, and the pages after it."""

        def get(self, name: str, serde: Any) -> Given[Any]:
            found = super().get(name, serde)
            if name == "log" and not self.is_told:
                self.is_told = True
                message = {"type": "message", "message": {"role": "assistant", "content": "Hi!"}}
                call(self, "tell", {"turn": 1, "events": [message]})
            return found

    behind = Behind()
    behind.state = ctx.state
    answer = call(behind, "pull", {"offset": 2, "wait": 0})
    assert [x["type"] for x in answer["messages"]] == ["message"]


# -- What Restate is told of them. -----------------------------------------------------------------


def test_callers_may_pull_and_publish_and_all_else_is_the_agents() -> None:
    made: Any = handlers.stream_object("PoetStream")
    assert made.name == "PoetStream"
    public = {x for x, handler in made.handlers.items() if not handler.ingress_private}
    assert public == {"pull", "publish"}
    shared = {x for x, handler in made.handlers.items() if handler.kind == "shared"}
    assert shared == {"pull"}
    assert made.handlers.keys() == STREAM_HANDLERS.keys()


def test_who_pulls_may_leave_out_the_body_and_who_publishes_may_not() -> None:
    pull, publish = STREAM_HANDLERS["pull"].body, STREAM_HANDLERS["publish"].body
    assert pull is not None
    assert publish is not None
    assert pull(None) == {}
    with pytest.raises(TerminalError):
        publish(None)


def test_an_empty_session_has_no_stream() -> None:
    made: Any = handlers.stream_object("PoetStream")
    ctx: Any = SimpleNamespace(key=lambda: "")
    for name in ("pull", "publish"):
        with pytest.raises(TerminalError) as refused:
            streams.at_once(made.handlers[name].fn(ctx, None))
        assert refused.value.status_code == 400
