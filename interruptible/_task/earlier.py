"""The turns before a task's own: read as far back as they are used.

| what was read | what leads on                                             | what is read next |
| ------------- | --------------------------------------------------------- | ----------------- |
| nothing       | the task begins; its agent tells the model all of it      | all               |
|               | the task begins; its agent chooses                        | `AT_HAND`         |
| the newest    | `conversation` looks further back, or `earlier` is called | twice as much     |
|               | `conversation` looks at the first, or counts them         | all               |
| all           |                                                           | nothing           |

*All* is as much as Restate can carry, the newest. A short conversation comes with the task, and is
all. What is read later is older than what was read before, and has ended: since then it can only
have been discarded, and this turn with it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, overload

from interruptible._session.reading import (
    MAX_LOADED,
    Moment,
    Stored,
    read_record,
    read_steered,
)
from interruptible._session.record import Record
from interruptible._session.turns import Said, finished_turn, with_resumed
from interruptible._task.attempt import Attempt
from interruptible._wire.native import as_tasks_have
from interruptible._wire.types import TaskOutcome, Turn

T = TypeVar("T")

AT_HAND: Final = 64 * 1024
"""Bytes, as stored, of the newest turns that a task begins with if its agent chooses among them."""


class Unread(BaseException):
    """Raised where `conversation` looks at turns that are not read yet: it is called again then."""

    def __init__(self, *, everything: bool) -> None:
        super().__init__()
        self.everything = everything


class NewestTurns(Sequence[Turn]):
    """The newest of the turns, of which there are more that are not read.

    What is looked at from the end is there; what is not read raises an error.
    """

    def __init__(self, read: Sequence[Turn], unread: Callable[[bool], BaseException]) -> None:
        self.read = read
        self._unread = unread
        """Makes the error of who looks further back: whether all turns are needed, or some more."""

    @overload
    def __getitem__(self, index: int) -> Turn: ...
    @overload
    def __getitem__(self, index: slice) -> list[Turn]: ...
    def __getitem__(self, index: int | slice) -> Turn | list[Turn]:
        first = _first_of(index) if isinstance(index, slice) else index
        if first >= 0:
            raise self._unread(True)  # noqa: FBT003
        if -first > len(self.read):
            raise self._unread(False)  # noqa: FBT003
        return [*self.read[index]] if isinstance(index, slice) else self.read[index]

    def __reversed__(self) -> Iterator[Turn]:
        yield from reversed(self.read)
        raise self._unread(False)  # noqa: FBT003

    def __len__(self) -> int:
        raise self._unread(True)  # noqa: FBT003

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
        self._size = 0
        self._turns: list[Turn] = []
        self._first: int | None = None
        """The first of them, if there are more which are not read."""
        self.steered: list[Said] = []
        """What was steered at them, and is no other turn's by now."""
        self.cancelled = False
        """Whether this turn is cancelled by now."""

    def sent(self, turns: Sequence[Turn]) -> None:
        """They came with the task: all of them."""
        self._turns = [*turns]

    def ask(self) -> Any:
        """Ask for them, or for the newest, if that may be enough."""
        return self._load({} if self._attempt.body.tells_all else {"most": AT_HAND})

    async def take(self, answer: bytes) -> None:
        """Take what the session has answered; what was known before is known anew."""
        turn = self._attempt.turn
        stored = Stored.unpack(answer)
        record = await read_record(stored)
        self._size, self._turns = 0, []
        self._add(stored, await _turns_in(stored, record, turn), len(answer))
        steered = (x for x in record.steered if x.turn < turn)
        self.steered = await read_steered(stored, steered)
        self.cancelled = record.find(turn) is not None and not record.goes_on(turn)

    def turns(self, unread: Callable[[int, bool], BaseException]) -> Sequence[Turn]:
        """As far as they were read, as tasks have them.

        Args:
            unread: Makes the error of who looks further back, of the first that was read.
        """
        ended = [_ended(x, self.steered, self._attempt.ends) for x in self._turns]
        turns = [*map(as_tasks_have, with_resumed(ended, self._attempt.job.get("resumes")))]
        first = self._first
        return turns if first is None else NewestTurns(turns, lambda all_of: unread(first, all_of))

    async def reading(self, look: Callable[[Sequence[Turn]], T]) -> T:
        """What somebody makes of them, who is given as many as are looked at."""
        while True:
            turns = self.turns(lambda _, everything: Unread(everything=everything))
            try:
                return look(turns)
            except Unread as unread:
                everything = unread.everything
            await self.further(everything=everything)

    async def further(self, *, everything: bool = False) -> int:
        """Read further back; says how many turns came."""
        first, room = self._first, max(0, MAX_LOADED - self._size)
        if first is None:
            return 0
        self._most *= 2
        most = room if everything else min(room, self._most)
        answer = await self._load({"before": first, "most": most})
        stored = Stored.unpack(answer)
        turns = await _turns_in(stored, await read_record(stored), first)
        if self._first != first:  # it was called side by side
            return 0
        self._add(stored, turns, len(answer))
        if everything or self._size >= MAX_LOADED:
            self._first = None
        return len(turns)

    def _load(self, fields: Mapping[str, Any]) -> Any:
        return self._attempt.call_session(self._attempt.ctx.generic_call, "load", fields)

    def _add(self, stored: Stored, turns: Sequence[Turn], size: int) -> None:
        self._turns = [*turns, *self._turns]
        self._first = stored.first if stored.first > 1 else None
        self._size += size


async def _turns_in(stored: Stored, record: Record, before: int) -> list[Turn]:
    numbers = range(stored.first, before)
    turns, _ = await Moment(stored, record).turns(numbers, discarded=False)
    return turns


def _ended(turn: Turn, steered: Sequence[Said], ends: Mapping[int, TaskOutcome]) -> Turn:
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
