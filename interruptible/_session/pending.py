"""The rules of what is pending: messages that no model has read yet, and what may be done to them.

| kind    | what it is                                                      | read when           |
| ------- | --------------------------------------------------------------- | ------------------- |
| queued  | a message of a turn that waits for others, or for quiet         | its turn begins     |
| joined  | one that became part of such a turn in its quiet window         | its turn begins     |
| steered | one that was steered at a turn                                  | that turn takes it  |

A turn that waits asks the session before it begins, and a turn takes what was steered at it from
the session. So here is where it is decided who was first: that, or who changes it.

A message moves, and turns do not: the turns that wait keep their places and their tasks, and get
what they work on when they begin. Whoever puts a message first gives each of them another one.
"""

from collections.abc import Collection, Sequence
from typing import Final, Literal, NamedTuple

from interruptible._session.record import Addition, Record, Refused
from interruptible._session.rules import Step, add_to, cancel, new_turn

WITHDRAWN: Final = "withdrawn"
"""Why a turn was cancelled whose messages were taken back."""
PROMOTED: Final = "promoted"
"""Why one was whose messages became part of another."""


class Pending(NamedTuple):
    """A message that no model has read yet."""

    id: int
    turn: int
    kind: Literal["queued", "steered", "joined"]
    addition: Addition | None = None
    """What it is to its turn, if that was not begun for it."""


class Move(NamedTuple):
    """A turn that waits gets the messages of another one, or this message alone."""

    to: int
    source: int | Addition


def pending(record: Record) -> list[Pending]:
    """What is pending, in the order in which it will be read."""
    found: list[Pending] = []
    for live in record.going_on:
        mine = [x for x in record.untaken if x.turn == live.turn and x.id]
        added = [Pending(x.id, x.turn, "joined" if x.joined else "steered", x) for x in mine]
        own = live.own if live.can_change else ()
        before = [x for x in added if live.can_change and x.addition and x.addition.at <= x.turn]
        found += before
        found += [Pending(x, live.turn, "queued") for x in own if x]
        found += [x for x in added if x not in before]
    return found


def find_pending(record: Record, message: int) -> Pending | Refused:
    """A message that is pending; or why it cannot be changed."""
    found = next((x for x in pending(record) if x.id == message), None)
    if found is not None:
        return found
    return record.unknown(message) or Refused(
        412,
        f"message: {message} is not pending: it was read, its turn has begun or ended, or it was "
        "withdrawn. Say something new instead.",
    )


def withdraw_step(
    record: Record, message: Pending, why: str = WITHDRAWN, *, others: bool = False
) -> Step:
    """A message is taken from its turn; one that has no other does not begin.

    Args:
        record: The record.
        message: Which.
        why: Why its turn is cancelled, then.
        others: Whether the turn has something that is no message with an id.
    """
    rest = _without(record, message)
    live = rest.find(message.turn)
    assert live is not None  # noqa: S101
    has_more = live.own or any(x.turn == message.turn for x in rest.steered)
    if not live.can_change or has_more or others:
        return Step(rest, message.id)
    return cancel(rest, [live], why)._replace(message=message.id, discard=(live.turn,))


def steer_step(record: Record, message: Pending, *, now: bool, others: bool = False) -> Step:
    """A message is steered at the turn at work; it may be so already, and is to be read at once."""
    host, addition = record.going_on[0], message.addition
    if message.turn != host.turn:
        addition = addition or Addition(0, 0, message.turn, id=message.id)
        step = withdraw_step(record, message, PROMOTED, others=others)
        added = add_to(step.record, host, addition, now=now)
        return added._replace(cancel=step.cancel, discard=step.discard)
    if addition is None or host.can_change or not now:  # that turn begins with it, or has it
        return Step(record, message.id)
    told = addition._replace(now=host.nows + 1)
    steered = tuple(told if x == addition else x for x in record.steered)
    record = record.changed({host.turn}, nows=told.now)._replace(steered=steered)
    return Step(record, message.id, tell_now=record.find(host.turn))


def run_next_step(
    record: Record, message: Pending, *, over: Collection[int] = (), fixed: Collection[int] = ()
) -> tuple[Step, tuple[Move, ...]]:
    """A message's turn is to be the next: what is at work is cancelled, the rest stays behind it.

    Args:
        record: The record.
        message: Which; it is none of a turn that is over.
        over: The live turns that are known to have ended; they get no messages any more.
        fixed: Those that go on with another turn: they have no messages that could move.

    Returns:
        The step, and which turn gets which messages.
    """
    left = [x for x in record.live if x.turn not in over]
    waits = [x for x in left if x.can_change and x.turn not in fixed]
    work = [x for x in left if x not in waits]
    slots, order = [x.turn for x in waits], list[int | Addition](x.turn for x in waits)
    if message.turn in slots:
        order.remove(message.turn)
        order.insert(0, message.turn)
    elif message.addition is not None:  # it gets a turn of its own, and each a later one
        record = _without(record, message)
        slots.append(record.next)
        order.insert(0, message.addition)
    step = cancel(record, work, f"interrupted by turn {slots[0]}")
    if slots[-1] == record.next:
        step = new_turn(step, ())
    moves = tuple(Move(*x) for x in zip(slots, order, strict=True) if x[0] != x[1])
    step = step._replace(record=_moved(step.record, moves), message=message.id)
    moved_to = [x.turn for x in step.record.untaken if x.turn in [move.to for move in moves]]
    return step._replace(watch=tuple(dict.fromkeys(moved_to))), moves


def _without(record: Record, message: Pending) -> Record:
    """The record as if a message that is pending had not come."""
    if message.addition is not None:
        return record._replace(steered=tuple(x for x in record.steered if x != message.addition))
    live = record.find(message.turn)
    own = () if live is None else tuple(x for x in live.own if x != message.id)
    return record.changed({message.turn}, own=own)


def _moved(record: Record, moves: Sequence[Move]) -> Record:
    """The record in which turns have what others had."""
    own = {x.turn: x.own for x in record.live}
    gets = {to: (x.id,) if isinstance(x, Addition) else own[x] for to, x in moves}
    live = tuple(
        x._replace(own=gets[x.turn], open=False) if x.turn in gets else x for x in record.live
    )
    goes = {source: to for to, source in moves if not isinstance(source, Addition)}
    steered = tuple(
        x._replace(turn=goes[x.turn], at=_beside(x, goes[x.turn])) if x.turn in goes else x
        for x in record.steered
    )
    return record._replace(live=live, steered=steered)


def _beside(addition: Addition, turn: int) -> int:
    """Where a message stands that moves with its turn's own: before those, or behind them."""
    return min(addition.at, turn) if addition.at <= addition.turn else max(addition.at, turn + 1)
