"""What everybody may call: the public handlers of the agent's virtual object."""

import json
from collections.abc import Sequence
from typing import Any

from restate import ObjectContext, ObjectSharedContext, TerminalError

from interruptible._session import effects, reading, rules, storage
from interruptible._session.effects import Settings, carry_out, require
from interruptible._session.reading import Moment, read_moment, read_record, read_steered
from interruptible._session.record import Live, Record
from interruptible._session.turns import asked, whole_conversation
from interruptible._wire import requests
from interruptible._wire import types as wire
from interruptible._wire.native import neutral

# -- What begins and ends turns. -------------------------------------------------------------------


async def on_message(agent: Settings, ctx: ObjectContext, body: Any) -> wire.Receipt:
    """Take in a message: it becomes the next turn, and interrupts what is live or waits for it."""
    request = requests.message_in(
        body,
        max_content=agent.max_content,
        policy=agent.policy,
        allowed=agent.allowed_policies,
    )
    policy, merge = request.policy, agent.merges
    record, now = await effects.known_now(agent, ctx)
    if not record.epoch:
        record = storage.new_record(ctx)
    seen = record._replace(live=record.awaited)
    conditional = request.if_idle or request.if_turn is not None
    if policy != "interrupt" or conditional or agent.keep_queued or merge:
        # What happens depends on what is live: so leave out what only the record calls live.
        looked = await effects.look(agent, ctx, seen)
        live = tuple(x for x, end in looked if end is None or end.unknown)
        seen = seen._replace(live=live)
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
    step = rules.message_step(record, policy, keep_queued=agent.keep_queued, merge=merge, over=over)
    after = await carry_out(agent, ctx, step, [request.message], now)
    if step.steer is None:
        status = "waiting" if seen.live else "running"
        return _receipt(after, record.next, status, step, step.discard)
    status = "joined" if step.steer.joined else "steered"
    return _receipt(after, step.steer.turn, status, step)


async def on_cancel(agent: Settings, ctx: ObjectContext, body: Any) -> wire.Cancelled:
    """Cancel everything live, or one turn; what is over already is no error."""
    fields = requests.CANCEL_IN(body)
    turn = fields.get("turn")
    record = await effects.known(agent, ctx)
    if turn is not None:
        require(record, turn)
    step = rules.cancel_step(record, turn, fields.get("reason"))
    if step.cancel:
        await carry_out(agent, ctx, step)
    return {"cancelled": [x.turn for x in step.cancel]}


async def on_regenerate(agent: Settings, ctx: ObjectContext, body: Any) -> wire.Receipt:
    """Work on the messages of a turn again, by default the last: it and all after it go."""
    fields = requests.REGENERATE_IN(body)
    turn = fields.get("turn")
    record, now = await effects.known_now(agent, ctx)
    session = Moment(ctx, record)
    if turn is None:
        turn = await session.newest() or 1
    require(record, turn)
    _require_last(record, fields.get("if_last"))
    slots = await session.slots(range(turn, record.next))
    standing = [x.number for x in slots if not x.discarded]
    said = await read_steered(ctx, [x for x in record.steered if x.turn == turn])
    old = await Moment(ctx, record, said).turn(turn) if turn in standing else None
    if old is None:
        raise TerminalError(f"turn: {turn} is no part of the conversation any more.", 404)
    step = rules.regenerate_step(record, turn, merge=agent.merges)
    after = await carry_out(agent, ctx, step, asked(old), now)
    return _receipt(after, record.next, "waiting" if record.awaited else "running", step, standing)


async def on_rewind(agent: Settings, ctx: ObjectContext, body: Any) -> wire.Rewound:
    """Take back a turn and all after it."""
    fields = requests.REWIND_IN(body)
    turn = fields["turn"]
    record = await effects.known(agent, ctx)
    require(record, turn)
    _require_last(record, fields.get("if_last"))
    slots = await Moment(ctx, record).slots(range(turn, record.next))
    if turn not in [x.number for x in slots]:
        raise effects.removed(turn)
    step = rules.rewind_step(record, turn, fields.get("reason"))
    await carry_out(agent, ctx, step)
    return {
        "cancelled": [x.turn for x in step.cancel],
        "discarded": [x.number for x in slots if not x.discarded],
    }


async def on_reset(agent: Settings, ctx: ObjectContext, body: Any) -> wire.Cancelled:
    """Cancel what is live and empty the conversation; the numbers of the turns go on."""
    reason = requests.RESET_IN(body).get("reason")
    record = await effects.known(agent, ctx)
    if not record.epoch:
        return {"cancelled": []}
    step = rules.reset_step(record, reason)
    stale = await storage.stale_keys(ctx, step.record)
    record = storage.without_settled(step.record)._replace(forked_from=None)
    await carry_out(agent, ctx, step._replace(record=record))
    for key in stale:
        ctx.clear(key)
    return {"cancelled": [x.turn for x in step.cancel]}


async def on_fork(agent: Settings, ctx: ObjectSharedContext, body: Any) -> wire.Forked:
    """Copy the conversation up to a turn, by default the last that has ended, to a new session."""
    fields = requests.FORK_IN(body)
    copy, last = fields["session"], fields.get("turn")
    if copy == ctx.key():
        raise TerminalError("session: is this session itself. Name a new one.", 400)
    session = await read_moment(ctx)
    record = session.record
    if last is None:
        last = min((x.turn for x in record.awaited), default=record.next) - 1
    else:
        require(record, last)
        if not await session.slots(range(last, last + 1)):
            raise effects.removed(last)
    if (live := next((x for x in record.awaited if x.turn <= last), None)) is not None:
        raise TerminalError(
            f"turn: turn {live.turn} is live. Wait for it, or fork at an earlier one.", 423
        )
    instead = "A fork copies all of them. Fork at an earlier turn."
    read = await _conversation(session, last, reading.MAX_COPIED, instead)
    # What is live here was given up; it is copied as later turns are told of it.
    turns: list[wire.Turn]
    turns = [{**x, "status": "interrupted"} if x["status"] == "running" else x for x in read]
    last = turns[-1]["turn"] if turns else 0
    old = record.forked_from  # where the first of the turns were worked on
    origin = old[0] if old is not None and last <= old[1] else ctx.key()
    told = {"next": last + 1, "turns": turns, "from": (origin, last)}
    await ctx.generic_call(agent.name, "adopt", json.dumps(told).encode(), key=copy)
    return {"session": copy, "turn": last}


# -- What shows and waits. -------------------------------------------------------------------------


async def on_attach(agent: Settings, ctx: ObjectSharedContext, body: Any) -> wire.Outcome:
    """Wait for the outcome of a turn, by default the newest."""
    turn = requests.ATTACH_IN(body).get("turn")
    record = await read_record(ctx)
    if turn is None:
        turn = max(1, record.next - 1)
    require(record, turn)
    return await effects.recorded_outcome(agent, ctx, record, turn)


async def on_get_history(
    agent: Settings, ctx: ObjectSharedContext, body: Any
) -> list[wire.Message]:
    """The conversation: what was said and put out, in the order of the turns."""
    requests.NOTHING_IN(body)
    session = await read_moment(ctx)
    instead = "Read the conversation with get_turns, which gives it in parts."
    last = session.record.next - 1
    turns = await _conversation(session, last, reading.MAX_ANSWER, instead)
    return whole_conversation(map(neutral, turns), agent.interruption_note)


async def on_get_turns(_: Settings, ctx: ObjectSharedContext, body: Any) -> wire.Turns:
    """The record of the turns, discarded ones too, a page at a time from the newest on."""
    fields = requests.GET_TURNS_IN(body)
    before, limit = fields.get("before"), fields.get("limit") or wire.MAX_TURNS
    session = await read_moment(ctx)
    newest = session.record.next
    stop = newest if before is None else min(before, newest)
    start = max(1, stop - limit)
    turns, more = await session.turns(range(start, stop), reading.MAX_ANSWER)
    if more:
        start = turns[0]["turn"]
    return {"turns": [neutral(x) for x in turns], "before": start if start > 1 else None}


async def on_get_status(agent: Settings, ctx: ObjectSharedContext, body: Any) -> wire.Status:
    """Whether the session is at work, and on what.

    The record alone would call a turn live whose task was killed, so each task is asked for.
    """
    requests.NOTHING_IN(body)
    record = await read_record(ctx)
    looked = await effects.look(agent, ctx, record)
    for x, end in looked:
        if end is not None:
            effects.send_recover(agent, ctx, x.turn)
    live = tuple(x for x, end in looked if end is None or end.reported or end.unknown)
    seen = record._replace(live=live)
    busy = seen.at_work
    return {
        "status": "idle" if busy is None else "running",
        "turn": None if busy is None else busy.turn,
        "task_id": None if busy is None else busy.task_id,
        "live": [_shown(x) for x in live],
        "steered": len(seen.waiting),
    }


def _shown(x: Live) -> wire.LiveTurn:
    shown: wire.LiveTurn = {"turn": x.turn, "task_id": x.task_id, "cancelled": x.cancelled}
    if x.given_up:
        shown["given_up"] = True
    return shown


def _receipt(
    record: Record, turn: int, status: Any, step: rules.Step, discarded: Sequence[int] = ()
) -> wire.Receipt:
    live = record.find(turn)
    assert live is not None  # noqa: S101
    assert live.task_id is not None  # noqa: S101
    receipt: wire.Receipt = {
        "turn": turn,
        "task_id": live.task_id,
        "status": status,
        "interrupted": [x.turn for x in step.cancel],
    }
    if discarded:
        receipt["discarded"] = list(discarded)
    return receipt


async def _conversation(session: Moment, last: int, most: int, instead: str) -> list[wire.Turn]:
    """All turns of the conversation up to one; or a refusal, which says what to do instead."""
    turns, more = await session.turns(range(1, last + 1), most, discarded=False)
    if more:
        raise TerminalError(f"The turns have more than {most // 1024**2} MiB. {instead}", 413)
    return turns


def _require_last(record: Record, if_last: int | None) -> None:
    """Refuse to take back turns that the caller has not seen."""
    last = record.next - 1
    if if_last not in (None, last):
        reason = f"if_last: turn {if_last} is not the last, but {last}. Look at what has happened."
        raise TerminalError(reason, 412)
