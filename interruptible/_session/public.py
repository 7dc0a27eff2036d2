"""What everybody may call: the public handlers of the agent's virtual object."""

import json
from typing import Any

from restate import ObjectContext, ObjectSharedContext, TerminalError

from interruptible._session import effects, history, rules
from interruptible._session.effects import Settings, carry_out, checked, require
from interruptible._session.history import JSON
from interruptible._session.rules import Live, Record
from interruptible._wire.native import neutral
from interruptible._wire.types import (
    Cancelled,
    Forked,
    LiveTurn,
    Message,
    Outcome,
    Receipt,
    Rewound,
    Status,
    Turns,
    cancel_in,
    fork_in,
    message_in,
    nothing_in,
    regenerate_in,
    reset_in,
    rewind_in,
    turn_in,
    turns_in,
)


async def on_message(agent: Settings, ctx: ObjectContext, body: Any) -> Receipt:
    """Take in a message: it becomes the next turn, and interrupts what is live or waits for it."""
    request = checked(
        message_in,
        body,
        max_content=agent.max_content,
        policy=agent.policy,
        allowed=agent.allowed_policies,
    )
    policy, merge = request.policy, agent.merges
    stored, now = await effects.load_now(ctx)
    record = await effects.find_lost(agent, ctx, stored)
    if record is None:
        record = effects.new_record(ctx)
    seen = record._replace(live=record.awaited)
    conditional = request.if_idle or request.if_turn is not None
    if policy != "interrupt" or conditional or agent.keep_queued or merge:
        # What happens depends on what is live: so leave out what only the record calls live.
        asked = await effects.look(agent, ctx, seen)
        seen = seen._replace(live=tuple(x for x, _, end in asked if end is None))
    refusal = rules.refusal(
        seen,
        policy,
        max_pending=agent.max_pending,
        if_turn=request.if_turn,
        if_idle=request.if_idle,
        merge=merge,
    )
    if refusal is not None:
        raise TerminalError(refusal[1], refusal[0])
    over = {x.turn for x in record.live} - {x.turn for x in seen.live}
    step = rules.message(record, policy, keep_queued=agent.keep_queued, merge=merge, over=over)
    if step.dispatch is None:
        return _steer(agent, ctx, step, request.message)
    receipt: Receipt = {
        "turn": step.dispatch,
        "task_id": await effects.take_in(agent, ctx, step, [request.message], now),
        "status": "waiting" if seen.live else "running",
        "interrupted": [x.turn for x in step.cancel],
    }
    if step.discard:
        receipt["discarded"] = list(step.discard)
    return receipt


async def on_cancel(agent: Settings, ctx: ObjectContext, body: Any) -> Cancelled:
    """Cancel everything live, or one turn; what is over already is no error."""
    turn, reason = checked(cancel_in, body)
    record = await effects.find_lost(agent, ctx, await effects.load(ctx))
    if turn is not None:
        require(record, turn)
    if record is None:
        return {"cancelled": []}
    step = rules.cancel(record, turn, reason)
    if step.cancel:
        carry_out(ctx, step)
    return {"cancelled": [x.turn for x in step.cancel]}


async def on_attach(agent: Settings, ctx: ObjectSharedContext, body: Any) -> Outcome:
    """Wait for the outcome of a turn, by default the newest."""
    turn = checked(turn_in, body)
    record = await effects.load(ctx)
    if turn is None:
        turn = record.next - 1 if record is not None else 1
    record = require(record, turn)
    if record.find(turn) is None:
        return await effects.recorded(ctx, record, turn)
    return await effects.outcome(agent, ctx, record, turn)


async def on_get_history(agent: Settings, ctx: ObjectSharedContext, body: Any) -> list[Message]:
    """The conversation: what was said and put out, in the order of the turns."""
    checked(nothing_in, body)
    record = await effects.load(ctx)
    if record is None:
        return []
    instead = "Read the conversation with get_turns, which gives it in parts."
    most = history.MAX_ANSWER
    turns = await effects.every(ctx, record, record.next - 1, most, instead)
    return history.conversation(map(neutral, turns), agent.interruption_note)


async def on_get_status(agent: Settings, ctx: ObjectSharedContext, body: Any) -> Status:
    """Whether the session is at work, and on what.

    The record alone would call a turn live whose task was killed, so each task is asked for.
    """
    checked(nothing_in, body)
    record = await effects.load(ctx) or Record("")
    live: list[Live] = []
    for x, task_id, end in await effects.look(agent, ctx, record):
        if end is not None:
            effects.send(ctx, agent.name, "recover", {"turn": x.turn})
        if end is None or end.reported:
            live.append(x._replace(task_id=task_id))
    seen = record._replace(live=tuple(live))
    busy = seen.at_work
    return {
        "status": "idle" if busy is None else "running",
        "turn": None if busy is None else busy.turn,
        "task_id": None if busy is None else busy.task_id,
        "live": [_shown(x) for x in live],
        "steered": len(seen.waiting),
    }


async def on_get_turns(_: Settings, ctx: ObjectSharedContext, body: Any) -> Turns:
    """The record of the turns, discarded ones too, a page at a time from the newest on."""
    before, limit = checked(turns_in, body)
    record = await effects.load(ctx)
    if record is None:
        return {"turns": [], "before": None}
    stop = record.next if before is None else min(before, record.next)
    start = max(1, stop - limit)
    turns, more = await effects.some(ctx, record, range(start, stop), history.MAX_ANSWER)
    if more:
        start = turns[0]["turn"]
    return {"turns": [neutral(x) for x in turns], "before": start if start > 1 else None}


async def on_regenerate(agent: Settings, ctx: ObjectContext, body: Any) -> Receipt:
    """Work on the messages of a turn again, by default the last: it and all after it go."""
    turn, if_last = checked(regenerate_in, body)
    stored, now = await effects.load_now(ctx)
    record = await effects.find_lost(agent, ctx, stored)
    if turn is None:
        turn = (await history.newest(ctx, record) if record is not None else None) or 1
    record = _only_if_last(require(record, turn), if_last)
    discarded = await history.standing(ctx, record, range(turn, record.next))
    if turn not in discarded:
        raise TerminalError(f"turn: {turn} is no part of the conversation any more.", 404)
    (old,) = await history.read(ctx, record, range(turn, turn + 1))
    step = rules.regenerate(record, turn, merge=agent.merges)
    return {
        "turn": record.next,
        "task_id": await effects.take_in(agent, ctx, step, history.asked(old), now),
        "status": "waiting" if record.awaited else "running",
        "interrupted": [x.turn for x in step.cancel],
        "discarded": discarded,
    }


async def on_rewind(agent: Settings, ctx: ObjectContext, body: Any) -> Rewound:
    """Take back a turn and all after it."""
    turn, reason, if_last = checked(rewind_in, body)
    record = await effects.find_lost(agent, ctx, await effects.load(ctx))
    record = _only_if_last(require(record, turn), if_last)
    if not await history.has(ctx, record, turn):
        raise effects.removed(turn)
    discarded = await history.standing(ctx, record, range(turn, record.next))
    step, pages = await effects.with_discarded(ctx, rules.rewind(record, turn, reason))
    carry_out(ctx, step, pages)
    return {
        "cancelled": [x.turn for x in step.cancel],
        "discarded": discarded,
    }


async def on_reset(agent: Settings, ctx: ObjectContext, body: Any) -> Cancelled:
    """Cancel what is live and empty the conversation; the numbers of the turns go on."""
    reason = checked(reset_in, body)
    record = await effects.find_lost(agent, ctx, await effects.load(ctx))
    if record is None:
        return {"cancelled": []}
    step = rules.reset(record, reason)
    stale = await history.stale_keys(ctx, step.record)
    record, _ = await history.discard(ctx, history.without_settled(step.record), step.discard)
    carry_out(ctx, step._replace(record=record._replace(forked_from=None)))
    for key in stale:
        ctx.clear(key)
    return {"cancelled": [x.turn for x in step.cancel]}


async def on_fork(agent: Settings, ctx: ObjectSharedContext, body: Any) -> Forked:
    """Copy the conversation up to a turn, by default the last that has ended, to a new session."""
    session, last = checked(fork_in, body, ctx.key())
    record = await effects.load(ctx)
    if last is None:
        record = record or Record("")
        last = min((x.turn for x in record.awaited), default=record.next) - 1
    else:
        record = require(record, last)
        if not await history.has(ctx, record, last):
            raise effects.removed(last)
    if (live := next((x for x in record.awaited if x.turn <= last), None)) is not None:
        raise TerminalError(
            f"turn: turn {live.turn} is live. Wait for it, or fork at an earlier one.", 423
        )
    instead = "A fork copies all of them. Fork at an earlier turn."
    read = await effects.every(ctx, record, last, history.MAX_COPIED, instead)
    turns = [history.without_end(x) if x["status"] == "running" else x for x in read]
    last = turns[-1]["turn"] if turns else 0
    old = record.forked_from  # where the first of the turns were worked on
    origin = old[0] if old is not None and last <= old[1] else ctx.key()
    copy = {"next": last + 1, "turns": turns, "from": (origin, last)}
    await ctx.generic_call(agent.name, "adopt", json.dumps(copy).encode(), key=session)
    return {"session": session, "turn": last}


def _steer(agent: Settings, ctx: ObjectContext, step: rules.Step, said: Message) -> Receipt:
    steered = step.steer
    live = step.record.find(steered.turn) if steered is not None else None
    assert steered is not None  # noqa: S101
    assert live is not None  # noqa: S101
    assert live.task_id is not None  # noqa: S101
    ctx.set(history.steered_key(steered.number), said, serde=JSON)
    carry_out(ctx, step)
    if sum(x.turn == live.turn for x in step.record.steered) == 1:
        # Should its task be killed, the message must still pass on.
        effects.send(ctx, agent.name, "recover", {"turn": live.turn})
    return {
        "turn": live.turn,
        "task_id": live.task_id,
        "status": "joined" if steered.joined else "steered",
        "interrupted": [],
    }


def _shown(x: Live) -> LiveTurn:
    shown: LiveTurn = {"turn": x.turn, "task_id": x.task_id, "cancelled": x.cancelled}
    if x.given_up:
        shown["given_up"] = True
    return shown


def _only_if_last(record: Record, if_last: int | None) -> Record:
    """Refuse to take back turns that the caller has not seen."""
    last = record.next - 1
    if if_last not in (None, last):
        reason = f"if_last: turn {if_last} is not the last, but {last}. Look at what has happened."
        raise TerminalError(reason, 412)
    return record
