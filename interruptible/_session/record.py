"""What a session knows about itself: its turns that are live, and what was steered at them."""

from collections.abc import Collection
from typing import Any, NamedTuple


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
    queued: bool = False
    """Whether it was sent behind turns that go on. It asks the session before it begins; until then
    what it works on can be changed."""
    own: tuple[int, ...] = ()
    """The messages that it was begun for, by their ids."""
    after_step: bool = False
    """Whether it is cancelled once what is in flight has ended; until then nothing is cut off."""
    nows: int = 0
    """How many messages it was told to read at once."""

    @property
    def goes_on(self) -> bool:
        """Whether it is not cancelled."""
        return self.cancelled is None

    @property
    def is_cut(self) -> bool:
        """Whether it is cancelled, and its end is a matter of its cleanup."""
        return self.cancelled is not None and not self.after_step

    @property
    def can_change(self) -> bool:
        """Whether no model has read its messages, and none does without asking the session."""
        return self.goes_on and (self.open or self.queued)


class Addition(NamedTuple):
    """A message that became part of a turn which was there already."""

    number: int
    turn: int
    """Whose it is; it may pass on to a later one until it is taken."""
    at: int
    """The number of the next turn when it was accepted: where it stands among the messages."""
    taken: bool = False
    joined: bool = False
    """Whether its turn has it among the messages that it began with."""
    id: int = 0
    """The message's; one that an earlier version accepted has none."""
    now: int = 0
    """Its number among those that its turn is to read at once, from 1 on; 0 if it is none."""


class Refused(NamedTuple):
    """Why something cannot be done as things are."""

    status: int
    """Of HTTP."""
    reason: str


class Asked(NamedTuple):
    """Something that a turn may not do before somebody has said yes."""

    id: int
    turn: int
    number: int
    """Its number among those of its turn, from 1 on: its task knows it by that."""


class Record(NamedTuple):
    """What a session knows about itself; its size does not grow with the history."""

    epoch: str = ""
    """Sets it apart from an earlier session of the same key; empty while nothing is stored."""
    next: int = 1
    live: tuple[Live, ...] = ()
    steered: tuple[Addition, ...] = ()
    """Those of live turns, in the order in which they were accepted."""
    tail: tuple[Any, ...] = ()
    """The latest turns, in their order, as they are stored. No rule looks at them."""
    paged: bool = False
    """Whether there are turns in pages."""
    first: int = 1
    """The first turn that may be on record; those before were removed."""
    forked_from: tuple[str, int] | None = None
    """The session that this one's first turns were worked on in, and the last of them."""
    messages: int = 0
    """How many messages it has accepted: the id of the last."""
    asked: int = 0
    """How many approvals its turns have asked for: the id of the last."""
    approvals: tuple[Asked, ...] = ()
    """Those that wait for an answer, or for their turn's end."""
    older: str = ""
    """What the older turns are loaded by, as they are now; empty if that is to be chosen anew."""

    def find(self, turn: int) -> Live | None:
        """The live turn of this number."""
        return next((live for live in self.live if live.turn == turn), None)

    def turn_of(self, message: int) -> int | None:
        """The live turn that has a message, or is to take it; the newest, if it is asked again."""
        turns = [x.turn for x in self.steered if x.id == message]
        return max([*turns, *(x.turn for x in self.live if message in x.own)], default=None)

    def unknown(self, message: int) -> Refused | None:
        """Why there is no such message, if there never was."""
        if 1 <= message <= self.messages:
            return None
        known = f"its messages are 1 to {self.messages}" if self.messages else "it has none yet"
        return Refused(404, f"message: there is no message {message} in this session; {known}.")

    def before(self, turn: int) -> tuple[Live, ...]:
        """The live turns that `turn` waits for."""
        return tuple(live for live in self.awaited if live.turn < turn)

    def goes_on(self, turn: int) -> bool:
        """Whether a turn is live and not cancelled."""
        live = self.find(turn)
        return live is not None and live.goes_on

    def changed(self, turns: Collection[int], **changes: Any) -> "Record":
        """The record with something else about these live turns."""
        live = (x._replace(**changes) if x.turn in turns else x for x in self.live)
        return self._replace(live=tuple(live))

    def only(self, turns: Collection[int]) -> "Record":
        """The record without the live turns that are none of these, and without what is theirs."""
        return self._replace(
            live=tuple(x for x in self.live if x.turn in turns),
            steered=tuple(x for x in self.steered if x.turn in turns),
            approvals=tuple(x for x in self.approvals if x.turn in turns),
        )

    @property
    def going_on(self) -> tuple[Live, ...]:
        """The live turns that are not cancelled."""
        return tuple(x for x in self.live if x.goes_on)

    @property
    def awaited(self) -> tuple[Live, ...]:
        """The live turns that are waited for; what was given up is in nobody's way."""
        return tuple(live for live in self.live if not live.given_up)

    @property
    def at_work(self) -> Live | None:
        """The oldest live turn that is awaited and not cut, or else the newest awaited."""
        lives = self.awaited
        return next((x for x in lives if not x.is_cut), lives[-1] if lives else None)

    @property
    def untaken(self) -> tuple[Addition, ...]:
        """The steered messages that can still be taken, and are not."""
        return tuple(x for x in self.steered if not x.taken and self.goes_on(x.turn))

    def began_with(self, turn: int) -> tuple[Addition, ...]:
        """What else was a turn's when it began, that has begun already."""
        return tuple(x for x in self.steered if x.turn == turn and x.taken and x.joined)

    @property
    def next_to_begin(self) -> int | None:
        """The turn that was queued, and waits for no other any more."""
        first = next(iter(self.going_on), None)
        if first is None or first.open or not first.queued or self.before(first.turn):
            return None
        return first.turn

    @property
    def counted(self) -> int:
        """What `max_pending` bounds: turns and steered messages that go on and are not taken."""
        return len(self.going_on) + len(self.untaken)

    @property
    def lost(self) -> tuple[Live, ...]:
        """Turns whose task may be running but whose id is unknown: their `message` was killed."""
        return tuple(live for live in self.live if live.task_id is None)
