"""The turns before a task's own: read as far back as they are used.

| what was read | what leads on                                             | what is read next |
| ------------- | --------------------------------------------------------- | ----------------- |
| nothing       | the task begins; its agent tells the model all of it      | all               |
|               | the task begins; its agent chooses                        | `AT_HAND`         |
| the newest    | `conversation` looks further back, or `earlier` is called | twice as much     |
|               | `conversation` looks at the first, or counts them         | all               |
|               | `conversation` fails, as it wants a list                  | all               |
| all           |                                                           | nothing           |

*All* are the latest turns that Restate can carry. A short conversation comes with the task, and is
all of it. Each part is older than the one before it, and its turns have ended: what can have become
of them since the first part was read is that they were discarded, and this turn with them.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, overload

from restate import TerminalError
from restate.serde import BytesSerde

from interruptible._cancel.watch import Interrupted
from interruptible._session.reading import Moment, read_record, read_steered
from interruptible._session.record import Record
from interruptible._session.sent import MAX_LOADED, MAX_OLDER, Stored
from interruptible._session.turns import Added, finished_turn, with_resumed
from interruptible._task.attempt import Attempt
from interruptible._wire.native import as_tasks_have
from interruptible._wire.output import WrongPlace
from interruptible._wire.types import TaskOutcome, Turn

T = TypeVar("T")

AT_HAND: Final = 64 * 1024
"""Bytes, as stored, of the newest turns that a task begins with if its agent chooses among them."""


class Unread(BaseException):
    """Raised where `conversation` looks at turns that are not read yet: it is called again then."""


class NewestTurns(Sequence[Turn]):
    """The newest of the turns; there are more, which are not read.

    These can be looked at from the end. To look further back raises an error: one that says so, or
    one by which `reading` learns that it has to read more.
    """

    def __init__(self, read: Sequence[Turn], first: int, *, is_read_on: bool) -> None:
        self.read = read
        self.is_read_on = is_read_on
        """Whether `reading` waits for the error, and reads more."""
        self.looked: list[bool] = []
        """For each time that somebody looked at what is not there: whether that was everything."""
        self._first = first

    def _unread(self, *, everything: bool) -> BaseException:
        self.looked.append(everything)
        if self.is_read_on:
            return Unread()
        return WrongPlace(
            f"task.turns: those before turn {self._first} are not read, as `conversation` did not "
            "look at them. `await task.earlier()` reads some more, until it gives 0; or look from "
            "the end, as in `task.turns[-1]`."
        )

    @overload
    def __getitem__(self, index: int) -> Turn: ...
    @overload
    def __getitem__(self, index: slice) -> list[Turn]: ...
    def __getitem__(self, index: int | slice) -> Turn | list[Turn]:
        first = _first_of(index) if isinstance(index, slice) else index
        if not -len(self.read) <= first < 0:
            raise self._unread(everything=first >= 0)
        return [*self.read[index]] if isinstance(index, slice) else self.read[index]

    def __reversed__(self) -> Iterator[Turn]:
        yield from reversed(self.read)
        raise self._unread(everything=False)

    def __len__(self) -> int:
        raise self._unread(everything=True)

    def __bool__(self) -> bool:
        return bool(self.read) or bool(len(self))

    def __repr__(self) -> str:
        return f"<the newest {len(self.read)} turns; those before are not read>"


def _first_of(index: slice) -> int:
    """The place of the first turn in a slice, from the end; 0 if that is not known."""
    start: Any = index.start
    stop: Any = index.stop
    if (index.step or 1) < 0 or start is None or (stop is not None and stop >= 0):
        return 0
    return int(start)


class Before:
    """What is known of the turns before a task's own, those in the conversation."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._most = AT_HAND
        self._turns: list[Turn] = []
        self._parts: list[tuple[Stored, range]] = []
        """What was read, the newest first, and of which turns."""
        self._first: int | None = None
        """The first turn that was read, if there are more before it which were not."""
        self._older: tuple[int, Any] | None = None
        """Before which turn the older ones end, and what they come by, if by themselves."""
        self.steered: list[Added] = []
        """What was steered at them, and is no other turn's by now."""
        self.cancelled = False
        """Whether this turn is cancelled by now."""

    def sent(self, turns: Sequence[Turn]) -> None:
        """They came with the task: all of them."""
        self._turns = [*turns]

    async def ask(self) -> Any:
        """Ask for them, or for the newest, if that may be enough; the answer is to be awaited.

        Of many, the older are asked for by themselves: what other tasks have asked for before.
        """
        attempt = self._attempt
        if not attempt.body.tells_all:
            return self._load({"most": AT_HAND})
        if "older" not in attempt.job:
            return self._load(None)
        before, name = attempt.job["older"]
        newer = self._load({"after": before, "most": MAX_LOADED - MAX_OLDER})
        # It is sent, as a call would be cancelled with this task, and for the others, too.
        key = f"{attempt.session}/{name}/{before}"
        send = functools.partial(attempt.ctx.generic_send, idempotency_key=key)
        sent = attempt.call_session(send, "load", {"before": before, "most": MAX_OLDER})
        loading = await sent.invocation_id()
        self._older = before, attempt.ctx.attach_invocation(loading, serde=BytesSerde())
        return newer

    async def take(self, answer: bytes) -> None:
        """Take what the session has answered; what was known before is known anew."""
        turn, stored = self._attempt.turn, Stored.unpack(answer)
        self._parts, self._turns = [], []
        older = self._older[0] if self._older is not None else 1
        record = await self._add(stored, turn, older)
        await self._take_older()
        if self._attempt.body.tells_all:  # more than that is too much
            self._first = None
        steered = (x for x in record.steered if x.turn < turn)
        self.steered = await read_steered(stored, steered)
        self.cancelled = record.find(turn) is not None and not record.goes_on(turn)

    async def _take_older(self) -> None:
        if self._older is None:
            return
        before, loading = self._older
        if self._first is None:  # all that is newer is there
            self._first = before
            try:
                await self._add(Stored.unpack(await loading), before)
            except Interrupted:
                raise
            except TerminalError:  # somebody has ended what loaded them
                pass
        await self.further(everything=True)

    def turns(self, *, is_read_on: bool = False) -> Sequence[Turn]:
        """As far as they were read, as tasks have them.

        Args:
            is_read_on: Whether `reading` reads more when somebody looks further back.
        """
        ended = [_ended(x, self.steered, self._attempt.ends) for x in self._turns]
        turns = [*map(as_tasks_have, with_resumed(ended, self._attempt.job.get("resumes")))]
        if self._first is None:
            return turns
        return NewestTurns(turns, self._first, is_read_on=is_read_on)

    async def reading(self, look: Callable[[Sequence[Turn]], T]) -> T:
        """What `look` makes of the turns; it is called until all that it looks at is there.

        A result does not count if `look` caught the error. If it fails as it wants a list, it is
        given one, of all turns.
        """
        while True:
            turns = self.turns(is_read_on=True)
            if not isinstance(turns, NewestTurns):
                return look(turns)
            try:
                told = look(turns)
                if not turns.looked:
                    return told
            except BaseException as error:
                if not turns.looked and not isinstance(error, (Unread, Exception)):
                    raise
            finally:
                turns.is_read_on = False  # it may have been kept
            await self.further(everything=any(turns.looked) or not turns.looked)
            self._turns = [
                turn for part in self._parts[::-1] for turn in (await _turns_in(*part))[1]
            ]

    async def further(self, *, everything: bool = False) -> int:
        """Read further back; says how many turns came."""
        if self._first is None:
            return 0
        first, most = self._first, 2 * self._most
        room = max(0, MAX_LOADED - sum(stored.size for stored, _ in self._parts))
        asked = {"before": first, "most": room if everything else min(room, most), "room": room}
        stored = Stored.unpack(await self._load(asked))
        if self._first != first:  # what runs beside this has read it
            return await self.further(everything=everything)
        known, self._most = len(self._turns), most
        await self._add(stored, first)
        found = len(self._turns) - known
        if everything or not found:
            self._first = None
        return found

    def _load(self, fields: Mapping[str, Any] | None) -> Any:
        return self._attempt.call_session(self._attempt.ctx.generic_call, "load", fields)

    async def _add(self, stored: Stored, before: int, first: int = 1) -> Record:
        numbers = range(max(first, stored.first), before)
        record, turns = await _turns_in(stored, numbers)
        self._turns = [*turns, *self._turns]
        self._parts.append((stored, numbers))
        self._first = stored.first if stored.first > 1 else None
        return record


async def _turns_in(stored: Stored, numbers: range) -> tuple[Record, list[Turn]]:
    record = await read_record(stored)
    turns, _ = await Moment(stored, record).turns(numbers, discarded=False)
    return record, turns


def _ended(turn: Turn, steered: Sequence[Added], ends: Mapping[int, TaskOutcome]) -> Turn:
    """A turn as later ones are told of it: one that was live has ended since, or was given up."""
    number = turn["turn"]
    if turn["status"] != "running":
        return turn
    unknown: TaskOutcome = {"turn": number, "status": "interrupted", "messages": []}
    kept = [(x, message) for x, message in steered if x.turn == number]
    ended = finished_turn(turn, ends.get(number, unknown), kept)
    if number not in ends:
        ended["given_up"] = True
    return ended
