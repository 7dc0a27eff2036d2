"""What the handlers of the object have in common: know the session, carry out what the rules say.

Reads come first, and between the first mutation and the last there is no await, but for the
invocation id of a new task; that one is shielded, as state set before a failure stays set. So who
is cancelled finds on record why, and what came instead.
"""

import functools
import json
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast

import restate
from restate import (
    ObjectContext,
    ObjectSharedContext,
    RestateDurableFuture,
    SendHandle,
    TerminalError,
)

from interruptible._cancel.shielding import shield
from interruptible._session import approving, rules, storage, stored_record
from interruptible._session.reading import Moment, at_hand, read_record
from interruptible._session.record import Live, Record
from interruptible._session.rules import Step
from interruptible._session.storage import JSON, compact
from interruptible._session.telling import tell_followers
from interruptible._task.body import AgentBody, Streaming
from interruptible._task.outcome import Ending, ending, known_ending, public_outcome
from interruptible._task.signals import STOP, cancelled_signal, given_up_signal, now_signal
from interruptible._wire.types import Dispatch, Message, Outcome, Policy, Settlement, Turn

AnyContext = ObjectContext | ObjectSharedContext


class Settings(AgentBody, Protocol):
    """What the handlers need of their agent."""

    allowed_policies: Sequence[Policy]
    keep_queued: bool
    max_content: int
    max_pending: int


def require(record: Record, turn: int) -> None:
    """Refuse a turn that there never was."""
    last = record.next - 1
    if not 1 <= turn <= last:
        known = f"its turns are 1 to {last}" if last else "it has no turns yet"
        raise TerminalError(f"turn: there is no turn {turn} in this session; {known}.", 404)


def require_message(record: Record, message: int) -> None:
    """Refuse a message that there never was."""
    if (refused := record.unknown(message)) is not None:
        raise TerminalError(refused.reason, refused.status)


def removed(turn: int) -> TerminalError:
    """The refusal of a turn that is on record no more."""
    return TerminalError(f"turn: {turn} was removed from this session.", 404)


# -- To know. --------------------------------------------------------------------------------------


async def known(agent: Settings, ctx: ObjectContext) -> Record:
    """The session's record, with the task ids that a killed `message` left unknown."""
    return await _with_ids(agent, ctx, await read_record(ctx))


class Arrival(NamedTuple):
    """When a request is worked on."""

    at: int
    """In milliseconds since 1970."""
    key: str | None = None
    """What publishes for the turn that it begins, if the agent streams."""


async def known_now(agent: Settings, ctx: ObjectContext) -> tuple[Record, Arrival]:
    """The same, and the time.

    Both are asked for at once, as each is a way to Restate and back. (`ctx.time()` needs a thread,
    of which users' steps that block may have taken all.)
    """
    stored = cast("RestateDurableFuture[Any]", ctx.get("session", serde=JSON))
    look = _time if agent.stream is None else functools.partial(_time_and_key, agent.stream)
    now: RestateDurableFuture[Any] = ctx.run_typed("time", look)
    await restate.gather(stored, now)
    record = stored_record.parse_record(await stored)
    at = await now
    record = await _with_ids(agent, ctx, record)
    return record, Arrival(at) if agent.stream is None else Arrival(*at)


async def look(
    agent: Settings, ctx: AnyContext, record: Record
) -> list[tuple[Live, Ending | None]]:
    """Ask for each live turn how its task ended, without waiting; `None` is: it did not.

    One that Restate does not know is taken for live, as what sends it may be under way.

    A call with the task's own idempotency key goes to the same partition as the attach before it,
    and is answered after it: if the attach has no answer by then, the task is not over.
    """
    asked: list[tuple[Live, RestateDurableFuture[Any], RestateDurableFuture[Any]]] = []
    for x in record.live:
        task_id = await _task_id(agent, ctx, record, x)
        task: RestateDurableFuture[Any] = ctx.attach_invocation(task_id, serde=JSON)
        key = _idempotency_key(ctx, record, x.turn)
        mark: RestateDurableFuture[Any] = ctx.generic_call(
            agent.task_name, "mark", b"", idempotency_key=key
        )
        asked.append((x._replace(task_id=task_id), task, mark))
    looked: list[tuple[Live, Ending | None]] = []
    for x, task, mark in asked:
        done, _ = await restate.wait_completed(task, mark)
        looked.append((x, await ending(ctx, x.turn, task) if task in done else None))
    return looked


async def recorded_outcome(
    agent: Settings, ctx: ObjectSharedContext, record: Record, turn: int
) -> Outcome:
    """Wait for a turn's outcome, and until the session has recorded it.

    So whoever has the outcome finds it in the history, and a task that did not report is settled.
    """
    live = record.find(turn)
    if live is not None:
        task_id = await _task_id(agent, ctx, record, live)
        task: RestateDurableFuture[Any] = ctx.attach_invocation(task_id, serde=JSON)
        end = await known_ending(ctx, turn, task_id, task)
        record = await read_record(ctx)
        if record.find(turn) is not None:
            settlement: Settlement = {"outcome": end.outcome}
            arg = json.dumps(settlement).encode()
            await ctx.generic_call(agent.name, "settle", arg, key=ctx.key())
            record = await read_record(ctx)
    recorded = await Moment(ctx, record).turn(turn)
    if recorded is None:
        raise removed(turn)
    return public_outcome(recorded)


# -- To carry out. ---------------------------------------------------------------------------------


async def carry_out(
    agent: Settings,
    ctx: ObjectContext,
    step: Step,
    messages: Sequence[Message] = (),
    now: Arrival | None = None,
    resumes: int | None = None,
) -> Record:
    """Carry out a step with the messages that are accepted; returns the record as it is then.

    What cancels and stops comes first: killed in between, a session must not believe in one it
    never sent.
    """
    turn = step.dispatch
    record, pages = await storage.mark_discarded(ctx, step.record, step.discard)
    key = None if now is None else now.key
    turns: list[Turn] | None = None
    if turn is not None and now is not None:
        record = storage.add_turn(ctx, record, turn, messages, now.at, resumes)
        turns = at_hand(record, turn)
        is_new = not record.older and storage.older_before(record) > 1
        if turns is None and agent.tells_all and is_new:
            record = record._replace(older=f"{ctx.random().getrandbits(32):08x}")
    for x in step.cancel:
        if x.task_id is not None:
            ctx.cancel_invocation(x.task_id)
    _tell(ctx, [(x.task_id, STOP) for x in step.stop])
    storage.write_pages(ctx, pages)
    if step.steer is not None:
        ctx.set(storage.steered_key(step.steer.number), messages[0], serde=JSON)
    stored_record.store_record(ctx, record)
    _tell_tasks(ctx, step)
    for watched in step.watch:
        send_recover(agent, ctx, watched)
    if turn is not None:
        # A short conversation is sent along, which spares a task two hops to load it; one that is
        # queued gets it when it has waited.
        live = record.find(turn)
        job: Dispatch = {"session": ctx.key(), "turn": turn, "input": list(messages), "after": []}
        if turns is not None and live is not None and not live.queued:
            job["turns"] = turns
        if key is not None:
            job["stream"] = key
        if resumes is not None:
            job["resumes"] = resumes
        handle = _dispatch(agent, ctx, record, job)
        tell_followers(agent, ctx, step)
        record = rules.note_task_id(record, turn, await shield(handle.invocation_id()))
        stored_record.store_record(ctx, record)
    else:
        tell_followers(agent, ctx, step)
    return record


def send_recover(agent: Settings, ctx: AnyContext, turn: int) -> None:
    """Have somebody settle a turn, should its task not report."""
    body = json.dumps({"turn": turn}).encode()
    ctx.generic_send(agent.name, "recover", body, key=ctx.key())


def _tell_tasks(ctx: ObjectContext, step: Step) -> None:
    """Tell tasks what has become of their own turn, and of those that they wait for."""
    told = list[tuple[str | None, str]]()
    if step.tell_now is not None:
        told.append((step.tell_now.task_id, now_signal(step.tell_now.nows)))
    ends = {x.turn for x in (*step.cancel, *step.stop)}
    for asked in step.record.approvals:
        if asked.turn in ends:
            approving.deny(ctx, step.record.find(asked.turn), asked.number)
    signals = [(x.turn, cancelled_signal(x.turn)) for x in step.cancel]
    signals += [(turn, given_up_signal(turn)) for turn in step.give_up]
    for turn, signal in signals:
        behind = (x for x in step.record.live if x.turn > turn and x.goes_on)
        told += [(x.task_id, signal) for x in behind]
    _tell(ctx, told)


def _tell(ctx: ObjectContext, told: Sequence[tuple[str | None, str]]) -> None:
    for task_id, signal in told:
        if task_id is not None:
            ctx.resolve_signal(task_id, signal, True, serde=JSON)  # noqa: FBT003


async def _time() -> int:
    return int(time.time() * 1000)


async def _time_and_key(stream: Streaming) -> list[Any]:
    return [await _time(), stream.new_key()]


async def _with_ids(agent: Settings, ctx: ObjectContext, record: Record) -> Record:
    for live in record.lost:
        task_id = await _task_id(agent, ctx, record, live)
        record = rules.note_task_id(record, live.turn, task_id)
    return record


async def _task_id(agent: Settings, ctx: AnyContext, record: Record, live: Live) -> str:
    """The id of a live turn's task.

    Where it is unknown, the task is sent once more: Restate answers with the same invocation.
    """
    if live.task_id is not None:
        return live.task_id
    turn = await storage.live_turn(ctx, record, live.turn)
    job: Dispatch = {
        "session": ctx.key(),
        "turn": live.turn,
        "input": turn["input"],
        "after": [],
    }
    if "resumes" in turn:
        job["resumes"] = turn["resumes"]
    return await _dispatch(agent, ctx, record, job).invocation_id()


def _dispatch(agent: Settings, ctx: AnyContext, record: Record, job: Dispatch) -> SendHandle:
    """Send a task, with what the record says of its turn and of those before it."""
    live = record.find(job["turn"])
    job["after"] = [
        {"turn": x.turn, "task_id": x.task_id, "cancelled": x.is_cut}
        for x in record.before(job["turn"])
        if x.task_id is not None
    ]
    if live is not None and live.queued:
        job["queued"] = True
    if "turns" not in job and at_hand(record, job["turn"]) is None:
        if "queued" in job:
            job["long"] = True
        if record.older and (before := storage.older_before(record)) > 1:
            job["older"] = (before, record.older)
    if record.forked_from is not None:
        job["forked_from"] = record.forked_from
    return ctx.generic_send(
        agent.task_name,
        "run_task",
        compact(job),
        idempotency_key=_idempotency_key(ctx, record, job["turn"]),
    )


def _idempotency_key(ctx: AnyContext, record: Record, turn: int) -> str:
    return f"{ctx.key()}/{record.epoch}/{turn}"
