"""How approvals come to their end: what tells the task, and what is stored then."""

from restate import ObjectContext

from interruptible._session import approvals, storage, stored_record
from interruptible._session.record import Asked, Live, Record
from interruptible._session.storage import JSON
from interruptible._session.telling import tell_approval
from interruptible._task.body import AgentBody
from interruptible._task.signals import approval_signal


def deny(ctx: ObjectContext, live: Live | None, number: int) -> None:
    """Answer an approval of a turn that is cancelled: shielded code may wait for it."""
    if live is not None and live.task_id is not None:
        answer = {"approved": False, "reason": live.cancelled}
        ctx.resolve_signal(live.task_id, approval_signal(number), answer, serde=JSON)


def close_approval(agent: AgentBody, ctx: ObjectContext, record: Record, approval: Asked) -> None:
    """Let nobody answer an approval any more."""
    ctx.clear(storage.approval_key(approval.id))
    stored_record.store_record(ctx, approvals.close_step(record, approval))
    tell_approval(agent, ctx, approval, state="over")
