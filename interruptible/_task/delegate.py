"""One agent's task sends a message to another agent, and takes it along when it is interrupted."""

import functools
import json
from datetime import timedelta
from typing import Any, Final, Protocol

import restate
from restate import Context, InvocationRetryPolicy, RestateDurableFuture, SendHandle, TerminalError

from interruptible._cancel.shielding import shield
from interruptible._cancel.steered import Steered
from interruptible._cancel.watch import Interrupted
from interruptible._session.storage import JSON
from interruptible._task.attempt import Attempt
from interruptible._task.outcome import known_ending, outcome_of, public_outcome
from interruptible._wire.output import stored
from interruptible._wire.text import mended
from interruptible._wire.types import Outcome, Policy, Receipt, TakenBack

RELAY_RETRY_POLICY: Final = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=100),
    exponentiation_factor=2.0,
    max_interval=timedelta(seconds=1.5),
    max_attempts=20,
    on_max_attempts="kill",
)
"""Of `relay`: about half a minute, in which the other agent may be registered."""


class Named(Protocol):
    """An agent, of which only the name is needed."""

    @property
    def name(self) -> str: ...


async def answer_to(ctx: Context, sent: SendHandle) -> Any:
    """What a one-way send is answered, whatever cancellations arrive meanwhile.

    A cancellation would break off a *call*, shielded or not, with nobody knowing what it had done.
    It does not reach what was sent one-way, and an attach can be shielded.
    """
    invocation_id = await shield(sent.invocation_id())
    return await shield(ctx.attach_invocation(invocation_id, serde=JSON))


async def send_message(
    attempt: Attempt, agent: str, session: str, content: Any, policy: Policy | None
) -> Receipt:
    """Have a message relayed, and learn what became of it although this turn is cancelled.

    Restate refuses a command to an agent that it does not know, and the attempt with it: a task
    that sent it itself could be neither told nor cancelled.

    Raises:
        TerminalError: The other agent refuses it; 404 when there is no such agent.
    """
    if mended(session) != session:
        raise TerminalError("session: has half a surrogate pair, which is no text.", 400)
    ctx, service = attempt.ctx, attempt.body.task_name
    if attempt.watch.stops:  # what follows is shielded; nothing is to begin
        await ctx.sleep(timedelta(0), "stops")
    attempt.delegated += 1
    key = f"{ctx.request().id}/{attempt.delegated}"
    message = {"content": stored(content), **({} if policy is None else {"policy": policy})}
    job = {"agent": agent, "session": session, "message": message}
    # With a key, as the answer is to be kept until it is asked for.
    sent = ctx.generic_send(service, "relay", json.dumps(job).encode(), idempotency_key=key)
    try:
        receipt: Receipt = await answer_to(ctx, sent)
    except TerminalError as error:
        if not (error.status_code == 500 and "was not found" in error.message):  # noqa: PLR2004
            raise
        raise TerminalError(
            f"There is no agent {agent} that takes messages. Register the services of the agent, "
            "or correct its name.",
            404,
        ) from None
    return receipt


async def relay(ctx: Context, job: Any) -> Any:
    """For a task: send a message to another agent, and answer what that answers."""
    arg = json.dumps(job["message"]).encode()
    return json.loads(await ctx.generic_call(job["agent"], "message", arg, key=job["session"]))


async def await_outcome(attempt: Attempt, agent: str, session: str, receipt: Receipt) -> Outcome:
    """Wait for a turn of another agent; if this one is interrupted or fails, cancel it and wait.

    If this one is to stop once what is in flight has come, so is that one, as it is in flight.

    Raises:
        Interrupted: This invocation was cancelled, and that turn has ended, its cleanup included.
    """
    ctx, watch, turn = attempt.ctx, attempt.watch, receipt["turn"]
    waits = receipt["status"] == "waiting"
    task_id, named = receipt["task_id"], {"turn": turn}
    if waits:  # somebody may promote a message meanwhile, and another turn then answers this one
        named = {"message": receipt["message"]}
        asked = json.dumps(named).encode()
        sent = ctx.generic_send(agent, "attach", asked, key=session)
        task_id = await shield(sent.invocation_id())
    task: RestateDurableFuture[Any] = ctx.attach_invocation(task_id, serde=JSON)
    steered: list[BaseException] = []

    @functools.cache  # it is cancelled once, whoever is the first to notice
    def cut() -> None:
        did = "was interrupted" if watch.cancelled else "failed" if not steered else "was steered"
        body = {**named, "reason": f"the agent that asked for it {did}"}
        ctx.generic_send(agent, "cancel", json.dumps(body).encode(), key=session)
        if waits:  # it may have been steered at another turn, and not be read yet
            ctx.generic_send(agent, "withdraw", json.dumps(named).encode(), key=session)

    def stop() -> None:
        reason = "the agent that asked for it was told to stop"
        body = {**named, "after_step": True, "reason": reason}
        ctx.generic_send(agent, "cancel", json.dumps(body).encode(), key=session)

    if receipt["status"] in ("running", "waiting"):  # not one that somebody else began
        with watch.waited_for(cut, stop, task):
            try:
                await restate.wait_completed(task)
            except (Interrupted, Steered) as error:
                steered += [error] if isinstance(error, Steered) else []
                cut()
                await shield(restate.wait_completed(task))
                raise
    if waits:
        outcome: Outcome | TakenBack = await task
        if outcome["status"] == "withdrawn":
            raise TerminalError(f"message: {receipt['message']} was withdrawn.", 410)
        return outcome
    end = await known_ending(ctx, turn, task_id, task)
    return public_outcome(outcome_of(ctx, agent, session, end))
