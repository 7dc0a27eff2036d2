"""What begins, ends and takes back turns: public handlers of the agent's virtual object."""

import functools
import json
from collections.abc import Sequence
from typing import Any

from restate import ObjectContext, ObjectSharedContext, TerminalError

from interruptible._session import effects, reading, rules, storage, stored_record
from interruptible._session.effects import Settings, carry_out, require, require_message
from interruptible._session.reading import Moment, read_moment, read_steered
from interruptible._session.record import Record
from interruptible._session.turns import asked
from interruptible._session.views import conversation
from interruptible._wire import requests
from interruptible._wire import types as wire
from interruptible._wire.checks import Refusal
from interruptible._wire.said import ids_of, with_id, with_metadata


async def on_message(
    agent: Settings, ctx: ObjectContext, fields: requests.MessageIn
) -> wire.Receipt:
    """Take in a message: it becomes the next turn, and interrupts what is live or waits for it."""
    policy, merge = fields.get("policy", agent.policy), agent.merges
    requests.check_message(fields, policy, agent.allowed_policies)
    said = requests.user_message(fields["content"], agent.max_content)
    said = with_metadata(said, fields.get("metadata"))
    record, now = await effects.known_now(agent, ctx)
    if not record.epoch:
        record = stored_record.new_record(ctx)
    keep_queued = fields.get("keep_queued", agent.keep_queued)
    refusal = functools.partial(
        rules.refusal,
        policy=policy,
        max_pending=agent.max_pending,
        if_turn=fields.get("if_turn"),
        if_idle=fields.get("if_idle", False),
        merge=merge,
    )
    seen = record._replace(live=record.awaited)
    depends = policy == "steer" or fields.get("if_turn") is not None or keep_queued or merge
    if depends or refusal(seen) is not None:
        # What happens depends on what is live: so leave out what only the record calls live.
        looked = await effects.look(agent, ctx, seen)
        live = tuple(x for x, end in looked if end is None or end.unknown)
        seen = seen._replace(live=live)
    if (refused := refusal(seen)) is not None:
        raise TerminalError(refused.reason, refused.status)
    over = {x.turn for x in record.live} - {x.turn for x in seen.live}
    reads_now = fields.get("now", False)
    step = rules.message_step(
        record, policy, keep_queued=keep_queued, merge=merge, now=reads_now, over=over
    )
    after = await carry_out(agent, ctx, step, [with_id(said, step.message)], now)
    if step.steer is None:
        status = "waiting" if seen.live else "running"
        return receipt_of(after, record.next, status, step, step.discard)
    status = "joined" if step.steer.joined else "steered"
    return receipt_of(after, step.steer.turn, status, step)


async def on_cancel(
    agent: Settings, ctx: ObjectContext, fields: requests.CancelIn
) -> wire.Cancelled:
    """Cancel everything live, or one turn; what is over already is no error."""
    turn, message = fields.get("turn"), fields.get("message")
    record = await effects.known(agent, ctx)
    if turn is not None:
        require(record, turn)
    if message is not None:
        if turn is not None:
            raise Refusal("message: cannot be named together with turn. Send one of them.")
        require_message(record, message)
        # A turn that it only became part of is another one's, and goes on.
        turn = max((x.turn for x in record.live if message in x.own), default=None)
        if turn is None:
            return {"cancelled": []}
    after_step = fields.get("after_step", False)
    step = rules.cancel_step(record, turn, fields.get("reason"), after_step=after_step)
    if step.cancel or step.stop:
        await carry_out(agent, ctx, step)
    return {"cancelled": sorted(x.turn for x in (*step.cancel, *step.stop))}


async def on_regenerate(
    agent: Settings, ctx: ObjectContext, fields: requests.RegenerateIn
) -> wire.Receipt:
    """Work on the messages of a turn again, by default the last: it and all after it go."""
    return await _begin_again(agent, ctx, fields.get("turn"), fields.get("if_last"))


async def on_edit(agent: Settings, ctx: ObjectContext, fields: requests.EditIn) -> wire.Receipt:
    """Say something else in the place of a turn's messages: it and all after it go."""
    instead = requests.user_message(fields["content"], agent.max_content)
    return await _begin_again(agent, ctx, fields["turn"], fields.get("if_last"), instead)


async def _begin_again(
    agent: Settings,
    ctx: ObjectContext,
    turn: int | None,
    if_last: int | None,
    instead: wire.Message | None = None,
) -> wire.Receipt:
    """Begin a turn in the place of another one and all after it, with its messages or another."""
    record, now = await effects.known_now(agent, ctx)
    session = Moment(ctx, record)
    if turn is None:
        turn = await session.newest() or 1
    require(record, turn)
    _require_last(record, if_last)
    slots = await session.slots(range(turn, record.next))
    standing = [x.number for x in slots if not x.discarded]
    said = await read_steered(ctx, [x for x in record.steered if x.turn == turn])
    old = await Moment(ctx, record, said).turn(turn) if turn in standing else None
    if old is None:
        raise TerminalError(f"turn: {turn} is no part of the conversation any more.", 404)
    resumes: int | None = None
    if instead is None:
        messages, resumes = asked(old), old.get("resumes")
        ids = ids_of(messages)
        merge = agent.merges and resumes is None
        step = rules.regenerate_step(record, turn, ids, merge=merge)
        step = step._replace(message=max(ids, default=0))
    else:
        step = rules.edit_step(record, turn, merge=agent.merges)
        messages = [with_id(instead, step.message)]
    after = await carry_out(agent, ctx, step, messages, now, resumes)
    return receipt_of(
        after, record.next, "waiting" if record.awaited else "running", step, standing
    )


async def on_resume(agent: Settings, ctx: ObjectContext, fields: requests.ResumeIn) -> wire.Receipt:
    """Go on where the last turn stopped, without a message: it did not complete."""
    turn = fields.get("turn")
    record, now = await effects.known_now(agent, ctx)
    session = Moment(ctx, record)
    last = await session.newest()
    if turn is None:
        turn = last or 1
    require(record, turn)
    old = await session.turn(turn) if turn == last else None
    if old is None:
        known = "has no turns any more" if last is None else f"ends with {last}"
        raise TerminalError(
            f"turn: {turn} is not the last of the conversation, which {known}. Say something "
            "new, or rewind to what comes after it.",
            412,
        )
    status, busy = old["status"], record.at_work
    if record.find(turn) is not None:  # its task may be over, and not have said so
        [(_, end)] = await effects.look(agent, ctx, record.only({turn}))
        status = "running" if end is None or end.unknown else end.outcome["status"]
    if status in ("running", "completed"):
        did = "is live" if status == "running" else "has completed"
        raise TerminalError(f"turn: {turn} {did}, so there is nothing to go on with.", 412)
    if busy is not None and busy.turn != turn and not busy.is_cut:
        raise TerminalError(f"turn: turn {busy.turn} is live. Wait for it, or cancel it.", 412)
    step = rules.resume_step(record)._replace(message=max(ids_of(asked(old)), default=0))
    after = await carry_out(agent, ctx, step, (), now, resumes=turn)
    return receipt_of(after, record.next, "waiting" if record.awaited else "running", step)


async def on_rewind(agent: Settings, ctx: ObjectContext, fields: requests.RewindIn) -> wire.Rewound:
    """Take back a turn and all after it."""
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


async def on_reset(agent: Settings, ctx: ObjectContext, fields: requests.ResetIn) -> wire.Cancelled:
    """Cancel what is live and empty the conversation; the numbers of the turns go on."""
    record = await effects.known(agent, ctx)
    if not record.epoch:
        return {"cancelled": []}
    step = rules.reset_step(record, fields.get("reason"))
    stale = await storage.stale_keys(ctx, step.record)
    record = storage.without_settled(step.record)._replace(forked_from=None)
    await carry_out(agent, ctx, step._replace(record=record))
    for key in stale:
        ctx.clear(key)
    return {"cancelled": [x.turn for x in step.cancel]}


async def on_fork(
    agent: Settings, ctx: ObjectSharedContext, fields: requests.ForkIn
) -> wire.Forked:
    """Copy the conversation up to a turn, by default the last that has ended, to a new session."""
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
    read = await conversation(session, last, reading.MAX_COPIED, instead)
    # What is live here was given up; it is copied as later turns are told of it.
    turns: list[wire.Turn]
    turns = [{**x, "status": "interrupted"} if x["status"] == "running" else x for x in read]
    last = turns[-1]["turn"] if turns else 0
    old = record.forked_from  # where the first of the turns were worked on
    origin = old[0] if old is not None and last <= old[1] else ctx.key()
    told = {"next": last + 1, "turns": turns, "from": (origin, last), "messages": record.messages}
    await ctx.generic_call(agent.name, "adopt", json.dumps(told).encode(), key=copy)
    return {"session": copy, "turn": last}


def receipt_of(
    record: Record, turn: int, status: Any, step: rules.Step, discarded: Sequence[int] = ()
) -> wire.Receipt:
    """What who sent a message is answered: what became of it, and of what was live."""
    live = record.find(turn)
    assert live is not None  # noqa: S101
    assert live.task_id is not None  # noqa: S101
    receipt: wire.Receipt = {
        "turn": turn,
        "message": step.message,
        "task_id": live.task_id,
        "status": status,
        "interrupted": [x.turn for x in step.cancel],
    }
    if discarded:
        receipt["discarded"] = list(discarded)
    return receipt


def _require_last(record: Record, if_last: int | None) -> None:
    """Refuse to take back turns that the caller has not seen."""
    last = record.next - 1
    if if_last not in (None, last):
        reason = f"if_last: turn {if_last} is not the last, but {last}. Look at what has happened."
        raise TerminalError(reason, 412)
