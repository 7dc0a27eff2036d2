"""One agent's task sends a message to another agent, and takes it along when it is interrupted."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import restate
from restate import Context, RestateDurableFuture, SendHandle

from interruptible._cancellation import Interrupted, Watch, shield
from interruptible._history import JSON
from interruptible._outcome import ending, plain, settle
from interruptible._types import Outcome, Policy, Receipt


async def answer(ctx: Context, sent: SendHandle) -> Any:
    """What a one-way send is answered, whatever cancellations arrive meanwhile.

    A cancellation would break off a *call*, shielded or not, with nobody knowing what it had done.
    It does not reach what was sent one-way, and an attach can be shielded.
    """
    invocation_id = await shield(sent.invocation_id())
    return await shield(ctx.attach_invocation(invocation_id, serde=JSON))


async def send(
    ctx: Context,
    agent: str,
    session: str,
    content: str | Sequence[Mapping[str, Any]],
    policy: Policy | None,
    key: str,
) -> Receipt:
    """Send a message, and learn what became of it although this invocation is cancelled.

    Args:
        ctx: The context of the handler that sends.
        agent: The other agent's name.
        session: Its session.
        content: What to say.
        policy: What that does to a turn that is live there.
        key: The message's idempotency key.
    """
    body: dict[str, Any] = {"content": content}
    if policy is not None:
        body["policy"] = policy
    arg = json.dumps(body).encode()
    sent = ctx.generic_send(agent, "message", arg, key=session, idempotency_key=key)
    return cast("Receipt", await answer(ctx, sent))


async def follow(ctx: Context, watch: Watch, agent: str, session: str, receipt: Receipt) -> Outcome:
    """Wait for a turn of another agent; if this invocation is cancelled, cancel it and still wait.

    Raises:
        Interrupted: This invocation was cancelled, and that turn has ended, its cleanup included.
    """
    task: RestateDurableFuture[Any] = ctx.attach_invocation(receipt["task_id"], serde=JSON)
    turn = receipt["turn"]
    own = receipt["status"] in ("running", "waiting")  # not one that somebody else began
    with watch.unwinding():
        try:
            await restate.wait_completed(task)
        except Interrupted:
            if not own:
                raise
            body = {"turn": turn, "reason": "the agent that asked for it was interrupted"}
            ctx.generic_send(agent, "cancel", json.dumps(body).encode(), key=session)
            await shield(restate.wait_completed(task))
            raise
    end = await ending(ctx, turn, task)
    if not end.reported:
        settle(ctx, agent, session, end.outcome)
    return plain(end.outcome)
