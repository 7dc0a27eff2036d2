"""The rules of one session: a pure state machine.

Given the session's record and an event, each rule returns the new record and what has to be done
about it. Nothing here knows Restate, so every interleaving can be checked without a server.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

VERSION: Final = 1


class Live(NamedTuple):
    """A turn whose outcome is not recorded yet."""

    turn: int
    task_id: str | None = None
    """`None` until the task's invocation id is known."""
    cancelled: str | None = None
    """Why it was cancelled, once it is."""


class Record(NamedTuple):
    """What a session knows about itself; its size does not depend on the history's."""

    epoch: str
    """Sets this session apart from an earlier one of the same key whose state was removed."""
    next: int = 1
    live: tuple[Live, ...] = ()

    def find(self, turn: int) -> Live | None:
        """The live turn of this number."""
        return next((live for live in self.live if live.turn == turn), None)

    def has(self, turn: int) -> bool:
        """Whether there has been a turn of this number."""
        return 1 <= turn < self.next

    def before(self, turn: int) -> tuple[Live, ...]:
        """The live turns that `turn` comes after."""
        return tuple(live for live in self.live if live.turn < turn)

    @property
    def at_work(self) -> Live | None:
        """The live turn whose turn it is: the oldest that is not cancelled, or else the newest."""
        return next((x for x in self.live if x.cancelled is None), (*self.live[-1:], None)[0])

    @property
    def pending(self) -> int:
        """How many turns are at work or wait for it; those that are cancelled do neither."""
        return sum(x.cancelled is None for x in self.live)

    @property
    def lost(self) -> tuple[int, ...]:
        """Turns whose task may be running but whose id is unknown: their `message` was killed."""
        return tuple(live.turn for live in self.live if live.task_id is None)


class Step(NamedTuple):
    """What an event leads to: the new record, and the effects in the order to carry them out."""

    record: Record
    cancel: tuple[Live, ...] = ()
    """Cancel the tasks of these."""
    dispatch: int | None = None
    """Send the task of this turn, after all that were live."""


def refusal(
    record: Record,
    policy: str = "interrupt",
    *,
    max_pending: int = 32,
    if_turn: int | None = None,
    if_idle: bool = False,
) -> tuple[int, str] | None:
    """Why a message cannot be taken in as things are: the HTTP status, and the reason.

    Args:
        record: The session, without the live turns whose tasks are over already.
        policy: What the message would do to a live turn.
        max_pending: How many turns may be at work or wait for it.
        if_turn: Take the message only if this turn is at work.
        if_idle: Take the message only if no turn is live.
    """
    busy = record.at_work
    live = "no turn is live" if busy is None else f"turn {busy.turn} is live"
    if if_idle and busy is not None:
        return 412, f"if_idle: {live}. Wait for it, or leave out if_idle."
    if if_turn is not None and (busy is None or busy.turn != if_turn):
        return 412, f"if_turn: turn {if_turn} is not at work; {live}. Look at what has happened."
    if policy == "reject" and busy is not None:
        return 423, f"policy: {live}, and the policy is reject. Wait for it."
    if policy == "queue" and record.pending >= max_pending:
        return 429, f"policy: {record.pending} of {max_pending} turns are pending. Wait for one."
    return None


def message(record: Record, policy: str = "interrupt") -> Step:
    """A message was accepted: it becomes the next turn, and may interrupt everything live."""
    turn = record.next
    step = Step(record)
    if policy == "interrupt":
        step = _cancel(record, record.live, f"interrupted by turn {turn}")
    live = (*step.record.live, Live(turn))
    return step._replace(record=step.record._replace(next=turn + 1, live=live), dispatch=turn)


def cancel(record: Record, turn: int | None = None, reason: str | None = None) -> Step:
    """Somebody cancels one live turn, or all. What is over or cancelled already stays as it is."""
    chosen = record.live if turn is None else tuple(x for x in record.live if x.turn == turn)
    return _cancel(record, chosen, "cancelled" if not reason else f"cancelled: {reason}")


def dispatched(record: Record, turn: int, task_id: str) -> Record:
    """The invocation id of a turn's task became known."""
    live = (x._replace(task_id=task_id) if x.turn == turn else x for x in record.live)
    return record._replace(live=tuple(live))


def settle(record: Record, turn: int) -> Record | None:
    """A turn's outcome arrived: record it, or do nothing (`None`) as it is recorded already."""
    if record.find(turn) is None:
        return None
    return record._replace(live=tuple(x for x in record.live if x.turn != turn))


def dump(record: Record) -> dict[str, Any]:
    """The record as it is stored."""
    return {
        "v": VERSION,
        "epoch": record.epoch,
        "next": record.next,
        "live": [list(x) for x in record.live],
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
    return Record(stored["epoch"], stored["next"], tuple(Live(*live) for live in stored["live"]))


def _cancel(record: Record, chosen: tuple[Live, ...], why: str) -> Step:
    fresh = tuple(x for x in chosen if x.cancelled is None)
    live = (x._replace(cancelled=why) if x in fresh else x for x in record.live)
    return Step(record._replace(live=tuple(live)), cancel=fresh)
