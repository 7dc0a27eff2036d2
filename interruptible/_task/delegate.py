"""One agent's task sends a message to another agent, and takes it along when it is interrupted."""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from typing import Any, Final, cast

import restate
from restate import Context, InvocationRetryPolicy, RestateDurableFuture, SendHandle, TerminalError

from interruptible._cancel.watch import Interrupted, Watch, shield
from interruptible._session.storage import JSON
from interruptible._task.outcome import ending, plain, settle
from interruptible._wire.types import Outcome, Policy, Receipt

RETRY_POLICY: Final = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=100),
    exponentiation_factor=2.0,
    max_interval=timedelta(seconds=1.5),
    max_attempts=20,
    on_max_attempts="kill",
)
"""Of `relay`: about half a minute, in which the other agent may be registered."""


async def answer(ctx: Context, sent: SendHandle) -> Any:
    """What a one-way send is answered, whatever cancellations arrive meanwhile.

    A cancellation would break off a *call*, shielded or not, with nobody knowing what it had done.
    It does not reach what was sent one-way, and an attach can be shielded.
    """
    invocation_id = await shield(sent.invocation_id())
    return await shield(ctx.attach_invocation(invocation_id, serde=JSON))


async def send(
    ctx: Context,
    service: str,
    agent: str,
    session: str,
    content: str | Sequence[Mapping[str, Any]],
    policy: Policy | None,
    key: str,
) -> Receipt:
    """Send a message, and learn what became of it although this invocation is cancelled.

    Restate refuses a command to an agent that it does not know, and the attempt with it: a task
    that sent it itself could be neither told nor cancelled.

    Args:
        ctx: The context of the handler that sends.
        service: The service that relays it.
        agent: The other agent's name.
        session: Its session.
        content: What to say.
        policy: What that does to a turn that is live there.
        key: The message's idempotency key.

    Raises:
        TerminalError: The other agent refuses it; 404 when there is no such agent.
    """
    message: dict[str, Any] = {"content": content}
    if policy is not None:
        message["policy"] = policy
    job = {"agent": agent, "session": session, "message": message, "key": key}
    # With a key, as the answer is to be kept until it is asked for.
    sent = ctx.generic_send(service, "relay", json.dumps(job).encode(), idempotency_key=key)
    try:
        return cast("Receipt", await answer(ctx, sent))
    except TerminalError as error:
        if not (error.status_code == 500 and "was not found" in error.message):  # noqa: PLR2004
            raise
        raise TerminalError(
            f"There is no agent {agent} that takes messages. Register the services of the agent, "
            "or correct its name.",
            404,
        ) from None


async def relay(ctx: Context, job: Any) -> Receipt:
    """For a task: send a message to another agent, and answer what that answers."""
    arg = json.dumps(job["message"]).encode()
    key, session = job["key"], job["session"]
    answered = await ctx.generic_call(
        job["agent"], "message", arg, key=session, idempotency_key=key
    )
    return cast("Receipt", json.loads(answered))


async def follow(ctx: Context, watch: Watch, agent: str, session: str, receipt: Receipt) -> Outcome:
    """Wait for a turn of another agent; if this one is interrupted or fails, cancel it and wait.

    Raises:
        Interrupted: This invocation was cancelled, and that turn has ended, its cleanup included.
    """
    task: RestateDurableFuture[Any] = ctx.attach_invocation(receipt["task_id"], serde=JSON)
    turn = receipt["turn"]
    own = receipt["status"] in ("running", "waiting")  # not one that somebody else began
    is_cut = False

    def cut() -> None:
        nonlocal is_cut
        if not is_cut:
            is_cut = True
            did = "was interrupted" if watch.cancelled else "failed"
            body = {"turn": turn, "reason": f"the agent that asked for it {did}"}
            ctx.generic_send(agent, "cancel", json.dumps(body).encode(), key=session)

    with watch.unwinding(cut) if own else nullcontext():
        try:
            await restate.wait_completed(task)
        except Interrupted:
            if own:
                cut()
                await shield(restate.wait_completed(task))
            raise
    end = await ending(ctx, turn, task)
    if not end.reported:
        settle(ctx, agent, session, end.outcome)
    return plain(end.outcome)
