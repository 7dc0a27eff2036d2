"""What the handlers of the object have in common: read the record, carry out what the rules say.

Reads come first, and between the first mutation and the last there is no await, but for the
invocation id of a new task; that one is shielded, as state set before a failure stays set.
"""

import json
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol, TypeVar, cast

import restate
from restate import (
    ObjectContext,
    ObjectSharedContext,
    RestateDurableFuture,
    SendHandle,
    TerminalError,
)

from interruptible._cancel.watch import shield
from interruptible._session import history, rules
from interruptible._session.history import JSON
from interruptible._session.rules import Live, Record, Step
from interruptible._task.outcome import Ending, ending, plain
from interruptible._task.task import Body, cancelled_signal, given_up_signal
from interruptible._wire.checks import Refusal
from interruptible._wire.types import Dispatch, Message, Outcome, Policy, Settlement, Turn

T = TypeVar("T")
AnyContext = ObjectContext | ObjectSharedContext

GRACE: Final = timedelta(seconds=1)
"""How long the report of a task that Restate knows no more may be under way."""


class Settings(Body, Protocol):
    """What the handlers need of their agent."""

    allowed_policies: Sequence[Policy]
    keep_queued: bool
    max_content: int
    max_pending: int


def checked(check: Callable[..., T], body: Any, *args: Any, **options: Any) -> T:
    """Check a body, and refuse what is wrong with it."""
    try:
        return check(body, *args, **options)
    except Refusal as refusal:
        raise TerminalError(refusal.reason, refusal.status) from None


def require(record: Record | None, turn: int) -> Record:
    """Refuse a turn that there never was."""
    if record is None or not record.has(turn):
        last = record.next - 1 if record is not None else 0
        known = f"its turns are 1 to {last}" if last else "it has no turns yet"
        raise TerminalError(f"turn: there is no turn {turn} in this session; {known}.", 404)
    return record


def removed(turn: int) -> TerminalError:
    """The refusal of a turn that is on record no more."""
    return TerminalError(f"turn: {turn} was removed from this session.", 404)


async def load(ctx: AnyContext) -> Record | None:
    """The session's record."""
    stored = await ctx.get("session", serde=JSON)
    return None if stored is None else rules.load(stored)


async def load_now(ctx: ObjectContext) -> tuple[Record | None, int]:
    """The session's record, and the time, in milliseconds since 1970.

    Both are asked for at once, as each is a way to Restate and back. (`ctx.time()` needs a thread,
    of which users' steps that block may have taken all.)
    """
    stored = cast("RestateDurableFuture[Any]", ctx.get("session", serde=JSON))
    now = ctx.run_typed("time", _time)
    await restate.gather(stored, now)
    record = await stored
    return None if record is None else rules.load(record), await now


async def some(
    ctx: ObjectSharedContext, record: Record, numbers: range, most: int, *, discarded: bool = True
) -> tuple[list[Turn], bool]:
    """`history.some`, with each steered message in its place."""
    turns, more = await history.some(ctx, record, numbers, most, discarded=discarded)
    while record.steered and (now := await load(ctx)) not in (None, record):
        record = now or record  # a steered message may have found its place meanwhile
        turns, more = await history.some(ctx, record, numbers, most, discarded=discarded)
    return turns, more


async def every(
    ctx: ObjectSharedContext, record: Record, last: int, most: int, instead: str
) -> list[Turn]:
    """All turns of the conversation up to one; or a refusal, which says what to do instead."""
    turns, more = await some(ctx, record, range(1, last + 1), most, discarded=False)
    if more:
        raise TerminalError(f"The turns have more than {most // 1024**2} MiB. {instead}", 413)
    return turns


def new_record(ctx: ObjectContext) -> Record:
    """A session that has had no message."""
    return Record(epoch=f"{ctx.random().getrandbits(32):08x}")


def store(ctx: ObjectContext, record: Record) -> None:
    """Store the session's record."""
    ctx.set("session", rules.dump(record), serde=JSON)


async def with_discarded(
    ctx: ObjectContext, step: Step
) -> tuple[Step, dict[str, list[history.Entry]]]:
    """A step with the turns marked that it discards, and the pages that this changes."""
    record, pages = await history.discard(ctx, step.record, step.discard)
    return step._replace(record=record), pages


async def take_in(
    agent: Settings,
    ctx: ObjectContext,
    step: Step,
    messages: list[Message],
    accepted_at: int,
) -> str:
    """Carry out a step that begins a turn with these messages; returns its task's id."""
    turn = step.dispatch
    assert turn is not None  # noqa: S101
    step, pages = await with_discarded(ctx, step)
    record = history.begin(ctx, step.record, turn, messages, accepted_at)
    carry_out(ctx, step._replace(record=record), pages)
    return await begin(agent, ctx, record, turn, messages)


def carry_out(
    ctx: ObjectContext, step: Step, pages: dict[str, list[history.Entry]] | None = None
) -> None:
    """Cancel what a step says, and store its record and what else changed.

    The cancels come first: killed in between, a session must not believe in one it never sent.
    """
    for x in step.cancel:
        if x.task_id is not None:
            ctx.cancel_invocation(x.task_id)
    history.write(ctx, pages or {})
    store(ctx, step.record)
    signals = [(x.turn, cancelled_signal(x.turn)) for x in step.cancel]
    signals += [(turn, given_up_signal(turn)) for turn in step.give_up]
    for turn, signal in signals:
        for behind in step.record.live:
            if behind.turn > turn and behind.cancelled is None and behind.task_id is not None:
                ctx.resolve_signal(behind.task_id, signal, True, serde=JSON)  # noqa: FBT003


async def begin(
    agent: Settings,
    ctx: ObjectContext,
    record: Record,
    turn: int,
    messages: list[Message],
) -> str:
    """Send the task of a new turn and store its id, which is returned."""
    queued = any(x.cancelled is None for x in record.before(turn))  # it loads when it begins
    turns = None if queued else history.at_hand(record, turn)
    handle = _dispatch(agent, ctx, record, turn, messages, turns)
    task_id = await shield(handle.invocation_id())
    store(ctx, rules.dispatched(record, turn, task_id))
    return task_id


async def find_lost(agent: Settings, ctx: ObjectContext, record: Record | None) -> Record | None:
    """Learn the task ids that a killed `message` left unknown."""
    for turn in record.lost if record is not None else ():
        assert record is not None  # noqa: S101
        task_id = await _find(agent, ctx, record, turn)
        record = rules.dispatched(record, turn, task_id)
    return record


async def look(
    agent: Settings, ctx: AnyContext, record: Record
) -> list[tuple[Live, str, Ending | None]]:
    """Ask for each live turn how its task ended, without waiting; `None` is: it did not.

    A call with the task's own idempotency key goes to the same partition as the attach before it,
    and is answered after it: if the attach has no answer by then, the task is not over.
    """
    asked: list[tuple[Live, str, RestateDurableFuture[Any], RestateDurableFuture[Any]]] = []
    for x in record.live:
        task_id = x.task_id or await _find(agent, ctx, record, x.turn)
        task: RestateDurableFuture[Any] = ctx.attach_invocation(task_id, serde=JSON)
        key = _idempotency_key(ctx, record, x.turn)
        mark: RestateDurableFuture[Any] = ctx.generic_call(
            agent.task_name, "mark", b"", idempotency_key=key
        )
        asked.append((x, task_id, task, mark))
    looked: list[tuple[Live, str, Ending | None]] = []
    for x, task_id, task, mark in asked:
        done, _ = await restate.wait_completed(task, mark)
        end = await ending(ctx, x.turn, task) if task in done else None
        looked.append((x, task_id, end))
    return looked


async def outcome(agent: Settings, ctx: ObjectSharedContext, record: Record, turn: int) -> Outcome:
    """Wait for a live turn's outcome, and until the session has recorded it.

    So whoever has the outcome finds it in the history, and a task that did not report is settled.
    """
    live = record.find(turn)
    assert live is not None  # noqa: S101
    task_id = live.task_id or await _find(agent, ctx, record, turn)
    end = await ending(ctx, turn, ctx.attach_invocation(task_id, serde=JSON))
    if end.gone:
        await ctx.sleep(GRACE)
    now = await load(ctx)
    if now is not None and now.find(turn) is not None:
        settlement: Settlement = {"outcome": end.outcome}
        await ctx.generic_call(agent.name, "settle", json.dumps(settlement).encode(), key=ctx.key())
        now = await load(ctx)
    return await recorded(ctx, now, turn)


async def recorded(ctx: ObjectSharedContext, record: Record | None, turn: int) -> Outcome:
    """The outcome of a settled turn."""
    turns = await history.read(ctx, record or Record(""), range(turn, turn + 1))
    if not turns:
        raise removed(turn)
    return plain(turns[0])


def send(ctx: AnyContext, agent: str, handler: str, body: Any) -> None:
    """Tell a handler of this session something, one-way."""
    ctx.generic_send(agent, handler, json.dumps(body).encode(), key=ctx.key())


async def _time() -> int:
    return int(time.time() * 1000)


async def _find(agent: Settings, ctx: AnyContext, record: Record, turn: int) -> str:
    """Send a turn's task once more: Restate answers with the same invocation."""
    messages = await history.begun_with(ctx, record, turn)
    return await _dispatch(agent, ctx, record, turn, messages).invocation_id()


def _dispatch(
    agent: Settings,
    ctx: AnyContext,
    record: Record,
    turn: int,
    messages: list[Message],
    turns: list[Turn] | None = None,
) -> SendHandle:
    job: Dispatch = {
        "session": ctx.key(),
        "turn": turn,
        "input": messages,
        "after": [
            {"turn": x.turn, "task_id": x.task_id, "cancelled": x.cancelled is not None}
            for x in record.before(turn)
            if x.task_id is not None
        ],
    }
    if turns is not None:
        job["turns"] = turns
    if record.forked_from is not None:
        job["forked_from"] = record.forked_from
    return ctx.generic_send(
        agent.task_name,
        "run_task",
        json.dumps(job).encode(),
        idempotency_key=_idempotency_key(ctx, record, turn),
    )


def _idempotency_key(ctx: AnyContext, record: Record, turn: int) -> str:
    return f"{ctx.key()}/{record.epoch}/{turn}"
