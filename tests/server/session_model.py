"""What a script of commands leads to: a naive model of one session.

It is written from the documentation, not from the rules in `interruptible._session.rules`, and has
none of their means: it keeps whole turns in one list, and thinks of nothing as under way. A script
is played command by command, each when all that the one before led to has happened; so the model
has one answer to everything that can be seen of a session.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from interruptible.client import Receipt, Rewound


class Command:
    """What somebody does. Its `repr` leaves out defaults, and can be pasted into a test.

    Turns are given by their distance from the newest: `back=0` is that, `back=-1` does not exist.
    """

    def __repr__(self) -> str:
        given = [(x, getattr(self, x.name)) for x in fields(self)]  # type: ignore[arg-type]
        changed = [f"{x.name}={value!r}" for x, value in given if value != x.default]
        return f"{type(self).__name__}({', '.join(changed)})"


@dataclass(frozen=True, repr=False)
class Say(Command):
    """Send a message; the cleanup of the turn that begins with a slow one takes until `Clean`."""

    policy: str = "interrupt"
    slow: bool = False
    if_idle: bool = False
    if_back: int | None = None


@dataclass(frozen=True, repr=False)
class Cancel(Command):
    back: int | None = None
    reason: str | None = None


@dataclass(frozen=True, repr=False)
class Rewind(Command):
    back: int = 0
    reason: str | None = None


@dataclass(frozen=True, repr=False)
class Regenerate(Command):
    back: int | None = None


@dataclass(frozen=True, repr=False)
class Reset(Command):
    reason: str | None = None


@dataclass(frozen=True, repr=False)
class Fork(Command):
    """Copy the conversation; the script goes on in the copy if it is to `move` there."""

    back: int | None = None
    move: bool = False


@dataclass(frozen=True, repr=False)
class Attach(Command):
    """Begin to wait for a turn; the answer is looked at when there is one."""

    back: int | None = None


@dataclass(frozen=True, repr=False)
class Do(Command):
    """Let the turn at work: "end", "fail", fail with a "409", "steer" (take), "put" out a text."""

    what: str = "end"


@dataclass(frozen=True, repr=False)
class Clean(Command):
    """Let the cleanup end that is held."""


@dataclass(frozen=True, repr=False)
class Kill(Command):
    """An operator kills the task of a live turn, by its place among them."""

    place: int = 0


@dataclass(frozen=True, repr=False)
class Stop(Command):
    """An operator cancels the task of a live turn, which its session does not know."""

    place: int = 0


class Refused(NamedTuple):
    """The status code of a refusal."""

    status: int


class Said(NamedTuple):
    """A message: what it says, and when it was accepted."""

    text: str
    at: int
    id: int


WAITING, AT_WORK, CLEANING, OVER = "waiting", "at work", "cleaning up", "over"


@dataclass
class Turn:
    number: int
    input: list[Said]
    at: int
    """When it was begun."""
    queued: bool
    """Whether it comes after something that was not cancelled at that time."""
    phase: str = WAITING
    status: str = "running"
    why: str | None = None
    """Why its session cancelled it."""
    stopped: bool = False
    """Whether an operator cancelled it."""
    put: list[str | Said] = field(default_factory=list)
    """What it put out, and the steered messages that it took."""
    steered: list[Said] = field(default_factory=list)
    """Those that it has not taken."""
    orders: int = 0
    """How many it has carried out."""
    error: str | None = None
    discarded: bool = False
    removed: bool = False
    cleaned: bool = False
    given: list[str] = field(default_factory=list)
    """The conversation as it sees it."""

    @property
    def live(self) -> bool:
        return self.phase != OVER

    @property
    def goes_on(self) -> bool:
        """Whether it is live and not cancelled, as far as its session knows."""
        return self.live and self.why is None

    @property
    def never_began(self) -> bool:
        """Whether it was cancelled while it waited."""
        return self.status == "interrupted" and not self.given

    @property
    def asked(self) -> list[Said]:
        """All that the user said in it."""
        taken = [x for x in self.put if isinstance(x, Said)]
        return [*self.input, *taken, *self.steered]

    @property
    def messages(self) -> list[str]:
        """What the record has; the output of a live turn is not in it yet."""
        seen = [x for x in self.put if not self.live or isinstance(x, Said)]
        return [*texts(seen), *texts(self.steered)]

    @property
    def reason(self) -> str | None:
        if self.live:
            return self.why
        return (self.why or "cancelled") if self.status == "interrupted" else None

    @property
    def conversation(self) -> list[str]:
        note = [f"note: {self.reason}"] if self.status == "interrupted" else []
        return [] if self.discarded else [*texts(self.input), *self.messages, *note]

    @property
    def record(self) -> dict[str, Any]:
        """As `get_turns` has it, without task id and times."""
        record: dict[str, Any] = {
            "turn": self.number,
            "status": self.status,
            "input": texts(self.input),
            "messages": self.messages,
            "reason": self.reason,
            "error": self.error,
            "never_began": self.never_began or None,
            "discarded": self.discarded,
        }
        shown = [x for x in self.put if not self.live or isinstance(x, Said)] + self.steered
        record["steered"] = [place for place, x in enumerate(shown) if isinstance(x, Said)]
        return record


def texts(messages: Iterable[str | Said]) -> list[str]:
    return [x.text if isinstance(x, Said) else x for x in messages]


@dataclass
class Model:
    """One session, and what has been seen of it."""

    keep_queued: bool = False
    max_pending: int = 4
    turns: list[Turn] = field(default_factory=list)
    last: int = 0
    """The newest turn's number."""
    clock: int = 0
    messages: int = 0
    """How many were accepted."""

    # -- What can be asked. ------------------------------------------------------------------------

    def find(self, number: int) -> Turn | None:
        return next((x for x in self.turns if x.number == number and not x.removed), None)

    @property
    def live(self) -> list[Turn]:
        return [x for x in self.turns if x.live]

    @property
    def at_work(self) -> Turn | None:
        """The oldest live turn that is not cancelled, or else the newest."""
        return next((x for x in self.live if x.goes_on), (*self.live[-1:], None)[0])

    @property
    def busy(self) -> Turn | None:
        """The turn that waits for an order."""
        return next((x for x in self.turns if x.phase == AT_WORK), None)

    @property
    def pending(self) -> int:
        going_on = [x for x in self.live if x.goes_on]
        return len(going_on) + self.waiting

    @property
    def waiting(self) -> int:
        """How many steered messages can still be taken."""
        return sum(len(x.steered) for x in self.live if x.goes_on)

    @property
    def history(self) -> list[str]:
        return [text for turn in self.turns for text in turn.conversation]

    @property
    def status(self) -> dict[str, Any]:
        busy = self.at_work
        return {
            "status": "idle" if busy is None else "running",
            "turn": None if busy is None else busy.number,
            "live": [(x.number, x.why) for x in self.live],
            "steered": self.waiting,
        }

    @property
    def records(self) -> list[dict[str, Any]]:
        return [x.record for x in self.turns if not x.removed]

    def outcome(self, number: int) -> dict[str, Any] | Refused:
        turn = self.find(number)
        if turn is None:
            return Refused(404)
        outcome = {"turn": number, "status": turn.status, "messages": turn.messages}
        if turn.never_began:
            outcome["never_began"] = True
        return outcome if turn.error is None else {**outcome, "error": turn.error}

    # -- What somebody does; the answer, or the refusal. -------------------------------------------

    def say(
        self, text: str, policy: str, if_turn: int | None, *, if_idle: bool
    ) -> Receipt | Refused:
        busy = self.at_work
        if if_idle and busy is not None:
            return Refused(412)
        if if_turn is not None and (busy is None or busy.number != if_turn):
            return Refused(412)
        if policy == "reject" and busy is not None:
            return Refused(423)
        if policy in ("queue", "steer") and self.pending >= self.max_pending:
            return Refused(429)
        self.clock += 1
        self.messages += 1
        said = Said(text, self.clock, self.messages)
        if policy == "steer" and busy is not None and busy.goes_on:
            busy.steered.append(said)
            return self._receipt(busy.number, said.id, "steered", [])
        chosen: list[Turn] = []
        if policy in ("interrupt", "rollback"):
            # What was cancelled before is as good as over: it is neither cancelled nor discarded.
            chosen = [x for x in self.live if x.goes_on and (x is busy or not self.keep_queued)]
        did = "rolled back" if policy == "rollback" else "interrupted"
        for turn in chosen:
            turn.why = f"{did} by turn {self.last + 1}"
            turn.discarded |= policy == "rollback"
        status = "waiting" if self.live else "running"
        receipt = self._receipt(self.last + 1, said.id, status, chosen)
        if policy == "rollback" and chosen:
            receipt["discarded"] = [x.number for x in chosen]
        self._begin([said])
        return receipt

    def cancel(self, number: int | None, reason: str | None) -> list[int] | Refused:
        if number is not None and not 1 <= number <= self.last:
            return Refused(404)
        chosen = [x for x in self.live if x.goes_on and number in (None, x.number)]
        for turn in chosen:
            turn.why = _because("cancelled", reason)
        self._go_on()
        return [x.number for x in chosen]

    def rewind(self, number: int, reason: str | None) -> Rewound | Refused:
        if self.find(number) is None:
            return Refused(404)
        cancelled, discarded = self._take_back(number, _because("rolled back", reason))
        self._go_on()
        return {"cancelled": cancelled, "discarded": discarded}

    def regenerate(self, number: int | None) -> Receipt | Refused:
        if number is None:
            number = max((x.number for x in self.turns if not x.discarded), default=0)
        old = self.find(number)
        if old is None or old.discarded:
            return Refused(404)
        self.clock += 1
        again = [x._replace(at=self.clock) for x in old.asked]
        status = "waiting" if self.live else "running"
        cancelled, discarded = self._take_back(number, f"rolled back by turn {self.last + 1}")
        earlier = [x for x in self.live if x.goes_on]
        for turn in earlier:
            turn.why = f"interrupted by turn {self.last + 1}"
        receipt = self._receipt(self.last + 1, max(x.id for x in again), status, [])
        receipt["interrupted"] = [*(x.number for x in earlier), *cancelled]
        receipt["discarded"] = discarded
        self._begin(again)
        return receipt

    def reset(self, reason: str | None) -> list[int]:
        for turn in self.turns:
            turn.removed |= not turn.live
        cancelled, _ = self._take_back(1, _because("rolled back", reason))
        self._go_on()
        return cancelled

    def fork(self, number: int | None) -> tuple[int, Model] | Refused:
        """The last turn that was taken along, and the new session."""
        if number is None:
            number = self.live[0].number - 1 if self.live else self.last
        elif self.find(number) is None:
            return Refused(404)
        if any(x.number <= number for x in self.live):
            return Refused(423)
        kept = [x for x in self.turns if x.number <= number and not x.discarded]
        last = max((x.number for x in kept), default=0)
        new = Model(self.keep_queued, self.max_pending, copy.deepcopy(kept), last, self.clock)
        new.messages = self.messages
        return last, new

    def do(self, order: str) -> None:
        turn = self.busy
        if turn is None:
            return
        if order == "put":
            turn.put.append(f"out {turn.number}.{turn.orders}")
            turn.given.append(f"out {turn.number}.{turn.orders}")
        elif order == "steer":
            turn.put += turn.steered
            turn.given += texts(turn.steered)
            turn.steered = []
        elif order == "end":
            turn.put.append(f"answer {turn.number}")
            self._end(turn, "completed")
        else:
            turn.error = "conflict" if order == "409" else "it failed"
            self._end(turn, "failed")
        turn.orders += turn.live
        self._go_on()

    def clean(self) -> None:
        for turn in self.turns:
            if turn.phase == CLEANING:
                turn.cleaned = True
                self._end(turn, "interrupted")
        self._go_on()

    def kill(self, turn: Turn) -> None:
        turn.put = [x for x in turn.put if isinstance(x, Said)]
        self._end(turn, "killed")
        self._go_on()

    def stop(self, turn: Turn) -> None:
        turn.stopped = True
        self._go_on()

    # -- What comes of it. -------------------------------------------------------------------------

    def _begin(self, messages: list[Said]) -> None:
        self.clock += 1
        self.last += 1
        queued = any(x.goes_on for x in self.live)
        self.turns.append(Turn(self.last, messages, self.clock, queued))
        self._go_on()

    def _take_back(self, first: int, why: str) -> tuple[list[int], list[int]]:
        cancelled = [x.number for x in self.live if x.goes_on and x.number >= first]
        discarded = [x.number for x in self.turns if not x.discarded and x.number >= first]
        for turn in self.turns:
            if turn.number >= first:
                turn.discarded = True
                # Why it was taken back first is why; that it was interrupted is not.
                if turn.live and not (turn.why or "").startswith("rolled back"):
                    turn.why = why
        return cancelled, discarded

    def _go_on(self) -> None:
        for turn in self.turns:
            if turn.why is None and not turn.stopped:
                continue
            if turn.phase == WAITING:
                self._end(turn, "interrupted")
            elif turn.phase == AT_WORK and any("slow" in x.text for x in turn.input):
                turn.phase = CLEANING
            elif turn.phase == AT_WORK:
                turn.cleaned = True
                self._end(turn, "interrupted")
        for turn in self.turns:
            if turn.phase == WAITING and turn is self.live[0]:
                if turn.queued:  # what was left for it while it waited is part of what it is for
                    earlier = [x for x in turn.steered if x.at < turn.at]
                    later = [x for x in turn.steered if x.at > turn.at]
                    turn.input, turn.steered = [*earlier, *turn.input, *later], []
                turn.phase = AT_WORK
                before = [x for x in self.turns if x.number < turn.number]
                turn.given = [text for x in before for text in x.conversation]
                turn.given += texts(turn.input)

    def _end(self, turn: Turn, status: str) -> None:
        turn.phase, turn.status = OVER, status
        left, turn.steered = turn.steered, []
        heir = next((x for x in self.live if x.goes_on), None)
        if turn.why is not None:
            turn.put += left
        elif heir is not None:
            heir.steered = sorted([*left, *heir.steered], key=lambda x: x.at)
        elif left:
            self._begin(left)

    def _receipt(self, number: int, message: int, status: Any, interrupted: list[Turn]) -> Receipt:
        return {
            "turn": number,
            "message": message,
            "task_id": "",
            "status": status,
            "interrupted": [x.number for x in interrupted],
        }


def _because(did: str, reason: str | None) -> str:
    return f"{did}: {reason}" if reason else did
