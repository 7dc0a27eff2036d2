"""What only tasks, their reports and other sessions call: the private handlers of the object."""

from collections.abc import Sequence
from typing import Any

from restate import ObjectContext, ObjectSharedContext, TerminalError

from interruptible._session import (
    approvals,
    approving,
    effects,
    rules,
    storage,
    stored_record,
    telling,
)
from interruptible._session.effects import Settings, carry_out
from interruptible._session.reading import Moment, at_hand, read_record, read_steered
from interruptible._session.record import Record
from interruptible._session.sent import Stored
from interruptible._session.turns import Added, finished_turn
from interruptible._task.signals import BEGIN
from interruptible._wire import reports
from interruptible._wire.types import Settlement, Turn


async def on_load(_: Settings, ctx: ObjectSharedContext, fields: reports.Loading) -> bytes:
    """For a task: what is stored of the session, as it is stored, to be read by the task.

    It is all of it, or the latest turns between two, up to so many bytes.
    """
    return (await Stored.copy(ctx, **fields)).pack()


async def on_take(agent: Settings, ctx: ObjectContext, fields: reports.Taking) -> list[Added]:
    """For a task: the steered messages that wait for it, each of them once."""
    turn, waited = fields["turn"], fields["waited"]
    record = await read_record(ctx)
    after, taken = rules.hand_out(record, turn, waited=waited, begins=fields["begins"])
    said = await read_steered(ctx, taken)
    if after != record:
        stored_record.store_record(ctx, after)
    if waited and taken and any(x.turn < turn for x in record.untaken):
        effects.send_recover(
            agent, ctx, turn
        )  # as what inherits is watched, before more is steered at it
    return said


async def on_quiet(agent: Settings, ctx: ObjectContext, fields: reports.Quiet) -> Any:
    """For a task: whether its quiet window is over; a turn that need not wait begins then."""
    turn, seen = fields["turn"], fields["seen"]
    record = await read_record(ctx)
    after, newest = rules.quiet_step(record, turn, seen=seen)
    live = after.find(turn)
    if newest > seen:
        return {"seen": newest}
    if live is None or not live.queued:
        begins = await _begun(agent, ctx, after, turn)
        begins.pop("turns", None)  # it has them, or loads them
        return begins
    if after != record:
        stored_record.store_record(ctx, after)
    return {"seen": seen, "quiet": True}


async def on_begin(agent: Settings, ctx: ObjectContext, fields: reports.OneTurn) -> Any:
    """For a task that has waited: what it begins with, which does not change from here on.

    It may have begun as the turn before was settled, and what told it so may be under way.
    """
    turn = fields["turn"]
    record = await read_record(ctx)
    live = record.find(turn)
    if live is not None and live.goes_on and not live.queued:
        said = await read_steered(ctx, record.began_with(turn))
        return _begins(record, await storage.live_turn(ctx, record, turn), said)
    return await _begun(agent, ctx, record, turn)


async def _begun(agent: Settings, ctx: ObjectContext, record: Record, turn: int) -> Any:
    if not record.goes_on(turn):
        return {"cancelled": True}
    after, taken = rules.begin_step(record, turn)
    said = await read_steered(ctx, taken)
    own = await storage.live_turn(ctx, record, turn)
    stored_record.store_record(ctx, after)
    if any(x.turn < turn for x in record.untaken):
        effects.send_recover(agent, ctx, turn)  # as what inherits is watched
    return _begins(after, own, said)


def _begins(record: Record, own: Turn, said: Sequence[Added]) -> Any:
    """What a turn begins with: its messages, and the conversation if it is short."""
    begins = {"input": own["input"], "said": said}
    turns = at_hand(record, own["turn"])
    return begins if turns is None else {**begins, "turns": turns}


async def on_ask_approval(agent: Settings, ctx: ObjectContext, asking: reports.Asking) -> None:
    """For a task: it may not go on with something before somebody has said yes."""
    record, now = await effects.known_now(agent, ctx)
    after, asks = approvals.ask_step(record, asking["turn"], asking["number"])
    if asks is not None:
        what: dict[str, Any] = {"title": asking["title"]}
        if "value" in asking:
            what["value"] = asking["value"]
        if "within" in asking:
            what["until"] = now.at + asking["within"]
        ctx.set(storage.approval_key(asks.id), what, serde=storage.JSON)
        stored_record.store_record(ctx, after)
        telling.tell_approval(agent, ctx, asks, state="waits", title=asking["title"])
    else:  # the turn is cancelled, and what asks is shielded: nobody else would answer it
        approving.deny(ctx, record.find(asking["turn"]), asking["number"])


async def on_close_approval(agent: Settings, ctx: ObjectContext, fields: reports.Closing) -> bool:
    """For a task: nobody is to answer an approval any more; says whether somebody has."""
    mine = (fields["turn"], fields["number"])
    record = await effects.known(agent, ctx)
    waits = next((x for x in record.approvals if (x.turn, x.number) == mine), None)
    if waits is not None:
        approving.close_approval(agent, ctx, record, waits)
    return waits is None


async def on_get_cause(_: Settings, ctx: ObjectSharedContext, fields: reports.OneTurn) -> str:
    """For a task: why its turn was cancelled."""
    live = (await read_record(ctx)).find(fields["turn"])
    return (live.cancelled if live is not None else None) or "cancelled"


async def on_settle(agent: Settings, ctx: ObjectContext, settlement: Settlement) -> None:
    """For a task: record a turn's outcome, in its own slot and once."""
    outcome = settlement["outcome"]
    record, now = await effects.known_now(agent, ctx)
    step = rules.settle_step(record, outcome["turn"], merge=agent.merges)
    if step is not None:
        kept = await read_steered(ctx, step.keep)
        begun = [message for _, message in await read_steered(ctx, step.begin)]
        turn = await Moment(ctx, record).turn(outcome["turn"])
        assert turn is not None  # noqa: S101
        ended: Turn = {**finished_turn(turn, outcome, kept), "ended_at": now.at}
        # Who waits for quiet, too, begins when it says so.
        waits = step.record.next_to_begin if agent.debounce is None else None
        begins: Turn | None = None
        if waits is not None:
            changed, taken = rules.begin_step(step.record, waits)
            if not taken:  # else it asks: one that was killed as it waited takes nothing along
                step = step._replace(record=changed)
                begins = await storage.live_turn(ctx, changed, waits)
        before, record = record, await storage.put_turns(ctx, step.record, [ended])
        after = await carry_out(agent, ctx, step._replace(record=record), begun, now)
        if waits is not None:
            _tell_begin(ctx, after, waits, begins)
        storage.clear_steered(ctx, after, (*step.keep, *step.begin))
        for approval in before.approvals:
            if approval not in step.record.approvals:
                ctx.clear(storage.approval_key(approval.id))
        if agent.stream is not None:
            told = {"turn": ended["turn"], "status": ended["status"]}
            told["messages"] = len(ended["messages"])
            telling.tell_stream(agent, ctx, "end", told)
    for number in settlement.get("ended", []):
        if record.find(number) is not None:  # its own report went missing
            effects.send_recover(agent, ctx, number)


def _tell_begin(ctx: ObjectContext, record: Record, turn: int, own: Turn | None) -> None:
    """Tell a task what it begins with, as it is stored; or to ask, where that is not for us to say.

    It spares the task the way to the session, on which it would be told the same.
    """
    live = record.find(turn)
    if live is not None and live.task_id is not None:
        told = {"asks": True} if own is None else _begins(record, own, ())
        ctx.resolve_signal(live.task_id, BEGIN, told, serde=storage.JSON)


async def on_recover(agent: Settings, ctx: ObjectSharedContext, fields: reports.OneTurn) -> None:
    """For the object: settle a turn on behalf of a task that is over and did not report."""
    turn = fields["turn"]
    record = await read_record(ctx)
    if record.find(turn) is not None:
        await effects.recorded_outcome(agent, ctx, record, turn)


async def on_give_up(agent: Settings, ctx: ObjectContext, fields: reports.SomeTurns) -> None:
    """For a task: it has waited out `cleanup_timeout` for these turns; nobody else is to."""
    step = rules.give_up_step(await effects.known(agent, ctx), fields["turns"])
    if step.give_up:
        await carry_out(agent, ctx, step)


async def on_adopt(_: Settings, ctx: ObjectContext, copy: reports.Copy) -> None:
    """For `fork`: begin this session with the turns of another."""
    if (await read_record(ctx)).epoch:
        raise TerminalError("session: there is one of this key already. Choose another.", 412)
    record = stored_record.new_record(ctx)._replace(
        next=copy["next"], forked_from=copy["from"], messages=copy.get("messages", 0)
    )
    stored_record.store_record(ctx, await storage.put_turns(ctx, record, copy["turns"]))
