"""The handlers of an agent's object, where no server is needed to see what they do."""

import asyncio
import copy
import functools
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
import restate
from restate import TerminalError
from restate.serde import BytesSerde

from interruptible import Agent
from interruptible._handlers import HANDLERS
from interruptible._session import effects, storage, stored_record
from interruptible._session.record import Live, Record
from interruptible._task.outcome import Ending
from interruptible._wire.checks import Body
from interruptible._wire.said import ids_of

from .given import Given

LARGE, TAIL = 4096, 8192
"""Bounds that are small, so that histories which outgrow them are."""


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LARGE", LARGE)
    monkeypatch.setattr(storage, "TAIL", TAIL)


def body_of(name: str) -> Body[Any]:
    """What a handler of every agent takes."""
    body = HANDLERS[name].body
    assert body is not None
    return body


TAKES: Mapping[Any, Body[Any]] = {x.does: body_of(name) for name, x in HANDLERS.items()}


def as_json(value: Any) -> Any:
    """What is left of a value that is stored or sent."""
    return json.loads(json.dumps(value))


def as_stored(key: str, value: Any) -> bytes:
    """The bytes of a key's value."""
    serde = storage.PACKED if key.startswith(("page/", "turn/")) else storage.JSON
    return serde.serialize(value)


class Handling:
    """The context of a handler: it has a session's state, and notes what it is told to do."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = dict(state)
        self.done: list[Any] = []

    def get(self, name: str, serde: Any) -> Given[Any]:
        value = self.state.get(name)
        return Given(as_stored(name, value) if isinstance(serde, BytesSerde) else as_json(value))

    def set(self, name: str, value: Any, serde: Any) -> None:
        self.done.append((name, as_json(value)))

    def clear(self, name: str) -> None:
        self.done.append(f"clear {name}")

    def state_keys(self) -> Given[list[str]]:
        return Given(list(self.state))

    def key(self) -> str:
        return "key"

    def run_typed(self, name: str, action: Callable[[], Any]) -> Given[Any]:
        if isinstance(action, functools.partial):  # the agent streams
            assert (name, action.func, action.args) == ("time", effects._time_and_key, (STREAM,))
            return Given([NOW, "new key"])
        assert (name, action) == ("time", effects._time)
        return Given(NOW)

    def random(self) -> Any:
        return SimpleNamespace(getrandbits=lambda bits: bits)

    def cancel_invocation(self, invocation_id: str) -> None:
        self.done.append(f"cancel {invocation_id}")

    def resolve_signal(self, invocation_id: str, name: str, value: Any, serde: Any) -> None:
        told = f"tell {invocation_id}: {name}"
        self.done.append(told if value is True else (told, as_json(value)))

    def generic_send(self, service: str, handler: str, arg: bytes, **options: Any) -> Any:
        self.done.append((service, handler, json.loads(arg), options))
        return SimpleNamespace(invocation_id=lambda: Given("inv-new"))

    def generic_call(self, service: str, handler: str, arg: bytes, **options: Any) -> Any:
        return Given(self.done.append((service, handler, json.loads(arg), options)))


class IdleAgent(Agent):
    """It is not asked to run anything."""

    async def run(self, ctx: Any, task: Any) -> None: ...


AGENT = IdleAgent()
STREAM: Any = SimpleNamespace()
"""What the handlers take for the stream of an agent that has one."""


NOW = 5_000
ONE, TWO = Live(1, "inv-1"), Live(2, "inv-2")
REPORTED = Ending({"turn": 0, "status": "completed", "messages": []}, reported=True)
KILLED = Ending({"turn": 0, "status": "killed", "messages": []}, reported=False)
UNKNOWN = KILLED._replace(unknown=True)


@pytest.fixture(autouse=True)
def without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def shield(future: Awaitable[Any]) -> Any:
        return await future

    async def look(agent: Any, ctx: Any, record: Record) -> list[Any]:
        ends = ctx.state.get("ends", {})
        return [(x, ends.get(x.turn)) for x in record.live]

    async def gather(*futures: Any) -> None:
        assert all(isinstance(x, Given) for x in futures)

    monkeypatch.setattr(restate, "gather", gather)
    monkeypatch.setattr(effects, "shield", shield)
    monkeypatch.setattr(effects, "look", look)


def handle(
    handler: Callable[..., Awaitable[Any]],
    body: Any = None,
    record: Record | None = None,
    *,
    state: Mapping[str, Any] | None = None,
    ends: Mapping[int, Ending] | None = None,
    **options: Any,
) -> tuple[Any, list[Any]]:
    """What a handler answers or raises, and all that it has done by then.

    Args:
        handler: The handler.
        body: What it is called with.
        record: The session's record.
        state: What else the session has stored.
        ends: How tasks are found to have ended.
        options: Those of the agent.
    """
    session = {} if record is None else {"session": stored_record.dump_record(record)}
    ctx = Handling({**session, **(state or {}), "ends": ends or {}})
    agent = copy.copy(AGENT)
    assert vars(agent).keys() >= options.keys()
    vars(agent).update(options)
    try:
        answer: Any = asyncio.run(cast("Any", handler(agent, ctx, TAKES[handler](body))))
    except TerminalError as refusal:
        answer = (refusal.status_code, refusal.message)
    return answer, ctx.done


def stored(record: Record) -> Any:
    """The session's record is stored."""
    return "session", as_json(stored_record.dump_record(record))


def begun(turn: int, *messages: Any) -> Any:
    """A new turn in the tail."""
    new = {"turn": turn, "status": "running", "input": list(messages), "messages": []}
    return {**new, "accepted_at": NOW}


def dispatched(
    turn: int,
    *messages: Any,
    after: Sequence[Live] = (),
    turns: Sequence[Any] | None = None,
    **more: Any,
) -> Any:
    """The task of a turn is sent, with the conversation if that is at hand."""
    waits = [{"turn": x.turn, "task_id": x.task_id, "cancelled": x.is_cut} for x in after]
    job = {"session": "key", "turn": turn, "input": list(messages), "after": waits}
    if turns is not None:
        job["turns"] = list(turns)
    if more.pop("queued", not all(x.is_cut for x in after)):
        job["queued"] = True
    return "IdleTask", "run_task", {**job, **more}, {"idempotency_key": f"key/epoch/{turn}"}


def watcher(turn: int) -> Any:
    """Somebody is to settle a turn should its task not do so."""
    return "IdleAgent", "recover", {"turn": turn}, {"key": "key"}


def cancel(record: Record, why: str, *turns: int) -> tuple[Live, ...]:
    """The live turns of a record, these of them cancelled."""
    return tuple(x._replace(cancelled=why) if x.turn in turns else x for x in record.live)


def said(content: str) -> Any:
    return {"role": "user", "content": content}


def put_out(content: str) -> Any:
    return {"role": "assistant", "content": content}


def known(message: Any, number: int = 1, **more: Any) -> Any:
    """A message as it is stored, with its id."""
    return {**message, "said": {"id": number, **more}}


def settled(turn: int, **more: Any) -> Any:
    """The record of a turn that has ended."""
    return {
        "turn": turn,
        "status": "completed",
        "input": [said(f"message {turn}")],
        "messages": [put_out(f"answer {turn}")],
        "task_id": f"inv-{turn}",
        "accepted_at": 1,
        "ended_at": 2,
        **more,
    }


def live(turn: int) -> Any:
    """A turn that is live, in the tail."""
    return {**begun(turn, said(f"message {turn}")), "accepted_at": turn}


def shown(x: Live) -> Any:
    """What is read of it."""
    turn = {**live(x.turn), "task_id": x.task_id}
    return turn if x.cancelled is None else {**turn, "reason": x.cancelled}


def unless_queued(*lives: Live) -> list[Any] | None:
    """What a task is sent with behind these, if it does not load when they have ended."""
    return [shown(x) for x in lives] if all(x.cancelled for x in lives) else None


def gone(turn: Any) -> Any:
    """A turn that is discarded."""
    return {**turn, "discarded": True}


BUSY = Record("epoch", 3, (ONE, TWO), tail=(live(1), live(2)))


def after_message(lives: Sequence[Live], *messages: Any, tail: Sequence[Any] = BUSY.tail) -> Record:
    """The session once it has a third turn, of these messages."""
    ids = tuple(ids_of(messages))
    new = Live(3, queued=not all(x.is_cut for x in lives), own=ids)
    tail = (*tail, begun(3, *messages))
    return Record("epoch", 4, (*lives, new), tail=tail, messages=max(ids, default=0))


def with_task(record: Record) -> Record:
    """The session once the task of its newest turn is known."""
    *lives, new = record.live
    return record._replace(live=(*lives, new._replace(task_id="inv-new")))


HELLO = known(said("Hello"))
OPEN = BUSY._replace(live=(ONE, TWO._replace(open=True)))
QUIET = timedelta(milliseconds=300)


IDLE: Any = {
    "status": "idle",
    "turn": None,
    "task_id": None,
    "live": [],
    "steered": 0,
    "pending": [],
    "waiting_for": [],
}
"""The status of a session that does nothing."""


def an_outcome(turn: int, **more: Any) -> Any:
    """The outcome of a turn that put out an answer."""
    messages = [put_out(f"answer {turn}")]
    return {"turn": turn, "status": "completed", "messages": messages, **more}


def steered_state(*numbers: int) -> dict[str, Any]:
    """What is stored of messages without a turn of their own."""
    return {f"steered/{x}": said(f"steered {x}") for x in numbers}


def now_settled(turn: int, **more: Any) -> Any:
    """The record of a turn that has ended now."""
    return settled(turn, accepted_at=turn, ended_at=NOW, **more)


def told(handler: str, **body: Any) -> Any:
    """The stream of the session is told something."""
    return "IdleAgentStream", handler, body, {"key": "key"}


def noted(turn: int, *events: Any, **more: Any) -> Any:
    return told("note", turn=turn, events=list(events), **more)


PENDING = {"type": "pending"}
