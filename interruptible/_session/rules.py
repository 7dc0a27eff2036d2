"""The rules of one session: a pure state machine, so that every interleaving can be checked.

Given a session's record and an event, a rule returns a `Step`: the new record, and what to do.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from interruptible._session.record import Addition, Live, Record, Refused


class Step(NamedTuple):
    """What an event leads to: the new record, and the effects in the order to carry them out."""

    record: Record
    message: int = 0
    """The id of the message that it is about."""
    keep: tuple[Addition, ...] = ()
    """The steered messages that stay with the turn that has ended."""
    begin: tuple[Addition, ...] = ()
    """Those that it did not take, if the new turn is made of them."""
    cancel: tuple[Live, ...] = ()
    """Cancel the tasks of these."""
    stop: tuple[Live, ...] = ()
    """Have the tasks of these end once what is in flight has."""
    discard: Sequence[int] = ()
    """Leave these turns out of the conversation."""
    steer: Addition | None = None
    """Keep the message as this; it has no turn of its own."""
    tell_now: Live | None = None
    """Have this turn read at once what was steered at it."""
    changed: bool = False
    """Whether what is pending has changed in a way that the other fields do not show."""
    give_up: tuple[int, ...] = ()
    """Let nobody wait for these turns any longer."""
    watch: tuple[int, ...] = ()
    """Have these settled should their tasks be killed: what was steered at them must pass on."""
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
) -> Refused | None:
    """Why a message cannot be taken in as things are.

    Who asks leaves out of the record the live turns whose tasks are over. `policy`, `if_turn` (only
    if this turn is at work) and `if_idle` (only if none is live) are what the message asks for.
    """
    busy = record.at_work
    live = "no turn is live" if busy is None else f"turn {busy.turn} is live"
    if if_idle and busy is not None:
        return Refused(412, f"if_idle: {live}. Wait for it, or leave out if_idle.")
    if if_turn is not None and (busy is None or busy.turn != if_turn):
        wrong = f"turn {if_turn} is not at work; {live}. Look at what has happened."
        return Refused(412, f"if_turn: {wrong}")
    if policy == "reject" and busy is not None:
        return Refused(423, f"policy: {live}, and the policy is reject. Wait for it.")
    adds = policy in ("queue", "steer") or _host(record, policy, merge=merge) is not None
    if adds and record.counted >= max_pending:
        known = f"{record.counted} of {max_pending} are pending"
        return Refused(429, f"policy: {known}. Wait for one.")
    return None


def message_step(
    record: Record,
    policy: str = "interrupt",
    *,
    keep_queued: bool = False,
    merge: bool = False,
    now: bool = False,
    over: Collection[int] = (),
) -> Step:
    """A message was accepted: it becomes the next turn, or part of one that is there.

    With `keep_queued` it spares the turns that are queued, with `merge` it may join one that is
    open, and a turn at work is to read it at once if `now`; live turns that are `over` are known to
    have ended.
    """
    record, message = count_message(record)
    left = record._replace(live=tuple(x for x in record.live if x.turn not in over))
    host = _host(left, policy, merge=merge)
    if host is not None:
        return add_to(record, host, Addition(0, 0, record.next, id=message), now=now)
    step = Step(record, message)
    if policy in ("interrupt", "rollback"):
        busy = left.at_work
        chosen = left.live if not keep_queued or busy is None else (busy,)
        did = "interrupted" if policy == "interrupt" else "rolled back"
        step = cancel(record, chosen, f"{did} by turn {record.next}")._replace(message=message)
        if policy == "rollback":
            step = step._replace(discard=tuple(x.turn for x in step.cancel))
    return new_turn(step, [message], opens=merge)


def cancel_step(
    record: Record, turn: int | None = None, reason: str | None = None, *, after_step: bool = False
) -> Step:
    """Somebody cancels one live turn, or all. What is over or cancelled already stays as it is.

    If it is `after_step`, what is in flight goes on to its end. What waits has nothing in flight.
    """
    chosen = record.live if turn is None else tuple(x for x in record.live if x.turn == turn)
    if not after_step:
        return cancel(record, chosen, _why("cancelled", reason))
    why = _why("stopped", reason)
    gently = tuple(x for x in chosen if x.goes_on and not x.can_change)
    step = cancel(record, tuple(x for x in chosen if x.can_change), why)
    stopped = step.record.changed({x.turn for x in gently}, cancelled=why, after_step=True)
    return step._replace(record=stopped, stop=gently)


def rewind_step(record: Record, first: int, reason: str | None = None) -> Step:
    """Somebody takes back a turn and all after it; what is live of them is cancelled."""
    return _rewind(record, first, _why("rolled back", reason))


def resume_step(record: Record) -> Step:
    """Somebody wants the last turn to go on; nothing is live but what was given up."""
    return new_turn(Step(record), ())


def edit_step(record: Record, first: int, *, merge: bool = False) -> Step:
    """Somebody says something else in the place of a turn and all after it."""
    record, message = count_message(record)
    return regenerate_step(record, first, [message], merge=merge)._replace(message=message)


def regenerate_step(
    record: Record, first: int, messages: Iterable[int] = (), *, merge: bool = False
) -> Step:
    """Somebody wants these messages answered in the place of a turn and all after it."""
    step = _rewind(record, first, f"rolled back by turn {record.next}")
    rest = cancel(step.record, step.record.live, f"interrupted by turn {record.next}")
    step = step._replace(record=rest.record, cancel=(*rest.cancel, *step.cancel))
    return new_turn(step, messages, opens=merge)


def reset_step(record: Record, reason: str | None = None) -> Step:
    """Somebody takes back everything; what was given up goes at once, as what is settled does."""
    step = rewind_step(record, 1, reason)
    return step._replace(record=step.record.only({x.turn for x in record.awaited}))


def give_up_step(record: Record, turns: Collection[int]) -> Step:
    """A task has waited out `cleanup_timeout` for those of these turns that are cancelled."""
    chosen = [x.turn for x in record.awaited if x.turn in turns and x.is_cut]
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
        x._replace(turn=turn, taken=True, joined=begins, now=x.now if x.turn == turn else 0)
        for x in record.untaken
        if x.turn == turn or (waited and x.turn < turn)
    )
    if not waited and not taken:
        return record.changed({turn}, open=False), ()
    now = {x.number: x for x in taken}
    return record._replace(steered=tuple(now.get(x.number, x) for x in record.steered)), taken


def quiet_step(record: Record, turn: int, *, seen: int) -> tuple[Record, int]:
    """A turn's quiet window is over. If something came meanwhile, it is to wait for another one.

    Args:
        record: The record.
        turn: Which.
        seen: The newest message that it knew of when the window began.

    Returns:
        The record, in which nothing joins the turn any more if it was quiet; and the newest message
        that it has.
    """
    newest = max((x.id for x in record.untaken if x.turn == turn), default=0)
    if newest > seen:
        return record, newest
    return record.changed({turn}, open=False), seen


def begin_step(record: Record, turn: int) -> tuple[Record, tuple[Addition, ...]]:
    """A turn that waited begins, with what is its by now; from here on that does not change."""
    record, taken = hand_out(record, turn, waited=True, begins=True)
    return record.changed({turn}, open=False, queued=False), taken


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
    approvals = tuple(x for x in record.approvals if x.turn != turn)
    step = Step(record._replace(live=live, steered=steered, approvals=approvals), keep=keep)
    heir = next((x for x in step.record.going_on if x.turn > turn), None)
    if left and heir is not None:
        passed = (x._replace(turn=heir.turn, joined=heir.open, now=0) for x in left)
        in_order = tuple(sorted((*steered, *passed)))
        return step._replace(record=step.record._replace(steered=in_order), watch=(heir.turn,))
    ids = [x.id for x in left if x.id]
    return new_turn(step._replace(begin=left), ids, opens=merge) if left else step


def _host(record: Record, policy: str, *, merge: bool) -> Live | None:
    """The turn that a message becomes part of, if it does not become one itself."""
    going_on = record.going_on
    if not going_on:
        return None
    if policy == "steer":
        return going_on[0]
    alone = sum(not x.is_cut for x in record.live) == 1  # so what stops is interrupted, too
    joins = policy == "queue" or (policy == "interrupt" and alone)
    return going_on[-1] if merge and joins and going_on[-1].open else None


def _why(did: str, reason: str | None) -> str:
    return f"{did}: {reason}" if reason else did


def _rewind(record: Record, first: int, why: str) -> Step:
    chosen = tuple(x for x in record.live if x.turn >= first)
    step = cancel(record, chosen, why)
    # What was interrupted before is taken back now, too: its task may still ask why.
    told = [x.turn for x in chosen if not (x.cancelled or "").startswith("rolled back")]
    taken_back = record.changed(told, cancelled=why, after_step=False)
    return step._replace(record=taken_back, discard=range(first, record.next))


# -- What the rules are made of. -------------------------------------------------------------------


def count_message(record: Record) -> tuple[Record, int]:
    """A message is accepted; returns its id, too."""
    return record._replace(messages=record.messages + 1), record.messages + 1


def new_turn(step: Step, messages: Iterable[int], *, opens: bool = False) -> Step:
    """There is one turn more, of these messages, after all that are live."""
    record = step.record
    queued = any(not x.is_cut for x in record.awaited)
    turn = Live(record.next, open=opens, queued=queued, own=tuple(messages))
    begun = record._replace(next=record.next + 1, live=(*record.live, turn))
    return step._replace(record=begun, dispatch=record.next)


def add_to(record: Record, host: Live, addition: Addition, *, now: bool = False) -> Step:
    """A message becomes part of a turn that is there, which reads it at once if it is at work."""
    number = max((x.number for x in record.steered), default=0) + 1
    tells = now and not host.can_change
    nows = host.nows + 1 if tells else host.nows
    addition = addition._replace(
        number=number, turn=host.turn, joined=host.open, now=nows if tells else 0
    )
    is_watched = any(x.turn == host.turn for x in record.steered)
    record = record.changed({host.turn}, nows=nows)
    return Step(
        record._replace(steered=(*record.steered, addition)),
        addition.id,
        steer=addition,
        tell_now=record.find(host.turn) if tells else None,
        watch=() if is_watched else (host.turn,),
    )


def cancel(record: Record, chosen: Collection[Live], why: str) -> Step:
    """These are cancelled, as far as they are not; what was to end after its step is cut now."""
    fresh = tuple(x for x in chosen if not x.is_cut)
    cancelled = record.changed({x.turn for x in fresh}, cancelled=why, after_step=False)
    return Step(cancelled, cancel=fresh)
