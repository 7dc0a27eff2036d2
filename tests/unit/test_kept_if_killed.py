"""A handler that changes a message is killed after any of what it does: the message is there."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from interruptible import Agent
from interruptible._session import changes, effects, private, storage, stored_record
from interruptible._session.reading import Moment, read_steered
from interruptible._session.record import Addition, Live, Record
from interruptible._wire.said import ids_of, with_id

from .given import Given

NOW = 5_000


class Killable:
    """The context of a handler, and each state that it leaves if it is killed in between."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.states = [dict(state)]

    def get(self, name: str, serde: Any) -> Given[Any]:
        value = self.states[-1].get(name)
        return Given(None if value is None else serde.deserialize(value))

    def set(self, name: str, value: Any, serde: Any) -> None:
        self.states.append({**self.states[-1], name: serde.serialize(value)})

    def clear(self, name: str) -> None:
        self.states.append({x: y for x, y in self.states[-1].items() if x != name})

    def run_typed(self, *_: Any) -> Given[int]:
        return Given(NOW)

    def key(self) -> str:
        return "key"

    def generic_send(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(invocation_id=lambda: Given("inv-new"))

    def cancel_invocation(self, _: str) -> None: ...
    def resolve_signal(self, *_: Any, **__: Any) -> None: ...


class IdleAgent(Agent):
    """It is not asked to run anything."""

    async def run(self, ctx: Any, task: Any) -> None: ...


@pytest.fixture(autouse=True)
def _without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def shield(future: Awaitable[Any]) -> Any:
        return await future

    async def gather(*_: Any) -> None: ...

    async def look(_: Any, __: Any, record: Record) -> list[tuple[Live, None]]:
        return [(x, None) for x in record.live]  # all tasks are at work

    monkeypatch.setattr(effects.restate, "gather", gather)
    monkeypatch.setattr(effects, "shield", shield)
    monkeypatch.setattr(effects, "look", look)


def said(number: int) -> Any:
    return with_id({"role": "user", "content": f"message {number}"}, number)


def a_turn(number: int) -> Any:
    shown = {"turn": number, "status": "running", "input": [said(number)], "messages": []}
    return {**shown, "accepted_at": number}


def session(cancelled: str | None) -> dict[str, Any]:
    """A turn at work with two messages that are steered at it, and one that is queued."""
    lives = (Live(1, "inv-1", cancelled, own=(1,)), Live(2, "inv-2", queued=True, own=(2,)))
    steered = (Addition(1, 1, 3, id=3), Addition(2, 1, 3, id=4))
    tail = (a_turn(1), a_turn(2))
    record = Record("epoch", 3, lives, steered, tail=tail, messages=4, asked=0)
    stored = {"session": storage.JSON.serialize(stored_record.dump_record(record))}
    return stored | {f"steered/{x.number}": storage.JSON.serialize(said(x.id)) for x in steered}


async def messages(state: Mapping[str, Any]) -> list[int]:
    """What a session has, what is withdrawn included."""
    ctx = cast("Any", Killable(state))
    record = stored_record.parse_record(await ctx.get("session", storage.JSON))
    kept = await read_steered(ctx, record.steered)
    slots = storage.tail_of(record)
    turns = [x.turn or await Moment(ctx, record).turn(x.number) for x in slots]
    found = [x for _, x in kept]
    for turn in turns:
        assert turn is not None
        found += [*turn["input"], *turn["messages"], *turn.get("withdrawn", [])]
    return sorted(ids_of(found))


DONE: dict[str, tuple[Callable[..., Awaitable[Any]], Any]] = {
    "withdraw what is steered": (changes.on_withdraw, {"message": 3}),
    "withdraw what is queued": (changes.on_withdraw, {"message": 2}),
    "run what is steered next": (changes.on_promote, {"message": 4, "policy": "interrupt"}),
    "steer what is queued": (changes.on_promote, {"message": 2, "policy": "steer"}),
    "replace what is steered": (changes.on_replace, {"message": 3, "content": "other"}),
    "settle": (
        private.on_settle,
        {"outcome": {"turn": 1, "status": "completed", "messages": []}},
    ),
    "settle what was cancelled": (
        private.on_settle,
        {"outcome": {"turn": 1, "status": "interrupted", "messages": []}},
    ),
}


def killed(name: str) -> Iterator[list[int]]:
    handler, body = DONE[name]
    ctx = Killable(session("cancelled" if "cancelled" in name else None))
    asyncio.run(cast("Any", handler(IdleAgent(), ctx, body)))
    for state in ctx.states:
        yield asyncio.run(messages(state))


@pytest.mark.parametrize("name", DONE)
def test_no_message_is_lost_whenever_its_handler_is_killed(name: str) -> None:
    for found in killed(name):
        assert {1, 2, 3, 4} <= set(found)
