"""The rules of one session: a pure state machine.

Given the session's record and an event, each rule returns the new record and what has to be done
about it. Nothing here knows Restate, so every interleaving can be checked without a server.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

VERSION: Final = 1


class Live(NamedTuple):
    """A turn whose outcome is not recorded yet."""

    turn: int
    task_id: str | None = None
    """`None` until the task's invocation id is known."""
    cancelled: str | None = None
    """Why it was cancelled, once it is."""
    open: bool = False
    """Whether the messages of a burst still join it."""
    given_up: bool = False
    """Whether somebody waited out `cleanup_timeout` for it: then nobody waits for it any more."""


class Steered(NamedTuple):
    """A message that became part of a turn which was there already."""

    number: int
    turn: int
    """Whose it is; it may pass on to a later one until it is taken."""
    at: int
    """The number of the next turn when it was accepted: where it stands among the messages."""
    taken: bool = False
    joined: bool = False
    """Whether its turn has it among the messages that it began with."""


class Record(NamedTuple):
    """What a session knows about itself; its size does not grow with the history."""

    epoch: str
    """Sets this session apart from an earlier one of the same key whose state was removed."""
    next: int = 1
    live: tuple[Live, ...] = ()
    steered: tuple[Steered, ...] = ()
    """Those of live turns, in the order in which they were accepted."""
    tail: tuple[Any, ...] = ()
    """The latest turns, in their order. No rule looks at them; see `_history`."""
    paged: bool = False
    """Whether there are turns that the tail does not have."""
    first: int = 1
    """The first turn that may be on record; those before were removed."""
    forked_from: tuple[str, int] | None = None
    """The session that this one's first turns were worked on in, and the last of them."""

    def find(self, turn: int) -> Live | None:
        """The live turn of this number."""
        return next((live for live in self.live if live.turn == turn), None)

    def has(self, turn: int) -> bool:
        """Whether there has been a turn of this number."""
        return 1 <= turn < self.next

    def before(self, turn: int) -> tuple[Live, ...]:
        """The live turns that `turn` waits for."""
        return tuple(live for live in self.awaited if live.turn < turn)

    def goes_on(self, turn: int) -> bool:
        """Whether a turn is live and not cancelled."""
        live = self.find(turn)
        return live is not None and live.cancelled is None

    @property
    def awaited(self) -> tuple[Live, ...]:
        """The live turns that are waited for; what was given up is in nobody's way."""
        return tuple(live for live in self.live if not live.given_up)

    @property
    def at_work(self) -> Live | None:
        """The live turn whose turn it is: the oldest that is not cancelled, or else the newest.

        One that was given up is not.
        """
        lives = self.awaited
        return next((x for x in lives if x.cancelled is None), (*lives[-1:], None)[0])

    @property
    def waiting(self) -> tuple[Steered, ...]:
        """The steered messages that can still be taken, and are not."""
        return tuple(x for x in self.steered if not x.taken and self.goes_on(x.turn))

    @property
    def pending(self) -> int:
        """How many turns and steered messages are at work or wait for it.

        What is cancelled does neither.
        """
        return sum(x.cancelled is None for x in self.live) + len(self.waiting)

    @property
    def lost(self) -> tuple[int, ...]:
        """Turns whose task may be running but whose id is unknown: their `message` was killed."""
        return tuple(live.turn for live in self.live if live.task_id is None)


class Step(NamedTuple):
    """What an event leads to: the new record, and the effects in the order to carry them out."""

    record: Record
    cancel: tuple[Live, ...] = ()
    """Cancel the tasks of these."""
    discard: Sequence[int] = ()
    """Leave these turns out of the conversation."""
    dispatch: int | None = None
    """Send the task of this turn, after all that were live."""
    steer: Steered | None = None
    """Keep the message as this; it has no turn of its own."""
    give_up: tuple[int, ...] = ()
    """Let nobody wait for these turns any longer."""


class Settling(NamedTuple):
    """What an outcome leads to."""

    record: Record
    keep: tuple[Steered, ...] = ()
    """The steered messages that stay with the turn."""
    dispatch: int | None = None
    """Send the task of this turn, as nobody else is there for what was not taken."""
    begin: tuple[Steered, ...] = ()
    """The messages that it is made of."""
    heir: int | None = None
    """The live turn that has what was not taken; should its task be killed, it must pass on."""


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

    Args:
        record: The session, without the live turns whose tasks are over already.
        policy: What the message would do to a live turn.
        max_pending: How many turns and steered messages may be at work or wait for it.
        if_turn: Take the message only if this turn is at work.
        if_idle: Take the message only if no turn is live.
        merge: Whether it may join a turn that is open.
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


def message(
    record: Record,
    policy: str = "interrupt",
    *,
    keep_queued: bool = False,
    merge: bool = False,
    over: Collection[int] = (),
) -> Step:
    """A message was accepted: it becomes the next turn, or part of one that is there.

    Args:
        record: The session.
        policy: What the message does to the live turns.
        keep_queued: Whether it spares those that are queued.
        merge: Whether it may join a turn that is open.
        over: The live turns that are known to have ended.
    """
    left = record._replace(live=tuple(x for x in record.live if x.turn not in over))
    host = _host(left, policy, merge=merge)
    if host is not None:
        number = max((x.number for x in record.steered), default=0) + 1
        steered = Steered(number, host.turn, record.next, joined=host.open)
        return Step(record._replace(steered=(*record.steered, steered)), steer=steered)
    step = Step(record)
    if policy in ("interrupt", "rollback"):
        busy = left.at_work
        chosen = left.live if not keep_queued or busy is None else (busy,)
        did = "interrupted" if policy == "interrupt" else "rolled back"
        step = _cancel(record, chosen, f"{did} by turn {record.next}")
        if policy == "rollback":
            step = step._replace(discard=tuple(x.turn for x in step.cancel))
    return _begin(step, open=merge)


def cancel(record: Record, turn: int | None = None, reason: str | None = None) -> Step:
    """Somebody cancels one live turn, or all. What is over or cancelled already stays as it is."""
    chosen = record.live if turn is None else tuple(x for x in record.live if x.turn == turn)
    return _cancel(record, chosen, _because("cancelled", reason))


def rewind(record: Record, first: int, reason: str | None = None) -> Step:
    """Somebody takes back a turn and all after it; what is live of them is cancelled."""
    return _rewind(record, first, _because("rolled back", reason))


def regenerate(record: Record, first: int, *, merge: bool = False) -> Step:
    """Somebody wants a turn's messages answered again, in its place and that of all after it."""
    step = _rewind(record, first, f"rolled back by turn {record.next}")
    rest = _cancel(step.record, step.record.live, f"interrupted by turn {record.next}")
    step = step._replace(record=rest.record, cancel=(*rest.cancel, *step.cancel))
    return _begin(step, open=merge)


def reset(record: Record, reason: str | None = None) -> Step:
    """Somebody takes back everything; what was given up goes at once, as what is settled does."""
    step = rewind(record, 1, reason)
    stays = {x.turn for x in record.awaited}
    live = tuple(x for x in step.record.live if x.turn in stays)
    steered = tuple(x for x in record.steered if x.turn in stays)
    return step._replace(record=step.record._replace(live=live, steered=steered))


def give_up(record: Record, turns: Collection[int]) -> Step:
    """A task has waited out `cleanup_timeout` for these turns: once is enough.

    What is over by now, or not cancelled, is left alone.
    """
    chosen = {x.turn for x in record.awaited if x.turn in turns and x.cancelled is not None}
    live = (x._replace(given_up=True) if x.turn in chosen else x for x in record.live)
    return Step(record._replace(live=tuple(live)), give_up=tuple(sorted(chosen)))


def dispatched(record: Record, turn: int, task_id: str) -> Record:
    """The invocation id of a turn's task became known."""
    live = (x._replace(task_id=task_id) if x.turn == turn else x for x in record.live)
    return record._replace(live=tuple(live))


def take(
    record: Record, turn: int, *, waited: bool, begins: bool = False
) -> tuple[Record, tuple[Steered, ...]]:
    """A task takes the messages that wait for it; a turn that is cancelled gets none.

    Args:
        record: The session.
        turn: The task's turn.
        waited: Whether all before it have ended: what they left is the task's, then. Otherwise it
            is in its quiet window, which ends when there is nothing to take.
        begins: Whether it has not begun: what it takes is then among what it begins with.
    """
    if not record.goes_on(turn):
        return record, ()
    taken = tuple(
        x._replace(turn=turn, taken=True, joined=begins or not waited)
        for x in record.waiting
        if x.turn == turn or (waited and x.turn < turn)
    )
    numbers = {x.number: x for x in taken}
    record = record._replace(steered=tuple(numbers.get(x.number, x) for x in record.steered))
    if not waited and not taken:
        live = (x._replace(open=False) if x.turn == turn else x for x in record.live)
        record = record._replace(live=tuple(live))
    return record, taken


def settle(record: Record, turn: int, *, merge: bool = False) -> Settling | None:
    """A turn's outcome arrived: record it, or do nothing (`None`) as it is recorded already.

    What was steered at the turn and not taken passes on to the next, or becomes it; but it stays
    with a turn that was cancelled.
    """
    if record.find(turn) is None:
        return None
    stays = not record.goes_on(turn)
    mine = tuple(x for x in record.steered if x.turn == turn)
    keep = tuple(x for x in mine if stays or x.taken)
    left = tuple(x for x in mine if x not in keep)
    live = tuple(x for x in record.live if x.turn != turn)
    rest = record._replace(live=live, steered=tuple(x for x in record.steered if x not in mine))
    heir = rest.at_work
    if not left:
        return Settling(rest, keep)
    if heir is not None and heir.cancelled is None:
        passed = (
            x._replace(turn=heir.turn, joined=heir.open) if x in left else x for x in record.steered
        )
        steered = tuple(x for x in passed if x not in keep)
        return Settling(rest._replace(steered=steered), keep, heir=heir.turn)
    step = _begin(Step(rest), open=merge)
    return Settling(step.record, keep, step.dispatch, left)


def dump(record: Record) -> dict[str, Any]:
    """The record as it is stored."""
    forked = {} if record.forked_from is None else {"forked_from": list(record.forked_from)}
    return {
        "v": VERSION,
        "epoch": record.epoch,
        "next": record.next,
        # As before there was the last field, where it says nothing: older versions read it, too.
        "live": [list(x if x.given_up else x[:-1]) for x in record.live],
        "steered": [list(x) for x in record.steered],
        "tail": list(record.tail),
        "paged": record.paged,
        "first": record.first,
        **forked,
    }


def load(stored: Mapping[str, Any]) -> Record:
    """The record that was stored.

    Raises:
        ValueError: It was written by a newer version of this library.
    """
    if stored["v"] != VERSION:
        msg = (
            f"The session was written in version {stored['v']} of its format; this is version "
            f"{VERSION}. Deploy the version of restate-interruptible that wrote it, or a newer one."
        )
        raise ValueError(msg)
    forked_from = stored.get("forked_from")
    return Record(
        stored["epoch"],
        stored["next"],
        tuple(Live(*live) for live in stored["live"]),
        tuple(Steered(*steered) for steered in stored["steered"]),
        tuple(stored["tail"]),
        stored["paged"],
        stored["first"],
        None if forked_from is None else (forked_from[0], forked_from[1]),
    )


def _host(record: Record, policy: str, *, merge: bool) -> Live | None:
    """The turn that a message becomes part of, if it does not become one itself."""
    going_on = [x for x in record.live if x.cancelled is None]
    if not going_on:
        return None
    if policy == "steer":
        return going_on[0]
    joins = policy == "queue" or (policy == "interrupt" and len(going_on) == 1)
    return going_on[-1] if merge and joins and going_on[-1].open else None


def _begin(step: Step, *, open: bool) -> Step:  # noqa: A002
    record = step.record
    live = (*record.live, Live(record.next, open=open))
    begun = record._replace(next=record.next + 1, live=live)
    return step._replace(record=begun, dispatch=record.next)


def _rewind(record: Record, first: int, why: str) -> Step:
    chosen = tuple(x for x in record.live if x.turn >= first)
    step = _cancel(record, chosen, why)
    # What was interrupted before is taken back now, too: its task may still ask why.
    live = (
        x._replace(cancelled=why)
        if x.turn >= first and not (x.cancelled or "").startswith("rolled back")
        else x
        for x in step.record.live
    )
    step = step._replace(record=step.record._replace(live=tuple(live)))
    return step._replace(discard=range(first, record.next))


def _cancel(record: Record, chosen: tuple[Live, ...], why: str) -> Step:
    fresh = tuple(x for x in chosen if x.cancelled is None)
    live = (x._replace(cancelled=why) if x in fresh else x for x in record.live)
    return Step(record._replace(live=tuple(live)), cancel=fresh)


def _because(did: str, reason: str | None) -> str:
    return f"{did}: {reason}" if reason else did
