"""The handlers of the agent's virtual object: read, ask the rules, carry out the effects.

Reads come first, and between the first mutation and the last there is no await, but for the
invocation id of a new task; that one is shielded, as state set before a failure stays set.
"""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol, TypeVar

import restate
from restate import (
    ObjectContext,
    ObjectSharedContext,
    RestateDurableFuture,
    SendHandle,
    TerminalError,
)

from interruptible import _history, _session
from interruptible._cancellation import shield
from interruptible._history import JSON
from interruptible._session import Live, Record
from interruptible._task import Body, Ending, cancelled_signal, ending
from interruptible._types import (
    Cancelled,
    Dispatch,
    Message,
    Outcome,
    Policy,
    Receipt,
    Refusal,
    Settlement,
    Status,
    Turn,
    cancel_in,
    message_in,
    nothing_in,
    turn_in,
)

T = TypeVar("T")
AnyContext = ObjectContext | ObjectSharedContext

GRACE: Final = timedelta(seconds=1)
"""How long the report of a task that Restate knows no more may be under way."""


class Settings(Body, Protocol):
    """What the handlers need of their agent."""

    task_name: str
    policy: Policy
    allowed_policies: Sequence[Policy]
    max_content: int
    max_pending: int


async def message(agent: Settings, ctx: ObjectContext, body: Any) -> Receipt:
    """Take in a message: it becomes the next turn, and interrupts what is live or waits for it."""
    request = _checked(
        message_in,
        body,
        max_content=agent.max_content,
        policy=agent.policy,
        allowed=agent.allowed_policies,
    )
    record = await _find_lost(agent, ctx, await _load(ctx))
    if record is None:
        record = Record(epoch=f"{ctx.random().getrandbits(32):08x}")
    seen = record
    if request.policy != "interrupt" or request.if_idle or request.if_turn is not None:
        # It may be refused for what is live: so leave out what only the record calls live.
        asked = await _look(agent, ctx, record)
        seen = record._replace(live=tuple(x for x, _, end in asked if end is None))
    refusal = _session.refusal(
        seen,
        request.policy,
        max_pending=agent.max_pending,
        if_turn=request.if_turn,
        if_idle=request.if_idle,
    )
    if refusal is not None:
        raise TerminalError(refusal[1], refusal[0])
    step = _session.message(record, request.policy)
    turn = record.next
    _history.begin(ctx, turn, [request.message])
    _apply(ctx, step)
    handle = _dispatch(agent, ctx, step.record, turn, [request.message])
    task_id = await shield(handle.invocation_id())
    _store(ctx, _session.dispatched(step.record, turn, task_id))
    return {
        "turn": turn,
        "task_id": task_id,
        "status": "waiting" if seen.live else "running",
        "interrupted": [x.turn for x in step.cancel],
    }


async def cancel(agent: Settings, ctx: ObjectContext, body: Any) -> Cancelled:
    """Cancel everything live, or one turn; what is over already is no error."""
    turn, reason = _checked(cancel_in, body)
    record = await _find_lost(agent, ctx, await _load(ctx))
    if turn is not None:
        _require(record, turn)
    if record is None:
        return {"cancelled": []}
    step = _session.cancel(record, turn, reason)
    if step.cancel:
        _apply(ctx, step)
    for x in step.cancel:
        for behind in step.record.live:
            if behind.turn > x.turn and behind.cancelled is None and behind.task_id is not None:
                ctx.resolve_signal(behind.task_id, cancelled_signal(x.turn), True, serde=JSON)  # noqa: FBT003
    return {"cancelled": [x.turn for x in step.cancel]}


async def attach(agent: Settings, ctx: ObjectSharedContext, body: Any) -> Outcome:
    """Wait for the outcome of a turn, by default the newest."""
    turn = _checked(turn_in, body)
    record = await _load(ctx)
    if turn is None:
        turn = record.next - 1 if record is not None else 1
    record = _require(record, turn)
    if record.find(turn) is None:
        return await _recorded(ctx, turn)
    return await _outcome(agent, ctx, record, turn)


async def get_history(agent: Settings, ctx: ObjectSharedContext, body: Any) -> list[Message]:
    """The conversation: what was said and put out, in the order of the turns."""
    _checked(nothing_in, body)
    record = await _load(ctx)
    turns = await _history.read(ctx, record, record.next) if record is not None else []
    return _history.conversation(turns, agent.interruption_note)


async def get_status(agent: Settings, ctx: ObjectSharedContext, body: Any) -> Status:
    """Whether the session is at work, and on what.

    The record alone would call a turn live whose task was killed, so each task is asked for.
    """
    _checked(nothing_in, body)
    record = await _load(ctx)
    live: list[Live] = []
    for x, task_id, end in await _look(agent, ctx, record) if record is not None else ():
        if end is not None:
            _send(ctx, agent.name, "recover", {"turn": x.turn})
        if end is None or end.reported:
            live.append(x._replace(task_id=task_id))
    busy = Record("", live=tuple(live)).at_work
    return {
        "status": "idle" if busy is None else "running",
        "turn": None if busy is None else busy.turn,
        "task_id": None if busy is None else busy.task_id,
        "live": [{"turn": x.turn, "task_id": x.task_id, "cancelled": x.cancelled} for x in live],
    }


async def load(_: Settings, ctx: ObjectSharedContext, body: Any) -> list[Turn]:
    """For a task: the turns before its own."""
    record = await _load(ctx)
    return await _history.read(ctx, record, body["before"]) if record is not None else []


async def settle_turn(agent: Settings, ctx: ObjectContext, body: Settlement) -> None:
    """For a task: record a turn's outcome, in its own slot and once."""
    outcome = body["outcome"]
    record = await _load(ctx)
    if record is None:
        return
    live = record.find(outcome["turn"])
    settled = _session.settle(record, outcome["turn"])
    if live is not None and settled is not None:
        reason = (live.cancelled or "cancelled") if outcome["status"] == "interrupted" else None
        await _history.settle(ctx, outcome, reason)
        _store(ctx, settled)
        record = settled
    for turn in body.get("ended", []):
        if record.find(turn) is not None:  # its own report went missing
            _send(ctx, agent.name, "recover", {"turn": turn})


async def recover(agent: Settings, ctx: ObjectSharedContext, body: Any) -> None:
    """For the object: settle a turn on behalf of a task that is over and did not report."""
    record = await _load(ctx)
    if record is not None and record.find(body["turn"]) is not None:
        await _outcome(agent, ctx, record, body["turn"])


async def _outcome(agent: Settings, ctx: ObjectSharedContext, record: Record, turn: int) -> Outcome:
    """Wait for a live turn's outcome, and until the session has recorded it.

    So whoever has the outcome finds it in the history, and a task that did not report is settled.
    """
    live = record.find(turn)
    assert live is not None  # noqa: S101
    task_id = live.task_id or await _find(agent, ctx, record, turn)
    end = await ending(ctx, turn, ctx.attach_invocation(task_id, serde=JSON))
    if end.gone:
        await ctx.sleep(GRACE)
    now = await _load(ctx)
    if now is not None and now.find(turn) is not None:
        settlement: Settlement = {"outcome": end.outcome}
        await ctx.generic_call(agent.name, "settle", json.dumps(settlement).encode(), key=ctx.key())
    return await _recorded(ctx, turn)


async def _look(
    agent: Settings, ctx: AnyContext, record: Record
) -> list[tuple[Live, str, Ending | None]]:
    """Ask for each live turn how its task ended, without waiting; `None` is: it did not.

    A call with the task's own idempotency key goes to the same partition as the attach before it,
    and is answered after it: if the attach has no answer by then, the task is not over.
    """
    asked: list[tuple[Live, str, RestateDurableFuture[Any], RestateDurableFuture[Any]]] = []
    for x in record.live:
        task_id = x.task_id or await _find(agent, ctx, record, x.turn)
        task: RestateDurableFuture[Any] = ctx.attach_invocation(task_id, serde=JSON)
        key = _idempotency_key(ctx, record, x.turn)
        mark: RestateDurableFuture[Any] = ctx.generic_call(
            agent.task_name, "mark", b"", idempotency_key=key
        )
        asked.append((x, task_id, task, mark))
    looked: list[tuple[Live, str, Ending | None]] = []
    for x, task_id, task, mark in asked:
        done, _ = await restate.wait_completed(task, mark)
        end = await ending(ctx, x.turn, task) if task in done else None
        looked.append((x, task_id, end))
    return looked


async def _find_lost(agent: Settings, ctx: ObjectContext, record: Record | None) -> Record | None:
    """Learn the task ids that a killed `message` left unknown."""
    for turn in record.lost if record is not None else ():
        assert record is not None  # noqa: S101
        task_id = await _find(agent, ctx, record, turn)
        record = _session.dispatched(record, turn, task_id)
    return record


async def _find(agent: Settings, ctx: AnyContext, record: Record, turn: int) -> str:
    """Send a turn's task once more: Restate answers with the same invocation."""
    messages = await ctx.get(_history.turn_key(turn), serde=JSON)
    return await _dispatch(agent, ctx, record, turn, messages or []).invocation_id()


def _dispatch(
    agent: Settings,
    ctx: AnyContext,
    record: Record,
    turn: int,
    messages: list[Message],
) -> SendHandle:
    job: Dispatch = {
        "session": ctx.key(),
        "turn": turn,
        "input": messages,
        "after": [
            {"turn": x.turn, "task_id": x.task_id, "cancelled": x.cancelled is not None}
            for x in record.before(turn)
            if x.task_id is not None
        ],
    }
    return ctx.generic_send(
        agent.task_name,
        "run_task",
        json.dumps(job).encode(),
        idempotency_key=_idempotency_key(ctx, record, turn),
    )


def _idempotency_key(ctx: AnyContext, record: Record, turn: int) -> str:
    return f"{ctx.key()}/{record.epoch}/{turn}"


def _send(ctx: AnyContext, agent: str, handler: str, body: Any) -> None:
    ctx.generic_send(agent, handler, json.dumps(body).encode(), key=ctx.key())


async def _load(ctx: AnyContext) -> Record | None:
    stored = await ctx.get("session", serde=JSON)
    return None if stored is None else _session.load(stored)


def _store(ctx: ObjectContext, record: Record) -> None:
    ctx.set("session", _session.dump(record), serde=JSON)


def _apply(ctx: ObjectContext, step: _session.Step) -> None:
    # The cancels first: killed in between, a session must not believe in a cancel it never sent.
    for x in step.cancel:
        if x.task_id is not None:
            ctx.cancel_invocation(x.task_id)
    _store(ctx, step.record)


async def _recorded(ctx: ObjectSharedContext, turn: int) -> Outcome:
    record = await _history.read_one(ctx, turn)
    if record is None:
        raise TerminalError(f"turn: {turn} was removed from this session.", 404)
    outcome: Outcome = {
        "turn": turn,
        "status": record["status"],
        "messages": record["messages"],
    }
    if "error" in record:
        outcome["error"] = record["error"]
    return outcome


def _require(record: Record | None, turn: int) -> Record:
    if record is None or not record.has(turn):
        last = record.next - 1 if record is not None else 0
        known = f"its turns are 1 to {last}" if last else "it has no turns yet"
        raise TerminalError(f"turn: there is no turn {turn} in this session; {known}.", 404)
    return record


def _checked(check: Callable[..., T], body: Any, **options: Any) -> T:
    try:
        return check(body, **options)
    except Refusal as refusal:
        raise TerminalError(refusal.reason, refusal.status) from None
