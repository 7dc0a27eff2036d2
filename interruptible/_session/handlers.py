"""The handlers of the agent's virtual object that every turn goes through."""

from typing import Any

from restate import ObjectContext, ObjectSharedContext, TerminalError

from interruptible._session import effects, history, rules
from interruptible._session.effects import Settings, carry_out, checked, require
from interruptible._session.history import JSON
from interruptible._session.rules import Live, Record
from interruptible._wire import told as _told
from interruptible._wire.native import neutral
from interruptible._wire.requests import ATTACH_IN, CANCEL_IN, NOTHING_IN, message_in
from interruptible._wire.types import (
    Cancelled,
    LiveTurn,
    Message,
    Outcome,
    Receipt,
    Status,
)


async def message(agent: Settings, ctx: ObjectContext, body: Any) -> Receipt:
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


async def cancel(agent: Settings, ctx: ObjectContext, body: Any) -> Cancelled:
    """Cancel everything live, or one turn; what is over already is no error."""
    asked = checked(CANCEL_IN, body)
    turn = asked.get("turn")
    record = await effects.find_lost(agent, ctx, await effects.load(ctx))
    if turn is not None:
        require(record, turn)
    if record is None:
        return {"cancelled": []}
    step = rules.cancel(record, turn, asked.get("reason"))
    if step.cancel:
        carry_out(ctx, step)
    return {"cancelled": [x.turn for x in step.cancel]}


async def attach(agent: Settings, ctx: ObjectSharedContext, body: Any) -> Outcome:
    """Wait for the outcome of a turn, by default the newest."""
    turn = checked(ATTACH_IN, body).get("turn")
    record = await effects.load(ctx)
    if turn is None:
        turn = record.next - 1 if record is not None else 1
    record = require(record, turn)
    if record.find(turn) is None:
        return await effects.recorded(ctx, record, turn)
    return await effects.outcome(agent, ctx, record, turn)


async def get_history(agent: Settings, ctx: ObjectSharedContext, body: Any) -> list[Message]:
    """The conversation: what was said and put out, in the order of the turns."""
    checked(NOTHING_IN, body)
    record = await effects.load(ctx)
    if record is None:
        return []
    instead = "Read the conversation with get_turns, which gives it in parts."
    most = history.MAX_ANSWER
    turns = await effects.every(ctx, record, record.next - 1, most, instead)
    return history.conversation(map(neutral, turns), agent.interruption_note)


async def get_status(agent: Settings, ctx: ObjectSharedContext, body: Any) -> Status:
    """Whether the session is at work, and on what.

    The record alone would call a turn live whose task was killed, so each task is asked for.
    """
    checked(NOTHING_IN, body)
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


def _shown(x: Live) -> LiveTurn:
    shown: LiveTurn = {"turn": x.turn, "task_id": x.task_id, "cancelled": x.cancelled}
    if x.given_up:
        shown["given_up"] = True
    return shown


# -- Those that only tasks and the object itself call. ---------------------------------------------


async def load(_: Settings, ctx: ObjectSharedContext, __: Any) -> bytes:
    """For a task: what is stored of the session, as it is stored, to be read by the task."""
    return (await history.Stored.load(ctx)).pack()


async def take(_: Settings, ctx: ObjectContext, body: Any) -> list[history.Said]:
    """For a task: the steered messages that wait for it, each of them once."""
    asked = checked(_told.taking, body)
    record = await effects.load(ctx)
    if record is None:
        return []
    after, taken = rules.take(record, asked["turn"], waited=asked["waited"], begins=asked["begins"])
    said = await history.said(ctx, taken)
    if after != record:
        effects.store(ctx, after)
    return said


async def get_cause(_: Settings, ctx: ObjectSharedContext, body: Any) -> str:
    """For a task: why its turn was cancelled."""
    turn = checked(_told.turn, body)["turn"]
    record = await effects.load(ctx)
    live = record.find(turn) if record is not None else None
    return live.cancelled or "cancelled" if live is not None else "cancelled"


async def settle_turn(agent: Settings, ctx: ObjectContext, body: Any) -> None:
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


async def give_up(agent: Settings, ctx: ObjectContext, body: Any) -> None:
    """For a task: it has waited out `cleanup_timeout` for these turns; nobody else is to."""
    turns = checked(_told.turns, body)["turns"]
    record = await effects.find_lost(agent, ctx, await effects.load(ctx))
    step = rules.give_up(record, turns) if record is not None else None
    if step is not None and step.give_up:
        carry_out(ctx, step)


async def recover(agent: Settings, ctx: ObjectSharedContext, body: Any) -> None:
    """For the object: settle a turn on behalf of a task that is over and did not report."""
    turn = checked(_told.turn, body)["turn"]
    record = await effects.load(ctx)
    if record is not None and record.find(turn) is not None:
        await effects.outcome(agent, ctx, record, turn)
