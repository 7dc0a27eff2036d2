"""What changes what is pending, and answers what a turn waits for: public handlers."""

import json
from typing import Any, Final, cast

from restate import ObjectContext, TerminalError

from interruptible._session import approvals, approving, effects, pending, storage
from interruptible._session.effects import Settings, carry_out
from interruptible._session.pending import Pending
from interruptible._session.public import receipt_of
from interruptible._session.reading import read_steered
from interruptible._session.record import Record, Refused
from interruptible._session.rules import Step
from interruptible._session.storage import JSON
from interruptible._task.signals import approval_signal
from interruptible._wire import requests
from interruptible._wire import types as wire
from interruptible._wire.said import id_of, said_again
from interruptible._wire.text import brief


async def on_withdraw(
    agent: Settings, ctx: ObjectContext, fields: requests.WithdrawIn
) -> wire.Withdrawn:
    """Take back a message that no model has read; a turn that has no other does not begin."""
    record = await effects.known(agent, ctx)
    message = _require_pending(record, fields["message"])
    said, turn = await _read_pending(ctx, record, message)
    step = pending.withdraw_step(record, message, others=_has_others(turn))
    turn["withdrawn"] = [*turn.get("withdrawn", []), said]
    if len(json.dumps(turn["withdrawn"])) > MAX_WITHDRAWN:
        turn["withdrawn"][-1] = {**said, "content": brief(said["content"])}
    step = _take_out(ctx, step, message, turn)
    after = await carry_out(agent, ctx, step._replace(changed=True))
    storage.clear_steered(ctx, after, [message.addition])
    return {"withdrawn": message.id}


async def on_replace(
    agent: Settings, ctx: ObjectContext, fields: requests.ReplaceIn
) -> wire.Receipt:
    """Say something else in a message that no model has read; its place and its id stay."""
    instead = requests.user_message(fields["content"], agent.max_content)
    record = await effects.known(agent, ctx)
    message = _require_pending(record, fields["message"])
    said, turn = await _read_pending(ctx, record, message)
    new = said_again(instead, said)
    step = Step(record, message.id, changed=True)
    if message.addition is not None:
        ctx.set(storage.steered_key(message.addition.number), new, serde=JSON)
    else:
        turn["input"] = [new if id_of(x) == message.id else x for x in turn["input"]]
        step = step._replace(record=storage.change_turn(ctx, record, turn))
    after = await carry_out(agent, ctx, step)
    return _receipt(after, step)


async def on_promote(
    agent: Settings, ctx: ObjectContext, fields: requests.PromoteIn
) -> wire.Receipt:
    """Have a message that no model has read answered next, or steered at the turn at work."""
    policy, now = fields["policy"], fields.get("now", False)
    requests.check_policy(policy, agent.allowed_policies)
    requests.check_now(fields, policy)
    record, when = await effects.known_now(agent, ctx)
    message = _require_pending(record, fields["message"])
    said, turn = await _read_pending(ctx, record, message)
    if policy == "steer":
        step = pending.steer_step(record, message, now=now, others=_has_others(turn))
        if step.steer is not None:
            step = _take_out(ctx, step, message, turn)
        after = await carry_out(agent, ctx, step, [said])
        storage.clear_steered(ctx, after, [message.addition])
        return _receipt(after, step._replace(cancel=()))  # what is left empty was not interrupted
    # What only the record calls live gets no message.
    waits = tuple(x for x in record.live if x.can_change)
    looked = await effects.look(agent, ctx, record._replace(live=waits))
    over = {x.turn for x, end in looked if end is not None and not end.unknown}
    if message.turn in over:
        raise TerminalError(f"message: its turn {message.turn} has ended.", 412)
    stored = {x.turn: await storage.live_turn(ctx, record, x.turn) for x in waits}
    fixed = [number for number, x in stored.items() if "resumes" in x]
    step, moves = pending.run_next_step(record, message, over=over, fixed=fixed)
    begun: list[wire.Message] = []
    for to, source in moves:
        content: dict[str, Any] = {"input": [said], "accepted_at": when.at}
        if isinstance(source, int):
            content = {name: x for name, x in stored[source].items() if name in content}
        if to in stored:
            changed = cast("wire.Turn", {**stored[to], **content})
            step = step._replace(record=storage.change_turn(ctx, step.record, changed))
        else:
            begun, when = content["input"], when._replace(at=content["accepted_at"])
    after = await carry_out(agent, ctx, step._replace(changed=True), begun, when)
    storage.clear_steered(ctx, after, [message.addition])
    return _receipt(after, step)


async def on_answer(
    agent: Settings, ctx: ObjectContext, fields: requests.AnswerIn
) -> wire.Answered:
    """Answer what a turn waits for, once."""
    record = await effects.known(agent, ctx)
    found = approvals.find_approval(record, fields["approval"])
    if not isinstance(found, Refused):
        live = record.find(found.turn)
        assert live is not None  # noqa: S101
        [(live, end)] = await effects.look(agent, ctx, record._replace(live=(live,)))
        if end is None or end.unknown:
            answer = {name: fields.get(name) for name in ("approved", "reason", "value")}
            signal = approval_signal(found.number)
            # First: killed in between, a session must not believe in an answer it never sent.
            ctx.resolve_signal(cast("str", live.task_id), signal, answer, serde=JSON)
            approving.close_approval(agent, ctx, record, found)
            return {"answered": found.id}
        found = approvals.is_over(found.id)
    raise TerminalError(found.reason, found.status)


MAX_WITHDRAWN: Final = 1024 * 1024
"""Bytes of what was withdrawn from a turn that are kept whole; of the rest, how it begins."""


def _require_pending(record: Record, message: int) -> Pending:
    found = pending.find_pending(record, message)
    if isinstance(found, Refused):
        raise TerminalError(found.reason, found.status)
    return found


async def _read_pending(
    ctx: ObjectContext, record: Record, message: Pending
) -> tuple[wire.Message, wire.Turn]:
    """What a message says, and the stored record of its turn, to be changed."""
    turn: wire.Turn = {**await storage.live_turn(ctx, record, message.turn)}
    if message.addition is not None:
        found = [said for _, said in await read_steered(ctx, [message.addition])]
    else:
        found = [x for x in turn["input"] if id_of(x) == message.id]
    if not found:  # a handler that moved it was killed
        raise TerminalError(f"message: what {message.id} says is on record no more.", 404)
    return found[0], turn


def _has_others(turn: wire.Turn) -> bool:
    """Whether a turn has more than its messages that have an id: some are of an earlier version."""
    return "resumes" in turn or any(not id_of(x) for x in turn["input"])


def _take_out(ctx: ObjectContext, step: Step, message: Pending, turn: wire.Turn) -> Step:
    """A message is its turn's no more, in what is stored of that."""
    turn["input"] = [x for x in turn["input"] if id_of(x) != message.id]
    return step._replace(record=storage.change_turn(ctx, step.record, turn))


def _receipt(record: Record, step: Step) -> wire.Receipt:
    """What became of a message that was pending."""
    turn = record.turn_of(step.message)
    assert turn is not None  # noqa: S101
    added = next((x for x in record.untaken if (x.id, x.turn) == (step.message, turn)), None)
    if added is not None:
        status = "joined" if added.joined else "steered"
    else:
        status = "waiting" if record.before(turn) else "running"
    return receipt_of(record, turn, status, step, step.discard)
