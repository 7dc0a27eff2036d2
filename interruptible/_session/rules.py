"""The rules of one session: a pure state machine, so that every interleaving can be checked.

Given a session's record and an event, a rule returns a `Step`: the new record, and what to do.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from interruptible._session.record import Addition, Live, Record


class Step(NamedTuple):
    """What an event leads to: the new record, and the effects in the order to carry them out."""

    record: Record
    keep: tuple[Addition, ...] = ()
    """The steered messages that stay with the turn that has ended."""
    begin: tuple[Addition, ...] = ()
    """Those that it did not take, if the new turn is made of them."""
    cancel: tuple[Live, ...] = ()
    """Cancel the tasks of these."""
    discard: Sequence[int] = ()
    """Leave these turns out of the conversation."""
    steer: Addition | None = None
    """Keep the message as this; it has no turn of its own."""
    give_up: tuple[int, ...] = ()
    """Let nobody wait for these turns any longer."""
    watch: int | None = None
    """Have this turn settled should its task be killed: what was steered at it must pass on."""
    dispatch: int | None = None
    """Send the task of this turn, after all that were live."""


def refusal(
    record: Record,
    policy: str = "interrupt",
    *,
    max_pending: int = 32,
    if_turn: int | None = None,
    if_idle: bool = False,
    merge: bool = False,
) -> tuple[int, str] | None:
    """Why a message cannot be taken in as things are: the HTTP status, and the reason.

    The record is without the live turns whose tasks are over already. `policy`, `if_turn` (only if
    this turn is at work) and `if_idle` (only if none is live) are what the message asks for.
    """
    busy = record.at_work
    live = "no turn is live" if busy is None else f"turn {busy.turn} is live"
    if if_idle and busy is not None:
        return 412, f"if_idle: {live}. Wait for it, or leave out if_idle."
    if if_turn is not None and (busy is None or busy.turn != if_turn):
        return 412, f"if_turn: turn {if_turn} is not at work; {live}. Look at what has happened."
    if policy == "reject" and busy is not None:
        return 423, f"policy: {live}, and the policy is reject. Wait for it."
    adds = policy in ("queue", "steer") or _host(record, policy, merge=merge) is not None
    if adds and record.pending >= max_pending:
        return 429, f"policy: {record.pending} of {max_pending} are pending. Wait for one."
    return None


def message_step(
    record: Record,
    policy: str = "interrupt",
    *,
    keep_queued: bool = False,
    merge: bool = False,
    over: Collection[int] = (),
) -> Step:
    """A message was accepted: it becomes the next turn, or part of one that is there.

    With `keep_queued` it spares the turns that are queued, with `merge` it may join one that is
    open; live turns that are `over` are known to have ended.
    """
    left = record._replace(live=tuple(x for x in record.live if x.turn not in over))
    host = _host(left, policy, merge=merge)
    if host is not None:
        number = max((x.number for x in record.steered), default=0) + 1
        steered = Addition(number, host.turn, record.next, joined=host.open)
        is_watched = any(x.turn == host.turn for x in record.steered)
        record = record._replace(steered=(*record.steered, steered))
        return Step(record, steer=steered, watch=None if is_watched else host.turn)
    step = Step(record)
    if policy in ("interrupt", "rollback"):
        busy = left.at_work
        chosen = left.live if not keep_queued or busy is None else (busy,)
        did = "interrupted" if policy == "interrupt" else "rolled back"
        step = _cancel(record, chosen, f"{did} by turn {record.next}")
        if policy == "rollback":
            step = step._replace(discard=tuple(x.turn for x in step.cancel))
    return _begin(step, opens=merge)


def cancel_step(record: Record, turn: int | None = None, reason: str | None = None) -> Step:
    """Somebody cancels one live turn, or all. What is over or cancelled already stays as it is."""
    chosen = record.live if turn is None else tuple(x for x in record.live if x.turn == turn)
    return _cancel(record, chosen, f"cancelled: {reason}" if reason else "cancelled")


def rewind_step(record: Record, first: int, reason: str | None = None) -> Step:
    """Somebody takes back a turn and all after it; what is live of them is cancelled."""
    return _rewind(record, first, f"rolled back: {reason}" if reason else "rolled back")


def regenerate_step(record: Record, first: int, *, merge: bool = False) -> Step:
    """Somebody wants a turn's messages answered again, in its place and that of all after it."""
    step = _rewind(record, first, f"rolled back by turn {record.next}")
    rest = _cancel(step.record, step.record.live, f"interrupted by turn {record.next}")
    step = step._replace(record=rest.record, cancel=(*rest.cancel, *step.cancel))
    return _begin(step, opens=merge)


def reset_step(record: Record, reason: str | None = None) -> Step:
    """Somebody takes back everything; what was given up goes at once, as what is settled does."""
    step = rewind_step(record, 1, reason)
    stays = {x.turn for x in record.awaited}
    live = tuple(x for x in step.record.live if x.turn in stays)
    steered = tuple(x for x in record.steered if x.turn in stays)
    return step._replace(record=step.record._replace(live=live, steered=steered))


def give_up_step(record: Record, turns: Collection[int]) -> Step:
    """A task has waited out `cleanup_timeout` for those of these turns that are cancelled."""
    chosen = [x.turn for x in record.awaited if x.turn in turns and x.cancelled is not None]
    return Step(record.changed(chosen, given_up=True), give_up=tuple(chosen))


def note_task_id(record: Record, turn: int, task_id: str) -> Record:
    """The invocation id of a turn's task became known."""
    return record.changed({turn}, task_id=task_id)


def hand_out(
    record: Record, turn: int, *, waited: bool, begins: bool
) -> tuple[Record, tuple[Addition, ...]]:
    """A task takes the messages that wait for it; a turn that is cancelled gets none.

    If it has `waited`, all before it have ended, and what they left is the task's. Otherwise it is
    in its quiet window, which ends when there is nothing to take. What it takes as it `begins` is
    among what it begins with.
    """
    if not record.goes_on(turn):
        return record, ()
    taken = tuple(
        x._replace(turn=turn, taken=True, joined=begins)
        for x in record.waiting
        if x.turn == turn or (waited and x.turn < turn)
    )
    if not waited and not taken:
        return record.changed({turn}, open=False), ()
    numbers = {x.number: x for x in taken}
    steered = tuple(numbers.get(x.number, x) for x in record.steered)
    return record._replace(steered=steered), taken


def settle_step(record: Record, turn: int, *, merge: bool = False) -> Step | None:
    """A turn's outcome arrived: record it, or do nothing (`None`) as it is recorded already.

    What was steered at the turn and not taken passes on to the next that goes on, or becomes one;
    but it stays with a turn that was cancelled.
    """
    if record.find(turn) is None:
        return None
    stays = not record.goes_on(turn)
    mine = [x for x in record.steered if x.turn == turn]
    keep = tuple(x for x in mine if stays or x.taken)
    left = tuple(x for x in mine if x not in keep)
    live = tuple(x for x in record.live if x.turn != turn)
    steered = tuple(x for x in record.steered if x not in mine)
    step = Step(record._replace(live=live, steered=steered), keep)
    heir = next((x for x in step.record.going_on if x.turn > turn), None)
    if left and heir is not None:
        passed = (x._replace(turn=heir.turn, joined=heir.open) for x in left)
        in_order = tuple(sorted((*steered, *passed)))
        return step._replace(record=step.record._replace(steered=in_order), watch=heir.turn)
    return _begin(step._replace(begin=left), opens=merge) if left else step


def _host(record: Record, policy: str, *, merge: bool) -> Live | None:
    """The turn that a message becomes part of, if it does not become one itself."""
    going_on = record.going_on
    if not going_on:
        return None
    if policy == "steer":
        return going_on[0]
    joins = policy == "queue" or (policy == "interrupt" and len(going_on) == 1)
    return going_on[-1] if merge and joins and going_on[-1].open else None


def _begin(step: Step, *, opens: bool) -> Step:
    record = step.record
    live = (*record.live, Live(record.next, open=opens))
    begun = record._replace(next=record.next + 1, live=live)
    return step._replace(record=begun, dispatch=record.next)


def _rewind(record: Record, first: int, why: str) -> Step:
    chosen = tuple(x for x in record.live if x.turn >= first)
    step = _cancel(record, chosen, why)
    # What was interrupted before is taken back now, too: its task may still ask why.
    told = [x.turn for x in chosen if not (x.cancelled or "").startswith("rolled back")]
    taken_back = record.changed(told, cancelled=why)
    return step._replace(record=taken_back, discard=range(first, record.next))


def _cancel(record: Record, chosen: Collection[Live], why: str) -> Step:
    fresh = tuple(x for x in chosen if x.cancelled is None)
    return Step(record.changed({x.turn for x in fresh}, cancelled=why), cancel=fresh)
