"""What is done, and in which order, where no server is needed to see it."""

import asyncio
import copy
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
import restate
from restate import TerminalError
from restate.server_context import DisconnectedException
from restate.vm import SingleUnresolvedFuture

from interruptible import Session
from interruptible._cancel.ending import terminal
from interruptible._cancel.sdk import TOO_MANY, any_of, handles_of
from interruptible._cancel.state import standing
from interruptible._cancel.watch import Interrupted, Watch
from interruptible._session import (
    effects,
    private,
    public,
    sent,
    stored_record,
    telling,
    views,
)
from interruptible._session.record import Addition, Live, Record
from interruptible._session.rules import Step
from interruptible._task import outcome
from interruptible._task.earlier import Before
from interruptible._task.outcome import Ending
from interruptible._wire import types as wire

from . import handling
from .given import Given
from .handling import (
    AGENT,
    BUSY,
    HELLO,
    IDLE,
    KILLED,
    LARGE,
    NOW,
    ONE,
    OPEN,
    PENDING,
    QUIET,
    REPORTED,
    STREAM,
    TWO,
    UNKNOWN,
    Handling,
    after_message,
    an_outcome,
    as_json,
    as_stored,
    begun,
    cancel,
    dispatched,
    gone,
    handle,
    known,
    live,
    noted,
    now_settled,
    put_out,
    said,
    settled,
    shown,
    steered_state,
    stored,
    told,
    unless_queued,
    watcher,
    with_task,
)

small_bounds, without_a_server = handling.small_bounds, handling.without_a_server
"""For each of these tests."""


# -- A step of the rules. --------------------------------------------------------------------------


def test_cancels_are_sent_before_the_record_says_so_and_then_those_behind_are_told() -> None:
    # Killed in between, a session would believe in a cancel that it never sent.
    lives = (
        Live(1, "inv-1", "cancelled"),
        Live(2, "inv-2", "cancelled"),
        Live(3, "inv-3"),
        Live(4, "inv-4", "cancelled"),
        Live(5),
        Live(6, "inv-6"),
    )
    record = Record("epoch", 19, lives, paged=True)
    step = Step(record, cancel=(lives[1], lives[3]), discard=(2, 18))
    ctx = Handling({"page/1": [17, 18], "page/0": [settled(1), settled(2)]})
    asyncio.run(effects.carry_out(AGENT, cast("Any", ctx), step))
    assert ctx.done == [
        "cancel inv-2",
        "cancel inv-4",
        ("page/0", [settled(1), gone(settled(2))]),
        ("page/1", [17, -18]),
        stored(step.record),
        "tell inv-3: turn 2 is cancelled",
        "tell inv-6: turn 2 is cancelled",
        "tell inv-6: turn 4 is cancelled",
    ]


@pytest.mark.parametrize(
    ("handler", "body"),
    [
        (public.on_message, {"content": "Hello"}),
        (public.on_message, {"content": "Hello", "policy": "rollback"}),
        (public.on_edit, {"turn": 1, "content": "Hello"}),
    ],
)
def test_who_is_cancelled_finds_on_record_why_as_nothing_is_waited_for_in_between(
    handler: Any, body: Any
) -> None:
    class Slow(Given[Any]):
        def __await__(self) -> Any:
            ctx.done.append("time")
            return super().__await__()

    ctx = Handling({"session": stored_record.dump_record(BUSY)})
    ctx.run_typed = lambda *_: Slow(NOW)  # type: ignore[method-assign]
    asyncio.run(handler(AGENT, ctx, body))
    assert [x if isinstance(x, str) else x[0] for x in ctx.done][:4] == [
        "time",
        "cancel inv-1",
        "cancel inv-2",
        "session",
    ]


@pytest.mark.parametrize(
    ("body", "room", "asks"),
    [
        ({}, 32, False),
        ({"policy": "rollback"}, 32, False),
        ({"policy": "queue"}, 32, False),
        ({"policy": "queue"}, 2, True),
        ({"policy": "reject"}, 32, True),
        ({"policy": "steer"}, 32, True),
        ({"if_turn": 1}, 32, True),
        ({"if_idle": True}, 32, True),
        ({"keep_queued": True}, 32, True),
    ],
)
def test_tasks_are_asked_whether_they_are_over_if_that_decides_what_happens(
    body: Any, room: int, asks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Record] = []

    async def look(agent: Any, ctx: Any, record: Record) -> list[Any]:
        asked.append(record)
        return [(x, None) for x in record.live]

    monkeypatch.setattr(effects, "look", look)
    handle(public.on_message, {"content": "Hello", **body}, BUSY, max_pending=room)
    assert bool(asked) == asks


def test_a_task_that_is_not_known_is_not_cancelled() -> None:
    step = Step(Record("epoch", 2, (Live(1, None, "cancelled"),)), cancel=(Live(1),))
    ctx = Handling({})
    asyncio.run(effects.carry_out(AGENT, cast("Any", ctx), step))
    assert ctx.done == [stored(step.record)]


# -- What is given up. -----------------------------------------------------------------------------

STUCK = ONE._replace(cancelled="interrupted by turn 2")
GIVEN_UP = STUCK._replace(given_up=True)
WITH_STUCK = BUSY._replace(live=(STUCK, TWO, Live(3, "inv-3", "cancelled"), Live(4)), next=5)


def test_what_is_given_up_is_stored_and_then_those_that_wait_for_it_are_told() -> None:
    record = WITH_STUCK._replace(live=(STUCK, TWO, WITH_STUCK.live[2], Live(4, "inv-4")))
    answer, done = handle(private.on_give_up, {"turns": [1, 2, 9]}, record)
    assert done == [
        stored(record._replace(live=(GIVEN_UP, *record.live[1:]))),
        "tell inv-2: turn 1 is given up",
        "tell inv-4: turn 1 is given up",
    ]
    assert answer is None


def test_a_task_whose_id_was_lost_is_told_too() -> None:
    state = {"turn/4": live(4)}
    record = WITH_STUCK._replace(tail=(*BUSY.tail, 4))
    _, done = handle(private.on_give_up, {"turns": [1]}, record, state=state)
    assert done[0][:2] == ("IdleTask", "run_task")
    assert done[-1] == "tell inv-new: turn 1 is given up"


@pytest.mark.parametrize(
    "record", [None, BUSY, BUSY._replace(live=(TWO,)), BUSY._replace(live=(GIVEN_UP, TWO))]
)
def test_what_is_over_not_cancelled_or_given_up_already_is_not_given_up(
    record: Record | None,
) -> None:
    assert handle(private.on_give_up, {"turns": [1]}, record) == (None, [])


@pytest.mark.parametrize("asked", [{}, {"policy": "reject", "if_idle": True}, {"policy": "steer"}])
def test_a_message_does_not_wait_for_what_was_given_up_nor_ask_for_it(asked: Any) -> None:
    record = BUSY._replace(live=(GIVEN_UP,), next=3, tail=BUSY.tail[:1])
    answer, done = handle(public.on_message, {"content": "Hello", **asked}, record, max_pending=1)
    [job] = [x[2] for x in done if x[:2] == ("IdleTask", "run_task")]
    assert job["after"] == []
    assert job["turns"] == [{**shown(STUCK), "given_up": True}]
    assert (answer["turn"], answer["status"], answer["interrupted"]) == (3, "running", [])


def test_the_status_shows_what_was_given_up_also_of_an_idle_session() -> None:
    shown_as = {"turn": 1, "task_id": "inv-1", "cancelled": STUCK.cancelled, "given_up": True}
    idle = {**IDLE, "live": [shown_as]}
    alone = BUSY._replace(live=(GIVEN_UP,), tail=BUSY.tail[:1])
    assert handle(views.on_get_status, None, alone) == (idle, [])
    answer, _ = handle(views.on_get_status, None, BUSY._replace(live=(GIVEN_UP, TWO)))
    assert (answer["status"], answer["turn"]) == ("running", 2)
    assert answer["live"][0] == shown_as


def test_the_late_end_of_what_was_given_up_fills_its_slot_which_still_says_so() -> None:
    record = BUSY._replace(live=(GIVEN_UP, TWO))
    _, done = handle(private.on_settle, {"outcome": an_outcome(1)}, record)
    one = now_settled(1, given_up=True)
    assert done == [stored(record._replace(live=(TWO,), tail=(one, live(2))))]


def test_a_reset_removes_what_was_given_up_and_what_was_steered_at_it() -> None:
    record = BUSY._replace(
        live=(GIVEN_UP, TWO),
        steered=(Addition(1, 1, 2), Addition(2, 2, 3)),
        tail=(1, live(2)),
    )
    state = {"turn/1": live(1), **steered_state(1, 2)}
    answer, done = handle(public.on_reset, None, record, state=state)
    after = record._replace(
        live=(TWO._replace(cancelled="rolled back"),),
        steered=record.steered[1:],
        tail=(gone(live(2)),),
        first=2,
    )
    assert done == ["cancel inv-2", stored(after), "clear turn/1", "clear steered/1"]
    assert answer == {"cancelled": [2]}


def test_a_fork_has_what_was_given_up_as_later_turns_are_told_of_it() -> None:
    record = Record("epoch", 3, (GIVEN_UP,), (Addition(1, 1, 2),), (live(1), settled(2)))
    body = {"session": "copy"}
    answer, [(_, _, sent, _)] = handle(public.on_fork, body, record, state=steered_state(1))
    one = {**shown(GIVEN_UP), "status": "interrupted", "given_up": True}
    assert sent["turns"][0] == {**one, "messages": [said("steered 1")], "steered": [0]}
    assert sent["turns"][1:] == [settled(2)]
    assert answer == {"session": "copy", "turn": 2}


# -- A message. ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "asked", "status"),
    [
        (BUSY, {"policy": "reject"}, 423),
        (BUSY, {"policy": "queue"}, 429),
        (BUSY, {"policy": "steer"}, 429),
        (OPEN, {"policy": "queue", "debounce": QUIET}, 429),
        (BUSY, {"if_idle": True}, 412),
        (BUSY, {"if_turn": 2}, 412),
        (BUSY, {"policy": "rollback", "if_turn": 2}, 412),
        (BUSY, {"policy": "steer", "if_turn": 3}, 412),
        (BUSY, {"policy": "shout"}, 400),
        (BUSY, {"content": [{"type": "tool_result"}]}, 400),
        (BUSY, {"policy": "steer", "allowed_policies": ["interrupt"]}, 400),
        (BUSY, {"content": "x" * 20, "max_content": 10}, 413),
        (None, {"if_turn": 1}, 412),
    ],
)
def test_a_message_that_is_refused_changes_nothing(
    record: Record | None, asked: dict[str, Any], status: int
) -> None:
    options = {
        name: asked.pop(name)
        for name in ("debounce", "allowed_policies", "max_content")
        if name in asked
    }
    body = {"content": "Hello", **asked}
    answer, done = handle(public.on_message, body, record, max_pending=2, **options)
    assert answer[0] == status
    assert done == []


@pytest.mark.parametrize(
    ("asked", "ended", "cancelled", "waits"),
    [
        ({}, [], [1, 2], True),
        ({}, [1, 2], [1, 2], True),  # nobody looks: an interrupt does not depend on it
        ({"if_turn": 1}, [], [1, 2], True),
        ({"if_turn": 2}, [1], [2], True),
        ({"if_idle": True}, [1, 2], [], False),
        ({"policy": "queue"}, [1], [], True),
        ({"policy": "queue", "if_turn": 2}, [1], [], True),
        ({"policy": "queue", "if_idle": True}, [1, 2], [], False),
        ({"policy": "reject"}, [1, 2], [], False),
        ({"policy": "steer"}, [1, 2], [], False),
        ({"policy": "rollback", "if_idle": True}, [1, 2], [], False),
    ],
)
def test_a_message_that_is_taken_in_is_stored_cancels_and_dispatches_in_this_order(
    asked: dict[str, Any], ended: Sequence[int], cancelled: list[int], waits: bool
) -> None:
    body = {"content": "Hello", **asked}
    ends = dict.fromkeys(ended, REPORTED)
    answer, done = handle(public.on_message, body, BUSY, ends=ends, max_pending=2)
    lives = cancel(BUSY, "interrupted by turn 3", *cancelled)
    after = after_message(lives, HELLO)
    assert done == [
        *(f"cancel inv-{turn}" for turn in cancelled),
        stored(after),
        dispatched(3, HELLO, after=lives, turns=unless_queued(*lives)),
        stored(with_task(after)),
    ]
    assert answer == {
        "turn": 3,
        "message": 1,
        "task_id": "inv-new",
        "status": "waiting" if waits else "running",
        "interrupted": cancelled,
    }


def test_the_first_message_of_a_session_makes_its_record() -> None:
    answer, done = handle(public.on_message, {"content": "Hello"})
    epoch = f"{32:08x}"
    task = dispatched(1, HELLO, turns=[])
    record = Record(epoch, 2, (Live(1, own=(1,)),), tail=(begun(1, HELLO),), messages=1)
    assert done == [
        stored(record),
        (*task[:3], {"idempotency_key": f"key/{epoch}/1"}),
        stored(with_task(record)),
    ]
    assert answer == {
        "turn": 1,
        "message": 1,
        "task_id": "inv-new",
        "status": "running",
        "interrupted": [],
    }


def test_a_message_that_is_large_is_stored_beside_the_record_and_first() -> None:
    large = known(said("x" * LARGE))
    _, done = handle(public.on_message, {"content": "x" * LARGE}, Record("epoch", 1))
    record = Record("epoch", 2, (Live(1, own=(1,)),), tail=(1,), messages=1)
    assert done == [
        ("turn/1", begun(1, large)),
        stored(record),
        dispatched(1, large, turns=[]),
        stored(with_task(record)),
    ]


@pytest.mark.parametrize(
    ("record", "turns"),
    [
        (Record("epoch", 3, tail=(settled(1), settled(2))), [settled(1), settled(2)]),
        (Record("epoch", 3, tail=(gone(settled(1)), -2)), []),
        (Record("epoch", 3, tail=(settled(1), 2)), None),
        (Record("epoch", 3, tail=(settled(2),), paged=True), None),
    ],
)
def test_a_task_is_sent_with_the_conversation_if_the_record_has_all_of_it(
    record: Record, turns: list[Any] | None
) -> None:
    _, done = handle(public.on_message, {"content": "Hello"}, record)
    assert done[1] == dispatched(3, HELLO, turns=turns)


@pytest.mark.parametrize(("keep_queued", "cancelled"), [(False, [1, 2]), (True, [1])])
def test_a_rollback_discards_what_it_cancels(keep_queued: bool, cancelled: list[int]) -> None:
    body = {"content": "Hello", "policy": "rollback"}
    answer, done = handle(public.on_message, body, BUSY, keep_queued=keep_queued)
    lives = cancel(BUSY, "rolled back by turn 3", *cancelled)
    told = [] if lives[1].cancelled else ["tell inv-2: turn 1 is cancelled"]
    tail = [gone(live(x.turn)) if x.cancelled else live(x.turn) for x in lives]
    after = after_message(lives, HELLO, tail=tail)
    assert done == [
        *(f"cancel inv-{turn}" for turn in cancelled),
        stored(after),
        *told,
        dispatched(3, HELLO, after=lives, turns=None if told else []),
        stored(with_task(after)),
    ]
    assert answer == {
        "turn": 3,
        "message": 1,
        "task_id": "inv-new",
        "status": "waiting",
        "interrupted": cancelled,
        "discarded": cancelled,
    }


def test_a_rollback_discards_nothing_that_was_cancelled_before() -> None:
    lives = (Live(4, "inv-4", "cancelled"), Live(5, "inv-5"))
    record = Record("epoch", 6, lives, tail=(gone(settled(3)), live(4), live(5)))
    answer, done = handle(public.on_message, {"content": "Hello", "policy": "rollback"}, record)
    tail = done[1][1]["tail"]
    assert tail == [gone(settled(3)), live(4), gone(live(5)), begun(6, HELLO)]
    assert (answer["interrupted"], answer["discarded"]) == ([5], [5])


def test_an_interrupt_that_keeps_what_is_queued_tells_it_that_the_one_before_it_is_cancelled() -> (
    None
):
    answer, done = handle(public.on_message, {"content": "Hello"}, BUSY, keep_queued=True)
    lives = cancel(BUSY, "interrupted by turn 3", 1)
    after = after_message(lives, HELLO)
    assert done == [
        "cancel inv-1",
        stored(after),
        "tell inv-2: turn 1 is cancelled",
        dispatched(3, HELLO, after=lives),
        stored(with_task(after)),
    ]
    assert (answer["status"], answer["interrupted"]) == ("waiting", [1])


@pytest.mark.parametrize(
    ("record", "options", "ended", "host", "answered"),
    [
        pytest.param(BUSY, {"policy": "steer"}, [], 1, "steered", id="at work"),
        pytest.param(BUSY, {"policy": "steer"}, [1], 2, "steered", id="the first is over"),
        pytest.param(
            BUSY._replace(live=(ONE._replace(cancelled="cancelled"), TWO)),
            {"policy": "steer"},
            [],
            2,
            "steered",
            id="the first is cancelled",
        ),
        pytest.param(
            Record("epoch", 2, (ONE._replace(open=True),)),
            {"policy": "steer", "debounce": QUIET},
            [],
            1,
            "joined",
            id="steered at what has not begun",
        ),
        pytest.param(OPEN, {"policy": "queue", "debounce": QUIET}, [], 2, "joined", id="queued"),
        pytest.param(
            Record("epoch", 2, (ONE._replace(open=True),)),
            {"policy": "interrupt", "debounce": QUIET},
            [],
            1,
            "joined",
            id="a burst",
        ),
    ],
)
def test_a_message_without_a_turn_of_its_own_is_stored_and_watched_and_dispatches_nothing(
    record: Record, options: dict[str, Any], ended: Sequence[int], host: int, answered: str
) -> None:
    ends = dict.fromkeys(ended, REPORTED)
    answer, done = handle(public.on_message, {"content": "Hello"}, record, ends=ends, **options)
    steered = Addition(1, host, record.next, joined=answered == "joined", id=1)
    assert done == [
        ("steered/1", HELLO),
        stored(record._replace(steered=(steered,), messages=1)),
        watcher(host),
    ]
    assert answer == {
        "turn": host,
        "message": 1,
        "task_id": f"inv-{host}",
        "status": answered,
        "interrupted": [],
    }


@pytest.mark.parametrize(
    ("before", "number", "watched"),
    [
        ([], 1, True),
        ([Addition(1, 1, 3)], 2, False),
        ([Addition(1, 1, 3, taken=True)], 2, False),
        ([Addition(3, 2, 3)], 4, True),
        ([Addition(3, 2, 3), Addition(4, 1, 3)], 5, False),
    ],
)
def test_only_the_first_message_that_is_steered_at_a_turn_sends_somebody_to_watch_it(
    before: list[Addition], number: int, watched: bool
) -> None:
    record = BUSY._replace(steered=tuple(before))
    body = {"content": "Hello", "policy": "steer"}
    answer, done = handle(public.on_message, body, record)
    steered = (*record.steered, Addition(number, 1, 3, id=1))
    after = record._replace(steered=steered, messages=1)
    watch = [watcher(1)] if watched else []
    assert done == [(f"steered/{number}", HELLO), stored(after), *watch]
    assert answer["status"] == "steered"


def test_what_is_to_join_a_burst_begins_one_where_nothing_is_open() -> None:
    _, done = handle(public.on_message, {"content": "Hello"}, None, debounce=QUIET)
    new = Live(1, open=True, own=(1,))
    opened = Record(f"{32:08x}", 2, (new,), tail=(begun(1, HELLO),), messages=1)
    assert done[0] == stored(opened)
    superseding = {"debounce": QUIET, "burst": "supersede"}
    answer, done = handle(public.on_message, {"content": "Hello"}, OPEN, **superseding)
    assert (answer["turn"], answer["interrupted"]) == (3, [1, 2])
    assert done[-1][1]["live"][-1] == [3, "inv-new", None, False, False, False, [1]]


def test_a_task_whose_id_was_lost_is_sent_once_more_before_all_else_and_then_cancelled() -> None:
    record = BUSY._replace(live=(ONE, Live(2)))
    _, done = handle(public.on_message, {"content": "Hello"}, record)
    one, two = cancel(record, "interrupted by turn 3", 1, 2)
    lives = (one, two._replace(task_id="inv-new"))
    after = after_message(lives, HELLO)
    assert done == [
        dispatched(2, said("message 2"), after=[ONE], queued=False),  # of an earlier version
        "cancel inv-1",
        "cancel inv-new",
        stored(after),
        dispatched(3, HELLO, after=lives, turns=[shown(x) for x in lives]),
        stored(with_task(after)),
    ]


# -- A cancel, and what is shown. ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "why", "cancelled", "told"),
    [
        (None, "cancelled", [1, 2], []),
        ({"turn": 1}, "cancelled", [1], ["tell inv-2: turn 1 is cancelled"]),
        ({"turn": 2, "reason": "wrong file"}, "cancelled: wrong file", [2], []),
        ({"reason": "x"}, "cancelled: x", [1, 2], []),
    ],
)
def test_a_cancel_is_stored_with_its_reason_and_those_behind_are_told(
    body: Any, why: str, cancelled: list[int], told: list[str]
) -> None:
    answer, done = handle(public.on_cancel, body, BUSY)
    assert answer == {"cancelled": cancelled}
    assert done == [
        *(f"cancel inv-{turn}" for turn in cancelled),
        stored(BUSY._replace(live=cancel(BUSY, why, *cancelled))),
        *told,
    ]


OVER = BUSY._replace(live=(TWO._replace(cancelled="interrupted by turn 3"),))


@pytest.mark.parametrize(
    ("record", "body", "answer"),
    [
        (OVER, None, {"cancelled": []}),
        (OVER, {"turn": 1}, {"cancelled": []}),
        (OVER, {"turn": 2, "reason": "x"}, {"cancelled": []}),
        (None, None, {"cancelled": []}),
        (
            None,
            {"turn": 1},
            (404, "turn: there is no turn 1 in this session; it has no turns yet."),
        ),
        (
            OVER,
            {"turn": 3},
            (404, "turn: there is no turn 3 in this session; its turns are 1 to 2."),
        ),
        (
            OVER,
            {"turn": 0},
            (404, "turn: there is no turn 0 in this session; its turns are 1 to 2."),
        ),
    ],
)
def test_a_cancel_of_what_is_over_or_never_was_changes_nothing(
    record: Record | None, body: Any, answer: Any
) -> None:
    assert handle(public.on_cancel, body, record) == (answer, [])


@pytest.mark.parametrize(
    ("live", "turn"),
    [
        ((ONE, TWO), 1),
        ((ONE._replace(cancelled="cancelled"), TWO), 2),
        ((ONE, TWO._replace(cancelled="cancelled")), 1),
        ((), None),
    ],
)
def test_the_turn_of_the_status_is_the_one_at_work(
    live: tuple[Live, ...], turn: int | None
) -> None:
    answer, done = handle(views.on_get_status, None, BUSY._replace(live=live))
    assert answer == {
        **IDLE,
        "status": "running" if live else "idle",
        "turn": turn,
        "task_id": turn and f"inv-{turn}",
        "live": [{"turn": x.turn, "task_id": x.task_id, "cancelled": x.cancelled} for x in live],
    }
    assert done == []


def test_the_status_leaves_out_what_was_killed_and_sends_somebody_to_settle_what_is_over() -> None:
    lives = (ONE, TWO, Live(3, "inv-3", "cancelled"))
    steered = (
        Addition(1, 1, 4),
        Addition(2, 2, 4),
        Addition(3, 2, 4, taken=True),
        Addition(4, 3, 4),
    )
    record = Record("epoch", 4, lives, steered)
    ends = {1: KILLED, 3: REPORTED}
    answer, done = handle(views.on_get_status, None, record, ends=ends)
    assert answer == {
        "status": "running",
        "turn": 2,
        "task_id": "inv-2",
        "live": [
            {"turn": 2, "task_id": "inv-2", "cancelled": None},
            {"turn": 3, "task_id": "inv-3", "cancelled": "cancelled"},
        ],
        "steered": 1,
        "pending": [],  # an earlier version gave them no ids
        "waiting_for": [],
    }
    assert done == [watcher(1), watcher(3)]


def test_a_task_that_restate_does_not_know_yet_is_live_and_is_looked_after() -> None:
    """What sends it may be under way, while a node takes over from another."""
    record = Record("epoch", 2, (ONE,), tail=(live(1),))
    answer, done = handle(views.on_get_status, None, record, ends={1: UNKNOWN})
    assert (answer["status"], answer["turn"], len(answer["live"])) == ("running", 1, 1)
    assert done == [watcher(1)]
    refused, done = handle(
        public.on_message, {"content": "Hello", "if_idle": True}, record, ends={1: UNKNOWN}
    )
    assert refused == (412, "if_idle: turn 1 is live. Wait for it, or leave out if_idle.")
    assert done == []


@pytest.mark.parametrize("answers", [[KILLED], [UNKNOWN, REPORTED], [UNKNOWN] * 6])
def test_who_waits_for_a_task_that_restate_does_not_know_asks_again_for_half_a_minute(
    monkeypatch: pytest.MonkeyPatch, answers: list[Ending]
) -> None:
    left, done = iter(answers), list[Any]()

    async def ending(ctx: Any, turn: int, task: Any) -> Ending:
        return next(left)

    class Waiting:
        async def sleep(self, delta: timedelta) -> None:
            done.append(delta)

        def attach_invocation(self, task_id: str, serde: Any) -> None:
            done.append(task_id)

    monkeypatch.setattr(outcome, "ending", ending)
    end = asyncio.run(outcome.known_ending(cast("Any", Waiting()), 1, "inv-1", cast("Any", None)))
    assert end is answers[-1]
    assert list(left) == []
    again = [timedelta(seconds=x) for x in (1, 2, 4, 8, 15)][: len(answers) - 1]
    assert done == [what for pause in again for what in (pause, "inv-1")]


def test_a_session_that_never_was_is_idle_and_has_nothing() -> None:
    assert handle(views.on_get_status) == (IDLE, [])
    assert handle(views.on_get_history) == ([], [])
    assert handle(views.on_get_turns) == ({"turns": [], "before": None}, [])
    assert handle(public.on_reset) == ({"cancelled": []}, [])


def test_the_history_leaves_out_what_is_discarded_and_has_what_was_steered_at_a_live_turn() -> None:
    state = {"page/0": [settled(1), gone(settled(2))], "steered/1": said("steered")}
    record = Record(
        "epoch", 4, (Live(3, "inv-3"),), (Addition(1, 3, 4),), tail=(live(3),), paged=True
    )
    answer, done = handle(views.on_get_history, None, record, state=state)
    assert answer == [
        said("message 1"),
        put_out("answer 1"),
        said("message 3"),
        said("steered"),
    ]
    assert done == []


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (None, {"turn": 3, "status": "completed", "messages": [put_out("answer 3")]}),
        (
            {"turn": 1},
            {"turn": 1, "status": "failed", "messages": [], "error": "no"},
        ),
        (
            {"turn": 2},
            {"turn": 2, "status": "interrupted", "messages": [put_out("answer 2")], "partial": 1},
        ),
        ({"turn": 4}, (404, "turn: there is no turn 4 in this session; its turns are 1 to 3.")),
    ],
)
def test_who_attaches_to_a_turn_that_is_settled_has_its_outcome_at_once(
    body: Any, answer: Any
) -> None:
    page = [
        settled(1, status="failed", messages=[], error="no"),
        gone(settled(2, status="interrupted", reason="cancelled", partial=1)),
        settled(3, steered=[0]),
    ]
    record = Record("epoch", 4, tail=tuple(page))
    assert handle(views.on_attach, body, record) == (answer, [])
    record = Record("epoch", 4, tail=(page[2],), paged=True)
    assert handle(views.on_attach, body, record, state={"page/0": page[:2]}) == (answer, [])


def test_who_attaches_to_a_turn_that_was_removed_is_told_so() -> None:
    refused = (404, "turn: 1 was removed from this session.")
    assert handle(views.on_attach, {"turn": 1}, Record("epoch", 2)) == (refused, [])


def test_the_report_of_a_task_that_restate_has_forgotten_may_be_under_way_and_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def attach_invocation(ctx: Handling, invocation_id: str, serde: Any) -> None:
        ctx.done.append(f"attach {invocation_id}")

    def sleep(ctx: Handling, delta: timedelta) -> Given[None]:
        ctx.done.append(delta)
        ctx.state["session"] = stored_record.dump_record(Record("epoch", 2, tail=(settled(1),)))
        return Given(None)

    async def ending(ctx: Any, turn: int, task: Any) -> Ending:
        return UNKNOWN

    monkeypatch.setattr(Handling, "attach_invocation", attach_invocation, raising=False)
    monkeypatch.setattr(Handling, "sleep", sleep, raising=False)
    monkeypatch.setattr(outcome, "ending", ending)
    reported = {"turn": 1, "status": "completed", "messages": [put_out("answer 1")]}
    record = Record("epoch", 2, (ONE,), tail=(live(1),))
    again = [what for pause in outcome.UNKNOWN for what in (pause, "attach inv-1")]
    answer = handle(views.on_attach, {"turn": 1}, record)
    assert answer == (reported, ["attach inv-1", *again])


@pytest.mark.parametrize(
    ("handler", "body"),
    [
        (public.on_message, {"content": "Hello"}),
        (public.on_regenerate, {"turn": 1}),
        (private.on_settle, {"outcome": {"turn": 1, "status": "completed", "messages": []}}),
    ],
)
def test_the_record_and_the_time_are_asked_for_at_once(
    handler: Any, body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    async def gather(*futures: Given[Any]) -> None:
        asked.append([await x for x in futures])

    monkeypatch.setattr(restate, "gather", gather)
    handle(handler, body, BUSY)
    assert asked == [[as_json(stored_record.dump_record(BUSY)), NOW]]


# -- What tasks ask for. ---------------------------------------------------------------------------


def loaded_by(turn: int, record: Record | None, state: Mapping[str, Any]) -> Any:
    """What a turn's task makes of what it loads."""
    answer, done = handle(private.on_load, None, record, state=state)
    assert done == []
    attempt: Any = SimpleNamespace(turn=turn, body=SimpleNamespace(tells_all=True))
    before = Before(attempt)
    asyncio.run(before.take(answer))
    return SimpleNamespace(turns=before._turns, steered=before.steered, cancelled=before.cancelled)


def test_a_task_is_given_all_that_is_stored_as_it_is_and_nothing_of_a_users_own() -> None:
    large = {"turn/2": settled(2), "turn/4": live(4)}
    state = {"page/0": [settled(1), 2], **large, **steered_state(1), "mine": "x", "a": 1}
    lives = (Live(3, "inv-3"), Live(4, "inv-4"))
    record = Record("epoch", 5, lives, (Addition(1, 4, 5),), (live(3), 4), paged=True)
    answer, done = handle(private.on_load, None, record, state=state)
    expected = {
        "session": stored_record.dump_record(record),
        "steered/1": said("steered 1"),
        "page/0": [settled(1), 2],
        "turn/4": live(4),
        "turn/2": settled(2),
    }
    stored = {key: as_stored(key, value) for key, value in expected.items()}
    assert answer == sent.Stored(stored).pack()
    assert done == []
    assert handle(private.on_load, None, None, state={"mine": "x"}) == (b"[]\n", [])


def test_a_task_loads_the_turns_before_its_own_without_what_is_discarded_or_steered() -> None:
    lives = (Live(3, "inv-3", "cancelled"), Live(4, "inv-4"))
    record = Record(
        "epoch",
        6,
        (*lives, Live(5, "inv-5")),
        (Addition(1, 3, 5), Addition(2, 4, 5, taken=True), Addition(3, 5, 5)),
        tail=(live(3), live(4), live(5)),
        paged=True,
    )
    state = {"page/0": [settled(1), gone(settled(2))], **steered_state(1, 2, 3)}
    loaded = loaded_by(5, record, state)
    assert loaded.turns == [settled(1), *map(shown, lives)]
    assert loaded.steered == [
        (record.steered[0], said("steered 1")),
        (record.steered[1], said("steered 2")),
    ]
    assert loaded_by(3, record, state).turns == [settled(1)]
    assert loaded_by(2, None, {}).turns == []


@pytest.mark.parametrize(
    ("turn", "lives", "cancelled"),
    [
        (2, BUSY.live, False),
        (2, (ONE, TWO._replace(cancelled="withdrawn")), True),
        (1, (ONE, TWO._replace(cancelled="withdrawn")), False),
        (1, (ONE._replace(cancelled="stopped", after_step=True), TWO), True),
        (2, (ONE,), False),
    ],
)
def test_a_task_that_loads_is_told_whether_it_is_cancelled(
    turn: int, lives: tuple[Live, ...], cancelled: bool
) -> None:
    assert loaded_by(turn, BUSY._replace(live=lives), {}).cancelled is cancelled


WAITING = (Addition(1, 1, 3), Addition(2, 2, 3), Addition(3, 1, 3))


@pytest.mark.parametrize(
    ("body", "taken", "joined"),
    [
        ({"turn": 1, "waited": True, "begins": False}, [1, 3], False),
        ({"turn": 2, "waited": True, "begins": False}, [1, 2, 3], False),
        ({"turn": 2, "waited": True, "begins": True}, [1, 2, 3], True),
        ({"turn": 2, "waited": False, "begins": True}, [2], True),
    ],
)
def test_a_task_takes_what_waits_for_it_and_that_is_stored(
    body: Any, taken: list[int], joined: bool
) -> None:
    state = {f"steered/{x}": said(f"steered {x}") for x in (1, 2, 3)}
    record = BUSY._replace(steered=WAITING)
    answer, done = handle(private.on_take, body, record, state=state)
    now = {
        x: Addition(x, body["turn"], 3, taken=True, joined=joined) if x in taken else WAITING[x - 1]
        for x in (1, 2, 3)
    }
    assert answer == [(now[x], said(f"steered {x}")) for x in taken]
    inherits = [watcher(2)] if 1 in taken and body["turn"] == 2 else []
    assert done == [stored(record._replace(steered=tuple(now.values()))), *inherits]


@pytest.mark.parametrize(
    ("record", "body"),
    [
        (BUSY, {"turn": 1, "waited": True, "begins": False}),
        (
            BUSY._replace(steered=(Addition(1, 1, 3, taken=True),)),
            {"turn": 1, "waited": True, "begins": False},
        ),
        (
            BUSY._replace(
                live=(ONE._replace(cancelled="cancelled"),), steered=(Addition(1, 1, 3),)
            ),
            {"turn": 1, "waited": True, "begins": False},
        ),
        (None, {"turn": 1, "waited": True, "begins": False}),
    ],
)
def test_a_task_that_takes_nothing_writes_nothing(record: Record | None, body: Any) -> None:
    assert handle(private.on_take, body, record) == ([], [])


def test_a_quiet_window_in_which_nothing_came_is_over_and_nothing_joins_any_more() -> None:
    body = {"turn": 2, "waited": False, "begins": True}
    assert handle(private.on_take, body, OPEN) == ([], [stored(BUSY)])


@pytest.mark.parametrize(
    ("record", "turn", "why"),
    [
        (BUSY._replace(live=cancel(BUSY, "rolled back: typo", 1)), 1, "rolled back: typo"),
        (BUSY, 1, "cancelled"),
        (Record("epoch", 3), 1, "cancelled"),
        (None, 1, "cancelled"),
    ],
)
def test_a_task_is_told_why_it_was_cancelled(record: Record | None, turn: int, why: str) -> None:
    assert handle(private.on_get_cause, {"turn": turn}, record) == (why, [])


# -- An outcome. -----------------------------------------------------------------------------------


def one_settled(one: Any, heir: Live = TWO, steered: Sequence[Addition] = ()) -> Record:
    """The busy session once its first turn has ended."""
    return Record("epoch", 3, (heir,), tuple(steered), tail=(one, live(2)))


def test_an_outcome_is_given_to_the_turn_in_the_tail_and_the_record_is_all_that_is_written() -> (
    None
):
    answer, done = handle(private.on_settle, {"outcome": an_outcome(1)}, BUSY)
    assert done == [stored(one_settled(now_settled(1)))]
    assert answer is None


def test_what_the_tail_has_outgrown_moves_into_its_page_before_the_record_forgets_it() -> None:
    large = [settled(turn, messages=[put_out("x" * 3500)]) for turn in (3, 4)]
    record = BUSY._replace(next=5, tail=(*BUSY.tail, *large), paged=True)
    outcome = an_outcome(1, messages=[put_out("x" * 3500)])
    state = {"page/0": [settled(9)]}
    _, done = handle(private.on_settle, {"outcome": outcome}, record, state=state)
    one = now_settled(1, messages=outcome["messages"])
    assert done == [
        ("page/0", [settled(9), one, *large]),
        stored(Record("epoch", 5, (TWO,), tail=(live(2),), paged=True)),
    ]


def test_a_large_turn_gets_a_key_of_its_own() -> None:
    outcome = an_outcome(1, messages=[put_out("x" * LARGE)])
    _, done = handle(private.on_settle, {"outcome": outcome}, BUSY)
    large = now_settled(1, messages=outcome["messages"])
    assert done == [("turn/1", large), stored(one_settled(1))]


BEHIND = Live(2, "inv-2", queued=True)


def test_as_a_turn_is_settled_the_one_queued_behind_it_is_told_what_it_begins_with() -> None:
    record = BUSY._replace(live=(ONE, BEHIND))
    _, done = handle(private.on_settle, {"outcome": an_outcome(1)}, record)
    [(_, begins)] = [x for x in done if x[0] == "tell inv-2: begin"]
    [(_, after)] = [x for x in done if x[0] == "session"]
    assert (begins["input"], begins["said"]) == ([said("message 2")], [])
    assert [(x["turn"], x["status"]) for x in begins["turns"]] == [(1, "completed")]
    # Who asks is told the same, and nothing is changed by that.
    after_it = stored_record.parse_record(after)
    assert after_it.live == (TWO,)
    assert handle(private.on_begin, {"turn": 2}, after_it) == (begins, [])


@pytest.mark.parametrize(
    ("lives", "options"),
    [
        ((ONE, BEHIND._replace(cancelled="cancelled")), {}),
        ((ONE, BEHIND._replace(open=True)), {}),
        ((ONE, TWO), {}),  # it has begun
        ((ONE, BEHIND), {"debounce": QUIET}),
    ],
)
def test_nobody_else_is_told_to_begin(lives: Any, options: Any) -> None:
    record = BUSY._replace(live=lives)
    _, done = handle(private.on_settle, {"outcome": an_outcome(1)}, record, **options)
    assert not [x for x in done if "begin" in x[0]]
    [(_, after)] = [x for x in done if x[0] == "session"]
    assert stored_record.parse_record(after).live == lives[1:]


def test_who_waits_for_another_still_is_not_told_to_begin() -> None:
    record = BUSY._replace(live=(ONE, TWO, Live(3, "inv-3", queued=True)), next=4)
    record = record._replace(tail=(*record.tail, live(3)))
    for turn in (1, 2):
        _, done = handle(private.on_settle, {"outcome": an_outcome(turn)}, record)
        assert not [x for x in done if "begin" in x[0]]


@pytest.mark.parametrize("record", [None, Record("epoch", 4), Record("other", 2, (TWO,))])
def test_an_outcome_that_is_recorded_already_or_of_no_session_changes_nothing(
    record: Record | None,
) -> None:
    settlement = {"outcome": an_outcome(1), "ended": [3]}
    assert handle(private.on_settle, settlement, record) == (None, [])


def test_a_turn_that_was_seen_to_end_and_is_live_all_the_same_is_settled_by_somebody() -> None:
    lives = (*BUSY.live, Live(4, "inv-4"))
    record = Record("epoch", 5, lives, tail=(*BUSY.tail, live(4)))
    settlement = {"outcome": an_outcome(4), "ended": [1, 3, 2]}
    _, done = handle(private.on_settle, settlement, record)
    assert done == [
        stored(BUSY._replace(next=5, tail=(*BUSY.tail, now_settled(4)))),
        watcher(1),
        watcher(2),
    ]


def test_a_task_that_reports_before_its_id_is_stored_has_it_on_record() -> None:
    record = BUSY._replace(live=(Live(1), TWO))
    _, done = handle(private.on_settle, {"outcome": an_outcome(1)}, record)
    one = now_settled(1, task_id="inv-new")
    assert done == [dispatched(1, said("message 1")), stored(one_settled(one))]


def test_what_a_turn_took_stays_with_it_and_its_keys_are_cleared() -> None:
    record = BUSY._replace(
        steered=(
            Addition(1, 1, 3, taken=True),
            Addition(2, 1, 1, taken=True, joined=True),
            Addition(3, 2, 3),
        )
    )
    taken = an_outcome(1, messages=[said("steered 1"), put_out("answer 1")], taken=[[1, 0]])
    state = steered_state(1, 2, 3)
    _, done = handle(private.on_settle, {"outcome": taken}, record, state=state)
    ended = now_settled(
        1,
        input=[said("steered 2"), said("message 1")],
        messages=taken["messages"],
        steered=[0],
    )
    assert done == [
        stored(one_settled(ended, steered=[Addition(3, 2, 3)])),
        "clear steered/1",
        "clear steered/2",
    ]


@pytest.mark.parametrize(("quiet", "opened"), [(None, False), (QUIET, True)])
def test_what_a_turn_did_not_take_becomes_a_new_turn_with_all_of_it_where_nobody_is_there(
    quiet: timedelta | None, opened: bool
) -> None:
    cancelled = TWO._replace(cancelled="cancelled")
    steered = (
        Addition(1, 1, 3, taken=True),
        Addition(2, 1, 3, id=8),
        Addition(3, 1, 3, id=9),
    )
    record = Record("epoch", 3, (ONE, cancelled), steered, tail=BUSY.tail)
    state = steered_state(1, 2, 3)
    outcome = an_outcome(1, messages=[said("steered 1")], taken=[[1, 0]])
    settlement = {"outcome": outcome, "ended": [2]}
    _, done = handle(private.on_settle, settlement, record, state=state, debounce=quiet)
    left = [said("steered 2"), said("steered 3")]
    one = now_settled(1, messages=outcome["messages"], steered=[0])
    tail = (one, live(2), begun(3, *left))
    after = Record("epoch", 4, (cancelled, Live(3, open=opened, own=(8, 9))), tail=tail)
    assert done == [
        stored(after),
        dispatched(3, *left, after=[cancelled], turns=[one, shown(cancelled)]),
        stored(with_task(after)),
        "clear steered/1",
        "clear steered/2",
        "clear steered/3",
        watcher(2),
    ]


@pytest.mark.parametrize("heir", [TWO, TWO._replace(open=True)])
def test_what_a_turn_did_not_take_passes_on_to_the_next_and_somebody_watches_that(
    heir: Live,
) -> None:
    steered = (
        Addition(1, 1, 3),
        Addition(2, 2, 3),
        Addition(3, 1, 3, taken=True),
    )
    record = Record("epoch", 3, (ONE, heir), steered, tail=BUSY.tail)
    state = steered_state(1, 2, 3)
    killed = an_outcome(1, status="killed", messages=[])
    _, done = handle(private.on_settle, {"outcome": killed}, record, state=state)
    passed = (Addition(1, 2, 3, joined=heir.open), Addition(2, 2, 3))
    ended = now_settled(1, status="killed", messages=[said("steered 3")], steered=[0])
    assert done == [
        stored(one_settled(ended, heir, passed)),
        watcher(2),
        "clear steered/3",
    ]


def test_what_a_cancelled_turn_did_not_take_stays_with_it() -> None:
    lives = cancel(BUSY, "cancelled: enough", 1)
    record = BUSY._replace(live=lives, steered=(Addition(1, 1, 3), Addition(2, 1, 1, joined=True)))
    state = steered_state(1, 2)
    outcome = an_outcome(1, status="interrupted")
    _, done = handle(private.on_settle, {"outcome": outcome}, record, state=state)
    ended = now_settled(
        1,
        status="interrupted",
        reason="cancelled: enough",
        input=[said("steered 2"), said("message 1")],
        messages=[put_out("answer 1"), said("steered 1")],
        steered=[1],
    )
    assert done == [stored(one_settled(ended)), "clear steered/1", "clear steered/2"]


# -- What is taken back, begun again, emptied, copied and shown. -----------------------------------

TURNS = [settled(1), settled(2), settled(3, messages=[said("more"), put_out("a")], steered=[0])]


def had(*discarded: int) -> list[Any]:
    """Three turns, some of them discarded."""
    return [gone(turn) if turn["turn"] in discarded else turn for turn in TURNS]


def test_a_rewind_cancels_and_discards_a_turn_and_all_after_it() -> None:
    lives = (Live(2, "inv-2", "interrupted by turn 3"), Live(3, "inv-3"), Live(4, "inv-4"))
    tail = (settled(1), live(2), live(3), gone(live(4)))
    record = Record("epoch", 5, lives, tail=tail)
    body = {"turn": 2, "reason": "typo"}
    answer, done = handle(public.on_rewind, body, record)
    why = "rolled back: typo"  # also of the one that was cancelled before
    assert done == [
        "cancel inv-3",
        "cancel inv-4",
        stored(
            record._replace(
                live=tuple(x._replace(cancelled=why) for x in lives),
                tail=(settled(1), gone(live(2)), gone(live(3)), gone(live(4))),
            )
        ),
    ]
    assert answer == {"cancelled": [3, 4], "discarded": [2, 3]}


def test_a_rewind_leaves_alone_what_is_live_before_it() -> None:
    answer, done = handle(public.on_rewind, {"turn": 2}, BUSY)
    after = BUSY._replace(live=cancel(BUSY, "rolled back", 2), tail=(live(1), gone(live(2))))
    assert done == ["cancel inv-2", stored(after)]
    assert answer == {"cancelled": [2], "discarded": [2]}


def test_a_rewind_far_back_marks_the_turns_in_their_pages_before_the_record_says_so() -> None:
    record = Record("epoch", 19, tail=(settled(18),), paged=True)
    state = {"page/0": [settled(15), 16], "page/1": [settled(17)], "turn/16": settled(16)}
    answer, done = handle(public.on_rewind, {"turn": 16}, record, state=state)
    assert done == [
        ("page/0", [settled(15), -16]),
        ("page/1", [gone(settled(17))]),
        stored(record._replace(tail=(gone(settled(18)),))),
    ]
    assert answer == {"cancelled": [], "discarded": [16, 17, 18]}
    # What is discarded already is not written again.
    after = record._replace(tail=(gone(settled(18)),))
    state |= {"page/0": [settled(15), -16], "page/1": [gone(settled(17))]}
    answer, done = handle(public.on_rewind, {"turn": 16}, after, state=state)
    assert done == [stored(after)]
    assert answer == {"cancelled": [], "discarded": []}


@pytest.mark.parametrize(
    ("handler", "body", "record", "refused"),
    [
        (handler, {"turn": turn}, record, (404, f"turn: there is no turn {turn} in this {known}."))
        for handler in (public.on_rewind, public.on_regenerate)
        for turn, record, known in (
            (3, BUSY, "session; its turns are 1 to 2"),
            (0, BUSY, "session; its turns are 1 to 2"),
            (-1, BUSY, "session; its turns are 1 to 2"),
            (1, None, "session; it has no turns yet"),
        )
    ],
)
def test_what_there_never_was_can_neither_be_taken_back_nor_begun_again(
    handler: Any, body: Any, record: Record | None, refused: Any
) -> None:
    assert handle(handler, body, record) == (refused, [])


@pytest.mark.parametrize(
    ("body", "before", "after", "asked", "taken_back"),
    [
        (None, (), (3,), [said("message 3"), said("more")], [3]),
        ({"turn": None}, (), (3,), [said("message 3"), said("more")], [3]),
        ({"turn": 1}, (), (1, 2, 3), [said("message 1")], [1, 2, 3]),
        (None, (3,), (2, 3), [said("message 2")], [2]),
        ({"turn": 1}, (2, 3), (1, 2, 3), [said("message 1")], [1]),
        (None, (2, 3), (1, 2, 3), [said("message 1")], [1]),
    ],
)
@pytest.mark.parametrize("paged", [False, True])
def test_the_messages_of_a_turn_are_answered_again_in_its_place(
    paged: bool,
    body: Any,
    before: Sequence[int],
    after: Sequence[int],
    asked: list[Any],
    taken_back: list[int],
) -> None:
    cut = 2 if paged else 0
    record = Record("epoch", 4, tail=tuple(had(*before)[cut:]), paged=paged)
    state = {"page/0": had(*before)[:2]} if paged else {}
    answer, done = handle(public.on_regenerate, body, record, state=state)
    pages = [("page/0", had(*after)[:2])] if paged and after != (3,) else []
    new = Record("epoch", 5, (Live(4),), tail=(*had(*after)[cut:], begun(4, *asked)), paged=paged)
    turns = [turn for turn in had(*after) if not turn.get("discarded")]
    assert done == [
        *pages,
        stored(new),
        dispatched(4, *asked, turns=None if paged else turns),
        stored(with_task(new)),
    ]
    assert answer == {
        "turn": 4,
        "message": 0,  # they are of an earlier version
        "task_id": "inv-new",
        "status": "running",
        "interrupted": [],
        "discarded": taken_back,
    }


@pytest.mark.parametrize(("quiet", "opened"), [(None, False), (QUIET, True)])
def test_what_is_live_is_cancelled_before_a_turn_is_answered_again(
    quiet: timedelta | None, opened: bool
) -> None:
    steered = (Addition(1, 2, 3), Addition(2, 2, 2, joined=True))
    record = BUSY._replace(steered=steered)
    state = steered_state(1, 2)
    answer, done = handle(public.on_regenerate, {"turn": 2}, record, state=state, debounce=quiet)
    asked = [said("steered 2"), said("message 2"), said("steered 1")]
    lives = (
        ONE._replace(cancelled="interrupted by turn 3"),
        TWO._replace(cancelled="rolled back by turn 3"),
    )
    tail = (live(1), gone(live(2)), begun(3, *asked))
    after = Record("epoch", 4, (*lives, Live(3, open=opened)), steered, tail)
    assert done == [
        "cancel inv-1",
        "cancel inv-2",
        stored(after),
        dispatched(3, *asked, after=lives),
        stored(with_task(after)),
    ]
    assert answer == {
        "turn": 3,
        "message": 0,
        "task_id": "inv-new",
        "status": "waiting",
        "interrupted": [1, 2],
        "discarded": [2],
    }


@pytest.mark.parametrize(
    ("body", "record", "turn"),
    [
        ({"turn": 2}, Record("epoch", 4, tail=tuple(had(2))), 2),
        (None, Record("epoch", 4, tail=tuple(had(1, 2, 3))), 1),
        (None, Record("epoch", 4, first=4), 1),  # after a reset
        ({"turn": 2}, Record("epoch", 4, tail=(TURNS[2],), first=3), 2),
    ],
)
def test_a_turn_that_is_in_the_conversation_no_more_is_not_answered_again(
    body: Any, record: Record, turn: int
) -> None:
    refused = (404, f"turn: {turn} is no part of the conversation any more.")
    assert handle(public.on_regenerate, body, record) == (refused, [])


def test_a_reset_cancels_and_discards_everything_and_removes_what_is_settled() -> None:
    lives = (Live(17, "inv-17", "cancelled"), Live(18, "inv-18"))
    tail = (gone(settled(16)), 17, live(18))
    record = Record("epoch", 19, lives, (Addition(1, 18, 19),), tail, paged=True)
    state = {
        "page/0": TURNS,
        "turn/2": settled(2),
        "page/1": [],
        "turn/17": live(17),
        **steered_state(1),
        "mine": 5,
    }
    body = {"reason": "a new start"}
    answer, done = handle(public.on_reset, body, record, state=state)
    why = "rolled back: a new start"
    after = record._replace(
        live=tuple(x._replace(cancelled=why) for x in lives),
        tail=(-17, gone(live(18))),
        paged=False,
        first=17,
    )
    assert done == ["cancel inv-18", stored(after), "clear page/0", "clear turn/2", "clear page/1"]
    assert answer == {"cancelled": [18]}


def test_a_reset_of_what_is_idle_leaves_a_record_without_turns() -> None:
    answer, done = handle(public.on_reset, None, Record("epoch", 4, tail=tuple(TURNS)))
    assert done == [stored(Record("epoch", 4, first=4))]
    assert answer == {"cancelled": []}


@pytest.mark.parametrize(
    ("record", "body", "last", "turns"),
    [
        (Record("epoch", 4), {}, 3, [1, 3]),
        (Record("epoch", 4), {"turn": 3}, 3, [1, 3]),
        (Record("epoch", 4), {"turn": 1}, 1, [1]),
        (Record("epoch", 6, (Live(4, "inv-4"), Live(5, "inv-5"))), {}, 3, [1, 3]),
        (Record("epoch", 5, (Live(4, "inv-4"),)), {"turn": 3}, 3, [1, 3]),
        (Record("epoch", 4), {"turn": 2}, 1, [1]),  # so that the last of the copy is in it
        (Record("epoch", 3), {}, 1, [1]),
        (Record("epoch", 2, (ONE,)), {}, 0, []),
        (None, {}, 0, []),
    ],
)
def test_a_fork_sends_the_conversation_up_to_a_turn_to_the_new_session_and_changes_nothing_here(
    record: Record | None, body: dict[str, Any], last: int, turns: list[int]
) -> None:
    if record is not None:
        record = record._replace(tail=tuple(live(x.turn) for x in record.live), paged=True)
    state = {"page/0": had(2)}
    answer, done = handle(public.on_fork, {"session": "copy", **body}, record, state=state)
    [(service, handler, sent, options)] = done
    assert (service, handler, options) == ("IdleAgent", "adopt", {"key": "copy"})
    assert sent == {
        "next": last + 1,
        "turns": [TURNS[turn - 1] for turn in turns],
        "from": ["key", last],
        "messages": 0,
    }
    assert answer == {"session": "copy", "turn": last}


@pytest.mark.parametrize(
    ("record", "body", "refused"),
    [
        (
            BUSY,
            {"turn": 2},
            (423, "turn: turn 1 is live. Wait for it, or fork at an earlier one."),
        ),
        (
            Record("epoch", 3, (TWO._replace(cancelled="cancelled"),), tail=(live(2),)),
            {"turn": 2},
            (423, "turn: turn 2 is live. Wait for it, or fork at an earlier one."),
        ),
        (
            BUSY,
            {"turn": 3},
            (404, "turn: there is no turn 3 in this session; its turns are 1 to 2."),
        ),
        (
            None,
            {"turn": 1},
            (404, "turn: there is no turn 1 in this session; it has no turns yet."),
        ),
        (
            Record("epoch", 4),
            {"turn": 0},
            (404, "turn: there is no turn 0 in this session; its turns are 1 to 3."),
        ),
        (
            Record("epoch", 4, first=4),
            {"turn": 2},
            (404, "turn: 2 was removed from this session."),
        ),
        (BUSY, {"session": "key"}, (400, "session: is this session itself. Name a new one.")),
    ],
)
def test_a_fork_at_what_is_live_or_never_was_is_refused(
    record: Record | None, body: dict[str, Any], refused: Any
) -> None:
    assert handle(public.on_fork, {"session": "copy", **body}, record) == (refused, [])


def test_a_new_session_stores_the_turns_that_it_is_given_and_then_its_record() -> None:
    large = settled(17, messages=[put_out("x" * LARGE)])
    more = [settled(turn, messages=[put_out("x" * 3500)]) for turn in (18, 19, 20)]
    turns = [settled(1), settled(16), large, *more]
    body = {"next": 22, "turns": turns, "from": ["other", 21]}
    answer, done = handle(private.on_adopt, body)
    assert done == [
        ("turn/17", large),
        ("page/0", [settled(1), settled(16)]),
        ("page/1", [17, *more]),
        stored(Record(f"{32:08x}", 22, paged=True, forked_from=("other", 21))),
    ]
    assert answer is None
    refused = (412, "session: there is one of this key already. Choose another.")
    assert handle(private.on_adopt, body, BUSY) == (refused, [])


@pytest.mark.parametrize(
    ("turn", "origin"), [(1, ("old", 1)), (2, ("old", 1)), (3, ("key", 3)), (None, ("key", 3))]
)
def test_the_fork_of_a_fork_comes_from_where_its_last_turn_was_worked_on(
    turn: int | None, origin: tuple[str, int]
) -> None:
    record = Record("epoch", 4, paged=True, forked_from=("old", 2))
    body = {"session": "copy", "turn": turn}
    _, [(_, _, sent, _)] = handle(public.on_fork, body, record, state={"page/0": had(2)})
    assert sent["from"] == list(origin)  # turn 2 is discarded
    record = record._replace(forked_from=("old", 3))
    _, [(_, _, sent, _)] = handle(
        public.on_fork, {"session": "copy"}, record, state={"page/0": TURNS}
    )
    assert sent["from"] == ["old", 3]


def test_a_task_of_a_fork_is_told_where_it_comes_from_until_a_reset() -> None:
    record = Record("epoch", 2, forked_from=("old", 1))
    _, done = handle(public.on_message, {"content": "message 2"}, record)
    jobs = [x[2] for x in done if x[:2] == ("IdleTask", "run_task")]
    assert [x["forked_from"] for x in jobs] == [["old", 1]]
    _, done = handle(public.on_reset, None, record)
    assert done == [stored(Record("epoch", 2, first=2))]


@pytest.mark.parametrize(
    ("body", "turns", "before"),
    [
        (None, [1, 2, 3, 4], None),
        ({"limit": 4}, [1, 2, 3, 4], None),
        ({"limit": 2}, [3, 4], 3),
        ({"limit": 2, "before": 3}, [1, 2], None),
        ({"limit": 1, "before": 3}, [2], 2),
        ({"before": 100}, [1, 2, 3, 4], None),
        ({"before": 1}, [], None),
        ({"before": 0}, [], None),
        ({"before": -5, "limit": 1}, [], None),
    ],
)
def test_the_record_of_the_turns_is_paged_from_the_newest_on(
    body: Any, turns: list[int], before: int | None
) -> None:
    four = Live(4, "inv-4")
    steered = (Addition(1, 4, 5),)
    record = Record("epoch", 5, (four,), steered, (TURNS[2], live(4)), paged=True)
    state = {"page/0": had(2)[:2], **steered_state(1)}
    all_turns = [*had(2), {**shown(four), "messages": [said("steered 1")], "steered": [0]}]
    answer, done = handle(views.on_get_turns, body, record, state=state)
    assert answer == {"turns": [all_turns[turn - 1] for turn in turns], "before": before}
    assert done == []


def test_a_turn_that_was_removed_is_not_among_those_of_a_page() -> None:
    record = Record("epoch", 4, tail=(settled(3),), first=3)
    answer, _ = handle(views.on_get_turns, {"limit": 2}, record)
    assert answer == {"turns": [settled(3)], "before": 2}
    answer, _ = handle(views.on_get_turns, {"before": 2}, record)
    assert answer == {"turns": [], "before": None}


def test_the_turns_are_of_one_moment_when_a_steered_message_finds_its_place_meanwhile() -> None:
    one = Record("epoch", 2, (ONE,), (Addition(1, 1, 2),), (live(1),))
    ended = now_settled(1, messages=[said("steered 1")], steered=[0])
    moments = [one, Record("epoch", 2, tail=(ended,))]

    class Changing(Handling):
        def get(self, name: str, serde: Any) -> Given[Any]:
            if name == "session":
                self.state["session"] = stored_record.dump_record(
                    moments.pop(0) if moments else one
                )
            return super().get(name, serde)

    ctx: Any = Changing({})  # the message's own key is cleared by now
    answer = asyncio.run(views.on_get_turns(AGENT, ctx, {}))
    assert answer == {"turns": [ended], "before": None}
    assert moments == []


def test_who_reads_what_is_steered_leaves_out_what_is_settled_meanwhile() -> None:
    record = Record("epoch", 2, (ONE,), (Addition(1, 1, 2), Addition(2, 1, 2)), (live(1),))
    answer, _ = handle(views.on_get_history, None, record, state=steered_state(2))
    assert answer == [said("message 1"), said("steered 2")]


# -- What a `Session` sends. -----------------------------------------------------------------------

WISH: Any = {"policy": "queue", "if_turn": 3, "if_idle": True}
MORE: Any = {"policy": "steer", "now": True, "keep_queued": False, "metadata": {"author": "Ada"}}
PARTS: Any = [{"type": "text", "text": "Hi"}]


@pytest.mark.parametrize(
    ("call", "sent"),
    [
        (lambda s: s.send("Hi"), [("message", {"content": "Hi"}, None)]),
        (
            lambda s: s.send("Hi", **WISH, idempotency_key="k"),
            [("message", {"content": "Hi", **WISH}, "k")],
        ),
        (
            lambda s: s.ask("Hi", **WISH),
            [("message", {"content": "Hi", **WISH}, None), ("attach", {"message": 9}, "a key")],
        ),
        (lambda s: s.send("Hi", **MORE), [("message", {"content": "Hi", **MORE}, None)]),
        (
            lambda s: s.ask("Hi", **MORE),
            [("message", {"content": "Hi", **MORE}, None), ("attach", {"message": 9}, "a key")],
        ),
        (
            lambda s: s.send("Hi", keep_queued=True, metadata={}),
            [("message", {"content": "Hi", "keep_queued": True, "metadata": {}}, None)],
        ),
        (lambda s: s.attach(message=9), [("attach", {"message": 9}, "a key")]),
        (lambda s: s.attach(2), [("attach", {"turn": 2}, "a key")]),
        (
            lambda s: s.cancel(2, after_step=True),
            [("cancel", {"turn": 2, "reason": None, "after_step": True}, None)],
        ),
        (lambda s: s.withdraw(9), [("withdraw", {"message": 9}, None)]),
        (lambda s: s.withdraw(9, idempotency_key="k"), [("withdraw", {"message": 9}, "k")]),
        (
            lambda s: s.replace(9, PARTS, idempotency_key="k"),
            [("replace", {"message": 9, "content": PARTS}, "k")],
        ),
        (
            lambda s: s.promote(9, "interrupt"),
            [("promote", {"message": 9, "policy": "interrupt"}, None)],
        ),
        (
            lambda s: s.promote(9, "steer", now=True, idempotency_key="k"),
            [("promote", {"message": 9, "policy": "steer", "now": True}, "k")],
        ),
        (lambda s: s.resume(), [("resume", None, None)]),
        (lambda s: s.resume(2, idempotency_key="k"), [("resume", {"turn": 2}, "k")]),
        (lambda s: s.edit(2, "Hi"), [("edit", {"turn": 2, "content": "Hi"}, None)]),
        (
            lambda s: s.edit(2, PARTS, if_last=3, idempotency_key="k"),
            [("edit", {"turn": 2, "content": PARTS, "if_last": 3}, "k")],
        ),
        (
            lambda s: s.answer(1, approved=False),
            [("answer", {"approval": 1, "approved": False}, None)],
        ),
        (
            lambda s: s.answer(1, approved=True, reason="", value=0, idempotency_key="k"),
            [("answer", {"approval": 1, "approved": True, "reason": "", "value": 0}, "k")],
        ),
        (lambda s: s.cancel(), [("cancel", {"turn": None, "reason": None}, None)]),
        (lambda s: s.cancel(2, reason="x"), [("cancel", {"turn": 2, "reason": "x"}, None)]),
        (lambda s: s.regenerate(), [("regenerate", None, None)]),
        (
            lambda s: s.regenerate(2, idempotency_key="k"),
            [("regenerate", {"turn": 2}, "k")],
        ),
        (lambda s: s.rewind(2), [("rewind", {"turn": 2, "reason": None}, None)]),
        (
            lambda s: s.rewind(2, reason="x", idempotency_key="k"),
            [("rewind", {"turn": 2, "reason": "x"}, "k")],
        ),
        (lambda s: s.reset(), [("reset", None, None)]),
        (lambda s: s.reset(reason="x"), [("reset", {"reason": "x"}, None)]),
        (lambda s: s.fork("copy"), [("fork", {"session": "copy", "turn": None}, None)]),
        (lambda s: s.fork("copy", 2), [("fork", {"session": "copy", "turn": 2}, None)]),
        (lambda s: s.turns(), [("get_turns", {"before": None, "limit": None}, None)]),
        (
            lambda s: s.turns(before=3, limit=2),
            [("get_turns", {"before": 3, "limit": 2}, None)],
        ),
        (lambda s: s.attach(), [("attach", None, "a key")]),
        (lambda s: s.history(), [("get_history", None, None)]),
        (lambda s: s.status(), [("get_status", None, None)]),
    ],
)
def test_a_session_sends_what_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[Session], Any], sent: list[Any]
) -> None:
    calls: list[Any] = []

    async def answer(_: Session, handler: str, body: Any = None, key: str | None = None) -> Any:
        calls.append((handler, body, "a key" if handler == "attach" else key))
        return {"turn": 7, "message": 9, "status": "completed", "cancelled": []}

    monkeypatch.setattr(Session, "_call", answer)
    asyncio.run(call(Session(cast("Any", None), "OddAgent", "key")))
    assert calls == sent


@pytest.mark.parametrize("policy", wire.POLICIES)
def test_a_session_sends_each_policy_and_asks_with_it(
    monkeypatch: pytest.MonkeyPatch, policy: Any
) -> None:
    calls: list[Any] = []

    async def answer(_: Session, handler: str, body: Any = None, key: str | None = None) -> Any:
        calls.append((handler, body))
        return {"turn": 7, "message": 9, "status": "completed"}

    monkeypatch.setattr(Session, "_call", answer)
    session = Session(cast("Any", None), "OddAgent", "key")
    asyncio.run(session.send("Hi", policy=policy))
    asyncio.run(session.ask("Hi", policy=policy))
    sent = ("message", {"content": "Hi", "policy": policy})
    assert calls == [sent, sent, ("attach", {"message": 9})]


def test_who_asks_with_a_message_that_is_taken_back_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def answer(_: Session, handler: str, body: Any = None, key: str | None = None) -> Any:
        return {"message": 9} if handler == "message" else {"status": "withdrawn"}

    monkeypatch.setattr(Session, "_call", answer)
    session = Session(cast("Any", None), "OddAgent", "key")
    with pytest.raises(TerminalError) as caught:
        asyncio.run(session.ask("Hi", policy="steer"))
    reason = "message: 9 was withdrawn, and nobody answers it."
    assert (caught.value.status_code, caught.value.message) == (410, reason)
    assert asyncio.run(session.attach(message=9)) == {"status": "withdrawn"}


def test_a_fork_gives_the_new_session_of_the_same_agent_the_same_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[Any] = []

    async def answer(self: Session, handler: str, body: Any = None, key: str | None = None) -> Any:
        calls.append((self.key, self._agent, self._via, handler))

    monkeypatch.setattr(Session, "_call", answer)
    via = cast("Any", object())

    async def fork_and_look() -> None:
        copy = await Session(via, "OddAgent", "key").fork("copy")
        await copy.status()

    asyncio.run(fork_and_look())
    assert calls == [("key", "OddAgent", via, "fork"), ("copy", "OddAgent", via, "get_status")]


# -- What those are told who follow. ---------------------------------------------------------------


QUEUED = BUSY._replace(live=(ONE._replace(cancelled="cancelled"), TWO))
ALONE = BUSY._replace(live=(ONE,), next=2, tail=BUSY.tail[:1])


def discards(*turns: int) -> Any:
    return {"type": "discarded", "turns": [*turns]}


FOLLOWED: list[tuple[str, Any, Any, Record | None, list[Any]]] = [
    ("the first message", public.on_message, {"content": "Hello"}, None, []),
    ("an interrupt", public.on_message, {"content": "Hello"}, BUSY, [noted(3, PENDING)]),
    (
        "a message that waits",
        public.on_message,
        {"content": "Hello", "policy": "queue"},
        ALONE,
        [noted(2, PENDING)],
    ),
    (
        "a message that is steered",
        public.on_message,
        {"content": "Hello", "policy": "steer"},
        ALONE,
        [noted(1, PENDING)],
    ),
    (
        "a message that is refused",
        public.on_message,
        {"content": "Hello", "policy": "reject"},
        ALONE,
        [],
    ),
    (
        "a rollback",
        public.on_message,
        {"content": "Hello", "policy": "rollback"},
        BUSY,
        [noted(3, discards(1, 2), PENDING)],
    ),
    ("a cancel of the turn at work", public.on_cancel, {"turn": 1}, BUSY, []),
    ("a cancel of a turn that waits", public.on_cancel, {"turn": 2}, BUSY, [noted(2, PENDING)]),
    ("a cancel of all", public.on_cancel, {}, BUSY, [noted(2, PENDING)]),
    ("a cancel of nothing", public.on_cancel, {"turn": 1}, QUEUED, []),
    ("a rewind", public.on_rewind, {"turn": 1}, ALONE, [noted(1, discards(1))]),
    ("a rewind of two", public.on_rewind, {"turn": 1}, BUSY, [noted(2, discards(1, 2), PENDING)]),
    ("a reset", public.on_reset, None, ALONE, [noted(1, discards(1))]),
    (
        "a regenerate",
        public.on_regenerate,
        {"turn": 1},
        ALONE,
        [noted(2, discards(1), PENDING)],
    ),
    (
        "an outcome",
        private.on_settle,
        {"outcome": {"turn": 1, "status": "completed", "messages": [put_out("a"), put_out("b")]}},
        BUSY,
        [told("end", turn=1, status="completed", messages=2)],
    ),
    (
        "an outcome that is recorded already",
        private.on_settle,
        {"outcome": {"turn": 9, "status": "completed", "messages": []}},
        BUSY,
        [],
    ),
    ("what is given up", private.on_give_up, {"turns": [1]}, QUEUED, []),
    ("what a task takes", private.on_take, {"turn": 1, "waited": True, "begins": True}, BUSY, []),
    ("the status", views.on_get_status, None, BUSY, []),
]


@pytest.mark.parametrize(
    ("handler", "body", "record", "followers"),
    [x[1:] for x in FOLLOWED],
    ids=[x[0] for x in FOLLOWED],
)
def test_with_a_stream_a_handler_does_the_same_and_tells_those_who_follow(
    handler: Any, body: Any, record: Record | None, followers: list[Any]
) -> None:
    answer, done = handle(handler, copy.deepcopy(body), record)
    streaming, done_too = handle(handler, copy.deepcopy(body), record, stream=STREAM)
    assert streaming == answer
    assert [x for x in done_too if x[0] == "IdleAgentStream"] == followers
    others = [copy.deepcopy(x) for x in done_too if x[0] != "IdleAgentStream"]
    keys = [x[2].pop("stream") for x in others if x[:2] == ("IdleTask", "run_task")]
    assert set(keys) <= {"new key"}
    assert others == done
    assert not any("Stream" in str(x[0]) for x in done)
    assert not any("stream" in x[2] for x in done if x[:2] == ("IdleTask", "run_task"))


def test_followers_hear_of_a_message_when_its_task_is_sent_and_of_an_end_when_it_is_stored() -> (
    None
):
    _, done = handle(public.on_message, {"content": "Hello"}, BUSY, stream=STREAM)
    [note] = [place for place, x in enumerate(done) if x[0] == "IdleAgentStream"]
    assert [done[note - 2][0], done[note - 1][0], done[note + 1][0]] == [
        "session",
        "IdleTask",
        "session",
    ]
    assert done[note - 1][2]["stream"] == "new key"
    _, done = handle(private.on_settle, {"outcome": an_outcome(1)}, BUSY, stream=STREAM)
    assert done == [
        stored(one_settled(now_settled(1))),
        told("end", turn=1, status="completed", messages=len(an_outcome(1)["messages"])),
    ]


def test_what_passes_on_to_the_next_turn_is_told_before_the_end_of_the_one_it_was_steered_at() -> (
    None
):
    record = BUSY._replace(steered=(Addition(1, 1, 0),))
    outcome = {"outcome": an_outcome(1)}
    _, done = handle(private.on_settle, outcome, record, state=steered_state(1), stream=STREAM)
    sent = [x for x in done if x[0] == "IdleAgentStream"]
    assert [x[1] for x in sent] == ["note", "end"]
    assert sent[0] == noted(2, PENDING)


def test_of_very_many_discarded_turns_followers_are_told_to_read_the_record() -> None:
    agent = copy.copy(AGENT)
    agent.stream = STREAM
    sent: dict[int, list[Any]] = {}
    for many in (wire.MAX_TURNS, wire.MAX_TURNS + 1):
        ctx = Handling({})
        discard = range(1, many + 1)
        step = Step(Record("epoch", many + 1), discard=discard)
        telling.tell_followers(agent, cast("Any", ctx), step)
        watched = step._replace(watch=(1,))
        telling.tell_followers(agent, cast("Any", ctx), watched)
        sent[many] = ctx.done
    few, many = wire.MAX_TURNS, wire.MAX_TURNS + 1
    assert sent[few] == [
        noted(few, discards(*range(1, few + 1))),
        noted(few, discards(*range(1, few + 1)), PENDING),
    ]
    assert sent[many] == [noted(many, anew=True), noted(many, PENDING, anew=True)]


WAITS = Record("epoch", 4, (ONE, TWO, Live(3, "inv-3")))


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        (Step(BUSY), False),
        (Step(BUSY, watch=(1,)), True),  # what waited for another turn waits for this one
        (Step(BUSY, steer=Addition(1, 1, 0)), True),
        (Step(ALONE, dispatch=1), False),
        (Step(BUSY, dispatch=2), True),
        (Step(BUSY, cancel=(ONE,)), False),
        (Step(BUSY, cancel=(TWO,)), True),
        (Step(WAITS, cancel=(ONE, Live(3, "inv-3"))), True),
        (Step(BUSY._replace(live=(GIVEN_UP, TWO)), dispatch=2), False),  # it waits for nobody
        (Step(BUSY._replace(live=(GIVEN_UP, TWO)), cancel=(TWO,)), False),
        (Step(BUSY, give_up=(1,)), False),
        (Step(BUSY, discard=(1,)), False),
    ],
)
def test_what_is_pending_has_changed_where_a_message_waits_or_waits_no_more(
    step: Step, changes: bool
) -> None:
    assert telling.changes_pending(step) is changes
    ctx = Handling({})
    telling.tell_followers(AGENT, cast("Any", ctx), step)
    assert ctx.done == []  # it does not stream


# -- A cancellation. -------------------------------------------------------------------------------


FUTURE = SingleUnresolvedFuture(1)
LATER = SingleUnresolvedFuture(2)


def watch(poll: Callable[[], Any]) -> Watch:
    """The watch of a running handler on a context whose every await does this, and is over."""
    over: set[int] = set()

    async def create_poll_or_cancel_coroutine(unresolved_future: Any) -> None:
        poll()
        over.update(handles_of(unresolved_future))

    async def create_run_coroutine(handle: int, action: Any, serde: Any) -> None: ...

    context = SimpleNamespace(
        create_poll_or_cancel_coroutine=create_poll_or_cancel_coroutine,
        create_run_coroutine=create_run_coroutine,
        receive=None,
        tasks=set[Any](),
        vm=SimpleNamespace(is_completed=lambda handle: handle in over),
    )
    return Watch(cast("Any", context))


async def shielded(watched: Watch) -> None:
    """Await something, shielded."""
    token = standing.set("shielded")
    try:
        await watched._poll(FUTURE)
    finally:
        standing.reset(token)


def test_a_cancellation_that_is_raised_for_ever_is_the_fault_of_the_sdk_and_is_called_so() -> None:
    raised: list[None] = []

    def cancelled() -> None:
        raised.append(None)
        raise TerminalError("cancelled", 409)

    async def handle() -> None:
        await shielded(watch(cancelled))

    with pytest.raises(RuntimeError) as caught:
        asyncio.run(handle())
    assert str(caught.value) == (
        "restate-sdk raises one cancellation for ever: no cleanup can run. "
        "Install restate-sdk 1.0.4 or newer."
    )
    assert len(raised) == TOO_MANY + 1


def test_many_cancellations_do_not_break_off_a_shielded_await_and_are_not_lost() -> None:
    left = iter(range(TOO_MANY))

    def cancelled_often() -> None:
        if next(left, None) is not None:
            raise TerminalError("cancelled", 409)

    async def handle() -> None:
        watched = watch(cancelled_often)
        await shielded(watched)
        assert next(left, None) is None
        with pytest.raises(Interrupted):
            await watched._poll(LATER)

    asyncio.run(handle())


def test_a_lost_connection_that_a_body_swallowed_ends_the_attempt_and_nothing_else() -> None:
    polled: list[None] = []

    def lost() -> None:
        polled.append(None)
        raise DisconnectedException

    async def handle() -> None:
        watched = watch(lost)
        for _ in range(3):  # each later await raises it again, and begins nothing
            with pytest.raises(DisconnectedException):
                await watched._poll(FUTURE)
        assert len(polled) == 1
        for error in (TerminalError("made of it"), ValueError("made of it")):
            with pytest.raises(DisconnectedException):
                terminal(error, watched)

    asyncio.run(handle())


def test_who_only_looks_whether_something_has_come_goes_on_before_who_takes_it() -> None:
    went_on: list[str] = []

    async def wait(watched: Watch, who: str, future: Any) -> None:
        await watched._poll(future)
        went_on.append(who)

    async def handle() -> None:
        watched = watch(lambda: None)
        looks = wait(watched, "looks", any_of([FUTURE]))
        await asyncio.gather(wait(watched, "takes", FUTURE), looks)

    asyncio.run(handle())
    assert went_on == ["looks", "takes"]
