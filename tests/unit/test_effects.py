"""What is done, and in which order, where no server is needed to see it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from restate import TerminalError

from interruptible import Agent, Session, _cancellation, _object, _session
from interruptible._cancellation import Interrupted, Watch
from interruptible._session import Live, Record

# -- A session's record. ---------------------------------------------------------------------------


class Effects:
    """The context of a handler, which notes what it is told to do."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def set(self, name: str, value: Any, serde: Any) -> None:
        self.done.append((name, value))

    def cancel_invocation(self, invocation_id: str) -> None:
        self.done.append(invocation_id)


def test_the_cancels_are_sent_before_the_record_says_so() -> None:
    # Killed in between, a session would believe in a cancel that it never sent.
    record = Record("epoch", 4, (Live(1, "inv-1", "cancelled"), Live(2, "inv-2"), Live(3, "inv-3")))
    step = _session.message(record)
    effects = Effects()
    _object._apply(cast("Any", effects), step)
    assert effects.done == ["inv-2", "inv-3", ("session", _session.dump(step.record))]


class Handling(Effects):
    """The context of a `message`: it has a session's state, and its key."""

    def __init__(self, record: Record | None) -> None:
        super().__init__()
        self.state = {} if record is None else {"session": _session.dump(record)}

    async def get(self, name: str, serde: Any) -> Any:
        return self.state.get(name)

    def key(self) -> str:
        return "key"

    def random(self) -> Any:
        return SimpleNamespace(getrandbits=lambda bits: bits)

    def generic_send(self, service: str, handler: str, arg: bytes, **options: Any) -> Any:
        self.done.append((service, handler, json.loads(arg), options))

        async def invocation_id() -> str:
            return "inv-new"

        return SimpleNamespace(invocation_id=invocation_id)


class OddAgent(Agent):
    """Allows two turns at once, and is not asked to run any."""

    async def run(self, ctx: Any, task: Any) -> None: ...


def take_in(
    record: Record | None, body: Any, monkeypatch: pytest.MonkeyPatch, *, ended: Sequence[int] = ()
) -> tuple[Any, list[Any]]:
    """What `message` answers or raises, and all that it has done by then."""

    async def look(agent: Any, ctx: Any, record: Record) -> list[Any]:
        return [(x, x.task_id, "ended" if x.turn in ended else None) for x in record.live]

    async def shield(future: Awaitable[Any]) -> Any:
        return await future

    monkeypatch.setattr(_object, "_look", look)
    monkeypatch.setattr(_object, "shield", shield)
    ctx = Handling(record)
    agent = OddAgent(max_pending=2)
    try:
        answer: Any = asyncio.run(_object.message(agent, cast("Any", ctx), body))
    except TerminalError as refusal:
        answer = (refusal.status_code, refusal.message)
    return answer, ctx.done


ONE, TWO = Live(1, "inv-1"), Live(2, "inv-2")
BUSY = Record("epoch", 3, (ONE, TWO))


@pytest.mark.parametrize(
    ("record", "asked", "status"),
    [
        (BUSY, {"policy": "reject"}, 423),
        (BUSY, {"policy": "queue"}, 429),
        (BUSY, {"if_idle": True}, 412),
        (BUSY, {"if_turn": 2}, 412),
        (BUSY, {"policy": "shout"}, 400),
        (None, {"if_turn": 1}, 412),
    ],
)
def test_a_message_that_is_refused_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, record: Record | None, asked: dict[str, Any], status: int
) -> None:
    answer, done = take_in(record, {"content": "Hello", **asked}, monkeypatch)
    assert answer[0] == status
    assert done == []


@pytest.mark.parametrize(
    ("asked", "ended", "cancelled", "waits"),
    [
        ({}, (), True, True),
        ({"if_turn": 1}, (), True, True),
        ({"if_turn": 2}, (1,), True, True),
        ({"if_idle": True}, (1, 2), True, False),
        ({"policy": "queue"}, (1,), False, True),
        ({"policy": "queue", "if_turn": 2}, (1,), False, True),
        ({"policy": "queue", "if_idle": True}, (1, 2), False, False),
        ({"policy": "reject"}, (1, 2), False, False),
    ],
)
def test_a_message_that_is_taken_in_is_stored_cancels_and_dispatches_in_this_order(
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    ended: Sequence[int],
    cancelled: bool,
    waits: bool,
) -> None:
    answer, done = take_in(BUSY, {"content": "Hello", **asked}, monkeypatch, ended=ended)
    said = [{"role": "user", "content": "Hello"}]
    step = _session.message(BUSY, asked.get("policy", "interrupt"))
    after = [{"turn": x.turn, "task_id": x.task_id, "cancelled": cancelled} for x in BUSY.live]
    job = {"session": "key", "turn": 3, "input": said, "after": after}
    assert done == [
        ("turn/3", said),
        *(["inv-1", "inv-2"] if cancelled else []),
        ("session", _session.dump(step.record)),
        ("OddTask", "run_task", job, {"idempotency_key": "key/epoch/3"}),
        ("session", _session.dump(_session.dispatched(step.record, 3, "inv-new"))),
    ]
    assert answer == {
        "turn": 3,
        "task_id": "inv-new",
        "status": "waiting" if waits else "running",
        "interrupted": [1, 2] if cancelled else [],
    }


def test_the_reason_for_a_cancel_is_stored_with_what_it_cancels() -> None:
    ctx = Handling(BUSY)
    body = {"turn": 2, "reason": "wrong file"}
    answer = asyncio.run(_object.cancel(OddAgent(), cast("Any", ctx), body))
    assert answer == {"cancelled": [2]}
    record = BUSY._replace(live=(ONE, TWO._replace(cancelled="cancelled: wrong file")))
    assert ctx.done == ["inv-2", ("session", _session.dump(record))]


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
    monkeypatch: pytest.MonkeyPatch, live: tuple[Live, ...], turn: int | None
) -> None:
    async def look(agent: Any, ctx: Any, record: Record) -> list[Any]:
        return [(x, x.task_id, None) for x in record.live]

    monkeypatch.setattr(_object, "_look", look)
    ctx = Handling(BUSY._replace(live=live))
    assert asyncio.run(_object.get_status(OddAgent(), cast("Any", ctx), None)) == {
        "status": "running" if live else "idle",
        "turn": turn,
        "task_id": turn and f"inv-{turn}",
        "live": [x._asdict() for x in live],
    }
    assert ctx.done == []


# -- What a `Session` sends. -----------------------------------------------------------------------

WISH: Any = {"policy": "queue", "if_turn": 3, "if_idle": True}


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
            [("message", {"content": "Hi", **WISH}, None), ("attach", {"turn": 7}, "a key")],
        ),
        (lambda s: s.cancel(), [("cancel", {"turn": None, "reason": None}, None)]),
        (lambda s: s.cancel(2, reason="x"), [("cancel", {"turn": 2, "reason": "x"}, None)]),
    ],
    ids=["send", "send with wishes", "ask", "cancel", "cancel for a reason"],
)
def test_a_session_sends_what_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[Session], Any], sent: list[Any]
) -> None:
    calls: list[Any] = []

    async def answer(_: Session, handler: str, body: Any = None, key: str | None = None) -> Any:
        calls.append((handler, body, "a key" if handler == "attach" else key))
        return {"turn": 7, "cancelled": []}

    monkeypatch.setattr(Session, "_call", answer)
    asyncio.run(call(Session(cast("Any", None), "OddAgent", "key")))
    assert calls == sent


# -- A cancellation. -------------------------------------------------------------------------------


FUTURE: Any = SimpleNamespace(handle=1)


def watch(poll: Callable[[], Any]) -> Watch:
    """The watch of a running handler on a context whose every await does this."""

    async def create_poll_or_cancel_coroutine(unresolved_future: Any) -> None:
        poll()

    async def create_run_coroutine(handle: int, action: Any, serde: Any) -> None: ...

    context = SimpleNamespace(
        create_poll_or_cancel_coroutine=create_poll_or_cancel_coroutine,
        create_run_coroutine=create_run_coroutine,
        receive=None,
        tasks=set[Any](),
        vm=SimpleNamespace(is_completed=lambda handle: False),
    )
    return Watch(cast("Any", context))


async def shielded(watched: Watch) -> None:
    """Await something, shielded."""
    token = _cancellation._shielded.set(True)
    try:
        await watched._poll(FUTURE)
    finally:
        _cancellation._shielded.reset(token)


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
    assert len(raised) == _cancellation.MANY + 1


def test_many_cancellations_do_not_break_off_a_shielded_await_and_are_not_lost() -> None:
    left = iter(range(_cancellation.MANY))

    def cancelled_often() -> None:
        if next(left, None) is not None:
            raise TerminalError("cancelled", 409)

    async def handle() -> None:
        watched = watch(cancelled_often)
        await shielded(watched)
        assert next(left, None) is None
        with pytest.raises(Interrupted):
            await watched._poll(FUTURE)

    asyncio.run(handle())
