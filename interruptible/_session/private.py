"""What only tasks, reports and other sessions call: the private handlers of the virtual object."""

from typing import Any

from restate import ObjectContext, ObjectSharedContext, TerminalError

from interruptible._session import effects, history, rules
from interruptible._session.effects import Settings, carry_out, checked
from interruptible._wire import told as _told


async def on_settle(agent: Settings, ctx: ObjectContext, body: Any) -> None:
    """For a task: record a turn's outcome, in its own slot and once."""
    settlement = checked(_told.settlement, body)
    outcome = settlement["outcome"]
    stored, now = await effects.load_now(ctx)
    record = await effects.find_lost(agent, ctx, stored)
    if record is None:
        return
    live = record.find(outcome["turn"])
    settling = rules.settle(record, outcome["turn"], merge=agent.merges)
    if live is not None and settling is not None:
        kept = await history.said(ctx, settling.keep)
        begun = [message for _, message in await history.said(ctx, settling.begin)]
        record, turn = settling.record, settling.dispatch
        record = await history.settle(ctx, record, live, outcome, kept, now)
        for x in (*settling.keep, *settling.begin):
            ctx.clear(history.steered_key(x.number))
        if turn is not None:
            record = history.begin(ctx, record, turn, begun, now)
        effects.store(ctx, record)
        if turn is not None:
            await effects.begin(agent, ctx, record, turn, begun)
        if settling.heir is not None:
            effects.send(ctx, agent.name, "recover", {"turn": settling.heir})
    for turn in settlement.get("ended", []):
        if record.find(turn) is not None:  # its own report went missing
            effects.send(ctx, agent.name, "recover", {"turn": turn})


async def on_take(_: Settings, ctx: ObjectContext, body: Any) -> list[history.Said]:
    """For a task: the steered messages that wait for it, each of them once."""
    turn, waited, begins = checked(_told.taking, body)
    record = await effects.load(ctx)
    if record is None:
        return []
    after, taken = rules.take(record, turn, waited=waited, begins=begins)
    said = await history.said(ctx, taken)
    if after != record:
        effects.store(ctx, after)
    return said


async def on_give_up(agent: Settings, ctx: ObjectContext, body: Any) -> None:
    """For a task: it has waited out `cleanup_timeout` for these turns; nobody else is to."""
    turns = checked(_told.turns, body)
    record = await effects.find_lost(agent, ctx, await effects.load(ctx))
    step = rules.give_up(record, turns) if record is not None else None
    if step is not None and step.give_up:
        carry_out(ctx, step)


async def on_recover(agent: Settings, ctx: ObjectSharedContext, body: Any) -> None:
    """For the object: settle a turn on behalf of a task that is over and did not report."""
    turn = checked(_told.turn, body)
    record = await effects.load(ctx)
    if record is not None and record.find(turn) is not None:
        await effects.outcome(agent, ctx, record, turn)


async def on_get_cause(_: Settings, ctx: ObjectSharedContext, body: Any) -> str:
    """For a task: why its turn was cancelled."""
    turn = checked(_told.turn, body)
    record = await effects.load(ctx)
    live = record.find(turn) if record is not None else None
    return live.cancelled or "cancelled" if live is not None else "cancelled"


async def on_load(_: Settings, ctx: ObjectSharedContext, __: Any) -> bytes:
    """For a task: what is stored of the session, as it is stored, to be read by the task."""
    return (await history.Stored.load(ctx)).pack()


async def on_adopt(_: Settings, ctx: ObjectContext, body: Any) -> None:
    """For `fork`: begin this session with the turns of another."""
    copy = checked(_told.copy, body)
    if await effects.load(ctx) is not None:
        raise TerminalError("session: there is one of this key already. Choose another.", 412)
    record = effects.new_record(ctx)._replace(next=copy.next, forked_from=copy.origin)
    effects.store(ctx, history.adopt(ctx, record, copy.turns))
