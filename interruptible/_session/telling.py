"""What the object tells those who follow a session, if the agent streams."""

from typing import Any

from restate import ObjectContext

from interruptible._session.record import Asked
from interruptible._session.rules import Step
from interruptible._session.storage import compact
from interruptible._task.body import AgentBody
from interruptible._wire import types as wire


def tell_followers(agent: AgentBody, ctx: ObjectContext, step: Step) -> None:
    """Tell those who follow the session what has changed by a step, if the agent streams."""
    if agent.stream is None:
        return
    turn, events = step.record.next - 1, list[dict[str, Any]]()
    if step.discard:
        events.append({"type": "discarded", "turns": [*step.discard]})
    if changes_pending(step):
        events.append({"type": "pending"})
    if len(step.discard) > wire.MAX_TURNS:  # who follows had better read what there is
        tell_stream(agent, ctx, "note", {"turn": turn, "events": events[1:], "anew": True})
    elif events:
        tell_stream(agent, ctx, "note", {"turn": turn, "events": events})


def changes_pending(step: Step) -> bool:
    """Whether a step changes what is pending: messages that no model has read yet."""
    record = step.record
    waits = step.dispatch is not None and bool(record.before(step.dispatch))
    queued = any(record.before(x.turn) for x in step.cancel)
    return step.changed or step.steer is not None or bool(step.watch) or waits or queued


def tell_stream(agent: AgentBody, ctx: ObjectContext, handler: str, body: Any) -> None:
    """Send something to the session's stream."""
    ctx.generic_send(f"{agent.name}Stream", handler, compact(body), key=ctx.key())


def tell_approval(agent: AgentBody, ctx: ObjectContext, approval: Asked, **more: Any) -> None:
    """Tell those who follow the session what becomes of an approval, if the agent streams."""
    if agent.stream is not None:
        event = {"type": "approval", "approval": approval.id, **more}
        tell_stream(agent, ctx, "note", {"turn": approval.turn, "events": [event]})
