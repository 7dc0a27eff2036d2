"""What is done to messages that no model has read, to approvals, and to what is to go on.

And what is noted of messages: receipts, metadata, and where the history shows them.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from interruptible._session import changes, effects, private, public, stored_record, views
from interruptible._session.record import Addition, Asked, Live, Record
from interruptible._task.signals import STOP

from . import handling
from .handling import (
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
    an_outcome,
    begun,
    dispatched,
    gone,
    handle,
    known,
    noted,
    put_out,
    said,
    settled,
    stored,
    watcher,
    with_task,
)

small_bounds, without_a_server = handling.small_bounds, handling.without_a_server
"""For each of these tests."""

ADA = {"author": "Ada"}
FIRST, SECOND, THIRD, FOURTH = (known(said(f"message {x}"), x) for x in (1, 2, 3, 4))
SECOND["said"]["metadata"] = ADA


def is_live(turn: int, *messages: Any, **more: Any) -> Any:
    """A live turn as it is stored; it was accepted at its number."""
    return {**begun(turn, *messages), "accepted_at": turn, **more}


AT_WORK = Live(1, "inv-1", own=(1,))
NEXT = Live(2, "inv-2", queued=True, own=(2,))
LAST = Live(3, "inv-3", queued=True, own=(3,))
STEERED = Addition(1, 1, 4, id=4)
FULL = Record(
    "epoch",
    4,
    (AT_WORK, NEXT, LAST),
    (STEERED,),
    (is_live(1, FIRST), is_live(2, SECOND), is_live(3, THIRD)),
    messages=4,
)
"""One turn is at work, with a message steered at it, and two wait."""
STATE = {"steered/1": FOURTH}
BURST = Record(
    "epoch",
    2,
    (Live(1, "inv-1", open=True, own=(1,)),),
    (Addition(1, 1, 2, joined=True, id=2),),
    (is_live(1, FIRST),),
    messages=2,
)
"""One turn waits for quiet; a message has joined it."""


def receipt(turn: int, message: int, status: str, *interrupted: int, task: str = "") -> Any:
    return {
        "turn": turn,
        "message": message,
        "task_id": task or f"inv-{turn}",
        "status": status,
        "interrupted": list(interrupted),
    }


def changed(*lives: Live, tail: Sequence[Any] = FULL.tail, **more: Any) -> Record:
    """The full session with something else about these turns."""
    by = {x.turn: x for x in lives}
    lives = tuple(by.get(x.turn, x) for x in FULL.live)
    return FULL._replace(live=lives, tail=tuple(tail), **more)


# -- What is refused. ------------------------------------------------------------------------------

NOT_PENDING = (
    "message: {} is not pending: it was read, its turn has begun or ended, or it was "
    "withdrawn. Say something new instead."
)
NO_SUCH = "message: there is no message {} in this session; {}."
ON_PENDING: list[tuple[Any, dict[str, Any]]] = [
    (changes.on_withdraw, {}),
    (changes.on_replace, {"content": "Hello"}),
    (changes.on_promote, {"policy": "interrupt"}),
    (changes.on_promote, {"policy": "steer", "now": True}),
]


@pytest.mark.parametrize(("handler", "body"), ON_PENDING)
@pytest.mark.parametrize(
    ("record", "message", "refused"),
    [
        pytest.param(FULL, 5, (404, NO_SUCH.format(5, "its messages are 1 to 4")), id="above"),
        pytest.param(FULL, 0, (404, NO_SUCH.format(0, "its messages are 1 to 4")), id="nought"),
        pytest.param(FULL, -1, (404, NO_SUCH.format(-1, "its messages are 1 to 4")), id="below"),
        pytest.param(None, 1, (404, NO_SUCH.format(1, "it has none yet")), id="no session"),
        pytest.param(BUSY, 1, (404, NO_SUCH.format(1, "it has none yet")), id="no ids"),
        pytest.param(FULL, 1, (412, NOT_PENDING.format(1)), id="at work"),
        pytest.param(
            FULL._replace(steered=(STEERED._replace(taken=True),)),
            4,
            (412, NOT_PENDING.format(4)),
            id="taken",
        ),
        pytest.param(
            changed(NEXT._replace(cancelled="cancelled")),
            2,
            (412, NOT_PENDING.format(2)),
            id="its turn is cancelled",
        ),
        pytest.param(
            changed(NEXT._replace(queued=False)),
            2,
            (412, NOT_PENDING.format(2)),
            id="its turn has begun",
        ),
        pytest.param(
            changed(AT_WORK._replace(cancelled="stopped", after_step=True)),
            4,
            (412, NOT_PENDING.format(4)),
            id="its turn is to stop",
        ),
        pytest.param(
            FULL._replace(live=FULL.live[1:]),
            1,
            (412, NOT_PENDING.format(1)),
            id="its turn is over",
        ),
    ],
)
def test_what_is_read_or_never_was_cannot_be_changed_and_nothing_is(
    handler: Any, body: dict[str, Any], record: Record | None, message: int, refused: Any
) -> None:
    body = {"message": message, **body}
    assert handle(handler, body, record, state=STATE) == (refused, [])


@pytest.mark.parametrize(
    ("handler", "body", "options", "status"),
    [
        (changes.on_withdraw, {"message": "2"}, {}, 400),
        (changes.on_replace, {"message": 2}, {}, 400),
        (changes.on_replace, {"message": 2, "content": "x" * 11}, {"max_content": 10}, 413),
        (changes.on_replace, {"message": 2, "content": "\ud800"}, {}, 400),
        (changes.on_promote, {"message": 2, "policy": "queue"}, {}, 400),
        (changes.on_promote, {"message": 2, "policy": "interrupt", "now": True}, {}, 400),
        *(
            (changes.on_promote, {"message": 2, "policy": x}, {"allowed_policies": ["queue"]}, 400)
            for x in ("interrupt", "steer")
        ),
        (public.on_resume, {"turn": "1"}, {}, 400),
        (public.on_resume, {"turn": 3}, {}, 412),
        (public.on_edit, {"turn": 1}, {}, 400),
        (public.on_edit, {"turn": 1, "content": "x" * 11}, {"max_content": 10}, 413),
        (public.on_edit, {"turn": 1, "content": "\ud800"}, {}, 400),
        (public.on_edit, {"turn": 1, "content": "x", "if_last": 2}, {}, 412),
        (public.on_edit, {"turn": 4, "content": "x"}, {}, 404),
        (public.on_edit, {"turn": 0, "content": "x"}, {}, 404),
        (changes.on_answer, {"approval": 1}, {}, 400),
        (changes.on_answer, {"approval": 1, "approved": True}, {}, 404),
        (public.on_message, {"content": "x", "now": True}, {}, 400),
        (public.on_message, {"content": "x", "metadata": {"x": "y" * 5000}}, {}, 400),
        (views.on_attach, {"turn": 1, "message": 1}, {}, 400),
        (views.on_attach, {"message": 5}, {}, 404),
        (views.on_attach, {"message": 0}, {}, 404),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_changed(
    handler: Any, body: Any, options: dict[str, Any], status: int
) -> None:
    answer, done = handle(handler, body, FULL, state=STATE, **options)
    assert (answer[0], done) == (status, [])


# -- What is taken back. ---------------------------------------------------------------------------


def test_a_turn_whose_message_is_taken_back_does_not_begin_and_the_message_is_in_its_record() -> (
    None
):
    answer, done = handle(changes.on_withdraw, {"message": 2}, FULL, state=STATE)
    two = gone(is_live(2, withdrawn=[SECOND]))
    after = changed(
        NEXT._replace(own=(), cancelled="withdrawn"), tail=(FULL.tail[0], two, FULL.tail[2])
    )
    assert done == ["cancel inv-2", stored(after), "tell inv-3: turn 2 is cancelled"]
    assert answer == {"withdrawn": 2}
    # And it is so once.
    again = handle(changes.on_withdraw, {"message": 2}, after, state=STATE)
    assert again == ((412, NOT_PENDING.format(2)), [])


def test_what_was_steered_is_taken_back_and_its_turn_goes_on() -> None:
    answer, done = handle(changes.on_withdraw, {"message": 4}, FULL, state=STATE)
    one = is_live(1, FIRST, withdrawn=[FOURTH])
    assert done == [
        stored(FULL._replace(steered=(), tail=(one, *FULL.tail[1:]))),
        "clear steered/1",
    ]
    assert answer == {"withdrawn": 4}


def test_a_burst_goes_on_with_what_is_left_of_it_and_is_cancelled_when_that_is_nothing() -> None:
    joined = known(said("and more"), 2)
    state = {"steered/1": joined}
    _, done = handle(changes.on_withdraw, {"message": 1}, BURST, state=state)
    bare = BURST.live[0]._replace(own=())
    without_first = BURST._replace(live=(bare,), tail=(is_live(1, withdrawn=[FIRST]),))
    assert done == [stored(without_first)]
    _, done = handle(changes.on_withdraw, {"message": 2}, BURST, state=state)
    without_second = BURST._replace(steered=(), tail=(is_live(1, FIRST, withdrawn=[joined]),))
    assert done == [stored(without_second), "clear steered/1"]
    _, done = handle(changes.on_withdraw, {"message": 2}, without_first, state=state)
    nothing = gone(is_live(1, withdrawn=[FIRST, joined]))
    assert done == [
        "cancel inv-1",
        stored(
            BURST._replace(
                live=(bare._replace(cancelled="withdrawn"),), steered=(), tail=(nothing,)
            )
        ),
        "clear steered/1",
    ]
    _, done = handle(changes.on_withdraw, {"message": 1}, without_second)
    nothing = gone(is_live(1, withdrawn=[joined, FIRST]))
    assert done[-1][1]["tail"] == [nothing]
    assert done[0] == "cancel inv-1"


@pytest.mark.parametrize("more", [{}, {"resumes": 9}])
def test_a_turn_that_an_earlier_version_began_has_more_than_the_messages_that_have_an_id(
    more: dict[str, Any],
) -> None:
    old = is_live(1, *([] if more else [said("message 1")]), **more)
    record = BURST._replace(live=(Live(1, "inv-1", open=True),), tail=(old,))
    state = {"steered/1": known(said("and more"), 2)}
    for handler, body in (
        (changes.on_withdraw, {}),
        (changes.on_promote, {"policy": "steer"}),  # it is at this turn already
    ):
        _, done = handle(handler, {"message": 2, **body}, record, state=state)
        assert not [x for x in done if "cancel" in x[0] or x == "cancel inv-1"]
        (record_of, *_) = [x[1] for x in done if x[0] == "session"]
        assert record_of["live"] == [[1, "inv-1", None, True]]


def test_what_an_earlier_version_began_is_not_cancelled_when_its_one_new_message_is_promoted() -> (
    None
):
    old = Live(2, "inv-2", open=True)
    steered = (Addition(1, 2, 3, joined=True, id=1),)
    tail = (is_live(1, said("message 1")), is_live(2, said("message 2")))
    record = Record("epoch", 3, (ONE, old), steered, tail, messages=1)
    state = {"steered/1": HELLO}
    answer, done = handle(
        changes.on_promote, {"message": 1, "policy": "steer"}, record, state=state
    )
    after = record._replace(steered=(Addition(1, 1, 3, id=1),))
    assert done == [("steered/1", HELLO), stored(after), watcher(1)]
    assert answer == receipt(1, 1, "steered")


def test_a_large_turn_is_stored_anew_beside_the_record_when_its_message_is_taken_back() -> None:
    large = known(said("x" * LARGE), 2)
    record = changed(tail=(FULL.tail[0], 2, FULL.tail[2]))
    state = {**STATE, "turn/2": is_live(2, large)}
    _, done = handle(changes.on_withdraw, {"message": 2}, record, state=state)
    after = changed(
        NEXT._replace(own=(), cancelled="withdrawn"), tail=(FULL.tail[0], -2, FULL.tail[2])
    )
    assert done == [
        ("turn/2", is_live(2, withdrawn=[large])),
        "cancel inv-2",
        stored(after),
        "tell inv-3: turn 2 is cancelled",
    ]


def test_what_was_withdrawn_stays_in_the_record_of_a_turn_that_ends() -> None:
    one = is_live(1, FIRST, withdrawn=[FOURTH])
    record = FULL._replace(steered=(), tail=(one, *FULL.tail[1:]))
    _, done = handle(private.on_settle, {"outcome": an_outcome(1)}, record)
    ended = done[0][1]["tail"][0]
    assert (ended["status"], ended["withdrawn"], ended["input"]) == ("completed", [FOURTH], [FIRST])


def test_a_task_whose_id_was_lost_is_sent_again_before_its_message_is_taken_back() -> None:
    record = changed(NEXT._replace(task_id=None))
    _, done = handle(changes.on_withdraw, {"message": 2}, record, state=STATE)
    assert done[:2] == [dispatched(2, SECOND, after=[AT_WORK], long=True), "cancel inv-new"]


# -- What is said otherwise. -----------------------------------------------------------------------


def test_a_message_is_said_otherwise_in_its_place_with_its_id_and_what_was_noted_of_it() -> None:
    body = {"message": 2, "content": [{"type": "text", "text": "Hello"}]}
    answer, done = handle(changes.on_replace, body, FULL, state=STATE)
    two = is_live(2, {**SECOND, "content": body["content"]})
    assert done == [stored(changed(tail=(FULL.tail[0], two, FULL.tail[2])))]
    assert answer == receipt(2, 2, "waiting")


def test_what_was_steered_is_said_otherwise_under_its_own_key() -> None:
    body = {"message": 4, "content": "Hello"}
    answer, done = handle(changes.on_replace, body, FULL, state=STATE)
    assert done == [("steered/1", {**FOURTH, "content": "Hello"}), stored(FULL)]
    assert answer == receipt(1, 4, "steered")
    state = {"steered/1": known(said("and more"), 2)}
    answer, done = handle(changes.on_replace, {**body, "message": 2}, BURST, state=state)
    assert done == [("steered/1", known(said("Hello"), 2)), stored(BURST)]
    assert answer == receipt(1, 2, "joined")
    answer, _ = handle(changes.on_replace, {**body, "message": 1}, BURST, state=state)
    assert answer == receipt(1, 1, "running")


def test_only_that_message_of_a_turn_is_said_otherwise() -> None:
    record = changed(
        NEXT._replace(own=(2, 3)),
        LAST._replace(own=()),
        tail=(FULL.tail[0], is_live(2, said("old"), SECOND, THIRD), is_live(3, said("old"))),
    )
    _, done = handle(changes.on_replace, {"message": 3, "content": "Hello"}, record, state=STATE)
    two = is_live(2, said("old"), SECOND, known(said("Hello"), 3))
    assert done[0][1]["tail"][1] == two


def test_a_message_may_become_large_and_small_again() -> None:
    large = "x" * LARGE
    body = {"message": 2, "content": large}
    _, done = handle(changes.on_replace, body, FULL, state=STATE)
    stands = is_live(2, {**SECOND, "content": large})
    record = changed(tail=(FULL.tail[0], 2, FULL.tail[2]))
    assert done == [("turn/2", stands), stored(record)]
    state = {**STATE, "turn/2": stands}
    _, done = handle(changes.on_replace, {"message": 2, "content": "x"}, record, state=state)
    small = is_live(2, {**SECOND, "content": "x"})
    assert done == [stored(changed(tail=(FULL.tail[0], small, FULL.tail[2])))]


# -- What is not to wait. --------------------------------------------------------------------------


@pytest.mark.parametrize("now", [False, True])
def test_a_message_that_waits_is_steered_at_the_turn_at_work_and_its_turn_does_not_begin(
    now: bool,
) -> None:
    body = {"message": 2, "policy": "steer", "now": now}
    answer, done = handle(changes.on_promote, body, FULL, state=STATE)
    added = Addition(2, 1, 2, id=2, now=int(now))
    after = changed(
        AT_WORK._replace(nows=int(now)),
        NEXT._replace(own=(), cancelled="promoted"),
        tail=(FULL.tail[0], gone(is_live(2)), FULL.tail[2]),
        steered=(STEERED, added),
    )
    assert done == [
        "cancel inv-2",
        ("steered/2", SECOND),
        stored(after),
        *(["tell inv-1: steered now 1"] if now else []),
        "tell inv-3: turn 2 is cancelled",
    ]
    assert answer == {**receipt(1, 2, "steered"), "discarded": [2]}


def test_the_first_that_is_steered_at_a_turn_by_that_has_it_watched() -> None:
    record = FULL._replace(steered=())
    _, done = handle(changes.on_promote, {"message": 3, "policy": "steer"}, record)
    assert done[0] == "cancel inv-3"
    assert done[1] == ("steered/1", THIRD)
    assert done[-1] == watcher(1)


def test_what_is_steered_at_the_turn_at_work_stays_there_and_may_be_told_at_once() -> None:
    body = {"message": 4, "policy": "steer"}
    assert handle(changes.on_promote, body, FULL, state=STATE) == (
        receipt(1, 4, "steered"),
        [stored(FULL)],
    )
    answer, done = handle(changes.on_promote, {**body, "now": True}, FULL, state=STATE)
    after = changed(AT_WORK._replace(nows=1), steered=(STEERED._replace(now=1),))
    assert done == [stored(after), "tell inv-1: steered now 1"]
    assert answer == receipt(1, 4, "steered")
    # Again, it is told again.
    _, done = handle(changes.on_promote, {**body, "now": True}, after, state=STATE)
    assert done[-1] == "tell inv-1: steered now 2"


def test_a_message_of_the_turn_that_is_next_stays_where_it_is_when_it_is_steered() -> None:
    record = FULL._replace(live=FULL.live[1:], steered=())
    for now in (False, True):
        body = {"message": 2, "policy": "steer", "now": now}
        answer, done = handle(changes.on_promote, body, record)
        assert (answer, done) == (receipt(2, 2, "running"), [stored(record)])


def test_a_message_is_put_first_and_what_was_to_be_first_takes_its_place() -> None:
    body = {"message": 3, "policy": "interrupt"}
    answer, done = handle(changes.on_promote, body, FULL, state=STATE)
    after = changed(
        AT_WORK._replace(cancelled="interrupted by turn 2"),
        NEXT._replace(own=(3,)),
        LAST._replace(own=(2,)),
        tail=(
            FULL.tail[0],
            is_live(2, THIRD, accepted_at=3),
            is_live(3, SECOND, accepted_at=2),
        ),
    )
    assert done == [
        "cancel inv-1",
        stored(after),
        "tell inv-2: turn 1 is cancelled",
        "tell inv-3: turn 1 is cancelled",
    ]
    assert answer == receipt(2, 3, "waiting", 1)


def test_a_message_that_is_next_stays_where_it_is_and_what_is_at_work_is_cancelled() -> None:
    answer, done = handle(
        changes.on_promote, {"message": 2, "policy": "interrupt"}, FULL, state=STATE
    )
    after = changed(AT_WORK._replace(cancelled="interrupted by turn 2"))
    assert done == [
        "cancel inv-1",
        stored(after),
        "tell inv-2: turn 1 is cancelled",
        "tell inv-3: turn 1 is cancelled",
    ]
    assert answer == receipt(2, 2, "waiting", 1)


def test_what_was_steered_is_put_first_and_each_that_waits_gets_what_was_before_it() -> None:
    body = {"message": 4, "policy": "interrupt"}
    answer, done = handle(changes.on_promote, body, FULL, state=STATE)
    lives = (
        AT_WORK._replace(cancelled="interrupted by turn 2"),
        NEXT._replace(own=(4,)),
        LAST._replace(own=(2,)),
    )
    tail = (
        FULL.tail[0],
        is_live(2, FOURTH, accepted_at=NOW),
        is_live(3, SECOND, accepted_at=2),
        is_live(4, THIRD, accepted_at=3),
    )
    new = Live(4, queued=True, own=(3,))
    after = FULL._replace(next=5, live=(*lives, new), steered=(), tail=tail)
    assert done == [
        "cancel inv-1",
        stored(after),
        "tell inv-2: turn 1 is cancelled",
        "tell inv-3: turn 1 is cancelled",
        dispatched(4, THIRD, after=lives),
        stored(with_task(after)),
        "clear steered/1",
    ]
    assert answer == receipt(2, 4, "waiting", 1)


def test_what_was_steered_and_is_alone_gets_a_turn_of_its_own() -> None:
    record = FULL._replace(next=2, live=(AT_WORK,), tail=FULL.tail[:1])
    answer, done = handle(
        changes.on_promote, {"message": 4, "policy": "interrupt"}, record, state=STATE
    )
    cut = AT_WORK._replace(cancelled="interrupted by turn 2")
    after = Record(
        "epoch",
        3,
        (cut, Live(2, own=(4,))),
        tail=(FULL.tail[0], is_live(2, FOURTH, accepted_at=NOW)),
        messages=4,
    )
    turns = [{**FULL.tail[0], "task_id": "inv-1", "reason": cut.cancelled}]
    assert done == [
        "cancel inv-1",
        stored(after),
        dispatched(2, FOURTH, after=[cut], turns=turns),
        stored(with_task(after)),
        "clear steered/1",
    ]
    assert answer == receipt(2, 4, "waiting", 1, task="inv-new")


def test_what_joined_a_turn_goes_with_it_and_somebody_watches_where_it_went() -> None:
    joined = (Addition(1, 3, 4, joined=True, id=4),)
    record = changed(LAST._replace(open=True), steered=joined)
    _, done = handle(changes.on_promote, {"message": 4, "policy": "interrupt"}, record, state=STATE)
    record = done[1][1]
    assert record["steered"] == [[1, 2, 4, False, True, 4]]
    assert [x[6] for x in record["live"][1:]] == [[3], [2]]
    assert [x["input"] for x in record["tail"][1:]] == [[THIRD], [SECOND]]
    assert [x[3] for x in record["live"]] == [False, False, False]
    assert done[-1] == watcher(2)


def test_what_was_withdrawn_from_a_turn_stays_in_its_record_when_others_get_its_messages() -> None:
    fifth = known(said("message 5"), 5)
    three = is_live(3, THIRD, withdrawn=[fifth])
    record = FULL._replace(tail=(*FULL.tail[:2], three), messages=5)
    _, done = handle(changes.on_promote, {"message": 4, "policy": "interrupt"}, record, state=STATE)
    _, (_, after), *_ = done
    assert [x.get("withdrawn") for x in after["tail"]] == [None, None, [fifth], None]
    assert [x["input"] for x in after["tail"]] == [[FIRST], [FOURTH], [SECOND], [THIRD]]
    attached, _ = handle(views.on_attach, {"message": 5}, Record(**{**_read(after), "live": ()}))
    assert attached == {"status": "withdrawn"}


def _read(record: Any) -> dict[str, Any]:
    return stored_record.parse_record(record)._asdict()


def test_large_turns_change_places_beside_the_record() -> None:
    large = known(said("x" * LARGE), 2)
    record = changed(tail=(FULL.tail[0], 2, FULL.tail[2]))
    state = {**STATE, "turn/2": is_live(2, large)}
    _, done = handle(changes.on_promote, {"message": 3, "policy": "interrupt"}, record, state=state)
    assert done[:2] == [("turn/3", is_live(3, large, accepted_at=2)), "cancel inv-1"]
    assert done[2][1]["tail"] == [FULL.tail[0], is_live(2, THIRD, accepted_at=3), 3]


# -- A message that is steered now, spares what is queued, or is noted of. -------------------------


@pytest.mark.parametrize(
    ("record", "host", "now"),
    [
        (changed(steered=()), AT_WORK, 1),
        (changed(AT_WORK._replace(nows=2), steered=()), AT_WORK, 3),
        (changed(AT_WORK._replace(cancelled="cancelled"), steered=()), NEXT, 0),  # it has not begun
        (
            changed(AT_WORK._replace(cancelled="stopped", after_step=True), steered=()),
            NEXT,
            0,
        ),
    ],
)
def test_a_turn_at_work_is_told_to_read_at_once_what_is_stored_by_then(
    record: Record, host: Live, now: int
) -> None:
    body = {"content": "Hello", "policy": "steer", "now": True}
    answer, done = handle(public.on_message, body, record)
    added = Addition(1, host.turn, 4, id=5, now=now)
    after = record._replace(steered=(added,), messages=5)
    if now:
        after = after.changed({1}, nows=now)
    assert done == [
        ("steered/1", known(said("Hello"), 5)),
        stored(after),
        *([f"tell inv-1: steered now {now}"] if now else []),
        watcher(host.turn),
    ]
    assert answer == receipt(host.turn, 5, "steered")


def test_what_is_to_be_read_at_once_is_a_turn_like_any_other_where_nothing_is_at_work() -> None:
    body = {"content": "Hello", "policy": "steer", "now": True}
    answer, done = handle(public.on_message, body, Record("epoch", 1))
    assert answer == receipt(1, 1, "running", task="inv-new")
    assert [x[0] for x in done] == ["session", "IdleTask", "session"]


def test_what_is_to_be_read_at_once_and_passes_on_is_read_when_the_next_turn_begins() -> None:
    record = FULL._replace(steered=(STEERED._replace(now=1),)).changed({1}, nows=1)
    _, done = handle(private.on_settle, {"outcome": an_outcome(1)}, record, state=STATE)
    assert done[0][1]["steered"] == [[1, 2, 4, False, False, 4]]
    assert ("tell inv-2: begin", {"asks": True}) in done


@pytest.mark.parametrize("policy", ["interrupt", "rollback"])
@pytest.mark.parametrize(
    ("agents", "asked", "spares"),
    [
        (False, {}, False),
        (True, {}, True),
        (False, {"keep_queued": True}, True),
        (True, {"keep_queued": False}, False),
    ],
)
def test_what_is_queued_is_spared_as_the_message_says_or_else_the_agent(
    policy: str, agents: bool, asked: dict[str, Any], spares: bool
) -> None:
    body = {"content": "Hello", "policy": policy, **asked}
    answer, done = handle(public.on_message, body, FULL, state=STATE, keep_queued=agents)
    assert answer["interrupted"] == ([1] if spares else [1, 2, 3])
    assert [x for x in done if str(x).startswith("cancel")] == [
        f"cancel inv-{x}" for x in answer["interrupted"]
    ]


def test_what_is_noted_of_a_message_is_stored_with_it_and_with_none_nothing_is() -> None:
    body = {"content": "Hello", "metadata": ADA}
    _, done = handle(public.on_message, body, Record("epoch", 1))
    stands = known(said("Hello"), metadata=ADA)
    assert done[0][1]["tail"] == [begun(1, stands)]
    assert done[1] == dispatched(1, stands, turns=[])
    _, done = handle(public.on_message, {**body, "policy": "steer"}, FULL, state=STATE)
    assert done[0] == ("steered/2", known(said("Hello"), 5, metadata=ADA))
    _, done = handle(public.on_message, {**body, "metadata": {}}, Record("epoch", 1))
    assert done[0][1]["tail"] == [begun(1, HELLO)]


def test_a_refused_message_uses_no_id() -> None:
    body = {"content": "Hello", "policy": "reject"}
    assert handle(public.on_message, body, FULL)[1] == []
    record = FULL._replace(live=(), steered=())
    answer, _ = handle(public.on_message, body, record)
    assert answer["message"] == 5


# -- What is to stop in good order. ----------------------------------------------------------------


def stopped(why: str = "stopped") -> Live:
    return AT_WORK._replace(cancelled=why, after_step=True)


def test_what_is_at_work_is_told_to_stop_after_its_step_and_what_waits_is_cancelled() -> None:
    body = {"after_step": True, "reason": "enough"}
    answer, done = handle(public.on_cancel, body, FULL, state=STATE)
    why = "stopped: enough"
    after = changed(stopped(why), NEXT._replace(cancelled=why), LAST._replace(cancelled=why))
    assert done == ["cancel inv-2", "cancel inv-3", f"tell inv-1: {STOP}", stored(after)]
    assert answer == {"cancelled": [1, 2, 3]}
    assert handle(public.on_cancel, body, after, state=STATE) == ({"cancelled": []}, [])


def test_one_turn_is_told_to_stop_and_a_plain_cancel_cuts_it_then() -> None:
    answer, done = handle(public.on_cancel, {"turn": 1, "after_step": True}, FULL, state=STATE)
    after = changed(stopped())
    assert done == [f"tell inv-1: {STOP}", stored(after)]  # who waits for it, waits
    assert answer == {"cancelled": [1]}
    answer, done = handle(public.on_cancel, {"turn": 1, "reason": "now"}, after, state=STATE)
    assert done == [
        "cancel inv-1",
        stored(changed(AT_WORK._replace(cancelled="cancelled: now"))),
        "tell inv-2: turn 1 is cancelled",
        "tell inv-3: turn 1 is cancelled",
    ]
    assert answer == {"cancelled": [1]}
    # What is cut does not stop in good order any more.
    cut = changed(AT_WORK._replace(cancelled="cancelled: now"))
    again = handle(public.on_cancel, {"turn": 1, "after_step": True}, cut, state=STATE)
    assert again == ({"cancelled": []}, [])


def test_an_interrupt_cuts_what_is_to_stop() -> None:
    record = FULL._replace(next=2, live=(stopped(),), steered=(), tail=FULL.tail[:1])
    answer, done = handle(public.on_message, {"content": "Hello"}, record)
    assert done[0] == "cancel inv-1"
    job = next(x[2] for x in done if x[:2] == ("IdleTask", "run_task"))
    assert job["after"] == [{"turn": 1, "task_id": "inv-1", "cancelled": True}]
    assert "queued" not in job
    assert answer["interrupted"] == [1]


def test_what_is_sent_behind_what_is_to_stop_waits_for_it_as_for_what_goes_on() -> None:
    record = FULL._replace(next=2, live=(stopped(),), steered=(), tail=FULL.tail[:1])
    answer, done = handle(public.on_message, {"content": "Hello", "policy": "queue"}, record)
    job = next(x[2] for x in done if x[:2] == ("IdleTask", "run_task"))
    assert job["after"] == [{"turn": 1, "task_id": "inv-1", "cancelled": False}]
    assert job["queued"] is True
    assert answer["status"] == "waiting"


def test_the_status_shows_what_is_to_stop_as_at_work() -> None:
    answer, _ = handle(views.on_get_status, None, changed(stopped(), steered=()))
    assert (answer["status"], answer["turn"]) == ("running", 1)
    assert answer["live"][0] == {
        "turn": 1,
        "task_id": "inv-1",
        "cancelled": "stopped",
        "after_step": True,
    }
    assert "after_step" not in answer["live"][1]


def test_a_rewind_cuts_what_is_to_stop_and_says_why() -> None:
    record = FULL._replace(next=2, live=(stopped(),), steered=(), tail=FULL.tail[:1])
    _, done = handle(public.on_rewind, {"turn": 1}, record)
    assert done[0] == "cancel inv-1"
    assert (
        done[1][1]["live"]
        == stored(changed(AT_WORK._replace(cancelled="rolled back")))[1]["live"][:1]
    )


# -- What goes on. ---------------------------------------------------------------------------------

ENDED = [
    settled(1, input=[FIRST]),
    settled(2, status="interrupted", reason="stopped", input=[SECOND, THIRD]),
]
STOPPED = Record("epoch", 3, tail=tuple(ENDED), messages=3)


@pytest.mark.parametrize("body", [None, {}, {"turn": 2}, {"turn": None}])
@pytest.mark.parametrize("status", ["interrupted", "failed", "killed"])
def test_a_turn_that_did_not_complete_goes_on_in_a_new_one_without_a_message(
    body: Any, status: str
) -> None:
    turns = [ENDED[0], {**ENDED[1], "status": status}]
    record = STOPPED._replace(tail=tuple(turns))
    answer, done = handle(public.on_resume, body, record)
    new = {**begun(3), "resumes": 2}
    after = record._replace(next=4, live=(Live(3),), tail=(*turns, new))
    assert done == [
        stored(after),
        dispatched(3, turns=turns, resumes=2),
        stored(with_task(after)),
    ]
    assert answer == receipt(3, 3, "running", task="inv-new")


def test_a_turn_in_a_page_or_with_a_key_of_its_own_goes_on_as_well() -> None:
    large = {**ENDED[1], "messages": [put_out("x" * LARGE)]}
    record = STOPPED._replace(tail=(), paged=True)
    state = {"page/0": [ENDED[0], 2], "turn/2": large}
    answer, done = handle(public.on_resume, None, record, state=state)
    after = record._replace(next=4, live=(Live(3),), tail=({**begun(3), "resumes": 2},))
    assert done == [stored(after), dispatched(3, resumes=2), stored(with_task(after))]
    assert answer == receipt(3, 3, "running", task="inv-new")


def test_what_went_on_before_what_is_discarded_goes_on() -> None:
    cut = Live(3, "inv-3", "rolled back")
    tail = (*ENDED, gone(is_live(3, FOURTH)))
    record = STOPPED._replace(next=4, live=(cut,), tail=tail, messages=4)
    answer, done = handle(public.on_resume, {"turn": 2}, record)
    job = next(x[2] for x in done if x[:2] == ("IdleTask", "run_task"))
    assert (job["resumes"], job["turns"], "queued" in job) == (2, ENDED, False)
    assert job["after"] == [{"turn": 3, "task_id": "inv-3", "cancelled": True}]
    assert answer == receipt(4, 3, "waiting", task="inv-new")


def not_last(number: int, ends: str) -> Any:
    reason = f"turn: {number} is not the last of the conversation, which {ends}."
    return 412, f"{reason} Say something new, or rewind to what comes after it."


def no_turn(number: int, known: str = "its turns are 1 to 2") -> Any:
    return 404, f"turn: there is no turn {number} in this session; {known}."


def nothing_left(why: str) -> Any:
    return 412, f"turn: {why}, so there is nothing to go on with."


AT_WORK_STILL = (412, "turn: turn 1 is live. Wait for it, or cancel it.")


@pytest.mark.parametrize(
    ("record", "body", "refused"),
    [
        (STOPPED._replace(tail=tuple(ENDED[:1]), next=2), None, nothing_left("1 has completed")),
        (STOPPED, {"turn": 1}, not_last(1, "ends with 2")),
        (
            STOPPED._replace(tail=tuple(map(gone, ENDED))),
            None,
            not_last(1, "has no turns any more"),
        ),
        (STOPPED._replace(tail=(), first=3), None, not_last(1, "has no turns any more")),
        (
            STOPPED._replace(tail=(ENDED[0], gone(ENDED[1]))),
            {"turn": 2},
            not_last(2, "ends with 1"),
        ),
        (STOPPED, {"turn": 3}, no_turn(3)),
        (STOPPED, {"turn": 0}, no_turn(0)),
        (None, None, no_turn(1, "it has no turns yet")),
        (FULL, None, nothing_left("3 is live")),
        (
            changed(*(x._replace(cancelled="cancelled") for x in FULL.live)),
            None,
            nothing_left("3 is live"),
        ),
        # The last has ended before its turn came, and others are at work.
        (
            STOPPED._replace(
                live=(Live(1, "inv-1", own=(1,)),), tail=(is_live(1, FIRST), ENDED[1])
            ),
            None,
            AT_WORK_STILL,
        ),
        (
            STOPPED._replace(live=(stopped(),), tail=(is_live(1, FIRST), ENDED[1])),
            None,
            AT_WORK_STILL,
        ),
    ],
)
def test_what_completed_is_live_or_is_not_the_last_does_not_go_on(
    record: Record | None, body: Any, refused: Any
) -> None:
    assert handle(public.on_resume, body, record, state=STATE) == (refused, [])


def test_a_lost_task_that_goes_on_is_sent_again_with_what_it_goes_on_with() -> None:
    record = STOPPED._replace(next=4, live=(Live(3),), tail=(*ENDED, {**begun(3), "resumes": 2}))
    _, done = handle(public.on_cancel, None, record)
    assert done[:2] == [dispatched(3, resumes=2), "cancel inv-new"]


def test_a_turn_that_goes_on_with_another_does_so_when_it_is_begun_again() -> None:
    three = {**settled(3), "input": [], "resumes": 2}
    record = STOPPED._replace(next=4, tail=(*ENDED, three))
    for quiet in (None, QUIET):
        answer, done = handle(public.on_regenerate, None, record, debounce=quiet)
        new = {**begun(4), "resumes": 2}
        after = record._replace(next=5, live=(Live(4),), tail=(*ENDED, gone(three), new))
        assert done == [
            stored(after),
            dispatched(4, turns=ENDED, resumes=2),
            stored(with_task(after)),
        ]
        assert answer == {**receipt(4, 0, "running", task="inv-new"), "discarded": [3]}
    _, done = handle(public.on_edit, {"turn": 3, "content": "Hello"}, record)
    assert "resumes" not in done[1][2]


# -- What is said in the place of something else. --------------------------------------------------


def test_something_else_is_said_in_the_place_of_a_turn_and_all_after_it() -> None:
    record = STOPPED
    body = {"turn": 2, "content": "Hello", "if_last": 2}
    answer, done = handle(public.on_edit, body, record)
    stands = known(said("Hello"), 4)
    tail = (ENDED[0], gone(ENDED[1]), begun(3, stands))
    after = Record("epoch", 4, (Live(3, own=(4,)),), tail=tail, messages=4)
    assert done == [
        stored(after),
        dispatched(3, stands, turns=ENDED[:1]),
        stored(with_task(after)),
    ]
    assert answer == {**receipt(3, 4, "running", task="inv-new"), "discarded": [2]}
    answer, _ = handle(public.on_edit, {"turn": 1, "content": "Hello"}, record)
    assert answer["discarded"] == [1, 2]


@pytest.mark.parametrize(("quiet", "opened"), [(None, False), (QUIET, True)])
def test_what_is_live_is_cancelled_before_something_else_is_said(quiet: Any, opened: bool) -> None:
    body = {"turn": 2, "content": "Hello"}
    answer, done = handle(public.on_edit, body, FULL, state=STATE, debounce=quiet)
    why = "rolled back by turn 4"
    lives = (
        AT_WORK._replace(cancelled="interrupted by turn 4"),
        NEXT._replace(cancelled=why),
        LAST._replace(cancelled=why),
    )
    stands = known(said("Hello"), 5)
    tail = (FULL.tail[0], gone(FULL.tail[1]), gone(FULL.tail[2]), begun(4, stands))
    new = Live(4, open=opened, own=(5,))
    after = Record("epoch", 5, (*lives, new), FULL.steered, tail, messages=5)
    assert done == [
        "cancel inv-1",
        "cancel inv-2",
        "cancel inv-3",
        stored(after),
        dispatched(4, stands, after=lives),
        stored(with_task(after)),
    ]
    assert answer == {**receipt(4, 5, "waiting", 1, 2, 3, task="inv-new"), "discarded": [2, 3]}


def test_something_else_may_be_large_and_what_it_takes_the_place_of_may_be_in_a_page() -> None:
    record = STOPPED._replace(tail=(), paged=True)
    body = {"turn": 2, "content": "x" * LARGE}
    _, done = handle(public.on_edit, body, record, state={"page/0": ENDED})
    stands = known(said("x" * LARGE), 4)
    after = record._replace(next=4, live=(Live(3, own=(4,)),), tail=(3,), messages=4)
    assert done == [
        ("turn/3", begun(3, stands)),
        ("page/0", [ENDED[0], gone(ENDED[1])]),
        stored(after),
        dispatched(3, stands),
        stored(with_task(after)),
    ]


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({"turn": 3}, (404, "turn: there is no turn 3 in this session; its turns are 1 to 2.")),
        ({"turn": 2}, (404, "turn: 2 is no part of the conversation any more.")),
        (
            {"turn": 1, "if_last": 1},
            (412, "if_last: turn 1 is not the last, but 2. Look at what has happened."),
        ),
    ],
)
def test_nothing_is_said_in_the_place_of_what_is_not_there(body: Any, refused: Any) -> None:
    record = STOPPED._replace(tail=(ENDED[0], gone(ENDED[1])))
    assert handle(public.on_edit, {"content": "Hello", **body}, record) == (refused, [])


# -- What a turn waits for. ------------------------------------------------------------------------

ASKS = FULL._replace(approvals=(Asked(1, 1, 1), Asked(3, 1, 2)), asked=3)
PUSH: Any = {"title": "git push", "value": {"branch": "main"}}
ASKED = {**STATE, "approval/1": PUSH, "approval/3": {"title": "rm", "until": NOW + 1}}
NO_APPROVAL = "approval: there is no approval {} in this session; {}."
NONE_LEFT = (
    "approval: {} is over: it was answered, its time or its turn has ended, or that was "
    "interrupted. Look at what waits."
)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"approved": True}, {"approved": True, "reason": None, "value": None}),
        (
            {"approved": False, "reason": "no", "value": {"x": [1]}},
            {"approved": False, "reason": "no", "value": {"x": [1]}},
        ),
    ],
)
@pytest.mark.parametrize("ends", [{}, {1: UNKNOWN}])
def test_an_answer_is_sent_before_the_record_says_that_nobody_waits_for_it(
    body: Any, told: Any, ends: Any
) -> None:
    # Killed in between, a session would believe in an answer that it never sent.
    body = {"approval": 3, **body}
    answer, done = handle(changes.on_answer, body, ASKS, state=ASKED, ends=ends)
    after = ASKS._replace(approvals=(Asked(1, 1, 1),))
    assert done == [("tell inv-1: approval 2", told), "clear approval/3", stored(after)]
    assert answer == {"answered": 3}
    refused = (410, NONE_LEFT.format(3))
    assert handle(changes.on_answer, body, after, state=ASKED) == (refused, [])


@pytest.mark.parametrize(
    ("record", "approval", "ends", "refused"),
    [
        (ASKS, 4, {}, (404, NO_APPROVAL.format(4, "there were 1 to 3"))),
        (ASKS, 0, {}, (404, NO_APPROVAL.format(0, "there were 1 to 3"))),
        (FULL, 1, {}, (404, NO_APPROVAL.format(1, "none was asked for"))),
        (None, 1, {}, (404, NO_APPROVAL.format(1, "none was asked for"))),
        (ASKS, 2, {}, (410, NONE_LEFT.format(2))),
        (ASKS.changed({1}, cancelled="cancelled"), 1, {}, (410, NONE_LEFT.format(1))),
        (
            ASKS.changed({1}, cancelled="stopped", after_step=True),
            1,
            {},
            (410, NONE_LEFT.format(1)),
        ),
        (ASKS, 1, {1: REPORTED}, (410, NONE_LEFT.format(1))),
        (ASKS, 1, {1: KILLED}, (410, NONE_LEFT.format(1))),
    ],
)
def test_what_nobody_waits_for_is_not_answered(
    record: Record | None, approval: int, ends: Any, refused: Any
) -> None:
    body = {"approval": approval, "approved": True}
    assert handle(changes.on_answer, body, record, state=ASKED, ends=ends) == (refused, [])


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({}, {"title": "git push"}),
        ({"value": None}, {"title": "git push", "value": None}),
        (
            {"value": {"branch": "main"}, "within": 250},
            {**PUSH, "until": NOW + 250},
        ),
    ],
)
def test_what_is_asked_is_stored_before_the_record_says_so(more: Any, kept: Any) -> None:
    asking = {"turn": 1, "number": 3, "title": "git push", **more}
    answer, done = handle(private.on_ask_approval, asking, ASKS)
    after = ASKS._replace(approvals=(*ASKS.approvals, Asked(4, 1, 3)), asked=4)
    assert (answer, done) == (None, [("approval/4", kept), stored(after)])


@pytest.mark.parametrize("record", [None, ASKS._replace(live=())])
def test_a_turn_that_is_over_asks_for_nothing(record: Record | None) -> None:
    asking = {"turn": 1, "number": 3, "title": "git push"}
    assert handle(private.on_ask_approval, asking, record) == (None, [])


@pytest.mark.parametrize(
    ("why", "record"),
    [
        ("cancelled", ASKS.changed({1}, cancelled="cancelled")),
        ("stopped", ASKS.changed({1}, cancelled="stopped", after_step=True)),
    ],
)
def test_a_turn_that_is_cancelled_is_told_no_at_once(why: str, record: Record) -> None:
    # What asks is shielded, and would wait for an answer that nobody can give.
    asking = {"turn": 1, "number": 3, "title": "git push"}
    told = ("tell inv-1: approval 3", {"approved": False, "reason": why})
    assert handle(private.on_ask_approval, asking, record) == (None, [told])


def test_what_a_turn_waits_for_is_denied_when_it_is_cancelled() -> None:
    _, done = handle(public.on_cancel, {"turn": 1}, ASKS, state=STATE)
    told = [x for x in done if x[0].startswith("tell inv-1: approval")]
    no = {"approved": False, "reason": "cancelled"}
    mine = [x.number for x in ASKS.approvals if x.turn == 1]
    assert told == [(f"tell inv-1: approval {number}", no) for number in mine]
    assert mine


def test_who_cancels_by_a_message_cancels_no_turn_that_it_only_became_part_of() -> None:
    answer, done = handle(public.on_cancel, {"message": 4}, FULL, state=STATE)
    assert (answer, done) == ({"cancelled": []}, [])
    answer, _ = handle(public.on_cancel, {"message": 2}, FULL, state=STATE)
    assert answer == {"cancelled": [2]}
    answer, done = handle(public.on_cancel, {"message": 9}, FULL, state=STATE)
    assert (answer[0], done) == (404, [])


def test_whose_time_is_over_is_told_whether_somebody_has_answered() -> None:
    after = ASKS._replace(approvals=(Asked(1, 1, 1),))
    closed = handle(private.on_close_approval, {"turn": 1, "number": 2}, ASKS)
    assert closed == (False, ["clear approval/3", stored(after)])
    assert handle(private.on_close_approval, {"turn": 1, "number": 2}, after) == (True, [])
    assert handle(private.on_close_approval, {"turn": 2, "number": 1}, ASKS) == (True, [])


def test_what_a_turn_asked_for_is_gone_when_it_has_ended_and_the_ids_go_on() -> None:
    record = ASKS._replace(approvals=(*ASKS.approvals, Asked(2, 2, 1)), steered=())
    _, done = handle(private.on_settle, {"outcome": an_outcome(1)}, record)
    assert done[0][0] == "session"
    assert (done[0][1]["approvals"], done[0][1]["asked"]) == ([[2, 2, 1]], 3)
    assert done[-2:] == ["clear approval/1", "clear approval/3"]
    _, done = handle(
        private.on_ask_approval,
        {"turn": 2, "number": 2, "title": "rm"},
        ASKS._replace(approvals=()),
    )
    assert done[0][0] == "approval/4"


def test_a_reset_leaves_what_live_turns_asked_for_until_they_have_ended_and_nothing_else() -> None:
    stuck = AT_WORK._replace(cancelled="cancelled", given_up=True)
    approvals = (Asked(1, 1, 1), Asked(2, 2, 1))
    record = changed(stuck, steered=(), approvals=approvals, asked=3)
    state = {f"approval/{x}": PUSH for x in (1, 2, 3)}
    answer, done = handle(public.on_reset, None, record, state=state)
    assert answer == {"cancelled": [2, 3]}
    (after,) = [x[1] for x in done if x[0] == "session"]
    assert [x[0] for x in after["live"]] == [2, 3]
    assert (after["approvals"], after["asked"], after["messages"]) == ([[2, 2, 1]], 3, 4)
    assert done[-2:] == ["clear approval/1", "clear approval/3"]
    assert done[-3] == ("tell inv-2: approval 1", {"approved": False, "reason": "rolled back"})


# -- What is shown of all that. --------------------------------------------------------------------


def shown_as(number: int, turn: int, kind: str, **more: Any) -> Any:
    return {"id": number, "turn": turn, "kind": kind, "content": f"message {number}", **more}


def test_the_status_lists_what_no_model_has_read_in_the_order_in_which_it_will_be() -> None:
    answer, done = handle(views.on_get_status, None, FULL, state=STATE)
    assert answer["pending"] == [
        shown_as(4, 1, "steered"),
        shown_as(2, 2, "queued", metadata=ADA),
        shown_as(3, 3, "queued"),
    ]
    assert (answer["steered"], answer["waiting_for"], done) == (1, [], [])


def test_what_passed_on_to_a_turn_is_listed_before_its_own_and_what_joined_it_behind() -> None:
    steered = (Addition(1, 2, 2, id=4), Addition(2, 2, 4, joined=True, id=5))
    record = changed(NEXT._replace(open=True), steered=steered, messages=5)
    state = {"steered/1": FOURTH, "steered/2": known(said("message 5"), 5)}
    answer, _ = handle(views.on_get_status, None, record, state=state)
    assert [(x["id"], x["kind"]) for x in answer["pending"]] == [
        (4, "steered"),
        (2, "queued"),
        (5, "joined"),
        (3, "queued"),
    ]


@pytest.mark.parametrize(
    ("record", "pending"),
    [
        (FULL._replace(steered=(STEERED._replace(taken=True),)), [2, 3]),
        (changed(NEXT._replace(cancelled="withdrawn")), [4, 3]),
        (changed(NEXT._replace(queued=False)), [4, 3]),
        (changed(AT_WORK._replace(cancelled="stopped", after_step=True)), [2, 3]),
        (FULL._replace(live=()), []),
    ],
)
def test_what_was_read_or_is_not_to_be_is_not_pending(record: Record, pending: list[int]) -> None:
    answer, _ = handle(views.on_get_status, None, record, state=STATE)
    assert [x["id"] for x in answer["pending"]] == pending


def test_a_large_message_is_listed_and_one_that_is_settled_meanwhile_is_left_out() -> None:
    large = known(said("x" * LARGE), 2)
    record = changed(tail=(FULL.tail[0], 2, FULL.tail[2]))
    answer, _ = handle(views.on_get_status, None, record, state={"turn/2": is_live(2, large)})
    assert [(x["id"], len(x["content"])) for x in answer["pending"]] == [(2, LARGE), (3, 9)]


def test_the_status_lists_what_turns_wait_for_and_nothing_that_cannot_be_answered() -> None:
    answer, done = handle(views.on_get_status, None, ASKS, state=ASKED)
    assert answer["waiting_for"] == [
        {"id": 1, "turn": 1, **PUSH},
        {"id": 3, "turn": 1, "title": "rm", "until": NOW + 1},
    ]
    assert done == []
    state = {"approval/1": PUSH, "steered/1": FOURTH}  # the other was answered meanwhile
    answer, _ = handle(views.on_get_status, None, ASKS, state=state)
    assert [x["id"] for x in answer["waiting_for"]] == [1]
    for record in (
        ASKS.changed({1}, cancelled="cancelled"),
        ASKS.changed({1}, cancelled="stopped", after_step=True),
    ):
        answer, _ = handle(views.on_get_status, None, record, state=ASKED)
        assert answer["waiting_for"] == []
    answer, _ = handle(views.on_get_status, None, ASKS, state=ASKED, ends={1: KILLED})
    assert answer["waiting_for"] == []
    assert [x["id"] for x in answer["pending"]] == [2, 3]
    assert handle(views.on_get_status) == (IDLE, [])


SEEN = settled(
    1,
    input=[known(said("Hello"), 7, metadata=ADA)],
    messages=[put_out("a"), known(said("faster"), 8)],
    steered=[1],
    withdrawn=[known(said("slower"), 9)],
)


def test_what_is_known_of_a_message_is_shown_to_who_looks_at_the_record_and_to_nobody_else() -> (
    None
):
    record = Record("epoch", 2, tail=(SEEN,), messages=9)
    history = [said("Hello"), put_out("a"), said("faster")]
    assert handle(views.on_get_history, None, record) == (history, [])
    attached = {"turn": 1, "status": "completed", "messages": history[1:]}
    assert handle(views.on_attach, {"turn": 1}, record) == (attached, [])
    assert handle(views.on_attach, {"message": 8}, record) == (attached, [])
    answer, _ = handle(views.on_get_turns, None, record)
    assert answer["turns"] == [
        {
            **SEEN,
            "input": [{**said("Hello"), "id": 7, "metadata": ADA}],
            "messages": [put_out("a"), {**said("faster"), "id": 8}],
            "withdrawn": [{**said("slower"), "id": 9}],
        }
    ]
    live = FULL._replace(tail=(is_live(1, FIRST, withdrawn=[SECOND]), *FULL.tail[1:]))
    assert "said" not in str(handle(views.on_get_turns, None, live, state=STATE))
    assert "'said'" not in str(handle(views.on_get_history, None, live, state=STATE))


def test_the_history_of_what_went_on_has_no_note_there() -> None:
    three = {**settled(3), "input": [], "resumes": 2}
    record = STOPPED._replace(next=4, tail=(*ENDED, three))
    answer, _ = handle(views.on_get_history, None, record)
    assert answer[-2:] == [put_out("answer 2"), put_out("answer 3")]
    answer, _ = handle(views.on_get_history, None, STOPPED)
    assert "I stopped you after the step" in answer[-1]["content"]


# -- Who waits for the answer to a message. --------------------------------------------------------

AGAIN = [
    gone(settled(1, input=[FIRST], messages=[put_out("a"), SECOND], steered=[1])),
    settled(2, input=[FIRST, SECOND]),
    settled(3, status="interrupted", input=[THIRD]),
    {**settled(4, status="failed"), "input": [], "resumes": 3},
    gone({**settled(5), "input": [], "resumes": 4}),
    {**settled(6), "input": [], "resumes": 4, "withdrawn": [known(said("no"), 5)]},
    gone(settled(7, status="interrupted", input=[], withdrawn=[known(said("no"), 6)])),
    gone(settled(8, input=[known(said("gone"), 7)])),
    gone({**settled(9), "input": [], "resumes": 8}),
]


@pytest.mark.parametrize("paged", [False, True])
@pytest.mark.parametrize(
    ("message", "turn"),
    [(1, 2), (2, 2), (3, 6), (5, None), (6, None), (7, 8), (4, "removed"), (9, "unknown")],
)
def test_who_waits_for_a_message_has_the_turn_that_answered_it(
    paged: bool, message: int, turn: Any
) -> None:
    record = Record("epoch", 10, tail=tuple(AGAIN), messages=8)
    state = {}
    if paged:
        record = record._replace(tail=tuple(AGAIN[6:]), paged=True)
        state = {"page/0": [AGAIN[0], 2, *AGAIN[2:6]], "turn/2": AGAIN[1]}
    answer, done = handle(views.on_attach, {"message": message}, record, state=state)
    if turn == "removed":
        assert answer == (404, "message: 4 was removed from this session.")
    elif turn == "unknown":
        assert answer == (
            404,
            "message: there is no message 9 in this session; its messages are 1 to 8.",
        )
    elif turn is None:
        assert answer == {"status": "withdrawn"}
    else:
        assert answer["turn"] == turn
    assert done == []


def test_who_waits_for_a_message_waits_for_each_turn_that_has_it_until_one_has_answered_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was steered at a turn that has not taken it passes on."""
    passed = FULL._replace(
        live=(NEXT, LAST),
        steered=(Addition(1, 2, 4, id=4),),
        tail=(settled(1, input=[FIRST]), *FULL.tail[1:]),
    )
    two = settled(2, input=[SECOND, FOURTH])
    answered = passed._replace(live=(LAST,), steered=(), tail=(passed.tail[0], two, FULL.tail[2]))
    moments, asked = {1: passed, 2: answered}, list[int]()

    async def recorded_outcome(agent: Any, ctx: Any, record: Record, turn: int) -> Any:
        asked.append(turn)
        ctx.state["session"] = stored_record.dump_record(moments[turn])
        return {"turn": turn, "status": "completed", "messages": []}

    monkeypatch.setattr(effects, "recorded_outcome", recorded_outcome)
    answer, _ = handle(views.on_attach, {"message": 4}, FULL, state=STATE)
    assert (answer["turn"], asked) == (2, [1, 2])


def test_who_waits_for_a_message_that_is_taken_back_meanwhile_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = gone(settled(2, status="interrupted", input=[], withdrawn=[SECOND]))
    after = FULL._replace(live=(AT_WORK, LAST), tail=(FULL.tail[0], two, FULL.tail[2]))

    async def recorded_outcome(agent: Any, ctx: Any, record: Record, turn: int) -> Any:
        assert turn == 2
        ctx.state["session"] = stored_record.dump_record(after)
        return {"turn": turn, "status": "interrupted", "messages": []}

    monkeypatch.setattr(effects, "recorded_outcome", recorded_outcome)
    assert handle(views.on_attach, {"message": 2}, FULL, state=STATE)[0] == {"status": "withdrawn"}


# -- What tasks ask for before they begin. ---------------------------------------------------------


def test_a_turn_that_begins_is_given_what_is_its_by_now_and_that_does_not_change_any_more() -> None:
    steered = (Addition(1, 2, 2, id=4), Addition(2, 2, 4, joined=True, id=5))
    record = FULL._replace(live=FULL.live[1:], steered=steered, messages=5)
    state = {"steered/1": FOURTH, "steered/2": known(said("message 5"), 5)}
    answer, done = handle(private.on_begin, {"turn": 2}, record, state=state)
    taken = tuple(x._replace(taken=True, joined=True) for x in steered)
    after = record._replace(live=(NEXT._replace(queued=False), LAST), steered=taken)
    assert done == [stored(after)]
    assert [x["turn"] for x in answer.pop("turns")] == [1]
    assert handle(private.on_begin, {"turn": 2}, after, state=state)[1] == []
    assert answer == {
        "input": [SECOND],
        "said": [(taken[0], FOURTH), (taken[1], state["steered/2"])],
    }
    refused = (412, NOT_PENDING.format(2))
    body = {"message": 2}
    assert handle(changes.on_withdraw, body, after, state=state) == (refused, [])


def test_a_turn_that_begins_takes_what_those_before_it_left_and_is_watched_then() -> None:
    kept = Addition(2, 1, 4, taken=True, id=5)
    record = FULL._replace(steered=(STEERED, kept), messages=5)
    state = {**STATE, "steered/2": known(said("message 5"), 5)}
    answer, done = handle(private.on_begin, {"turn": 2}, record, state=state)
    mine = STEERED._replace(turn=2, taken=True, joined=True)
    after = changed(NEXT._replace(queued=False), steered=(mine, kept), messages=5)
    assert done == [stored(after), watcher(2)]
    assert answer == {"input": [SECOND], "said": [(mine, FOURTH)]}


def test_a_large_turn_begins_and_so_does_one_of_an_earlier_version() -> None:
    large = known(said("x" * LARGE), 2)
    record = changed(tail=(FULL.tail[0], 2, FULL.tail[2]), steered=())
    answer, _ = handle(private.on_begin, {"turn": 2}, record, state={"turn/2": is_live(2, large)})
    assert [x["turn"] for x in answer.pop("turns")] == [1]
    assert answer == {"input": [large], "said": []}
    answer, done = handle(private.on_begin, {"turn": 2}, BUSY)
    assert (answer["input"], done) == ([said("message 2")], [])


@pytest.mark.parametrize(
    "record",
    [
        None,
        FULL._replace(live=()),
        changed(NEXT._replace(cancelled="withdrawn")),
        changed(NEXT._replace(cancelled="rolled back", given_up=True)),
    ],
)
@pytest.mark.parametrize(
    ("handler", "body"),
    [(private.on_begin, {"turn": 2}), (private.on_quiet, {"turn": 2, "seen": 0})],
)
def test_a_turn_that_is_cancelled_or_over_does_not_begin(
    record: Record | None, handler: Any, body: Any
) -> None:
    if record is not None:
        record = record.changed({2}, queued=False)
    assert handle(handler, body, record) == ({"cancelled": True}, [])


def test_a_turn_in_which_something_came_waits_once_more_and_nothing_is_written() -> None:
    state = {"steered/1": known(said("and more"), 2)}
    asked = handle(private.on_quiet, {"turn": 1, "seen": 0}, BURST, state=state)
    assert asked == ({"seen": 2}, [])


def test_a_turn_for_which_it_is_quiet_begins_at_once_if_it_need_not_wait() -> None:
    state = {"steered/1": known(said("and more"), 2)}
    answer, done = handle(private.on_quiet, {"turn": 1, "seen": 2}, BURST, state=state)
    joined = BURST.steered[0]._replace(taken=True)
    after = BURST._replace(live=(BURST.live[0]._replace(open=False),), steered=(joined,))
    assert done == [stored(after)]
    assert answer == {"input": [FIRST], "said": [(joined, state["steered/1"])]}


def test_a_turn_for_which_it_is_quiet_and_that_has_to_wait_is_joined_no_more() -> None:
    record = changed(NEXT._replace(open=True))
    answer, done = handle(private.on_quiet, {"turn": 2, "seen": 0}, record, state=STATE)
    assert (answer, done) == ({"seen": 0, "quiet": True}, [stored(FULL)])
    assert handle(private.on_quiet, {"turn": 2, "seen": 0}, FULL, state=STATE) == (answer, [])
    assert handle(changes.on_withdraw, {"message": 2}, FULL, state=STATE)[0] == {"withdrawn": 2}


def test_what_an_earlier_version_had_join_a_turn_does_not_keep_it_waiting() -> None:
    record = OPEN._replace(
        live=(TWO._replace(open=True),), steered=(Addition(1, 2, 3, joined=True),)
    )
    state = {"steered/1": said("and more")}
    answer, _ = handle(private.on_quiet, {"turn": 2, "seen": 0}, record, state=state)
    assert answer["input"] == [said("message 2")]
    assert [x[1] for x in answer["said"]] == [said("and more")]


# -- Sessions that an earlier version has stored. --------------------------------------------------

EARLIER: Any = {
    "v": 1,
    "epoch": "epoch",
    "next": 3,
    "live": [[1, "inv-1", None, False], [2, "inv-2", None, False, False]],
    "steered": [[1, 1, 3, False, False]],
    "tail": [is_live(1, said("message 1")), is_live(2, said("message 2"))],
    "paged": False,
    "first": 1,
}


def earlier(handler: Any, body: Any, **options: Any) -> Any:
    """What a handler does to it."""
    record = stored_record.parse_record(EARLIER)
    return handle(handler, body, record, state={"steered/1": said("steered 1")}, **options)


def test_a_record_of_an_earlier_version_is_written_as_it_was_read() -> None:
    read = stored_record.parse_record(EARLIER)
    assert read == BUSY._replace(steered=(Addition(1, 1, 3),), tail=tuple(EARLIER["tail"]))
    assert stored(read)[1] == {
        **EARLIER,
        "live": [[1, "inv-1", None, False], [2, "inv-2", None, False]],
    }


@pytest.mark.parametrize("record", [FULL, ASKS, BURST, changed(stopped()), STOPPED])
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert stored_record.parse_record(stored(record)[1]) == record


@pytest.mark.parametrize("record", [FULL, ASKS, BURST])
def test_what_a_later_version_has_added_is_left_out(record: Record) -> None:
    entries = {"live": record.live, "steered": record.steered, "approvals": record.approvals}
    later = {name: [[*x, "new"] for x in entries[name]] for name in entries}
    assert stored_record.parse_record({**stored(record)[1], **later, "added": True}) == record


def test_what_a_later_version_does_not_want_to_be_left_out_is_refused() -> None:
    with pytest.raises(ValueError, match="written in version 2 of its format; this is version 1"):
        stored_record.parse_record({**EARLIER, "v": 2})


def test_what_an_earlier_version_took_in_cannot_be_changed_and_is_answered_as_ever() -> None:
    status, _ = earlier(views.on_get_status, None)
    assert (status["turn"], status["steered"], status["pending"]) == (1, 1, [])
    for handler, body in ON_PENDING:
        refused, done = earlier(handler, {"message": 1, **body})
        assert (refused[0], done) == (404, [])
    answer, done = earlier(private.on_begin, {"turn": 2})
    assert answer["input"] == [said("message 2")]
    answer, done = earlier(private.on_settle, {"outcome": an_outcome(1)})
    assert done[0][1]["steered"] == [[1, 2, 3, False, False]]


def test_ids_begin_with_the_first_message_that_this_version_takes_in() -> None:
    answer, done = earlier(public.on_message, {"content": "Hello", "policy": "queue"})
    assert (answer["message"], answer["turn"]) == (1, 3)
    record = done[0][1]
    assert record["live"][:2] == [[1, "inv-1", None, False], [2, "inv-2", None, False]]
    assert record["live"][2] == [3, None, None, False, False, True, [1]]
    answer, done = earlier(public.on_message, {"content": "Hello", "policy": "steer", "now": True})
    assert (answer["message"], done[0][0]) == (1, "steered/2")
    assert done[2] == "tell inv-1: steered now 1"


def test_an_earlier_turn_is_cancelled_after_its_step_also_where_it_waits() -> None:
    # It does not ask before it begins, so nobody knows whether it has.
    answer, done = earlier(public.on_cancel, {"after_step": True})
    assert done[:2] == [f"tell inv-1: {STOP}", f"tell inv-2: {STOP}"]
    assert answer == {"cancelled": [1, 2]}


# -- Copies. ---------------------------------------------------------------------------------------


def test_a_fork_goes_on_with_the_ids_of_the_session_that_it_is_made_of() -> None:
    _, [(_, _, sent, _)] = handle(public.on_fork, {"session": "copy"}, STOPPED)
    assert (sent["messages"], sent["turns"]) == (3, ENDED)
    _, done = handle(private.on_adopt, sent)
    record = stored_record.parse_record(done[-1][1])
    assert (record.messages, record.asked) == (3, 0)
    answer, _ = handle(public.on_message, {"content": "Hello"}, record)
    assert answer["message"] == 4
    answer, _ = handle(views.on_attach, {"message": 3}, record)
    assert answer["turn"] == 2
    old = {name: x for name, x in sent.items() if name != "messages"}
    _, done = handle(private.on_adopt, old)
    assert stored_record.parse_record(done[-1][1]).messages == 0


# -- What those are told who follow. ---------------------------------------------------------------


def approval(number: int, state: str, **more: Any) -> Any:
    return {"type": "approval", "approval": number, "state": state, **more}


FOLLOWED: list[tuple[str, Any, Any, Record, list[Any]]] = [
    (
        "a message that is taken back",
        changes.on_withdraw,
        {"message": 4},
        FULL,
        [noted(3, PENDING)],
    ),
    (
        "a turn that is taken back",
        changes.on_withdraw,
        {"message": 2},
        FULL,
        [noted(3, {"type": "discarded", "turns": [2]}, PENDING)],
    ),
    (
        "a message that is said otherwise",
        changes.on_replace,
        {"message": 2, "content": "Hello"},
        FULL,
        [noted(3, PENDING)],
    ),
    (
        "a message that is put first",
        changes.on_promote,
        {"message": 3, "policy": "interrupt"},
        FULL,
        [noted(3, PENDING)],
    ),
    (
        "a message that is steered",
        changes.on_promote,
        {"message": 3, "policy": "steer"},
        FULL,
        [noted(3, {"type": "discarded", "turns": [3]}, PENDING)],
    ),
    ("what goes on", public.on_resume, None, STOPPED, []),
    (
        "something else that is said",
        public.on_edit,
        {"turn": 2, "content": "Hello"},
        STOPPED,
        [noted(3, {"type": "discarded", "turns": [2]})],
    ),
    (
        "an approval that is asked for",
        private.on_ask_approval,
        {"turn": 1, "number": 3, "title": "git push"},
        ASKS,
        [noted(1, approval(4, "waits", title="git push"))],
    ),
    (
        "an approval that is answered",
        changes.on_answer,
        {"approval": 1, "approved": True},
        ASKS,
        [noted(1, approval(1, "over"))],
    ),
    (
        "an approval whose time is over",
        private.on_close_approval,
        {"turn": 1, "number": 1},
        ASKS,
        [noted(1, approval(1, "over"))],
    ),
    (
        "an approval that nobody waits for",
        private.on_close_approval,
        {"turn": 1, "number": 9},
        ASKS,
        [],
    ),
    ("a stop", public.on_cancel, {"turn": 1, "after_step": True}, FULL, []),
    ("a turn that begins", private.on_begin, {"turn": 2}, FULL, []),
]


@pytest.mark.parametrize(
    ("handler", "body", "record", "followers"),
    [x[1:] for x in FOLLOWED],
    ids=[x[0] for x in FOLLOWED],
)
def test_with_a_stream_those_who_follow_are_told_and_all_else_is_the_same(
    handler: Any, body: Any, record: Record, followers: list[Any]
) -> None:
    answer, done = handle(handler, body, record, state=ASKED)
    streaming, done_too = handle(handler, body, record, state=ASKED, stream=STREAM)
    assert streaming == answer
    assert [x for x in done_too if x[0] == "IdleAgentStream"] == followers
    others = [x for x in done_too if x[0] != "IdleAgentStream"]
    for x in others:
        if x[:2] == ("IdleTask", "run_task"):
            assert x[2].pop("stream") == "new key"
    assert others == done
