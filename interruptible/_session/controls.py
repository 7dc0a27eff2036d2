"""The handlers of the agent's virtual object that change or show what was said."""

import json
from typing import Any

from restate import ObjectContext, ObjectSharedContext, TerminalError

from interruptible._session import effects, history, rules
from interruptible._session.effects import Settings, carry_out, checked, require
from interruptible._session.rules import Record
from interruptible._wire import told as _told
from interruptible._wire.native import neutral
from interruptible._wire.requests import FORK_IN, GET_TURNS_IN, REGENERATE_IN, RESET_IN, REWIND_IN
from interruptible._wire.types import (
    MAX_TURNS,
    Cancelled,
    Forked,
    Receipt,
    Rewound,
    Turns,
)


async def regenerate(agent: Settings, ctx: ObjectContext, body: Any) -> Receipt:
    """Work on the messages of a turn again, by default the last: it and all after it go."""
    asked = checked(REGENERATE_IN, body)
    turn = asked.get("turn")
    stored, now = await effects.load_now(ctx)
    record = await effects.find_lost(agent, ctx, stored)
    if turn is None:
        turn = (await history.newest(ctx, record) if record is not None else None) or 1
    record = _only_if_last(require(record, turn), asked.get("if_last"))
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


async def rewind(agent: Settings, ctx: ObjectContext, body: Any) -> Rewound:
    """Take back a turn and all after it."""
    asked = checked(REWIND_IN, body)
    turn = asked["turn"]
    record = await effects.find_lost(agent, ctx, await effects.load(ctx))
    record = _only_if_last(require(record, turn), asked.get("if_last"))
    if not await history.has(ctx, record, turn):
        raise effects.removed(turn)
    discarded = await history.standing(ctx, record, range(turn, record.next))
    step, pages = await effects.with_discarded(ctx, rules.rewind(record, turn, asked.get("reason")))
    carry_out(ctx, step, pages)
    return {
        "cancelled": [x.turn for x in step.cancel],
        "discarded": discarded,
    }


async def reset(agent: Settings, ctx: ObjectContext, body: Any) -> Cancelled:
    """Cancel what is live and empty the conversation; the numbers of the turns go on."""
    reason = checked(RESET_IN, body).get("reason")
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


async def fork(agent: Settings, ctx: ObjectSharedContext, body: Any) -> Forked:
    """Copy the conversation up to a turn, by default the last that has ended, to a new session."""
    asked = checked(FORK_IN, body)
    session, last = asked["session"], asked.get("turn")
    if session == ctx.key():
        raise TerminalError("session: is this session itself. Name a new one.", 400)
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


async def adopt(_: Settings, ctx: ObjectContext, body: Any) -> None:
    """For `fork`: begin this session with the turns of another."""
    copy = checked(_told.copy, body)
    session, last = copy["from"]
    if await effects.load(ctx) is not None:
        raise TerminalError("session: there is one of this key already. Choose another.", 412)
    record = effects.new_record(ctx)._replace(next=copy["next"], forked_from=(session, last))
    effects.store(ctx, history.adopt(ctx, record, copy["turns"]))


async def get_turns(_: Settings, ctx: ObjectSharedContext, body: Any) -> Turns:
    """The record of the turns, discarded ones too, a page at a time from the newest on."""
    asked = checked(GET_TURNS_IN, body)
    before, limit = asked.get("before"), asked.get("limit") or MAX_TURNS
    record = await effects.load(ctx)
    if record is None:
        return {"turns": [], "before": None}
    stop = record.next if before is None else min(before, record.next)
    start = max(1, stop - limit)
    turns, more = await effects.some(ctx, record, range(start, stop), history.MAX_ANSWER)
    if more:
        start = turns[0]["turn"]
    return {"turns": [neutral(x) for x in turns], "before": start if start > 1 else None}


def _only_if_last(record: Record, if_last: int | None) -> Record:
    """Refuse to take back turns that the caller has not seen."""
    last = record.next - 1
    if if_last not in (None, last):
        reason = f"if_last: turn {if_last} is not the last, but {last}. Look at what has happened."
        raise TerminalError(reason, 412)
    return record
